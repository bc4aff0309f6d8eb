"""How long the leaderboard's site takes to build, and how large its pages are: 50 methods x 12 families x 5 seeds."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.result import Provenance, make_result, place, write_result
from offlinemeta.datasets.references import read_references, shipped
from offlinemeta.envs import get_family

METHODS, FAMILIES, SEEDS, PROTOCOLS = 50, 12, 5, ("online-10", "offline-context")


def write_results(root: Path) -> int:
    """Write results that are made up, each through the schema, and return their number."""
    rng, count = np.random.default_rng(0), 0
    families = [name for name in shipped() if name != "format" and not read_references(name).tags][:FAMILIES]
    config = {f"option_{k}": k / 7 for k in range(40)}
    for m in range(METHODS):
        for family in families:
            for protocol in PROTOCOLS:
                benchmark = get_benchmark(f"{family}/smac/{protocol}")
                low, high = read_references(family).scale("test")
                shape = (len(get_family(family).tasks["test"]), benchmark.protocol.episodes)
                for seed in range(SEEDS):
                    scores = 60 * m / METHODS + 5 * rng.normal() + 20 * rng.normal(size=shape)
                    dataset = {"id": f"OfflineMeta/{family}/smac-v1", "sha256": "0" * 64}
                    training = {"gradient_steps": 20_000, "config": config, "commit": "0" * 12}
                    training |= {"versions": {"offlinemeta": "0.1.0", "mujoco": "3.3.0"}, "checkpoint": f"{count:064x}"}
                    about = Provenance(dataset=dataset, started="2026-11-28T00:00:00+00:00", **training)
                    figures = {"gap_told": 1.0, "gap_reader": 0.7, "gap_own": 0.5, "kl_shift": 0.1}
                    result = make_result(
                        benchmark, f"method-{m}", "m:C", low + (high - low) * scores / 100, 3, seed,
                        figures=figures, provenance=about,
                    )  # fmt: skip
                    write_result(result, place(root, result))
                    count += 1
    return count


def main() -> None:
    from offlinemeta.leaderboard.site import build

    with tempfile.TemporaryDirectory() as folder:
        results, out = Path(folder) / "results", Path(folder) / "site"
        count = write_results(results)
        start = time.perf_counter()
        build([results], out)
        print(f"{count:,} results: {time.perf_counter() - start:.1f} s")
        pages = sorted(out.rglob("*.html"), key=lambda file: -file.stat().st_size)
        for file in (*pages[:4], out / "vega.js"):
            print(f"{file.relative_to(out)}: {file.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
