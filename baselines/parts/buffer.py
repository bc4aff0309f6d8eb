"""Experience of many tasks as one block of memory: a meta-batch is one gather."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from offlinemeta.datasets.dataset import Dataset, Episode
from offlinemeta.envs import Task, get_family
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.shapes import Array


class Batch(NamedTuple):
    """Transitions of T tasks: observations ``[T, B, O]``, actions ``[T, B, A]``, the others ``[T, B]``."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminations: Tensor

    def context(self, next_observations: bool = False) -> Tensor:
        """Return what the encoder reads: (s, a, r), and s' where dynamics vary: ``[T, B, X]``."""
        parts = [self.observations, self.actions, self.rewards[..., None]]
        return torch.cat([*parts, self.next_observations] if next_observations else parts, dim=-1)


@dataclass(frozen=True)
class Normaliser:
    """Shifts and scales observations: ``mean`` and ``scale`` ``[O]``."""

    mean: Array
    scale: Array

    @classmethod
    def of(cls, observations: Array) -> Normaliser:
        """Take the moments of ``[S, O]``."""
        return cls(observations.mean(0), np.maximum(observations.std(0), 1e-2))

    @classmethod
    def identity(cls, size: int) -> Normaliser:
        """Leave them as they are."""
        return cls(np.zeros(size, dtype=np.float32), np.ones(size, dtype=np.float32))

    def __call__(self, observations: Array) -> Array:
        """Normalise ``[*, O]``."""
        return ((observations - self.mean) / self.scale).astype(np.float32)


class TaskBuffer:
    """Transitions by task, ``[T, capacity, O + A + 1 + O + 1]``.

    Args:
        tasks: whose experience; a batch names them by their place here.
        normalise: what is done to observations on their way in.
        device: where the block lies.
    """

    def __init__(self, tasks: Sequence[Task], normalise: Normaliser, device: torch.device) -> None:
        self.tasks, self.normalise = tuple(tasks), normalise
        family = get_family(self.tasks[0].family)
        observations, actions = family.observation_space.shape[0], family.action_space.shape[0]
        self.horizon, self._widths = family.horizon, (observations, actions, 1, observations, 1)
        self._rows = torch.empty(len(tasks), 0, sum(self._widths), device=device)
        self.sizes = torch.zeros(len(tasks), dtype=torch.long, device=device)

    @classmethod
    def of(cls, dataset: Dataset, device: torch.device, normalised: bool) -> TaskBuffer:
        """Fill a buffer from a dataset, in the dataset's order of tasks and episodes."""
        size = dataset.observations.shape[1]
        normalise = Normaliser.of(dataset.observations) if normalised else Normaliser.identity(size)
        buffer = cls(dataset.tasks, normalise, device)
        buffer.add(list(dataset))
        return buffer

    def __len__(self) -> int:
        """Number of transitions in all."""
        return int(self.sizes.sum())

    @property
    def device(self) -> torch.device:
        """Where the block lies."""
        return self._rows.device

    def add(self, episodes: Sequence[Episode]) -> None:
        """Append episodes, each to its own task; the block grows by doubling.

        Raises:
            ArgumentError: an episode of a task that the buffer does not have.
        """
        by_task: dict[Task, list[Array]] = {}
        for episode in episodes:
            if episode.task not in self.tasks:
                raise ArgumentError(f"The buffer has no {episode.task}; its first task is {self.tasks[0]}.")
            by_task.setdefault(episode.task, []).append(self._as_rows(episode))
        places = {task: place for place, task in enumerate(self.tasks)}
        self._append({places[task]: torch.as_tensor(np.concatenate(rows)) for task, rows in by_task.items()})

    def _append(self, blocks: Mapping[int, Tensor]) -> None:
        ends = {place: int(self.sizes[place]) + len(rows) for place, rows in blocks.items()}
        capacity = self._rows.shape[1]
        if ends and max(ends.values()) > capacity:
            wider = self._rows.new_empty(len(self.tasks), max(2 * capacity, *ends.values()), self._rows.shape[2])
            wider[:, :capacity] = self._rows
            self._rows = wider
        for place, rows in blocks.items():
            self._rows[place, int(self.sizes[place]) : ends[place]] = rows.to(self.device)
            self.sizes[place] = ends[place]

    def sample_tasks(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` places of tasks, uniformly with replacement."""
        return torch.randint(len(self.tasks), (count,), generator=generator, device=self.device)

    def sample(
        self, tasks: Tensor, count: int, generator: torch.Generator, among: tuple[Tensor, Tensor] | None = None
    ) -> Batch:
        """Draw ``count`` transitions of each of T tasks, uniformly with replacement.

        Args:
            tasks: ``[T]`` places.
            count: of each.
            generator: on the buffer's device.
            among: first and one past the last transition to draw from, ``[T]`` each; by default, all.
        """
        first, end = among if among is not None else (torch.zeros_like(tasks), self.sizes[tasks])
        uniform = torch.rand((len(tasks), count), generator=generator, device=self.device, dtype=torch.float64)
        rows = self._rows[tasks[:, None], first[:, None] + (uniform * (end - first)[:, None]).long()]
        observations, actions, rewards, following, terminations = rows.split(self._widths, dim=-1)
        return Batch(observations, actions, rewards[..., 0], following, terminations[..., 0])

    def rollouts(self, tasks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a rollout of each task, as what :meth:`sample` may draw from; every rollout is ``horizon`` long."""
        uniform = torch.rand(len(tasks), generator=generator, device=self.device)
        first = (uniform * (self.sizes[tasks] // self.horizon)).long() * self.horizon
        return first, first + self.horizon

    def copy(self) -> TaskBuffer:
        """Return one that grows on its own."""
        other = copy.copy(self)
        other._rows, other.sizes = self._rows.clone(), self.sizes.clone()
        return other

    def beyond(self, logged: TaskBuffer) -> tuple[Tensor, Tensor]:
        """Return what has been added since this was a copy of ``logged``: all rows, and how many are each task's."""
        rows = [self._rows[i, int(a) : int(b)] for i, (a, b) in enumerate(zip(logged.sizes, self.sizes, strict=True))]
        return torch.cat(rows), self.sizes - logged.sizes

    def extend(self, rows: Tensor, sizes: Tensor) -> None:
        """Append what :meth:`beyond` returned."""
        self._append(dict(enumerate(rows.split(sizes.tolist()))))

    def _as_rows(self, episode: Episode) -> Array:
        observations = self.normalise(episode.observations)
        columns = (
            observations[:-1],
            episode.actions,
            episode.rewards[:, None],
            observations[1:],
            episode.terminations[:, None].astype(np.float32),
        )
        return np.concatenate(columns, axis=1)
