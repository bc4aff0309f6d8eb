"""Roll policies out in their tasks: everything that a dataset or a reference return is made from."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from offlinemeta.datasets.dataset import ASTRAY, EXPLORING, Dataset, Episode, join_episodes
from offlinemeta.datasets.errors import DatasetError
from offlinemeta.datasets.explorers import Explorer, PosteriorSampler, Wanderer, best_of_training, has_stages, stages
from offlinemeta.datasets.policies import Act, behaviours, uniform
from offlinemeta.datasets.references import References, read_references
from offlinemeta.datasets.spec import QUALITIES, RANDOM_BEHAVIOUR, DatasetSpec, nearest_to_half
from offlinemeta.envs import Task, TaskFamily, TaskVectorEnv, get_family
from offlinemeta.envs.shapes import Array, Float

BATCH, BATCH_IN_PROCESSES = 500, 10
"""Number of rollouts at once. It is part of what a dataset is, since a batch shares one random generator."""


def roll_out(
    envs: TaskVectorEnv,
    tasks: Sequence[Task],
    acts: Sequence[Act],
    rng: np.random.Generator,
    progress: Callable[[int], None] = lambda steps: None,
    sample: bool = True,
    told: Sequence[Task] | None = None,
) -> list[list[Episode]]:
    """Run one rollout of ``horizon`` steps for each of N tasks, all at once.

    Where an episode terminates, the rollout goes on with another of the same task; its last one is truncated.

    Args:
        envs: a batch of N environments without autoreset.
        tasks: ``[N]`` the task of each rollout.
        acts: ``[N]`` the policy of each rollout; equal ones act together.
        rng: seeds the resets and draws the actions.
        progress: told how many env steps were made.
        sample: whether actions are drawn, or the policies' mean ones.
        told: ``[N]`` the tasks that the policies see; by default, ``tasks``.

    Returns:
        ``[N]`` lists of episodes, whose ``behaviour`` is the place of the policy among the distinct ``acts``.
    """
    family, count = envs.family, len(tasks)
    horizon = family.horizon
    distinct = list(dict.fromkeys(acts))
    which = np.array([distinct.index(act) for act in acts])
    names = {"features": len(family.feature_names)} if family.feature_names else {}
    params = family.params(tasks if told is None else told)
    size, actions_size = family.observation_space.shape[0], family.action_space.shape[0]
    before, after = np.empty((2, horizon, count, size), dtype=np.float32)
    actions = np.empty((horizon, count, actions_size), dtype=np.float32)
    rewards = np.empty((horizon, count), dtype=np.float32)
    terminations, truncations = np.zeros((2, horizon, count), dtype=bool)
    infos = {name: np.empty((horizon, count, width), dtype=np.float32) for name, width in names.items()}
    infos |= {name: np.empty((horizon, count), dtype=np.float32) for name in ("diverged", *family.info_names)}
    seeds = rng.integers(2**31, size=count)
    begun: list[list[tuple[int, int]]] = [[(0, int(seed))] for seed in seeds]  # first step and seed of each episode

    observations, _ = envs.reset(seed=seeds, options={"task": list(tasks)})
    for t in range(horizon):
        before[t] = observations
        for place, act in enumerate(distinct):
            rows = np.flatnonzero(which == place)
            actions[t, rows] = act(observations[rows], params[rows], rng if sample else None)
        observations, rewards[t], terminations[t], truncations[t], info = envs.step(actions[t])
        after[t] = observations
        for name, array in infos.items():
            array[t] = info[name]
        over = terminations[t] | truncations[t]
        if over.any() and t + 1 < horizon:
            seeds = rng.integers(2**31, size=count)
            observations, _ = envs.reset(seed=seeds, options={"reset_mask": over})
            for i in np.flatnonzero(over):
                begun[i].append((t + 1, int(seeds[i])))
        progress(count)
    truncations[-1] |= ~terminations[-1]

    def episodes(i: int) -> Iterator[Episode]:
        ends = [start for start, _ in begun[i][1:]] + [horizon]
        for (start, seed), end in zip(begun[i], ends, strict=True):
            yield Episode(
                task=tasks[i],
                behaviour=int(which[i]),
                seed=seed,
                observations=np.concatenate([before[start:end, i], after[end - 1 : end, i]]),
                actions=actions[start:end, i],
                rewards=rewards[start:end, i],
                terminations=terminations[start:end, i],
                truncations=truncations[start:end, i],
                infos={name: array[start:end, i] for name, array in infos.items()},
            )

    return [list(episodes(i)) for i in range(count)]


def in_batches(family: TaskFamily, count: int, num_threads: int | None = None) -> Iterator[tuple[slice, TaskVectorEnv]]:
    """Cut ``count`` rollouts into batches, and give each its environments."""
    size = BATCH_IN_PROCESSES if family.in_processes else BATCH
    envs: TaskVectorEnv | None = None
    try:
        for first in range(0, count, size):
            part = slice(first, min(first + size, count))
            if envs is None or envs.num_envs != part.stop - first:
                if envs is not None:
                    envs.close()
                mode = AutoresetMode.DISABLED
                envs = TaskVectorEnv(family, part.stop - first, task=0, autoreset_mode=mode, num_threads=num_threads)
            yield part, envs
    finally:
        if envs is not None:
            envs.close()


def collect(
    spec: DatasetSpec, progress: Callable[[int], None] = lambda steps: None, num_threads: int | None = None
) -> Dataset:
    """Collect a dataset; the same spec gives the same content on every machine (docs/datasets.md says where not).

    Args:
        spec: what to collect.
        progress: told how many env steps were made.
        num_threads: number of threads of the batch engine.
    """
    names, episodes = (_visits if spec.visited else _rollouts)(spec, progress, num_threads)
    return join_episodes(spec, names, episodes, provenance())


Collected = tuple[list[str], list[Episode]]
"""Names of the policies, and the episodes, whose ``behaviour`` is an index into the names."""


def _rollouts(spec: DatasetSpec, progress: Callable[[int], None], num_threads: int | None) -> Collected:
    """Roll out policies that are told a task: behaviour policies, or uniformly random actions."""
    family = get_family(spec.family)
    policies, shares = behaviours(family), spec.shares(read_references(spec.family).normalised)
    if -1 in shares:
        policies, shares = (uniform(family),), [0] * len(shares)
    names, astray = [policy.name for policy in policies], spec.strays
    if any(astray):
        names += [f"{name}, {ASTRAY}" for name in names]
    plan = [(share, stray, task) for share, stray in zip(shares, astray, strict=True) for task in spec.tasks]
    episodes: list[Episode] = []
    for part, envs in in_batches(family, len(plan), num_threads):
        rng = np.random.default_rng([zlib.crc32(spec.id.encode()), part.start])
        behaviour, stray, tasks = zip(*plan[part], strict=True)
        told = [another(task, rng) if astray else task for task, astray in zip(tasks, stray, strict=True)]
        acts = [policies[share].act for share in behaviour]
        rolled = roll_out(envs, tasks, acts, rng, progress, told=told)
        for share, off, several in zip(behaviour, stray, rolled, strict=True):
            place = share + off * len(policies)
            episodes += [replace(episode, behaviour=place) for episode in several]
    return names, episodes


def _visits(spec: DatasetSpec, progress: Callable[[int], None], num_threads: int | None) -> Collected:
    """Let explorers visit each task: one after the other, each with an equal share of the rollouts."""
    family, quality = get_family(spec.family), QUALITIES[spec.quality]
    agents, returns = candidates(family, read_references(spec.family), quality.stages)
    shares = spec.shares(returns)
    names = [f"{agent.name}, {kind}" for agent in agents for kind in (EXPLORING, agent.exploits) if kind is not None]
    episodes: list[Episode] = []
    for place in sorted(set(shares)):
        kinds = list(islice(cycle(quality.visit if agents[place].exploits else "x"), shares.count(place)))
        for part, envs in in_batches(family, len(spec.tasks), num_threads):
            rng = np.random.default_rng([zlib.crc32(spec.id.encode()), place, part.start])
            rolled = visit(envs, spec.tasks[part], agents[place], kinds, rng, progress)
            for kind, rollouts in zip(kinds, rolled, strict=True):
                behaviour = 2 * place + (kind == "p")
                episodes += [replace(episode, behaviour=behaviour) for several in rollouts for episode in several]
    return names, episodes


def candidates(
    family: TaskFamily, references: References, poor: bool = False
) -> tuple[Sequence[Explorer], list[float]]:
    """Return the explorers of a family, and the normalised return of each after it has explored.

    In the manipulation scenes it is random behaviour. Elsewhere they are the stages of online PEARL, where its training
    got half of the way from a blind policy to the told one on training tasks, or where ``poor`` ones will do; else
    posterior sampling over the behaviour policy nearest to half of the expert's return.

    Raises:
        DatasetError: the references are not those of the stages that ship.
    """
    if family.name in RANDOM_BEHAVIOUR:
        return (Wanderer(family),), [0.0]
    if has_stages(family.name):
        (low, high), returns = references.ranking, references.normalised_explorers
        if poor or best_of_training(family.name) >= (low + high) / 2:
            agents = stages(family)
            if len(agents) != len(returns):
                raise DatasetError(
                    f"{family.name} has {len(agents)} stages of online PEARL, and references of {len(returns)}. "
                    f"Measure them: offlinemeta datasets references {family.name} --write"
                )
            return agents, returns
    (half,) = nearest_to_half(references.normalised)
    return (PosteriorSampler(family, behaviours(family)[half]),), [references.normalised[half]]


def visit(
    envs: TaskVectorEnv,
    tasks: Sequence[Task],
    explorer: Explorer,
    kinds: Sequence[str],
    rng: np.random.Generator,
    progress: Callable[[int], None] = lambda steps: None,
) -> list[list[list[Episode]]]:
    """Let an explorer visit N tasks at once.

    Args:
        envs: a batch of N environments without autoreset.
        tasks: the N tasks.
        explorer: the agent.
        kinds: the rollouts of a visit, one after the other: ``x`` explores, ``p`` exploits what the visit has shown.
        rng: seeds the resets and draws everything else.
        progress: told how many env steps were made.

    Returns:
        ``[kind][N]`` lists of episodes.
    """
    rolled: list[list[list[Episode]]] = []
    for kind in kinds:
        seen = [[episode for rollouts in rolled for episode in rollouts[i]] for i in range(len(tasks))]
        act = explorer.explore(tasks) if kind == "x" else explorer.exploit(tasks, seen, rng)
        rolled.append(roll_out(envs, tasks, [act] * len(tasks), rng, progress))
    return rolled


def another(task: Task, rng: np.random.Generator) -> Task:
    """Draw a training task of the family that is not this one."""
    others = [other for other in get_family(task.family).tasks["train"] if other != task]
    return others[rng.integers(len(others))]


def provenance() -> dict[str, Any]:
    """Return the versions of all that decides the numbers, and the kind of machine."""
    names = ("offlinemeta", "mujoco", "gymnasium", "numpy", "metaworld")
    versions = {name: importlib.metadata.version(name) for name in names if importlib.util.find_spec(name)}
    library, version = platform.libc_ver()  # MuJoCo takes sines and exponentials from it
    if library:
        versions[library] = version
    return {"versions": versions, "machine": f"{platform.machine()}, {platform.system()}"}


def play(
    family: TaskFamily,
    tasks: Sequence[Task],
    act: Act | Explorer,
    episodes: int,
    seed: int,
    sample: bool,
    progress: Callable[[int], None] = lambda steps: None,
    told: Sequence[Task] | None = None,
) -> tuple[Float[Array, "tasks episodes"], list[Episode]]:
    """Run whole episodes on every task; the policy sees the tasks in ``told``, by default the same.

    In place of a policy there may be an explorer, which then explores.

    Returns:
        The returns ``[tasks, episodes]``, and the episodes themselves, task by task.
    """
    plan = [task for task in tasks for _ in range(episodes)]
    seen = [task for task in told or tasks for _ in range(episodes)]
    first = []
    for part, envs in in_batches(family, len(plan)):
        rng, policy = np.random.default_rng([seed, part.start]), act
        if isinstance(policy, Explorer):
            policy = policy.explore(plan[part])
        acts = [policy] * envs.num_envs
        first += [several[0] for several in roll_out(envs, plan[part], acts, rng, progress, sample, told=seen[part])]
    returns = np.array([episode.rewards.sum(dtype=np.float64) for episode in first])
    return returns.reshape(len(tasks), episodes), first
