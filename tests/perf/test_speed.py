"""What one step of each kind costs: ``make bench``, which keeps the figures and compares them with the last ones.

A fixture measures one thing at a time, so figures of two sessions differ as the machine does; where it matters, the
scripts beside this file measure contenders in turn. ``make test`` does not come here, and the shape checks of the other
tests, which cost time, must be off (``--confcutdir=tests/perf``).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from offlinemeta import datasets
from offlinemeta.benchmark import metrics
from offlinemeta.datasets import storage
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs import TaskFamily

if hasattr(TaskFamily.reward, "__wrapped__"):
    pytest.skip("Shape checks are on, which cost time. Measure with: make bench", allow_module_level=True)

from offlinemeta.baselines.registry import METHODS, learner_class, make_config

ENVS = ("PointRobot", "CheetahVel", "AntDir", "HumanoidDir", "WalkerParam", "HopperParam", "ML1-reach")
NUM_ENVS = 64
DATASET = "CheetahVel/smac"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    """120,000 transitions, built in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("datasets")))
        patch.delenv("MINARI_REMOTE", raising=False)
        datasets.build(DATASET)
        yield datasets.load(DATASET)


def touch(dataset: Dataset) -> float:
    """Read all of it: arrays are mapped, and come from the disk when they are looked at."""
    return float(sum(np.asarray(array).view(np.uint8).reshape(-1)[::4096].sum() for array in dataset.arrays().values()))


# --- importing


@pytest.mark.benchmark(group="import")
@pytest.mark.parametrize(
    "what", ["offlinemeta", "offlinemeta.cli", "offlinemeta.datasets.loading", "offlinemeta.baselines.pearl"]
)
def test_import(benchmark: Any, what: str) -> None:
    """In a process of its own, whose start (a tenth of a second perhaps) is part of the figure."""
    command = [sys.executable, "-c", f"import {what}"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=5, warmup_rounds=1)


# --- environments


@pytest.mark.benchmark(group="env: 50 steps of one")
@pytest.mark.parametrize("name", ENVS)
def test_env_step(benchmark: Any, name: str) -> None:
    """A single environment with random actions; resets are included where episodes end."""
    env = gym.make(f"OfflineMeta/{name}-v0")
    env.reset(seed=0)
    plan = np.random.default_rng(0).uniform(-1, 1, (50, *env.action_space.shape)).astype(np.float32)

    def steps() -> None:
        for action in plan:
            *_, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    benchmark.extra_info["steps"] = len(plan)
    benchmark(steps)
    env.close()


@pytest.mark.benchmark(group="env: one step of a batch of 64")
@pytest.mark.parametrize("name", ENVS)
def test_batch_step(benchmark: Any, name: str) -> None:
    """64 environments, each with a task of its own, on all cores."""
    envs = gym.make_vec(f"OfflineMeta/{name}-v0", num_envs=NUM_ENVS)
    envs.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, envs.action_space.shape).astype(np.float32)
    benchmark.extra_info["steps"] = NUM_ENVS
    benchmark(envs.step, actions)
    envs.close()


# --- datasets


@pytest.mark.benchmark(group="dataset")
def test_first_load(benchmark: Any, dataset: Dataset) -> None:
    """From Minari's files, with the writing of the flat copy."""
    flat = storage.ours("flat")
    assert flat.exists()
    benchmark.pedantic(
        lambda: touch(datasets.load(DATASET)), setup=lambda: shutil.rmtree(flat, ignore_errors=True), rounds=5
    )


@pytest.mark.benchmark(group="dataset")
def test_load(benchmark: Any, dataset: Dataset) -> None:
    """Again, from the flat copy, its hash checked."""
    benchmark(lambda: touch(datasets.load(DATASET)))


@pytest.mark.benchmark(group="dataset")
def test_label(benchmark: Any, dataset: Dataset) -> None:
    """All transitions, for ten other tasks."""
    benchmark(datasets.label, dataset, dataset.family.tasks["test"][:10])


# --- learning and statistics


@pytest.mark.benchmark(group="gradient step")
@pytest.mark.parametrize("name", METHODS)
def test_gradient_step(benchmark: Any, name: str, dataset: Dataset) -> None:
    """The default preset's first phase, one thread."""
    import torch

    torch.set_num_threads(1)
    learner = learner_class(name)(make_config(name), dataset.family, torch.Generator().manual_seed(0))
    learner.load(dataset)
    benchmark.pedantic(learner.update, rounds=30, warmup_rounds=3)


@pytest.mark.benchmark(group="statistics")
@pytest.mark.parametrize("statistic", [metrics.iqm, metrics.mean])
def test_an_interval(benchmark: Any, statistic: Callable[[np.ndarray], float]) -> None:
    """The interval of one point of a curve: 5 seeds, 30 tasks."""
    scores = np.random.default_rng(0).normal(50, 20, (5, 30))
    benchmark(metrics.interval, scores, statistic)
