"""Pictures that commands draw. Matplotlib is imported when one is begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from offlinemeta.envs.errors import MissingExtraError
from offlinemeta.files import replacing


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of that size [inches].

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plots", "Drawing a picture") from error
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, file: Path) -> Path:
    """Write a figure as a PNG file, at once or not at all.

    Raises:
        FileError: the file cannot be written.
    """
    with replacing(file) as draft:
        figure.savefig(draft, dpi=130, format="png")
    return file
