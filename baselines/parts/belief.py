"""The recurrent belief of VariBAD (Zintgraf et al., ICLR 2020) and BOReL: its encoder, decoder and policy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from offlinemeta.baselines.parts.buffer import Batch, pad
from offlinemeta.baselines.parts.networks import Actor, Dense, Normaliser, widths
from offlinemeta.baselines.parts.posterior import Gaussian
from offlinemeta.benchmark.context import Context
from offlinemeta.envs import TaskFamily
from offlinemeta.envs.shapes import Array

OBSERVATIONS, ACTIONS, REWARDS = 32, 16, 16
"""Widths of the embeddings, as BOReL has them."""

AT_ONCE = 200
"""Steps of contexts that are read at once, so that a long context needs no more memory than a short one."""


class RecurrentEncoder(nn.Module):
    """The belief q(z | τ_:t): embeddings of (a, r, s'), a GRU, and linear heads for μ and log σ².

    Before the first step the heads read a hidden state of zeros, so the prior is learned.

    Args:
        family: the task family.
        latent: size of the latent variable z.
        recurrent: size of the hidden state.
        reads_before: whether s is read too.
        generator: draws the initial weights; the encoder lives on its device.
    """

    def __init__(
        self, family: TaskFamily, latent: int, recurrent: int, reads_before: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        (o, a), self.reads_before = widths(family), reads_before
        self.observations = linear(o * (1 + reads_before), OBSERVATIONS, generator)
        self.actions, self.rewards = linear(a, ACTIONS, generator), linear(1, REWARDS, generator)
        gru = nn.GRU(OBSERVATIONS + ACTIONS + REWARDS, recurrent, batch_first=True, device="meta")  # not drawn yet
        self.gru = gru.to_empty(device=generator.device)
        for parameter in self.gru.parameters():
            if parameter.dim() == 2:
                nn.init.orthogonal_(parameter, generator=generator)
            else:
                nn.init.zeros_(parameter)
        self.heads = linear(recurrent, 2 * latent, generator)

    def forward(self, batch: Batch, hidden: Tensor | None = None) -> Tensor:
        """Return the hidden states after each of L steps: ``[N, L, H]``; ``hidden [N, H]`` is the one before them."""
        seen = [batch.next_observations, batch.observations][: 1 + self.reads_before]
        parts = (
            self.observations(torch.cat(seen, -1)),
            self.actions(batch.actions),
            self.rewards(batch.rewards[..., None]),
        )
        return self.gru(torch.cat(parts, -1).relu(), None if hidden is None else hidden[None])[0]

    def belief(self, hidden: Tensor) -> Gaussian:
        """Return the belief of hidden states ``[*, H]``."""
        mean, log_variance = self.heads(hidden).chunk(2, dim=-1)
        return Gaussian(mean, log_variance.exp())

    def beliefs(self, batch: Batch) -> Gaussian:
        """Return q_0, ..., q_L of N trajectories of L steps: ``[N, L+1, Z]``."""
        return self.belief(F.pad(self(batch), (0, 0, 1, 0)))

    def read(self, contexts: Sequence[Context], normaliser: Normaliser) -> Tensor:
        """Return the hidden state after each of N contexts, read in their order: ``[N, H]``."""
        hidden = torch.zeros(len(contexts), self.gru.hidden_size, device=normaliser.mean.device)
        if not any(map(len, contexts)):
            return hidden
        batch, mask = pad(contexts, normaliser)
        left, each = mask.sum(1).long(), torch.arange(len(contexts), device=mask.device)
        for part in zip(*(column.split(AT_ONCE, dim=1) for column in batch), strict=True):
            states = self(Batch(*part), hidden)  # [N, C, H]
            last = left.clamp(max=states.shape[1]) - 1
            hidden = torch.where((last >= 0)[:, None], states[each, last.clamp_min(0)], hidden)
            left = left - states.shape[1]
        return hidden


class Decoder(nn.Module):
    """What (s, a), and s' where it is read, and z say of a transition: embeddings, then an MLP.

    Args:
        family: the task family.
        latent: size of the latent variable z.
        hidden: widths of the hidden layers.
        outputs: how many numbers are predicted.
        reads_next: whether s' is read.
        generator: draws the initial weights; the decoder lives on its device.
    """

    def __init__(
        self,
        family: TaskFamily,
        latent: int,
        hidden: Sequence[int],
        outputs: int,
        reads_next: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        (o, a), self.reads_next = widths(family), reads_next
        self.observations, self.actions = linear(o, OBSERVATIONS, generator), linear(a, ACTIONS, generator)
        sizes = (latent + ACTIONS + OBSERVATIONS * (1 + reads_next), *hidden, outputs)
        self.net = Dense(sizes, generator, last=1 / math.sqrt(hidden[-1]))  # small weights would hold z back

    def forward(self, z: Tensor, batch: Batch) -> Tensor:
        """Predict K transitions ``[N, K, .]`` from each of T z ``[N, T, Z]``: ``[N, T, K, outputs]``."""
        seen = [batch.observations, batch.next_observations][: 1 + self.reads_next]
        parts = [self.actions(batch.actions), *(self.observations(each) for each in seen)]
        return self.net.pairs(z, torch.cat(parts, -1).relu())


def linear(size: int, width: int, generator: torch.Generator) -> Dense:
    """Return a linear layer, drawn as hidden ones are."""
    return Dense((size, width), generator, last=1 / math.sqrt(size))


class BeliefPolicy:
    """The policy π(a | s, μ, log σ²) in N tasks; each has its belief, which :meth:`observe` carries on.

    Args:
        actor: the network of π, whose mean acts.
        encoder: the network of the belief.
        normaliser: normalises the observations.
        contexts: what was seen of each task before.
    """

    @torch.no_grad()
    def __init__(
        self, actor: Actor, encoder: RecurrentEncoder, normaliser: Normaliser, contexts: Sequence[Context]
    ) -> None:
        self.actor, self.encoder, self.normaliser = actor, encoder, normaliser
        self.hidden = encoder.read(contexts, normaliser)  # [N, H]

    @torch.no_grad()
    def act(self, observations: Array) -> Array:
        """Return actions tanh(mean) in [-1, 1]: ``[N, A]``."""
        seen = self.normaliser(torch.tensor(observations, device=self.hidden.device))
        mean, _ = self.actor(torch.cat([seen, hyper(self.encoder.belief(self.hidden))], dim=-1))
        return torch.tanh(mean).cpu().numpy()

    @torch.no_grad()
    def observe(
        self, observations: Array, actions: Array, rewards: Array, next_observations: Array, over: Array
    ) -> None:
        """Take a step into the belief, except where the episode is over: nobody acts on it there."""
        step = (observations, actions, rewards, next_observations, over)
        s, a, r, s_next, ended = (torch.tensor(x, device=self.hidden.device)[:, None] for x in step)
        after = self.encoder(Batch(self.normaliser(s), a, r, self.normaliser(s_next), ended), self.hidden)[:, 0]
        self.hidden = torch.where(ended, self.hidden, after)


def hyper(q: Gaussian) -> Tensor:
    """Return the belief as a policy reads it, (μ, log σ²): ``[*, 2Z]``."""
    return torch.cat([q.mean, q.variance.log()], dim=-1)
