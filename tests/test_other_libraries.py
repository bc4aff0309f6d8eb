"""The environments in other people's hands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from offlinemeta.envs import TaskVectorEnv


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_stable_baselines3_trains_without_an_adapter() -> None:
    from stable_baselines3 import PPO

    env = gym.make("OfflineMeta/CheetahVel-v0", task=3)
    model = PPO("MlpPolicy", env, n_steps=512, batch_size=128, n_epochs=2, seed=0, device="cpu")
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(total_timesteps=2048)
    assert model.num_timesteps == 2048
    after = list(model.policy.parameters())
    assert any(not a.equal(b) for a, b in zip(after, before, strict=True))
    returns = [episode["r"] for episode in model.ep_info_buffer]
    assert len(returns) == 2048 // 200
    assert np.isfinite(returns).all()
    env.close()


def test_gymnasium_s_vector_wrappers_and_async_envs() -> None:
    envs = gym.wrappers.vector.RecordEpisodeStatistics(TaskVectorEnv("PointRobot", num_envs=3))
    envs.reset(seed=0)
    for _ in range(20):
        *_, info = envs.step(np.zeros((3, 2)))
    assert info["episode"]["l"].tolist() == [20, 20, 20]
    envs.close()
    context = {"context": "spawn"}
    apart = gym.make_vec("OfflineMeta/CheetahVel-v0", num_envs=2, vectorization_mode="async", vector_kwargs=context)
    together = gym.make_vec("OfflineMeta/CheetahVel-v0", num_envs=2, task=0)
    assert np.array_equal(apart.reset(seed=0)[0], together.reset(seed=0)[0])
    actions = np.full((2, 6), 0.2, dtype=np.float32)
    assert np.array_equal(apart.step(actions)[0], together.step(actions)[0])
    apart.close()
    together.close()


@pytest.mark.parametrize("name", ["reach", "pick-place", "drawer-open"])
def test_ml1_is_meta_world_s_own_task_and_reward_version_2(name: str) -> None:
    """Meta-World's class, with the task objects of its own ML1, beside our env of the frozen task."""
    import metaworld

    benchmark = metaworld.ML1(f"{name}-v3", seed=1337)
    theirs = metaworld.ALL_V3_ENVIRONMENTS[f"{name}-v3"](reward_function_version="v2")
    for split, tasks in (("train", benchmark.train_tasks), ("test", benchmark.test_tasks)):
        ours = gym.make(f"OfflineMeta/ML1-{name}-v0", split=split, task=7)
        theirs.set_task(tasks[7])
        expected, _ = theirs.reset()
        observation, _ = ours.reset(seed=0)
        assert observation == pytest.approx(expected, abs=1e-6)
        assert (observation[-3:] == 0).all()  # the goal is hidden
        for action in np.random.default_rng(0).uniform(-1, 1, (40, 4)).astype(np.float32):
            expected, reward, _, _, info = theirs.step(action)
            observation, our_reward, _, _, our_info = ours.step(action)
            assert observation == pytest.approx(expected, abs=1e-6)
            assert our_reward == pytest.approx(reward)
            assert our_info["success"] == info["success"]
        ours.close()
    theirs.close()


def test_minari_recovers_the_environment_of_a_dataset_without_importing_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import minari
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = gym.make("OfflineMeta/CheetahVel-v0", split="test", task=5)
    observation, _ = env.reset(seed=0)
    actions = np.zeros((3, 6), dtype=np.float32)
    steps = [env.step(action) for action in actions]
    buffer = EpisodeBuffer(
        observations=np.stack([observation, *(step[0] for step in steps)]),
        actions=actions,
        rewards=[step[1] for step in steps],
        terminations=[step[2] for step in steps],
        truncations=[step[3] for step in steps],
        infos={"features": np.zeros((4, 2), dtype=np.float32)},
    )
    name = "OfflineMeta/CheetahVel/recovery-v0"
    facts = {
        "algorithm_name": "none",
        "author": "us",
        "author_email": "a@b.c",
        "code_permalink": "x",
        "description": "x",
    }
    minari.create_dataset_from_buffers(name, [buffer], env=env, eval_env=env, **facts)
    env.close()
    code = f"import minari; d = minari.load_dataset({name!r}); e = d.recover_environment(); "
    code += "print(e.unwrapped.get_task().split, e.unwrapped.get_task().index, e.spec.max_episode_steps, end=' '); "
    code += "print(d.recover_environment(task=2).unwrapped.get_task().index)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["test", "5", "200", "2"], done.stderr
