"""The live table of a grid's cells: what each is doing, how far it is, its last curve, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from offlinemeta.baselines.training.cell import Cell
from offlinemeta.baselines.training.log import read_log
from offlinemeta.console import how_long, say

ORDER = ("failed", "running", "waiting", "done", "kept")
"""The states of a cell, in the order of the table; cells that were finished before are kept."""

STYLES = {"failed": "red", "running": "bold", "waiting": "dim", "done": "green", "kept": "green dim"}


COLUMNS = {"data": 4, "method": 4, "seed": None, "state": None, "step": None, "time left": None, "returns": 4}
"""Names of the columns; of those that a narrow terminal shortens, how large their shares of the width are."""

WIDEST = 120
"""Most characters in a line of the table."""


class Board:
    """What is known of the cells of a grid while they run.

    Args:
        cells: the cells.
        kept: those of them that were finished before.
        console: the console on which ends are told where no table can be shown live.
    """

    def __init__(self, cells: Sequence[Cell], kept: Sequence[Cell], console: Console) -> None:
        self.console, self.began = console, time.monotonic()
        self.states = {cell: "kept" if cell in kept else "waiting" for cell in cells}
        self.steps = {cell: cell.run.steps for cell in cells}
        self.logs = {cell: read_log(cell.folder) for cell in cells}
        self.first: dict[Cell, int] = {}  # the step from which a cell goes on
        self.times: dict[Cell, float] = {}  # when a cell was started; once it has ended, how long that took

    def start(self, cell: Cell) -> None:
        """Note that a cell has been started."""
        log = self.logs[cell]
        self.states[cell], self.first[cell] = "running", log[-1]["step"] if log else 0
        self.times[cell] = time.monotonic()

    def end(self, cell: Cell, succeeded: bool) -> None:
        """Note that a cell has ended."""
        self.states[cell] = "done" if succeeded else "failed"
        self.times[cell] = time.monotonic() - self.times[cell]
        self.logs[cell] = read_log(cell.folder)
        if succeeded and not self.console.is_terminal:
            say(self.console, f"{cell.title}: done in {how_long(self.times[cell])} ({self.count('done', 'kept')})")

    def count(self, *states: str) -> str:
        """Say how many of the cells are in some states."""
        return f"{sum(state in states for state in self.states.values())} of {len(self.states)}"

    def table(self, whole: bool = False) -> Table:
        """Return the table; unless it is to be whole, cells that do not fit into the terminal's height are counted."""
        cells = sorted(self.states, key=lambda cell: ORDER.index(self.states[cell]))  # stable
        room = len(cells) if whole else max(self.console.height - 6, 1)
        title = f"{self.count('done', 'kept')} done, {how_long(time.monotonic() - self.began)}"
        hidden = f"and {len(cells) - room} more, which do not fit here" if len(cells) > room else None
        table = Table(title=title, caption=hidden, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD)
        table.width, table.padding = min(self.console.width, WIDEST), (0, 1, 0, 0)
        for name, share in COLUMNS.items():
            table.add_column(name, justify="left" if share else "right", no_wrap=True, ratio=share)
        for cell in cells[:room]:
            state, log = self.states[cell], self.logs[cell]
            if state == "running":
                log = self.logs[cell] = read_log(cell.folder)
            step = f"{log[-1]['step'] if log else 0:,} / {self.steps[cell]:,}"
            left = self.left(cell, log) if state == "running" else ""
            if cell in self.times and state != "running":
                left = f"took {how_long(self.times[cell])}"
            shown = "starting" if state == "running" and not log else state
            row = (cell.spec.short, cell.how, str(cell.seed), shown, step, left, returns(cell, log, state))
            table.add_row(*(Text(value) for value in row), style=STYLES[state])
        return table

    def left(self, cell: Cell, log: Sequence[dict[str, Any]]) -> str:
        """Say how long a cell's gradient steps will still take, by the pace since it was started."""
        timed = [entry for entry in log if "seconds" in entry and entry["step"] > self.first[cell]]
        if len(timed) < 2 or timed[-1]["step"] == timed[0]["step"]:
            return "unknown"
        pace = (timed[-1]["seconds"] - timed[0]["seconds"]) / (timed[-1]["step"] - timed[0]["step"])
        rest = pace * (self.steps[cell] - timed[-1]["step"])
        return how_long(rest) if rest > 0 else "evaluation"


def returns(cell: Cell, log: Sequence[dict[str, Any]], state: str) -> str:
    """Return the last curve on training tasks; of a finished cell, the first result of its last agent."""
    curves = [("training", entry["curve"]) for entry in log if "curve" in entry and "result" not in entry]
    if state in ("done", "kept"):
        results = {entry["result"].removesuffix(".json"): entry["curve"] for entry in log if "result" in entry}
        own = [(name, results.get(f"{cell.method}-{name}")) for name in cell.protocols]
        curves = [(name, curve) for name, curve in own if curve is not None][:1] or curves
    if not curves:
        return ""
    name, curve = curves[-1]
    numbers = [f"{value:.0f}" for value in curve]
    return f"{name}: {' '.join(numbers if len(numbers) <= 4 else [*numbers[:3], '..', numbers[-1]])}"
