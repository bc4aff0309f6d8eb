"""The base of the MuJoCo families: an asset with every physics option explicit, and pure functions of the state.

Importing this does not import mujoco; ``mujoco_simulator.py`` does, when the first environment is made.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np

from offlinemeta.envs.family import Simulator, TaskFamily
from offlinemeta.envs.render import Camera
from offlinemeta.envs.shapes import Array, Bool, Float, Float32

if TYPE_CHECKING:
    import mujoco

STATE_LIMIT = 1e3
"""Positions [m, rad] and velocities [m/s, rad/s] beyond it count as unstable; it also bounds observation spaces."""

NO_PARAMS = np.empty(0)
"""Stands for task parameters where a function needs none."""


@dataclass(frozen=True)
class Physics:
    """A model and how it is integrated; no option is left to the file or to a simulator's default.

    Attributes:
        asset: name of a file among Gymnasium's MuJoCo assets, or of one in ``envs/assets``.
        sha256: the SHA-256 of Gymnasium's file when these families were defined; None for a file of this package.
        timestep: duration of one simulator step [s].
        frame_skip: number of simulator steps in an env step.
        integrator, solver, iterations, cone, impratio: MuJoCo's options of these names.
    """

    asset: str
    sha256: str | None
    timestep: float
    frame_skip: int
    integrator: Literal["Euler", "RK4", "implicitfast"]
    solver: Literal["Newton", "PGS"]
    iterations: int
    cone: Literal["pyramidal", "elliptic"] = "pyramidal"
    impratio: float = 1.0


class State(NamedTuple):
    """The states of any number of environments.

    ``com`` is the centre of mass of the body that the family tracks [m]; it is empty where the family tracks none.
    ``params`` are those of each environment's task, for families whose tasks decide what is in the scene.
    """

    qpos: Float[Array, "... nq"]
    qvel: Float[Array, "... nv"]
    com: Float[Array, "... xyz"]
    params: Float[Array, "... P"] = NO_PARAMS


class MujocoFamily(TaskFamily):
    """A family simulated by MuJoCo."""

    physics: ClassVar[Physics]
    reset_noise: ClassVar[float]
    reset_velocity: ClassVar[Literal["normal", "uniform"]]
    tracked_body: ClassVar[str | None] = None
    """Name of the body whose subtree's centre of mass the features need, or None."""
    camera: ClassVar[Camera]

    @property
    def dt(self) -> float:  # type: ignore[override]
        """Time per env step [s]."""
        return self.physics.timestep * self.physics.frame_skip

    @abstractmethod
    def observe(self, state: State) -> Float32[Array, "... O"]:
        """Return the agent's observation of a state."""

    @abstractmethod
    def features(
        self, before: State, actions: Float[Array, "... A"], after: State, ended: Bool[Array, "..."]
    ) -> Float32[Array, "... F"]:
        """Return everything that the reward of a step depends on, in the order of ``feature_names``.

        Args:
            before: the states before the step.
            after: the states after it; where the simulation diverged, they are those before it.
            actions: the actions, in [-1, 1].
            ended: whether the step terminated the episode, by a divergence too.
        """

    def info(self, features: Float32[Array, "N F"], params: Float[Array, "N P"]) -> Mapping[str, Float32[Array, " N"]]:
        """Return the entries of ``info_names``, from the features of a step and the parameters of the tasks."""
        return {}

    def terminated(self, state: State) -> Bool[Array, "..."]:
        """Tell where the MDP has ended; by default nowhere."""
        return np.zeros(state.qpos.shape[:-1], dtype=bool)

    def control(
        self, state: State, actions: Float[Array, "... A"], gear: Float[Array, " nu"]
    ) -> Float[Array, "... nu"]:
        """Return what the actuators are told throughout a step; by default, actions times the control range."""
        return actions * gear

    def reset_state(
        self, qpos0: Float[Array, " nq"], nv: int, rng: np.random.Generator, params: Float[Array, " P"] = NO_PARAMS
    ) -> tuple[Float[Array, " nq"], Float[Array, " nv"]]:
        """Draw an initial state: uniform noise on positions, normal or uniform noise on velocities."""
        noise = self.reset_noise
        qpos = qpos0 + rng.uniform(-noise, noise, len(qpos0))
        if self.reset_velocity == "normal":
            return qpos, noise * rng.standard_normal(nv)
        return qpos, rng.uniform(-noise, noise, nv)

    def apply(self, params: Sequence[float], model: mujoco.MjModel) -> None:
        """Write a task's dynamics into a fresh copy of the model; families that vary in rewards alone do nothing."""

    def simulator(self, num_envs: int, num_threads: int) -> Simulator:
        """Build the simulator of a batch, which uses ``num_threads`` threads."""
        from offlinemeta.envs.mujoco_simulator import MujocoSimulator

        return MujocoSimulator(self, num_envs, num_threads)


def speed(before: Float[Array, "... xyz"], after: Float[Array, "... xyz"], dt: float) -> Float[Array, "... xyz"]:
    """Return the velocity over one env step, as a finite difference [m/s]."""
    return (after - before) / dt


def squared_norm(vector: Float[Array, "*batch A"]) -> Float[Array, "*batch 1"]:
    """Return ‖a‖² as a column."""
    return (vector * vector).sum(-1, keepdims=True)


def join(*parts: Float[Array, "*batch _"] | Bool[Array, "*batch _"]) -> Float32[Array, "*batch F"]:
    """Return columns as one float32 array."""
    return np.concatenate(parts, axis=-1, dtype=np.float32)
