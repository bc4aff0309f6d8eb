"""The environments in other people's hands."""

from __future__ import annotations

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
