"""How long datasets take: to build, to load first, to load again; and by Minari alone, side by side.

    python tests/perf/bench_datasets.py [CheetahVel/history AntDir/replay] [--keep FOLDER]

They are built in a folder of their own below ``out/``, which is removed afterwards, or kept elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path("out")
ROUNDS = 3


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def minari_iterates(name: str) -> int:
    import minari

    return sum(len(episode.rewards) for episode in minari.load_dataset(name).iterate_episodes())


def to_arrays(dataset: Any) -> float:
    """Touch every byte."""
    return float(sum(np.asarray(array).view(np.uint8).reshape(-1)[::4096].sum() for array in dataset.arrays().values()))


def measure(name: str) -> dict[str, Any]:
    from offlinemeta import datasets
    from offlinemeta.datasets import storage

    spec = datasets.get_spec(name)
    build, dataset = timed(lambda: datasets.build(spec, force=True))
    size = (storage.place(spec) / "data" / "main_data.hdf5").stat().st_size
    firsts, agains, theirs = [], [], []
    for _ in range(ROUNDS):
        theirs.append(timed(lambda: minari_iterates(spec.id))[0])
        shutil.rmtree(storage.ours("flat"))
        firsts.append(timed(lambda: to_arrays(datasets.load(spec)))[0])
        agains.append(timed(lambda: to_arrays(datasets.load(spec)))[0])
    return {
        "dataset": spec.id,
        "transitions": len(dataset.rewards),
        "MB": round(size / 1e6),
        "build [s]": round(build, 1),
        "first load [s]": round(float(np.median(firsts)), 2),
        "load again [s]": round(float(np.median(agains)), 3),
        "minari iterate_episodes [s]": round(float(np.median(theirs)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", default=["CheetahVel/history", "AntDir/replay"])
    parser.add_argument("--keep", type=Path, help="build here, and leave it")
    options = parser.parse_args()
    folder = options.keep or OUT / "bench-datasets"
    os.environ["MINARI_DATASETS_PATH"] = str(folder.resolve())
    os.environ.pop("MINARI_REMOTE", None)
    rows = []
    try:
        for name in options.ids:
            rows.append(measure(name))
            print(json.dumps(rows[-1]), flush=True)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    OUT.mkdir(exist_ok=True)
    (OUT / "bench-datasets.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
