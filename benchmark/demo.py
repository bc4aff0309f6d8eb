"""``make demo`` until the main job exists: what the suite's tasks look like, and what knowing the task is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from rich.console import Console
from rich.table import Table

from offlinemeta.benchmark.show import film_episode, get_policy
from offlinemeta.datasets.scripted import Scripted
from offlinemeta.envs import TaskFamily, TaskVectorEnv, env_id, get_family
from offlinemeta.envs.errors import MissingExtraError, RenderError
from offlinemeta.envs.shapes import Array, Float

FAMILIES = ("PointRobot", "CheetahVel")
POLICIES = ("random", "scripted", "expert")
EXPERTS = ("CheetahVel",)
"""Families of the demo with a trained expert; PointRobot's script is optimal."""
TASKS = (0, 1, 2, 3, 4, 5)
REPEATS = 10


class Rollouts(NamedTuple):
    """Episodes of all pairs of task and repeat: returns ``[tasks, repeats]``, features ``[T, tasks, repeats, F]``."""

    returns: Float[Array, "tasks repeats"]
    features: Float[Array, "T tasks repeats F"]


def rollout(family: TaskFamily, policy: Scripted, seed: int) -> Rollouts:
    """Run one episode of each test task and repeat, all in one batch."""
    tasks = np.repeat(TASKS, REPEATS)
    envs: Any = gymnasium.make_vec(env_id(family), num_envs=len(tasks), split="test", task=tasks.tolist())
    assert isinstance(envs, TaskVectorEnv)
    observations, _ = envs.reset(seed=seed)
    params = family.params(envs.get_tasks())
    returns, features = np.zeros(len(tasks)), []
    for t in range(family.horizon):
        observations, rewards, _, truncated, info = envs.step(policy(observations, params, t))
        returns += rewards
        features.append(info["final_info"]["features"] if truncated.any() else info["features"])
    envs.close()
    shape = (len(TASKS), REPEATS)
    return Rollouts(returns.reshape(shape), np.stack(features).reshape(family.horizon, *shape, -1))


def run(out: Path, console: Console) -> None:
    """Roll out, print the returns, and write ``tasks.png`` and a film for each family."""
    out.mkdir(parents=True, exist_ok=True)
    table = Table("test task", "parameters", *POLICIES, title=f"Mean return of {REPEATS} episodes")
    seen: dict[str, dict[str, Rollouts]] = {}
    for name in FAMILIES:
        family = get_family(name)
        kinds = [kind for kind in POLICIES if kind != "expert" or name in EXPERTS]
        seen[name] = {kind: rollout(family, get_policy(family, kind, seed=0), seed=0) for kind in kinds}
        for row, index in enumerate(TASKS):
            params = ", ".join(f"{p:.2f}" for p in family.task(index, "test").params)
            means = (f"{seen[name][kind].returns[row].mean():.1f}" if kind in seen[name] else "" for kind in POLICIES)
            table.add_row(f"{name} {index}", params, *means)
        table.add_section()
    console.print(table)

    written = []
    try:
        written.append(plot(seen, out / "tasks.png"))
        for name in FAMILIES:
            path = out / f"{name}.mp4"
            kind = "expert" if name in EXPERTS else "scripted"
            film_episode(get_family(name), path, "test", 0, kind, 0, console)
            written.append(path)
    except (MissingExtraError, RenderError) as error:
        console.print(f"[yellow]No picture or film:[/yellow] {error}", highlight=False)
    for path in written:
        console.print(f"written: {path}", highlight=False)


def plot(seen: dict[str, dict[str, Rollouts]], path: Path) -> Path:
    """Draw PointRobot's paths to the goals, and the cheetah's speeds beside the wanted ones.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plots", "Drawing a picture") from error
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    colours = [f"C{i}" for i in range(len(TASKS))]
    for axes, policy in ((left, "random"), (middle, "scripted")):
        rollouts = seen["PointRobot"][policy]
        for row, index in enumerate(TASKS):
            goal = get_family("PointRobot").task(index, "test").params
            for repeat in range(REPEATS):
                axes.plot(*rollouts.features[:, row, repeat].T, color=colours[row], lw=0.8, alpha=0.7)
            axes.plot(*goal, marker="*", ms=13, color=colours[row], mec="black", mew=0.6)
        axes.set(
            title=f"PointRobot, {policy}", xlabel="x [m]", ylabel="y [m]", xlim=(-2, 2), ylim=(-2, 2), aspect="equal"
        )
    family = get_family("CheetahVel")
    time = np.arange(1, family.horizon + 1) * family.dt
    for policy, colour in (("random", "0.6"), ("scripted", "black")):  # these do not know the task
        speeds = seen["CheetahVel"][policy].features[..., 0]
        right.plot(time, speeds.mean((1, 2)), label=policy, lw=1.5, color=colour)
    for row, index in enumerate(TASKS):
        speeds = seen["CheetahVel"]["expert"].features[:, row, :, 0]
        right.plot(time, speeds.mean(1), color=colours[row], lw=1, label="expert, by task" if row == 0 else None)
        wanted = family.task(index, "test").params[0]
        right.axhline(wanted, color=colours[row], ls="--", lw=1, label="wanted" if row == 0 else None)
    right.set(title="CheetahVel", xlabel="time [s]", ylabel="mean forward velocity [m/s]", ylim=(-0.6, 4.2))
    right.legend(loc="upper left", fontsize="small", ncols=2)
    figure.savefig(path, dpi=130)
    return path
