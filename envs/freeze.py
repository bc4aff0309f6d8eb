"""Freeze task lists: ``python -m offlinemeta.envs.freeze [FAMILY ...]`` writes ``envs/tasks/<family>.json``.

Run it once for a new family and commit the file. ML1 families need the extra ``metaworld`` and two seconds each.
"""

from __future__ import annotations

import sys

from offlinemeta.envs.families.ml1 import ML1, vector_names
from offlinemeta.envs.registry import FAMILIES, get_family
from offlinemeta.envs.task import TASK_FILES, write_tasks


def freeze(name: str) -> None:
    """Draw a family's tasks by its formula and write them."""
    family = get_family(name)
    drawn = family.draw_tasks()
    names = vector_names(drawn["train"].shape[1]) if isinstance(family, ML1) else family.param_names
    path = TASK_FILES / f"{family.name}.json"
    write_tasks(path, family.name, names, {split: rows.tolist() for split, rows in drawn.items()})
    print(f"{path}: " + ", ".join(f"{len(rows)} {split}" for split, rows in drawn.items()))


if __name__ == "__main__":
    for name in sys.argv[1:] or FAMILIES:
        freeze(name)
