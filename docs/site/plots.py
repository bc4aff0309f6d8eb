"""Pictures of tasks: where they lie in the space of their parameters."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from offlinemeta.envs import SPLITS, get_family

MANY = 12
"""More parameters than this are drawn as ranges, since their points would be thousands."""

COLOURS = {"train": "#3f6fb5", "val": "#2a9d8f", "test": "#e07a2f", "test100": "#b8b8b8", "ood": "#c0392b"}


def task_plot(name: str) -> str:
    """Return an SVG picture of a family's tasks: where they lie in the space of their parameters."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 9})
    family = get_family(name)
    order = sorted(SPLITS, key=lambda split: split != "test100")  # the many below the few
    lists = {split: family.params(family.tasks[split]) for split in order if family.tasks[split]}
    size = family.num_params
    if size == 2:
        figure, axes = plt.subplots(figsize=(4.6, 4.2))
        for split, params in lists.items():
            axes.plot(*params.T, **_dots(split))
        axes.set(xlabel=family.param_names[0], ylabel=family.param_names[1], aspect="equal")
    elif size == 1 and "rad" in family.param_names[0]:
        figure, axes = plt.subplots(figsize=(4.6, 4.2))
        for ring, (split, params) in enumerate(lists.items()):
            axes.plot(*((1 + 0.15 * ring) * np.stack([np.cos(params[:, 0]), np.sin(params[:, 0])])), **_dots(split))
        axes.set(xlabel=f"cos of the {family.param_names[0]}, a ring for each split", ylabel="sin", aspect="equal")
    elif size == 1:
        figure, axes = plt.subplots(figsize=(6, 2.2))
        for row, (split, params) in enumerate(lists.items()):
            axes.plot(params[:, 0], np.full(len(params), row), **_dots(split))
        axes.set(xlabel=family.param_names[0], ylim=(-0.6, len(lists)))
        axes.set_yticks(range(len(lists)), list(lists))
    else:
        figure, axes = plt.subplots(figsize=(6, 3))
        for row, (split, params) in enumerate(lists.items()):
            places = np.arange(size) + 0.15 * (row - len(lists) / 2)
            if size > MANY:  # the ranges alone
                axes.vlines(places, params.min(0), params.max(0), color=COLOURS[split], label=split, lw=1)
            else:
                axes.plot(np.repeat(places, len(params)), params.T.ravel(), **_dots(split, 2))
        spans = min(params.min() for params in lists.values()) > 0 and size > MANY
        axes.set(xlabel=f"parameter, 0 to {size - 1}", ylabel="value", yscale="log" if spans else "linear")
    for spine in axes.spines.values():
        spine.set_color("#888")
    axes.tick_params(colors="#888")
    axes.xaxis.label.set_color("#888")
    axes.yaxis.label.set_color("#888")
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(lists), frameon=False, labelcolor="#888", fontsize=8
    )
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return text.getvalue()


def _dots(split: str, size: float = 4) -> dict[str, Any]:
    small = size * (0.7 if split == "test100" else 1)
    return {"marker": "o", "ls": "", "ms": small, "mew": 0, "color": COLOURS[split], "label": split}
