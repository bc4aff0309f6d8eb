"""Interactive charts of results, as Vega-Lite specifications, and the colours that methods have everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from offlinemeta.benchmark.metrics import Interval
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS, get_benchmark
from offlinemeta.benchmark.result import Result
from offlinemeta.datasets.references import read_references
from offlinemeta.envs import get_family
from offlinemeta.leaderboard.table import STUDY, Row

Spec = dict[str, Any]
"""A chart as a Vega-Lite specification."""

# The palette of Okabe and Ito, then eight of Paul Tol's: told apart by colour-blind readers
COLOURS = (
    "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442",
    "#882255", "#44AA99", "#332288", "#999933", "#AA4499", "#117733", "#888888", "#661100",
)  # fmt: skip
GREY = "#666666"
"""Of what is known beforehand: random actions, the best blind policy, the expert that is told its task."""
LIGHT = 0.22
"""The least luminance of a colour on a dark page: a contrast of about 5 with it."""
MARKERS = "osD^vPX"
"""As many as have no factor in common with colours, so that only after all pairs of both two methods look alike."""


def colours(methods: Sequence[str]) -> dict[str, str]:
    """Return the colour of each method; the package's own have the same one in every picture."""
    order = [*STUDY["methods"], *sorted(set(methods) - set(STUDY["methods"]))]
    return {method: COLOURS[order.index(method) % len(COLOURS)] for method in methods}


def script_json(content: Any) -> Markup:
    """Return JSON for a script element, which nothing in it can end."""
    return Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))


def on_dark(colour: str) -> str:
    """Return a colour as it is on a dark page: as light as it has to be to be seen there, black as white."""
    mixed = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    if not any(mixed):
        return "#FFFFFF"
    while 0.2126 * mixed[0] ** 2.2 + 0.7152 * mixed[1] ** 2.2 + 0.0722 * mixed[2] ** 2.2 < LIGHT:
        mixed = [0.95 * part + 0.05 for part in mixed]
    return "#" + "".join(f"{round(255 * part):02X}" for part in mixed)


def reference_returns(row: Row) -> dict[str, Sequence[float]]:
    """Return the references' mean return on each of a row's tasks: the expert that is told its task, blind, random."""
    references = read_references(row.data.partition("/")[0])
    kinds = {"told": references.told, "blind": references.blind, "random": references.random}
    return {name: returns[row.split] for name, returns in kinds.items()}


def levels(row: Row) -> dict[str, float]:
    """Return the mean over the tasks of :func:`reference_returns`."""
    return {name: float(np.mean(returns)) for name, returns in reference_returns(row).items()}


def charts(rows: Sequence[Row]) -> dict[str, Spec]:
    """Return the interactive charts of one family and dataset by title; those that there are results for."""
    drawn = {
        "Adaptation: return of each episode, adapted on those before it": _adaptation(rows),
        "Context shift: the same size of context, logged or its own": _shift(rows),
        "Where the return is lost between the expert told its task and the agent, after two own episodes": _gap(rows),
        "Third episode on each held-out task, or the last of fewer": _tasks(rows),
    }
    return {title: spec for title, spec in drawn.items() if spec is not None}


def _spec(chart: Any, **datasets: list[dict[str, Any]]) -> Spec:
    """Return a chart over named data with these data, which altair would copy again and again."""
    return {**chart.to_dict(validate=False), "datasets": datasets}


def _adaptation(rows: Sequence[Row]) -> Spec | None:
    import altair as alt

    values = [
        {"method": row.method, "episode": k + 1, **_rounded(interval)}
        for row in rows
        for k, interval in enumerate(row.curve)
    ]
    if not values:
        return None
    chosen = _chosen()
    ticks = list(range(1, 1 + max(len(row.curve) for row in rows)))
    axis = alt.Axis(values=ticks, format="d", labelOverlap=True)
    x = alt.X("episode:Q", axis=axis, title="episode on a new task")
    y = alt.Y("return:Q", scale=alt.Scale(zero=False), title="mean return")
    base = _chart("values").encode(x=x, color=_colour(rows))
    lines = base.mark_line(point=True).encode(
        y=y,
        opacity=alt.condition(chosen, alt.value(1.0), alt.value(0.1)),
        tooltip=["method:N", "episode:Q", "return:Q", "low:Q", "high:Q"],
    )
    bands = base.mark_area(opacity=0.15).encode(
        y=alt.Y("low:Q", title="mean return"),
        y2="high:Q",
        opacity=alt.condition(chosen, alt.value(0.15), alt.value(0.0)),
    )
    known = _chart("known").encode(y=y, tooltip=["reference:N", "return:Q"])
    rules = known.mark_rule(color=GREY, strokeDash=[4, 4])
    names = known.mark_text(align="left", dx=4, dy=-6, color=GREY).encode(x=alt.value(0), text="reference:N")
    return _spec((bands + lines + rules + names).add_params(chosen), values=values, known=_known(rows[0]))


def _shift(rows: Sequence[Row]) -> Spec | None:
    import altair as alt

    values = [
        {"method": row.method, "context": context, **_rounded(interval)}
        for row in rows
        if row.shift is not None and row.offline is not None
        for context, interval in (("logged", row.offline), ("its own", row.curve[OFFLINE_ROLLOUTS]))
    ]
    if not values:
        return None
    x = alt.X("return:Q", scale=alt.Scale(zero=False), title="mean return after two episodes' worth of context")
    shape = alt.Shape(
        "context:N",
        legend=alt.Legend(orient="bottom", title="context"),
        scale=alt.Scale(domain=["logged", "its own"]),
    )
    base = _chart("values", 40 * len({value["method"] for value in values}) + 20)
    base = base.encode(y=_by_method(rows), color=_colour(rows))
    points = base.mark_point(size=110, filled=True).encode(
        x=x, shape=shape, tooltip=["method:N", "context:N", "return:Q", "low:Q", "high:Q"]
    )
    bars = base.mark_rule().encode(x="low:Q", x2="high:Q")
    known = alt.Chart(alt.NamedData("known")).encode(x=x, tooltip=["reference:N", "return:Q"])
    rules = known.mark_rule(color=GREY, strokeDash=[4, 4])
    names = known.mark_text(align="left", angle=270, dx=4, dy=-6, color=GREY)
    names = names.encode(y=alt.value("height"), text="reference:N")
    return _spec(bars + points + rules + names, values=values, known=_known(rows[0]))


def _gap(rows: Sequence[Row]) -> Spec | None:
    import altair as alt

    values = [
        {"method": row.method, "part": part, "loss": round(loss, 3), "order": place}
        for row in rows
        for place, (part, loss) in enumerate(gap_parts(row.online).items())
    ]
    if not values:
        return None
    parts = [part for part in LOSSES if any(value["part"] == part for value in values)]
    colour = alt.Color(  # other colours than the methods', as far as there are
        "part:N",
        scale=alt.Scale(domain=parts, range=list(COLOURS[-len(parts) :])),
        legend=alt.Legend(orient="bottom", columns=1, title=None, labelLimit=0),
    )
    bars = _chart("values", 30 * len({value["method"] for value in values}) + 20).mark_bar()
    bars = bars.encode(
        x=alt.X("sum(loss):Q", title="lost mean return"),
        y=_by_method(rows),
        color=colour,
        order="order:Q",
        tooltip=["method:N", "part:N", "loss:Q"],
    )
    return _spec(bars, values=values)


def _tasks(rows: Sequence[Row]) -> Spec | None:
    import altair as alt

    values = [
        {"method": row.method, "task": task, "parameter": parameter, "return": round(float(value), 2)}
        for row in rows
        if row.online is not None
        for task, (parameter, value) in enumerate(
            zip(_parameters(row.online), row.online.array().mean(0)[:, row.online.counted], strict=True)
        )
    ]
    if not values:
        return None
    chosen = _chosen()
    x = alt.X("parameter:Q", title=_parameter_name(rows[0].results[0]), scale=alt.Scale(zero=False))
    y = alt.Y("return:Q", scale=alt.Scale(zero=False), title="mean return")
    points = _chart("values").mark_point(size=60, filled=True)
    points = points.encode(
        x=x,
        y=y,
        color=_colour(rows),
        opacity=alt.condition(chosen, alt.value(1.0), alt.value(0.1)),
        tooltip=["method:N", "task:Q", "parameter:Q", "return:Q"],
    )
    parameters = _parameters(rows[0].results[0])
    known = [
        {"reference": name, "task": task, "parameter": parameter, "return": round(value, 2)}
        for name, returns in reference_returns(rows[0]).items()
        for task, (parameter, value) in enumerate(zip(parameters, returns, strict=True))
    ]
    shape = alt.Shape(
        "reference:N",
        scale=alt.Scale(domain=["told", "blind", "random"], range=["triangle-up", "stroke", "triangle-down"]),
        legend=alt.Legend(orient="bottom", title=None),
    )
    ticks = _chart("known").mark_point(size=40, color=GREY)
    ticks = ticks.encode(x=x, y=y, shape=shape, tooltip=["reference:N", "task:Q", "parameter:Q", "return:Q"])
    return _spec((ticks + points).add_params(chosen), values=values, known=known)


def _chart(data: str, height: int = 320) -> Any:
    import altair as alt

    return alt.Chart(alt.NamedData(data)).properties(width="container", height=height)


def _colour(rows: Sequence[Row]) -> Any:
    """Return the colour of each method, with a legend that leaves the curves their room on a phone."""
    import altair as alt

    palette = colours([row.method for row in rows])
    scale = alt.Scale(domain=list(palette), range=list(palette.values()))
    legend = alt.Legend(orient="bottom", columns=3, title=None, symbolOpacity=1, symbolLimit=0)
    return alt.Color("method:N", scale=scale, legend=legend)


def _by_method(rows: Sequence[Row]) -> Any:
    import altair as alt

    return alt.Y("method:N", title=None, sort=list(dict.fromkeys(row.method for row in rows)))


def _chosen() -> Any:
    """Return the selection of methods by a click on the legend."""
    import altair as alt

    return alt.selection_point(fields=["method"], bind="legend")


def _known(row: Row) -> list[dict[str, Any]]:
    return [{"reference": name, "return": round(level, 3)} for name, level in levels(row).items()]


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
