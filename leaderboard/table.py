"""Sums results up as the rows of a table, one for each method on each family, dataset and split of tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from offlinemeta.benchmark import metrics
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS, get_benchmark
from offlinemeta.benchmark.result import Provenance, Result
from offlinemeta.datasets.references import LEAST_WORTH, LOW_WORTH, read_references
from offlinemeta.datasets.spec import VERSION

STUDY: Mapping[str, Any] = json.loads((Path(__file__).parent / "study.json").read_text(encoding="utf-8"))
"""Which methods the study trains, in which order all are shown, which part each plays in the claims and the demo."""


@dataclass(frozen=True)
class Row:
    """A method on a dataset and a split of tasks: its results and their statistics, each computed once.

    What was not evaluated is None.

    Attributes:
        data: family and quality, such as ``AntDir/smac``; with the split, where it is not ``test``.
        split: which tasks the results are about.
        method: its name.
        results: all that there are, whatever their protocol.
        online: the result with the most episodes among the online ones.
        logged: the result with logged context.
        score: mean of the normalised score of the online episode that counts, the third.
        iqm: interquartile mean of that score.
        worst: mean of its worst quarter.
        curve: mean return of each online episode; empty without an online result.
        auc: mean of the normalised score averaged over the online episodes.
        offline: mean return with logged context.
        episodes: mean return with whole logged rollouts as context.
        shift: mean return with logged context minus with self-collected context of the same size.
        kl_shift: the normalised shift in z, mean over seeds.
    """

    data: str
    split: str
    method: str
    results: tuple[Result, ...]
    online: Result | None
    logged: Result | None
    score: metrics.Interval | None
    iqm: metrics.Interval | None
    worst: float | None
    curve: tuple[metrics.Interval, ...]
    auc: metrics.Interval | None
    offline: metrics.Interval | None
    episodes: metrics.Interval | None
    shift: metrics.Interval | None
    kl_shift: float | None

    @property
    def third(self) -> metrics.Interval | None:
        """Mean return of the online episode that counts, the third."""
        return None if self.online is None else self.curve[self.online.counted]

    @property
    def last(self) -> metrics.Interval | None:
        """Mean return of the last online episode, where there are more than three."""
        return None if self.online is None or len(self.curve) == self.online.counted + 1 else self.curve[-1]

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len((self.online or self.results[0]).seeds)

    @property
    def training(self) -> Provenance:
        """Where the first seed's result comes from: how long it was trained."""
        return (self.online or self.results[0]).provenance[0]

    @property
    def label(self) -> str:
        """The method's name, with a remark if it is told the task."""
        return f"{self.method} (told the task)" if self.results[0].sees_task else self.method


def summarise(results: Sequence[Result]) -> list[Row]:
    """Return the rows, sorted by data; within one, the package's methods first, in the order of :data:`STUDY`."""
    usual = {method: place for place, method in enumerate(STUDY["methods"])}

    def place(result: Result) -> tuple[str, int, str]:
        return data_of(result), usual.get(result.method, len(usual)), result.method

    return [_row(data, method, tuple(own)) for (data, _, method), own in groupby(sorted(results, key=place), key=place)]


def by_data(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows by family and quality, in their order."""
    return {data: [row for row in rows if row.data == data] for data in dict.fromkeys(row.data for row in rows)}


def data_of(result: Result) -> str:
    """Return the family and quality of a result, and the split of its tasks where it is not ``test``."""
    benchmark = get_benchmark(result.benchmark)
    split = benchmark.protocol.split
    return f"{benchmark.family}/{benchmark.quality}" + f", {split} tasks" * (split != "test")


def paired(*results: Result | None) -> list[Result] | None:
    """Return results of the seeds that all of them have, in one order; None if one is missing or no seed is shared."""
    present = [result for result in results if result is not None]
    if len(present) < len(results):
        return None
    seeds = [seed for seed in present[0].seeds if all(seed in result.seeds for result in present)]
    return [result.of_seeds(seeds) for result in present] if seeds else None


def context_shift(given: Result | None, own: Result | None) -> metrics.Estimate | None:
    """Return with logged context minus with self-collected context of the same size, over the seeds that have both."""
    pair = paired(given, own)
    if pair is None or len(pair[1].returns[0][0]) <= OFFLINE_ROLLOUTS:
        return None
    offline, collected = (result.array() for result in pair)
    return metrics.estimate(metrics.shift(offline[..., 0], collected[..., OFFLINE_ROLLOUTS]))


def _row(data: str, method: str, results: tuple[Result, ...]) -> Row:
    protocols = [get_benchmark(result.benchmark).protocol for result in results]
    by_protocol = {
        protocol.kind: result
        for protocol, result in zip(protocols, results, strict=True)
        if protocol.split not in TO_CHOOSE_BY
    }
    online = [result for name, result in by_protocol.items() if name.startswith("online-")]
    own = max(online, key=lambda result: len(result.returns[0][0]), default=None)
    given, rollouts = by_protocol.get("offline-context"), by_protocol.get("offline-episodes")
    shift, kl = context_shift(given, own), own.metrics.get("kl_shift") if own is not None else None
    return Row(
        data=data,
        split=protocols[0].split,
        method=method,
        results=results,
        online=own,
        logged=given,
        score=own.score() if own is not None else None,
        iqm=own.score(metrics.iqm) if own is not None else None,
        worst=own.score(metrics.worst_quarter).value if own is not None else None,
        curve=tuple(own.curve()) if own is not None else (),
        auc=own.auc() if own is not None else None,
        offline=given.curve()[0] if given is not None else None,
        episodes=rollouts.curve()[0] if rollouts is not None else None,
        shift=None if shift is None else shift.interval,
        kl_shift=sum(kl) / len(kl) if kl else None,
    )


MEANING = {
    "third return": "mean return of the third online episode, after two of exploration (or the last, of fewer)",
    "score": "mean of its normalised scores, 0 the best blind policy, 100 the expert told its task",
    "IQM": "mean of the middle half of these scores",
    "worst quarter": "mean of the lowest quarter of these scores, of all seeds and tasks",
    "last return": "mean return of the last online episode",
    "auc": "mean score of all online episodes",
    "logged context": f"mean return after {OFFLINE_ROLLOUTS} episodes' worth of logged transitions",
    "logged episodes": f"mean return after {OFFLINE_ROLLOUTS} whole logged rollouts in random order",
    "shift": "return with logged context minus that after as many of the agent's own steps",
    "KL shift": "how far own contexts lie from logged ones in z: 0 not at all, 1 as far as those of another task",
    "gradient steps": "of the training",
    "env steps": "of interaction in training, beyond the logged data",
    "minutes": "of the first seed's training, on the machine in its results",
}
"""Columns with figures, and what they mean; a table leaves out those that are empty in all its rows."""
INTERVALS = "In brackets: 95 % confidence intervals over whole seeds, and tasks (Student's t, since seeds are few)."


def settle(value: float) -> float:
    """Round away what differs between processors: a sum may end in other bits, and a text or a verdict must not."""
    return float(f"{round(value, 9):.10g}") + 0.0  # no -0


def figure(value: float | metrics.Interval | None, digits: int = 3) -> str:
    """Return a figure as text, with its interval in brackets where it has one; nothing if there is none."""
    if value is None:
        return ""
    if isinstance(value, metrics.Interval):
        return "{} [{}, {}]".format(*(figure(part, digits) for part in value))
    text = f"{settle(value):.{digits}g}"
    return f"{float(text):,.0f}" if "e+" in text else text


def cells(row: Row) -> dict[str, str]:
    """Return the figures of a row as text, by the names in :data:`MEANING`."""
    values = (row.third, row.score, row.iqm, row.worst, row.last, row.auc, row.offline, row.episodes, row.shift)
    steps = (row.training.gradient_steps, row.training.env_steps)
    counts = [f"{count:,}" if any(steps) else "" for count in steps]
    counts.append(f"{row.training.wall_time / 60:.1f}" if row.training.wall_time else "")
    return dict(zip(MEANING, [*map(figure, values), figure(row.kl_shift, 2), *counts], strict=True))


def grid(rows: Sequence[Row], columns: Sequence[str] = tuple(MEANING)) -> tuple[list[str], list[list[str]]]:
    """Return the head and the lines of a table of these rows; of the columns with figures, those that are not empty.

    Rows on tasks to choose by, which have no figures but those of :func:`further`, are left out beside others.
    """
    rows = [row for row in rows if row.split not in TO_CHOOSE_BY] or rows
    every = [cells(row) for row in rows]
    columns = [name for name in columns if any(line[name] for line in every)]
    lines = [
        [row.data, row.label, str(row.seeds), *(line[name] for name in columns)]
        for row, line in zip(rows, every, strict=True)
    ]
    return ["data", "method", "seeds", *columns], lines


TO_CHOOSE_BY = ("train", "val")
"""Splits of tasks that settings are chosen by; returns on them are shown, and are no results."""

COUNTED = re.compile(r"online-\d+|offline-context|offline-episodes")
"""Kinds of protocols that have columns of their own in a table."""


def further(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the lines of a table of the other protocols, such as zero-shot; no lines if there are none.

    Of tasks to choose by, all protocols are in it. The last episode is shown, which in most of these is the only one.
    """
    lines = []
    for row in rows:
        for result in row.results:
            kind = get_benchmark(result.benchmark).protocol.kind
            if row.split in TO_CHOOSE_BY or not COUNTED.fullmatch(kind):
                lines.append([row.data, row.label, str(len(result.seeds)), kind, figure(result.curve()[-1])])
    return ["data", "method", "seeds", "protocol", "mean return"], lines


def note(rows: Sequence[Row], columns: Sequence[str] = tuple(MEANING)) -> str:
    """Return what the columns of a table of these rows mean."""
    head, _ = grid(rows, columns)
    meanings = "; ".join(f"{name}: {MEANING[name]}" for name in head if name in MEANING)
    return f"{meanings}. {INTERVALS}" if meanings else ""


def remarks(rows: Sequence[Row]) -> list[str]:
    """Return what a reader has to know of the data: not of the present version, not of the manifest, worth little."""
    said = []
    trained = [p.dataset["id"] for row in rows for result in row.results for p in result.provenance if p.dataset]
    versions = sorted({name.rpartition("-")[2] for name in trained})
    if versions and versions != [f"v{VERSION}"]:
        said.append(f"Trained on datasets of version {' and '.join(versions)}, while the present one is v{VERSION}.")
    other = [f"{row.method} on {row.data}" for row in rows if _on_other_data(row)]
    if other:
        said.append(f"Trained or adapted on data that are not those of the manifest: {', '.join(other)}.")
    for family in dict.fromkeys(row.data.partition("/")[0] for row in rows):
        if LOW_WORTH in read_references(family).tags:
            said.append(
                f"{family} is {LOW_WORTH}: knowing a task is worth less than {LEAST_WORTH:g} of what is gained over "
                "random actions, so scores are 0 at random, and averages over families should leave it out."
            )
    return said


def _on_other_data(row: Row) -> bool:
    """Return whether a result says that its training data, or its logged context, were not those of the manifest."""
    return any("other" in data for result in row.results for p in result.provenance for data in (p.dataset, p.context))


TERMINAL = ("third return", "score", "logged context", "logged episodes", "shift", "gradient steps", "env steps")
"""Columns of a table in a terminal."""


def table(rows: Sequence[Row]) -> Table:
    """Return the rows for a terminal, with the columns that fit into one; a report has all."""
    head, lines = grid(rows, TERMINAL)
    shown = Table(*head, caption=Text(note(rows, TERMINAL)), caption_justify="left")
    for column in shown.columns:
        column.no_wrap = True
    for line in lines:
        shown.add_row(*map(Text, line))
    return shown


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a text. Cells that hold text from outside are escaped (:func:`escape`) by the caller."""
    return "".join("| " + " | ".join(line) + " |\n" for line in (head, ["---"] * len(head), *rows))


SHORT = ("third return", "score", "logged context", "shift", "gradient steps", "env steps")
"""Columns of README's table."""


def short(rows: Sequence[Row], remarks: Sequence[str] = ()) -> str:
    """Return README's table as Markdown: the main columns, on test tasks alone."""
    return report([row for row in rows if row.split == "test"], remarks, SHORT)


def report(rows: Sequence[Row], remarks: Sequence[str] = (), columns: Sequence[str] = tuple(MEANING)) -> str:
    """Return the rows as Markdown, with what there is to say of them."""
    head, lines = grid(rows, columns)
    escaped = [[escape(data), escape(label), *rest] for data, label, *rest in lines]
    notes = (note(rows, columns), *map(escape, remarks))
    return markdown(head, escaped) + "".join(f"\n{text}\n" for text in notes)


def report_further(rows: Sequence[Row]) -> str:
    """Return :func:`further` as Markdown; nothing if there are none."""
    head, lines = further(rows)
    if not lines:
        return ""
    return "\n## Other protocols\n\n" + markdown(head, [list(map(escape, line)) for line in lines])


def escape(text: str) -> str:
    """Return text from outside as Markdown that shows it as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]()<>#!|~&$])", r"\\\1", " ".join(text.split()))
