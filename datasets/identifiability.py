"""Task identifiability: how well the task can be told from 64 transitions, with and without their rewards.

Where the rewards add nothing, the task shows in the states alone (expert data), and no method can learn from these
data to infer a task from rewards.

It is told by distribution regression (Szabó et al., JMLR 2016), which is exact and takes seconds: a set of transitions
is described by the mean of random features of each, φ(x) = tanh(Wx + b), and kernel ridge regression maps descriptions
to tasks. The input x has each transition's state, action, change of state and reward, and the reward times each of
the others: where the reward is v·d, say, their correlation is what tells d, and a mean of the parts would lose it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs.shapes import Array, Float, Float32, Int

TRANSITIONS = 64
"""Transitions in a set."""

FEATURES = 256
"""Random features that describe a set."""

TRAIN_SETS = 1600
"""Sets to learn from, spread evenly over the tasks."""

TEST_SETS = 20
"""Sets to test on of each held-out task."""

WIDTH, RIDGE = 3.0, 0.03
"""Width of the Gaussian kernel, in medians of the squared distance; and the ridge. Between 1 and 3, and 0.01 and 0.1,
R² of the shipped datasets moves by a few hundredths."""

SPLITS = 5
"""Random splits of the tasks, 4/5 to learn from and 1/5 to test on; their R² is averaged."""

WORK = 4 * SPLITS
"""Regressions in all, which is what progress counts."""

WELL = 0.5
"""R², or share of right guesses beyond those by chance, from which on a task counts as told."""

LEAST_TASKS = 5
"""Tasks without which nothing is measured."""


@dataclass(frozen=True)
class Identifiability:
    """R² of the predicted task (``family.encode``) on tasks that were not learned from.

    1 is a perfect prediction, 0 is no better than always naming the mean of the held-out tasks, and less is worse.
    In the manipulation scenes, the share of right guesses of the aim (``aims.py``), ``chance`` of which are so blindly.

    The transitions of a set come from all of a task's data, or from one of its episodes; in the data of a good policy
    the states tell the task, in those of a poor one only the rewards can.
    """

    task_with_rewards: float
    task_without_rewards: float
    episode_with_rewards: float
    episode_without_rewards: float
    chance: float = 0.0

    @property
    def verdict(self) -> str:
        """What the figures mean for who learns from these data, in a sentence."""
        if np.isnan(self.task_with_rewards):
            return f"Not measured: that takes at least {LEAST_TASKS} tasks."
        pairs = (
            (self.task_with_rewards, self.task_without_rewards),
            (self.episode_with_rewards, self.episode_without_rewards),
        )
        known = np.maximum(np.array(pairs) - self.chance, 0) / (1 - self.chance)  # below chance is no knowledge at all
        gap, best = (known[:, 0] - known[:, 1]).max(), known[:, 0].max()
        if gap >= 0.1 and best >= WELL:
            return "The rewards tell what the states do not: these data can teach a method to infer the task from them."
        if gap >= 0.03:
            return "The rewards add a little to what the states tell: these data teach reward inference weakly."
        if known[0, 0] >= WELL:
            return "The states alone tell the task, the rewards add nothing: these data cannot teach reward inference."
        return "This reader cannot tell the task, with rewards or without."


def identifiability(dataset: Dataset, progress: Callable[[int], None] = lambda regressions: None) -> Identifiability:
    """Measure a dataset's task identifiability.

    Args:
        dataset: any dataset; with fewer than :data:`LEAST_TASKS` different tasks, all figures are NaN.
        progress: told of each regression that is done, of :data:`WORK`.
    """
    if len({task.params for task in dataset.tasks}) < LEAST_TASKS:  # CheetahDir lists its two tasks in each split
        return Identifiability(*[float("nan")] * 4)
    rows, by_task, by_episode = transitions(dataset)
    targets = dataset.family.encode(dataset.family.params(dataset.tasks))
    hidden = rows.copy()
    hidden[:, -1] = 0.0
    scores = []
    for groups in (by_task, by_episode):
        for seen in (rows, hidden):
            r2 = []
            for seed in range(SPLITS):
                r2.append(_score(seen, groups, targets, np.random.default_rng(seed)))
                progress(1)
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
    rows: Float32[Array, "S D"], groups: Groups, targets: Float[Array, "tasks E"], rng: np.random.Generator
) -> float:
    """Learn from four fifths of the tasks, and return R² on the others."""
    test, train = np.split(rng.permutation(len(groups)), [len(groups) // 5])
    features = random_features(2 * rows.shape[1] - 1, rng)

    def draw(tasks: Int[Array, " _"], sets: int) -> tuple[Float[Array, "B F"], Float[Array, "B E"]]:
        each = np.repeat(tasks, sets)
        chosen = [groups[task][rng.integers(len(groups[task]))] for task in each]
        places = [group[rng.integers(len(group), size=TRANSITIONS)] for group in chosen]
        return np.stack([features(rows[place]) for place in places]), targets[each]

    (x, y), (x_test, y_test) = draw(train, max(1, TRAIN_SETS // len(train))), draw(test, TEST_SETS)
    scale = targets[train].std(0) + 1e-6  # every number that describes a task weighs the same
    errors = (kernel_ridge(x, y, x_test) - y_test) / scale
    return 1.0 - float((errors**2).sum() / (((y_test - targets[test].mean(0)) / scale) ** 2).sum())


def random_features(width: int, rng: np.random.Generator) -> Callable[[Float32[Array, "M D"]], Float32[Array, " F"]]:
    """Draw W and b of F features; return the function that describes a set by the mean of tanh(Wx + b) over it.

    Args:
        width: size of the input x, a transition with the products: 2D - 1.
        rng: draws W and b.
    """
    weights = (rng.standard_normal((width, FEATURES)) / np.sqrt(width)).astype(np.float32)
    biases = rng.standard_normal(FEATURES).astype(np.float32)

    def describe(rows: Float32[Array, "M D"]) -> Float32[Array, " F"]:
        inputs = np.concatenate([rows, rows[:, -1:] * rows[:, :-1]], axis=1)
        described: Array = np.tanh(inputs @ weights + biases).mean(0)
        return described

    return describe


def kernel_ridge(x: Float[Array, "N F"], y: Float[Array, "N E"], x_test: Float[Array, "B F"]) -> Float[Array, "B E"]:
    """Predict y of ``x_test`` by ridge regression with a Gaussian kernel on standardised features."""
    mean, scale = x.mean(0), x.std(0) + 1e-6
    x, x_test = (x - mean) / scale, (x_test - mean) / scale
    near, far = _squared_distances(x, x), _squared_distances(x_test, x)
    width = WIDTH * np.median(near)
    kernel = np.exp(-near / width)
    kernel[np.diag_indices(len(x))] += RIDGE
    predicted: Array = y.mean(0) + np.exp(-far / width) @ np.linalg.solve(kernel, y - y.mean(0))
    return predicted


def _squared_distances(a: Float[Array, "A F"], b: Float[Array, "B F"]) -> Float[Array, "A B"]:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
