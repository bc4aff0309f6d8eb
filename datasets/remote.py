"""Datasets to and from a remote that Minari knows: a Hugging Face account ``hf://name``, or a bucket ``gcp://name``.

Minari itself does the transport, in a process of its own: it reads the remote and the local folder from environment
variables, so a draft folder there makes a download that is verified before anything of it is in place.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from offlinemeta.datasets import storage
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.errors import DamagedDatasetError, DatasetMissingError, OtherVersionError, RemoteError
from offlinemeta.datasets.spec import DatasetSpec

DOWNLOAD = "import os; from minari.cli import app; app(['download', os.environ['DATASET']])"
UPLOAD = "import os, minari; minari.upload_dataset(os.environ['DATASET'], os.environ['TOKEN'])"
LIST = (
    "import os; from minari.storage.hosting import list_remote_datasets as listed; "
    "found = listed(prefix=os.environ['DATASET']).get(os.environ['DATASET']); "
    f"print('\\n' + os.environ['MARK'], found and found.get('{storage.KEY}', {{}}).get('sha256'))"
)
MARK = "the remote's hash is"

ANSWER, TRANSFER = 90.0, 3600.0
"""How long a remote may take to list a dataset, and to transfer it [s]."""


def check_address(address: str) -> str:
    """Return a remote's address.

    Raises:
        RemoteError: Minari has no such kind of remote.
    """
    if not re.fullmatch(r"(hf|gcp)://[\w.-]+", address):
        raise RemoteError(
            f"The remote {address!r} is no address. Give hf://<user or organisation> or gcp://<bucket>, as "
            f"MINARI_REMOTE or with --remote."
        )
    return address


def plain_command(spec: DatasetSpec, address: str) -> str:
    """Return the shell command with which anybody gets a dataset by Minari alone."""
    return f"MINARI_REMOTE={address} minari download {spec.id}"


def fetch(spec: DatasetSpec, address: str, known: Mapping[str, Any] | None, console: Console) -> None:
    """Download a dataset, verify it, and put it in place; for who holds its lock.

    Args:
        spec: the dataset.
        address: the remote.
        known: what the manifest says of the dataset, if it has an entry.
        console: where to say what happens.

    Raises:
        RemoteError: the remote is down, does not have the dataset, or answers with garbage.
        DamagedDatasetError: what came is not what the manifest or its own metadata say.
        OtherVersionError: what came was written for another version of the family.
    """
    storage.check_place(spec)
    if remote_hash(spec, address) is None:
        raise RemoteError(f"{address} does not have {spec.id}. Build it with: offlinemeta datasets build {spec.id}")
    with _received(spec, address, None if known is None else known["sha256"], console) as (came, dataset):
        storage.install(came, spec)
    how = "as the manifest says" if known else "as its own metadata say (it is not in the manifest of this package)"
    text = f"Downloaded {spec.id} from {address}; content {dataset.hash[:12]}..., {how}."
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def check(spec: DatasetSpec, address: str, sha256: str, console: Console) -> None:
    """Download a dataset, compare its content with a hash, and keep nothing of it; for who holds its lock.

    Raises:
        RemoteError: the remote is down, does not have the dataset, or answers with garbage.
        DamagedDatasetError: what came has another content, or is damaged.
        OtherVersionError: what came was written for another version of the family.
    """
    with _received(spec, address, sha256, console):
        pass


@contextmanager
def _received(spec: DatasetSpec, address: str, sha256: str | None, console: Console) -> Iterator[tuple[Path, Dataset]]:
    """Download a dataset into a draft folder, which is gone afterwards; give its place there, and its content."""
    with storage.draft(spec) as folder, console.status(f"downloading {spec.id} from {address}"):
        local = {"MINARI_DATASETS_PATH": str(folder)}
        run(DOWNLOAD, spec, address, local, f"{spec.id} cannot be downloaded", TRANSFER)
        came = folder / spec.id
        if not (came / "data").exists():
            raise RemoteError(f"{address} sent nothing for {spec.id}. Try again, or build it.")
        kept = f"Nothing was kept. Build it with: offlinemeta datasets build {spec.id}"
        try:
            dataset = storage.read(came, spec)
        except DamagedDatasetError as error:
            why = error.__cause__ or error.reason
            raise DamagedDatasetError(f"What {address} sent for {spec.id} is damaged ({why!s:.300}). {kept}") from error
        except OtherVersionError as error:
            raise OtherVersionError(f"What {address} sent is for another version: {error} {kept}") from error
        if sha256 is not None and dataset.hash != sha256:
            raise DamagedDatasetError(
                f"What {address} sent for {spec.id} has the hash {dataset.hash}; the manifest of this package says "
                f"{sha256}. It is altered, or meant for another version of offlinemeta. {kept}"
            )
        yield came, dataset


def remote_hash(spec: DatasetSpec, address: str) -> str | None:
    """Return what a remote says the content of a dataset is; None where it does not have it.

    Raises:
        RemoteError: the remote is down, or answers with garbage.
    """
    said = run(LIST, spec, address, {"MARK": MARK}, f"{spec.id} cannot be found", ANSWER)
    answers = [line.removeprefix(MARK).strip() for line in said.splitlines() if line.startswith(MARK)]
    return None if answers[-1:] in ([], ["None"]) else answers[-1]


def publish(spec: DatasetSpec, address: str, token: str, console: Console) -> Dataset:
    """Upload a local dataset, after reading it whole, and compare what the remote then says of it.

    Args:
        spec: the dataset.
        address: the remote.
        token: a token of Hugging Face, or the path of the key of a Google service account.
        console: where to say what happens.

    Returns:
        The dataset that was uploaded.

    Raises:
        DatasetMissingError: it is not on this machine.
        DamagedDatasetError: it is damaged.
        BusyError: another process is building it.
        RemoteError: the remote is down, refuses, or has the id already (published data are never replaced).
    """
    check_address(address)
    if not storage.is_local(spec):
        raise DatasetMissingError(f"{spec.id} is not here. Build it with: offlinemeta datasets build {spec.id}")
    with storage.locked(spec), console.status(f"uploading {spec.id} to {address}"):
        dataset = storage.read(storage.place(spec), spec)
        if remote_hash(spec, address) is not None:
            raise RemoteError(
                f"{address} has {spec.id} already. Published data are never replaced: raise the version of the spec."
            )
        run(UPLOAD, spec, address, {"TOKEN": token}, f"{spec.id} cannot be uploaded", TRANSFER)
    there = remote_hash(spec, address)
    if there != dataset.hash:
        raise RemoteError(f"{address} says that {spec.id} has the content {there}, not {dataset.hash}.")
    return dataset


def run(code: str, spec: DatasetSpec, address: str, variables: Mapping[str, str], what: str, patience: float) -> str:
    """Run Minari on a dataset and a remote, and return all that it says.

    Raises:
        RemoteError: it fails, or takes longer than ``patience`` [s]; the message has its last line.
    """
    environment = {
        **os.environ,
        "MINARI_REMOTE": check_address(address),
        "MINARI_DATASETS_PATH": str(storage.root()),
        "DATASET": spec.id,
        "_TYPER_STANDARD_TRACEBACK": "1",
        **variables,
    }
    advice = "Check the address and the network. Nothing was changed."
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=storage.root(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=patience,
        )
    except subprocess.TimeoutExpired as error:
        raise RemoteError(f"{what}: {address} took longer than {patience:.0f} s. {advice}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        raise RemoteError(f"{what}: {address} did not do it: {(lines or ['no reason given'])[-1]:.400} {advice}")
    return done.stdout
