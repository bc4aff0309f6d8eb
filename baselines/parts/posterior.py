"""Diagonal Gaussians over z: products, divergences, samples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Gaussian(NamedTuple):
    """A diagonal Gaussian over z for each of T tasks: mean and variance, ``[T, Z]`` each."""

    mean: Tensor
    variance: Tensor


def prior(tasks: int, latent: int, device: torch.device) -> Gaussian:
    """Return N(0, I) for each of a number of tasks."""
    return Gaussian(torch.zeros(tasks, latent, device=device), torch.ones(tasks, latent, device=device))


def product_of_gaussians(mean: Tensor, variance: Tensor, mask: Tensor | None = None) -> Gaussian:
    """Multiply Gaussians over the second axis: σ² = 1 / Σ 1/σₙ², μ = σ² Σ μₙ/σₙ² (PEARL, section 4.1).

    The prior N(0, I) is not one of the factors, so an empty context has no product.

    Args:
        mean: means of the factors, ``[T, C, Z]``.
        variance: variances of the factors, ``[T, C, Z]``.
        mask: ``[T, C]``, 1 for factors and 0 for padding; by default, there is no padding.
    """
    precision = 1 / variance
    if mask is not None:
        precision = precision * mask[..., None]
    total = 1 / precision.sum(1)
    return Gaussian(total * (mean * precision).sum(1), total)


def kl_to_prior(q: Gaussian) -> Tensor:
    """Return KL(N(μ, σ²) || N(0, I)), summed over the dimensions of z: ``[T]``."""
    return 0.5 * (q.mean.square() + q.variance - q.variance.log() - 1).sum(-1)


def kl_between(q: Gaussian, p: Gaussian) -> Tensor:
    """Return KL(q || p), summed over the dimensions of z: ``[*]``."""
    ratio = q.variance / p.variance
    return 0.5 * (ratio + (p.mean - q.mean).square() / p.variance - 1 - ratio.log()).sum(-1)


def sample(q: Gaussian, generator: torch.Generator) -> Tensor:
    """Draw z by reparametrisation: ``[T, Z]``."""
    return q.mean + q.variance.sqrt() * torch.randn(q.mean.shape, generator=generator, device=q.mean.device)
