"""What an agent has seen of a task, which it collected itself or which was logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offlinemeta.datasets.dataset import Dataset, Episode
from offlinemeta.envs import Task, TaskFamily
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.shapes import Array, Bool, Float32, Int


@dataclass(frozen=True)
class Context:
    """What an agent has seen of one task: S transitions of E episodes, in the order in which they were seen. Read-only.

    The episodes are whole: from their first step to their termination or to the time limit. There are two exceptions.
    The context of the protocol ``offline-context`` is a segment cut out of each logged rollout. And where a family
    terminates, the last episode of a rollout, logged or own, ends with its rollout, which has as many steps as the
    horizon.

    Attributes:
        observations, actions, rewards, next_observations: ``[S, O]``, ``[S, A]``, ``[S]``, ``[S, O]``.
        terminations: ``[S]`` whether the MDP has ended at this step; a time limit does not count.
        lengths: ``[E]`` number of transitions of each episode.
    """

    observations: Float32[Array, "S O"]
    actions: Float32[Array, "S A"]
    rewards: Float32[Array, " S"]
    next_observations: Float32[Array, "S O"]
    terminations: Bool[Array, " S"]
    lengths: Int[Array, " E"]

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.flags.writeable = False

    def __len__(self) -> int:
        """Return the number of transitions."""
        return len(self.rewards)


def empty_context(family: TaskFamily) -> Context:
    """Return the context before the first episode, which has no transitions."""
    observations, actions = family.observation_space.shape[0], family.action_space.shape[0]
    none = np.zeros((0, observations), dtype=np.float32)
    return Context(
        observations=none,
        actions=np.zeros((0, actions), dtype=np.float32),
        rewards=np.zeros(0, dtype=np.float32),
        next_observations=none.copy(),
        terminations=np.zeros(0, dtype=bool),
        lengths=np.zeros(0, dtype=np.int64),
    )


def join_contexts(contexts: Sequence[Context]) -> Context:
    """Return contexts of one task as one, in the order given."""
    names = vars(contexts[0])
    return Context(**{name: np.concatenate([getattr(context, name) for context in contexts]) for name in names})


def logged_contexts(
    dataset: Dataset, tasks: Sequence[Task], sizes: Sequence[int], rng: np.random.Generator
) -> list[Context]:
    """Draw ``sizes[i]`` logged transitions for each of N tasks: a segment of equal length from each of its rollouts.

    So the context covers all behaviour policies of the data, in the order of collection, keeps the order of steps, and
    has the size of a self-collected one.
    """
    by_task, horizon = dataset.by_task(), dataset.family.horizon
    contexts = []
    for task, size in zip(tasks, sizes, strict=True):
        steps = join_contexts([as_context(episode) for episode in by_task[task]])
        rollouts = len(steps) // horizon  # terminating families have several episodes in one
        shares = np.full(rollouts, size // rollouts)
        shares[: size - shares.sum()] += 1
        starts = [r * horizon + rng.integers(horizon - share + 1) for r, share in enumerate(shares)]
        rows = np.concatenate([np.arange(a, a + share) for a, share in zip(starts, shares, strict=True)])
        ends = np.flatnonzero(np.isin(rows, np.cumsum(steps.lengths) - 1) | (np.diff(rows, append=-1) != 1)) + 1
        arrays = {name: getattr(steps, name)[rows] for name in vars(steps) if name != "lengths"}
        contexts.append(Context(**arrays, lengths=np.diff(ends, prepend=0)))
    return contexts


def logged_rollouts(dataset: Dataset, tasks: Sequence[Task], count: int, rng: np.random.Generator) -> list[Context]:
    """Draw ``count`` whole logged rollouts for each of N tasks, in random order and none of them twice.

    A rollout has as many steps as the family's horizon: one episode, or several where an episode terminates.

    Raises:
        ArgumentError: fewer rollouts of a task were logged.
    """
    by_task, horizon = dataset.by_task(), dataset.family.horizon
    contexts = []
    for task in tasks:
        episodes = by_task[task]
        ends = np.cumsum([len(episode) for episode in episodes])
        number = (ends - 1) // horizon  # the rollout of each episode
        logged = int(number[-1]) + 1
        if logged < count:
            raise ArgumentError(f"{dataset.spec.id} has {logged} rollouts of {task}; the context is of {count}.")
        chosen = rng.permutation(logged)[:count]
        contexts.append(join_contexts([as_context(episodes[e]) for r in chosen for e in np.flatnonzero(number == r)]))
    return contexts


def as_context(episode: Episode) -> Context:
    """Return an episode as an agent may see it, which is without its task."""
    return Context(
        observations=np.array(episode.observations[:-1]),
        actions=np.array(episode.actions),
        rewards=np.array(episode.rewards),
        next_observations=np.array(episode.observations[1:]),
        terminations=np.array(episode.terminations),
        lengths=np.array([len(episode)]),
    )


def subset(context: Context, count: int, rng: np.random.Generator) -> Context:
    """Return ``count`` transitions of a context, drawn without replacement, in their order; all, if there are no more.

    They are no episodes any more: each is a piece of its own.
    """
    if len(context) <= count:
        return context
    rows = np.sort(rng.choice(len(context), count, replace=False))
    arrays = {name: array[rows] for name, array in vars(context).items() if name != "lengths"}
    return Context(**arrays, lengths=np.ones(count, dtype=np.int64))
