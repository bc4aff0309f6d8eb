"""Specifications of the datasets: which behaviour policies run how often on which tasks of a family."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from offlinemeta.envs import FAMILIES, Task, TaskFamily, get_family
from offlinemeta.envs.errors import UnknownNameError
from offlinemeta.envs.registry import NAMESPACE

QUALITIES: Mapping[str, str] = {
    "random": "uniformly random actions",
    "medium": "the behaviour policy nearest to half of the expert's normalised return",
    "expert": "the best behaviour policy",
    "replay": "all behaviour policies in order, equal shares: a learning history",
    "smac": "six rollouts by six policies evenly spread from random to expert, every other one told another task",
}

VERSION = 0
"""The version in every dataset's id; a change of content needs a new one."""

REFERENCES = Path(__file__).parent / "references.json"
"""The file of reference returns by family, which ``references.py`` reads."""

ROLLOUTS, HELDOUT_ROLLOUTS, STUDY_ROLLOUTS = 50, 5, 6
"""Rollouts on each task; a rollout has as many steps as the family's horizon."""

MAX_STEPS = 10_000
"""The most transitions on each task; for Meta-World's long horizon this makes 20 rollouts."""


@dataclass(frozen=True)
class DatasetSpec:
    """What a dataset is meant to be; the loader checks the data against it.

    Attributes:
        family: name of the task family.
        quality: one of :data:`QUALITIES`.
        heldout: whether it covers the test and ood tasks, for context at evaluation only, or the training tasks.
        rollouts: number on each task; each is as long as the horizon, in several episodes where some terminate.
    """

    family: str
    quality: str
    heldout: bool
    rollouts: int

    @property
    def short(self) -> str:
        """The id without namespace and version, such as ``AntDir/replay-heldout``."""
        return f"{self.family}/{self.quality}{'-heldout' if self.heldout else ''}"

    @property
    def name(self) -> str:
        """The last part of the id, such as ``replay-heldout-v0``."""
        return f"{self.short.partition('/')[2]}-v{VERSION}"

    @property
    def id(self) -> str:
        """Minari's id, such as ``OfflineMeta/AntDir/replay-heldout-v0``."""
        return f"{NAMESPACE}/{self.family}/{self.name}"

    @property
    def heldout_sibling(self) -> DatasetSpec:
        """The dataset of the same quality over the test and ood tasks; itself, if it is that one."""
        return DATASETS[replace(self, heldout=True).id]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that the dataset covers."""
        lists = get_family(self.family).tasks
        return (*lists["test"], *lists["ood"]) if self.heldout else lists["train"]

    @property
    def steps(self) -> int:
        """Number of transitions on all tasks together."""
        return len(self.tasks) * self.rollouts * get_family(self.family).horizon

    def shares(self, returns: Sequence[float]) -> list[int]:
        """Choose a behaviour policy for each rollout of a task.

        Args:
            returns: normalised mean return of each policy, from 0 (random) to 1 (the last, the expert).

        Returns:
            ``[rollouts]`` indices into ``returns``; -1 is uniformly random actions.
        """
        count, last = self.rollouts, len(returns) - 1
        if self.quality == "random":
            return [-1] * count
        if self.quality == "medium":
            return [int(np.argmin(np.abs(np.array(returns) - 0.5)))] * count
        if self.quality == "expert":
            return [last] * count
        chosen = spread(returns, STUDY_ROLLOUTS) if self.quality == "smac" else list(range(last + 1))
        if count < len(chosen):
            chosen = [chosen[round(i)] for i in np.linspace(0, len(chosen) - 1, count)]
        return [chosen[i * len(chosen) // count] for i in range(count)]


def strays(quality: str, count: int) -> list[bool]:
    """Tell which of a task's rollouts are made by a policy that is told another task.

    The study's data are slices of an online PEARL run, two fifths of which explore with z from the prior: as if for
    another task. Without such rollouts the states of a task give it away, and an encoder need not look at the rewards;
    then self-collected context misleads it (docs/training.md has the figures).
    """
    return [quality == "smac" and place % 2 == 0 for place in range(count)]


def spread(returns: Sequence[float], count: int) -> list[int]:
    """Choose policies evenly spread in return, from the first to the last, in order; all where there are too few."""
    last = len(returns) - 1
    chosen = {0, last}
    for value in np.linspace(returns[0], returns[last], count)[1:-1]:
        free = [i for i in range(last) if i not in chosen]
        if free:
            chosen.add(min(free, key=lambda i: abs(returns[i] - value)))
    return sorted(chosen)


def _with_references() -> list[TaskFamily]:
    """Return the families whose behaviour policies have been measured: only their datasets can be planned."""
    measured = json.loads(REFERENCES.read_text(encoding="utf-8")) if REFERENCES.exists() else {}
    return [family for family in FAMILIES.values() if family.name in measured]


def _specs(family: TaskFamily) -> list[DatasetSpec]:
    specs = []
    for quality in QUALITIES:
        most = MAX_STEPS // family.horizon
        full, heldout = min(ROLLOUTS, most), HELDOUT_ROLLOUTS
        if quality == "smac":
            full = heldout = STUDY_ROLLOUTS
        specs.append(DatasetSpec(family.name, quality, False, full))
        specs.append(DatasetSpec(family.name, quality, True, heldout))
    return specs


DATASETS: Mapping[str, DatasetSpec] = {spec.id: spec for family in _with_references() for spec in _specs(family)}
"""Every dataset by id. A family gets its own as soon as the returns of its behaviour policies are in the references."""


def get_spec(name: Any) -> DatasetSpec:
    """Return a dataset's spec by id; the namespace and the version may be left out: ``"AntDir/smac"``.

    Raises:
        UnknownNameError: there is none; the message has the nearest.
    """
    if isinstance(name, DatasetSpec):
        return name
    family, _, rest = str(name).removeprefix(f"{NAMESPACE}/").partition("/")
    own = {spec.name: spec for spec in DATASETS.values() if spec.family == get_family(family).name}
    if not own:
        raise UnknownNameError("Dataset of family", family, dict.fromkeys(spec.family for spec in DATASETS.values()))
    full = rest if re.search(r"-v\d+$", rest) else f"{rest}-v{VERSION}"
    if full not in own:
        raise UnknownNameError(f"Dataset of {family}", full, own)
    return own[full]
