"""What tests share. Imported by name: ``pythonpath`` in pyproject.toml has this folder."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""The type checker that jaxtyping puts on every function of the package; an int may stand for a float."""


SAMPLE = {f"ML1-{task}" for task in ("reach", "pick-place", "door-open", "hammer", "peg-insert-side")}
"""Meta-World's fifty families are one class; unless ``OFFLINEMETA_EVERY_FAMILY`` is set, these five stand for them."""


def by_family(*names: str) -> pytest.MarkDecorator:
    """Parametrise a test over families; each family's tests share a process and an env.

    By default all families are taken, of Meta-World's a sample; continuous integration takes every one.
    """
    from offlinemeta.envs import FAMILIES

    every = bool(os.environ.get("OFFLINEMETA_EVERY_FAMILY"))
    usual = [name for name, family in FAMILIES.items() if every or family.suite is None or name in SAMPLE]
    params = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names or usual]
    return pytest.mark.parametrize("family", params, indirect=True, scope="module")


def references_of(
    returns: Mapping[str, Mapping[str, list[float]]], blind_policy: str = "told train 0", episodes: int = 1
) -> Any:
    """Return references of these returns, of random, blind and told, that say nothing else."""
    from offlinemeta.datasets.references import References

    nothing: Any = {"behaviours": [], "explorers": [], "success": {}, "progress": {}, "saturated": 0.0}
    return References(**returns, blind_policy=blind_policy, episodes=episodes, **nothing)


def pickled(one: Any) -> Any:
    """Return what a pickle of it holds."""
    return pickle.loads(pickle.dumps(one))


def run_two(name: str) -> list[Any]:
    """Step a batch of two a few times; where the process may have no children, too."""
    import numpy as np

    from offlinemeta.envs import TaskVectorEnv

    envs = TaskVectorEnv(name, num_envs=2, num_threads=2)
    seen = [envs.reset(seed=0)[0], *(envs.step(np.full(envs.action_space.shape, 0.1 * t))[0] for t in range(5))]
    envs.close()
    return seen


def echo(num_envs: int) -> Any:
    """A simulator whose reward is its action, for the pool of processes."""
    from offlinemeta.envs import get_family
    from offlinemeta.envs.families.point import PointSimulator

    class Echo(PointSimulator):
        def step(self, actions: Any) -> Any:
            return replace(super().step(actions), rewards=actions[:, 0])

    return Echo(get_family("PointRobot"), num_envs)
