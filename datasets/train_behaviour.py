"""Train a family's behaviour policy: ``python -m offlinemeta.datasets.train_behaviour AntDir``.

Stable-Baselines3's PPO on the batch engine, over all training tasks at once, from scratch to expert. The policy sees
its task. It acts through tanh (PPO's Gaussian is squashed by the environment's adapter), since actions clipped at the
box would make every tanh-Gaussian likelihood downstream degenerate. Snapshots are kept along the way; at the end each
is evaluated, and ten of them, evenly spread in return from the untrained to the best, become the checkpoints.

With ``--blind``, the policy sees zeros in place of its task, and its last state becomes the one checkpoint of
``<family>-blind``: what is gained by knowing the task is measured against it.

Everything is saved to ``out/behaviour/<family>`` every few iterations; the same command continues a killed run.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import pickle
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from rich.console import Console

from offlinemeta.datasets.behaviour import BehaviourPolicy, pack, save_checkpoints, unpack
from offlinemeta.datasets.collect import play
from offlinemeta.datasets.policies import act_blind, act_told
from offlinemeta.datasets.spec import spread
from offlinemeta.envs import SPLITS, Task, TaskFamily, TaskVectorEnv, VectorTaskObservation, get_family
from offlinemeta.envs.errors import MissingExtraError, UnknownNameError
from offlinemeta.envs.shapes import Array
from offlinemeta.files import check_writable, write_text

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks; the cores are for the physics

try:
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize
except ImportError as error:
    raise MissingExtraError("collect", "Training behaviour policies") from error


@dataclass(frozen=True)
class Recipe:
    """PPO's settings for a family; settings that are not here are the same for all families."""

    steps: int
    """Number of env steps of the whole training."""
    ent_coef: float = 0.0
    gamma: float = 0.99
    log_std_init: float = -0.5
    learning_rate: float = 5e-4
    """Learning rate at the start; it falls linearly to a tenth."""
    shaping: float = 0.0
    """Weight of potential-based shaping (Ng et al., 1999), whose potential is the last reward without action cost."""
    batch_size: int = 3200
    epochs: int = 6
    bonus: float = 0.0
    """Added to each step's reward at the start: takes away most of a survival bonus, for which PPO would only learn to
    stand. It fades linearly to nothing."""
    tasks: int = 0
    """Tasks drawn anew from the distribution of the training tasks, one for each episode; 0 for the frozen list."""


HUMANOID = Recipe(
    steps=14_000_000, log_std_init=-1.0, gamma=0.97, learning_rate=3e-4, batch_size=640, epochs=8, tasks=1000
)

RECIPES = {
    "CheetahVel": Recipe(steps=8_000_000),
    "CheetahDir": Recipe(steps=5_000_000),
    "CheetahGear": Recipe(steps=8_000_000, tasks=1000),
    "AntDir": Recipe(steps=8_000_000),
    "AntGoal": Recipe(steps=8_000_000, shaping=30.0),
    "HumanoidDir": replace(HUMANOID, bonus=-3.5),
    "HumanoidWalk": HUMANOID,
    "WalkerParam": Recipe(steps=9_000_000, tasks=1000),
    "HopperParam": Recipe(steps=6_000_000, tasks=1000),
}

ENVS = 128
ROLLOUT = 100
HIDDEN = (128, 128)
SNAPSHOTS = 60
CHECKPOINTS = 10
U_LIMIT = 5.0
"""Bound of the actions before tanh; tanh(5) is 0.9999."""


class SquashedTasks(VecEnv):
    """The batch engine as Stable-Baselines3 wants it: the task observed, actions squashed by tanh, rewards shaped.

    With fresh tasks (``recipe.tasks``), each episode has a task drawn from the training list; without, each env keeps
    its task. A blind policy observes zeros in place of the task.
    """

    def __init__(self, family: TaskFamily, recipe: Recipe, seed: int, threads: int | None, blind: bool = False) -> None:
        mode = AutoresetMode.DISABLED if recipe.tasks else AutoresetMode.SAME_STEP
        batch = TaskVectorEnv(family, ENVS, autoreset_mode=mode, num_threads=threads)
        self._batch, self._envs, self._recipe, self._blind = batch, VectorTaskObservation(batch), recipe, blind
        box = spaces.Box(-U_LIMIT, U_LIMIT, batch.single_action_space.shape)
        super().__init__(ENVS, self._envs.single_observation_space, box)
        self._rng = np.random.default_rng(seed)
        self.steps = 0
        self._return = np.zeros(ENVS)
        self._length = np.zeros(ENVS, dtype=int)
        self._potential = np.zeros(ENVS)
        self._costs = [name.startswith("‖action‖²") for name in family.feature_names]

    def reset(self) -> Any:
        """Begin an episode in every env."""
        return self._shown(self._envs.reset(seed=self._seeds[0])[0])

    def _shown(self, observations: Array) -> Array:
        """Return observations as the policy sees them."""
        if self._blind:
            observations[:, self._batch.family.observation_space.shape[0] :] = 0.0
        return observations

    def step_async(self, actions: Array) -> None:
        """Squash the actions for the step that :meth:`step_wait` makes."""
        self._actions = np.tanh(actions)
        if not self._blind:
            self._actions = self._batch.family.told_actions(self._actions, self._batch.get_params())

    def step_wait(self) -> Any:
        """Step, and put final observations and the kind of end where Stable-Baselines3 looks for them."""
        params = self._batch.get_params()
        observations, rewards, terminated, truncated, info = self._envs.step(self._actions)
        self._return += rewards
        self._length += 1
        infos: list[dict[str, Any]] = [{} for _ in range(ENVS)]
        over = terminated | truncated
        final = info.get("final_obs", observations)
        for i in np.flatnonzero(over).tolist():
            infos[i] = {
                "terminal_observation": self._shown(final[i][None])[0].copy(),
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "episode": {"r": self._return[i], "l": int(self._length[i]), "t": 0.0},
            }
        rewards = rewards + self._recipe.bonus * (1 - self.steps / self._recipe.steps)
        self.steps += ENVS
        if self._recipe.shaping:
            rewards = rewards + self._shaping(info, params, over)
        if self._recipe.tasks and over.any():
            tasks = self._batch.sample_tasks(rng=self._rng)
            observations, _ = self._envs.reset(options={"reset_mask": over, "task": tasks})
        self._return[over] = 0.0
        self._length[over] = 0
        return self._shown(observations), rewards.astype(np.float32), over, infos

    def _shaping(self, info: dict[str, Any], params: Array, over: Array) -> Array:
        """Return γΦ(s') - Φ(s), or 0 in an episode's first step, whose Φ(s) is not known."""
        features = info["features"].copy()
        for i in np.flatnonzero(info.get("_final_info", [])):
            features[i] = info["final_info"]["features"][i]
        features[:, self._costs] = 0.0
        potential = self._recipe.shaping * self._batch.family.reward(features, params)
        shaping = np.where(self._length > 1, self._recipe.gamma * potential - self._potential, 0.0)
        self._potential = potential
        return shaping

    def close(self) -> None:
        """Close the batch."""
        self._envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the batch, once for each env."""
        return [getattr(self._envs, attr_name, None)] * self.num_envs

    def has_attr(self, attr_name: str) -> bool:
        """Tell whether the batch has an attribute."""
        return hasattr(self._envs, attr_name)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the batch."""
        setattr(self._envs, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the batch."""
        return [getattr(self._envs, method_name)(*args, **kwargs)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Tell that no env is wrapped on its own."""
        return [False] * self.num_envs


def snapshot(model: Any, normalize: Any) -> BehaviourPolicy:
    """Take the present policy out of Stable-Baselines3."""
    layers = [*model.policy.mlp_extractor.policy_net, model.policy.action_net]

    def numpy(tensor: Any) -> Array:
        return np.array(tensor.detach().cpu().numpy(), dtype=np.float32)

    weights = tuple((numpy(layer.weight).T, numpy(layer.bias)) for layer in layers if hasattr(layer, "weight"))
    mean, scale = normalize.obs_rms.mean, np.sqrt(normalize.obs_rms.var + normalize.epsilon)
    return BehaviourPolicy(weights, numpy(model.policy.log_std), mean.astype(np.float32), scale.astype(np.float32))


class Measured(NamedTuple):
    """How well a policy did.

    Attributes:
        mean: mean return over tasks.
        saturated: share of action components beyond ±0.99.
    """

    mean: float
    saturated: float


def measure(
    family: TaskFamily,
    policy: BehaviourPolicy,
    tasks: Sequence[Task],
    episodes: int,
    seed: int,
    sample: bool,
    blind: bool = False,
) -> Measured:
    """Run a number of episodes on each of some tasks of a family."""
    act = partial(act_blind if blind else act_told, family, policy)
    returns, ran = play(family, tasks, act, episodes, seed, sample)
    actions = np.concatenate([episode.actions for episode in ran])
    return Measured(round(float(returns.mean()), 1), round(float((np.abs(actions) > 0.99).mean()), 4))


class Keeper(BaseCallback):
    """Takes snapshots of the policy, saves what a resumed run needs, and prints the learning curve."""

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
        """Take a snapshot, and save the state of the training."""
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
    write_text(folder / "latest", new.name)
    for old in folder.iterdir():
        if old.is_dir() and old != new:
            shutil.rmtree(old)


def train(
    name: str, seed: int, out: Path, destination: Path, threads: int | None, console: Console, blind: bool = False
) -> None:
    """Train, or continue, and write the checkpoints.

    Raises:
        UnknownNameError: the family has no recipe.
        FileError: nothing can be written where the checkpoints or the resumable state go.
    """
    if name not in RECIPES:
        raise UnknownNameError("Recipe of family", name, RECIPES)
    recipe, family = RECIPES[name], get_family(name)
    file = f"{name}-blind" if blind else name
    folder = out / file
    for place in (folder, destination):
        check_writable(place)
    envs = SquashedTasks(with_fresh_tasks(family, recipe.tasks, seed), recipe, seed, threads, blind)
    iterations = recipe.steps // (ENVS * ROLLOUT)
    if (folder / "latest").exists():
        saved = folder / (folder / "latest").read_text()
        normalize = VecNormalize.load(str(saved / "normalize.pkl"), envs)
        model = PPO.load(saved / "model.zip", env=normalize, device="cpu")
        state = pickle.loads((saved / "state.pkl").read_bytes())
        envs.steps = model.num_timesteps
        console.print(f"continuing {file} at {model.num_timesteps:,} steps")
    else:
        normalize = VecNormalize(envs, gamma=recipe.gamma, clip_obs=10.0)
        model = PPO(
            "MlpPolicy",
            normalize,
            learning_rate=falling(recipe.learning_rate),
            n_steps=ROLLOUT,
            batch_size=recipe.batch_size,
            n_epochs=recipe.epochs,
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
    finish(get_family(name), seed, recipe, state, destination / f"{file}.safetensors", console, blind)
    envs.close()


def with_fresh_tasks(family: TaskFamily, count: int, seed: int) -> TaskFamily:
    """Return the family with ``count`` other training tasks, drawn from the same distribution; 0 changes nothing.

    Where tasks have dozens of parameters, the frozen list is too short to learn from: a policy trained on it fails on
    held-out tasks.
    """
    if not count:
        return family
    params = family.draw_params(count, np.random.RandomState(seed))
    fresh = tuple(Task(family.name, "train", index, tuple(row)) for index, row in enumerate(params.tolist()))
    other = copy.copy(family)
    other.__dict__.update(tasks={**family.tasks, "train": fresh})  # in place of the cached property
    other.__dict__.pop("_all_tasks", None)
    return other


def falling(start: float) -> Callable[[float], float]:
    """Return a schedule of the learning rate that falls linearly to a tenth."""
    return lambda remaining: start * (0.1 + 0.9 * remaining)


def finish(
    family: TaskFamily, seed: int, recipe: Recipe, state: dict[str, Any], path: Path, console: Console, blind: bool
) -> None:
    """Evaluate all snapshots on the training tasks, choose ten, and write them; of a blind policy, write the last."""
    policies = [unpack(arrays, "s") for arrays in state["snapshots"]]
    train = family.tasks["train"]
    if blind:
        chosen = [len(policies) - 1]
    else:
        returns = [measure(family, policy, train, 1, seed, sample=True).mean for policy in policies]
        chosen = spread(returns[: int(np.argmax(returns)) + 1], CHECKPOINTS)
    rows = []
    for i in chosen:
        measured = measure(family, policies[i], train, 2, seed + 1, True, blind)
        rows.append({"steps": state["curve"][i]["steps"], "return": measured.mean, "saturated": measured.saturated})
    expert = {}
    for split in (split for split in SPLITS if family.tasks[split]):
        for kind, sample in (("sampled", True), ("mean", False)):
            measured = measure(family, policies[chosen[-1]], family.tasks[split], 5, seed + 2, sample, blind)
            expert[f"{split}, {kind} actions"] = measured.mean
    import mujoco
    import stable_baselines3

    metadata = {
        "family": family.name,
        "command": f"python -m offlinemeta.datasets.train_behaviour {family.name} --seed {seed}"
        + (" --blind" if blind else ""),
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
    """Train the family that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=list(RECIPES))
    parser.add_argument("--seed", type=int, default=0, help="seed for all randomness in training")
    parser.add_argument(
        "--out", type=Path, default=Path("out/behaviour"), help="folder for the state from which a killed run continues"
    )
    parser.add_argument(
        "--destination", type=Path, default=Path("datasets/checkpoints"), help="folder for the checkpoints"
    )
    parser.add_argument("--threads", type=int, default=None, help="threads of the batch engine; all cores by default")
    parser.add_argument("--blind", action="store_true", help="train without seeing the task, as <family>-blind")
    options = parser.parse_args()
    train(options.family, options.seed, options.out, options.destination, options.threads, Console(), options.blind)


if __name__ == "__main__":
    main()
