"""What tests share. Imported by name: ``pythonpath`` in pyproject.toml has this folder."""

from __future__ import annotations

import pytest
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""The type checker that jaxtyping puts on every function of the package; an int may stand for a float."""


def by_family(*names: str) -> pytest.MarkDecorator:
    """Parametrise a test over families, all by default; each family's tests share a process and an env."""
    from offlinemeta.envs import FAMILIES

    params = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names or FAMILIES]
    return pytest.mark.parametrize("family", params, indirect=True, scope="module")
