"""A dataset's card: a page and a picture that say what is in it and what can be learned from it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader

from offlinemeta.datasets import storage
from offlinemeta.datasets.aims import aim_identifiability
from offlinemeta.datasets.behaviour import CHECKPOINTS, load_checkpoints
from offlinemeta.datasets.dataset import RANDOM, Dataset
from offlinemeta.datasets.explorers import has_stages, training_of
from offlinemeta.datasets.identifiability import TRANSITIONS, Identifiability, identifiability
from offlinemeta.datasets.picture import Coverage, blank_figure, coverage, draw
from offlinemeta.datasets.references import LOW_WORTH, References, read_references
from offlinemeta.datasets.scripted import SCENES
from offlinemeta.datasets.spec import QUALITIES, RANDOM_BEHAVIOUR
from offlinemeta.envs import SPLITS, env_id
from offlinemeta.envs.shapes import Array, Float
from offlinemeta.files import check_writable, replacing, write_text

MOST_SATURATED = 0.05
"""Share of actions on the bounds above which the likelihoods of tanh-Gaussian policies degenerate."""


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
    in_scenes, covered = spec.family in SCENES, coverage(dataset)
    known = aim_identifiability(dataset) if in_scenes else identifiability(dataset, progress)
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
        "quality": spec.what,
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
    if spec.family in RANDOM_BEHAVIOUR:
        return (
            "Episodes of random behaviour, as the study's in this domain: one thing that the scene offers after the "
            "other, whatever the aim, by scripts with Gaussian noise. They are told the scene."
        )
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
