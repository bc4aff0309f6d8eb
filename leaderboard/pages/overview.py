"""The overview, with figures over families and who beats whom, and the list of all results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offlinemeta.leaderboard import aggregate
from offlinemeta.leaderboard.aggregate import Aggregate, Setting
from offlinemeta.leaderboard.method import remarks as method_remarks
from offlinemeta.leaderboard.pages.board import (
    Board,
    cell_link,
    data_id,
    family_facts,
    setting_link,
    summed,
)
from offlinemeta.leaderboard.pages.standings import standings
from offlinemeta.leaderboard.table import TO_CHOOSE_BY, figure, remarks


def overview(board: Board, families: Sequence[str]) -> dict[str, Any]:
    """Return what the overview shows."""
    first = aggregate.headline(board.aggregates)
    groups = aggregate.by_setting(board.aggregates)
    ends = [end for one in board.aggregates for end in one.mean]
    low, high = max(min(ends, default=0.0), -100.0), min(max(ends, default=0.0), 130.0)
    low, high = min(low, 0.0) - 5, max(high, 100.0) + 5

    def scale(score: float) -> float:
        return round(100 * (min(max(score, low), high) - low) / (high - low), 2)

    started = [p.started[:10] for cell in board.cells for p in cell.result.provenance if p.started]
    return {
        "title": "Overview",
        "count": {
            "results": sum(len(cell.result.seeds) for cell in board.cells),
            "methods": len(board.names),
            "families": len(families),
        },
        "newest": max(started, default=""),
        "scale": scale,
        "aggregates": [summed(one, "") | {"range": [scale(v) for v in one.mean]} for one in board.aggregates],
        "choices": _choices(list(groups), first),
        "standings": standings(board),
        "matrices": [
            _matrix(setting, group, setting == first)
            for setting, group in sorted(groups.items(), key=lambda item: item[0] != first)
            if len(group) > 1 and setting.split not in TO_CHOOSE_BY
        ],
        "families": [family_facts(board, name) for name in families],
        "methods": [
            {
                "name": name,
                "title": board.methods[name].title if name in board.methods else "",
            }
            for name in board.names
        ],
        "remarks": [*remarks(board.rows), *method_remarks(list(board.methods.values()))],
    }


def _choices(found: Sequence[Setting], first: Setting | None = None) -> list[tuple[str, str, list[str], str]]:
    """Return the choices of filters over settings: names, labels, values, and what is chosen at first."""
    chosen = first or Setting("", "", "")
    parts = [
        ("quality", "Data", chosen.quality),
        ("protocol", "Protocol", chosen.kind),
        ("split", "Tasks", chosen.split),
    ]
    values = [list(dict.fromkeys(s[k] for s in found)) for k in range(3)]
    return [(name, label, sorted(of), start) for (name, label, start), of in zip(parts, values, strict=True)]


def _matrix(setting: Setting, group: Sequence[Aggregate], unfolded: bool) -> dict[str, Any]:
    found = aggregate.compare(group)
    methods = [one.method for one in group]

    def cell(method: str, other: str) -> dict[str, Any] | None:
        if (method, other) not in found:
            return None
        one = found[method, other]
        value, low, high = one.probability
        return {
            "other": other,
            "text": figure(one.probability, 2),
            "value": f"{value:.2f}",
            "ends": f"{low:.2f}–{high:.2f}",
            "shared": "1 family" if one.families == 1 else f"{one.families} families",
            "side": "win" if low > 0.5 else "loss" if high < 0.5 else "open",
            "strength": round(60 * abs(2 * value - 1)),
            "href": setting_link(setting, method, ""),
        }

    return {
        **setting._asdict(),
        "open": unfolded,
        "methods": methods,
        "families": group[0].families,
        "lines": [(method, [cell(method, other) for other in methods]) for method in methods],
    }


def results(board: Board) -> dict[str, Any]:
    """Return what the list of all results shows, those to choose by last."""
    found = sorted(board.cells, key=lambda cell: (cell.setting.split in TO_CHOOSE_BY, cell.setting.split != "test"))
    sections = {id(result): data_id(row) for row in board.rows for result in row.results}
    families = sorted({cell.benchmark.family for cell in found})
    lines = []
    for cell in found:
        trained = cell.result.provenance[0]
        counts = [f"{count:,}" for count in (trained.gradient_steps, trained.env_steps)]
        values = (cell.score, cell.iqm, cell.worst, cell.returned)
        lines.append(
            {
                **cell.setting._asdict(),
                "family": cell.benchmark.family,
                "protocol": cell.benchmark.protocol.kind,
                "section": sections[id(cell.result)],
                "method": cell.result.method,
                "figures": [figure(value) for value in values],
                "budget": [str(len(cell.result.seeds)), *counts],
                "href": cell_link(cell.result, ""),
            }
        )
    choices = [("family", "Family", families, ""), *_choices([cell.setting for cell in found])]
    return {"title": "All results", "lines": lines, "choices": choices}
