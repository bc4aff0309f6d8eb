"""Suites: named lists of benchmarks, each for a purpose. Plain data.

``offlinemeta run`` makes one training for each dataset of a suite, method and seed, and evaluates it by all of the
suite's protocols on that dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from offlinemeta.envs.errors import UnknownNameError


@dataclass(frozen=True)
class Suite:
    """A named list of benchmarks.

    Attributes:
        what: one sentence that says what it is for.
        benchmarks: names of benchmarks, ``family/quality/protocol``.
        preset: preset of the methods' configs, unless another one is asked for.
        seeds: number of seeds, unless another one is asked for.
    """

    what: str
    benchmarks: tuple[str, ...]
    preset: str = "default"
    seeds: int = 5

    @property
    def protocols(self) -> dict[str, tuple[str, ...]]:
        """The names of the protocols by dataset, such as ``AntDir/smac``, both in the order of the benchmarks."""
        found: dict[str, list[str]] = {}
        for name in self.benchmarks:
            data, _, protocol = name.rpartition("/")
            found.setdefault(data, []).append(protocol)
        return {data: tuple(names) for data, names in found.items()}


def _each(families: Sequence[str], quality: str, protocols: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the benchmarks of families with the same quality of data and the same protocols."""
    return tuple(f"{family}/{quality}/{protocol}" for family in families for protocol in protocols)


CORE = (
    "PointRobot", "SparsePointRobot", "RotatedPointRobot", "CheetahVel", "CheetahGear", "AntDir", "AntGoal",
    "HumanoidWalk", "SawyerSceneDense",
)  # fmt: skip
"""Families in which knowing the task is worth a lot, with tasks enough to tell methods apart."""

REST = (
    "CheetahDir", "HumanoidDir", "WalkerParam", "HopperParam", "ML1-reach", "ML1-push", "ML1-pick-place",
    "ML1-peg-insert-side", "ML1-button-press", "ML1-coffee-button", "ML1-door-open", "ML1-drawer-close",
    "ML1-drawer-open", "ML1-window-open", "SawyerScene",
)  # fmt: skip
"""All other families with datasets: of two tasks, worth little, paid for success alone, and Meta-World's."""

WITH_OOD = (
    "PointRobot", "SparsePointRobot", "RotatedPointRobot", "CheetahVel", "CheetahGear", "AntGoal", "WalkerParam",
    "HopperParam", "SawyerScene", "SawyerSceneDense",
)  # fmt: skip
"""Families with tasks outside of the training distribution."""

OWN_AND_LOGGED = ("online-10", "offline-context")
"""Own context against logged context: the shift between them is what methods of this field differ in."""

SUITES: Mapping[str, Suite] = {
    "smoke": Suite(
        "A check that everything runs, in minutes on a laptop; its trainings are too short for its scores to mean "
        "anything.",
        _each(("PointRobot", "SparsePointRobot"), "smac", ("online-3", "offline-context")),
        preset="smoke",
        seeds=1,
    ),
    "core": Suite(
        "What a comparison of methods should show: a family of each kind in which knowing the task is worth a lot.",
        _each(CORE, "smac", OWN_AND_LOGGED),
    ),
    "study": Suite(
        "The families and protocols by which this package examines the claims of the SMAC paper.",
        _each(
            ("CheetahVel", "AntDir", "SparsePointRobot"),
            "smac",
            (*OWN_AND_LOGGED, "test100-online-3", "test100-offline-context"),
        ),
        seeds=3,
    ),
    "full": Suite(
        "All families with datasets, those too in which knowing the task is worth little; whole logged rollouts, empty "
        "contexts and tasks outside of the training distribution too. For a cluster.",
        (
            *_each((*CORE, *REST), "smac", (*OWN_AND_LOGGED, "offline-episodes", "zero-shot")),
            *_each(WITH_OOD, "smac", ("ood",)),
        ),
    ),
}
"""Every suite by name."""


def get_suite(name: str) -> Suite:
    """Return a suite by name.

    Raises:
        UnknownNameError: there is no suite of that name.
    """
    if name not in SUITES:
        raise UnknownNameError("Suite", name, SUITES)
    return SUITES[name]
