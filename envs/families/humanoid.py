"""HumanoidDir and HumanoidWalk: a humanoid walks in a hidden direction.

Source of HumanoidDir: the study (Pong et al., 2022, arXiv 2107.03974) and PEARL. Departures: no contact cost
(``cfrc_ext`` was zero in the builds used); 45 observations instead of 376, since the others are functions of these 45.
The factor 1.25 is the study's 0.25 / model timestep (0.003 s) × dt (0.015 s).

HumanoidWalk is this suite's own: most of HumanoidDir's return is paid for not falling, whatever the direction.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from offlinemeta.envs.families.plane import along, arrow, unit
from offlinemeta.envs.family import TASK_SEED, box
from offlinemeta.envs.mujoco_family import STATE_LIMIT, MujocoFamily, Physics, State, join, speed, squared_norm
from offlinemeta.envs.render import Camera, Marker
from offlinemeta.envs.shapes import Array, Bool, Float, Float32
from offlinemeta.envs.task import Task

CONTROL_RANGE = 0.4
"""The control that an action of 1 stands for; the cost is computed from the control."""


class HumanoidDir(MujocoFamily):
    """Walk in a hidden direction θ. Reward 1.25 v_com·(cos θ, sin θ) - 0.1‖ctrl‖² + 5."""

    name = "HumanoidDir"
    summary = "a humanoid walks in a hidden direction"
    varies = "reward"
    steps_per_second = 5e3
    terminates = "torso height outside [1, 2] m"
    physics = Physics(
        asset="humanoid.xml",
        sha256="85816f372c826d2094b4a598918233bd9c5843b2439119eece2733bdc2e0d073",
        timestep=0.003,
        frame_skip=5,
        integrator="RK4",
        solver="PGS",
        iterations=50,
    )
    param_names = ("angle [rad]",)
    feature_names = ("com_velocity_x [m/s]", "com_velocity_y [m/s]", "‖control‖²")
    info_names = ("progress",)
    observation_space = box(-STATE_LIMIT, STATE_LIMIT, 45)
    action_space = box(-1, 1, 17)
    reset_noise = 0.01
    reset_velocity = "uniform"
    tracked_body = "torso"  # the root: its subtree is the whole body
    camera = Camera(distance=5, azimuth=90, elevation=-20, body="torso", height=1.0)
    survival = 5.0
    """The part of each step's reward that is paid for not having fallen."""

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw 70 angles, uniform in [0, 2π): the first 50 train, the last 20 test."""
        angle = self.draw_params(70, np.random.RandomState(TASK_SEED))
        return {"train": angle[:50], "test": angle[50:], "ood": np.empty((0, 1))}

    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} 1"]:
        """Draw angles, uniform in [0, 2π) rad."""
        return rng.uniform(0, 2 * np.pi, (count, 1))

    def observe(self, state: State) -> Float32[Array, "... O"]:
        """Return qpos[2:] and qvel."""
        return join(state.qpos[..., 2:], state.qvel)

    def terminated(self, state: State) -> Bool[Array, "..."]:
        """Tell where the torso is too low or too high."""
        z = state.qpos[..., 2]
        return (z < 1.0) | (z > 2.0)

    def features(
        self, before: State, actions: Float[Array, "... A"], after: State, ended: Bool[Array, "..."]
    ) -> Float32[Array, "... F"]:
        """Return the velocity of the centre of mass in the plane, and the squared control."""
        velocity = speed(before.com[..., :2], after.com[..., :2], self.dt)
        return join(velocity, squared_norm(CONTROL_RANGE * actions))

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return 1.25 v_com·(cos θ, sin θ) - 0.1‖ctrl‖² and the survival bonus."""
        return 1.25 * along(features[..., :2], params[..., 0]) - 0.1 * features[..., 2] + self.survival

    def info(self, features: Float32[Array, "N F"], params: Float[Array, "N P"]) -> Mapping[str, Float32[Array, " N"]]:
        """Return the progress: the velocity of the centre of mass along the wanted direction [m/s]."""
        return {"progress": along(features[:, :2], params[:, 0]).astype(np.float32)}

    def encode(self, params: Float[Array, "... P"]) -> Float32[Array, "... E"]:
        """Return (cos θ, sin θ) of the task's direction."""
        return unit(params[..., 0]).astype(np.float32)

    def markers(self, task: Task, time: float) -> tuple[Marker, ...]:
        """Return an arrow in the wanted direction."""
        return arrow(task.params[0], height=2.0, length=1.2)


class HumanoidWalk(HumanoidDir):
    """Walk in a hidden direction θ, paid little for standing. Reward 1.25 v_com·(cos θ, sin θ) - 0.1‖ctrl‖² + 1."""

    name = "HumanoidWalk"
    summary = "a humanoid walks in a hidden direction, paid little for standing"
    survival = 1.0

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw 130 angles, others than HumanoidDir's: the first 100 train, the last 30 test."""
        angle = self.draw_params(130, np.random.RandomState(TASK_SEED + 1))
        return {"train": angle[:100], "test": angle[100:], "ood": np.empty((0, 1))}
