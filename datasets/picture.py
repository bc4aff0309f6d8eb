"""The picture of a dataset's card: returns, coverage of the observations, and task identifiability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.identifiability import TRANSITIONS, Identifiability
from offlinemeta.datasets.references import References
from offlinemeta.envs.errors import MissingExtraError
from offlinemeta.envs.shapes import Array, Float

GRID = 50
"""Number of cells along each axis of the map of observations."""

SHOWN = 20_000
"""Number of observations drawn in the map."""

MOST_NAMES = 10
"""How many names of behaviour policies fit below a picture at full size."""


@dataclass(frozen=True)
class Coverage:
    """Where the observations lie.

    Attributes:
        points: ``[n, 2]`` first two principal components of a sample of the observations.
        occupied: share of the cells of a grid over these components in which there is an observation.
        per_task: the share in which there is one of a single task, averaged over tasks.
        explained: share of the variance that the two components hold.
    """

    points: Float[Array, "n 2"]
    occupied: float
    per_task: float
    explained: float


def coverage(dataset: Dataset) -> Coverage:
    """Measure a dataset's coverage of the observation space."""
    observations = np.asarray(dataset.observations)
    standard = (observations - observations.mean(0)) / (observations.std(0) + 1e-6)
    values, vectors = np.linalg.eigh(np.cov(standard.T).reshape(standard.shape[1], -1))
    points = np.clip(standard @ vectors[:, :-3:-1], -6, 6)
    low, high = np.quantile(points, 0.005, axis=0), np.quantile(points, 0.995, axis=0)
    cells = np.clip((points - low) / (high - low + 1e-9) * GRID, 0, GRID - 1).astype(int) @ [GRID, 1]
    task = np.repeat(dataset.task, dataset.lengths + 1)
    each = [len(np.unique(cells[task == place])) for place in np.unique(task)]
    chosen = np.random.default_rng(0).permutation(len(points))[:SHOWN]
    return Coverage(
        points=points[chosen],
        occupied=len(np.unique(cells)) / GRID**2,
        per_task=float(np.mean(each)) / GRID**2,
        explained=float(values[-2:].sum() / values.sum()),
    )


def blank_figure() -> Any:
    """Return an empty figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plots", "The picture of a dataset") from error
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw(figure: Any, dataset: Dataset, references: References, known: Identifiability, covered: Coverage) -> None:
    """Draw returns by behaviour policy and by task, the map of observations, and identifiability."""
    from matplotlib import colormaps

    figure.suptitle(dataset.spec.id)
    (by_behaviour, by_task), (states, identified) = figure.subplots(2, 2)
    used = np.unique(dataset.behaviour)
    colours = np.zeros((len(dataset.behaviours), 4))
    colours[used] = colormaps["viridis"](np.linspace(0, 0.95, len(used)))
    _draw_returns_by_behaviour(by_behaviour, dataset, colours)
    _draw_returns_by_task(by_task, dataset, references, colours)
    _draw_observations(states, covered)
    _draw_identifiability(identified, known)


def _draw_returns_by_behaviour(axes: Any, dataset: Dataset, colours: Array) -> None:
    returns, first = dataset.returns(), dataset.first()
    groups = {b: returns[(dataset.behaviour == b) & first] for b in np.unique(dataset.behaviour).tolist()}
    boxes = axes.boxplot(list(groups.values()), patch_artist=True, showfliers=False, widths=0.7)
    for b, body in zip(groups, boxes["boxes"], strict=True):
        body.set(facecolor=colours[b], alpha=0.9)
    for line in boxes["medians"]:
        line.set(color="black")
    axes.set_xticks(range(1, len(groups) + 1), [dataset.behaviours[b] for b in groups])
    many = len(groups) > MOST_NAMES
    axes.tick_params("x", rotation=60 if many else 20, labelsize="x-small" if many else "medium")
    for text in axes.get_xticklabels():
        text.set(ha="right", rotation_mode="anchor")
    axes.set(ylabel="return of an episode", title="Returns by behaviour policy")


def _draw_returns_by_task(axes: Any, dataset: Dataset, references: References, colours: Array) -> None:
    """A dot for an episode, coloured by its policy; lines for the references."""
    lines = {
        name: np.array([table[task.split][task.index] for task in dataset.tasks])
        for name, table in (("told", references.told), ("blind", references.blind))
    }
    params, (name, *others) = dataset.family.params(dataset.tasks), dataset.family.param_names
    if others:
        x, name = np.argsort(np.argsort(lines["told"])).astype(float), "task, by the told expert's return"
    else:
        x = params[:, 0]
    first, order = dataset.first(), np.argsort(x)
    dots = {"s": 5, "color": colours[dataset.behaviour[first]], "linewidths": 0, "alpha": 0.7}
    axes.scatter(x[dataset.task[first]], dataset.returns()[first], **dots)
    for (label, line), style in zip(lines.items(), ("-", "--"), strict=True):
        axes.plot(x[order], line[order], style, color="black", linewidth=1, label=label)
    axes.legend(loc="best", fontsize="small")
    axes.set(xlabel=name, ylabel="return of an episode", title="Returns by task")


def _draw_observations(axes: Any, covered: Coverage) -> None:
    axes.hexbin(*covered.points.T, gridsize=GRID, bins="log", cmap="viridis", mincnt=1, linewidths=0)
    title = f"Observations ({covered.explained:.0%} of the variance; {covered.occupied:.0%} of the cells)"
    axes.set(xlabel="first principal component", ylabel="second", title=title)


def _draw_identifiability(axes: Any, known: Identifiability) -> None:
    pairs = (
        ("with rewards", "#0072b2", (known.task_with_rewards, known.episode_with_rewards)),
        ("without", "#e69f00", (known.task_without_rewards, known.episode_without_rewards)),
    )
    for place, (label, colour, values) in enumerate(pairs):
        heights = np.maximum(np.nan_to_num(values), 0)
        bars = axes.bar(np.arange(2) + 0.4 * (place - 0.5), heights, 0.38, color=colour, label=label)
        axes.bar_label(bars, [f"{value:.2f}" for value in values])
    axes.set_xticks(range(2), [f"{TRANSITIONS} transitions of a task", f"{TRANSITIONS} of one episode"])
    if known.chance:
        axes.axhline(known.chance, color="black", ls="--", lw=1, label="by chance")
    what = "right guesses of the aim" if known.chance else "R², tasks not seen"
    axes.set(ylim=(0, 1.35), ylabel=what, title="Task identifiability")
    axes.legend(loc="upper right", ncols=3, fontsize="small")
