"""SawyerScene and SawyerSceneDense: a gripper above drawers, a button, a tray and an object; what to do is hidden.

Source: the Sawyer domain of the study (Pong et al., 2022, arXiv 2107.03974), in the simulator of Khazatsky et al.
(2021, arXiv 2106.00671). Its task file was never published. This is a rendition in MuJoCo, of primitives of our own.
**There is no Sawyer arm**: a parallel gripper on three slides stands in for it, as the study's wrist never turns.

What the public code does, and what is done here:

====================  =============================================  ================================================
quirk                 published                                      here
====================  =============================================  ================================================
goal of things        a point in the air, which object and block     the clear table at (0.75, 0) m, to 0.08 m:
                      share with the hand: letting go loses it       reachable, and kept after letting go
``object_in_tray``    scored as object at that point                 the object is inside of the tray's walls
``close_bottom``      scored by the handle drawer                    scored by the bottom drawer
``close_handle``      the same test as ``open_handle``               open by at most 0.065 m
aims                  some cannot be met, as a block's without a     only those that can be met (``sawyer_layout.py``);
                      drawer; some are met at the start              none is met at the start
the drawer's motion   1.8 s or more inside of one env step           runs over the env steps that follow the press
button                pressed if down by 0.002 to 0.018 m            pressed if down by 0.01 m, which starts the drawer
object                its shape is drawn anew at each reset          its shape is part of the task, one of five
goal of the handle    drawn anew at each reset                       the whole travel, 0.156 m, to 0.065 m
drawers               0.12 m apart in height                         one on the other, so that the hand clears them
tray                  0.175 m wide, walls of 0.09 m                  0.15 m wide, walls of 0.04 m
speed of the hand     at most 0.15 m/s                               at most 0.4 m/s, so that 75 steps do for each aim
force of the hand     at most 100 in each joint of the arm           at most 60 N along each axis
start                 the object is dropped and settles, turned at   things are at rest, the object's yaw is at most
                      random or as its kind wants; three idle steps  0.4 rad; hand, object and block are off by 0.01 m
open drawers          one flag, drawn with a probability of 0.5      each drawer has its own
what leaves the box   is put back                                    may roll away, and is lost
====================  =============================================  ================================================

A limit of these soft contacts: who shoves the button's disc from its side, with all force for half a second or more,
presses it.

The study draws an aim uniformly from those that a scene allows. Here aims take turns, so that each has the same share
of a task list, and scenes are drawn until one allows the aim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from offlinemeta.envs.families import sawyer_layout as scene
from offlinemeta.envs.family import TASK_SEED, box
from offlinemeta.envs.mujoco_family import NO_PARAMS, MujocoFamily, Physics, State, join
from offlinemeta.envs.render import Camera, Marker
from offlinemeta.envs.shapes import Array, Bool, Float, Float32
from offlinemeta.envs.task import Task

if TYPE_CHECKING:
    import mujoco

REACH = 0.05
"""How far from the tool an action of 1 sets its target [m]."""

BOLT, HOLDS = 0.012, 0.004
"""How far the switch's bolt comes out, and from where on it holds [m]."""

NOISE, TURN = 0.01, 0.4
"""Largest deviation of hand, object and block from their places at a reset [m], and of the object's yaw [rad]."""

THING_Z, BLOCK_Z = 0.0225, 0.030
"""Heights at which the object starts on the table, and the block in its drawer [m]."""

PARKED = (0.0, 0.0, 5.0)
"""Where things are kept that a scene lacks; object and block, which could touch, are a metre from it and apart [m]."""

LIMIT = 2.0
"""Bound to which observed positions are clipped [m]."""

RGB = tuple[float, float, float]
GOLD, BLUE, RED, ORANGE = (0.98, 0.78, 0.10), (0.20, 0.60, 1.00), (0.85, 0.18, 0.18), (0.93, 0.62, 0.20)
TEAL, PURPLE = (0.10, 0.62, 0.58), (0.56, 0.30, 0.66)
"""The colours of goals: gold for the hand, else about that of the thing in ``sawyer_scene.xml``."""

TOOL, GAP, OPENINGS, DOWN, SWITCH, THING, CUBE = (
    slice(0, 3), slice(3, 5), slice(5, 7), slice(7, 8), slice(8, 9), slice(9, 12), slice(16, 19)
)  # fmt: skip
"""Places in qpos: tool, fingers, handle and bottom drawer, button, bolt, object, block."""


class SawyerScene(MujocoFamily):
    """Do what a hidden aim asks for. Reward success - 1: -1 until the aim is met, and 0 while it is.

    The observation is the tool's x, y, z, the fingers' gap, x, y, z of object and block, the bottom drawer's x, the
    handle's y and the button's z [m]; zeros stand for what is not there. An action sets the tool's target up to 0.05 m
    from where the tool is, inside of the workspace, and the fingers, from open (-1) to closed (1). Tasks differ in the
    aim and in the scene: the side of the drawers, what there is, and where. The aims are move_hand, open_handle,
    close_handle, press_button, open_bottom, close_bottom, move_block, move_object and object_in_tray. The docstring of
    the module says where this departs from the study.
    """

    name = "SawyerScene"
    summary = "a gripper does what a hidden aim asks, with drawers, button, tray and object"
    varies = "both"
    horizon = 75
    steps_per_second = 5e3
    physics = Physics(
        asset="sawyer_scene.xml",
        sha256=None,
        timestep=1 / 240,
        frame_skip=10,
        integrator="implicitfast",
        solver="Newton",
        iterations=50,
        cone="elliptic",
        impratio=10.0,
    )
    param_names = scene.PARAMS
    feature_names = (
        "tool_x [m]", "tool_y [m]", "tool_z [m]", "object_x [m]", "object_y [m]", "object_z [m]", "block_x [m]",
        "block_y [m]", "block_z [m]", "handle drawer open [m]", "bottom drawer open [m]", "button down [m]",
    )  # fmt: skip
    info_names = ("success",)
    observation_space = box(-LIMIT, LIMIT, 13)
    action_space = box(-1, 1, 4)
    camera = Camera(lookat=(0.675, 0.0, 0.09), distance=0.80, azimuth=152, elevation=-33)

    # --- tasks

    def draw_tasks(self) -> Mapping[str, Float[Array, "tasks P"]]:
        """Draw 60 tasks, 50 train and 10 test; then 10 ood, in which drawers, tray and object stand elsewhere."""
        rng = np.random.RandomState(TASK_SEED)
        inside = scene.draw(60, rng)
        return {"train": inside[:50], "test": inside[50:], "ood": scene.draw(10, rng, elsewhere=True)}

    def draw_params(self, count: int, rng: np.random.RandomState) -> Float[Array, "{count} P"]:
        """Draw tasks whose aims take turns, each with the first scene that allows it."""
        return scene.draw(count, rng)

    def refuse(self, params: Sequence[float]) -> str | None:
        """Say why a task cannot be: it is contradictory, out of reach, or solved at the start; else None."""
        return scene.refusal(params)

    def describe(self, params: Sequence[float]) -> str:
        """Return the aim."""
        return scene.AIMS[int(params[scene.AIM])]

    def encode(self, params: Float[Array, "... P"]) -> Float32[Array, "... E"]:
        """Return a task's parameters, with a number for each value of aim, drawers and shape."""
        aims = params[..., scene.AIM, None] == np.arange(len(scene.AIMS))
        drawers = (params[..., drawer, None] == (scene.CLOSED, scene.OPEN) for drawer in (scene.HANDLE, scene.BOTTOM))
        shapes = params[..., scene.OBJECT, None] == 1 + np.arange(len(scene.SHAPES))
        named = (scene.AIM, scene.HANDLE, scene.BOTTOM, scene.OBJECT)
        others = [column for column in range(len(scene.PARAMS)) if column not in named]
        return join(aims, *drawers, shapes, params[..., others])

    # --- rewards

    def features(
        self, before: State, actions: Float[Array, "... A"], after: State, ended: Bool[Array, "..."]
    ) -> Float32[Array, "... F"]:
        """Return where things are; an absent object or block is at 0, an absent drawer is open by -1 m."""
        qpos, there = after.qpos, after.params > 0
        return join(
            qpos[..., TOOL],
            there[..., scene.OBJECT, None] * qpos[..., THING],
            there[..., scene.BOTTOM, None] * qpos[..., CUBE],
            np.where(there[..., [scene.HANDLE, scene.BOTTOM]], qpos[..., OPENINGS], -1.0),
            there[..., scene.BUTTON, None] * qpos[..., DOWN],
        )

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return success - 1."""
        return (scene.remaining(features, params) <= 0) - 1.0

    def info(self, features: Float32[Array, "N F"], params: Float[Array, "N P"]) -> Mapping[str, Float32[Array, " N"]]:
        """Return the success: 1 where the aim is met, else 0."""
        return {"success": (scene.remaining(features, params) <= 0).astype(np.float32)}

    # --- physics

    def observe(self, state: State) -> Float32[Array, "... O"]:
        """Return the thirteen numbers that the class describes."""
        qpos, params = state.qpos, state.params
        handle, bottom = qpos[..., OPENINGS.start], qpos[..., OPENINGS.start + 1]
        there = params > 0
        seen = join(
            qpos[..., TOOL],
            (qpos[..., GAP.start] + qpos[..., GAP.start + 1])[..., None],
            there[..., scene.OBJECT, None] * qpos[..., THING],
            there[..., scene.BOTTOM, None] * qpos[..., CUBE],
            (there[..., scene.BOTTOM] * (params[..., scene.STACK_X] + bottom))[..., None],
            (there[..., scene.HANDLE] * scene.bar_y(params, handle))[..., None],
            (there[..., scene.BUTTON] * scene.button_z(params, qpos[..., DOWN.start]))[..., None],
        )
        return np.minimum(np.maximum(seen, -LIMIT), LIMIT)

    def control(
        self, state: State, actions: Float[Array, "... A"], gear: Float[Array, " nu"]
    ) -> Float[Array, "... nu"]:
        """Return the targets of tool, fingers, bottom drawer and bolt [m].

        A pressed button drives the bolt out, where it stays; with the bolt out, the bottom drawer is driven from where
        it started, open or closed, to its other end.
        """
        qpos, starts_open = state.qpos, state.params[..., scene.BOTTOM, None] == scene.OPEN
        tool = np.minimum(np.maximum(qpos[..., TOOL] + REACH * actions[..., :3], scene.LOW), scene.HIGH)
        finger = 0.02 * (1 - actions[..., 3:])
        out = qpos[..., SWITCH] > HOLDS
        drawer = np.where(starts_open ^ out, scene.TRAVEL, 0.0)
        bolt = np.where(out | (qpos[..., DOWN] >= scene.PRESSED), BOLT, 0.0)
        return np.concatenate([tool, finger, finger, drawer, bolt], axis=-1)

    def reset_state(
        self, qpos0: Float[Array, " nq"], nv: int, rng: np.random.Generator, params: Float[Array, " P"] = NO_PARAMS
    ) -> tuple[Float[Array, " nq"], Float[Array, " nv"]]:
        """Draw an initial state: hand, object and block are near their places, the object is turned."""
        qpos, off, turn = qpos0.copy(), rng.uniform(-NOISE, NOISE, (3, 3)), rng.uniform(-TURN, TURN)
        opening = scene.TRAVEL * (params[[scene.HANDLE, scene.BOTTOM]] == scene.OPEN)
        qpos[TOOL], qpos[GAP], qpos[OPENINGS] = scene.START * (1, params[scene.SIDE], 1) + off[0], 0.04, opening
        thing, cube = np.add(PARKED, (1, 0, 0)), np.add(PARKED, (0, 1, 0))
        if params[scene.OBJECT]:
            thing = np.array([params[scene.OBJECT_X], params[scene.OBJECT_Y], THING_Z]) + off[1] * (1, 1, 0)
        if params[scene.BOTTOM]:
            x, y = scene.stack(params)
            cube = np.array([x + opening[1], y, BLOCK_Z]) + off[2] * (1, 1, 0)
        qpos[THING], qpos[CUBE] = thing, cube
        qpos[THING.stop : THING.stop + 4] = np.cos(turn / 2), 0, 0, np.sin(turn / 2)
        return qpos, np.zeros(nv)

    def apply(self, params: Sequence[float], model: mujoco.MjModel) -> None:
        """Put a task's things into place, and park the others out of sight."""
        told = np.array(params)
        x, y = scene.stack(told)
        places = {
            "handle_frame": (told[scene.HANDLE], (x, y, scene.handle_z(told))),
            "bottom_frame": (told[scene.BOTTOM], (x, y, scene.DRAWER / 2)),
            "button_base": (told[scene.BUTTON], (x, y, scene.base_z(told))),
            "tray": (told[scene.TRAY], (told[scene.TRAY_X], told[scene.TRAY_Y], 0.0)),
        }
        for name, (there, place) in places.items():
            model.body(name).pos[:] = place if there else PARKED
        model.body("handle_frame").quat[:] = (1, 0, 0, 0) if y > 0 else (0, 0, 0, 1)  # it opens to the middle
        for name, there in (("object", told[scene.OBJECT]), ("block", told[scene.BOTTOM])):
            model.body_gravcomp[model.body(name).id] = 0.0 if there else 1.0
        kept = scene.SHAPES[int(told[scene.OBJECT]) - 1] if told[scene.OBJECT] else None
        for geom in (model.geom(i) for i in range(model.ngeom)):
            if geom.name.partition("_")[0] in scene.SHAPES and geom.name.partition("_")[0] != kept:
                geom.contype[:], geom.conaffinity[:], geom.rgba[:] = 0, 0, 0.0

    def markers(self, task: Task, time: float) -> tuple[Marker, ...]:
        """Return a translucent sphere where hand, handle, drawer front, object or block should go, in its colour."""
        told = np.array(task.params)
        x, y = scene.stack(told)
        front, low, high = x + 0.082, scene.DRAWER / 2, scene.handle_z(told)
        goals: Mapping[str, tuple[Any, float, RGB]] = {
            "move_hand": (scene.HAND_GOAL, scene.NEAR, GOLD),
            "open_handle": ((x, scene.bar_y(told, scene.TRAVEL), high), 0.03, BLUE),
            "close_handle": ((x, scene.bar_y(told, 0.0), high), 0.03, BLUE),
            "press_button": ((x, y, scene.button_z(told, 0.0)), 0.035, RED),
            "open_bottom": ((front + scene.TRAVEL, y, low), 0.03, ORANGE),
            "close_bottom": ((front, y, low), 0.03, ORANGE),
            "move_block": (scene.TABLE_GOAL, scene.NEAR, TEAL),
            "move_object": (scene.TABLE_GOAL, scene.NEAR, PURPLE),
            "object_in_tray": ((told[scene.TRAY_X], told[scene.TRAY_Y], 0.02), 0.06, PURPLE),
        }
        (gx, gy, gz), size, colour = goals[self.describe(task.params)]
        alpha = 0.3 if size > 0.05 else 0.5
        return (Marker("sphere", (float(gx), float(gy), float(gz)), size=size, rgba=(*colour, alpha)),)


class SawyerSceneDense(SawyerScene):
    """SawyerScene with a reward that shows the way: 0 where the aim is met, else -(d / 0.3 + e / 0.15) / 2.

    d is how far the tool is from what it has to reach: the handle's bar, the button (which drives the bottom drawer),
    the block, the object; for ``move_hand``, its goal. e is how far the aim is from being met (for ``press_button``,
    times 15). Both are in metres, and each of the two terms is at most 1.
    """

    name = "SawyerSceneDense"
    summary = "SawyerScene with a dense reward"

    def _reward(self, features: Float[Array, "... F"], params: Float[Array, "... P"]) -> Float[Array, "..."]:
        """Return 0 where the aim is met, else a negative number that falls with the distance, of at least -1."""
        left, button = scene.remaining(features, params), params[..., scene.AIM] == scene.AIMS.index("press_button")
        left_over = np.minimum(np.where(button, 15.0, 1.0) * left / 0.15, 1.0)
        return np.where(left <= 0, 0.0, -0.5 * (np.minimum(scene.reach(features, params) / 0.3, 1.0) + left_over))
