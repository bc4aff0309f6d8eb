"""The harness: what an agent is shown, what comes out, and what happens when it misbehaves."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest

from offlinemeta import datasets
from offlinemeta.benchmark import result as results
from offlinemeta.benchmark.agent import ExpertAgent, FunctionPolicy, RandomAgent, load_agent
from offlinemeta.benchmark.context import Context, logged_contexts, logged_rollouts
from offlinemeta.benchmark.errors import AgentError, ResultError
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS, PREFIXES, get_benchmark, get_protocol
from offlinemeta.benchmark.runner import evaluate
from offlinemeta.envs import Task, get_family
from offlinemeta.envs.errors import ArgumentError, UnknownNameError
from offlinemeta.envs.families.point import PointRobot
from offlinemeta.leaderboard import table

POINT = "PointRobot/smac/online-4"
HORIZON = 20


@pytest.fixture
def paid_by_action(monkeypatch: pytest.MonkeyPatch) -> None:
    """PointRobot's reward is the first component of the action."""
    monkeypatch.setattr(PointRobot, "simulator", lambda self, num_envs, num_threads: helpers.echo(num_envs))


class Counting:
    """Plays a quarter of the number of episodes that it has seen, and keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[list[Context]] = []

    def adapt(self, contexts: Sequence[Context]) -> FunctionPolicy:
        self.shown.append(list(contexts))
        level = np.array([len(context.lengths) / 4 for context in contexts])
        return FunctionPolicy(lambda observations: np.repeat(level[:, None], 2, axis=1))


@pytest.mark.usefixtures("paid_by_action")
def test_known_returns_give_the_known_curve() -> None:
    returns = evaluate(Counting(), get_benchmark(POINT))
    assert returns.shape == (20, 4)
    np.testing.assert_array_equal(returns, np.tile([0.0, 5.0, 10.0, 15.0], (20, 1)))


@pytest.mark.usefixtures("paid_by_action")
def test_episode_k_sees_the_episodes_before_it_and_no_more() -> None:
    agent = Counting()
    evaluate(agent, get_benchmark(POINT), repeats=2)
    assert len(agent.shown) == 4
    for k, contexts in enumerate(agent.shown):
        assert len(contexts) == 40
        for context in contexts:
            assert context.lengths.tolist() == [HORIZON] * k
            assert len(context) == HORIZON * k
            np.testing.assert_array_equal(context.actions[:, 0], np.repeat(np.arange(k) / 4, HORIZON))
            np.testing.assert_array_equal(context.rewards, context.actions[:, 0])


def test_contexts_hold_what_the_env_did() -> None:
    agent = Counting()
    evaluate(agent, get_benchmark(POINT), repeats=1)
    family = get_family("PointRobot")
    for context, task in zip(agent.shown[-1], family.tasks["test"], strict=True):
        reward = family.reward(context.next_observations.astype(np.float64), np.array(task.params)[None])
        np.testing.assert_allclose(context.rewards, reward, rtol=1e-5)
        inner = np.setdiff1d(np.arange(len(context) - 1), np.cumsum(context.lengths) - 1)
        np.testing.assert_array_equal(context.next_observations[inner], context.observations[inner + 1])
        assert not context.terminations.any()


def test_the_agent_never_sees_the_task() -> None:
    agent = Counting()
    evaluate(agent, get_benchmark(POINT), repeats=1)
    assert b"Task" not in pickle.dumps([vars(context) for contexts in agent.shown for context in contexts])


def test_an_agent_that_asks_is_told_and_its_result_says_so() -> None:
    family, benchmark = get_family("PointRobot"), get_benchmark("PointRobot/smac/online-2")
    expert = evaluate(ExpertAgent(family), benchmark)
    random = evaluate(RandomAgent(family), benchmark)
    references = datasets.read_references("PointRobot")
    assert expert.mean() == pytest.approx(np.mean(references.told["test"]), abs=0.5)
    assert random.mean() == pytest.approx(np.mean(references.random["test"]), abs=1.0)
    result = results.make_result(benchmark, "expert", "x:y", expert, 3, sees_task=True)
    assert 90 < result.score().value < 110
    assert result.sees_task


def test_an_evaluation_repeats_and_seeds_differ() -> None:
    benchmark = get_benchmark("PointRobot/smac/online-2")
    family = get_family("PointRobot")
    first, again = (evaluate(ExpertAgent(family), benchmark, seed=3, repeats=1) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != evaluate(ExpertAgent(family), benchmark, seed=4, repeats=1)).any()


def test_a_walker_that_falls_has_short_episodes_and_as_many_steps_as_others() -> None:
    """Each rollout counts by its first episode, and goes on until it has the horizon's steps."""

    class Still:
        def __init__(self) -> None:
            self.shown: list[list[Context]] = []

        def adapt(self, contexts: Sequence[Context]) -> FunctionPolicy:
            self.shown.append(list(contexts))
            return FunctionPolicy(lambda observations: np.ones((len(observations), 3)))

    agent, steps = Still(), list[int]()
    returns = evaluate(agent, get_benchmark("HopperParam/smac/online-3"), repeats=1, progress=steps.append)
    assert 2 * 200 * len(returns) < sum(steps) < 2.5 * 200 * len(returns), "nobody sees the rest of the last rollout"
    second = next(i for i, shown in enumerate(agent.shown) if min(map(len, shown)) == 200)
    third = next(i for i, shown in enumerate(agent.shown) if min(map(len, shown)) == 400)
    for task, context in enumerate(agent.shown[third]):
        assert len(context) == 400
        ends = np.cumsum(context.lengths)
        assert 200 in ends, "no episode goes on from one rollout to the next"
        assert len(ends) > 4
        whole = ends[~np.isin(ends, (200, 400))] - 1
        assert context.terminations[whole].all()
        assert context.terminations.sum() <= len(ends)
        for k, begin in enumerate((0, 200)):
            first = slice(begin, ends[np.searchsorted(ends, begin, side="right")])
            assert context.rewards[first].sum(dtype=np.float64) == pytest.approx(returns[task, k])
    for shown, later in zip(agent.shown[: second + 1], agent.shown[1:], strict=False):
        for context, more in zip(shown, later, strict=True):
            assert len(more) > len(context) or len(context) == 200, "each episode is adapted on all that was before it"


def test_a_policy_that_learns_inside_an_episode_observes_every_step() -> None:
    class Learner:
        def __init__(self) -> None:
            self.seen: list[tuple[Any, ...]] = []

        def adapt(self, contexts: Sequence[Context]) -> Learner:
            return self

        def act(self, observations: np.ndarray) -> np.ndarray:
            self.last = observations
            return np.zeros((len(observations), 2))

        def observe(self, observations: Any, actions: Any, rewards: Any, following: Any, over: Any) -> None:
            np.testing.assert_array_equal(observations, self.last)
            self.seen.append((observations, actions, rewards, following, over))

    agent = Learner()
    evaluate(agent, get_benchmark("PointRobot/smac/online-1"), repeats=1)
    assert len(agent.seen) == HORIZON
    assert [bool(over.all()) for *_, over in agent.seen] == [False] * (HORIZON - 1) + [True]


def test_what_is_over_stands_still_until_all_are() -> None:
    """Nothing of a second episode reaches an agent that looks at its steps."""

    class Watcher:
        def __init__(self) -> None:
            self.steps: list[tuple[Any, ...]] = []
            self.contexts: list[Context] = []
            self.adapted = 0

        def adapt(self, contexts: Sequence[Context]) -> Watcher:
            self.adapted += 1
            if self.adapted == 2:
                self.contexts = list(contexts)
            return self

        def act(self, observations: np.ndarray) -> np.ndarray:
            if self.adapted == 1:
                self.steps.append((observations,))
            return np.ones((len(observations), 3))

        def observe(self, *step: Any) -> None:
            assert all(np.isfinite(part).all() for part in step)
            if self.adapted == 1:
                self.steps[-1] = (*self.steps[-1], *step)

    agent = Watcher()
    evaluate(agent, get_benchmark("HopperParam/smac/online-2"), repeats=1)
    assert len({len(context) for context in agent.contexts}) > 1, "all fell at once"
    for i, context in enumerate(agent.contexts):
        for t, (shown, observations, _, rewards, following, over) in enumerate(agent.steps):
            assert over[i] == (t + 1 >= len(context))
            np.testing.assert_array_equal(shown[i], observations[i])
            if t >= len(context):
                assert rewards[i] == 0
                np.testing.assert_array_equal(following[i], context.next_observations[-1])
                np.testing.assert_array_equal(observations[i], context.next_observations[-1])


@pytest.mark.usefixtures("paid_by_action")
def test_tasks_that_pay_alike_look_alike() -> None:
    """Whatever an agent could tell tasks apart by, but for reward and dynamics, would show here."""

    class Still:
        def adapt(self, contexts: Sequence[Context]) -> FunctionPolicy:
            self.contexts = list(contexts)
            return FunctionPolicy(lambda observations: np.zeros((len(observations), 2)))

    first, other = Still(), Still()
    evaluate(first, get_benchmark("PointRobot/smac/online-2"), repeats=1)
    evaluate(other, get_benchmark("PointRobot/smac/ood"), repeats=1)
    for one, another in zip(first.contexts, other.contexts, strict=False):
        for name in ("observations", "actions", "rewards", "next_observations"):
            np.testing.assert_array_equal(getattr(one, name), getattr(another, name)[: len(one)])


def test_logged_contexts_have_the_size_of_own_ones_and_cover_all_behaviours(here: Path) -> None:
    heldout = datasets.load("PointRobot/smac-heldout")
    tasks = list(heldout.tasks[:5])
    contexts = logged_contexts(heldout, tasks, [OFFLINE_ROLLOUTS * HORIZON] * 5, np.random.default_rng(0))
    for task, context in zip(tasks, contexts, strict=True):
        assert len(context) == OFFLINE_ROLLOUTS * HORIZON
        assert len(context.lengths) == 6
        rollouts = [{row.tobytes() for row in episode.observations} for episode in heldout.by_task()[task]]
        pieces = np.split(context.observations, np.cumsum(context.lengths)[:-1])
        assert [row[0].tobytes() in rollout for row, rollout in zip(pieces, rollouts, strict=True)] == [True] * 6


@pytest.mark.parametrize("name", ["PointRobot/smac-heldout", "HopperParam/smac-heldout"])
def test_logged_rollouts_are_whole_in_random_order_and_seeded(name: str, here: Path) -> None:
    heldout = datasets.load(name)
    horizon, tasks = heldout.family.horizon, list(heldout.tasks[:10])
    draws = [logged_rollouts(heldout, tasks, OFFLINE_ROLLOUTS, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    starts, by_task = [], heldout.by_task()
    for task, context, again in zip(tasks, *draws[:2], strict=True):
        assert len(context) == OFFLINE_ROLLOUTS * horizon
        steps = np.concatenate([episode.observations[:-1] for episode in by_task[task]])
        lengths = np.array([len(episode) for episode in by_task[task]])
        found = []
        for rollout in np.split(context.observations, OFFLINE_ROLLOUTS):
            (place,) = (r for r in range(6) if np.array_equal(steps[r * horizon : (r + 1) * horizon], rollout))
            found.append(place)
        rollout_of = (np.cumsum(lengths) - 1) // horizon
        assert context.lengths.tolist() == [n for r in found for n in lengths[rollout_of == r].tolist()]
        assert len(set(found)) == OFFLINE_ROLLOUTS
        for field, values in vars(context).items():
            np.testing.assert_array_equal(getattr(again, field), values)
        starts.append(found)
        ends = np.cumsum(context.lengths) - 1
        inner = np.setdiff1d(np.arange(len(context)), ends)
        np.testing.assert_array_equal(context.next_observations[inner], context.observations[inner + 1])
        assert not context.terminations[inner].any()
    assert any(one != sorted(one) for one in starts), "always in order of collection"
    assert any(one == sorted(one) for one in starts), "always in reverse"
    assert len({r for one in starts for r in one}) == 6, "some rollouts are never drawn"
    assert any(not np.array_equal(a.rewards, b.rewards) for a, b in zip(draws[0], draws[2], strict=True))
    several = any(len(context.lengths) > OFFLINE_ROLLOUTS for context in draws[0])
    assert several == (name == "HopperParam/smac-heldout"), "where an episode terminates, a rollout has several"
    with pytest.raises(ArgumentError, match=r"has 6 rollouts of .* the context is of 7"):
        logged_rollouts(heldout, tasks, 7, np.random.default_rng(0))


@pytest.mark.parametrize(("prefix", "data"), [("", "smac-heldout"), ("train-", "smac")])
def test_offline_episodes_show_whole_rollouts_to_the_agent(prefix: str, data: str, here: Path) -> None:
    agent, benchmark = Counting(), get_benchmark(f"PointRobot/smac/{prefix}offline-episodes")
    assert benchmark.dataset == f"PointRobot/{data}"
    dataset = datasets.load(benchmark.dataset)
    returns = evaluate(agent, benchmark, repeats=2, dataset=dataset)
    assert returns.shape == (80 if prefix else 20, 1)
    (contexts,) = agent.shown
    tasks, by_task = get_family("PointRobot").tasks["train" if prefix else "test"], dataset.by_task()
    for i, context in enumerate(contexts):
        assert context.lengths.tolist() == [HORIZON] * OFFLINE_ROLLOUTS
        rollouts = {episode.rewards.tobytes() for episode in by_task[tasks[i // 2]]}
        assert all(rewards.tobytes() in rollouts for rewards in np.split(context.rewards, OFFLINE_ROLLOUTS))
    assert (contexts[0].rewards != contexts[1].rewards).any(), "each repeat draws its own"


def test_offline_context_needs_the_heldout_data_of_the_family(here: Path) -> None:
    benchmark = get_benchmark("PointRobot/smac/offline-context")
    agent = RandomAgent(get_family("PointRobot"))
    with pytest.raises(ArgumentError, match="was given none"):
        evaluate(agent, benchmark)
    with pytest.raises(ArgumentError, match=r"was given OfflineMeta/SparsePointRobot/smac-heldout-v1"):
        evaluate(agent, benchmark, dataset=datasets.load("SparsePointRobot/smac-heldout"))
    with pytest.raises(ArgumentError, match=r"was given OfflineMeta/PointRobot/smac-v1"):
        evaluate(agent, benchmark, dataset=datasets.load("PointRobot/smac"))


# --- agents that break the contract


def act(function: Callable[[np.ndarray], Any]) -> Callable[[Any], FunctionPolicy]:
    return lambda contexts: FunctionPolicy(function)


def write_context(contexts: Sequence[Context]) -> FunctionPolicy:
    contexts[0].rewards[:] = 0
    return FunctionPolicy(lambda observations: np.zeros((len(observations), 2)))


def write_observations(observations: np.ndarray) -> np.ndarray:
    observations += 1
    return observations


def nan_in_row_3(observations: np.ndarray) -> np.ndarray:
    actions = np.zeros((len(observations), 2))
    actions[3] = np.nan
    return actions


def crash(contexts: Sequence[Context]) -> FunctionPolicy:
    raise ZeroDivisionError("in the middle")


@pytest.mark.parametrize(
    ("adapt", "message"),
    [
        (act(lambda observations: np.zeros((len(observations), 3))), r"shape \(20, 3\); expected \(20, 2\)"),
        (act(lambda observations: np.zeros(2)), r"shape \(2,\); expected \(20, 2\)"),
        (act(nan_in_row_3), r"NaN or infinite actions for rows \[3\]"),
        (act(lambda observations: "left"), "raised ValueError"),
        (crash, "adapt raised ZeroDivisionError: in the middle .*test_harness"),
        (write_context, "adapt writes into its input"),
        (act(write_observations), "act writes into its input"),
        (lambda contexts: None, r"returned a NoneType, which has no act\(observations\)"),
    ],
)
def test_a_bad_agent_is_told_what_is_wrong(adapt: Any, message: str) -> None:
    agent = type("Bad", (), {"adapt": lambda self, contexts: adapt(contexts)})()
    with pytest.raises(AgentError, match=message):
        evaluate(agent, get_benchmark(POINT), repeats=1)


# --- names


def test_an_agent_is_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger.py").write_text(
        "class Mine:\n    def __init__(self, family, checkpoint):\n        self.made = family.name, checkpoint\n"
        "    def adapt(self, contexts):\n        return None\nclass Not:\n    def __init__(self, *_): pass\n"
    )
    monkeypatch.chdir(tmp_path)
    family = get_family("PointRobot")
    agent: Any = load_agent("stranger:Mine", family, Path("a.pt"))
    assert agent.made == ("PointRobot", Path("a.pt"))
    with pytest.raises(AgentError, match="has no adapt"):
        load_agent("stranger:Not", family)
    with pytest.raises(ArgumentError, match="has no 'Other'"):
        load_agent("stranger:Other", family)
    with pytest.raises(ArgumentError, match="cannot be imported"):
        load_agent("strangest:Mine", family)
    with pytest.raises(ArgumentError, match="module:Class"):
        load_agent("stranger", family)
    (tmp_path / "broken.py").write_text("class A:\n    def __init__(self, *_): raise OSError('no file')\n")
    with pytest.raises(AgentError, match=r"broken:A\(family, checkpoint\) raised OSError: no file"):
        load_agent("broken:A", family)
    (tmp_path / "garbage.py").write_text("class A(:\n")
    with pytest.raises(ArgumentError, match="cannot be imported"):
        load_agent("garbage:A", family)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AntDri/smac/online-10", "Did you mean 'AntDir'"),
        ("AntDir/smca/online-10", "Did you mean 'smac'"),
        ("AntDir/smac/onlin-10", "Did you mean 'online-K'"),
        ("AntDir/smac/online-0", "does not exist"),
        ("AntDir/smac", "family/quality/protocol"),
        ("AntDir/smac/ood", "no ood tasks"),
        ("PointRobot/smac/train-ood", "does not exist"),
        ("PointRobot/smac/val-ood", "does not exist"),
        ("PointRobot/smac/val-train-zero-shot", "does not exist"),
        ("PointRobot/smac/val", "does not exist"),
        ("PointRobot/smac/offline-context-exprt", "Did you mean 'expert'"),
    ],
)
def test_a_wrong_benchmark_is_refused(name: str, message: str) -> None:
    with pytest.raises((UnknownNameError, ArgumentError), match=message):
        get_benchmark(name)


def test_protocols() -> None:
    assert get_protocol("online-10").episodes == 10
    assert get_protocol("zero-shot").episodes == 1
    assert get_protocol("ood").split == "ood"
    assert get_protocol("offline-context").logged == "segments"
    assert get_protocol("offline-episodes").logged == "rollouts"
    assert get_protocol("train-offline-episodes").split == "train"
    assert not get_protocol("online-10").offline
    assert get_protocol("train-online-3").split == "train"
    assert get_protocol("val-online-3").split == "val"
    assert get_protocol("test100-zero-shot").split == "test100"
    assert get_benchmark("PointRobot/smac/val-offline-context").dataset == "PointRobot/smac-heldout"
    assert get_benchmark("PointRobot/smac/train-offline-context").dataset == "PointRobot/smac"
    assert get_benchmark("PointRobot/smac/ood").dataset == "PointRobot/smac-heldout"
    other = get_benchmark("PointRobot/smac/val-offline-episodes-expert")
    assert (other.dataset, other.quality) == ("PointRobot/expert-heldout", "smac")
    assert (other.protocol.logged, other.protocol.split) == ("rollouts", "val")
    assert get_benchmark("PointRobot/smac/train-offline-context-random").dataset == "PointRobot/random"
    for name in ("foo", "train-foo", "train-ood", "val-train-online-3", "train"):
        with pytest.raises(UnknownNameError, match=f"Protocol '{name}' does not exist"):
            get_protocol(name)


class Told(Counting):
    """Keeps the tasks too that it is told."""

    def tell(self, tasks: Sequence[Task]) -> None:
        self.tasks = set(tasks)


def test_only_val_protocols_play_validation_tasks_and_read_their_data(here: Path) -> None:
    heldout = datasets.load("PointRobot/smac-heldout")
    split = np.array([task.split for task in heldout.tasks])[heldout.task].repeat(heldout.lengths)
    marked = np.where(split == "val", np.float32(7), heldout.rewards)
    data = {"smac": datasets.load("PointRobot/smac"), "smac-heldout": replace(heldout, rewards=marked)}
    plain = ("online-1", "offline-context", "offline-episodes", "zero-shot")
    names = {f"{prefix}{name}" for name in plain for prefix in ("", *(f"{split}-" for split in PREFIXES))} | {"ood"}
    for name in names:
        agent, benchmark = Told(), get_benchmark(f"PointRobot/smac/{name}")
        evaluate(agent, benchmark, repeats=1, dataset=data[benchmark.dataset.partition("/")[2]])
        val = name.startswith("val-")
        assert {task.split == "val" for task in agent.tasks} == {val}
        assert agent.tasks == set(get_family("PointRobot").tasks[benchmark.protocol.split])
        read = [(context.rewards == 7).any() for context in agent.shown[0]]
        assert all(read) if val and benchmark.protocol.offline else not any(read)


def test_results_on_training_tasks_are_no_results_of_the_benchmark() -> None:
    for split, tasks in (("train-", 80), ("", 20)):
        benchmark = get_benchmark(f"PointRobot/smac/{split}online-3")
        result = results.make_result(benchmark, "mine", "m:C", np.zeros((tasks, 3)), 3, 0)
        assert (table.summarise([result])[0].online is None) == bool(split)


# --- results


def some_result(seed: int, value: float = -10.0) -> results.Result:
    benchmark = get_benchmark("PointRobot/smac/online-3")
    returns = np.full((20, 3), value) + np.arange(3)
    return results.make_result(benchmark, "mine", "m:C", returns, 3, seed, figures={"kl_shift": 0.5})


def test_results_survive_the_file_and_seeds_are_joined(tmp_path: Path) -> None:
    for seed, value in ((2, -12.0), (0, -10.0)):
        results.write_result(some_result(seed, value), tmp_path / f"{seed}.json")
    (joined,) = results.read_results([tmp_path])
    assert joined.seeds == [0, 2]
    assert joined.array()[:, 0].tolist() == [[-10.0, -9.0, -8.0], [-12.0, -11.0, -10.0]]
    assert joined.metrics == {"kl_shift": [0.5, 0.5]}
    assert joined.curve()[0].value == -11.0
    assert results.read_result(tmp_path / "0.json") == some_result(0).model_copy(
        update={"provenance": results.read_result(tmp_path / "0.json").provenance}
    )


@pytest.mark.parametrize(
    ("part", "one", "other", "where"),
    [
        ("config", {"lr": 1e-3, "latent": 5}, {"lr": 1e-4, "latent": 5}, "lr"),
        ("context", {"id": "a", "sha256": "0"}, {"id": "a", "sha256": "1"}, "sha256"),
    ],
)
def test_seeds_of_different_trainings_or_contexts_are_not_joined(
    part: str, one: dict[str, Any], other: dict[str, Any], where: str, tmp_path: Path
) -> None:
    for seed, said in ((0, one), (1, other)):
        result = some_result(seed)
        provenance = [result.provenance[0].model_copy(update={part: said})]
        results.write_result(result.model_copy(update={"provenance": provenance}), tmp_path / f"{seed}.json")
    with pytest.raises(ResultError, match=f"{part} differs in {where}"):
        results.read_results([tmp_path])


def test_a_repeated_seed_is_refused(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        results.write_result(some_result(0), tmp_path / name)
    with pytest.raises(ResultError, match="repeat a seed"):
        results.read_results([tmp_path])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("returns"), "returns: Field required"),
        (lambda content: content.update(schema_version=1), "schema_version is 1"),
        (lambda content: content["returns"][0][3].pop(), "have shape"),
        (lambda content: content["returns"][0][3].__setitem__(0, None), "returns.0.3.0"),
        (lambda content: content.update(benchmark="AntDri/smac/online-3"), "Did you mean 'AntDir'"),
        (lambda content: content.update(random=[0.0]), "random: Extra inputs"),
        (lambda content: content.update(surprise=1), "surprise"),
    ],
)
def test_a_damaged_result_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    content = json.loads(some_result(0).model_dump_json())
    change(content)
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(ResultError, match=message):
        results.read_result(tmp_path / "r.json")


def test_a_missing_or_truncated_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="cannot be read"):
        results.read_result(tmp_path / "none.json")
    (tmp_path / "r.json").write_text(some_result(0).model_dump_json()[:100])
    with pytest.raises(ResultError, match="no JSON"):
        results.read_result(tmp_path / "r.json")
    with pytest.raises(ResultError, match="no results"):
        results.read_results([tmp_path / "empty"] if (tmp_path / "empty").mkdir() is None else [])
