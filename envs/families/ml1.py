"""ML1-<task>: one Meta-World manipulation task with a hidden goal, for each of its 50 classes.

Source: Meta-World (Yu et al., 2019, arXiv 1910.10897), the ``metaworld`` package 3.1.1, reward version "v2". A task is
Meta-World's random vector (object and goal positions); those of ``metaworld.ML1(name, seed=1337)``, and of other seeds
for fresh tasks, are frozen in our JSON files. A reset to one task always gives the same state, as in Meta-World.
Departures: our own time limit, float32 observations, and no use of ``gym.make("Meta-World/...")``, whose ML1-train
gives the test tasks.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np

from offlinemeta.envs.errors import MissingExtraError, NotRelabelableError
from offlinemeta.envs.family import TASK_SEED, Simulator, TaskFamily, Transition, box
from offlinemeta.envs.render import Camera, Marker, View
from offlinemeta.envs.shapes import Array, Float, Float32
from offlinemeta.envs.task import TASK_FILES, Task, TaskLists, read_tasks

ML1_TASKS = (
    "assembly", "basketball", "bin-picking", "box-close", "button-press-topdown", "button-press-topdown-wall",
    "button-press", "button-press-wall", "coffee-button", "coffee-pull", "coffee-push", "dial-turn", "disassemble",
    "door-close", "door-lock", "door-open", "door-unlock", "hand-insert", "drawer-close", "drawer-open", "faucet-open",
    "faucet-close", "hammer", "handle-press-side", "handle-press", "handle-pull-side", "handle-pull", "lever-pull",
    "pick-place-wall", "pick-out-of-hole", "pick-place", "plate-slide", "plate-slide-side", "plate-slide-back",
    "plate-slide-back-side", "peg-insert-side", "peg-unplug-side", "soccer", "stick-push", "stick-pull", "push",
    "push-wall", "push-back", "reach", "reach-wall", "shelf-place", "sweep-into", "sweep", "window-open",
    "window-close",
)  # fmt: skip
"""The names of Meta-World's v3 classes, without the version."""

LIMIT = 10.0
"""Bound of an observation's entries; positions in metres stay far below it."""


class ML1(TaskFamily):
    """One Meta-World task. Reward: Meta-World's "v2", which depends on the simulator's state; it is not relabelable."""

    varies = "reward"
    horizon = 500
    dt = 0.0125
    feature_names = ()
    info_names = ("success",)
    steps_per_second = 2e3
    fixed_start = True
    in_processes = True
    suite = "ML1"
    extra = "metaworld"
    observation_space = box(-LIMIT, LIMIT, 39)
    action_space = box(-1, 1, 4)

    def __init__(self, task_name: str) -> None:
        self.task_name = task_name
        self.name = f"{self.suite}-{task_name}"
        self.summary = f"a robot arm: Meta-World's {task_name}, with a hidden goal"

    @cached_property
    def tasks(self) -> TaskLists:
        """The frozen task lists by split; the file says how long Meta-World's random vector is."""
        return read_tasks(TASK_FILES / f"{self.name}.json", self.name, None)

    @cached_property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The entries of Meta-World's random vector."""
        return vector_names(len(self.tasks["train"][0].params))

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Return the 50 train and 50 test tasks of ``metaworld.ML1(name, seed=1337)``."""
        train, test = self._vectors(TASK_SEED)
        return {"train": train, "test": test, "ood": np.empty((0, train.shape[1]))}

    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} P"]:
        """Return the first ``count`` tasks of ``metaworld.ML1(name, seed)``, train before test, for drawn seeds."""
        drawn: list[Array] = []
        while sum(map(len, drawn)) < count:
            drawn += self._vectors(int(rng.randint(2**31 - 1)))
        return np.concatenate(drawn)[:count]

    def _vectors(self, seed: int) -> tuple[Float[Array, "50 P"], Float[Array, "50 P"]]:
        """Return the random vectors of the train and test tasks of ``metaworld.ML1(name, seed)``."""
        benchmark = _metaworld().ML1(f"{self.task_name}-v3", seed=seed)
        train, test = (
            np.array([pickle.loads(task.data)["rand_vec"] for task in tasks])
            for tasks in (benchmark.train_tasks, benchmark.test_tasks)
        )
        return train, test

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Raise NotRelabelableError: the reward cannot be computed from features."""
        raise NotRelabelableError(
            f"{self.name}'s reward depends on the simulator's state (contacts, initial positions), not on recorded "
            f"features, so it cannot be computed for another task. Collect with one env per task instead."
        )

    def simulator(self, num_envs: int, num_threads: int) -> Simulator:
        """Build one Meta-World env in this process, or several in a pool of processes.

        A daemonic process (a worker of ``multiprocessing.Pool`` or of a data loader) may have no children, so there
        several run in this process, one after the other.

        Raises:
            MissingExtraError: metaworld is not installed.
        """
        _metaworld()
        if num_envs == 1 or multiprocessing.current_process().daemon:
            return MetaWorldSimulator(self, num_envs)
        from offlinemeta.envs.pool import ProcessPool

        make = partial(MetaWorldSimulator, self)
        return ProcessPool(make, num_envs, num_processes=num_threads, preload=("metaworld", __name__))

    def markers(self, task: Task, time: float) -> tuple[Marker, ...]:
        """Return no markers: Meta-World's scenes show their goal."""
        return ()


class MetaWorldSimulator:
    """N Meta-World envs, stepped one after the other; each keeps its scene, which takes 0.25 s to build."""

    def __init__(self, family: ML1, num_envs: int) -> None:
        from offlinemeta.envs.mujoco_simulator import warn_of_other_versions

        warn_of_other_versions()
        make = _metaworld().ALL_V3_ENVIRONMENTS[f"{family.task_name}-v3"]
        self._envs = [make(reward_function_version="v2") for _ in range(num_envs)]
        self._observations = np.zeros((num_envs, 39), dtype=np.float32)

    def set_task(self, i: int, task: Task) -> None:
        """Hand env ``i`` the task's random vector, in the pickle that Meta-World expects."""
        from metaworld.types import Task as MetaWorldTask

        env = self._envs[i]
        content = {"rand_vec": np.array(task.params), "env_cls": type(env), "partially_observable": True}
        env.set_task(MetaWorldTask(env_name=task.family, data=pickle.dumps(content)))

    def reset(self, i: int, rng: np.random.Generator) -> None:
        """Reset env ``i``; a task has one initial state, so ``rng`` is not used."""
        observation, _ = self._envs[i].reset()
        self._observations[i] = np.clip(observation, -LIMIT, LIMIT)

    def step(self, actions: Float[Array, "N A"]) -> Transition:
        """Step each env; ``success`` (0 or 1) goes to the info. An env that diverges keeps its last observation."""
        n = len(self._envs)
        rewards, success, diverged = np.zeros(n), np.zeros(n), np.zeros(n, dtype=bool)
        for i, (env, action) in enumerate(zip(self._envs, actions, strict=True)):
            env.curr_path_length = 0  # the time limit is ours
            observation, reward, _, _, info = env.step(action.astype(np.float32))
            diverged[i] = unstable(env.data) or not (np.isfinite(observation).all() and np.isfinite(reward))
            if not diverged[i]:
                self._observations[i] = np.clip(observation, -LIMIT, LIMIT)
                rewards[i], success[i] = reward, info["success"]
        features = np.zeros((n, 0), dtype=np.float32)
        return Transition(features, diverged.copy(), diverged, rewards, {"success": success})

    def observe(self) -> Float32[Array, "N O"]:
        """Return the latest observations, in which the goal is hidden."""
        return self._observations.copy()

    def view(self, i: int) -> View:
        """Return a view of the table from the front corner."""
        camera = Camera(lookat=(0.0, 0.6, 0.2), distance=1.6, azimuth=-120, elevation=-25)
        return View(self._envs[i].model, self._envs[i].data, camera)

    def close(self) -> None:
        """Close Meta-World's envs."""
        for env in self._envs:
            env.close()


def vector_names(size: int) -> tuple[str, ...]:
    """Return the names of a random vector's entries."""
    return tuple(f"rand_vec[{i}] [m]" for i in range(size))


def unstable(data: Any) -> bool:
    """Tell whether MuJoCo has met an unstable state since the reset; MuJoCo hides such a state by starting anew."""
    import mujoco

    kinds = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
    return any(data.warning[int(kind)].number > 0 for kind in kinds)


def _metaworld() -> Any:
    try:
        import metaworld
    except ImportError as error:
        raise MissingExtraError("metaworld", "ML1") from error
    return metaworld
