"""Acting with a latent variable: at meta-test, and in the training tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from offlinemeta.baselines.parts.networks import Actor, Normaliser
from offlinemeta.baselines.parts.posterior import Gaussian
from offlinemeta.benchmark.context import Context
from offlinemeta.datasets.collect import in_batches, roll_out
from offlinemeta.datasets.dataset import Episode
from offlinemeta.envs import Task, TaskFamily
from offlinemeta.envs.shapes import Array, Bool


class LatentPolicy:
    """The policy π(a | s, z) in N tasks, each with a z of its own, which is held for the episode.

    Args:
        actor: the network of π.
        normaliser: normalises the observations.
        z: the latent variable of each task, ``[N, Z]``.
        exploring: ``[N]``, whether a task's actions are sampled; otherwise they are tanh of the mean.
        rng: draws the actions.
    """

    def __init__(
        self, actor: Actor, normaliser: Normaliser, z: Tensor, exploring: Bool[Array, " N"], rng: np.random.Generator
    ) -> None:
        self._actor, self._normaliser, self._z = actor, normaliser, z.to(normaliser.mean.device)
        self._exploring, self._rng = exploring[:, None], rng

    @torch.no_grad()
    def act(self, observations: Array) -> Array:
        """Return actions tanh(mean + std · noise) in [-1, 1]: ``[N, A]``."""
        seen = self._normaliser(torch.tensor(observations, device=self._z.device))
        mean, log_std = self._actor(torch.cat([seen, self._z], dim=-1))
        noise = (self._rng.standard_normal(mean.shape) * self._exploring).astype(np.float32)
        return np.tanh(mean.cpu().numpy() + log_std.exp().cpu().numpy() * noise)


def explore_then_infer(
    contexts: Sequence[Context],
    episodes: int,
    latent: int,
    infer: Callable[[Sequence[Context]], Gaussian],
    rng: np.random.Generator,
) -> tuple[Tensor, Bool[Array, " N"]]:
    """Draw a z for each of N tasks as PEARL does at meta-test (Rakelly et al., 2019, Algorithm 2).

    Args:
        contexts: the contexts of N tasks.
        episodes: number of first episodes in a task that are explored with z ~ N(0, I); later ones have z ~ q(z|c).
        latent: size of z.
        infer: returns q(z|c) of tasks, given their contexts.
        rng: draws z.

    Returns:
        z ``[N, Z]``, and for each task whether it is still explored ``[N]``.
    """
    exploring = np.array([len(context.lengths) < episodes for context in contexts], dtype=bool)
    z = rng.standard_normal((len(contexts), latent), dtype=np.float32)
    known = np.flatnonzero(~exploring).tolist()
    if known:
        mean, variance = (moment.cpu().numpy() for moment in infer([contexts[i] for i in known]))
        z[known] = mean + np.sqrt(variance) * z[known]
    return torch.as_tensor(z), exploring


def explore(
    family: TaskFamily, tasks: Sequence[Task], actor: Actor, normaliser: Normaliser, z: Tensor, seed: int
) -> list[list[Episode]]:
    """Make one rollout of ``horizon`` steps in each of N tasks, with sampled actions.

    Args:
        family: the tasks' family.
        tasks: the N tasks.
        actor: the network of π(a | s, z).
        normaliser: normalises the observations.
        z: the latent variable of each task, ``[N, Z]``, which is held for the rollout.
        seed: seed of the resets and the actions.

    Returns:
        The episodes of each task's rollout.
    """
    rollouts: list[list[Episode]] = []
    for part, envs in in_batches(family, len(tasks)):
        rng = np.random.default_rng([seed, part.start])
        policy = LatentPolicy(actor, normaliser, z[part], np.ones(envs.num_envs, dtype=bool), rng)

        def act(observations: Array, params: Array, _: object, policy: LatentPolicy = policy) -> Array:
            return policy.act(observations)

        rollouts += roll_out(envs, tasks[part], [act] * envs.num_envs, rng)
    return rollouts
