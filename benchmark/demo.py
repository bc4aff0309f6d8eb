"""``make demo`` until the main job exists: what the suite's tasks look like, and what knowing the task is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from rich.console import Console
from rich.table import Table

from offlinemeta.benchmark.show import film_episode
from offlinemeta.datasets.scripted import SCRIPTED, Scripted
from offlinemeta.envs import TaskFamily, TaskVectorEnv, env_id, get_family
from offlinemeta.envs.errors import MissingExtraError, RenderError
from offlinemeta.envs.shapes import Array, Float

FAMILIES = ("PointRobot", "CheetahVel")
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
    rng = np.random.default_rng(0)

    def at_random(observations: Array, params: Array, t: int) -> Array:
        size = family.action_space.shape[0]
        return rng.uniform(-1, 1, (len(observations), size))

    table = Table("test task", "parameters", "random", "scripted", title=f"Mean return of {REPEATS} episodes")
    seen: dict[str, dict[str, Rollouts]] = {}
    for name in FAMILIES:
        family = get_family(name)
        seen[name] = {"random": rollout(family, at_random, seed=0), "scripted": rollout(family, SCRIPTED[name], seed=0)}
        for row, index in enumerate(TASKS):
            params = ", ".join(f"{p:.2f}" for p in family.task(index, "test").params)
            means = (f"{rollouts.returns[row].mean():.1f}" for rollouts in seen[name].values())
            table.add_row(f"{name} {index}", params, *means)
        table.add_section()
    console.print(table)

    written = []
    try:
        written.append(plot(seen, out / "tasks.png"))
        for name in FAMILIES:
            path = out / f"{name}.mp4"
            film_episode(get_family(name), path, "test", 0, "scripted", 0, console)
            written.append(path)
    except (MissingExtraError, RenderError) as error:
        console.print(f"[yellow]No picture or film:[/yellow] {error}", highlight=False)
    for path in written:
        console.print(f"written: {path}", highlight=False)


def plot(seen: dict[str, dict[str, Rollouts]], path: Path) -> Path:
    """Draw PointRobot's paths to the goals, and the cheetah's speed beside the wanted ones.

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
    for axes, (policy, rollouts) in zip((left, middle), seen["PointRobot"].items(), strict=True):
        for row, index in enumerate(TASKS):
            goal = get_family("PointRobot").task(index, "test").params
            for repeat in range(REPEATS):
                axes.plot(*rollouts.features[:, row, repeat].T, color=colours[row], lw=0.8, alpha=0.7)
            axes.plot(*goal, marker="*", ms=13, color=colours[row], mec="black", mew=0.6)
        axes.set(
            title=f"PointRobot, {policy}", xlabel="x [m]", ylabel="y [m]", xlim=(-2, 2), ylim=(-2, 2), aspect="equal"
        )
    for policy, rollouts in seen["CheetahVel"].items():
        speeds = rollouts.features[..., 0].reshape(len(rollouts.features), -1)
        time = np.arange(1, len(speeds) + 1) * get_family("CheetahVel").dt
        right.plot(time, speeds.mean(1), label=policy, lw=1.5, color={"random": "0.5", "scripted": "black"}[policy])
    for row, index in enumerate(TASKS):
        wanted = get_family("CheetahVel").task(index, "test").params[0]
        right.axhline(wanted, color=colours[row], ls="--", lw=1, label="wanted, by task" if row == 0 else None)
    right.set(title="CheetahVel: one gait, six tasks", xlabel="time [s]", ylabel="mean forward velocity [m/s]")
    right.legend(loc="upper right", fontsize="small")
    figure.savefig(path, dpi=130)
    return path
