"""Rollouts in training tasks by a policy that holds a z for each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from offlinemeta.baselines.parts.buffer import Normaliser
from offlinemeta.baselines.parts.networks import Policy, act
from offlinemeta.datasets.collect import in_batches, roll_out
from offlinemeta.datasets.dataset import Episode
from offlinemeta.envs import Task, TaskFamily
from offlinemeta.envs.shapes import Array


def explore(
    family: TaskFamily, tasks: Sequence[Task], policy: Policy, normalise: Normaliser, z: Tensor, seed: int
) -> list[list[Episode]]:
    """Make one rollout of ``horizon`` steps for each of N tasks, with sampled actions.

    Args:
        family: of the tasks.
        tasks: ``[N]``.
        policy: π(a | s, z).
        normalise: what it sees of an observation.
        z: ``[N, Z]``.
        seed: of the resets and the actions.
    """
    rollouts: list[list[Episode]] = []
    for part, envs in in_batches(family, len(tasks)):
        rng = np.random.default_rng([seed, part.start])

        def sampled(observations: Array, params: Array, rng: np.random.Generator | None, z: Tensor = z[part]) -> Array:
            assert rng is not None, "exploration samples its actions"
            noise = rng.standard_normal((len(observations), family.action_space.shape[0]))
            return act(policy, normalise(observations), z, noise)

        rollouts += roll_out(envs, tasks[part], [sampled] * envs.num_envs, rng)
    return rollouts
