"""Explorers: the numpy stages are the networks that were trained; posterior sampling finds tasks by their rewards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offlinemeta import datasets
from offlinemeta.benchmark.context import Context
from offlinemeta.datasets.collect import candidates, collect, in_batches, visit
from offlinemeta.datasets.dataset import Episode
from offlinemeta.datasets.explorers import ONLINE, PosteriorSampler, has_stages, stages
from offlinemeta.datasets.policies import behaviours
from offlinemeta.datasets.references import read_references
from offlinemeta.datasets.spec import get_spec
from offlinemeta.envs import Task, TaskFamily, get_family
from offlinemeta.envs.errors import UnknownNameError
from offlinemeta.envs.shapes import Array

SHIPPED = sorted(path.stem for path in ONLINE.glob("*.safetensors"))


def random_visit(family: TaskFamily, tasks: tuple[Task, ...], rollouts: int = 1) -> list[list[Episode]]:
    """Visit tasks with a stage that explores: the episodes of each task."""
    for _, envs in in_batches(family, len(tasks)):
        rolled = visit(envs, tasks, stages(family)[-1], "x" * rollouts, np.random.default_rng(0))
    return [[episode for rollout in rolled for episode in rollout[i]] for i in range(len(tasks))]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_stage_is_the_network_that_was_trained(name: str) -> None:
    """Posterior and actions of numpy's float64 are those of the learner's float32."""
    import torch

    from offlinemeta.baselines.training.stages import load_stage

    family = get_family(name)
    tasks = family.tasks["train"][:2]
    seen = random_visit(family, tasks)
    contexts = [as_context(episodes) for episodes in seen]
    for place in (0, 9):
        ours, theirs = stages(family)[place], load_stage(ONLINE / f"{name}.safetensors", family, place + 1)[0]
        posterior = theirs.infer(contexts)  # type: ignore[attr-defined]
        for i, episodes in enumerate(seen):
            mean, variance = ours.infer(episodes)
            assert mean == pytest.approx(posterior.mean[i].numpy(), rel=1e-3, abs=1e-3)
            assert variance == pytest.approx(posterior.variance[i].numpy(), rel=1e-3)
        observations = np.concatenate([episodes[0].observations[:15] for episodes in seen])
        z = np.random.default_rng(1).standard_normal((len(observations), ours.latent))
        act = ours._policy(z, np.zeros_like(z))  # z is known
        with torch.no_grad():
            normalised = theirs.normaliser(torch.as_tensor(observations))  # type: ignore[attr-defined]
            normal = theirs.actor(torch.cat([normalised, torch.as_tensor(z, dtype=torch.float32)], 1))  # type: ignore[attr-defined]
        draws = np.stack([act(observations, np.empty((len(z), 0)), np.random.default_rng(s)) for s in range(200)])
        u = np.arctanh(np.clip(draws, -0.9999, 0.9999))
        inside = np.abs(normal.mean.numpy()) + 3 * normal.log_std.exp().numpy() < 4  # where tanh can be undone
        std = normal.log_std.exp().numpy()
        assert inside.mean() > 0.2
        assert (np.abs(u.mean(0) - normal.mean.numpy()) / std)[inside].max() < 6 / np.sqrt(200)
        assert np.median((u.std(0) / std)[inside]) == pytest.approx(1, abs=0.06)


def as_context(episodes: list[Episode]) -> Context:
    """Return whole episodes as what an agent has seen."""

    def joined(name: str) -> Array:
        return np.concatenate([getattr(episode, name) for episode in episodes])

    return Context(
        observations=np.concatenate([episode.observations[:-1] for episode in episodes]),
        actions=joined("actions"),
        rewards=joined("rewards"),
        next_observations=np.concatenate([episode.observations[1:] for episode in episodes]),
        terminations=joined("terminations"),
        lengths=np.array([len(episode) for episode in episodes]),
    )


def test_z_is_drawn_anew_at_every_step() -> None:
    """The same observation twice: other actions, even of a stage whose own noise is taken away."""
    family = get_family("CheetahVel")
    stage = stages(family)[-1]
    (weight, bias), size = stage.actor[-1], family.action_space.shape[0]
    calm = bias.copy()
    calm[size:] = -1e9  # no noise of actions
    quiet = replace(stage, actor=(*stage.actor[:-1], (weight, calm)))
    act, rng = quiet.explore(family.tasks["train"][:3]), np.random.default_rng(0)
    observations, none = np.zeros((3, 20), dtype=np.float32), np.empty((3, 1))
    assert np.abs(act(observations, none, rng) - act(observations, none, rng)).max() > 0.01
    told = quiet.exploit(family.tasks["train"][:3], random_visit(family, family.tasks["train"][:3]), rng)
    spread = np.stack([told(observations, none, rng) for _ in range(50)]).std(0).mean()
    assert spread < 0.5 * np.stack([act(observations, none, rng) for _ in range(50)]).std(0).mean()


@pytest.mark.parametrize("name", ["CheetahVel", "AntDir", "PointRobot"])
def test_posterior_sampling_finds_a_training_task_by_its_rewards(name: str) -> None:
    family = get_family(name)
    sampler, tasks = PosteriorSampler(family, behaviours(family)[5]), family.tasks["train"][3:7]
    assert family.rewards_tell
    for _, envs in in_batches(family, 4):
        (rolled,) = visit(envs, tasks, sampler, "x", np.random.default_rng(0))
    rng = np.random.default_rng(1)
    assert [sampler.infer(episodes, rng) for episodes in rolled] == list(tasks)
    for (*others, last), task in zip(rolled, tasks, strict=True):  # what a divergence is charged says nothing of a task
        charged, diverged = last.rewards.copy(), np.zeros(len(last), np.float32)
        charged[-1], diverged[-1] = -1e4, 1.0
        broken = replace(last, rewards=charged, infos={**last.infos, "diverged": diverged})
        assert sampler.infer([*others, broken], rng) == task


def test_posterior_sampling_breaks_ties_at_random_and_takes_the_nearest_task() -> None:
    """Without a reward seen, all goals are as likely; a goal between the training tasks' has a neighbour."""
    sparse = get_family("SparsePointRobot")
    sampler, (task, *_) = PosteriorSampler(sparse, behaviours(sparse)[0]), sparse.tasks["train"]
    still = Episode(
        task=task,
        behaviour=0,
        seed=0,
        observations=np.zeros((21, 2), np.float32),
        actions=np.zeros((20, 2), np.float32),
        rewards=np.zeros(20, np.float32),
        terminations=np.zeros(20, bool),
        truncations=np.arange(20) == 19,
        infos={"features": np.zeros((20, 2), np.float32), "diverged": np.zeros(20, np.float32)},
    )
    drawn = {sampler.infer([still], np.random.default_rng(seed)) for seed in range(200)}
    assert len(drawn) > 40
    cheetah = get_family("CheetahVel")
    other = PosteriorSampler(cheetah, behaviours(cheetah)[5])
    for _, envs in in_batches(cheetah, 5):
        (rolled,) = visit(envs, cheetah.tasks["test"][:5], other, "x", np.random.default_rng(0))
    speeds = cheetah.params(cheetah.tasks["train"])[:, 0]
    for held_out, episodes in zip(cheetah.tasks["test"], rolled, strict=False):
        found = other.infer(episodes, np.random.default_rng(0)).params[0]
        assert abs(found - held_out.params[0]) <= 2 * np.abs(speeds - held_out.params[0]).min() + 0.02


def test_where_rewards_do_not_tell_the_policy_is_told_its_task() -> None:
    for name in ("HopperParam", "ML1-reach"):
        assert not get_family(name).rewards_tell
    family = get_family("HopperParam")
    sampler, tasks = PosteriorSampler(family, behaviours(family)[5]), family.tasks["test"][:3]
    observations = np.tile(np.linspace(-0.5, 0.5, 11, dtype=np.float32), (3, 1))
    act = sampler.exploit(tasks, [[]] * 3, np.random.default_rng(0))
    own = behaviours(family)[5].act(observations, family.params(tasks), None)
    assert np.array_equal(act(observations, np.empty((3, 0)), None), own)


def test_who_collects() -> None:
    """Stages where they get far enough; else posterior sampling, of which there is no history."""
    cheetah, ant = get_family("CheetahVel"), get_family("AntDir")
    agents, returns = candidates(cheetah, read_references("CheetahVel"))
    assert [agent.name for agent in agents] == [f"PEARL, {4 * i}k steps" for i in range(1, 11)]
    assert len(returns) == 10
    assert isinstance(candidates(ant, read_references("AntDir"))[0][0], PosteriorSampler)
    assert not has_stages("AntDir")
    with pytest.raises(UnknownNameError, match="Dataset of AntDir 'replay-v1'"):
        get_spec("AntDir/replay")


def test_a_visit_explores_first_and_its_rollouts_are_marked(here: Path) -> None:
    dataset = datasets.load("PointRobot/smac")
    kinds = np.array([name.rpartition(", ")[2] for name in dataset.behaviours])[dataset.behaviour]
    own = dataset.task == 7
    assert kinds[own].tolist() == ["exploring"] * 3 + ["exploiting"] * 3
    returns = dataset.returns()
    assert returns[kinds == "exploiting"].mean() > returns[kinds == "exploring"].mean() + 3
    replay = collect(get_spec("PointRobot/replay"))
    named = np.array(replay.behaviours)[replay.behaviour[replay.task == 3]]
    assert [name.rpartition(", ")[2] for name in named] == ["exploring", "exploiting"] * 20
    assert len(set(named)) == 20
    assert [name.partition(", ")[0] for name in named] == ["PEARL"] * 40
