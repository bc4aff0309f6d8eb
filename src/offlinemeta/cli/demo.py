"""The command ``offlinemeta demo``: from the data to adaptation curves.

The demo trains two methods of the study at the same time (``leaderboard/study.json`` says which, and on what data),
evaluates them on held-out tasks, draws their curves, films them, and says whether the study's third claim shows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from offlinemeta.baselines.training.cell import Cell, plan
from offlinemeta.baselines.training.checkpoint import load_agent
from offlinemeta.baselines.training.grid import run_grid
from offlinemeta.baselines.training.run import PROTOCOLS, file_name
from offlinemeta.benchmark.result import read_results
from offlinemeta.cli.film import ROLLOUT, explored, film_episode
from offlinemeta.console import say
from offlinemeta.datasets.spec import get_spec
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import MissingExtraError, RenderError
from offlinemeta.files import check_writable
from offlinemeta.leaderboard import table
from offlinemeta.leaderboard.report import page, plot
from offlinemeta.leaderboard.table import STUDY

METHODS = STUDY["demo"]["methods"]

FILMED = (0, 5)
"""Indices of the test tasks that are filmed."""


def run(data: str | None, out: Path, seed: int, preset: str, console: Console) -> None:
    """Train, evaluate, print the table, and write ``adaptation.png`` and ``report.html``.

    A demo that was killed goes on where it stopped.

    Args:
        data: dataset to train on; by default, that of the study's demo.
        out: folder for the runs, the picture, the page and the films.
        seed: seed of the trainings.
        preset: preset of the methods' configs.
        console: the console on which progress is shown.

    Raises:
        RunError: a training failed; the message names the file with its output.
        FileError: nothing can be written in ``out``.
    """
    started = time.monotonic()
    check_writable(out)
    spec = get_spec(data or STUDY["demo"]["data"])
    cells = plan({spec.short: PROTOCOLS}, METHODS, [seed], preset, out / "demo")
    run_grid(cells, len(cells), console)
    rows = table.summarise(read_results([cell.folder / "results" for cell in cells]))
    Console(width=max(console.width, 180)).print(table.table(rows))
    written: list[Path] = []
    films: dict[str, Path] = {}
    try:
        films = film(cells, out, console)
        written += plot(rows, [out / "adaptation.png"])
        notes = {f"{spec.family}/{spec.quality}": f"Trained and evaluated by this demo, preset {preset}, seed {seed}."}
        written.append(page(rows, out / "report.html", films, "Adaptation to held-out tasks", notes))
    except (MissingExtraError, RenderError) as error:
        say(console, f"Not everything could be drawn: {error}", style="yellow")
    say(console, verdict(rows))
    for path in [*written, *films.values()]:
        say(console, f"written: {path}")
    say(console, f"The demo took {(time.monotonic() - started) / 60:.1f} minutes.")


def film(cells: Sequence[Cell], out: Path, console: Console) -> dict[str, Path]:
    """Film each method's agent after its exploration, and return the films by title."""
    films = {}
    for cell in cells:
        family = get_family(cell.spec.family)
        agent = load_agent(family, cell.folder / file_name("agent"))
        for index in FILMED:
            path = out / f"{cell.method}-task{index}.mp4"
            task = family.task(index, "test")
            total = film_episode(family, path, task, explored(agent, family, task, ROLLOUT - 1), 0, console)
            films[f"{cell.method} on {family.name}'s test task {index}, third episode, return {total:.0f}"] = path
    return films


def verdict(rows: list[table.Row]) -> str:
    """Say whether the study's claim holds in these results, with the figures."""
    third = {row.method: row.third.value for row in rows if row.third is not None}
    end, start = STUDY["claims"]["end"], STUDY["claims"]["start"]
    others = [start, *(method for method in METHODS if method != end)]
    better = all(third[end] > third[other] for other in others)
    claim = "above all" if better else "NOT above all: this run does not show the effect"
    shown = ", ".join(f"{other} {third[other]:.1f}" for other in others)
    return f"{rows[0].data}, third episode on held-out tasks: {end} {third[end]:.1f}, {shown}: {end} is {claim}."
