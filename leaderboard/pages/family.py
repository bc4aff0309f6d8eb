"""The page of a family: what its task is worth, and every method on each of its datasets, with charts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.result import Result
from offlinemeta.datasets.references import References, read_references
from offlinemeta.envs import SPLITS, get_family
from offlinemeta.leaderboard.charts import charts, script_json
from offlinemeta.leaderboard.pages.board import (
    Board,
    cell_link,
    data_id,
    family_facts,
    family_of,
)
from offlinemeta.leaderboard.table import Row, by_data, figure, grid, note, remarks, settle


def of_family(board: Board, name: str) -> dict[str, Any]:
    """Return what a family's page shows."""
    rows = [row for row in board.rows if family_of(row) == name]
    family, references = get_family(name), read_references(name)
    splits = [split for split in SPLITS if split in references.told]
    return {
        "title": name,
        "family": {
            **family_facts(board, name),
            "param_names": family.param_names,
            "horizon": family.horizon,
            "observations": family.observation_space.shape[0],
            "actions": family.action_space.shape[0],
            "terminates": family.terminates,
            "blind_policy": _blind(references.blind_policy),
            "levels": [f"{split} tasks" for split in splits],
            "references": _references(references, splits),
        },
        "sections": [_section(board, data, group) for data, group in by_data(rows).items()],
        "note": note(rows),
        "remarks": remarks(rows),
        "charts": True,
    }


def _blind(policy: str) -> str:
    """Return the blind policy as a reader knows it."""
    return re.sub(r"^told train (\d+)$", r"the expert that is always told training task \1", policy)


def _references(references: References, splits: Sequence[str]) -> list[tuple[str, list[str]]]:
    kinds = {
        "the expert told its task": references.told,
        "the best blind policy": references.blind,
        "random actions": references.random,
    }
    return [(name, [figure(float(np.mean(of[split]))) for split in splits]) for name, of in kinds.items()]


def _section(board: Board, data: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what a family's page shows of one quality of data and split."""
    measured = sorted((row for row in rows if row.online is not None or row.logged is not None), key=_place)
    head, lines = grid(measured)
    columns = head[2:]
    own = {id(result) for row in measured for result in (row.online, row.logged) if result is not None}
    cells = {id(cell.result): cell for cell in board.cells}
    further = [cells[id(result)] for row in rows for result in row.results if id(result) not in own]
    curves = [row for row in rows if row.curve and row.online is not None]
    drawn = charts(measured or rows, board.styles, legend=False)
    most = max((len(row.curve) for row in curves), default=0)
    return {
        "id": data_id(rows[0]),
        "name": data.partition("/")[2],
        "data": data,
        "split": rows[0].split,
        "head": ["method", *columns],
        "lines": [
            {
                "method": row.method,
                "figures": [
                    (text, cell_link(_source(row, name), "../")) for name, text in zip(columns, line, strict=True)
                ],
            }
            for row, (_, _, *line) in zip(measured, lines, strict=True)
        ],
        "further": [
            {
                "method": cell.result.method,
                "protocol": cell.benchmark.protocol.name,
                "href": cell_link(cell.result, "../"),
                "figures": [str(len(cell.result.seeds)), figure(cell.score), figure(cell.returned)],
            }
            for cell in further
        ],
        "charts": [{"title": title, "spec": script_json(spec)} for title, spec in drawn.items()],
        "keys": list(dict.fromkeys(row.method for row in measured)),
        "episodes": [f"episode {k + 1}" for k in range(most)],
        "curves": [
            {
                "method": row.method,
                "href": cell_link(row.online, "../"),
                "figures": [figure(value) for value in row.curve] + [""] * (most - len(row.curve)),
            }
            for row in curves
            if row.online is not None
        ],
    }


def _place(row: Row) -> tuple[bool, float]:
    """Return the place of a row: the best score with own contexts first, those without one last."""
    return row.score is None, -settle(row.score.value) if row.score is not None else 0.0


def _source(row: Row, column: str) -> Result:
    """Return the result that a column of a table is computed of."""
    wanted = {"logged context": "offline-context", "shift": "offline-context", "logged episodes": "offline-episodes"}
    kind = wanted.get(column, "")
    logged = [result for result in row.results if get_benchmark(result.benchmark).protocol.kind == kind]
    return next(iter(logged), row.online or row.results[0])
