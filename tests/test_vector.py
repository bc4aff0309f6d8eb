"""The batch against Gymnasium's own vector env of the single environments, and what only the batch can do."""

from __future__ import annotations

import copy
import multiprocessing
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from helpers import echo, pickled, run_two

from offlinemeta.envs import TaskVectorEnv, get_family
from offlinemeta.envs.errors import ClosedError, NoSubEnvironmentError, OfflineMetaError, ResetNeededError
from offlinemeta.envs.pool import ProcessPool, WorkerError


def equal(ours: Any, theirs: Any) -> bool:
    """Compare infos, including nested ones; in an array, only where its mask says that there is something."""
    if isinstance(ours, dict):
        names = {name for name in ours if not name.startswith("_")}
        assert names == {name for name in theirs if not name.startswith("_")}
        for name in names:
            mask = ours[f"_{name}"]
            assert np.array_equal(mask, theirs[f"_{name}"]), name
            if isinstance(ours[name], dict):
                assert equal(ours[name], theirs[name])
            else:
                assert ours[name].dtype == theirs[name].dtype, name
                for i in np.flatnonzero(mask):
                    assert np.array_equal(ours[name][i], theirs[name][i]), name
        return True
    return np.array_equal(ours, theirs)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", ["HopperParam", "PointRobot"])
def test_every_autoreset_mode_is_gymnasium_s(name: str, mode: AutoresetMode) -> None:
    """Hopper falls at different times in each env, the points all stop at once."""
    n, steps = 4, 70
    ours = gym.make_vec(f"OfflineMeta/{name}-v0", num_envs=n, task=0, autoreset_mode=mode.value)
    theirs = gym.make_vec(
        f"OfflineMeta/{name}-v0", num_envs=n, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}
    )
    assert ours.metadata["autoreset_mode"] is mode
    plan = np.random.default_rng(0).uniform(-1, 1, (steps, *ours.action_space.shape)).astype(np.float32)
    for got, expected in zip(ours.reset(seed=1), theirs.reset(seed=1), strict=True):
        assert equal(got, expected)
    ends = 0
    for actions in plan:
        step = ours.step(actions)
        for got, expected in zip(step, theirs.step(actions), strict=True):
            assert equal(got, expected)
        over = step[2] | step[3]
        ends += over.sum()
        if mode is AutoresetMode.DISABLED and over.any():
            masks = [{"reset_mask": over.copy()} for _ in range(2)]  # Gymnasium takes the mask out of its options
            observations, infos = ours.reset(options=masks[0])
            their_observations, their_infos = theirs.reset(options=masks[1])
            assert equal(observations, their_observations)
            assert equal(infos, their_infos)
    assert ends > n
    ours.close()
    theirs.close()


def test_by_default_envs_take_the_tasks_in_turn() -> None:
    envs = TaskVectorEnv("CheetahDir", num_envs=5)
    assert [task.index for task in envs.get_tasks()] == [0, 1, 0, 1, 0]
    envs.close()


def test_tasks_are_chosen_at_making_at_reset_and_in_between() -> None:
    family = get_family("CheetahVel")
    envs = gym.make_vec("OfflineMeta/CheetahVel-v0", num_envs=3, split="test", task=[4, 5, 6]).unwrapped
    assert envs.get_tasks() == list(family.tasks["test"][4:7])
    _, info = envs.reset(options={"task": 7})
    assert info["task"].tolist() == [7, 7, 7]
    _, info = envs.reset(options={"task": np.array([1, 2, 3])})
    assert info["task"].tolist() == [1, 2, 3]
    mixed = [family.tasks["ood"][0], family.tasks["train"][1], family.tasks["test"][2]]
    envs.set_tasks(mixed)
    _, info = envs.reset(seed=0)
    assert envs.get_tasks() == mixed
    _, rewards, _, _, info = envs.step(np.zeros((3, 6)))
    expected = [-abs(v - task.params[0]) for v, task in zip(info["features"][:, 0], mixed, strict=True)]
    assert rewards == pytest.approx(expected)
    mask = np.array([False, True, False])
    _, info = envs.reset(options={"task": [9, 9, 9], "reset_mask": mask})
    assert [task.index for task in envs.get_tasks()] == [0, 9, 2]
    assert info["_task"].tolist() == mask.tolist()
    drawn = envs.sample_tasks(50, rng=0)
    assert drawn == envs.sample_tasks(50, rng=0) != envs.sample_tasks(50, rng=1)
    assert {task.split for task in drawn} == {"test"}
    envs.close()


def test_a_refused_reset_changes_nothing() -> None:
    envs = TaskVectorEnv("CheetahVel", num_envs=2, task=0)
    envs.reset(seed=0)
    for bad in ({"seed": -1}, {"seed": [1]}):
        with pytest.raises(OfflineMetaError):
            envs.reset(**bad, options={"task": 5})
        *_, info = envs.step(np.zeros((2, 6)))
        assert info["task"].tolist() == [0, 0]
    envs.close()


def test_a_seed_per_env() -> None:
    envs = TaskVectorEnv("CheetahVel", num_envs=3, task=0)
    first, _ = envs.reset(seed=[7, 8, 7])
    assert np.array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])
    alone = gym.make("OfflineMeta/CheetahVel-v0")
    assert np.array_equal(alone.reset(seed=8)[0], first[1])
    for seeds in (np.array([7, 8, 7]), [np.int64(7), 8, 7]):
        assert np.array_equal(envs.reset(seed=seeds)[0], first)
    assert np.array_equal(envs.reset(seed=np.int64(7))[0][0], first[0])
    unseeded = [envs.reset()[0] for _ in range(2)]
    assert not np.array_equal(*unseeded)
    envs.close()
    alone.close()


def test_what_a_step_returns_belongs_to_the_caller() -> None:
    envs = TaskVectorEnv("AntDir", num_envs=2)
    envs.reset(seed=0)
    twin = TaskVectorEnv("AntDir", num_envs=2)
    twin.reset(seed=0)
    for _ in range(3):
        step = envs.step(np.full((2, 8), 0.3))
        expected = twin.step(np.full((2, 8), 0.3))
        for ours, theirs in zip(step[:4], expected[:4], strict=True):
            assert np.array_equal(ours, theirs)
        for array in (*step[:4], *(value for value in step[4].values())):
            array[:] = 1
    envs.close()
    twin.close()


def test_actions_beyond_the_box_are_clipped() -> None:
    envs = TaskVectorEnv("CheetahVel", num_envs=2, task=0)
    envs.reset(seed=[0, 0])
    observations, rewards, *_ = envs.step(np.array([[1.0] * 6, [5.0] * 6]))
    assert np.array_equal(observations[0], observations[1])
    assert rewards[0] == rewards[1]
    envs.close()


@pytest.mark.parametrize("name", ["HopperParam", "PointRobot", "ML1-reach"])
def test_a_copy_of_a_batch_plays_the_present_tasks_and_begins_anew(name: str) -> None:
    family = get_family(name)
    mixed = [family.tasks[split][2] for split in ("test", "train", "test")]
    choices = (
        lambda envs: envs.set_tasks(mixed),
        lambda envs: (envs.reset(seed=0, options={"task": mixed}), envs.step(np.zeros(envs.action_space.shape))),
    )
    for choose in choices[family.in_processes :]:  # a process takes seconds to start
        envs = gym.make_vec(f"OfflineMeta/{name}-v0", num_envs=3, max_episode_steps=5, autoreset_mode="NextStep")
        choose(envs)
        for copied in (copy.deepcopy, pickled):
            twin = copied(envs)
            assert twin.get_tasks() == envs.get_tasks() == mixed
            assert twin.family is envs.family
            assert (twin.spec, twin.metadata) == (envs.spec, envs.metadata)
            zeros = np.zeros(envs.action_space.shape)
            with pytest.raises(ResetNeededError):
                twin.step(zeros)
            for seed in (None, 3):  # the generators go on where the originals' stood
                original = envs if seed is not None else copy.deepcopy(envs)
                assert np.array_equal(twin.reset(seed=seed)[0], original.reset(seed=seed)[0])
                for _ in range(7):  # over the end of an episode
                    for ours, theirs in zip(twin.step(zeros), original.step(zeros), strict=True):
                        assert equal(ours, theirs)
                if original is not envs:
                    original.close()
            twin.close()
        envs.close()


def test_a_reset_seeds_the_generator_of_a_batch() -> None:
    envs = gym.make_vec("OfflineMeta/PointRobot-v0", num_envs=3)
    draws = []
    for seed in (7, 7, [7, 1, 2], 8):
        envs.reset(seed=seed)
        draws.append(envs.np_random.random())
        assert envs.np_random_seed == (8 if seed == 8 else 7)
    assert draws[0] == draws[1] == draws[2] != draws[3]
    envs.reset()
    assert envs.np_random.random() != envs.np_random.random()
    envs.close()


def test_what_gymnasium_asks_of_single_envs_is_answered_or_refused_with_a_remedy() -> None:
    family = get_family("CheetahVel")
    ours, theirs = (
        gym.make_vec("OfflineMeta/CheetahVel-v0", num_envs=3, **mode)
        for mode in ({"task": 0}, {"vectorization_mode": "sync"})
    )
    for envs in (ours, theirs):
        envs.reset(seed=4)
        assert envs.call("set_task", 5) == (None,) * 3
        assert envs.call("get_task") == (family.tasks["train"][5],) * 3
    drawn, expected = ([rng.random() for rng in envs.get_attr("np_random")] for envs in (ours, theirs))
    assert drawn == expected
    for name in ("action_space", "observation_space", "render_mode", "family"):
        assert ours.get_attr(name) == theirs.get_attr(name) == ours.call(name) == theirs.call(name)
    for ask in (
        lambda: ours.call("toggle_terminate_on_success", True),
        lambda: ours.get_attr("model"),
        lambda: ours.set_attr("render_mode", "human"),
    ):
        with pytest.raises(NoSubEnvironmentError, match=r"set_tasks\(\) or .*vectorization_mode='sync'"):
            ask()
    ours.close()
    theirs.close()


@pytest.mark.gl
def test_a_batch_renders_each_env() -> None:
    envs = gym.make_vec("OfflineMeta/PointRobot-v0", num_envs=2, render_mode="rgb_array", width=64, height=64)
    envs.reset(seed=0)
    pictures = envs.render()
    assert [picture.shape for picture in pictures] == [(64, 64, 3)] * 2
    assert not np.array_equal(*pictures)
    envs.close()


def test_meta_world_batches_say_what_went_wrong_in_a_process() -> None:
    envs = TaskVectorEnv("ML1-reach", num_envs=2, num_threads=2)
    envs.reset(seed=0)
    envs._simulator._noted[0].append(("reset", (99, np.random.default_rng(0))))
    with pytest.raises(WorkerError, match="IndexError"):
        envs.step(np.zeros((2, 4)))
    envs.reset(seed=0)  # the pool goes on
    envs.step(np.zeros((2, 4)))
    envs._simulator._processes[0].kill()
    envs._simulator._processes[0].join()
    with pytest.raises(WorkerError, match="is gone"):
        envs.step(np.zeros((2, 4)))
    envs.close()


def test_an_interrupted_exchange_with_meta_world_is_never_taken_for_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = TaskVectorEnv("ML1-reach", num_envs=2, num_threads=2)
    envs.reset(seed=0)
    reach = envs._simulator._reach

    def interrupted(worker: int, act: Any, *args: Any) -> Any:
        if worker == 1 and not args:  # the first answer has been read, the second has not
            raise KeyboardInterrupt
        return reach(worker, act, *args)

    with monkeypatch.context() as patch:
        patch.setattr(envs._simulator, "_reach", interrupted)
        with pytest.raises(KeyboardInterrupt):
            envs.step(np.zeros((2, 4)))
    with pytest.raises(WorkerError, match="interrupted half-way"):
        envs.step(np.zeros((2, 4)))
    envs.close()
    with pytest.raises(ClosedError):
        envs._simulator.observe()


def test_meta_world_batches_run_in_daemonic_processes() -> None:
    """These may have no children of their own: workers of a multiprocessing.Pool, or of a data loader."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        inside = pool.apply(run_two, ("ML1-reach",))
    for there, here in zip(inside, run_two("ML1-reach"), strict=True):
        assert np.array_equal(there, here)


def test_many_requests_ahead_do_not_block_the_pool() -> None:
    pool = ProcessPool(echo, num_envs=300, num_processes=2, preload=())
    task, rng = get_family("PointRobot").tasks["train"][0], np.random.default_rng(0)
    for _ in range(5):
        for i in range(300):
            pool.set_task(i, task)
            pool.reset(i, rng)
    assert pool.observe().shape == (300, 2)
    for value in range(5):
        step = pool.step(np.full((300, 2), float(value)))
        assert step.rewards.tolist() == [value] * 300
    pool.close()
