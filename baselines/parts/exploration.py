"""Acting with a latent variable: at meta-test, and in the training tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from offlinemeta.baselines.parts.networks import Actor, Normaliser
from offlinemeta.baselines.parts.posterior import Gaussian, sample
from offlinemeta.benchmark.context import Context
from offlinemeta.datasets.collect import in_batches, roll_out
from offlinemeta.datasets.dataset import Episode
from offlinemeta.envs import Task, TaskFamily
from offlinemeta.envs.shapes import Array, Bool


class LatentPolicy:
    """π(a | s, z) in N tasks, with a z for each, held for the episode.

    Args:
        actor: π.
        normaliser: of observations.
        z: ``[N, Z]``.
        exploring: ``[N]``, where actions are sampled; elsewhere they are tanh of the mean.
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
    generator: torch.Generator,
) -> tuple[Tensor, Bool[Array, " N"]]:
    """Draw a z for each of N tasks as PEARL does at meta-test (Rakelly et al., 2019, Algorithm 2).

    Args:
        contexts: of N tasks.
        episodes: how many episodes of a task are explored with z ~ N(0, I), before z ~ q(z|c).
        latent: size of z.
        infer: q(z|c) of tasks by their contexts.
        generator: draws z, on the CPU.

    Returns:
        z ``[N, Z]``, and which tasks are explored ``[N]``.
    """
    exploring = np.array([len(context.lengths) < episodes for context in contexts], dtype=bool)
    z = torch.randn(len(contexts), latent, generator=generator)
    known = np.flatnonzero(~exploring).tolist()
    if known:
        posterior = infer([contexts[i] for i in known])
        z[known] = sample(Gaussian(*(moment.cpu() for moment in posterior)), generator)
    return z, exploring


def explore(
    family: TaskFamily, tasks: Sequence[Task], actor: Actor, normaliser: Normaliser, z: Tensor, seed: int
) -> list[list[Episode]]:
    """Make one rollout of ``horizon`` steps in each of N tasks, with sampled actions.

    Args:
        family: of the tasks.
        tasks: ``[N]``.
        actor: π(a | s, z).
        normaliser: of observations.
        z: ``[N, Z]``, held for the rollout.
        seed: seed of the resets and the actions.
    """
    rollouts: list[list[Episode]] = []
    for part, envs in in_batches(family, len(tasks)):
        rng = np.random.default_rng([seed, part.start])
        policy = LatentPolicy(actor, normaliser, z[part], np.ones(envs.num_envs, dtype=bool), rng)

        def act(observations: Array, params: Array, _: object, policy: LatentPolicy = policy) -> Array:
            return policy.act(observations)

        rollouts += roll_out(envs, tasks[part], [act] * envs.num_envs, rng)
    return rollouts
