"""Reference returns: what random actions, the best blind policy and the expert that is told its task get, per task.

``references.json`` holds them for every family with behaviour policies, with the mean return of each behaviour policy
on the training tasks. ``offlinemeta datasets references FAMILY --write`` measures them. Of these follow
what knowing the task is worth, :meth:`References.worth`, and the scale of scores, :meth:`References.scale`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from offlinemeta.datasets.errors import DatasetError
from offlinemeta.datasets.spec import REFERENCES
from offlinemeta.envs import SPLITS, Task
from offlinemeta.envs.errors import UnknownNameError
from offlinemeta.envs.shapes import Array, Float
from offlinemeta.files import update_json

FORMAT = 1
"""Version of the file's format, which is its entry ``format``."""

LEAST_WORTH = 0.3
"""Worth below which scores begin at random, not at blind, and a family is tagged :data:`LOW_WORTH`."""

LOW_WORTH = "low-worth"
"""Tag of families in which little is gained by knowing the task; averages over families should leave them out."""


WITHIN = tuple(split for split in SPLITS if split != "ood")
"""The splits of the training distribution."""


class Worth(NamedTuple):
    """The worth of knowing the task, and its standard error over tasks."""

    value: float
    error: float


def worth(random: Float[Array, " tasks"], blind: Float[Array, " tasks"], told: Float[Array, " tasks"]) -> Worth:
    """Return (told - blind) / (told - random) of mean returns: the share of what is learned that needs the task.

    The standard error is that of a ratio of two means over tasks (Cochran, Sampling Techniques, 1977, section 6.4).

    Args:
        random: returns of random actions, on each task.
        blind: those of the best blind policy.
        told: those of the expert that is told its task; their mean must be higher than that of ``random``.
    """
    gain, whole = told - blind, told - random
    ratio = gain.mean() / whole.mean()
    residuals = gain - ratio * whole
    count = len(residuals)
    error = math.sqrt((residuals**2).sum() / (count - 1) / count) / whole.mean() if count > 1 else math.nan
    return Worth(float(ratio), float(error))


def normalise(returns: Array, low: float | Array, high: float | Array) -> Array:
    """Score returns: ``low`` is 0, ``high`` is 100, and all between and beyond lies on the same line."""
    return 100 * (returns - low) / (high - low)


@dataclass(frozen=True)
class References:
    """A family's reference returns.

    Attributes:
        random: mean return of uniformly random actions on each task, by split.
        blind: the same of the best policy that is not told its task; ``blind_policy`` says which one it is.
        told: the same of the expert that is told its task: the last behaviour policy's mean action.
        blind_policy: ``"told train 17"`` for the expert that is always told training task 17, ``"trained blind"`` for
            one that was trained without its task, ``"no action"`` for standing still, ``"random behaviour"`` for doing
            one thing after the other in a manipulation scene, or ``"random"``.
        behaviours: mean return of each behaviour policy over the training tasks (Meta-World: every fifth of them).
        explorers: mean return of each stage of online PEARL over the training tasks, after it has explored; empty
            where no stages ship.
        success: the told expert's share of episodes with a success, by split, in families whose info has it.
        progress: mean speed in the wanted direction [m/s] of ``random``, ``blind`` and ``told``, by split; of families
            that reward survival too, where a return does not say how much of it is progress.
        saturated: the largest share of action components beyond ±0.99 among the behaviour policies.
        episodes: number of episodes on each task; one where task and policy leave nothing to chance.
    """

    random: Mapping[str, Sequence[float]]
    blind: Mapping[str, Sequence[float]]
    told: Mapping[str, Sequence[float]]
    blind_policy: str
    behaviours: Sequence[float]
    explorers: Sequence[float]
    success: Mapping[str, float]
    progress: Mapping[str, Mapping[str, float]]
    saturated: float
    episodes: int

    @property
    def normalised(self) -> list[float]:
        """The behaviour policies' returns, from 0 (:attr:`ranking`'s first) to 1 (the last of them)."""
        return self._normalised(self.behaviours)

    @property
    def normalised_explorers(self) -> list[float]:
        """The explorers' returns, on the same scale."""
        return self._normalised(self.explorers)

    def _normalised(self, returns: Sequence[float]) -> list[float]:
        low, high = self.ranking[0], self.behaviours[-1]
        return [(value - low) / (high - low) for value in returns]

    @property
    def ranking(self) -> tuple[float, float]:
        """The mean returns on training tasks from which policies are ranked: blind (or random) and told.

        Unlike :meth:`scale`, held-out tasks have no say in it, since the ranking decides who collects the datasets.
        """
        floor = self.random if self.worth("train").value < LEAST_WORTH else self.blind
        return float(np.mean(floor["train"])), float(np.mean(self.told["train"]))

    def worth(self, split: str) -> Worth:
        """Return what knowing the task is worth on the tasks of a split (:func:`worth`)."""
        return worth(*(np.array(returns[split]) for returns in (self.random, self.blind, self.told)))

    @property
    def overall(self) -> Worth:
        """What knowing the task is worth on all tasks of the training distribution (:data:`WITHIN`) together.

        A single split has too few tasks: where tasks are directions, a constant one does well on twenty by luck.
        """
        return worth(*(self._within(kind) for kind in ("random", "blind", "told")))

    @property
    def tags(self) -> tuple[str, ...]:
        """:data:`LOW_WORTH` where knowing the task is worth less than :data:`LEAST_WORTH`."""
        return (LOW_WORTH,) if self.overall.value < LEAST_WORTH else ()

    @property
    def floor(self) -> str:
        """Which returns score 0: ``blind``, or ``random`` where knowing the task is worth little."""
        return "random" if self.tags else "blind"

    def scale(self, split: str) -> tuple[float, float]:
        """Return the mean returns that score 0, :attr:`floor`'s, and 100, ``told``.

        They are the same for all splits of the training distribution, so that scores on them can be compared; ood tasks
        have their own.
        """
        if split in WITHIN:
            return float(self._within(self.floor).mean()), float(self._within("told").mean())
        return float(np.mean(getattr(self, self.floor)[split])), float(np.mean(self.told[split]))

    def _within(self, kind: str) -> Array:
        by_split: Mapping[str, Sequence[float]] = getattr(self, kind)
        return np.concatenate([by_split[split] for split in WITHIN])

    def score(self, tasks: Sequence[Task], returns: Float[Array, "tasks ..."]) -> Float[Array, "tasks ..."]:
        """Score returns on any tasks of the family, by :meth:`scale`."""
        scales = {split: self.scale(split) for split in {task.split for task in tasks}}
        low, high = np.array([scales[task.split] for task in tasks]).T
        return normalise(returns.T, low, high).T


@cache
def read_references(family: str) -> References:
    """Return a family's references, as they ship.

    Raises:
        UnknownNameError: it has none.
    """
    content = shipped()
    if family not in content:
        raise UnknownNameError("Reference of family", family, content)
    return as_references(content[family])


def shipped() -> dict[str, Any]:
    """Return the entries of the file by family.

    Raises:
        DatasetError: the file has another format.
    """
    content = json.loads(REFERENCES.read_text(encoding="utf-8"))
    if content.pop("format", None) != FORMAT:
        raise DatasetError(f"{REFERENCES} is not of format {FORMAT}. Reinstall offlinemeta.")
    return dict(content)


def as_references(entry: Mapping[str, Any]) -> References:
    """Return the references that an entry of the file, or a new measurement, holds."""
    return References(**{part.name: entry[part.name] for part in fields(References)})


def check_references(name: str, references: References) -> None:
    """Refuse references by which nothing can be scored.

    Raises:
        DatasetError: on some split the expert does no better than what scores 0; the message names them.
    """
    told = {split: float(np.mean(returns)) for split, returns in references.told.items()}

    def check(what: str, lows: Mapping[str, float]) -> None:
        wrong = [f"{split} ({told[split]:.1f} and {low:.1f})" for split, low in lows.items() if told[split] <= low]
        if wrong:
            raise DatasetError(
                f"References of {name} are not written: the expert that is told its task gets no more than {what} on "
                f"{', '.join(wrong)}. Train a better one, or mend the tasks."
            )

    check("random actions", {split: float(np.mean(returns)) for split, returns in references.random.items()})
    check("a policy that scores 0", {split: references.scale(split)[0] for split in told})


def write_references(name: str, content: Mapping[str, Any]) -> None:
    """Enter a family's references into the file: a line for each family.

    Args:
        name: the family.
        content: its entry, as :func:`offlinemeta.datasets.measure.measure` returns it.

    Raises:
        DatasetError: nothing could be scored by them (:func:`check_references`).
        FileError: there is no space or no permission.
    """
    check_references(name, as_references(content))

    def dump(entries: dict[str, Any]) -> str:
        families = {key: entry for key, entry in entries.items() if key != "format"}
        lines = [f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in {"format": FORMAT, **families}.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    update_json(REFERENCES, name, dict(content), dump)
    read_references.cache_clear()
