"""What an agent sees in tasks that it plays, and the reward features, which it does not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from offlinemeta.benchmark.agent import Agent
from offlinemeta.benchmark.context import Context, empty_context
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.benchmark.runner import own_rollout
from offlinemeta.datasets.collect import in_batches
from offlinemeta.envs import Task, TaskFamily
from offlinemeta.envs.shapes import Array


@dataclass(frozen=True)
class Explored:
    """What an agent has seen of N tasks, and what it has not.

    Attributes:
        tasks: the tasks.
        contexts: their contexts.
        features: the reward features of each context's steps, ``[S, F]``, which the agent has not seen.
        sound: ``[S]``, whether a step's reward is the formula's, and not the charge for a simulation that diverged.
    """

    tasks: list[Task]
    contexts: list[Context]
    features: list[Array]
    sound: list[Array]


def explored(
    agent: Agent, family: TaskFamily, tasks: Sequence[Task], rng: np.random.Generator, rollouts: int = OFFLINE_ROLLOUTS
) -> Explored:
    """Let an agent play some rollouts in each of N tasks; by default, as many as a logged context has."""
    found = Explored(list(tasks), [], [], [])
    for part, envs in in_batches(family, len(tasks)):
        contexts, steps = [empty_context(family)] * envs.num_envs, list[tuple[Array, Array, Array]]()

        def watch(infos: Mapping[str, Any], played: Array, steps: list[Any] = steps) -> None:
            steps.append((infos["features"].copy(), ~infos["diverged"], played.copy()))

        for _ in range(rollouts):
            _, contexts = own_rollout(agent, envs, tasks[part], contexts, rng, watch=watch)
        features, sound, played = (np.stack(column, axis=1) for column in zip(*steps, strict=True))  # [N, steps, .]
        found.contexts.extend(contexts)
        found.features.extend(rows[mask] for rows, mask in zip(features, played, strict=True))
        found.sound.extend(rows[mask] for rows, mask in zip(sound, played, strict=True))
    return found
