"""PEARL (Rakelly et al., ICML 2019, arXiv 1903.08254): its losses on logged data, or with its own data collection.

The method is SAC with a value network, conditioned on z ~ q(z|c). The encoder is trained by the critics' loss and by a
KL to the prior, and by nothing else. Nothing corrects for being offline: this is the baseline that the offline methods
are measured against. The method ``pearl-online`` (``online=true``) has what they lack: it collects experience in
the training tasks, with rewards. It takes no more of the dataset than the first rollouts of each task, which stand for
the random exploration that PEARL begins with: give it a ``random`` dataset, and it learns from scratch.

Constants of the ``paper`` preset are those of the authors' public code. All presets depart from it as follows: z is
drawn once a step (the code draws it twice and drops the first); hidden biases start at 0, not 0.1; where dynamics
vary, the encoder reads s' too (the code: where its config says so); one optimiser steps all losses of an update at
once, so that the actor and the value network see the critics as they were before the step. The default preset also has
the sizes and the schedule in ``PRESETS``, normalises observations by the moments of the logged ones and the layers of
the critics and of the value network, weighs rewards five times as much against the entropy, and lets the value target
move four times as fast; the preset ``online`` does not have the last three. The preset ``scenes``, for
SawyerSceneDense, has a smaller encoder, longer contexts and less weight of the KL. Online, all presets visit all
training tasks in a round (published: five of them), and draw a context from all rollouts of the last visit to a task
(published: a buffer of the rollouts with z from the prior).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from offlinemeta.baselines.parts.buffer import Batch, Source, TaskBuffer, first_steps, pad
from offlinemeta.baselines.parts.config import Phase, option
from offlinemeta.baselines.parts.encoder import Encoder
from offlinemeta.baselines.parts.exploration import LatentPolicy, explore, explore_then_infer
from offlinemeta.baselines.parts.networks import Actor, Dense, Normaliser, join, widths
from offlinemeta.baselines.parts.optimiser import adam, decay, descend, modules_of, polyak, target_of
from offlinemeta.baselines.parts.posterior import Gaussian, kl_to_prior, prior, sample
from offlinemeta.benchmark.context import Context, subset
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs import TaskFamily


@dataclass(frozen=True)
class Config:
    """The configuration of PEARL."""

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
    late_factor: PositiveFloat = option(1.0, "Factor on all step sizes in the second half of the training.")
    discount: Annotated[float, Field(ge=0, le=1)] = option(0.99, "Discount factor γ.")
    tau: Annotated[float, Field(ge=0, le=1)] = option(0.005, "Polyak step τ of the value network's target.")
    reward_scale: PositiveFloat = option(5.0, "Factor on the rewards, which sets the weight of the entropy.")
    kl_weight: NonNegativeFloat = option(0.1, "Weight of KL(q(z|c) || N(0, I)), summed over the tasks of a batch.")
    regularisation: NonNegativeFloat = option(1e-3, "Weight of the actor's squared means and log standard deviations.")
    explore_rollouts: Annotated[int, Field(ge=0, le=OFFLINE_ROLLOUTS)] = option(
        2, "Number of first rollouts in a new task, which explore with z ~ N(0, I)."
    )
    test_context: NonNegativeInt = option(0, "Number of transitions sampled from a longer context at test; 0 for all.")
    next_observations: bool = option(False, "Whether the encoder reads s' too; where dynamics vary, it does anyway.")
    normalise: bool = option(False, "Whether observations are normalised by the moments of the logged observations.")
    layer_norm: bool = option(False, "Whether the hidden layers of value and critics are normalised (Ba et al., 2016).")
    contexts: Source = option(
        "all", "Source of a training context: all of a task's data, its exploring rollouts, or one rollout."
    )
    z_period: NonNegativeInt = option(
        0, "Steps after which z is drawn again; 0 to hold it for an episode, or for a rollout during collection."
    )
    explore_mean: bool = option(False, "Whether exploring episodes also use mean actions, not sampled ones.")
    bfloat16: bool = option(False, "Whether matrix products are computed in bfloat16.")
    online: bool = option(False, "Whether experience is collected; then only the first logged rollouts are used.")
    start_rollouts: PositiveInt = option(2, "Number of logged rollouts per task with which an online training starts.")
    round_steps: PositiveInt = option(2_000, "Gradient steps between two visits to the training tasks.")
    round_prior: PositiveInt = option(1, "Rollouts with z from the prior in each visit to a task.")
    round_posterior: NonNegativeInt = option(1, "Rollouts with z ~ q(z|c) of this visit, in each visit to a task.")
    stages: PositiveInt = option(10, "Number of agents that an online training keeps, evenly spaced.")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Offline, there is one phase; online, one for each stage whose agent is kept."""
        if not self.online:
            return (Phase("offline", self.steps),)
        stages = range(1, self.stages + 1)
        return tuple(Phase(f"stage{i}", self.steps * i // self.stages, evaluated=False) for i in stages)


PRESETS = {
    "paper": Config(),
    "default": Config(
        steps=20_000,
        batch=32,
        context=64,
        hidden=(128, 128, 128),
        encoder_hidden=(128, 128),
        lr=1e-3,
        tau=0.02,
        reward_scale=25.0,
        normalise=True,
        layer_norm=True,
    ),
    "smoke": Config(
        steps=30,
        meta_batch=4,
        batch=16,
        context=16,
        hidden=(16, 16),
        encoder_hidden=(16,),
        round_steps=10,
        stages=2,
    ),
}
PRESETS["demo"] = replace(PRESETS["default"], steps=10_500)
PRESETS["scenes"] = replace(PRESETS["default"], kl_weight=0.01, encoder_hidden=(32, 32), context=256)
PRESETS["online"] = replace(
    PRESETS["default"], steps=40_000, online=True, tau=0.005, reward_scale=5.0, layer_norm=False
)


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
        self.critics = Dense((o + a + z, *config.hidden, 1), generator, n=2, layer_norm=config.layer_norm)
        self.value = Dense((o + z, *config.hidden, 1), generator, layer_norm=config.layer_norm)
        self.value_target = target_of(self.value)
        self.nets = modules_of(self)
        self.optimisers = {"adam": adam(self.nets.values(), config.lr)}
        self.data: TaskBuffer | None = None
        self.step = self.env_steps = 0
        self.seed(0)

    def load(self, dataset: Dataset) -> None:
        """Take in the logged data; online, no more than the first rollouts of each task."""
        episodes, explored, observations = list(dataset), dataset.aimless(), dataset.observations
        if self.config.online:
            steps = self.config.start_rollouts * self.family.horizon
            episodes = [episode for own in dataset.by_task().values() for episode in first_steps(own, steps)]
            explored = np.ones(len(episodes), dtype=bool)
            observations = np.concatenate([episode.observations for episode in episodes])
        if self.config.normalise:
            self.normaliser.fit(observations)
        self.data = TaskBuffer.of(dataset.tasks, episodes, self.normaliser, explored)

    def update(self) -> dict[str, Tensor]:
        """Make one gradient step of Algorithm 1, online with its data collection; return the losses."""
        c, g, data = self.config, self.generator, self.data
        assert data is not None, "load(dataset) comes first"
        if c.online and self.step and self.step % c.round_steps == 0:
            self.collect(data)
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
        decay(self.optimisers["adam"], [c.lr], c.late_factor, self.step / c.steps)
        descend(self.optimisers["adam"], losses)
        polyak(self.value_target.parameters(), self.value.parameters(), c.tau)
        self.step += 1
        return losses

    def context(self, data: TaskBuffer, tasks: Tensor) -> Batch:
        """Draw a context of each task: online from the last visit, else as the config says."""
        c, g = self.config, self.generator
        if c.online:
            rows = data.draw(tasks, c.context, g, data.last(tasks, c.round_prior + c.round_posterior))
        else:
            rows = data.draw_context(tasks, c.context, g, c.contexts)
        return data.take(tasks, rows)

    @torch.no_grad()
    def collect(self, data: TaskBuffer) -> None:
        """Visit all training tasks: rollouts with z ~ N(0, I), then with z ~ q(z|c), c drawn from this visit so far."""
        c, g, places = self.config, self.generator, torch.arange(len(data.tasks), device=data.device)
        for k in range(c.round_prior + c.round_posterior):
            q = prior(len(places), c.latent, g.device)
            if k >= c.round_prior:
                rows = data.draw(places, k * data.horizon, g, data.last(places, k))
                q = self.encoder(data.take(places, rows))
            seed = int(torch.randint(2**31, (), generator=g, device=g.device))
            rollouts = explore(self.family, data.tasks, self.actor, self.normaliser, q, c.z_period, seed)
            data.add([episode for rollout in rollouts for episode in rollout])
            self.env_steps += len(places) * data.horizon

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
        if self.config.test_context:
            contexts = [subset(context, self.config.test_context, self._rng) for context in contexts]
        return self.encoder(*pad(contexts, self.normaliser))

    def adapt(self, contexts: Sequence[Context]) -> LatentPolicy:
        """Act with z ~ N(0, I) in the first episodes, then with z ~ q(z|c) (Algorithm 2)."""
        c = self.config
        q, exploring = explore_then_infer(contexts, c.explore_rollouts * self.family.horizon, c.latent, self.infer)
        return LatentPolicy(self.actor, self.normaliser, q, c.z_period, exploring & (not c.explore_mean), self._rng)

    def seed(self, seed: int) -> None:
        """Seed the randomness of :meth:`adapt` and of its policies."""
        self._rng = np.random.default_rng(seed)
