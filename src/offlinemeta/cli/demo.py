"""``make demo``: from the data to adaptation curves.

Trains offline PEARL and SMAC on CheetahVel/smac at once, evaluates them on held-out tasks, draws, films.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from offlinemeta.baselines.parts.agent import LatentAgent
from offlinemeta.baselines.registry import make_config
from offlinemeta.benchmark.agent import Policy
from offlinemeta.benchmark.context import Context, empty_context, join_contexts
from offlinemeta.benchmark.errors import RunError
from offlinemeta.benchmark.result import read_results
from offlinemeta.benchmark.runner import run_episode
from offlinemeta.cli.show import film_episode
from offlinemeta.console import say
from offlinemeta.datasets.loading import load
from offlinemeta.datasets.scripted import Scripted
from offlinemeta.envs import TaskVectorEnv, get_family
from offlinemeta.envs.errors import MissingExtraError, RenderError
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
    """
    started = time.monotonic()
    for name in (f"{FAMILY}/{QUALITY}", f"{FAMILY}/{QUALITY}-heldout"):
        load(name, console=console)
    folders = {method: out / "demo" / f"{method}-s{seed}" for method in METHODS}
    train_at_once(folders, seed, preset, console)
    rows = table.summarise(read_results([folder / "results" for folder in folders.values()]))
    Console(width=max(console.width, 180)).print(table.table(rows))
    written: list[Path] = []
    films: dict[str, Path] = {}
    try:
        films = film(folders, out, console)
        written += plot(rows, [out / "adaptation.png"])
        notes = {f"{FAMILY}/{QUALITY}": f"Trained and evaluated by this demo, preset {preset}, seed {seed}."}
        written.append(page(rows, out / "report.html", films, "Adaptation to held-out tasks", notes))
    except (MissingExtraError, RenderError) as error:
        say(console, f"Not all was drawn: {error}", style="yellow")
    say(console, verdict(rows))
    for path in [*written, *films.values()]:
        say(console, f"written: {path}")
    say(console, f"The whole took {(time.monotonic() - started) / 60:.1f} minutes.")


def train_at_once(folders: dict[str, Path], seed: int, preset: str, console: Console) -> None:
    """Train the methods in a process each, and show how far they are."""
    processes, totals = {}, {method: make_config(method, preset).steps for method in folders}
    for method, folder in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "offlinemeta", "train", method, f"{FAMILY}/{QUALITY}", "--preset", preset]
        command += ["--seed", str(seed), "--out", str(folder)]
        if (folder / "run.json").exists():
            command.append("--resume")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        with (folder / "output.txt").open("a") as output:
            processes[method] = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        with Progress(TextColumn("{task.description:48}"), BarColumn(), TimeElapsedColumn(), console=console) as bar:
            lines = {method: bar.add_task(method, total=totals[method]) for method in folders}
            while any(process.poll() is None for process in processes.values()):
                for method, folder in folders.items():
                    step, curve = progress_of(folder)
                    shown = ", ".join(f"{value:.0f}" for value in curve)
                    bar.update(lines[method], completed=step, description=f"{method}  held-out returns: {shown or '-'}")
                time.sleep(0.5)
    finally:
        for process in processes.values():
            process.terminate()
            process.wait()
    for method, process in processes.items():
        if process.returncode:
            raise RunError(f"Training {method} failed; see {folders[method] / 'output.txt'}.")


def progress_of(folder: Path) -> tuple[int, list[float]]:
    """Return the last step in a run's log, and the last held-out curve."""
    curve: list[float] = []
    step, file = 0, folder / "log.jsonl"
    for line in file.read_text().splitlines() if file.exists() else ():
        if line.endswith("}"):  # the last one may be half written
            entry = json.loads(line)
            step, curve = entry["step"], entry.get("curve", curve)
    return step, curve[:3]


def film(folders: dict[str, Path], out: Path, console: Console) -> dict[str, Path]:
    """Film each method's agent after its exploration, and return the films by title."""
    family, films = get_family(FAMILY), {}
    for method, folder in folders.items():
        agent = LatentAgent(family, folder / "agent.safetensors")
        for index in FILMED:
            path = out / f"{method}-task{index}.mp4"
            total = film_episode(family, path, "test", index, by(explored(agent, index)), 0, console)
            films[f"{method} on {FAMILY}'s test task {index}, third episode, return {total:.0f}"] = path
    return films


def by(policy: Policy) -> Scripted:
    """Let a policy act as a script does, of which nothing but the observation is used."""
    return lambda observations, params, t: policy.act(observations)


def explored(agent: LatentAgent, index: int) -> Policy:
    """Return an agent's policy for a test task after two episodes of its own exploration."""
    family = agent.family
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
