"""The command ``offlinemeta belief``: how fast an agent learns what its task is. Heavy imports stay inside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offlinemeta.baselines.training.diagnostics import Tightening
    from offlinemeta.envs import TaskFamily

console = Console()

EPILOG = (
    "Examples:\n\n  offlinemeta belief out/runs/CheetahVel-smac/borel-s0/agent.safetensors\n\n"
    "  offlinemeta belief borel/agent.safetensors pearl/agent.safetensors --rollouts 5 --out beliefs.png"
)


def belief(
    agents: Annotated[
        list[Path], typer.Argument(help="Agent files of one family, from methods with a latent variable.")
    ],
    split: Annotated[str, typer.Option(help="Split of the tasks to play, such as val or test.")] = "val",
    rollouts: Annotated[int, typer.Option(min=1, help="Number of rollouts in each task, of horizon steps each.")] = 3,
    points: Annotated[int, typer.Option(min=1, help="Number of steps per rollout at which beliefs are read.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resets and of the agents' randomness.")] = 0,
    out: Annotated[Path, typer.Option(help="PNG file for the picture.")] = Path("out/belief.png"),
) -> None:
    """Show how agents' beliefs tighten, step by step, while they play rollouts in tasks that are new to them."""
    from offlinemeta.cli.training import require_torch

    require_torch("Reading beliefs")
    from offlinemeta.baselines.parts.learner import Infers
    from offlinemeta.baselines.training.checkpoint import describe, load_agent
    from offlinemeta.baselines.training.diagnostics import tightening
    from offlinemeta.console import say
    from offlinemeta.envs import FAMILIES
    from offlinemeta.envs.errors import ArgumentError, UnknownNameError
    from offlinemeta.envs.registry import env_id
    from offlinemeta.files import check_replaceable

    check_replaceable(out)
    known, facts = {env_id(family): family for family in FAMILIES.values()}, [describe(file) for file in agents]
    envs = sorted({about["env"] for about in facts})
    if len(envs) > 1:
        raise ArgumentError(f"These agents are of {len(envs)} families, {', '.join(envs)}; give one's.")
    if envs[0] not in known:
        raise UnknownNameError("Environment", envs[0], known)
    family = known[envs[0]]
    if not family.tasks.get(split):
        raise UnknownNameError("Split", split, [name for name, tasks in family.tasks.items() if tasks])
    names = [f"{about['method']}, seed {about['seed']}" for about in facts]
    if len(set(names)) < len(names):
        names = list(map(str, agents))
    found: dict[str, Tightening] = {}
    for name, file, about in zip(names, agents, facts, strict=True):
        agent = load_agent(family, file)
        if not isinstance(agent, Infers):
            raise ArgumentError(f"{file} is an agent of {about['method']}, which has no latent variable to read.")
        with console.status(f"{name} plays {rollouts} rollouts in tasks of {family.name}"):
            found[name] = tightening(agent, family, split, rollouts, points, seed)
    console.print(table(found, rollouts))
    say(console, f"written: {draw(found, family, split, rollouts, out)}")


def table(found: Mapping[str, Tightening], rollouts: int) -> Table:
    """Return a table of beliefs and returns at the end of each rollout."""
    head = ("agent", "rollout", "return", "belief's deviation", "R² of the task")
    shown = Table(*head, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in shown.columns[1:]:
        column.justify = "right"
    for name, beliefs in found.items():
        ends = len(beliefs.steps) // rollouts * np.arange(1, rollouts + 1) - 1
        for k, (end, mean) in enumerate(zip(ends, beliefs.returns.mean(0), strict=True), 1):
            deviation, r2 = np.median(beliefs.deviations[:, end]), beliefs.r2[end]
            shown.add_row(name if k == 1 else "", str(k), f"{mean:.1f}", f"{deviation:.3f}", f"{r2:.3f}")
    return shown


def draw(found: Mapping[str, Tightening], family: TaskFamily, split: str, rollouts: int, file: Path) -> Path:
    """Draw deviations (median over tasks, and the middle half of them) and R² against the number of steps.

    Raises:
        MissingExtraError: matplotlib is not installed.
        FileError: the file cannot be written.
    """
    from offlinemeta.cli.picture import new_figure, save
    from offlinemeta.leaderboard.style import COLOURS

    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2)
    for place, (name, beliefs) in enumerate(found.items()):
        colour = COLOURS[place % len(COLOURS)]
        low, middle, high = np.quantile(beliefs.deviations, (0.25, 0.5, 0.75), axis=0)
        left.plot(beliefs.steps, middle, color=colour, marker=".", label=name)
        left.fill_between(beliefs.steps, low, high, color=colour, alpha=0.2, lw=0)
        right.plot(beliefs.steps, beliefs.r2.clip(-0.1), color=colour, marker=".", label=name)
    left.set(yscale="log", title="Standard deviation of the belief", ylabel="median over tasks, and their middle half")
    right.set(title="What the belief says of the task", ylabel="R² of the task's parameters", ylim=(-0.15, 1.05))
    for axes in (left, right):
        axes.set_xlabel(f"steps in {len(family.tasks[split])} {split} tasks of {family.name}")
        axes.margins(x=0.02)
        for k in range(1, rollouts):
            axes.axvline(k * family.horizon, color="0.8", lw=0.8)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=1 if len(found) < 3 else 2)
    return save(figure, file)
