"""Metrics, by golden numbers worked out by hand, and by properties."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offlinemeta.benchmark import metrics
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.leaderboard import claims


def iqm(values: list[float]) -> float:
    scores = np.array(values)
    return float(metrics.iqm(scores, np.ones((1, len(scores))))[0])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1.0, 2.0, 3.0, 100.0], 2.5),  # the middle two
        ([1.0, 2.0, 3.0, 4.0, 5.0], (0.75 * 2 + 3 + 0.75 * 4) / 2.5),  # 1.25 is cut at each end
        ([7.0], 7.0),
        ([0.0, 0.0, 10.0, 10.0, 10.0, 10.0, 0.0, 0.0], 5.0),
    ],
)
def test_interquartile_mean(scores: list[float], expected: float) -> None:
    assert iqm(scores) == pytest.approx(expected)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.randoms())
def test_order_does_not_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert iqm(values) == pytest.approx(iqm(shuffled))


def test_auc_is_the_mean_of_the_curve() -> None:
    assert metrics.auc(np.array([[0.0, 50.0, 100.0], [1.0, 1.0, 4.0]])).tolist() == [50.0, 2.0]


def test_shift_is_positive_where_logged_context_is_the_better() -> None:
    assert metrics.shift(np.array([-100.0]), np.array([-180.0])).tolist() == [80.0]


def test_normalised_kl_shift_is_nan_where_tasks_are_alike() -> None:
    assert np.isnan(metrics.normalised_kl_shift(1.0, 1.0, 1.0))
    assert np.isnan(metrics.normalised_kl_shift(5.0, 1.0, 1.9)), "less than a nat apart"


def test_normalised_kl_shift_is_0_without_a_shift_and_1_at_another_task() -> None:
    assert metrics.normalised_kl_shift(2.0, 2.0, 12.0) == 0.0
    assert metrics.normalised_kl_shift(12.0, 2.0, 12.0) == 1.0
    assert metrics.normalised_kl_shift(4.5, 2.0, 12.0) == 0.25


def test_worst_quarter() -> None:
    """Of five entries, the lowest and a quarter of the next; of four, the lowest."""
    for values, expected in (([5.0, 4.0, 3.0, 2.0, 1.0], (1 + 0.25 * 2) / 1.25), ([4.0, 1.0, 9.0, 8.0], 1.0)):
        scores = np.array(values)
        assert metrics.worst_quarter(scores, np.ones((1, len(scores))))[0] == pytest.approx(expected)
    twice = metrics.worst_quarter(np.array([1.0, 2.0, 7.0]), np.array([[1.0, 1.0, 2.0], [0.0, 2.0, 2.0]]))
    assert twice.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (9, 2.26216), (99, 1.98422), (1000, 1.96234)]
)
def test_student(freedom: float, expected: float) -> None:
    """Quantiles of printed tables, and P(T < 1) with one degree of freedom, which is ½ + arctan(1) / π."""
    assert metrics.student_quantile(0.975, freedom) == pytest.approx(expected, rel=2e-5)
    assert metrics.student_probability(expected, freedom) == pytest.approx(0.975, abs=1e-5)
    assert metrics.student_probability(-expected, freedom) == pytest.approx(0.025, abs=1e-5)
    assert metrics.student_probability(1.0, 1) == pytest.approx(0.75)


def test_an_interval_of_equal_scores_has_no_width() -> None:
    assert metrics.interval(np.full((4, 3), 30.0)) == metrics.Interval(30.0, 30.0, 30.0)
    assert metrics.interval(np.array([[7.0]])) == metrics.Interval(7.0, 7.0, 7.0)


def test_seeds_count_as_a_whole() -> None:
    """Two seeds of means 0 and 2: an error of 1 with one degree of freedom, however many tasks there are."""
    value, low, high = metrics.interval(np.array([[0.0] * 50, [2.0] * 50]))
    assert value == 1.0
    assert high - 1.0 == pytest.approx(12.7062, rel=1e-4)
    assert 1.0 - low == pytest.approx(12.7062, rel=1e-4)


def test_one_seed_tells_of_tasks_alone() -> None:
    """As in any textbook: t of 99 degrees of freedom times the standard error."""
    scores = np.arange(100.0)
    value, low, high = metrics.interval(scores[None])
    half = 1.98422 * scores.std(ddof=1) / 10
    assert (value, low, high) == pytest.approx((49.5, 49.5 - half, 49.5 + half), rel=1e-4)


def test_seeds_and_tasks_by_hand() -> None:
    """Seed means 1, 3; task means 1, 2, 3. Variances 2/2 = 1 and 1/3; freedom (4/3)² / (1/1 + (1/9)/2) = 1.684."""
    found = metrics.estimate(np.array([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]))
    assert found.value == pytest.approx(2.0)
    assert found.error == pytest.approx(math.sqrt(4 / 3))
    assert found.freedom == pytest.approx((16 / 9) / (1 + 1 / 18))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(
    "effects", [(1.0, 1.0, 1.0), (0.0, 1.0, 0.5), (1.0, 0.0, 0.5), (0.3, 1.0, 0.5), (0.0, 0.0, 1.0)]
)
def test_intervals_cover_the_truth_as_often_as_they_say(seeds: int, effects: tuple[float, float, float]) -> None:
    """At least 93 times in a hundred, at nominal 95, whether seeds differ, or tasks, or only their combinations."""
    rng, tasks, count = np.random.default_rng(0), 20, 1500
    by_seed, by_task, by_both = effects
    hits = 0
    for _ in range(count):
        scores = by_seed * rng.normal(size=(seeds, 1)) + by_task * rng.normal(size=(1, tasks))
        _, low, high = metrics.interval(scores + by_both * rng.normal(size=(seeds, tasks)))
        hits += low <= 0.0 <= high
    assert 0.93 <= hits / count <= (0.985 if by_seed or by_task else 1)


def test_pooled_families_by_hand() -> None:
    """Families of means 2 (as above) and 10, whose only seed has tasks 8 and 12: a variance of 8 / 2; of both, ¼."""
    one, other = np.array([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]), np.array([[8.0, 12.0]])
    found = metrics.pooled([one, other])
    assert found.value == pytest.approx(6.0)
    assert found.error == pytest.approx(math.sqrt((1 + 1 / 3 + 4) / 4))
    assert found.freedom == pytest.approx((16 / 3) ** 2 / (1 + (1 / 9) / 2 + 16))
    assert metrics.pooled([one]) == metrics.estimate(one)


def test_each_family_weighs_the_same_in_what_is_pooled() -> None:
    """Half of all weight is at 0, on one task, the other half at 9, on eight: the middle half is half of each."""
    groups = [np.zeros((1, 1)), np.full((2, 4), 9.0)]
    for statistic, expected in ((metrics.mean, 4.5), (metrics.iqm, 4.5), (metrics.worst_quarter, 0.0)):
        assert metrics.pooled(groups, statistic).value == pytest.approx(expected)


def test_probability_of_improvement_by_hand() -> None:
    """On the first task 1 and 3 meet 2: one game of two; on the second 5 and 5 meet 5: ties. Then a lost family.

    Our seeds' means are (0 + ½) / 2 and (1 + ½) / 2, tasks' ½ and ½, and the other method has one seed: a variance of
    (½)² / 2 / 2, of which a fourth counts.
    """
    ours, theirs = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[2.0, 5.0]])
    assert metrics.improvement([ours], [theirs]).value == 0.5
    found = metrics.improvement([ours, np.array([[0.0]])], [theirs, np.array([[1.0]])])
    assert found.value == 0.25
    assert found.error == pytest.approx(math.sqrt(1 / 16 / 4 * 1))
    assert found.freedom == pytest.approx(1.0)
    assert metrics.improvement([theirs], [ours]).value == 0.5
    assert metrics.improvement([theirs + 9], [ours]) == metrics.Estimate(1.0, 0.0, metrics.MOST_FREEDOM)


@given(st.integers(0, 10_000))
def test_order_of_seeds_and_tasks_does_not_matter(number: int) -> None:
    rng = np.random.default_rng(number)
    ours, theirs = rng.normal(size=(3, 6)), rng.normal(size=(2, 6))
    seeds, others, tasks = rng.permutation(3), rng.permutation(2), rng.permutation(6)
    one, two = (metrics.improvement([a], [b]) for a, b in (
        (ours, theirs), (ours[seeds][:, tasks], theirs[others][:, tasks])
    ))  # fmt: skip
    assert tuple(one) == pytest.approx(tuple(two))
    for statistic in (metrics.mean, metrics.iqm, metrics.worst_quarter):
        one, two = (metrics.pooled(groups, statistic) for groups in (
            [ours, theirs], [theirs[others], ours[seeds][:, tasks]]
        ))  # fmt: skip
        assert tuple(one) == pytest.approx(tuple(two))


@pytest.mark.parametrize("groups", [[], [np.zeros((0, 3))], [np.ones((2, 2)), np.array([[math.nan]])]])
def test_nothing_is_pooled_of_nothing(groups: list[np.ndarray]) -> None:
    with pytest.raises(ArgumentError, match="An interval needs"):
        metrics.pooled(groups)


def test_methods_are_compared_on_the_same_families() -> None:
    for ours, theirs in (([], []), ([np.ones((1, 2))], []), ([np.ones((1, 2))], [np.ones((1, 3))])):
        with pytest.raises(ArgumentError, match="the same families and tasks"):
            metrics.improvement(ours, theirs)


def test_p_values_are_those_of_the_interval() -> None:
    """An interval that just touches 0 has a one-sided p-value of 2.5 %."""
    found = metrics.estimate(np.random.default_rng(1).normal(size=(3, 20)))
    half = found.interval.high - found.value
    assert metrics.Estimate(half, *found[1:]).p_value == pytest.approx(0.025, abs=1e-5)
    assert metrics.Estimate(0.0, *found[1:]).p_value == pytest.approx(0.5)
    assert (metrics.Estimate(1.0, 0.0, 1.0).p_value, metrics.Estimate(0.0, 0.0, 1.0).p_value) == (0.0, 1.0)


def test_holm() -> None:
    """0.01 · 3, then 0.02 · 2, then 0.04 · 1, none less than the one before; in the order given."""
    assert metrics.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert metrics.holm([0.4, 0.5]) == pytest.approx([0.8, 0.8])
    assert metrics.holm([]) == []


def test_an_interval_ignores_the_order_of_seeds() -> None:
    scores = np.random.default_rng(1).normal(size=(3, 20))
    assert metrics.interval(scores) == pytest.approx(metrics.interval(scores[::-1]))


@pytest.mark.parametrize("scores", [np.zeros((0, 3)), np.array([[np.nan, 1.0]])])
def test_an_interval_of_nothing_or_nan_is_refused(scores: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="finite"):
        metrics.interval(scores)


def by_a_plain_loop(scores: np.ndarray, statistic: Callable[[np.ndarray], float]) -> float:
    """The squared error as it is defined: leave out a seed or a task at a time."""
    total = 0.0
    for axis, n in enumerate(scores.shape[:2]):
        if n > 1:
            left = [statistic(np.delete(scores, i, axis)) for i in range(n)]
            total += (n - 1) * np.var(left)
    return total


def middle_half(scores: np.ndarray) -> float:
    """Four copies of each entry, of which the first and the last quarter are left out."""
    return float(np.repeat(np.sort(scores, axis=None), 4)[scores.size : 3 * scores.size].mean())


def nearer(scores: np.ndarray) -> float:
    own, best, start = scores.reshape(-1, 3).mean(0)
    return float(abs(own - start) - abs(own - best))


@pytest.mark.parametrize("shape", [(1, 20), (3, 20), (5, 30), (3, 2), (4, 1)])
def test_errors_equal_a_plain_loop(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape)
    scores = 100 * rng.normal(size=shape) + 50 * rng.integers(2, size=(shape[0], 1))
    rounded = scores.round(-2)  # many equal entries
    triples = 100 * rng.normal(size=(*shape, 3))
    for values, quick, plain in (
        (scores, metrics.mean, np.mean),
        (scores, metrics.iqm, middle_half),
        (rounded, metrics.iqm, middle_half),
        (triples, claims.closeness, nearer),
    ):
        found = metrics.estimate(values, quick)
        assert found.value == pytest.approx(plain(values))
        assert found.error**2 == pytest.approx(by_a_plain_loop(values, plain), abs=1e-9)
