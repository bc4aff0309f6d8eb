"""Sums results up over families: figures of each method at a setting, and how often one method beats another.

A setting is a quality of data, a kind of protocol and a split of tasks, at which methods can be compared. Families
whose tasks are worth little are left out; a method that lacks some of the others says how many it has, and two methods
are compared on those that both have.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from offlinemeta.benchmark import metrics
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS, Benchmark, get_benchmark
from offlinemeta.benchmark.result import Result
from offlinemeta.datasets.references import read_references
from offlinemeta.envs import SPLITS
from offlinemeta.envs.shapes import Array, Float
from offlinemeta.leaderboard.table import STUDY, TO_CHOOSE_BY, Row, settle

ONLINE = "online"


class Setting(NamedTuple):
    """What methods have to have in common to be compared: quality of the data, kind of protocol, split of tasks.

    Protocols ``online-K`` that have the third episode, which counts, are of one kind, :data:`ONLINE`.
    """

    quality: str
    kind: str
    split: str


@dataclass(frozen=True)
class Cell:
    """A method on a benchmark: a result with the figures of its episode that counts, each computed once.

    Attributes:
        result: returns and provenance of all seeds.
        benchmark: family, quality and protocol.
        returned: mean return.
        score: mean of the normalised score.
        iqm: interquartile mean of that score.
        worst: mean of its worst quarter.
    """

    result: Result
    benchmark: Benchmark
    returned: metrics.Interval
    score: metrics.Interval
    iqm: metrics.Interval
    worst: float

    @property
    def setting(self) -> Setting:
        """At which the cell can be compared."""
        protocol = self.benchmark.protocol
        third = protocol.kind.startswith("online-") and protocol.episodes > OFFLINE_ROLLOUTS
        return Setting(self.benchmark.quality, ONLINE if third else protocol.kind, protocol.split)

    @cached_property
    def scores(self) -> Float[Array, "seed task"]:
        """Normalised scores of the episode that counts."""
        return self.result.scores()[..., self.result.counted]


@dataclass(frozen=True)
class Aggregate:
    """A method at a setting, over all families that it has and that are not worth little.

    Attributes:
        setting: the setting.
        method: its name.
        cells: one for each family.
        families: how many families any method has at this setting.
        mean: of the scores; each family weighs the same, here and below.
        iqm: interquartile mean of the scores of all families together.
        worst: mean of the worst quarter of the scores of all families together.
    """

    setting: Setting
    method: str
    cells: tuple[Cell, ...]
    families: int
    mean: metrics.Interval
    iqm: metrics.Interval
    worst: metrics.Interval

    @property
    def complete(self) -> bool:
        """Whether the method has all families that any method has."""
        return len(self.cells) == self.families


@dataclass(frozen=True)
class Comparison:
    """How often one method scores higher than another, on the families that both have (:func:`metrics.improvement`)."""

    method: str
    other: str
    families: int
    probability: metrics.Interval


def cells(rows: Sequence[Row]) -> list[Cell]:
    """Return the cells of all results, whatever their protocol and split, in the order of the rows."""
    return [_cell(row, result) for row in rows for result in row.results]


def _cell(row: Row, result: Result) -> Cell:
    benchmark = get_benchmark(result.benchmark)
    if result is row.online and row.third and row.score and row.iqm and row.worst is not None:  # known already
        return Cell(result, benchmark, row.third, row.score, row.iqm, row.worst)
    scores, returns = result.scores()[..., result.counted], result.array()[..., result.counted]
    returned = row.offline if result is row.logged and row.offline else metrics.interval(returns)
    worst = float(metrics.worst_quarter(scores.ravel(), np.ones((1, scores.size)))[0])
    return Cell(result, benchmark, returned, metrics.interval(scores), metrics.interval(scores, metrics.iqm), worst)


def aggregates(found: Sequence[Cell]) -> list[Aggregate]:
    """Return the figures of each method at each setting; within one, complete methods first, the best mean first."""
    counted = [cell for cell in found if not _low_worth(cell.benchmark.family)]
    summed = []
    for setting in settings(counted):
        here = [cell for cell in counted if cell.setting == setting]
        families = len({cell.benchmark.family for cell in here})
        methods = dict.fromkeys(cell.result.method for cell in here)
        own = [_one_each([cell for cell in here if cell.result.method == method]) for method in methods]
        group = [_aggregate(setting, part, families) for part in own]
        summed += sorted(group, key=lambda one: (not one.complete, -settle(one.mean.value), one.method))
    return summed


def _one_each(own: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return one cell for each family; of several, such as online-3 and online-10, that with the most episodes."""
    chosen: dict[str, Cell] = {}
    for cell in sorted(own, key=lambda cell: cell.benchmark.protocol.episodes):
        chosen[cell.benchmark.family] = cell
    return tuple(cell for cell in own if cell is chosen[cell.benchmark.family])


def settings(found: Sequence[Cell]) -> list[Setting]:
    """Return the settings of cells: own contexts first, and the splits in their order, those to choose by last."""
    order = [*(split for split in ("test", "test100", "ood")), *TO_CHOOSE_BY]
    assert sorted(order) == sorted(SPLITS)

    def place(setting: Setting) -> tuple[Any, ...]:
        return order.index(setting.split), not setting.kind.startswith("online"), setting.quality, setting.kind

    return sorted({cell.setting for cell in found}, key=place)


def headline(summed: Sequence[Aggregate]) -> Setting | None:
    """Return the setting that a reader sees first: of own contexts on test tasks, where most has been measured."""
    count: dict[Setting, int] = {}
    for one in summed:
        count[one.setting] = count.get(one.setting, 0) + len(one.cells)
    first = [s for s in count if s.split == "test" and s.kind.startswith("online")] or list(count)
    return max(first, key=lambda setting: count[setting], default=None)


def _aggregate(setting: Setting, own: tuple[Cell, ...], families: int) -> Aggregate:
    def figure(statistic: metrics.Statistic) -> metrics.Interval:
        return metrics.pooled([cell.scores for cell in own], statistic).interval

    return Aggregate(
        setting,
        own[0].result.method,
        own,
        families,
        mean=figure(metrics.mean),
        iqm=figure(metrics.iqm),
        worst=figure(metrics.worst_quarter),
    )


@cache
def _low_worth(family: str) -> bool:
    return bool(read_references(family).tags)


def compare(group: Sequence[Aggregate]) -> dict[tuple[str, str], Comparison]:
    """Return every method of one setting against every other, by both names; nothing of those that share no family."""
    found = {}
    scores = {one.method: {cell.benchmark.family: cell.scores for cell in one.cells} for one in group}
    for method, other in combinations(scores, 2):
        shared = [family for family in scores[method] if family in scores[other]]
        if shared:
            ours, theirs = ([scores[name][family] for family in shared] for name in (method, other))
            value, low, high = metrics.improvement(ours, theirs).interval
            low, high = max(low, 0.0), min(high, 1.0)
            found[method, other] = Comparison(method, other, len(shared), metrics.Interval(value, low, high))
            opposite = metrics.Interval(1 - value, 1 - high, 1 - low)
            found[other, method] = Comparison(other, method, len(shared), opposite)
    return found


def by_setting(summed: Sequence[Aggregate]) -> dict[Setting, list[Aggregate]]:
    """Group aggregates by their setting, in their order."""
    return {s: [one for one in summed if one.setting == s] for s in dict.fromkeys(one.setting for one in summed)}


def rank(methods: Sequence[str]) -> list[str]:
    """Return methods in the order in which they are listed: the package's own first, in theirs, then by name."""
    usual = {method: place for place, method in enumerate(STUDY["methods"])}
    return sorted(set(methods), key=lambda name: (usual.get(name, len(usual)), name.lower(), name))


def as_csv(found: Sequence[Cell]) -> str:
    """Return all cells as a table for other programs: one line each, figures as they are, intervals in two columns."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    figures = ("return", "score", "iqm")
    parts = [name + end for name in figures for end in ("", "_low", "_high")]
    budget = ("gradient_steps", "env_steps", "wall_time")
    table.writerow(
        ["family", "quality", "protocol", "split", "method", "told_the_task", "seeds", *parts, "worst_quarter", *budget]
    )
    for cell in found:
        benchmark, result = cell.benchmark, cell.result
        figures_of = [f"{value:.6g}" for one in (cell.returned, cell.score, cell.iqm) for value in one]
        table.writerow(
            [
                *(benchmark.family, benchmark.quality, benchmark.protocol.name, benchmark.protocol.split),
                *(result.method, str(result.sees_task).lower(), len(result.seeds), *figures_of, f"{cell.worst:.6g}"),
                *(getattr(result.provenance[0], name) for name in budget),
            ]
        )
    return text.getvalue()
