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
from offlinemeta.baselines.training.gap import gap
from offlinemeta.benchmark.agent import Agent
from offlinemeta.benchmark.context import Context, empty_context, logged_contexts
from offlinemeta.benchmark.metrics import normalised_kl_shift
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.benchmark.runner import own_rollout, seed_agent
from offlinemeta.datasets.collect import in_batches
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs import Task, TaskFamily
from offlinemeta.envs.shapes import Array

TASKS = 50
"""The largest number of training tasks on which the shift is measured."""

DRAWS = 2
"""Number of contexts of each task that the probe draws."""

TRANSITIONS = 256
"""Transitions of each task that are decoded, and as many in its context, where there are so many."""


def measure(learner: Learner, dataset: Dataset, heldout: Dataset, seed: int) -> dict[str, float]:
    """Measure what a learner's z knows, if it has a z.

    Args:
        learner: the learner, in training.
        dataset: the data of the training tasks.
        heldout: the data of the held-out tasks.
        seed: seed of the contexts and of the learner's exploration.

    Returns:
        The figures of :func:`kl_shift`, :func:`probe`, :func:`~offlinemeta.baselines.training.gap.gap` and
        :func:`decoder_error` that can be measured and are finite.
    """
    figures: dict[str, float] = {}
    if isinstance(learner, Infers):
        learner.seed(seed)
        figures |= kl_shift(learner, dataset, seed) | probe(learner, dataset, heldout, seed)
        figures |= gap(learner, dataset, heldout, seed)
    if isinstance(learner, Decodes) and learner.data is not None:
        figures |= decoder_error(learner, heldout, learner.data.normaliser, seed)
    return {name: value for name, value in figures.items() if math.isfinite(value)}


@torch.no_grad()
def kl_shift(agent: Infers, dataset: Dataset, seed: int) -> dict[str, float]:
    """Measure the shift on training tasks, at equal context sizes: two exploratory episodes against logged transitions.

    Returns:
        ``offline_kl_prior`` and ``online_kl_prior``: the median over tasks of KL(q(z|c) || N(0, I)), with logged and
        with own contexts. ``kl_shift``: the normalised shift that
        :func:`~offlinemeta.benchmark.metrics.normalised_kl_shift` computes from medians over tasks and over pairs of
        tasks. Medians are used because one posterior that lies far away would dominate a mean.
    """
    tasks, rng = list(dataset.tasks[:TASKS]), np.random.default_rng([seed, 1])
    online = own_contexts(agent, dataset.family, tasks, rng)
    own = infer(agent, online)  # mean and variance, [N, Z] each
    logged, again = (infer(agent, logged_contexts(dataset, tasks, [len(c) for c in online], rng)) for _ in range(2))
    to_own, to_again = (
        kl_between(Gaussian(*(moment[:, None] for moment in context)), Gaussian(*(moment[None] for moment in logged)))
        for context in (own, again)
    )  # [N, N]: of task i's context to task j's logged one
    same = torch.eye(len(tasks), dtype=torch.bool)
    within, within_logged = to_own[same].median(), to_again[same].median()
    between_logged = to_again[~same].median()
    return {
        "offline_kl_prior": float(kl_to_prior(logged).median()),
        "online_kl_prior": float(kl_to_prior(own).median()),
        "kl_shift": normalised_kl_shift(float(within), float(within_logged), float(between_logged)),
    }


def infer(agent: Infers, contexts: Sequence[Context]) -> Gaussian:
    """Return q(z|c) of N tasks on the CPU, wherever the agent lives."""
    return Gaussian(*(moment.cpu() for moment in agent.infer(contexts)))


def own_contexts(
    agent: Agent, family: TaskFamily, tasks: Sequence[Task], rng: np.random.Generator, rollouts: int = OFFLINE_ROLLOUTS
) -> list[Context]:
    """Let the agent play some rollouts in each task; by default, as many as a logged context has."""
    online: list[Context] = []
    for part, envs in in_batches(family, len(tasks)):
        contexts = [empty_context(family)] * envs.num_envs
        for _ in range(rollouts):
            _, contexts = own_rollout(agent, envs, tasks[part], contexts, rng)
        online += contexts
    return online


@torch.no_grad()
def probe(agent: Infers, dataset: Dataset, heldout: Dataset, seed: int) -> dict[str, float]:
    """Tell how well a quadratic fit on z predicts a task's parameters.

    Returns:
        ``probe_r2`` and ``own_probe_r2``: R² of the test tasks' parameters, as :meth:`TaskFamily.encode` gives them, by
        a fit on training tasks. The first is of logged contexts; the second is of the agent's own contexts, in the fit
        too, and shows how much a policy could at best learn from them.
    """
    family, rng = dataset.family, np.random.default_rng([seed, 2])

    def draw(data: Dataset, split: str, own: bool) -> tuple[Array, Array]:
        tasks = [task for task in data.tasks if task.split == split] * DRAWS
        sizes = [OFFLINE_ROLLOUTS * family.horizon] * len(tasks)
        contexts = own_contexts(agent, family, tasks, rng) if own else logged_contexts(data, tasks, sizes, rng)
        return infer(agent, contexts).mean.numpy(), family.encode(family.params(tasks))

    return {
        name: quadratic_r2(draw(dataset, "train", own), draw(heldout, "test", own))
        for name, own in (("probe_r2", False), ("own_probe_r2", True))
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
    rng = np.random.default_rng([seed, 4])
    seed_agent(agent, seed)
    tasks = {name: list(family.tasks[name]) * DRAWS for name in ("train", split)}
    played = {name: own_contexts(agent, family, tasks[name], rng, rollouts) for name in tasks}
    target = {name: family.encode(family.params(tasks[name])) for name in tasks}
    steps = np.unique(np.linspace(0, rollouts * family.horizon, rollouts * points + 1).round().astype(int)[1:])
    deviations, r2 = [], []
    for count in steps.tolist():
        belief = {name: infer(agent, [first(count, c) for c in contexts]) for name, contexts in played.items()}
        deviations.append(belief[split].variance.log().mean(-1).mul(0.5).exp().numpy())
        known, heldout = ((belief[name].mean.numpy(), target[name]) for name in ("train", split))
        r2.append(quadratic_r2(known, heldout))
    returns = np.array([context.rewards for context in played[split]]).reshape(len(tasks[split]), rollouts, -1).sum(-1)
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
    contexts = logged_contexts(dataset, tasks, [size] * len(tasks), np.random.default_rng([seed, 3]))
    places = torch.arange(len(tasks), device=buffer.device)
    generator = torch.Generator(device=buffer.device).manual_seed(seed)
    batch = buffer.take(places, buffer.draw(places, TRANSITIONS, generator))
    decoded = learner.decode(batch, learner.infer(contexts).mean)
    return {
        "decoder_error": float((decoded - batch.rewards).square().mean()),
        "reward_variance": float(batch.rewards.var()),
    }
