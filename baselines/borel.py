"""BOReL (Dorfman, Shenfeld and Tamar, NeurIPS 2021, arXiv 2008.02598): offline meta-RL of Bayes-adaptive policies.

A recurrent VAE is trained on meta-episodes, each of some rollouts of one task in a row. Its encoder q(z | τ_:t) is a
belief about the task, which grows with every step; its decoder p(r | z, s, a, s') has to explain the rewards of the
whole meta-episode, those to come too, from z ~ q(z | τ_:t) at any t. Then the encoder is frozen, every logged state is
relabelled with the belief (μ, log σ²) that the agent would have had there, and SAC is trained on such hyper-states. At
test the agent acts by the mean, and its belief grows with what it sees, inside an episode too. Nothing in SAC corrects
for being offline.

Where all rollouts of a task follow that task, states give it away, and the belief need not learn to read rewards. With
reward relabelling (the method ``borel-rr``) a share of meta-episodes, of which SAC learns too, begins with a rollout of
another task, its rewards computed anew by the task's true reward function. That is oracle information.

Constants of the ``paper`` preset are those of the authors' public code for the cheetah; the point robot had
``alpha=0.01``, ``hidden=128,128`` and ``discount=0.9``. As in that code, the squared error of rewards is a mean over
the decoded steps; the paper's ELBO, which has the sum, is had by dividing ``kl_weight`` by the steps of a meta-episode.
All presets depart from it as follows: rollouts are put in a row by chance, each as often at each place; what is
relabelled are as many rollouts as a task has itself; the belief begins anew at a meta-episode and nowhere else, in the
data as at test (the code resets it where a goal is reached, in the data alone); observations have no flag of an
episode's last step; one optimiser steps critics and actor at once, so that the actor sees the critics as they were
before the step. Targets are cut at terminations alone; where a time limit cuts an episode, they go on from its last
state. At test the belief is carried on through all episodes, also when they are more than in a meta-episode, since what
was seen of a task stays true. Where dynamics vary, the encoder reads s as well, and a second decoder p(s' - s | z, s,
a) explains them.

The default preset also has the sizes and the schedule in ``PRESETS``, draws a part of the ELBO's terms in each step,
normalises observations by the moments of the logged ones, and the critics' layers, moves their targets faster (τ 0.02)
and weighs the entropy less (α 0.01): with the published α of 0.2 the policy nearly stands still on data of a few
rollouts a task (``leaderboard/trials/borel.md``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from offlinemeta.baselines.parts.belief import BeliefPolicy, Decoder, RecurrentEncoder, hyper
from offlinemeta.baselines.parts.buffer import Batch, TaskBuffer, gather, rollouts_of
from offlinemeta.baselines.parts.config import Phase, option
from offlinemeta.baselines.parts.networks import LEAST_SCALE, Actor, Dense, Normaliser, widths
from offlinemeta.baselines.parts.optimiser import adam, decay, descend, in_turn, modules_of, polyak, target_of
from offlinemeta.baselines.parts.posterior import Gaussian, kl_between, kl_to_prior, sample
from offlinemeta.benchmark.context import Context
from offlinemeta.datasets.dataset import Dataset, Episode, join_episodes, label
from offlinemeta.envs import TaskFamily
from offlinemeta.envs.errors import ArgumentError

PAIRS = 2**14
"""How many pairs of z and transition are decoded at once: their activations should fit into a processor's cache."""


@dataclass(frozen=True)
class Config:
    """The configuration of BOReL; its defaults are the constants of the authors' public code for the cheetah."""

    vae_steps: PositiveInt = option(25_700, "Gradient steps of the VAE: 100 passes over 2,050 published trajectories.")
    sac_steps: PositiveInt = option(1_000_000, "Gradient steps of SAC, on the frozen VAE's beliefs.", "offline")
    episodes: PositiveInt = option(2, "Rollouts in a meta-episode.")
    pairings: PositiveInt = option(1, "How often each logged rollout is put at each position of a meta-episode.")
    relabel: bool = option(
        False, "Whether meta-episodes may begin with another task's relabelled rollout (true rewards)."
    )
    relabel_share: Annotated[float, Field(ge=0, le=1)] = option(
        0.63, "Share of meta-episodes that begin with such a rollout."
    )
    vae_tasks: PositiveInt = option(4, "Tasks in a gradient step of the VAE.")
    vae_batch: PositiveInt = option(8, "Meta-episodes of a task in a gradient step of the VAE.")
    elbo_terms: NonNegativeInt = option(0, "Number of times t at which a VAE step draws z for decoding; 0 for all.")
    decoded_steps: NonNegativeInt = option(
        0, "Number of transitions in a meta-episode that each z must explain; 0 for all."
    )
    latent: PositiveInt = option(5, "Size of the latent variable z.")
    recurrent: PositiveInt = option(128, "Size of the encoder's GRU.")
    decoder_hidden: tuple[PositiveInt, ...] = option((32, 32), "Widths of the decoders' hidden layers.")
    kl_weight: NonNegativeFloat = option(0.05, "Weight of the sum of KL(q_t || q_t-1) relative to mean squared errors.")
    transition_weight: NonNegativeFloat = option(
        1.0, "Weight of the error of s' - s, measured in its scales, where dynamics vary."
    )
    meta_batch: PositiveInt = option(16, "Tasks in a gradient step of SAC.", "offline")
    batch: PositiveInt = option(256, "Transitions of a task in a batch of SAC.", "offline")
    hidden: tuple[PositiveInt, ...] = option((256, 256), "Widths of the hidden layers of actor and critics.")
    lr: PositiveFloat = option(3e-4, "Step size of Adam.")
    late_factor: PositiveFloat = option(1.0, "Factor on SAC's step size in the second half of its steps.", "offline")
    discount: Annotated[float, Field(ge=0, le=1)] = option(0.99, "Discount factor γ.", "offline")
    tau: Annotated[float, Field(ge=0, le=1)] = option(0.005, "Polyak step τ of the critics' targets.", "offline")
    alpha: NonNegativeFloat = option(0.2, "Weight α of the policy's entropy.", "offline")
    normalise: bool = option(False, "Whether observations are normalised by the moments of the logged observations.")
    layer_norm: bool = option(False, "Whether the critics have layer normalisation (Ba et al., 2016).", "offline")

    @property
    def steps(self) -> int:
        """Number of gradient steps in both phases."""
        return self.vae_steps + self.sac_steps

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The VAE's phase, at whose end there is no policy yet, and SAC's."""
        return Phase("vae", self.vae_steps, evaluated=False), Phase("offline", self.steps)


PRESETS = {
    "paper": Config(),
    "default": Config(
        vae_steps=4_000,
        sac_steps=16_000,
        pairings=2,
        vae_tasks=16,
        vae_batch=2,
        elbo_terms=16,
        decoded_steps=32,
        recurrent=64,
        decoder_hidden=(64, 64),
        batch=32,
        hidden=(128, 128, 128),
        lr=1e-3,
        tau=0.02,
        alpha=0.01,
        normalise=True,
        layer_norm=True,
    ),
    "smoke": Config(
        vae_steps=15,
        sac_steps=15,
        vae_batch=2,
        elbo_terms=8,
        decoded_steps=8,
        recurrent=16,
        decoder_hidden=(16,),
        meta_batch=4,
        batch=16,
        hidden=(16, 16),
    ),
}


class BOReL:
    """The learner: :meth:`update` makes one gradient step, :meth:`adapt` is the meta-test.

    Args:
        config: the configuration; :class:`Config` explains its fields.
        family: the task family.
        generator: draws all random numbers of training; the networks live on its device.
    """

    acting = ("normaliser", "encoder", "actor")

    def __init__(self, config: Config, family: TaskFamily, generator: torch.Generator) -> None:
        self.config, self.family, self.generator = config, family, generator
        (o, a), c, dynamics = widths(family), config, family.varies == "dynamics"
        self.normaliser = Normaliser(family, generator.device)
        self.encoder = RecurrentEncoder(family, c.latent, c.recurrent, dynamics, generator)
        self.decoder = Decoder(family, c.latent, c.decoder_hidden, 1, True, generator)
        self.transition = Decoder(family, c.latent, c.decoder_hidden, o, False, generator) if dynamics else None
        self.actor = Actor(o + 2 * c.latent, a, c.hidden, generator)
        self.critics = Dense((o + 2 * c.latent + a, *c.hidden, 1), generator, n=2, layer_norm=c.layer_norm)
        self.targets = target_of(self.critics)
        self.nets = modules_of(self)
        self.decoders = [net for net in (self.decoder, self.transition) if net is not None]
        self.optimisers = {
            "vae": adam([self.encoder, *self.decoders], c.lr),
            "sac": adam([self.actor, self.critics], c.lr),
        }
        self.data: TaskBuffer | None = None
        self.rows = self.beliefs = torch.empty(0)  # of all meta-episodes
        self.moved = torch.ones(o, device=generator.device)  # the scale of s' - s
        self.step = self.env_steps = 0

    def load(self, dataset: Dataset) -> None:
        """Take in the logged data, with relabelled rollouts of other tasks where those are wanted; pair rollouts."""
        if self.config.normalise:
            self.normaliser.fit(dataset.observations)
        strangers = self.strangers(dataset) if self.config.relabel else ()
        self.data = TaskBuffer.of(dataset.tasks, [*dataset, *strangers], self.normaliser)
        self.rows = self.meta_episodes(dataset)
        moves = np.concatenate([np.diff(episode.observations, axis=0) for episode in dataset]).std(0)
        self.moved = (torch.as_tensor(moves, device=self.data.device) / self.normaliser.scale).clamp_min(LEAST_SCALE)

    def strangers(self, dataset: Dataset) -> Iterator[Episode]:
        """Draw as many rollouts of other tasks as a task has itself, for each; label them by its true reward function.

        Raises:
            ArgumentError: tasks do not differ in a known reward function.
        """
        if not self.family.rewards_tell:
            raise ArgumentError(
                f"A rollout in one task of {self.family.name} cannot be relabelled for another, since its tasks do not "
                "differ in a reward function of recorded features alone. Train without relabelling (borel)."
            )
        count = dataset.spec.rollouts
        by_task = [rollouts_of(own, self.family.horizon) for own in dataset.by_task().values()]
        for place, task in enumerate(dataset.tasks):
            others = (place + self.integers(1, len(by_task), (count,))) % len(by_task)  # any but its own
            drawn = zip(others.tolist(), self.integers(0, count, (count,)).tolist(), strict=True)
            episodes = [episode for other, rollout in drawn for episode in by_task[other][rollout]]
            labels = label(join_episodes(dataset.spec, dataset.behaviours, episodes, {}), [task])
            for episode, rewards in zip(episodes, labels, strict=True):
                yield replace(episode, task=task, rewards=rewards[:, 0])

    def meta_episodes(self, dataset: Dataset) -> Tensor:
        """Put rollouts in a row, each as often at each place; return the buffer's rows ``[tasks, M, L]``.

        Raises:
            ArgumentError: a task has too few rollouts.
        """
        c, g, tasks, count = self.config, self.generator, len(dataset.tasks), dataset.spec.rollouts
        if c.episodes > count:
            raise ArgumentError(f"episodes={c.episodes}, and {dataset.spec.id} has {count} rollouts of a task.")
        shifts = torch.rand(tasks, c.pairings, count - 1, generator=g, device=g.device).argsort(-1) + 1
        shifts = F.pad(shifts[..., : c.episodes - 1], (1, 0))  # [tasks, pairings, episodes]
        first = torch.arange(count, device=g.device)[:, None]
        rollouts = ((first + shifts[:, :, None]) % count).flatten(1, 2)  # [tasks, M, episodes]
        if c.relabel:  # strangers come after a task's own rollouts
            chosen = torch.rand(rollouts.shape[:2], generator=g, device=g.device) < c.relabel_share
            rollouts[..., 0] += count * chosen
        steps = torch.arange(self.family.horizon, device=g.device)
        return (rollouts[..., None] * self.family.horizon + steps).flatten(2)

    def update(self) -> dict[str, Tensor]:
        """Make one gradient step of the VAE, or then of SAC on the VAE's beliefs; return the losses."""
        c, g, data = self.config, self.generator, self.data
        assert data is not None, "load(dataset) comes first"
        trains_vae = self.step < c.vae_steps
        tasks, (_, count, length) = data.draw_tasks(c.vae_tasks if trains_vae else c.meta_batch, g), self.rows.shape
        if trains_vae:
            rows = gather(self.rows, tasks, self.integers(0, count, (c.vae_tasks, c.vae_batch)))  # [T, B, L]
            losses = self.elbo_loss(Batch(*(x.flatten(0, 1) for x in data.take(tasks, rows))))
            descend(self.optimisers["vae"], losses)
        else:
            if not len(self.beliefs):  # here, since a resumed training has its encoder only now
                self.beliefs = self.relabel(data)
            places = self.integers(0, count * length, (c.meta_batch, c.batch))
            batch = data.take(tasks, gather(self.rows.flatten(1), tasks, places))
            now = places + places // length  # a meta-episode has one belief more than steps
            b, b_next = gather(self.beliefs, tasks, now), gather(self.beliefs, tasks, now + 1)  # [T, B, 2Z]
            s, s_next = torch.cat([batch.observations, b], -1), torch.cat([batch.next_observations, b_next], -1)
            losses = {"critic": self.critic_loss(batch, s, s_next), "actor": self.actor_loss(s)}
            decay(self.optimisers["sac"], [c.lr], c.late_factor, (self.step - c.vae_steps) / c.sac_steps)
            descend(self.optimisers["sac"], losses)
            polyak(self.targets.parameters(), self.critics.parameters(), c.tau)
        self.step += 1
        return losses

    def elbo_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the two parts of -ELBO of N meta-episodes, each summed over all t.

        Args:
            batch: meta-episodes of L steps, ``[N, L, .]``.
        """
        c, length = self.config, batch.rewards.shape[1]
        q = self.encoder.beliefs(batch)  # [N, L+1, Z]
        t, k = self.some(length + 1, c.elbo_terms), self.some(length, c.decoded_steps)
        z = sample(Gaussian(q.mean[:, t], q.variance[:, t]), self.generator)
        error = self.reconstruction_loss(z, Batch(*(x[:, k] for x in batch)))
        return {"reconstruction": (length + 1) / len(t) * error, "kl": c.kl_weight * self.kl_loss(q)}

    def reconstruction_loss(self, z: Tensor, batch: Batch) -> Tensor:
        """Return Σ_t mean_k (r_k - r(z_t, s_k, a_k, s'_k))², and the like of s' - s; mean over N meta-episodes.

        Args:
            z: z_t at T times, ``[N, T, Z]``.
            batch: K transitions that each of them has to explain, ``[N, K, .]``.
        """
        size = max(1, PAIRS // batch.rewards.shape[1])
        if len(z) * z.shape[1] <= size:
            return self.errors(z, batch) / len(z)
        each = (Batch(*columns) for columns in zip(*(x.split(1) for x in batch), strict=True))  # [1, K, .]
        turns = [(part, own) for own, zs in zip(each, z.split(1), strict=True) for part in zs.split(size, dim=1)]
        return in_turn(self.errors, turns, [p for net in self.decoders for p in net.parameters()]) / len(z)

    def errors(self, z: Tensor, batch: Batch) -> Tensor:
        """Return the sum over meta-episodes and t of the errors' mean over k."""
        errors = (self.decoder(z, batch)[..., 0] - batch.rewards[:, None]).square()  # [N, T, K]
        if self.transition is not None:
            moves = ((batch.next_observations - batch.observations) / self.moved)[:, None]
            errors = errors + self.config.transition_weight * (self.transition(z, batch) - moves).square().sum(-1)
        return errors.mean(2).sum()

    def kl_loss(self, q: Gaussian) -> Tensor:
        """Return KL(q_0 || N(0, I)) + Σ_t KL(q_t || q_t-1), mean over N meta-episodes."""
        now, before = Gaussian(q.mean[:, 1:], q.variance[:, 1:]), Gaussian(q.mean[:, :-1], q.variance[:, :-1])
        first = kl_to_prior(Gaussian(q.mean[:, 0], q.variance[:, 0]))
        return (first + kl_between(now, before).sum(1)).mean()

    @torch.no_grad()
    def relabel(self, data: TaskBuffer) -> Tensor:
        """Return the beliefs (μ, log σ²) before and after all steps of all meta-episodes: ``[tasks, M (L+1), 2Z]``."""
        places = torch.arange(len(data.tasks), device=data.device).split(1)
        relabelled = (self.encoder.beliefs(Batch(*(x[0] for x in data.take(one, self.rows[one])))) for one in places)
        return torch.stack([hyper(q).flatten(0, 1) for q in relabelled])

    def critic_loss(self, batch: Batch, s: Tensor, s_next: Tensor) -> Tensor:
        """Return L_Q = Σ_j mean (Q_j(s⁺, a) - y)², y = r + γ (1 - d) (min Q'(s⁺', a') - α log π(a'|s⁺')), a' ~ π."""
        c = self.config
        with torch.no_grad():
            actions, log_prob = self.actor(s_next).sample(self.generator)
            following = self.targets(torch.cat([s_next, actions], -1))[..., 0].amin(0) - c.alpha * log_prob
            y = batch.rewards + c.discount * (1 - batch.terminations) * following  # [T, B]
        q = self.critics(torch.cat([s, batch.actions], -1))[..., 0]  # [2, T, B]
        return (q - y).square().mean((1, 2)).sum()

    def actor_loss(self, s: Tensor) -> Tensor:
        """Return L_π = mean (α log π(a|s⁺) - min Q(s⁺, a)), a ~ π."""
        actions, log_prob = self.actor(s).sample(self.generator)
        q = self.critics(torch.cat([s, actions], -1), frozen=True)[..., 0].amin(0)
        return (self.config.alpha * log_prob - q).mean()

    def decode(self, batch: Batch, z: Tensor) -> Tensor:
        """Return r(s, a, s', z): ``[T, B]``."""
        return self.decoder(z[:, None], batch)[:, 0, :, 0]

    def infer(self, contexts: Sequence[Context]) -> Gaussian:
        """Return q(z|c) of N tasks, c in its order: mean and variance, ``[N, Z]`` each."""
        with torch.no_grad():
            return self.encoder.belief(self.encoder.read(contexts, self.normaliser))

    def adapt(self, contexts: Sequence[Context]) -> BeliefPolicy:
        """Act by the mean in the hyper-state, whose belief begins with the contexts and grows inside the episode."""
        return BeliefPolicy(self.actor, self.encoder, self.normaliser, contexts)

    def seed(self, seed: int) -> None:
        """Do nothing: nothing in :meth:`adapt` or its policies is random."""

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> Tensor:
        """Draw whole numbers from ``low`` to ``high - 1``."""
        return torch.randint(low, high, shape, generator=self.generator, device=self.generator.device)

    def some(self, count: int, wanted: int) -> Tensor:
        """Draw ``wanted`` of the numbers below ``count`` without replacement; with 0, or too many, return all."""
        if not 0 < wanted < count:
            return torch.arange(count, device=self.generator.device)
        return torch.randperm(count, generator=self.generator, device=self.generator.device)[:wanted]
