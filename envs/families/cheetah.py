"""CheetahVel, CheetahDir, CheetahGear: a planar cheetah runs at a hidden speed, in a hidden direction, or with hidden
gears.

Source of CheetahVel and CheetahDir: the definitions of MAML and PEARL, in the study's numbers (Pong et al., 2022, arXiv
2107.03974). Departures: none in the reward; velocities are finite differences over one env step. CheetahGear is this
suite's own: a family of hidden dynamics in which adapting is worth much, which WalkerParam and HopperParam are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from offlinemeta.envs.families.plane import ORANGE, arrow
from offlinemeta.envs.family import FRESH_LISTS, TASK_SEED, box
from offlinemeta.envs.mujoco_family import STATE_LIMIT, MujocoFamily, Physics, State, join, speed, squared_norm
from offlinemeta.envs.render import Camera, Marker
from offlinemeta.envs.shapes import Array, Bool, Float, Float32
from offlinemeta.envs.task import Task

if TYPE_CHECKING:
    import mujoco

TORSO_HEIGHT = 0.7
"""Height of the torso at qpos = 0 [m]."""

GEARS = (0.5, 1.5)
"""The range of abs(factor) of a gear in train and test tasks."""

OOD_GEARS = (1.5, 2.0)
"""The range of abs(factor) of a gear in ood tasks."""


class Cheetah(MujocoFamily):
    """The parts that the cheetah families share: the body, the observation and the features."""

    physics = Physics(
        asset="half_cheetah.xml",
        sha256="11797a5d69e8ac955e89ca6fdd3a0087f1c990094fda401ac51420de1b6c5494",
        timestep=0.01,
        frame_skip=5,
        integrator="Euler",
        solver="Newton",
        iterations=100,
    )
    varies: Literal["reward", "dynamics"] = "reward"
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
    """Run at a hidden speed. Reward -abs(v_x - v*) - 0.05‖a‖².

    The published observation has the absolute x, which gives away how fast the cheetah has run so far. The option
    ``position=False`` leaves it out, and the height, which is there twice. The option ``variant="macaw"`` has the forty
    speeds of MACAW (Mitchell et al., 2021), which Prompt-DT and Meta-DT use too: 0.075, 0.15, ..., 3 m/s, of which
    those with index 2, 7, 15, 23 and 26 are for testing.
    """

    name = "CheetahVel"
    summary = "a cheetah runs at a hidden speed"
    best_reward = 0.0
    param_names = ("velocity [m/s]",)
    choices: Mapping[str, tuple[Any, ...]] = {"position": (True, False), "variant": (None, "macaw")}
    position: bool = True
    variant: str | None = None

    def configure(self) -> None:
        """Shorten the observation where it has no position."""
        if not self.position:
            self.observation_space = box(-STATE_LIMIT, STATE_LIMIT, 17)

    def choose_tasks(self, params: Mapping[str, Float[Array, "_ P"]]) -> Mapping[str, Float[Array, "_ P"]]:
        """Return the variant's speeds, of which none is beyond the range of training."""
        if self.variant is None:
            return params
        velocity, test = 0.075 * np.arange(1, 41)[:, None], [2, 7, 15, 23, 26]
        none = {split: np.empty((0, 1)) for split in params}
        return none | {"train": np.delete(velocity, test, axis=0), "test": velocity[test]}

    def observe(self, state: State) -> Float32[Array, "... O"]:
        """Return qpos[1:], qvel and, by default, the torso's position xyz [m]."""
        return super().observe(state) if self.position else join(state.qpos[..., 1:], state.qvel)

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


class CheetahGear(Cheetah):
    """Run forward with six hidden gears, each weaker or stronger and perhaps reversed. Reward v_x - 0.05‖a‖²."""

    name = "CheetahGear"
    summary = "a cheetah runs forward with hidden gears, some of them reversed"
    varies = "dynamics"
    param_names = tuple(f"gear[{i}]" for i in range(6))

    def draw_params(
        self, count: int, rng: np.random.RandomState, sizes: tuple[float, float] = GEARS
    ) -> Float[Array, "{count} P"]:
        """Draw the factors of ``count`` tasks: abs(factor) uniform in ``sizes``, then as many random signs."""
        size = rng.uniform(*sizes, (count, 6))
        return size * rng.choice([-1.0, 1.0], (count, 6))

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw 130 tasks with abs(factor) in [0.5, 1.5], 100 train and 30 test; then 10 ood with it in [1.5, 2]."""
        rng = np.random.RandomState(TASK_SEED)
        inside = self.draw_params(130, rng)
        return {"train": inside[:100], "test": inside[100:], "ood": self.draw_params(10, rng, OOD_GEARS)}

    def apply(self, params: Sequence[float], model: mujoco.MjModel) -> None:
        """Multiply the actuators' gears by a task's factors."""
        model.actuator_gear[:, 0] *= params

    def told_actions(self, actions: Float[Array, "N A"], params: Float[Array, "N P"]) -> Float[Array, "N A"]:
        """Reverse the actions whose gears are reversed."""
        return actions * np.sign(params)

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return v_x - 0.05‖a‖², whatever the task."""
        return features[..., 0] - 0.05 * features[..., 1] + np.zeros(params.shape[:-1])
