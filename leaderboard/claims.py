"""Tells which claims of the SMAC study (Pong et al., ICML 2022) hold on a set of results.

All of them are about the third episode, after two of exploration, and compare methods at the same protocol. A claim is
that a figure is above zero: it holds where the figure's 95 % interval is; the report also says whether it still does
after Holm's correction for all of its claims on the same split that could be asked. That there is no gap is said only
where the whole interval lies within :data:`NO_GAP` points of score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.table import Table
from rich.text import Text

from offlinemeta.benchmark import metrics
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.benchmark.result import Result
from offlinemeta.datasets.references import read_references
from offlinemeta.envs.shapes import Array, Float
from offlinemeta.leaderboard.table import STUDY, Row, by_data, context_shift, escape, figure, markdown, paired, settle

LEVEL = 0.025
"""Below which a one-sided p-value is none of chance: one end of a 95 % interval."""

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"

NO_GAP = 5.0
"""Points of score that count as no difference."""

LEAST_SEEDS = 2
"""Seeds without which nothing is claimed: a single training tells of tasks alone."""


@dataclass(frozen=True)
class Claim:
    """A claim on one family and dataset.

    Attributes:
        data: the family and dataset, such as ``AntDir/smac``.
        text: what is claimed.
        verdict: :data:`HOLDS`, :data:`FAILS` or :data:`OPEN`.
        figures: the interval that decides; it is claimed to be above zero.
        p_value: the one-sided p-value of the claim; None where it could not be asked.
        corrected: the p-value after Holm's correction for all claims on the same split that could be asked.
    """

    data: str
    text: str
    verdict: str
    figures: str
    p_value: float | None = None
    corrected: float | None = None


def check_claims(rows: Sequence[Row]) -> list[Claim]:
    """Return every claim for which there are the results that it needs, with its verdict."""
    found = [claim for data, group in by_data(rows).items() for claim in _claims(data, group)]
    splits = {row.data: row.split for row in rows}
    for split in dict.fromkeys(splits.values()):  # the same agents on other tasks: other answers to the same questions
        asked = [i for i, claim in enumerate(found) if claim.p_value is not None and splits[claim.data] == split]
        for i, corrected in zip(asked, metrics.holm([found[i].p_value or 0.0 for i in asked]), strict=True):
            found[i] = replace(found[i], corrected=corrected)
    return found


def _claims(data: str, rows: Sequence[Row]) -> list[Claim]:
    """Return the claims on one family and dataset."""
    online = {row.method: row.online for row in rows if row.seeds >= LEAST_SEEDS}
    logged = {row.method: row.logged for row in rows if row.seeds >= LEAST_SEEDS}
    start, end, bound = (STUDY["claims"][part] for part in ("start", "end", "bound"))
    found = []
    shift = context_shift(logged.get(start), online.get(start))
    if shift is not None:
        found.append(_judge(data, "1 after the offline phase, logged context beats self-collected context", shift))
    text = "2 self-supervision brings own context up by more than half of that gap"
    closed = _closed(logged.get(start), online.get(start), online.get(end))
    if closed is not None and shift is not None:
        found.append(
            _judge(data, text, closed) if _above(shift) else _unasked(rows[0], text, shift, "gap to begin with")
        )
    kl = _difference_of_metric(online.get(start), online.get(end), "kl_shift")
    if kl is not None:
        found.append(_judge(data, "2 ... and the normalised KL shift falls", kl))
    for other in STUDY["claims"]["others"]:
        better = _difference(online.get(end), online.get(other))
        if better is not None:
            found.append(_judge(data, f"3 SMAC ends above {other}", better))
    text = f"4 SMAC ends closer to the {bound} than to its offline start"
    closer = _closer(online.get(end), online.get(bound), online.get(start))
    gain = _difference(online.get(bound), online.get(start))
    if closer is not None and gain is not None:
        what = f"gain of the {bound} over that start"
        found.append(_judge(data, text, closer) if _above(gain) else _unasked(rows[0], text, gain, what))
    return found


def _judge(data: str, text: str, found: metrics.Estimate) -> Claim:
    interval = found.interval
    verdict = HOLDS if _above(found) else FAILS if settle(interval.high) <= 0 else OPEN
    return Claim(data, text, verdict, figure(interval), found.p_value)


def _above(found: metrics.Estimate) -> bool:
    return settle(found.interval.low) > 0


def _unasked(row: Row, text: str, found: metrics.Estimate, what: str) -> Claim:
    """Return a claim that makes no sense on a row's data: what it builds on is not there, or may not be."""
    low, high = read_references(row.data.partition("/")[0]).scale(row.split)
    points = [100 * end / (high - low) for end in found.interval[1:]]
    none = max(map(abs, points)) <= NO_GAP
    return Claim(row.data, text, OPEN, f"no {what}" if none else f"no clear {what}: {figure(found.interval)}")


def _difference(one: Result | None, other: Result | None) -> metrics.Estimate | None:
    pair = _alike(one, other)
    return None if pair is None else metrics.estimate(_third(pair[0]) - _third(pair[1]))


def _closed(
    given_before: Result | None, own_before: Result | None, own_after: Result | None
) -> metrics.Estimate | None:
    """Return the gain with own context, minus half of the gap before."""
    found, pair = paired(given_before, own_before, own_after), _alike(own_before, own_after)
    if found is None or pair is None:
        return None
    given, before, after = found[0].array()[..., 0], _third(found[1]), _third(found[2])
    return metrics.estimate((after - before) - (given - before) / 2)


def _closer(after: Result | None, bound: Result | None, before: Result | None) -> metrics.Estimate | None:
    """Return the distance to the offline start minus the distance to the bound, of mean returns."""
    found = _alike(after, bound, before)
    return None if found is None else metrics.estimate(np.stack([_third(one) for one in found], axis=-1), closeness)


def closeness(last: Float[Array, "entry 3"], counts: Float[Array, "resample entry"]) -> Float[Array, " resample"]:
    """Return how much nearer the means of the first column are to those of the second than to those of the third."""
    own, best, start = (metrics.mean(returns, counts) for returns in last.T)
    return np.abs(own - start) - np.abs(own - best)


def _alike(*results: Result | None) -> list[Result] | None:
    """Return online results, which must be of one protocol and have a third episode, for the seeds that all have."""
    found = paired(*results)
    if found is None or len(found[0].seeds) < LEAST_SEEDS or len({one.benchmark for one in found}) > 1:
        return None
    return found if len(found[0].returns[0][0]) > OFFLINE_ROLLOUTS else None


def _third(result: Result) -> Float[Array, "seed task"]:
    """Return the returns after two episodes of own exploration."""
    return result.array()[..., OFFLINE_ROLLOUTS]


def _difference_of_metric(one: Result | None, other: Result | None, name: str) -> metrics.Estimate | None:
    pair = paired(one, other)
    if pair is None or not all(name in result.metrics for result in pair) or len(pair[0].seeds) < LEAST_SEEDS:
        return None
    before, after = (np.array(result.metrics[name]) for result in pair)
    return metrics.estimate((before - after)[:, None])


NOTE = (
    "A claim holds where the 95 % interval of its figure, over seeds and tasks, is above 0. Corrected: the one-sided "
    f"p-value after Holm's correction for those on the same split that could be asked; below {LEVEL:g} a claim holds "
    "after it too."
)
HEAD = ("data", "claim of the SMAC study", "verdict", "by how much", "corrected p")


def line(claim: Claim) -> tuple[str, ...]:
    """Return a claim as a line of a table, under :data:`HEAD`."""
    corrected = "" if claim.corrected is None else "< 0.001" if claim.corrected < 1e-3 else f"{claim.corrected:.3f}"
    return claim.data, claim.text, claim.verdict, claim.figures, corrected


def table(claims: Sequence[Claim]) -> Table:
    """Return the claims for a terminal."""
    shown = Table(*HEAD, caption=Text(NOTE), caption_justify="left")
    for claim in claims:
        shown.add_row(*map(Text, line(claim)))
    return shown


def report(claims: Sequence[Claim]) -> str:
    """Return the claims as Markdown; nothing if there are none."""
    if not claims:
        return ""
    return "\n" + markdown(HEAD, [list(map(escape, line(claim))) for claim in claims]) + f"\n{NOTE}\n"
