"""The contract of a learner: a paper's algorithm, which trains and is also the agent that is evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from offlinemeta.baselines.parts.buffer import Batch, TaskBuffer
from offlinemeta.baselines.parts.posterior import Gaussian
from offlinemeta.benchmark.agent import Agent
from offlinemeta.benchmark.context import Context
from offlinemeta.datasets.dataset import Dataset


class Learner(Agent, Protocol):
    """A learner is called as ``Class(config, family, generator)``, and lives on the generator's device.

    Training is :meth:`load` once and then :meth:`update` until the config's last phase ends. Everything that a resumed
    training needs is in the attributes below, apart from what :meth:`load` computes from the dataset again.

    Attributes:
        config: the method's configuration.
        nets: every module with parameters or buffers, by name; learned step sizes are modules too.
        optimisers: the optimisers by name.
        generator: draws all random numbers of training.
        data: logged and collected experience; None for a learner that keeps its experience in another form.
        step: number of gradient steps made.
        env_steps: number of environment steps made in training; the logged ones do not count.
        acting: names of the nets that an agent file holds; :meth:`adapt` needs no others.
    """

    config: Any
    nets: Mapping[str, nn.Module]
    optimisers: Mapping[str, torch.optim.Optimizer]
    generator: torch.Generator
    data: TaskBuffer | None
    step: int
    env_steps: int
    acting: tuple[str, ...]

    def load(self, dataset: Dataset) -> None:
        """Take in the logged data; a method that relabels their rewards, or computes returns, does it here.

        A resumed training is loaded before its state is put back, so what a *trained* network says of the data (a
        belief, say) is computed when it is first needed, in :meth:`update`.
        """

    def update(self) -> Mapping[str, Tensor]:
        """Make one gradient step, and return its losses by name; collect experience first where that is due."""

    def seed(self, seed: int) -> None:
        """Seed all randomness of :meth:`adapt` and of its policies, which is apart from the randomness of training."""


@runtime_checkable
class Infers(Agent, Protocol):
    """An agent with a latent variable. A learner with a method of this name is measured by it after its training."""

    def infer(self, contexts: Sequence[Context]) -> Gaussian:
        """Return q(z|c) of N tasks: mean and variance, ``[N, Z]`` each."""


@runtime_checkable
class Decodes(Infers, Protocol):
    """A learner that predicts rewards from its latent variable; one with a method of this name is measured by it."""

    def decode(self, batch: Batch, z: Tensor) -> Tensor:
        """Return r(s, a, z): ``[T, B]``."""
