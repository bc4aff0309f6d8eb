"""``make demo``: from the data to adaptation curves.

Trains offline PEARL and SMAC on CheetahVel/smac at once, evaluates them on held-out tasks, draws, films.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from offlinemeta.baselines.training.checkpoint import load_agent
from offlinemeta.baselines.training.grid import Cell, run_grid
from offlinemeta.baselines.training.run import file_name
from offlinemeta.benchmark.agent import Agent, Policy
from offlinemeta.benchmark.context import Context, empty_context, join_contexts
from offlinemeta.benchmark.result import read_results
from offlinemeta.benchmark.runner import run_episode
from offlinemeta.cli.show import film_episode
from offlinemeta.console import say
from offlinemeta.datasets.scripted import Scripted
from offlinemeta.datasets.spec import get_spec
from offlinemeta.envs import TaskFamily, TaskVectorEnv, get_family
from offlinemeta.envs.errors import MissingExtraError, RenderError
from offlinemeta.files import check_writable
from offlinemeta.leaderboard import table
from offlinemeta.leaderboard.report import page, plot

FAMILY, QUALITY = "CheetahVel", "smac"
METHODS = ("smac", "pearl")
FILMED = (0, 5)
"""Test tasks."""
EXPLORATION = 2


def run(out: Path, seed: int, preset: str, console: Console) -> None:
    """Train, evaluate, print the table, and write ``adaptation.png`` and ``report.html``.

    A demo that was killed goes on where it was.

    Raises:
        RunError: a training failed; its log is named.
        FileError: nothing can be written in ``out``.
    """
    started = time.monotonic()
    check_writable(out)
    cells = [Cell(get_spec(f"{FAMILY}/{QUALITY}"), method, seed, preset, out / "demo") for method in METHODS]
    run_grid(cells, len(cells), console)
    rows = table.summarise(read_results([cell.folder / "results" for cell in cells]))
    Console(width=max(console.width, 180)).print(table.table(rows))
    written: list[Path] = []
    films: dict[str, Path] = {}
    try:
        films = film(cells, out, console)
        written += plot(rows, [out / "adaptation.png"])
        notes = {f"{FAMILY}/{QUALITY}": f"Trained and evaluated by this demo, preset {preset}, seed {seed}."}
        written.append(page(rows, out / "report.html", films, "Adaptation to held-out tasks", notes))
    except (MissingExtraError, RenderError) as error:
        say(console, f"Not all was drawn: {error}", style="yellow")
    say(console, verdict(rows))
    for path in [*written, *films.values()]:
        say(console, f"written: {path}")
    say(console, f"The whole took {(time.monotonic() - started) / 60:.1f} minutes.")


def film(cells: Sequence[Cell], out: Path, console: Console) -> dict[str, Path]:
    """Film each method's agent after its exploration, and return the films by title."""
    family, films = get_family(FAMILY), {}
    for cell in cells:
        agent = load_agent(family, cell.folder / file_name("agent"))
        for index in FILMED:
            path = out / f"{cell.method}-task{index}.mp4"
            total = film_episode(family, path, "test", index, by(explored(agent, family, index)), 0, console)
            films[f"{cell.method} on {FAMILY}'s test task {index}, third episode, return {total:.0f}"] = path
    return films


def by(policy: Policy) -> Scripted:
    """Let a policy act as a script does, of which nothing but the observation is used."""
    return lambda observations, params, t: policy.act(observations)


def explored(agent: Agent, family: TaskFamily, index: int) -> Policy:
    """Return an agent's policy for a test task after two episodes of its own exploration."""
    task, contexts = family.task(index, "test"), [empty_context(family)]
    envs = TaskVectorEnv(family, 1, split="test", task=index, autoreset_mode="Disabled")
    for seed in range(EXPLORATION):
        seen: list[Context] = run_episode(envs, [task], agent.adapt(contexts), np.array([seed]))
        contexts = [join_contexts([contexts[0], seen[0]])]
    envs.close()
    return agent.adapt(contexts)


def verdict(rows: list[table.Row]) -> str:
    """Say what the figures say, whatever it is."""
    last = {row.method: row.last for row in rows if row.last is not None}
    smac, before, pearl = (last[name].value for name in ("smac", "smac-offline", "pearl"))
    better = smac > before and smac > pearl
    claim = "above both" if better else "NOT above both: this run does not show the effect"
    return (
        f"{FAMILY}, last episode on held-out tasks: SMAC {smac:.1f} after its self-supervised phase, "
        f"{before:.1f} before it, offline PEARL {pearl:.1f}: {claim}."
    )
