"""Wrappers that change what an agent sees: the task itself, or several episodes of a task as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorWrapper
from gymnasium.vector.utils import batch_space

from offlinemeta.envs.checks import check_count
from offlinemeta.envs.env import TaskEnv
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.family import TaskFamily
from offlinemeta.envs.shapes import Array, Float32
from offlinemeta.envs.vector import TaskVectorEnv

if TYPE_CHECKING:
    _VectorWrapper = VectorWrapper[Any, Any, Any, Any, Any]
else:  # no generic class before Gymnasium 1.4
    _VectorWrapper = VectorWrapper


class TaskObservation(gymnasium.ObservationWrapper[Array, Array, Array], gymnasium.utils.RecordConstructorArgs):
    """Append the task's description (``family.encode``) to the observation, for agents that are told their task.

    Args:
        env: an environment of this package, wrapped or not.

    Raises:
        ArgumentError: the environment is not one of this package, or its observations are not vectors.
    """

    def __init__(self, env: gymnasium.Env[Array, Array]) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        gymnasium.ObservationWrapper.__init__(self, env)
        self._task_env = _task_env(env)
        self.observation_space = with_task(env.observation_space, self._task_env.family)

    def observation(self, observation: Float32[Array, " O"]) -> Float32[Array, " O_plus_E"]:
        """Return ``[observation, task]``."""
        family = self._task_env.family
        return np.concatenate([observation, family.encode(np.array(self._task_env.get_task().params))])


class VectorTaskObservation(_VectorWrapper):
    """Append each task's description (``family.encode``) to the observations of a batch, and to ``final_obs``.

    Args:
        env: a batch of this package, wrapped or not.

    Raises:
        ArgumentError: the batch is not one of this package, or its observations are not vectors.
    """

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        if not isinstance(env.unwrapped, TaskVectorEnv):
            raise ArgumentError(f"{env} is no batch of an offlinemeta family. Make it with gym.make_vec.")
        self._task_env: TaskVectorEnv = env.unwrapped
        self.single_observation_space = with_task(env.single_observation_space, self._task_env.family)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def _append(self, observations: Float32[Array, "N O"]) -> Float32[Array, "N O_plus_E"]:
        return np.concatenate([observations, self._task_env.family.encode(self._task_env.get_params())], axis=1)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the batch, and append the tasks' descriptions to its observations."""
        observations, info = self.env.reset(seed=seed, options=options)
        return self._append(observations), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the batch, and append the tasks' descriptions, to final observations too: a reset keeps the task."""
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        observations = self._append(observations)
        if "final_obs" in info:
            size = info["final_obs"][info["_final_obs"]][0].shape[0]
            for i in np.flatnonzero(info["_final_obs"]):
                info["final_obs"][i] = np.concatenate([info["final_obs"][i], observations[i, size:]])
        return observations, rewards, terminated, truncated, info


class MetaEpisode(gymnasium.Wrapper[Array, Array, Array, Array], gymnasium.utils.RecordConstructorArgs):
    """Join ``k`` episodes of one task into one long episode, as recurrent meta-RL needs it (RL², Duan et al., 2016).

    The observation is ``[observation, reward of the last step, done flag]``. When an inner episode ends, the env begins
    the next one by itself: the returned observation is the first of the new episode, with the last reward and a done
    flag of 1. Only the end of the last inner episode ends the meta-episode, with that episode's own flags.
    ``info["inner_episode"]`` counts from 0; the step that ends an inner episode carries ``info["final_obs"]``.

    Args:
        env: an environment of this package, with its time limit.
        k: number of episodes in a meta-episode.

    Raises:
        ArgumentError: the environment is not one of this package, its observations are not vectors, or ``k < 1``.
    """

    def __init__(self, env: gymnasium.Env[Array, Array], k: int = 3) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, k=k)
        gymnasium.Wrapper.__init__(self, env)
        self._k = check_count("k", k)
        self._episode = 0
        _task_env(env)  # only these keep their task over a reset
        inner = flat_box(env.observation_space)
        low, high = np.append(inner.low, [-np.inf, 0.0]), np.append(inner.high, [np.inf, 1.0])
        self.observation_space = spaces.Box(low.astype(np.float32), high.astype(np.float32))

    def _join(self, observation: Array, reward: float, done: bool) -> Array:
        return np.append(observation, [reward, float(done)]).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begin a meta-episode; the options are those of the environment."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._episode = 0
        return self._join(observation, 0.0, False), info | {"inner_episode": 0}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Advance by one step; at the end of an inner episode that is not the last one, begin the next."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        info["inner_episode"] = self._episode
        done = terminated or truncated
        if done and self._episode < self._k - 1:
            info["final_obs"] = observation
            observation, _ = self.env.reset()
            self._episode += 1
            terminated = truncated = False
        return self._join(observation, float(reward), done), float(reward), terminated, truncated, info


def _task_env(env: gymnasium.Env[Any, Any]) -> TaskEnv:
    if not isinstance(env.unwrapped, TaskEnv):
        raise ArgumentError(f"{env} is no environment of an offlinemeta family. Make it with gym.make.")
    return env.unwrapped


def flat_box(space: spaces.Space[Any]) -> spaces.Box:
    """Return the space, if its elements are vectors.

    Raises:
        ArgumentError: the elements of the space are not vectors.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ArgumentError(f"The wrapper needs observations that are vectors, not {space}.")
    return space


def with_task(space: spaces.Space[Any], family: TaskFamily) -> spaces.Box:
    """Return the space of ``[observation, task]``; the task's entries are unbounded."""
    size = family.encode(family.params([family.task(0)])).shape[-1]
    inner, unbounded = flat_box(space), np.full(size, np.inf, dtype=np.float32)
    return spaces.Box(np.append(inner.low, -unbounded), np.append(inner.high, unbounded))
