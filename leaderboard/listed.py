"""The methods that are listed, as far as a submission must not resemble them: their names, and what they played."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import eq
from pathlib import Path
from typing import NamedTuple

from offlinemeta.benchmark.errors import ResultError
from offlinemeta.benchmark.fields import NAME
from offlinemeta.benchmark.result import Result, read_result
from offlinemeta.leaderboard.rules import MOST_SEEDS, Fault
from offlinemeta.leaderboard.table import STUDY

RESERVED = frozenset({"all", "blind", "checkpoint", "expert", "index", "random", "told"})
"""Names that mean something else in commands, charts and addresses."""
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names that no file may have on Windows, where nobody could check out a repository that has one."""

FILES = re.compile(r".*\.(json|ya?ml|html?|mp4|csv|js|css)", re.IGNORECASE)
"""Names that folders of results, or the site, have for files."""

SHARE = 0.9
LEAST_EQUAL = 10
"""From which share, and of how many returns, equality to the last digit is no coincidence."""
LEAST_KINDS = 20
"""From how many different returns on their order plays no role in that."""


class Played(NamedTuple):
    """What a method got in one evaluation.

    Attributes:
        method: its name.
        benchmark: the benchmark's name.
        seed: the seed of the training.
        checkpoint: SHA-256 of the file that was evaluated; it may be empty.
        returns: of all tasks and episodes.
    """

    method: str
    benchmark: str
    seed: int
    checkpoint: str
    returns: tuple[float, ...]


class Listed:
    """Methods that are listed, whose results are read when they are first asked for.

    Args:
        root: the folder of the methods; it need not be there.
    """

    def __init__(self, root: Path) -> None:
        self.folders = {folder.name: folder for folder in sorted(root.iterdir())} if root.is_dir() else {}
        self.names = list(self.folders)
        self._played: dict[str, list[Played]] = {}

    def played(self, data: str) -> list[Played]:
        """Return what all methods got on a family and quality, such as ``AntDir/smac``; unreadable files are left out.

        Args:
            data: the family and quality.
        """
        if data not in self._played:
            files = [f for folder in self.folders.values() for f in (folder / data.replace("/", "-")).glob("*.json")]
            self._played[data] = list(played(filter(None, map(_read, files))))
        return self._played[data]

    def add(self, name: str, results: Sequence[Result]) -> None:
        """Take a submission among those that others must not resemble."""
        self.names.append(name)
        for one in played(results):
            self.played(one.benchmark.rpartition("/")[0]).append(one)


def _read(file: Path) -> Result | None:
    try:
        return read_result(file)
    except ResultError:
        return None


def played(results: Iterable[Result]) -> Iterator[Played]:
    """Give what each seed of some results got."""
    for result in results:
        for seed, tasks, about in zip(result.seeds, result.returns, result.provenance, strict=True):
            returns = tuple(value for task in tasks for value in task)
            yield Played(result.method, result.benchmark, seed, about.checkpoint, returns)


def of_name(name: str, results: Iterable[Result], listed: Listed) -> Iterator[Fault]:
    """Yield what is wrong with a method's name: it is none, is reserved, or can be mistaken for another's."""
    if not re.fullmatch(NAME, name):
        yield Fault("name", name, "a method is named by 1 to 64 letters of ASCII, digits and - _ . +.")
    if DEVICES.fullmatch(name) or name.endswith("."):
        yield Fault("name", name, "no file may have this name on Windows. Choose another name.")
    if FILES.fullmatch(name):
        yield Fault("name", name, "this is the name of a file. Choose another name.")
    ours = bool(agents := {result.agent for result in results}) and all(a.startswith("offlinemeta.") for a in agents)
    if (name.casefold() in RESERVED or name in STUDY["methods"]) and not (ours and name in STUDY["methods"]):
        yield Fault("name", name, "this name means something else here. Choose another name.")
    for other in dict.fromkeys([*listed.names, *STUDY["methods"]]):
        if other != name and _skeleton(other) == _skeleton(name):
            yield Fault("name", name, f"it can be mistaken for {other}, which is listed. Choose another name.")


def _skeleton(name: str) -> str:
    """Return what a reader sees of a name at a glance."""
    drawn = name.casefold().translate(str.maketrans("01i5", "olls")).replace("rn", "m").replace("vv", "w")
    return re.sub(r"[-_.+]", "", drawn)


def of_copies(results: Sequence[Result], listed: Listed) -> Iterator[Fault]:
    """Yield returns that are those of another seed, or of another method, and checkpoints of other methods."""
    seen: dict[str, list[Played]] = {}
    for one in played(results):
        own = seen.setdefault(one.benchmark, [])
        if len(own) == MOST_SEEDS:  # it is refused for their number
            continue
        if other := next((other for other in own if same(one.returns, other.returns)), None):
            yield Fault(
                "copies", one.benchmark, f"seeds {other.seed} and {one.seed} have the same returns to the last digit."
            )
        own.append(one)
        for other in listed.played(one.benchmark.rpartition("/")[0]):
            if other.method == one.method:
                continue
            if one.checkpoint and one.checkpoint == other.checkpoint:
                yield Fault(
                    "another", one.benchmark, f"its checkpoint {one.checkpoint[:12]}... is that of {other.method}."
                )
            if one.benchmark == other.benchmark and same(one.returns, other.returns):
                yield Fault("another", one.benchmark, f"its returns are those of {other.method}.")


def same(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Tell whether two evaluations have the same returns, but for a few of them, or for their order.

    What most of them are, such as 0 where nothing is found, does not count.
    """
    if len(ours) != len(theirs):
        return False
    if ours == theirs:
        return len(set(ours)) > 1
    if sum(map(eq, ours, theirs)) >= LEAST_EQUAL:
        usual = Counter(ours).most_common(1)[0][0]
        told = [a == b for a, b in zip(ours, theirs, strict=True) if not a == b == usual]
        if sum(told) >= max(LEAST_EQUAL, SHARE * len(told)):
            return True
    if (min(ours), max(ours)) != (min(theirs), max(theirs)):  # which is quicker than to sort them
        return False
    return len(set(ours)) >= LEAST_KINDS and sorted(ours) == sorted(theirs)
