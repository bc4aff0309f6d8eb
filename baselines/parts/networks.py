"""Networks that the algorithms share: layers, the normaliser, and the actor with its distribution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from offlinemeta.envs import TaskFamily
from offlinemeta.envs.shapes import Array

LOG_STD = (-20.0, 2.0)
"""Bounds of a policy's log standard deviation."""

EDGE = 1 - 1e-4
"""Logged actions are clipped to ±EDGE before the inverse of tanh."""

LAST = 3e-3
"""The weights of last layers start in U(-LAST, LAST), as in the study's code."""

LEAST_SCALE = 1e-2
"""The least scale of an observation's entry: entries that hardly vary are divided by it."""


def widths(family: TaskFamily) -> tuple[int, int]:
    """Return the sizes of a family's observations and actions."""
    return family.observation_space.shape[0], family.action_space.shape[0]


class Normaliser(nn.Module):
    """Shifts and scales observations; until it is fitted, it leaves them as they are.

    It is a network without trained parameters, so that checkpoints and agent files hold its moments.
    """

    def __init__(self, family: TaskFamily, device: torch.device) -> None:
        super().__init__()
        size = widths(family)[0]
        self.register_buffer("mean", torch.zeros(size, device=device))
        self.register_buffer("scale", torch.ones(size, device=device))
        self.mean: Tensor
        self.scale: Tensor

    def fit(self, observations: Array) -> None:
        """Take mean and scale from observations ``[S, O]``."""
        self.mean.copy_(torch.as_tensor(observations.mean(0)))
        self.scale.copy_(torch.as_tensor(np.maximum(observations.std(0), LEAST_SCALE)))

    def forward(self, observations: Tensor) -> Tensor:
        """Normalise observations ``[*, O]``."""
        return (observations - self.mean) / self.scale


class Dense(nn.Module):
    """``n`` MLPs with ReLU of the same shape, side by side: ``[*batch, in] -> [n, *batch, out]``.

    Two critics are then one batched product instead of two small ones, which is faster on a CPU.

    Args:
        sizes: widths of the input, the hidden layers and the output.
        generator: draws the initial weights; the network lives on its device.
        n: number of MLPs; with None there is one, and its output has no first axis.
        last: the weights of last layers start in U(-last, last).
        layer_norm: whether the input of every ReLU is normalised, without gain and bias (Ba et al., 2016).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        generator: torch.Generator,
        n: int | None = None,
        last: float = LAST,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.n, self.layer_norm = n, layer_norm
        count, device = 1 if n is None else n, generator.device
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            bound = last if i == len(sizes) - 2 else 1 / math.sqrt(fan_in)
            weights = torch.empty(count, fan_in, fan_out, device=device).uniform_(-bound, bound, generator=generator)
            self.weights.append(nn.Parameter(weights))
            self.biases.append(nn.Parameter(torch.zeros(count, 1, fan_out, device=device)))

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """Evaluate the MLPs; with ``frozen``, gradients reach the input and not the weights."""
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

    def pairs(self, z: Tensor, x: Tensor) -> Tensor:
        """Evaluate an MLP on every pair (z, x) of z ``[*, T, Z]`` and x ``[*, K, X]``: ``[*, T, K, out]``.

        The first layer is split into a part for z and a part for x, so no pair's input is ever built.
        """
        (first, *weights), (bias, *biases) = ([p[0] for p in layers] for layers in (self.weights, self.biases))
        for_z, for_x = first.split([z.shape[-1], x.shape[-1]])
        h = (z @ for_z)[..., :, None, :] + (x @ for_x + bias)[..., None, :, :]
        batch, h = h.shape[:-1], h.flatten(0, -2)
        for w, b in zip(weights, biases, strict=True):
            h = torch.addmm(b, self._activate(h), w)
        return h.reshape(*batch, h.shape[-1])

    def _activate(self, h: Tensor) -> Tensor:
        if self.layer_norm:
            h = F.layer_norm(h, h.shape[-1:])
        return h.relu_()  # in place: no gradient needs a product's output


class Normal(NamedTuple):
    """A tanh-Gaussian over actions: a = tanh(u), u ~ N(mean, exp(log_std)²), ``[*, A]`` each."""

    mean: Tensor
    log_std: Tensor

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw actions by reparametrisation; return them ``[*, A]`` and their log-density ``[*]``."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        u = self.mean + self.log_std.exp() * noise
        return torch.tanh(u), self._log_density(u, noise)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return log π(a) of given actions in [-1, 1]: ``[*]``."""
        u = torch.atanh(actions.clamp(-EDGE, EDGE))
        return self._log_density(u, (u - self.mean) * torch.exp(-self.log_std))

    def _log_density(self, u: Tensor, noise: Tensor) -> Tensor:
        gaussian = -0.5 * noise.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))  # log(1 - tanh²u)
        return (gaussian - log_slope).sum(-1)


class Actor(nn.Module):
    """A tanh-Gaussian policy: a = tanh(u), u ~ N(mean(x), std(x)²)."""

    def __init__(self, inputs: int, actions: int, hidden: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.net = Dense((inputs, *hidden, 2 * actions), generator, last=1e-3)

    def forward(self, x: Tensor) -> Normal:
        """Return the distribution of u."""
        mean, log_std = self.net(x).float().chunk(2, dim=-1)
        return Normal(mean, log_std.clamp(*LOG_STD))


def join(*parts: Tensor) -> Tensor:
    """Join ``[T, B, .]`` tensors, and z ``[T, Z]`` repeated over B, along the last axis."""
    *rows, z = parts
    return torch.cat([*rows, z[:, None].expand(-1, rows[0].shape[1], -1)], dim=-1)
