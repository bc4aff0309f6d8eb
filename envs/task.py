"""Tasks and their frozen lists.

A :class:`Task` is everything that distinguishes one MDP of a family from the others. Each family's lists are frozen as
``envs/tasks/<family>.json``, written by ``python -m offlinemeta.envs.freeze`` from the formulas in
:meth:`TaskFamily.draw_lists`; the JSON is what counts, so that no change of a random generator can move a task.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np

from offlinemeta.envs.errors import TaskFileError, UnknownNameError

SPLITS = ("train", "val", "test", "test100", "ood")
"""Training tasks; tasks of the same distribution to choose by, the published ones to test on, and a hundred more of
them; tasks outside of the distribution."""

TASK_FILES = Path(__file__).parent / "tasks"

TaskLists = Mapping[str, tuple["Task", ...]]
TaskLike = Union[int, "np.integer[Any]", "Task"]
"""An index in a split, or a task itself."""


@dataclass(frozen=True)
class Task:
    """One MDP of a family.

    Attributes:
        family: name of the family, such as ``"AntDir"``.
        split: one of :data:`SPLITS`.
        index: position in the family's list of that split.
        params: the values of the parameters that vary, in the family's own units (``family.param_names``).
    """

    family: str
    split: str
    index: int
    params: tuple[float, ...]

    def __repr__(self) -> str:
        shown = ", ".join(f"{p:.4g}" for p in self.params[:4]) + (", ..." if len(self.params) > 4 else "")
        return f"Task({self.family} {self.split}[{self.index}]: {shown})"


def check_split(split: str) -> str:
    """Return the split, if there is a split of that name.

    Raises:
        UnknownNameError: the name is not in :data:`SPLITS`.
    """
    if split not in SPLITS:
        raise UnknownNameError("Split", split, SPLITS)
    return split


def write_tasks(
    path: Path, family: str, param_names: Sequence[str], params: Mapping[str, Sequence[Sequence[float]]]
) -> None:
    """Write a family's task lists as JSON, with one line for each task and floats in full precision."""
    lines = [f' "family": {json.dumps(family)}', f' "params": {json.dumps(list(param_names))}']
    for split in SPLITS:
        rows = ",\n  ".join(json.dumps([float(p) for p in row]) for row in params[split])
        lines.append(f' "{split}": [' + (f"\n  {rows}\n ]" if rows else "]"))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read_tasks(
    path: Path,
    family: str,
    param_names: Sequence[str] | None,
    refuse: Callable[[Sequence[float]], str | None] = lambda params: None,
) -> TaskLists:
    """Read a family's frozen task lists.

    Args:
        path: the JSON file.
        family: name of the family that the file must be of.
        param_names: names of the parameters that its tasks must have; with None, the file's own names are taken.
        refuse: says why there can be no task of some parameters, or returns None.

    Raises:
        TaskFileError: the file is missing, is not JSON, belongs to another family, or has other, broken or refused
            tasks.
    """

    def fail(why: object) -> TaskFileError:
        return TaskFileError(
            f"The task list {path} cannot be used: {why}. Correct it, reinstall offlinemeta, or in a checkout write it "
            f"anew with: python -m offlinemeta.envs.freeze {family}"
        )

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise fail(error) from error
    if not isinstance(content, dict) or content.get("family") != family:
        raise fail(f"it is not a task list of {family}")
    names = content.get("params")
    if not isinstance(names, list) or not names or names != list(names if param_names is None else param_names):
        raise fail(f"its parameters are {names!r}" + ("" if param_names is None else f", not {list(param_names)}"))
    tasks = {}
    for split in SPLITS:
        rows = content.get(split)
        if not isinstance(rows, list) or (not rows and split != "ood"):
            raise fail(f"the list of {split} tasks is missing")
        for index, row in enumerate(rows):
            numbers = isinstance(row, list) and all(isinstance(p, float) and math.isfinite(p) for p in row)
            if not numbers or len(row) != len(names):
                raise fail(f"{split} task {index} is {row!r}, not {len(names)} finite numbers with a decimal point")
            if (why := refuse(row)) is not None:
                raise fail(f"{split} task {index} cannot be: {why}")
        tasks[split] = tuple(Task(family, split, index, tuple(row)) for index, row in enumerate(rows))
    return tasks
