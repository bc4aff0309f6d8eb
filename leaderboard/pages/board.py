"""What the pages share: results with their figures, each computed once, and links."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from offlinemeta.benchmark.result import Result, place
from offlinemeta.datasets.references import read_references
from offlinemeta.envs import get_family
from offlinemeta.leaderboard import aggregate
from offlinemeta.leaderboard.aggregate import Aggregate, Cell, Setting
from offlinemeta.leaderboard.method import Method
from offlinemeta.leaderboard.style import Style, styles
from offlinemeta.leaderboard.table import STUDY, Row, figure


@dataclass(frozen=True)
class Board:
    """All that the pages show, each figure computed once.

    Attributes:
        rows: of the tables.
        methods: descriptions by name; a method may have none.
        films: captions of films by their place in the site, by method.
    """

    rows: Sequence[Row]
    methods: Mapping[str, Method]
    films: Mapping[str, Mapping[str, str]]

    @cached_property
    def cells(self) -> list[Cell]:
        """Every method on every benchmark."""
        return aggregate.cells(self.rows)

    @cached_property
    def aggregates(self) -> list[Aggregate]:
        """Every method at every setting."""
        return aggregate.aggregates(self.cells)

    @cached_property
    def names(self) -> list[str]:
        """Names of the methods, in their order."""
        return aggregate.rank([row.method for row in self.rows])

    @cached_property
    def styles(self) -> dict[str, Style]:
        """How each method is drawn, on every page."""
        return styles(self.names)

    @cached_property
    def badges(self) -> dict[str, str]:
        """What is said beside the name of a method that is a reference and no competitor."""
        bound = STUDY["claims"]["bound"]
        found = {bound: BOUND} if bound in self.names else {}
        for cell in self.cells:
            if cell.result.sees_task:
                found[cell.result.method] = TOLD
            elif any(elsewhere(p.dataset.get("id", ""), cell.result.benchmark) for p in cell.result.provenance):
                found.setdefault(cell.result.method, OTHER_DATA)
        return found


TOLD, OTHER_DATA, BOUND = "told the task", "other data", "upper bound"
WHY = {
    TOLD: "It is told its task",
    OTHER_DATA: "It was trained on other data than the benchmark's",
    BOUND: "It is given the true rewards where the study's method has to do without",
}
"""Why such a method is no competitor."""

RENAMED = {("smac", "0"): "spread", ("replay", "0"): "history"}
"""What qualities of data of an earlier version are called now."""


def elsewhere(dataset: str, benchmark: str) -> bool:
    """Tell whether a dataset is known to be of another family or quality than a benchmark's."""
    named = re.fullmatch(r"[^/]*/([^/]*)/(.*)-v(\d+)", dataset)
    if named is None:
        return False
    family, quality, version = named.groups()
    return [family, RENAMED.get((quality, version), quality)] != benchmark.split("/")[:2]


def cell_id(benchmark: str) -> str:
    """Return the mark of a benchmark on a method's page."""
    return benchmark.replace("/", "-")


def cell_link(result: Result, root: str) -> str:
    """Return the link to a result's seeds on its method's page."""
    return f"{root}methods/{quote(result.method)}.html#{cell_id(result.benchmark)}"


def setting_link(setting: Setting, method: str, root: str) -> str:
    """Return the link to the cells that a figure over families is computed of."""
    chosen = {"method": f'"{method}"', "quality": setting.quality, "protocol": setting.kind, "split": setting.split}
    return f"{root}results.html#{urlencode(chosen)}"


def raw_link(result: Result, seed: int, root: str) -> str:
    """Return the link to the raw result of one seed."""
    return root + quote(place(Path("raw"), result.of_seeds([seed])).as_posix())


def data_id(row: Row) -> str:
    """Return the mark of a section of a family's page."""
    return f"{row.data.split('/')[1].partition(',')[0]}-{row.split}"


def family_of(row: Row) -> str:
    """Return the family of a row."""
    return row.data.partition("/")[0]


def family_facts(board: Board, name: str) -> dict[str, Any]:
    """Return what is said of a family wherever it is listed."""
    family, references = get_family(name), read_references(name)
    return {
        "name": name,
        "summary": family.summary,
        "methods": len({row.method for row in board.rows if family_of(row) == name}),
        "worth": f"{references.overall.value:.2f} ± {references.overall.error:.1g}",
        "low_worth": bool(references.tags),
    }


def summed(one: Aggregate, root: str) -> dict[str, Any]:
    """Return a line of a table of figures over families."""
    trained = [p for cell in one.cells for p in cell.result.provenance]
    seeds = sorted({len(cell.result.seeds) for cell in one.cells})
    return {
        **one.setting._asdict(),
        "method": one.method,
        "complete": one.complete,
        "href": setting_link(one.setting, one.method, root),
        "families": f"{len(one.cells)} of {one.families}",
        "mean": figure(one.mean),
        "iqm": figure(one.iqm),
        "worst": figure(one.worst),
        "seeds": "–".join(map(str, (seeds[0], seeds[-1]) if len(seeds) > 1 else seeds)),
        "gradient_steps": span([p.gradient_steps for p in trained]),
        "env_steps": span([p.env_steps for p in trained]),
    }


def span(counts: Sequence[int]) -> str:
    """Return the least and the most of some counts; nothing where nothing was counted."""
    if not any(counts):
        return "0" if counts else ""
    return "–".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))
