"""The page of a method: what it is, what it cost, and each seed of each cell with its raw result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from offlinemeta.benchmark.fields import is_place
from offlinemeta.leaderboard.aggregate import Cell
from offlinemeta.leaderboard.method import FILE, Method
from offlinemeta.leaderboard.pages.board import (
    Board,
    cell_id,
    raw_link,
    span,
    summed,
)
from offlinemeta.leaderboard.table import figure


def of_method(board: Board, name: str) -> dict[str, Any]:
    """Return what a method's page shows."""
    own = [cell for cell in board.cells if cell.result.method == name]
    data = list(dict.fromkeys((cell.benchmark.family, cell.benchmark.quality) for cell in own))
    parts = {pair: [cell for cell in own if (cell.benchmark.family, cell.benchmark.quality) == pair] for pair in data}
    return {
        "title": name,
        "name": name,
        "method": board.methods.get(name),
        "facts": _facts(board.methods.get(name), own),
        "aggregates": [summed(one, "../") for one in board.aggregates if one.method == name],
        "parts": [
            {
                "family": family,
                "quality": quality,
                "cells": [_seeds(cell) for cell in part],
                "origins": _origins(part),
            }
            for (family, quality), part in parts.items()
        ],
        "described": f"../raw/{quote(name)}/{FILE}" if name in board.methods else "",
        "films": [{"href": f"../{quote(href)}", "name": text} for href, text in board.films.get(name, {}).items()],
    }


def _facts(method: Method | None, own: Sequence[Cell]) -> list[tuple[str, str, str]]:
    """Return what is said of a method: a term, a text, and a link where the text is one."""
    trained = [p for cell in own for p in cell.result.provenance]
    minutes = [p.wall_time / 60 for p in trained if p.wall_time]
    facts = [
        ("agent", ", ".join(sorted({cell.result.agent for cell in own})), ""),
        ("gradient steps", span([p.gradient_steps for p in trained]), ""),
        ("env steps in training", span([p.env_steps for p in trained]), ""),
        ("minutes of a training", f"{min(minutes):.1f}–{max(minutes):.1f}" if minutes else "", ""),
    ]
    if method is not None:
        tuning = method.tuning
        facts = [
            ("authors", ", ".join(method.authors), ""),
            ("paper", method.paper, _web(method.paper)),
            ("code", method.code, _web(method.code)),
            ("given beyond the logged data", method.information, ""),
            *facts,
            ("trials to choose settings", "not recorded" if tuning.trials is None else f"{tuning.trials:,}", ""),
            ("rollouts to choose settings", "not recorded" if tuning.rollouts is None else f"{tuning.rollouts:,}", ""),
            ("how settings were chosen", tuning.note, ""),
            ("hardware", method.hardware, ""),
        ]
    return [fact for fact in facts if fact[1]]


def _web(text: str) -> str:
    """Return a text as a link if it is one to the web, in letters that are what they look like; else nothing."""
    return text if text.startswith("https://") and is_place(text) else ""


def _seeds(cell: Cell) -> dict[str, Any]:
    """Return a cell with each of its seeds."""
    result = cell.result
    returns = result.array()[..., result.counted].mean(1)
    return {
        "id": cell_id(result.benchmark),
        "protocol": cell.benchmark.protocol.name,
        "split": cell.setting.split,
        "score": figure(cell.score),
        "returned": figure(cell.returned),
        "remark": f"each task played {result.repeats} times" if result.repeats > 1 else "each task played once",
        "seeds": [
            {
                "seed": seed,
                "score": figure(float(score)),
                "returned": figure(float(value)),
                "raw": raw_link(result, seed, "../"),
                "gradient_steps": f"{p.gradient_steps:,}",
                "env_steps": f"{p.env_steps:,}",
                "minutes": f"{p.wall_time / 60:.1f}" if p.wall_time else "",
                "evaluated": p.started[:10],
                "commit": p.commit,
                "checkpoint": p.checkpoint,
            }
            for seed, p, score, value in zip(result.seeds, result.provenance, cell.scores.mean(1), returns, strict=True)
        ],
    }


def _origins(part: Sequence[Cell]) -> list[tuple[str, str]]:
    """Return what the provenances of some cells say, each once, and whose it is."""
    found: dict[str, list[str]] = {}
    for cell in part:
        for seed, provenance in zip(cell.result.seeds, cell.result.provenance, strict=True):
            said = provenance.model_dump_json(include={"config", "dataset", "context", "versions", "machine"})
            found.setdefault(said, []).append(f"{cell.benchmark.protocol.name} seed {seed}")
    texts = [{name: of for name, of in json.loads(said).items() if of} for said in found]
    return [
        (json.dumps(text, indent=1, ensure_ascii=False), ", ".join(of) if len(found) > 1 else "the same for all")
        for text, of in zip(texts, found.values(), strict=True)
    ]
