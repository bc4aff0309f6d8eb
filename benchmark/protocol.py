"""Protocols: which tasks, what context, how many episodes. ``AntDir/smac/online-10`` names a benchmark."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from offlinemeta.datasets.spec import QUALITIES, get_spec
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import ArgumentError, UnknownNameError

REPEATS = 3
"""Independent runs of a protocol on each task; their returns are averaged."""

OFFLINE_ROLLOUTS = 2
"""Rollouts' worth of transitions in an offline context: as many as the study's two exploratory trajectories."""

PROTOCOLS = {
    "online-K": "K episodes on each test task, each adapted on those before it, collected by the agent itself",
    "offline-context": "one episode on each test task, adapted on logged transitions of it, as many as two episodes",
    "zero-shot": "one episode on each test task, without context",
    "ood": "online-10 on the tasks outside of the training distribution",
    "train-*": "one of the first three on the training tasks: to choose by, since the test tasks are for results alone",
}


@dataclass(frozen=True)
class Protocol:
    """What is done with an agent on each held-out task.

    Attributes:
        name: such as ``online-10``.
        split: the tasks: ``test``, ``ood`` or ``train``.
        episodes: on each task.
        offline: whether the context is logged, in place of self-collected.
    """

    name: str
    split: str
    episodes: int
    offline: bool = False


def get_protocol(name: str) -> Protocol:
    """Return a protocol by name.

    Raises:
        UnknownNameError: there is none.
    """
    if name.startswith("train-") and name != "train-ood":
        return replace(get_protocol(name.removeprefix("train-")), name=name, split="train")
    if online := re.fullmatch(r"online-([1-9]\d{0,3})", name):
        return Protocol(name, "test", int(online[1]))
    known = {
        "zero-shot": Protocol("zero-shot", "test", 1),
        "offline-context": Protocol("offline-context", "test", 1, offline=True),
        "ood": Protocol("ood", "ood", 10),
    }
    if name not in known:
        raise UnknownNameError("Protocol", name, PROTOCOLS)
    return known[name]


@dataclass(frozen=True)
class Benchmark:
    """What a score is about: the family, the quality of the data it was trained on, the protocol."""

    family: str
    quality: str
    protocol: Protocol

    @property
    def name(self) -> str:
        """Such as ``AntDir/smac/online-10``."""
        return f"{self.family}/{self.quality}/{self.protocol.name}"

    @property
    def dataset(self) -> str:
        """The dataset over the tasks of the protocol, such as ``AntDir/smac-heldout``."""
        spec = get_spec(f"{self.family}/{self.quality}")
        return (spec if self.protocol.split == "train" else spec.heldout_sibling).short


def get_benchmark(name: str) -> Benchmark:
    """Return a benchmark by name, ``family/quality/protocol``.

    Raises:
        UnknownNameError: one of the three does not exist.
        ArgumentError: not three of them, or the family has no such tasks.
    """
    parts = name.split("/")
    if len(parts) != 3:
        raise ArgumentError(f"A benchmark is family/quality/protocol, such as AntDir/smac/online-10; not {name!r}.")
    family, protocol = get_family(parts[0]), get_protocol(parts[2])
    if parts[1] not in QUALITIES:
        raise UnknownNameError("Quality", parts[1], QUALITIES)
    get_spec(f"{family.name}/{parts[1]}")
    if not family.tasks[protocol.split]:
        raise ArgumentError(f"{family.name} has no {protocol.split} tasks, so there is no {name}.")
    return Benchmark(family.name, parts[1], protocol)
