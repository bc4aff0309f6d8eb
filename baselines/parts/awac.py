"""AWAC (Nair et al., 2020, arXiv 2006.09359), conditioned on z: the parts that SMAC and the told learner share."""

from __future__ import annotations

import torch
from torch import Tensor

from offlinemeta.baselines.parts.buffer import Batch
from offlinemeta.baselines.parts.networks import Actor, Dense, Normal, join

LEAST_SPREAD = 1e-6


@torch.no_grad()
def bellman_target(
    actor: Actor,
    targets: Dense,
    batch: Batch,
    z: Tensor,
    z_next: Tensor,
    reward_scale: float,
    discount: float,
    generator: torch.Generator,
) -> Tensor:
    """Return y = scale · r + γ (1 - d) min Q'(s', a', z), a' ~ π(.|s', z'): ``[T, B]``.

    Only the actor reads z', another draw of the same posterior (as in the SMAC authors' code).
    """
    following = batch.next_observations
    actions, _ = actor(join(following, z_next)).sample(generator)
    q = targets(join(following, actions, z))[..., 0].amin(0)
    return reward_scale * batch.rewards + discount * (1 - batch.terminations) * q


def own_values(
    actor: Actor, critics: Dense, batch: Batch, z: Tensor, generator: torch.Generator
) -> tuple[Normal, Tensor]:
    """Draw actions from the actor and evaluate them; gradients pass through the critics, but do not change them.

    Returns:
        The actor's distribution of u, and min Q(s, a, z) with a ~ π(.|s, z) ``[T, B]``.
    """
    u = actor(join(batch.observations, z))
    own, _ = u.sample(generator)
    return u, critics(join(batch.observations, own, z), frozen=True)[..., 0].amin(0)


def spread(advantages: Tensor) -> Tensor:
    """Return the standard deviation of all advantages of a batch, at least :data:`LEAST_SPREAD`."""
    return advantages.std().clamp_min(LEAST_SPREAD)


def awac_weights(advantages: Tensor, temperature: float) -> Tensor:
    """Return N · softmax(A / λ) over all N advantages, whose mean is 1."""
    flat = torch.softmax(advantages.reshape(-1) / temperature, dim=0)
    return (flat * flat.numel()).reshape(advantages.shape).detach()
