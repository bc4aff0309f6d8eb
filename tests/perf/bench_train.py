"""How fast methods train at the published sizes, beside what this machine's matrix products do in the same minutes.

``python tests/perf/bench_train.py`` prints a table and writes ``out/bench-train.json``. Products are as wide as the
networks, at the rows of one network pass; the original codes' times are for this kind of machine, two threads (specs of
the study). ``--only borel`` measures the methods whose names contain that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from offlinemeta import datasets
from offlinemeta.baselines.registry import learner_class, make_config
from offlinemeta.baselines.training.hardware import keep_memory


@dataclass(frozen=True)
class Case:
    """A method's gradient step in one of its phases, at a published size.

    Attributes:
        method: the method's name in the registry.
        family: the task family, with its ``smac`` data.
        phase: the phase whose step is measured.
        original: what the authors' code takes [ms].
        rows: rows of one network pass, and of the product beside it.
        width: width of the hidden layers, and of the product beside it.
        changes: fields of the ``paper`` preset that the published runs on this family had otherwise.
    """

    method: str
    family: str
    phase: str
    original: str
    rows: int
    width: int
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """The precision of the matrix products."""
        return "bfloat16" if self.changes.get("bfloat16") else "float32"


PEARL = {
    "CheetahVel": ({"meta_batch": 16, "context": 100, "normalise": True}, "257 to 406"),
    "AntDir": ({"meta_batch": 4, "context": 256, "normalise": True}, "71 to 121"),
}
CASES = [
    Case("pearl", family, "offline", original, changes["meta_batch"] * 256, 300, changes | {"bfloat16": bfloat16})
    for family, (changes, original) in PEARL.items()
    for bfloat16 in (False, True)
] + [
    Case("macaw", "AntDir", "offline", "480 to 577", 5 * 256, 100),
    Case("macaw", "CheetahVel", "offline", "480 to 577", 5 * 256, 100),
    Case("borel", "CheetahVel", "vae", "5,300 to 5,600", 401 * 400, 32),
    Case("borel", "CheetahVel", "offline", "98 to 107", 16 * 256, 256),
]
ROUNDS = 5


def seconds(function: Callable[[], object], least: float) -> float:
    """Seconds a call, over at least ``least`` seconds."""
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < least:
        function()
        count += 1
    return (time.perf_counter() - started) / count


def product_rate(rows: int, width: int, dtype: torch.dtype, least: float) -> float:
    """FLOP/s of a product of ``rows`` times ``width`` with a square matrix."""
    a, b = torch.randn(rows, width, dtype=dtype), torch.randn(width, width, dtype=dtype)
    out = torch.empty(rows, width, dtype=dtype)
    return 2 * rows * width * width / seconds(lambda: torch.mm(a, b, out=out), least)


def measure(case: Case, least: float) -> dict[str, Any]:
    """Measure a case: medians, its steps and the products in turn, since the machine is shared."""
    config: Any = replace(make_config(case.method, "paper"), **case.changes)
    dataset = datasets.load(f"{case.family}/smac")
    learner = learner_class(case.method)(config, dataset.family, torch.Generator().manual_seed(0))
    learner.load(dataset)
    names = [phase.name for phase in config.phases]
    learner.step = ([0] + [phase.end for phase in config.phases])[names.index(case.phase)]
    learner.update()
    with FlopCounterMode(display=False) as counter:
        learner.update()
    flop, dtype, rates, steps = counter.get_total_flops(), getattr(torch, case.precision), [], []
    for _ in range(ROUNDS):
        rates.append(product_rate(case.rows, case.width, dtype, least / 4))
        steps.append(seconds(learner.update, least))
    step, rate = statistics.median(steps), statistics.median(rates)
    return {
        "method": case.method,
        "family": case.family,
        "phase": case.phase,
        "precision": case.precision,
        "ms": round(1000 * step, 1),
        "original": case.original,
        "gflop": round(flop / 1e9, 2),
        "gflops": round(flop / step / 1e9, 1),
        "products": round(rate / 1e9, 1),
        "share": round(flop / step / rate, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--least", type=float, default=2.0, help="seconds of each measurement")
    parser.add_argument("--only", default="", help="measure methods whose names contain this")
    parser.add_argument("--out", type=Path, default=Path("out/bench-train.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_memory()
    console = Console(width=110)
    table = Table(
        "method", "family", "phase", "precision", "ms a step", "original code", "GFLOP", "GFLOP/s", "products", "share",
        title=f"Gradient steps at the published sizes, {options.threads} threads, medians of {ROUNDS}",
    )  # fmt: skip
    found = [measure(case, options.least) for case in CASES if options.only in case.method]
    for entry in found:
        table.add_row(*map(str, entry.values()))
    console.print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
