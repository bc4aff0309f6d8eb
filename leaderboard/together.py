"""The rules about the results of a method beside one another: what must agree, and what must be complete."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from offlinemeta.benchmark.errors import ResultError
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.result import Result, join_results
from offlinemeta.leaderboard.rules import LEAST_SEEDS, MOST_SEEDS, Fault

LEAST_EPISODES = 3
"""Episodes of the online protocol that every cell needs: the third one is what the table scores."""


def of_all(results: Sequence[Result]) -> Iterator[Fault]:
    """Yield what is wrong with the results of a method beside one another."""
    by_data: dict[str, list[Result]] = defaultdict(list)
    by_benchmark: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_data[result.benchmark.rpartition("/")[0]].append(result)
        by_benchmark[result.benchmark].append(result)
    if not results:
        yield Fault("cells", "the whole", "there are no results.")
    for name in ("agent", "sees_task"):
        if len(found := {getattr(result, name) for result in results}) > 1:
            shown = ", ".join(sorted(map(str, found)))
            yield Fault("alike", "the whole", f"a method is one agent, but {name} differs: {shown}.")
    for name, own in by_benchmark.items():
        try:
            join_results(own)
        except ResultError as error:
            yield Fault("alike", name, str(error))
        if len({bool(provenance.config) for result in own for provenance in result.provenance}) > 1:
            yield Fault("alike", name, "some seeds state the config of their training, and others do not.")
    for data, own in by_data.items():
        yield from _cells(data, own)
        yield from _checkpoints(data, own)
    yield from _shared(results)


def _cells(data: str, results: Iterable[Result]) -> Iterator[Fault]:
    """Every seed has every protocol, and one of them is the online protocol that is scored."""
    seeds: dict[str, set[int]] = defaultdict(set)
    for result in results:
        seeds[result.benchmark.rpartition("/")[2]].update(result.seeds)
    every = set().union(*seeds.values())
    for protocol, own in sorted(seeds.items()):
        if lacking := sorted(every - own):
            yield Fault("cells", data, f"{protocol} is not there for seeds {lacking}, which other protocols have.")
    if len(every) > MOST_SEEDS:
        yield Fault("seeds", data, f"{len(every)} seeds; at most {MOST_SEEDS} are compared.")
    if len(every) < LEAST_SEEDS:
        yield Fault("seeds", data, f"{len(every)} seeds; {LEAST_SEEDS} are needed, each a training of its own.")
    protocols = [get_benchmark(f"{data}/{name}").protocol for name in seeds]
    online = [
        p for p in protocols if p.split == "test" and p.name.startswith("online-") and p.episodes >= LEAST_EPISODES
    ]
    if not online:
        yield Fault(
            "cells", data, f"online-{LEAST_EPISODES}, or with more episodes, is not there: it is what is scored."
        )


def _checkpoints(data: str, results: Iterable[Result]) -> Iterator[Fault]:
    """A seed is one training, so that all protocols evaluate one checkpoint, and state one budget."""
    files: dict[int, set[str]] = defaultdict(set)
    budgets: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for result in results:
        about = result.provenance[0]
        files[result.seeds[0]].add(about.checkpoint)
        budgets[result.seeds[0]].add((about.gradient_steps, about.env_steps))
    for seed, steps in sorted(budgets.items()):
        if len(steps) > 1:
            shown = " and ".join(f"{gradient:,} gradient and {env:,} env steps" for gradient, env in sorted(steps))
            yield Fault("alike", data, f"seed {seed} is said to be trained for {shown}. A seed is one training.")
    for seed, own in sorted(files.items()):
        if len(own - {""}) > 1:
            shown = ", ".join(f"{one[:12]}..." for one in sorted(own))
            yield Fault("checkpoint", data, f"seed {seed} has several checkpoints: {shown} A seed is one training.")


def _shared(results: Iterable[Result]) -> Iterator[Fault]:
    """Several evaluations of one checkpoint are not several seeds."""
    seeds: dict[str, set[int]] = defaultdict(set)
    for result in results:
        seeds[result.provenance[0].checkpoint].update(result.seeds)
    for file, own in seeds.items():
        if file and len(own) > 1:
            yield Fault("checkpoint", f"{file[:12]}...", f"one checkpoint is not the training of seeds {sorted(own)}.")
