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
from offlinemeta.benchmark.result import Provenance, Result
from offlinemeta.envs.errors import ArgumentError

START = 8.0
"""Seconds that even the shortest training takes, on one core, for its start and its evaluation."""

ROUGH = ("other settings", "other methods")
"""Sources that give no more than an order of magnitude."""


@dataclass(frozen=True)
class Estimate:
    """How long a cell takes.

    Attributes:
        step: gradient steps that are made already.
        steps: gradient steps of the whole training.
        seconds: for its start and the steps that are left; None where there is no result to go by.
        source: of what the results are that it is made by: the same family, other families, or one of :data:`ROUGH`.
        machines: on which machines they were made.
    """

    step: int
    steps: int
    seconds: float | None = None
    source: str = ""
    machines: frozenset[str] = frozenset()


def estimate(cell: Cell, folders: Collection[Path], results: Sequence[Result]) -> Estimate:
    """Estimate how long a cell takes: the median time per gradient step of the results that are most like it.

    These are the method's results with the same settings, up to how long the phases are, on the same family; else on
    others; else those with other settings; else those of other methods.

    Args:
        cell: the cell.
        folders: the folders of all cells of the grid, from one of which it may branch.
        results: results to go by.
    """
    config, log = cell.run.config, read_log(cell.folder)
    step, steps = (log[-1]["step"] if log else 0), config.phases[-1].end
    found: dict[str, list[Provenance]] = {}
    for result in results:
        for training in result.provenance:
            if training.gradient_steps and training.wall_time > 0:
                found.setdefault(_source(cell, config, result, training), []).append(training)
    source = next((name for name in ("the same family", "other families", *ROUGH) if name in found), None)
    if source is None:
        return Estimate(step, steps)
    known = found[source]
    left = max(min(steps - step, steps_of(cell, folders)), 0)
    pace = median(training.wall_time / training.gradient_steps for training in known)
    machines = frozenset(training.machine for training in known if training.machine)
    return Estimate(step, steps, START + pace * left, source, machines)


def _source(cell: Cell, config: Any, result: Result, training: Provenance) -> str:
    """Say how like a cell a result is."""
    if result.method != cell.method:
        return "other methods"
    if not alike(cell.method, config, training.config):
        return "other settings"
    return "the same family" if result.benchmark.partition("/")[0] == cell.spec.family else "other families"


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
