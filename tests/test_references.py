"""Reference returns, what knowing a task is worth by them, and the scale of scores: by hand, and as they ship."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import references_of

from offlinemeta.datasets import measure
from offlinemeta.datasets import references as references_module
from offlinemeta.datasets.errors import DatasetError
from offlinemeta.datasets.explorers import has_stages, stages
from offlinemeta.datasets.policies import Behaviour
from offlinemeta.datasets.references import (
    LOW_WORTH,
    WITHIN,
    References,
    as_references,
    read_references,
    shipped,
    write_references,
)
from offlinemeta.envs import SPLITS, get_family

RETURNS = {"random": [0.0, -10.0], "blind": [10.0, 30.0], "told": [50.0, 50.0]}
"""By hand: means -5, 20 and 50, so that worth is 30 / 55."""


def some_references(**changed: list[float]) -> References:
    """Return references that are the same on all splits of the training distribution; the first task is ood's too."""
    returns = {
        kind: {**dict.fromkeys(WITHIN, values), "ood": values[:1]} for kind, values in (RETURNS | changed).items()
    }
    return references_of(returns, "told train 3", 20)


def test_the_worth_of_a_task_by_hand() -> None:
    """Gains 40 and 20, wholes 50 and 60: the residuals of the ratio 6/11 are ±140/11, and their mean whole is 55."""
    found = some_references().worth("test")
    assert found.value == pytest.approx(6 / 11)
    assert found.error == pytest.approx(np.sqrt(2 * (140 / 11) ** 2 / 1 / 2) / 55)
    assert np.isnan(some_references().worth("ood").error)  # a single task has no error over tasks
    assert some_references().worth("ood").value == pytest.approx(0.8)
    overall = some_references().overall  # four times as many residuals, of tasks that are told apart by nothing
    assert overall.value == pytest.approx(6 / 11)
    assert overall.error == pytest.approx(np.sqrt(8 * (140 / 11) ** 2 / 7 / 8) / 55)


def test_scores_are_0_at_blind_and_100_at_told_by_one_line_but_for_ood_tasks() -> None:
    references, (first, second) = some_references(), get_family("PointRobot").tasks["test"][:2]
    assert references.scale("test") == (20, 50)
    assert references.tags == ()
    returns = np.array([[20.0, 50.0, 35.0], [5.0, 80.0, 20.0]])
    assert references.score([first, second], returns).tolist() == [[0, 100, 50], [-50, 200, 0]]
    assert references.score([second], np.array([50.0])).tolist() == [100]
    ood = get_family("PointRobot").tasks["ood"][0]
    assert references.scale("ood") == (10, 50)
    lucky = replace(references, blind={**references.blind, "test": [50.0, 50.0]})  # and 20 on the three others
    assert {lucky.scale(split) for split in WITHIN} == {(27.5, 50)}
    assert references.score([first, ood], np.array([20.0, 20.0])).tolist() == [0, 25]


def test_scores_are_0_at_random_where_a_task_is_worth_little() -> None:
    """By hand: blind means 35 of 50, so that worth is 15 / 55, and the line goes from -5 to 50."""
    references = some_references(blind=[30.0, 40.0])
    assert references.overall.value == pytest.approx(3 / 11)
    assert references.tags == (LOW_WORTH,)
    assert references.floor == "random"
    assert references.scale("test") == (-5, 50)
    assert references.scale("ood") == (0, 50)
    task = get_family("PointRobot").tasks["test"][:1]
    assert references.score(task, np.array([6.0])) == pytest.approx([20])
    blind_on_ood = some_references(blind=[49.0, -100.0])
    assert blind_on_ood.tags == ()  # ood tasks have no say in it
    assert blind_on_ood.scale("ood") == (49, 50)


def test_the_references_that_ship() -> None:
    for name, entry in shipped().items():
        references, family = read_references(name), get_family(name)
        last = references.behaviours[-1]
        told, low = (np.mean(returns["train"]) for returns in (references.told, references.random))
        assert last >= max(references.behaviours) - 0.02 * np.ptp(references.behaviours)
        assert last == pytest.approx(told, abs=0.15 * (told - low))
        assert len(references.explorers) == (len(stages(family)) if has_stages(name) else 0)
        for split in (split for split in SPLITS if family.tasks[split]):
            low, high = references.scale(split)
            assert low < high
            assert entry["worth"][split] == pytest.approx(references.worth(split), abs=1e-4, nan_ok=True)
            for returns in (references.random, references.blind, references.told):
                assert len(returns[split]) == len(family.tasks[split])
    assert read_references("PointRobot").normalised[0] < 0  # random actions are worse than a blind policy
    assert read_references("SparsePointRobot").worth("test").value > 0.7  # one goal on the half circle pays once


def test_references_that_cannot_score_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "references.json"
    content = shipped()
    monkeypatch.setattr(references_module, "REFERENCES", file)
    write_references("SparsePointRobot", content["SparsePointRobot"])
    assert list(json.loads(file.read_text())) == ["format", "SparsePointRobot"]
    worse = {split: [value - 1 for value in returns] for split, returns in content["PointRobot"]["random"].items()}
    failed = content["PointRobot"] | {"told": worse}
    with pytest.raises(DatasetError, match=r"References of PointRobot are not written: .* no more than random .* test"):
        write_references("PointRobot", failed)
    blind = {**content["PointRobot"]["blind"], "ood": [0.0] * 10}
    with pytest.raises(DatasetError, match=r"no more than a policy that scores 0 on ood \(.* and 0\.0\)"):
        write_references("PointRobot", content["PointRobot"] | {"blind": blind})
    write_references("PointRobot", content["PointRobot"])
    assert shipped() == {name: content[name] for name in ("PointRobot", "SparsePointRobot")}
    read_references.cache_clear()
    assert read_references("PointRobot") == as_references(content["PointRobot"])
    file.write_text(file.read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(DatasetError, match="is not of format 1"):
        shipped()
    read_references.cache_clear()


def test_references_that_ship_are_measured_to_the_last_digit() -> None:
    measured, entry = measure.measure("PointRobot", lambda steps: None), shipped()["PointRobot"]
    assert as_references(measured) == as_references(entry)
    assert measured["worth"] == entry["worth"]


def test_measuring_references_by_hand() -> None:
    """SparsePointRobot pays within 0.2 m of the goal, and its expert walks straight to the goal that it is told."""
    family = get_family("SparsePointRobot")
    entry = measure.measure("SparsePointRobot", lambda steps: None, episodes=2)
    references = as_references(entry)
    kind, _, index = references.blind_policy.rpartition(" ")
    assert kind == "told train"
    told, goals = family.tasks["train"][int(index)], family.params(family.tasks["test"])
    distance = np.linalg.norm(goals - np.array(told.params), axis=1)
    blind, high = np.array(references.blind["test"]), np.array(references.told["test"])
    assert (distance < 0.18).any()
    assert (blind[distance < 0.18] > 9).all()
    assert (blind[distance > 0.25] == 0).all()
    assert (high > 11.5).all()
    steps: list[int] = []
    measure.measure("SparsePointRobot", steps.append, episodes=2)
    assert sum(steps) == measure.work("SparsePointRobot", 2)


def test_the_better_of_two_blind_policies_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was trained blind, here, stands still, or knows too much to be blind."""
    found = []
    for gain in (0.0, 5.0):

        def walk(observations: np.ndarray, own: np.ndarray, rng: Any, gain: float = gain) -> np.ndarray:
            return np.clip(gain * (own - observations), -1, 1)

        monkeypatch.setattr(measure, "blind_expert", lambda family, walk=walk: Behaviour("", walk))
        steps: list[int] = []
        found.append(as_references(measure.measure("PointRobot", steps.append, episodes=2)))
        assert sum(steps) == measure.work("PointRobot", 2)
    leave = lambda *given: lambda observations, own, rng: np.sign(observations)  # noqa: E731
    monkeypatch.setattr(measure, "always_told", leave)
    monkeypatch.setattr(measure, "still", leave)
    monkeypatch.setattr(measure, "blind_expert", lambda family: None)
    away = as_references(measure.measure("PointRobot", lambda steps: None, episodes=2))
    assert away.blind_policy == "random"
    assert away.blind == away.random
    assert away.worth("train").value == 1
    still, knowing = found
    assert still.blind_policy.startswith("told train")
    assert knowing.blind_policy == "trained blind"
    assert knowing.worth("test").value < 0.05 < still.worth("test").value
    assert knowing.tags == (LOW_WORTH,)


def test_held_out_tasks_have_no_say_in_who_collects() -> None:
    """Policies are ranked by training tasks alone; the scale of scores looks at all of the distribution."""
    references = read_references("PointRobot")
    kinds = {
        kind: {split: returns if split == "train" else [0.0] * len(returns) for split, returns in old.items()}
        for kind in ("random", "blind", "told")
        for old in (getattr(references, kind),)
    }
    changed = replace(references, **kinds)
    assert changed.scale("train") != references.scale("train")
    assert changed.ranking == references.ranking
    assert changed.normalised == references.normalised
    assert changed.normalised_explorers == references.normalised_explorers
