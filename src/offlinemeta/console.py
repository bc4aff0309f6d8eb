"""What is said in a terminal: sentences as they are, and progress bars."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


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
