"""Task identifiability in the manipulation scenes: how well the aim can be told, with and without rewards.

The regression of other families (``identifiability.py``) finds nothing here, since what a reward means depends on the
scene. But the scene is observed, it allows few aims, and the reward of each follows from the recorded features. So the
best reader is known: with rewards, it guesses among the aims that would have paid what was paid; without, it guesses
the aim that would have paid best. It knows the reward function, which a method has yet to learn.
"""

from __future__ import annotations

import numpy as np

from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.identifiability import TEST_SETS, TRANSITIONS, Identifiability, transitions
from offlinemeta.envs.families.sawyer_layout import alternatives
from offlinemeta.envs.shapes import Array, Float

CLOSE = 1e-5
"""Difference of rewards, which are kept in float32, up to which they agree."""


def aim_identifiability(dataset: Dataset) -> Identifiability:
    """Measure the share of right guesses of the aim, from sets of transitions of each task of a dataset."""
    rng, shares = np.random.default_rng(0), np.empty((len(dataset.tasks), 4))
    _, by_task, by_episode = transitions(dataset)
    chances = []
    for place, task in enumerate(dataset.tasks):
        aims = np.array(alternatives(task.params))
        chances.append(1 / len(aims))
        right = (aims == task.params).all(1)
        for column, groups in enumerate((by_task[place], by_episode[place])):
            guesses = []
            for _ in range(TEST_SETS):
                rows = rng.choice(groups[rng.integers(len(groups))], TRANSITIONS)
                paid = dataset.family.reward(dataset.infos["features"][rows, None].astype(np.float64), aims)
                wrong = np.abs(paid - dataset.rewards[rows, None]).max(0)
                guesses.append([guess(-np.maximum(wrong, CLOSE), right), guess(paid.sum(0), right)])
            shares[place, 2 * column : 2 * column + 2] = np.mean(guesses, axis=0)
    return Identifiability(*(round(float(share), 3) for share in [*shares.mean(0), np.mean(chances)]))


def guess(values: Float[Array, " aims"], right: Array) -> float:
    """Return how probable the right aim is to be guessed, where one of those with the greatest value is."""
    best = values >= values.max() - 1e-9
    return float(best[right].sum() / best.sum())
