"""Logged experience: behaviour policies, collection, labels, loading. Imports ``offlinemeta.envs`` and nothing above.

A checkout's root on ``sys.path`` (``python -m pytest`` puts it there) would make this folder shadow Hugging Face's
package of the same name; imported under that name, it gives way to it.
"""

if __name__ == "datasets":
    import os as _os
    import sys as _sys
    from importlib.machinery import PathFinder as _PathFinder

    _root = _os.path.dirname(_os.path.dirname(_os.path.realpath(__file__)))
    _spec = _PathFinder.find_spec(__name__, [p for p in _sys.path if _os.path.realpath(p or ".") != _root])
    if _spec is None or _spec.loader is None:
        raise ModuleNotFoundError("No module named 'datasets' (this project's is offlinemeta.datasets)", name=__name__)
    globals().update(__spec__=_spec, __file__=_spec.origin, __path__=_spec.submodule_search_locations)
    _spec.loader.exec_module(_sys.modules[__name__])
