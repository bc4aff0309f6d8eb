"""The claims of the SMAC study as measurements: does each hold on a set of results? (Pong et al., ICML 2022.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from offlinemeta.benchmark import metrics
from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS
from offlinemeta.benchmark.result import Result
from offlinemeta.envs.shapes import Array, Float
from offlinemeta.leaderboard.table import context_shift, data_of, logged, online

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


@dataclass(frozen=True)
class Claim:
    """A claim on one family and dataset.

    Attributes:
        data: such as ``AntDir/smac``.
        text: what is claimed.
        verdict: :data:`HOLDS`, :data:`FAILS` or :data:`OPEN`.
        figures: the interval that decides; it is claimed to be above zero.
    """

    data: str
    text: str
    verdict: str
    figures: str


def check_claims(results: Sequence[Result]) -> list[Claim]:
    """Check every claim that the results suffice for."""
    claims = []
    for data in dict.fromkeys(data_of(result) for result in results):
        group = [result for result in results if data_of(result) == data]
        methods = {m: [r for r in group if r.method == m] for m in dict.fromkeys(r.method for r in group)}
        claims += [Claim(data, *claim) for claim in _claims(methods)]
    return claims


def _claims(methods: Mapping[str, Sequence[Result]]) -> list[tuple[str, str, str]]:
    before, after = methods.get("smac-offline", ()), methods.get("smac", ())
    found = []
    shift = context_shift(logged(before), online(before))
    if shift is not None:
        found.append(_judge("1 after the offline phase, logged context beats self-collected context", shift))
    halved = _halved(before, after)
    if halved is not None and shift is not None and shift.low <= 0:
        found.append(("2 self-supervision takes away more than half of that gap", OPEN, "no gap to begin with"))
    elif halved is not None:
        found.append(_judge("2 self-supervision takes away more than half of that gap", halved))
    kl = _difference_of_metric(before, after, "kl_shift")
    if kl is not None:
        found.append(_judge("2 ... and the normalised KL shift falls", kl))
    for other in ("smac-offline", "pearl", "bc"):
        better = _difference(online(after), online(methods.get(other, ())))
        if better is not None:
            found.append(_judge(f"3 SMAC ends above {other}", better))
    text = "4 SMAC ends closer to the oracle than to its offline start"
    closer = _closer(online(after), online(methods.get("oracle", ())), online(before))
    gain = _difference(online(methods.get("oracle", ())), online(before))
    if closer is not None and gain is not None and gain.low <= 0:
        found.append((text, OPEN, "the oracle does not end above that start"))
    elif closer is not None:
        found.append(_judge(text, closer))
    return found


def _judge(text: str, interval: metrics.Interval) -> tuple[str, str, str]:
    verdict = HOLDS if interval.low > 0 else FAILS if interval.high <= 0 else OPEN
    return text, verdict, f"{interval.value:.3g} [{interval.low:.3g}, {interval.high:.3g}]"


def _paired(*results: Result | None) -> list[Float[Array, "seed task episode"]] | None:
    """Return arrays over the seeds that all results have; None where one is missing."""
    present = [result for result in results if result is not None]
    if len(present) < len(results):
        return None
    seeds = [seed for seed in present[0].seeds if all(seed in result.seeds for result in present)]
    return [result.array()[[result.seeds.index(seed) for seed in seeds]] for result in present] if seeds else None


def _difference(one: Result | None, other: Result | None) -> metrics.Interval | None:
    pair = _paired(one, other)
    return None if pair is None else metrics.bootstrap(pair[0][..., -1] - pair[1][..., -1], metrics.mean)


def _halved(before: Sequence[Result], after: Sequence[Result]) -> metrics.Interval | None:
    """Half of the gap before, minus the gap after."""
    found = _paired(logged(before), online(before), logged(after), online(after))
    if found is None:
        return None
    gaps = [found[i][..., 0] - found[i + 1][..., OFFLINE_ROLLOUTS] for i in (0, 2)]
    return metrics.bootstrap(gaps[0] / 2 - gaps[1], metrics.mean)


def _closer(after: Result | None, oracle: Result | None, before: Result | None) -> metrics.Interval | None:
    """Distance to the offline start minus distance to the oracle, of mean returns."""
    found = _paired(after, oracle, before)
    if found is None:
        return None
    last = np.stack([array[..., -1] for array in found], axis=-1)  # [seed, task, 3]

    def statistic(rows: Array) -> float:
        own, best, start = rows.reshape(-1, 3).mean(0)
        return float(abs(own - start) - abs(own - best))

    return metrics.bootstrap(last, statistic)


def _difference_of_metric(before: Sequence[Result], after: Sequence[Result], name: str) -> metrics.Interval | None:
    one, other = online(before), online(after)
    if one is None or other is None or not (name in one.metrics and name in other.metrics):
        return None
    seeds = [seed for seed in one.seeds if seed in other.seeds]
    values = [one.metrics[name][one.seeds.index(seed)] - other.metrics[name][other.seeds.index(seed)] for seed in seeds]
    return metrics.bootstrap(np.array(values)[:, None], metrics.mean) if len(seeds) > 1 else None


NOTE = "A claim holds where the 95 % bootstrap interval of its figure, over seeds and tasks, is above 0."


def table(claims: Sequence[Claim]) -> Table:
    """Return the claims for a terminal."""
    shown = Table("data", "claim of the SMAC study", "verdict", "by how much", caption=NOTE, caption_justify="left")
    for claim in claims:
        shown.add_row(claim.data, claim.text, claim.verdict, claim.figures)
    return shown
