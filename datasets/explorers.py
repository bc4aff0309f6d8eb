"""Explorers visit a task as a meta-RL agent does: rollouts that explore, then rollouts that use what those found.

The study's data are slices of an online PEARL run, half of whose rollouts explore: they do not follow their own task.
A :class:`Stage` is such an agent, taken from ``datasets/online/<family>.safetensors``, where the stages of a run ship
(``baselines/training/stages.py`` makes the file). Where online PEARL does not get far enough, a
:class:`PosteriorSampler` stands in for it: a policy that is told a task, and explores by being told tasks at random.
The study's manipulation data were made by a :class:`Wanderer`, which does one thing after the other whatever the task.

Stages act in numpy's float64 and on a grid, as behaviour policies do, so that every machine collects the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from offlinemeta.datasets.behaviour import on_grid
from offlinemeta.datasets.dataset import EXPLOITING, TOLD, Episode
from offlinemeta.datasets.manipulation import RandomBehaviour
from offlinemeta.datasets.policies import Act, Behaviour
from offlinemeta.datasets.scripted import JITTER
from offlinemeta.datasets.spec import ONLINE
from offlinemeta.envs import Task, TaskFamily
from offlinemeta.envs.shapes import Array, Float
from offlinemeta.files import read_tensors

Visit = Sequence[Episode]
"""What was seen of one task so far, in order."""

Layers = tuple[tuple[Array, Array], ...]
"""``(W, b)`` of each layer of an MLP."""

LOG_STD = (-20.0, 2.0)
LEAST_VARIANCE = 1e-7


@runtime_checkable
class Explorer(Protocol):
    """An agent that explores a task, and then uses what it found."""

    @property
    def name(self) -> str:
        """What the agent is."""

    @property
    def exploits(self) -> str | None:
        """The end of the name of its behaviour after exploring; None where all it does is explore."""

    def explore(self, tasks: Sequence[Task]) -> Act:
        """Return the policy of exploring rollouts in N tasks."""

    def exploit(self, tasks: Sequence[Task], visits: Sequence[Visit], rng: np.random.Generator) -> Act:
        """Return the policy of rollouts in N tasks that use what the visits have shown; ``rng`` breaks ties."""


@dataclass(frozen=True)
class Stage:
    """The agent of one stage of an online PEARL run (Rakelly et al., 2019), as the study collected data with it.

    z is drawn anew at every step: from N(0, I) while exploring, from q(z|c) of the visit so far afterwards (the study's
    code; PEARL holds z for an episode). Actions are samples.

    Attributes:
        name: says how long it was trained.
        mean, scale: ``[O]`` normalisation of the observations.
        encoder, actor: ``(W, b)`` of each layer, ``W`` ``[in, out]``; hidden layers are ReLU.
        next_observations: whether the encoder reads s'.
    """

    name: str
    mean: Float[Array, " O"]
    scale: Float[Array, " O"]
    encoder: Layers
    actor: Layers
    next_observations: bool

    @property
    def exploits(self) -> str:
        """The end of the name of its behaviour after exploring."""
        return EXPLOITING

    @property
    def latent(self) -> int:
        """Size of z."""
        return len(self.encoder[-1][1]) // 2

    def explore(self, tasks: Sequence[Task]) -> Act:
        """Return the policy with z ~ N(0, I)."""
        return self._policy(np.zeros((len(tasks), self.latent)), np.ones((len(tasks), self.latent)))

    def exploit(self, tasks: Sequence[Task], visits: Sequence[Visit], rng: np.random.Generator) -> Act:
        """Return the policy with z ~ q(z|c), c all transitions of the visit so far."""
        mean, variance = (np.array(moments) for moments in zip(*map(self.infer, visits), strict=True))
        return self._policy(mean, np.sqrt(variance))

    def infer(self, visit: Visit) -> tuple[Float[Array, " Z"], Float[Array, " Z"]]:
        """Return mean and variance of q(z|c): the product of a Gaussian factor for each transition."""
        good = np.concatenate([episode.infos["diverged"] == 0 for episode in visit])  # a charge is no step's reward
        columns = [
            self._normalise(np.concatenate([episode.observations[:-1] for episode in visit])),
            np.concatenate([episode.actions for episode in visit]),
            np.concatenate([episode.rewards for episode in visit])[:, None],
        ]
        if self.next_observations:
            columns.append(self._normalise(np.concatenate([episode.observations[1:] for episode in visit])))
        read = np.concatenate(columns, axis=1, dtype=np.float64)[good]
        mean, raw = np.split(evaluate(self.encoder, read), 2, axis=1)
        precision = 1 / np.maximum(np.logaddexp(0, raw), LEAST_VARIANCE)  # [transition, Z]
        variance = 1 / precision.sum(0)
        return variance * (mean * precision).sum(0), variance

    def _policy(self, mean: Float[Array, "N Z"], std: Float[Array, "N Z"]) -> Act:
        def act(observations: Array, params: Array, rng: np.random.Generator | None) -> Array:
            assert rng is not None, "a stage draws z and actions"
            z = mean + std * rng.standard_normal(mean.shape)
            x = np.concatenate([self._normalise(observations), z], axis=1)
            u, log_std = np.split(evaluate(self.actor, x), 2, axis=1)
            return on_grid(np.tanh(u + np.exp(np.clip(log_std, *LOG_STD)) * rng.standard_normal(u.shape)))

        return act

    def _normalise(self, observations: Array) -> Array:
        return (np.asarray(observations, dtype=np.float64) - self.mean) / self.scale


def evaluate(layers: Layers, x: Float[Array, "N in"]) -> Float[Array, "N out"]:
    """Evaluate an MLP with ReLU."""
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ weight + bias, 0)
    return x @ layers[-1][0] + layers[-1][1]


@dataclass(frozen=True)
class PosteriorSampler:
    """Posterior sampling over a policy that is told a task.

    While exploring, the policy is told a training task that is drawn anew at every step. Afterwards it is told the
    training task whose rewards agree best with those of the visit so far; ties are broken at random. Where rewards do
    not tell tasks apart (:attr:`TaskFamily.rewards_tell`), it is told the task itself.

    Attributes:
        family: the family.
        behaviour: the policy.
    """

    family: TaskFamily
    behaviour: Behaviour

    @property
    def name(self) -> str:
        """Which policy is told tasks."""
        return f"{self.behaviour.name}, posterior sampling"

    @property
    def exploits(self) -> str:
        """The end of the name of its behaviour after exploring."""
        return EXPLOITING if self.family.rewards_tell else TOLD

    def explore(self, tasks: Sequence[Task]) -> Act:
        """Return the policy that is told a training task drawn anew at every step."""
        prior = self.family.params(self.family.tasks["train"])

        def act(observations: Array, params: Array, rng: np.random.Generator | None) -> Array:
            assert rng is not None, "posterior sampling draws tasks"
            return self.behaviour.act(observations, prior[rng.integers(len(prior), size=len(observations))], rng)

        return act

    def exploit(self, tasks: Sequence[Task], visits: Sequence[Visit], rng: np.random.Generator) -> Act:
        """Return the policy that is told the most likely training tasks."""
        likely = list(tasks)
        if self.family.rewards_tell:
            likely = [self.infer(visit, rng) for visit in visits]
        told = self.family.params(likely)

        def act(observations: Array, params: Array, rng: np.random.Generator | None) -> Array:
            return self.behaviour.act(observations, told, rng)

        return act

    def infer(self, visit: Visit, rng: np.random.Generator) -> Task:
        """Return the training task with the least squared difference of rewards; one of them, where several have it."""
        train = self.family.tasks["train"]
        good = np.concatenate([episode.infos["diverged"] == 0 for episode in visit])  # a charge is no step's reward
        features = np.concatenate([episode.infos["features"] for episode in visit])[good].astype(np.float64)
        rewards = np.concatenate([episode.rewards for episode in visit])[good]
        differences = self.family.reward(features[:, None], self.family.params(train)[None]) - rewards[:, None]
        error = (differences**2).mean(0)  # [task]
        return train[rng.choice(np.flatnonzero(error <= error.min() + TIE))]


@dataclass(frozen=True)
class Wanderer:
    """Random behaviour in SawyerScene, whatever the aim (:class:`RandomBehaviour`), with Gaussian noise.

    Attributes:
        family: the family.
    """

    family: TaskFamily
    name: str = "random behaviour"
    exploits: None = None

    def explore(self, tasks: Sequence[Task]) -> Act:
        """Return the policy of a rollout in N tasks."""
        return RandomBehaviour(self.family.params(tasks), JITTER[self.family.name])

    def exploit(self, tasks: Sequence[Task], visits: Sequence[Visit], rng: np.random.Generator) -> Act:
        """Explore again: random behaviour makes no use of what was seen."""
        return self.explore(tasks)


TIE = 1e-9
"""Difference of mean squared errors [reward²] up to which tasks are equally likely; rewards are kept in float32."""


def has_stages(family: str) -> bool:
    """Tell whether the stages of an online training ship for a family."""
    return (ONLINE / f"{family}.safetensors").exists()


def training_of(family: str) -> dict[str, Any]:
    """Return what the file of a family's stages says of their training: command, learning curve, returns.

    Raises:
        FileError: there is no such file, or it is damaged.
    """
    return read_tensors(ONLINE / f"{family}.safetensors", "numpy")[1]


def best_of_training(family: str) -> float:
    """Return the best mean return over training tasks that the online training saw in a third episode.

    There, z is held for an episode, and actions are means; the data are collected with neither.
    """
    return max(row["curve"][-1] for row in training_of(family)["curve"])


def stages(family: TaskFamily) -> tuple[Stage, ...]:
    """Return the stages of a family's online training, in order.

    Raises:
        FileError: there is no such file, or it is damaged.
    """
    tensors, about = read_tensors(ONLINE / f"{family.name}.safetensors", "numpy")
    reads_next = about["config"]["next_observations"] or family.varies == "dynamics"
    return tuple(_stage(tensors, i, row["step"], reads_next) for i, row in enumerate(about["stages"]))


def _stage(tensors: Mapping[str, Any], place: int, steps: int, next_observations: bool) -> Stage:
    exact = {name: array.astype(np.float64) for name, array in tensors.items() if name.startswith(f"{place:02}.")}

    def layers(net: str) -> Layers:
        prefix = f"{place:02}.{net}.net"
        count = sum(name.startswith(f"{prefix}.weights.") for name in exact)
        return tuple((exact[f"{prefix}.weights.{i}"][0], exact[f"{prefix}.biases.{i}"][0, 0]) for i in range(count))

    mean, scale = (exact[f"{place:02}.normaliser.{moment}"] for moment in ("mean", "scale"))
    name = f"PEARL, {steps / 1000:g}k steps"
    return Stage(name, mean, scale, layers("encoder"), layers("actor"), next_observations)
