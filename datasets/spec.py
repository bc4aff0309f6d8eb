"""Specifications of the datasets: which behaviour policies run how often on which tasks of a family."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from offlinemeta.envs import FAMILIES, Task, TaskFamily, get_family
from offlinemeta.envs.errors import UnknownNameError
from offlinemeta.envs.registry import NAMESPACE

VERSION = 1
"""The version in every dataset's id; a change of content needs a new one."""

CHANGES = {
    1: "smac and replay are data of an online PEARL agent. What had these names in version 0 is called spread and "
    "history now. Policies act on a grid of numbers, so that every machine builds the same bytes.",
    0: "The first one.",
}
"""What each version changed, the newest first."""

REFERENCES = Path(__file__).parent / "references.json"
"""The file of reference returns by family, which ``references.py`` reads."""

HELDOUT = ("val", "test", "test100", "ood")
"""The splits that held-out datasets cover, in this order."""

MAX_STEPS = 10_000
"""The most transitions on each task; for Meta-World's long horizon this makes 20 rollouts."""

STUDY_POLICIES = 6
"""How many behaviour policies make ``spread``."""

RANDOM_BEHAVIOUR = {"SawyerScene": 40, "SawyerSceneDense": 40}
"""Families whose ``smac`` data are episodes of random behaviour (``manipulation.py``), as the study's were in this
domain; and how many on each training task."""

ONLINE = Path(__file__).parent / "online"
"""The folder of the stages of online trainings, which ``explorers.py`` reads."""


@dataclass(frozen=True)
class Quality:
    """Which policies collect a dataset.

    Attributes:
        what: says it in words.
        policies: takes the normalised mean return of each policy, from 0 (no better than a blind one) to 1 (the
            expert's), and chooses those that collect, in order, each with an equal share of a task's rollouts; -1 is
            random actions.
        rollouts: rollouts per task; each is as many steps as the family's horizon.
        heldout: the same for the held-out tasks.
        strays: whether every other rollout is made by a policy that is told another task. Without such rollouts the
            states of a task give it away, and an encoder need not look at the rewards; then self-collected context
            misleads it (docs/training.md has the figures).
        visit: where explorers collect (``explorers.py``), the rollouts of a visit to a task: ``x`` explores, ``p`` has
            a posterior from the visit so far. Repeated as often as an explorer's share of the rollouts wants. Empty
            where behaviour policies collect, which are told a task.
        stages: whether the explorers are the stages of online PEARL, however far they got; a family for which none ship
            has no such data. Otherwise posterior sampling stands in for stages that did not get far enough.
    """

    what: str
    policies: Callable[[Sequence[float]], list[int]]
    rollouts: int = 50
    heldout: int = 5
    strays: bool = False
    visit: str = ""
    stages: bool = False


def spread(returns: Sequence[float], count: int = STUDY_POLICIES) -> list[int]:
    """Choose policies evenly spread in return, from the first to the last, in order; all where there are too few."""
    last = len(returns) - 1
    chosen = {0, last}
    for value in np.linspace(returns[0], returns[last], count)[1:-1]:
        free = [i for i in range(last) if i not in chosen]
        if free:
            chosen.add(min(free, key=lambda i: abs(returns[i] - value)))
    return sorted(chosen)


def nearest_to_half(returns: Sequence[float]) -> list[int]:
    """Choose the policy nearest to half of the expert's normalised return."""
    return [int(np.argmin(np.abs(np.array(returns) - 0.5)))]


def in_order(returns: Sequence[float]) -> list[int]:
    """Choose all policies."""
    return list(range(len(returns)))


QUALITIES: Mapping[str, Quality] = {
    "random": Quality("uniformly random actions", lambda returns: [-1]),
    "medium": Quality("the behaviour policy nearest to half of the expert's normalised return", nearest_to_half),
    "expert": Quality("the best behaviour policy", lambda returns: [len(returns) - 1]),
    "history": Quality(
        "all behaviour policies in order, equal shares: the learning history of a policy that is told its task",
        in_order,
    ),
    "spread": Quality(
        "six rollouts by six policies, evenly spread from random to expert; every other policy is told another task",
        spread,
        rollouts=6,
        heldout=6,
        strays=True,
    ),
    "smac": Quality(
        "a visit by a meta-RL agent: three rollouts explore, then three use what those found (docs/datasets.md)",
        nearest_to_half,
        rollouts=6,
        heldout=6,
        visit="xxxppp",
    ),
    "replay": Quality(
        "visits by all stages of online PEARL, in equal shares; exploring and exploiting rollouts alternate",
        in_order,
        rollouts=40,
        heldout=20,
        visit="xp",
        stages=True,
    ),
}


@dataclass(frozen=True)
class DatasetSpec:
    """What a dataset is meant to be; the loader checks the data against it.

    Attributes:
        family: name of the task family.
        quality: one of :data:`QUALITIES`.
        heldout: whether it covers the tasks of :data:`HELDOUT`, for context at evaluation only, or the training tasks.
        rollouts: number on each task; each is as long as the horizon, in several episodes where some terminate.
    """

    family: str
    quality: str
    heldout: bool
    rollouts: int

    @property
    def short(self) -> str:
        """The id without namespace and version, such as ``AntDir/history-heldout``."""
        return f"{self.family}/{self.quality}{'-heldout' if self.heldout else ''}"

    @property
    def name(self) -> str:
        """The last part of the id, such as ``replay-heldout-v1``."""
        return f"{self.short.partition('/')[2]}-v{VERSION}"

    @property
    def id(self) -> str:
        """Minari's id, such as ``OfflineMeta/AntDir/history-heldout-v1``."""
        return f"{NAMESPACE}/{self.family}/{self.name}"

    @property
    def heldout_sibling(self) -> DatasetSpec:
        """The dataset of the same quality over the held-out tasks; itself, if it is that one."""
        return DATASETS[replace(self, heldout=True).id]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that the dataset covers."""
        lists = get_family(self.family).tasks
        return tuple(task for split in (HELDOUT if self.heldout else ("train",)) for task in lists[split])

    @property
    def steps(self) -> int:
        """Number of transitions on all tasks together."""
        return len(self.tasks) * self.rollouts * get_family(self.family).horizon

    def shares(self, returns: Sequence[float]) -> list[int]:
        """Choose a behaviour policy for each rollout of a task.

        Args:
            returns: normalised mean return of each policy, from 0 (no better than a blind one) to 1 (the expert's).

        Returns:
            ``[rollouts]`` indices into ``returns``; -1 is uniformly random actions.
        """
        chosen, count = QUALITIES[self.quality].policies(returns), self.rollouts
        if count < len(chosen):
            chosen = [chosen[round(i)] for i in np.linspace(0, len(chosen) - 1, count)]
        return [chosen[i * len(chosen) // count] for i in range(count)]

    @property
    def strays(self) -> list[bool]:
        """Which of a task's rollouts are made by a policy that is told another task: ``[rollouts]``."""
        return [QUALITIES[self.quality].strays and place % 2 == 0 for place in range(self.rollouts)]

    @property
    def what(self) -> str:
        """Which policies collect it, in words."""
        if self.visited and self.family in RANDOM_BEHAVIOUR:
            return "episodes of random behaviour: one thing that the scene offers after the other, whatever the aim"
        return QUALITIES[self.quality].what

    @property
    def visited(self) -> bool:
        """Whether explorers collect, in place of policies that are told a task."""
        return bool(QUALITIES[self.quality].visit)


def _with_references() -> list[TaskFamily]:
    """Return the families whose behaviour policies have been measured: only their datasets can be planned."""
    measured = json.loads(REFERENCES.read_text(encoding="utf-8")) if REFERENCES.exists() else {}
    return [family for family in FAMILIES.values() if family.name in measured]


def _specs(family: TaskFamily) -> list[DatasetSpec]:
    """Return the datasets of a family: of each quality one over the training tasks, and one over the others."""
    most, specs = MAX_STEPS // family.horizon, []
    for name, quality in QUALITIES.items():
        if quality.stages and not (ONLINE / f"{family.name}.safetensors").exists():
            continue
        rollouts = RANDOM_BEHAVIOUR.get(family.name, quality.rollouts) if quality.visit else quality.rollouts
        specs.append(DatasetSpec(family.name, name, False, min(rollouts, most)))
        specs.append(DatasetSpec(family.name, name, True, quality.heldout))
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
    known = get_family(family).name
    own = {spec.name: spec for spec in DATASETS.values() if spec.family == known}
    if not own:
        raise UnknownNameError("Dataset of family", family, dict.fromkeys(spec.family for spec in DATASETS.values()))
    full = rest if re.search(r"-v\d+$", rest) else f"{rest}-v{VERSION}"
    if full not in own:
        raise UnknownNameError(f"Dataset of {family}", full, own)
    return own[full]
