"""How methods are drawn, in every chart, table and picture: colours, strokes of lines and shapes of points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offlinemeta.leaderboard.table import STUDY

# The palette of Okabe and Ito, then eight of Paul Tol's: told apart by colour-blind readers
COLOURS = (
    "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442",
    "#882255", "#44AA99", "#332288", "#999933", "#AA4499", "#117733", "#888888", "#661100",
)  # fmt: skip
GREY = "#666666"
"""Of what is known beforehand: random actions, the best blind policy, the expert that is told its task."""
LIGHT = 0.22
"""The least luminance of a colour on a dark page: a contrast of about 5 with it."""
DASHES = ((), (7, 3), (2, 2), (9, 3, 2, 3), (14, 4))
"""Lengths of strokes and gaps; the first colours are of whole lines, the next ones are broken in one way each."""
SHAPES = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "triangle-down": "v", "cross": "P",
    "triangle-right": ">",
}  # fmt: skip
"""Shapes of points as Vega names them, and as matplotlib does."""


@dataclass(frozen=True)
class Style:
    """How a method is drawn, in every chart, table and picture; no two of the first eighty methods look alike.

    Attributes:
        colour: on a light page.
        dash: lengths of the strokes and gaps of its lines; none for a whole line.
        shape: of its points, one of :data:`SHAPES`.
    """

    colour: str
    dash: tuple[int, ...]
    shape: str


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """Return the style of each method; the package's own have the same one in every picture."""
    order = [*STUDY["methods"], *sorted(set(methods) - set(STUDY["methods"]))]
    places = {method: order.index(method) for method in methods}
    return {
        method: Style(
            COLOURS[place % len(COLOURS)],
            DASHES[place // len(COLOURS) % len(DASHES)],
            list(SHAPES)[place % len(SHAPES)],
        )
        for method, place in places.items()
    }


def on_dark(colour: str) -> str:
    """Return a colour as it is on a dark page: as light as it has to be to be seen there, black as white."""
    mixed = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    if not any(mixed):
        return "#FFFFFF"
    while 0.2126 * mixed[0] ** 2.2 + 0.7152 * mixed[1] ** 2.2 + 0.0722 * mixed[2] ** 2.2 < LIGHT:
        mixed = [0.95 * part + 0.05 for part in mixed]
    return "#" + "".join(f"{round(255 * part):02X}" for part in mixed)
