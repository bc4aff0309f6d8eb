"""Interactive charts of results, as Vega-Lite specifications."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from offlinemeta.benchmark.metrics import Interval
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS, get_benchmark
from offlinemeta.benchmark.result import Result
from offlinemeta.datasets.references import read_references
from offlinemeta.envs import get_family
from offlinemeta.leaderboard.style import GREY, Style
from offlinemeta.leaderboard.table import Row

TICKS = {"tickCount": 8}
"""As many as a phone has room for."""

Spec = dict[str, Any]
"""A chart as a Vega-Lite specification."""


def script_json(content: Any) -> Markup:
    """Return JSON for a script element, which nothing in it can end."""
    return Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))


def reference_returns(row: Row) -> dict[str, Sequence[float]]:
    """Return the references' mean return on each of a row's tasks: the expert that is told its task, blind, random."""
    references = read_references(row.data.partition("/")[0])
    kinds = {"told": references.told, "blind": references.blind, "random": references.random}
    return {name: returns[row.split] for name, returns in kinds.items()}


def levels(row: Row) -> dict[str, float]:
    """Return the mean over the tasks of :func:`reference_returns`."""
    return {name: float(np.mean(returns)) for name, returns in reference_returns(row).items()}


def charts(rows: Sequence[Row], style: Mapping[str, Style], legend: bool = True) -> dict[str, Spec]:
    """Return the interactive charts of one family and dataset by title; those that there are results for.

    Args:
        rows: of one family, dataset and split.
        style: how each method is drawn.
        legend: whether each chart has a legend of its own, in which methods are chosen by a click.
    """
    drawn = {
        "Adaptation: return of each episode, adapted on those before it": _adaptation(rows, style, legend),
        "Context shift: the same size of context, logged or its own": _shift(rows, style),
        "Where the return is lost between the expert told its task and the agent, after two own episodes": _gap(rows),
        "Third episode on each held-out task, or the last of fewer": _tasks(rows, style, legend),
    }
    return {title: spec for title, spec in drawn.items() if spec is not None}


def _spec(chart: Any, **datasets: list[dict[str, Any]]) -> Spec:
    """Return a chart over named data with these data, which altair would copy again and again."""
    return {**chart.to_dict(validate=False), "datasets": datasets}


def _adaptation(rows: Sequence[Row], style: Mapping[str, Style], legend: bool) -> Spec | None:
    import altair as alt

    values = [
        {"method": row.method, "episode": k + 1, **_rounded(interval)}
        for row in rows
        for k, interval in enumerate(row.curve)
    ]
    if not values:
        return None
    drawn, chosen = _drawn(style, values, legend), _chosen() if legend else None
    ticks = list(range(1, 1 + max(len(row.curve) for row in rows)))
    axis = alt.Axis(values=ticks, format="d", labelOverlap=True)
    ends = alt.Scale(domain=[1, max(2, len(ticks))], nice=False)
    x = alt.X("episode:Q", axis=axis, scale=ends, title="episode on a new task")
    scale = _scale(values, rows[0])
    y = alt.Y("return:Q", scale=scale, title="mean return")
    base = _chart("values").encode(x=x, color=drawn["color"], opacity=_seen(chosen, 1.0))
    lines = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=drawn["strokeDash"])
    points = base.mark_point(filled=True, size=35).encode(
        y=y, shape=drawn["shape"], tooltip=["method:N", "episode:Q", "return:Q", "low:Q", "high:Q"]
    )
    bands = base.mark_area(clip=True).encode(
        y=alt.Y("low:Q", title="mean return", scale=scale), y2="high:Q", opacity=_seen(chosen, 0.13, 0.0)
    )
    known = _chart("known").encode(y=y, tooltip=["reference:N", "return:Q"])
    rules = known.mark_rule(color=GREY, strokeDash=[4, 4])
    names = known.mark_text(align="left", dx=4, dy=-6, color=GREY).encode(x=alt.value(0), text="reference:N")
    layers = bands + lines + points + rules + names
    return _spec(layers.add_params(chosen) if chosen else layers, values=values, known=_known(rows[0]))


def _shift(rows: Sequence[Row], style: Mapping[str, Style]) -> Spec | None:
    import altair as alt

    values = [
        {"method": row.method, "context": context, **_rounded(interval)}
        for row in rows
        if row.shift is not None and row.offline is not None
        for context, interval in (("logged", row.offline), ("its own", row.curve[OFFLINE_ROLLOUTS]))
    ]
    if not values:
        return None
    x = alt.X(
        "return:Q", scale=_scale(values, rows[0]), axis=TICKS, title="mean return after two episodes' worth of context"
    )
    shape = alt.Shape(
        "context:N",
        legend=alt.Legend(orient="bottom", title="context"),
        scale=alt.Scale(domain=["logged", "its own"]),
    )
    base = _chart("values", 42 * len({value["method"] for value in values})).encode(
        y=_by_method(rows), yOffset=alt.YOffset("context:N", scale=alt.Scale(paddingInner=0.6, paddingOuter=0.9)),
        color=_drawn(style, values, legend=False)["color"],
    )  # fmt: skip
    points = base.mark_point(size=90, filled=True, opacity=1).encode(
        x=x, shape=shape, tooltip=["method:N", "context:N", "return:Q", "low:Q", "high:Q"]
    )
    bars = base.mark_rule(clip=True).encode(x="low:Q", x2="high:Q")
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
    losses = [list(gap_parts(row.online).values()) for row in rows]
    low = min(sum(min(loss, 0.0) for loss in own) for own in losses)
    high = max(sum(max(loss, 0.0) for loss in own) for own in losses)
    ends = alt.Scale(domain=[low, high or 1.0])
    parts = [part for part in LOSSES if any(value["part"] == part for value in values)]
    colour = alt.Color(
        "part:N",
        scale=alt.Scale(domain=parts, range=[LOSS_COLOURS[part] for part in parts]),
        legend=alt.Legend(orient="bottom", columns=1, title=None, labelLimit=0),
    )
    bars = _chart("values", 30 * len({value["method"] for value in values}) + 10).mark_bar()
    bars = bars.encode(
        x=alt.X("sum(loss):Q", title="lost mean return", axis=TICKS, scale=ends),
        y=_by_method(rows),
        color=colour,
        order="order:Q",
        tooltip=["method:N", "part:N", "loss:Q"],
    )
    return _spec(bars, values=values)


def _tasks(rows: Sequence[Row], style: Mapping[str, Style], legend: bool) -> Spec | None:
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
    drawn, chosen = _drawn(style, values, legend), _chosen() if legend else None
    name = _parameter_name(rows[0].results[0])
    x = alt.X("parameter:Q", title=name, scale=alt.Scale(zero=False), axis=TICKS)
    y = alt.Y("return:Q", scale=alt.Scale(zero=False), title="mean return")
    points = _chart("values").mark_point(size=50, filled=True)
    points = points.encode(
        x=x,
        y=y,
        color=drawn["color"],
        shape=drawn["shape"],
        opacity=_seen(chosen, 0.9),
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
    layers = (ticks + points).resolve_scale(shape="independent")
    return _spec(layers.add_params(chosen) if chosen else layers, values=values, known=known)


def _chart(data: str, height: int = 320) -> Any:
    import altair as alt

    return alt.Chart(alt.NamedData(data)).properties(width="container", height=height)


def _scale(values: Sequence[Mapping[str, Any]], row: Row) -> Any:
    """Return the scale of returns, on which means and references have room; a wide interval may end beyond it."""
    import altair as alt

    shown = [value["return"] for value in values] + list(levels(row).values())
    low, high = min(shown), max(shown)
    room = 0.08 * (high - low) or 1.0
    return alt.Scale(domain=[round(low - room, 3), round(high + room, 3)], nice=False, zero=False)


def _drawn(style: Mapping[str, Style], values: Sequence[Mapping[str, Any]], legend: bool) -> dict[str, Any]:
    """Return the colour, the stroke and the shape of each method, with one legend for the three or none."""
    import altair as alt

    methods = list(dict.fromkeys(value["method"] for value in values))
    own = [style[method] for method in methods]
    # in columns, which leave the curves their room on a phone
    keys = {"legend": alt.Legend(orient="bottom", columns=3, title=None, symbolOpacity=1, symbolLimit=0)}

    def scale(values: list[Any]) -> dict[str, Any]:
        return {"scale": alt.Scale(domain=methods, range=values), **(keys if legend else {"legend": None})}

    return {
        "color": alt.Color("method:N", **scale([one.colour for one in own])),
        "strokeDash": alt.StrokeDash("method:N", **scale([list(one.dash or (1, 0)) for one in own])),
        "shape": alt.Shape("method:N", **scale([one.shape for one in own])),
    }


def _seen(chosen: Any, opacity: float, otherwise: float = 0.1) -> Any:
    """Return the opacity of methods that are chosen, and of the others; of all, where there is nothing to choose."""
    import altair as alt

    return alt.value(opacity) if chosen is None else alt.condition(chosen, alt.value(opacity), alt.value(otherwise))


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


LOSS_COLOURS = dict(zip(LOSSES, ("#88CCEE", "#4477AA", "#4477AA", "#BBBBBB"), strict=True))
"""Other colours than those of methods."""


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
