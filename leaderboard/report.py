"""Draws results, as pictures and as one interactive page that needs no network."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offlinemeta.envs.errors import MissingExtraError
from offlinemeta.files import replacing, write_text
from offlinemeta.leaderboard import claims
from offlinemeta.leaderboard.charts import charts, levels, script_json
from offlinemeta.leaderboard.style import SHAPES, styles
from offlinemeta.leaderboard.table import Row, by_data, further, grid, note

ACROSS = 4
"""Panels of a picture in a row."""


def plot(rows: Sequence[Row], files: Sequence[Path]) -> list[Path]:
    """Draw adaptation curves, a panel for each family and dataset, as PNG or PDF by the files' names.

    Only test tasks are drawn, and only data on which a method was given logged context too, if there are any. A panel's
    range is that of the means: one method's wide interval would flatten the curves of all others.

    Raises:
        MissingExtraError: matplotlib is not installed.
        FileError: a file cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plots", "Drawing a picture") from error
    groups = by_data([row for row in rows if row.split == "test"] or rows)
    groups = {data: group for data, group in groups.items() if any(row.offline for row in group)} or groups
    drawn = styles([row.method for row in rows])
    lines: dict[str, Any] = {}
    with rc_context({"text.parse_math": False}):  # a $ is a $
        across, down = min(len(groups), ACROSS), math.ceil(len(groups) / ACROSS)
        figure = Figure(figsize=(5.4 * across, 4.3 * down + 0.5), layout="constrained")
        panels = list(figure.subplots(down, across, squeeze=False).flat)
        for spare in panels[len(groups) :]:
            spare.remove()
        for axes, (data, group) in zip(panels, groups.items(), strict=False):
            most = max(len(result.returns[0][0]) for row in group for result in row.results)
            heights = [value for row in group for value, *_ in (*row.curve, *filter(None, [row.offline]))]
            for place, row in enumerate(group):
                look = drawn[row.method]
                style: dict[str, Any] = {"color": look.colour, "marker": SHAPES[look.shape], "label": row.method}
                if row.curve:
                    values = np.array(row.curve)  # [K, 3]
                    episodes = np.arange(1, len(values) + 1)
                    dashes = (0, look.dash) if look.dash else "-"
                    (lines[row.method],) = axes.plot(episodes, values[:, 0], ls=dashes, ms=4, lw=1.6, **style)
                    axes.fill_between(episodes, values[:, 1], values[:, 2], color=style["color"], alpha=0.09, lw=0)
                if row.offline is not None:
                    value, low, high = row.offline
                    bar = axes.errorbar(
                        most + 0.8 + 0.35 * place, value, [[value - low], [high - value]], ms=6, **style
                    )
                    lines.setdefault(row.method, bar)
            for (name, level), dashes in zip(levels(group[0]).items(), ("--", "-.", ":"), strict=True):
                lines[name] = axes.axhline(level, color="0.4", ls=dashes, lw=1, label=name)
                heights.append(level)
            margin = 0.06 * (max(heights) - min(heights)) or 1.0
            axes.set_ylim(min(heights) - margin, max(heights) + margin)
            axes.axvline(most + 0.5, color="0.8", lw=0.8)
            axes.set_xticks([*range(1, most + 1), most + 1.5], [*map(str, range(1, most + 1)), "logged\ncontext"])
            seeds = max(row.seeds for row in group)
            title = f"{data}, {seeds} seed{'s' * (seeds > 1)}"
            axes.set(title=title, xlabel="episode on a new task", ylabel="mean return")
        names = list(lines)  # given by hand: a label of a line that begins with _ would be left out
        columns = min(len(lines), 3 * across)
        figure.legend(handles=list(lines.values()), labels=names, loc="outside lower center", ncols=columns)
        for file in files:
            with replacing(file) as draft:
                figure.savefig(draft, dpi=130, format=file.suffix.removeprefix("."))
    return list(files)


def page(
    rows: Sequence[Row],
    file: Path,
    films: Mapping[str, Path] | None = None,
    title: str = "",
    notes: Mapping[str, str] | None = None,
    remarks: Sequence[str] = (),
) -> Path:
    """Write one self-contained HTML page: figures, interactive curves, shift, per-task views, films.

    Args:
        rows: of any methods, families and datasets.
        file: where the page is written.
        films: MP4 files by caption.
        title: the page's title.
        notes: what to say of a family and dataset, such as ``AntDir/smac``.
        remarks: what to say below all tables.

    Raises:
        MissingExtraError: altair is not installed.
        FileError: the file cannot be written.
    """
    try:
        import vl_convert
        from jinja2 import Environment, PackageLoader
    except ImportError as error:
        raise MissingExtraError("plots", "Writing a page") from error
    drawn = styles([row.method for row in rows])
    sections = [
        {
            "data": data,
            "note": (notes or {}).get(data, ""),
            "grid": grid(group),
            "further": further(group),
            "charts": {name: script_json(spec) for name, spec in charts(group, drawn).items()},
        }
        for data, group in by_data(rows).items()
    ]
    environment = Environment(loader=PackageLoader("offlinemeta.leaderboard"), autoescape=True)
    html = environment.get_template("report.html.jinja").render(
        title=title or "Adaptation curves",
        sections=sections,
        note=note(rows),
        remarks=remarks,
        claims=[claims.line(claim) for claim in claims.check_claims(rows)],
        claims_head=claims.HEAD,
        claims_note=claims.NOTE,
        films={name: base64.b64encode(film.read_bytes()).decode() for name, film in (films or {}).items()},
        provenance=[
            (result.benchmark, result.method, seed, provenance)
            for row in rows
            for result in row.results
            for seed, provenance in zip(result.seeds, result.provenance, strict=True)
        ],
        bundle=vl_convert.javascript_bundle(),  # type: ignore[call-arg]  # its stub asks for more than it does
    )
    write_text(file, html)
    return file
