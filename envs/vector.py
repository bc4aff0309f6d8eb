"""A batch of environments of one family, each with a task of its own: ``gym.make_vec(id, num_envs=64)``."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from offlinemeta.envs.checks import (
    check_actions,
    check_autoreset_mode,
    check_count,
    check_horizon,
    check_mask,
    check_options,
    check_render_mode,
    check_seeds,
    say_that_nothing_renders,
)
from offlinemeta.envs.env import frames_per_second
from offlinemeta.envs.errors import ArgumentError, ClosedError, NoSubEnvironmentError, ResetNeededError, TaskError
from offlinemeta.envs.family import TaskFamily, Transition
from offlinemeta.envs.registry import env_id, get_family, picklable
from offlinemeta.envs.render import RENDER_MODES, Renderer
from offlinemeta.envs.shapes import Array, Bool, Float, Float32, UInt8
from offlinemeta.envs.task import Task, TaskLike, check_split

Tasks = TaskLike | Sequence[TaskLike] | Array

CORES = "OFFLINEMETA_CORES"
"""Environment variable: how many cores a batch uses by default, where a process should not take all there are."""


class TaskVectorEnv(gymnasium.vector.VectorEnv[Array, Array, Array]):
    """N environments of a family, stepped at once, with the same trajectories as N single ones of the same seeds.

    Infos are arrays with a mask each, as in Gymnasium: ``task`` ``[N]``, ``features`` ``[N, F]``, ``diverged`` ``[N]``.
    An unstable simulation costs what it costs in a single environment (:meth:`TaskFamily.divergence_charge`).
    In the default autoreset mode, SAME_STEP, the observation after an episode's end is the first of the next episode,
    and the last one is in ``info["final_obs"]``, its info in ``info["final_info"]``. An automatic reset keeps the task.

    A copy (``copy.deepcopy``, ``pickle``) keeps the present tasks, the random generators and the spec. Running episodes
    are not copied: call ``reset`` before the copy's first ``step``.

    Args:
        family: name of a family, or a :class:`TaskFamily`.
        num_envs: number of environments.
        split: one of :data:`offlinemeta.envs.SPLITS`.
        task: one index for all envs, or one for each env; by default, env i has task i modulo the number of tasks.
        max_episode_steps: can shorten the family's horizon, not extend it.
        autoreset_mode: Gymnasium's ``AutoresetMode``, or its value as a string.
        render_mode: ``"rgb_array"`` or None.
        width: width of pictures [pixels].
        height: height of pictures [pixels].
        num_threads: number of threads (for Meta-World, of processes); by default, all available cores
            (:func:`available_cores`).
        options: those of the family (:meth:`TaskFamily.with_options`), such as ``variant="corro"``.

    Raises:
        ArgumentError: ``num_envs``, ``num_threads`` or a size is below 1, the horizon is too long, or an option has no
            such value.
        UnknownNameError: there is no such family, split, mode or option.
        TaskError: there is no such task, or there are more or fewer tasks than environments.
    """

    def __init__(
        self,
        family: str | TaskFamily,
        num_envs: int = 1,
        split: str = "train",
        task: Tasks | None = None,
        max_episode_steps: Any = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
        num_threads: int | None = None,
        **options: Any,
    ) -> None:
        self.closed = True  # there is nothing to close until all arguments are known to be good
        self.family = get_family(family, **options)
        self.num_envs = check_count("num_envs", num_envs)
        self._horizon = check_horizon(max_episode_steps, self.family.name, self.family.horizon)
        self._mode = check_autoreset_mode(autoreset_mode)
        self.render_mode = check_render_mode(render_mode)
        if render_mode == "human":
            raise ArgumentError(
                "A batch renders as 'rgb_array'. For a window, make a single environment with gym.make."
            )
        self.metadata = {
            "render_modes": list(RENDER_MODES[:1]),
            "render_fps": frames_per_second(self.family),
            "autoreset_mode": self._mode,
        }
        self.single_observation_space = copy.deepcopy(self.family.observation_space)  # each has a sampling seed
        self.single_action_space = copy.deepcopy(self.family.action_space)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        self._split = check_split(split)
        tasks = self._as_tasks(np.arange(num_envs) % max(1, len(self.family.tasks[split])) if task is None else task)
        self._num_threads = check_count("num_threads", num_threads) if num_threads is not None else None
        self._size = check_count("width", width), check_count("height", height)

        self._tasks: list[Task] = list(tasks)
        self._params = self.family.params(tasks)
        self._indices = np.zeros(num_envs, dtype=np.int64)
        self._rngs = [np.random.default_rng(seed) for seed in np.random.SeedSequence().spawn(num_envs)]
        self._all = np.ones(num_envs, dtype=bool)
        self._open()

    def _open(self) -> None:
        """Build the simulator and the renderer, which cannot be copied; no episode is running then."""
        self._renderer = Renderer("rgb_array", *self._size) if self.render_mode is not None else None
        threads = self._num_threads if self._num_threads is not None else available_cores()
        self._simulator = self.family.simulator(self.num_envs, min(threads, self.num_envs))
        self.closed = False
        self._steps = np.zeros(self.num_envs, dtype=np.int64)
        self._worst = np.zeros(self.num_envs)  # the worst reward of the episode, if negative
        self._over = np.zeros(self.num_envs, dtype=bool)  # the episode has ended
        self._stale = np.ones(self.num_envs, dtype=bool)  # never reset, or the task has changed
        self._set(self._tasks, self._all)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if name not in ("_renderer", "_simulator")}
        return kept | {"family": picklable(self.family)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, family=get_family(state["family"]), closed=True)
        self._open()

    # --- tasks

    def set_tasks(self, tasks: Tasks) -> None:
        """Choose the tasks of the next episodes; running ones end here, so that no episode mixes two tasks.

        Args:
            tasks: an index in the present split or a :class:`Task` for all envs, or a sequence of one for each env.

        Raises:
            TaskError: the family has no such task, or the sequence has another length.
        """
        self._set(self._as_tasks(tasks), self._all)
        self._stale[:] = True

    def get_tasks(self) -> list[Task]:
        """Return the present task of each env."""
        return list(self._tasks)

    def get_params(self) -> Float[Array, "N P"]:
        """Return the parameters of the present tasks: ``[N, P]``."""
        return self._params.copy()

    def sample_tasks(self, n: int | None = None, rng: np.random.Generator | int | None = None) -> list[Task]:
        """Draw ``n`` tasks of the split (by default one for each env), uniformly with replacement."""
        return self.family.sample_tasks(self.num_envs if n is None else n, self._split, rng)

    # --- one environment of the batch, as Gymnasium's own vector environments offer it

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call ``get_task()`` or ``set_task(task)`` of each environment; an attribute is returned as by ``get_attr``.

        Raises:
            NoSubEnvironmentError: the name is of another method; the batch has no single environments to call.
            TaskError: the family has no such task.
        """
        if name == "get_task":
            return tuple(self.get_tasks(*args, **kwargs))
        if name == "set_task":
            self.set_tasks(*args, **kwargs)
            return (None,) * self.num_envs
        return self.get_attr(name)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute of each environment: one of its spaces, ``family``, ``render_mode`` or ``np_random``.

        Raises:
            NoSubEnvironmentError: the name is of another attribute.
        """
        known = {
            "action_space": (self.single_action_space,) * self.num_envs,
            "family": (self.family,) * self.num_envs,
            "np_random": tuple(self._rngs),
            "observation_space": (self.single_observation_space,) * self.num_envs,
            "render_mode": (self.render_mode,) * self.num_envs,
        }
        if name not in known:
            raise self._no_single(f"has a {name!r} (call knows get_task, set_task; get_attr {', '.join(known)})")
        return known[name]

    def set_attr(self, name: str, values: Any) -> None:
        """Raise NoSubEnvironmentError: a batch has no single environments whose attributes could be set."""
        raise self._no_single(f"can be given a {name!r}")

    def _no_single(self, what: str) -> NoSubEnvironmentError:
        return NoSubEnvironmentError(
            f"A batch is one simulator; none of its {self.num_envs} environments {what}. Choose tasks with set_tasks() "
            f"or reset(options={{'task': ...}}), or make environments that are objects: "
            f"gymnasium.make_vec({env_id(self.family)!r}, num_envs={self.num_envs}, vectorization_mode='sync')"
        )

    def _as_tasks(self, tasks: Any) -> list[Task]:
        if isinstance(tasks, (int, np.integer, Task)):
            return [self.family.task(tasks, self._split)] * self.num_envs
        if (
            isinstance(tasks, str)
            or not isinstance(tasks, (Sequence, np.ndarray))
            or (isinstance(tasks, np.ndarray) and tasks.ndim != 1)
        ):
            raise TaskError(f"Tasks are an index, a Task, or a sequence of {self.num_envs} of them; not {tasks!r}.")
        if len(tasks) != self.num_envs:
            raise TaskError(
                f"{len(tasks)} tasks were given for {self.num_envs} environments. Give one, or one for each."
            )
        return [self.family.task(task, self._split) for task in tasks]

    def _set(self, tasks: Sequence[Task], where: Bool[Array, " N"]) -> None:
        for i in np.flatnonzero(where).tolist():
            self._tasks[i] = tasks[i]
            self._indices[i] = tasks[i].index
            self._params[i] = tasks[i].params
            self._simulator.set_task(i, tasks[i])

    # --- episodes

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Float32[Array, "N O"], dict[str, Any]]:
        """Begin an episode in all environments, or in those of a mask.

        Args:
            seed: a number, with which env i is seeded by ``seed + i``, or a sequence with a seed for each env. The
                first seed also goes to ``np_random``, from which the batch itself draws nothing.
            options: ``task``, the tasks as in :meth:`set_tasks`; ``reset_mask``, a bool array ``[N]`` that says which
                environments to reset.

        Raises:
            UnknownNameError: there is no such option.
            TaskError: there is no such task, or there are more or fewer tasks than environments.
            ArgumentError: a seed is bad, or a mask or a sequence of seeds has another length.
            ClosedError: the batch has been closed.
        """
        self._check_open()
        options = check_options(options, ("task", "reset_mask"))
        mask = check_mask(options.get("reset_mask"), self.num_envs)
        seeds = check_seeds(seed, self.num_envs)
        tasks = self._as_tasks(options["task"]) if options.get("task") is not None else None
        super().reset(seed=seeds[0])  # nothing has changed until all is known to be good
        if tasks is not None:
            self._set(tasks, mask)
        for i in np.flatnonzero(mask).tolist():
            if seeds[i] is not None:
                self._rngs[i], _ = seeding.np_random(seeds[i])
        self._restart(mask)
        return self._simulator.observe(), self._info(None, mask)

    def _restart(self, where: Bool[Array, " N"]) -> None:
        for i in np.flatnonzero(where).tolist():
            self._simulator.reset(i, self._rngs[i])
        self._steps[where] = 0
        self._worst[where] = 0.0
        self._over[where] = self._stale[where] = False

    def step(
        self, actions: Any
    ) -> tuple[Float32[Array, "N O"], Float[Array, " N"], Bool[Array, " N"], Bool[Array, " N"], dict[str, Any]]:
        """Advance all environments by one step.

        Args:
            actions: ``[N, A]`` numbers in [-1, 1].

        Raises:
            ResetNeededError: an environment has no running episode: before the first reset, after a change of task, or,
                with autoreset disabled, after the end of its episode.
            ActionError: the actions have a wrong shape, or entries that are not finite.
            ClosedError: the batch has been closed.
        """
        self._check_ready()
        step = self._simulator.step(check_actions(actions, (self.num_envs, *self.family.action_space.shape)))
        rewards = step.rewards if step.rewards is not None else self.family.reward(step.features, self._params)
        self._steps += 1
        np.minimum(self._worst, rewards, out=self._worst)
        if step.diverged.any():
            rewards[step.diverged] += self.family.divergence_charge(self._worst, self._steps)[step.diverged]
        terminated, truncated = step.terminated, self._steps >= self._horizon

        if self._mode is AutoresetMode.NEXT_STEP and self._over.any():
            begun = self._over.copy()  # their step is the reset; what the simulator did to them does not count
            rewards[begun], terminated[begun], truncated[begun] = 0.0, False, False
            self._begin_anew(begun, step)
        self._over = terminated | truncated
        final: dict[str, Any] = {}
        if self._mode is AutoresetMode.SAME_STEP and self._over.any():
            final = self._final(step, self._over.copy())
            self._begin_anew(self._over.copy(), step)
            self._over[:] = False
        return self._simulator.observe(), rewards, terminated, truncated, self._info(step, self._all) | final

    def _begin_anew(self, where: Bool[Array, " N"], step: Transition) -> None:
        """Restart environments in the middle of a step, and turn their infos into those of a reset."""
        self._restart(where)
        for array in (step.features, step.diverged, *step.info.values()):
            array[where] = 0

    def _final(self, step: Transition, where: Bool[Array, " N"]) -> dict[str, Any]:
        """Return the observations and infos that an automatic reset would hide, under Gymnasium's names."""
        observations, final = self._simulator.observe(), np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(where).tolist():
            final[i] = observations[i].copy()
        return {
            "final_obs": final,
            "_final_obs": where,
            "final_info": self._info(step, where),
            "_final_info": where.copy(),
        }

    def _info(self, step: Transition | None, where: Bool[Array, " N"]) -> dict[str, Any]:
        """Return the infos of a step, or without a step those of a reset, each with a mask of the envs it is of."""
        n = self.num_envs
        if step is None:
            features = np.zeros((n, len(self.family.feature_names)), dtype=np.float32)
            arrays: dict[str, Array] = {
                "task": self._indices,
                "features": features,
                "diverged": np.zeros(n, dtype=bool),
            }
            arrays |= {name: np.zeros(n) for name in self.family.info_names}
        else:
            arrays = {"task": self._indices, "features": step.features, "diverged": step.diverged, **step.info}
        info: dict[str, Any] = {}
        for name, array in arrays.items():
            info[name], info[f"_{name}"] = array.copy(), where.copy()
        return info

    def render(self) -> tuple[UInt8[Array, "H W 3"], ...] | None:
        """Draw each environment as ``[height, width, 3]``.

        Raises:
            RenderError: OpenGL is not available; the message names the remedy.
        """
        if self._renderer is None:
            say_that_nothing_renders()
            return None
        pictures = []
        for i, task in enumerate(self._tasks):
            markers = self.family.markers(task, float(self._steps[i]) * self.family.dt)
            pictures.append(self._renderer.render(self._simulator.view(i), markers, pace=0.0))
        return tuple(picture for picture in pictures if picture is not None)

    def close_extras(self, **kwargs: Any) -> None:
        """Release the simulator and the renderer."""
        self._simulator.close()
        if self._renderer is not None:
            self._renderer.close()

    # --- checks

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError

    def _check_ready(self) -> None:
        self._check_open()
        if self._stale.any():
            which = np.flatnonzero(self._stale).tolist()
            raise ResetNeededError(f"Call reset() first: environments {which} have no running episode of their task.")
        if self._mode is AutoresetMode.DISABLED and self._over.any():
            which = np.flatnonzero(self._over).tolist()
            raise ResetNeededError(
                f"The episodes of environments {which} have ended and autoreset is disabled. Call "
                f"reset(options={{'reset_mask': mask}}) with a mask that is True there."
            )


def available_cores() -> int:
    """Return the number of cores that this process may use, or that :data:`CORES` allows it."""
    if os.environ.get(CORES, "").isdigit():
        return max(int(os.environ[CORES]), 1)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
