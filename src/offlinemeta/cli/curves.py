"""The command ``offlinemeta curves``: how trainings went. Heavy imports stay inside it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

console = Console()

EPILOG = (
    "Examples:\n\n  offlinemeta curves out/runs/CheetahVel-smac/smac-s0\n\n"
    "  offlinemeta curves out/runs/CheetahVel-smac/*-s0 --out seed0.png"
)

NO_LOSSES = ("step", "seconds", "curve", "result")
"""What entries of a log hold beside losses."""

ACROSS = 4
"""Panels of the picture in a row."""


def curves(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, finished or not, of one or several methods.")],
    out: Annotated[Path, typer.Option(help="PNG file for the picture.")] = Path("out/curves.png"),
) -> None:
    """Show how trainings went: plot returns on training tasks and losses against gradient steps."""
    from offlinemeta.cli.training import require_torch

    require_torch("Reading a run")
    from offlinemeta.baselines.training.log import read_log
    from offlinemeta.benchmark.errors import RunError
    from offlinemeta.console import say
    from offlinemeta.files import check_replaceable

    check_replaceable(out)
    logs: dict[str, list[dict[str, Any]]] = {}
    folders = dict.fromkeys(run.resolve() for run in runs)
    root = os.path.commonpath([folder.parent for folder in folders])
    for run in folders:
        logs[name := str(run.relative_to(root))] = read_log(run)
        if not logs[name]:
            raise RunError(f"There is no log of a training in {run}. Give the folder of a run, which has log.jsonl.")
    console.print(table(logs))
    say(console, f"written: {draw(logs, out)}")


def returns(log: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps at which a log has curves on training tasks, ``[P]``, and the curves, ``[P, episode]``."""
    found = [(entry["step"], entry["curve"]) for entry in log if "curve" in entry and "result" not in entry]
    return np.array([step for step, _ in found]), np.array([curve for _, curve in found])


def losses(log: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Return the losses of a log by name, each as pairs of step and value."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in log:
        for name in entry.keys() - set(NO_LOSSES):
            found.setdefault(name, []).append((entry["step"], entry[name]))
    return dict(sorted(found.items()))


def table(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Return a table of what each run has reached."""
    shown = Table("run", "step", "minutes", "last returns on training tasks", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, log in logs.items():
        _, curves = returns(log)
        last = ", ".join(f"{value:.1f}" for value in curves[-1]) if len(curves) else ""
        minutes = max(entry.get("seconds", 0.0) for entry in log) / 60
        shown.add_row(name, f"{log[-1]['step']:,}", f"{minutes:.1f}", last)
    return shown


def draw(logs: Mapping[str, Sequence[Mapping[str, Any]]], file: Path) -> Path:
    """Draw the first and the last episode on training tasks in the first panel, then a panel for each loss.

    Raises:
        MissingExtraError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    from offlinemeta.cli.picture import new_figure, save
    from offlinemeta.leaderboard.style import COLOURS

    names = sorted({name for log in logs.values() for name in losses(log)})
    across, down = min(1 + len(names), ACROSS), math.ceil((1 + len(names)) / ACROSS)
    figure = new_figure(4.2 * across, 3.2 * down + 0.4)
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for spare in panels[1 + len(names) :]:
        spare.remove()
    for place, (run, log) in enumerate(logs.items()):
        colour, (steps, curves) = COLOURS[place % len(COLOURS)], returns(log)
        panels[0].plot([], [], color=colour, label=run)  # for the legend, whatever there is to draw
        if len(curves):
            panels[0].plot(steps, curves[:, -1], color=colour, marker="o", ms=4)
            panels[0].plot(steps, curves[:, 0], color=colour, marker=".", ms=3, ls=":")
        for axes, name in zip(panels[1:], names, strict=False):
            if pairs := losses(log).get(name):
                axes.plot(*zip(*pairs, strict=True), color=colour, lw=1)
    panels[0].set(title="training tasks", ylabel="return: last episode, dotted the first")
    for axes, name in zip(panels[1:], names, strict=False):
        axes.set(title=f"loss: {name}")
    for axes in panels[: 1 + len(names)]:
        axes.set_xlabel("gradient steps")
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=1 if across < 3 else 2)
    return save(figure, file)
