"""Measure reference returns: what a random policy and the expert that knows its task get, per task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from offlinemeta.datasets.collect import in_batches, play, provenance, visit
from offlinemeta.datasets.dataset import Episode
from offlinemeta.datasets.explorers import Stage, has_stages, stages
from offlinemeta.datasets.policies import Behaviour, behaviours, uniform
from offlinemeta.envs import SPLITS, Task, TaskFamily, get_family

EPISODES = 20
"""Episodes on each task."""

LEAST_SAMPLED = 100
"""Least number of episodes for the mean return of a behaviour policy."""


def sample_of(family: TaskFamily, split: str) -> tuple[list[Task], int]:
    """Return on which tasks of a split, and how often, a mean return is measured; seldom on slow families."""
    tasks = list(family.tasks[split])
    return (tasks[::5], 1) if family.in_processes else (tasks, max(2, LEAST_SAMPLED // len(tasks)))


def expert_episodes(family: TaskFamily, episodes: int) -> int:
    """Return how many episodes the expert needs on a task, where ``episodes`` are asked for.

    Where a task always begins alike, one episode of a deterministic policy is as good as many.
    """
    return 1 if family.fixed_start else episodes


def measure(name: str, progress: Callable[[int], None], episodes: int = EPISODES, seed: int = 0) -> dict[str, Any]:
    """Measure a family's references.

    Args:
        name: the family.
        progress: told how many env steps were made.
        episodes: number on each task.
        seed: seed for resets and actions.
    """
    family = get_family(name)
    policies, chance, once = behaviours(family), uniform(family), expert_episodes(family, episodes)

    def means(policy: Behaviour, split: str) -> tuple[float, list[Episode]]:
        tasks, count = sample_of(family, split)
        returns, ran = play(family, tasks, policy.act, count, seed + 2, True, progress)
        return round(float(returns.mean()), 2), ran

    result: dict[str, Any] = {"random": {}, "expert": {}, "sampled": {}, "success": {}}
    for split in splits_of(family):
        tasks = family.tasks[split]
        returns, _ = play(family, tasks, chance.act, episodes, seed, True, progress)
        result["random"][split] = returns.mean(1).round(2).tolist()
        returns, ran = play(family, tasks, policies[-1].act, once, seed + 1, False, progress)
        result["expert"][split] = returns.mean(1).round(2).tolist()
        if "success" in family.info_names:
            result["success"][split] = float(np.mean([episode.infos["success"].max() for episode in ran]))
        result["sampled"][split], _ = means(policies[-1], split)
    result["behaviours"], saturated = [], 0.0
    for policy in policies:
        mean, ran = means(policy, "train")
        result["behaviours"].append(mean)
        beyond = np.abs(np.concatenate([episode.actions for episode in ran])) > 0.99
        saturated = max(saturated, float(beyond.mean()))
    explorers = [explorer_return(family, stage, seed + 3, progress) for stage in stages_of(family)]
    return {
        **result,
        "explorers": explorers,
        "saturated": round(saturated, 4),
        "episodes": episodes,
        "seed": seed,
        **provenance(),
    }


def stages_of(family: TaskFamily) -> tuple[Stage, ...]:
    """Return the stages of the family's online training; none where none ship."""
    return stages(family) if has_stages(family.name) else ()


VISIT = "xxxp"
"""The rollouts of a visit, as in ``smac`` data, of whose last one the return is measured."""


def explorer_return(family: TaskFamily, stage: Stage, seed: int, progress: Callable[[int], None]) -> float:
    """Return the mean return over the training tasks of a stage that has explored."""
    tasks, returns = family.tasks["train"], []
    for part, envs in in_batches(family, len(tasks)):
        rng = np.random.default_rng([seed, part.start])
        *_, last = visit(envs, tasks[part], stage, VISIT, rng, progress)
        returns += [several[0].rewards.sum(dtype=np.float64) for several in last]
    return round(float(np.mean(returns)), 2)


def splits_of(family: TaskFamily) -> list[str]:
    """Return the splits that have tasks."""
    return [split for split in SPLITS if family.tasks[split]]


def work(name: str, episodes: int = EPISODES) -> int:
    """Return how many env steps :func:`measure` makes."""
    family, count = get_family(name), 0
    for split in splits_of(family):
        tasks, each = sample_of(family, split)
        count += len(family.tasks[split]) * (episodes + expert_episodes(family, episodes)) + len(tasks) * each
    tasks, each = sample_of(family, "train")
    visits = len(stages_of(family)) * len(family.tasks["train"]) * len(VISIT)
    return (count + len(behaviours(family)) * len(tasks) * each + visits) * family.horizon
