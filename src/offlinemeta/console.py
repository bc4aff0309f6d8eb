"""What is said in a terminal: sentences as they are, and progress bars."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

ENDS_WITH_PARENT = "OFFLINEMETA_ENDS_WITH_PARENT"
"""Environment variable of a process whose standard input is a pipe from its parent, and which ends when that closes."""


def end_with_parent() -> None:
    """End this process when its parent does, whatever ends the parent, where the environment asks for it.

    A pipe works for every way to end and on every system: the kernel closes it with the parent.
    """

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    if os.environ.pop(ENDS_WITH_PARENT, None):
        threading.Thread(target=wait, daemon=True).start()


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a sentence as it is: no markup, no line breaks."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def bar(console: Console) -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Show progress: gives a function that begins a line and returns what advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:

        def track(what: str, total: int) -> Callable[[int], None]:
            line = progress.add_task(what, total=total)
            return lambda count: progress.advance(line, count)

        yield track
