"""Episodes as flat arrays, their hash, and their labels for other tasks."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np

from offlinemeta.datasets.spec import DatasetSpec
from offlinemeta.envs import Task, TaskFamily, env_id, get_family
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.shapes import Array, Bool, Float, Float32, Int

FORMAT = 1
"""Version of the format of header and arrays; data in another one are refused."""


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode of T steps, with one more observation than actions.

    Attributes:
        task: the task whose rewards these are.
        behaviour: index into ``Dataset.behaviours`` of the policy that acted.
        seed: seed of the reset; with it, the task and the actions, the env gives the episode again.
        observations: ``[T+1, O]``.
        actions: ``[T, A]`` in [-1, 1].
        rewards: ``[T]`` rewards of the episode's task.
        terminations: ``[T]`` whether the MDP has ended with this step.
        truncations: ``[T]`` whether a time limit or the end of the rollout cut the episode off after this step.
        infos: ``[T, ...]`` by name: ``features``, all that the reward depends on; ``diverged``, 1 where the simulation
            became unstable, else 0; and the family's ``info_names``, such as Meta-World's ``success``.
    """

    task: Task
    behaviour: int
    seed: int
    observations: Float32[Array, "T_plus_1 O"]
    actions: Float32[Array, "T A"]
    rewards: Float32[Array, " T"]
    terminations: Bool[Array, " T"]
    truncations: Bool[Array, " T"]
    infos: Mapping[str, Float32[Array, "T *entry"]]

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.rewards)


@dataclass(frozen=True, eq=False)
class Dataset:
    """All episodes of a dataset, in order of collection, as arrays over S steps of E episodes.

    Attributes:
        spec: what the dataset is.
        behaviours: names of the policies that collected.
        observations: ``[S+E, O]``; episode e has one row more than steps.
        actions: ``[S, A]``.
        rewards: ``[S]`` rewards of each episode's own task.
        terminations, truncations: ``[S]`` as those of an :class:`Episode`.
        infos: ``[S, ...]`` by name, as those of an :class:`Episode`.
        lengths: ``[E]`` number of steps of each episode.
        task: ``[E]`` index of each episode's task in ``spec.tasks``.
        behaviour: ``[E]`` index of each episode's policy in ``behaviours``.
        seed: ``[E]`` seed of each episode's reset.
        provenance: versions and machine that collected the data; no part of the hash.
    """

    spec: DatasetSpec
    behaviours: tuple[str, ...]
    observations: Float32[Array, "S_plus_E O"]
    actions: Float32[Array, "S A"]
    rewards: Float32[Array, " S"]
    terminations: Bool[Array, " S"]
    truncations: Bool[Array, " S"]
    infos: Mapping[str, Float32[Array, "S *entry"]]
    lengths: Int[Array, " E"]
    task: Int[Array, " E"]
    behaviour: Int[Array, " E"]
    seed: Int[Array, " E"]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> TaskFamily:
        """The task family."""
        return get_family(self.spec.family)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that the dataset covers."""
        return self.spec.tasks

    @cached_property
    def starts(self) -> Int[Array, " E_plus_1"]:
        """First step of each episode, and the number of steps."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    def __getitem__(self, index: SupportsIndex) -> Episode:
        """Return an episode, whose arrays are views of the dataset's."""
        e = operator.index(index)
        if not -len(self) <= e < len(self):
            raise IndexError(f"Episode {e} of {len(self)}.")
        e %= len(self)
        steps = slice(int(self.starts[e]), int(self.starts[e + 1]))
        return Episode(
            task=self.tasks[self.task[e]],
            behaviour=int(self.behaviour[e]),
            seed=int(self.seed[e]),
            observations=self.observations[steps.start + e : steps.stop + e + 1],
            actions=self.actions[steps],
            rewards=self.rewards[steps],
            terminations=self.terminations[steps],
            truncations=self.truncations[steps],
            infos={name: array[steps] for name, array in self.infos.items()},
        )

    def __iter__(self) -> Iterator[Episode]:
        """Iterate over the episodes, in order of collection."""
        return (self[e] for e in range(len(self)))

    def by_task(self) -> dict[Task, list[Episode]]:
        """Return the episodes of each task, in order of collection."""
        groups: dict[Task, list[Episode]] = {task: [] for task in self.tasks}
        for episode in self:
            groups[episode.task].append(episode)
        return groups

    def returns(self) -> Float[Array, " E"]:
        """Return each episode's sum of rewards."""
        return np.add.reduceat(self.rewards.astype(np.float64), self.starts[:-1])

    def first(self) -> Bool[Array, " E"]:
        """Tell which episodes are the first of their rollout: they are whole, and a fair sample of whole episodes.

        (Of the later ones, only those that terminate early are whole.)
        """
        return self.starts[:-1] % self.family.horizon == 0

    def aimless(self) -> Bool[Array, " E"]:
        """Tell which episodes do not follow their own task: random ones, those that explore, or are told another."""
        marked = np.array([name.endswith(AIMLESS) for name in self.behaviours])
        return np.asarray(marked[self.behaviour])

    def returns_by_behaviour(self) -> dict[str, float]:
        """Return the mean return of each behaviour policy's whole episodes."""
        returns, first = self.returns(), self.first()
        used = np.unique(self.behaviour).tolist()
        return {self.behaviours[b]: round(float(returns[first & (self.behaviour == b)].mean()), 2) for b in used}

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the content: header and arrays, whatever file holds them."""
        digests = {name: hashlib.sha256(bytes_of(array)).hexdigest() for name, array in self.arrays().items()}
        shapes = {name: [array.dtype.str, *array.shape] for name, array in self.arrays().items()}
        content = {"header": header(self.spec, self.behaviours), "shapes": shapes, "digests": digests}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def arrays(self) -> dict[str, Array]:
        """Return all arrays by name; infos as ``infos/<name>``."""
        named = {name: getattr(self, name) for name in STEP_ARRAYS + EPISODE_ARRAYS}
        return named | {f"infos/{name}": array for name, array in self.infos.items()}

    def facts(self) -> dict[str, Any]:
        """Return what a manifest holds: the hash, sizes, and mean returns by behaviour policy."""
        return {
            "sha256": self.hash,
            "episodes": len(self),
            "steps": len(self.rewards),
            "returns": self.returns_by_behaviour(),
            **self.provenance,
        }


EXPLORING, EXPLOITING, TOLD, ASTRAY = "exploring", "exploiting", "told its task", "told another task"
"""Ends of the names of behaviours: what a rollout was for."""

RANDOM = "random"
"""Name of the behaviour of uniformly random actions."""

AIMLESS = (EXPLORING, ASTRAY, RANDOM)


def bytes_of(array: Array) -> memoryview:
    """Return an array's bytes, without a copy where they lie in order."""
    return np.ascontiguousarray(array).data


STEP_ARRAYS = ("observations", "actions", "rewards", "terminations", "truncations")
EPISODE_ARRAYS = ("lengths", "task", "behaviour", "seed")


def from_arrays(
    spec: DatasetSpec, behaviours: Sequence[str], arrays: Mapping[str, Array], provenance: Mapping[str, Any]
) -> Dataset:
    """Return the dataset that has these arrays (:meth:`Dataset.arrays`)."""
    infos = {name.removeprefix("infos/"): array for name, array in arrays.items() if name.startswith("infos/")}
    rest = {name: arrays[name] for name in STEP_ARRAYS + EPISODE_ARRAYS}
    return Dataset(spec=spec, behaviours=tuple(behaviours), infos=infos, provenance=provenance, **rest)


def header(spec: DatasetSpec, behaviours: Sequence[str]) -> dict[str, Any]:
    """Return what data must agree on with the present family to be read, as plain JSON."""
    return {
        "format": FORMAT,
        "id": spec.id,
        "env": env_id(get_family(spec.family)),
        "rollouts": spec.rollouts,
        "tasks": [[task.split, task.index, *task.params] for task in spec.tasks],
        "behaviours": list(behaviours),
    }


def join_episodes(
    spec: DatasetSpec, behaviours: Sequence[str], episodes: Iterable[Episode], provenance: Mapping[str, Any]
) -> Dataset:
    """Put episodes into one dataset, in their order.

    Raises:
        ArgumentError: there are none.
    """
    listed = list(episodes)
    if not listed:
        raise ArgumentError(f"{spec.id} has no episodes.")
    places = {task: place for place, task in enumerate(spec.tasks)}
    arrays: dict[str, Array] = {
        name: np.concatenate([getattr(episode, name) for episode in listed]) for name in STEP_ARRAYS
    }
    for name in listed[0].infos:
        arrays[f"infos/{name}"] = np.concatenate([episode.infos[name] for episode in listed])
    arrays["lengths"] = np.array([len(episode) for episode in listed], dtype=np.int64)
    arrays["task"] = np.array([places[episode.task] for episode in listed], dtype=np.int64)
    arrays["behaviour"] = np.array([episode.behaviour for episode in listed], dtype=np.int64)
    arrays["seed"] = np.array([episode.seed for episode in listed], dtype=np.int64)
    return from_arrays(spec, behaviours, arrays, provenance)


def label(dataset: Dataset, tasks: Sequence[Task]) -> list[Float32[Array, "T n_tasks"]]:
    """Label a dataset's episodes for any tasks of its family: what the env would have paid for them, in float32.

    Where tasks differ in dynamics (WalkerParam, HopperParam), the reward is the same function for all of them, so all
    columns are alike: the transitions would have been others. Where the simulation diverged, the charge for it
    (:meth:`TaskFamily.divergence_charge`) is that of the labels' own worst reward.

    Args:
        dataset: a dataset as :func:`offlinemeta.datasets.load` returns it.
        tasks: any tasks of its family, of any split.

    Returns:
        ``[episode][T, n_tasks]``; the column of an episode's own task equals its ``rewards``.

    Raises:
        NotRelabelableError: the reward is no function of recorded features (ML1).
        TaskError: a task of another family.
    """
    family = dataset.family
    params = family.params([family.task(task) for task in tasks])  # [n, P]
    features = dataset.infos.get("features", np.zeros((len(dataset.rewards), 0), dtype=np.float32))
    labels = []
    for start, stop in zip(dataset.starts[:-1], dataset.starts[1:], strict=True):
        rewards = family.reward(features[start:stop, None], params[None])  # [T, n]
        if dataset.infos["diverged"][stop - 1]:
            rewards[-1] += family.divergence_charge(rewards.min(0), stop - start)
        labels.append(rewards.astype(np.float32))
    return labels
