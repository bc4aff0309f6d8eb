"""The behaviour policies of each family, from random to expert: checkpoints of a training, or a noisy script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from offlinemeta.datasets.behaviour import CHECKPOINTS, BehaviourPolicy, load_checkpoints, on_grid
from offlinemeta.datasets.dataset import RANDOM, Dataset
from offlinemeta.datasets.scripted import JITTER, NOISE, SCRIPTED, with_noise
from offlinemeta.envs import TaskFamily
from offlinemeta.envs.errors import UnknownNameError
from offlinemeta.envs.shapes import Array, Float, Float32

Act = Callable[[Float32[Array, "N O"], Float[Array, "N P"], np.random.Generator | None], Float[Array, "N A"]]
"""Maps observations and task parameters to actions: drawn with the generator, or the mean ones without."""


@dataclass(frozen=True)
class Behaviour:
    """A behaviour policy.

    Attributes:
        name: says how good it is: steps of training, or share of noise.
        policy: maps observations and task parameters to actions, which need not lie on the grid.
    """

    name: str
    policy: Act

    def act(
        self, observations: Float32[Array, "N O"], params: Float[Array, "N P"], rng: np.random.Generator | None
    ) -> Float32[Array, "N A"]:
        """Return actions on the grid: drawn with the generator, or the mean ones without."""
        return on_grid(self.policy(observations, params, rng))


def uniform(family: TaskFamily) -> Behaviour:
    """Return the policy of uniformly random actions."""
    size = family.action_space.shape[0]

    def policy(observations: Array, params: Array, rng: np.random.Generator | None) -> Array:
        assert rng is not None, "the random policy needs a generator"
        return rng.uniform(-1, 1, (len(observations), size))

    return Behaviour(RANDOM, policy)


def behaviours(family: TaskFamily) -> tuple[Behaviour, ...]:
    """Return a family's behaviour policies, from random to expert.

    Raises:
        UnknownNameError: the family has none.
    """
    if (CHECKPOINTS / f"{family.name}.safetensors").exists():
        return _checkpoints(family, family.name, act_told)
    if family.name not in NOISE:
        known = {*NOISE, *(path.stem for path in CHECKPOINTS.glob("*.safetensors"))}
        raise UnknownNameError("Behaviour policy of family", family.name, sorted(known))
    script, jitter = SCRIPTED[family.name], JITTER.get(family.name, 0.0)
    return tuple(
        Behaviour(f"noise {noise:.0%}", partial(with_noise, script, noise, jitter)) for noise in NOISE[family.name]
    )


def blind_expert(family: TaskFamily) -> Behaviour | None:
    """Return the expert that was trained without its task, if the family ships one."""
    name = f"{family.name}-blind"
    return _checkpoints(family, name, act_blind)[-1] if (CHECKPOINTS / f"{name}.safetensors").exists() else None


def _checkpoints(family: TaskFamily, name: str, act: Callable[..., Array]) -> tuple[Behaviour, ...]:
    policies, metadata = load_checkpoints(name)
    names = [f"{row['steps'] / 1e6:.2f}M steps" for row in metadata["checkpoints"]]
    return tuple(Behaviour(name, partial(act, family, policy)) for name, policy in zip(names, policies, strict=True))


def act_told(
    family: TaskFamily, policy: BehaviourPolicy, observations: Array, params: Array, rng: np.random.Generator | None
) -> Float[Array, "N A"]:
    """Return the actions of a policy that was trained with its task."""
    actions = policy.act(np.concatenate([observations, family.encode(params)], axis=1), rng)
    return family.told_actions(actions, params)


def act_blind(
    family: TaskFamily, policy: BehaviourPolicy, observations: Array, params: Array, rng: np.random.Generator | None
) -> Float[Array, "N A"]:
    """Return the actions of a policy that was trained without its task (``train_behaviour --blind``)."""
    return policy.act(np.concatenate([observations, 0 * family.encode(params)], axis=1), rng)


def expert_actions(dataset: Dataset) -> Float32[Array, "S A"]:
    """Return what the family's expert, told each episode's task, would do in every logged state: its mean action.

    They are what methods learn from that imitate an optimal policy in context (Lee et al., 2023, Decision-Pretrained
    Transformer, arXiv 2306.14892). They are computed on demand; no dataset stores them.

    Args:
        dataset: a dataset as :func:`offlinemeta.datasets.load` returns it.

    Returns:
        ``[S, A]``, a row for each row of ``dataset.actions``.

    Raises:
        UnknownNameError: the family has no expert.
    """
    expert, params = behaviours(dataset.family)[-1], dataset.family.params(dataset.tasks)
    episode = np.repeat(np.arange(len(dataset)), dataset.lengths)  # [S]
    states = np.asarray(dataset.observations)[np.arange(len(episode)) + episode]  # an episode has one more than steps
    told = params[dataset.task[episode]]
    parts = range(0, len(states), ROWS)
    return np.concatenate([expert.act(states[i : i + ROWS], told[i : i + ROWS], None) for i in parts])


ROWS = 20_000
"""How many states :func:`expert_actions` shows to the expert at once."""
