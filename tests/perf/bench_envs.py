"""Env steps per second of the batch engine, side by side with what else there is: ``make bench``.

All contenders of a family are measured in turn, round after round, so that a change of the machine's speed hits all of
them; a figure is the median over rounds, a ratio the median of the rounds' ratios.

- ours: ``gym.make_vec`` with 64 envs, one thread per core, random actions, resets included;
- sync, async: Gymnasium's vector envs of the corresponding v5 env (contact forces left out, as in ours), the best of
  2, 8 and 16 envs;
- limit: bare ``mujoco.rollout`` of the same physics: the very states and controls of our own run, all in one call, so
  with no round trip to Python between steps;
- closed loop: the same in one call per env step, as any environment must, with mujoco's own thread pool.

SawyerScene, which has no counterpart in Gymnasium, is measured beside Meta-World's drawer-open in as many processes as
there are cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import mujoco
import numpy as np
from mujoco.rollout import Rollout
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

import offlinemeta  # noqa: F401
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


def measure(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Run all contenders in turn, round after round."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            figures[name].append(run())
    return figures


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median over rounds of the ratio within a round, which a change of the machine's speed leaves alone."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


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
            contenders[f"{mode} {count}"] = stepper(envs, seconds / 2)
    contenders["limit"], contenders["closed loop"] = bare(family, threads, steps=60)
    figures = measure(contenders, rounds)
    for envs in opened:
        envs.close()
    best = {
        mode: max((k for k in figures if k.startswith(mode)), key=lambda k: median(figures[k]))
        for mode in ("sync", "async")
    }
    gym = max(best.values(), key=lambda k: median(figures[k]))
    return {
        "ours": median(figures["ours"]),
        "sync": median(figures[best["sync"]]),
        "async": median(figures[best["async"]]),
        "closed loop": median(figures["closed loop"]),
        "limit": median(figures["limit"]),
        "ours / gymnasium": ratio(figures["ours"], figures[gym]),
        "ours / closed loop": ratio(figures["ours"], figures["closed loop"]),
        "ours / limit": ratio(figures["ours"], figures["limit"]),
        "limit / gymnasium": ratio(figures["limit"], figures[gym]),
    }


def bench_scene(rounds: int, seconds: float) -> dict[str, float]:
    """Measure SawyerScene beside bare MuJoCo and Meta-World's drawer-open."""
    threads = available_cores()
    ours = gymnasium.make_vec("OfflineMeta/SawyerScene-v0", num_envs=NUM_ENVS, num_threads=threads)
    drawer = gymnasium.make_vec("OfflineMeta/ML1-drawer-open-v0", num_envs=8, num_threads=threads)
    contenders = {"ours": stepper(ours, seconds), "drawer-open": stepper(drawer, seconds)}
    contenders["limit"], contenders["closed loop"] = bare("SawyerScene", threads, steps=75)  # whole episodes
    figures = measure(contenders, rounds)
    for envs in (ours, drawer):
        envs.close()
    rates = {name: median(runs) for name, runs in figures.items()}
    return rates | {f"ours / {name}": ratio(figures["ours"], runs) for name, runs in figures.items() if name != "ours"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each contender in each round")
    parser.add_argument("--out", type=Path, default=Path("out/bench-envs.json"))
    parser.add_argument("families", nargs="*", default=list(CORRESPONDING))
    options = parser.parse_args()

    console = Console()
    console.print(
        f"{available_cores()} cores, mujoco {mujoco.__version__}; thousands of env steps per second, and ratios"
    )
    results: dict[str, Any] = {}
    table: Table | None = None
    for family in track(options.families, "measuring", console=console, transient=True):
        figures = results[family] = bench_family(family, options.rounds, options.seconds)
        if table is None:
            table = Table("family", *figures, box=box.SIMPLE_HEAD, pad_edge=False)
        cells = (f"{value:.2f}" if "/" in name else f"{value / 1000:.1f}k" for name, value in figures.items())
        table.add_row(family, *cells)
    if table is not None:
        Console(width=max(console.width, 120)).print(table)

    points = gymnasium.make_vec("OfflineMeta/PointRobot-v0", num_envs=1024)
    results["PointRobot"] = {
        "ours": median(measure({"ours": stepper(points, options.seconds)}, options.rounds)["ours"])
    }
    console.print(f"PointRobot at 1,024 envs: {results['PointRobot']['ours'] / 1e6:.1f}M env steps per second")

    results["SawyerScene"] = figures = bench_scene(options.rounds, options.seconds)
    shown = (f"{name} {value:.2f}" if "/" in name else f"{name} {value:,.0f}" for name, value in figures.items())
    console.print(f"SawyerScene, env steps per second: {', '.join(shown)}")

    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"mujoco": mujoco.__version__, "cores": available_cores(), "num_envs": NUM_ENVS, "results": results}
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"[dim]written to {options.out}[/dim]")


if __name__ == "__main__":
    main()
