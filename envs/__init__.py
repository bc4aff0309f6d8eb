"""Task families as Gymnasium environments: one definition, one frozen task list, one meaning of "done" per family.

>>> import gymnasium as gym
>>> import offlinemeta
>>> env = gym.make("OfflineMeta/CheetahVel-v0", split="test", task=2)
>>> observation, info = env.reset(seed=0)
>>> observation, info = env.reset(options={"task": 5})
"""

from offlinemeta.envs.env import TaskEnv
from offlinemeta.envs.errors import OfflineMetaError, ReferenceWarning
from offlinemeta.envs.family import TaskFamily
from offlinemeta.envs.registry import FAMILIES, env_id, get_family
from offlinemeta.envs.task import SPLITS, Task
from offlinemeta.envs.vector import TaskVectorEnv
from offlinemeta.envs.wrappers import MetaEpisode, TaskObservation, VectorTaskObservation

__all__ = [
    "FAMILIES",
    "SPLITS",
    "MetaEpisode",
    "OfflineMetaError",
    "ReferenceWarning",
    "Task",
    "TaskEnv",
    "TaskFamily",
    "TaskObservation",
    "TaskVectorEnv",
    "VectorTaskObservation",
    "env_id",
    "get_family",
]
