"""Behaviour policies: what ships does what its metadata says, and training can be killed."""

from __future__ import annotations

from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from offlinemeta.datasets.behaviour import (
    CHECKPOINTS,
    BehaviourPolicy,
    load_checkpoints,
    pack,
    save_checkpoints,
    unpack,
)
from offlinemeta.datasets.collect import play
from offlinemeta.datasets.policies import act_blind, act_told, behaviours
from offlinemeta.datasets.scripted import SCRIPTED
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import UnknownNameError
from offlinemeta.files import FileError

SHIPPED = sorted(path.stem for path in CHECKPOINTS.glob("*.safetensors") if not path.stem.endswith("-blind"))


def small_policy(seed: int = 0) -> BehaviourPolicy:
    rng = np.random.default_rng(seed)
    sizes = (5, 8, 3)
    weights = tuple(
        (rng.standard_normal((a, b)).astype(np.float32), rng.standard_normal(b).astype(np.float32))
        for a, b in pairwise(sizes)
    )
    return BehaviourPolicy(weights, np.zeros(3, np.float32), np.ones(5, np.float32), np.full(5, 2.0, np.float32))


def test_actions_by_hand() -> None:
    """One layer: tanh(((x - mean) / scale) W + b)."""
    policy = BehaviourPolicy(
        ((np.array([[2.0], [0.5]], np.float32), np.array([0.1], np.float32)),),
        log_std=np.array([-1.0], np.float32),
        mean=np.array([1.0, 0.0], np.float32),
        scale=np.array([2.0, 1.0], np.float32),
    )
    assert policy.act(np.array([[2.0, -1.0]]), None)[0, 0] == pytest.approx(np.tanh(2.0 * 0.5 - 0.5 + 0.1))
    assert policy.act(np.array([[1e9, 0.0]]), None)[0, 0] == pytest.approx(np.tanh(20.1))  # inputs are clipped at 10
    draws = policy.act(np.tile([[2.0, -1.0]], (4000, 1)), np.random.default_rng(0))
    assert np.arctanh(draws).mean() == pytest.approx(0.6, abs=0.03)
    assert np.arctanh(draws).std() == pytest.approx(np.exp(-1.0), abs=0.02)


def test_checkpoints_survive_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offlinemeta.datasets.behaviour.CHECKPOINTS", tmp_path)
    policies = [small_policy(seed) for seed in range(3)]
    save_checkpoints(tmp_path / "Some.safetensors", policies, {"seed": 7})
    loaded, metadata = load_checkpoints("Some")
    assert metadata == {"seed": 7}
    assert [path.name for path in tmp_path.iterdir()] == ["Some.safetensors"]
    (tmp_path / "plain").touch()
    assert (tmp_path / "Some.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode  # the umask's
    (tmp_path / "Other.safetensors").write_bytes(b"garbage")
    with pytest.raises(FileError, match=r"Other\.safetensors is damaged"):
        load_checkpoints("Other")
    inputs = np.random.default_rng(0).standard_normal((10, 5))
    for policy, read in zip(policies, loaded, strict=True):
        assert np.array_equal(read.act(inputs, None), unpack(pack(policy, "x"), "x").act(inputs, None))
        assert read.act(inputs, None) == pytest.approx(policy.act(inputs, None), abs=0.02)  # float16 weights
        assert np.array_equal(read.act(inputs, np.random.default_rng(1)), read.act(inputs, np.random.default_rng(1)))


def test_a_family_without_policies() -> None:
    with pytest.raises(UnknownNameError, match="Behaviour policy of family 'ML1-assembly' does not exist"):
        behaviours(get_family("ML1-assembly"))
    with pytest.raises(UnknownNameError, match="Behaviour policy of family 'Other'"):
        load_checkpoints("Other")


@pytest.mark.parametrize("name", ["PointRobot", "SparsePointRobot", "RotatedPointRobot"])
def test_noisy_scripts_go_from_random_to_near_the_optimum(name: str) -> None:
    family = get_family(name)
    policies = behaviours(family)
    tasks = family.tasks["test"]
    means = [play(family, tasks, policy.act, 20, seed=0, sample=True)[0].mean() for policy in policies]
    assert means == sorted(means)
    # the optimum walks at full speed; noise of 5 % and actions a little short of the box cost little
    best, _ = play(family, tasks, lambda o, p, rng: SCRIPTED[name](o, p, 0), 20, seed=0, sample=False)
    calm, episodes = play(family, tasks, policies[-1].act, 20, seed=0, sample=False)
    gap = best.mean() - means[0]
    assert best.mean() - calm.mean() < 0.03 * gap
    assert best.mean() - means[-1] < 0.07 * gap
    assert max(np.abs(episode.actions).max() for episode in episodes) < 0.99


def test_meta_worlds_scripts_succeed() -> None:
    from offlinemeta.datasets.collect import in_batches, roll_out

    family = get_family("ML1-drawer-close")
    for part, envs in in_batches(family, 2):
        tasks = family.tasks["test"][:2]
        acts = [behaviours(family)[-1].act] * 2
        episodes = roll_out(envs, tasks[part], acts, np.random.default_rng(0))
    assert all(episode.infos["success"].max() == 1 for several in episodes for episode in several)


def test_some_checkpoints_ship() -> None:
    assert "CheetahVel" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_checkpoints_go_from_random_to_expert_and_do_what_they_claim(name: str) -> None:
    from offlinemeta.datasets.train_behaviour import measure

    family = get_family(name)
    policies, metadata = load_checkpoints(name)
    assert (CHECKPOINTS / f"{name}.safetensors").stat().st_size < 1.1e6
    assert metadata["command"].endswith(f"train_behaviour {name} --seed {metadata['seed']}")
    assert {"mujoco", "stable-baselines3"} <= metadata["versions"].keys()
    rows = metadata["checkpoints"]
    assert len(rows) == len(policies) == 10
    claimed = [row["return"] for row in rows]
    assert int(np.argmin(claimed)) <= 1
    assert int(np.argmax(claimed)) >= 8
    steps = [row["steps"] for row in rows]
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert max(row["saturated"] for row in rows) < 0.05
    gap = max(claimed) - min(claimed)
    tasks = family.tasks["train"]
    for i in (0, 9):
        measured = measure(family, policies[i], tasks, 1, seed=11, sample=True)
        assert measured.mean == pytest.approx(claimed[i], abs=0.1 * gap)
    measured = measure(family, policies[9], family.tasks["test"], 1, seed=12, sample=True)
    assert measured.mean == pytest.approx(metadata["expert"]["test, sampled actions"], abs=0.1 * gap)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_shaping_changes_no_optimum_and_fresh_tasks_are_drawn(tmp_path: Path) -> None:
    """The shaping terms of an episode telescope: their discounted sum is γ^T Φ(s_T) - γ Φ(s_1)."""
    from offlinemeta.datasets import train_behaviour as module

    family, recipe = get_family("AntGoal"), module.Recipe(steps=1, shaping=30.0)
    envs = module.SquashedTasks(family, recipe, seed=0, threads=1)
    plain = module.SquashedTasks(family, module.Recipe(steps=1), seed=0, threads=1)
    for each in (envs, plain):
        each.seed(3)
        each.reset()
    rng, total = np.random.default_rng(0), np.zeros(module.ENVS)
    for t in range(5):
        actions = rng.standard_normal((module.ENVS, 8))
        observations, rewards, _, _ = envs.step(actions)
        _, unshaped, _, _ = plain.step(actions)
        total += recipe.gamma**t * (rewards - unshaped)
        distance = np.abs(observations[:, :2] - observations[:, -2:]).sum(1)
        if t == 0:
            first = -30.0 * distance
    assert total == pytest.approx(recipe.gamma**5 * -30.0 * distance - recipe.gamma * first, rel=1e-3, abs=1e-2)
    envs.close()
    plain.close()

    fresh = module.with_fresh_tasks(get_family("HopperParam"), 7, seed=0)
    assert len(fresh.tasks["train"]) == 7
    assert fresh.tasks["test"] == get_family("HopperParam").tasks["test"]
    assert len(get_family("HopperParam").tasks["train"]) == 50
    known = get_family("HopperParam").params(get_family("HopperParam").tasks["train"])
    assert not np.isin(fresh.params(fresh.tasks["train"]), known).any()
    angles = module.with_fresh_tasks(get_family("AntDir"), 7, seed=0)
    assert angles.params(angles.tasks["train"]).shape == (7, 1)
    envs = module.SquashedTasks(fresh, module.Recipe(steps=1, tasks=7), seed=0, threads=1)
    envs.reset()
    before = envs._batch.get_tasks()
    for _ in range(60):  # they fall
        observations, *_ = envs.step(rng.standard_normal((module.ENVS, 3)))
    after = envs._batch.get_tasks()
    assert sum(one is not other for one, other in zip(before, after, strict=True)) > 50
    described = fresh.encode(fresh.params(after))
    assert np.array_equal(observations[:, -described.shape[1] :], described)
    envs.close()


def test_a_blind_policy_is_not_shown_its_task_and_ignores_it() -> None:
    from offlinemeta.datasets import train_behaviour as module

    recipe = module.Recipe(steps=1, tasks=7)
    fresh = module.with_fresh_tasks(get_family("HopperParam"), 7, seed=0)
    seeing, blind = (module.SquashedTasks(fresh, recipe, 0, threads=1, blind=blind) for blind in (False, True))
    size = fresh.observation_space.shape[0]
    for envs in (seeing, blind):
        envs.seed(0)
    first, shown = seeing.reset(), blind.reset()
    rng, ended = np.random.default_rng(0), 0
    for _ in range(60):  # they fall
        assert np.array_equal(first[:, :size], shown[:, :size])
        assert first[:, size:].all()
        assert not shown[:, size:].any()
        actions = rng.standard_normal((module.ENVS, 3))
        first, *_ = seeing.step(actions)
        shown, _, _, infos = blind.step(actions)
        for last in (info["terminal_observation"] for info in infos if info):
            assert last[:size].any()
            assert not last[size:].any()
            ended += 1
    assert ended > 50
    for envs in (seeing, blind):
        envs.close()


@pytest.mark.parametrize("name", [path.stem for path in CHECKPOINTS.glob("*-blind.safetensors")])
def test_shipped_blind_policies_do_what_they_claim(name: str) -> None:
    from offlinemeta.datasets.train_behaviour import measure

    family = get_family(name.removesuffix("-blind"))
    (policy,), metadata = load_checkpoints(name)
    assert metadata["command"].endswith(f"train_behaviour {family.name} --seed {metadata['seed']} --blind")
    claimed = metadata["expert"]["test, mean actions"]
    measured = measure(family, policy, family.tasks["test"], 2, seed=11, sample=False, blind=True)
    assert measured.mean == pytest.approx(claimed, rel=0.1)


def test_a_told_policy_acts_in_terms_that_hold_in_all_tasks() -> None:
    """With other signs of the gears but the same sizes, a told policy's forces are those of their sizes."""
    from offlinemeta.datasets import train_behaviour as module

    family, signs = get_family("CheetahGear"), np.array([[1.0, -1.0, 1.0, -1.0, -1.0, 1.0]])
    assert family.told_actions(np.full((1, 6), 0.5), 0.7 * signs).tolist() == (0.5 * signs).tolist()
    told, blind = (module.SquashedTasks(family, module.RECIPES["CheetahGear"], 0, 1, blind) for blind in (False, True))
    for envs, changed in ((told, True), (blind, False)):
        envs.reset()
        envs.step_async(np.full((module.ENVS, 6), 0.5))
        assert ((envs._actions < 0) == (changed & (envs._batch.get_params() < 0))).all()
        envs.close()
    rng = np.random.default_rng(0)
    policy = BehaviourPolicy(
        ((rng.standard_normal((26, 6)), np.zeros(6)),), np.zeros(6), mean=np.zeros(26), scale=np.ones(26)
    )
    states, params = rng.standard_normal((4, 20)).astype(np.float32), 0.7 * np.tile(signs, (4, 1))
    plain = policy.act(np.concatenate([states, params], axis=1).astype(np.float32), None)
    assert act_told(family, policy, states, params, None) == pytest.approx(plain * signs, abs=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_training_continues_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from offlinemeta.datasets import train_behaviour as module

    monkeypatch.setitem(module.RECIPES, "PointRobot", module.Recipe(steps=6 * 128 * 100))
    console = Console(record=True, file=StringIO())
    keep, killed_at = module.Keeper.keep, 3

    def killed(self: module.Keeper) -> None:
        keep(self)
        if len(self._state["curve"]) == killed_at:
            raise KeyboardInterrupt

    arguments = ("PointRobot", 0, tmp_path / "out", tmp_path / "done", 1, console)
    with monkeypatch.context() as patch:
        patch.setattr(module.Keeper, "keep", killed)
        with pytest.raises(KeyboardInterrupt):
            module.train(*arguments)
    assert not list((tmp_path / "done").iterdir())
    module.train(*arguments)
    assert "continuing PointRobot at 25,600 steps" in console.export_text()
    monkeypatch.setattr("offlinemeta.datasets.behaviour.CHECKPOINTS", tmp_path / "done")
    with monkeypatch.context() as patch:
        patch.setitem(module.RECIPES, "PointRobot", module.Recipe(steps=128 * 100))
        module.train(*arguments, blind=True)
    (blind,), metadata = load_checkpoints("PointRobot-blind")  # its last policy alone
    assert metadata["command"].endswith("train_behaviour PointRobot --seed 0 --blind")
    assert [row["steps"] for row in metadata["checkpoints"]] == [12_800]
    seen, tasks = np.random.default_rng(0).uniform(-1, 1, (2, 16, 2)).astype(np.float32)
    acted = [act_blind(get_family("PointRobot"), blind, seen, params, None) for params in (tasks, -tasks)]
    assert np.array_equal(*acted)
    policies, metadata = load_checkpoints("PointRobot")
    assert [point["steps"] for point in metadata["curve"]] == [12_800 * i for i in range(7)]
    assert len(policies) == len(metadata["checkpoints"]) >= 3
    assert metadata["checkpoints"][-1]["return"] > metadata["checkpoints"][0]["return"] + 1  # it learns
    # the numpy policy is the network that Stable-Baselines3 trained
    saved = tmp_path / "out" / "PointRobot"
    model = module.PPO.load(saved / (saved / "latest").read_text() / "model.zip", device="cpu")
    import pickle

    import torch

    state = pickle.loads((saved / (saved / "latest").read_text() / "state.pkl").read_bytes())
    last = unpack(state["snapshots"][-1], "s")
    inputs = np.random.default_rng(0).uniform(-1, 1, (16, 4)).astype(np.float32)
    normalised = torch.as_tensor((inputs - last.mean) / last.scale)
    with torch.no_grad():
        theirs = torch.tanh(model.policy.get_distribution(normalised).mode()).numpy()
    assert last.act(inputs, None) == pytest.approx(theirs, abs=5e-3)
