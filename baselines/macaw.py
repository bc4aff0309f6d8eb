"""MACAW: meta-actor-critic with advantage weighting (Mitchell et al., ICML 2021, arXiv 2008.06043).

Model-agnostic meta-learning (MAML) over advantage-weighted regression. A value function and a policy are meta-trained
so that *one gradient step each*, on a batch of a task's data, makes them good at that task. Both steps are regressions
on Monte-Carlo returns, so nothing is bootstrapped, and what is adapted by imitation of good actions is stable offline.
Two parts make a single step expressive: the *weight transform*, layers whose weights are a learned linear function of a
code, and an *advantage head*, which has the policy predict advantages in its inner step. The inner step sizes, one for
each parameter tensor, and the weight of the advantage loss are learned too.

Sections and equations are the paper's; constants of the ``paper`` preset are those of the authors' public code
(``standard.json``). Where the two differ, all presets follow the paper unless a field says otherwise:

- ``standardise``: the code standardises advantages within a batch. The paper weighs actions by exp(A / T) as they are.
- ``bootstrap``: the paper's returns are Monte-Carlo. The code adds the value of an episode's last state, at time limits
  and at falls alike (``ends``).
- ``outer_mean``: the paper sums outer losses over the tasks of a batch. The code divides that by the number of all
  training tasks; Adam's steps hardly depend on it.
- The code's advantage head applies ReLU to the actions that it reads, which cuts off their negative half; here it reads
  them as they are.

All presets depart from both as follows: the inner batch is drawn uniformly from a task's transitions (the code: 256
consecutive entries of a buffer that keeps every seventh step, which are about nine episodes); inner and outer losses
bootstrap, if they do, from the value function that they are about (the code: from an average of two). A context that is
cut out of episodes, as the logged ones of ``offline-context`` are, has no Monte-Carlo returns, so the value of its
pieces' last states stands for what is missing. The default preset normalises observations and returns by the logged
ones' moments, and has the sizes and the schedule in ``PRESETS``; ``docs/training.md`` says what was tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.func import grad
from torch.nn import functional as F

from offlinemeta.baselines.parts.buffer import Source, TaskBuffer, gather, pad, pad_rows
from offlinemeta.baselines.parts.config import Phase, option
from offlinemeta.baselines.parts.networks import Normaliser, widths
from offlinemeta.baselines.parts.optimiser import decay, descend, modules_of
from offlinemeta.benchmark.context import Context
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs import TaskFamily
from offlinemeta.envs.shapes import Array, Bool

CHUNK = 32
"""Tasks that are adapted at once at meta-test, so that memory does not grow with the number of tasks."""

LEAST_SCALE = 1e-6
"""The least scale by which returns and advantages are divided."""


@dataclass(frozen=True)
class Config:
    """The configuration of MACAW; its defaults are the constants of the authors' public code."""

    steps: PositiveInt = option(1_000_000, "Gradient steps of the training.")
    meta_batch: PositiveInt = option(5, "Tasks in a gradient step.")
    inner_batch: PositiveInt = option(256, "Transitions of a task in an inner step.")
    outer_batch: PositiveInt = option(256, "Transitions of a task in an outer step.")
    hidden: tuple[PositiveInt, ...] = option((100, 100, 100), "Widths of the hidden layers of policy and value.")
    code: PositiveInt = option(100, "Size of the code from which a linear function makes a layer's weights.")
    advantage_hidden: PositiveInt = option(32, "Width of the advantage head's hidden layer.")
    lr: PositiveFloat = option(1e-4, "Step size of Adam for the policy.")
    value_lr: PositiveFloat = option(1e-5, "Step size of Adam for the value function.")
    inner_lr: PositiveFloat = option(1e-3, "Inner step sizes at the start of training; they are learned.")
    rate_lr: PositiveFloat = option(1e-3, "Step size of Adam for inner step sizes and the advantage loss's weight.")
    late_factor: PositiveFloat = option(1.0, "Factor on all step sizes in the second half of the training.")
    advantage_weight: PositiveFloat = option(
        1e-2, "Weight of the advantage loss at the start of training; it is learned."
    )
    temperature: PositiveFloat = option(1.0, "Temperature T of the weights exp(A / T).")
    most_weight: PositiveFloat = option(20.0, "Upper bound of the weights exp(A / T).")
    std: PositiveFloat = option(0.2, "Standard deviation of the policy's Gaussian.")
    discount: Annotated[float, Field(ge=0, le=1)] = option(0.99, "Discount factor γ of the Monte-Carlo returns.")
    standardise: bool = option(False, "Whether advantages are standardised within a task's batch, as in the code.")
    bootstrap: Literal["cut", "truncations", "ends"] = option(
        "cut", "Where returns add a value at the end: in cut episodes, in all but terminated ones, or in all (code)."
    )
    outer_mean: bool = option(
        False, "Whether outer losses are divided by the number of training tasks, as in the code."
    )
    normalise: bool = option(
        False, "Whether observations and returns are normalised by the moments of the logged data."
    )
    contexts: Source = option(
        "all", "Source of inner batches: all data of a task, its exploring rollouts, or one rollout."
    )
    explore_rollouts: Annotated[int, Field(ge=0, le=OFFLINE_ROLLOUTS)] = option(
        2, "Number of first rollouts in a new task, in which the initial policy explores."
    )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The only phase is the offline one."""
        return (Phase("offline", self.steps),)


PRESETS = {
    "paper": Config(),
    "default": Config(
        steps=20_000,
        meta_batch=8,
        inner_batch=64,
        outer_batch=64,
        lr=1e-3,
        value_lr=1e-3,
        inner_lr=1e-2,
        rate_lr=1e-2,
        normalise=True,
    ),
    "smoke": Config(
        steps=20, meta_batch=2, inner_batch=16, outer_batch=16, hidden=(16, 16), code=8, advantage_hidden=8
    ),
}


class Steps(NamedTuple):
    """Transitions of T tasks, as inner and outer steps read them.

    Attributes:
        observations: ``[T, B, O]``.
        actions: ``[T, B, A]``.
        returns: Monte-Carlo returns R, to the end of the episode, ``[T, B]``.
        tails: factor of the value of the episode's last state, where one is added to R, ``[T, B]``.
        last: that last state, ``[T, B, O]``.
        weights: weights of the transitions in a task's mean, ``[T, B]``.
    """

    observations: Tensor
    actions: Tensor
    returns: Tensor
    tails: Tensor
    last: Tensor
    weights: Tensor

    def mean(self, losses: Tensor) -> Tensor:
        """Return each task's mean of losses ``[T, B]``: ``[T]``."""
        return (self.weights * losses).sum(-1)


Weights = tuple[Tensor, ...]
"""The weights and biases θ of each layer, as P numbers for each task: ``[T, P]``."""


class WeightTransform(nn.Module):
    """Layers whose weights are a linear function of a code, θ = M z + c (MACAW, section 4.3), and their inner step.

    The inner step moves z, M and c along their gradients, each at a learned rate α. With g = ∂L/∂θ, these gradients are
    Mᵀg, g zᵀ and g, and so the layer has the weights θ' = M z' + c - (α_M zᵀz' + α_c) g afterwards, where
    z' = z - α_z Mᵀg. No task needs an M of its own.

    Args:
        sizes: numbers of inputs, and of outputs, of each layer.
        code: size of each layer's code z.
        rate: the rates α at the start.
        generator: draws the initial values.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], code: int, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        device, bound = generator.device, 1 / math.sqrt(code)
        self.codes, self.matrices, self.offsets = (nn.ParameterList() for _ in range(3))
        for inputs, outputs in sizes:
            count = (inputs + 1) * outputs
            self.codes.append(torch.randn(code, generator=generator, device=device) / outputs)
            self.matrices.append(torch.empty(count, code, device=device).uniform_(-bound, bound, generator=generator))
            self.offsets.append(torch.empty(count, device=device).uniform_(-bound, bound, generator=generator))
        self.rates = Positive(rate, (len(sizes), 3), device)

    def forward(self, tasks: int) -> Weights:
        """Return the initial weights, once for each of a number of tasks."""
        layers = zip(self.codes, self.matrices, self.offsets, strict=True)
        return tuple(torch.addmv(c, m, z).expand(tasks, -1) for z, m, c in layers)

    def descend(self, gradients: Weights) -> Weights:
        """Return the weights after an inner step in each of T tasks, whose losses have these gradients."""
        layers = zip(self.codes, self.matrices, self.offsets, self.rates(), gradients, strict=True)
        adapted = []
        for z, m, c, (rate_z, rate_m, rate_c), g in layers:
            moved = z - rate_z * (g @ m)  # z' [T, code]
            adapted.append(torch.addmm(c, moved, m.mT) - (rate_m * (moved @ z)[:, None] + rate_c) * g)
        return tuple(adapted)


class Positive(nn.Module):
    """Learned positive numbers: softplus of parameters that start at the logarithm of a small value."""

    def __init__(self, start: float, shape: Sequence[int], device: torch.device) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.full(tuple(shape), math.log(start), device=device))

    def forward(self) -> Tensor:
        """Return the numbers."""
        return F.softplus(self.raw)


class Moments(nn.Module):
    """Mean and scale of returns: V predicts (R - mean) / scale. It is a module so that agent files hold it."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros((), device=device))
        self.register_buffer("scale", torch.ones((), device=device))
        self.mean: Tensor
        self.scale: Tensor


class MACAW:
    """The learner: :meth:`update` makes one gradient step, :meth:`adapt` is the meta-test.

    Args:
        config: the configuration; :class:`Config` explains its fields.
        family: the task family.
        generator: draws all random numbers of training; the networks live on its device.
    """

    acting = ("normaliser", "moments", "value", "actor", "advantage_weight")

    def __init__(self, config: Config, family: TaskFamily, generator: torch.Generator) -> None:
        self.config, self.family, self.generator = config, family, generator
        (o, a), c, device = widths(family), config, generator.device
        self.normaliser, self.moments = Normaliser(family, device), Moments(device)
        self.value = WeightTransform([*pairwise((o, *c.hidden, 1))], c.code, c.inner_lr, generator)
        head = pairwise((c.hidden[-1] + a, c.advantage_hidden, 1))
        self.actor = WeightTransform([*pairwise((o, *c.hidden, a)), *head], c.code, c.inner_lr, generator)
        self.advantage_weight = Positive(c.advantage_weight, (), device)
        self.nets = modules_of(self)
        learned = (self.value.rates, self.actor.rates, self.advantage_weight)
        rates = [p for positive in learned for p in positive.parameters()]
        groups = [
            {"params": [*self.value.codes, *self.value.matrices, *self.value.offsets], "lr": c.value_lr},
            {"params": [*self.actor.codes, *self.actor.matrices, *self.actor.offsets], "lr": c.lr},
            {"params": rates, "lr": c.rate_lr},
        ]
        self.optimisers = {"adam": torch.optim.Adam(groups, fused=True)}
        self.data: TaskBuffer | None = None
        self.step = self.env_steps = 0
        self.seed(0)

    def load(self, dataset: Dataset) -> None:
        """Take in the logged data, and compute the return of each of its transitions."""
        outcomes = [self.outcomes(each.rewards, each.terminations, [len(each)]) for each in dataset]
        if self.config.normalise:
            self.normaliser.fit(dataset.observations)
            returns = np.concatenate(outcomes)[:, 0]
            self.moments.mean.fill_(returns.mean())
            self.moments.scale.fill_(max(returns.std(), LEAST_SCALE))
        self.data = TaskBuffer.of(dataset.tasks, dataset, self.normaliser, dataset.aimless())
        self.outcome = self.data.lay_out(dataset, outcomes)  # [tasks, rows, 3]

    def outcomes(self, rewards: Array, terminations: Array, lengths: Sequence[int]) -> Array:
        """Return what becomes of each of S steps: ``[S, 3]``.

        Args:
            rewards: the steps' rewards, ``[S]``.
            terminations: whether the MDP ended at each step, ``[S]``.
            lengths: numbers of steps of the episodes, or pieces of episodes, that the steps are of.

        Returns:
            The Monte-Carlo return, the factor of the value of the episode's last state, and the number of steps left.
        """
        c, outcomes = self.config, [np.empty((0, 3))]
        for first, end in pairwise(np.cumsum([0, *lengths])):
            left, over = np.arange(end - first, 0, -1), terminations[end - 1]
            returns = [*accumulate(rewards[first:end][::-1], lambda later, reward: reward + c.discount * later)][::-1]
            goes_on = {"cut": not over and end - first < self.family.horizon, "truncations": not over, "ends": True}
            outcomes.append(np.stack([returns, goes_on[c.bootstrap] * c.discount**left, left], axis=1))
        return np.concatenate(outcomes)

    def update(self) -> dict[str, Tensor]:
        """Make one gradient step of Algorithm 1; return the losses, summed over tasks."""
        c, g, data = self.config, self.generator, self.data
        assert data is not None, "load(dataset) comes first"
        tasks = data.draw_tasks(c.meta_batch, g)
        context = data.draw_context(tasks, c.inner_batch, g, c.contexts)
        inner = self.steps_at(data, tasks, context)
        outer = self.steps_at(data, tasks, data.draw_others(tasks, context, c.outer_batch, g))
        phi = self.adapt_value(inner)
        theta = self.adapt_policy(phi, inner)
        divisor = len(data.tasks) if c.outer_mean else 1
        losses = {
            "value": self.value_loss(phi, outer).sum() / divisor,
            "actor": self.policy_loss(theta, phi, outer).sum() / divisor,
        }
        decay(self.optimisers["adam"], [c.value_lr, c.lr, c.rate_lr], c.late_factor, self.step / c.steps)
        descend(self.optimisers["adam"], losses)
        self.step += 1
        return losses

    def steps_at(self, data: TaskBuffer, tasks: Tensor, rows: Tensor) -> Steps:
        """Return the logged transitions of T tasks at ``rows [T, B]``, with what became of them."""
        batch, (returns, tails, left) = data.take(tasks, rows), gather(self.outcome, tasks, rows).unbind(-1)
        last = data.take(tasks, rows + left.long() - 1).next_observations
        return Steps(
            batch.observations, batch.actions, returns, tails, last, torch.full_like(returns, 1 / rows.shape[1])
        )

    # --- inner steps

    def adapt_value(self, steps: Steps) -> Weights:
        """Return φ' = φ - α ∇ L_V(φ) of each task (Eq. 2)."""
        return self.value.descend(gradient(lambda phi: self.value_loss(phi, steps), self.value(len(steps.returns))))

    def adapt_policy(self, phi: Weights, steps: Steps) -> Weights:
        """Return θ' = θ - α ∇ (L_AWR + λ L_ADV)(θ, φ') of each task (Eq. 5)."""

        def loss(theta: Weights) -> Tensor:
            imitation, advantages = self.policy_loss(theta, phi, steps), self.advantage_loss(theta, phi, steps)
            return imitation + self.advantage_weight() * advantages

        return self.actor.descend(gradient(loss, self.actor(len(steps.returns))))

    # --- losses of T tasks, [T] each

    def value_loss(self, phi: Weights, steps: Steps) -> Tensor:
        """Return L_V: the mean of (V(s) - R)²."""
        return steps.mean((self.v(phi, steps.observations) - self.returns(phi, steps)).square())

    def policy_loss(self, theta: Weights, phi: Weights, steps: Steps) -> Tensor:
        """Return L_AWR: the mean of -exp(A / T) log π(a|s), where A = R - V(s)."""
        c, advantages = self.config, self.advantages(phi, steps)
        if c.standardise:
            centred = advantages - steps.mean(advantages)[:, None]
            advantages = centred / steps.mean(centred.square()).sqrt().clamp_min(LEAST_SCALE)[:, None]
        weights = (advantages / c.temperature).clamp_max(math.log(c.most_weight)).exp()
        return -steps.mean(weights * self.log_prob(theta, steps.observations, steps.actions))

    def advantage_loss(self, theta: Weights, phi: Weights, steps: Steps) -> Tensor:
        """Return L_ADV: the mean of (A(s, a) - A)², where A(s, a) is the policy's advantage head."""
        depth = len(self.config.hidden)
        features = dense(theta[:depth], steps.observations).relu()
        predicted = dense(theta[depth + 1 :], torch.cat([features, steps.actions], dim=-1))[..., 0]
        return steps.mean((predicted - self.advantages(phi, steps)).square())

    # --- what they are made of, [T, B] each

    @torch.no_grad()
    def advantages(self, phi: Weights, steps: Steps) -> Tensor:
        """Return A = R - V(s), a constant in all losses."""
        return self.returns(phi, steps) - self.v(phi, steps.observations)

    @torch.no_grad()
    def returns(self, phi: Weights, steps: Steps) -> Tensor:
        """Return R in units of V, with the value of the last state where the episode goes on; a constant."""
        mean, scale = self.moments.mean, self.moments.scale
        returns = (steps.returns - mean) / scale
        if not steps.tails.any():
            return returns
        return returns + steps.tails * (self.v(phi, steps.last) + mean / scale)

    def v(self, phi: Weights, observations: Tensor) -> Tensor:
        """Return V(s)."""
        return dense(phi, observations)[..., 0]

    def log_prob(self, theta: Weights, observations: Tensor, actions: Tensor) -> Tensor:
        """Return log π(a|s)."""
        std = self.config.std
        errors = (actions - self.mean(theta, observations)) / std
        return (-0.5 * errors.square() - math.log(std) - 0.5 * math.log(2 * math.pi)).sum(-1)

    def mean(self, theta: Weights, observations: Tensor) -> Tensor:
        """Return the mean of the Gaussian π(a|s): ``[T, B, A]``."""
        return dense(theta[: len(self.config.hidden) + 1], observations).tanh()

    # --- the meta-test

    @torch.no_grad()
    def adapt(self, contexts: Sequence[Context]) -> AdaptedPolicy:
        """Explore by the initial policy; later make both inner steps on the context, and act by the mean."""
        explored = self.config.explore_rollouts * self.family.horizon
        exploring = np.array([len(context) < explored for context in contexts], dtype=bool)
        exploring |= np.array([len(context) == 0 for context in contexts], dtype=bool)
        theta = tuple(layer.clone() for layer in self.actor(len(contexts)))
        known = np.flatnonzero(~exploring)
        for some in np.split(known, range(CHUNK, len(known), CHUNK)) if len(known) else ():
            steps = self.steps_of([contexts[i] for i in some])
            for layer, adapted in zip(theta, self.adapt_policy(self.adapt_value(steps), steps), strict=True):
                layer[some] = adapted
        return AdaptedPolicy(self, theta, exploring, self._rng)

    def steps_of(self, contexts: Sequence[Context]) -> Steps:
        """Return the transitions of contexts, and padding of weight 0."""
        batch, mask = pad(contexts, self.normaliser)
        outcomes = [self.outcomes(each.rewards, each.terminations, each.lengths.tolist()) for each in contexts]
        returns, tails, left = pad_rows(outcomes).to(mask.device).unbind(-1)
        rows = torch.arange(mask.shape[1], device=mask.device) + (left.long() - 1).clamp_min(0)
        last = batch.next_observations.take_along_dim(rows[..., None], dim=1)
        return Steps(batch.observations, batch.actions, returns, tails, last, mask / mask.sum(1, keepdim=True))

    def seed(self, seed: int) -> None:
        """Seed the noise of the policies of :meth:`adapt`."""
        self._rng = np.random.default_rng(seed)


class AdaptedPolicy:
    """Acts in N tasks by weights of their own: by the mean, or with the Gaussian's noise where it explores."""

    def __init__(self, learner: MACAW, theta: Weights, exploring: Bool[Array, " N"], rng: np.random.Generator) -> None:
        self._learner, self._theta, self._exploring, self._rng = learner, theta, exploring[:, None], rng

    @torch.no_grad()
    def act(self, observations: Array) -> Array:
        """Return actions in [-1, 1]: ``[N, A]``."""
        learner = self._learner
        seen = learner.normaliser(torch.tensor(observations, device=learner.generator.device))
        mean = learner.mean(self._theta, seen[:, None])[:, 0].cpu().numpy()
        noise = self._rng.standard_normal(mean.shape).astype(np.float32)
        return np.clip(mean + learner.config.std * noise * self._exploring, -1, 1)


def dense(weights: Weights, x: Tensor) -> Tensor:
    """Evaluate an MLP with ReLU, with weights of its own in each of T tasks, at ``x [T, B, in]``."""
    for i, layer in enumerate(weights):
        inputs = x.shape[-1]
        outputs = layer.shape[-1] // (inputs + 1)
        w, b = layer.split((inputs * outputs, outputs), dim=-1)
        x = torch.baddbmm(b[:, None], x if i == 0 else x.relu(), w.unflatten(-1, (inputs, outputs)))
    return x


def gradient(loss: Callable[[Weights], Tensor], weights: Weights) -> Weights:
    """Return the gradients of T tasks' losses, each by its task's own weights; they can be differentiated again."""
    return grad(lambda own: loss(own).sum())(weights)
