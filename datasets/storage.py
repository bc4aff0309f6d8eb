"""Datasets on disk: Minari's HDF5 for everybody, and a flat memory-mapped copy for quick loading.

Below Minari's root, ``OfflineMeta/<family>/<name>/data`` is what Minari knows. What is ours is in the hidden folder
``.offlinemeta``, which Minari passes over: drafts (moved into place when complete), locks, and the flat copies, each
named by the hash of its content and checked against it at every load.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
from filelock import FileLock, Timeout
from minari.dataset.minari_storage import METADATA_FILE_NAME, MinariStorage
from minari.storage.datasets_root_dir import get_dataset_path

import offlinemeta
from offlinemeta.datasets.dataset import STEP_ARRAYS, Dataset, Episode, from_arrays, header
from offlinemeta.datasets.errors import BusyError, DamagedDatasetError, DatasetError, OtherVersionError
from offlinemeta.datasets.spec import QUALITIES, DatasetSpec
from offlinemeta.envs import Task, env_id, get_family
from offlinemeta.envs.registry import NAMESPACE
from offlinemeta.envs.shapes import Array

KEY = "offlinemeta"
"""Of our entry in Minari's metadata."""

PREVIOUS = "previous"
"""Name of a dataset in the draft of what replaces it."""

LICENSE = "CC-BY-4.0"
ENTRY_POINT = "offlinemeta.envs:TaskEnv"
OURS = ".offlinemeta"
BYTES_PER_EPISODE = 2_500
"""That HDF5 needs beside the numbers, roughly."""


# --- places


def root() -> Path:
    """Return the folder of all Minari datasets: ``MINARI_DATASETS_PATH``, or ``~/.minari/datasets``.

    Raises:
        DatasetError: it cannot be made.
    """
    try:
        return get_dataset_path().resolve()
    except OSError as error:
        raise DatasetError(
            f"The folder of Minari's datasets cannot be used: {error}. Name another with MINARI_DATASETS_PATH."
        ) from error


def place(spec: DatasetSpec) -> Path:
    """Return the folder of a dataset, whether it exists or not."""
    return root() / spec.id


def is_local(spec: DatasetSpec) -> bool:
    """Tell whether a dataset is on this machine."""
    return (place(spec) / "data").exists()


def ours(name: str) -> Path:
    """Return a folder of ours below Minari's root, and make it.

    Raises:
        DatasetError: it cannot be made.
    """
    folder = root() / OURS / name
    with telling(f"{folder} cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Turn an operating system's error into one that names the place and the remedy."""
    try:
        yield
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(
            f"{what}: {error}. Nothing was changed. Datasets are kept below {get_root_name()}; free some space, get "
            f"permission, or name another folder with MINARI_DATASETS_PATH."
        ) from error


def get_root_name() -> str:
    """Return where datasets are kept, without making it."""
    return os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets"


@contextlib.contextmanager
def locked(spec: DatasetSpec, wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a dataset alone; the system releases the lock of a killed process.

    If it was killed between taking the old dataset away and putting the new one in place, the old one returns.

    Args:
        spec: the dataset.
        wait: called before waiting for another process that holds it; without, that is an error.

    Raises:
        BusyError: another process holds it.
        DatasetError: the lock cannot be written.
    """
    path = ours("locks") / f"{slug(spec)}.lock"
    lock = FileLock(path)
    with telling(f"The lock {path} cannot be written"):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            if wait is None:
                busy = (
                    f"{spec.id} is being built, downloaded or read for the first time by another process. Wait for it."
                )
                raise BusyError(busy) from error
            wait()
            lock.acquire()
    try:
        previous = ours("drafts") / slug(spec) / PREVIOUS
        if previous.exists() and not place(spec).exists():
            previous.rename(place(spec))
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def draft(spec: DatasetSpec) -> Iterator[Path]:
    """Give a folder for work in progress on the disk of the datasets, to who holds the lock of ``spec``.

    What is left in it vanishes, and so does what a killed process left.
    """
    folder = ours("drafts") / slug(spec)
    shutil.rmtree(folder, ignore_errors=True)
    with telling(f"{folder} cannot be made"):
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def slug(spec: DatasetSpec) -> str:
    """Return a dataset's id as the name of a file."""
    return spec.id.replace("/", "_")


# --- Minari's format


def check_space(spec: DatasetSpec) -> None:
    """Make sure that a dataset and its flat copy will fit.

    Raises:
        DatasetError: it will not.
    """
    needed, free = 2 * estimate(spec), shutil.disk_usage(root()).free
    if free < needed:
        raise DatasetError(
            f"{spec.id} needs about {needed / 1e6:,.0f} MB with its flat copy, but {root()} has {free / 1e6:,.0f} MB "
            f"free. Free some space, or name another folder with MINARI_DATASETS_PATH."
        )


def estimate(spec: DatasetSpec) -> int:
    """Return about how many bytes a dataset's HDF5 takes."""
    family = get_family(spec.family)
    numbers = family.observation_space.shape[0] + family.action_space.shape[0] + len(family.feature_names) + 2
    return 4 * spec.steps * numbers + len(spec.tasks) * spec.rollouts * BYTES_PER_EPISODE


def write(dataset: Dataset, folder: Path, progress: Callable[[int], None] = lambda episodes: None) -> None:
    """Write a dataset as Minari's HDF5 into ``folder/data``.

    Raises:
        DatasetError: the disk is full, or not to be written to.
    """
    spec, family = dataset.spec, dataset.family
    env = gymnasium.spec(env_id(family))
    evaluation = copy.deepcopy(env)
    evaluation.kwargs |= {"split": "test", "task": 0}
    if spec.heldout:
        env = evaluation
    with telling(f"{spec.id} cannot be written"):
        (folder / "data").mkdir(parents=True)
        storage = MinariStorage.new(
            folder / "data", family.observation_space, family.action_space, env_spec=env, jpeg_encoding=False
        )
        storage.update_metadata(describe(dataset) | {"eval_env_spec": evaluation.to_json()})
        (folder / "data" / "main_data.hdf5").write_bytes(_hdf5(dataset, progress))
        steps, size = len(dataset.rewards), float(storage.get_size())
        storage.update_metadata({"total_steps": steps, "total_episodes": len(dataset), "dataset_size": size})


def _hdf5(dataset: Dataset, progress: Callable[[int], None]) -> bytes:
    """Return the content of the HDF5 file, made in memory: the library crashes the process where a disk is full."""
    memory = {"driver": "core", "backing_store": False, "block_size": 2**24}
    with h5py.File("unnamed", "w", libver=("v110", "v110"), **memory) as file:
        for index, episode in enumerate(dataset):
            _write_episode(file.create_group(f"episode_{index}"), index, episode)
            progress(1)
        file.flush()
        return bytes(file.id.get_file_image())


def _write_episode(group: h5py.Group, index: int, episode: Episode) -> None:
    """Lay an episode out as Minari's HDF5Storage does, but in one piece an array.

    Minari's chunks, which it needs to append to an episode, make files 1.4 times as large for long episodes and four
    times for short ones.
    """
    group.attrs.update(_attributes(index, episode.seed, len(episode), episode.task))
    for name in STEP_ARRAYS:
        group.create_dataset(name, data=getattr(episode, name))
    for name, array in episode.infos.items():
        group.create_dataset(f"infos/{name}", data=_with_reset_row(array))


def _attributes(index: int, seed: int, length: int, task: Task) -> dict[str, Any]:
    """What Minari keeps of an episode beside the arrays."""
    options = {"options/task": task.index, "options/split": task.split}
    return {"id": index, "seed": seed, "total_steps": length, **options}


def _with_reset_row(array: Array) -> Array:
    """Prepend a zero row: Minari's infos begin with that of the reset."""
    return np.concatenate([np.zeros_like(array[:1]), array])


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return Minari's metadata of a dataset, with ours below :data:`KEY`."""
    spec = dataset.spec
    where = "test and ood" if spec.heldout else "training"
    return {
        "dataset_id": spec.id,
        "minari_version": importlib.metadata.version("minari"),
        "algorithm_name": f"{spec.quality}: {QUALITIES[spec.quality]}",
        "author": {"The offlinemeta developers"},
        "description": (
            f"{get_family(spec.family).summary}; {QUALITIES[spec.quality]}, on the {where} tasks. Rewards are those of "
            f"the episode's own task. Made by: offlinemeta datasets build {spec.id}. License: {LICENSE}."
        ),
        "license": LICENSE,
        "requirements": [f"offlinemeta>={offlinemeta.__version__}"],
        KEY: {
            **header(spec, dataset.behaviours),
            **dataset.facts(),
            "episodes_task": dataset.task.tolist(),
            "episodes_behaviour": dataset.behaviour.tolist(),
            "episodes_seed": dataset.seed.tolist(),
            "episodes_length": dataset.lengths.tolist(),
        },
    }


def read_header(folder: Path, spec: DatasetSpec) -> dict[str, Any]:
    """Return our entry of a dataset's metadata.

    Raises:
        DamagedDatasetError: it is missing, unreadable, or another dataset's.
        OtherVersionError: it was written by another version of the family, or in another format.
    """
    try:
        metadata = json.loads((folder / "data" / METADATA_FILE_NAME).read_text(encoding="utf-8"))
        entry, ids = metadata[KEY], {metadata["dataset_id"], metadata[KEY]["id"]}
        if ids != {spec.id}:
            raise ValueError(f"they are those of {' and '.join(sorted(ids))}")
        makers = {json.loads(metadata[name])["entry_point"] for name in ("env_spec", "eval_env_spec")}
        if makers != {ENTRY_POINT}:
            raise ValueError(f"its environment would be made by {' and '.join(sorted(makers))}")
        if not isinstance(entry["sha256"], str):
            raise TypeError("its hash is missing")
        present = header(spec, entry["behaviours"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(folder, error) from error
    for name in ("format", "env", "rollouts", "tasks"):
        if entry.get(name) != present[name]:
            theirs, own = ("another list", "its own") if name == "tasks" else (entry.get(name), present[name])
            raise OtherVersionError(
                f"{folder} was written for another version of {spec.id}: its {name} is {theirs}, this package's is "
                f"{own}. Use the version that wrote it ({entry.get('versions')}), or build it anew with: offlinemeta "
                f"datasets build --force {spec.id}"
            )
    return dict(entry)


def damaged(folder: Path, why: object) -> DamagedDatasetError:
    """Return the error for files that cannot be trusted."""
    name = "/".join(folder.parts[-3:])
    return DamagedDatasetError(
        f"The files in {folder} are damaged ({why!s:.300}). Build the dataset anew with: offlinemeta datasets build "
        f"--force {name}",
        reason=str(why),
    )


def read(folder: Path, spec: DatasetSpec) -> Dataset:
    """Read Minari's HDF5 into arrays, and check them against the hash in the metadata.

    Raises:
        DamagedDatasetError: files are truncated or altered.
        OtherVersionError: they were written for another version of the family.
    """
    entry = read_header(folder, spec)
    try:
        dataset = from_arrays(spec, entry["behaviours"], _read_arrays(folder, spec, entry), provenance_of(entry))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        raise damaged(folder, error) from error
    if dataset.hash != entry["sha256"]:
        raise damaged(folder, f"the content's hash is {dataset.hash[:12]}..., not {entry['sha256'][:12]}...")
    return dataset


def provenance_of(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the part of our metadata that says what collected."""
    return {name: entry[name] for name in ("versions", "machine")}


def _read_arrays(folder: Path, spec: DatasetSpec, entry: dict[str, Any]) -> dict[str, Array]:
    lengths = np.array(entry["episodes_length"], dtype=np.int64)
    arrays = {
        "lengths": lengths,
        "task": np.array(entry["episodes_task"], dtype=np.int64),
        "behaviour": np.array(entry["episodes_behaviour"], dtype=np.int64),
        "seed": np.array(entry["episodes_seed"], dtype=np.int64),
    }
    count, steps = len(lengths), int(lengths.sum())
    with h5py.File(folder / "data" / "main_data.hdf5", "r") as file:
        if len(file) != count:
            raise ValueError(f"{len(file)} episodes, where the metadata have {count}")
        first = file["episode_0"]
        names = [*STEP_ARRAYS, *(f"infos/{name}" for name in first["infos"])]
        for name in names:
            extra = count if name == "observations" else 0
            arrays[name] = np.empty((steps + extra, *first[name].shape[1:]), dtype=first[name].dtype)
        start = 0
        for e, length in enumerate(lengths.tolist()):
            episode = file[f"episode_{e}"]
            task = spec.tasks[arrays["task"][e]]
            expected = _attributes(e, int(arrays["seed"][e]), length, task)
            if dict(episode.attrs) != expected:
                raise ValueError(f"episode {e} has the attributes {dict(episode.attrs)}, not {expected}")
            group = episode.id
            for name in names:
                source = h5py.h5d.open(group, name.encode())
                rows = length + (name == "observations")
                begin = start + e if name == "observations" else start
                skip = 1 if name.startswith("infos/") else 0
                if source.shape[0] != rows + skip:
                    raise ValueError(f"episode {e} has {source.shape[0]} rows of {name}, not {rows + skip}")
                target = arrays[name][begin : begin + rows]
                if skip:
                    whole = np.empty((rows + 1, *target.shape[1:]), dtype=target.dtype)
                    source.read(h5py.h5s.ALL, h5py.h5s.ALL, whole)
                    target[:] = whole[1:]
                else:
                    source.read(h5py.h5s.ALL, h5py.h5s.ALL, target)
            start += length
    return arrays


def install(folder: Path, spec: DatasetSpec) -> None:
    """Move a complete dataset from a draft into its place, at once; an older one gives way."""
    target = place(spec)
    with telling(f"{spec.id} cannot be moved into place"):
        make_namespace(NAMESPACE, "Offline meta-reinforcement learning")
        make_namespace(f"{NAMESPACE}/{spec.family}", get_family(spec.family).summary)
        replace_folder(folder, target)


def replace_folder(new: Path, target: Path) -> None:
    """Rename a folder of a draft to ``target``; what is there goes with the draft, or stays if that fails."""
    previous = new.parent / PREVIOUS
    if target.exists():
        target.rename(previous)
    try:
        new.rename(target)
    except OSError:
        if previous.exists():
            previous.rename(target)
        raise


def make_namespace(name: str, description: str) -> None:
    """Make a folder of datasets known to Minari, which needs it to list and to publish them."""
    folder = root() / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "namespace_metadata.json"
    if not path.exists():
        new = folder / f".{os.getpid()}.draft"
        new.write_text(json.dumps({"description": description}), encoding="utf-8")
        new.replace(path)


# --- the flat copy


def flat_folder(spec: DatasetSpec, digest: str) -> Path:
    """Return where the flat copy of a content is."""
    return root() / OURS / "flat" / f"{slug(spec)}-{digest}"


def read_flat(spec: DatasetSpec, entry: dict[str, Any]) -> Dataset | None:
    """Return a dataset from its flat copy, memory-mapped; None where there is none, or a damaged one."""
    folder = flat_folder(spec, entry["sha256"])
    if not folder.is_dir():
        return None
    try:
        arrays = {
            path.stem.replace("+", "/"): np.load(path, mmap_mode="r", allow_pickle=False)
            for path in sorted(folder.glob("*.npy"))
        }
        dataset = from_arrays(spec, entry["behaviours"], arrays, provenance_of(entry))
        return dataset if dataset.hash == entry["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def write_flat(dataset: Dataset) -> None:
    """Write the flat copy, for who holds the lock; a damaged one gives way, and so do those of older contents.

    A disk without space for it, or that may not be written to, is no error: loading stays slow.
    """
    target = flat_folder(dataset.spec, dataset.hash)
    with contextlib.suppress(OSError, DatasetError), draft(dataset.spec) as folder:
        new = folder / "flat"
        new.mkdir()
        for name, array in dataset.arrays().items():
            np.save(new / f"{name.replace('/', '+')}.npy", np.ascontiguousarray(array), allow_pickle=False)
        ours("flat")
        replace_folder(new, target)
        for other in target.parent.glob(f"{slug(dataset.spec)}-*"):
            if other != target:
                shutil.rmtree(other, ignore_errors=True)
