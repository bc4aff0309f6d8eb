"""Train a family's behaviour policy: ``python -m offlinemeta.datasets.train_behaviour AntDir``.

Stable-Baselines3's PPO on the batch engine, over all training tasks at once, from scratch to expert. The policy sees
its task. It acts through tanh (PPO's Gaussian is squashed by the environment's adapter), since actions clipped at the
box would make every tanh-Gaussian likelihood downstream degenerate. Snapshots are kept along the way; at the end each
is evaluated, and ten of them, evenly spread in return from the untrained to the best, become the checkpoints.

Everything is saved to ``out/behaviour/<family>`` every few iterations; the same command continues a killed run.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from rich.console import Console

from offlinemeta.datasets.behaviour import BehaviourPolicy, pack, save_checkpoints, unpack
from offlinemeta.envs import TaskFamily, TaskVectorEnv, VectorTaskObservation, get_family
from offlinemeta.envs.errors import MissingExtraError, UnknownNameError
from offlinemeta.envs.shapes import Array, Float

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks; the cores are for the physics

try:
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize
except ImportError as error:
    raise MissingExtraError("collect", "Training behaviour policies") from error


@dataclass(frozen=True)
class Recipe:
    """PPO's settings for a family; those not here are the same for all."""

    steps: int
    """Env steps in all."""
    ent_coef: float = 0.0
    gamma: float = 0.99
    log_std_init: float = -0.5
    learning_rate: float = 5e-4
    """At the start; it falls linearly to a tenth."""


RECIPES = {
    "CheetahVel": Recipe(steps=8_000_000),
    "CheetahDir": Recipe(steps=5_000_000),
    "AntDir": Recipe(steps=8_000_000),
    "AntGoal": Recipe(steps=8_000_000),
    "HumanoidDir": Recipe(steps=8_000_000, log_std_init=-1.0),
    "WalkerParam": Recipe(steps=6_000_000),
    "HopperParam": Recipe(steps=6_000_000),
}

ENVS = 128
ROLLOUT = 100
BATCH = 3200
EPOCHS = 6
HIDDEN = (128, 128)
SNAPSHOTS = 60
CHECKPOINTS = 10
U_LIMIT = 5.0
"""Bound of the action before tanh; tanh(5) is 0.9999."""


class SquashedTasks(VecEnv):
    """The batch engine as Stable-Baselines3 wants it, with the task observed and actions squashed by tanh."""

    def __init__(self, envs: VectorTaskObservation) -> None:
        box = spaces.Box(-U_LIMIT, U_LIMIT, envs.single_action_space.shape)
        self._envs = envs
        super().__init__(envs.num_envs, envs.single_observation_space, box)
        self._return = np.zeros(envs.num_envs)
        self._length = np.zeros(envs.num_envs, dtype=int)

    def reset(self) -> Any:
        """Begin everywhere."""
        return self._envs.reset(seed=self._seeds[0])[0]

    def step_async(self, actions: Array) -> None:
        """Squash."""
        self._actions = np.tanh(actions)

    def step_wait(self) -> Any:
        """Step; final observations and the kind of end go where Stable-Baselines3 looks for them."""
        observations, rewards, terminated, truncated, info = self._envs.step(self._actions)
        self._return += rewards
        self._length += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        over = terminated | truncated
        for i in np.flatnonzero(over).tolist():
            infos[i] = {
                "terminal_observation": info["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "episode": {"r": self._return[i], "l": int(self._length[i]), "t": 0.0},
            }
        self._return[over] = 0.0
        self._length[over] = 0
        return observations, rewards.astype(np.float32), over, infos

    def close(self) -> None:
        """Release the batch."""
        self._envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same for all."""
        return [getattr(self._envs, attr_name, None)] * self.num_envs

    def has_attr(self, attr_name: str) -> bool:
        """Whether the batch has it."""
        return hasattr(self._envs, attr_name)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set it on the batch."""
        setattr(self._envs, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call it on the batch."""
        return [getattr(self._envs, method_name)(*args, **kwargs)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No single env is."""
        return [False] * self.num_envs


def snapshot(model: Any, normalize: Any) -> BehaviourPolicy:
    """Take the present policy out of Stable-Baselines3."""
    layers = [*model.policy.mlp_extractor.policy_net, model.policy.action_net]

    def numpy(tensor: Any) -> Array:
        return np.array(tensor.detach().cpu().numpy(), dtype=np.float32)

    weights = tuple((numpy(layer.weight).T, numpy(layer.bias)) for layer in layers if hasattr(layer, "weight"))
    mean, scale = normalize.obs_rms.mean, np.sqrt(normalize.obs_rms.var + normalize.epsilon)
    return BehaviourPolicy(weights, numpy(model.policy.log_std), mean.astype(np.float32), scale.astype(np.float32))


def evaluate(
    family: TaskFamily, policy: BehaviourPolicy, split: str, episodes: int, seed: int, stochastic: bool
) -> tuple[Float[Array, " tasks"], float]:
    """Run episodes on every task of a split.

    Returns:
        The mean return of each task, and the share of action components beyond ±0.99.
    """
    tasks = [task for task in family.tasks[split] for _ in range(episodes)]
    batch = TaskVectorEnv(family, num_envs=len(tasks), split=split, task=tasks)
    envs = VectorTaskObservation(batch)
    observations, _ = envs.reset(seed=seed)
    rng = np.random.default_rng(seed) if stochastic else None
    returns, running = np.zeros(len(tasks)), np.ones(len(tasks), dtype=bool)
    saturated, total = 0.0, 0.0
    while running.any():
        actions = policy.act(observations, rng)
        saturated += float((np.abs(actions[running]) > 0.99).sum())
        total += actions[running].size
        observations, rewards, terminated, truncated, _ = envs.step(actions)
        returns += rewards * running
        running &= ~(terminated | truncated)
    envs.close()
    return returns.reshape(-1, episodes).mean(1), saturated / total


def spread(returns: Sequence[float], count: int) -> list[int]:
    """Choose snapshots evenly spread in return, from the first to the best, in order of training."""
    best = int(np.argmax(returns))
    wanted = np.linspace(returns[0], returns[best], count)
    chosen = {0, best}
    for value in wanted[1:-1]:
        free = [i for i in range(best) if i not in chosen]
        if free:
            chosen.add(min(free, key=lambda i: abs(returns[i] - value)))
    return sorted(chosen)


class Keeper(BaseCallback):
    """Keeps snapshots and everything that a resumed run needs, and prints the curve."""

    def __init__(self, folder: Path, normalize: Any, every: int, state: dict[str, Any], console: Console) -> None:
        super().__init__()
        self._folder, self._normalize, self._every = folder, normalize, every
        self._state, self._console = state, console
        self._iteration = state["iteration"]
        self._kept = self._iteration if state["curve"] else -1  # a resumed run has this snapshot
        self._started = time.monotonic() - state["seconds"]

    def _on_rollout_start(self) -> None:
        if self._iteration % self._every == 0 and self._iteration != self._kept:
            self.keep()
        self._iteration += 1

    def _on_step(self) -> bool:
        return True

    def keep(self) -> None:
        """Take a snapshot, and save."""
        episodes = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        mean = float(np.mean(episodes)) if episodes else float("nan")
        seconds = time.monotonic() - self._started
        self._state["curve"].append({"steps": self.model.num_timesteps, "seconds": round(seconds), "return": mean})
        self._state["snapshots"].append(pack(snapshot(self.model, self._normalize), "s"))
        self._state |= {"iteration": self._iteration, "seconds": seconds}
        self._console.print(
            f"{self.model.num_timesteps:>10,} steps {seconds:6.0f} s  return {mean:8.1f}", highlight=False
        )
        save(self._folder, self.model, self._normalize, self._state)


def save(folder: Path, model: Any, normalize: Any, state: dict[str, Any]) -> None:
    """Write a resumable state; it counts from the moment that ``latest`` names it."""
    new = folder / str(model.num_timesteps)
    new.mkdir(parents=True, exist_ok=True)
    model.save(new / "model.zip")
    normalize.save(str(new / "normalize.pkl"))
    (new / "state.pkl").write_bytes(pickle.dumps(state))
    (folder / "latest.draft").write_text(new.name)
    (folder / "latest.draft").replace(folder / "latest")
    for old in folder.iterdir():
        if old.is_dir() and old != new:
            shutil.rmtree(old)


def train(name: str, seed: int, out: Path, destination: Path, threads: int | None, console: Console) -> None:
    """Train, or continue, and write the checkpoints.

    Raises:
        UnknownNameError: the family has no recipe.
    """
    if name not in RECIPES:
        raise UnknownNameError("Recipe of family", name, RECIPES)
    recipe, family, folder = RECIPES[name], get_family(name), out / name
    batch = gymnasium.make_vec(f"OfflineMeta/{name}-v0", num_envs=ENVS, num_threads=threads)
    envs = SquashedTasks(VectorTaskObservation(batch))
    iterations = recipe.steps // (ENVS * ROLLOUT)
    if (folder / "latest").exists():
        saved = folder / (folder / "latest").read_text()
        normalize = VecNormalize.load(str(saved / "normalize.pkl"), envs)
        model = PPO.load(saved / "model.zip", env=normalize, device="cpu")
        state = pickle.loads((saved / "state.pkl").read_bytes())
        console.print(f"continuing {name} at {model.num_timesteps:,} steps")
    else:
        normalize = VecNormalize(envs, gamma=recipe.gamma, clip_obs=10.0)
        model = PPO(
            "MlpPolicy",
            normalize,
            learning_rate=falling(recipe.learning_rate),
            n_steps=ROLLOUT,
            batch_size=BATCH,
            n_epochs=EPOCHS,
            gamma=recipe.gamma,
            ent_coef=recipe.ent_coef,
            target_kl=0.03,
            policy_kwargs={"net_arch": {"pi": list(HIDDEN), "vf": list(HIDDEN)}, "log_std_init": recipe.log_std_init},
            seed=seed,
            device="cpu",
            stats_window_size=ENVS,
        )
        state = {"iteration": 0, "seconds": 0.0, "curve": [], "snapshots": []}
    keeper = Keeper(folder, normalize, max(1, iterations // SNAPSHOTS), state, console)
    remaining = recipe.steps - model.num_timesteps
    if remaining > 0:
        model.learn(remaining, callback=keeper, reset_num_timesteps=False)
        keeper.keep()
    finish(family, seed, recipe, state, destination / f"{name}.safetensors", console)
    envs.close()


def falling(start: float) -> Callable[[float], float]:
    """A learning rate that falls linearly to a tenth."""
    return lambda remaining: start * (0.1 + 0.9 * remaining)


def finish(family: TaskFamily, seed: int, recipe: Recipe, state: dict[str, Any], path: Path, console: Console) -> None:
    """Evaluate all snapshots on the training tasks, choose ten, and write them."""
    policies = [unpack(arrays, "s") for arrays in state["snapshots"]]
    returns = [float(evaluate(family, policy, "train", 1, seed, stochastic=True)[0].mean()) for policy in policies]
    chosen = spread(returns, CHECKPOINTS)
    rows = []
    for i in chosen:
        train_returns, saturated = evaluate(family, policies[i], "train", 2, seed + 1, stochastic=True)
        point = state["curve"][i]
        rows.append(
            {"steps": point["steps"], "return": round(float(train_returns.mean()), 1), "saturated": round(saturated, 4)}
        )
    expert = {}
    for split in ("train", "test", "ood"):
        if family.tasks[split]:
            for stochastic in (True, False):
                key = f"{split}, {'sampled' if stochastic else 'mean'} actions"
                expert[key] = round(
                    float(evaluate(family, policies[chosen[-1]], split, 5, seed + 2, stochastic)[0].mean()), 1
                )
    import mujoco
    import stable_baselines3

    metadata = {
        "family": family.name,
        "command": f"python -m offlinemeta.datasets.train_behaviour {family.name} --seed {seed}",
        "seed": seed,
        "recipe": asdict(recipe),
        "versions": {
            "mujoco": mujoco.__version__,
            "stable-baselines3": stable_baselines3.__version__,
            "numpy": np.__version__,
        },
        "machine": f"{platform.machine()}, {platform.system()}",
        "curve": state["curve"],
        "checkpoints": rows,
        "expert": expert,
    }
    save_checkpoints(path, [policies[i] for i in chosen], metadata)
    console.print_json(json.dumps({"checkpoints": rows, "expert": expert}))


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=list(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/behaviour"), help="folder of the resumable state")
    parser.add_argument("--destination", type=Path, default=Path("datasets/checkpoints"))
    parser.add_argument("--threads", type=int, default=None, help="of the batch engine; all cores by default")
    options = parser.parse_args()
    train(options.family, options.seed, options.out, options.destination, options.threads, Console())


if __name__ == "__main__":
    main()
