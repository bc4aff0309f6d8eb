"""Metrics are pure functions of arrays; their golden numbers are in ``tests/test_metrics.py``.

Scores (:meth:`offlinemeta.datasets.references.References.scale`) are summarised by their mean over tasks and seeds, so
that 0 and 100 are exactly what the policies that make the scale get, with a bootstrap interval (after Agarwal et al.,
NeurIPS 2021; but see :func:`bootstrap`). Their :func:`iqm` heeds the middle half of the entries alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.shapes import Array, Float, Int

RESAMPLES = 2000
CONFIDENCE = 0.95

Statistic = Callable[[Array, Array], Array]
"""A figure of ``scores [entry, ...]`` for many resamples at once, such as :func:`mean`.

Its second argument, ``counts [resample, entry]``, says how often each entry is in each resample.
"""


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


def mean(scores: Float[Array, " entry"], counts: Float[Array, "resample entry"]) -> Float[Array, " resample"]:
    """Return the mean of all entries, for each resample.

    Args:
        scores: the entries.
        counts: how often each entry is in each resample.
    """
    return counts @ scores / counts.sum(1)


def iqm(scores: Float[Array, " entry"], counts: Float[Array, "resample entry"]) -> Float[Array, " resample"]:
    """Return the mean of the middle half of all entries, for each resample; what lies on a border counts by its share.

    Args:
        scores: the entries.
        counts: how often each entry is in each resample.
    """
    order = np.argsort(scores)
    counts = counts[:, order]
    last = counts.cumsum(1)  # an entry's copies take the places from last - counts to last
    total = last[:, -1:]
    weights = np.clip(np.minimum(last, 0.75 * total) - np.maximum(last - counts, 0.25 * total), 0, None)
    return weights @ scores[order] / weights.sum(1)


def once(scores: Float[Array, "entry ..."]) -> Float[Array, "1 entry"]:
    """Return the counts of the one resample that holds each entry once."""
    return np.ones((1, len(scores)))


def bootstrap(
    scores: Float[Array, "seed task ..."], statistic: Statistic = mean, resamples: int = RESAMPLES, rng: int = 0
) -> Interval:
    """Return a statistic with its 95 % percentile interval, from resampling seeds and tasks.

    A seed is one training, shared by all tasks, so it is drawn as a whole: drawing each task's seeds on their own, as
    is usual where every task has a training of its own, would average its effect away, and intervals be too narrow.
    With a single seed the interval is about other tasks alone, and with three it still knows little of other seeds.

    Args:
        scores: one entry for each seed and task; further axes, if any, are the statistic's own.
        statistic: what is computed of the entries.
        resamples: how many resamples are drawn.
        rng: seed of the draws; equal seeds and shapes give equal draws.

    Raises:
        ArgumentError: there are no entries, or some are not finite.
    """
    if scores.size == 0 or not np.isfinite(scores).all():
        raise ArgumentError(f"A bootstrap needs finite scores; these are {scores.shape} with NaN or none.")
    seeds, tasks = scores.shape[:2]
    by_seed, by_task = draw(seeds, tasks, resamples, rng)
    counts = (by_seed[:, :, None] * by_task[:, None, :]).reshape(resamples, seeds * tasks)
    entries = scores.reshape(seeds * tasks, *scores.shape[2:])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(entries, counts), [tail, 1 - tail])
    return Interval(float(statistic(entries, once(entries))[0]), float(low), float(high))


@lru_cache(maxsize=32)
def draw(
    seeds: int, tasks: int, resamples: int, rng: int
) -> tuple[Float[Array, "resample seed"], Float[Array, "resample task"]]:
    """Return how often each seed and each task is drawn in each resample; the arrays are shared, and read-only."""
    generator = np.random.default_rng(rng)
    rows, columns = np.empty((resamples, seeds), dtype=np.int64), np.empty((resamples, tasks), dtype=np.int64)
    for i in range(resamples):  # one resample after another, so that the draws do not depend on how many there are
        rows[i] = generator.integers(seeds, size=seeds)
        columns[i] = generator.integers(tasks, size=tasks)
    return _counts(rows), _counts(columns)


def _counts(drawn: Int[Array, "resample entry"]) -> Float[Array, "resample entry"]:
    """Count how often each of n entries is among the n that were drawn."""
    resamples, n = drawn.shape
    places = drawn + n * np.arange(resamples)[:, None]
    counts = np.bincount(places.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
    counts.flags.writeable = False
    return counts
