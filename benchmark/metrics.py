"""Metrics: pure functions of arrays, with golden numbers in ``tests/test_metrics.py``.

Scores are normalised per task (0 random, 100 the expert that knows the task) and summarised by their interquartile
mean with a bootstrap interval (after Agarwal et al., NeurIPS 2021; but see :func:`bootstrap`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from offlinemeta.datasets.references import normalise as normalise  # the one definition of a score
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.shapes import Array, Float

RESAMPLES = 2000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A statistic and its bootstrap interval."""

    value: float
    low: float
    high: float


def auc(curve: Float[Array, "... episode"]) -> Float[Array, "..."]:
    """Return the area under an adaptation curve, divided by its length: the mean over its episodes."""
    return curve.mean(-1)


def shift(offline: Float[Array, "*batch"], online: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return the context shift: return with logged context minus that with self-collected, of the same size."""
    return offline - online


def normalised_kl_shift(within: float, within_logged: float, between_logged: float) -> float:
    """Return how far self-collected context lies from logged context in z: 0 no shift, 1 as far as another task.

    (KL(online, offline of the same task) - KL(offline, offline' of the same task)) over
    (KL(offline, offline' of another task) - KL(offline, offline' of the same task)), all at equal context sizes; NaN
    where tasks cannot be told apart at all.
    """
    distance = between_logged - within_logged
    return (within - within_logged) / distance if distance else math.nan


def iqm(scores: Float[Array, "..."]) -> float:
    """Return the mean of the middle half of all entries; those on the border count by their share."""
    ordered = np.sort(scores, axis=None)
    count = ordered.size
    if count == 0:
        raise ArgumentError("The interquartile mean of nothing was asked.")
    places = np.arange(count)
    weights = np.clip(np.minimum(places + 1, 0.75 * count) - np.maximum(places, 0.25 * count), 0, 1)
    return float((weights * ordered).sum() / weights.sum())


def mean(scores: Float[Array, "..."]) -> float:
    """Return the mean of all entries."""
    return float(np.mean(scores))


def bootstrap(
    scores: Float[Array, "seed task ..."],
    statistic: Callable[[Array], float] = iqm,
    resamples: int = RESAMPLES,
    rng: int | np.random.Generator = 0,
) -> Interval:
    """Return a statistic with its 95 % percentile interval, from resampling seeds and tasks.

    A seed is one training, shared by all tasks, so it is drawn as a whole: drawing each task's seeds on their own, as
    is usual where every task has a training of its own, would average its effect away, and intervals be too narrow.
    With a single seed the interval is about other tasks alone, and with three it still knows little of other seeds.

    Raises:
        ArgumentError: no entries, or some are not finite.
    """
    if scores.size == 0 or not np.isfinite(scores).all():
        raise ArgumentError(f"A bootstrap needs finite scores; these are {scores.shape} with NaN or none.")
    generator, (seeds, tasks) = np.random.default_rng(rng), scores.shape[:2]
    drawn = np.empty(resamples)
    for i in range(resamples):
        rows = generator.integers(seeds, size=(seeds, 1))
        drawn[i] = statistic(scores[rows, generator.integers(tasks, size=(1, tasks))])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(statistic(scores), float(low), float(high))
