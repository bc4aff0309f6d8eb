"""A learner unlike the package's own: two optimisers, no encoder, three phases, and it adapts by a gradient step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from offlinemeta.baselines.parts.buffer import TaskBuffer, gather
from offlinemeta.baselines.parts.config import Phase, option
from offlinemeta.baselines.parts.networks import Normaliser, widths
from offlinemeta.benchmark.context import Context
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs import TaskFamily


@dataclass(frozen=True)
class Config:
    """The configuration of the toy learner."""

    values: PositiveInt = option(10, "Gradient steps of the phase that fits a value function.")
    imitation: PositiveInt = option(20, "Gradient steps of the phase that imitates the logged actions.", "imitation")
    steps: PositiveInt = option(30, "Gradient steps of the phase that learns how far to adapt.", "rates")
    lr: PositiveFloat = option(1e-2, "Step size of the first two phases' optimisers.")
    rate_lr: PositiveFloat = option(1e-2, "Step size of the last phase's optimiser.", "rates")

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Fitting values, imitating, and learning how far to adapt; the first phase's agent is not evaluated."""
        ends = (self.values, self.values + self.imitation, self.values + self.imitation + self.steps)
        return Phase("values", ends[0], evaluated=False), Phase("imitation", ends[1]), Phase("rates", ends[2])


PRESETS = {"default": Config(), "smoke": Config()}


class Rate(nn.Module):
    """A learned step size, exp(log), as a module so that checkpoints hold it."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(-2.0))


class Toy:
    """A linear policy, which imitates the logged actions and adapts to a task by one gradient step on its context.

    Args:
        config: the configuration; :class:`Config` explains its fields.
        family: the task family.
        generator: draws all random numbers of training; the networks live on its device.
    """

    acting = ("normaliser", "actor", "rate")

    def __init__(self, config: Config, family: TaskFamily, generator: torch.Generator) -> None:
        self.config, self.generator = config, generator
        o, a = widths(family)
        self.normaliser, self.rate = Normaliser(family, generator.device), Rate()
        self.actor, self.value = nn.Linear(o, a), nn.Linear(o, 1)
        for net in (self.actor, self.value):
            nn.init.normal_(net.weight, std=0.1, generator=generator)
            nn.init.zeros_(net.bias)
        self.nets = {"normaliser": self.normaliser, "actor": self.actor, "value": self.value, "rate": self.rate}
        self.optimisers = {
            "values": torch.optim.SGD(self.value.parameters(), config.lr, momentum=0.9),
            "actor": torch.optim.Adam([*self.actor.parameters(), *self.rate.parameters()], config.lr),
        }
        self.data: TaskBuffer | None = None
        self.step = self.env_steps = 0
        self.seed(0)

    def load(self, dataset: Dataset) -> None:
        """Take in the logged data, and compute the return-to-go of each of its transitions."""
        self.normaliser.fit(dataset.observations)
        self.data = TaskBuffer.of(dataset.tasks, dataset, self.normaliser)
        to_go = [episode.rewards[::-1].cumsum()[::-1] for episode in dataset]  # Monte-Carlo returns
        self.returns = self.data.lay_out(dataset, to_go)

    def update(self) -> dict[str, Tensor]:
        """Make one gradient step of the present phase; return its loss."""
        c, g, data = self.config, self.generator, self.data
        assert data is not None
        tasks = data.draw_tasks(3, g)
        rows = data.draw(tasks, 8, g)
        batch, name = data.take(tasks, rows), "actor"
        if self.step < c.values:
            values = self.value(batch.observations)[..., 0]
            name, losses = "values", {"value": (values - gather(self.returns, tasks, rows)).square().mean()}
        elif self.step < c.values + c.imitation:
            losses = {"imitation": (self.actor(batch.observations) - batch.actions).square().mean()}
        else:
            weight, bias = self.adapted(batch.observations, batch.actions)
            adapted = batch.observations @ weight.mT + bias[:, None]
            losses = {"adapted": (adapted - batch.actions).square().mean()}
        if self.step == c.values + c.imitation:  # once: a checkpoint has to keep it
            self.optimisers["actor"].param_groups[0]["lr"] = c.rate_lr
        self.optimisers[name].zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        self.optimisers[name].step()
        self.step += 1
        return losses

    def adapted(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight ``[T, A, O]`` and bias ``[T, A]`` after one step of imitation in each of T tasks.

        The gradient of the linear layer is written out by hand, so that the step itself can be learned.
        """
        error = 2 * (self.actor(observations) - actions) / actions.shape[1]  # [T, C, A]
        rate = self.rate.log.exp()
        return self.actor.weight - rate * error.mT @ observations, self.actor.bias - rate * error.sum(1)

    def adapt(self, contexts: Sequence[Context]) -> Any:
        """Return a policy that has made one gradient step on each context; on an empty one it has made none."""
        rng, adapted = np.random.default_rng(self._seed), []
        for context in contexts:
            seen, done = (torch.tensor(x)[None] for x in (context.observations, context.actions))
            known = len(context) > 0
            adapted.append(
                self.adapted(self.normaliser(seen), done) if known else (self.actor.weight[None], self.actor.bias[None])
            )

        class Policy:
            """Acts linearly in N tasks, each with its own weights, and with a little noise."""

            def act(policy, observations: np.ndarray) -> np.ndarray:
                s = self.normaliser(torch.tensor(observations))
                with torch.no_grad():
                    means = [(s[i] @ w[0].mT + b[0]).numpy() for i, (w, b) in enumerate(adapted)]
                noise = 0.01 * rng.standard_normal((len(observations), 2))
                return np.clip(np.stack(means) + noise, -1, 1)

        return Policy()

    def seed(self, seed: int) -> None:
        """Seed the noise of the policies of :meth:`adapt`."""
        self._seed = seed
