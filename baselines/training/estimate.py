"""Estimates of how long the cells of a grid take, from results that there are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from offlinemeta.baselines.registry import plain_config, read_config
from offlinemeta.baselines.training.cell import Cell, steps_of
from offlinemeta.baselines.training.log import read_log
from offlinemeta.benchmark.result import Result
from offlinemeta.envs.errors import ArgumentError


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


def estimate(cell: Cell, folders: Collection[Path], results: Sequence[Result]) -> Estimate:
    """Estimate how long a cell takes: the median time per gradient step of the method's results, times its steps.

    Only results with the same settings count, up to how long the phases are; if there are any on the same family, only
    those.

    Args:
        cell: the cell.
        folders: the folders of all cells of the grid, from one of which it may branch.
        results: results to go by.
    """
    config, log = cell.run.config, read_log(cell.folder)
    step, steps = (log[-1]["step"] if log else 0), config.phases[-1].end
    known = [
        (result.benchmark.partition("/")[0], training)
        for result in results
        for training in result.provenance
        if result.method == cell.method and training.gradient_steps and training.wall_time > 0
        if alike(cell.method, config, training.config)
    ]
    same = [each for each in known if each[0] == cell.spec.family]
    known = same or known
    if not known:
        return Estimate(step, steps)
    left = max(min(steps - step, steps_of(cell, folders)), 0)
    pace = median(training.wall_time / training.gradient_steps for _, training in known)
    machines = frozenset(training.machine for _, training in known if training.machine)
    return Estimate(step, steps, pace * left, "the same family" if same else "other families", machines)


def alike(method: str, config: Any, other: Mapping[str, Any]) -> bool:
    """Tell whether a config has the settings of another one, up to how long the phases of the training are.

    Args:
        method: name of the method.
        config: the config.
        other: plain values of the other one; fields that it lacks, or that are no longer there, do not matter.
    """
    plain = plain_config(config)
    for name in plain.keys() & other.keys():
        if plain[name] != other[name]:
            try:
                changed = read_config(method, {**plain, name: other[name]})
            except ArgumentError:
                return False
            if changed.phases == config.phases:  # so the field says something else
                return False
    return bool(plain.keys() & other.keys())
