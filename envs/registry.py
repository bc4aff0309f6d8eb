"""The list of families, and their registration with Gymnasium."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from offlinemeta.envs.errors import UnknownNameError
from offlinemeta.envs.families.ant import AntDir, AntGoal
from offlinemeta.envs.families.cheetah import CheetahDir, CheetahGear, CheetahVel
from offlinemeta.envs.families.humanoid import HumanoidDir, HumanoidWalk
from offlinemeta.envs.families.ml1 import ML1, ML1_TASKS
from offlinemeta.envs.families.point import PointRobot, RotatedPointRobot, SparsePointRobot
from offlinemeta.envs.families.rand_params import HopperParam, WalkerParam
from offlinemeta.envs.families.sawyer import SawyerScene, SawyerSceneDense
from offlinemeta.envs.family import TaskFamily

NAMESPACE = "OfflineMeta"
VERSION = 0

FAMILIES: Mapping[str, TaskFamily] = {
    family.name: family
    for family in (
        PointRobot(),
        SparsePointRobot(),
        RotatedPointRobot(),
        CheetahVel(),
        CheetahDir(),
        CheetahGear(),
        AntDir(),
        AntGoal(),
        HumanoidDir(),
        HumanoidWalk(),
        WalkerParam(),
        HopperParam(),
        SawyerScene(),
        SawyerSceneDense(),
        *(ML1(task) for task in ML1_TASKS),
    )
}
"""Every family by name. A new family is one line here."""


def get_family(name: str | TaskFamily, **options: Any) -> TaskFamily:
    """Return a family by name, such as ``"AntDir"``; a family is returned as it is, but for the options.

    Args:
        name: its name.
        options: those of another definition, such as ``variant="corro"`` (:meth:`TaskFamily.with_options`).

    Raises:
        UnknownNameError: there is no family of that name, or it has no such option; the message has the most similar.
        ArgumentError: the option has no such value.
    """
    if isinstance(name, TaskFamily):
        return name.with_options(**options)
    if not isinstance(name, str) or name not in FAMILIES:
        raise UnknownNameError("Family", name, FAMILIES)
    return FAMILIES[name].with_options(**options)


def picklable(family: TaskFamily) -> str | TaskFamily:
    """Return a registered family's name, from which a copy gets the same object; return other families as they are."""
    return family.name if FAMILIES.get(family.name) is family else family


def env_id(family: TaskFamily) -> str:
    """Return the Gymnasium id, such as ``OfflineMeta/AntDir-v0``."""
    return f"{NAMESPACE}/{type(family).name if family.options else family.name}-v{VERSION}"


def register_envs() -> None:
    """Register every family with Gymnasium.

    Entry points are strings and kwargs are plain, so that a spec survives JSON and Minari can recover the environment
    of a dataset without importing this package first. Published datasets store them, so they must never move.
    """
    for family in FAMILIES.values():
        gymnasium.register(
            id=env_id(family),
            entry_point="offlinemeta.envs:TaskEnv",
            vector_entry_point="offlinemeta.envs:TaskVectorEnv",
            max_episode_steps=family.horizon,
            kwargs={"family": family.name},
        )
