"""Output to a terminal: sentences that are printed as they are, and progress bars; and what ends a process."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

ENDS_WITH_PARENT = "OFFLINEMETA_ENDS_WITH_PARENT"
"""Environment variable that tells a process to end when its standard input, a pipe from its parent, closes."""


def end_with_parent() -> None:
    """End this process when its parent ends, however that happens, if :data:`ENDS_WITH_PARENT` is set.

    A pipe shows every way of ending on every system, since the kernel closes it when the parent ends.
    """

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    if os.environ.pop(ENDS_WITH_PARENT, None):
        threading.Thread(target=wait, daemon=True).start()


def tolerate_any_encoding() -> None:
    """Let standard output and error print the name of a letter that their encoding lacks, instead of failing.

    Where the encoding is not one of Unicode's, rich draws tables in ASCII; other text may still hold any letter.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            unicode = (stream.encoding or "").lower().startswith("utf")
            if stream.errors == "strict" or (stream.errors == "surrogateescape" and not unicode):
                stream.reconfigure(errors="namereplace")


def printable(text: str) -> str:
    """Return text in which control characters, which could rewrite a terminal, are replaced by their escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a sentence as it is: markup is not read, lines are not broken, control characters are escaped."""
    console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)


def how_long(seconds: float) -> str:
    """Return a duration in a unit that people would choose."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def bar(console: Console) -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Show progress bars; give a function that begins a bar, and returns a function that advances it."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:

        def track(what: str, total: int) -> Callable[[int], None]:
            line = progress.add_task(what, total=total)
            return lambda count: progress.advance(line, count)

        yield track
