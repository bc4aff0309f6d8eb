"""Told: an upper bound, SMAC's offline actor-critic with the true task in place of z.

The method is SMAC's offline phase (Pong et al., ICML 2022) without encoder and decoder, since nothing has to be
inferred. Its returns show what the data and the actor-critic allow, so another method is judged by how near it comes to
them. It sees the task at test, and its results say so. The constants of the ``paper`` preset and the departures of the
default preset are SMAC's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from offlinemeta.baselines.parts.awac import awac_weights, bellman_target, own_values, spread
from offlinemeta.baselines.parts.buffer import Batch, TaskBuffer
from offlinemeta.baselines.parts.config import Phase, option
from offlinemeta.baselines.parts.exploration import LatentPolicy
from offlinemeta.baselines.parts.networks import Actor, Dense, Normaliser, join, widths
from offlinemeta.baselines.parts.optimiser import adam, decay, descend, modules_of, polyak, target_of
from offlinemeta.baselines.parts.posterior import Gaussian
from offlinemeta.benchmark.context import Context
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs import Task, TaskFamily


@dataclass(frozen=True)
class Config:
    """The configuration of the learner that is told the task; its fields are those of SMAC's offline phase."""

    steps: PositiveInt = option(50_000, "Gradient steps of the training.")
    meta_batch: PositiveInt = option(4, "Tasks in a gradient step.")
    batch: PositiveInt = option(128, "Transitions of a task in a batch, for actor and critics.")
    hidden: tuple[PositiveInt, ...] = option((300, 300, 300), "Widths of the hidden layers of actor and critics.")
    lr: PositiveFloat = option(3e-4, "Step size of Adam.")
    late_factor: PositiveFloat = option(1.0, "Factor on all step sizes in the second half of the training.")
    discount: Annotated[float, Field(ge=0, le=1)] = option(0.99, "Discount factor γ.")
    tau: Annotated[float, Field(ge=0, le=1)] = option(0.005, "Polyak step τ of the critics' targets.")
    reward_scale: PositiveFloat = option(5.0, "Factor on the rewards in the Bellman target.")
    temperature: PositiveFloat = option(100.0, "Temperature λ of AWAC.")
    relative_advantages: bool = option(False, "Whether advantages are divided by their standard deviation.")
    normalise: bool = option(False, "Whether observations are normalised by the moments of the logged observations.")
    layer_norm: bool = option(False, "Whether the critics have layer normalisation (Ball et al., 2023).")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The only phase is the offline one."""
        return (Phase("offline", self.steps),)


PRESETS = {
    "paper": Config(),
    "default": Config(
        steps=20_000,
        meta_batch=16,
        batch=32,
        hidden=(128, 128, 128),
        lr=1e-3,
        temperature=1.0,
        relative_advantages=True,
        normalise=True,
        layer_norm=True,
    ),
    "smoke": Config(steps=20, batch=16, hidden=(16, 16)),
}


class Told:
    """The learner: :meth:`update` makes one gradient step, :meth:`adapt` acts on the task that it was told.

    Args:
        config: the configuration; :class:`Config` explains its fields.
        family: the task family.
        generator: draws all random numbers of training; the networks live on its device.
    """

    acting = ("normaliser", "actor")

    def __init__(self, config: Config, family: TaskFamily, generator: torch.Generator) -> None:
        self.config, self.family, self.generator = config, family, generator
        (o, a), z = widths(family), len(family.encode(family.params(family.tasks["train"][:1]))[0])
        self.normaliser = Normaliser(family, generator.device)
        self.actor = Actor(o + z, a, config.hidden, generator)
        self.critics = Dense((o + a + z, *config.hidden, 1), generator, n=2, layer_norm=config.layer_norm)
        self.targets = target_of(self.critics)
        self.nets = modules_of(self)
        self.optimisers = {"adam": adam(self.nets.values(), config.lr)}
        self.data: TaskBuffer | None = None
        self.step = self.env_steps = 0
        self.tell(())

    def load(self, dataset: Dataset) -> None:
        """Take in the logged data and the parameters of its tasks."""
        if self.config.normalise:
            self.normaliser.fit(dataset.observations)
        self.data = TaskBuffer.of(dataset.tasks, dataset, self.normaliser)
        self.params = self.encode(dataset.tasks)

    def encode(self, tasks: Sequence[Task]) -> Tensor:
        """Return the tasks' parameters, which take the place of z: ``[T, E]``."""
        return torch.as_tensor(self.family.encode(self.family.params(tasks)), device=self.generator.device)

    def update(self) -> dict[str, Tensor]:
        """Make one gradient step of SMAC's offline phase (its Algorithm 1), with the task as z; return the losses."""
        c, g, data = self.config, self.generator, self.data
        assert data is not None, "load(dataset) comes first"
        tasks = data.draw_tasks(c.meta_batch, g)
        batch, z = data.take(tasks, data.draw(tasks, c.batch, g)), self.params[tasks]
        q = self.critics(join(batch.observations, batch.actions, z))[..., 0]  # [2, T, B]
        y = bellman_target(self.actor, self.targets, batch, z, z, c.reward_scale, c.discount, g)
        losses = {"critic": (q - y).square().mean((1, 2)).sum(), "actor": self.actor_loss(batch, z, q.detach())}
        decay(self.optimisers["adam"], [c.lr], c.late_factor, self.step / c.steps)
        descend(self.optimisers["adam"], losses)
        polyak(self.targets.parameters(), self.critics.parameters(), c.tau)
        self.step += 1
        return losses

    def actor_loss(self, batch: Batch, z: Tensor, q: Tensor) -> Tensor:
        """Return the AWAC loss (SMAC, Eq. 2)."""
        c = self.config
        u, q_own = own_values(self.actor, self.critics, batch, z, self.generator)
        advantages = q.amin(0) - q_own
        unit = spread(advantages) if c.relative_advantages else 1.0
        return -(awac_weights(advantages / unit, c.temperature) * u.log_prob(batch.actions)).mean()

    def tell(self, tasks: Sequence[Task]) -> None:
        """Take the tasks of the next contexts, in the same order; :meth:`adapt` acts on them."""
        self._told = self.encode(tasks)

    def adapt(self, contexts: Sequence[Context]) -> LatentPolicy:
        """Act by the mean in the tasks that :meth:`tell` took; the contexts are not read."""
        sure, nowhere = Gaussian(self._told, torch.zeros_like(self._told)), np.zeros(len(contexts), dtype=bool)
        return LatentPolicy(self.actor, self.normaliser, sure, 0, nowhere, np.random.default_rng(0))

    def seed(self, seed: int) -> None:
        """Do nothing: nothing in :meth:`adapt` or its policies is random."""
