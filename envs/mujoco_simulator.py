"""The simulator of MuJoCo families: N copies of a model, stepped in C by ``mujoco.rollout`` on all cores.

Each env step starts the constraint solver cold (no warm start from the step before), so that a transition is a
function of state and action alone: a state taken from a dataset replays exactly.
"""

from __future__ import annotations

import copy
import hashlib
import os
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import gymnasium
import mujoco
import numpy as np
from mujoco.rollout import Rollout

from offlinemeta.envs.errors import ClosedError, ReferenceWarning
from offlinemeta.envs.family import Transition
from offlinemeta.envs.mujoco_family import STATE_LIMIT, MujocoFamily, Physics, State
from offlinemeta.envs.render import View
from offlinemeta.envs.shapes import Array, Float, Float32
from offlinemeta.envs.task import Task

REFERENCE_MUJOCO = "3.3.0"
"""The version that defines the benchmark's physics; it is what Meta-World allows."""

ASSETS = Path(__file__).parent / "assets"
"""The folder of the models that are this package's own."""

CHUNKS_PER_THREAD = 6

Job = tuple[Any, ...]
"""The arguments of one call of ``mujoco.rollout``: models, steps, control spec, state, warm start, control, outputs."""


class MujocoSimulator:
    """N copies of a family's model, each with its own task, stepped together."""

    def __init__(self, family: MujocoFamily, num_envs: int, num_threads: int) -> None:
        warn_of_other_versions()
        self._family = family
        self._model = load_model(family.physics, family.tracked_body)
        model, steps = self._model, family.physics.frame_skip
        self._nq, self._nv = model.nq, model.nv
        self._gear = model.actuator_ctrlrange[:, 1].copy()
        if not np.array_equal(self._gear, -model.actuator_ctrlrange[:, 0]):
            raise ValueError(
                f"{family.physics.asset}: control ranges must be symmetric, to scale actions from [-1, 1]."
            )

        size = 1 + model.nq + model.nv  # MuJoCo's FULLPHYSICS state: time, qpos, qvel
        self._state = np.zeros((num_envs, size))
        self._control = np.zeros((num_envs, steps, model.nu))
        self._trajectory = np.empty((num_envs, steps, size))
        self._com = np.zeros((num_envs, model.nsensordata))
        self._params = np.zeros((num_envs, family.num_params))
        self._data = mujoco.MjData(model)  # for resets and pictures

        self._team = RolloutTeam(model, num_threads)
        weakref.finalize(self, self._team.close)
        self._chunk = -(-num_envs // (CHUNKS_PER_THREAD * num_threads))
        sensors = np.empty((num_envs, steps, model.nsensordata))
        self._jobs = self._divide(model, steps, self._state, self._control, self._trajectory, sensors)
        if family.tracked_body is not None:
            still, ignored = np.zeros((num_envs, 1, model.nu)), np.empty((num_envs, 1, size))
            self._com_jobs = self._divide(kinematics(model), 1, self._state, still, ignored, self._com[:, None])

    def _divide(self, model: mujoco.MjModel, steps: int, state: Array, *arrays: Array) -> list[Job]:
        """Cut a batch into chunks, which threads take in turn; ``arrays`` are control, trajectory and sensor data."""
        jobs = []
        for start in range(0, len(state), self._chunk):
            rows = slice(start, start + self._chunk)
            control, trajectory, sensors = (array[rows] for array in arrays)
            models = [model] * len(state[rows])
            jobs.append(
                (models, steps, mujoco.mjtState.mjSTATE_CTRL.value, state[rows], None, control, trajectory, sensors)
            )
        return jobs

    def set_task(self, i: int, task: Task) -> None:
        """Give copy ``i`` a task, and its dynamics."""
        self._params[i] = task.params
        if self._family.varies != "reward":
            self._jobs[i // self._chunk][0][i % self._chunk] = task_model(self._family, task)

    def reset(self, i: int, rng: np.random.Generator) -> None:
        """Draw an initial state for copy ``i``."""
        qpos, qvel = self._family.reset_state(self._model.qpos0, self._nv, rng, self._params[i])
        self._state[i] = np.concatenate([[0.0], qpos, qvel])
        if self._family.tracked_body is not None:
            self._com[i] = self._load(i).sensordata

    def step(self, actions: Float[Array, "N A"]) -> Transition:
        """Hold each action for ``frame_skip`` simulator steps.

        A copy whose state becomes non-finite or leaves :data:`STATE_LIMIT` keeps its last good state and is
        terminated as diverged. MuJoCo resets such a copy by itself, which shows in its clock: every step starts at 0.
        """
        family = self._family
        before = self._now(self._state.copy(), self._com.copy())
        self._control[:] = family.control(before, actions, self._gear)[:, None]
        self._team.run(self._jobs)
        after = self._trajectory[:, -1]
        reset_by_mujoco = after[:, 0] < family.dt - family.physics.timestep / 2
        diverged = np.zeros(len(after), dtype=bool)
        if reset_by_mujoco.any() or not np.abs(after).max() <= STATE_LIMIT:
            diverged = reset_by_mujoco | ~(np.abs(after) <= STATE_LIMIT).all(axis=1)
            after[diverged] = self._state[diverged]
        self._state[:, 1:] = after[:, 1:]
        if family.tracked_body is not None:
            self._team.run(self._com_jobs)
        now = self._now(self._state, self._com)
        ended = family.terminated(now) | diverged
        features = family.features(before, actions, now, ended)
        return Transition(features, ended, diverged, info=family.info(features, self._params))

    def observe(self) -> Float32[Array, "N O"]:
        """Return the observations of the present states."""
        return self._family.observe(self._now(self._state, self._com))

    def _now(self, state: Float[Array, "N S"], com: Float[Array, "N _"]) -> State:
        return State(state[:, 1 : 1 + self._nq], state[:, 1 + self._nq :], com, self._params)

    def _load(self, i: int) -> mujoco.MjData:
        """Return a MjData with copy ``i``'s state, in which all positions and position sensors are computed."""
        data = self._data
        data.qpos[:], data.qvel[:] = self._state[i, 1 : 1 + self._nq], self._state[i, 1 + self._nq :]
        mujoco.mj_forward(self._model_of(i), data)
        return data

    def _model_of(self, i: int) -> mujoco.MjModel:
        """Return copy ``i``'s model: that of its task where tasks differ in dynamics."""
        return self._jobs[i // self._chunk][0][i % self._chunk]

    def view(self, i: int) -> View:
        """Return the model, state and camera with which a renderer draws copy ``i``."""
        return View(self._model_of(i), self._load(i), self._family.camera)

    def close(self) -> None:
        """Stop the helper threads."""
        self._team.close()


@dataclass
class Round:
    """The chunks of one run, and the helpers that have finished; each run has a new round, so nothing is left over."""

    jobs: deque[Job]
    helpers: int
    finished: list[int] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def wait(self, patience: float = float("inf")) -> None:
        """Return when all helpers have finished, or after ``patience`` [s]; do not sleep, since waking takes longer."""
        deadline = time.monotonic() + patience
        while len(self.finished) < self.helpers and time.monotonic() < deadline:
            time.sleep(0)


class RolloutTeam:
    """Threads that run the chunks of a batch: the calling thread and its helpers, each taking a chunk when it is free.

    ``mujoco.rollout`` has a thread pool of its own, whose caller sleeps until the pool has woken up and finished; at a
    millisecond of work per step that costs a third of the speed on two cores. Here the caller starts to work at once.
    """

    def __init__(self, model: mujoco.MjModel, num_threads: int) -> None:
        self._rollouts = [Rollout(nthread=0).rollout_.rollout for _ in range(num_threads)]
        self._data = [[mujoco.MjData(model)] for _ in range(num_threads)]
        self._closed = False
        self._lock = threading.RLock()
        self._hire()

    def _hire(self) -> None:
        self._process = os.getpid()
        self._inboxes: list[SimpleQueue[Round | None]] = [SimpleQueue() for _ in self._rollouts[1:]]
        for helper, inbox in enumerate(self._inboxes, start=1):
            threading.Thread(target=self._help, args=(helper, inbox), daemon=True, name=f"rollout-{helper}").start()

    def run(self, jobs: Sequence[Job]) -> None:
        """Run all jobs and return when they are done.

        Raises:
            ClosedError: the team has been closed.
        """
        with self._lock:  # nobody closes the team in the middle of a run
            self._run(jobs)

    def _run(self, jobs: Sequence[Job]) -> None:
        if self._closed:
            raise ClosedError
        if self._process != os.getpid():  # forked: threads stay behind
            self._hire()
        inboxes = self._inboxes[: len(jobs) - 1]
        turn = Round(deque(jobs), helpers=len(inboxes))
        try:
            for inbox in inboxes:
                inbox.put(turn)
            self._work(0, turn)
            turn.wait()
        except BaseException:  # an interrupt: no helper may write into the arrays of a later step
            turn.jobs.clear()
            turn.wait(patience=1.0)
            raise
        if turn.errors:
            raise turn.errors[0]

    def _help(self, helper: int, inbox: SimpleQueue[Round | None]) -> None:
        while (turn := inbox.get()) is not None:
            self._work(helper, turn)
            turn.finished.append(helper)

    def _work(self, worker: int, turn: Round) -> None:
        rollout, data = self._rollouts[worker], self._data[worker]
        # the caller takes chunks from the front, helpers from the back, so that most models stay in one core's cache
        take = turn.jobs.popleft if worker == 0 else turn.jobs.pop
        while True:
            try:
                models, *rest = take()
            except IndexError:
                return
            try:
                rollout(models, data, *rest, None)
            except Exception as error:
                turn.errors.append(error)

    def close(self) -> None:
        """Stop the helper threads, each after the chunk that it is working on."""
        with self._lock:
            self._closed = True
            for inbox in self._inboxes:
                inbox.put(None)


@cache
def load_model(physics: Physics, tracked_body: str | None = None) -> mujoco.MjModel:
    """Load a model from Gymnasium's assets, or from this package's, with every physics option explicit."""
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / physics.asset
    if physics.sha256 is None:
        path = ASSETS / physics.asset
    elif hashlib.sha256(path.read_bytes()).hexdigest() != physics.sha256:
        warnings.warn(
            f"Gymnasium {gymnasium.__version__} ships another {physics.asset} than the one that the families were "
            f"defined with, so returns may not compare. Use the versions in constraints.txt.",
            ReferenceWarning,
            stacklevel=2,
        )
    spec = mujoco.MjSpec.from_file(str(path))
    if tracked_body is not None:
        kind, body = mujoco.mjtSensor.mjSENS_SUBTREECOM, mujoco.mjtObj.mjOBJ_BODY
        spec.add_sensor(name="com", type=kind, objtype=body, objname=tracked_body)
    with warnings.catch_warnings():  # MuJoCo 3.17 deprecates a word of half_cheetah.xml, which is Gymnasium's
        warnings.filterwarnings("ignore", "compiler attribute 'settotalmass'")
        model = spec.compile()
    option = model.opt
    option.timestep = physics.timestep
    option.integrator = {
        "Euler": mujoco.mjtIntegrator.mjINT_EULER,
        "RK4": mujoco.mjtIntegrator.mjINT_RK4,
        "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
    }[physics.integrator]
    option.solver = {"Newton": mujoco.mjtSolver.mjSOL_NEWTON, "PGS": mujoco.mjtSolver.mjSOL_PGS}[physics.solver]
    option.iterations = physics.iterations
    option.ls_iterations, option.noslip_iterations = 50, 0
    option.tolerance, option.ls_tolerance, option.impratio = 1e-8, 0.01, physics.impratio
    option.cone = {"pyramidal": mujoco.mjtCone.mjCONE_PYRAMIDAL, "elliptic": mujoco.mjtCone.mjCONE_ELLIPTIC}[
        physics.cone
    ]
    option.jacobian = mujoco.mjtJacobian.mjJAC_AUTO
    option.gravity[:], option.wind[:] = (0.0, 0.0, -9.81), 0.0
    option.density = option.viscosity = 0.0
    option.disableflags = option.enableflags = 0
    for floor in np.flatnonzero(
        model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    ):  # draw it as endless as contacts see it
        model.mat_texrepeat[model.geom_matid[floor]] /= 2 * model.geom_size[floor, :2]
        model.geom_size[floor, :2] = 0.0
    return model


def kinematics(model: mujoco.MjModel) -> mujoco.MjModel:
    """Return a copy without forces and contacts, whose step computes position sensors and little more."""
    idle = copy.copy(model)
    idle.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    names = (
        "CONSTRAINT",
        "CONTACT",
        "GRAVITY",
        "ACTUATION",
        "PASSIVE",
        "SPRING",
        "DAMPER",
    )  # the last three by version
    flags = (getattr(mujoco.mjtDisableBit, f"mjDSBL_{name}", 0) for name in names)
    idle.opt.disableflags = sum(int(flag) for flag in flags)
    return idle


@cache
def task_model(family: MujocoFamily, task: Task) -> mujoco.MjModel:
    """Return the model of one task, made from a fresh copy of the original, with derived constants recomputed."""
    model = copy.copy(load_model(family.physics, family.tracked_body))
    family.apply(task.params, model)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


@cache
def warn_of_other_versions() -> None:
    """Warn, once, that the installed MuJoCo is not the reference version."""
    if mujoco.__version__ != REFERENCE_MUJOCO:
        warnings.warn(
            f"MuJoCo {mujoco.__version__} is installed; offlinemeta's reference is {REFERENCE_MUJOCO}. Trajectories "
            f"and returns differ between versions. For comparable numbers: pip install mujoco=={REFERENCE_MUJOCO}",
            ReferenceWarning,
            stacklevel=2,
        )
