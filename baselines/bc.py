"""Meta-behaviour-cloning: SMAC's encoder and reward decoder, and an actor that imitates the logged actions.

The method is the baseline of the SMAC study (Pong et al., ICML 2022): SMAC's offline phase without its reinforcement
learning. The constants of the ``paper`` preset and the departures of the default preset are SMAC's; besides, the
default preset draws each context from one rollout, and lowers the step size in the second half of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from offlinemeta.baselines.parts.buffer import Batch, Source, TaskBuffer, pad
from offlinemeta.baselines.parts.config import Phase, option
from offlinemeta.baselines.parts.encoder import Encoder
from offlinemeta.baselines.parts.exploration import LatentPolicy, explore_then_infer
from offlinemeta.baselines.parts.networks import Actor, Dense, Normaliser, join, widths
from offlinemeta.baselines.parts.optimiser import adam, decay, descend, modules_of
from offlinemeta.baselines.parts.posterior import Gaussian, kl_to_prior, sample
from offlinemeta.benchmark.context import Context, subset
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs import TaskFamily


@dataclass(frozen=True)
class Config:
    """The configuration of meta-behaviour-cloning; its fields are those of SMAC's offline phase."""

    steps: PositiveInt = option(50_000, "Gradient steps of the training.")
    meta_batch: PositiveInt = option(4, "Tasks in a gradient step.")
    batch: PositiveInt = option(128, "Transitions of a task in a batch, for actor and decoder.")
    context: PositiveInt = option(64, "Transitions of a task in a context, which the encoder reads.")
    latent: PositiveInt = option(5, "Size of the latent variable z.")
    hidden: tuple[PositiveInt, ...] = option((300, 300, 300), "Widths of the actor's hidden layers.")
    encoder_hidden: tuple[PositiveInt, ...] = option((200, 200, 200), "Widths of the encoder's hidden layers.")
    decoder_hidden: tuple[PositiveInt, ...] = option((64, 64), "Widths of the reward decoder's hidden layers.")
    lr: PositiveFloat = option(3e-4, "Step size of Adam.")
    late_factor: PositiveFloat = option(1.0, "Factor on all step sizes in the second half of the training.")
    kl_weight: NonNegativeFloat = option(0.1, "Weight of KL(q(z|c) || N(0, I)), averaged over the tasks of a batch.")
    explore_rollouts: Annotated[int, Field(ge=0, le=OFFLINE_ROLLOUTS)] = option(
        2, "Number of first rollouts in a new task, which explore with z ~ N(0, I)."
    )
    test_context: NonNegativeInt = option(0, "Number of transitions sampled from a longer context at test; 0 for all.")
    next_observations: bool = option(False, "Whether the encoder reads s' too; where dynamics vary, it does anyway.")
    normalise: bool = option(False, "Whether observations are normalised by the moments of the logged observations.")
    contexts: Source = option(
        "all", "Source of a training context: all of a task's data, its exploring rollouts, or one rollout."
    )
    z_period: NonNegativeInt = option(1, "Steps after which z is drawn again; 0 to hold it for an episode.")
    explore_mean: bool = option(True, "Whether exploring episodes also use mean actions, not sampled ones.")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The only phase is the offline one."""
        return (Phase("offline", self.steps),)


PRESETS = {
    "paper": Config(),
    "default": Config(
        steps=20_000,
        meta_batch=16,
        batch=32,
        hidden=(128, 128, 128),
        encoder_hidden=(128, 128),
        lr=1e-3,
        late_factor=0.1,
        kl_weight=0.02,
        normalise=True,
        contexts="rollout",
    ),
    "smoke": Config(steps=30, batch=16, context=16, hidden=(16, 16), encoder_hidden=(16,), decoder_hidden=(16,)),
}


class MetaBC:
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
        self.decoder = Dense((o + a + z, *config.decoder_hidden, 1), generator)
        self.actor = Actor(o + z, a, config.hidden, generator)
        self.nets = modules_of(self)
        self.optimisers = {"adam": adam(self.nets.values(), config.lr)}
        self.data: TaskBuffer | None = None
        self.step = self.env_steps = 0
        self.seed(0)

    def load(self, dataset: Dataset) -> None:
        """Take in the logged data."""
        if self.config.normalise:
            self.normaliser.fit(dataset.observations)
        self.data = TaskBuffer.of(dataset.tasks, dataset, self.normaliser, dataset.aimless())

    def update(self) -> dict[str, Tensor]:
        """Make one gradient step; return the losses. The gradient of the actor's loss does not reach the encoder."""
        c, g, data = self.config, self.generator, self.data
        assert data is not None, "load(dataset) comes first"
        tasks = data.draw_tasks(c.meta_batch, g)
        batch = data.take(tasks, data.draw(tasks, c.batch, g))
        posterior = self.encoder(self.context(data, tasks))
        z = sample(posterior, g)
        losses = {
            "kl": c.kl_weight * kl_to_prior(posterior).mean(),
            "decoder": self.decoder_loss(batch, z),
            "actor": self.actor_loss(batch, z.detach()),
        }
        decay(self.optimisers["adam"], [c.lr], c.late_factor, self.step / c.steps)
        descend(self.optimisers["adam"], losses)
        self.step += 1
        return losses

    def context(self, data: TaskBuffer, tasks: Tensor) -> Batch:
        """Draw transitions of each task for the encoder."""
        c = self.config
        return data.take(tasks, data.draw_context(tasks, c.context, self.generator, c.contexts))

    def decode(self, batch: Batch, z: Tensor) -> Tensor:
        """Return r(s, a, z): ``[T, B]``."""
        return self.decoder(join(batch.observations, batch.actions, z))[..., 0]

    def decoder_loss(self, batch: Batch, z: Tensor) -> Tensor:
        """Return L_reward without its KL (SMAC, Eq. 3): mean (r - r(s, a, z))²."""
        return (self.decode(batch, z) - batch.rewards).square().mean()

    def actor_loss(self, batch: Batch, z: Tensor) -> Tensor:
        """Return L_π = -mean log π(a | s, z) of the logged actions."""
        return -self.actor(join(batch.observations, z)).log_prob(batch.actions).mean()

    @torch.no_grad()
    def infer(self, contexts: Sequence[Context]) -> Gaussian:
        """Return q(z|c) of N tasks: mean and variance, ``[N, Z]`` each."""
        if self.config.test_context:
            contexts = [subset(context, self.config.test_context, self._rng) for context in contexts]
        return self.encoder(*pad(contexts, self.normaliser))

    def adapt(self, contexts: Sequence[Context]) -> LatentPolicy:
        """Act with z ~ N(0, I) in the first episodes, then with z ~ q(z|c)."""
        c = self.config
        q, exploring = explore_then_infer(contexts, c.explore_rollouts * self.family.horizon, c.latent, self.infer)
        return LatentPolicy(self.actor, self.normaliser, q, c.z_period, exploring & (not c.explore_mean), self._rng)

    def seed(self, seed: int) -> None:
        """Seed the randomness of :meth:`adapt` and of its policies."""
        self._rng = np.random.default_rng(seed)
