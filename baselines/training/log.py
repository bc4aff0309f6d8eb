"""The log of a run: a line of JSON for each entry, and TensorBoard where that is installed and works."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from offlinemeta.console import say
from offlinemeta.files import FileError, write_text

Log = Callable[[Mapping[str, Any]], None]
"""A function that writes an entry: ``step``, and the values that belong to it."""


@contextlib.contextmanager
def log_to(folder: Path, step: int, console: Console) -> Iterator[Log]:
    """Open ``log.jsonl``, and give a function that appends entries to it.

    Args:
        folder: the run's folder.
        step: the step at which the run begins or goes on; entries that a killed run wrote after it are removed.
        console: the console that says so when TensorBoard does not work.
    """
    file, board = folder / "log.jsonl", _board(folder, step, console)
    # a resumed run evaluates again what was evaluated at this very step
    kept = [entry for entry in read_log(folder) if entry["step"] + ("result" in entry) <= step]
    write_text(file, "".join(json.dumps(entry) + "\n" for entry in kept))
    with file.open("a", encoding="utf-8") as lines:

        def log(entry: Mapping[str, Any]) -> None:
            nonlocal board
            try:
                lines.write(json.dumps(entry, allow_nan=False) + "\n")
                lines.flush()
            except OSError as error:
                raise FileError(f"{file} cannot be written: {error.strerror}. Make room, and resume.") from error
            try:
                for name, value in entry.items() if board is not None else ():
                    if isinstance(value, float):
                        board.add_scalar(name, value, entry["step"])
            except Exception as error:  # optional, and no reason to stop a training
                board = None
                say(console, f"TensorBoard stopped working ({error!r}); log.jsonl goes on.", style="yellow")

        yield log
    if board is not None:
        with contextlib.suppress(Exception):
            board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a run's log; half-written lines are skipped."""
    file, entries = folder / "log.jsonl", []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else ():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and isinstance(entry.get("step"), int):
                entries.append(entry)
    return entries


def _board(folder: Path, step: int, console: Console) -> Any:
    """Return TensorBoard's writer, or None where it is not installed or does not work."""
    try:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(folder / "tensorboard", purge_step=step + 1 if step else None)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "tensorboard":
            return None  # not installed
        broken: Exception = error
    except Exception as error:
        broken = error
    say(console, f"TensorBoard does not work here ({broken!r}); log.jsonl has everything.", style="yellow")
    return None
