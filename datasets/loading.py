"""``load``: a dataset from this machine, from a remote, or built from the behaviour policies; whichever comes first."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from offlinemeta.datasets import remote, storage
from offlinemeta.datasets.collect import collect
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.errors import DamagedDatasetError, DatasetMissingError, RemoteError
from offlinemeta.datasets.references import read_references
from offlinemeta.datasets.spec import DatasetSpec, get_spec

MANIFEST = Path(__file__).parent / "manifest.json"
"""Facts of the published datasets by id, the SHA-256 of their content among them."""

STEPS_PER_SECOND = {"Cheetah": 4e4, "Walker": 15e3, "Hopper": 2e4, "Ant": 7e3, "Humanoid": 5e3, "ML1": 2e3, "": 3e5}
"""Of collection on two cores, to say how long a build takes."""


def load(
    name: str | DatasetSpec, rebuild: bool = True, offline: bool | None = None, console: Console | None = None
) -> Dataset:
    """Return a dataset: the local one, else that of ``MINARI_REMOTE``, else one built from the behaviour policies.

    The first load of a dataset writes a flat copy, from which later ones map their arrays into memory. Its hash is
    checked each time.

    >>> from offlinemeta import datasets
    >>> dataset = datasets.load("PointRobot/smac")
    >>> episodes = dataset.by_task()[dataset.tasks[0]]

    Args:
        name: an id such as ``"OfflineMeta/AntDir/replay-v0"``; namespace and version may be left out.
        rebuild: whether a missing dataset may be built.
        offline: forbid the network; by default, what the environment variable ``OFFLINEMETA_OFFLINE`` says.
        console: where to say what takes long; by default, on stderr.

    Raises:
        UnknownNameError: no such dataset.
        DatasetMissingError: it is not here, and may not be built.
        DamagedDatasetError: its files are truncated or altered, or the remote's are.
        OtherVersionError: it was written for another version of the family.
        DatasetError: no space, no permission.
    """
    spec, console = get_spec(name), console or Console(stderr=True)
    if offline is None:
        offline = bool(os.environ.get("OFFLINEMETA_OFFLINE"))
    if storage.is_local(spec):
        found = storage.read_flat(storage.read_header(storage.place(spec)))
        if found is not None:
            return found
    with storage.locked(spec, wait=True):
        if not storage.is_local(spec):
            _obtain(spec, rebuild, offline, console)
        return _read(spec, console)


def _read(spec: DatasetSpec, console: Console) -> Dataset:
    """Read Minari's files, write the flat copy, and return that."""
    with console.status(f"reading {spec.id}, once; later loads take a moment"):
        entry = storage.read_header(storage.place(spec))
        dataset = storage.read_flat(entry)
        if dataset is None:
            dataset = storage.read(storage.place(spec))
            storage.write_flat(dataset)
    return storage.read_flat(entry) or dataset


def _obtain(spec: DatasetSpec, rebuild: bool, offline: bool, console: Console) -> None:
    """Download the dataset or build it."""
    address = None if offline else os.environ.get("MINARI_REMOTE")
    if address is not None:
        try:
            remote.fetch(spec, address, published(spec), console)
        except RemoteError as error:
            if not rebuild:
                raise
            console.print(f"[yellow]{error}[/yellow] It is built instead.", highlight=False, soft_wrap=True)
        else:
            return
    if not rebuild:
        tried = f"and {address} does not have it" if address else "and MINARI_REMOTE names no remote to ask"
        raise DatasetMissingError(
            f"{spec.id} is not in {storage.root()}, {'and the network is forbidden' if offline else tried}. Build it "
            f"with: offlinemeta datasets build {spec.id}"
        )
    _build(spec, console)


def build(name: str | DatasetSpec, force: bool = False, console: Console | None = None) -> Dataset:
    """Collect a dataset and write it, at once or not at all.

    Args:
        name: an id.
        force: replace one that is there; without, it is returned.
        console: where progress is shown; by default, on stderr.

    Raises:
        BusyError: another process is building it.
        DatasetError: no space, no permission.
    """
    spec, console = get_spec(name), console or Console(stderr=True)
    with storage.locked(spec, wait=False):
        if storage.is_local(spec) and not force:
            console.print(f"{spec.id} is there already, in {storage.place(spec)}.", highlight=False, soft_wrap=True)
            return _read(spec, console)
        return _build(spec, console)


def _build(spec: DatasetSpec, console: Console) -> Dataset:
    storage.check_space(spec)
    shares = spec.shares(read_references(spec.family).normalised)
    console.print(
        f"Building {spec.id}: {spec.steps:,} steps by the behaviour policies that ship, {duration(spec)} on two cores.",
        highlight=False,
        soft_wrap=True,
    )
    with bar(console) as track:
        dataset = collect(spec, shares, track("collecting", spec.steps))
        with storage.draft(spec) as folder:
            storage.write(dataset, folder / "new", track("writing", len(dataset)))
            storage.install(folder / "new", spec)
    report(dataset, console)
    return dataset


def duration(spec: DatasetSpec) -> str:
    """Say how long a build takes on two cores."""
    seconds = 2 + spec.steps / next(rate for kind, rate in STEPS_PER_SECOND.items() if spec.family.startswith(kind))
    return f"about {seconds / 60:.0f} min" if seconds > 90 else f"about {seconds:.0f} s"


@contextlib.contextmanager
def bar(console: Console) -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Show progress: gives a function that begins a line and returns what advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:

        def track(what: str, total: int) -> Callable[[int], None]:
            line = progress.add_task(what, total=total)
            return lambda count: progress.advance(line, count)

        yield track


def report(dataset: Dataset, console: Console) -> None:
    """Say how a build compares with the published dataset."""
    known, facts = published(dataset.spec), dataset.facts()
    if known is None:
        verdict = "There is no published one to compare it with."
    elif known["sha256"] == dataset.hash:
        verdict = "It equals the published one."
    else:
        verdict = (
            f"It differs from the published one ({known['sha256'][:12]}...) as builds on other machines and versions "
            f"do: mean returns {facts['returns']} here, {known['returns']} there (made with {known['versions']} on "
            f"{known['machine']}). It can be used; results name its own hash."
        )
    console.print(
        f"Built {dataset.spec.id}: {len(dataset):,} episodes, {len(dataset.rewards):,} steps, content "
        f"{dataset.hash[:12]}... {verdict}",
        highlight=False,
        soft_wrap=True,
    )


def read_manifest(path: Path | None = None) -> Mapping[str, Any]:
    """Return the facts of published datasets by id; by default, those of this package's manifest.

    Raises:
        DamagedDatasetError: the manifest is unreadable.
    """
    path = path or MANIFEST
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise DamagedDatasetError(f"The manifest {path} is unreadable ({error}). Reinstall offlinemeta.") from error


def published(spec: DatasetSpec) -> Mapping[str, Any] | None:
    """Return the facts of a dataset in the manifest, if it is there."""
    return read_manifest().get(spec.id)


def write_manifest(dataset: Dataset, path: Path | None = None) -> None:
    """Enter a dataset into a manifest, by default this package's; the file is replaced at once."""
    path = path or MANIFEST
    entries = {**read_manifest(path), dataset.spec.id: dataset.facts()}
    new = path.with_suffix(".draft")
    new.write_text(json.dumps(dict(sorted(entries.items())), indent=1, sort_keys=False) + "\n", encoding="utf-8")
    new.replace(path)
