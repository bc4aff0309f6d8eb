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

from collections.abc import Sequence

import numpy as np
import torch

from offlinemeta.baselines.parts.learner import Infers
from offlinemeta.baselines.training.explored import Explored
from offlinemeta.benchmark.context import Context, logged_contexts
from offlinemeta.benchmark.runner import own_rollout
from offlinemeta.datasets.collect import in_batches, play
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.identifiability import kernel_ridge
from offlinemeta.datasets.policies import behaviours
from offlinemeta.envs import Task, TaskFamily

CANDIDATES, FEW = 20_000, 1_000
"""Number of fresh tasks of the training distribution among which a reading chooses; and where rewards do not tell tasks
apart, so that nothing reads them exactly (Meta-World takes 10 ms to draw one)."""

STEPS = 40
"""The largest number of a context's steps that are compared with the candidates' reward formulas."""

TIE = 1e-9
"""Difference of mean squared errors [reward²] up to which candidates are equally likely."""

PARTS = ("told", "exact", "reader", "own", "logged")
"""The policies, in order."""


@torch.no_grad()
def gap(agent: Infers, heldout: Dataset, known: Explored, new: Explored, seed: int) -> dict[str, float]:
    """Measure the mean return over held-out tasks of each of :data:`PARTS`, as ``gap_<part>``.

    Args:
        agent: the agent.
        heldout: what was logged in the held-out tasks.
        known: what the agent has seen of training tasks.
        new: what it has seen of the held-out tasks.
        seed: seed of everything random.

    Returns:
        The returns. ``gap_exact`` is left out where rewards do not tell tasks apart.
    """
    family, rng = heldout.family, np.random.default_rng([seed, 5])
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
