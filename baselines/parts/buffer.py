"""Experience of many tasks in one block of memory, so that a meta-batch is one gather operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from offlinemeta.baselines.parts.networks import Normaliser, widths
from offlinemeta.benchmark.context import Context
from offlinemeta.datasets.dataset import Episode
from offlinemeta.envs import Task, get_family
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.shapes import Array, Bool


class Batch(NamedTuple):
    """Transitions of T tasks: observations ``[T, B, O]``, actions ``[T, B, A]``, the others ``[T, B]``."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminations: Tensor


Source = Literal["all", "prior", "rollout"]
"""Where a training context is drawn from: all of a task's data, the rollouts that explored (with z from the prior, or
told another task), or one rollout."""

Span = tuple[Tensor, Tensor]
"""The rows of T tasks that may be drawn: each task's first row, and one past its last row, ``[T]`` each."""


class TaskBuffer:
    """Transitions by task: first the logged ones, then those that the learner has collected.

    A row is a transition, and a batch is chosen by rows (:meth:`draw`, :meth:`draw_context`) and then gathered
    (:meth:`take`). Anything else that belongs to a transition, such as a return or a belief, is a tensor
    ``[tasks, rows, ...]`` beside the buffer, gathered by the same rows (:func:`gather`).

    Attributes:
        tasks: the tasks whose experience the buffer holds; a batch names a task by its place in this tuple.
        sizes: ``[tasks]``, the number of rows of each task.
        logged: ``[tasks]``, the number of those rows that come from the dataset; the rows after them were collected.
        horizon: the number of rows in a rollout.
    """

    def __init__(self, tasks: Sequence[Task], normaliser: Normaliser) -> None:
        family, device = get_family(tasks[0].family), normaliser.mean.device
        o, a = widths(family)
        self.tasks, self.normaliser, self.horizon = tuple(tasks), normaliser, family.horizon
        self._widths = (o, a, 1, o, 1, 1)  # the last: whether the row's rollout explored
        self._block = torch.empty(len(tasks), 0, sum(self._widths), device=device)
        self.sizes = torch.zeros(len(tasks), dtype=torch.long, device=device)
        self.logged = self.sizes.clone()

    @classmethod
    def of(
        cls,
        tasks: Sequence[Task],
        episodes: Iterable[Episode],
        normaliser: Normaliser,
        explored: Sequence[bool] | Bool[Array, " E"] = (),
    ) -> TaskBuffer:
        """Fill a buffer with logged episodes, in the order given.

        Args:
            tasks: the tasks that the buffer is of.
            episodes: a dataset, or episodes made from one, such as relabelled ones.
            normaliser: normalises observations.
            explored: ``[E]``, which of the episodes are of rollouts that do not follow their own task
                (:meth:`Dataset.aimless <offlinemeta.datasets.dataset.Dataset.aimless>`); by default, none.
        """
        buffer = cls(tasks, normaliser)
        buffer.add(list(episodes), explored)
        buffer.logged = buffer.sizes.clone()
        return buffer

    def __len__(self) -> int:
        """Return the number of transitions of all tasks."""
        return int(self.sizes.sum())

    @property
    def device(self) -> torch.device:
        """The device on which the block lies."""
        return self._block.device

    # --- choose rows, gather them

    def draw_tasks(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the places of tasks, uniformly with replacement: ``[count]``."""
        return torch.randint(len(self.tasks), (count,), generator=generator, device=self.device)

    def draw(self, tasks: Tensor, count: int, generator: torch.Generator, among: Span | None = None) -> Tensor:
        """Draw rows of each of T tasks, uniformly with replacement: ``[T, count]``.

        Args:
            tasks: the tasks' places, ``[T]``.
            count: number of rows to draw of each task.
            generator: draws the rows; it must be on the buffer's device.
            among: the rows to draw from; by default, all rows of a task.

        Raises:
            ArgumentError: there is nothing to draw from for one of the tasks.
        """
        first, end = among if among is not None else (torch.zeros_like(tasks), self.sizes[tasks])
        if (empty := end <= first).any():
            raise ArgumentError(f"The buffer has nothing to draw from for {self.tasks[int(tasks[empty][0])]}.")
        uniform = torch.rand((len(tasks), count), generator=generator, device=self.device, dtype=torch.float64)
        return first[:, None] + (uniform * (end - first)[:, None]).long()

    def draw_others(self, tasks: Tensor, rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Draw rows of each of T tasks uniformly among those that are not in ``rows [T, B]``: ``[T, count]``.

        Raises:
            ArgumentError: nothing is left to draw from for one of the tasks.
        """
        left = (torch.arange(self._block.shape[1], device=self.device) < self.sizes[tasks][:, None]).float()
        left.scatter_(1, rows, 0.0)
        if (none := left.sum(1) == 0).any():
            raise ArgumentError(f"No transition of {self.tasks[int(tasks[none][0])]} is left to draw. Draw fewer.")
        return torch.multinomial(left, count, replacement=True, generator=generator)

    def take(self, tasks: Tensor, rows: Tensor) -> Batch:
        """Gather the transitions of T tasks at ``rows [T, ...]``."""
        parts = gather(self._block, tasks, rows).split(self._widths, dim=-1)
        observations, actions, rewards, next_observations, terminations, _ = parts
        return Batch(observations, actions, rewards[..., 0], next_observations, terminations[..., 0])

    def last(self, tasks: Tensor, rollouts: int) -> Span:
        """Return the rows of the last rollouts of T tasks."""
        end = self.sizes[tasks]
        return (end - rollouts * self.horizon).clamp_min(0), end

    def draw_context(
        self, tasks: Tensor, count: int, generator: torch.Generator, source: Source, logged: bool = False
    ) -> Tensor:
        """Draw rows of each of T tasks as a context, with replacement: ``[T, count]``.

        Args:
            tasks: the tasks' places, ``[T]``.
            count: number of rows to draw of each task.
            generator: draws the rows; it must be on the buffer's device.
            source: what is drawn from, :data:`Source`.
            logged: whether collected rows are left out.

        Raises:
            ArgumentError: no rollout of one of the tasks explored, and such are asked for.
        """
        end = (self.logged if logged else self.sizes)[tasks]
        if source == "all":
            return self.draw(tasks, count, generator, (torch.zeros_like(end), end))
        if source == "rollout":
            uniform = torch.rand(len(tasks), generator=generator, device=self.device)
            first = (uniform * (end // self.horizon)).long() * self.horizon
            return self.draw(tasks, count, generator, (first, first + self.horizon))
        rollouts = torch.arange(self._block.shape[1] // self.horizon, device=self.device)  # [R]
        there = rollouts < (end // self.horizon)[:, None]  # what lies behind is not initialised
        explored = torch.where(there, self._block[tasks[:, None], rollouts * self.horizon, -1], 0)  # [T, R], 1 or 0
        if (none := explored.sum(1) == 0).any():
            raise ArgumentError(
                f"No rollout of {self.tasks[int(tasks[none][0])]} explored, so no context can be drawn from such."
            )
        first = torch.multinomial(explored, count, replacement=True, generator=generator) * self.horizon
        return first + torch.randint(self.horizon, first.shape, generator=generator, device=self.device)

    # --- what lies beside the buffer

    def lay_out(self, episodes: Iterable[Episode], values: Iterable[Array]) -> Tensor:
        """Lay numbers of logged steps out as the buffer lays out their transitions.

        Args:
            episodes: the logged episodes, in the order in which they were added.
            values: an array for each episode, with an entry for each of its steps: returns-to-go or beliefs, say.

        Returns:
            ``[tasks, rows, ...]`` in float32, to be gathered by rows (:func:`gather`); 0 where a task has fewer rows.
        """
        places, by_task = {task: place for place, task in enumerate(self.tasks)}, dict[int, list[Array]]()
        for episode, value in zip(episodes, values, strict=True):
            by_task.setdefault(places[episode.task], []).append(value)
        blocks = {place: np.concatenate(several).astype(np.float32) for place, several in by_task.items()}
        shape = next(iter(blocks.values())).shape[1:]
        laid = torch.zeros(len(self.tasks), int(self.logged.max()), *shape, device=self.device)
        for place, block in blocks.items():
            laid[place, : len(block)] = torch.as_tensor(block, device=self.device)
        return laid

    # --- grow

    def add(self, episodes: Sequence[Episode], explored: Sequence[bool] | Bool[Array, " E"] = ()) -> None:
        """Append episodes, each to its own task.

        Args:
            episodes: the episodes.
            explored: which of them are of rollouts that explored, ``[E]``; by default, none.

        Raises:
            ArgumentError: the buffer does not have the task of an episode.
        """
        places = {task: place for place, task in enumerate(self.tasks)}
        by_task: dict[int, list[Episode]] = {}
        flags: dict[int, list[float]] = {}
        for episode, flag in zip(episodes, explored if len(explored) else [False] * len(episodes), strict=True):
            if episode.task not in places:
                raise ArgumentError(f"The buffer has no {episode.task}; its first task is {self.tasks[0]}.")
            by_task.setdefault(places[episode.task], []).append(episode)
            flags.setdefault(places[episode.task], []).extend([float(flag)] * len(episode))
        blocks = {}
        for place, several in by_task.items():
            o, a, r, following, d = transitions(several, self.normaliser)
            x = torch.tensor(flags[place], device=self.device)
            blocks[place] = torch.cat([o, a, r[:, None], following, d[:, None], x[:, None]], dim=1)
        self._append(blocks)

    def collected(self) -> tuple[Tensor, Tensor]:
        """Return the collected rows, task by task ``[S, .]``, and the number of them that each task has ``[tasks]``."""
        ends = zip(self.logged.tolist(), self.sizes.tolist(), strict=True)
        return torch.cat([self._block[i, a:b] for i, (a, b) in enumerate(ends)]), self.sizes - self.logged

    def extend(self, rows: Tensor, sizes: Tensor) -> None:
        """Append the rows that :meth:`collected` returned."""
        self._append(dict(enumerate(rows.split(sizes.tolist()))))

    def _append(self, blocks: Mapping[int, Tensor]) -> None:
        ends = {place: int(self.sizes[place]) + len(rows) for place, rows in blocks.items()}
        capacity = self._block.shape[1]
        if ends and max(ends.values()) > capacity:  # grow by doubling
            wider = self._block.new_empty(len(self.tasks), max(2 * capacity, *ends.values()), self._block.shape[2])
            wider[:, :capacity] = self._block
            self._block = wider
        for place, rows in blocks.items():
            self._block[place, int(self.sizes[place]) : ends[place]] = rows.to(self.device)
            self.sizes[place] = ends[place]


def transitions(episodes: Sequence[Episode], normaliser: Normaliser) -> Batch:
    """Return the S transitions of episodes, in their order: ``[S, .]`` each."""

    def join(part: Callable[[Episode], Array]) -> Tensor:
        joined = np.concatenate([part(episode) for episode in episodes]).astype(np.float32, copy=False)
        return torch.as_tensor(joined, device=normaliser.mean.device)

    return Batch(
        observations=normaliser(join(lambda episode: episode.observations[:-1])),
        actions=join(lambda episode: episode.actions),
        rewards=join(lambda episode: episode.rewards),
        next_observations=normaliser(join(lambda episode: episode.observations[1:])),
        terminations=join(lambda episode: episode.terminations),
    )


def pad(contexts: Sequence[Context], normaliser: Normaliser) -> tuple[Batch, Tensor]:
    """Stack contexts of different sizes as a batch, for networks that read contexts.

    Args:
        contexts: the contexts of N tasks, with at most C transitions each.
        normaliser: normalises the observations.

    Returns:
        The transitions, ``[N, C, .]`` each, and a mask ``[N, C]``: 1 for transitions and 0 for padding.
    """
    device = normaliser.mean.device
    mask = pad_rows([np.ones(len(context)) for context in contexts])

    def stack(name: str) -> Tensor:
        return pad_rows([getattr(context, name) for context in contexts]).to(device)

    batch = Batch(*(stack(name) for name in Batch._fields))
    normalised = {name: normaliser(getattr(batch, name)) for name in ("observations", "next_observations")}
    return batch._replace(**normalised), mask.to(device)


def pad_rows(arrays: Sequence[Array]) -> Tensor:
    """Stack arrays ``[S, ...]`` of different lengths, with zeros after the shorter ones: ``[N, longest, ...]``."""
    padded = np.zeros((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), dtype=np.float32)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return torch.as_tensor(padded)


def first_steps(episodes: Sequence[Episode], count: int) -> list[Episode]:
    """Return the episodes of one task that begin in its first ``count`` steps."""
    begins = np.cumsum([0, *map(len, episodes)])[:-1]
    return [episode for episode, begin in zip(episodes, begins, strict=True) if begin < count]


def rollouts_of(episodes: Sequence[Episode], horizon: int) -> list[list[Episode]]:
    """Return the rollouts of one task, each of them as its episodes, which are ``horizon`` steps long together."""
    rollouts: list[list[Episode]] = []
    steps = 0
    for episode in episodes:
        if steps % horizon == 0:
            rollouts.append([])
        rollouts[-1].append(episode)
        steps += len(episode)
    return rollouts


def gather(block: Tensor, tasks: Tensor, rows: Tensor) -> Tensor:
    """Return the entries of ``block [tasks, rows, ...]`` at ``rows [T, ...]`` of T tasks."""
    return block[tasks.view(-1, *[1] * (rows.dim() - 1)), rows]
