"""The commands ``offlinemeta run`` and ``study``: grids of trainings. Heavy imports stay inside the commands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console

from offlinemeta.cli.training import require_torch

if TYPE_CHECKING:
    from rich.console import RenderableType

    from offlinemeta.baselines.training.cell import Cell

console = Console()

JOBS = 2
"""How many trainings run at once on this machine, unless another number is asked for."""

Methods = Annotated[
    str, typer.Option(help="Comma-separated methods, trained in this order; or all, for those that the study trains.")
]


def run(
    suite: Annotated[
        str | None, typer.Argument(help="The suite: smoke, core, study or full. Without it, list the suites.")
    ] = None,
    methods: Methods = "all",
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Number of seeds, counted from 0; by default, the suite's.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Number of trainings at once, which use one core each; by default {JOBS}, or, with --ray, as many as "
            "the cluster has cores.",
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Preset of all methods' configs; by default, the suite's.")] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of the runs; by default out/runs, or out/runs-PRESET.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Folder where results are gathered; by default out/results, or out/results-PRESET."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Run only the I-th of N shards, such as 3/16; give each job of a cluster one shard."
        ),
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Run on the Ray cluster at RAY_ADDRESS, or on the one on this machine.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the trainings and how long they may take, and run nothing.")
    ] = False,
) -> None:
    """Train and evaluate methods on a suite of benchmarks. Repeat the command to continue where it was stopped."""
    from offlinemeta.benchmark.suite import get_suite

    if suite is None:
        console.print(suite_list())
        return
    require_torch("Training")
    from offlinemeta.baselines.training.cell import split
    from offlinemeta.console import say

    chosen = get_suite(suite)
    preset = preset or chosen.preset
    other = "" if preset == "default" else f"-{preset}"
    runs, results = runs or Path(f"out/runs{other}"), results or Path(f"out/results{other}")
    grid = cells_of(chosen.protocols, methods, chosen.seeds if seeds is None else seeds, preset, runs.absolute())
    which, count = (1, 1) if shard is None else parse_shard(shard)
    cells = split(grid, count)[which - 1]
    if dry_run:
        Console(width=max(console.width, 100)).print(cell_list(cells, grid, results, jobs or JOBS))
        return
    if not cells:
        say(console, f"Shard {shard} is empty: the grid's {len(grid)} trainings are all in other shards.")
        return
    carry_out(cells, jobs, results, ray)
    say(console, f"The results are in {results}. Sum them up with: offlinemeta report {results}")


def study(
    dataset: Annotated[str, typer.Argument(help="The dataset to train on, such as CheetahVel/smac.")],
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, counted from 0.")] = 3,
    methods: Methods = "all",
    preset: Annotated[str, typer.Option(help="Preset of all methods' configs.")] = "default",
    protocols: Annotated[
        str | None, typer.Option(help="Comma-separated protocols that are evaluated; by default, the study's.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of trainings at once, which use one core each.")] = JOBS,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("out/runs"),
    results: Annotated[Path, typer.Option(help="Folder where results are gathered.")] = Path("leaderboard/results"),
) -> None:
    """Train methods with several seeds on one dataset, and gather the results. Repeat the command to resume it."""
    require_torch("Training")
    from offlinemeta.datasets.spec import get_spec
    from offlinemeta.leaderboard.table import STUDY

    spec, played = get_spec(dataset), STUDY["protocols"] if protocols is None else protocols.split(",")
    carry_out(cells_of({spec.short: played}, methods, seeds, preset, runs), jobs, results)


def cells_of(protocols: Mapping[str, Sequence[str]], methods: str, seeds: int, preset: str, runs: Path) -> list[Cell]:
    """Return the cells of a grid, all of whose names have been checked.

    Args:
        protocols: names of datasets, and the protocols that are evaluated on each.
        methods: comma-separated names of methods; or ``all``, those that the study trains. What ``all`` leaves out
            is a method that needs labels for other tasks, where these cannot be computed.
        seeds: number of seeds.
        preset: preset of the methods' configs.
        runs: folder of the runs.

    Raises:
        UnknownNameError: there is no such method, preset, dataset or protocol.
    """
    from offlinemeta.baselines.registry import get_method, make_config
    from offlinemeta.baselines.training.cell import plan
    from offlinemeta.benchmark.protocol import get_benchmark
    from offlinemeta.envs import get_family
    from offlinemeta.leaderboard.table import STUDY

    every = methods.strip() == "all"
    names = list(STUDY["trained"]) if every else [name.strip() for name in dict.fromkeys(methods.split(","))]
    for name in names:
        make_config(name, preset)
    for data, played in protocols.items():
        for protocol in played:
            get_benchmark(f"{data}/{protocol}")

    def possible(cell: Cell) -> bool:
        relabels = get_method(cell.method).fixed.get("relabel", False)
        return not every or not relabels or get_family(cell.spec.family).rewards_tell

    return list(filter(possible, plan(protocols, names, range(seeds), preset, runs)))


def carry_out(cells: Sequence[Cell], jobs: int | None, results: Path, ray: bool = False) -> None:
    """Run cells, here or on a Ray cluster, and gather each one's results as it ends.

    Raises:
        FailedCellsError: some failed.
        FileError: nothing can be written in a folder.
    """
    from offlinemeta.baselines.training.grid import Process, run_grid
    from offlinemeta.baselines.training.on_ray import Cluster
    from offlinemeta.benchmark.result import gather
    from offlinemeta.files import check_writable

    for folder in {results, *(cell.root for cell in cells)}:
        check_writable(folder)
    start = Cluster(console).start if ray else Process
    most = jobs if ray else jobs or JOBS
    run_grid(cells, most, console, lambda cell: gather(cell.folder / "results", results), start)


def suite_list() -> RenderableType:
    """Return a table of the suites."""
    from rich.table import Table

    from offlinemeta.benchmark.suite import SUITES

    table = Table("suite", "what it is for", "datasets", "benchmarks", "preset", "seeds", box=box.SIMPLE_HEAD)
    for name, suite in SUITES.items():
        counts = (len(suite.protocols), len(suite.benchmarks))
        table.add_row(name, suite.what, *map(str, counts), suite.preset, str(suite.seeds))
    return table


def cell_list(cells: Sequence[Cell], grid: Sequence[Cell], results: Path, jobs: int) -> RenderableType:
    """Return a table of cells, with what is left to do and how long that may take.

    Args:
        cells: the cells to list.
        grid: all cells of the grid, of which they may be a shard.
        results: folder of results to estimate by, beside those that ship.
        jobs: number of trainings at once.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from offlinemeta import leaderboard
    from offlinemeta.baselines.training.estimate import ROUGH, estimate
    from offlinemeta.benchmark.result import read_results
    from offlinemeta.console import how_long

    places = [folder for folder in (Path(leaderboard.__path__[0]) / "results", results) if folder.exists()]
    known, folders = read_results(places), {cell.folder for cell in grid}
    table = Table("data", "method", "seed", "state", "step", "time", "by results of", box=box.SIMPLE_HEAD)
    seconds, unknown, done, rough, machines = 0.0, 0, 0, 0, set[str]()
    for cell in cells:
        guess = estimate(cell, folders, known)
        state, shown = "goes on" if guess.step else "new", "unknown"
        if cell.run.finished:
            state, shown, done = "finished", "", done + 1
        elif guess.seconds is None:
            unknown += 1
        else:
            seconds, shown = seconds + guess.seconds, f"about {how_long(guess.seconds)}"
            rough += guess.source in ROUGH
        step = f"{guess.step:,} / {guess.steps:,}"
        row = (cell.spec.short, cell.how, str(cell.seed), state, step, shown)
        table.add_row(*row, guess.source if shown else "")
        machines |= guess.machines
    left = len(cells) - done - unknown
    notes = [f"{len(cells)} trainings: {done} finished, {left} of a known duration, {unknown} of an unknown one."]
    if left:
        at_once = f", so about {how_long(seconds / jobs)} with {jobs} at once" if jobs > 1 else ""
        notes.append(f"The known ones need about {how_long(seconds)} of one core{at_once}.")
        notes.append(
            f"Times are scaled by gradient steps, from results of {'; '.join(sorted(machines)) or 'other machines'}; "
            "yours may be faster or slower. Loading or building data, and evaluating by many protocols, come on top."
        )
    if rough:
        notes.append(f"By results of {' or '.join(ROUGH)}, {rough} of them are known to an order of magnitude alone.")
    if unknown:
        notes.append("Unknown means that there is no result to estimate by, here or in the package.")
    return Group(table, Text("\n".join(notes)))


def parse_shard(text: str) -> tuple[int, int]:
    """Return the number of a shard, and how many there are, from text such as ``3/16``.

    Raises:
        ArgumentError: the text names no shard.
    """
    from offlinemeta.envs.errors import ArgumentError

    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ArgumentError(f"--shard is I/N with I from 1 to N, such as 3/16 for the third of sixteen; not {text!r}.")
    return int(found[1]), int(found[2])


RUN_EPILOG = (
    "Examples:\n\n  offlinemeta run                                 # lists the suites\n\n"
    "  offlinemeta run smoke                           # takes minutes; tests that everything works\n\n"
    "  offlinemeta run core --methods smac,pearl --dry-run\n\n"
    "  offlinemeta run core --methods smac,pearl,macaw,borel,bc --seeds 5 --jobs 8\n\n"
    "  offlinemeta run core --shard 3/16               # one of 16 jobs of a cluster; see docs/cluster.md\n\n"
    "  offlinemeta run core --ray                      # on a Ray cluster\n\n"
    "  offlinemeta report out/results"
)
STUDY_EPILOG = (
    "Examples:\n\n  offlinemeta study CheetahVel/smac\n\n  offlinemeta study AntDir/smac --seeds 5 --jobs 8\n\n"
    "  offlinemeta report leaderboard/results"
)
