"""What scripts and other behaviour get in random manipulation scenes: ``python tests/scenes.py 200``.

The first table has the success of each aim's script. The second one looks for exploits of the dense reward: it has the
return of the told script beside the returns of behaviours in those of their episodes that never meet the aim.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from offlinemeta.datasets import manipulation
from offlinemeta.datasets.behaviour import on_grid
from offlinemeta.datasets.manipulation import RandomBehaviour, aimed
from offlinemeta.envs import Task, get_family
from offlinemeta.envs.families import sawyer_layout as scene
from offlinemeta.envs.mujoco_simulator import MujocoSimulator

FAMILY, DENSE = get_family("SawyerScene"), get_family("SawyerSceneDense")
NOISE = 0.1

Array = np.ndarray[Any, Any]
Act = Callable[[Array, int], Array]
"""Maps observations and the time step to actions."""


def simulate(params: Array, seed: int = 0, threads: int = 2) -> MujocoSimulator:
    """Return a simulator in which env i has the task of row i."""
    simulator = MujocoSimulator(FAMILY, len(params), threads)
    for i, row in enumerate(params):
        simulator.set_task(i, Task(FAMILY.name, "train", i, tuple(row.tolist())))
        simulator.reset(i, np.random.default_rng([seed, i]))
    return simulator


def run(params: Array, act: Act, steps: int = FAMILY.horizon) -> tuple[Array, Array]:
    """Return successes and dense rewards ``[steps, N]`` of a policy."""
    simulator, success, rewards = simulate(params), [], []
    for t in range(steps):
        step = simulator.step(np.asarray(act(simulator.observe(), t), dtype=np.float64))
        assert not step.diverged.any()
        success.append(step.info["success"] > 0)
        rewards.append(DENSE.reward(step.features, params))
    simulator.close()
    return np.array(success), np.array(rewards)


def noisy(params: Array, script: Callable[[Array], Array], seed: int = 0) -> Act:
    """Return a script with the noise of the data."""
    rng = np.random.default_rng(seed)
    return lambda seen, t: on_grid(script(seen) + NOISE * rng.standard_normal((len(params), 4)))


def told(params: Array) -> Act:
    """Return the scripts of the aims."""
    return noisy(params, lambda seen: aimed(seen, params, 0))


def wandering(params: Array) -> Act:
    """Return random behaviour."""
    act, rng = RandomBehaviour(params, NOISE), np.random.default_rng(0)
    return lambda seen, t: act(seen, params, rng)


def idle(params: Array) -> Act:
    """Return the policy that stays where it is, with open fingers."""
    return lambda seen, t: np.tile([0.0, 0.0, 0.0, -1.0], (len(params), 1))


def near(params: Array) -> Act:
    """Return the policy that goes to what the aim is about and stays there, just short of meeting it."""
    aims, (x, y) = params[:, scene.AIM, None], scene.stack(params)
    button = np.stack([x, y, scene.button_z(params, 0.0) + scene.DISC_TOP + 0.003], axis=1)
    hand = np.tile(scene.HAND_GOAL - (0, 0, scene.NEAR + 0.005), (len(params), 1))

    def act(seen: Array, t: int) -> Array:
        seen = seen.astype(np.float64)
        bar = np.stack([x, seen[:, 11], scene.handle_z(params)], axis=1)
        places = [hand, bar, button, seen[:, 7:10], seen[:, 4:7]]
        goal = np.select([aims == 0, aims <= 2, aims <= 5, aims == 6, aims >= 7], places)
        return manipulation._approach(seen, params, goal, np.maximum(goal[:, 2] + 0.06, 0.12), 0.012, -0.75)

    return act


def others(params: Array) -> Mapping[str, Act]:
    """Return behaviours that do not do what is asked for: of each of the other aims, of none, and at random."""
    rng = np.random.default_rng(0)
    found = {
        "idle": idle(params),
        "nearby": near(params),
        "random behaviour": wandering(params),
        "random actions": lambda seen, t: rng.uniform(-1, 1, (len(params), 4)),
    }
    for place, aim in enumerate(scene.AIMS):
        wrong = params.copy()
        wrong[:, scene.AIM] = place
        found[aim] = noisy(params, lambda seen, wrong=wrong: aimed(seen, wrong, 0))
    return found


def main(count: int) -> None:
    """Print both tables, of ``count`` random scenes for each aim."""
    params = FAMILY.draw_params(count * len(scene.AIMS), np.random.RandomState(21))
    aims = params[:, scene.AIM].astype(int)
    success, rewards = run(params, told(params))
    print(f"{'aim':16}{'scenes':>8}{'met':>8}{'at the end':>12}{'median step':>13}")
    for place, aim in enumerate(scene.AIMS):
        own = success[:, aims == place]
        step = np.median(own.argmax(0)[own.any(0)])
        print(f"{aim:16}{own.shape[1]:8}{own.any(0).mean():8.3f}{own[-1].mean():12.3f}{step:13.0f}")
    met = run(params, wandering(params))[0]
    print(
        f"random behaviour meets its aim at some step of {met.any(0).mean():.3f} of {met.shape[1]} episodes, ", end=""
    )
    print(f"at the last step of {met[-1].mean():.3f}\n")

    returns = rewards.sum(0)
    tried = {name: run(params, act) for name, act in others(params).items()}
    print(
        f"{'aim':16}{'told':>7}  dense returns of the best three in episodes that do not meet the aim, share above told"
    )
    for place, aim in enumerate(scene.AIMS):
        rows = aims == place
        found = []
        for name, (success, rewards) in tried.items():
            failed = rows & ~success.any(0)
            if failed.sum() >= 5:
                got = rewards.sum(0)[failed]
                found.append((got.mean(), name, (got > returns[failed]).mean()))
        shown = ", ".join(f"{name} {mean:.1f} ({above:.0%})" for mean, name, above in sorted(found, reverse=True)[:3])
        print(f"{aim:16}{returns[rows].mean():7.1f}  {shown}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
