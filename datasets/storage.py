"""Datasets on disk: Minari's HDF5 for everybody, and a flat memory-mapped copy for quick loading.

Below Minari's root, ``OfflineMeta/<family>/<name>/data`` is what Minari knows. What is ours is in the hidden folder
``.offlinemeta``, which Minari passes over: drafts (moved into place when complete), locks, and the flat copies, each
named by the hash of its content and checked against it at every load.

Who writes holds a lock (:func:`locked`). Who reads needs neither the lock nor permission to write: a dataset appears
and is replaced at once, and what is read is checked against its hash.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import importlib.metadata
import io
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
from minari.dataset.minari_dataset import MinariDataset
from minari.dataset.minari_storage import METADATA_FILE_NAME, MinariStorage
from minari.storage.datasets_root_dir import get_dataset_path

import offlinemeta
from offlinemeta.datasets.dataset import STEP_ARRAYS, Dataset, Episode, from_arrays, header
from offlinemeta.datasets.errors import BusyError, DamagedDatasetError, DatasetError, OtherVersionError
from offlinemeta.datasets.references import read_references
from offlinemeta.datasets.spec import HELDOUT, DatasetSpec
from offlinemeta.envs import Task, env_id, get_family
from offlinemeta.envs.registry import NAMESPACE
from offlinemeta.envs.shapes import Array
from offlinemeta.files import FileError, check_writable, denied, write_text

KEY = "offlinemeta"
"""The entry of Minari's metadata that is ours."""

LICENSE = "CC-BY-4.0"
ENTRY_POINT = "offlinemeta.envs:TaskEnv"
OURS = ".offlinemeta"
BYTES_PER_EPISODE = 2_500
"""What HDF5 needs for an episode beside the numbers, roughly."""


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
    """Tell whether a dataset is on this machine.

    Raises:
        DatasetError: a folder on the way may not be searched.
    """
    return identity(spec) is not None


def identity(spec: DatasetSpec) -> tuple[int, ...] | None:
    """Return what tells the files in a dataset's place from those that replace them; None where there are none.

    Raises:
        DatasetError: a folder on the way may not be searched.
    """
    try:
        status = (place(spec) / "data").stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(place(spec), error) from error
    return status.st_dev, status.st_ino, status.st_ctime_ns


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
    except (OSError, FileError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        remedy = "Get permission" if isinstance(cause, OSError) and denied(cause) else "Free some space"
        raise DatasetError(
            f"{what}: {str(error).rstrip('.')}. Nothing was changed. Datasets are kept below {get_root_name()}. "
            f"{remedy}, or name another folder with MINARI_DATASETS_PATH."
        ) from error


def get_root_name() -> str:
    """Return where datasets are kept, without making it."""
    return os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets"


@contextlib.contextmanager
def locked(spec: DatasetSpec, wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Be the only one who writes a dataset; the system releases the lock of a killed process.

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
                raise BusyError(
                    f"{spec.id} is being built or downloaded by another process. Wait for it to end."
                ) from error
            wait()
            lock.acquire()
        except NotImplementedError as error:  # what older versions of filelock raise
            raise OSError(errno.ENOSYS, "the file system has no locks") from error
    try:
        target = place(spec).resolve()
        if previous_of(target).exists() and not target.exists():
            previous_of(target).rename(target)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def draft(spec: DatasetSpec) -> Iterator[Path]:
    """Give a folder for work in progress to who holds the lock of ``spec``.

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


def check_place(spec: DatasetSpec) -> None:
    """Make sure that a dataset and its flat copy can be written, before hours are spent on what goes there.

    Raises:
        DatasetError: there is no permission, or no space; links to other disks are followed.
    """
    target = place(spec).resolve()
    for folder in (target, target / "data"):
        if folder.exists() and not os.access(folder, os.W_OK):
            raise DatasetError(
                f"{folder} may not be replaced: permission denied. Ask its owner, or name another folder of datasets "
                f"with MINARI_DATASETS_PATH."
            )
    with telling(f"{spec.id} cannot be written"):
        above, flat = next(folder for folder in target.parents if folder.exists()), ours("flat")
        check_writable(above)
        together = above.stat().st_dev == flat.stat().st_dev
        for folder, copies in ((above, 2 if together else 1), (flat, 1)):
            size, free = copies * estimate(spec), shutil.disk_usage(folder).free
            if free < size:
                raise DatasetError(
                    f"{spec.id} needs about {size / 1e6:,.0f} MB{' with its flat copy' * (copies > 1)}, but {folder} "
                    f"has {free / 1e6:,.0f} MB free. Free some space, or name another folder with MINARI_DATASETS_PATH."
                )


def estimate(spec: DatasetSpec) -> int:
    """Return about how many bytes a dataset's HDF5 takes."""
    family = get_family(spec.family)
    numbers = family.observation_space.shape[0] + family.action_space.shape[0] + len(family.feature_names) + 2
    return 4 * spec.steps * numbers + len(spec.tasks) * spec.rollouts * BYTES_PER_EPISODE


def write(dataset: Dataset, folder: Path, progress: Callable[[int], None] = lambda episodes: None) -> None:
    """Write a dataset as Minari's HDF5 into ``folder/data``, and read it back: what this returns from can be loaded.

    Raises:
        DatasetError: the disk is full or may not be written to, or the files do not hold what was written.
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
    try:
        read(folder, spec)
    except DatasetError as error:
        reason = getattr(error, "reason", error)
        raise DatasetError(
            f"{spec.id} was written, but cannot be read back ({reason}). Nothing was changed. The disk of {folder} or "
            f"this HDF5 (h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}) is at fault: name another folder "
            f"with MINARI_DATASETS_PATH, or install another version of h5py."
        ) from error


def _hdf5(dataset: Dataset, progress: Callable[[int], None]) -> memoryview:
    """Return the content of the HDF5 file, made in memory: the library crashes the process where a disk is full.

    It is taken when the file is closed. An image of an open one (``get_file_image``) has a wrong checksum in HDF5 1.14:
    the library clears the mark that the file is open for writing, and leaves the checksum over the mark as it was.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=("v110", "v110")) as file:
        for index, episode in enumerate(dataset):
            _write_episode(file.create_group(f"episode_{index}"), index, episode)
            progress(1)
    return memory.getbuffer()


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
    """Return what Minari keeps of an episode beside the arrays."""
    options = {"options/task": task.index, "options/split": task.split}
    return {"id": index, "seed": seed, "total_steps": length, **options}


def _with_reset_row(array: Array) -> Array:
    """Prepend a zero row: Minari's infos begin with that of the reset."""
    return np.concatenate([np.zeros_like(array[:1]), array])


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return Minari's metadata of a dataset, with ours below :data:`KEY`.

    The reference scores are means over the dataset's tasks of the returns that score 0 and 100; Minari's
    ``get_normalized_score`` wants them.
    """
    spec, references = dataset.spec, read_references(dataset.spec.family)
    scales = {split: references.scale(split) for split in {task.split for task in spec.tasks}}
    low, high = np.mean([scales[task.split] for task in spec.tasks], axis=0).tolist()
    where, what = ", ".join(HELDOUT) if spec.heldout else "training", spec.what
    return {
        "dataset_id": spec.id,
        "minari_version": importlib.metadata.version("minari"),
        "algorithm_name": f"{spec.quality}: {what}",
        "author": {"The offlinemeta developers"},
        "description": (
            f"{get_family(spec.family).summary}; {what}, on the {where} tasks. Rewards are those of "
            f"the episode's own task. Made by: offlinemeta datasets build {spec.id}. License: {LICENSE}."
        ),
        "license": LICENSE,
        "requirements": [f"offlinemeta>={offlinemeta.__version__}"],
        "ref_min_score": low,
        "ref_max_score": high,
        KEY: {
            **header(spec, dataset.behaviours),
            **dataset.facts(),
            "episodes_task": dataset.task.tolist(),
            "episodes_behaviour": dataset.behaviour.tolist(),
            "episodes_seed": dataset.seed.tolist(),
            "episodes_length": dataset.lengths.tolist(),
        },
    }


def tasks_of(data: MinariDataset) -> list[Task]:
    """Return the task of each episode of a Minari dataset, in the order in which it gives them.

    Plain Minari keeps the task as the options of the episode's reset, where few look for it. This reads the table of
    tasks in the metadata instead, which is quick, and works on subsets (``filter_episodes``) too.

    >>> data = minari.load_dataset("OfflineMeta/PointRobot/smac-v1")
    >>> for task, episode in zip(datasets.tasks_of(data), data.iterate_episodes()): ...

    Args:
        data: a dataset of this project, as ``minari.load_dataset`` returns it.

    Raises:
        DatasetError: it is another project's.
    """
    entry = data.storage.metadata.get(KEY)
    if not isinstance(entry, dict):
        raise DatasetError(f"{data.spec.dataset_id} has no tasks: it is no dataset of {NAMESPACE}.")
    family = str(entry["id"]).split("/")[1]
    tasks = [Task(family, split, index, tuple(params)) for split, index, *params in entry["tasks"]]
    return [tasks[entry["episodes_task"][index]] for index in data.episode_indices]


def read_header(folder: Path, spec: DatasetSpec) -> dict[str, Any]:
    """Return our entry of a dataset's metadata.

    Raises:
        DamagedDatasetError: it is missing, unreadable, or another dataset's.
        DatasetError: it may not be read.
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
    except PermissionError as error:
        raise unreadable(folder, error) from error
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


def unreadable(folder: Path, error: OSError) -> DatasetError:
    """Return the error for files that may not be read."""
    why = os.strerror(error.errno or errno.EACCES)
    return DatasetError(
        f"{folder} may not be read: {why}. Ask its owner for permission, or name another folder of datasets with "
        f"MINARI_DATASETS_PATH."
    )


def read(folder: Path, spec: DatasetSpec) -> Dataset:
    """Read Minari's HDF5 into arrays, and check them against the hash in the metadata.

    Raises:
        DamagedDatasetError: files are truncated or altered.
        DatasetError: they may not be read.
        OtherVersionError: they were written for another version of the family.
    """
    entry = read_header(folder, spec)
    try:
        dataset = from_arrays(spec, entry["behaviours"], _read_arrays(folder, spec, entry), provenance_of(entry))
    except PermissionError as error:
        raise unreadable(folder, error) from error
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
    with h5py.File(folder / "data" / "main_data.hdf5", "r", locking=False) as file:  # nothing writes where this reads
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
    """Move a complete dataset from a draft into its place, at once; an older one gives way.

    Raises:
        DatasetError: no space, no permission; the older one is still there.
    """
    with telling(f"{spec.id} cannot be moved into place"):
        make_namespace(NAMESPACE, "Offline meta-reinforcement learning")
        make_namespace(f"{NAMESPACE}/{spec.family}", get_family(spec.family).summary)
        replace_folder(folder, place(spec).resolve())


def replace_folder(new: Path, target: Path) -> None:
    """Put a folder in the place of another, at once for who reads; if that fails, the old one stays.

    Args:
        new: a folder of a draft, on any disk: where it cannot be renamed, it is copied.
        target: its place, no link. For a moment there is nothing.
    """
    beside, previous = target.with_name(f".{target.name}.new"), previous_of(target)
    for left in (beside, previous) if target.exists() else (beside,):  # by a killed process
        shutil.rmtree(left, ignore_errors=True)
    try:
        move(new, beside)
        if target.exists():
            move(target, previous)
        try:
            beside.rename(target)
        except OSError:
            if previous.exists():
                previous.rename(target)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(previous, ignore_errors=True)


def move(source: Path, target: Path) -> None:
    """Rename a folder; copy it where that is impossible: to another disk, or out of a container's image."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(source, target)
        shutil.rmtree(source)


def previous_of(target: Path) -> Path:
    """Return where a folder waits while another takes its place; Minari passes over it."""
    return target.with_name(f".{target.name}.previous")


def make_namespace(name: str, description: str) -> None:
    """Make a folder of datasets known to Minari, which needs it to list and to publish them."""
    path = root() / name / "namespace_metadata.json"
    if not path.exists():
        write_text(path, json.dumps({"description": description}))


# --- the flat copy


def flat_folder(spec: DatasetSpec, digest: str) -> Path:
    """Return where the flat copy of a content is."""
    return root() / OURS / "flat" / f"{slug(spec)}-{digest}"


def read_flat(spec: DatasetSpec, entry: dict[str, Any]) -> Dataset | None:
    """Return a dataset from its flat copy; None where there is none, or a damaged one.

    The arrays are mapped into memory, copy on write: who writes to them changes neither the file nor what others see.
    """
    folder = flat_folder(spec, entry["sha256"])
    try:
        arrays = {
            path.stem.replace("+", "/"): np.load(path, mmap_mode="c", allow_pickle=False)
            for path in sorted(folder.glob("*.npy"))
        }
        dataset = from_arrays(spec, entry["behaviours"], arrays, provenance_of(entry))
        return dataset if dataset.hash == entry["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def write_flat(dataset: Dataset) -> None:
    """Write the flat copy; a damaged one gives way, and so do those of older contents.

    Where it cannot be written (no space, no permission, no lock, somebody else at it), loading stays slow.
    """
    spec, target = dataset.spec, flat_folder(dataset.spec, dataset.hash)
    with contextlib.suppress(OSError, DatasetError), locked(spec), draft(spec) as folder:
        new = folder / "flat"
        new.mkdir()
        for name, array in dataset.arrays().items():
            np.save(new / f"{name.replace('/', '+')}.npy", np.ascontiguousarray(array), allow_pickle=False)
        ours("flat")
        replace_folder(new, target)
        for other in target.parent.glob(f"{slug(spec)}-*"):
            if other != target:
                shutil.rmtree(other, ignore_errors=True)
