"""Acting with a latent variable: at meta-test, and in the training tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from offlinemeta.baselines.parts.networks import Actor, Normaliser
from offlinemeta.baselines.parts.posterior import Gaussian, prior
from offlinemeta.benchmark.context import Context
from offlinemeta.datasets.collect import in_batches, roll_out
from offlinemeta.datasets.dataset import Episode
from offlinemeta.envs import Task, TaskFamily
from offlinemeta.envs.shapes import Array, Bool


class LatentPolicy:
    """The policy π(a | s, z) in N tasks, with z ~ q(z) of each task.

    Args:
        actor: the network of π.
        normaliser: normalises the observations.
        q: the belief of each task, mean and variance ``[N, Z]``.
        period: number of steps after which z is drawn anew; 0 to hold it.
        sampled: ``[N]``, whether a task's actions are sampled; otherwise they are tanh of the mean.
        rng: draws z and the actions.
    """

    def __init__(
        self,
        actor: Actor,
        normaliser: Normaliser,
        q: Gaussian,
        period: int,
        sampled: Bool[Array, " N"],
        rng: np.random.Generator,
    ) -> None:
        self._actor, self._normaliser, self._device = actor, normaliser, normaliser.mean.device
        self._mean, self._std = q.mean.to(self._device), q.variance.sqrt().to(self._device)
        self._z, self._steps, self._period = self._mean, 0, period
        self._sampled, self._rng = sampled[:, None], rng

    @torch.no_grad()
    def act(self, observations: Array) -> Array:
        """Return actions tanh(mean + std · noise) in [-1, 1]: ``[N, A]``."""
        if self._steps == 0 or (self._period and self._steps % self._period == 0):
            noise = self._rng.standard_normal(tuple(self._mean.shape), dtype=np.float32)
            self._z = self._mean + self._std * torch.as_tensor(noise, device=self._device)
        self._steps += 1
        seen = self._normaliser(torch.tensor(observations, device=self._device))
        mean, log_std = self._actor(torch.cat([seen, self._z], dim=-1))
        noise = (self._rng.standard_normal(mean.shape) * self._sampled).astype(np.float32)
        return np.tanh(mean.cpu().numpy() + log_std.exp().cpu().numpy() * noise)


def explore_then_infer(
    contexts: Sequence[Context], steps: int, latent: int, infer: Callable[[Sequence[Context]], Gaussian]
) -> tuple[Gaussian, Bool[Array, " N"]]:
    """Return what z is drawn from in each of N tasks, as PEARL has it (Rakelly et al., 2019, Algorithm 2).

    Args:
        contexts: the contexts of N tasks.
        steps: number of first steps in a task that are explored with z ~ N(0, I); later episodes have z ~ q(z|c).
        latent: size of z.
        infer: returns q(z|c) of tasks, given their contexts.

    Returns:
        N(0, I) or q(z|c), and for each task whether it is still explored ``[N]``.
    """
    exploring = np.array([len(context) < steps for context in contexts], dtype=bool)
    q = prior(len(contexts), latent, torch.device("cpu"))
    known = np.flatnonzero(~exploring).tolist()
    if known:
        q.mean[known], q.variance[known] = (moment.cpu() for moment in infer([contexts[i] for i in known]))
    return q, exploring


def explore(
    family: TaskFamily, tasks: Sequence[Task], actor: Actor, normaliser: Normaliser, q: Gaussian, period: int, seed: int
) -> list[list[Episode]]:
    """Make one rollout of ``horizon`` steps in each of N tasks, with sampled actions.

    Args:
        family: the tasks' family.
        tasks: the N tasks.
        actor: the network of π(a | s, z).
        normaliser: normalises the observations.
        q: what z is drawn from in each task, mean and variance ``[N, Z]``.
        period: number of steps after which z is drawn anew; 0 to hold it for the rollout.
        seed: seed of the resets, of z and of the actions.

    Returns:
        The episodes of each task's rollout.
    """
    rollouts: list[list[Episode]] = []
    for part, envs in in_batches(family, len(tasks)):
        rng, every = np.random.default_rng([seed, part.start]), np.ones(envs.num_envs, dtype=bool)
        policy = LatentPolicy(actor, normaliser, Gaussian(q.mean[part], q.variance[part]), period, every, rng)

        def act(observations: Array, params: Array, _: object, policy: LatentPolicy = policy) -> Array:
            return policy.act(observations)

        rollouts += roll_out(envs, tasks[part], [act] * envs.num_envs, rng)
    return rollouts
