"""Who is best where: every method on every family, with own contexts and with logged ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offlinemeta.benchmark import metrics
from offlinemeta.leaderboard.aggregate import Cell, headline
from offlinemeta.leaderboard.pages.board import Board, cell_link, data_id, family_facts, family_of
from offlinemeta.leaderboard.table import TO_CHOOSE_BY, Row, figure, settle

BEST, LIKE = "best", "like"


def standings(board: Board) -> list[dict[str, Any]]:
    """Return a table for each quality of data and split of tasks, that of the overview's first figures first."""
    first = headline(board.aggregates)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in board.rows:
        if row.split not in TO_CHOOSE_BY and (row.score is not None or row.logged is not None):
            groups.setdefault((row.data.split("/")[1].partition(",")[0], row.split), []).append(row)
    order = sorted(groups, key=lambda key: (key != (first and (first.quality, first.split)), key[1] != "test"))
    return [_table(board, quality, split, groups[quality, split]) for quality, split in order]


def _table(board: Board, quality: str, split: str, rows: Sequence[Row]) -> dict[str, Any]:
    cells = {id(cell.result): cell for cell in board.cells}
    families = sorted({family_of(row) for row in rows})
    own = {(row.method, family_of(row)): cells[id(row.online)] for row in rows if row.online is not None}
    logged = {(row.method, family_of(row)): cells[id(row.logged)] for row in rows if row.logged is not None}
    marks = {
        (cell.result.method, family): mark
        for family in families
        for cell, mark in _marks(board, [cell for (_, of), cell in own.items() if of == family])
    }
    scores: dict[str, list[float]] = {method: [] for method in dict.fromkeys(row.method for row in rows)}
    for (method, _), cell in own.items():
        scores[method].append(settle(cell.score.value))

    def place(method: str) -> tuple[int, float]:
        return -len(scores[method]), -sum(scores[method]) / max(len(scores[method]), 1)

    def shown(method: str, family: str) -> dict[str, str]:
        found = {"mark": marks.get((method, family), ""), "own": "", "logged": ""}
        for name, of in (("own", own), ("logged", logged)):
            if (method, family) in of:
                cell = of[method, family]
                found[name], found[f"{name}_href"] = figure(cell.score), cell_link(cell.result, "")
        return found

    sections = {family_of(row): f"families/{family_of(row)}.html#{data_id(row)}" for row in rows}
    return {
        "quality": quality,
        "split": split,
        "families": [{**family_facts(board, family), "href": sections[family]} for family in families],
        "lines": [(method, [shown(method, family) for family in families]) for method in sorted(scores, key=place)],
    }


def _marks(board: Board, cells: Sequence[Cell]) -> list[tuple[Cell, str]]:
    """Mark the best of the competitors on a family, and those who cannot be told apart from it."""
    competing = [cell for cell in cells if cell.result.method not in board.badges]
    if not competing:
        return []
    best = max(competing, key=lambda cell: settle(cell.score.value))

    def like(cell: Cell) -> bool:
        return settle(metrics.improvement([best.scores], [cell.scores]).interval.low) <= 0.5

    return [(cell, BEST if cell is best else LIKE if like(cell) else "") for cell in competing]
