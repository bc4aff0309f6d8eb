"""Protocols say which tasks are played, with what context, for how many episodes.

A family, a quality of data and a protocol make a benchmark, named as ``AntDir/smac/online-10``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from offlinemeta.datasets.spec import QUALITIES, get_spec
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import ArgumentError, UnknownNameError

REPEATS = 3
"""How often a protocol is run on each task, independently; the returns are averaged."""

OFFLINE_ROLLOUTS = 2
"""How many rollouts, or how many rollouts' worth of transitions, a logged context has: as many as the study's two
exploratory trajectories."""

PROTOCOLS = {
    "online-K": "K episodes on each test task; before each, the agent adapts to all that it has collected. Where "
    "an episode terminates early, more follow until as many steps as the horizon are collected; the first one counts",
    "offline-context": "one episode on each test task, after adapting to as many logged transitions of it as two "
    "episodes have",
    "offline-episodes": "one episode on each test task, after adapting to two whole logged rollouts of it, in random "
    "order",
    "offline-context-QUALITY": "the same with logged data of another quality, such as expert, so of other behaviour "
    "policies than those of the training data; also offline-episodes-QUALITY",
    "zero-shot": "one episode on each test task, without context",
    "ood": "online-10 on the tasks outside of the training distribution",
    "train-*": "any of these except ood, on training tasks: for choosing settings, since test tasks are for results "
    "alone",
    "val-*": "the same on validation tasks, which are fresh tasks of the training distribution: for choosing settings",
    "test100-*": "the same on further test tasks, a hundred in most families, since the published ones are few",
}

PREFIXES = ("train", "val", "test100")
"""The splits that a protocol's name may begin with; without one, it is about test or ood tasks."""


@dataclass(frozen=True)
class Protocol:
    """What is done with an agent on each task.

    Attributes:
        name: the protocol's name, such as ``online-10``.
        split: which tasks are played, one of :data:`offlinemeta.envs.SPLITS`.
        episodes: how many episodes count on each task: each is the first one of a rollout of ``horizon`` steps, which
            has more of them where episodes terminate (:func:`offlinemeta.benchmark.runner.own_rollout`).
        logged: what of the logged data is the context: ``segments`` of all rollouts, or whole ``rollouts``. Empty where
            the agent collects its context by itself.
        source: quality of the data that are logged; by default, that of the benchmark.
    """

    name: str
    split: str
    episodes: int
    logged: Literal["", "segments", "rollouts"] = ""
    source: str = ""

    @property
    def kind(self) -> str:
        """What is done, whatever the tasks: the name without its split, and ``online-10`` in place of ``ood``."""
        return "online-10" if self.split == "ood" else self.name.removeprefix(f"{self.split}-")

    @property
    def offline(self) -> bool:
        """Whether the context is logged, in place of self-collected."""
        return bool(self.logged)


def get_protocol(name: str) -> Protocol:
    """Return a protocol by name.

    Raises:
        UnknownNameError: there is no such protocol.
    """
    prefix, _, rest = name.partition("-")
    protocol = _on_its_own_tasks(rest if prefix in PREFIXES else name)
    if protocol is None or (prefix in PREFIXES and protocol.split != "test"):
        raise UnknownNameError("Protocol", name, PROTOCOLS)
    return replace(protocol, name=name, split=prefix) if prefix in PREFIXES else protocol


def _on_its_own_tasks(name: str) -> Protocol | None:
    """Return a protocol on test or ood tasks, if there is one of that name."""
    if online := re.fullmatch(r"online-([1-9]\d{0,3})", name):
        return Protocol(name, "test", int(online[1]))
    if logged := re.fullmatch(r"offline-(context|episodes)-(.+)", name):
        if logged[2] not in QUALITIES:
            raise UnknownNameError("Quality", logged[2], QUALITIES)
        return Protocol(name, "test", 1, logged="segments" if logged[1] == "context" else "rollouts", source=logged[2])
    known = {
        "zero-shot": Protocol("zero-shot", "test", 1),
        "offline-context": Protocol("offline-context", "test", 1, logged="segments"),
        "offline-episodes": Protocol("offline-episodes", "test", 1, logged="rollouts"),
        "ood": Protocol("ood", "ood", 10),
    }
    return known.get(name)


@dataclass(frozen=True)
class Benchmark:
    """What a score is about: the family, the quality of the data it was trained on, the protocol."""

    family: str
    quality: str
    protocol: Protocol

    @property
    def name(self) -> str:
        """The benchmark's name, such as ``AntDir/smac/online-10``."""
        return f"{self.family}/{self.quality}/{self.protocol.name}"

    @property
    def dataset(self) -> str:
        """The dataset over the tasks of the protocol, such as ``AntDir/smac-heldout``."""
        spec = get_spec(f"{self.family}/{self.protocol.source or self.quality}")
        return (spec if self.protocol.split == "train" else spec.heldout_sibling).short


@cache
def get_benchmark(name: str) -> Benchmark:
    """Return a benchmark by name, ``family/quality/protocol``.

    Raises:
        UnknownNameError: one of the three does not exist.
        ArgumentError: the name has not three parts, or the family has no such tasks.
    """
    parts = name.split("/")
    if len(parts) != 3:
        raise ArgumentError(f"A benchmark is family/quality/protocol, such as AntDir/smac/online-10; not {name!r}.")
    family, protocol = get_family(parts[0]), get_protocol(parts[2])
    if parts[1] not in QUALITIES:
        raise UnknownNameError("Quality", parts[1], QUALITIES)
    for quality in (parts[1], protocol.source or parts[1]):
        get_spec(f"{family.name}/{quality}")
    if not family.tasks[protocol.split]:
        raise ArgumentError(f"{family.name} has no {protocol.split} tasks, so there is no {name}.")
    return Benchmark(family.name, parts[1], protocol)
