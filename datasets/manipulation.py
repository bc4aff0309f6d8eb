"""Scripts for SawyerScene: a stage controller for each thing in the scene, the one that does a task's aim, and one that
does random things, as the study's data were made.

Each maps observations ``[N, 13]`` and task parameters ``[N, P]`` to actions ``[N, 4]``. They keep nothing in mind: the
stage follows from the observation, so that a script goes on from any state, and does again what failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from offlinemeta.datasets.behaviour import on_grid
from offlinemeta.envs.families import sawyer_layout as scene
from offlinemeta.envs.shapes import Array, Bool, Float

Script = Callable[[Float[Array, "N 13"], Float[Array, "N P"]], Float[Array, "N 4"]]

STRENGTH = 0.75
"""The largest action of a script: with Gaussian noise of 0.1, few actions sit on the bounds of the box."""

WIDTH = 0.02
"""The distance from the target below which a script slows down [m]."""

OPEN, HALF, SHUT = -STRENGTH, 0.0, STRENGTH
"""Actions of the fingers."""

THINGS = {"object": slice(4, 7), "block": slice(7, 10)}
"""Where the observation has the things that can be carried."""


def move_hand(seen: Float[Array, "N 13"], params: Float[Array, "N P"]) -> Float[Array, "N 4"]:
    """Go to the hand's goal."""
    return _go(seen, scene.HAND_GOAL, OPEN)


def press(seen: Float[Array, "N 13"], params: Float[Array, "N P"]) -> Float[Array, "N 4"]:
    """Go over the button with closed fingers, press it, and hold it down."""
    x, y = scene.stack(params)
    top = scene.button_z(params, 0.0) + scene.DISC_TOP
    return _approach(seen, params, _points(x, y, top - 0.01), top + 0.035, 0.012, SHUT)


def pull(
    seen: Float[Array, "N 13"], params: Float[Array, "N P"], opening: float | Float[Array, "N"]
) -> Float[Array, "N 4"]:
    """Take the handle's bar between the fingers from above, and move it until the drawer is open by ``opening`` [m]."""
    x, bar, z = params[:, scene.STACK_X], seen[:, 11], scene.handle_z(params)
    goal = scene.bar_y(params, np.broadcast_to(opening, len(params)))
    level = (seen[:, 2] < z + 0.02) & (np.abs(seen[:, 1] - bar) < 0.026) & (np.abs(seen[:, 0] - x) < 0.06)
    done = np.abs(bar - goal) < 0.025
    beyond = _points(x, goal + 0.03 * np.sign(goal - bar), z)
    there = _approach(seen, params, _points(x, bar, z), z + 0.06, 0.008, HALF)
    stay = _go(seen, seen[:, :3], HALF)
    return np.where(level[:, None], np.where(done[:, None], stay, _go(seen, beyond, HALF)), there)


def pull_open(seen: Float[Array, "N 13"], params: Float[Array, "N P"]) -> Float[Array, "N 4"]:
    """Open the handle drawer."""
    return pull(seen, params, scene.TRAVEL)


def push_shut(seen: Float[Array, "N 13"], params: Float[Array, "N P"]) -> Float[Array, "N 4"]:
    """Close the handle drawer."""
    return pull(seen, params, 0.0)


def carry(
    seen: Float[Array, "N 13"], params: Float[Array, "N P"], thing: str, goal: Float[Array, "N 2"], slack: float
) -> Float[Array, "N 4"]:
    """Take a thing from above, carry it over the walls, put it down within ``slack`` [m] of the goal, and let go."""
    at, tool, gap = seen[:, THINGS[thing]], seen[:, :3], seen[:, 3]
    off, left = at - tool, np.abs(at[:, :2] - goal).max(1)
    above = np.abs(off[:, :2]).max(1) < 0.014
    around = above & (np.abs(off[:, 2]) < 0.012)
    held = (np.abs(off).max(1) < 0.026) & (gap < 0.054)
    high = (np.abs(off[:, :2]).max(1) > 0.06) & (params[:, scene.HANDLE] > 0)
    take = _approach(seen, params, at, np.where(high, CLEARANCE, CARRY), 0.012, np.where(around, SHUT, OPEN))
    over = left < slack * 0.7
    lifted = np.abs(tool[:, 2] - CARRY) < 0.03
    way = np.where((over | lifted)[:, None], goal + tool[:, :2] - at[:, :2], tool[:, :2])
    bring = _go(seen, _points(*way.T, np.where(over, 0.026, CARRY)), SHUT)
    let_go = _go(seen, _points(tool[:, 0], tool[:, 1], np.where(gap > LET_GO, 0.17, tool[:, 2])), OPEN)
    stages = [placed(seen, thing, goal, slack)[:, None], held[:, None]]
    return np.select(stages, [let_go, bring], take)


def placed(seen: Float[Array, "N 13"], thing: str, goal: Float[Array, "N 2"], slack: float) -> Bool[Array, " N"]:
    """Tell where a thing lies within ``slack`` [m] of the goal."""
    at = seen[:, THINGS[thing]]
    return (np.abs(at[:, :2] - goal).max(1) < slack) & (at[:, 2] < 0.036)


LET_GO = 0.056
"""Gap of the fingers from which on a thing is let go [m]."""

CARRY, CLEARANCE = 0.115, 0.185
"""Heights at which things are carried over walls, and at which the hand clears an open handle drawer [m]."""


def carry_object(seen: Float[Array, "N 13"], params: Float[Array, "N P"]) -> Float[Array, "N 4"]:
    """Carry the object to the clear table."""
    return carry(seen, params, "object", _clear(params), 0.045)


def carry_block(seen: Float[Array, "N 13"], params: Float[Array, "N P"]) -> Float[Array, "N 4"]:
    """Carry the block out of its drawer to the clear table."""
    return carry(seen, params, "block", _clear(params), 0.045)


def fill_tray(seen: Float[Array, "N 13"], params: Float[Array, "N P"]) -> Float[Array, "N 4"]:
    """Carry the object into the tray."""
    return carry(seen, params, "object", params[:, [scene.TRAY_X, scene.TRAY_Y]], 0.04)


SCRIPTS: Mapping[str, Script] = {
    "move_hand": move_hand,
    "open_handle": pull_open,
    "close_handle": push_shut,
    "press_button": press,
    "open_bottom": press,
    "close_bottom": press,
    "move_block": carry_block,
    "move_object": carry_object,
    "object_in_tray": fill_tray,
}
"""The script that meets each aim."""


def aimed(observations: Float[Array, "N O"], params: Float[Array, "N P"], t: int) -> Float[Array, "N 4"]:
    """Do what each task's aim asks for."""
    actions, aims = np.zeros((len(observations), 4)), params[:, scene.AIM].astype(int)
    seen = np.asarray(observations, dtype=np.float64)
    for aim in np.unique(aims):
        rows = aims == aim
        actions[rows] = SCRIPTS[scene.AIMS[aim]](seen[rows], params[rows])
    return actions


# --- random behaviour, as in the study's data

BEHAVIOURS = ("hand", "handle", "button", "block", "object", "tray")
"""What random behaviour consists of: the hand to its goal, the handle drawer to its other end, the button down, the
block and the object to the clear table, the object into the tray."""


class RandomBehaviour:
    """N episodes of random behaviour: do one thing that the scene offers, then another one, until all are done.

    The study's data are such episodes: a behaviour is drawn uniformly from those that are available and not yet done,
    whatever the aim, and its script is followed until it is done, with Gaussian noise. It is a policy of one rollout.

    Args:
        params: ``[N, P]`` the parameters of the episodes' tasks, of which the aim is not looked at.
        noise: standard deviation of the noise.
    """

    def __init__(self, params: Float[Array, "N P"], noise: float) -> None:
        self._params, self._noise = params, noise
        self._which = np.full(len(params), -1)  # index of the present behaviour; -1 for none
        self._opening = np.zeros(len(params))  # where the handle drawer goes
        self.done = np.zeros((len(params), len(BEHAVIOURS)), dtype=bool)

    def __call__(
        self, observations: Float[Array, "N O"], params: Float[Array, "N P"], rng: np.random.Generator | None
    ) -> Float[Array, "N 4"]:
        """Return the next actions on the grid."""
        assert rng is not None, "random behaviour draws"
        seen, params = np.asarray(observations, dtype=np.float64), self._params
        rows = np.arange(len(seen))
        opening = handle_opening(seen, params)
        over = self._finished(seen, opening)
        self.done[rows[over], self._which[over]] = True
        free = self._available(seen) & ~self.done
        chosen = np.where(free, rng.random(free.shape), -1.0)  # the largest wins: uniform over the free ones
        anew = over | (self._which < 0)
        self._which[anew] = np.where(free.any(1), chosen.argmax(1), -1)[anew]
        self._opening[anew] = np.where(opening > scene.TRAVEL / 2, 0.0, scene.TRAVEL)[anew]
        actions = np.zeros((len(seen), 4))
        for i, script in enumerate((move_hand, None, press, carry_block, carry_object, fill_tray)):
            mine = self._which == i
            if mine.any():
                own = seen[mine], params[mine]
                actions[mine] = pull(*own, self._opening[mine]) if script is None else script(*own)
        return on_grid(actions + self._noise * rng.standard_normal(actions.shape))

    def _available(self, seen: Float[Array, "N 13"]) -> Bool[Array, "N B"]:
        p = self._params
        handle, button, object_, tray = (
            p[:, column] > 0 for column in (scene.HANDLE, scene.BUTTON, scene.OBJECT, scene.TRAY)
        )
        bottom_open = (p[:, scene.BOTTOM] > 0) & (seen[:, 10] - p[:, scene.STACK_X] > scene.TRAVEL - scene.NEAR_END)
        return np.stack([np.ones(len(p), dtype=bool), handle, button, bottom_open, object_, object_ & tray], axis=1)

    def _finished(self, seen: Float[Array, "N 13"], opening: Float[Array, "N"]) -> Bool[Array, " N"]:
        p, put = self._params, seen[:, 3] > LET_GO
        each = (
            np.abs(seen[:, :3] - scene.HAND_GOAL).max(1) < 0.03,
            np.abs(opening - self._opening) < 0.03,
            scene.button_z(p, 0.0) - seen[:, 12] >= scene.PRESSED,
            placed(seen, "block", _clear(p), 0.045) & put,
            placed(seen, "object", _clear(p), 0.045) & put,
            placed(seen, "object", p[:, [scene.TRAY_X, scene.TRAY_Y]], 0.04) & put,
        )
        return (self._which >= 0) & np.choose(np.maximum(self._which, 0), each)


def handle_opening(seen: Float[Array, "N 13"], params: Float[Array, "N P"]) -> Float[Array, "N"]:
    """Return how far the handle drawer is open [m], from where its bar is."""
    return params[:, scene.SIDE] * (scene.bar_y(params, 0.0) - seen[:, 11])


def _clear(params: Float[Array, "N P"]) -> Float[Array, "N 2"]:
    """Return where things are put on the clear table [m]: a little away from an open bottom drawer."""
    return np.stack([np.full(len(params), scene.TABLE_GOAL[0]), -0.012 * params[:, scene.SIDE]], axis=1)


def _points(*coordinates: Float[Array, "N"]) -> Float[Array, "N 3"]:
    return np.stack(coordinates, axis=1)


def _go(seen: Float[Array, "N 13"], target: Float[Array, "... 3"], fingers: float | Array) -> Float[Array, "N 4"]:
    """Go to a point, slower near it."""
    way = np.clip((target - seen[:, :3]) / WIDTH, -1, 1) * STRENGTH
    return np.concatenate([way, np.broadcast_to(fingers, len(seen))[:, None]], axis=1)


def _clearance(seen: Float[Array, "N 13"], params: Float[Array, "N P"]) -> Float[Array, "N"]:
    """Return the height at which the hand may leave the place above the button [m]; 0 elsewhere."""
    stack = np.stack(scene.stack(params), axis=1)
    above = (np.abs(seen[:, :2] - stack).max(1) < 0.05) & (params[:, scene.BUTTON] > 0)
    return np.where(above, scene.button_z(params, 0.0) + scene.DISC_TOP + 0.03, 0.0)


def _approach(
    seen: Float[Array, "N 13"],
    params: Float[Array, "N P"],
    target: Float[Array, "N 3"],
    height: Float[Array, "N"],
    slack: float,
    fingers: float | Array,
) -> Float[Array, "N 4"]:
    """Rise to a height [m], go over the target, and go down to it once within ``slack`` [m] of its x and y."""
    tool = seen[:, :3]
    over: Bool[Array, " N"] = np.abs(target[:, :2] - tool[:, :2]).max(1) < slack
    height = np.maximum(height, np.where(over, 0.0, _clearance(seen, params)))
    low = ~over & (tool[:, 2] < height - 0.025)
    x, y = (np.where(low, tool[:, axis], target[:, axis]) for axis in (0, 1))
    return _go(seen, _points(x, y, np.where(over, target[:, 2], height)), fingers)
