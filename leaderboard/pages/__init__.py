"""What each page of the site shows; the templates in ``templates/site`` say how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from offlinemeta.leaderboard.pages.board import Board
from offlinemeta.leaderboard.pages.family import of_family
from offlinemeta.leaderboard.pages.method import of_method
from offlinemeta.leaderboard.pages.notes import of_claims, reading, versions
from offlinemeta.leaderboard.pages.overview import overview, results

SPLIT_REMARKS = {
    "ood": "outside of the training distribution",
    "train": "to choose by",
    "val": "to choose by",
}
"""What is said beside the name of a split."""

Page = tuple[str, str, dict[str, Any]]
"""A file's place in the site, its template, and what the template is given."""


def pages(board: Board) -> Iterator[Page]:
    """Give every page of the site."""
    families = list(dict.fromkeys(cell.benchmark.family for cell in board.cells))
    yield "index.html", "index", overview(board, families)
    yield "results.html", "results", results(board)
    yield "claims.html", "claims", of_claims(board)
    yield "reading.html", "reading", reading()
    yield "submitting.html", "submitting", {"title": "How to submit"}
    yield "versions.html", "versions", versions(board)
    for name in families:
        yield f"families/{name}.html", "family", of_family(board, name)
    for name in board.names:
        yield f"methods/{name}.html", "method", of_method(board, name)
