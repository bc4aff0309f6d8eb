"""Results as pictures and as one interactive page that needs no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS, get_benchmark
from offlinemeta.benchmark.result import Result
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import MissingExtraError
from offlinemeta.leaderboard import claims
from offlinemeta.leaderboard.table import COLUMNS, NOTE, cells, context_shift, data_of, logged, online, summarise

# Okabe and Ito's palette: told apart by colour-blind readers
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
USUAL = ("pearl", "bc", "smac-offline", "smac", "oracle", "told")
"""Methods of the package have the same colour in every picture."""
MARKERS = "osD^vPXh"


def colours(methods: Sequence[str]) -> dict[str, str]:
    """Return the colour of each method."""
    order = [*USUAL, *sorted(set(methods) - set(USUAL))]
    return {method: COLOURS[order.index(method) % len(COLOURS)] for method in methods}


def by_data(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Group results by family and quality, sorted."""
    ordered = sorted(results, key=data_of)
    return {data: list(group) for data, group in groupby(ordered, key=data_of)}


def methods_of(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Group results by method, the usual ones first."""
    names = dict.fromkeys([*USUAL, *(r.method for r in results)])
    return {m: own for m in names if (own := [r for r in results if r.method == m])}


def plot(results: Sequence[Result], files: Sequence[Path]) -> list[Path]:
    """Draw adaptation curves, a panel for each family and dataset, as PNG or PDF by the files' names.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plots", "Drawing a picture") from error
    groups = by_data(results)
    figure = Figure(figsize=(5.4 * len(groups), 4.8), layout="constrained")
    every = by_method(results)
    order = list(dict.fromkeys(result.method for result in every))
    colour = colours(order)
    marker = {method: MARKERS[place % len(MARKERS)] for place, method in enumerate(order)}
    lines: dict[str, Any] = {}
    for axes, (data, group) in zip(np.atleast_1d(figure.subplots(1, len(groups))), groups.items(), strict=True):
        methods = methods_of(group)
        most = max(len(result.returns[0][0]) for result in group)
        for place, (method, own) in enumerate(methods.items()):
            curve, given = online(own), logged(own)
            style = {"color": colour[method], "marker": marker[method], "label": method}
            if curve is not None:
                values = np.array(curve.curve())  # [K, 3]
                episodes = np.arange(1, len(values) + 1)
                (lines[method],) = axes.plot(episodes, values[:, 0], ms=4, lw=1.6, **style)
                axes.fill_between(episodes, values[:, 1], values[:, 2], color=colour[method], alpha=0.15, lw=0)
            if given is not None:
                value = given.curve()[0]
                spread = np.array([[value.value - value.low], [value.high - value.value]])
                lines.setdefault(method, axes.errorbar(most + 0.8 + 0.35 * place, value.value, spread, ms=6, **style))
        reference = online(group) or logged(group) or group[0]
        for name, level in (("expert", reference.expert), ("random", reference.random)):
            dashes = "--" if name == "expert" else ":"
            lines[name] = axes.axhline(float(np.mean(level)), color="0.4", ls=dashes, lw=1, label=name)
        axes.axvline(most + 0.5, color="0.8", lw=0.8)
        axes.set_xticks([*range(1, most + 1), most + 1.5], [*map(str, range(1, most + 1)), "logged\ncontext"])
        seeds = max(len(result.seeds) for result in group)
        axes.set(title=f"{data}, {seeds} seed{'s' * (seeds > 1)}", xlabel="episode on a new task", ylabel="mean return")
    figure.legend(handles=list(lines.values()), loc="outside lower center", ncols=min(len(lines), 4 * len(groups)))
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=130)
    return list(files)


def page(
    results: Sequence[Result],
    file: Path,
    films: Mapping[str, Path] | None = None,
    title: str = "",
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write one self-contained HTML page: figures, interactive curves, shift, per-task views, films.

    Args:
        results: of any methods, families and datasets.
        file: the page.
        films: by caption.
        title: of the page.
        notes: on a family and dataset, such as ``AntDir/smac``.

    Raises:
        MissingExtraError: altair is not installed.
    """
    try:
        import vl_convert
        from jinja2 import Environment, PackageLoader
    except ImportError as error:
        raise MissingExtraError("plots", "Writing a page") from error
    sections = [
        {
            "data": data,
            "note": (notes or {}).get(data, ""),
            "rows": [
                {"method": row.method, "seeds": row.seeds, "cells": cells(row)} for row in summarise(by_method(group))
            ],
            "charts": {
                name: json.dumps(chart.to_dict()).replace("<", "\\u003c") for name, chart in charts(group).items()
            },
        }
        for data, group in by_data(results).items()
    ]
    environment = Environment(loader=PackageLoader("offlinemeta.leaderboard"), autoescape=True)
    html = environment.get_template("report.html.jinja").render(
        title=title or "Adaptation curves",
        sections=sections,
        columns=COLUMNS,
        note=NOTE,
        claims=claims.check_claims(results),
        claims_note=claims.NOTE,
        films={name: base64.b64encode(film.read_bytes()).decode() for name, film in (films or {}).items()},
        provenance=[(r.benchmark, r.method, r.seeds[i], p) for r in results for i, p in enumerate(r.provenance)],
        bundle=vl_convert.javascript_bundle(),  # type: ignore[call-arg]  # its stub asks for more than it does
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(html, encoding="utf-8")
    return file


def by_method(results: Sequence[Result]) -> list[Result]:
    """Sort results, the usual methods first."""
    return [result for own in methods_of(results).values() for result in own]


def charts(results: Sequence[Result]) -> dict[str, Any]:
    """Return the interactive charts of one family and dataset by title."""
    import altair as alt

    methods = methods_of(results)
    palette = colours(list(methods))
    scale = alt.Scale(domain=list(palette), range=list(palette.values()))
    bottom = alt.Legend(orient="bottom", columns=3, title=None)  # room for the curves on a phone
    colour = alt.Color("method:N", scale=scale, legend=bottom)
    legend = alt.selection_point(fields=["method"], bind="legend")
    opacity = alt.condition(legend, alt.value(1.0), alt.value(0.1))

    def chart(rows: list[dict[str, Any]]) -> Any:
        return alt.Chart(alt.Data(values=rows)).properties(width="container", height=320)

    found: dict[str, Any] = {}
    rows = [
        {"method": m, "episode": k + 1, "return": round(v.value, 3), "low": round(v.low, 3), "high": round(v.high, 3)}
        for m, own in methods.items()
        if (curve := online(own)) is not None
        for k, v in enumerate(curve.curve())
    ]
    if rows:
        x = alt.X("episode:Q", axis=alt.Axis(tickMinStep=1, format="d"), title="episode on a new task")
        y = alt.Y("return:Q", scale=alt.Scale(zero=False), title="mean return")
        tips = ["method:N", "episode:Q", "return:Q", "low:Q", "high:Q"]
        base = chart(rows)
        lines = base.mark_line(point=True).encode(x=x, y=y, color=colour, opacity=opacity, tooltip=tips)
        bands = base.mark_area(opacity=0.15).encode(
            x=x,
            y=alt.Y("low:Q", title="mean return"),
            y2="high:Q",
            color=colour,
            opacity=alt.condition(legend, alt.value(0.15), alt.value(0.0)),
        )
        found["Adaptation: return of each episode, adapted on those before it"] = (bands + lines).add_params(legend)
    rows = []
    for method, own in methods.items():
        curve, given = online(own), logged(own)
        if curve is None or given is None or context_shift(given, curve) is None:
            continue
        for context, value in (("logged", given.curve()[0]), ("its own", curve.curve()[OFFLINE_ROLLOUTS])):
            rows.append(
                {"method": method, "context": context, "return": value.value, "low": value.low, "high": value.high}
            )
    if rows:
        y = alt.Y("method:N", title=None, sort=list(methods))
        shape = alt.Shape(
            "context:N",
            legend=alt.Legend(orient="bottom", title="context"),
            scale=alt.Scale(domain=["logged", "its own"]),
        )
        base = chart(rows).properties(height=40 * len(methods) + 20)
        points = base.mark_point(size=110, filled=True).encode(
            x=alt.X("return:Q", scale=alt.Scale(zero=False), title="mean return after two episodes' worth of context"),
            y=y,
            shape=shape,
            color=colour,
            tooltip=["method:N", "context:N", "return:Q", "low:Q", "high:Q"],
        )
        bars = base.mark_rule().encode(x="low:Q", x2="high:Q", y=y, color=colour)
        found["Context shift: the same size of context, logged or its own"] = bars + points
    rows = [
        {"method": m, "task": t, "parameter": p, "return": round(float(value), 2)}
        for m, own in methods.items()
        if (curve := online(own)) is not None
        for t, (p, value) in enumerate(zip(_parameters(curve), curve.array().mean(0)[:, -1], strict=True))
    ]
    if rows:
        name = _parameter_name(results[0])
        found["Last episode on each held-out task"] = (
            chart(rows)
            .mark_point(size=60, filled=True)
            .encode(
                x=alt.X("parameter:Q", title=name, scale=alt.Scale(zero=False)),
                y=alt.Y("return:Q", scale=alt.Scale(zero=False), title="mean return"),
                color=colour,
                opacity=opacity,
                tooltip=["method:N", "task:Q", "parameter:Q", "return:Q"],
            )
            .add_params(legend)
        )
    return found


def _parameters(result: Result) -> list[float]:
    """What tells tasks apart on an axis: their parameter where there is one, else their index."""
    benchmark = get_benchmark(result.benchmark)
    family = get_family(benchmark.family)
    tasks = family.tasks[benchmark.protocol.split]
    return [task.params[0] if family.num_params == 1 else float(task.index) for task in tasks]


def _parameter_name(result: Result) -> str:
    family = get_family(get_benchmark(result.benchmark).family)
    return family.param_names[0] if family.num_params == 1 else "task"
