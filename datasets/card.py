"""A dataset's card: a page and a picture that say what is in it and what can be learned from it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader

from offlinemeta.datasets import storage
from offlinemeta.datasets.behaviour import CHECKPOINTS, load_checkpoints
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.identifiability import TRANSITIONS, Identifiability, identifiability
from offlinemeta.datasets.references import References, read_references
from offlinemeta.datasets.spec import QUALITIES
from offlinemeta.envs import SPLITS, env_id
from offlinemeta.envs.errors import MissingExtraError
from offlinemeta.envs.shapes import Array, Float

GRID = 50
"""Cells along each axis of the map of observations."""

SHOWN = 20_000
"""Observations in the map."""

MOST_SATURATED = 0.05
"""Share of actions on the bounds above which tanh-Gaussian likelihoods degenerate."""


@dataclass(frozen=True)
class Coverage:
    """Where the observations lie.

    Attributes:
        points: ``[n, 2]`` principal components of a sample.
        occupied: share of the cells of a grid over all observations' components that have any.
        per_task: the same for one task's observations, on average.
        explained: share of the variance in the two components.
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


def write_card(
    dataset: Dataset, folder: Path, progress: Callable[[int], None] = lambda steps: None
) -> tuple[Path, Path]:
    """Write a dataset's card.

    Args:
        dataset: as loaded.
        folder: gets ``<family>-<name>.md`` and ``.png``.
        progress: is told of the steps of :func:`identifiability`.

    Returns:
        The paths of the page and the picture.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    spec, references = dataset.spec, read_references(dataset.spec.family)
    page, picture = (folder / f"{spec.family}-{spec.name}.{end}" for end in ("md", "png"))
    with storage.telling(f"{folder} cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
    known, covered = identifiability(dataset, progress), coverage(dataset)
    draw(dataset, references, known, covered, picture)
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), keep_trailing_newline=True)
    text = templates.get_template("card.md.jinja").render(_facts(dataset, references, known, covered, picture.name))
    page.write_text(text, encoding="utf-8")
    return page, picture


def _facts(
    dataset: Dataset, references: References, known: Identifiability, covered: Coverage, picture: str
) -> dict[str, Any]:
    """All that the page says."""
    spec, family, facts = dataset.spec, dataset.family, dataset.facts()
    rows, trained = behaviour_rows(dataset, references), None
    if (CHECKPOINTS / f"{family.name}.safetensors").exists() and spec.quality != "random":
        trained = load_checkpoints(family.name)[1]
    worst = max(row.saturated for row in rows)
    if worst <= MOST_SATURATED:
        saturation = "No policy keeps its actions on the bounds of the box."
    else:
        saturation = (
            f"{worst:.0%} of one policy's actions lie on the bounds: tanh-Gaussian likelihoods degenerate there."
        )
    counts = {split: sum(task.split == split for task in spec.tasks) for split in SPLITS}
    file = storage.place(spec) / "data" / "main_data.hdf5"
    return {
        "spec": spec,
        "family": SimpleNamespace(
            summary=family.summary,
            docs=" ".join((type(family).__doc__ or "").split()),
            horizon=family.horizon,
            dt=family.dt,
            terminates=family.terminates,
        ),
        "quality": QUALITIES[spec.quality],
        "picture": picture,
        "env": env_id(family),
        "tasks": ", ".join(f"{count} {split}" for split, count in counts.items() if count),
        "episodes": len(dataset),
        "steps": len(dataset.rewards),
        "size": f"{file.stat().st_size / 1e6:,.1f}" if file.exists() else "?",
        "observations": family.observation_space.shape[0],
        "actions": family.action_space.shape[0],
        "sha256": facts["sha256"],
        "versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "machine": facts["machine"],
        "license": storage.LICENSE,
        "rollouts": spec.rollouts,
        "trained": trained,
        "uniform": spec.quality == "random",
        "rows": rows,
        "saturation": saturation,
        "transitions": TRANSITIONS,
        "known": known,
        "coverage": covered,
        "features": ", ".join(family.feature_names),
        "minari": importlib.metadata.version("minari"),
    }


def behaviour_rows(dataset: Dataset, references: References) -> list[SimpleNamespace]:
    """Return what each behaviour policy contributed: episodes, mean return, normalised score, saturated actions."""
    returns, whole, rows = dataset.returns(), dataset.whole(), []
    scores = scores_of(dataset, references)
    saturated = np.add.reduceat((np.abs(dataset.actions) > 0.99).mean(1), dataset.starts[:-1])
    for b in np.unique(dataset.behaviour).tolist():
        own = dataset.behaviour == b
        rows.append(
            SimpleNamespace(
                name=dataset.behaviours[b],
                episodes=int(own.sum()),
                mean=float(returns[own & whole].mean()) if (own & whole).any() else float("nan"),
                score=float(scores[own & whole].mean()) if (own & whole).any() else float("nan"),
                saturated=float(saturated[own].sum() / dataset.lengths[own].sum()),
            )
        )
    return rows


def scores_of(dataset: Dataset, references: References) -> Float[Array, " E"]:
    """Return each episode's normalised return."""
    return references.score([dataset.tasks[place] for place in dataset.task], dataset.returns())


def draw(dataset: Dataset, references: References, known: Identifiability, covered: Coverage, path: Path) -> None:
    """Draw returns by behaviour policy and by task, the map of observations, and identifiability.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plots", "The picture of a dataset") from error
    import matplotlib

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(dataset.spec.id)
    (by_behaviour, by_task), (states, tasks_known) = figure.subplots(2, 2)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, max(2, len(dataset.behaviours))))
    returns, whole = dataset.returns(), dataset.whole()

    used = np.unique(dataset.behaviour).tolist()
    groups = [returns[(dataset.behaviour == b) & whole] for b in used]
    present = [(b, group) for b, group in zip(used, groups, strict=True) if len(group)]
    boxes = by_behaviour.boxplot([group for _, group in present], patch_artist=True, showfliers=False, widths=0.7)
    for (b, _), body in zip(present, boxes["boxes"], strict=True):
        body.set(facecolor=colours[b], alpha=0.9)
    for line in boxes["medians"]:
        line.set(color="black")
    by_behaviour.set_xticks(range(1, len(present) + 1), [dataset.behaviours[b] for b, _ in present], rotation=30)
    by_behaviour.set(ylabel="return of an episode", title="Returns by behaviour policy")

    params = dataset.family.params(dataset.tasks)
    if params.shape[1] == 1:
        x, name = params[:, 0], dataset.family.param_names[0]
    else:
        expert = [references.expert[task.split][task.index] for task in dataset.tasks]
        x, name = np.argsort(np.argsort(expert)).astype(float), "task, by the expert's return"
    order = np.argsort(x)
    by_task.scatter(
        x[dataset.task[whole]], returns[whole], s=5, color=colours[dataset.behaviour[whole]], linewidths=0, alpha=0.7
    )
    for label, table, style in (("expert", references.expert, "-"), ("random", references.random, "--")):
        line = np.array([table[task.split][task.index] for task in dataset.tasks])
        by_task.plot(x[order], line[order], style, color="black", linewidth=1, label=label)
    by_task.legend(loc="best", fontsize="small")
    by_task.set(xlabel=name, ylabel="return of an episode", title="Returns by task")

    states.hexbin(*covered.points.T, gridsize=GRID, bins="log", cmap="viridis", mincnt=1, linewidths=0)
    states.set(
        xlabel="first principal component",
        ylabel="second",
        title=f"Observations ({covered.explained:.0%} of the variance; {covered.occupied:.0%} of the cells)",
    )

    heights = np.array(
        [
            [known.task_with_rewards, known.task_without_rewards],
            [known.episode_with_rewards, known.episode_without_rewards],
        ]
    )
    for place, (text, colour) in enumerate((("with rewards", "#0072b2"), ("without", "#e69f00"))):
        bars = tasks_known.bar(np.arange(2) + 0.4 * (place - 0.5), np.maximum(heights[:, place], 0), 0.38, color=colour)
        tasks_known.bar_label(bars, [f"{value:.2f}" for value in heights[:, place]])
        bars.set_label(text)
    tasks_known.set_xticks(range(2), [f"{TRANSITIONS} transitions of a task", f"{TRANSITIONS} of one episode"])
    tasks_known.set(ylim=(0, 1.15), ylabel="R², tasks not seen", title="Task identifiability")
    tasks_known.legend(loc="lower right", fontsize="small")
    with storage.telling(f"{path} cannot be written"):
        figure.savefig(path, dpi=110)
