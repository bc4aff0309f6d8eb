"""Offline PEARL: the losses of PEARL (Rakelly et al., ICML 2019, arXiv 1903.08254) on logged data.

SAC with a value network, conditioned on z ~ q(z|h); the encoder is trained by the critics' loss and a KL to the prior,
nothing else. No correction for being offline: this is the baseline that the offline methods are measured against.

Constants of the ``paper`` preset are those of the authors' public code. Departures, in all presets: z is drawn once a
step (the code draws it twice and drops the first); hidden biases start at 0, not 0.1; families whose dynamics vary need
``next_observations=true``, which no preset sets; one optimiser steps all losses of an update at once, so that actor
and value see the critics of before the step. In the default preset: sizes and schedule as in ``PRESETS``, and
observations are normalised by the moments of the logged ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from offlinemeta.baselines.parts.buffer import Batch, TaskBuffer
from offlinemeta.baselines.parts.encoder import Encoder, kl_to_prior, sample
from offlinemeta.baselines.parts.networks import Dense, Policy, join, polyak, squashed_sample
from offlinemeta.envs import TaskFamily


@dataclass(frozen=True)
class Config:
    """Of offline PEARL.

    Attributes:
        steps: gradient steps.
        meta_batch: tasks of a gradient step.
        batch: transitions of each for actor, value and critics.
        context: transitions of each for the encoder.
        latent: size of z.
        hidden, encoder_hidden: widths of the layers.
        lr, discount, tau: Adam, γ, Polyak of the value network.
        reward_scale: sets the weight of the entropy.
        kl_weight: of KL(q(z|h) || N(0, I)), summed over the tasks of a batch.
        regularisation: of the policy's means and log standard deviations.
        explore_episodes: episodes of a new task that are explored with z from the prior.
        next_observations: whether the encoder reads s', for families whose dynamics vary.
        normalise: observations by the moments of the logged ones.
        episode_contexts: contexts are of one rollout each, as self-collected ones are, and not of all the task's.
        bfloat16: matrix products in bfloat16.
    """

    steps: PositiveInt = 1_000_000
    meta_batch: PositiveInt = 16
    batch: PositiveInt = 256
    context: PositiveInt = 100
    latent: PositiveInt = 5
    hidden: tuple[PositiveInt, ...] = (300, 300, 300)
    encoder_hidden: tuple[PositiveInt, ...] = (200, 200, 200)
    lr: PositiveFloat = 3e-4
    discount: Annotated[float, Field(ge=0, le=1)] = 0.99
    tau: Annotated[float, Field(ge=0, le=1)] = 0.005
    reward_scale: PositiveFloat = 5.0
    kl_weight: NonNegativeFloat = 0.1
    regularisation: NonNegativeFloat = 1e-3
    explore_episodes: NonNegativeInt = 2
    next_observations: bool = False
    normalise: bool = False
    episode_contexts: bool = False
    bfloat16: bool = False


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
PRESETS["demo"] = replace(PRESETS["default"], steps=10_000)


class PEARL:
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
        self.policy = Policy(o + z, a, config.hidden)
        self.critics = Dense((o + a + z, *config.hidden, 1), n=2)
        self.value = Dense((o + z, *config.hidden, 1))
        self.value_target = Dense((o + z, *config.hidden, 1))
        self.value_target.load_state_dict(self.value.state_dict())
        self.step = self.env_steps = 0
        self.nets: dict[str, nn.Module] = {
            "encoder": self.encoder,
            "policy": self.policy,
            "critics": self.critics,
            "value": self.value,
            "value_target": self.value_target,
        }
        trained = [
            p for name, net in self.nets.items() if name != "value_target" for p in net.to(logged.device).parameters()
        ]
        self.value_target.to(logged.device)
        self.optimiser = torch.optim.Adam(trained, lr=config.lr, fused=True)

    def update(self) -> dict[str, Tensor]:
        """Make one gradient step of Algorithm 1, without its data collection."""
        c, g = self.config, self.generator
        tasks = self.logged.sample_tasks(c.meta_batch, g)
        batch = self.logged.sample(tasks, c.batch, g)
        among = self.logged.rollouts(tasks, g) if c.episode_contexts else None
        context = self.logged.sample(tasks, c.context, g, among)
        with torch.autocast(self.logged.device.type, torch.bfloat16, enabled=c.bfloat16):
            posterior = self.encoder(context.context(c.next_observations))
            z = sample(posterior, g)
            losses = {
                "kl": c.kl_weight * kl_to_prior(posterior).sum(),
                "critic": self.critic_loss(batch, z),
                **self.actor_and_value_loss(batch, z.detach()),
            }
        self.optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        self.optimiser.step()
        polyak(self.value_target.parameters(), self.value.parameters(), c.tau)
        self.step += 1
        return losses

    def critic_loss(self, batch: Batch, z: Tensor) -> Tensor:
        """L_Q = Σ_j mean (Q_j(s, a, z) - y)², y = scale · r + γ (1 - d) V'(s', z); reaches the encoder through z."""
        c = self.config
        with torch.no_grad():
            following = self.value_target(join(batch.next_observations, z))[..., 0].float()
            y = c.reward_scale * batch.rewards + c.discount * (1 - batch.terminations) * following
        q = self.critics(join(batch.observations, batch.actions, z))[..., 0].float()  # [2, T, B]
        return (q - y).square().mean((1, 2)).sum()

    def actor_and_value_loss(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """L_π = mean (log π(a|s, z) - min Q(s, a, z)), L_V = mean (V(s, z) - (min Q - log π))², with a ~ π."""
        acted = self.policy(join(batch.observations, z))
        actions, log_prob = squashed_sample(acted, self.generator)
        q = self.critics(join(batch.observations, actions, z), frozen=True)[..., 0].float().amin(0)
        value = self.value(join(batch.observations, z))[..., 0].float()
        small = self.config.regularisation * (acted.mean.square().mean() + acted.log_std.square().mean())
        return {
            "actor": (log_prob - q).mean() + small,
            "value": (value - (q - log_prob).detach()).square().mean(),
        }
