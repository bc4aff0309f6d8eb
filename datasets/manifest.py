"""The manifest: facts about the datasets that the project has built, with the SHA-256 of their content.

It is read without Minari and h5py, so that whoever checks results needs neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offlinemeta.datasets.errors import DamagedDatasetError
from offlinemeta.datasets.spec import DatasetSpec
from offlinemeta.files import update_json

if TYPE_CHECKING:
    from offlinemeta.datasets.dataset import Dataset

MANIFEST = Path(__file__).parent / "manifest.json"
"""The file of facts about datasets that the project has built, by id; the SHA-256 of the content is one of them."""


def read_manifest(path: Path | None = None) -> Mapping[str, Any]:
    """Return the facts of datasets by id; by default, those of this package's manifest.

    Raises:
        DamagedDatasetError: the manifest is unreadable.
    """
    path = path or MANIFEST
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise DamagedDatasetError(f"The manifest {path} is unreadable ({error}). Reinstall offlinemeta.") from error


def recorded(spec: DatasetSpec) -> Mapping[str, Any] | None:
    """Return the facts of a dataset in the manifest, if it is there."""
    return read_manifest().get(spec.id)


def write_manifest(dataset: Dataset, path: Path | None = None) -> None:
    """Record a dataset in a manifest, by default this package's; the file is replaced at once."""
    update_json(
        path or MANIFEST, dataset.spec.id, dataset.facts(), lambda entries: json.dumps(entries, indent=1) + "\n"
    )


def origin(id: str, sha256: str) -> dict[str, str]:
    """Return what a result says of its training data: id and hash, and ``other`` if the manifest has other content."""
    known = read_manifest().get(id, {}).get("sha256", sha256)
    other = {} if known == sha256 else {"other": f"not the dataset of the manifest, {known}"}
    return {"id": id, "sha256": sha256, **other}
