"""Networks of a learner, their targets, and the steps that change them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)


def modules_of(learner: object) -> dict[str, nn.Module]:
    """Return a learner's networks by the names of their attributes, in order of definition."""
    return {name: value for name, value in vars(learner).items() if isinstance(value, nn.Module)}


def target_of(net: Net) -> Net:
    """Return a copy of a network that no optimiser trains."""
    return copy.deepcopy(net).requires_grad_(False)


def adam(nets: Iterable[nn.Module], lr: float) -> torch.optim.Adam:
    """Return Adam over all parameters of networks that require gradients."""
    return torch.optim.Adam([p for net in nets for p in net.parameters() if p.requires_grad], lr=lr, fused=True)


def descend(optimiser: torch.optim.Optimizer, losses: Mapping[str, Tensor]) -> None:
    """Make one gradient step on a sum of losses."""
    optimiser.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    optimiser.step()


@torch.no_grad()
def polyak(targets: Iterable[Tensor], sources: Iterable[Tensor], tau: float) -> None:
    """Move target parameters: θ' <- (1 - τ) θ' + τ θ."""
    torch._foreach_lerp_(list(targets), list(sources), tau)
