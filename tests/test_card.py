"""Cards: what they say is what is in the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offlinemeta import datasets
from offlinemeta.datasets import card
from offlinemeta.datasets import identifiability as module
from offlinemeta.datasets.aims import aim_identifiability, guess
from offlinemeta.datasets.collect import collect
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.identifiability import (
    Identifiability,
    _score,
    identifiability,
    kernel_ridge,
    random_features,
    transitions,
)
from offlinemeta.datasets.spec import get_spec
from offlinemeta.envs.families.sawyer_layout import alternatives
from offlinemeta.files import FileError


@pytest.fixture(autouse=True)
def quick(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPLITS", 2)


def test_kernel_ridge_on_three_points_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """x = -1, 0, 1 are 1.5 and 6 apart in squared deviations, whose median (of all nine) is 1.5."""
    monkeypatch.setattr(module, "WIDTH", 1.0)
    monkeypatch.setattr(module, "RIDGE", 0.5)
    near, far = np.exp(-1), np.exp(-4)
    kernel = np.array([[1.5, near, far], [near, 1.5, near], [far, near, 1.5]])
    weights = np.linalg.solve(kernel, [[-1.0], [-1.0], [2.0]])
    expected = 2.0 + np.array([1.0, near, far]) @ weights
    x = np.array([[-1.0], [0.0], [1.0]])
    assert kernel_ridge(x, np.array([[1.0], [1.0], [4.0]]), x[:1])[0] == pytest.approx(expected, abs=1e-4)


def test_order_within_a_set_does_not_matter_and_rewards_multiply_the_rest() -> None:
    rng = np.random.default_rng(0)
    describe, x = random_features(5, rng), rng.standard_normal((64, 3)).astype(np.float32)
    assert describe(x) == pytest.approx(describe(x[::-1].copy()), abs=1e-6)
    other = x.copy()  # the same states and the same rewards, paired otherwise
    other[:, 2] = x[::-1, 2]
    assert np.abs(describe(x) - describe(other)).max() > 0.01


def test_rewards_that_are_a_product_tell_the_task() -> None:
    """Rewards v·s: states and rewards by themselves look alike in all tasks, and only E[r·s] tells v."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((100, 20))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    states = rng.standard_normal((100, 200, 20))
    rewards = np.einsum("tsd,td->ts", states, directions)[..., None]
    rows = np.concatenate([states, rewards], axis=2).reshape(-1, 21).astype(np.float32)
    groups = [[np.arange(200 * task, 200 * (task + 1))] for task in range(100)]
    assert _score(rows, groups, directions, np.random.default_rng(1)) > 0.4  # 0.3 without the products
    rows[:, -1] = 0.0
    assert _score(rows, groups, directions, np.random.default_rng(1)) < 0.1


def few(name: str, rollouts: int = 5) -> Dataset:
    """A dataset of few rollouts on each task, in memory."""
    spec = replace(get_spec(name), rollouts=rollouts)
    return collect(spec)


def test_random_data_need_rewards_and_expert_data_do_not() -> None:
    chance = identifiability(few("PointRobot/random"))
    assert chance.task_with_rewards > 0.5
    assert chance.task_without_rewards < 0.1
    assert "can teach" in chance.verdict
    expert = identifiability(few("PointRobot/expert"))
    assert expert.task_without_rewards > 0.9
    assert "cannot teach" in expert.verdict
    assert "cannot tell" in Identifiability(0.1, 0.1, 0.0, 0.02).verdict
    assert "weakly" in Identifiability(0.99, 0.99, 0.86, 0.78).verdict
    assert "cannot tell" in Identifiability(-0.3, -0.6, -0.3, -0.6).verdict
    assert "weakly" in Identifiability(0.25, 0.05, -0.1, -0.1).verdict, "more than the states tell, but not much"


def test_transitions_are_whole() -> None:
    spec = get_spec("HopperParam/smac-heldout")
    dataset = collect(spec)
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
    assert {path.name for path in picture.parent.iterdir()} == {page.name, picture.name}
    text = page.read_text()
    assert "{{" not in text
    assert "{%" not in text
    for fact in (
        "# OfflineMeta/PointRobot/smac-v1",
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
    assert [row.episodes for row in rows] == [240, 240]
    assert "explore and 3 use what those found" in text
    assert "240 of 480 episodes do not follow their own task" in text
    assert rows[0].mean == pytest.approx(dataset.returns()[dataset.behaviour == dataset.behaviour.min()].mean())
    exploring = slice(dataset.starts[0], dataset.starts[240])
    by_hand = (np.abs(dataset.actions[exploring]) > 0.99).mean()
    assert rows[0].saturated == pytest.approx(by_hand)
    assert 0 < card.coverage(dataset).per_task < card.coverage(dataset).occupied <= 1


def test_a_card_that_cannot_be_written_says_so_before_the_work(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = datasets.load("CheetahDir/smac-heldout")
    (tmp_path / "file").touch()
    monkeypatch.setattr(card, "identifiability", None)
    with pytest.raises(FileError, match=r"Nothing can be written in .*file/cards: Not a directory"):
        card.write_card(dataset, tmp_path / "file" / "cards")


def test_two_tasks_are_too_few_to_tell(here: Path) -> None:
    dataset = datasets.load("CheetahDir/smac-heldout")
    assert "Not measured" in identifiability(dataset).verdict
    text = card.write_card(dataset, here / "cards")[0].read_text()
    assert "Not measured" in text
    assert "nan" not in text


@pytest.mark.parametrize(
    "name", ["PointRobot/random-heldout", "ML1-reach/spread-heldout", "CheetahDir/smac-heldout", "HopperParam/random"]
)
def test_cards_of_other_kinds(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out tasks; uniform actions; no labels for other tasks."""
    from offlinemeta.envs.families.ml1 import ML1

    monkeypatch.setattr(ML1, "horizon", 4)
    dataset = few(name, rollouts=1)
    text = card.write_card(dataset, here / "cards")[0].read_text()
    assert ("never for training" in text) == ("heldout" in name)
    assert ("Actions are uniform" in text) == ("random" in name)
    assert ("told another task |" in text) == ("spread" in name)
    assert ("posterior sampling" in text) == ("smac" in name)
    assert ("cannot be computed for another task" in text) == ("ML1" in name)
    assert ("The family is low-worth" in text) == ("0 for random actions" in text) == ("HopperParam" in name)


def test_in_the_manipulation_scenes_the_aim_is_told_by_rewards_alone(here: Path) -> None:
    """Random behaviour does not look at the aim, so its states do not tell it; rewards fit one aim alone."""
    dataset = few("SawyerSceneDense/smac", rollouts=2)
    known = aim_identifiability(dataset)
    aims = [alternatives(task.params) for task in dataset.tasks]
    assert known.chance == pytest.approx(np.mean([1 / len(each) for each in aims]), abs=5e-4)
    assert known.task_with_rewards == known.episode_with_rewards == 1
    assert known.task_without_rewards < 0.5
    assert "can teach" in known.verdict
    blurred = replace(dataset, rewards=np.full_like(dataset.rewards, -0.5))
    assert aim_identifiability(blurred).task_with_rewards == pytest.approx(known.chance, abs=0.15)
    page, picture = card.write_card(dataset, here / "cards")
    text = page.read_text()
    assert f"from 64 transitions;\n{known.chance:.2f} of blind guesses are right" in text
    assert "kernel regression" not in text
    assert "| all episodes of a task | 1.00 |" in text
    assert picture.exists()


def test_guesses_by_hand() -> None:
    """The right one of three: alone the best, one of two best, not the best."""
    right = np.array([False, True, False])
    assert guess(np.array([-1.0, 0.0, -2.0]), right) == 1
    assert guess(np.array([0.0, 0.0, -2.0]), right) == 0.5
    assert guess(np.array([0.0, -1.0, -1.0]), right) == 0
