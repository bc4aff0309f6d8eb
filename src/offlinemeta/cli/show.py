"""Tables of families, behaviour policies, datasets and methods, for the command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from offlinemeta.datasets.behaviour import CHECKPOINTS, load_checkpoints
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.references import (
    LEAST_WORTH,
    LOW_WORTH,
    References,
    Worth,
    as_references,
    read_references,
    shipped,
)
from offlinemeta.envs import FAMILIES, SPLITS, TaskFamily, env_id, get_family


def family_list(every: bool) -> RenderableType:
    """Return a table of all families; a suite, such as Meta-World's, is one line unless ``every`` is set."""
    table = Table(
        "family", "obs/act", "horizon", "dt \\[s]", "/".join(SPLITS), "varies", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for column in table.columns:
        column.no_wrap = True
    suites: dict[str, list[TaskFamily]] = {}
    for family in FAMILIES.values():
        if family.suite is None or every:
            table.add_row(family.name, *_facts(family))
        else:
            suites.setdefault(family.suite, []).append(family)
    notes = ['Make one with gymnasium.make("OfflineMeta/<family>-v0", split="train", task=0).']
    for suite, families in suites.items():
        table.add_row(f"{suite}-<task>", *_facts(families[0]))
        extra = f" (extra: {families[0].extra})" if families[0].extra else ""
        notes.insert(0, f"{suite}-<task>: {len(families)} families{extra}; list them with --all.")
    return Group(table, Text("\n".join(notes), style="dim"))


def _facts(family: TaskFamily) -> tuple[str, ...]:
    sizes = f"{family.observation_space.shape[0]}/{family.action_space.shape[0]}"
    counts = "/".join(str(len(family.tasks[split])) for split in SPLITS)
    return sizes, str(family.horizon), f"{family.dt:g}", counts, family.varies


def family_detail(family: TaskFamily) -> RenderableType:
    """Return a table of all facts about one family."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    names = family.param_names
    lows, highs = family.observation_space.low.min(), family.observation_space.high.max()
    rows = {
        "id": env_id(family),
        "what": family.summary,
        "definition": " ".join((type(family).__doc__ or "").split()),
        "observation": f"{family.observation_space.shape[0]} numbers, float32, in [{lows:g}, {highs:g}]",
        "action": f"{family.action_space.shape[0]} numbers in [-1, 1]",
        "horizon": f"{family.horizon} steps of {family.dt:g} s",
        "terminates": family.terminates,
        "varies": family.varies,
        "task parameters": ", ".join(names)
        if len(names) <= 8
        else f"{len(names)}: {', '.join(names[:2])}, ..., {names[-1]}",
        "reward features": ", ".join(family.feature_names) or "none: the reward cannot be computed for another task",
    }
    if family.choices:
        rows["options"] = ", ".join(
            f"{name}={value!r}" for name, values in family.choices.items() for value in values[1:]
        )
    for split in SPLITS:
        rows[f"{split} tasks"] = _describe(family, split)
    if family.name in shipped():
        references = read_references(family.name)
        low = f", {LOW_WORTH}: averages over families should leave it out"
        said = _worth(references.overall, references)
        rows["worth of a task"] = said + (low if references.tags else "")
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return table


def _describe(family: TaskFamily, split: str) -> str:
    """Return the number of tasks of a split, and what they ask for or the ranges of their parameters, in words."""
    tasks = family.tasks[split]
    params = family.params(tasks)
    if len(params) == 0:
        return "none"
    if asked := Counter(filter(None, (family.describe(task.params) for task in tasks))):
        return f"{len(params)}: " + ", ".join(f"{count} {what}" for what, count in asked.items())
    if params.shape[1] > 6:
        return f"{len(params)}, each parameter in [{params.min():.3g}, {params.max():.3g}]"
    ranges = (f"[{low:.3g}, {high:.3g}]" for low, high in zip(params.min(0), params.max(0), strict=True))
    return f"{len(params)}, in {' x '.join(ranges)}"


def behaviour_list() -> RenderableType:
    """Return a table of the behaviour policies, from the metadata of their files; returns are means over tasks."""
    columns = ("untrained", "expert, train", "expert, test", "its mean action, test", "steps", "minutes", "saturated")
    table = Table("family", *columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for path in sorted(CHECKPOINTS.glob("*.safetensors")):
        _, facts = load_checkpoints(path.stem)
        rows, expert, last = facts["checkpoints"], facts["expert"], facts["curve"][-1]
        table.add_row(
            path.stem,
            f"{rows[0]['return']:.0f}" if rows[0]["steps"] == 0 else "",
            *(
                f"{expert[key]:.0f}"
                for key in ("train, sampled actions", "test, sampled actions", "test, mean actions")
            ),
            f"{last['steps'] / 1e6:.1f}M",
            f"{last['seconds'] / 60:.0f}",
            f"{max(row['saturated'] for row in rows):.1%}",
        )
    return table


def dataset_list(family: str | None, local: bool) -> RenderableType:
    """Return a table of the datasets: which exist, which are on this machine, how long a build takes."""
    from offlinemeta.datasets import storage
    from offlinemeta.datasets.loading import duration
    from offlinemeta.datasets.manifest import read_manifest
    from offlinemeta.datasets.spec import DATASETS, QUALITIES, VERSION

    chosen, known = get_family(family).name if family is not None else None, read_manifest()
    columns = ("dataset", "tasks", "transitions", "size \\[MB]", "here", "hash", "build")
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    for spec in DATASETS.values():
        here = storage.is_local(spec)
        if (chosen is not None and spec.family != chosen) or (local and not here):
            continue
        if chosen is None and not local and spec.heldout:
            continue
        size, file = storage.estimate(spec), storage.place(spec) / "data" / "main_data.hdf5"
        table.add_row(
            spec.short,
            str(len(spec.tasks)),
            f"{spec.steps:,}",
            f"{(file.stat().st_size if file.exists() else size) / 1e6:,.0f}",
            "yes" if here else "",
            known[spec.id]["sha256"][:8] if spec.id in known else "",
            duration(spec),
        )
    notes = [f"{name}: {quality.what}" for name, quality in QUALITIES.items()]
    if chosen is None:
        ids = f"OfflineMeta/<family>/<name>-v{VERSION}"
        notes.append(f"Each has a -heldout sibling over all other tasks. Full ids: {ids}.")
    notes.append("hash: the hash of the content, where the manifest of this package has it.")
    notes.append(f"They are kept in {storage.get_root_name()} (MINARI_DATASETS_PATH).")
    return Group(table, Text("\n".join(notes), style="dim"))


def dataset_detail(dataset: Dataset) -> RenderableType:
    """Return a table of a dataset's content: its behaviour policies, with their episodes and returns."""
    table = Table("behaviour policy", "episodes", "mean return", box=box.SIMPLE_HEAD, pad_edge=False)
    means = dataset.returns_by_behaviour()
    for b, name in enumerate(dataset.behaviours):
        if name in means:
            table.add_row(name, f"{int((dataset.behaviour == b).sum()):,}", f"{means[name]:.1f}")
    spec = dataset.spec
    text = f"{spec.id}: {len(dataset.tasks)} tasks, {len(dataset):,} episodes, {len(dataset.rewards):,} transitions\n"
    return Group(Text(text + f"content {dataset.hash}"), table)


def reference_table(families: Mapping[str, Mapping[str, Any]], splits: Sequence[str] = ("test",)) -> RenderableType:
    """Return a table of reference returns, which are means over the tasks of each split, for a terminal."""
    head, lines = reference_grid(families, splits)
    table = Table(*head, box=box.SIMPLE_HEAD, padding=0)  # narrow: all of it shows in 120 columns
    for column in table.columns[2:]:
        column.justify = "right"
    for line in lines:
        table.add_row(*map(Text, line))
    return Group(table, Text(REFERENCE_NOTE, style="dim"))


REFERENCE_NOTE = (
    "Mean returns over the tasks of a split: of random actions, of the best policy that is not told its task (blind), "
    "and of the expert that is told its task. Worth is (told - blind) / (told - random), with its standard error over "
    "tasks (left out for fewer than three tasks, and where random actions are the best blind policy). Scores are 0 at "
    "blind and 100 at told, which are means over all tasks except ood tasks. A family whose worth on these is below "
    f"{LEAST_WORTH:g} is tagged {LOW_WORTH}: its scores are 0 at random, and averages over families should leave it "
    "out, since there is little to gain by adapting."
)


def reference_grid(
    families: Mapping[str, Mapping[str, Any]], splits: Sequence[str] = ("test",)
) -> tuple[list[str], list[list[str]]]:
    """Return the head and the lines of a table of reference returns: a line for each family and split."""
    head = [
        "family",
        "split",
        "random",
        "blind",
        "told",
        "worth",
        "blind policy",
        "tag",
        "progress",
        "success",
        "saturated",
        "episodes",
    ]
    lines = []
    for name, facts in families.items():
        references = as_references(facts)
        for split in (split for split in splits if split in references.told):
            means = (np.mean(returns[split]) for returns in (references.random, references.blind, references.told))
            lines.append(
                [
                    name,
                    split,
                    *(f"{mean:.1f}" for mean in means),
                    _worth(references.worth(split), references),
                    references.blind_policy,
                    ", ".join(references.tags),
                    " / ".join(f"{speeds[split]:.2f}" for speeds in references.progress.values()),
                    f"{references.success[split]:.2f}" if references.success else "",
                    f"{references.saturated:.1%}",
                    str(references.episodes),
                ]
            )
    return head, lines


def _worth(worth: Worth, references: References) -> str:
    """Return a family's worth as text; without its error where there are too few tasks, or a sure 1."""
    bare = min(map(len, references.told.values())) < 3 or references.blind_policy == "random"
    return f"{worth.value:.2f}" if bare else f"{worth.value:.2f} ± {worth.error:.2f}"


def method_list() -> RenderableType:
    """Return a table of the methods that can be trained."""
    from offlinemeta.baselines.registry import METHODS, module_of

    table = Table("method", "what it is", "presets", "file", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, method in METHODS.items():
        home = method.home.partition(":")[0].removeprefix("offlinemeta.").replace(".", "/")
        table.add_row(name, method.what, ", ".join(module_of(name).PRESETS), f"{home}.py")
    return Group(table, Text("Fields of a method's config: offlinemeta methods <method>.", style="dim"))


def method_detail(name: str, preset: str) -> RenderableType:
    """Return a method's presets and its config fields: their values in one preset, meanings and allowed values."""
    from offlinemeta.baselines.parts.config import options
    from offlinemeta.baselines.registry import get_method, make_config, module_of

    method, module = get_method(name), module_of(name)
    config = make_config(name, preset)
    table = Table("field", preset, "meaning", "allowed", box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    for option in options(config):
        fixed = " (fixed: it makes this method)" if option.name in method.fixed else ""
        table.add_row(option.name, option.default, option.meaning + fixed, option.allowed)
    phases = ", ".join(f"{phase.name} up to step {phase.end:,}" for phase in config.phases)
    facts = [f"{name}: {method.what}", f"Presets: {', '.join(module.PRESETS)}. Phases of {preset}: {phases}."]
    if method.shares is not None:
        other, _, phase = method.shares.partition(":")
        facts.append(f"Its phases up to '{phase}' are those of {other}: --branch takes a run of {other}.")
    facts.append((module.__doc__ or "").strip())
    return Group(Text("\n".join(facts[:-1])), table, Text(facts[-1], style="dim"))
