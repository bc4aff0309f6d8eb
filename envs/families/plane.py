"""Directions in the plane, which are the hidden tasks of several families."""

from __future__ import annotations

from typing import Any

import numpy as np

from offlinemeta.envs.render import Marker
from offlinemeta.envs.shapes import Array, Float

ORANGE = (0.9, 0.4, 0.1, 1.0)


def unit(angle: Any) -> Float[Array, "... 2"]:
    """Return the unit vectors at angles [rad]."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def along(velocity: Float[Array, "... 2"], angle: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return v·(cos θ, sin θ), the speed in a direction [m/s]."""
    return velocity[..., 0] * np.cos(angle) + velocity[..., 1] * np.sin(angle)


def arrow(angle: float, height: float, length: float, y: float = 0.0) -> tuple[Marker, ...]:
    """Return an arrow above the body, in the wanted direction."""
    return (Marker("arrow", (0.0, y, height), size=length, rgba=ORANGE, direction=angle, follow=True),)
