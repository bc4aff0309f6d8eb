"""Meta-behaviour-cloning: SMAC's encoder and reward decoder, and a policy that imitates the logged actions.

The baseline of the SMAC study (Pong et al., ICML 2022): what is left of SMAC's offline phase without reinforcement
learning. Constants of the ``paper`` preset are those of SMAC's; the departures of the default preset are SMAC's too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from offlinemeta.baselines.parts.buffer import TaskBuffer
from offlinemeta.baselines.parts.encoder import Encoder, kl_to_prior, sample
from offlinemeta.baselines.parts.networks import Dense, Policy, join, squashed_log_prob
from offlinemeta.envs import TaskFamily


@dataclass(frozen=True)
class Config:
    """Of meta-behaviour-cloning; the fields are those of SMAC's offline phase."""

    steps: PositiveInt = 50_000
    meta_batch: PositiveInt = 4
    batch: PositiveInt = 128
    context: PositiveInt = 64
    latent: PositiveInt = 5
    hidden: tuple[PositiveInt, ...] = (300, 300, 300)
    encoder_hidden: tuple[PositiveInt, ...] = (200, 200, 200)
    decoder_hidden: tuple[PositiveInt, ...] = (64, 64)
    lr: PositiveFloat = 3e-4
    kl_weight: NonNegativeFloat = 0.1
    explore_episodes: NonNegativeInt = 2
    next_observations: bool = False
    normalise: bool = False
    episode_contexts: bool = False


PRESETS = {
    "paper": Config(),
    "default": Config(
        steps=10_000,
        meta_batch=16,
        batch=32,
        hidden=(128, 128, 128),
        encoder_hidden=(128, 128),
        lr=1e-3,
        kl_weight=0.02,
        normalise=True,
    ),
    "smoke": Config(steps=30, batch=16, context=16, hidden=(16, 16), encoder_hidden=(16,), decoder_hidden=(16,)),
}


class MetaBC:
    """The learner: :meth:`update` is one gradient step.

    Args:
        config: see :class:`Config`.
        family: for the sizes.
        logged: the dataset, by task.
        generator: of everything random, on the device of ``logged``.
    """

    def __init__(self, config: Config, family: TaskFamily, logged: TaskBuffer, generator: torch.Generator) -> None:
        self.config, self.logged, self.generator = config, logged, generator
        o, a, z = family.observation_space.shape[0], family.action_space.shape[0], config.latent
        self.encoder = Encoder(o + a + 1 + o * config.next_observations, z, config.encoder_hidden)
        self.decoder = Dense((o + a + z, *config.decoder_hidden, 1))
        self.policy = Policy(o + z, a, config.hidden)
        self.nets: dict[str, nn.Module] = {"encoder": self.encoder, "decoder": self.decoder, "policy": self.policy}
        trained = [p for net in self.nets.values() for p in net.to(logged.device).parameters()]
        self.optimiser = torch.optim.Adam(trained, lr=config.lr, fused=True)
        self.step = self.env_steps = 0

    def update(self) -> dict[str, Tensor]:
        """Make one gradient step; the policy's loss does not reach the encoder."""
        c, g = self.config, self.generator
        tasks = self.logged.sample_tasks(c.meta_batch, g)
        batch = self.logged.sample(tasks, c.batch, g)
        among = self.logged.rollouts(tasks, g) if c.episode_contexts else None
        context = self.logged.sample(tasks, c.context, g, among)
        posterior = self.encoder(context.context(c.next_observations))
        z = sample(posterior, g)
        decoded = self.decoder(join(batch.observations, batch.actions, z))[..., 0]
        acted = self.policy(join(batch.observations, z.detach()))
        losses = {
            "kl": c.kl_weight * kl_to_prior(posterior).mean(),
            "decoder": (decoded - batch.rewards).square().mean(),
            "actor": -squashed_log_prob(acted, batch.actions).mean(),
        }
        self.optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        self.optimiser.step()
        self.step += 1
        return losses
