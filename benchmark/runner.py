"""Run a protocol: adapt, roll out, add to the context, for all held-out tasks and repeats in one batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from offlinemeta.benchmark.agent import Agent, Policy
from offlinemeta.benchmark.context import Context, empty_context, join_contexts, logged_contexts, logged_rollouts
from offlinemeta.benchmark.errors import AgentError
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS, REPEATS, Benchmark, Protocol
from offlinemeta.datasets.collect import in_batches
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs import Task, TaskVectorEnv, get_family
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.shapes import Array, Float, Int


def evaluate(
    agent: Agent,
    benchmark: Benchmark,
    seed: int = 0,
    repeats: int = REPEATS,
    dataset: Dataset | None = None,
    progress: Callable[[int], None] = lambda steps: None,
) -> Float[Array, "tasks episodes"]:
    """Run a benchmark's protocol on all its tasks.

    Args:
        agent: any agent; it is given contexts, never the task (but see :class:`~offlinemeta.benchmark.agent.Agent`).
        benchmark: which family and protocol.
        seed: decides the resets, which logged transitions are context, and the agent's own randomness where it has
            ``seed(seed)``.
        repeats: how often each task is played, independently; the returns are averaged.
        dataset: what was logged in these tasks, for the protocols with logged context.
        progress: is called with the number of env steps that were made.

    Returns:
        Mean return on each task of the first episode of each rollout.

    Raises:
        AgentError: the agent raised, answered with a wrong shape or NaN, or wrote into its input.
        ArgumentError: the protocol has logged context, and the dataset is missing or of other tasks.
    """
    family, protocol = get_family(benchmark.family), benchmark.protocol
    tasks = family.tasks[protocol.split]
    plan = [task for task in tasks for _ in range(repeats)]
    if protocol.offline and (dataset is None or not set(tasks) <= set(dataset.tasks)):
        found, needed = "none" if dataset is None else dataset.spec.id, benchmark.dataset
        raise ArgumentError(f"{benchmark.name} needs what was logged in its tasks, {needed}; it was given {found}.")
    seed_agent(agent, seed)
    returns = np.empty((len(plan), protocol.episodes))
    for part, envs in in_batches(family, len(plan)):
        rng = np.random.default_rng([seed, part.start])
        contexts = [empty_context(family)] * envs.num_envs
        if protocol.logged and dataset is not None:
            contexts = _logged(protocol, dataset, plan[part], rng)
        for k in range(protocol.episodes):
            last = k == protocol.episodes - 1  # of whose rollout nobody sees the rest
            seen, contexts = own_rollout(agent, envs, plan[part], contexts, rng, progress, whole=not last)
            returns[part, k] = [context.rewards.sum(dtype=np.float64) for context in seen]
    return returns.reshape(len(tasks), repeats, -1).mean(1)


def _logged(protocol: Protocol, dataset: Dataset, tasks: Sequence[Task], rng: np.random.Generator) -> list[Context]:
    if protocol.logged == "rollouts":
        return logged_rollouts(dataset, tasks, OFFLINE_ROLLOUTS, rng)
    return logged_contexts(dataset, tasks, [OFFLINE_ROLLOUTS * dataset.family.horizon] * len(tasks), rng)


Watch = Callable[[Mapping[str, Any], Array], None]
"""Is called with the infos of a step, which the agent does not see, and with whether each task was played ``[N]``."""


def own_rollout(
    agent: Agent,
    envs: TaskVectorEnv,
    tasks: Sequence[Task],
    contexts: Sequence[Context],
    rng: np.random.Generator,
    progress: Callable[[int], None] = lambda steps: None,
    watch: Watch = lambda infos, played: None,
    whole: bool = True,
) -> tuple[list[Context], list[Context]]:
    """Let an agent play a rollout in each of N tasks: episodes, until it has ``horizon`` steps.

    The agent adapts before each episode to what it has seen of the task. Where an episode terminates, another begins,
    and the last one is cut. So contexts have the same size whether an agent falls or not. (The SMAC study collects so
    in training; its meta-test explores for two episodes, however short.)

    Args:
        agent: the agent.
        envs: a batch of N environments without autoreset.
        tasks: the N tasks.
        contexts: what the agent has seen of each task.
        rng: seeds the resets.
        progress: is called with the number of env steps that were made.
        watch: is called after every step.
        whole: whether the rollout goes on after its first episode.

    Returns:
        The first episode of each rollout, which is whole, and the contexts with the rollouts added.

    Raises:
        AgentError: the agent breaks its contract.
    """
    first: list[Context] = []
    joined, left = list(contexts), np.full(envs.num_envs, envs.family.horizon)
    while (left > 0).any():
        policy = adapt(agent, joined, tasks)
        seen = run_episode(envs, tasks, policy, rng.integers(2**31, size=envs.num_envs), left, progress, watch)
        joined = [join_contexts(pair) for pair in zip(joined, seen, strict=True)]
        left = left - [len(episode) for episode in seen]
        first = first or seen
        if not whole:
            break
    return first, joined


def seed_agent(agent: Agent, seed: int) -> None:
    """Call ``agent.seed`` where the agent has it.

    Raises:
        AgentError: it raised.
    """
    try:
        if hasattr(agent, "seed"):
            agent.seed(seed)
    except Exception as error:
        raise AgentError(_blame(agent, "seed", error)) from error


def adapt(agent: Agent, contexts: Sequence[Context], tasks: Sequence[Task]) -> Policy:
    """Call ``agent.adapt``; tell the tasks to an agent that asks for them.

    Raises:
        AgentError: the agent raised an error, or what it returned cannot act.
    """
    try:
        if hasattr(agent, "tell"):
            agent.tell(list(tasks))
        policy = agent.adapt(list(contexts))
    except Exception as error:
        raise AgentError(_blame(agent, "adapt", error)) from error
    if not isinstance(policy, Policy):
        raise AgentError(f"{_name(agent)}.adapt returned a {type(policy).__name__}, which has no act(observations).")
    return policy


def run_episode(
    envs: TaskVectorEnv,
    tasks: Sequence[Task],
    policy: Policy,
    seeds: Array,
    limits: Int[Array, " N"],
    progress: Callable[[int], None],
    watch: Watch,
) -> list[Context]:
    """Run one episode in N tasks at once, each to its end or its limit.

    Args:
        envs: a batch of N environments without autoreset.
        tasks: the task of each environment.
        policy: acts in the N tasks.
        seeds: ``[N]`` seeds of the resets.
        limits: the most steps of each episode, ``[N]``; with 0, a task is not played.
        progress: is called with the number of env steps that were made.
        watch: is called after every step.

    Raises:
        AgentError: the policy raised, or its actions have a wrong shape, or are not finite.
    """
    family, count = envs.family, len(tasks)
    horizon, observe = family.horizon, getattr(policy, "observe", None)
    before, after = np.empty((2, horizon, count, family.observation_space.shape[0]), dtype=np.float32)
    acted = np.empty((horizon, count, family.action_space.shape[0]), dtype=np.float32)
    rewarded, ended = np.empty((horizon, count), dtype=np.float32), np.zeros((horizon, count), dtype=bool)
    lengths, running = limits.copy(), limits > 0
    shown, _ = envs.reset(seed=seeds, options={"task": list(tasks)})
    for t in range(horizon):
        before[t] = shown
        actions = _act(policy, before[t], acted.shape[1:])
        acted[t] = np.clip(actions, -1, 1)
        observations, rewarded[t], ended[t], truncated, infos = envs.step(acted[t])
        watch(infos, running)
        over = ended[t] | truncated | (t + 1 >= limits)
        after[t] = np.where(running[:, None], observations, before[t])
        rewarded[t] *= running
        progress(int(running.sum()))
        lengths[running & over] = t + 1
        running &= ~over
        if observe is not None:
            try:
                observe(*(read_only(x) for x in (before[t], acted[t], rewarded[t], after[t], ~running)))
            except Exception as error:
                raise AgentError(_blame(policy, "observe", error)) from error
        if not running.any():
            break
        if (idle := ended[t] | truncated).any():  # the batch goes on; what is over runs idly, and nobody sees it
            observations, _ = envs.reset(options={"reset_mask": idle})
        shown = np.where(running[:, None], observations, after[t])  # what is over stands still
    return [
        Context(
            observations=before[: lengths[i], i].copy(),
            actions=acted[: lengths[i], i].copy(),
            rewards=rewarded[: lengths[i], i].copy(),
            next_observations=after[: lengths[i], i].copy(),
            terminations=ended[: lengths[i], i].copy(),
            lengths=lengths[i : i + 1][lengths[i : i + 1] > 0],
        )
        for i in range(count)
    ]


def read_only(array: Array) -> Array:
    """Return a view that cannot be written."""
    view = array.view()
    view.flags.writeable = False
    return view


def _act(policy: Policy, observations: Array, shape: tuple[int, ...]) -> Array:
    try:
        actions = np.asarray(policy.act(read_only(observations)), dtype=np.float32)
    except Exception as error:
        raise AgentError(_blame(policy, "act", error)) from error
    if actions.shape != shape:
        raise AgentError(f"{_name(policy)}.act returned an array of shape {actions.shape}; expected {shape}.")
    if not np.isfinite(actions).all():
        where = np.flatnonzero(~np.isfinite(actions).all(1)).tolist()
        raise AgentError(f"{_name(policy)}.act returned NaN or infinite actions for rows {where[:10]}.")
    return actions


def _name(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _blame(thing: Any, method: str, error: Exception) -> str:
    if isinstance(error, ValueError) and "read-only" in str(error):
        return f"{_name(thing)}.{method} writes into its input, which is not its own. Copy it first."
    frames = inspect.trace()
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{_name(thing)}.{method} raised {type(error).__name__}: {error}{place}"
