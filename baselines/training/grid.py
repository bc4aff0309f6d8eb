"""A grid of trainings, each in a process of its own; finished ones are kept, and killed ones are resumed.

One grid serves suites, the study, trials, the demo and whatever else trains several things at once, on this machine or
on a Ray cluster (:mod:`offlinemeta.baselines.training.on_ray`).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console
from rich.live import Live

from offlinemeta.baselines.training.board import Board
from offlinemeta.baselines.training.cell import Cell
from offlinemeta.baselines.training.run import differences
from offlinemeta.benchmark.errors import RunError
from offlinemeta.console import ENDS_WITH_PARENT, say
from offlinemeta.datasets.loading import load
from offlinemeta.envs.vector import CORES

GLANCE = 0.5
"""Seconds between two checks of the processes."""

LAST_LINES = 12
"""How many lines of a failed cell's output are shown."""


class FailedCellsError(RunError):
    """Some cells of a grid failed; all others were finished."""

    exit_code = 1


class Job(Protocol):
    """A cell that is being trained somewhere."""

    def poll(self) -> int | None:
        """Return the exit status of the cell's process; None as long as it runs."""

    def end(self) -> None:
        """End the process, if it has not ended by itself."""


class Process:
    """A cell's process on this machine, which ends with this one, whatever ends this one."""

    def __init__(self, cell: Cell) -> None:
        cell.folder.mkdir(parents=True, exist_ok=True)
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", CORES: "1"}
        environment = {**os.environ, **threads, "OMP_WAIT_POLICY": "PASSIVE", ENDS_WITH_PARENT: "1"}
        with cell.output.open("ab") as output:
            self.process = subprocess.Popen(
                cell.command(), env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            )

    def poll(self) -> int | None:
        """Return the exit status, or None as long as the process runs."""
        return self.process.poll()

    def end(self) -> None:
        """End the process, if it has not ended by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()  # which ends it
        self.process.wait()


def run_grid(
    cells: Sequence[Cell],
    jobs: int | None,
    console: Console,
    finished: Callable[[Cell], None] = lambda cell: None,
    start: Callable[[Cell], Job] = Process,
) -> None:
    """Run cells, ``jobs`` at a time, and show their progress.

    A cell that shares the first phases of another waits for that one.

    Args:
        cells: the cells, in the order in which they begin.
        jobs: number of trainings at once, which use one core each; None for no limit.
        console: the console on which progress is shown.
        finished: a function that is called with each cell whose training has succeeded, now or before.
        start: a function that starts a cell's process, here or elsewhere.

    Raises:
        FailedCellsError: trainings failed; the others were finished, and the message names the output files of the
            failed.
        RunError: the folder of a cell holds another run.
    """
    done = [cell for cell in cells if check(cell)]
    for spec in dict.fromkeys(cell.spec for cell in cells if cell not in done):
        load(spec, console=console)
        load(spec.heldout_sibling, console=console)
    for cell in done:
        finished(cell)
    waiting, running, failed = [cell for cell in cells if cell not in done], dict[Cell, Job](), list[Cell]()
    board = Board(cells, done, console)
    with Live(get_renderable=board.table, console=console, auto_refresh=False, transient=True) as live:
        try:
            while waiting or running:
                for cell, job in list(running.items()):
                    if (status := job.poll()) is None:
                        continue
                    running.pop(cell).end()
                    board.end(cell, succeeded=not status)
                    if status:
                        failed.append(cell)
                        say(console, f"{cell.title}, failed ({meaning(status)}): {last_words(cell)}", style="red")
                    else:
                        finished(cell)
                busy = {cell.folder for cell in (*waiting, *running)}
                ready = [cell for cell in waiting if cell.before not in busy]
                if ready and (jobs is None or len(running) < jobs):
                    waiting.remove(ready[0])
                    running[ready[0]] = start(ready[0])
                    board.start(ready[0])
                else:
                    live.refresh()
                    time.sleep(GLANCE)
        except KeyboardInterrupt:
            say(console, "Stopped. Repeat the command to go on.", style="yellow")
            raise
        finally:
            for job in running.values():
                job.end()
    console.print(board.table(whole=True))
    if failed:
        logs = ", ".join(str(cell.output) for cell in failed)
        raise FailedCellsError(
            f"{len(failed)} of {len(cells)} trainings failed; see {logs}. Repeat the command to try these again."
        )


def check(cell: Cell) -> bool:
    """Tell whether a cell has been finished before.

    Raises:
        RunError: its folder holds another run, such as one of another preset.
    """
    run = cell.run
    if run.finished:
        return True
    try:
        there = run.described()
    except RunError:
        return False  # damaged: its process will say how
    if there is not None and there != run.about():
        raise RunError(
            f"{cell.folder} holds another run: {differences(there, run.about())}. Choose another folder of runs with "
            f"--runs, or delete that one."
        )
    return False


def meaning(status: int) -> str:
    """Say what an exit status means."""
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


def last_words(cell: Cell) -> str:
    """Return the last lines that a cell's process printed, and the file that holds all of its output."""
    text = cell.output.read_text(encoding="utf-8", errors="replace") if cell.output.exists() else ""
    lines = text.strip().splitlines()[-LAST_LINES:]
    return "\n  ".join([*(lines or ["it printed nothing"]), f"(all output: {cell.output})"])
