"""SMAC: offline meta-training, then self-supervised interaction (Pong et al., ICML 2022, arXiv 2107.03974).

Offline, an encoder q(z|h) and a reward decoder r(s, a, z) are trained to explain the logged rewards, and an AWAC
actor-critic conditioned on z is trained on the logged data. Then both encoder and decoder are frozen, and the agent
acts in the training tasks *without rewards*: it labels what it sees with the decoder, and goes on training the
actor-critic on all of it. Now it has met contexts that it collected itself, which closes the context shift.

Sections and equations are the paper's; constants of the ``paper`` preset are those of the authors' public code.
Departures, in all presets: one optimiser steps all losses of an update at once, so that the actor's advantages are
those of the critics before the step; z is held for a rollout, not drawn anew at each step; a round's tasks are drawn
without replacement and visited at once, so that its posterior rollouts see the visits before it and not its own prior
rollouts; an episode that terminates goes on with another one until its rollout has ``horizon`` steps; logged actions
are clipped to ±0.9999 for the inverse of tanh.

In the default preset: sizes and schedule as in ``PRESETS``, more tasks and fewer transitions of each in a batch;
observations are normalised by the moments of the logged ones; critics have layer normalisation; advantages are in units
of their spread; in the self-supervised phase, a context is of one own visit, as it is at test, and the encoder, not the
decoder, is trained on: frozen, as published, it does not learn to read such contexts (``online_encoder=false``). What
was tried and seen is in ``docs/training.md``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from offlinemeta.baselines.parts.buffer import Batch, TaskBuffer
from offlinemeta.baselines.parts.encoder import Encoder, Gaussian, kl_to_prior, sample
from offlinemeta.baselines.parts.exploration import explore
from offlinemeta.baselines.parts.networks import Dense, Policy, join, polyak, squashed_log_prob, squashed_sample
from offlinemeta.datasets.dataset import Episode
from offlinemeta.envs import TaskFamily
from offlinemeta.envs.shapes import Array


@dataclass(frozen=True)
class Config:
    """Of SMAC; what is not said is the authors' public configuration.

    Attributes:
        offline_steps: gradient steps before the self-supervised phase.
        rounds: of the self-supervised phase: collect, label, train.
        round_steps: gradient steps of a round.
        round_tasks: training tasks visited in a round.
        round_prior, round_posterior: rollouts of each, with z from the prior and from q(z | own context).
        meta_batch: tasks of a gradient step.
        batch: transitions of each for actor and critics.
        online_batch: the same in the self-supervised phase.
        context: transitions of each for the encoder; ``online_context`` in the self-supervised phase, and
            ``label_context`` for exploration and labelling.
        latent: size of z.
        hidden, encoder_hidden, decoder_hidden: widths of the layers.
        lr, online_lr: of Adam in the two phases.
        discount, tau: γ, Polyak.
        reward_scale: of the Bellman target alone; the decoder fits unscaled rewards.
        temperature, online_temperature: λ of AWAC in the two phases.
        relative_advantages: the actor's advantages and Q are in units of the advantages' standard deviation in the
            batch, so that λ and λ_pearl mean the same for all rewards.
        kl_weight: of KL(q(z|h) || N(0, I)).
        pearl_weight: λ_pearl, of the reparametrised actor loss in the self-supervised phase.
        actor: ``"awac"``, or ``"pearl"`` for the ablation without the behaviour's likelihood.
        encoder_loss: ``"reward"``, or ``"q"`` for the ablation that trains the encoder by the critics' loss.
        online_encoder: goes on training the encoder in the self-supervised phase, by the decoder's error at labels that
            the offline encoder gave; else it is frozen, as published.
        online_rewards: ``"decoder"``, or ``"true"`` for the oracle.
        z: ``"inferred"``, or ``"task"`` for the learner that is told the task.
        explore_episodes: episodes of a new task that are explored with z from the prior.
        next_observations: whether the encoder reads s', for families whose dynamics vary.
        normalise: observations by the moments of the logged ones.
        layer_norm: in the critics, against values that grow without bounds off the data (Ball et al., 2023).
        episode_contexts: a context is of one logged rollout in the offline phase; else of all D_i.
        online_visits: in the self-supervised phase, a context is of one own visit; else of all D_i.
    """

    offline_steps: NonNegativeInt = 50_000
    rounds: NonNegativeInt = 501
    round_steps: PositiveInt = 16_000
    round_tasks: PositiveInt = 5
    round_prior: NonNegativeInt = 3
    round_posterior: NonNegativeInt = 2
    meta_batch: PositiveInt = 4
    batch: PositiveInt = 128
    online_batch: PositiveInt = 256
    context: PositiveInt = 64
    online_context: PositiveInt = 64
    label_context: PositiveInt = 256
    latent: PositiveInt = 5
    hidden: tuple[PositiveInt, ...] = (300, 300, 300)
    encoder_hidden: tuple[PositiveInt, ...] = (200, 200, 200)
    decoder_hidden: tuple[PositiveInt, ...] = (64, 64)
    lr: PositiveFloat = 3e-4
    online_lr: PositiveFloat = 3e-4
    discount: Annotated[float, Field(ge=0, le=1)] = 0.99
    tau: Annotated[float, Field(ge=0, le=1)] = 0.005
    reward_scale: PositiveFloat = 5.0
    temperature: PositiveFloat = 100.0
    online_temperature: PositiveFloat = 100.0
    relative_advantages: bool = False
    kl_weight: NonNegativeFloat = 0.1
    pearl_weight: NonNegativeFloat = 1.0
    actor: Literal["awac", "pearl"] = "awac"
    encoder_loss: Literal["reward", "q"] = "reward"
    online_encoder: bool = False
    online_rewards: Literal["decoder", "true"] = "decoder"
    z: Literal["inferred", "task"] = "inferred"
    explore_episodes: NonNegativeInt = 2
    next_observations: bool = False
    normalise: bool = False
    layer_norm: bool = False
    episode_contexts: bool = False
    online_visits: bool = False

    @property
    def steps(self) -> int:
        """Gradient steps in all."""
        return self.offline_steps + self.rounds * self.round_steps


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
        online_encoder=True,
        online_visits=True,
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


class SMAC:
    """The learner: :meth:`update` is one gradient step; the self-supervised rounds begin by themselves.

    Args:
        config: see :class:`Config`.
        family: whose training tasks are acted in.
        logged: the dataset, by task.
        generator: of everything random, on the device of ``logged``.
    """

    def __init__(self, config: Config, family: TaskFamily, logged: TaskBuffer, generator: torch.Generator) -> None:
        self.config, self.family, self.logged, self.generator = config, family, logged, generator
        o, a = family.observation_space.shape[0], family.action_space.shape[0]
        self.params = torch.as_tensor(family.encode(family.params(logged.tasks)), device=logged.device)  # [tasks, E]
        z = self.params.shape[1] if config.z == "task" else config.latent
        self.encoder = Encoder(o + a + 1 + o * config.next_observations, config.latent, config.encoder_hidden)
        self.decoder = Dense((o + a + z, *config.decoder_hidden, 1))
        self.policy = Policy(o + z, a, config.hidden)
        self.critics = Dense((o + a + z, *config.hidden, 1), n=2, layer_norm=config.layer_norm)
        self.targets = Dense((o + a + z, *config.hidden, 1), n=2, layer_norm=config.layer_norm)
        self.targets.load_state_dict(self.critics.state_dict())
        self.labeller = copy.deepcopy(self.encoder)  # the encoder as it was at the end of the offline phase
        self.nets: dict[str, nn.Module] = {
            "encoder": self.encoder,
            "labeller": self.labeller,
            "decoder": self.decoder,
            "policy": self.policy,
            "critics": self.critics,
            "targets": self.targets,
        }
        self.data = logged.copy()  # D; grows in the self-supervised phase
        self.step = self.env_steps = 0
        copies, trained = ("targets", "labeller"), []
        for name, net in self.nets.items():
            trained += [] if name in copies else list(net.to(logged.device).parameters())
            net.to(logged.device)
        self.optimiser = torch.optim.Adam(trained, lr=config.lr, fused=True)

    @property
    def offline(self) -> bool:
        """Whether this is the offline phase."""
        return self.step < self.config.offline_steps

    def update(self) -> dict[str, Tensor]:
        """Make one gradient step of Algorithm 1; collect first where a round of the self-supervised phase begins."""
        c, g = self.config, self.generator
        if not self.offline and (self.step - c.offline_steps) % c.round_steps == 0:
            self.collect()
        tasks = self.data.sample_tasks(c.meta_batch, g)
        batch = self.data.sample(tasks, c.batch if self.offline else c.online_batch, g)
        infers = (self.offline or c.online_encoder) and c.z == "inferred"  # the encoder is trained
        with torch.set_grad_enabled(infers):
            posterior = self.infer(tasks)
        z, z_next = (sample(posterior, g) for _ in range(2))
        losses: dict[str, Tensor] = {}
        if infers:
            losses["kl"] = c.kl_weight * kl_to_prior(posterior).mean()
        if self.offline or infers:
            losses["decoder"] = self.decoder_loss(batch, z)
        if c.encoder_loss == "reward":
            z = z.detach()
        q = self.q(self.critics, batch, z)  # [2, T, B]
        losses["critic"] = (q - self.target(batch, z_next.detach())).square().mean((1, 2)).sum()
        losses["actor"] = self.actor_loss(batch, z.detach(), q.detach())
        self.optimiser.param_groups[0]["lr"] = c.lr if self.offline else c.online_lr
        self.optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        self.optimiser.step()
        polyak(self.targets.parameters(), self.critics.parameters(), c.tau)
        self.step += 1
        return losses | {"q": q.detach().mean()}

    def infer(self, tasks: Tensor) -> Gaussian:
        """Return q(z|h), h drawn from the tasks' data; or the task itself, surely."""
        c = self.config
        if c.z == "task":
            params = self.params[tasks]
            return Gaussian(params, torch.zeros_like(params))
        size = c.context if self.offline else c.online_context
        return self.encoder(self.context(tasks, size))

    def context(self, tasks: Tensor, size: int) -> Tensor:
        """Draw ``size`` transitions of each task for the encoder: ``[T, size, X]``."""
        c, g, among = self.config, self.generator, None
        if self.offline and c.episode_contexts:
            among = self.logged.rollouts(tasks, g)
        elif not self.offline and c.online_visits:
            among = self.visit(tasks)
        return self.data.sample(tasks, size, g, among).context(c.next_observations)

    def visit(self, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Draw one own visit to each task, as what a sample may be drawn from; a logged rollout of one not visited."""
        c, g, logged = self.config, self.generator, self.logged.sizes[tasks]
        given = self.logged.rollouts(tasks, g)
        length = (c.round_prior + c.round_posterior) * self.family.horizon
        visits = (self.data.sizes[tasks] - logged) // length
        uniform = torch.rand(len(tasks), generator=g, device=tasks.device)
        first = logged + (uniform * visits).long() * length
        return torch.where(visits > 0, first, given[0]), torch.where(visits > 0, first + length, given[1])

    def decoder_loss(self, batch: Batch, z: Tensor) -> Tensor:
        """L_reward without its KL (Eq. 3): mean (r - r(s, a, z))²."""
        z = z if self.config.encoder_loss == "reward" else z.detach()
        return (self.decode(batch.observations, batch.actions, z) - batch.rewards).square().mean()

    def decode(self, observations: Tensor, actions: Tensor, z: Tensor) -> Tensor:
        """Return r(s, a, z): ``[T, B]``; frozen after the offline phase."""
        return self.decoder(join(observations, actions, z), frozen=not self.offline)[..., 0]

    def q(self, critics: Dense, batch: Batch, z: Tensor) -> Tensor:
        """Return both Q(s, a, z): ``[2, T, B]``."""
        return critics(join(batch.observations, batch.actions, z))[..., 0]

    @torch.no_grad()
    def target(self, batch: Batch, z: Tensor) -> Tensor:
        """Return y = scale · r + γ (1 - d) min Q'(s', a', z), a' ~ π(.|s', z): ``[T, B]`` (Eq. 1)."""
        c, following = self.config, batch.next_observations
        actions, _ = squashed_sample(self.policy(join(following, z)), self.generator)
        q = self.targets(join(following, actions, z))[..., 0].amin(0)
        return c.reward_scale * batch.rewards + c.discount * (1 - batch.terminations) * q

    def actor_loss(self, batch: Batch, z: Tensor, q: Tensor) -> Tensor:
        """Return the AWAC loss (Eq. 2), in the self-supervised phase with λ_pearl times PEARL's (Eq. 5)."""
        c = self.config
        acted = self.policy(join(batch.observations, z))
        own, _ = squashed_sample(acted, self.generator)
        q_own = self.critics(join(batch.observations, own, z), frozen=True)[..., 0].amin(0)  # [T, B]
        if c.actor == "pearl":
            return -q_own.mean()
        log_prob = squashed_log_prob(acted, batch.actions)
        advantages = q.amin(0) - q_own.detach()
        unit = advantages.std().clamp_min(1e-6) if c.relative_advantages else 1.0
        temperature = c.temperature if self.offline else c.online_temperature
        loss = -(awac_weights(advantages / unit, temperature) * log_prob).mean()
        return loss if self.offline else loss - c.pearl_weight * (q_own / unit).mean()

    @torch.no_grad()
    def collect(self) -> None:
        """Act in training tasks without reward, and label (Eq. 4): r(s, a, z), z ~ q(z | logged), one a rollout."""
        c, g = self.config, self.generator
        if self.step == c.offline_steps:
            self.labeller.load_state_dict(self.encoder.state_dict())
        tasks = torch.randperm(len(self.data.tasks), generator=g, device=g.device)[: c.round_tasks]
        kinds = torch.arange(c.round_prior + c.round_posterior, device=g.device) < c.round_prior
        places, prior = tasks.repeat_interleave(len(kinds)), kinds.repeat(len(tasks))
        if c.z == "task":
            z = self.params[places]
        else:
            posterior = self.encoder(self.context(places, c.label_context))
            z = torch.randn(len(places), c.latent, generator=g, device=g.device)
            z = torch.where(prior[:, None], z, sample(posterior, g))
        listed = [self.data.tasks[place] for place in places.tolist()]
        seed = int(torch.randint(2**31, (), generator=g, device=g.device))
        rollouts = explore(self.family, listed, self.policy, self.data.normalise, z, seed)
        self.env_steps += len(listed) * self.family.horizon
        if c.online_rewards == "decoder":
            z_r = sample(self.labeller(self.logged.sample(places, c.label_context, g).context(c.next_observations)), g)
            rollouts = [
                [replace(episode, rewards=self.label(episode, z_r[i])) for episode in rollout]
                for i, rollout in enumerate(rollouts)
            ]
        self.data.add([episode for rollout in rollouts for episode in rollout])

    def label(self, episode: Episode, z: Tensor) -> Array:
        """Return the decoder's rewards of an episode: ``[T]``."""
        observations = self.data.normalise(episode.observations[:-1])
        s, a = (torch.as_tensor(x, device=z.device)[None] for x in (observations, episode.actions))
        return self.decode(s, a, z[None])[0].cpu().numpy()


def awac_weights(advantages: Tensor, temperature: float) -> Tensor:
    """Return N · softmax(A / λ) over all N advantages, whose mean is 1."""
    flat = torch.softmax(advantages.reshape(-1) / temperature, dim=0)
    return (flat * flat.numel()).reshape(advantages.shape).detach()
