"""Policies written by hand, for families simple enough to have one.

A scripted policy maps observations ``[N, O]``, task parameters ``[N, P]`` and the time step to actions ``[N, A]``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from offlinemeta.datasets.manipulation import aimed
from offlinemeta.envs.errors import MissingExtraError
from offlinemeta.envs.families.cheetah import CheetahVel
from offlinemeta.envs.families.point import STEP
from offlinemeta.envs.shapes import Array, Float

Scripted = Callable[[Float[Array, "N O"], Float[Array, "N P"], int], Float[Array, "N A"]]


def walk_to_goal(observations: Float[Array, "N 2"], goals: Float[Array, "N 2"], t: int) -> Float[Array, "N 2"]:
    """Close each coordinate's gap as fast as the box of actions allows: the optimum of PointRobot."""
    return np.clip((goals - observations) / STEP, -1, 1)


def walk_back(observations: Float[Array, "N 2"], turns: Float[Array, "N 2"], t: int) -> Float[Array, "N 2"]:
    """Walk to the origin, actions turned back by RotatedPointRobot's angle, as fast as the box of actions allows."""
    (x, y), (cos, sin) = -observations.T, turns.T
    turned_back = np.stack([cos * x + sin * y, cos * y - sin * x], axis=-1)
    return np.clip(turned_back / (STEP * (cos**2 + sin**2)[:, None]), -1, 1)


AMPLITUDE = np.array([0.6, 0.59, 0.96, 0.34, -0.09, 0.27])
PHASE = np.array([0.07, 1.2, -2.04, -3.74, 1.74, 1.55])  # [rad]
FREQUENCY = 2.42  # [Hz]


def gallop(observations: Float[Array, "N O"], velocities: Float[Array, "N 1"], t: int) -> Float[Array, "N 6"]:
    """Run at about 1.5 m/s, whatever the task: the middle of CheetahVel's tasks, and so the best task-blind runner.

    A sine for each joint, its amplitude and phase found by the cross-entropy method (40 generations of 128).
    """
    action = AMPLITUDE * np.sin(2 * np.pi * FREQUENCY * CheetahVel().dt * t + PHASE)
    return np.tile(np.clip(action, -1, 1), (len(observations), 1))


def manipulate(
    task_name: str, observations: Float[Array, "N 39"], params: Float[Array, "N P"], t: int
) -> Float[Array, "N 4"]:
    """Do what Meta-World's own script for the task does, which is told the hidden goal.

    Its position is the end of Meta-World's random vector, and goes where Meta-World shows it: the last three entries.

    Raises:
        MissingExtraError: metaworld is not installed.
    """
    try:
        from metaworld.policies import ENV_POLICY_MAP
    except ImportError as error:
        raise MissingExtraError("metaworld", f"The script for ML1-{task_name}") from error
    make: Any = ENV_POLICY_MAP[f"{task_name}-v3"]
    script = make()
    told = np.concatenate([observations[:, :36], params[:, -3:]], axis=1, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Constant")  # it says that actions will be clipped, which they are
        return np.clip([script.get_action(row) for row in told], -1, 1)


GAIN = 0.98
"""Behaviour policies act a little below full strength, so that no action sits on the bounds of the box."""


def with_noise(
    script: Scripted, noise: float, jitter: float, observations: Array, params: Array, rng: np.random.Generator | None
) -> Float[Array, "N A"]:
    """Mix a script's action, times :data:`GAIN`, with a uniformly random one, and add Gaussian noise.

    For scripts that do not look at the clock. Without a generator there is no noise.

    Args:
        script: the script.
        noise: share of the uniformly random action.
        jitter: standard deviation of the Gaussian noise.
        observations, params: what the script maps to actions.
        rng: draws the noise.
    """
    action = GAIN * script(observations, params, 0)
    if rng is None:
        return action
    mixed = (1 - noise) * action + noise * rng.uniform(-1, 1, action.shape)
    return mixed + jitter * rng.standard_normal(action.shape) if jitter else mixed


MANIPULATED = {
    f"ML1-{name}": partial(manipulate, name)
    for name in (
        "reach", "push", "pick-place", "drawer-open", "drawer-close", "button-press", "door-open", "window-open",
        "peg-insert-side", "coffee-button",
    )
}  # fmt: skip
SCENES = dict.fromkeys(("SawyerScene", "SawyerSceneDense"), aimed)
WALKED = {"PointRobot": walk_to_goal, "SparsePointRobot": walk_to_goal, "RotatedPointRobot": walk_back}

SCRIPTED: Mapping[str, Scripted] = {**WALKED, "CheetahVel": gallop, **SCENES, **MANIPULATED}
"""The script of each family that has one."""

NOISE: Mapping[str, tuple[float, ...]] = {
    **dict.fromkeys(WALKED, (1.0, 0.894, 0.789, 0.683, 0.578, 0.472, 0.367, 0.261, 0.156, 0.05)),
    **dict.fromkeys(SCENES, (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)),
    **dict.fromkeys(MANIPULATED, (1.0, 0.8, 0.6, 0.4, 0.2, 0.05)),
}
"""Share of noise in each behaviour policy, from random to expert, of families whose policies are noisy scripts."""

JITTER: Mapping[str, float] = dict.fromkeys(SCENES, 0.1)
"""Standard deviation of the Gaussian noise on all scripted actions of a family, where there is any: the study's."""
