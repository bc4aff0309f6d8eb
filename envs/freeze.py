"""Freeze task lists: ``python -m offlinemeta.envs.freeze [FAMILY ...]`` writes ``envs/tasks/<family>.json``.

Run it once for a new family and commit the file. From then on the file is the truth, and freezing again changes nothing
on any machine: the last bits of a power or a cosine depend on the processor, so numbers that agree with the formula
within :data:`ROUNDING` stay as they are. ML1 families need the extra ``metaworld`` and five seconds each.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from offlinemeta.envs.errors import TaskFileError
from offlinemeta.envs.families.ml1 import ML1, vector_names
from offlinemeta.envs.registry import FAMILIES, get_family
from offlinemeta.envs.shapes import Array, Float
from offlinemeta.envs.task import SPLITS, TASK_FILES, read_tasks, write_tasks

ROUNDING = 1e-12
"""The largest difference of a task parameter, in its own unit, that counts as the processor's rounding."""


def freeze(name: str) -> None:
    """Draw a family's tasks by its formula and write them; splits that are frozen and agree stay as they are."""
    family = get_family(name)
    drawn = family.draw_lists()
    names = vector_names(drawn["train"].shape[1]) if isinstance(family, ML1) else family.param_names
    path = TASK_FILES / f"{family.name}.json"
    frozen = _frozen(path, family.name, names)
    kept = {split: frozen[split] if agree(frozen.get(split), rows) else rows for split, rows in drawn.items()}
    write_tasks(path, family.name, names, {split: rows.tolist() for split, rows in kept.items()})
    print(f"{path}: " + ", ".join(f"{len(kept[split])} {split}" for split in SPLITS))


def _frozen(path: Path, family: str, names: Sequence[str]) -> Mapping[str, Float[Array, "tasks P"]]:
    """Return the parameters of the frozen tasks by split; without a usable task list, return an empty mapping."""
    try:
        lists = read_tasks(path, family, names)
    except TaskFileError:
        return {}
    return {split: np.array([task.params for task in tasks]).reshape(-1, len(names)) for split, tasks in lists.items()}


def agree(frozen: Float[Array, "n P"] | None, drawn: Float[Array, "m P"]) -> bool:
    """Tell whether task parameters are equal up to rounding."""
    return frozen is not None and frozen.shape == drawn.shape and np.allclose(frozen, drawn, rtol=0, atol=ROUNDING)


if __name__ == "__main__":
    for name in sys.argv[1:] or FAMILIES:
        freeze(name)
