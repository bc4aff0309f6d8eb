"""Tells which claims of the SMAC study (Pong et al., ICML 2022) hold on a set of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from rich.text import Text

from offlinemeta.benchmark import metrics
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.benchmark.result import Result
from offlinemeta.envs.shapes import Array, Float
from offlinemeta.leaderboard.table import STUDY, Row, by_data, context_shift, escape, figure, markdown, paired, settle

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


@dataclass(frozen=True)
class Claim:
    """A claim on one family and dataset.

    Attributes:
        data: the family and dataset, such as ``AntDir/smac``.
        text: what is claimed.
        verdict: :data:`HOLDS`, :data:`FAILS` or :data:`OPEN`.
        figures: the interval that decides; it is claimed to be above zero.
    """

    data: str
    text: str
    verdict: str
    figures: str


def check_claims(rows: Sequence[Row]) -> list[Claim]:
    """Return every claim for which there are the results that it needs, with its verdict."""
    return [Claim(data, *claim) for data, group in by_data(rows).items() for claim in _claims(group)]


def _claims(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Return text, verdict and figures of the claims on one family and dataset."""
    online = {row.method: row.online for row in rows}
    logged = {row.method: row.logged for row in rows}
    start, end, bound = (STUDY["claims"][part] for part in ("start", "end", "bound"))
    found = []
    shift = context_shift(logged.get(start), online.get(start))
    if shift is not None:
        found.append(_judge("1 after the offline phase, logged context beats self-collected context", shift))
    text = "2 self-supervision takes away more than half of that gap"
    halved = _halved(logged.get(start), online.get(start), logged.get(end), online.get(end))
    if halved is not None and shift is not None and settle(shift.low) <= 0:
        found.append((text, OPEN, "no gap to begin with"))
    elif halved is not None:
        found.append(_judge(text, halved))
    kl = _difference_of_metric(online.get(start), online.get(end), "kl_shift")
    if kl is not None:
        found.append(_judge("2 ... and the normalised KL shift falls", kl))
    for other in STUDY["claims"]["others"]:
        better = _difference(online.get(end), online.get(other))
        if better is not None:
            found.append(_judge(f"3 SMAC ends above {other}", better))
    text = f"4 SMAC ends closer to the {bound} than to its offline start"
    closer = _closer(online.get(end), online.get(bound), online.get(start))
    gain = _difference(online.get(bound), online.get(start))
    if closer is not None and gain is not None and settle(gain.low) <= 0:
        found.append((text, OPEN, f"the {bound} does not end above that start"))
    elif closer is not None:
        found.append(_judge(text, closer))
    return found


def _judge(text: str, interval: metrics.Interval) -> tuple[str, str, str]:
    verdict = HOLDS if settle(interval.low) > 0 else FAILS if settle(interval.high) <= 0 else OPEN
    return text, verdict, figure(interval)


def _difference(one: Result | None, other: Result | None) -> metrics.Interval | None:
    pair = paired(one, other)
    return None if pair is None else metrics.bootstrap(_last(pair[0]) - _last(pair[1]))


def _halved(
    given_before: Result | None, own_before: Result | None, given_after: Result | None, own_after: Result | None
) -> metrics.Interval | None:
    """Return half of the gap before, minus the gap after."""
    found = paired(given_before, own_before, given_after, own_after)
    if found is None:
        return None
    gaps = [found[i].array()[..., 0] - found[i + 1].array()[..., OFFLINE_ROLLOUTS] for i in (0, 2)]
    return metrics.bootstrap(gaps[0] / 2 - gaps[1])


def _closer(after: Result | None, bound: Result | None, before: Result | None) -> metrics.Interval | None:
    """Return the distance to the offline start minus the distance to the bound, of mean returns."""
    found = paired(after, bound, before)
    return None if found is None else metrics.bootstrap(np.stack([_last(one) for one in found], axis=-1), closeness)


def closeness(last: Float[Array, "entry 3"], counts: Float[Array, "resample entry"]) -> Float[Array, " resample"]:
    """Return how much nearer the means of the first column are to those of the second than to those of the third."""
    own, best, start = (metrics.mean(returns, counts) for returns in last.T)
    return np.abs(own - start) - np.abs(own - best)


def _last(result: Result) -> Float[Array, "seed task"]:
    return result.array()[..., -1]


def _difference_of_metric(one: Result | None, other: Result | None, name: str) -> metrics.Interval | None:
    pair = paired(one, other)
    if pair is None or not all(name in result.metrics for result in pair) or len(pair[0].seeds) < 2:
        return None
    before, after = (np.array(result.metrics[name]) for result in pair)
    return metrics.bootstrap((before - after)[:, None])


NOTE = "A claim holds where the 95 % bootstrap interval of its figure, over seeds and tasks, is above 0."


def table(claims: Sequence[Claim]) -> Table:
    """Return the claims for a terminal."""
    shown = Table(
        "data", "claim of the SMAC study", "verdict", "by how much", caption=Text(NOTE), caption_justify="left"
    )
    for claim in claims:
        shown.add_row(*map(Text, (claim.data, claim.text, claim.verdict, claim.figures)))
    return shown


def report(claims: Sequence[Claim]) -> str:
    """Return the claims as Markdown; nothing if there are none."""
    if not claims:
        return ""
    lines = [[escape(claim.data), escape(claim.text), claim.verdict, claim.figures] for claim in claims]
    return "\n" + markdown(("data", "claim", "verdict", "by how much"), lines) + f"\n{NOTE}\n"
