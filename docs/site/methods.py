"""What the pages of baselines and protocols take from the package: docstrings, presets, tables of trials."""

from __future__ import annotations

import inspect
from pathlib import Path

from offlinemeta.baselines.parts.config import options
from offlinemeta.baselines.registry import METHODS, get_method, make_config, module_of
from offlinemeta.benchmark.protocol import PROTOCOLS
from offlinemeta.leaderboard.table import markdown

PAGES = {"PEARL": "pearl", "SMAC": "smac", "MACAW": "macaw", "BOReL": "borel", "MetaBC": "bc", "Told": "told"}
"""The page of each learner class."""


def overview() -> str:
    """Return the table of all methods, each with its page."""
    lines = []
    for name, method in METHODS.items():
        home = PAGES[method.home.partition(":")[2]]
        lines.append([f"[`{name}`]({home}.md)", method.what, ", ".join(module_of(name).PRESETS)])
    return markdown(["method", "what it is", "presets"], lines)


def docstring(name: str) -> str:
    """Return the docstring of a method's module, without its first line, which the page's title says."""
    text = (inspect.getdoc(module_of(name)) or "").replace("``", "`")
    return text.replace("`docs/training.md`", "[What was tried](../training.md)").replace(
        "`leaderboard/trials/borel.md`", "[its trials](../trials/borel.md)"
    )


def presets(name: str) -> str:
    """Return all fields of a method's config, with their values in each preset."""
    module, method = module_of(name), get_method(name)
    configs = {preset: list(options(make_config(name, preset))) for preset in module.PRESETS}
    lines = []
    for rows in zip(*configs.values(), strict=True):
        values = [row.default for row in rows]
        bold = [f"**{value}**" if value != values[0] else value for value in values]
        fixed = " (Fixed: it makes this method.)" if rows[0].name in method.fixed else ""
        lines.append([f"`{rows[0].name}`", *bold, rows[0].meaning + fixed])
    return markdown(["field", *configs, "meaning"], lines)


def trials(name: str, folder: Path) -> str:
    """Return a link to the table of a method's trials, or say that there is none."""
    if (folder / f"{name}.md").exists():
        return f"The [table of trials](../trials/{name}.md) has every setting that was tried, with what it gave."
    if (folder / f"{name}.json").exists():
        return f"Trials are listed in `leaderboard/trials/{name}.json`; none has been run to its end yet."
    return "Nothing was tried for this method by itself: its settings are those of the method that it shares them with."


def protocols() -> str:
    """Return the table of all protocols."""
    return markdown(["protocol", "what is done"], [[f"`{name}`", what] for name, what in PROTOCOLS.items()])
