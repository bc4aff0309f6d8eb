"""Interactive charts of results, as Vega-Lite specifications, and the colours that methods have everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from offlinemeta.benchmark.metrics import Interval
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS, get_benchmark
from offlinemeta.benchmark.result import Result
from offlinemeta.datasets.references import read_references
from offlinemeta.envs import get_family
from offlinemeta.leaderboard.table import STUDY, Row

# The palette of Okabe and Ito, then eight of Paul Tol's: told apart by colour-blind readers
COLOURS = (
    "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442",
    "#882255", "#44AA99", "#332288", "#999933", "#AA4499", "#117733", "#888888", "#661100",
)  # fmt: skip
MARKERS = "osD^vPX"
"""As many as have no factor in common with colours, so that only after all pairs of both two methods look alike."""


def colours(methods: Sequence[str]) -> dict[str, str]:
    """Return the colour of each method; the package's own have the same one in every picture."""
    order = [*STUDY["methods"], *sorted(set(methods) - set(STUDY["methods"]))]
    return {method: COLOURS[order.index(method) % len(COLOURS)] for method in methods}


def levels(row: Row) -> dict[str, float]:
    """Return the mean returns on a row's tasks of the references: the expert that is told its task, blind, random."""
    references = read_references(row.data.partition("/")[0])
    kinds = {"told": references.told, "blind": references.blind, "random": references.random}
    return {name: float(np.mean(returns[row.split])) for name, returns in kinds.items()}


def charts(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the interactive charts of one family and dataset by title."""
    import altair as alt

    palette = colours([row.method for row in rows])
    scale = alt.Scale(domain=list(palette), range=list(palette.values()))
    bottom = alt.Legend(orient="bottom", columns=3, title=None)  # room for the curves on a phone
    colour = alt.Color("method:N", scale=scale, legend=bottom)
    legend = alt.selection_point(fields=["method"], bind="legend")
    opacity = alt.condition(legend, alt.value(1.0), alt.value(0.1))

    def chart(values: list[dict[str, Any]]) -> Any:
        return alt.Chart(alt.Data(values=values)).properties(width="container", height=320)

    found: dict[str, Any] = {}
    values = [
        {"method": row.method, "episode": k + 1, **_rounded(interval)}
        for row in rows
        for k, interval in enumerate(row.curve)
    ]
    if values:
        x = alt.X("episode:Q", axis=alt.Axis(tickMinStep=1, format="d"), title="episode on a new task")
        y = alt.Y("return:Q", scale=alt.Scale(zero=False), title="mean return")
        tips = ["method:N", "episode:Q", "return:Q", "low:Q", "high:Q"]
        base = chart(values)
        lines = base.mark_line(point=True).encode(x=x, y=y, color=colour, opacity=opacity, tooltip=tips)
        bands = base.mark_area(opacity=0.15).encode(
            x=x,
            y=alt.Y("low:Q", title="mean return"),
            y2="high:Q",
            color=colour,
            opacity=alt.condition(legend, alt.value(0.15), alt.value(0.0)),
        )
        known = [{"reference": name, "return": round(level, 3)} for name, level in levels(rows[0]).items()]
        rules = (
            chart(known).mark_rule(color="#666666", strokeDash=[4, 4]).encode(y=y, tooltip=["reference:N", "return:Q"])
        )
        names = chart(known).mark_text(align="left", dx=4, dy=-6, color="#666666")
        names = names.encode(x=alt.value(0), y=y, text="reference:N")
        found["Adaptation: return of each episode, adapted on those before it"] = (
            bands + lines + rules + names
        ).add_params(legend)
    values = [
        {"method": row.method, "context": context, **_rounded(interval)}
        for row in rows
        if row.shift is not None and row.offline is not None
        for context, interval in (("logged", row.offline), ("its own", row.curve[OFFLINE_ROLLOUTS]))
    ]
    if values:
        y = alt.Y("method:N", title=None, sort=list(palette))
        shape = alt.Shape(
            "context:N",
            legend=alt.Legend(orient="bottom", title="context"),
            scale=alt.Scale(domain=["logged", "its own"]),
        )
        base = chart(values).properties(height=40 * len(palette) + 20)
        points = base.mark_point(size=110, filled=True).encode(
            x=alt.X("return:Q", scale=alt.Scale(zero=False), title="mean return after two episodes' worth of context"),
            y=y,
            shape=shape,
            color=colour,
            tooltip=["method:N", "context:N", "return:Q", "low:Q", "high:Q"],
        )
        bars = base.mark_rule().encode(x="low:Q", x2="high:Q", y=y, color=colour)
        found["Context shift: the same size of context, logged or its own"] = bars + points
    values = [
        {"method": row.method, "part": part, "loss": round(loss, 3), "order": place}
        for row in rows
        for place, (part, loss) in enumerate(gap_parts(row.online).items())
    ]
    if values:
        parts = [part for part in LOSSES if any(value["part"] == part for value in values)]
        bars = chart(values).properties(height=30 * len({value["method"] for value in values}) + 20)
        found["Where the return is lost between the expert told its task and the agent, after two own episodes"] = (
            bars.mark_bar().encode(
                x=alt.X("sum(loss):Q", title="lost mean return"),
                y=alt.Y("method:N", title=None, sort=list(palette)),
                color=alt.Color(  # other colours than the methods', as far as there are
                    "part:N",
                    scale=alt.Scale(domain=parts, range=list(COLOURS[-len(parts) :])),
                    legend=alt.Legend(orient="bottom", columns=1, title=None, labelLimit=0),
                ),
                order="order:Q",
                tooltip=["method:N", "part:N", "loss:Q"],
            )
        )
    values = [
        {"method": row.method, "task": t, "parameter": p, "return": round(float(value), 2)}
        for row in rows
        if row.online is not None
        for t, (p, value) in enumerate(
            zip(_parameters(row.online), row.online.array().mean(0)[:, row.online.counted], strict=True)
        )
    ]
    if values:
        name = _parameter_name(rows[0].results[0])
        found["Third episode on each held-out task, or the last of fewer"] = (
            chart(values)
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


LOSSES = {
    "context: it does not tell the task": ("told", "exact"),
    "encoder: z does not hold what the context tells": ("exact", "reader"),
    "context and encoder: z does not hold the task": ("told", "reader"),
    "policy: it does not do what z asks for": ("reader", "own"),
}
"""Parts of the gap, each from one figure to the next; the third stands for the first two where those are not known."""


def gap_parts(result: Result | None) -> dict[str, float]:
    """Return the mean return that is lost in each part of the gap, in all told minus own; nothing if not known."""
    measured = {} if result is None else result.metrics
    levels = {name.removeprefix("gap_"): float(np.mean(v)) for name, v in measured.items() if name.startswith("gap_")}
    if not {"told", "reader", "own"} <= levels.keys():
        return {}
    known = {part: ends for part, ends in LOSSES.items() if set(ends) <= levels.keys()}
    if "exact" in levels:
        known = {part: ends for part, ends in known.items() if ends != ("told", "reader")}
    return {part: levels[high] - levels[low] for part, (high, low) in known.items()}


def _rounded(interval: Interval) -> dict[str, float]:
    """Return what a chart shows of an interval."""
    return {"return": round(interval.value, 3), "low": round(interval.low, 3), "high": round(interval.high, 3)}


def _parameters(result: Result) -> list[float]:
    """Return what tells tasks apart on an axis: their parameter if they have a single one, else their index."""
    benchmark = get_benchmark(result.benchmark)
    family = get_family(benchmark.family)
    tasks = family.tasks[benchmark.protocol.split]
    return [task.params[0] if family.num_params == 1 else float(task.index) for task in tasks]


def _parameter_name(result: Result) -> str:
    family = get_family(get_benchmark(result.benchmark).family)
    return family.param_names[0] if family.num_params == 1 else "task"
