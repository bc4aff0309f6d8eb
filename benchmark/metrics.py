"""Metrics are pure functions of arrays; their golden numbers are in ``tests/test_metrics.py``.

Scores (:meth:`offlinemeta.datasets.references.References.scale`) are summarised by their mean over tasks and seeds, so
that 0 and 100 are exactly what the policies that make the scale get; their :func:`iqm` (after Agarwal et al., NeurIPS
2021) heeds the middle half of the entries alone, their :func:`worst_quarter` the lowest. Intervals are of a jackknife
that leaves out whole seeds, and tasks, with Student's t where they are few (:func:`estimate`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.shapes import Array, Float

CONFIDENCE = 0.95

LEAST_DISTANCE = 1.0
"""Nats by which contexts of another task must lie farther away in z than those of the same task, for a shift in z."""

MOST_FREEDOM = 1000.0
"""Degrees of freedom beyond which Student's t is taken for that of so many: its quantiles hardly change any more."""

Statistic = Callable[[Array, Array], Array]
"""A figure of ``scores [entry, ...]`` for many resamples at once, such as :func:`mean`.

Its second argument, ``counts [resample, entry]``, says how often each entry is in each resample.
"""


class Interval(NamedTuple):
    """A figure and its 95 % confidence interval."""

    value: float
    low: float
    high: float


class Estimate(NamedTuple):
    """A figure with its standard error.

    Attributes:
        value: the figure.
        error: its standard error.
        freedom: degrees of freedom of the error.
    """

    value: float
    error: float
    freedom: float

    @property
    def interval(self) -> Interval:
        """The 95 % confidence interval."""
        half = self.error * student_quantile((1 + CONFIDENCE) / 2, self.freedom)
        return Interval(self.value, self.value - half, self.value + half)

    @property
    def p_value(self) -> float:
        """The one-sided p-value: how likely so large a figure would be if in truth it were 0."""
        if self.error == 0:
            return float(self.value <= 0)
        return 1 - student_probability(self.value / self.error, self.freedom)


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
    where the latter is less than :data:`LEAST_DISTANCE`, so that tasks cannot be told apart in z.
    """
    distance = between_logged - within_logged
    return (within - within_logged) / distance if distance >= LEAST_DISTANCE else math.nan


def mean(scores: Float[Array, " entry"], counts: Float[Array, "resample entry"]) -> Float[Array, " resample"]:
    """Return the mean of all entries, for each resample.

    Args:
        scores: the entries.
        counts: how often each entry is in each resample.
    """
    return counts @ scores / counts.sum(1)


def iqm(scores: Float[Array, " entry"], counts: Float[Array, "resample entry"]) -> Float[Array, " resample"]:
    """Return the interquartile mean, that of the middle half of all entries, for each resample (:func:`between`)."""
    return between(0.25, 0.75, scores, counts)


def worst_quarter(scores: Float[Array, " entry"], counts: Float[Array, "resample entry"]) -> Float[Array, " resample"]:
    """Return the mean of the lowest quarter of all entries, for each resample (:func:`between`)."""
    return between(0, 0.25, scores, counts)


def between(
    low: float, high: float, scores: Float[Array, " entry"], counts: Float[Array, "resample entry"]
) -> Float[Array, " resample"]:
    """Return the mean of the entries between two quantiles; what lies on a border counts by its share.

    Args:
        low: the lower quantile.
        high: the higher quantile.
        scores: the entries.
        counts: how often each entry is in each resample.
    """
    order = np.argsort(scores)
    counts = counts[:, order]
    last = counts.cumsum(1)  # an entry's copies take the places from last - counts to last
    total = last[:, -1:]
    weights = np.clip(np.minimum(last, high * total) - np.maximum(last - counts, low * total), 0, None)
    return weights @ scores[order] / weights.sum(1)


def interval(scores: Float[Array, "seed task ..."], statistic: Statistic = mean) -> Interval:
    """Return a statistic with its 95 % confidence interval; :func:`estimate` says how."""
    return estimate(scores, statistic).interval


def estimate(scores: Float[Array, "seed task ..."], statistic: Statistic = mean) -> Estimate:
    """Return a statistic with its standard error over seeds and tasks.

    A seed is one training, shared by all tasks, so it counts as a whole: taking each task's seeds on their own, as is
    usual where every task has a training of its own, would average its effect away, and intervals be too narrow. The
    variance is the sum of two jackknife variances (Efron and Tibshirani, 1993, chapter 11), one that leaves out a seed
    at a time, and one that leaves out a task. Its degrees of freedom are Satterthwaite's, so that three seeds give the
    wide intervals that they deserve. What a seed does on a single task counts in both, which is on the safe side. With
    a single seed the error is about other tasks alone. From three seeds on, intervals of means cover the truth as often
    as they say, or more often where seeds and tasks differ in their combinations alone; those of a
    :func:`worst_quarter` do not, since that is biased in small samples.

    Args:
        scores: one entry for each seed and task; further axes, if any, are the statistic's own.
        statistic: what is computed of the entries.

    Raises:
        ArgumentError: there are no entries, or some are not finite.
    """
    return pooled([scores], statistic)


def pooled(groups: Sequence[Float[Array, "_ _ ..."]], statistic: Statistic = mean) -> Estimate:
    """Return a statistic of all entries of several groups, such as families, with its standard error.

    Each group weighs the same, however many seeds and tasks it has. Groups are independent, since each has trainings
    and tasks of its own: the variance is the sum of theirs, each as in :func:`estimate`.

    Args:
        groups: ``[seed, task, ...]``, one entry for each seed and task of each group.
        statistic: what is computed of all entries together.

    Raises:
        ArgumentError: there are no entries, or some are not finite.
    """
    for scores in groups:
        if scores.size == 0 or not np.isfinite(scores).all():
            raise ArgumentError(f"An interval needs finite scores; these are {scores.shape} with NaN or none.")
    if not groups:
        raise ArgumentError("An interval needs scores; there are none.")
    entries = np.concatenate([scores.reshape(-1, *scores.shape[2:]) for scores in groups])
    sizes = [scores.shape[0] * scores.shape[1] for scores in groups]
    whole = np.repeat([sizes[0] / size for size in sizes], sizes)  # [entries]
    left_out, numbers, start = [whole[None]], [], 0
    for scores, size in zip(groups, sizes, strict=True):
        seeds, tasks = scores.shape[:2]
        without_seed = np.repeat(1 - np.eye(seeds), tasks, axis=1)  # [seeds, entries of the group]
        without_task = np.tile(1 - np.eye(tasks), (1, seeds))  # [tasks, entries of the group]
        for without in (without_seed, without_task):
            n = len(without)
            if n > 1:
                counts = np.tile(whole * (n - 1) / n, (n, 1))  # the group weighs as much less, as it should
                counts[:, start : start + size] = whole[start : start + size] * without
                left_out.append(counts)
                numbers.append(n)
        start += size
    value, *found = statistic(entries, np.concatenate(left_out))
    parts = []
    for left in np.split(np.array(found), np.cumsum(numbers)[:-1]) if numbers else []:
        n = len(left)
        parts.append((float((n - 1) / n * ((left - left.mean()) ** 2).sum()), n - 1))
    return _combined(float(value), parts)


def improvement(ours: Sequence[Float[Array, "_ _"]], theirs: Sequence[Float[Array, "_ _"]]) -> Estimate:
    """Return the probability of improvement: how often a seed of ours beats one of theirs on a task that both played.

    Every seed of ours meets every seed of theirs on each task, and a tie counts half (Agarwal et al., NeurIPS 2021,
    section 4.3). Tasks are thus paired; seeds are not, since equal numbers mean nothing between two methods. Each
    family weighs the same. The variance is the sum of those over our seeds, their seeds, and tasks; where every game is
    won it is 0, although more seeds might lose one.

    Args:
        ours: scores ``[seed, task]``, an array for each family.
        theirs: the other method's, of the same families in the same order and on the same tasks.

    Raises:
        ArgumentError: there are no families, or not the same ones.
    """
    if not ours or [scores.shape[1] for scores in ours] != [scores.shape[1] for scores in theirs]:
        raise ArgumentError("A probability of improvement needs the same families and tasks of both methods.")
    values, parts = [], []
    for own, other in zip(ours, theirs, strict=True):
        games = np.sign(own[:, None] - other[None]) / 2 + 0.5  # [seed, other, task]
        values.append(float(games.mean()))
        for axis in range(3):
            means = games.mean(tuple(k for k in range(3) if k != axis))
            if len(means) > 1:
                parts.append((float(means.var(ddof=1)) / len(means) / len(ours) ** 2, len(means) - 1))
    return _combined(sum(values) / len(values), parts)


def _combined(value: float, parts: Sequence[tuple[float, int]]) -> Estimate:
    """Return an estimate whose variance is the sum of these, each with its degrees of freedom (Satterthwaite)."""
    total = sum(variance for variance, _ in parts)
    sizes = sum(variance**2 / freedom for variance, freedom in parts)
    return Estimate(value, math.sqrt(total), min(total**2 / sizes, MOST_FREEDOM) if sizes > 0 else MOST_FREEDOM)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm, 1979): any of them may then be judged on its own."""
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable").tolist()):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def student_probability(t: float, freedom: float) -> float:
    """Return P(T <= t) of Student's t distribution."""
    angles, inside = _student(freedom)
    half = 0.5 * float(np.interp(math.atan(abs(t) / math.sqrt(freedom)), angles, inside))
    return 0.5 + math.copysign(half, t)


def student_quantile(probability: float, freedom: float) -> float:
    """Return the t with P(T <= t) of at least ½."""
    angles, inside = _student(freedom)
    return math.sqrt(freedom) * math.tan(float(np.interp(2 * probability - 1, inside, angles)))


@lru_cache(maxsize=64)
def _student(freedom: float) -> tuple[Array, Array]:
    """Return P(-t < T < t) at t = √ν tan θ, which is the integral of cos(θ)^(ν - 1) up to θ, and the angles θ."""
    angles, logs = _angles()
    inside = np.concatenate([[0], np.exp((freedom - 1) * logs).cumsum()])
    return angles, inside / inside[-1]


@cache
def _angles() -> tuple[Array, Array]:
    """Return angles from 0 to a right one, and the logarithms of the cosines between each two."""
    angles = np.linspace(0, math.pi / 2, 20_001)
    return angles, np.log(np.cos((angles[1:] + angles[:-1]) / 2))
