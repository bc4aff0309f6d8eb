"""The context encoder of PEARL (Rakelly et al., 2019), which PEARL, SMAC and meta-behaviour-cloning share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from offlinemeta.baselines.parts.networks import Dense

LEAST_VARIANCE = 1e-7


class Gaussian(NamedTuple):
    """A diagonal Gaussian over z: ``[T, Z]`` each."""

    mean: Tensor
    variance: Tensor


class Encoder(nn.Module):
    """q(z | h): one Gaussian factor a transition, multiplied over the context; permutation invariant."""

    def __init__(self, inputs: int, latent: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.net = Dense((inputs, *hidden, 2 * latent))

    def forward(self, context: Tensor, mask: Tensor | None = None) -> Gaussian:
        """Encode.

        Args:
            context: ``[T tasks, C transitions, X]``.
            mask: ``[T, C]`` which transitions there are; all by default.

        Returns:
            q(z|h) of each task.
        """
        mean, raw = self.net(context).float().chunk(2, dim=-1)
        variance = F.softplus(raw).clamp_min(LEAST_VARIANCE)
        return product_of_gaussians(mean, variance, mask)


def product_of_gaussians(mean: Tensor, variance: Tensor, mask: Tensor | None = None) -> Gaussian:
    """Multiply Gaussians over the second axis: σ² = 1 / Σ 1/σₙ², μ = σ² Σ μₙ/σₙ² (PEARL, section 4.1).

    The prior N(0, I) is no factor, so an empty context has no product.
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
