"""How fast PEARL trains at the published sizes, beside what this machine's matrix products do in the same minutes.

``python tests/perf/bench_train.py`` prints a table and writes ``out/bench-train.json``. Products are 300 wide, at the
rows of one network pass; the original code's times are for this kind of machine, two threads (specs of the study).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from offlinemeta import datasets
from offlinemeta.baselines.pearl import PEARL, PRESETS
from offlinemeta.baselines.training.hardware import keep_memory

SIZES = {"CheetahVel": {"meta_batch": 16, "context": 100}, "AntDir": {"meta_batch": 4, "context": 256}}
ORIGINAL = {"CheetahVel": "257 to 406", "AntDir": "71 to 121"}
ROUNDS = 5


def seconds(function: Callable[[], object], least: float) -> float:
    """Seconds a call, over at least ``least`` seconds."""
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < least:
        function()
        count += 1
    return (time.perf_counter() - started) / count


def product_rate(rows: int, dtype: torch.dtype, least: float) -> float:
    """FLOP/s of a 300-wide product."""
    a, b = torch.randn(rows, 300, dtype=dtype), torch.randn(300, 300, dtype=dtype)
    out = torch.empty(rows, 300, dtype=dtype)
    return 2 * rows * 300 * 300 / seconds(lambda: torch.mm(a, b, out=out), least)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--least", type=float, default=2.0, help="seconds of each measurement")
    parser.add_argument("--out", type=Path, default=Path("out/bench-train.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_memory()
    console = Console()
    table = Table(
        "family", "precision", "ms a step", "original code", "GFLOP a step", "GFLOP/s", "products", "share",
        title=f"PEARL at the published sizes, {options.threads} threads, medians of {ROUNDS}",
    )  # fmt: skip
    found = []
    for name, sizes in SIZES.items():
        for precision in ("float32", "bfloat16"):
            config = replace(PRESETS["paper"], **sizes, normalise=True, bfloat16=precision == "bfloat16")
            dataset = datasets.load(f"{name}/smac")
            learner = PEARL(config, dataset.family, torch.Generator().manual_seed(0))
            learner.load(dataset)
            learner.update()
            with FlopCounterMode(display=False) as counter:
                learner.update()
            flop, rows = counter.get_total_flops(), config.meta_batch * config.batch
            rates, steps = [], []
            for _ in range(ROUNDS):  # in turn, since the machine is shared
                rates.append(product_rate(rows, getattr(torch, precision), options.least / 4))
                steps.append(seconds(learner.update, options.least))
            step, rate = statistics.median(steps), statistics.median(rates)
            entry = {
                "family": name,
                "precision": precision,
                "ms": round(1000 * step, 1),
                "gflop": round(flop / 1e9, 2),
                "gflops": round(flop / step / 1e9, 1),
                "products": round(rate / 1e9, 1),
                "share": round(flop / step / rate, 2),
            }
            found.append(entry)
            shown = [str(entry[key]) for key in ("ms", "gflop", "gflops", "products", "share")]
            table.add_row(name, precision, shown[0], ORIGINAL[name], *shown[1:])
    console.print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
