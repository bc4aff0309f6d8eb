"""All methods and seeds on a dataset: cells that are finished are kept, killed ones go on, results are gathered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from offlinemeta.benchmark.errors import RunError
from offlinemeta.console import say
from offlinemeta.datasets.loading import load
from offlinemeta.datasets.spec import DatasetSpec

Cell = tuple[str, int]
"""Method and seed."""


def study(
    spec: DatasetSpec,
    methods: Sequence[str],
    seeds: Sequence[int],
    preset: str,
    jobs: int,
    runs: Path,
    results: Path,
    console: Console,
) -> None:
    """Train every method with every seed, ``jobs`` at a time, in processes of their own.

    The oracle branches from SMAC's offline phase of the same seed, which is the same.

    Raises:
        RunError: a training failed; the others go on, and its log is named.
    """
    for name in (spec.id, spec.id.replace("-v", "-heldout-v")):
        load(name, console=console)
    waiting = [(method, seed) for seed in seeds for method in methods]
    running: dict[Cell, subprocess.Popen[bytes]] = {}
    failed = []
    try:
        while waiting or running:
            for cell, process in list(running.items()):
                if process.poll() is not None:
                    del running[cell]
                    if process.returncode:
                        failed.append(cell)
                        say(console, f"{cell[0]} seed {cell[1]} failed: {folder_of(runs, spec, cell) / 'output.txt'}")
                    else:
                        gather(folder_of(runs, spec, cell), results / f"{spec.family}-{spec.quality}")
                        say(console, f"{cell[0]} seed {cell[1]} is finished")
            ready = [cell for cell in waiting if not waits_for_smac(cell, waiting, running)]
            if ready and len(running) < jobs:
                waiting.remove(ready[0])
                running[ready[0]] = start(ready[0], spec, preset, runs)
                continue
            time.sleep(1)
    finally:
        for process in running.values():
            process.terminate()
            process.wait()
    if failed:
        raise RunError(f"{len(failed)} of the trainings failed: {failed}.")


def waits_for_smac(cell: Cell, waiting: Sequence[Cell], running: dict[Cell, subprocess.Popen[bytes]]) -> bool:
    """Tell whether a cell is an oracle whose SMAC is not finished."""
    smac = ("smac", cell[1])
    return cell[0] == "oracle" and (smac in waiting or smac in running)


def folder_of(runs: Path, spec: DatasetSpec, cell: Cell) -> Path:
    """Where a cell's run lives."""
    return runs / f"{spec.family}-{spec.quality}" / f"{cell[0]}-s{cell[1]}"


def start(cell: Cell, spec: DatasetSpec, preset: str, runs: Path) -> subprocess.Popen[bytes]:
    """Start a cell's training, or go on with it."""
    method, seed = cell
    folder = folder_of(runs, spec, cell)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "offlinemeta", "train", method, spec.id, "--seed", str(seed), "--preset", preset]
    command += ["--out", str(folder)]
    smac = folder_of(runs, spec, ("smac", seed))
    if (folder / "run.json").exists():
        command.append("--resume")
    if method == "oracle" and (smac / "offline.state.safetensors").exists():
        command += ["--branch", str(smac)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)


def gather(folder: Path, results: Path) -> None:
    """Copy a run's results."""
    results.mkdir(parents=True, exist_ok=True)
    for file in (folder / "results").glob("*.json"):
        shutil.copy(file, results / f"{file.stem}-s{folder.name.rpartition('-s')[2]}.json")
