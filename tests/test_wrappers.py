"""The oracle's wrapper and the meta-episode."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from helpers import pickled

from offlinemeta.envs import FAMILIES, MetaEpisode, TaskObservation, VectorTaskObservation, env_id
from offlinemeta.envs.errors import ArgumentError


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.suite is None] + ["ML1-reach"])
def test_task_observation_appends_the_present_task(name: str) -> None:
    family = FAMILIES[name]
    env = TaskObservation(gym.make(env_id(family)))
    for task in family.tasks["train"][:2]:
        observation, _ = env.reset(seed=0, options={"task": task.index})
        assert env.observation_space.contains(observation)
        code = family.encode(np.array(task.params))
        assert np.array_equal(observation[-len(code) :], code)
        observation, *_ = env.step(np.zeros(env.action_space.shape))
        assert np.array_equal(observation[-len(code) :], code)
    env.close()


def test_a_batch_with_tasks_equals_single_envs_with_tasks_at_an_episode_s_end_too() -> None:
    envs = VectorTaskObservation(gym.make_vec("OfflineMeta/PointRobot-v0", num_envs=3))
    env = TaskObservation(gym.make("OfflineMeta/PointRobot-v0", task=2))
    observations, _ = envs.reset(seed=0)
    observation, _ = env.reset(seed=2)
    assert envs.observation_space.contains(observations)
    assert np.array_equal(observations[2], observation)
    for _ in range(20):
        observations, *_, info = envs.step(np.full((3, 2), 0.5))
        observation, *_ = env.step(np.full(2, 0.5))
    assert np.array_equal(info["final_obs"][2], observation)
    assert observations.shape == (3, 4)
    envs.close()
    env.close()


def test_a_meta_episode_is_k_episodes_of_one_task() -> None:
    k, horizon = 3, 20
    plain = gym.make("OfflineMeta/PointRobot-v0", task=4)
    meta = MetaEpisode(gym.make("OfflineMeta/PointRobot-v0", task=4), k=k)
    plan = np.random.default_rng(0).uniform(-1, 1, (k * horizon, 2))
    observation, _ = plain.reset(seed=0)
    long, _ = meta.reset(seed=0)
    assert np.array_equal(long, [*observation, 0.0, 0.0])
    for t, action in enumerate(plan, start=1):
        observation, reward, terminated, truncated, _ = plain.step(action)
        long, long_reward, long_terminated, long_truncated, info = meta.step(action)
        assert meta.observation_space.contains(long)
        assert long_reward == reward
        assert info["inner_episode"] == (t - 1) // horizon
        assert info["task"] == 4
        inner_end, end = t % horizon == 0, t == k * horizon
        if inner_end and not end:
            assert np.array_equal(info["final_obs"], observation)
            observation, _ = plain.reset()
        assert np.array_equal(long, np.array([*observation, reward, inner_end], dtype=np.float32))
        assert (long_terminated, long_truncated) == (False, end)
        assert not terminated
        assert truncated == inner_end
    meta.close()
    plain.close()


def test_a_fall_ends_only_the_inner_episode() -> None:
    env = MetaEpisode(gym.make("OfflineMeta/HopperParam-v0"), k=2)
    env.reset(seed=0)
    ends, flags = 0, (False, False)
    while not any(flags):
        observation, _, *flags, _info = env.step(np.ones(3))
        ends += int(observation[-1])
    assert ends == 2
    assert flags == [True, False]  # the last inner episode ended in a fall
    env.close()


def test_wrappers_are_recreated_from_their_spec() -> None:
    env = MetaEpisode(TaskObservation(gym.make("OfflineMeta/AntDir-v0", task=3)), k=2)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert np.array_equal(env.reset(seed=0)[0], again.reset(seed=0)[0])
    assert again.observation_space.shape == (27 + 2 + 2,)
    env.close()
    again.close()


def test_wrappers_refuse_foreign_environments() -> None:
    with pytest.raises(ArgumentError, match=r"gym\.make"):
        TaskObservation(gym.make("CartPole-v1"))
    with pytest.raises(ArgumentError, match="make_vec"):
        VectorTaskObservation(gym.make_vec("CartPole-v1", num_envs=1))
    with pytest.raises(ArgumentError, match="k=0"):
        MetaEpisode(gym.make("OfflineMeta/PointRobot-v0"), k=0)
    with pytest.raises(ArgumentError, match=r"gym\.make"):
        MetaEpisode(gym.make("CartPole-v1"))


def test_copies_of_wrapped_environments_play_the_present_task() -> None:
    env = MetaEpisode(TaskObservation(gym.make("OfflineMeta/PointRobot-v0", task=3)), k=2)
    env.reset(seed=0, options={"task": 5, "split": "test"})
    envs = VectorTaskObservation(gym.make_vec("OfflineMeta/PointRobot-v0", num_envs=3))
    envs.reset(seed=0, options={"task": [5, 6, 7]})
    for one in (env, envs):
        ones = np.ones(one.action_space.shape)
        for twin in (copy.deepcopy(one), pickled(one)):
            assert np.array_equal(twin.reset(seed=1)[0], one.reset(seed=1)[0])
            assert np.array_equal(twin.step(ones)[0], one.step(ones)[0])
            twin.close()
        one.close()


def test_wrappers_nest_in_any_order() -> None:
    env = TaskObservation(MetaEpisode(gym.make("OfflineMeta/PointRobot-v0"), k=2))
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation.shape == (2 + 2 + 2,)
    env.close()
