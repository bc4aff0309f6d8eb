"""The rules that results have to keep beyond the schema, so that rows of a table can be compared.

What a result says is compared with what ships: frozen task lists, the manifest of datasets, reference returns. Scores,
curves and intervals are computed from the raw returns (:mod:`offlinemeta.leaderboard.table`), so that no submission can
state its own.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path

from offlinemeta.benchmark.protocol import REPEATS, Benchmark, get_benchmark
from offlinemeta.benchmark.result import Provenance, Result, place
from offlinemeta.datasets.manifest import read_manifest
from offlinemeta.datasets.references import read_references
from offlinemeta.datasets.spec import VERSION, get_spec
from offlinemeta.envs import get_family
from offlinemeta.leaderboard.method import Method

LEAST_SEEDS, MOST_SEEDS = 3, 100

ABOVE = 3
BELOW = 30
"""How many times the distance between a family's lowest and highest reference return a return may lie beyond them. More
is allowed below, since a body that runs the wrong way, or breaks its simulation, is charged a lot, and nobody gains by
it."""

TOLD_WITHIN = 0.25
"""How far the told expert's return may lie from its reference where a result measures it anew, on the scale from random
to told."""

PACKAGES = ("offlinemeta", "mujoco", "gymnasium", "numpy")
"""Packages whose versions a result states."""

RULES: Mapping[str, str] = {
    "size": "a file or folder is larger, or holds more, than a submission needs; the rest is not read",
    "link": "a symbolic link; nothing outside of the folder is read",
    "file": "a file or folder that is no part of a submission, such as a pickle or a program",
    "method": "method.yaml is missing, no plain YAML, or against the schema",
    "name": "the method's name looks like that of a method that is listed, or means something else",
    "result": "a result is no JSON, or against the schema: fields, types, bounds, number of tasks and episodes",
    "place": "a result lies elsewhere than its method, benchmark and seed say, or holds several seeds",
    "alike": "results differ in what must agree: agent, whether it is told the task, data, config, budget of a seed",
    "cells": "a seed lacks a protocol that another one has; or there is no online protocol on the test tasks",
    "seeds": f"fewer than {LEAST_SEEDS} seeds, or more than {MOST_SEEDS}",
    "copies": "two seeds have the same returns to the last digit, but for a few of them or for their order",
    "another": "returns, or a checkpoint, are those of another method that is listed",
    "repeats": f"a task was played fewer than {REPEATS} times",
    "range": "a return is beyond what the family can give, or the expert's is not that of the references",
    "older data": "the training data, or the logged context, are of an older version of the datasets",
    "data": "the training data, or the logged context, are not stated, or not those of the benchmark",
    "content": "the data have another SHA-256 than the manifest has, or the manifest does not have them",
    "steps": "neither gradient steps nor env steps of the training are stated",
    "versions": "a package's version is missing, or the physics is another than that of the datasets",
    "provenance": "the evaluation's seed, its time or the machine is missing, or the time is in the future",
    "commit": "the commit of the code is missing, or code: is no link to it",
    "checkpoint": "a checkpoint's SHA-256 is missing, or not of one seed alone; or two files have the same tensors",
}
"""Each rule's name, and what breaks it."""

LATER = frozenset({"another", "seeds", "older data", "data", "provenance", "checkpoint"})
"""Rules that results listed before need not keep: such results stay as they are, and what they lack is named."""


MOST_SHOWN = 3
"""How many kinds of faults of each rule are named."""


@dataclass(frozen=True)
class Fault:
    """What breaks a rule.

    Attributes:
        rule: one of :data:`RULES`.
        where: the file or folder, below that of the submission.
        what: says what is wrong, and what to do.
    """

    rule: str
    where: str
    what: str

    def __str__(self) -> str:
        """One line without control characters, of bounded length: parts of it come from outside."""
        text = f"{self.rule}: {self.where}: {self.what}"
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
        return shown if len(shown) <= 400 else f"{shown[:400]}..."


def listing(faults: Iterable[Fault]) -> list[str]:
    """Return lines that name faults: of each rule the first ones, with how many files the same is said of."""
    by_rule: dict[str, dict[str, list[Fault]]] = defaultdict(lambda: defaultdict(list))
    for fault in faults:
        by_rule[fault.rule][fault.what].append(fault)
    lines = []
    for rule, kinds in by_rule.items():
        for alike in islice(kinds.values(), MOST_SHOWN):
            more = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
            lines.append(str(replace(alike[0], where=alike[0].where + more)))
        if hidden := sum(map(len, kinds.values())) - sum(map(len, islice(kinds.values(), MOST_SHOWN))):
            lines.append(f"{rule}: ... and {hidden} more")
    return lines


def of_result(result: Result, where: str, name: str, method: Method | None) -> Iterator[Fault]:
    """Yield what is wrong with a result by itself.

    Args:
        result: the result.
        where: the file, below the folder of its method.
        name: that folder's name, which is the method's.
        method: the method's description, if it could be read.
    """
    if len(result.seeds) != 1:
        yield Fault("place", where, f"a file holds one seed; this one holds {result.seeds}. Write one file for each.")
    elif (proper := place(Path(), result).as_posix()) != f"{name}/{where}":
        yield Fault("place", where, f"by what it says it belongs to {proper}. Move it there.")
    benchmark, (low, high) = get_benchmark(result.benchmark), bounds(get_benchmark(result.benchmark).family)
    if result.repeats < REPEATS:
        yield Fault("repeats", where, f"each task was played {result.repeats} times. Evaluate it {REPEATS} times.")
    values = [value for seed in result.returns for task in seed for value in task]
    if (worst := min(values)) < low or (worst := max(values)) > high:
        yield Fault(
            "range",
            where,
            f"a return of {worst:g} is not between {low:g} and {high:g}, so {benchmark.family} cannot give it.",
        )
    for name, figures in result.metrics.items():
        if name.startswith("gap_") and not all(low <= figure <= high for figure in figures):
            yield Fault("range", where, f"{name} is a return, and not between {low:g} and {high:g}. Leave it out.")
    yield from _of_told(result, benchmark, where)
    for provenance in result.provenance:
        yield from _of_provenance(provenance, result, benchmark, where, method)


def _of_told(result: Result, benchmark: Benchmark, where: str) -> Iterator[Fault]:
    """The expert's return is the package's, which a submission cannot choose."""
    references, split = read_references(benchmark.family), benchmark.protocol.split
    told, random = (sum(of[split]) / len(of[split]) for of in (references.told, references.random))
    for stated in result.metrics.get("gap_told", []):
        if abs(stated - told) > TOLD_WITHIN * (told - random):
            yield Fault("range", where, f"gap_told is {stated:g}; the told expert gets {told:.4g}. Leave it out.")


def _of_provenance(
    provenance: Provenance, result: Result, benchmark: Benchmark, where: str, method: Method | None
) -> Iterator[Fault]:
    trained = get_spec(f"{benchmark.family}/{benchmark.quality}").id
    yield from _of_data(provenance.dataset, trained, "training data", where)
    if benchmark.protocol.offline:
        yield from _of_data(provenance.context, get_spec(benchmark.dataset).id, "logged context", where)
    elif provenance.context:
        yield Fault("data", where, f"{benchmark.protocol.name} has no logged context, but one is stated.")
    if not provenance.gradient_steps + provenance.env_steps:
        yield Fault(
            "steps", where, "say how it was trained: offlinemeta evaluate ... --gradient-steps N --env-steps N."
        )
    if missing := [name for name in PACKAGES if not provenance.versions.get(name)]:
        yield Fault("versions", where, f"the version of {', '.join(missing)} is missing. Evaluate it with offlinemeta.")
    physics = read_manifest_once().get(trained, {}).get("versions", {}).get("mujoco")
    if physics is not None and provenance.versions.get("mujoco") not in (None, "", physics):
        used = provenance.versions["mujoco"]
        yield Fault("versions", where, f"evaluated with mujoco {used}; returns compare under mujoco {physics} alone.")
    if provenance.started and not _past(provenance.started):
        yield Fault("provenance", where, f"{provenance.started} is no time that has been. Set the clock.")
    said = {
        "evaluation_seed": provenance.evaluation_seed is not None,
        "started": bool(provenance.started),
        "machine": bool(provenance.machine),
    }
    if missing := [name for name, there in said.items() if not there]:
        yield Fault("provenance", where, f"{', '.join(missing)} is missing. Evaluate it with offlinemeta.")
    ours = result.agent.startswith("offlinemeta.")
    if method is not None and not ours and not method.code.startswith("https://"):
        yield Fault("commit", where, f"{method.code} is a path here, but {result.agent} is not from here. Give a link.")
    if not (provenance.commit if ours else method is None or method.commit):
        yield Fault("commit", where, "the commit of the code is missing: commit: in method.yaml, of the code in code:.")
    if not provenance.checkpoint:
        yield Fault("checkpoint", where, "its SHA-256 is missing. Evaluate it with --checkpoint FILE.")


def _past(time: str) -> bool:
    """Tell whether a time is one, and not in the future; clocks may be wrong by a day."""
    try:
        return datetime.fromisoformat(time) < datetime.now(UTC) + timedelta(days=1)
    except ValueError:  # such as the 31st of February
        return False


def _of_data(stated: Mapping[str, str], wanted: str, kind: str, where: str) -> Iterator[Fault]:
    id, known = stated.get("id", ""), read_manifest_once()
    version = re.search(r"-v(\d+)$", id)
    if not stated:
        yield Fault(
            "data", where, f"{kind}: none stated; that of the benchmark is {wanted}. Evaluate with offlinemeta."
        )
    elif version is not None and int(version[1][:9]) < VERSION:
        yield Fault(
            "older data", where, f"{kind}: {id}, while the present version is v{VERSION}. Train and evaluate anew."
        )
    elif id != wanted:
        yield Fault("data", where, f"{kind}: {id or 'without id'}; that of the benchmark is {wanted}.")
    elif wanted not in known:
        yield Fault("content", where, f"{kind}: the manifest does not have {wanted}, so that nobody can check it.")
    elif "other" in stated or stated.get("sha256") != known[wanted]["sha256"]:
        found = stated.get("sha256", "")[:12]
        yield Fault(
            "content", where, f"{kind}: {wanted} has the content {known[wanted]['sha256'][:12]}..., not {found}..."
        )


@cache
def bounds(family: str) -> tuple[float, float]:
    """Return the lowest and the highest plausible return of a family's tasks.

    They lie :data:`BELOW` and :data:`ABOVE` times the range of its reference returns (random, blind, told; all splits)
    beyond that range; and no higher than ``horizon`` times the family's largest reward, where that is known.
    """
    references, chosen = read_references(family), get_family(family)
    returns = [
        value
        for kind in (references.random, references.blind, references.told)
        for values in kind.values()
        for value in values
    ]
    low, high = min(returns), max(returns)
    most = math.inf if chosen.best_reward is None else chosen.best_reward * chosen.horizon
    return low - BELOW * (high - low), min(most, high + ABOVE * (high - low))


read_manifest_once = cache(read_manifest)
"""The manifest, read once for all results of a check."""
