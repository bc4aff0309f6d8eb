"""Measures of what z knows: the context shift (Pong et al., Fig. 2), a probe of the task, the decoder's error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from offlinemeta.baselines.parts.buffer import TaskBuffer
from offlinemeta.baselines.parts.learner import Decodes, Infers, Learner
from offlinemeta.baselines.parts.networks import Normaliser
from offlinemeta.baselines.parts.posterior import Gaussian, kl_between, kl_to_prior
from offlinemeta.baselines.training.explored import Explored, explored
from offlinemeta.baselines.training.gap import gap
from offlinemeta.benchmark.agent import Agent
from offlinemeta.benchmark.context import Context, logged_contexts
from offlinemeta.benchmark.metrics import normalised_kl_shift
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.benchmark.runner import seed_agent
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs import SPLITS, Task, TaskFamily
from offlinemeta.envs.shapes import Array

TASKS = 50
"""The largest number of training tasks on which the shift is measured."""

DRAWS = 2
"""Number of contexts of each task that the probe draws."""

TRANSITIONS = 256
"""Transitions of each task that are decoded, and as many in its context, where there are so many."""


def measure(learner: Learner, dataset: Dataset, heldout: Dataset, split: str, seed: int) -> dict[str, float]:
    """Measure what a learner's z knows, if it has a z.

    Args:
        learner: the learner, in training.
        dataset: the data of the training tasks.
        heldout: the data of the held-out tasks.
        split: the held-out tasks that are measured on, ``test``, ``val`` or ``test100``.
        seed: seed of the contexts and of the learner's exploration.

    Returns:
        The figures of :func:`kl_shift`, :func:`probe`, :func:`~offlinemeta.baselines.training.gap.gap` and
        :func:`decoder_error` that can be measured and are finite.
    """
    figures: dict[str, float] = {}
    if isinstance(learner, Infers):
        learner.seed(seed)
        known, new = (twice_explored(learner, dataset.family, which, seed) for which in ("train", split))
        figures |= kl_shift(learner, dataset, known, seed) | probe(learner, dataset, heldout, known, new, seed)
        figures |= gap(learner, heldout, known, new, seed)
    if isinstance(learner, Decodes) and learner.data is not None:
        figures |= decoder_error(learner, heldout, learner.data.normaliser, seed)
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def twice_explored(
    agent: Agent, family: TaskFamily, split: str, seed: int, rollouts: int = OFFLINE_ROLLOUTS
) -> Explored:
    """Let an agent play all tasks of a split, and then all of them once more."""
    rng = np.random.default_rng([seed, 1, SPLITS.index(split)])
    return explored(agent, family, list(family.tasks[split]) * DRAWS, rng, rollouts)


@torch.no_grad()
def kl_shift(agent: Infers, dataset: Dataset, known: Explored, seed: int) -> dict[str, float]:
    """Measure the shift on training tasks, at equal context sizes: two exploratory episodes against logged transitions.

    Args:
        agent: the agent.
        dataset: what was logged in the training tasks.
        known: what the agent has seen of them.
        seed: seed of the logged contexts.

    Returns:
        ``offline_kl_prior`` and ``online_kl_prior``: the median over tasks of KL(q(z|c) || N(0, I)), with logged and
        with own contexts. ``kl_shift``: the normalised shift that
        :func:`~offlinemeta.benchmark.metrics.normalised_kl_shift` computes from medians over tasks and over pairs of
        tasks; ``kl_shift_mean``: the same from means, which one posterior that lies far away may dominate.
    """
    count, rng = min(TASKS, len(dataset.tasks)), np.random.default_rng([seed, 2])
    tasks, online = known.tasks[:count], known.contexts[:count]
    own = infer(agent, online)  # mean and variance, [N, Z] each
    logged, again = (infer(agent, logged_contexts(dataset, tasks, [len(c) for c in online], rng)) for _ in range(2))
    to_own, to_again = (
        kl_between(Gaussian(*(moment[:, None] for moment in context)), Gaussian(*(moment[None] for moment in logged)))
        for context in (own, again)
    )  # [N, N]: of task i's context to task j's logged one
    same = torch.eye(len(tasks), dtype=torch.bool)
    parts = (to_own[same], to_again[same], to_again[~same])  # within, within logged, between logged
    return {
        "offline_kl_prior": float(kl_to_prior(logged).median()),
        "online_kl_prior": float(kl_to_prior(own).median()),
        "kl_shift": normalised_kl_shift(*(float(part.median()) for part in parts)),
        "kl_shift_mean": normalised_kl_shift(*(float(part.mean()) for part in parts)),
    }


def infer(agent: Infers, contexts: Sequence[Context]) -> Gaussian:
    """Return q(z|c) of N tasks on the CPU, wherever the agent lives."""
    return Gaussian(*(moment.cpu() for moment in agent.infer(contexts)))


@torch.no_grad()
def probe(
    agent: Infers, dataset: Dataset, heldout: Dataset, known: Explored, new: Explored, seed: int
) -> dict[str, float]:
    """Tell how well a quadratic fit on z predicts a task's parameters.

    Args:
        agent: the agent.
        dataset: what was logged in the training tasks.
        heldout: what was logged in the held-out tasks.
        known: what the agent has seen of the training tasks.
        new: what it has seen of the test tasks.
        seed: seed of the logged contexts.

    Returns:
        ``probe_r2`` and ``own_probe_r2``: R² of the test tasks' parameters, as :meth:`TaskFamily.encode` gives them, by
        a fit on training tasks. The first is of logged contexts; the second is of the agent's own contexts, in the fit
        too, and shows how much a policy could at best learn from them.
    """
    family, rng = dataset.family, np.random.default_rng([seed, 3])

    def read(tasks: Sequence[Task], contexts: Sequence[Context]) -> tuple[Array, Array]:
        return infer(agent, contexts).mean.numpy(), family.encode(family.params(tasks))

    logged = [
        logged_contexts(data, seen.tasks, [len(context) for context in seen.contexts], rng)
        for data, seen in ((dataset, known), (heldout, new))
    ]
    return {
        "probe_r2": quadratic_r2(read(known.tasks, logged[0]), read(new.tasks, logged[1])),
        "own_probe_r2": quadratic_r2(read(known.tasks, known.contexts), read(new.tasks, new.contexts)),
    }


def quadratic_r2(known: tuple[Array, Array], heldout: tuple[Array, Array]) -> float:
    """Return R² of ``y [N, P]`` by a quadratic fit on ``z [N, Z]``: fitted on known pairs (z, y), scored on others."""

    def terms(z: Array) -> Array:
        return np.stack([np.ones(len(z)), *z.T, *(a * b for i, a in enumerate(z.T) for b in z.T[: i + 1])], axis=1)

    (x, y), (x_test, y_test) = ((terms(z), y) for z, y in (known, heldout))
    scale = np.sqrt((x**2).mean(0)) + 1e-12
    fit = np.linalg.lstsq(x / scale, y, rcond=1e-6)[0]
    residual = y_test - (x_test / scale) @ fit
    return float(1 - (residual**2).sum() / ((y_test - y_test.mean(0)) ** 2).sum())


@dataclass(frozen=True)
class Tightening:
    """How a belief tightens while the agent plays episodes in new tasks, read at P numbers of steps.

    Attributes:
        steps: numbers of steps seen, ``[P]``.
        deviations: geometric mean over z's dimensions of the belief's standard deviation, ``[N, P]``; each task is
            played twice.
        r2: R² of the tasks' parameters by a quadratic fit on the belief's mean, made on training tasks; ``[P]``.
        returns: the rollouts' returns, ``[N, K]``.
    """

    steps: Array
    deviations: Array
    r2: Array
    returns: Array


@torch.no_grad()
def tightening(agent: Infers, family: TaskFamily, split: str, rollouts: int, points: int, seed: int) -> Tightening:
    """Let an agent play rollouts in the tasks of a split, and measure its belief as they go on.

    Args:
        agent: the agent. Its contexts are those that it collects itself.
        family: the task family.
        split: the tasks on which the belief is measured.
        rollouts: number of rollouts in each task, one episode each where episodes do not terminate.
        points: number of times in a rollout at which the belief is read, evenly spaced.
        seed: seed of the resets and of the agent's randomness.
    """
    seed_agent(agent, seed)
    known, new = (twice_explored(agent, family, name, seed, rollouts) for name in ("train", split))
    steps = np.unique(np.linspace(0, rollouts * family.horizon, rollouts * points + 1).round().astype(int)[1:])
    deviations, r2 = [], []
    for count in steps.tolist():
        before, belief = (infer(agent, [first(count, c) for c in seen.contexts]) for seen in (known, new))
        deviations.append(belief.variance.log().mean(-1).mul(0.5).exp().numpy())
        fitted, judged = (
            (q.mean.numpy(), family.encode(family.params(seen.tasks))) for q, seen in ((before, known), (belief, new))
        )
        r2.append(quadratic_r2(fitted, judged))
    returns = np.array([context.rewards for context in new.contexts]).reshape(len(new.tasks), rollouts, -1).sum(-1)
    return Tightening(steps, np.stack(deviations, 1), np.array(r2), returns)


def first(steps: int, context: Context) -> Context:
    """Return the first steps of a context."""
    ends = np.minimum(np.cumsum(context.lengths), steps)
    arrays = {name: array[:steps].copy() for name, array in vars(context).items() if name != "lengths"}
    lengths = np.diff(ends, prepend=0)
    return Context(**arrays, lengths=lengths[lengths > 0])


@torch.no_grad()
def decoder_error(learner: Decodes, dataset: Dataset, normaliser: Normaliser, seed: int) -> dict[str, float]:
    """Measure the decoder's error on all tasks of a dataset, with z from logged contexts.

    Args:
        learner: its decoder.
        dataset: of held-out tasks.
        normaliser: of the observations that the decoder reads.
        seed: seed of the contexts, and of the transitions that are decoded.

    Returns:
        ``decoder_error``: the mean squared error; ``reward_variance``: the error of the best constant prediction.
    """
    buffer, tasks = TaskBuffer.of(dataset.tasks, dataset, normaliser), list(dataset.tasks)
    size = min(TRANSITIONS, dataset.spec.rollouts * dataset.family.horizon)
    contexts = logged_contexts(dataset, tasks, [size] * len(tasks), np.random.default_rng([seed, 4]))
    places = torch.arange(len(tasks), device=buffer.device)
    generator = torch.Generator(device=buffer.device).manual_seed(seed)
    batch = buffer.take(places, buffer.draw(places, TRANSITIONS, generator))
    decoded = learner.decode(batch, learner.infer(contexts).mean)
    return {
        "decoder_error": float((decoded - batch.rewards).square().mean()),
        "reward_variance": float(batch.rewards.var()),
    }
