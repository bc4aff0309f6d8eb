"""The pages of the task families and of the datasets' qualities, made from docstrings, attributes and references."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from offlinemeta.cli import show
from offlinemeta.datasets.references import References, read_references, shipped
from offlinemeta.datasets.spec import DATASETS, QUALITIES
from offlinemeta.envs import FAMILIES, SPLITS, TaskFamily, get_family
from offlinemeta.envs.mujoco_family import MujocoFamily
from offlinemeta.envs.registry import env_id
from offlinemeta.leaderboard.table import markdown

ML1 = "ML1-pick-place"
"""The family of Meta-World that stands for all fifty of them."""


FOLLOWED = "datasets.md#whose-rollouts-follow-their-own-task"
"""Where the datasets' page tells how explorers collect."""


def shown() -> list[str]:
    """Return the families that have a page: all outside of Meta-World, and one of Meta-World's."""
    return [name for name, family in FAMILIES.items() if family.suite is None] + [ML1]


def overview() -> str:
    """Return the table of all families, with what knowing the task is worth."""
    lines = []
    for name in shown():
        family, references = get_family(name), read_references(name)
        sizes = f"{family.observation_space.shape[0]}/{family.action_space.shape[0]}"
        counts = "/".join(str(len(family.tasks[split])) for split in SPLITS)
        link = f"[{name}]({name}.md)"
        lines.append([link, family.summary, family.varies, sizes, str(family.horizon), counts, _worth(references)])
    head = ["family", "what", "varies", "obs/act", "horizon", f"tasks: {', '.join(SPLITS)}", "worth"]
    return markdown(head, lines)


def page(name: str, cards: Sequence[str]) -> str:
    """Return the page of a family.

    Args:
        name: the family.
        cards: the names of the datasets that have a card.
    """
    family, references = get_family(name), read_references(name)
    cls = type(family)
    module = sys.modules[cls.__module__]
    parts = [
        f"# {name if name != ML1 else 'ML1'}",
        f"`{env_id(family)}`: {family.summary}." + _tags(references),
        f"![{family.summary}](../pictures/families/{name}.jpg){{ .family }}",
        "## Definition",
        _text(cls),
        _facts(family),
        "## Tasks",
        _tasks(family),
        f"![The parameters of all tasks](tasks/{name}.svg){{ .tasks }}",
        "## What the task is worth",
        _references(name, references),
        "## Source and departures",
        _text(module),
    ]
    if family.choices:
        parts += ["## Other definitions", _others(family)]
    if name == ML1:
        parts += ["## All fifty", _suite()]
    parts += ["## Datasets", _datasets(name, cards), "## Try it", _example(family)]
    return "\n\n".join(parts) + "\n"


def qualities() -> str:
    """Return the table of the datasets' qualities."""
    lines = [
        [f"`{name}`", quality.what.replace("docs/datasets.md", f"[how]({FOLLOWED})"),
         str(quality.rollouts), str(quality.heldout), str(sum(spec.quality == name for spec in DATASETS.values()) // 2)]
        for name, quality in QUALITIES.items()
    ]  # fmt: skip
    return markdown(["quality", "who collects, on each task", "rollouts", "held out", "families"], lines)


def _text(thing: Any) -> str:
    """Return a docstring as Markdown: double backticks are code, and tables between lines of ``=`` are tables."""
    text = inspect.getdoc(thing) or ""
    text = re.sub(r"^(=+ +=[= ]+)\n(.+)\n\1\n((?:.+\n)+?)\1$", _table, text, flags=re.MULTILINE)
    return text.replace("``", "`")


def _table(found: re.Match[str]) -> str:
    """Return a docstring's table as Markdown; a line without a first cell goes on with the line above."""
    starts = [column.start() for column in re.finditer("=+", found[1])]
    ends = [*starts[1:], None]

    def cells(line: str) -> list[str]:
        return [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]

    rows: list[list[str]] = []
    for row in map(cells, found[3].splitlines()):
        if row[0] or not rows:
            rows.append(row)
        else:
            rows[-1] = [f"{above} {more}".strip() for above, more in zip(rows[-1], row, strict=True)]
    return markdown(cells(found[2]), rows)


def _first(thing: Any) -> str:
    """Return what a docstring's first line says that a function returns or draws."""
    line = " ".join(_text(thing).split("\n\n")[0].split())
    return line.removeprefix("Return ").removeprefix("Draw ")


def _worth(references: References) -> str:
    value, error = references.overall
    return f"{value:.2f}" if math.isnan(error) or error < 0.005 else f"{value:.2f} ± {error:.2f}"


def _tags(references: References) -> str:
    if not references.tags:
        return ""
    return f" Tagged `{references.tags[0]}`: there is little to gain by adapting, so averages leave it out."


def _observes(family: TaskFamily) -> Any:
    """Return the function that observes: the family's, or its simulator's."""
    if isinstance(family, MujocoFamily):
        return family.observe
    module = sys.modules[type(family).__module__]
    return next(cls for name, cls in vars(module).items() if name.endswith("Simulator") and hasattr(cls, "observe")
                and cls.__module__ == module.__name__).observe  # fmt: skip


def _facts(family: TaskFamily) -> str:
    """Return a family's attributes as a table."""
    low, high = family.observation_space.low.min(), family.observation_space.high.max()
    names = family.param_names
    params = ", ".join(names) if len(names) <= 9 else f"{len(names)} of them: {names[0]} to {names[-1]}"
    size = family.observation_space.shape[0]
    rows = {
        "Observation": f"{size} numbers in [{low:g}, {high:g}]: {_first(_observes(family))}",
        "Action": f"{family.action_space.shape[0]} numbers in [-1, 1]",
        "Reward": _first(family._reward) if family.feature_names else "Meta-World's, version 2",
        "Reward features": ", ".join(family.feature_names) or "none",
        "Task parameters": params,
        "What varies": "the reward and the dynamics" if family.varies == "both" else f"the {family.varies}",
        "Horizon": f"{family.horizon} steps of {family.dt:g} s",
        "Terminates": family.terminates,
        "Start": "the same in every episode of a task" if family.fixed_start else "drawn anew at every reset",
        "Further info": ", ".join(f"`{name}`" for name in family.info_names) or "none",
    }
    if isinstance(family, MujocoFamily):
        p = family.physics
        rows["Physics"] = (
            f"`{p.asset}` at {p.timestep:g} s, {p.frame_skip} frames a step, {p.integrator}, {p.solver} with at most "
            f"{p.iterations} iterations"
        )
    return markdown(["", ""], [[f"**{key}**", value.replace("[", r"\[")] for key, value in rows.items()])


def _tasks(family: TaskFamily) -> str:
    counts = [[split, str(len(family.tasks[split])), _asked(family, split)] for split in SPLITS]
    head = ["split", "tasks", "which ask for"]
    if not any(asked for *_, asked in counts):
        head, counts = head[:2], [line[:2] for line in counts]
    drawn, fresh = _first(family.draw_tasks), _first(family.draw_params)
    usual = type(family).draw_lists is TaskFamily.draw_lists
    others = f"Fresh tasks, for `val` and `test100`: {fresh}" if usual else f"{_text(family.draw_lists)}"
    return f"{drawn[0].upper()}{drawn[1:]} {others}\n\n" + markdown(head, counts)


def _asked(family: TaskFamily, split: str) -> str:
    """Return what the tasks of a split ask for, where a family can say it, and how many for each."""
    asked = Counter(filter(None, (family.describe(task.params) for task in family.tasks[split])))
    return ", ".join(f"{count} {what}" for what, count in asked.items())


def _references(name: str, references: References) -> str:
    head, lines = show.reference_grid({name: shipped()[name]}, SPLITS)
    kept = [i for i, column in enumerate(head) if column != "family" and any(line[i].strip() for line in lines)]
    table = markdown([head[i] for i in kept], [[line[i] for i in kept] for line in lines])
    low, high = references.scale("test")
    return (
        f"On all tasks of the training distribution together it is worth **{_worth(references)}**; a score is 0 at "
        f"{low:.1f} and 100 at {high:.1f} ([how](../datasets.md#scores)).\n\n{table}"
    )


def _others(family: TaskFamily) -> str:
    """Return a table of the family's other definitions, and of what they change."""
    lines = [["the default", *_definition(family)]]
    for option, values in family.choices.items():
        for value in values[1:]:
            shown = f"`{option}={value!r}`"
            lines.append([shown, *_definition(family.with_options(**{option: value}))])
    text = "The definition above says what they are; `gym.make` takes them as options. This is what they change:"
    return f"{text}\n\n" + markdown(["definition", "obs", "task parameters", "train / test tasks", "terminates"], lines)


def _definition(family: TaskFamily) -> list[str]:
    counts = f"{len(family.tasks['train'])} / {len(family.tasks['test'])}"
    return [str(family.observation_space.shape[0]), str(family.num_params), counts, family.terminates]


def _suite() -> str:
    """Return what knowing the task is worth in those of Meta-World's families that have been measured."""
    measured = [name for name in shipped() if FAMILIES[name].suite is not None]
    lines = [[name, _worth(read_references(name)), ", ".join(read_references(name).tags)] for name in measured]
    others = sorted(name for name, family in FAMILIES.items() if family.suite is not None and name not in measured)
    return markdown(["family", "worth", "tag"], lines) + f"\n\nWithout references, so far: {', '.join(others)}."


def _datasets(name: str, cards: Sequence[str]) -> str:
    lines = []
    for spec in DATASETS.values():
        if spec.family != name:
            continue
        card = spec.id.removeprefix("OfflineMeta/").replace("/", "-")
        link = f"[card](../cards/{card}.md)" if card in cards else f"`offlinemeta datasets card {spec.short}`"
        lines.append([f"`{spec.id}`", str(len(spec.tasks)), f"{spec.steps:,}", link])
    return markdown(["dataset", "tasks", "transitions", "card"], lines)


def _example(family: TaskFamily) -> str:
    return (
        "```python\nimport gymnasium as gym\nimport offlinemeta\n\n"
        f'env = gym.make("{env_id(family)}", split="test", task=3)\nobservation, info = env.reset(seed=0)\n```'
    )
