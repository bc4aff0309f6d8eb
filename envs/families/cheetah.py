"""CheetahVel and CheetahDir: a planar cheetah runs at a hidden speed, or in a hidden direction.

Source: the definitions of MAML and PEARL, in the study's numbers (Pong et al., 2022, arXiv 2107.03974). Departures:
none in the reward; velocities are finite differences over one env step.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from offlinemeta.envs.families.plane import ORANGE, arrow
from offlinemeta.envs.family import FRESH_LISTS, TASK_SEED, box
from offlinemeta.envs.mujoco_family import STATE_LIMIT, MujocoFamily, Physics, State, join, speed, squared_norm
from offlinemeta.envs.render import Camera, Marker
from offlinemeta.envs.shapes import Array, Bool, Float, Float32
from offlinemeta.envs.task import Task

TORSO_HEIGHT = 0.7
"""Height of the torso at qpos = 0 [m]."""


class Cheetah(MujocoFamily):
    """The parts that CheetahVel and CheetahDir share: the body, the observation and the features."""

    physics = Physics(
        asset="half_cheetah.xml",
        sha256="11797a5d69e8ac955e89ca6fdd3a0087f1c990094fda401ac51420de1b6c5494",
        timestep=0.01,
        frame_skip=5,
        integrator="Euler",
        solver="Newton",
        iterations=100,
    )
    varies = "reward"
    steps_per_second = 4e4
    feature_names = ("velocity_x [m/s]", "‖action‖²")
    observation_space = box(-STATE_LIMIT, STATE_LIMIT, 20)
    action_space = box(-1, 1, 6)
    reset_noise = 0.1
    reset_velocity = "normal"
    camera = Camera(distance=4.5, azimuth=90, elevation=-12, body="torso", height=0.6)

    def observe(self, state: State) -> Float32[Array, "... O"]:
        """Return qpos[1:], qvel and the torso's position xyz [m]; the study's definition includes the absolute x."""
        x, z = state.qpos[..., :1], TORSO_HEIGHT + state.qpos[..., 1:2]
        return join(state.qpos[..., 1:], state.qvel, x, np.zeros_like(x), z)

    def features(
        self, before: State, actions: Float[Array, "... A"], after: State, ended: Bool[Array, "..."]
    ) -> Float32[Array, "... F"]:
        """Return the forward velocity and the squared action."""
        return join(speed(before.qpos[..., :1], after.qpos[..., :1], self.dt), squared_norm(actions))


class CheetahVel(Cheetah):
    """Run at a hidden speed. Reward -abs(v_x - v*) - 0.05‖a‖²."""

    name = "CheetahVel"
    summary = "a cheetah runs at a hidden speed"
    param_names = ("velocity [m/s]",)

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw 130 speeds, uniform in [0, 3] m/s: the first 100 train, the last 30 test; ood is 3.1, 3.2, ..., 4."""
        velocity = self.draw_params(130, np.random.RandomState(TASK_SEED))
        return {"train": velocity[:100], "test": velocity[100:], "ood": np.linspace(3.1, 4, 10)[:, None]}

    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} 1"]:
        """Draw speeds, uniform in [0, 3] m/s."""
        return rng.uniform(0, 3, (count, 1))

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return -abs(v_x - v*) - 0.05‖a‖²."""
        return -np.abs(features[..., 0] - params[..., 0]) - 0.05 * features[..., 1]

    def markers(self, task: Task, time: float) -> tuple[Marker, ...]:
        """Return a sphere that runs ahead at the wanted speed, as a pacemaker."""
        pace = (task.params[0] * time, 0.6, 1.4)
        return (Marker("sphere", pace, size=0.12, rgba=ORANGE),)


class CheetahDir(Cheetah):
    """Run forward or backward, which is hidden. Reward d·v_x - 0.05‖a‖²."""

    name = "CheetahDir"
    summary = "a cheetah runs in a hidden direction, forward or backward"
    param_names = ("direction",)

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Return both directions, for training and for testing."""
        both = np.array([[1.0], [-1.0]])
        return {"train": both, "test": both, "ood": np.empty((0, 1))}

    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} 1"]:
        """Draw directions, 1 or -1."""
        return rng.choice([1.0, -1.0], (count, 1))

    def draw_lists(self) -> Mapping[str, Float[Array, "tasks 1"]]:
        """Return the published tasks; there are no others, so ``val`` and ``test100`` are both directions too."""
        drawn = self.draw_tasks()
        return {**drawn, **dict.fromkeys(FRESH_LISTS, drawn["test"])}

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return d·v_x - 0.05‖a‖²."""
        return params[..., 0] * features[..., 0] - 0.05 * features[..., 1]

    def markers(self, task: Task, time: float) -> tuple[Marker, ...]:
        """Return an arrow in the wanted direction."""
        return arrow(0.0 if task.params[0] > 0 else np.pi, height=1.4, length=1.0, y=0.6)
