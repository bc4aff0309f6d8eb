"""Reference returns: what a random policy and the expert that knows its task get, per task.

``references.json`` holds them for every family with behaviour policies, 20 episodes a task, together with the mean
return of each behaviour policy on the training tasks. ``offlinemeta datasets references FAMILY`` writes it anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from offlinemeta.datasets.spec import REFERENCES
from offlinemeta.envs import Task
from offlinemeta.envs.errors import UnknownNameError
from offlinemeta.envs.shapes import Array, Float
from offlinemeta.files import update_json


@dataclass(frozen=True)
class References:
    """A family's reference returns.

    Attributes:
        random, expert: mean return of each task, by split. The expert is the last behaviour policy's mean action.
        sampled: the expert's mean return over the tasks of a split, its actions drawn as in the datasets.
        behaviours: mean return of each behaviour policy over the training tasks (Meta-World: every fifth of them).
        success: the expert's share of episodes with a success, by split; Meta-World only.
        saturated: the largest share of action components beyond ±0.99 among the behaviour policies.
    """

    random: Mapping[str, Sequence[float]]
    expert: Mapping[str, Sequence[float]]
    sampled: Mapping[str, float]
    behaviours: Sequence[float]
    success: Mapping[str, float]
    saturated: float

    @property
    def extremes(self) -> tuple[float, float]:
        """Mean returns of random actions and of the last behaviour policy, on the training tasks."""
        return float(np.mean(self.random["train"])), self.behaviours[-1]

    @property
    def normalised(self) -> list[float]:
        """The behaviour policies' returns, from 0 (random) to 1 (the last of them)."""
        low, high = self.extremes
        return [(value - low) / (high - low) for value in self.behaviours]

    def score(self, tasks: Sequence[Task], returns: Float[Array, "tasks ..."]) -> Float[Array, "tasks ..."]:
        """Normalise returns of tasks: 0 is random, 100 the expert that knows the task."""
        low = np.array([self.random[task.split][task.index] for task in tasks])
        high = np.array([self.expert[task.split][task.index] for task in tasks])
        return (100 * (returns.T - low) / (high - low)).T


@cache
def read_references(family: str) -> References:
    """Return a family's references.

    Raises:
        UnknownNameError: it has none.
    """
    content = json.loads(REFERENCES.read_text(encoding="utf-8"))
    if family not in content:
        raise UnknownNameError("Reference of family", family, content)
    names = ("random", "expert", "sampled", "behaviours", "success", "saturated")
    return References(**{name: content[family][name] for name in names})


def write_references(name: str, content: Mapping[str, Any]) -> None:
    """Enter a family's references into the file: a line for each family."""

    def dump(entries: dict[str, Any]) -> str:
        lines = [f"{json.dumps(family)}: {json.dumps(entry)}" for family, entry in entries.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    update_json(REFERENCES, name, dict(content), dump)
    read_references.cache_clear()
