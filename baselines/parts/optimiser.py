"""Networks of a learner, their targets, and the steps that change them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

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


def decay(optimiser: torch.optim.Optimizer, rates: Sequence[float], factor: float, done: float) -> None:
    """Set the step sizes of an optimiser's groups of parameters.

    Args:
        optimiser: the optimiser.
        rates: step sizes in the first half of the training, one for each group.
        factor: what they are multiplied by in the second half.
        done: share of the training's steps that have been made.
    """
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate * factor if done >= 0.5 else rate


def descend(optimiser: torch.optim.Optimizer, losses: Mapping[str, Tensor]) -> None:
    """Make one gradient step on a sum of losses."""
    optimiser.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    optimiser.step()


@torch.no_grad()
def polyak(targets: Iterable[Tensor], sources: Iterable[Tensor], tau: float) -> None:
    """Move target parameters: θ' <- (1 - τ) θ' + τ θ."""
    torch._foreach_lerp_(list(targets), list(sources), tau)


def in_turn(
    function: Callable[[Tensor, Any], Tensor], turns: Sequence[tuple[Tensor, Any]], parameters: Sequence[Tensor]
) -> Tensor:
    """Return the sum of ``function(x, constants)`` over turns, without keeping the activations of more than one.

    Gradients of a turn are computed right after its value, so that nothing is computed twice either.

    Args:
        function: returns a scalar.
        turns: x, which gradients are passed on to, and what else the function needs.
        parameters: all parameters that the function depends on.
    """
    total: Tensor = _InTurn.apply(  # type: ignore[no-untyped-call]
        function, [constants for _, constants in turns], *(x for x, _ in turns), *parameters
    )
    return total


class _InTurn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor, Any], Tensor], constants: list[Any], *tensors: Tensor) -> Tensor:
        xs, parameters = tensors[: len(constants)], tensors[len(constants) :]
        sums, own, total = [torch.zeros_like(p) for p in parameters], [], tensors[0].new_zeros(())
        for x, constant in zip(xs, constants, strict=True):
            leaf = x.detach().requires_grad_()
            with torch.enable_grad():
                value = function(leaf.view_as(leaf), constant)  # counters of FLOP cannot have a leaf here
            gradient, *others = torch.autograd.grad(value, [leaf, *parameters])
            own.append(gradient)
            torch._foreach_add_(sums, others)
            total += value.detach()
        ctx.save_for_backward(*own, *sums)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        return None, None, *(slopes[0] * gradient for gradient in ctx.saved_tensors)
