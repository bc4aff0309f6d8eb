"""Metrics, by golden numbers worked out by hand, and by properties."""

from __future__ import annotations

import time
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
    return float(metrics.iqm(scores, metrics.once(scores))[0])


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


def test_normalised_kl_shift_is_0_without_a_shift_and_1_at_another_task() -> None:
    assert metrics.normalised_kl_shift(2.0, 2.0, 12.0) == 0.0
    assert metrics.normalised_kl_shift(12.0, 2.0, 12.0) == 1.0
    assert metrics.normalised_kl_shift(4.5, 2.0, 12.0) == 0.25


def test_bootstrap_of_equal_scores_has_no_width() -> None:
    assert metrics.bootstrap(np.full((4, 3), 30.0), metrics.mean) == metrics.Interval(30.0, 30.0, 30.0)


def test_bootstrap_draws_whole_seeds() -> None:
    """Two seeds that differ by 2 on every task: means are 0, 1 or 2, however many tasks there are."""
    interval = metrics.bootstrap(np.array([[0.0] * 50, [2.0] * 50]), metrics.mean)
    assert interval == metrics.Interval(1.0, 0.0, 2.0)


def test_bootstrap_of_one_seed_resamples_tasks() -> None:
    interval = metrics.bootstrap(np.arange(100.0)[None], metrics.mean)
    assert interval.value == 49.5
    half = 1.96 * np.arange(100.0).std() / 10
    assert interval.low == pytest.approx(49.5 - half, abs=0.6)
    assert interval.high == pytest.approx(49.5 + half, abs=0.6)


def test_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    """Also where a seed does well or badly on all tasks together."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        scores = rng.normal(size=(12, 8)) + 2 * rng.normal(size=(12, 1))
        low, high = metrics.bootstrap(scores, metrics.mean, resamples=300)[1:]
        hits += low <= 0.0 <= high
    assert 0.86 <= hits / 200 <= 1.0  # percentile intervals of twelve seeds are a little narrow


def test_bootstrap_is_the_same_each_time_and_ignores_the_order_of_seeds() -> None:
    scores = np.random.default_rng(1).normal(size=(3, 20))
    assert metrics.bootstrap(scores) == metrics.bootstrap(scores)
    assert metrics.bootstrap(scores).value == pytest.approx(metrics.bootstrap(scores[::-1]).value)


@pytest.mark.parametrize("scores", [np.zeros((0, 3)), np.array([[np.nan, 1.0]])])
def test_bootstrap_of_nothing_or_nan_is_refused(scores: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="finite"):
        metrics.bootstrap(scores)


def by_a_plain_loop(scores: np.ndarray, statistic: Callable[[np.ndarray], float], resamples: int = 2000) -> np.ndarray:
    """The bootstrap as it is defined: draw whole seeds, and tasks, and compute the statistic of what was drawn."""
    generator, (seeds, tasks) = np.random.default_rng(0), scores.shape[:2]
    drawn = []
    for _ in range(resamples):
        rows = generator.integers(seeds, size=(seeds, 1))
        drawn.append(statistic(scores[rows, generator.integers(tasks, size=(1, tasks))]))
    return np.array([statistic(scores), *np.quantile(drawn, [0.025, 0.975])])


def middle_half(scores: np.ndarray) -> float:
    """Four copies of each entry, of which the first and the last quarter are left out."""
    return float(np.repeat(np.sort(scores, axis=None), 4)[scores.size : 3 * scores.size].mean())


def nearer(scores: np.ndarray) -> float:
    own, best, start = scores.reshape(-1, 3).mean(0)
    return float(abs(own - start) - abs(own - best))


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (3, 20), (5, 30), (3, 2)])
def test_bootstrap_equals_a_plain_loop(shape: tuple[int, int]) -> None:
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
        found = metrics.bootstrap(values, quick)
        np.testing.assert_allclose(found, by_a_plain_loop(values, plain), rtol=0, atol=2e-13)


def test_a_curve_takes_a_tenth_of_a_second() -> None:
    curve = np.random.default_rng(0).normal(size=(3, 30, 10))
    started = time.process_time()
    for episode in range(10):
        metrics.bootstrap(curve[..., episode], metrics.mean)
    assert time.process_time() - started < 0.5  # 1.03 s where this was measured when each resample was a loop's turn
