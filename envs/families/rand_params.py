"""WalkerParam and HopperParam: running with hidden random dynamics.

Source: the ``rand_param_envs`` scheme that PEARL and the study use (log scale limit 3): every body's mass and inertia,
every joint's damping and every geom's friction is multiplied by a factor of its own. Departures: derived constants are
recomputed after each change (``mj_setConst``), and each task starts from the original model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from offlinemeta.envs.family import TASK_SEED, box
from offlinemeta.envs.mujoco_family import STATE_LIMIT, MujocoFamily, Physics, State, join, speed, squared_norm
from offlinemeta.envs.render import Camera
from offlinemeta.envs.shapes import Array, Bool, Float, Float32

if TYPE_CHECKING:
    import mujoco

BASES: Mapping[str, float] = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}
"""The multiplied arrays of the model, and the bases of their factors: a factor is its base to the power of u."""

LIMIT, OOD_LIMIT = 3.0, 4.0
"""abs(u) is at most LIMIT in train and test tasks, and between LIMIT and OOD_LIMIT in ood tasks."""

MAX_VELOCITY = 10.0
"""The bound to which observed velocities are clipped [m/s, rad/s]."""


class RandomParams(MujocoFamily):
    """The parts that WalkerParam and HopperParam share. Reward v_x + 1 - 0.001‖a‖²; the task is in the dynamics."""

    varies = "dynamics"
    feature_names = ("velocity_x [m/s]", "‖action‖²")
    reset_noise = 0.005
    reset_velocity = "uniform"
    camera = Camera(distance=4.5, azimuth=90, elevation=-10, body="torso", height=1.0)

    sizes: ClassVar[tuple[int, int, int]]
    """The numbers of the model's bodies (with the world), degrees of freedom, and geoms."""
    varied: tuple[str, ...] = tuple(BASES)
    """The multiplied arrays of the model."""

    def _entries(self) -> Iterator[tuple[str, str]]:
        """Iterate over the arrays and their entries, in the order in which factors are drawn."""
        bodies, dofs, geoms = self.sizes
        columns = {
            "body_mass": (bodies, 1),
            "body_inertia": (bodies, 3),
            "dof_damping": (dofs, 1),
            "geom_friction": (geoms, 3),
        }
        for array, (rows, width) in columns.items():
            for i in range(rows):
                yield from ((array, f"{array}[{i},{j}]" if width > 1 else f"{array}[{i}]") for j in range(width))

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The multiplied entries of the model."""
        return tuple(entry for array, entry in self._entries() if array in self.varied)

    def _bases(self) -> Float[Array, " P"]:
        """Return the base of each parameter's factor."""
        return np.array([BASES[array] for array, _ in self._entries() if array in self.varied])

    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} P"]:
        """Draw the factors of ``count`` tasks: their bases to the power of u, uniform in [-3, 3]."""
        base = self._bases()
        return base ** rng.uniform(-LIMIT, LIMIT, (count, len(base)))

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw 70 tasks, 50 train and 20 test; then 10 ood, with abs(u) in [3, 4] and then a random sign."""
        base, rng = self._bases(), np.random.RandomState(TASK_SEED)
        inside = self.draw_params(70, rng)
        size, sign = rng.uniform(LIMIT, OOD_LIMIT, (10, len(base))), rng.choice([-1.0, 1.0], (10, len(base)))
        return {"train": inside[:50], "test": inside[50:], "ood": base ** (sign * size)}

    def apply(self, params: Sequence[float], model: mujoco.MjModel) -> None:
        """Multiply the model's own values by a task's factors."""
        arrays = [getattr(model, name) for name in self.varied]
        ends = np.cumsum([array.size for array in arrays])
        for array, factors in zip(arrays, np.split(np.array(params), ends[:-1]), strict=True):
            array *= factors.reshape(array.shape)

    def encode(self, params: Float[Array, "... P"]) -> Float32[Array, "... E"]:
        """Return the logarithms of the factors."""
        return np.log(params).astype(np.float32)

    def observe(self, state: State) -> Float32[Array, "... O"]:
        """Return qpos[1:], and qvel clipped to ±10."""
        return join(state.qpos[..., 1:], np.minimum(np.maximum(state.qvel, -MAX_VELOCITY), MAX_VELOCITY))

    def features(
        self, before: State, actions: Float[Array, "... A"], after: State, ended: Bool[Array, "..."]
    ) -> Float32[Array, "... F"]:
        """Return the forward velocity and the squared action."""
        return join(speed(before.qpos[..., :1], after.qpos[..., :1], self.dt), squared_norm(actions))

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return v_x + 1 - 0.001‖a‖², whatever the task."""
        return features[..., 0] + 1.0 - 1e-3 * features[..., 1] + np.zeros(params.shape[:-1])


def _observations(positions: int, velocities: int) -> tuple[list[float], list[float]]:
    high = [STATE_LIMIT] * positions + [MAX_VELOCITY] * velocities
    return [-h for h in high], high


class WalkerParam(RandomParams):
    """A planar walker runs with hidden dynamics. Reward v_x + 1 - 0.001‖a‖².

    The option ``variant="corro"`` (Yuan and Lu, 2022; UNICORN) varies masses and friction alone, by the same factors as
    the default's tasks; observes qpos and qvel whole and unclipped; and ends an episode only at a height of 0.5 m.
    """

    name = "WalkerParam"
    summary = "a walker runs with hidden masses, inertias, damping and friction"
    steps_per_second = 1.5e4
    terminates = "height outside (0.8, 2) m or angle outside (-1, 1) rad"
    physics = Physics(
        asset="walker2d_v5.xml",
        sha256="6bed53a6cc3ca73c4fe8ac3486d3b4228927264a6454f4ef16d3eed3c58bc09d",
        timestep=0.002,
        frame_skip=4,
        integrator="RK4",
        solver="Newton",
        iterations=100,
    )
    sizes = (8, 9, 8)
    observation_space = box(*_observations(8, 9), 17)
    action_space = box(-1, 1, 6)
    choices: Mapping[str, tuple[Any, ...]] = {"variant": (None, "corro")}
    variant: str | None = None

    def configure(self) -> None:
        """Keep two arrays of four, widen the observation, and say when an episode terminates."""
        self.varied = ("body_mass", "geom_friction")
        self.observation_space = box(-STATE_LIMIT, STATE_LIMIT, 18)
        self.terminates = "height at most 0.5 m"

    def choose_tasks(self, params: Mapping[str, Float[Array, "_ P"]]) -> Mapping[str, Float[Array, "_ Q"]]:
        """Return the factors of masses and friction."""
        kept = [array in self.varied for array, _ in self._entries()]
        return {split: rows[:, kept] for split, rows in params.items()}

    def observe(self, state: State) -> Float32[Array, "... O"]:
        """Return qpos[1:], and qvel clipped to ±10; in the variant, qpos and qvel."""
        return super().observe(state) if self.variant is None else join(state.qpos, state.qvel)

    def terminated(self, state: State) -> Bool[Array, "..."]:
        """Tell where the walker is too low, too high or tilted; in the variant, where it is too low."""
        z, angle = state.qpos[..., 1], state.qpos[..., 2]
        if self.variant is not None:
            return z <= 0.5
        return ~((z > 0.8) & (z < 2.0) & (np.abs(angle) < 1.0))


class HopperParam(RandomParams):
    """A planar one-legged hopper runs with hidden dynamics. Reward v_x + 1 - 0.001‖a‖²."""

    name = "HopperParam"
    summary = "a hopper runs with hidden masses, inertias, damping and friction"
    steps_per_second = 2e4
    terminates = "height ≤ 0.7 m, angle outside (-0.2, 0.2) rad, or another state beyond ±100"
    physics = Physics(
        asset="hopper.xml",
        sha256="3ce93a055ffdcd83c0c701d2400768e40d2cbb9532f3c4ae33377c27f8b39f9e",
        timestep=0.002,
        frame_skip=4,
        integrator="RK4",
        solver="Newton",
        iterations=100,
    )
    sizes = (5, 6, 5)
    observation_space = box(*_observations(5, 6), 11)
    action_space = box(-1, 1, 3)

    def terminated(self, state: State) -> Bool[Array, "..."]:
        """Tell where the hopper is too low, tilted or out of bounds."""
        z, angle = state.qpos[..., 1], state.qpos[..., 2]
        wild = (np.abs(state.qpos[..., 2:]) >= 100).any(-1) | (np.abs(state.qvel) >= 100).any(-1)
        return wild | (z <= 0.7) | (np.abs(angle) >= 0.2)
