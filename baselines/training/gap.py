"""Where the gap between an agent and the expert that is told its task comes from: context, encoder or policy.

After two rollouts of the agent's own exploration, four policies act in the same held-out tasks:

- ``told``, the expert that is told the task;
- ``exact``, the expert told what an exact reading of the agent's raw context says: the reward formula, inverted;
- ``reader``, the expert told what the best reader of z says: kernel ridge regression from the mean of z to the task,
  fitted on the agent's own contexts of training tasks;
- ``own``, the agent itself; and ``logged``, the agent with a logged context of the same size.

So the context lacks told - exact, the encoder loses exact - reader, and the policy loses reader - own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from offlinemeta.baselines.parts.learner import Infers
from offlinemeta.benchmark.context import Context, empty_context, logged_contexts
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.benchmark.runner import own_rollout
from offlinemeta.datasets.collect import in_batches, play
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.identifiability import kernel_ridge
from offlinemeta.datasets.policies import behaviours
from offlinemeta.envs import Task, TaskFamily
from offlinemeta.envs.shapes import Array

REPEATS = 2
"""How often each task is explored."""

CANDIDATES, FEW = 20_000, 1_000
"""Number of fresh tasks of the training distribution among which a reading chooses; and where rewards do not tell tasks
apart, so that nothing reads them exactly (Meta-World takes 10 ms to draw one)."""

STEPS = 40
"""The largest number of a context's steps that are compared with the candidates' reward formulas."""

TIE = 1e-9
"""Difference of mean squared errors [reward²] up to which candidates are equally likely."""

PARTS = ("told", "exact", "reader", "own", "logged")
"""The policies, in order."""


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


def explored(agent: Infers, family: TaskFamily, tasks: Sequence[Task], rng: np.random.Generator) -> Explored:
    """Let an agent explore tasks for two rollouts, each task :data:`REPEATS` times."""
    found = Explored([task for task in tasks for _ in range(REPEATS)], [], [], [])
    for part, envs in in_batches(family, len(found.tasks)):
        contexts, steps = [empty_context(family)] * envs.num_envs, list[tuple[Array, Array, Array]]()

        def watch(infos: Mapping[str, Any], played: Array, steps: list[Any] = steps) -> None:
            steps.append((infos["features"].copy(), ~infos["diverged"], played.copy()))

        for _ in range(OFFLINE_ROLLOUTS):
            _, contexts = own_rollout(agent, envs, found.tasks[part], contexts, rng, watch=watch)
        features, sound, played = (np.stack(column, axis=1) for column in zip(*steps, strict=True))  # [N, steps, .]
        found.contexts.extend(contexts)
        found.features.extend(rows[mask] for rows, mask in zip(features, played, strict=True))
        found.sound.extend(rows[mask] for rows, mask in zip(sound, played, strict=True))
    return found


@torch.no_grad()
def gap(agent: Infers, dataset: Dataset, heldout: Dataset, seed: int, split: str = "test") -> dict[str, float]:
    """Measure the mean return over the tasks of a split of each of :data:`PARTS`, as ``gap_<part>``.

    Args:
        agent: the agent.
        dataset: names the training tasks.
        heldout: the held-out tasks, and what was logged in them.
        seed: seed of everything random.
        split: the held-out tasks that are played.

    Returns:
        The returns. ``gap_exact`` is left out where rewards do not tell tasks apart.
    """
    family, rng = dataset.family, np.random.default_rng([seed, 5])
    tasks = list(family.tasks[split])
    known, new = (explored(agent, family, some, rng) for some in (list(family.tasks["train"]), tasks))
    fresh = family.draw_params(CANDIDATES if family.rewards_tell else FEW, np.random.RandomState(seed))
    candidates = [Task(family.name, "train", i, tuple(row)) for i, row in enumerate(fresh.tolist())]
    told = {"told": new.tasks, "reader": read_z(agent, family, known, new, candidates)}
    if family.rewards_tell:
        told["exact"] = read_rewards(family, new, candidates, rng)
    expert = behaviours(family)[-1].act
    figures = {
        name: float(play(family, new.tasks, expert, 1, seed, sample=False, told=guessed)[0].mean())
        for name, guessed in told.items()
    }
    sizes = [len(context) for context in new.contexts]
    logged = logged_contexts(heldout, new.tasks, sizes, rng)
    for name, contexts in (("own", new.contexts), ("logged", logged)):
        figures[name] = mean_return(agent, family, new.tasks, contexts, rng)
    return {f"gap_{name}": figures[name] for name in PARTS if name in figures}


def mean_return(
    agent: Infers, family: TaskFamily, tasks: Sequence[Task], contexts: Sequence[Context], rng: np.random.Generator
) -> float:
    """Return the mean return of an agent in one more episode of each task, given its context."""
    returns: list[float] = []
    for part, envs in in_batches(family, len(tasks)):
        seen, _ = own_rollout(agent, envs, tasks[part], contexts[part], rng, whole=False)
        returns += [float(episode.rewards.sum(dtype=np.float64)) for episode in seen]
    return float(np.mean(returns))


def read_z(agent: Infers, family: TaskFamily, known: Explored, new: Explored, candidates: Sequence[Task]) -> list[Task]:
    """Return the candidates nearest to what a regression from the mean of z to the task says of N new tasks."""
    z, z_new = (agent.infer(some.contexts).mean.cpu().numpy().astype(np.float64) for some in (known, new))
    said = kernel_ridge(z, family.encode(family.params(known.tasks)), z_new)  # [N, E]
    theirs = family.encode(family.params(candidates))  # [C, E]
    scale = theirs.std(0) + 1e-6  # every number that describes a task weighs the same
    return [candidates[(((theirs - one) / scale) ** 2).sum(1).argmin()] for one in said]


def read_rewards(family: TaskFamily, new: Explored, candidates: Sequence[Task], rng: np.random.Generator) -> list[Task]:
    """Return the candidates whose reward formulas agree best with N contexts; one of them, where several do."""
    params, chosen = family.params(candidates)[None], []
    for context, features, sound in zip(new.contexts, new.features, new.sound, strict=True):
        rows = np.flatnonzero(sound)
        rows = rows[:: -(-len(rows) // STEPS)]
        expected = family.reward(features[rows, None].astype(np.float64), params)  # [S, C]
        errors = ((expected - context.rewards[rows, None]) ** 2).mean(0)
        chosen.append(candidates[rng.choice(np.flatnonzero(errors <= errors.min() + TIE))])
    return chosen
