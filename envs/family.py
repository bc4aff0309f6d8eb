"""The definition of a task family, and the simulator of its environments.

A :class:`TaskFamily` is the definition: spaces, horizon, tasks, and pure functions over any leading axes. A
:class:`Simulator` is the physics of N copies at once. The environments (``env.py`` for one, ``vector.py`` for a batch)
are thin, know no family, and run on the same simulator, so a batch and a single env cannot disagree.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces

from offlinemeta.envs.checks import check_count
from offlinemeta.envs.errors import ArgumentError, TaskError, UnknownNameError
from offlinemeta.envs.shapes import Array, Bool, Float, Float32
from offlinemeta.envs.task import TASK_FILES, Task, TaskLike, TaskLists, check_split, read_tasks

if TYPE_CHECKING:
    from offlinemeta.envs.render import Marker, View

TASK_SEED = 1337
"""The seed of every published task list: ``numpy.random.RandomState(1337)``, as PEARL and its successors drew them."""

FRESH_LISTS = {"val": (2337, 20), "test100": (3337, 100)}
"""Seed and number of tasks of the lists that are not published ones: fresh tasks of the training distribution."""


@dataclass(frozen=True)
class Transition:
    """The outcome of one step of N environments, apart from the observation.

    Attributes:
        features: ``[N, F]``, everything that the reward depends on.
        terminated: ``[N]``, whether the MDP has ended; a time limit does not count.
        diverged: ``[N]``, whether the simulation became unstable; such an env also terminates, in its last good state,
            and its reward is charged :meth:`TaskFamily.divergence_charge`.
        rewards: ``[N]``, given only where the reward is not a function of the features (Meta-World).
        info: an array ``[N]`` for each of the family's ``info_names``.
    """

    features: Float32[Array, "N F"]
    terminated: Bool[Array, " N"]
    diverged: Bool[Array, " N"]
    rewards: Float[Array, " N"] | None = None
    info: Mapping[str, Array] = field(default_factory=dict)


@runtime_checkable
class Simulator(Protocol):
    """The physics of N environments of one family, each with its own task. It knows neither reward nor horizon."""

    def set_task(self, i: int, task: Task) -> None:
        """Give environment ``i`` a task, which holds from the next reset on."""

    def reset(self, i: int, rng: np.random.Generator) -> None:
        """Draw an initial state for environment ``i``."""

    def step(self, actions: Float[Array, "N A"]) -> Transition:
        """Advance all environments by one step; actions lie in [-1, 1]."""

    def observe(self) -> Float32[Array, "N O"]:
        """Return the observations of the present states, as a new array."""

    def view(self, i: int) -> View:
        """Return the model, state and camera with which a renderer draws environment ``i``."""

    def close(self) -> None:
        """Release threads and processes."""


class TaskFamily(ABC):
    """A distribution of MDPs that share spaces and horizon and differ in their task.

    Subclasses set the attributes below and define the abstract methods. They hold no state of any environment.
    """

    name: str
    summary: str
    """One line that describes the family in lists."""
    varies: Literal["reward", "dynamics", "both"]
    """What tasks differ in; where it is both, in what is observed at the start, too."""
    horizon: int = 200
    """Steps until truncation."""
    dt: float
    """Time per step [s]."""
    terminates: str = "never"
    """In words, when an episode terminates."""
    param_names: tuple[str, ...]
    """The names of the entries of ``Task.params``, with units."""
    feature_names: tuple[str, ...]
    """The names of the entries of the reward features, with units."""
    info_names: tuple[str, ...] = ()
    """The names of further entries of a step's info, each of which is a number."""
    steps_per_second: float = 1e4
    """Env steps a second, roughly, at which two cores collect a dataset; the time of a build is estimated from it."""
    extra: str | None = None
    """Name of the optional dependency that the family needs, as in ``pip install 'offlinemeta[extra]'``, or None."""
    best_reward: float | None = None
    """The largest reward that a step can give, where the definition bounds it."""
    fixed_start: bool = False
    """Whether every reset to a task gives the same state."""
    in_processes: bool = False
    """Whether a batch is simulated by processes in place of threads, which takes a hundred times as long."""
    suite: str | None = None
    """Name of the suite of families that this one belongs to, such as ``"ML1"``; lists show a suite on one line."""
    choices: Mapping[str, tuple[Any, ...]] = MappingProxyType({})
    """The options of :meth:`with_options` by name, with their values, of which the first is the default."""
    options: Mapping[str, Any] = MappingProxyType({})
    """The options that are not at their default."""
    observation_space: spaces.Box
    action_space: spaces.Box

    # --- options -------------------------------------------------------------------------------------------------

    def with_options(self, **options: Any) -> TaskFamily:
        """Return the family in another definition, such as one that others published; at the defaults, itself.

        Its name says the options, since its tasks and returns are its own: datasets, behaviour policies and references
        are of the default definition alone.

        Raises:
            UnknownNameError: the family has no such option.
            ArgumentError: the option has no such value.
        """
        chosen: dict[str, Any] = {}
        for option, value in options.items():
            if option not in self.choices:
                raise UnknownNameError(f"Option of {self.name}", option, self.choices)
            values = self.choices[option]
            if value not in values:
                listed = ", ".join(map(repr, values))
                raise ArgumentError(f"The option {option} of {self.name} is {value!r}. Choose one of {listed}.")
            if value != values[0]:
                chosen[option] = values[values.index(value)]
        return _changed(self, tuple(sorted(chosen.items()))) if chosen else self

    def configure(self) -> None:  # noqa: B027
        """Change the attributes of a new family that depend on its options; by default none."""

    def choose_tasks(self, params: Mapping[str, Float[Array, "_ P"]]) -> Mapping[str, Float[Array, "_ Q"]]:
        """Return the task parameters of a family with options by split, from those of the default; by default these."""
        return params

    # --- tasks ---------------------------------------------------------------------------------------------------

    @cached_property
    def tasks(self) -> TaskLists:
        """The frozen task lists by split.

        Raises:
            TaskFileError: the file is missing or corrupt, or has a task that cannot be (:meth:`refuse`).
        """
        return read_tasks(TASK_FILES / f"{self.name}.json", self.name, self.param_names, self.refuse)

    def refuse(self, params: Sequence[float]) -> str | None:
        """Say why there can be no task of these parameters, or return None; by default, any numbers make a task."""
        return None

    def describe(self, params: Sequence[float]) -> str:
        """Say in a word what a task of these parameters asks for; by default, nothing: its parameters say it."""
        return ""

    @cached_property
    def _all_tasks(self) -> frozenset[Task]:
        return frozenset(task for tasks in self.tasks.values() for task in tasks)

    @abstractmethod
    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw the parameters of the published tasks, ``train``, ``test`` and ``ood``, by the published formula."""

    @abstractmethod
    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} P"]:
        """Draw the parameters of ``count`` fresh tasks of the training distribution."""

    def draw_lists(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw the task parameters of each split; used once, to freeze the task lists."""
        fresh = {
            split: self.draw_params(count, np.random.RandomState(seed)) for split, (seed, count) in FRESH_LISTS.items()
        }
        return {**self.draw_tasks(), **fresh}

    def task(self, task: TaskLike, split: str = "train") -> Task:
        """Return a task by its index in a split; a :class:`Task` of this family is returned as it is.

        Raises:
            UnknownNameError: there is no such split.
            TaskError: the index is out of range, or the task belongs to another family.
        """
        if isinstance(task, Task):
            if task.family != self.name:
                raise TaskError(f"{task} is a task of {task.family}, not of {self.name}.")
            if task not in self._all_tasks:
                raise TaskError(f"{task} is not in the frozen task lists of {self.name}. Take it from family.tasks.")
            return task
        listed = self.tasks[check_split(split)]
        if isinstance(task, bool) or not isinstance(task, (int, np.integer)):
            raise TaskError(f"A task is an index or a Task, not {task!r} ({type(task).__name__}).")
        if not 0 <= task < len(listed):
            there_are = f"Valid indices are 0 to {len(listed) - 1}." if listed else "It has none."
            raise TaskError(f"{self.name} has {len(listed)} {split} tasks, so there is no task {task}. {there_are}")
        return listed[task]

    def sample_tasks(self, n: Any, split: str, rng: np.random.Generator | int | None) -> list[Task]:
        """Draw ``n`` tasks of a split, uniformly with replacement.

        Raises:
            TaskError: the split has no tasks.
            ArgumentError: ``n`` is not a whole number of at least 0.
        """
        self.task(0, split)
        check_count("n", n, least=0)
        listed = self.tasks[split]
        return [listed[i] for i in np.random.default_rng(rng).integers(len(listed), size=n)]

    @cached_property
    def num_params(self) -> int:
        """The number of parameters of a task."""
        return len(self.param_names)

    def params(self, tasks: Sequence[Task]) -> Float[Array, "n P"]:
        """Return the parameters of n tasks, stacked: ``[n, P]``."""
        return np.array([task.params for task in tasks]).reshape(len(tasks), self.num_params)

    @property
    def rewards_tell(self) -> bool:
        """Whether tasks differ in a reward that is a function of recorded features, and in nothing else."""
        return self.varies == "reward" and bool(self.feature_names)

    # --- pure functions, over any leading axes ---------------------------------------------------------------------

    def reward(self, features: Float[Array, "*#batch F"], params: Float[Array, "*#batch P"]) -> Float[Array, "*#batch"]:
        """Compute the reward from recorded features, for any task.

        Args:
            features: ``[..., F]``, the entries of ``feature_names``.
            params: ``[..., P]``, task parameters; leading axes broadcast against those of ``features``.

        Raises:
            NotRelabelableError: the family's reward is not a function of recorded features.
            ArgumentError: there are more or fewer features or parameters than the family has.
        """
        sizes, expected = (features.shape[-1], params.shape[-1]), (len(self.feature_names), self.num_params)
        if sizes != expected:
            raise ArgumentError(f"{self.name}: features and parameters have {sizes} entries; expected {expected}.")
        return self._reward(features, params)

    @abstractmethod
    def _reward(
        self, features: Float[Array, "*#batch F"], params: Float[Array, "*#batch P"]
    ) -> Float[Array, "*#batch"]:
        """Compute the reward by the family's formula."""

    def divergence_charge(self, worst: Float[Array, "*batch"], steps: Any) -> Float[Array, "*batch"]:
        """Return what is added to the reward of a step in which the simulation diverges, in envs and labels alike.

        Each step that is left until the horizon is charged the worst reward of the episode, if that is negative.
        Otherwise a policy that breaks the simulation would be spared the negative rewards of the rest of the episode.
        The family's horizon counts, even where an env is cut off earlier (``max_episode_steps``).

        Args:
            worst: the worst reward of the episode so far, that of this step included.
            steps: the number of steps so far, this one included.
        """
        return (self.horizon - steps) * np.minimum(worst, 0.0)

    def encode(self, params: Float[Array, "... P"]) -> Float32[Array, "... E"]:
        """Return the description of tasks that :class:`TaskObservation` shows to a policy; by default, ``params``."""
        return params.astype(np.float32)

    def told_actions(self, actions: Float[Array, "N A"], params: Float[Array, "N P"]) -> Float[Array, "N A"]:
        """Return a told policy's actions in the terms of each one's task; by default, as they are.

        Where tasks differ in what an action does, a policy learns faster if it acts in terms that hold in all of them.
        """
        return actions

    # --- simulation ------------------------------------------------------------------------------------------------

    @abstractmethod
    def simulator(self, num_envs: int, num_threads: int) -> Simulator:
        """Build the physics of ``num_envs`` environments."""

    def markers(self, task: Task, time: float) -> tuple[Marker, ...]:
        """Return shapes that show the task, ``time`` [s] into the episode: a goal, a direction, a pace."""
        return ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


@cache
def _changed(family: TaskFamily, options: tuple[tuple[str, Any], ...]) -> TaskFamily:
    """Return the family with options, the same object each time."""
    other = copy.copy(family)
    for cached in ("_all_tasks", "num_params"):
        vars(other).pop(cached, None)
    named = ",".join(f"{option}={value}" for option, value in options)
    vars(other).update(options, options=dict(options), name=f"{family.name}[{named}]")
    other.configure()
    lists = other.choose_tasks({split: family.params(tasks) for split, tasks in family.tasks.items()})
    vars(other)["tasks"] = {
        split: tuple(Task(other.name, split, i, tuple(row)) for i, row in enumerate(params.tolist()))
        for split, params in lists.items()
    }  # in place of the cached property
    return other


def box(low: Any, high: Any, size: int) -> spaces.Box:
    """Return a float32 box ``[low, high]^size``."""
    return spaces.Box(
        np.broadcast_to(low, (size,)).astype(np.float32), np.broadcast_to(high, (size,)).astype(np.float32)
    )
