"""A grid of trainings, each in a process of its own; finished ones are kept, and killed ones are resumed.

One grid serves the study, the demo and whatever else trains several things at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from offlinemeta.baselines.registry import get_method, make_config
from offlinemeta.baselines.training.log import read_log
from offlinemeta.baselines.training.run import PROTOCOLS, RUN_FILE, Run, file_name, run_folder
from offlinemeta.benchmark.errors import RunError
from offlinemeta.console import ENDS_WITH_PARENT, say
from offlinemeta.datasets.loading import load
from offlinemeta.datasets.spec import DatasetSpec

GLANCE = 0.5
"""Seconds between two checks of the processes."""


@dataclass(frozen=True)
class Cell:
    """One training of a grid, with its evaluation.

    Attributes:
        spec: the dataset.
        method: name of the method.
        seed: seed of the training.
        preset: preset of the method's config.
        root: the folder of all runs; trials that differ in their overrides need roots of their own.
        overrides: fields of the config that differ from the preset, and their values as text.
        protocols: what is evaluated at the end of each phase.
        branch: the folder of a run to branch from; by default, that of the method whose first phases are this one's.
    """

    spec: DatasetSpec
    method: str
    seed: int
    preset: str
    root: Path
    overrides: tuple[tuple[str, str], ...] = ()
    protocols: tuple[str, ...] = PROTOCOLS
    branch: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return run_folder(self.root, self.spec, self.method, self.seed)

    @property
    def run(self) -> Run:
        """The run that trains this cell."""
        config = make_config(self.method, self.preset, dict(self.overrides))
        return Run(self.method, config, self.spec, self.seed, self.folder, protocols=self.protocols)

    @property
    def output(self) -> Path:
        """The file that holds what the process prints."""
        return self.folder / "output.txt"

    @property
    def before(self) -> Path | None:
        """The folder of the run to branch from."""
        shared = get_method(self.method).shared
        if self.branch is None and shared is not None:
            return run_folder(self.root, self.spec, shared[0], self.seed)
        return self.branch

    def command(self) -> list[str]:
        """Return the command that begins the training, or resumes it."""
        command = [sys.executable, "-m", "offlinemeta", "train", self.method, self.spec.id, "--preset", self.preset]
        command += ["--seed", str(self.seed), "--out", str(self.folder), "--protocols", ",".join(self.protocols)]
        command += [f"--{name}={value}" for name, value in self.overrides]
        if (self.folder / RUN_FILE).exists():
            command.append("--resume")
        if self.before is not None and any(self.before.glob(file_name("state", "*"))):
            command += ["--branch", str(self.before)]
        return command


def run_grid(
    cells: Sequence[Cell],
    jobs: int,
    console: Console,
    finished: Callable[[Cell], None] = lambda cell: None,
) -> None:
    """Run cells, ``jobs`` at a time, and show their progress.

    A cell that shares the first phases of another waits for that one.

    Args:
        cells: the cells, in the order in which they begin.
        jobs: number of trainings at once, which use one core each.
        console: the console on which progress is shown.
        finished: a function that is called with each cell whose training has succeeded, now or before.

    Raises:
        RunError: trainings failed; the others were finished, and the message names the output files of the failed.
    """
    for spec in dict.fromkeys(cell.spec for cell in cells):
        load(spec, console=console)
        load(spec.heldout_sibling, console=console)
    for cell in (done := [cell for cell in cells if cell.run.finished]):
        finished(cell)
    cells = [cell for cell in cells if cell not in done]
    waiting, running, failed = list(cells), dict[Cell, "subprocess.Popen[bytes]"](), list[Cell]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        lines = {cell: bar.add_task(title(cell, []), total=cell.run.steps, start=False) for cell in cells}
        try:
            while waiting or running:
                for cell, process in list(running.items()):
                    show(bar, lines[cell], cell)
                    if process.poll() is None:
                        continue
                    end(running.pop(cell))
                    bar.stop_task(lines[cell])
                    if process.returncode:
                        failed.append(cell)
                        say(console, f"{cell.method}, seed {cell.seed}, failed: {last_words(cell)}", style="red")
                    else:
                        finished(cell)
                busy = {cell.folder for cell in (*waiting, *running)}
                ready = [cell for cell in waiting if cell.before not in busy]
                if ready and len(running) < jobs:
                    waiting.remove(ready[0])
                    running[ready[0]] = start(ready[0])
                    bar.start_task(lines[ready[0]])
                else:
                    time.sleep(GLANCE)
        finally:
            for process in running.values():
                end(process)
    if failed:
        logs = ", ".join(str(cell.output) for cell in failed)
        raise RunError(f"{len(failed)} of {len(cells)} trainings failed; see {logs}.")


def start(cell: Cell) -> subprocess.Popen[bytes]:
    """Start a cell's process, which ends with this one, whatever ends this one."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", ENDS_WITH_PARENT: "1"}
    with cell.output.open("ab") as output:
        return subprocess.Popen(
            cell.command(), env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a cell's process, if it has not ended by itself."""
    assert process.stdin is not None
    process.stdin.close()  # which ends it
    process.wait()


def show(bar: Progress, line: object, cell: Cell) -> None:
    """Show a cell's progress, and its last curve on training tasks."""
    log = read_log(cell.folder)
    if log:
        curves = [entry["curve"] for entry in log if "curve" in entry and "result" not in entry]
        bar.update(line, completed=log[-1]["step"], description=title(cell, curves[-1] if curves else []))  # type: ignore[arg-type]


def title(cell: Cell, curve: Sequence[float]) -> str:
    """Return a cell's name with the returns of its last curve on training tasks."""
    shown = f": training tasks {', '.join(f'{value:.0f}' for value in curve)}" if curve else ""
    return f"{cell.method}, seed {cell.seed}{shown}"


def last_words(cell: Cell) -> str:
    """Return the last line that a cell's process printed, and the file that holds all of its output."""
    lines = cell.output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'it printed nothing'} (all output: {cell.output})"
