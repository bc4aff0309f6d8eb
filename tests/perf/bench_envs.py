"""Env steps per second of the batch engine, side by side with what else there is: ``make bench``.

All contenders of a family are measured in turn, round after round, so that a change of the machine's speed hits all of
them; a figure is the median over rounds.

- ours: ``gym.make_vec`` with 64 envs, one thread per core, random actions, resets included;
- sync, async: Gymnasium's vector envs of the corresponding v5 env (contact forces left out, as in ours), the best of
  2, 8 and 16 envs;
- limit: bare ``mujoco.rollout`` of the same physics: the very states and controls of our own run, all in one call, so
  with no round trip to Python between steps;
- closed loop: the same in one call per env step, as any environment must, with mujoco's own thread pool.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import mujoco
import numpy as np
from mujoco.rollout import Rollout
from rich.console import Console
from rich.progress import track
from rich.table import Table

import offlinemeta
from offlinemeta.envs.vector import available_cores

LEAN = {"include_cfrc_ext_in_observation": False}
LEAN_HUMANOID = LEAN | {
    "include_cinert_in_observation": False,
    "include_cvel_in_observation": False,
    "include_qfrc_actuator_in_observation": False,
}
CORRESPONDING: dict[str, tuple[str, dict[str, Any]]] = {
    "CheetahVel": ("HalfCheetah-v5", {}),
    "AntDir": ("Ant-v5", LEAN),
    "HumanoidDir": ("Humanoid-v5", LEAN_HUMANOID),
    "WalkerParam": ("Walker2d-v5", {"frame_skip": 4}),
    "HopperParam": ("Hopper-v5", {"frame_skip": 4}),
}
NUM_ENVS = 64
Contender = Callable[[], float]


def stepper(envs: gymnasium.vector.VectorEnv[Any, Any, Any], seconds: float) -> Contender:
    """Return a function that steps ``envs`` for a while with random actions and returns env steps per second."""
    rng = np.random.default_rng(0)
    space = envs.single_action_space
    assert isinstance(space, gymnasium.spaces.Box)
    actions = rng.uniform(space.low, space.high, (50, envs.num_envs, *space.shape)).astype(np.float32)
    envs.reset(seed=0)

    def run() -> float:
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            for action in actions:
                envs.step(action)
            steps += len(actions)
        return steps * envs.num_envs / (time.perf_counter() - start)

    return run


def bare(family: str, threads: int, steps: int) -> tuple[Contender, Contender]:
    """Record a run of ours, and return what replays its physics in one call, and in one call per step."""
    envs: Any = gymnasium.make_vec(f"OfflineMeta/{family}-v0", num_envs=NUM_ENVS, num_threads=threads)
    simulator = envs._simulator
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    states, controls = [], []
    for _ in range(steps):
        states.append(simulator._state.copy())
        envs.step(rng.uniform(-1, 1, (NUM_ENVS, *envs.single_action_space.shape)))
        controls.append(simulator._control.copy())
    models = [model for job in simulator._jobs for model in job[0]]
    repeat = controls[0].shape[1]
    state, control = np.concatenate(states), np.concatenate(controls)
    out = np.empty((len(state), repeat, state.shape[1]))
    sensors = np.empty((len(state), repeat, models[0].nsensordata))
    pool, data = Rollout(nthread=threads), [mujoco.MjData(models[0]) for _ in range(threads)]
    envs.close()

    def replay(batch: int) -> float:
        start = time.perf_counter()
        for row in range(0, len(state), batch):
            rows = slice(row, row + batch)
            pool.rollout(
                models * (batch // NUM_ENVS), data, state[rows], control[rows], skip_checks=True, nstep=repeat,
                state=out[rows], sensordata=sensors[rows],
            )  # fmt: skip
        return len(state) / (time.perf_counter() - start)

    return lambda: replay(len(state)), lambda: replay(NUM_ENVS)


def measure(contenders: dict[str, Contender], rounds: int) -> dict[str, float]:
    """Run all contenders in turn and return each one's median."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            figures[name].append(run())
    return {name: median(values) for name, values in figures.items()}


def bench_family(family: str, rounds: int, seconds: float) -> dict[str, float]:
    """Measure one family and its Gymnasium counterpart."""
    threads = available_cores()
    ours = gymnasium.make_vec(f"OfflineMeta/{family}-v0", num_envs=NUM_ENVS, num_threads=threads)
    name, kwargs = CORRESPONDING[family]
    opened = [ours]
    contenders = {"ours": stepper(ours, seconds)}
    for mode in ("sync", "async"):
        for count in (2, 8, 16):
            envs = gymnasium.make_vec(name, num_envs=count, vectorization_mode=mode, **kwargs)
            opened.append(envs)
            contenders[f"{mode} {count}"] = stepper(envs, seconds / 3)
    contenders["limit"], contenders["closed loop"] = bare(family, threads, steps=100)
    figures = measure(contenders, rounds)
    for envs in opened:
        envs.close()
    best = {mode: max(v for k, v in figures.items() if k.startswith(mode)) for mode in ("sync", "async")}
    return {"ours": figures["ours"], **best, "closed loop": figures["closed loop"], "limit": figures["limit"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6, help="of each contender in each round")
    parser.add_argument("--out", type=Path, default=Path("out/bench-envs.json"))
    parser.add_argument("families", nargs="*", default=list(CORRESPONDING))
    options = parser.parse_args()

    console = Console()
    console.print(
        f"{platform.processor() or platform.machine()}, {available_cores()} cores, mujoco {mujoco.__version__}"
    )
    title = f"Env steps per second: ours at {NUM_ENVS} envs, Gymnasium's at the best of 2, 8, 16"
    table = Table(
        "family",
        "ours",
        "sync",
        "async",
        "closed loop",
        "limit",
        "ours / best gym",
        "ours / closed",
        "ours / limit",
        title=title,
    )
    results: dict[str, Any] = {}
    for family in track(options.families, "measuring", console=console, transient=True):
        figures = results[family] = bench_family(family, options.rounds, options.seconds)
        figures["ratio to gymnasium"] = figures["ours"] / max(figures["sync"], figures["async"])
        figures["ratio to closed loop"] = figures["ours"] / figures["closed loop"]
        figures["ratio to limit"] = figures["ours"] / figures["limit"]
        *speeds, a, b, c = figures.values()
        table.add_row(family, *(f"{speed:,.0f}" for speed in speeds), f"{a:.1f}", f"{b:.2f}", f"{c:.2f}")
    console.print(table)

    points = gymnasium.make_vec("OfflineMeta/PointRobot-v0", num_envs=1024)
    results["PointRobot"] = measure({"ours": stepper(points, options.seconds)}, options.rounds)
    console.print(f"PointRobot at 1,024 envs: {results['PointRobot']['ours']:,.0f} env steps per second")

    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "offlinemeta": offlinemeta.__version__,
        "mujoco": mujoco.__version__,
        "cores": available_cores(),
        "results": results,
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"[dim]written to {options.out}[/dim]")


if __name__ == "__main__":
    main()
