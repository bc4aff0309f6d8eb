"""The contract between a method and the harness: ``agent.adapt(contexts) -> policy``, for N tasks at once.

Any class is evaluated that keeps it, named as ``module:Class`` and called as ``Class(family, checkpoint)``. Context
inference, gradient adaptation and in-context methods all fit behind it; a minimal one:

>>> class Sticky:
...     def __init__(self, family, checkpoint):
...         self.size = family.action_space.shape[0]
...
...     def adapt(self, contexts):
...         actions = np.zeros((len(contexts), self.size))
...         for i, context in enumerate(contexts):
...             if len(context.lengths):  # act as in the best step so far
...                 actions[i] = context.actions[context.rewards.argmax()]
...         return Constant(actions)
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from offlinemeta.benchmark.context import Context
from offlinemeta.benchmark.errors import AgentError
from offlinemeta.datasets.policies import behaviours
from offlinemeta.envs import Task, TaskFamily
from offlinemeta.envs.errors import ArgumentError, MissingExtraError, OfflineMetaError
from offlinemeta.envs.shapes import Array, Float, Float32


@runtime_checkable
class Policy(Protocol):
    """Acts in N tasks at once, for one episode in each.

    A policy that learns inside an episode has ``observe(observations, actions, rewards, next_observations, over)`` too,
    which is called after every step. ``over [N]`` tells which episodes have ended, at this step or before; those stand
    still, with reward 0, until all have ended.
    """

    def act(self, observations: Float32[Array, "N O"]) -> Float[Array, "N A"]:
        """Return an action for each task, in [-1, 1]; values beyond are clipped."""


@runtime_checkable
class Agent(Protocol):
    """Adapts to N tasks at once.

    An agent that is meant to see the task also has ``tell(tasks)``, which is called before ``adapt``; its results are
    marked with ``sees_task``. An agent with randomness of its own also has ``seed(seed)``, which is called once before
    an evaluation, with the evaluation's seed.
    """

    def adapt(self, contexts: Sequence[Context]) -> Policy:
        """Return a policy for the N tasks of the contexts, in their order; empty contexts give the prior policy.

        It must not change the agent: the same contexts give the same policy, up to the agent's own randomness.
        """


@dataclass
class FunctionPolicy:
    """A policy that calls a function of the observations.

    Attributes:
        function: takes observations ``[N, O]`` and returns actions ``[N, A]``.
    """

    function: Any

    def act(self, observations: Float32[Array, "N O"]) -> Any:
        """Call the function."""
        return self.function(observations)


class RandomAgent:
    """Acts uniformly at random, whatever it has seen."""

    def __init__(self, family: TaskFamily, checkpoint: Path | None = None) -> None:
        self._size = family.action_space.shape[0]
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Seed the actions."""
        self._rng = np.random.default_rng(seed)

    def adapt(self, contexts: Sequence[Context]) -> Policy:
        """Return the random policy, whatever the contexts."""
        return FunctionPolicy(lambda observations: self._rng.uniform(-1, 1, (len(observations), self._size)))


class ExpertAgent:
    """Acts by the best behaviour policy, which is told the task; its returns are the 100 of normalised scores."""

    def __init__(self, family: TaskFamily, checkpoint: Path | None = None) -> None:
        self._family, self._expert = family, behaviours(family)[-1]

    def tell(self, tasks: Sequence[Task]) -> None:
        """Take note of the tasks that the next contexts are of."""
        self._params = self._family.params(tasks)

    def adapt(self, contexts: Sequence[Context]) -> Policy:
        """Return the expert's policy for the tasks that were told, whatever the contexts."""
        params = self._params
        return FunctionPolicy(lambda observations: self._expert.act(observations, params, None))


BUILTIN = {
    "random": "offlinemeta.benchmark.agent:RandomAgent",
    "expert": "offlinemeta.benchmark.agent:ExpertAgent",
    "checkpoint": "offlinemeta.baselines.training.checkpoint:load_agent",
    "pearl-online": "offlinemeta.baselines.training.stages:load_agent",
}
"""Agents that come with the package, by short name; ``checkpoint`` is whatever a file of ours holds, ``pearl-online``
the last stage of online PEARL, by default as it ships."""


def load_agent(name: str, family: TaskFamily, checkpoint: Path | None = None) -> Agent:
    """Make the agent that a string names: ``module:Class``, called as ``Class(family, checkpoint)``.

    Args:
        name: ``module:Class``, or a key of :data:`BUILTIN`. Modules in the working directory are found.
        family: the task family that the agent is evaluated on.
        checkpoint: a file for the agent; what is in it is the agent's own business.

    Raises:
        ArgumentError: there is no such module or class, or the module cannot be imported.
        AgentError: the class raised an error, or its instance has no ``adapt``.
    """
    module, _, attribute = BUILTIN.get(name, name).partition(":")
    if not attribute:
        raise ArgumentError(f"An agent is named as module:Class, or {', '.join(BUILTIN)}; not {name!r}.")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module in the working directory is the usual case
    try:
        make = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if module.startswith("offlinemeta.baselines") and error.name == "torch":
            raise MissingExtraError("baselines", "This agent") from error
        raise ArgumentError(f"The module of agent {name!r} cannot be imported: {error}.") from error
    except AttributeError as error:
        raise ArgumentError(f"The module of agent {name!r} has no {attribute!r}.") from error
    except Exception as error:
        raise ArgumentError(f"The module of agent {name!r} cannot be imported: {error}.") from error
    try:
        agent = make(family, checkpoint)
    except OfflineMetaError:
        raise
    except Exception as error:
        raise AgentError(f"{name}(family, checkpoint) raised {type(error).__name__}: {error}") from error
    if not isinstance(agent, Agent):
        raise AgentError(f"{name} made a {type(agent).__name__}, which has no adapt(contexts).")
    return agent
