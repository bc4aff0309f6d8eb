"""Offline PEARL: the losses of PEARL (Rakelly et al., ICML 2019, arXiv 1903.08254) on logged data.

The method is SAC with a value network, conditioned on z ~ q(z|c). The encoder is trained by the critics' loss and by a
KL to the prior, and by nothing else. Nothing corrects for being offline: this is the baseline that the offline methods
are measured against.

Constants of the ``paper`` preset are those of the authors' public code. All presets depart from it as follows: z is
drawn once a step (the code draws it twice and drops the first); hidden biases start at 0, not 0.1; families whose
dynamics vary need ``next_observations=true``, which no preset sets; one optimiser steps all losses of an update at
once, so that the actor and the value network see the critics as they were before the step. The default preset also has
the sizes and the schedule in ``PRESETS``, and normalises observations by the moments of the logged ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from offlinemeta.baselines.parts.buffer import Batch, TaskBuffer, pad
from offlinemeta.baselines.parts.config import Phase, option
from offlinemeta.baselines.parts.encoder import Encoder
from offlinemeta.baselines.parts.exploration import LatentPolicy, explore_then_infer
from offlinemeta.baselines.parts.networks import Actor, Dense, Normaliser, join, widths
from offlinemeta.baselines.parts.optimiser import adam, descend, modules_of, polyak, target_of
from offlinemeta.baselines.parts.posterior import Gaussian, kl_to_prior, sample
from offlinemeta.benchmark.context import Context
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs import TaskFamily


@dataclass(frozen=True)
class Config:
    """The configuration of offline PEARL."""

    steps: PositiveInt = option(1_000_000, "Gradient steps of the training.")
    meta_batch: PositiveInt = option(16, "Tasks in a gradient step.")
    batch: PositiveInt = option(256, "Transitions of a task in a batch, for actor, value and critics.")
    context: PositiveInt = option(100, "Transitions of a task in a context, which the encoder reads.")
    latent: PositiveInt = option(5, "Size of the latent variable z.")
    hidden: tuple[PositiveInt, ...] = option(
        (300, 300, 300), "Widths of the hidden layers of actor, value and critics."
    )
    encoder_hidden: tuple[PositiveInt, ...] = option((200, 200, 200), "Widths of the encoder's hidden layers.")
    lr: PositiveFloat = option(3e-4, "Step size of Adam.")
    discount: Annotated[float, Field(ge=0, le=1)] = option(0.99, "Discount factor γ.")
    tau: Annotated[float, Field(ge=0, le=1)] = option(0.005, "Polyak step τ of the value network's target.")
    reward_scale: PositiveFloat = option(5.0, "Factor of the rewards, which sets the weight of the entropy.")
    kl_weight: NonNegativeFloat = option(0.1, "Weight of KL(q(z|c) || N(0, I)), summed over the tasks of a batch.")
    regularisation: NonNegativeFloat = option(1e-3, "Weight of the actor's squared means and log standard deviations.")
    explore_episodes: NonNegativeInt = option(2, "First episodes in a new task, explored with z ~ N(0, I).")
    next_observations: bool = option(False, "Whether the encoder also reads s', as varying dynamics need.")
    normalise: bool = option(False, "Whether observations are normalised by the moments of the logged ones.")
    episode_contexts: bool = option(False, "Whether a training context is drawn from one logged rollout, not all data.")
    bfloat16: bool = option(False, "Whether matrix products are made in bfloat16.")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The only phase is the offline one."""
        return (Phase("offline", self.steps),)


PRESETS = {
    "paper": Config(),
    "default": Config(
        steps=10_000,
        batch=32,
        context=64,
        hidden=(128, 128, 128),
        encoder_hidden=(128, 128),
        lr=1e-3,
        normalise=True,
    ),
    "smoke": Config(steps=30, meta_batch=4, batch=16, context=16, hidden=(16, 16), encoder_hidden=(16,)),
}
PRESETS["demo"] = PRESETS["default"]


class PEARL:
    """The learner: :meth:`update` makes one gradient step, :meth:`adapt` is the meta-test.

    Args:
        config: the configuration; :class:`Config` explains its fields.
        family: the task family.
        generator: draws all random numbers of training; the networks live on its device.
    """

    acting = ("normaliser", "encoder", "actor")

    def __init__(self, config: Config, family: TaskFamily, generator: torch.Generator) -> None:
        self.config, self.family, self.generator = config, family, generator
        (o, a), z = widths(family), config.latent
        self.normaliser = Normaliser(family, generator.device)
        self.encoder = Encoder(family, z, config.encoder_hidden, config.next_observations, generator)
        self.actor = Actor(o + z, a, config.hidden, generator)
        self.critics = Dense((o + a + z, *config.hidden, 1), generator, n=2)
        self.value = Dense((o + z, *config.hidden, 1), generator)
        self.value_target = target_of(self.value)
        self.nets = modules_of(self)
        self.optimisers = {"adam": adam(self.nets.values(), config.lr)}
        self.data: TaskBuffer | None = None
        self.step = self.env_steps = 0
        self.seed(0)

    def load(self, dataset: Dataset) -> None:
        """Take in the logged data."""
        if self.config.normalise:
            self.normaliser.fit(dataset.observations)
        self.data = TaskBuffer.of(dataset.tasks, dataset, self.normaliser)

    def update(self) -> dict[str, Tensor]:
        """Make one gradient step of Algorithm 1, without its data collection; return the losses."""
        c, g, data = self.config, self.generator, self.data
        assert data is not None, "load(dataset) comes first"
        tasks = data.draw_tasks(c.meta_batch, g)
        batch = data.take(tasks, data.draw(tasks, c.batch, g))
        context = self.context(data, tasks)
        with torch.autocast(data.device.type, torch.bfloat16, enabled=c.bfloat16):
            posterior = self.encoder(context)
            z = sample(posterior, g)
            losses = {
                "kl": c.kl_weight * kl_to_prior(posterior).sum(),
                "critic": self.critic_loss(batch, z),
                **self.actor_and_value_loss(batch, z.detach()),
            }
        descend(self.optimisers["adam"], losses)
        polyak(self.value_target.parameters(), self.value.parameters(), c.tau)
        self.step += 1
        return losses

    def context(self, data: TaskBuffer, tasks: Tensor) -> Batch:
        """Draw transitions of each task for the encoder: from all of its data or one logged rollout."""
        among = data.logged_rollout(tasks, self.generator) if self.config.episode_contexts else None
        return data.take(tasks, data.draw(tasks, self.config.context, self.generator, among))

    def critic_loss(self, batch: Batch, z: Tensor) -> Tensor:
        """Return L_Q = Σ_j mean (Q_j(s, a, z) - y)², y = scale · r + γ (1 - d) V'(s', z).

        Its gradient reaches the encoder through z.
        """
        c = self.config
        with torch.no_grad():
            following = self.value_target(join(batch.next_observations, z))[..., 0].float()
            y = c.reward_scale * batch.rewards + c.discount * (1 - batch.terminations) * following
        q = self.critics(join(batch.observations, batch.actions, z))[..., 0].float()  # [2, T, B]
        return (q - y).square().mean((1, 2)).sum()

    def actor_and_value_loss(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """Return L_π = mean (log π(a|s, z) - min Q(s, a, z)), L_V = mean (V(s, z) - (min Q - log π))², with a ~ π."""
        u = self.actor(join(batch.observations, z))
        actions, log_prob = u.sample(self.generator)
        q = self.critics(join(batch.observations, actions, z), frozen=True)[..., 0].float().amin(0)
        value = self.value(join(batch.observations, z))[..., 0].float()
        small = self.config.regularisation * (u.mean.square().mean() + u.log_std.square().mean())
        return {
            "actor": (log_prob - q).mean() + small,
            "value": (value - (q - log_prob).detach()).square().mean(),
        }

    @torch.no_grad()
    def infer(self, contexts: Sequence[Context]) -> Gaussian:
        """Return q(z|c) of N tasks: mean and variance, ``[N, Z]`` each."""
        return self.encoder(*pad(contexts, self.normaliser))

    def adapt(self, contexts: Sequence[Context]) -> LatentPolicy:
        """Explore with z ~ N(0, I) and sampled actions, then act by the mean with z ~ q(z|c) (Algorithm 2)."""
        c = self.config
        z, exploring = explore_then_infer(contexts, c.explore_episodes, c.latent, self.infer, self._rng)
        return LatentPolicy(self.actor, self.normaliser, z, exploring, self._rng)

    def seed(self, seed: int) -> None:
        """Seed the randomness of :meth:`adapt` and of its policies."""
        self._rng = np.random.default_rng(seed)
