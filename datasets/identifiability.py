"""Task identifiability: how well a small network tells the task from 64 transitions, with and without their rewards.

Where the rewards add nothing, the task shows in the states alone (expert data), and no method can learn from these
data to infer a task from rewards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs.shapes import Array, Float, Float32, Int

TRANSITIONS = 64
"""In a set."""

HIDDEN, SETS, STEPS, LEARNING_RATE = 64, 32, 1000, 3e-3
SPLITS = 3
"""Random splits of the tasks, 4/5 to learn from and 1/5 to test on."""

LEAST_TASKS = 5

TEST_SETS = 20
"""Per held-out task."""


@dataclass(frozen=True)
class Identifiability:
    """R² of the predicted task (``family.encode``) on held-out tasks: 1 is perfect, 0 no better than the mean task.

    The transitions of a set come from all of a task's data, or from one of its episodes; in the data of a good policy
    the states tell the task, in those of a poor one only the rewards can.
    """

    task_with_rewards: float
    task_without_rewards: float
    episode_with_rewards: float
    episode_without_rewards: float

    @property
    def verdict(self) -> str:
        """What it means, in a sentence."""
        if np.isnan(self.task_with_rewards):
            return f"Not measured: that takes at least {LEAST_TASKS} tasks."
        pairs = (
            (self.task_with_rewards, self.task_without_rewards),
            (self.episode_with_rewards, self.episode_without_rewards),
        )
        gap = max(max(told, 0) - max(untold, 0) for told, untold in pairs)  # R² below 0 is no knowledge at all
        if gap >= 0.1:
            return "The rewards tell what the states do not: these data can teach a method to infer the task from them."
        if gap >= 0.03:
            return "The rewards add a little to what the states tell: these data teach reward inference weakly."
        if self.task_with_rewards >= 0.5:
            return "The states alone tell the task, the rewards add nothing: these data cannot teach reward inference."
        return "This regressor cannot tell the task, with rewards or without."


def identifiability(dataset: Dataset, progress: Callable[[int], None] = lambda steps: None) -> Identifiability:
    """Measure a dataset's task identifiability.

    Args:
        dataset: of any number of tasks; of fewer than :data:`LEAST_TASKS`, all figures are NaN.
        progress: is told of each training step; there are ``4 * SPLITS * STEPS``.
    """
    if len(dataset.tasks) < LEAST_TASKS:
        return Identifiability(*[float("nan")] * 4)
    rows, by_task, by_episode = transitions(dataset)
    family = dataset.family
    targets = family.encode(family.params(dataset.tasks))
    hidden = rows.copy()
    hidden[:, -1] = 0.0
    scores = []
    for groups in (by_task, by_episode):
        for seen in (rows, hidden):
            inputs = np.concatenate([seen, seen[:, -1:] * seen[:, :-1]], axis=1)  # reward times each: r ~ v·d needs it
            r2 = [_score(inputs, groups, targets, np.random.default_rng(seed), progress) for seed in range(SPLITS)]
            scores.append(round(float(np.mean(r2)), 3))
    return Identifiability(*scores)


Groups = list[list[Int[Array, " _"]]]
"""Of each task, one or more groups of rows; a set is drawn from one group."""


def transitions(dataset: Dataset) -> tuple[Float32[Array, "S D"], Groups, Groups]:
    """Return all transitions (o, a, o' - o, r), standardised; and their rows grouped by task, and by episode."""
    steps = np.arange(len(dataset.rewards))
    before = steps + np.repeat(np.arange(len(dataset)), dataset.lengths)  # an episode has one more observation
    observations = np.asarray(dataset.observations)
    moved = observations[before + 1] - observations[before]
    rows = np.concatenate([observations[before], dataset.actions, moved, dataset.rewards[:, None]], axis=1)
    rows = np.clip((rows - rows.mean(0)) / (rows.std(0) + 1e-6), -5, 5).astype(np.float32)
    episodes = np.split(steps, dataset.starts[1:-1])
    by_episode = [[episodes[e] for e in np.flatnonzero(dataset.task == task)] for task in range(len(dataset.tasks))]
    return rows, [[np.concatenate(group)] for group in by_episode], by_episode


def _score(
    rows: Float32[Array, "S D"],
    groups: Groups,
    targets: Float[Array, "tasks E"],
    rng: np.random.Generator,
    progress: Callable[[int], None],
) -> float:
    """Train on four fifths of the tasks, and return R² on the others."""
    order = rng.permutation(len(groups))
    test, train = np.split(order, [len(groups) // 5])
    mean, scale = targets[train].mean(0), targets[train].std(0) + 1e-6
    wanted = ((targets - mean) / scale).astype(np.float32)
    network = SetRegressor(rows.shape[1], targets.shape[1], rng)

    def draw(tasks: Array) -> Float[Array, "B M D"]:
        chosen = [groups[task][rng.integers(len(groups[task]))] for task in tasks]
        return rows[np.stack([group[rng.integers(len(group), size=TRANSITIONS)] for group in chosen])]

    for step in range(STEPS):
        tasks = rng.choice(train, SETS)
        network.update(draw(tasks), wanted[tasks], LEARNING_RATE * (1 - step / STEPS))
        progress(1)
    tasks = np.repeat(test, TEST_SETS)
    errors = network.predict(draw(tasks)) - wanted[tasks]
    return 1.0 - float((errors**2).sum() / ((wanted[tasks] - wanted[test].mean(0)) ** 2).sum())


class SetRegressor:
    """y = W₄ tanh(W₃ mean_m tanh(W₂ tanh(W₁ x_m))), biases apart: a deep set (Zaheer et al., 2017), trained by Adam."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        sizes = [(inputs, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, outputs)]
        self._w = [(rng.standard_normal(size) / np.sqrt(size[0])).astype(np.float32) for size in sizes]
        self._b = [np.zeros(size[1], dtype=np.float32) for size in sizes]
        self._moments = [(np.zeros_like(p), np.zeros_like(p)) for p in (*self._w, *self._b)]
        self._t = 0

    def _forward(self, x: Float[Array, "B M D"]) -> tuple[Array, Array, Array, Array, Array]:
        h1 = np.tanh(x @ self._w[0] + self._b[0])
        h2 = np.tanh(h1 @ self._w[1] + self._b[1])
        pooled = h2.mean(1)
        h3 = np.tanh(pooled @ self._w[2] + self._b[2])
        return h1, h2, pooled, h3, h3 @ self._w[3] + self._b[3]

    def predict(self, x: Float[Array, "B M D"]) -> Float[Array, "B E"]:
        """Predict the task of each set."""
        return self._forward(x)[-1]

    def gradients(self, x: Float[Array, "B M D"], y: Float[Array, "B E"]) -> list[Array]:
        """Return those of the mean squared error: of the four weights, then of the four biases."""
        h1, h2, pooled, h3, out = self._forward(x)
        d_out = 2 * (out - y) / out.size
        d3 = (d_out @ self._w[3].T) * (1 - h3**2)
        d_pooled = d3 @ self._w[2].T
        d2 = (d_pooled / x.shape[1])[:, None] * (1 - h2**2)
        d1 = (d2 @ self._w[1].T) * (1 - h1**2)
        flat = [array.reshape(-1, array.shape[-1]) for array in (x, h1, d1, d2)]
        weights = [flat[0].T @ flat[2], flat[1].T @ flat[3], pooled.T @ d3, h3.T @ d_out]
        return [*weights, flat[2].sum(0), flat[3].sum(0), d3.sum(0), d_out.sum(0)]

    def update(self, x: Float[Array, "B M D"], y: Float[Array, "B E"], rate: float) -> None:
        """Make one step of Adam (Kingma & Ba, 2015)."""
        self._t += 1
        for p, gradient, (m, v) in zip((*self._w, *self._b), self.gradients(x, y), self._moments, strict=True):
            m += 0.1 * (gradient - m)
            v += 0.001 * (gradient**2 - v)
            p -= rate * (m / (1 - 0.9**self._t)) / (np.sqrt(v / (1 - 0.999**self._t)) + 1e-8)
