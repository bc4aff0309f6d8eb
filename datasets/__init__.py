"""Logged experience: behaviour policies, collection, labels, loading. Imports ``offlinemeta.envs`` and nothing above.

A checkout's root on ``sys.path`` (``python -m pytest`` puts it there) would make this folder shadow Hugging Face's
package of the same name; imported under that name, it gives way to it.

>>> from offlinemeta import datasets
>>> dataset = datasets.load("PointRobot/smac")
>>> labels = datasets.label(dataset, dataset.family.tasks["test"][:3])
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

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
elif _TYPE_CHECKING:
    from offlinemeta.datasets.dataset import Dataset, Episode, label
    from offlinemeta.datasets.loading import build, load
    from offlinemeta.datasets.policies import expert_actions
    from offlinemeta.datasets.references import read_references
    from offlinemeta.datasets.spec import DATASETS, DatasetSpec, get_spec
    from offlinemeta.datasets.storage import tasks_of

    __all__ = [
        "DATASETS",
        "Dataset",
        "DatasetSpec",
        "Episode",
        "build",
        "expert_actions",
        "get_spec",
        "label",
        "load",
        "read_references",
        "tasks_of",
    ]
else:
    _HOMES = {
        "dataset": ("Dataset", "Episode", "label"),
        "loading": ("build", "load"),
        "policies": ("expert_actions",),
        "references": ("read_references",),
        "spec": ("DATASETS", "DatasetSpec", "get_spec"),
        "storage": ("tasks_of",),
    }
    __all__ = sorted(name for names in _HOMES.values() for name in names)

    def __getattr__(name: str) -> _Any:  # imports of Minari and h5py wait until somebody needs them
        from importlib import import_module

        for home, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{home}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
