"""The scenes of SawyerScene: where things are, how far an aim is from being met, which scenes can be, and their draw.

Functions of task parameters ``[..., P]`` and reward features ``[..., F]``, over any leading axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from offlinemeta.envs.shapes import Array, Float

AIMS = (
    "move_hand", "open_handle", "close_handle", "press_button", "open_bottom", "close_bottom", "move_block",
    "move_object", "object_in_tray",
)  # fmt: skip
"""What a task may ask for; its first parameter is an index into these."""

PARAMS = (
    "aim", "side", "stack_x [m]", "stack_y [m]", "handle drawer", "bottom drawer", "button", "tray", "tray_x [m]",
    "tray_y [m]", "object", "object_x [m]", "object_y [m]",
)  # fmt: skip
"""Task parameters. The side of the stack of drawers is -1 or 1, and ``stack_y`` its distance from the middle. A drawer
is 0 (there is none), 1 (it starts closed) or 2 (open); button and tray are 0 or 1; the object is 0 or a shape's number,
from 1. The stack always has a place; the places of a tray and of an object that are not there are 0."""

AIM, SIDE, STACK_X, STACK_Y, HANDLE, BOTTOM, BUTTON, TRAY, TRAY_X, TRAY_Y, OBJECT, OBJECT_X, OBJECT_Y = range(13)

ABSENT, CLOSED, OPEN = 0, 1, 2

SHAPES = ("mug", "sofa", "camera", "can", "bottle")
"""The shapes of the object; the names are of geoms in ``sawyer_scene.xml``, and of the beginnings of such names."""

LOW, HIGH = np.array([0.50, -0.20, 0.01]), np.array([0.85, 0.20, 0.27])
"""The workspace: where the tool, the point between the fingertips, may be sent [m]."""

START = np.array([0.60, -0.15, 0.17])
"""Where the tool starts [m]; y times the side."""

TRAVEL, BAR = 0.156, 0.1375
"""How far the drawers open; how far the handle's bar is in front of its drawer's centre [m]."""

DRAWER, BASE, DISC, DISC_TOP = 0.075, 0.025, 0.0265, 0.01
"""Heights of a drawer's frame and of the button's base; the button's centre above its base's, and its top above its
centre [m]."""

HAND_GOAL, TABLE_GOAL = np.array([0.675, 0.0, 0.26]), np.array([0.75, 0.0, 0.02])
"""Goals of the hand, and of object and block [m]."""

NEAR, NEAR_END, PRESSED = 0.08, 0.065, 0.01
"""How near hand, object or block have to come to their goals, and a drawer to its end; how far a button has to go down
to count as pressed [m]."""

TRAY_INSIDE, TRAY_HEIGHT = 0.07, 0.06
"""Half of the tray's inner width, and the height below which an object's centre is inside [m]."""

SLOTS = np.array([[0.59, -0.14], [0.76, -0.14], [0.76, 0.14], [0.59, 0.14]])
"""Where tray and object may stand [m]; y times the side."""


# --- where things are: an entry for each of the tasks, or a number for a single one


def stack(params: Float[Array, "*batch P"]) -> tuple[Any, Any]:
    """Return x and y of the drawers and the button [m]."""
    return params[..., STACK_X], params[..., SIDE] * params[..., STACK_Y]


def handle_z(params: Float[Array, "*batch P"]) -> Any:
    """Return the height of the handle drawer's centre [m], which stands on the bottom drawer if there is one."""
    return DRAWER * (0.5 + (params[..., BOTTOM] > 0))


def bar_y(params: Float[Array, "*#batch P"], opening: float | Float[Array, "*#batch"]) -> Any:
    """Return where the handle's bar is [m], of a drawer that is open by ``opening`` [m]."""
    return params[..., SIDE] * (params[..., STACK_Y] - BAR - opening)


def base_z(params: Float[Array, "*batch P"]) -> Any:
    """Return the height of the centre of the button's base [m], which stands on the drawers."""
    return DRAWER * ((params[..., HANDLE] > 0) * 1.0 + (params[..., BOTTOM] > 0)) + BASE / 2


def button_z(params: Float[Array, "*#batch P"], depressed: float | Float[Array, "*#batch"]) -> Any:
    """Return the height of the button's centre [m]."""
    return base_z(params) + DISC - depressed


# --- how far an aim is from being met


def remaining(features: Float[Array, "*#batch F"], params: Float[Array, "*#batch P"]) -> Float[Array, "*#batch"]:
    """Return how far it is until the aim is met [m]; zero and less where it is."""
    tool, thing, block = features[..., 0:3], features[..., 3:6], features[..., 6:9]
    handle, bottom, depressed = features[..., 9], features[..., 10], features[..., 11]
    off_tray = np.maximum(np.abs(thing[..., 0] - params[..., TRAY_X]), np.abs(thing[..., 1] - params[..., TRAY_Y]))
    distances = (
        _distance(tool, HAND_GOAL) - NEAR,
        np.abs(handle - TRAVEL) - NEAR_END,
        np.abs(handle) - NEAR_END,
        PRESSED - depressed,
        np.abs(bottom - TRAVEL) - NEAR_END,
        np.abs(bottom) - NEAR_END,
        _distance(block, TABLE_GOAL) - NEAR,
        _distance(thing, TABLE_GOAL) - NEAR,
        np.maximum(off_tray - TRAY_INSIDE, thing[..., 2] - TRAY_HEIGHT),
    )
    return _of_aim(params, distances)


def reach(features: Float[Array, "*#batch F"], params: Float[Array, "*#batch P"]) -> Float[Array, "*#batch"]:
    """Return how far the tool is from what the aim is about [m]; for the hand itself, from its goal."""
    tool, thing, block = features[..., 0:3], features[..., 3:6], features[..., 6:9]
    handle, depressed = features[..., 9], features[..., 11]
    x, y = stack(params)
    bar = _distance(tool, _point(x, bar_y(params, handle), handle_z(params)))
    button = _distance(tool, _point(x, y, button_z(params, depressed)))
    at_thing = _distance(tool, thing)
    hand = _distance(tool, HAND_GOAL)
    return _of_aim(params, (hand, bar, bar, button, button, button, _distance(tool, block), at_thing, at_thing))


def _distance(a: Float[Array, "*#batch 3"], b: Float[Array, "*#batch 3"]) -> Float[Array, "*#batch"]:
    x, y, z = (a[..., i] - b[..., i] for i in range(3))
    return np.sqrt(x * x + y * y + z * z)


def _point(*coordinates: Float[Array, "*#batch"]) -> Float[Array, "*#batch 3"]:
    return np.stack(np.broadcast_arrays(*coordinates), axis=-1)


def _of_aim(params: Float[Array, "*#batch P"], values: Sequence[Float[Array, "*#batch"]]) -> Float[Array, "*#batch"]:
    """Return, of a value for each of the aims, that of the task's own."""
    aim = params[..., AIM]
    found = values[0] + 0.0 * aim
    for index, value in enumerate(values[1:], start=1):
        found = np.where(aim == index, value, found)
    return found


# --- which scenes can be

NEEDS: Mapping[str, tuple[tuple[int, tuple[int, ...], str], ...]] = {
    "open_handle": ((HANDLE, (CLOSED,), "a handle drawer that starts closed"),),
    "close_handle": ((HANDLE, (OPEN,), "a handle drawer that starts open"),),
    "press_button": ((BUTTON, (1,), "a button"),),
    "open_bottom": ((BOTTOM, (CLOSED,), "a bottom drawer that starts closed"), (BUTTON, (1,), "a button to drive it")),
    "close_bottom": ((BOTTOM, (OPEN,), "a bottom drawer that starts open"), (BUTTON, (1,), "a button to drive it")),
    "move_block": ((BOTTOM, (OPEN,), "a bottom drawer that starts open, for the block is in it"),),
    "move_object": ((OBJECT, (1, 2, 3, 4, 5), "an object"),),
    "object_in_tray": ((OBJECT, (1, 2, 3, 4, 5), "an object"), (TRAY, (1,), "a tray")),
}
"""What an aim needs: a parameter, its possible values, and what these mean."""

VALUES: Mapping[int, Mapping[int, str]] = {
    AIM: dict(enumerate(AIMS)),
    SIDE: {-1: "at y < 0", 1: "at y > 0"},
    HANDLE: (drawer := {ABSENT: "none", CLOSED: "closed", OPEN: "open"}),
    BOTTOM: drawer,
    BUTTON: (there := {0: "none", 1: "one"}),
    TRAY: there,
    OBJECT: {0: "none", **dict(enumerate(SHAPES, start=1))},
}
"""The possible values of parameters that are not places, and what they mean."""

Rectangle = tuple[float, float, float, float]
"""Least and largest x, least and largest y [m]."""


def contradiction(params: Sequence[float]) -> str | None:
    """Say what is wrong with the parameters of a task apart from places, or return None."""
    for column, meanings in VALUES.items():
        if params[column] not in meanings:
            known = ", ".join(f"{value} ({meaning})" for value, meaning in meanings.items())
            return f"its {PARAMS[column]} is {params[column]:g}, which is none of {known}"
    aim = AIMS[int(params[AIM])]
    for column, values, what in NEEDS.get(aim, ()):
        if params[column] not in values:
            return f"its aim {aim} needs {what}; its {PARAMS[column]} is {params[column]:g}"
    for there, x, y in ((TRAY, TRAY_X, TRAY_Y), (OBJECT, OBJECT_X, OBJECT_Y)):
        if not params[there] and (params[x], params[y]) != (0, 0):
            what = PARAMS[there]
            return f"it has no {what}, so that the {what}'s place is to be 0, 0, not {params[x]:g}, {params[y]:g}"
    return None


def misplaced(params: Sequence[float]) -> str | None:
    """Say which thing is out of reach, overlaps another one, or is at its goal from the start, or return None."""
    aim, things = AIMS[int(params[AIM])], footprints(params)
    stack_x, stack_y = params[STACK_X], params[STACK_Y]
    if not (0.55 <= stack_x <= 0.69 and 0.13 <= stack_y <= 0.18):
        return f"its stack at x={stack_x:g}, y={stack_y:g} m is out of reach (x in 0.55 to 0.69, y in 0.13 to 0.18)"
    for what, there, x, y in (("tray", TRAY, TRAY_X, TRAY_Y), ("object", OBJECT, OBJECT_X, OBJECT_Y)):
        if params[there] and not (0.54 <= params[x] <= 0.81 and abs(params[y]) <= 0.17):
            return f"its {what} at x={params[x]:g}, y={params[y]:g} m is out of reach (x in 0.54 to 0.81, |y| to 0.17)"
    if aim in ("move_object", "move_block"):
        x, y = TABLE_GOAL[:2].tolist()
        things["goal"] = (x - 0.025, x + 0.025, y - 0.025, y + 0.025)
        away = np.hypot(params[OBJECT_X] - x, params[OBJECT_Y] - y)
        if aim == "move_object" and away < NEAR + 0.02:
            return (
                f"its object is at the goal from the start (they are {away:.3f} m apart, not {NEAR + 0.02:g} or more)"
            )
    for (one, a), (other, b) in combinations(things.items(), 2):
        if {one, other} != {"handle drawer", "bottom drawer"} and _meet(a, b):  # which stand one on the other
            return f"its {one} ({_extent(a)}) and its {other} ({_extent(b)}) are in each other's way"
    return None


def footprints(params: Sequence[float]) -> dict[str, Rectangle]:
    """Return the rectangles that things need on the table or above it, drawers with all of their travel."""
    side, x, y = params[SIDE], params[STACK_X], params[STACK_Y]
    things: dict[str, Rectangle] = {}
    if params[HANDLE]:
        ends = side * (y - BAR - TRAVEL - 0.01), side * (y + 0.082)
        things["handle drawer"] = (x - 0.094, x + 0.094, min(ends), max(ends))
    if params[BOTTOM]:
        things["bottom drawer"] = (x - 0.082, x + 0.082 + TRAVEL, side * y - 0.094, side * y + 0.094)
    if params[BUTTON] and not things:
        things["button"] = (x - 0.05, x + 0.05, side * y - 0.05, side * y + 0.05)
    for what, there, centre, half in (("tray", TRAY, TRAY_X, 0.075), ("object", OBJECT, OBJECT_X, 0.045)):
        if params[there]:
            at, across = params[centre], params[centre + 1]
            things[what] = (at - half, at + half, across - half, across + half)
    return things


def _meet(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


def _extent(a: Rectangle) -> str:
    return f"x {a[0]:.3f} to {a[1]:.3f}, y {a[2]:.3f} to {a[3]:.3f} m"


def refusal(params: Sequence[float]) -> str | None:
    """Say why there can be no task of these parameters, or return None."""
    return contradiction(params) or misplaced(params)


def asking(aim: str, params: Sequence[float]) -> list[float]:
    """Return the parameters of the same scene with another aim, which it may not allow (:func:`refusal`)."""
    return [float(AIMS.index(aim)), *params[1:]]


def alternatives(params: Sequence[float]) -> list[list[float]]:
    """Return the parameters of the same scene with each of the aims that it allows."""
    others = (asking(aim, params) for aim in AIMS)
    return [other for other in others if refusal(other) is None]


# --- drawing tasks


def draw(count: int, rng: np.random.RandomState, elsewhere: bool = False) -> Float[Array, "{count} P"]:
    """Draw tasks, whose aims take turns; ``elsewhere``, drawers are shifted, tray and object are between the slots."""
    return np.array([_draw_one(i % len(AIMS), rng, elsewhere) for i in range(count)])


def _draw_one(aim: int, rng: np.random.RandomState, elsewhere: bool) -> list[float]:
    """Draw scenes as the study does, each thing with a probability of 0.75, until one allows the aim."""
    while True:
        params = [0.0] * len(PARAMS)
        side = float(rng.choice([-1.0, 1.0]))
        params[AIM], params[SIDE] = float(aim), side
        shift = rng.choice([-1, 1]) * rng.uniform(0.02, 0.04) if elsewhere else rng.uniform(-0.01, 0.01)
        params[STACK_X] = float(0.60 + shift)
        params[STACK_Y] = 0.145 + (0.01 if elsewhere else 0.0)
        there = rng.uniform(size=5) < 0.75
        for column, present in zip((HANDLE, BOTTOM), there[:2], strict=True):
            params[column] = float(present * rng.choice([CLOSED, OPEN]))
        params[BUTTON], params[TRAY] = float(there[2]), float(there[3])
        params[OBJECT] = float(there[4] * rng.randint(1, len(SHAPES) + 1))
        for thing, x in ((TRAY, TRAY_X), (OBJECT, OBJECT_X)):
            place = SLOTS[rng.randint(len(SLOTS))] * (1, side) + rng.uniform(-0.01, 0.01, 2)
            if elsewhere:
                place[0] = rng.uniform(0.65, 0.70)
            if params[thing]:
                params[x], params[x + 1] = place.tolist()
        if refusal(params) is None:
            return params
