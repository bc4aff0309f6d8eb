"""Says whether the numbers of a submitted result hold when its checkpoint is evaluated once more.

What may differ between two evaluations of one agent:

- With the same seed, on the same machine and with the same versions, nothing may: resets, logged contexts and the
  agent's own randomness follow from the seed, so that returns are equal to the last digit that a result has.
- Another processor gives other last bits, which a simulation makes grow; another evaluation seed gives other resets.
  Then the return of each task differs by noise, which is independent from task to task, and of which nobody knows the
  size beforehand: a result holds the means over ``repeats`` plays and not the plays. But the two evaluations are paired
  by task, so that the differences themselves tell the size of the noise: if the numbers hold, their mean over tasks is
  0 within its interval by Student's t. That needs several tasks; with two, as in CheetahDir, it can hardly refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from offlinemeta.benchmark import metrics
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.result import Result
from offlinemeta.datasets.references import read_references
from offlinemeta.envs.shapes import Array, Float

NEGLIGIBLE = 0.1
"""Points of score (0 blind, 100 told) that no table shows: a smaller difference holds, however sure it is."""


@dataclass(frozen=True)
class Replay:
    """A comparison of a result with another evaluation of its checkpoint.

    Attributes:
        equal: whether all returns are equal to the last digit that a result has.
        differences: return of the replay minus that of the result, mean over tasks, of each episode.
        p_values: how likely so large differences are if the numbers hold; two-sided, corrected for the number of
            episodes (Holm).
        points: the largest of the differences, in points of score.
        tasks: number of tasks whose returns differ in any episode.
        changed: what differs between the two machines and their versions, as ``name: there, here``.
    """

    equal: bool
    differences: tuple[metrics.Interval, ...]
    p_values: tuple[float, ...]
    points: float
    tasks: int
    changed: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the numbers hold: equal, or within the noise of an evaluation, or no table would show it."""
        return self.equal or self.points <= NEGLIGIBLE or min(self.p_values) > 1 - metrics.CONFIDENCE


def compare(result: Result, returns: Float[Array, "task episode"], versions: Mapping[str, str], machine: str) -> Replay:
    """Compare a result of one seed with the returns of another evaluation.

    Args:
        result: the result.
        returns: of the other evaluation, on the same tasks.
        versions: of the packages with which it was made.
        machine: on which it was made.
    """
    provenance, benchmark = result.provenance[0], get_benchmark(result.benchmark)
    differences = returns.round(3) - result.array()[0]  # results are rounded so
    estimates = [metrics.estimate(differences[None, :, k]) for k in range(differences.shape[1])]
    both_sides = [
        min(1.0, 2 * min(e.p_value, metrics.Estimate(-e.value, e.error, e.freedom).p_value)) for e in estimates
    ]
    low, high = read_references(benchmark.family).scale(benchmark.protocol.split)
    there, here = {**provenance.versions, "machine": provenance.machine}, {**versions, "machine": machine}
    return Replay(
        equal=not differences.any(),
        differences=tuple(e.interval for e in estimates),
        p_values=tuple(metrics.holm(both_sides)),
        points=float(np.abs(differences.mean(0)).max() * 100 / (high - low)),
        tasks=int(differences.any(1).sum()),
        changed=tuple(
            f"{name}: {there.get(name) or 'not stated'}, {here.get(name) or 'not here'}"
            for name in dict.fromkeys([*there, *here])
            if there.get(name) != here.get(name)
        ),
    )
