"""Estimates of how long the cells of a grid take, from results that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from offlinemeta.baselines.registry import plain_config
from offlinemeta.baselines.training.cell import Cell, steps_of
from offlinemeta.baselines.training.log import read_log
from offlinemeta.benchmark.result import Result

LENGTHS = ("steps", "rounds", "stages")
"""How the names of config fields end that say how long a training is, and not how long one of its steps takes."""


@dataclass(frozen=True)
class Estimate:
    """How long a cell takes.

    Attributes:
        step: gradient steps that are made already.
        steps: gradient steps of the whole training.
        seconds: for the steps that are left, without start and evaluation; None where there is no result to go by.
        source: of which families the results are that it is made by.
        machines: on which machines they were made.
    """

    step: int
    steps: int
    seconds: float | None = None
    source: str = ""
    machines: frozenset[str] = frozenset()


def estimate(cell: Cell, cells: Sequence[Cell], results: Sequence[Result]) -> Estimate:
    """Estimate how long a cell takes: the median time per gradient step of the method's results, times its steps.

    Only results with the same settings count, up to the number of steps (:data:`LENGTHS`); if there are any on the same
    family, only those.

    Args:
        cell: the cell.
        cells: all cells of the grid, from one of which it may branch.
        results: results to go by.
    """
    config, log = plain_config(cell.run.config), read_log(cell.folder)
    step, steps = (log[-1]["step"] if log else 0), cell.run.steps
    known = [
        (result.benchmark.partition("/")[0], training)
        for result in results
        for training in result.provenance
        if result.method == cell.method and training.gradient_steps and training.wall_time > 0
        if alike(training.config, config)
    ]
    same = [each for each in known if each[0] == cell.spec.family]
    known = same or known
    if not known:
        return Estimate(step, steps)
    left = max(min(steps - step, steps_of(cell, cells)), 0)
    pace = median(training.wall_time / training.gradient_steps for _, training in known)
    machines = frozenset(training.machine for _, training in known if training.machine)
    return Estimate(step, steps, pace * left, "the same family" if same else "other families", machines)


def alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two configs agree in the fields that both have, up to how long the training is."""
    shared = [name for name in one.keys() & other.keys() if not name.endswith(LENGTHS)]
    return bool(shared) and all(one[name] == other[name] for name in shared)
