"""The command ``offlinemeta trials``: named trainings to choose by, on validation tasks, and the table of them.

A file lists the trials, so that what was tried is written down, those that failed too. Heavy imports stay inside.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offlinemeta.baselines.training.cell import Cell
    from offlinemeta.datasets.spec import DatasetSpec

console = Console()

EPILOG = (
    "Examples:\n\n  offlinemeta trials leaderboard/trials/smac.json CheetahVel/smac --seeds 3\n\n"
    "  offlinemeta trials mine.json CheetahVel/smac AntDir/smac --only base,wide --jobs 8\n\n"
    'A file: {"title": "...", "protocols": ["val-online-10"], "trials": {"base": {"method": "smac", "why": "..."},\n'
    '"wide": {"method": "smac", "fields": {"hidden": "256,256"}, "why": "..."}}}'
)


class Trial(BaseModel):
    """A training to choose by.

    Attributes:
        method: the method.
        preset: preset of its config.
        fields: fields of the config that differ from the preset.
        why: what the trial is to decide.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    preset: str = "default"
    fields: dict[str, str | bool | int | float] = {}
    why: str

    @property
    def overrides(self) -> tuple[tuple[str, str], ...]:
        """The fields as text, as the command line takes them."""
        return tuple((name, str(value)) for name, value in self.fields.items())


class Trials(BaseModel):
    """The content of a file of trials.

    Attributes:
        title: what is to be chosen.
        protocols: how the trials are compared, on validation or training tasks.
        trials: the trials by name. Those that differ from the first one in later phases alone branch from its run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    protocols: Annotated[list[str], Field(min_length=1)]
    trials: Annotated[dict[str, Trial], Field(min_length=1)]


def trials(
    file: Annotated[Path, typer.Argument(help="A JSON file that lists the trials.")],
    datasets: Annotated[list[str], typer.Argument(help="Datasets to train on, such as CheetahVel/smac.")],
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, counted from 0.")] = 3,
    only: Annotated[
        str | None, typer.Option(help="Comma-separated names of the trials to run; by default, all.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of trainings at once, which use one core each.")] = 2,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("out/trials"),
    results: Annotated[
        Path | None,
        typer.Option(help="Folder where results are gathered; by default, beside the file and with its name."),
    ] = None,
) -> None:
    """Train the trials that a file lists, compare them on validation tasks, and write a table. Repeat it to resume."""
    from offlinemeta.cli.training import require_torch

    require_torch("Training")
    from offlinemeta.baselines.training.grid import run_grid
    from offlinemeta.benchmark.result import gather
    from offlinemeta.console import say
    from offlinemeta.datasets.spec import get_spec
    from offlinemeta.envs.errors import UnknownNameError
    from offlinemeta.files import check_writable, write_text

    listed, folder = read(file), results or file.with_suffix("")
    names = list(listed.trials) if only is None else [name.strip() for name in only.split(",")]
    for name in names:
        if name not in listed.trials:
            raise UnknownNameError("Trial", name, listed.trials)
    for place in (runs, folder):
        check_writable(place)
    specs = [get_spec(name) for name in datasets]
    cells = {
        cell: name
        for spec in specs
        for seed in range(seeds)
        for name, cell in zip(names, cells_of(listed, names, spec, seed, runs / file.stem), strict=True)
    }
    run_grid(list(cells), jobs, console, lambda cell: gather(cell.folder / "results", folder / slug(cells[cell])))
    write_text(table := folder.with_suffix(".md"), report(listed, folder))
    say(console, f"written: {table}")


def read(file: Path) -> Trials:
    """Read a file of trials.

    Raises:
        ArgumentError: it is missing or no such file, or it would choose on test tasks.
    """
    from offlinemeta.benchmark.protocol import get_protocol
    from offlinemeta.envs.errors import ArgumentError

    try:
        listed = Trials.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ArgumentError(f"{file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ArgumentError(f"{file} is no list of trials: {where}: {first['msg']}.") from error
    for name in listed.protocols:
        if get_protocol(name).split not in ("val", "train"):
            raise ArgumentError(f"{name} is about test tasks, which are for results alone. Choose by val-{name}.")
    if commas := [name for name in listed.trials if "," in name]:
        raise ArgumentError(f"{file} has a trial named {commas[0]!r}; a comma separates names in --only. Rename it.")
    if len({slug(name) for name in listed.trials}) < len(listed.trials):
        raise ArgumentError(f"{file} has two trials whose names differ in punctuation alone. Rename one.")
    return listed


def cells_of(listed: Trials, names: Sequence[str], spec: DatasetSpec, seed: int, root: Path) -> list[Cell]:
    """Return the trainings of some trials on one dataset with one seed."""
    from dataclasses import replace

    from offlinemeta.baselines.parts.config import later_fields
    from offlinemeta.baselines.registry import plain_config
    from offlinemeta.baselines.training.cell import Cell

    def cell(name: str) -> Cell:
        trial = listed.trials[name]
        return Cell(spec, trial.method, seed, trial.preset, root / slug(name), trial.overrides, tuple(listed.protocols))

    first, found = cell(next(iter(listed.trials))), []
    start = first.run.config
    for one in map(cell, names):
        config, phases = one.run.config, start.phases
        if one != first and type(config) is type(start) and len(phases) > 1:
            later = later_fields(type(start), phases, phases[0].name)
            ours, theirs = plain_config(config), plain_config(start)
            if all(value == theirs[field] for field, value in ours.items() if field not in later):
                one = replace(one, branch=first.folder)
        found.append(one)
    return found


def slug(name: str) -> str:
    """Return a trial's name as a folder's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def report(listed: Trials, folder: Path) -> str:
    """Return the table of all trials that there are results of, as Markdown."""
    from offlinemeta.benchmark.metrics import interval
    from offlinemeta.benchmark.protocol import OFFLINE_ROLLOUTS, get_protocol
    from offlinemeta.benchmark.result import Result, read_results
    from offlinemeta.leaderboard.table import escape, markdown, settle

    found: dict[tuple[str, str, str, bool], Result] = {}  # the last: whether of the agent after the first phase
    for name, trial in listed.trials.items():
        for result in read_results([folder / slug(name)]) if (folder / slug(name)).exists() else ():
            data, _, protocol = result.benchmark.rpartition("/")
            found[name, data, protocol, result.method != trial.method] = result
    columns = [  # title, protocol, whether the first phase's, whether the last episode, in place of the one that counts
        (title + ", start" * start, protocol, start, last)
        for protocol in listed.protocols
        for start in sorted({start for *_, start in found}, reverse=True)
        for title, last in (
            [(f"{protocol}, third", False), (f"{protocol}, last", True)]
            if get_protocol(protocol).episodes > OFFLINE_ROLLOUTS + 1
            else [(protocol, False)]
        )
    ]
    lines = []
    for data in dict.fromkeys(data for _, data, *_ in found):
        for name, trial in listed.trials.items():
            shown, seeds = [], 0
            for _, protocol, start, last in columns:
                shown.append("")
                if (name, data, protocol, start) in found:
                    result = found[name, data, protocol, start]
                    value, low, _ = interval(result.array()[..., -1 if last else result.counted])
                    shown[-1] = f"{settle(value):.4g} ± {settle(value - low):.2g}"
                    seeds = len(result.seeds)
            if seeds:
                fields = " ".join(f"`--{field.replace('_', '-')}={value}`" for field, value in trial.overrides)
                lines.append(
                    [data, escape(name), f"{trial.method} {fields}".strip(), str(seeds), *shown, escape(trial.why)]
                )
    head = ["data", "trial", "method and fields", "seeds", *(title for title, *_ in columns), "what for"]
    note = "Mean returns, ± half of the 95 % confidence interval over seeds and tasks."
    if any(start for *_, start in found):
        note += " Start: of the agent at the end of the first phase, from which trials may branch."
    return f"# {listed.title}\n\n{markdown(head, lines)}\n{note}\n"
