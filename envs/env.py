"""One environment of a family: Gymnasium's interface to a simulator of a single environment."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from offlinemeta.envs.checks import (
    check_actions,
    check_count,
    check_options,
    check_render_mode,
    check_seed,
    say_that_nothing_renders,
)
from offlinemeta.envs.errors import ArgumentError, ClosedError, ResetNeededError
from offlinemeta.envs.family import TaskFamily
from offlinemeta.envs.registry import get_family, picklable
from offlinemeta.envs.render import RENDER_MODES, Renderer
from offlinemeta.envs.shapes import Array, Float32, UInt8
from offlinemeta.envs.task import Task, TaskLike


class TaskEnv(gymnasium.Env[Array, Array]):
    """An environment whose MDP is one task of a family.

    The task is never in the observation. ``reset(options={"task": k})`` switches to task ``k`` of the split; a plain
    reset keeps the task. ``info`` has the same keys at reset and at every step:

    - ``task``: index in the split,
    - ``features``: ``[F]`` float32, all that the reward depends on (zeros at reset),
    - ``diverged``: whether the simulation became unstable, which terminates the episode and is charged: for each step
      that is left, the worst reward so far, if that is negative (:meth:`TaskFamily.divergence_charge`),

    and the numbers of the family's ``info_names``: ``success`` for Meta-World; ``progress`` [m/s], the speed along the
    wanted direction, for AntDir and HumanoidDir. Actions beyond [-1, 1] are clipped. The episode is truncated at the
    family's horizon at the latest; ``max_episode_steps`` of ``gym.make`` can only shorten it.

    A copy (``copy.deepcopy``, ``pickle``) keeps the present task, the random generator and the spec. The running
    episode is not copied: call ``reset`` before the copy's first ``step``.

    Args:
        family: name of a family, or a :class:`TaskFamily`.
        split: one of :data:`offlinemeta.envs.SPLITS`.
        task: index in the split; 0 by default.
        render_mode: ``"rgb_array"``, ``"human"`` or None.
        width: width of pictures [pixels].
        height: height of pictures [pixels].
        options: those of the family (:meth:`TaskFamily.with_options`), such as ``variant="corro"``.

    Raises:
        UnknownNameError: there is no such family, split, render mode or option.
        TaskError: there is no such task.
        ArgumentError: ``width`` or ``height`` is not a whole number of at least 1, or an option has no such value.
    """

    _spec: EnvSpec | None = None
    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        family: str | TaskFamily,
        split: str = "train",
        task: TaskLike = 0,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
        **options: Any,
    ) -> None:
        self.family = get_family(family, **options)
        self.observation_space = copy.deepcopy(self.family.observation_space)  # a space has a sampling seed of its own
        self.action_space = copy.deepcopy(self.family.action_space)
        self.render_mode = check_render_mode(render_mode)
        self.metadata = {**self.metadata, "render_fps": frames_per_second(self.family)}
        self._size = check_count("width", width), check_count("height", height)
        self._task = self.family.task(task, split)
        self._open()

    def _open(self) -> None:
        """Build the simulator and the renderer, which cannot be copied; no episode is running then."""
        self._renderer = Renderer(self.render_mode, *self._size) if self.render_mode is not None else None
        self._simulator = self.family.simulator(num_envs=1, num_threads=1)
        self._steps, self._worst, self._closed = 0, np.zeros(1), False
        self._over: str | None = "Call reset() before the first step()."
        self._set(self._task)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if name not in ("_renderer", "_simulator")}
        return kept | {"family": picklable(self.family)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, family=get_family(state["family"]))
        self._open()

    @property
    def spec(self) -> EnvSpec | None:
        """The specification from which Gymnasium can make this environment again."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None and "task" in spec.kwargs:  # plain values survive JSON, a Task or a numpy integer does not
            spec.kwargs = {**spec.kwargs, "split": self._task.split, "task": self._task.index}
        self._spec = spec

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

    def sample_tasks(self, n: Any, rng: np.random.Generator | int | None = None) -> list[Task]:
        """Draw ``n`` tasks of the present split, uniformly with replacement."""
        return self.family.sample_tasks(n, self._task.split, rng)

    # --- episodes

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Float32[Array, " O"], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: seed of the initial states, of this episode and the following ones.
            options: ``{"task": k}`` switches to a task, given by index or as a :class:`Task`; an index counts in the
                present split, or in that of a second option, ``{"task": k, "split": "ood"}``.

        Raises:
            UnknownNameError: there is no such option or split.
            ArgumentError: the seed is not a whole number of at least 0, or a split is given without a task.
            TaskError: the family has no such task.
            ClosedError: the environment has been closed.
        """
        self._check_open()
        seed = check_seed(seed)
        options = check_options(options, ("task", "split"))
        task, split = options.get("task"), options.get("split", self._task.split)
        if task is None and "split" in options:
            raise ArgumentError(f"The reset option split={split!r} needs a task: options={{'task': 0, 'split': ...}}.")
        if task is not None:
            self.set_task(self.family.task(task, split))
        super().reset(seed=seed)
        self._simulator.reset(0, self.np_random)
        self._steps, self._worst, self._over = 0, np.zeros(1), None
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
            ResetNeededError: no episode is running: before the first reset, after the end, or after a change of task.
            ActionError: the action has a wrong shape, or entries that are not finite.
            ClosedError: the environment has been closed.
        """
        self._check_open()
        if self._over is not None:
            raise ResetNeededError(self._over)
        actions = check_actions(action, self.family.action_space.shape)[None]
        step = self._simulator.step(actions)
        self._steps += 1
        rewards = step.rewards if step.rewards is not None else self.family.reward(step.features, self._params)
        self._worst = np.minimum(self._worst, rewards)
        if step.diverged[0]:
            rewards += self.family.divergence_charge(self._worst, self._steps)
        terminated, truncated = bool(step.terminated[0]), self._steps >= self.family.horizon
        if terminated or truncated:
            self._over = f"The episode ended after {self._steps} steps. Call reset() before the next step()."
        if self.render_mode == "human":
            self.render()
        info = {"task": self._task.index, "features": step.features[0], "diverged": bool(step.diverged[0])}
        info |= {name: float(step.info[name][0]) for name in self.family.info_names}
        return self._simulator.observe()[0], float(rewards[0]), terminated, truncated, info

    def render(self) -> UInt8[Array, "H W 3"] | None:
        """Draw the present state with the markers of the task; in mode ``rgb_array``, return ``[height, width, 3]``.

        Raises:
            RenderError: OpenGL is not available; the message names the remedy.
        """
        if self._renderer is None:
            say_that_nothing_renders()
            return None
        markers = self.family.markers(self._task, self._steps * self.family.dt)
        return self._renderer.render(self._simulator.view(0), markers, 1 / self.metadata["render_fps"])

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError

    def close(self) -> None:
        """Release the simulator and the renderer."""
        self._closed = True
        self._simulator.close()
        if self._renderer is not None:
            self._renderer.close()


def frames_per_second(family: TaskFamily) -> int:
    """Return the frames per second of a film in real time; families without real time get 5 steps a second."""
    return 5 if family.dt >= 1 else round(1 / family.dt)
