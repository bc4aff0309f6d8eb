"""The context encoder of PEARL (Rakelly et al., 2019), which PEARL, SMAC and meta-behaviour-cloning share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from offlinemeta.baselines.parts.buffer import Batch
from offlinemeta.baselines.parts.networks import Dense, widths
from offlinemeta.baselines.parts.posterior import Gaussian, product_of_gaussians
from offlinemeta.envs import TaskFamily

LEAST_VARIANCE = 1e-7


class Encoder(nn.Module):
    """The posterior q(z | c): a product of one Gaussian factor for each transition, so permutation invariant.

    Args:
        family: the task family, which sets the size of a transition: (s, a, r), and s' if that is read.
        latent: size of the latent variable z.
        hidden: widths of the hidden layers.
        next_observations: whether s' is read where rewards vary; where dynamics vary, it always is.
        generator: draws the initial weights; the encoder lives on its device.
    """

    def __init__(
        self,
        family: TaskFamily,
        latent: int,
        hidden: Sequence[int],
        next_observations: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        o, a = widths(family)
        self.next_observations = next_observations or family.varies == "dynamics"
        self.net = Dense((o + a + 1 + o * self.next_observations, *hidden, 2 * latent), generator)

    def forward(self, context: Batch, mask: Tensor | None = None) -> Gaussian:
        """Encode contexts.

        Args:
            context: C transitions of each of T tasks.
            mask: ``[T, C]``, 1 for transitions and 0 for padding; by default, there is no padding.

        Returns:
            q(z|c) of each task: mean and variance, ``[T, Z]`` each.
        """
        read = [context.observations, context.actions, context.rewards[..., None]]
        if self.next_observations:
            read.append(context.next_observations)
        mean, raw = self.net(torch.cat(read, dim=-1)).float().chunk(2, dim=-1)
        return product_of_gaussians(mean, F.softplus(raw).clamp_min(LEAST_VARIANCE), mask)
