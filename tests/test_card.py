"""Cards: what they say is what is in the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offlinemeta import datasets
from offlinemeta.datasets import card
from offlinemeta.datasets import identifiability as module
from offlinemeta.datasets.identifiability import Identifiability, SetRegressor, identifiability, transitions


@pytest.fixture(autouse=True)
def quick(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS", 250)
    monkeypatch.setattr(module, "SPLITS", 1)


def test_gradients_are_those_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    network = SetRegressor(3, 2, rng)
    parameters = [*network._w, *network._b]
    for p in parameters:
        p += 0.1 * rng.standard_normal(p.shape).astype(np.float32)
    x, y = rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 2))
    double = SetRegressor(3, 2, rng)
    double._w, double._b = ([p.astype(np.float64) for p in ps] for ps in (network._w, network._b))

    def loss() -> float:
        return float(((double._forward(x)[-1] - y) ** 2).mean())

    for p, gradient in zip([*double._w, *double._b], double.gradients(x, y), strict=True):
        for index in [(0,) * p.ndim, tuple(n - 1 for n in p.shape)]:
            before = p[index]
            p[index] = before + 1e-5
            above = loss()
            p[index] = before - 1e-5
            below = loss()
            p[index] = before
            assert gradient[index] == pytest.approx((above - below) / 2e-5, rel=1e-3, abs=1e-6)


def test_order_within_a_set_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    network, x = SetRegressor(3, 2, rng), rng.standard_normal((4, 5, 3)).astype(np.float32)
    assert network.predict(x) == pytest.approx(network.predict(x[:, ::-1].copy()), abs=1e-6)


def test_random_data_need_rewards_and_expert_data_do_not(here: Path) -> None:
    chance = identifiability(datasets.load("PointRobot/random"))
    assert chance.task_with_rewards > 0.5
    assert chance.task_without_rewards < 0.1
    assert "can teach" in chance.verdict
    expert = identifiability(datasets.load("PointRobot/expert"))
    assert expert.task_without_rewards > 0.9
    assert "cannot teach" in expert.verdict
    assert "cannot tell" in Identifiability(0.1, 0.1, 0.0, 0.02).verdict
    assert "weakly" in Identifiability(0.99, 0.99, 0.86, 0.78).verdict
    assert "cannot tell" in Identifiability(-0.3, -0.6, -0.3, -0.6).verdict


def test_transitions_are_whole(here: Path) -> None:
    dataset = datasets.load("HopperParam/smac-heldout")
    rows, by_task, by_episode = transitions(dataset)
    assert len(rows) == len(dataset.rewards)
    assert sum(len(group) for groups in by_episode for group in groups) == len(rows)
    assert [len(groups[0]) for groups in by_task] == [1200] * len(dataset.tasks)
    episode = by_episode[3][1]
    e = np.flatnonzero(dataset.task == 3)[1]
    assert episode.tolist() == list(range(dataset.starts[e], dataset.starts[e + 1]))
    o = dataset.family.observation_space.shape[0]
    raw = np.diff(dataset[e].observations, axis=0)
    standard = rows[episode, o + 3 : 2 * o + 3]
    inside = np.abs(standard) < 5
    for column in range(o):  # standardised: an increasing line of the raw values
        chosen = inside[:, column]
        assert np.corrcoef(raw[chosen, column], standard[chosen, column])[0, 1] == pytest.approx(1, abs=1e-4)


def test_a_card(here: Path) -> None:
    dataset = datasets.load("PointRobot/smac")
    page, picture = card.write_card(dataset, here / "cards")
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert "{{" not in text
    assert "{%" not in text
    for fact in (
        "# OfflineMeta/PointRobot/smac-v0",
        "80 train",
        "480, 9,600",
        dataset.hash,
        "CC-BY-4.0",
        "MinariExperienceReplay",
        "minari.load_dataset",
        "datasets.load",
        picture.name,
    ):
        assert fact in text
    rows = card.behaviour_rows(dataset, datasets.read_references("PointRobot"))
    assert [row.episodes for row in rows] == [80] * 6
    assert rows[0].mean == pytest.approx(dataset.returns()[dataset.behaviour == dataset.behaviour.min()].mean())
    second = slice(dataset.starts[80], dataset.starts[160])  # the first rollouts are told another task, and listed last
    by_hand = (np.abs(dataset.actions[second]) > 0.99).mean()
    assert rows[0].saturated == pytest.approx(by_hand)
    assert 0 < card.coverage(dataset).per_task < card.coverage(dataset).occupied <= 1


def test_two_tasks_are_too_few_to_tell(here: Path) -> None:
    dataset = datasets.load("CheetahDir/smac-heldout")
    assert "Not measured" in identifiability(dataset).verdict
    text = card.write_card(dataset, here / "cards")[0].read_text()
    assert "Not measured" in text
    assert "nan" not in text


@pytest.mark.parametrize("name", ["PointRobot/random-heldout", "ML1-reach/smac-heldout"])
def test_cards_of_other_kinds(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out tasks; uniform actions; no labels for other tasks."""
    from offlinemeta.envs.families.ml1 import ML1

    monkeypatch.setattr(ML1, "horizon", 4)
    dataset = datasets.load(name)
    text = card.write_card(dataset, here / "cards")[0].read_text()
    assert "never for training" in text
    assert ("Actions are uniform" in text) == ("random" in name)
    assert ("cannot be computed for another task" in text) == ("ML1" in name)
