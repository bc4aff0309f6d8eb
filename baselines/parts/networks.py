"""Networks that the algorithms share, and nothing of the algorithms: layers, the policy's distribution, Polyak."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from offlinemeta.envs.shapes import Array

LOG_STD = (-20.0, 2.0)
"""Bounds of a policy's log standard deviation."""

EDGE = 1 - 1e-4
"""Logged actions are clipped here before the inverse of tanh."""

LAST = 3e-3
"""Last layers start in U(-LAST, LAST), as in the study's code."""


class Dense(nn.Module):
    """``n`` MLPs with ReLU of the same shape, side by side: ``[*batch, in] -> [n, *batch, out]``.

    Two critics are then one batched product instead of two small ones, which on a CPU is the faster.

    Args:
        sizes: in, hidden..., out.
        n: how many; with None, a plain one without the first axis.
        last: last layers start in U(-last, last).
        layer_norm: normalise what goes into every ReLU, without gain and bias (Ba et al., 2016).
    """

    def __init__(
        self, sizes: Sequence[int], n: int | None = None, last: float = LAST, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.n, self.layer_norm = n, layer_norm
        count = 1 if n is None else n
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            bound = last if i == len(sizes) - 2 else 1 / math.sqrt(fan_in)
            self.weights.append(nn.Parameter(torch.empty(count, fan_in, fan_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.zeros(count, 1, fan_out)))

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """Evaluate; ``frozen`` lets gradients reach the input alone."""
        batch = x.shape[:-1]
        h = x.reshape(-1, x.shape[-1])  # [B, in]
        weights, biases = list(self.weights), list(self.biases)
        if frozen:
            weights, biases = [w.detach() for w in weights], [b.detach() for b in biases]
        if self.n is None:
            for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
                h = torch.addmm(b[0], h if i == 0 else self._activate(h), w[0])
            return h.reshape(*batch, h.shape[-1])
        h = h.expand(self.n, *h.shape)
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            h = torch.baddbmm(b, h if i == 0 else self._activate(h), w)
        return h.reshape(self.n, *batch, h.shape[-1])

    def _activate(self, h: Tensor) -> Tensor:
        if self.layer_norm:
            h = F.layer_norm(h, h.shape[-1:])
        return h.relu_()  # in place: no gradient needs a product's output


class Normal(NamedTuple):
    """A Gaussian over u = artanh(a): mean and log standard deviation, ``[*, A]`` each."""

    mean: Tensor
    log_std: Tensor


class Policy(nn.Module):
    """A tanh-Gaussian policy: a = tanh(u), u ~ N(mean(x), std(x)²)."""

    def __init__(self, inputs: int, actions: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.inputs = inputs
        self.net = Dense((inputs, *hidden, 2 * actions), last=1e-3)

    def forward(self, x: Tensor) -> Normal:
        """Return the distribution of u."""
        mean, log_std = self.net(x).float().chunk(2, dim=-1)
        return Normal(mean, log_std.clamp(*LOG_STD))


def squashed_sample(u: Normal, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw actions by reparametrisation; return them and their log-density: ``[*, A]``, ``[*]``."""
    noise = torch.randn(u.mean.shape, generator=generator, device=u.mean.device)
    drawn = u.mean + u.log_std.exp() * noise
    return torch.tanh(drawn), _log_density(drawn, noise, u.log_std)


def squashed_log_prob(u: Normal, actions: Tensor) -> Tensor:
    """Return log π(a) of given actions in [-1, 1]: ``[*]``."""
    logged = torch.atanh(actions.clamp(-EDGE, EDGE))
    return _log_density(logged, (logged - u.mean) * torch.exp(-u.log_std), u.log_std)


def _log_density(u: Tensor, noise: Tensor, log_std: Tensor) -> Tensor:
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))  # log(1 - tanh²u)
    return (gaussian - log_slope).sum(-1)


@torch.no_grad()
def polyak(targets: Iterable[Tensor], sources: Iterable[Tensor], tau: float) -> None:
    """Move target parameters: θ' <- (1 - τ) θ' + τ θ."""
    torch._foreach_lerp_(list(targets), list(sources), tau)


@torch.no_grad()
def act(policy: Policy, observations: Array, z: Tensor, noise: Array) -> Array:
    """Return actions tanh(mean + std · noise) in [-1, 1] of N tasks, in numpy: ``[N, A]``."""
    device = next(policy.parameters()).device
    inputs = torch.cat([torch.as_tensor(observations, device=device), z.to(device)], dim=-1)
    mean, log_std = policy(inputs)
    return np.tanh(mean.cpu().numpy() + log_std.exp().cpu().numpy() * noise.astype(np.float32))


def join(*parts: Tensor) -> Tensor:
    """Join ``[T, B, .]`` tensors, and z ``[T, Z]`` repeated over B, along the last axis."""
    *rows, z = parts
    return torch.cat([*rows, z[:, None].expand(-1, rows[0].shape[1], -1)], dim=-1)
