"""What is said in a terminal: sentences as they are, and progress bars."""

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


def tolerate_any_encoding() -> None:
    """Let standard output and error show a letter that their encoding lacks by its name, in place of an exception.

    Tables are drawn in ASCII by rich where the encoding is none of Unicode's; other text may hold any letter.
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
    """Print a sentence as it is: no markup, no line breaks, no control characters."""
    console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def bar(console: Console) -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Show progress: gives a function that begins a line and returns what advances it."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:

        def track(what: str, total: int) -> Callable[[int], None]:
            line = progress.add_task(what, total=total)
            return lambda count: progress.advance(line, count)

        yield track
