"""Measure reference returns: what random actions, blind policies and the expert that knows its task get, per task."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from offlinemeta.datasets.collect import in_batches, play, provenance, visit
from offlinemeta.datasets.explorers import Explorer, Stage, Wanderer, has_stages, stages
from offlinemeta.datasets.policies import Act, Behaviour, behaviours, blind_expert, uniform
from offlinemeta.datasets.references import worth
from offlinemeta.datasets.spec import RANDOM_BEHAVIOUR
from offlinemeta.envs import SPLITS, Task, TaskFamily, get_family
from offlinemeta.envs.shapes import Array

EPISODES = 20
"""Episodes on each task."""

TRIALS = 5
"""Episodes of each constant that the blind expert may be told, where these can be labelled for all training tasks."""

PAIRED, PAIRED_IN_PROCESSES = 20, 10
"""How many constants are tried, each on as many training tasks, where each has to be tried on each task."""

WANDERING = "random behaviour"
"""Name of the blind policy that does one thing after the other, in scenes that offer several."""

LEAST_SAMPLED = 100
"""Least number of episodes for the mean return of a behaviour policy."""


def sample_of(family: TaskFamily) -> tuple[list[Task], int]:
    """Return on which training tasks, and how often, a behaviour policy is measured; seldom on slow families."""
    tasks = list(family.tasks["train"])
    return (tasks[::5], 1) if family.in_processes else (tasks, max(2, LEAST_SAMPLED // len(tasks)))


def paired(family: TaskFamily) -> list[Task]:
    """Return the training tasks that are told, and tried on, where constants are tried task by task: evenly spaced."""
    tasks = family.tasks["train"]
    most = PAIRED_IN_PROCESSES if family.in_processes else PAIRED
    return [tasks[round(place)] for place in np.linspace(0, len(tasks) - 1, min(most, len(tasks)))]


def needed(family: TaskFamily, episodes: int) -> int:
    """Return how many episodes a deterministic policy needs on a task, where ``episodes`` are asked for.

    Where a task always begins alike, one is as good as many.
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
    policies = behaviours(family)
    told = policies[-1].act
    constant = best_constant(family, told, seed + 2, progress)
    blind: dict[str, Act | Explorer] = {
        "random": uniform(family).act,
        "no action": still(family),
        f"told train {constant.index}": always_told(told, constant),
    }
    if (trained := blind_expert(family)) is not None:
        blind["trained blind"] = trained.act
    if name in RANDOM_BEHAVIOUR:
        blind[WANDERING] = Wanderer(family)

    @cache
    def played(which: str, split: str) -> tuple[list[float], float, float]:
        """Return the mean return on each task, the share of episodes with a success, and the mean progress."""
        tasks, act, sample = family.tasks[split], {**blind, "told": told}[which], which in ("random", WANDERING)
        count = episodes if sample else needed(family, episodes)
        returns, ran = play(family, tasks, act, count, seed if sample else seed + 1, sample, progress)
        success = [episode.infos["success"].max() for episode in ran if "success" in episode.infos]
        moved = [step for episode in ran if "progress" in episode.infos for step in episode.infos["progress"]]
        means = (float(np.mean(found, dtype=np.float64)) if found else 0.0 for found in (success, moved))
        return returns.mean(1).round(2).tolist(), *means

    best = max(blind, key=lambda which: float(np.mean(played(which, "train")[0])))
    kinds = {"random": "random", "blind": best, "told": "told"}
    result: dict[str, Any] = {
        kind: {split: played(which, split)[0] for split in splits_of(family)} for kind, which in kinds.items()
    }
    result["worth"] = {
        split: [round(part, 4) for part in worth(*(np.array(returns[split]) for returns in result.values()))]
        for split in splits_of(family)
    }
    result["blind_policy"] = best
    successes = splits_of(family) if "success" in family.info_names else []
    result["success"] = {split: played("told", split)[1] for split in successes}
    result["progress"] = {
        kind: {split: round(played(which, split)[2], 3) for split in splits_of(family)}
        for kind, which in kinds.items()
        if "progress" in family.info_names
    }
    rows = [sampled(family, policy, seed + 3, progress) for policy in policies]
    result["behaviours"] = [mean for mean, _ in rows]
    result["explorers"] = [explorer_return(family, stage, seed + 4, progress) for stage in stages_of(family)]
    result["saturated"] = round(max(beyond for _, beyond in rows), 4)
    return {**result, "episodes": episodes, "seed": seed, **provenance()}


def best_constant(family: TaskFamily, told: Act, seed: int, progress: Callable[[int], None]) -> Task:
    """Return the training task that is best told to the expert whatever its task: by mean return over training tasks.

    What a blind policy does is the same in all tasks where only the reward varies. Then every training task is tried,
    and its episodes are labelled for all of them.

    Args:
        family: the family.
        told: the expert.
        seed: seed for resets.
        progress: told how many env steps were made.
    """
    if family.rewards_tell:
        tasks = list(family.tasks["train"])
        _, ran = play(family, tasks, told, needed(family, TRIALS), seed, False, progress)
        params = family.params(tasks)
        returns = np.array([family.reward(episode.infos["features"][:, None], params).sum(0) for episode in ran])
    else:
        tasks = paired(family)
        shown, own = zip(*[(constant, task) for constant in tasks for task in tasks], strict=True)
        returns, _ = play(family, own, told, 1, seed, False, progress, told=shown)
    return tasks[int(returns.reshape(len(tasks), -1).mean(1).argmax())]


def still(family: TaskFamily) -> Act:
    """Return the policy whose every action is zero: on some families, standing still beats any wrong move."""

    def act(observations: Array, own: Array, rng: np.random.Generator | None) -> Array:
        return np.zeros((len(observations), family.action_space.shape[0]))

    return act


def always_told(told: Act, task: Task) -> Act:
    """Return the expert that is told the same task, whatever its own."""
    params = np.array([task.params])

    def act(observations: Array, own: Array, rng: np.random.Generator | None) -> Array:
        return told(observations, params.repeat(len(observations), 0), rng)

    return act


def sampled(family: TaskFamily, policy: Behaviour, seed: int, progress: Callable[[int], None]) -> tuple[float, float]:
    """Return a behaviour policy's mean return on training tasks, and the share of its actions beyond ±0.99."""
    tasks, count = sample_of(family)
    returns, ran = play(family, tasks, policy.act, count, seed, True, progress)
    beyond = np.abs(np.concatenate([episode.actions for episode in ran])) > 0.99
    return round(float(returns.mean()), 2), float(beyond.mean())


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
    family = get_family(name)
    tasks, each = sample_of(family)
    count = len(behaviours(family)) * len(tasks) * each
    count += len(family.tasks["train"]) * needed(family, TRIALS) if family.rewards_tell else len(paired(family)) ** 2
    count += sum(len(family.tasks[split]) for split in splits_of(family)) * (episodes + 2 * needed(family, episodes))
    count += (1 + (blind_expert(family) is not None)) * len(family.tasks["train"]) * needed(family, episodes)
    count += (name in RANDOM_BEHAVIOUR) * len(family.tasks["train"]) * episodes
    count += len(stages_of(family)) * len(family.tasks["train"]) * len(VISIT)
    return count * family.horizon
