"""Pages of text: the claims of the study, how to read all this, and by which data and code it was made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offlinemeta.benchmark.protocol import PROTOCOLS
from offlinemeta.benchmark.result import Provenance
from offlinemeta.datasets.references import LEAST_WORTH, read_references, shipped
from offlinemeta.datasets.spec import CHANGES, VERSION
from offlinemeta.leaderboard import claims
from offlinemeta.leaderboard.pages.board import (
    Board,
    data_id,
    family_of,
)
from offlinemeta.leaderboard.table import INTERVALS, MEANING, remarks


def of_claims(board: Board) -> dict[str, Any]:
    """Return what the page of the study's claims shows."""
    sections = {row.data: f"families/{family_of(row)}.html#{data_id(row)}" for row in board.rows}
    sides = {claims.HOLDS: "yes", claims.FAILS: "no", claims.OPEN: "open"}
    shown = []
    for claim in claims.check_claims(board.rows):
        data, text, verdict, figures, corrected = claims.line(claim)
        alone = claim.verdict == claims.HOLDS and (claim.corrected is None or claim.corrected >= claims.LEVEL)
        number, _, said = text.partition(" ")
        shown.append(
            {
                "data": data,
                "number": number,
                "alone": alone,
                "text": said,
                "verdict": verdict,
                "side": sides[claim.verdict],
                "figures": figures,
                "corrected": corrected,
                "href": sections[data],
            }
        )
    return {"title": "Claims of the study", "claims": shown, "note": claims.NOTE}


def reading() -> dict[str, Any]:
    """Return what the page on how to read the others shows."""
    low = [name for name in shipped() if read_references(name).tags]
    return {
        "title": "How to read this",
        "meaning": MEANING.items(),
        "intervals": INTERVALS,
        "protocols": PROTOCOLS.items(),
        "least": f"{LEAST_WORTH:g}",
        "low": low,
    }


def versions(board: Board) -> dict[str, Any]:
    """Return which data and which code the results are of, the newest first."""
    found = [p for cell in board.cells for p in cell.result.provenance]

    def lines(keys: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
        dates: dict[tuple[str, ...], list[str]] = {}
        for key, provenance in zip(keys, found, strict=True):
            if any(key):
                dates.setdefault(key, []).append(provenance.started[:10])
        listed = sorted(dates.items(), key=lambda item: (max(item[1]), item[0]), reverse=True)
        return [
            {"cells": [*key, str(len(of)), min(filter(None, of), default=""), max(of)], "href": "results.html"}
            for key, of in listed
        ]

    code = [(p.versions.get("offlinemeta", ""), p.commit, p.versions.get("mujoco", "")) for p in found]
    data = [_dataset(p) for p in found]
    last = ["results", "from", "to"]
    return {
        "title": "Versions",
        "present": VERSION,
        "changes": CHANGES.items(),
        "tables": [
            {
                "title": "Training data",
                "head": ["dataset", "SHA-256", "remark", *last],
                "text": 3,
                "lines": lines(data),
            },
            {"title": "Code", "head": ["offlinemeta", "commit", "mujoco", *last], "text": 3, "lines": lines(code)},
        ],
        "remarks": remarks(board.rows),
    }


def _dataset(provenance: Provenance) -> tuple[str, ...]:
    of = provenance.dataset
    return of.get("id", ""), of.get("sha256", "")[:16], of.get("other", "")
