"""What a set of results says, as rows of a table: one for each method on each family and dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from offlinemeta.benchmark import metrics
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS, get_benchmark
from offlinemeta.benchmark.result import Result


@dataclass(frozen=True)
class Row:
    """A method on a dataset; what was not evaluated is None.

    Attributes:
        data: family and quality, such as ``AntDir/smac``.
        method: its name.
        protocol: the one with the most episodes among the online ones.
        seeds: how many.
        score: IQM of the normalised score of the last online episode.
        last: mean return of the last online episode.
        auc: IQM of the normalised score averaged over the online episodes.
        offline: mean return with logged context.
        shift: mean return with logged context minus with self-collected context, of the same size.
        kl_shift: the normalised shift in z, mean over seeds.
    """

    data: str
    method: str
    protocol: str
    seeds: int
    score: metrics.Interval | None
    last: metrics.Interval | None
    auc: metrics.Interval | None
    offline: metrics.Interval | None
    shift: metrics.Interval | None
    kl_shift: float | None


def summarise(results: Sequence[Result]) -> list[Row]:
    """Return the rows by family and dataset; within one, in the order of the results."""
    keys = sorted(dict.fromkeys((data_of(result), result.method) for result in results), key=lambda key: key[0])
    return [_row(*key, [r for r in results if (data_of(r), r.method) == key]) for key in keys]


def data_of(result: Result) -> str:
    """Family and quality of a result."""
    benchmark = get_benchmark(result.benchmark)
    return f"{benchmark.family}/{benchmark.quality}"


def online(results: Sequence[Result]) -> Result | None:
    """Return the longest online result on test tasks."""
    found = [r for r in results if get_benchmark(r.benchmark).protocol.name.startswith("online")]
    return max(found, key=lambda r: len(r.returns[0][0]), default=None)


def logged(results: Sequence[Result]) -> Result | None:
    """Return the result with logged context."""
    return next((r for r in results if get_benchmark(r.benchmark).protocol.name == "offline-context"), None)


def context_shift(given: Result | None, own: Result | None) -> metrics.Interval | None:
    """Return with logged context minus with self-collected context of the same size, over the seeds that have both."""
    if given is None or own is None or len(own.returns[0][0]) <= OFFLINE_ROLLOUTS:
        return None
    seeds = [seed for seed in own.seeds if seed in given.seeds]
    if not seeds:
        return None
    offline = given.array()[[given.seeds.index(seed) for seed in seeds], :, 0]
    collected = own.array()[[own.seeds.index(seed) for seed in seeds], :, OFFLINE_ROLLOUTS]
    return metrics.bootstrap(metrics.shift(offline, collected), metrics.mean)


def _row(data: str, method: str, results: Sequence[Result]) -> Row:
    own, given = online(results), logged(results)
    kl = own.metrics.get("kl_shift") if own is not None else None
    return Row(
        data=data,
        method=f"{method} (told the task)" if results[0].sees_task else method,
        protocol=get_benchmark(own.benchmark).protocol.name if own is not None else "",
        seeds=len((own or results[0]).seeds),
        score=own.final() if own is not None else None,
        last=own.curve()[-1] if own is not None else None,
        auc=own.auc() if own is not None else None,
        offline=given.curve()[0] if given is not None else None,
        shift=context_shift(given, own),
        kl_shift=sum(kl) / len(kl) if kl else None,
    )


COLUMNS = ("last return", "score", "auc", "logged context", "shift", "KL shift")
NOTE = (
    "last return: mean of the last online episode. score, auc: IQM, 0 random, 100 expert. logged context: mean return "
    f"after {OFFLINE_ROLLOUTS} episodes' worth of logged transitions; shift: that minus the return after as many of "
    "the agent's own (fewer where it falls). In brackets 95 % bootstrap intervals, over seeds and tasks."
)


def cells(row: Row) -> list[str]:
    """Return the figures of a row as text, in the order of :data:`COLUMNS`."""
    kl = "" if row.kl_shift is None else f"{row.kl_shift:.2g}"
    values = (row.last, row.score, row.auc, row.offline, row.shift)
    return [
        *("" if value is None else f"{value.value:.3g} [{value.low:.3g}, {value.high:.3g}]" for value in values),
        kl,
    ]


def table(results: Sequence[Result]) -> Table:
    """Return the rows for a terminal."""
    shown = Table("data", "method", "seeds", *COLUMNS, caption=NOTE, caption_justify="left")
    for column in shown.columns:
        column.no_wrap = True
    for row in summarise(results):
        shown.add_row(row.data, row.method, str(row.seeds), *cells(row))
    return shown


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> str:
    """Return a table for a text."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{note}\n"
