"""The context shift in z: how far self-collected context lies from logged context of the same size (Pong et al., Fig. 2)."""

from __future__ import annotations

import numpy as np
import torch

from offlinemeta.baselines.agent import LatentAgent
from offlinemeta.baselines.encoder import kl_between, kl_to_prior
from offlinemeta.benchmark.agent import Context, empty_context, join_contexts
from offlinemeta.benchmark.metrics import normalised_kl_shift
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.benchmark.runner import logged_contexts, run_episode
from offlinemeta.datasets.collect import in_batches
from offlinemeta.datasets.dataset import Dataset

TASKS = 50
"""Training tasks at most."""


@torch.no_grad()
def kl_shift(agent: LatentAgent, dataset: Dataset, seed: int) -> dict[str, float]:
    """Measure the shift on training tasks, at equal context sizes: two exploratory episodes against logged transitions.

    Returns:
        ``offline_kl_prior``, ``online_kl_prior``: KL(q(z|h) || N(0, I)), medians over tasks; ``kl_shift``: the
        normalised shift of :func:`~offlinemeta.benchmark.metrics.normalised_kl_shift`, of medians over (pairs of)
        tasks. Medians, since a posterior far away has a KL that drowns all others.
    """
    family, tasks = dataset.family, list(dataset.tasks[:TASKS])
    rng = np.random.default_rng([seed, 1])
    online: list[Context] = []
    for part, envs in in_batches(family, len(tasks)):
        contexts = [empty_context(family)] * envs.num_envs
        for _ in range(OFFLINE_ROLLOUTS):
            seeds = rng.integers(2**31, size=envs.num_envs)
            seen = run_episode(envs, tasks[part], agent.adapt(contexts), seeds)
            contexts = [join_contexts(pair) for pair in zip(contexts, seen, strict=True)]
        online += contexts
    size = OFFLINE_ROLLOUTS * family.horizon
    own = agent.infer(online)  # mean and variance, [N, Z] each
    logged, again = (agent.infer(logged_contexts(dataset, tasks, size, rng)) for _ in range(2))
    to_own, to_again = (
        kl_between(*(moment[:, None] for moment in context), *(moment[None] for moment in logged))
        for context in (own, again)
    )  # [N, N]: of task i's context to task j's logged one
    same = torch.eye(len(tasks), dtype=torch.bool)
    within, within_logged = to_own[same].median(), to_again[same].median()
    between_logged = to_again[~same].median()
    return {
        "offline_kl_prior": float(kl_to_prior(*logged).median()),
        "online_kl_prior": float(kl_to_prior(*own).median()),
        "kl_shift": normalised_kl_shift(float(within), float(within_logged), float(between_logged)),
    }
