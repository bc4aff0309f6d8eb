"""The cells of a grid: which trainings there are, and how they are split into shards."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from offlinemeta.baselines.registry import get_method, make_config
from offlinemeta.baselines.training.run import PROTOCOLS, RUN_FILE, Run, file_name, run_folder
from offlinemeta.datasets.spec import DatasetSpec, get_spec


@dataclass(frozen=True)
class Cell:
    """One training of a grid, with its evaluation.

    Attributes:
        spec: the dataset.
        method: name of the method.
        seed: seed of the training.
        preset: preset of the method's config.
        root: the folder of all runs; trials that differ in their overrides need roots of their own.
        overrides: fields of the config that differ from the preset, and their values as text.
        protocols: what is evaluated at the end of each phase.
        branch: the folder of a run to branch from; by default, that of the method whose first phases are this one's.
    """

    spec: DatasetSpec
    method: str
    seed: int
    preset: str
    root: Path
    overrides: tuple[tuple[str, str], ...] = ()
    protocols: tuple[str, ...] = PROTOCOLS
    branch: Path | None = None

    @property
    def title(self) -> str:
        """What is trained on what data."""
        return f"{self.spec.short}, {self.how}, seed {self.seed}"

    @property
    def how(self) -> str:
        """The method, and the fields that differ from the preset."""
        return " ".join([self.method, *(f"--{name}={value}" for name, value in self.overrides)])

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return run_folder(self.root, self.spec, self.method, self.seed)

    @property
    def run(self) -> Run:
        """The run that trains this cell."""
        config = make_config(self.method, self.preset, dict(self.overrides))
        return Run(self.method, config, self.spec, self.seed, self.folder, protocols=self.protocols)

    @property
    def output(self) -> Path:
        """The file that holds what the process prints."""
        return self.folder / "output.txt"

    @property
    def before(self) -> Path | None:
        """The folder of the run to branch from."""
        shared = get_method(self.method).shared
        if self.branch is None and shared is not None:
            return run_folder(self.root, self.spec, shared[0], self.seed)
        return self.branch

    def command(self) -> list[str]:
        """Return the command that begins the training, or resumes it."""
        command = [sys.executable, "-m", "offlinemeta", "train", self.method, self.spec.id, "--preset", self.preset]
        command += ["--seed", str(self.seed), "--out", str(self.folder), "--protocols", ",".join(self.protocols)]
        command += [f"--{name}={value}" for name, value in self.overrides]
        if (self.folder / RUN_FILE).exists():
            command.append("--resume")
        if self.before is not None and any(self.before.glob(file_name("state", "*"))):
            command += ["--branch", str(self.before)]
        return command


def plan(
    protocols: Mapping[str, Sequence[str]], methods: Sequence[str], seeds: Sequence[int], preset: str, root: Path
) -> list[Cell]:
    """Return the cells of a grid: each dataset, seed and method, in this order.

    Args:
        protocols: names of datasets, such as ``AntDir/smac``, and the protocols that are evaluated on each.
        methods: names of the methods.
        seeds: seeds of the trainings.
        preset: preset of the methods' configs.
        root: the folder of all runs.
    """
    return [
        Cell(spec, method, seed, preset, root, protocols=tuple(protocols[data]))
        for data, spec in ((data, get_spec(data)) for data in protocols)
        for seed in seeds
        for method in methods
    ]


def steps_of(cell: Cell, folders: Collection[Path]) -> int:
    """Return how many gradient steps a cell makes, less those of a phase that it takes over from another cell.

    Args:
        cell: the cell.
        folders: the folders of all cells of the grid.
    """
    run, shared = cell.run, get_method(cell.method).shared
    if shared is None or cell.before not in folders:
        return run.steps
    return run.steps - next(phase.end for phase in run.config.phases if phase.name == shared[1])


def split(cells: Sequence[Cell], count: int) -> list[list[Cell]]:
    """Split a grid into shards: the same ones for the same grid, whatever has been trained already.

    Cells that branch from one another are in the same shard. Shards make about equally many gradient steps: the largest
    groups come first, each into the shard that has the fewest steps so far. Some are empty if there are more shards
    than groups.

    Args:
        cells: the cells of the grid; within a shard they keep their order.
        count: number of shards.
    """
    places = {cell.folder: cell for cell in cells}

    def first(cell: Cell) -> Cell:
        """Return the cell from which a cell branches, directly or by way of others."""
        return first(places[cell.before]) if cell.before in places else cell

    groups: dict[Cell, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(first(cell), []).append(cell)
    sizes = {head: sum(steps_of(cell, places) for cell in group) for head, group in groups.items()}
    loads, owner = [0] * count, dict[Cell, int]()
    for head in sorted(groups, key=lambda head: -sizes[head]):  # stable, so ties stay in the grid's order
        owner[head] = loads.index(min(loads))
        loads[owner[head]] += sizes[head]
    return [[cell for cell in cells if owner[first(cell)] == place] for place in range(count)]
