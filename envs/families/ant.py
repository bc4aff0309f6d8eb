"""AntDir and AntGoal: a four-legged ant walks in a hidden direction, or to a hidden goal.

Source: AntDir of the study (Pong et al., 2022, arXiv 2107.03974), AntGoal of PEARL (Rakelly et al., 2019). Departures:
no contact cost, since ``cfrc_ext`` was (nearly) zero in the builds that published results used; the survive bonus is
paid while healthy, where the study's code pays it in the last step too; the observation has no contact forces.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from offlinemeta.envs.families.plane import along, arrow, unit
from offlinemeta.envs.family import TASK_SEED, TaskFamily, box
from offlinemeta.envs.mujoco_family import STATE_LIMIT, MujocoFamily, Physics, State, join, speed, squared_norm
from offlinemeta.envs.render import Camera, Marker
from offlinemeta.envs.shapes import Array, Bool, Float, Float32
from offlinemeta.envs.task import Task


class Ant(MujocoFamily):
    """The parts that AntDir and AntGoal share: the body, the reset and the camera."""

    physics = Physics(
        asset="ant.xml",
        sha256="cd5f83ef0ea35b0969e65d360c5bacd5b74ccaef6b27e4433b5168c605e3e2be",
        timestep=0.01,
        frame_skip=5,
        integrator="RK4",
        solver="Newton",
        iterations=100,
    )
    varies = "reward"
    steps_per_second = 7e3
    action_space = box(-1, 1, 8)
    reset_noise = 0.1
    reset_velocity = "normal"
    camera = Camera(distance=8, azimuth=90, elevation=-50, body="torso", height=0.5)


class AntDir(Ant):
    """Walk in a hidden direction θ. Reward v_xy·(cos θ, sin θ) - 0.5‖a‖² + 1 while healthy.

    Options for the numbers of other papers, on the same tasks: ``variant="macaw"`` (Mitchell et al., 2021; Prompt-DT,
    Meta-DT) never ends an episode and pays the 1 in every step, fallen or not; its contact cost is zero, as it was in
    the builds that published results used. ``variant="corro"`` (Yuan and Lu, 2022; UNICORN) never ends an episode
    either, and its reward is v_xy·(cos θ, sin θ) alone.
    """

    name = "AntDir"
    summary = "an ant walks in a hidden direction"
    terminates = "torso height outside [0.2, 1.0] m"
    param_names = ("angle [rad]",)
    feature_names = ("velocity_x [m/s]", "velocity_y [m/s]", "‖action‖²", "healthy")
    info_names = ("progress",)
    observation_space = box(-STATE_LIMIT, STATE_LIMIT, 27)
    choices: Mapping[str, tuple[Any, ...]] = {"variant": (None, "macaw", "corro")}
    variant: str | None = None

    def configure(self) -> None:
        """Say that the variants never terminate."""
        self.terminates = TaskFamily.terminates

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw 120 angles, uniform in [0°, 360°): the first 100 train, the last 20 test."""
        angle = self.draw_params(120, np.random.RandomState(TASK_SEED))
        return {"train": angle[:100], "test": angle[100:], "ood": np.empty((0, 1))}

    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} 1"]:
        """Draw angles [rad], uniform in [0°, 360°)."""
        return np.deg2rad(rng.uniform(0, 360, (count, 1)))

    def observe(self, state: State) -> Float32[Array, "... O"]:
        """Return qpos[2:] and qvel."""
        return join(state.qpos[..., 2:], state.qvel)

    def terminated(self, state: State) -> Bool[Array, "..."]:
        """Tell where the torso is too low or too high; in the variants, nowhere."""
        if self.variant is not None:
            return super().terminated(state)
        z = state.qpos[..., 2]
        return (z < 0.2) | (z > 1.0)

    def features(
        self, before: State, actions: Float[Array, "... A"], after: State, ended: Bool[Array, "..."]
    ) -> Float32[Array, "... F"]:
        """Return the velocity in the plane, the squared action, and whether the ant is healthy."""
        velocity = speed(before.qpos[..., :2], after.qpos[..., :2], self.dt)
        return join(velocity, squared_norm(actions), ~ended[..., None])

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return v_xy·(cos θ, sin θ) - 0.5‖a‖² + 1 while healthy, or the variant's reward."""
        forward = along(features[..., :2], params[..., 0])
        if self.variant == "corro":
            return forward
        return forward - 0.5 * features[..., 2] + (features[..., 3] if self.variant is None else 1.0)

    def info(self, features: Float32[Array, "N F"], params: Float[Array, "N P"]) -> Mapping[str, Float32[Array, " N"]]:
        """Return the progress: the velocity of the torso along the wanted direction [m/s]."""
        return {"progress": along(features[:, :2], params[:, 0]).astype(np.float32)}

    def encode(self, params: Float[Array, "... P"]) -> Float32[Array, "... E"]:
        """Return (cos θ, sin θ) of the task's direction."""
        return unit(params[..., 0]).astype(np.float32)

    def markers(self, task: Task, time: float) -> tuple[Marker, ...]:
        """Return an arrow in the wanted direction."""
        return arrow(task.params[0], height=1.2, length=2.0)


class AntGoal(Ant):
    """Walk to a hidden goal. Reward -‖xy - g‖₁ - 0.1‖a‖²."""

    name = "AntGoal"
    summary = "an ant walks to a hidden goal"
    best_reward = 0.0
    param_names = ("goal_x [m]", "goal_y [m]")
    feature_names = ("x [m]", "y [m]", "‖action‖²")
    observation_space = box(-STATE_LIMIT, STATE_LIMIT, 29)

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw 130 goals, 100 train and 30 test; then 10 ood at 3.5 to 4.5 m."""
        rng = np.random.RandomState(TASK_SEED)
        goals = self.draw_params(130, rng)
        angle, radius = rng.uniform(0, 2 * np.pi, 10), rng.uniform(3.5, 4.5, 10)
        return {"train": goals[:100], "test": goals[100:], "ood": radius[:, None] * unit(angle)}

    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} 2"]:
        """Draw goals 3√u (cos θ, sin θ) [m], uniform in a disc: all θ before all u."""
        angle, radius = rng.uniform(0, 2 * np.pi, count), 3 * np.sqrt(rng.uniform(0, 1, count))
        return radius[:, None] * unit(angle)

    def observe(self, state: State) -> Float32[Array, "... O"]:
        """Return qpos and qvel."""
        return join(state.qpos, state.qvel)

    def features(
        self, before: State, actions: Float[Array, "... A"], after: State, ended: Bool[Array, "..."]
    ) -> Float32[Array, "... F"]:
        """Return the ant's position in the plane and the squared action."""
        return join(after.qpos[..., :2], squared_norm(actions))

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return -‖xy - g‖₁ - 0.1‖a‖²."""
        return -np.abs(features[..., :2] - params).sum(-1) - 0.1 * features[..., 2]

    def markers(self, task: Task, time: float) -> tuple[Marker, ...]:
        """Return a sphere at the goal."""
        return (Marker("sphere", (task.params[0], task.params[1], 0.3), size=0.3, rgba=(0.1, 0.6, 0.3, 0.8)),)
