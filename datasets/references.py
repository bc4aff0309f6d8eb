"""Reference returns: what a random policy and the expert that knows its task get, per task; and scores by them.

``references.json`` holds them for every family with behaviour policies, 20 episodes a task, together with the mean
return of each behaviour policy on the training tasks. ``offlinemeta datasets references FAMILY --write`` measures them.

A score is 0 for the random policy's return and 100 for the expert's. On a few tasks the two hardly differ, or the
expert fails: a score relative to such a gap would be noise, or upside down. :func:`trusted` says which gaps count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from offlinemeta.datasets.errors import DatasetError
from offlinemeta.datasets.spec import REFERENCES
from offlinemeta.envs import Task
from offlinemeta.envs.errors import ArgumentError, UnknownNameError
from offlinemeta.envs.shapes import Array, Bool, Float
from offlinemeta.files import update_json

LEAST_GAP = 0.25
"""Share of the median gap of a split below which a task's own gap is not trusted."""


def trusted(random: Float[Array, " tasks"], expert: Float[Array, " tasks"]) -> Bool[Array, " tasks"]:
    """Tell on which tasks of a split the gap from random to expert is large enough to score by.

    Args:
        random, expert: reference returns of all tasks of one split of a family.
    """
    gap = expert - random
    return np.asarray((gap > 0) & (gap >= LEAST_GAP * np.median(gap)))


def gaps(random: Float[Array, " tasks"], expert: Float[Array, " tasks"]) -> Float[Array, " tasks"]:
    """Return what 100 points are worth on each task: its own gap, or the mean of the trusted ones if it is not trusted.

    Args:
        random, expert: reference returns of all tasks of one split of a family.

    Raises:
        ArgumentError: the expert is above random on no task at all.
    """
    gap, good = expert - random, trusted(random, expert)
    if not good.any():
        raise ArgumentError(f"The expert's returns {expert} are on no task above the random ones {random}: no scores.")
    return np.where(good, gap, gap[good].mean())


def normalise(
    returns: Float[Array, "*seed task episode"], random: Float[Array, " task"], expert: Float[Array, " task"]
) -> Float[Array, "*seed task episode"]:
    """Score returns: 0 is the random return of the task, 100 is more by the task's gap (:func:`gaps`).

    Args:
        returns: on all tasks of one split of a family, in order.
        random, expert: reference returns of these tasks.
    """
    return _scores(returns, random[:, None], gaps(random, expert)[:, None])


def _scores(returns: Array, random: Array, gap: Array) -> Array:
    return 100 * (returns - random) / gap


@dataclass(frozen=True)
class References:
    """A family's reference returns.

    Attributes:
        random, expert: mean return on each task, by split. The expert is the last behaviour policy's mean action.
        sampled: the expert's mean return over the tasks of a split, its actions drawn as in the datasets.
        behaviours: mean return of each behaviour policy over the training tasks (Meta-World: every fifth of them).
        explorers: mean return of each stage of online PEARL over the training tasks, after it has explored; empty
            where no stages ship.
        success: the expert's share of episodes with a success, by split; Meta-World only.
        saturated: the largest share of action components beyond ±0.99 among the behaviour policies.
    """

    random: Mapping[str, Sequence[float]]
    expert: Mapping[str, Sequence[float]]
    sampled: Mapping[str, float]
    behaviours: Sequence[float]
    explorers: Sequence[float]
    success: Mapping[str, float]
    saturated: float

    @property
    def extremes(self) -> tuple[float, float]:
        """Mean returns of random actions and of the last behaviour policy, on the training tasks."""
        return float(np.mean(self.random["train"])), self.behaviours[-1]

    @property
    def normalised(self) -> list[float]:
        """The behaviour policies' returns, from 0 (random) to 1 (the last of them)."""
        return self._normalised(self.behaviours)

    @property
    def normalised_explorers(self) -> list[float]:
        """The explorers' returns, on the same scale."""
        return self._normalised(self.explorers)

    def _normalised(self, returns: Sequence[float]) -> list[float]:
        low, high = self.extremes
        return [(value - low) / (high - low) for value in returns]

    def score(self, tasks: Sequence[Task], returns: Float[Array, "tasks ..."]) -> Float[Array, "tasks ..."]:
        """Score returns on any tasks of the family, as :func:`normalise` does with those of a whole split."""
        low = np.array([self.random[task.split][task.index] for task in tasks])
        by_split = {split: gaps(*self._arrays(split)) for split in {task.split for task in tasks}}
        return _scores(returns.T, low, np.array([by_split[task.split][task.index] for task in tasks])).T

    def untrusted(self, split: str) -> list[int]:
        """Return the tasks of a split that are scored by the mean gap, since their own is not :func:`trusted`."""
        return [int(task) for task in np.flatnonzero(~trusted(*self._arrays(split)))]

    def _arrays(self, split: str) -> tuple[Array, Array]:
        return np.array(self.random[split]), np.array(self.expert[split])


@cache
def read_references(family: str) -> References:
    """Return a family's references, as they ship.

    Raises:
        UnknownNameError: it has none.
    """
    content = json.loads(REFERENCES.read_text(encoding="utf-8"))
    if family not in content:
        raise UnknownNameError("Reference of family", family, content)
    return as_references(content[family])


def as_references(entry: Mapping[str, Any]) -> References:
    """Return the references that an entry of the file, or a new measurement, holds."""
    return References(**{part.name: entry[part.name] for part in fields(References)})


def check_gaps(name: str, references: References) -> None:
    """Refuse references by which some tasks cannot be scored.

    Raises:
        DatasetError: the gap of some tasks is not trusted; the message names them.
    """
    wrong = {split: tasks for split in references.random if (tasks := references.untrusted(split))}
    if wrong:
        listed = "; ".join(f"{split} {', '.join(map(str, tasks))}" for split, tasks in wrong.items())
        raise DatasetError(
            f"References of {name} are not written: on some tasks the expert is not above random by a quarter of "
            f"the median gap ({listed}). Mend the expert or the task; or write them with --allow-gaps, and these tasks "
            f"are scored by the mean gap of the others."
        )


def write_references(name: str, content: Mapping[str, Any], allow_gaps: bool = False) -> None:
    """Enter a family's references into the file: a line for each family.

    Args:
        name: the family.
        content: its entry, as :func:`offlinemeta.datasets.measure.measure` returns it.
        allow_gaps: also where the gap of some tasks is not :func:`trusted`.

    Raises:
        DatasetError: it is not, and that was not allowed.
        FileError: there is no space or no permission.
    """
    if not allow_gaps:
        check_gaps(name, as_references(content))

    def dump(entries: dict[str, Any]) -> str:
        lines = [f"{json.dumps(family)}: {json.dumps(entry)}" for family, entry in entries.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    update_json(REFERENCES, name, dict(content), dump)
    read_references.cache_clear()
