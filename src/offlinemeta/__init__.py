"""offlinemeta: a benchmark suite for offline meta-reinforcement learning.

Importing this package registers the task families with Gymnasium::

    import gymnasium as gym
    import offlinemeta

    env = gym.make("OfflineMeta/AntDir-v0", split="train", task=3)
    envs = gym.make_vec("OfflineMeta/AntDir-v0", num_envs=64)

The import takes under half a second: mujoco, metaworld, torch and matplotlib are imported where they are used.
"""

from offlinemeta.envs import registry

__version__ = "0.1.0"

registry.register_envs()
