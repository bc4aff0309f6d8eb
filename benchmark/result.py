"""Results of evaluations as JSON files, with all that is needed to believe and to repeat them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from offlinemeta.benchmark import metrics as measures
from offlinemeta.benchmark.errors import ResultError
from offlinemeta.benchmark.fields import (
    AgentName,
    Commit,
    Few,
    Figure,
    Hash,
    Key,
    MethodName,
    Origin,
    Seconds,
    Seed,
    Setting,
    Steps,
    Text,
    Time,
    Version,
    explain,
)
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS, Benchmark, get_benchmark
from offlinemeta.datasets.references import normalise, read_references
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.shapes import Array, Float
from offlinemeta.files import write_text

SCHEMA = 2

LARGEST = 1_000_000
"""Bytes of a result file; the rest of a larger one is not read."""


class Provenance(BaseModel):
    """Where a result comes from.

    Attributes:
        dataset: ``id`` and ``sha256`` of the training data; ``other`` where they are not those of the manifest.
        context: the same of the data that a logged context was drawn from; empty where the protocol logs none.
        config: fields of the training run's config.
        versions: of the packages that can change a number.
        commit: the checkout's commit; it ends in ``+`` if there were changes on top.
        machine: processor, system and number of cores.
        wall_time: seconds of the run until this result, evaluations included.
        gradient_steps: of training.
        env_steps: interaction in training, beyond the logged data.
        checkpoint: SHA-256 of the file that holds the agent; empty where it has none, and in results made before.
        evaluation_seed: seed of the evaluation; that of the training run in results made before it was written down.
        started: time of the evaluation, in UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    dataset: Origin = {}
    context: Origin = {}
    config: Annotated[dict[Key, Setting], Field(max_length=200)] = {}
    versions: Annotated[dict[Key, Version], Field(max_length=50)] = {}
    commit: Commit = ""
    machine: Text = ""
    wall_time: Seconds = 0.0
    gradient_steps: Steps = 0
    env_steps: Steps = 0
    checkpoint: Hash = ""
    evaluation_seed: Seed | None = None
    started: Time = ""


class Result(BaseModel):
    """Returns of a method on the tasks of a benchmark; their scores follow from the present references.

    Attributes:
        schema_version: of this format.
        benchmark: the benchmark's name, such as ``AntDir/smac/online-10``.
        method: how the method is listed, such as ``smac``.
        agent: the class that was evaluated, as ``module:Class``.
        sees_task: whether the agent was told the task; then it is a reference and no competitor.
        seeds: the seed of each training run.
        repeats: how often each task was played, independently; ``returns`` are means over them.
        returns: ``[seed, task, episode]``.
        metrics: further figures by name, with one value for each seed.
        provenance: where the results of each seed come from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: Literal[2] = 2
    benchmark: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}/[a-z]{1,32}/[a-z0-9-]{1,64}$")]
    method: MethodName
    agent: AgentName
    sees_task: bool = False
    seeds: Annotated[Few[Seed], Field(min_length=1)]
    repeats: Annotated[int, Field(ge=1, le=10_000)]
    returns: Few[Few[Few[Figure]]]
    metrics: Annotated[dict[Key, Few[Figure]], Field(max_length=200)] = {}
    provenance: Few[Provenance]

    @model_validator(mode="after")
    def _consistent(self) -> Result:
        benchmark = get_benchmark(self.benchmark)
        tasks = len(get_family(benchmark.family).tasks[benchmark.protocol.split])
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds repeat: {self.seeds}")
        expected = (len(self.seeds), tasks, benchmark.protocol.episodes)
        shapes = {(len(self.returns), len(seed), len(task)) for seed in self.returns for task in seed}
        if shapes != {expected}:
            raise ValueError(f"returns [seed, task, episode] have shape {sorted(shapes)}; expected {expected}")
        if len(self.provenance) != len(self.seeds):
            raise ValueError(f"{len(self.provenance)} provenances for {len(self.seeds)} seeds")
        if wrong := [name for name, values in self.metrics.items() if len(values) != len(self.seeds)]:
            raise ValueError(f"metrics {wrong} have another number of values than there are seeds")
        return self

    def array(self) -> Float[Array, "seed task episode"]:
        """Return the returns as an array."""
        return np.array(self.returns)

    def of_seeds(self, seeds: Sequence[int]) -> Result:
        """Return the result of some of its seeds, in the order given."""
        places = [self.seeds.index(seed) for seed in seeds]

        def chosen(values: Sequence[Any]) -> list[Any]:
            return [values[place] for place in places]

        figures = {name: chosen(values) for name, values in self.metrics.items()}
        return self.model_copy(
            update={
                "seeds": list(seeds),
                "returns": chosen(self.returns),
                "metrics": figures,
                "provenance": chosen(self.provenance),
            }
        )

    def scores(self) -> Float[Array, "seed task episode"]:
        """Return the scores, by the scale of the family and split (:meth:`References.scale`)."""
        benchmark = get_benchmark(self.benchmark)
        return normalise(self.array(), *read_references(benchmark.family).scale(benchmark.protocol.split))

    @property
    def counted(self) -> int:
        """Which episode counts: the third, after two of exploration, or the last where there are fewer; from 0."""
        return min(OFFLINE_ROLLOUTS, len(self.returns[0][0]) - 1)

    def score(self, statistic: measures.Statistic = measures.mean) -> measures.Interval:
        """Return the mean, or another statistic, of the normalised scores of the episode that counts."""
        return measures.interval(self.scores()[..., self.counted], statistic)

    def auc(self) -> measures.Interval:
        """Return the mean of the normalised scores, averaged over episodes."""
        return measures.interval(measures.auc(self.scores()))

    def curve(self, normalised: bool = False) -> list[measures.Interval]:
        """Return the mean return, or the mean normalised score, of each episode."""
        values = self.scores() if normalised else self.array()
        return [measures.interval(values[..., k]) for k in range(values.shape[2])]


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
    return Result(
        benchmark=benchmark.name,
        method=method,
        agent=agent,
        sees_task=sees_task,
        seeds=[seed],
        repeats=repeats,
        returns=[returns.round(3).tolist()],
        metrics={name: [value] for name, value in (figures or {}).items()},
        provenance=[provenance or Provenance(**about_here())],
    )


def about_here() -> dict[str, Any]:
    """Return what every provenance says: versions, commit, machine and time."""
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
    """Return the checkout's commit; nothing where this is no checkout."""
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
    return join_all([read_result(file) for file in result_files(paths)])


def result_files(paths: Sequence[Path]) -> list[Path]:
    """Return these files and all ``*.json`` in these folders, apart from the states of runs.

    Raises:
        ResultError: there are none.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]
    files = [file for file in files if file.name != "run.json" and not file.is_dir()]
    if not files:
        raise ResultError(f"There are no results in {', '.join(map(str, paths)) or 'nothing'}.")
    return files


def join_all(results: Sequence[Result]) -> list[Result]:
    """Join the seeds of each method and benchmark.

    Raises:
        ResultError: two of them repeat a seed, or differ in what must agree.
    """
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.benchmark, result.method].append(result)
    return [join_results(group) for group in groups.values()]


def read_result(file: Path) -> Result:
    """Read one file.

    Raises:
        ResultError: it is missing, larger than :data:`LARGEST`, damaged, or of another schema.
    """
    try:
        with file.open("rb") as content:
            text = content.read(LARGEST + 1)
    except OSError as error:
        raise ResultError(f"{file} cannot be read: {error.strerror}.") from error
    if len(text) > LARGEST:
        raise ResultError(f"{file} has more than {LARGEST:,} bytes, which no result needs.")
    try:
        return parse_result(text)
    except ResultError as error:
        raise ResultError(f"{file} {error}") from error


def parse_result(text: bytes) -> Result:
    """Return the result that a JSON text in UTF-8 holds.

    Raises:
        ResultError: it is no JSON, has a key twice, NaN or an infinity, or is no result of this schema; the message
            goes on where the file's name would stand.
    """
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise ResultError("is no JSON of a result: it is nested too deeply.") from None
    except ValueError as error:
        raise ResultError(f"is no JSON: {error}.") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is not int or version != SCHEMA:
        shown = repr(version) if version is None or isinstance(version, int) else f"a {type(version).__name__}"
        raise ResultError(f"is no result of schema {SCHEMA}: its schema_version is {shown}.")
    try:
        return Result.model_validate(content)
    except ValidationError as error:
        raise ResultError(f"is no valid result: {explain(error)}.") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, in which every key is there once: a second one would hide the first."""
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {key[:100]!r} is there twice")
        content[key] = value
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def join_results(results: Sequence[Result]) -> Result:
    """Join the seeds of one method on one benchmark.

    Raises:
        ResultError: they differ in what must agree, or a seed is there twice.
    """
    first = results[0]
    for other in results[1:]:
        for name in ("benchmark", "method", "agent", "sees_task", "repeats"):
            if getattr(other, name) != getattr(first, name):
                here, there = getattr(first, name), getattr(other, name)
                raise ResultError(f"Results of {first.method} on {first.benchmark} differ in {name}: {here}, {there}.")
    for name in ("dataset", "context", "config"):
        known = [getattr(p, name) for result in results for p in result.provenance if getattr(p, name)]
        for other_one in known[1:]:
            if other_one != known[0]:
                fields = sorted(k for k in {**known[0], **other_one} if known[0].get(k) != other_one.get(k))
                raise ResultError(
                    f"Results of {first.method} on {first.benchmark} were not made alike: {name} differs in "
                    f"{', '.join(fields)}. Evaluate them under names of their own (--method), or leave one out."
                )
    seeds = [seed for result in results for seed in result.seeds]
    if len(set(seeds)) < len(seeds):
        raise ResultError(f"Results of {first.method} on {first.benchmark} repeat a seed: {seeds}.")
    names = set.intersection(*(set(result.metrics) for result in results))
    joined = first.model_copy(
        update={
            "seeds": seeds,
            "returns": [returns for result in results for returns in result.returns],
            "metrics": {name: [v for result in results for v in result.metrics[name]] for name in sorted(names)},
            "provenance": [provenance for result in results for provenance in result.provenance],
        }
    )
    return joined.of_seeds(sorted(seeds))


def place(root: Path, result: Result) -> Path:
    """Return where a result of one seed lies below a folder: ``<method>/<family>-<quality>/<protocol>-s<seed>.json``.

    Raises:
        ArgumentError: the result is of several seeds.
    """
    if len(result.seeds) != 1:
        raise ArgumentError(f"A result file is of one seed; this result of {result.method} is of {result.seeds}.")
    return root / result.method / result_place(result.benchmark, result.seeds[0])


def result_place(benchmark: str, seed: int) -> Path:
    """Return where a benchmark's result of one seed lies in the folder of its method."""
    family, quality, protocol = benchmark.split("/")
    return Path(f"{family}-{quality}") / f"{protocol}-s{seed}.json"


def gather(folder: Path, root: Path) -> None:
    """Copy the results of a run to their places below a folder of results."""
    for file in sorted(folder.glob("*.json")):
        result = read_result(file)
        write_result(result, place(root, result))


def write_result(result: Result, file: Path) -> None:
    """Write one file, at once or not at all.

    Raises:
        FileError: there is no space or no permission; what was there is still there.
    """
    write_text(file, result.model_dump_json() + "\n")
