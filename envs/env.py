"""One environment of a family: the Gymnasium face of a simulator with one copy."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from offlinemeta.envs.errors import ActionError, ResetNeededError, UnknownNameError
from offlinemeta.envs.family import TaskFamily
from offlinemeta.envs.registry import get_family
from offlinemeta.envs.render import RENDER_MODES, Renderer
from offlinemeta.envs.shapes import Array, Float, Float32, UInt8
from offlinemeta.envs.task import Task, TaskLike


class TaskEnv(gymnasium.Env[Array, Array]):
    """An environment whose MDP is one task of a family.

    The task is never in the observation. ``reset(options={"task": k})`` switches to task ``k`` of the split; a plain
    reset keeps the task. ``info`` has the same keys at reset and at every step:

    - ``task``: index in the split,
    - ``features``: ``[F]`` float32, all that the reward depends on (zeros at reset),
    - ``diverged``: whether the simulation became unstable, which terminates the episode,

    and ``success`` for Meta-World. Actions beyond [-1, 1] are clipped. The episode is truncated at the family's horizon
    at the latest; ``max_episode_steps`` of ``gym.make`` can only shorten it.

    Args:
        family: name of a family, or a :class:`TaskFamily`.
        split: ``"train"``, ``"test"`` or ``"ood"``.
        task: index in the split; 0 by default.
        render_mode: ``"rgb_array"``, ``"human"`` or None.
        width, height: of pictures [pixels].

    Raises:
        UnknownNameError: no such family or split.
        TaskError: no such task.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        family: str | TaskFamily,
        split: str = "train",
        task: TaskLike = 0,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> None:
        self.family = get_family(family)
        self.observation_space, self.action_space = self.family.observation_space, self.family.action_space
        self.render_mode = check_render_mode(render_mode)
        self.metadata = {**self.metadata, "render_fps": frames_per_second(self.family)}
        self._renderer = Renderer(render_mode, width, height) if render_mode is not None else None
        self._task = self.family.task(task, split)
        self._simulator = self.family.simulator(num_envs=1, num_threads=1)
        self._steps = 0
        self._over: str | None = "Call reset() before the first step()."
        self._set(self._task)

    # --- tasks

    def set_task(self, task: TaskLike) -> None:
        """Choose the task of the next episode; the running one ends here, so that no episode mixes two tasks.

        Args:
            task: index in the present split, or a :class:`Task` of any split.

        Raises:
            TaskError: the family has no such task.
        """
        self._set(self.family.task(task, self._task.split))
        self._over = "The task has changed. Call reset() before the next step()."

    def _set(self, task: Task) -> None:
        self._task = task
        self._params = self.family.params([task])
        self._simulator.set_task(0, task)

    def get_task(self) -> Task:
        """Return the present task."""
        return self._task

    def sample_tasks(self, n: int, rng: np.random.Generator | int | None = None) -> list[Task]:
        """Draw ``n`` tasks of the present split, uniformly with replacement."""
        return self.family.sample_tasks(n, self._task.split, rng)

    # --- episodes

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[Array, " O"], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: seeds the initial states from here on.
            options: ``{"task": k}`` switches to a task, given by index or as a :class:`Task`.

        Raises:
            UnknownNameError: another option.
            TaskError: the family has no such task.
        """
        super().reset(seed=seed)
        task = check_options(options, ("task",)).get("task")
        if task is not None:
            self.set_task(task)
        self._simulator.reset(0, self.np_random)
        self._steps, self._over = 0, None
        if self.render_mode == "human":
            self.render()
        features = np.zeros(len(self.family.feature_names), dtype=np.float32)
        info = {"task": self._task.index, "features": features, "diverged": False}
        return self._simulator.observe()[0], info | dict.fromkeys(self.family.info_names, 0.0)

    def step(self, action: Any) -> tuple[Float32[Array, " O"], float, bool, bool, dict[str, Any]]:
        """Advance by one step.

        Args:
            action: ``[A]`` numbers in [-1, 1].

        Raises:
            ResetNeededError: before the first reset, after the end, or after a change of task.
            ActionError: a wrong shape, or entries that are not finite.
        """
        if self._over is not None:
            raise ResetNeededError(self._over)
        actions = check_actions(action, self.family.action_space.shape)[None]
        step = self._simulator.step(actions)
        self._steps += 1
        rewards = step.rewards if step.rewards is not None else self.family.reward(step.features, self._params)
        terminated, truncated = bool(step.terminated[0]), self._steps >= self.family.horizon
        if terminated or truncated:
            self._over = f"The episode ended after {self._steps} steps. Call reset() before the next step()."
        if self.render_mode == "human":
            self.render()
        info = {"task": self._task.index, "features": step.features[0], "diverged": bool(step.diverged[0])}
        info |= {name: float(step.info[name][0]) for name in self.family.info_names}
        return self._simulator.observe()[0], float(rewards[0]), terminated, truncated, info

    def render(self) -> UInt8[Array, "H W 3"] | None:
        """Draw the present state and what shows the task; ``[height, width, 3]`` in mode ``rgb_array``.

        Raises:
            RenderError: OpenGL is not available; the message names the remedy.
        """
        if self._renderer is None:
            gymnasium.logger.warn(
                "render() shows nothing without a render mode. Make the env with render_mode='rgb_array'."
            )
            return None
        markers = self.family.markers(self._task, self._steps * self.family.dt)
        return self._renderer.render(self._simulator.view(0), markers, 1 / self.metadata["render_fps"])

    def close(self) -> None:
        """Release the simulator and the renderer."""
        self._simulator.close()
        if self._renderer is not None:
            self._renderer.close()


def check_render_mode(mode: str | None) -> str | None:
    """Return the render mode, or raise UnknownNameError."""
    if mode is not None and mode not in RENDER_MODES:
        raise UnknownNameError("Render mode", mode, RENDER_MODES)
    return mode


def frames_per_second(family: TaskFamily) -> int:
    """Return the speed at which a film runs in real time; a point's steps have no real time, and get 5 a second."""
    return 5 if family.dt >= 1 else round(1 / family.dt)


def check_options(options: dict[str, Any] | None, known: tuple[str, ...]) -> dict[str, Any]:
    """Return reset options, or raise UnknownNameError for one that does not exist."""
    for name in options or ():
        if name not in known:
            raise UnknownNameError("Reset option", name, known)
    return options or {}


def check_actions(actions: Any, shape: tuple[int, ...]) -> Float[Array, ...]:
    """Return actions as float64, clipped to [-1, 1].

    Raises:
        ActionError: a wrong shape, or entries that are not finite.
    """
    try:
        array = np.asarray(actions, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ActionError(f"Actions must be an array of numbers {shape}, not {actions!r}.") from error
    if array.shape != shape:
        raise ActionError(f"Actions have shape {array.shape}; expected {shape}.")
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ActionError(f"The action at {bad} is {array[tuple(bad)]}. Actions must be finite numbers in [-1, 1].")
    return np.minimum(np.maximum(array, -1.0), 1.0)
