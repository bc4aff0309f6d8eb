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
from offlinemeta.datasets.dataset import RANDOM, Dataset
from offlinemeta.datasets.explorers import has_stages, training_of
from offlinemeta.datasets.identifiability import TRANSITIONS, Identifiability, identifiability
from offlinemeta.datasets.references import LOW_WORTH, References, read_references
from offlinemeta.datasets.spec import QUALITIES
from offlinemeta.envs import SPLITS, env_id
from offlinemeta.envs.errors import MissingExtraError
from offlinemeta.envs.shapes import Array, Float
from offlinemeta.files import check_writable, replacing, write_text

GRID = 50
"""Number of cells along each axis of the map of observations."""

SHOWN = 20_000
"""Number of observations drawn in the map."""

MOST_SATURATED = 0.05
"""Share of actions on the bounds above which the likelihoods of tanh-Gaussian policies degenerate."""


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


def write_card(
    dataset: Dataset, folder: Path, progress: Callable[[int], None] = lambda steps: None
) -> tuple[Path, Path]:
    """Write a dataset's card.

    Args:
        dataset: the dataset.
        folder: where ``<family>-<name>.md`` and ``.png`` are written.
        progress: told of the regressions of :func:`identifiability`.

    Returns:
        The paths of the page and the picture.

    Raises:
        MissingExtraError: matplotlib is not installed.
        FileError: nothing can be written in the folder.
    """
    spec, references = dataset.spec, read_references(dataset.spec.family)
    page, picture = (folder / f"{spec.family}-{spec.name}.{end}" for end in ("md", "png"))
    figure = blank_figure()
    check_writable(folder)
    known, covered = identifiability(dataset, progress), coverage(dataset)
    draw(figure, dataset, references, known, covered)
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), keep_trailing_newline=True)
    text = templates.get_template("card.md.jinja").render(_facts(dataset, references, known, covered, picture.name))
    with replacing(picture) as file:
        figure.savefig(file, dpi=110, format="png")
    write_text(page, text)
    return page, picture


def _facts(
    dataset: Dataset, references: References, known: Identifiability, covered: Coverage, picture: str
) -> dict[str, Any]:
    """Return all that the page says."""
    spec, family, facts = dataset.spec, dataset.family, dataset.facts()
    rows = behaviour_rows(dataset, references)
    worst = max(row.saturated for row in rows)
    saturation = f"At most {worst:.1%} of a policy's actions lie on the bounds of the box"
    saturation += "." if worst <= MOST_SATURATED else ", where tanh-Gaussian likelihoods degenerate."
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
        "quality": QUALITIES[spec.quality].what,
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
        "collected": how_collected(dataset),
        "aimless": int(dataset.aimless().sum()),
        "rows": rows,
        "splits": split_rows(dataset, references),
        "floor": {"blind": "the best blind policy", "random": "random actions"}[references.floor],
        "low_worth": LOW_WORTH in references.tags,
        "worth": references.overall.value,
        "saturation": saturation,
        "transitions": TRANSITIONS,
        "known": known,
        "measured": not np.isnan(known.task_with_rewards),
        "coverage": covered,
        "features": ", ".join(family.feature_names),
        "minari": importlib.metadata.version("minari"),
    }


def how_collected(dataset: Dataset) -> str:
    """Say in words what acted, and which of a task's rollouts explored."""
    spec, family = dataset.spec, dataset.family
    if dataset.behaviours == (RANDOM,):
        return "Actions are uniform in the box."
    trained = "The policies mix a script with uniformly random actions; the share of noise is their name."
    if (CHECKPOINTS / f"{family.name}.safetensors").exists():
        command = load_checkpoints(family.name)[1]["command"]
        trained = f"The policies are checkpoints of one run, `{command}`, their actions tanh-Gaussian samples."
    if not spec.visited:
        return f"{trained} They are told the task, unless the table says otherwise."
    half = spec.rollouts // 2
    visit = (
        "Every agent visits each task: rollouts that explore, and rollouts that use what those found, in turn. "
        if QUALITIES[spec.quality].stages
        else f"Each task is visited: {half} rollouts explore and {half} use what those found. "
    )
    if has_stages(family.name) and not any("posterior sampling" in name for name in dataset.behaviours):
        about = training_of(family.name)
        return (
            f"{visit}The agents are stages of one run of online PEARL, `{about['command']}`. z is drawn anew at every "
            f"step: from the prior in exploring rollouts, from the posterior of the visit so far in the others. "
            f"Actions are samples."
        )
    inferred = (
        "afterwards the training task whose rewards agree best with those of the visit so far"
        if family.rewards_tell
        else "afterwards its own task, since rewards do not tell the tasks of this family apart"
    )
    return (
        f"{visit}No stages of online PEARL that get far enough ship for this family, so the data are made by posterior "
        f"sampling over a policy that is told a task: exploring, a training task drawn anew at every step; {inferred}. "
        f"{trained}"
    )


def behaviour_rows(dataset: Dataset, references: References) -> list[SimpleNamespace]:
    """Return what each behaviour policy contributed: episodes, mean return, normalised score, saturated actions."""
    returns, first, scores = dataset.returns(), dataset.first(), scores_of(dataset, references)
    saturated = np.add.reduceat((np.abs(dataset.actions) > 0.99).mean(1), dataset.starts[:-1])
    rows = []
    for b in np.unique(dataset.behaviour).tolist():
        own = dataset.behaviour == b
        rows.append(
            SimpleNamespace(
                name=dataset.behaviours[b],
                episodes=int(own.sum()),
                mean=float(returns[own & first].mean()),
                score=float(scores[own & first].mean()),
                saturated=float(saturated[own].sum() / dataset.lengths[own].sum()),
            )
        )
    return rows


def split_rows(dataset: Dataset, references: References) -> list[SimpleNamespace]:
    """Return the mean returns of the tasks of each split, over its tasks: lowest, quartiles, highest."""
    returns, first = dataset.returns(), dataset.first()
    of_task = np.array([returns[first & (dataset.task == place)].mean() for place in range(len(dataset.tasks))])
    rows = []
    for split in SPLITS:
        own = [place for place, task in enumerate(dataset.tasks) if task.split == split]
        if own:
            tasks = [dataset.tasks[place] for place in own]
            lines = {kind: getattr(references, kind)[split] for kind in ("random", "blind", "told")}
            means = {kind: np.mean([line[task.index] for task in tasks]) for kind, line in lines.items()}
            quantiles = np.quantile(of_task[own], [0, 0.25, 0.5, 0.75, 1]).tolist()
            rows.append(SimpleNamespace(name=split, tasks=len(own), quantiles=quantiles, **means))
    return rows


def scores_of(dataset: Dataset, references: References) -> Float[Array, " E"]:
    """Return each episode's normalised return."""
    return references.score([dataset.tasks[place] for place in dataset.task], dataset.returns())


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
    axes.set(ylim=(0, 1.35), ylabel="R², tasks not seen", title="Task identifiability")
    axes.legend(loc="upper right", ncols=2, fontsize="small")
