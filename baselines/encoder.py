"""The context encoder of PEARL (Rakelly et al., 2019), which PEARL, SMAC and meta-behaviour-cloning share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from offlinemeta.baselines.networks import Dense

LEAST_VARIANCE = 1e-7


class Encoder(nn.Module):
    """q(z | h): one Gaussian factor a transition, multiplied over the context; permutation invariant."""

    def __init__(self, inputs: int, latent: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.net = Dense((inputs, *hidden, 2 * latent))

    def forward(self, context: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            context: ``[T tasks, C transitions, X]``.
            mask: ``[T, C]`` which transitions there are; all by default.

        Returns:
            Mean and variance of z: ``[T, Z]`` each.
        """
        mean, raw = self.net(context).float().chunk(2, dim=-1)
        variance = F.softplus(raw).clamp_min(LEAST_VARIANCE)
        return product_of_gaussians(mean, variance, mask)


def product_of_gaussians(mean: Tensor, variance: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Multiply Gaussians over the second axis: σ² = 1 / Σ 1/σₙ², μ = σ² Σ μₙ/σₙ² (PEARL, section 4.1).

    The prior N(0, I) is no factor, so an empty context has no product; use :func:`prior`.
    """
    precision = 1 / variance
    if mask is not None:
        precision = precision * mask[..., None]
    total = 1 / precision.sum(1)
    return total * (mean * precision).sum(1), total


def kl_to_prior(mean: Tensor, variance: Tensor) -> Tensor:
    """Return KL(N(μ, σ²) || N(0, I)), summed over the dimensions of z: ``[T]``."""
    return 0.5 * (mean.square() + variance - variance.log() - 1).sum(-1)


def kl_between(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """Return KL(N(μ, σ²) || N(μ', σ'²)), summed over the dimensions of z: ``[*]``."""
    ratio = variance / other_variance
    return 0.5 * (ratio + (other_mean - mean).square() / other_variance - 1 - ratio.log()).sum(-1)


def sample(mean: Tensor, variance: Tensor, generator: torch.Generator) -> Tensor:
    """Draw z by reparametrisation: ``[T, Z]``."""
    return mean + variance.sqrt() * torch.randn(mean.shape, generator=generator, device=mean.device)
