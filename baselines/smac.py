"""SMAC: offline meta-training, then self-supervised interaction (Pong et al., ICML 2022, arXiv 2107.03974).

Offline, an encoder q(z|c) and a reward decoder r(s, a, z) are trained to explain the logged rewards, and an AWAC
actor-critic conditioned on z is trained on the logged data. Then both encoder and decoder are frozen, and the agent
acts in the training tasks *without rewards*: it labels what it sees with the decoder, and goes on training the
actor-critic on all of it. Now it has met contexts that it collected itself, which closes the context shift.

Sections and equations are the paper's; constants of the ``paper`` preset are those of the authors' public code, and its
contexts those of their Ant experiment (their Cheetah's are ``contexts=prior`` and ``online_contexts=prior``). All
presets depart from it as follows: one optimiser steps all losses of an update at once, so that the actor's advantages
are those of the critics before the step; a round draws its tasks without replacement and visits them all at once; a
visit's rollouts with z from the prior all come first (the code begins its posterior rollouts with another of them);
after a termination another episode begins, until the rollout has ``horizon`` steps, all of it labelled with one z;
logged actions are clipped to ±0.9999 for the inverse of tanh; where dynamics vary, the encoder reads s' too.

The default preset also has the sizes and the schedule in ``PRESETS``, with more tasks and fewer transitions of each in
a batch. It normalises observations by the moments of the logged ones, normalises the critics' layers, divides
advantages by their standard deviation, draws a context in the self-supervised phase from one own visit, half of which
explored, and goes on training the encoder in that phase, on rewards that the decoder labelled with the encoder of the
offline phase; ``smac-frozen`` freezes it, as published. The preset ``scenes`` is the default one for SawyerSceneDense.
There, rewards vary so little that the default weight of the KL leaves z empty, and larger nets learn the fifty training
scenes by heart. ``docs/training.md`` says what was tried and seen.

The methods ``oracle`` and ``true-labels`` are given the true rewards of their interaction; the oracle trains the
decoder on them too, as the study's does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from offlinemeta.baselines.parts.awac import awac_weights, bellman_target, own_values, spread
from offlinemeta.baselines.parts.buffer import Batch, Source, Span, TaskBuffer, pad, transitions
from offlinemeta.baselines.parts.config import Phase, option
from offlinemeta.baselines.parts.encoder import Encoder
from offlinemeta.baselines.parts.exploration import LatentPolicy, explore, explore_then_infer
from offlinemeta.baselines.parts.networks import Actor, Dense, Normaliser, join, widths
from offlinemeta.baselines.parts.optimiser import adam, descend, modules_of, polyak, target_of
from offlinemeta.baselines.parts.posterior import Gaussian, kl_to_prior, prior, sample
from offlinemeta.benchmark.context import Context, subset
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.datasets.dataset import Dataset, Episode
from offlinemeta.envs import TaskFamily
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.shapes import Array


@dataclass(frozen=True)
class Config:
    """The configuration of SMAC; its defaults are the constants of the authors' public code."""

    offline_steps: NonNegativeInt = option(50_000, "Gradient steps before the self-supervised phase.")
    rounds: NonNegativeInt = option(501, "Rounds of the self-supervised phase: collect, label, train.", "online")
    round_steps: PositiveInt = option(16_000, "Gradient steps in a round of the self-supervised phase.", "online")
    round_tasks: PositiveInt = option(5, "Training tasks visited in a self-supervised round.", "online")
    round_prior: NonNegativeInt = option(3, "Rollouts with z from the prior in each visit to a task.", "online")
    round_posterior: NonNegativeInt = option(2, "Rollouts with z ~ q(z|c) in each visit to a task.", "online")
    meta_batch: PositiveInt = option(4, "Tasks in a gradient step.")
    batch: PositiveInt = option(128, "Transitions of a task in an offline batch, for actor, critics and decoder.")
    online_batch: PositiveInt = option(256, "Transitions of a task in a batch of the self-supervised phase.", "online")
    context: PositiveInt = option(64, "Transitions of a task in an offline context, which the encoder reads.")
    online_context: PositiveInt = option(64, "Transitions of a task in a self-supervised context.", "online")
    label_context: PositiveInt = option(256, "Transitions of a task in a context for exploring or labelling.", "online")
    latent: PositiveInt = option(5, "Size of the latent variable z.")
    hidden: tuple[PositiveInt, ...] = option((300, 300, 300), "Widths of the hidden layers of actor and critics.")
    encoder_hidden: tuple[PositiveInt, ...] = option((200, 200, 200), "Widths of the encoder's hidden layers.")
    decoder_hidden: tuple[PositiveInt, ...] = option((64, 64), "Widths of the reward decoder's hidden layers.")
    lr: PositiveFloat = option(3e-4, "Step size of Adam in the offline phase.")
    online_lr: PositiveFloat = option(3e-4, "Step size of Adam in the self-supervised phase.", "online")
    discount: Annotated[float, Field(ge=0, le=1)] = option(0.99, "Discount factor γ.")
    tau: Annotated[float, Field(ge=0, le=1)] = option(0.005, "Polyak step τ of the critics' targets.")
    target_draw: Literal["policy", "all"] = option("policy", "Which of the target's networks read a second draw of z.")
    reward_scale: PositiveFloat = option(5.0, "Factor on the rewards in the Bellman target, not in the decoder's loss.")
    temperature: PositiveFloat = option(100.0, "Temperature λ of AWAC in the offline phase.")
    online_temperature: PositiveFloat = option(100.0, "Temperature λ of AWAC in the self-supervised phase.", "online")
    relative_advantages: bool = option(
        False, "Whether advantages and Q are divided by the advantages' standard deviation."
    )
    kl_weight: NonNegativeFloat = option(0.1, "Weight of KL(q(z|c) || N(0, I)), averaged over the tasks of a batch.")
    pearl_weight: NonNegativeFloat = option(1.0, "Weight λ_pearl of PEARL's loss after the offline phase.", "online")
    actor: Literal["awac", "pearl"] = option("awac", "Loss of the actor: AWAC's, or PEARL's, which maximises Q alone.")
    encoder_loss: Literal["reward", "q"] = option("reward", "Error that trains the encoder: that of rewards or of Q.")
    online_nets: Literal["actor-critic", "encoder", "all"] = option(
        "actor-critic", "What the self-supervised phase trains: actor and critics, also the encoder, or all.", "online"
    )
    online_rewards: Literal["decoder", "true"] = option("decoder", "Labels of own rollouts: decoded or true.", "online")
    critic_steps: NonNegativeInt = option(0, "First self-supervised steps that do not train the actor.", "online")
    explore_rollouts: Annotated[int, Field(ge=0, le=OFFLINE_ROLLOUTS)] = option(
        2, "Number of first rollouts in a new task, which explore with z ~ N(0, I).", "online"
    )
    test_context: NonNegativeInt = option(
        0, "Number of transitions sampled from a longer context at test; 0 for all.", "online"
    )
    next_observations: bool = option(False, "Whether the encoder reads s' too; where dynamics vary, it does anyway.")
    normalise: bool = option(False, "Whether observations are normalised by the moments of the logged observations.")
    layer_norm: bool = option(False, "Whether the critics have layer normalisation (Ball et al., 2023).")
    contexts: Source = option(
        "all", "Source of an offline context, also for labels: all data of a task, exploring rollouts, or one rollout."
    )
    online_contexts: Literal["all", "prior", "rollout", "visit"] = option(
        "all", "Source of a self-supervised context: as `contexts`, of logged and own data; or one own visit.", "online"
    )
    z_period: NonNegativeInt = option(
        1, "Steps after which z is drawn again; 0 to hold it for an episode, in collection for a rollout.", "online"
    )
    explore_mean: bool = option(True, "Whether exploring episodes at test also use mean actions.", "online")

    @property
    def steps(self) -> int:
        """Number of gradient steps in both phases."""
        return self.offline_steps + self.rounds * self.round_steps

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The offline phase, and then the self-supervised one, which also trains on the learner's own experience."""
        return Phase("offline", self.offline_steps), Phase("online", self.steps)


PRESETS = {
    "paper": Config(),
    "default": Config(
        offline_steps=10_000,
        rounds=5,
        round_steps=2_000,
        round_tasks=100,
        round_prior=1,
        round_posterior=1,
        meta_batch=16,
        batch=32,
        online_batch=32,
        online_context=128,
        hidden=(128, 128, 128),
        encoder_hidden=(128, 128),
        lr=1e-3,
        temperature=1.0,
        online_temperature=1.0,
        relative_advantages=True,
        kl_weight=0.02,
        pearl_weight=1.0,
        normalise=True,
        layer_norm=True,
        online_contexts="visit",
        online_nets="encoder",
    ),
    "smoke": Config(
        offline_steps=20,
        rounds=1,
        round_steps=10,
        round_tasks=2,
        round_prior=1,
        round_posterior=1,
        batch=16,
        online_batch=16,
        hidden=(16, 16),
        encoder_hidden=(16,),
        decoder_hidden=(16,),
    ),
}
PRESETS["demo"] = replace(PRESETS["default"], offline_steps=6_000, rounds=3, round_steps=1_500)
PRESETS["scenes"] = replace(
    PRESETS["default"], kl_weight=2e-4, encoder_hidden=(32, 32), decoder_hidden=(16,), context=256
)


class SMAC:
    """The learner: :meth:`update` makes one gradient step, :meth:`adapt` is the meta-test.

    Args:
        config: the configuration; :class:`Config` explains its fields.
        family: the task family, in whose training tasks the learner acts.
        generator: draws all random numbers of training; the networks live on its device.

    Raises:
        ArgumentError: the decoder would be trained on its own labels.
    """

    acting = ("normaliser", "encoder", "actor")

    def __init__(self, config: Config, family: TaskFamily, generator: torch.Generator) -> None:
        if config.online_nets == "all" and config.online_rewards == "decoder":
            raise ArgumentError("A decoder cannot be trained on its own labels: online_nets=all needs true rewards.")
        self.config, self.family, self.generator = config, family, generator
        (o, a), z = widths(family), config.latent
        self.normaliser = Normaliser(family, generator.device)
        self.encoder = Encoder(family, z, config.encoder_hidden, config.next_observations, generator)
        self.labeller = target_of(self.encoder)  # the encoder at the end of the offline phase, which labels
        self.decoder = Dense((o + a + z, *config.decoder_hidden, 1), generator)
        self.actor = Actor(o + z, a, config.hidden, generator)
        self.critics = Dense((o + a + z, *config.hidden, 1), generator, n=2, layer_norm=config.layer_norm)
        self.targets = target_of(self.critics)
        self.nets = modules_of(self)
        self.optimisers = {"adam": adam(self.nets.values(), config.lr)}
        self.data: TaskBuffer | None = None  # D; grows in the self-supervised phase
        self.step = self.env_steps = 0
        self.seed(0)

    def load(self, dataset: Dataset) -> None:
        """Take in the logged data."""
        if self.config.normalise:
            self.normaliser.fit(dataset.observations)
        self.data = TaskBuffer.of(dataset.tasks, dataset, self.normaliser, dataset.aimless())

    @property
    def offline(self) -> bool:
        """Whether training is in its offline phase."""
        return self.step < self.config.offline_steps

    def update(self) -> dict[str, Tensor]:
        """Make one gradient step of Algorithm 1; return the losses. A self-supervised round collects first."""
        c, g, data = self.config, self.generator, self.data
        assert data is not None, "load(dataset) comes first"
        if not self.offline and (self.step - c.offline_steps) % c.round_steps == 0:
            self.collect(data)
        tasks = data.draw_tasks(c.meta_batch, g)
        batch = data.take(tasks, data.draw(tasks, c.batch if self.offline else c.online_batch, g))
        infers = self.offline or c.online_nets != "actor-critic"  # the encoder is trained
        with torch.set_grad_enabled(infers):
            posterior = self.encoder(self.context(data, tasks, c.context if self.offline else c.online_context))
        z, z_next = (sample(posterior, g) for _ in range(2))
        losses: dict[str, Tensor] = {}
        if infers:
            losses["kl"] = c.kl_weight * kl_to_prior(posterior).mean()
            losses["decoder"] = self.decoder_loss(batch, z)
        if c.encoder_loss == "reward":
            z = z.detach()
        q = self.q(self.critics, batch, z)  # [2, T, B]
        losses["critic"] = (q - self.target(batch, z.detach(), z_next.detach())).square().mean((1, 2)).sum()
        if self.step >= c.offline_steps + c.critic_steps or self.offline:
            losses["actor"] = self.actor_loss(batch, z.detach(), q.detach())
        self.optimisers["adam"].param_groups[0]["lr"] = c.lr if self.offline else c.online_lr
        descend(self.optimisers["adam"], losses)
        polyak(self.targets.parameters(), self.critics.parameters(), c.tau)
        self.step += 1
        return losses | {"q": q.detach().mean()}

    def context(self, data: TaskBuffer, tasks: Tensor, size: int, visited: int = 0) -> Batch:
        """Draw ``size`` transitions of each task for the encoder.

        Args:
            data: where they are drawn from.
            tasks: the tasks' places, ``[T]``.
            size: number of transitions of each task.
            visited: number of rollouts that a visit to these tasks, which goes on, has brought so far.
        """
        c, g = self.config, self.generator
        source = c.contexts if self.offline else c.online_contexts
        if source != "visit":
            return data.take(tasks, data.draw_context(tasks, size, g, source))
        among = data.last(tasks, visited) if visited else self.visit(data, tasks)
        return data.take(tasks, data.draw(tasks, size, g, among))

    def visit(self, data: TaskBuffer, tasks: Tensor) -> Span:
        """Draw the rows of one own visit to each task; of all that was logged where a task has not been visited."""
        c, g, logged = self.config, self.generator, data.logged[tasks]
        length = (c.round_prior + c.round_posterior) * data.horizon
        visits = (data.sizes[tasks] - logged) // max(length, 1)
        first = logged + (torch.rand(len(tasks), generator=g, device=g.device) * visits).long() * length
        return torch.where(visits > 0, first, 0), torch.where(visits > 0, first + length, logged)

    def decode(self, batch: Batch, z: Tensor) -> Tensor:
        """Return r(s, a, z): ``[T, B]``."""
        frozen = not self.offline and self.config.online_nets != "all"
        return self.decoder(join(batch.observations, batch.actions, z), frozen=frozen)[..., 0]

    def decoder_loss(self, batch: Batch, z: Tensor) -> Tensor:
        """Return L_reward without its KL (Eq. 3): mean (r - r(s, a, z))²."""
        z = z if self.config.encoder_loss == "reward" else z.detach()
        return (self.decode(batch, z) - batch.rewards).square().mean()

    def q(self, critics: Dense, batch: Batch, z: Tensor) -> Tensor:
        """Return both Q(s, a, z): ``[2, T, B]``."""
        return critics(join(batch.observations, batch.actions, z))[..., 0]

    def target(self, batch: Batch, z: Tensor, z_next: Tensor) -> Tensor:
        """Return y = scale · r + γ (1 - d) min Q'(s', a', z), a' ~ π(.|s', z'): ``[T, B]`` (Eq. 1)."""
        c = self.config
        z = z if c.target_draw == "policy" else z_next
        return bellman_target(self.actor, self.targets, batch, z, z_next, c.reward_scale, c.discount, self.generator)

    def actor_loss(self, batch: Batch, z: Tensor, q: Tensor) -> Tensor:
        """Return the AWAC loss (Eq. 2); in the self-supervised phase, add λ_pearl times PEARL's (Eq. 5)."""
        c = self.config
        u, q_own = own_values(self.actor, self.critics, batch, z, self.generator)
        if c.actor == "pearl":
            return -q_own.mean()
        advantages = q.amin(0) - q_own.detach()
        unit = spread(advantages) if c.relative_advantages else 1.0
        weights = awac_weights(advantages / unit, c.temperature if self.offline else c.online_temperature)
        loss = -(weights * u.log_prob(batch.actions)).mean()
        return loss if self.offline else loss - c.pearl_weight * (q_own / unit).mean()

    @torch.no_grad()
    def collect(self, data: TaskBuffer) -> None:
        """Act in training tasks without rewards; label rollouts by r(s, a, z) with a z ~ q(z | logged) each (Eq. 4)."""
        c, g = self.config, self.generator
        if self.step == c.offline_steps:
            self.labeller.load_state_dict(self.encoder.state_dict())
        places = torch.randperm(len(data.tasks), generator=g, device=g.device)[: c.round_tasks]
        tasks = [data.tasks[place] for place in places.tolist()]
        for k in range(c.round_prior + c.round_posterior):
            explores = k < c.round_prior
            q = prior(len(places), c.latent, g.device)
            if not explores:
                q = self.encoder(self.context(data, places, c.label_context, visited=k))
            seed = int(torch.randint(2**31, (), generator=g, device=g.device))
            rollouts = explore(self.family, tasks, self.actor, self.normaliser, q, c.z_period, seed)
            self.env_steps += len(tasks) * self.family.horizon
            if c.online_rewards == "decoder":
                logged = data.draw_context(places, c.label_context, g, c.contexts, logged=True)
                z = sample(self.labeller(data.take(places, logged)), g)  # [T, Z]
                rollouts = [
                    [replace(episode, rewards=self.label(episode, z[i : i + 1])) for episode in rollout]
                    for i, rollout in enumerate(rollouts)
                ]
            episodes = [episode for rollout in rollouts for episode in rollout]
            data.add(episodes, [explores] * len(episodes))

    def label(self, episode: Episode, z: Tensor) -> Array:
        """Return the rewards that the decoder gives an episode: ``[T]``."""
        batch = Batch(*(column[None] for column in transitions([episode], self.normaliser)))
        return self.decode(batch, z)[0].cpu().numpy()

    @torch.no_grad()
    def infer(self, contexts: Sequence[Context]) -> Gaussian:
        """Return q(z|c) of N tasks: mean and variance, ``[N, Z]`` each."""
        if self.config.test_context:
            contexts = [subset(context, self.config.test_context, self._rng) for context in contexts]
        return self.encoder(*pad(contexts, self.normaliser))

    def adapt(self, contexts: Sequence[Context]) -> LatentPolicy:
        """Act by the mean, with z ~ N(0, I) in the first episodes, then with z ~ q(z|c)."""
        c = self.config
        q, exploring = explore_then_infer(contexts, c.explore_rollouts * self.family.horizon, c.latent, self.infer)
        return LatentPolicy(self.actor, self.normaliser, q, c.z_period, exploring & (not c.explore_mean), self._rng)

    def seed(self, seed: int) -> None:
        """Seed the randomness of :meth:`adapt` and of its policies."""
        self._rng = np.random.default_rng(seed)
