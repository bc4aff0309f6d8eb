"""The batch engine against MuJoCo itself and Gymnasium's own environments."""

from __future__ import annotations

import copy
import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from helpers import pickled

from offlinemeta.envs import TaskEnv, TaskVectorEnv, get_family
from offlinemeta.envs.errors import ClosedError
from offlinemeta.envs.mujoco_family import STATE_LIMIT, MujocoFamily
from offlinemeta.envs.mujoco_simulator import MujocoSimulator, load_model, task_model

PAIRS = {
    "CheetahVel": ("HalfCheetah-v5", {}),
    "AntDir": ("Ant-v5", {"terminate_when_unhealthy": False}),
    "HumanoidDir": ("Humanoid-v5", {"terminate_when_unhealthy": False}),
    "WalkerParam": ("Walker2d-v5", {"terminate_when_unhealthy": False, "frame_skip": 4}),
    "HopperParam": ("Hopper-v5", {"terminate_when_unhealthy": False, "frame_skip": 4}),
}


def family_of(name: str) -> MujocoFamily:
    family = get_family(name)
    assert isinstance(family, MujocoFamily)
    return family


@pytest.mark.parametrize("name", PAIRS)
def test_resets_and_steps_equal_gymnasium_v5_bit_for_bit(name: str) -> None:
    """An independent implementation of the same physics; its solver is started cold each step, as ours is."""
    family = family_of(name)
    simulator = MujocoSimulator(family, num_envs=1, num_threads=1)  # no task: the original dynamics
    other_id, kwargs = PAIRS[name]
    other = gym.make(other_id, **kwargs).unwrapped
    other.reset(seed=5)
    rng, _ = gym.utils.seeding.np_random(5)
    simulator.reset(0, rng)
    nq = other.model.nq
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 1, other.model.nu))
    for action in actions:
        state = simulator._state[0]
        assert np.array_equal(state[1 : 1 + nq], other.data.qpos)
        assert np.array_equal(state[1 + nq :], other.data.qvel)
        other.data.qacc_warmstart[:] = 0
        _, _, _, _, info = other.step(action[0] * other.model.actuator_ctrlrange[:, 1])
        step = simulator.step(action)
    other.close()
    simulator.close()
    assert not step.diverged.any()
    if name == "CheetahVel":
        assert step.features[0, 0] == pytest.approx(info["x_velocity"], rel=1e-6)


def test_the_tracked_centre_of_mass_is_the_mean_over_bodies() -> None:
    simulator = MujocoSimulator(family_of("HumanoidDir"), num_envs=2, num_threads=1)
    rng = np.random.default_rng(0)
    simulator.reset(0, rng)
    simulator.reset(1, rng)
    model, data = simulator._model, mujoco.MjData(simulator._model)
    for step in range(4):
        for i in range(2):
            data.qpos[:] = simulator._state[i, 1 : 1 + model.nq]
            mujoco.mj_forward(model, data)
            mean = (model.body_mass[:, None] * data.xipos).sum(0) / model.body_mass.sum()
            assert simulator._com[i] == pytest.approx(mean, abs=1e-12), step
        simulator.step(rng.uniform(-1, 1, (2, model.nu)))
    simulator.close()


@pytest.mark.parametrize("name", ["WalkerParam", "HopperParam"])
def test_a_task_multiplies_the_original_model_and_nothing_drifts(name: str) -> None:
    family = family_of(name)
    original = copy.copy(load_model(family.physics))
    first, second = family.tasks["train"][:2]
    for task in (first, second, first):
        model = task_model(family, task)
        arrays = [getattr(model, key).ravel() for key in ("body_mass", "body_inertia", "dof_damping", "geom_friction")]
        before = [
            getattr(original, key).ravel() for key in ("body_mass", "body_inertia", "dof_damping", "geom_friction")
        ]
        assert np.array_equal(np.concatenate(arrays), np.concatenate(before) * np.array(task.params))
        assert model.body_subtreemass[0] == pytest.approx(model.body_mass.sum())  # derived constants follow
    assert np.array_equal(load_model(family.physics).body_mass, original.body_mass)
    assert model.body_subtreemass[0] != pytest.approx(original.body_subtreemass[0])


def test_the_walker_of_corro_varies_masses_and_friction_alone() -> None:
    family = get_family("WalkerParam", variant="corro")
    original, task = load_model(family.physics), family.tasks["train"][0]
    model, factors = task_model(family, task), np.split(np.array(task.params), [8])
    assert np.array_equal(model.body_mass, original.body_mass * factors[0])
    assert np.array_equal(model.geom_friction, original.geom_friction * factors[1].reshape(-1, 3))
    assert np.array_equal(model.body_inertia, original.body_inertia)
    assert np.array_equal(model.dof_damping, original.dof_damping)


def test_a_reversed_gear_takes_the_opposite_action() -> None:
    """The original cheetah, told actions times a task's factors, goes the way of that task's cheetah."""
    family = family_of("CheetahGear")
    task = family.tasks["train"][0]
    ours, original = (MujocoSimulator(family, num_envs=1, num_threads=1) for _ in range(2))
    ours.set_task(0, task)
    for simulator in (ours, original):
        simulator.reset(0, np.random.default_rng(0))
    for actions in np.random.default_rng(1).uniform(-0.6, 0.6, (20, 1, 6)):  # times 1.5 they stay in the control range
        ours.step(actions)
        original.step(actions * np.array(task.params))
    assert ours._state == pytest.approx(original._state, abs=1e-9)
    for simulator in (ours, original):
        simulator.close()


def test_a_step_is_a_function_of_state_and_action() -> None:
    """Two simulators with different pasts, put into the same state, go the same way."""
    ours, other = (MujocoSimulator(family_of("AntDir"), num_envs=1, num_threads=1) for _ in range(2))
    ours.reset(0, np.random.default_rng(0))
    other.reset(0, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    for _ in range(30):
        ours.step(rng.uniform(-1, 1, (1, 8)))
    other._state[:] = ours._state
    action = rng.uniform(-1, 1, (1, 8))
    ours.step(action)
    other.step(action)
    assert np.array_equal(ours._state, other._state)


@pytest.mark.parametrize("num_envs", [1, 2, 5, 17])
def test_the_number_of_threads_changes_nothing(num_envs: int) -> None:
    ends = []
    for threads in (1, 2, 3):
        envs = TaskVectorEnv("HopperParam", num_envs=num_envs, num_threads=threads)
        envs.reset(seed=0)
        rng = np.random.default_rng(0)
        for _ in range(15):
            observations, *_ = envs.step(rng.uniform(-1, 1, (num_envs, 3)))
        envs.close()
        ends.append(observations)
    assert np.array_equal(ends[0], ends[1])
    assert np.array_equal(ends[0], ends[2])


def corrupting(simulator: MujocoSimulator, value: float, place: int = 1) -> Callable[[list[Any]], None]:
    """MuJoCo's step, with a bad velocity in what it returns for one env, that in the middle of three."""
    run = simulator._team.run

    def corrupted(jobs: list[Any]) -> None:
        run(jobs)
        simulator._trajectory[place, -1, -1] = value

    return corrupted


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12, 2 * STATE_LIMIT])
@pytest.mark.parametrize("name", ["CheetahVel", "HumanoidDir"])
def test_instability_ends_one_env_and_leaves_the_others_alone(name: str, value: float, monkeypatch) -> None:
    plan = np.random.default_rng(0).uniform(-1, 1, (6, 3, *get_family(name).action_space.shape))
    runs = []
    for sick in (False, True):
        envs = TaskVectorEnv(name, num_envs=3, task=[0, 1, 2], num_threads=2)
        envs.reset(seed=0)
        rows = []
        for t, actions in enumerate(plan):
            if sick and t == 2:
                monkeypatch.setattr(envs._simulator._team, "run", corrupting(envs._simulator, value))
            rows.append(envs.step(actions))
            monkeypatch.undo()
        envs.close()
        runs.append(rows)
    for t, (well, ill) in enumerate(zip(*runs, strict=True)):
        assert np.isfinite(ill[0]).all()
        assert envs.single_observation_space.contains(ill[0][1])
        assert np.isfinite(ill[1]).all()
        for i in (0, 2):
            assert np.array_equal(well[0][i], ill[0][i])
            assert well[1][i] == ill[1][i]
        assert ill[2].tolist() == ([False, True, False] if t == 2 else [False] * 3)
        if t == 2:
            assert ill[4]["final_info"]["diverged"].tolist() == [False, True, False]
            assert np.isfinite(ill[4]["final_obs"][1]).all()
            assert not ill[4]["diverged"].any()  # the next episode has begun


def test_real_instability_is_caught(tmp_path, monkeypatch) -> None:
    """A model that blows up by itself: an enormous velocity makes MuJoCo reset the copy in the middle of a step."""
    monkeypatch.chdir(tmp_path)
    env = gym.make("OfflineMeta/AntDir-v0")
    env.reset(seed=0)
    simulator = env.unwrapped._simulator
    simulator._state[0, 16:] = 999.0  # within the limit, but no solver survives it
    observation, reward, terminated, truncated, info = env.step(np.ones(8))
    assert (terminated, truncated, info["diverged"]) == (True, False, True)
    assert np.isfinite(observation).all()
    assert np.isfinite(reward)
    env.close()


def test_an_error_in_a_job_reaches_the_caller_once() -> None:
    envs = TaskVectorEnv("HopperParam", num_envs=4, num_threads=2)
    envs.reset(seed=0)
    team = envs._simulator._team
    with pytest.raises(TypeError):
        team.run([(None,) * 7] * 8)
    for _ in range(3):
        envs.step(np.zeros((4, 3)))
    envs.close()


def test_an_interrupted_step_leaves_a_batch_that_works() -> None:
    """Interrupts at random moments; afterwards the batch does what a fresh one does."""
    envs = TaskVectorEnv("AntDir", num_envs=16, task=0, num_threads=2)
    envs.reset(seed=0)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    interrupts, rng = 0, random.Random(0)
    try:
        while interrupts < 30:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.01))
            try:
                while True:
                    envs.step(np.zeros((16, 8)))
            except KeyboardInterrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    fresh = TaskVectorEnv("AntDir", num_envs=16, task=0, num_threads=2)
    assert np.array_equal(envs.reset(seed=3)[0], fresh.reset(seed=3)[0])
    for _ in range(5):
        assert np.array_equal(envs.step(np.full((16, 8), 0.1))[0], fresh.step(np.full((16, 8), 0.1))[0])
    envs.close()
    fresh.close()


def test_a_closed_environment_says_so() -> None:
    for name in ("CheetahVel", "PointRobot"):
        envs, env = TaskVectorEnv(name, num_envs=4, num_threads=2), TaskEnv(name)
        for one, shape in ((envs, envs.action_space.shape), (env, env.action_space.shape)):
            one.reset(seed=0)
            one.close()
            one.close()
            with pytest.raises(ClosedError, match="Make it anew"):
                one.step(np.zeros(shape))
            with pytest.raises(ClosedError):
                one.reset()


def test_closing_from_another_thread_in_the_middle_of_steps() -> None:
    envs = TaskVectorEnv("AntDir", num_envs=16, num_threads=2)
    envs.reset(seed=0)
    seen: list[BaseException] = []

    def step_on() -> None:
        try:
            while True:
                envs.step(np.zeros((16, 8)))
        except BaseException as error:
            seen.append(error)

    stepper = threading.Thread(target=step_on, daemon=True)
    stepper.start()
    time.sleep(0.05)
    envs.close()
    stepper.join(timeout=10)
    assert not stepper.is_alive()
    assert isinstance(seen[0], ClosedError)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_can_step_the_batch_it_inherits() -> None:
    envs = TaskVectorEnv("HopperParam", num_envs=8, num_threads=2)
    envs.reset(seed=0)
    envs.step(np.zeros((8, 3)))
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        envs.reset(seed=1)
        envs.step(np.zeros((8, 3)))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    envs.close()


def test_copies_begin_anew() -> None:
    env = TaskEnv("AntDir", split="test", task=3)
    envs = TaskVectorEnv("HopperParam", num_envs=3, task=[1, 2, 3])
    for twin in (copy.deepcopy(env), pickled(env)):
        assert twin.get_task() == env.get_task()
        assert np.array_equal(twin.reset(seed=0)[0], env.reset(seed=0)[0])
        assert np.array_equal(twin.step(np.ones(8))[0], env.step(np.ones(8))[0])
        twin.close()
    twin = copy.deepcopy(envs)
    assert twin.get_tasks() == envs.get_tasks()
    assert np.array_equal(twin.reset(seed=0)[0], envs.reset(seed=0)[0])
    for one in (env, envs, twin):
        one.close()


def test_a_diverged_ant_gets_no_bonus_for_health(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = TaskVectorEnv("AntDir", num_envs=3, num_threads=1)
    envs.reset(seed=0)
    monkeypatch.setattr(envs._simulator._team, "run", corrupting(envs._simulator, np.nan))
    _, rewards, _, _, info = envs.step(np.ones((3, 8)))
    assert info["final_info"]["features"][1].tolist() == [0.0, 0.0, 8.0, 0.0]
    assert rewards[1] == -4.0 * 200
    envs.close()


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_divergence_is_charged_the_worst_reward_for_each_step_that_is_left(
    mode: AutoresetMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cheetah that breaks the simulation is not spared the rest of an episode in which all rewards are negative."""
    envs = TaskVectorEnv("CheetahVel", num_envs=3, task=7, num_threads=1, autoreset_mode=mode)
    env = TaskEnv("CheetahVel")
    plan = np.random.default_rng(0).uniform(-1, 1, (5, 3, 6))
    paid = []
    for episode in range(2):  # in the second, nothing is left of the first
        envs.reset(seed=0)
        for t, actions in enumerate(plan):
            if t == 4:
                monkeypatch.setattr(envs._simulator._team, "run", corrupting(envs._simulator, np.nan))
            _, rewards, terminated, _, info = envs.step(actions)
            monkeypatch.undo()
            paid.append(rewards[1])
        assert terminated.tolist() == [False, True, False]
        features = info.get("final_info", info)["features"][1:2]
        (own,) = envs.family.reward(features, envs.get_params()[1:2])
        assert paid[-1] == pytest.approx(own + (200 - 5) * min(*paid[-5:-1], own))
        assert rewards[[0, 2]].min() > -20
        env.reset(seed=1, options={"task": 7})
        for t, actions in enumerate(plan[:, 1]):
            if t == 4:
                monkeypatch.setattr(env._simulator._team, "run", corrupting(env._simulator, np.nan, place=0))
            assert env.step(actions)[1] == paid[episode * 5 + t]
            monkeypatch.undo()
    envs.close()
    env.close()


def test_a_divergence_earns_nothing_where_rewards_are_positive() -> None:
    family = get_family("HumanoidDir")
    assert family.divergence_charge(np.array([4.0, -1.0]), 150).tolist() == [0.0, -50.0]


@pytest.mark.parametrize("value", [1e11, np.nan])
def test_instability_in_meta_world_is_seen(value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = TaskEnv("ML1-reach")
    before, _ = env.reset(seed=0)
    env._simulator._envs[0].data.qvel[:] = value
    observation, reward, terminated, truncated, info = env.step(np.zeros(4))
    assert (terminated, truncated, info["diverged"]) == (True, False, True)
    assert np.array_equal(observation, before)
    assert np.isfinite(reward)
    env.reset()
    assert not env.step(np.zeros(4))[4]["diverged"]
    env.close()


@pytest.mark.parametrize("politely", [True, False])
def test_a_batch_takes_its_threads_with_it(politely: bool) -> None:
    before = set(threading.enumerate())
    envs = TaskVectorEnv("HopperParam", num_envs=4, num_threads=3)
    helpers = set(threading.enumerate()) - before
    assert len(helpers) == 2
    if politely:
        envs.close()
    else:
        del envs
        gc.collect()
    for helper in helpers:
        helper.join(timeout=5)
        assert not helper.is_alive()
