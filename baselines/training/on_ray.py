"""Cells as tasks of a Ray cluster. A cell whose node dies runs again, and resumes if its folder is on shared storage.

A task runs the same process as on this machine, and brings back what the folder then holds, without checkpoints; so
that results also arrive from nodes that share no storage. Ray is imported here alone, where it is used.
"""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

from rich.console import Console

from offlinemeta.baselines.training.cell import Cell
from offlinemeta.baselines.training.grid import Process
from offlinemeta.benchmark.errors import RunError
from offlinemeta.console import say
from offlinemeta.envs.errors import MissingExtraError
from offlinemeta.files import replacing

ATTEMPTS = 5
"""How often a cell is begun at most, when its nodes die."""

PATIENCE = 10.0
"""Seconds to wait for a cluster to answer."""

WAIT = 0.01
"""Seconds that a look at a task may take."""


class Cluster:
    """A Ray cluster, to which this process connects.

    Args:
        console: where it is said that a node has died.

    Raises:
        MissingExtraError: Ray is not installed.
        RunError: there is no cluster to connect to.
    """

    def __init__(self, console: Console) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "--ray") from error
        self.ray, self.console = ray, console
        address = os.environ.get("RAY_ADDRESS") or "auto"
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            if port.isdigit():  # Ray itself tries for minutes
                socket.create_connection((host, int(port)), PATIENCE).close()
            if not ray.is_initialized():
                ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
        except (OSError, ValueError, RuntimeError) as error:
            raise RunError(
                f"There is no Ray cluster at {address!r} ({error}). Start one with `ray start --head`, and add nodes "
                f"with `ray start --address=HOST:6379`, or name a running one in RAY_ADDRESS."
            ) from error
        self.task = ray.remote(num_cpus=1, max_retries=0)(train_there)  # Task counts the attempts

    def start(self, cell: Cell) -> Task:
        """Submit a cell, which begins as soon as a node has a free core."""
        return Task(self, cell)


class Task:
    """A cell's task on a cluster, which is submitted again when its node dies."""

    def __init__(self, cluster: Cluster, cell: Cell) -> None:
        self.cluster, self.cell, self.attempts = cluster, cell, 0
        self.submit()

    def submit(self) -> None:
        """Submit the task."""
        self.attempts += 1
        self.reference = self.cluster.task.remote(self.cell)

    def poll(self) -> int | None:
        """Return the exit status of the cell's process; None as long as it runs, or is to run again."""
        ray, cell = self.cluster.ray, self.cell
        if not ray.wait([self.reference], timeout=WAIT)[0]:
            return None
        try:
            status, files = ray.get(self.reference)
        except ray.exceptions.RayError as error:
            what = " ".join(str(error).split())[:300]
            lost = not isinstance(error, ray.exceptions.RayTaskError)  # else our own code has failed there
            if lost and self.attempts < ATTEMPTS:
                say(self.cluster.console, f"{cell.title}: its node was lost, so it runs again ({what})", style="yellow")
                self.submit()
                return None
            note(cell, f"Attempt {self.attempts} on Ray failed: {what}")
            return 1
        bring(cell.folder, files)
        return int(status)

    def end(self) -> None:
        """End the task, and with it the cell's process."""
        if not self.cluster.ray.wait([self.reference], timeout=WAIT)[0]:
            self.cluster.ray.cancel(self.reference, force=True)


def train_there(cell: Cell) -> tuple[int, dict[str, bytes]]:
    """Train a cell on the node that runs this, and return the exit status and the files, by path in the folder."""
    process = Process(cell)
    try:
        status = process.process.wait()
    finally:
        process.end()
    return status, {str(file.relative_to(cell.folder)): file.read_bytes() for file in brought(cell.folder)}


def brought(folder: Path) -> list[Path]:
    """Return the files of a run that are brought back: all but checkpoints, TensorBoard's, and hidden ones."""
    files = [*folder.glob("*"), *folder.glob("results/*.json")]
    return [file for file in files if file.is_file() and file.name[0] != "." and not file.match("*state.safetensors")]


def bring(folder: Path, files: dict[str, bytes]) -> None:
    """Write files that a node has returned, unless they are there already, on shared storage."""
    for name, content in sorted(files.items(), key=order):
        file = folder / name
        if not file.exists() or file.read_bytes() != content:
            with replacing(file) as draft:
                draft.write_bytes(content)


def order(item: tuple[str, Any]) -> bool:
    """Sort ``run.json`` and results last, so that a run counts as finished once all of it is there."""
    return item[0].endswith(".json")


def note(cell: Cell, text: str) -> None:
    """Add a line to the output of a cell."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    with cell.output.open("a", encoding="utf-8") as output:
        output.write(f"{text}\n")
