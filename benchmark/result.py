"""Results: what an evaluation found, with all that is needed to believe and to repeat it, as JSON."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from offlinemeta.benchmark import metrics as measures
from offlinemeta.benchmark.errors import ResultError, RunError
from offlinemeta.benchmark.protocol import Benchmark, get_benchmark
from offlinemeta.datasets.references import read_references
from offlinemeta.envs import get_family
from offlinemeta.envs.shapes import Array, Float

SCHEMA = 1


class Provenance(BaseModel):
    """Where a result comes from.

    Attributes:
        dataset: id and SHA-256 of the training data.
        config: of the training run.
        versions, commit, machine: what ran it. A commit with changes on top ends in ``+``.
        wall_time: seconds of the run up to here, its evaluations included.
        gradient_steps, env_steps: of training; env steps are interaction beyond the logged data.
        started: UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: dict[str, str] = {}
    config: dict[str, Any] = {}
    versions: dict[str, str] = {}
    commit: str = ""
    machine: str = ""
    wall_time: float = 0.0
    gradient_steps: int = 0
    env_steps: int = 0
    started: str = ""


class Result(BaseModel):
    """Returns of a method on a benchmark's held-out tasks.

    Attributes:
        benchmark: such as ``AntDir/smac/online-10``.
        method: how it is listed, such as ``smac``.
        agent: ``module:Class``.
        sees_task: it was told the task, so it is a reference and no competitor.
        seeds: of the training runs.
        repeats: independent evaluations on each task, averaged in ``returns``.
        returns: ``[seed, task, episode]``.
        random, expert: reference return of each task.
        metrics: further figures by name, one a seed.
        provenance: one a seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    benchmark: str
    method: str
    agent: str
    sees_task: bool = False
    seeds: list[int] = Field(min_length=1)
    repeats: int = Field(ge=1)
    returns: list[list[list[FiniteFloat]]]
    random: list[FiniteFloat]
    expert: list[FiniteFloat]
    metrics: dict[str, list[FiniteFloat]] = {}
    provenance: list[Provenance]

    @model_validator(mode="after")
    def _consistent(self) -> Result:
        benchmark = get_benchmark(self.benchmark)
        tasks = len(get_family(benchmark.family).tasks[benchmark.protocol.split])
        expected = (len(self.seeds), tasks, benchmark.protocol.episodes)
        shapes = {(len(self.returns), len(seed), len(task)) for seed in self.returns for task in seed}
        if shapes != {expected}:
            raise ValueError(f"returns [seed, task, episode] have shape {sorted(shapes)}; expected {expected}")
        if not len(self.random) == len(self.expert) == tasks:
            raise ValueError(f"{len(self.random)} and {len(self.expert)} reference returns for {tasks} tasks")
        if len(self.provenance) != len(self.seeds):
            raise ValueError(f"{len(self.provenance)} provenances for {len(self.seeds)} seeds")
        if wrong := [name for name, values in self.metrics.items() if len(values) != len(self.seeds)]:
            raise ValueError(f"metrics {wrong} have another number of values than there are seeds")
        return self

    def array(self) -> Float[Array, "seed task episode"]:
        """Returns as an array."""
        return np.array(self.returns)

    def scores(self) -> Float[Array, "seed task episode"]:
        """Normalised returns: 0 is random, 100 the expert (:func:`offlinemeta.datasets.references.normalise`)."""
        return measures.normalise(self.array(), np.array(self.random), np.array(self.expert))

    def final(self) -> measures.Interval:
        """IQM of the normalised scores of the last episode."""
        return measures.bootstrap(self.scores()[..., -1])

    def auc(self) -> measures.Interval:
        """IQM of the normalised scores, averaged over episodes."""
        return measures.bootstrap(measures.auc(self.scores()))

    def curve(self, normalised: bool = False) -> list[measures.Interval]:
        """Mean return (or normalised score) of each episode."""
        values = self.scores() if normalised else self.array()
        return [measures.bootstrap(values[..., k], measures.mean) for k in range(values.shape[2])]


def make_result(
    benchmark: Benchmark,
    method: str,
    agent: str,
    returns: Float[Array, "task episode"],
    repeats: int,
    seed: int = 0,
    sees_task: bool = False,
    figures: Mapping[str, float] | None = None,
    provenance: Provenance | None = None,
) -> Result:
    """Make the result of one seed."""
    references, split = read_references(benchmark.family), benchmark.protocol.split
    return Result(
        benchmark=benchmark.name,
        method=method,
        agent=agent,
        sees_task=sees_task,
        seeds=[seed],
        repeats=repeats,
        returns=[returns.round(3).tolist()],
        random=list(references.random[split]),
        expert=list(references.expert[split]),
        metrics={name: [value] for name, value in (figures or {}).items()},
        provenance=[provenance or Provenance(**about_here())],
    )


def about_here() -> dict[str, Any]:
    """What every provenance says: versions, commit, machine, time."""
    names = ("offlinemeta", "mujoco", "gymnasium", "numpy", "torch")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "commit": _commit(),
        "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str:
    """The checkout's commit, where this is one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


def read_results(paths: Sequence[Path]) -> list[Result]:
    """Read result files, or all ``*.json`` in folders, and join the seeds of each method and benchmark.

    Raises:
        ResultError: a file is missing, damaged, of another schema, or repeats a seed.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]
    files = [file for file in files if file.name != "run.json"]
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for file in files:
        result = read_result(file)
        groups[result.benchmark, result.method].append(result)
    if not groups:
        raise ResultError(f"There are no results in {', '.join(map(str, paths)) or 'nothing'}.")
    return [join_results(group) for group in groups.values()]


def read_result(file: Path) -> Result:
    """Read one file.

    Raises:
        ResultError: it is missing, damaged, or of another schema.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ResultError(f"{file} is no JSON: {error}.") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA:
        raise ResultError(f"{file} is no result of schema {SCHEMA}: its schema_version is {version!r}.")
    try:
        return Result.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ResultError(f"{file} is no valid result: {where}: {first['msg']}.") from error


def join_results(results: Sequence[Result]) -> Result:
    """Join the seeds of one method on one benchmark.

    Raises:
        ResultError: they differ in what must agree, or a seed is there twice.
    """
    first = results[0]
    for other in results[1:]:
        for name in ("benchmark", "method", "agent", "sees_task", "repeats", "random", "expert"):
            if getattr(other, name) != getattr(first, name):
                here, there = getattr(first, name), getattr(other, name)
                raise ResultError(f"Results of {first.method} on {first.benchmark} differ in {name}: {here}, {there}.")
    for name in ("dataset", "config"):
        known = [getattr(p, name) for result in results for p in result.provenance if getattr(p, name)]
        for other_one in known[1:]:
            if other_one != known[0]:
                fields = sorted(k for k in {**known[0], **other_one} if known[0].get(k) != other_one.get(k))
                raise ResultError(
                    f"Results of {first.method} on {first.benchmark} are of different trainings: {name} differs in "
                    f"{', '.join(fields)}. Evaluate them under names of their own (--method), or leave one out."
                )
    seeds = [seed for result in results for seed in result.seeds]
    if len(set(seeds)) < len(seeds):
        raise ResultError(f"Results of {first.method} on {first.benchmark} repeat a seed: {seeds}.")
    order = np.argsort(seeds, kind="stable").tolist()

    def joined(lists: Sequence[Sequence[Any]]) -> list[Any]:
        flat = [item for one in lists for item in one]
        return [flat[i] for i in order]

    names = set.intersection(*(set(result.metrics) for result in results))
    return first.model_copy(
        update={
            "seeds": joined([result.seeds for result in results]),
            "returns": joined([result.returns for result in results]),
            "metrics": {name: joined([result.metrics[name] for result in results]) for name in sorted(names)},
            "provenance": joined([result.provenance for result in results]),
        }
    )


def write_result(result: Result, file: Path) -> None:
    """Write one file, at once."""
    write_text(file, result.model_dump_json() + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a text file, at once or not at all.

    Raises:
        RunError: no space, no permission; what was there is still there.
    """
    draft = file.with_name(f".{file.name}.draft")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise RunError(f"{file} could not be written: {error.strerror}. Make room, or choose another place.") from error
