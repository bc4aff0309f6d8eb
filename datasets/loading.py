"""``load`` a dataset from this machine, else from a remote, else built with the behaviour policies; and ``build``."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from rich.console import Console

from offlinemeta.console import bar, say
from offlinemeta.datasets import remote, storage
from offlinemeta.datasets.collect import collect
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.errors import (
    DatasetError,
    DatasetMissingError,
    OtherContentError,
    RemoteError,
)
from offlinemeta.datasets.manifest import origin, recorded
from offlinemeta.datasets.spec import DatasetSpec, get_spec
from offlinemeta.envs import get_family


def load(
    name: str | DatasetSpec, rebuild: bool = True, offline: bool = False, console: Console | None = None
) -> Dataset:
    """Return a dataset: the local one, else that of ``MINARI_REMOTE``, else one built from the behaviour policies.

    The first load of a dataset writes a flat copy, where it may, from which later ones map their arrays into memory.
    The hash of what is returned has been checked. Reading a dataset that is there needs no lock and no permission to
    write.

    >>> from offlinemeta import datasets
    >>> dataset = datasets.load("PointRobot/smac")
    >>> episodes = dataset.by_task()[dataset.tasks[0]]

    Args:
        name: an id such as ``"OfflineMeta/AntDir/history-v1"``, whose namespace and version may be left out.
        rebuild: whether a missing dataset may be built.
        offline: whether the network is forbidden.
        console: where to say what takes long; by default, on stderr.

    Raises:
        UnknownNameError: no such dataset.
        DatasetMissingError: it is not here, and may not be built.
        DamagedDatasetError: its files are truncated or altered, or the remote's are.
        OtherContentError: it was built, and is not the one of the manifest.
        OtherVersionError: it was written for another version of the family.
        DatasetError: no space, no permission.
    """
    spec, console = get_spec(name), console or Console(stderr=True)
    while True:
        if not storage.is_local(spec):
            with storage.locked(spec, lambda: say(console, f"Waiting for another process that makes {spec.id}.")):
                if not storage.is_local(spec):
                    _obtain(spec, rebuild, offline, console)
        seen = storage.identity(spec)
        try:
            return _read(spec, console)
        except DatasetError:
            if seen is not None and storage.identity(spec) == seen:
                raise  # else somebody was replacing it meanwhile


def _read(spec: DatasetSpec, console: Console) -> Dataset:
    """Return the flat copy; where there is none, read Minari's files, and write the flat copy if that is possible."""
    entry = storage.read_header(storage.place(spec), spec)
    dataset = storage.read_flat(spec, entry)
    if dataset is None:
        with console.status(f"reading {spec.id}, once; later loads take a moment"):
            read = storage.read(storage.place(spec), spec)
            storage.write_flat(read)
        dataset = storage.read_flat(spec, entry) or read
    return dataset


def _obtain(spec: DatasetSpec, rebuild: bool, offline: bool, console: Console) -> None:
    """Download the dataset or build it."""
    address = None if offline else os.environ.get("MINARI_REMOTE")
    if address is not None:
        try:
            remote.fetch(spec, address, recorded(spec), console)
        except RemoteError as error:
            if not rebuild:
                raise
            say(console, f"{error} It is built instead.", style="yellow")
        else:
            return
    if not rebuild:
        tried = f"and {address} does not have it" if address else "and MINARI_REMOTE names no remote to ask"
        raise DatasetMissingError(
            f"{spec.id} is not in {storage.root()}, {'and the network is forbidden' if offline else tried}. Build it "
            f"with: offlinemeta datasets build {spec.id}"
        )
    _build(spec, console)


def build(
    name: str | DatasetSpec, force: bool = False, console: Console | None = None, allow_other: bool = False
) -> Dataset:
    """Collect a dataset and write it, at once or not at all.

    Args:
        name: an id, as in :func:`load`.
        force: whether to replace a dataset that is there; otherwise, it is returned.
        console: where progress is shown; by default, on stderr.
        allow_other: whether content may be another than the manifest's.

    Raises:
        BusyError: another process is building it.
        OtherContentError: its content is not that of the manifest, and that was not allowed.
        DatasetError: no space, no permission.
    """
    spec, console = get_spec(name), console or Console(stderr=True)
    if force or not storage.is_local(spec):
        with storage.locked(spec):
            if force or not storage.is_local(spec):  # the one that a killed build took away may be back
                return _build(spec, console, allow_other)
    say(console, f"{spec.id} is there already, in {storage.place(spec)}.")
    return load(spec, rebuild=False, offline=True, console=console)


def _build(spec: DatasetSpec, console: Console, allow_other: bool = False) -> Dataset:
    storage.check_place(spec)
    how = f"{spec.steps:,} steps by the policies that ship, {duration(spec)} on two cores"
    say(console, f"Building {spec.id}: {how}.")
    with bar(console) as track:
        dataset = collect(spec, track("collecting", spec.steps))
        if not allow_other:
            check_same(dataset)
        with storage.draft(spec) as folder:
            storage.write(dataset, folder / "new", track("writing", len(dataset)))
            storage.install(folder / "new", spec)
    size = f"{len(dataset):,} episodes, {len(dataset.rewards):,} steps"
    manifest = "which is not yet in the manifest"
    if recorded(spec) is not None:
        manifest = "not as" if "other" in origin(spec.id, dataset.hash) else "as"
        manifest += " in the manifest"
    say(console, f"Built {spec.id}: {size}, content {dataset.hash[:12]}..., {manifest}.")
    return dataset


def seconds(spec: DatasetSpec) -> float:
    """Estimate how long a build takes on two cores [s]."""
    return 2 + spec.steps / get_family(spec.family).steps_per_second


def duration(spec: DatasetSpec) -> str:
    """Say how long a build takes on two cores."""
    each = seconds(spec)
    return f"about {each / 60:.0f} min" if each > 90 else f"about {each:.0f} s"


def check_same(dataset: Dataset) -> None:
    """Make sure that a build is the dataset of the manifest, if the manifest has it.

    Raises:
        OtherContentError: its content is another; the message says what may be the cause, and what to do.
    """
    known = recorded(dataset.spec)
    if known is None or known["sha256"] == dataset.hash:
        return
    here, there = dataset.facts(), known
    versions = there["versions"]
    changed = [
        f"{name} {versions[name]} (here {version})"
        for name, version in here["versions"].items()
        if name in versions and name != "offlinemeta" and versions[name] != version
    ]
    if here["returns"].keys() != there["returns"].keys():
        cause = (
            "Other policies collected it: the checkpoints, stages or references of this installation are not those of "
            "its manifest. Reinstall offlinemeta"
        )
    elif changed:
        cause = f"It was made with {', '.join(changed)}: install these versions, and build again"
    else:
        cause = (
            "The versions are the same, so this machine computes differently: its processor has no FMA instructions, "
            "or GLIBC_TUNABLES switches them off, or it is no x86-64. Build on another, or download the dataset"
        )
    own, other = (np.mean(list(facts["returns"].values())) for facts in (here, there))
    raise OtherContentError(
        f"{dataset.spec.id} came out with the content {dataset.hash[:12]}..., and not with that of the manifest, "
        f"{there['sha256'][:12]}... (mean returns {own:.2f} and {other:.2f}). {cause}. "
        f"To go on with another dataset than everybody's, build it again ({duration(dataset.spec)}) and allow it: "
        f"offlinemeta datasets build {dataset.spec.short} --allow-other. Every result of it is marked then."
    )


def verify(spec: DatasetSpec, progress: Callable[[int], None] = lambda steps: None) -> Dataset:
    """Collect a dataset once more, write nothing, and compare it with the manifest.

    Raises:
        DatasetMissingError: the manifest does not have it.
        OtherContentError: its content is another.
    """
    if recorded(spec) is None:
        raise DatasetMissingError(f"The manifest has no {spec.id}, so there is nothing to compare it with.")
    dataset = collect(spec, progress)
    check_same(dataset)
    return dataset
