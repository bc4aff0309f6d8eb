"""Policies written by hand, for families simple enough to have one.

A scripted policy maps observations ``[N, O]``, task parameters ``[N, P]`` and the time step to actions ``[N, A]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from offlinemeta.envs.families.cheetah import CheetahVel
from offlinemeta.envs.families.point import STEP
from offlinemeta.envs.shapes import Array, Float

Scripted = Callable[[Float[Array, "N O"], Float[Array, "N P"], int], Float[Array, "N A"]]


def walk_to_goal(observations: Float[Array, "N 2"], goals: Float[Array, "N 2"], t: int) -> Float[Array, "N 2"]:
    """Close each coordinate's gap as fast as the box of actions allows: the optimum of PointRobot."""
    return np.clip((goals - observations) / STEP, -1, 1)


AMPLITUDE = np.array([0.6, 0.59, 0.96, 0.34, -0.09, 0.27])
PHASE = np.array([0.07, 1.2, -2.04, -3.74, 1.74, 1.55])  # [rad]
FREQUENCY = 2.42  # [Hz]


def gallop(observations: Float[Array, "N O"], velocities: Float[Array, "N 1"], t: int) -> Float[Array, "N 6"]:
    """Run at about 1.5 m/s, whatever the task: the middle of CheetahVel's tasks, and so the best task-blind runner.

    A sine for each joint, its amplitude and phase found by the cross-entropy method (40 generations of 128).
    """
    action = AMPLITUDE * np.sin(2 * np.pi * FREQUENCY * CheetahVel().dt * t + PHASE)
    return np.tile(np.clip(action, -1, 1), (len(observations), 1))


SCRIPTED: Mapping[str, Scripted] = {
    "PointRobot": walk_to_goal,
    "SparsePointRobot": walk_to_goal,
    "CheetahVel": gallop,
}
"""The families that have a script."""
