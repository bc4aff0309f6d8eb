"""PointRobot, SparsePointRobot and RotatedPointRobot: a point in the plane that walks to a hidden goal, or to a known
one while its actions are turned by a hidden angle.

Source of the first two: PEARL (Rakelly et al., 2019, arXiv 1903.08254). RotatedPointRobot is this suite's own: the
smallest family of hidden dynamics, in which nothing can be done without adapting.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from offlinemeta.envs.families.plane import ORANGE, unit
from offlinemeta.envs.family import TASK_SEED, TaskFamily, Transition, box
from offlinemeta.envs.render import Camera, Marker, View
from offlinemeta.envs.shapes import Array, Float, Float32
from offlinemeta.envs.task import Task

if TYPE_CHECKING:
    import mujoco

STEP = 0.1
"""The distance that an action of length 1 covers [m]."""

GREEN = (0.1, 0.6, 0.3, 1.0)

SCENE = """
<mujoco model="point robot">
  <visual><headlight ambient=".5 .5 .5"/></visual>
  <asset>
    <texture name="grid" type="2d" builtin="checker" width="256" height="256" rgb1=".93 .93 .93" rgb2=".87 .87 .87"/>
    <material name="grid" texture="grid" texrepeat="6 6"/>
  </asset>
  <worldbody>
    <geom type="plane" size="3 3 .1" material="grid"/>
    <body name="robot" mocap="true" pos="0 0 .05"><geom type="cylinder" size=".06 .04" rgba=".12 .35 .65 1"/></body>
  </worldbody>
</mujoco>
"""


class PointRobot(TaskFamily):
    """Walk to a hidden goal in the square. Reward -‖s' - g‖₂, where s' = s + 0.1 a."""

    name = "PointRobot"
    summary = "a point walks to a hidden goal in the square"
    varies: Literal["reward", "dynamics"] = "reward"
    horizon = 20
    best_reward = 0.0
    dt = 1.0
    steps_per_second = 3e5
    param_names = ("goal_x [m]", "goal_y [m]")
    feature_names = ("x [m]", "y [m]")
    observation_space = box(-3, 3, 2)
    action_space = box(-1, 1, 2)

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw goals uniform in [-1, 1]²: 80 train, 20 test; then 10 ood at a radius of 1.5 to 2 m."""
        rng = np.random.RandomState(TASK_SEED)
        goals = self.draw_params(100, rng)
        angle, radius = rng.uniform(0, 2 * np.pi, 10), rng.uniform(1.5, 2, 10)
        return {"train": goals[:80], "test": goals[80:], "ood": radius[:, None] * unit(angle)}

    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} 2"]:
        """Draw goals uniform in [-1, 1]² [m]."""
        return rng.uniform(-1, 1, (count, 2))

    def reset_state(self, rng: np.random.Generator) -> Float[Array, 2]:
        """Draw a start uniform in [-1, 1]² [m]."""
        return rng.uniform(-1, 1, 2)

    def displacement(self, actions: Float[Array, "N 2"], params: Float[Array, "N P"]) -> Float[Array, "N 2"]:
        """Return how far actions move points that have tasks of these parameters [m]: 0.1 a."""
        return STEP * actions

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return -‖s' - g‖₂ [m]."""
        return -np.sqrt(((features - params) ** 2).sum(-1))

    def simulator(self, num_envs: int, num_threads: int) -> PointSimulator:
        """Build a batch of points; it is fast in numpy, so ``num_threads`` is not used."""
        return PointSimulator(self, num_envs)

    def markers(self, task: Task, time: float) -> tuple[Marker, ...]:
        """Return a sphere at the goal."""
        return (Marker("sphere", (task.params[0], task.params[1], 0.05), size=0.07, rgba=GREEN),)


class SparsePointRobot(PointRobot):
    """Find a goal on the unit half circle. Reward 1 - ‖s' - g‖₂ within 0.2 m of it, else 0.

    Departure from PEARL: the sparse reward is the only one. (PEARL's code trains on the dense distance and shows the
    sparse reward to the encoder only.)
    """

    name = "SparsePointRobot"
    summary = "a point searches a half circle for a hidden goal, paid only near it"
    best_reward = 1.0
    fixed_start = True

    RADIUS = 0.2
    """The distance from the goal within which there is a reward [m]."""

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw angles uniform in [0, π]: 80 train, 20 test; ood are 10 evenly spaced in the lower half circle."""
        goals = self.draw_params(100, np.random.RandomState(TASK_SEED))
        ood = np.pi + np.pi * np.arange(1, 11) / 11
        return {"train": goals[:80], "test": goals[80:], "ood": unit(ood)}

    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} 2"]:
        """Draw goals (cos θ, sin θ) [m], θ uniform in [0, π]."""
        return unit(rng.uniform(0, np.pi, count))

    def reset_state(self, rng: np.random.Generator) -> Float[Array, 2]:
        """Return the origin, where every episode starts."""
        return np.zeros(2)

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return 1 - ‖s' - g‖₂ inside the radius, else 0."""
        distance = -super()._reward(features, params)
        return np.where(distance <= self.RADIUS, 1 - distance, 0.0)


class RotatedPointRobot(PointRobot):
    """Walk to the origin while actions are turned by a hidden angle φ. Reward -‖s'‖₂, where s' = s + 0.1 R(φ) a.

    The start is uniform in the square. A policy that neither knows φ nor adapts can do little better than stand still.
    """

    name = "RotatedPointRobot"
    summary = "a point walks to the origin, its actions turned by a hidden angle"
    varies = "dynamics"
    param_names = ("gain·cos φ", "gain·sin φ")
    observation_space = box(-7, 7, 2)

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw φ uniform in [0, 2π), at a gain of 1: 80 train, 20 test; then 10 ood with a gain of 1.5 to 2."""
        rng = np.random.RandomState(TASK_SEED)
        turns = self.draw_params(100, rng)
        angle, gain = rng.uniform(0, 2 * np.pi, 10), rng.uniform(1.5, 2, 10)
        return {"train": turns[:80], "test": turns[80:], "ood": gain[:, None] * unit(angle)}

    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} 2"]:
        """Draw (cos φ, sin φ), φ uniform in [0, 2π)."""
        return unit(rng.uniform(0, 2 * np.pi, count))

    def displacement(self, actions: Float[Array, "N 2"], params: Float[Array, "N 2"]) -> Float[Array, "N 2"]:
        """Return how far actions move points that have tasks of these parameters [m]: 0.1 · gain · R(φ) a."""
        (x, y), (cos, sin) = actions.T, params.T
        return STEP * np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return -‖s'‖₂ [m], whatever the task."""
        return super()._reward(features, np.zeros_like(params))

    def markers(self, task: Task, time: float) -> tuple[Marker, ...]:
        """Return a sphere at the origin, and an arrow from it in the direction in which an action along x moves."""
        cos, sin = task.params
        arrow = Marker("arrow", (0.0, 0.0, 0.1), size=0.5, rgba=ORANGE, direction=float(np.arctan2(sin, cos)))
        return (Marker("sphere", (0.0, 0.0, 0.05), size=0.07, rgba=GREEN), arrow)


class PointSimulator:
    """N points, whose positions are one array."""

    def __init__(self, family: PointRobot, num_envs: int) -> None:
        self._family = family
        self._position = np.zeros((num_envs, 2))  # [m]
        self._params = np.zeros((num_envs, family.num_params))
        self._never = np.zeros(num_envs, dtype=bool)

    def set_task(self, i: int, task: Task) -> None:
        """Give point ``i`` the dynamics of a task."""
        self._params[i] = task.params

    def reset(self, i: int, rng: np.random.Generator) -> None:
        """Place point ``i`` at its start."""
        self._position[i] = self._family.reset_state(rng)

    def step(self, actions: Float[Array, "N 2"]) -> Transition:
        """Move the points."""
        self._position += self._family.displacement(actions, self._params)
        return Transition(self.observe(), terminated=self._never.copy(), diverged=self._never.copy())

    def observe(self) -> Float32[Array, "N 2"]:
        """Return the positions [m]."""
        return self._position.astype(np.float32)

    def view(self, i: int) -> View:
        """Return a view of the square from above."""
        import mujoco

        model = _scene()
        data = mujoco.MjData(model)
        data.mocap_pos[0, :2] = self._position[i]
        mujoco.mj_forward(model, data)
        return View(model, data, Camera(lookat=(0.0, 0.0, 0.0), distance=5.5, azimuth=90, elevation=-89.9))

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


@cache
def _scene() -> mujoco.MjModel:
    import mujoco

    return mujoco.MjModel.from_xml_string(SCENE)
