"""What can go wrong with datasets on disk: each case a clear error, the previous state intact, nothing half."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from offlinemeta import datasets
from offlinemeta.datasets import storage
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.errors import (
    BusyError,
    DamagedDatasetError,
    DatasetError,
    DatasetMissingError,
    OtherVersionError,
)
from offlinemeta.datasets.spec import DatasetSpec, get_spec

SPEC = get_spec("PointRobot/smac")


def forget_flat(here: Path) -> list[Path]:
    import shutil

    folders = list((here / ".offlinemeta" / "flat").glob("*"))
    for folder in folders:
        shutil.rmtree(folder)
    return folders


@pytest.mark.parametrize("keep", [0, 100, 5000, -1])
def test_truncated_files(built: Path, here: Path, keep: int) -> None:
    content = built.read_bytes()
    built.write_bytes(content[:keep])
    with pytest.raises(DamagedDatasetError, match=f"datasets build --force {SPEC.id}"):
        datasets.load(SPEC)
    datasets.build(SPEC, force=True)
    assert len(datasets.load(SPEC)) == 480


def test_a_flipped_bit_anywhere(built: Path) -> None:
    """In arrays and in HDF5's own structures; what nothing reads may flip, what comes out is always right."""
    intact, expected = built.read_bytes(), datasets.load(SPEC).hash
    rng, noticed = np.random.default_rng(0), 0
    import shutil

    for position in rng.integers(len(intact), size=40):
        damaged = bytearray(intact)
        damaged[position] ^= 1 << int(rng.integers(8))
        built.write_bytes(damaged)
        shutil.rmtree(storage.flat_folder(SPEC, expected), ignore_errors=True)
        try:
            assert datasets.load(SPEC).hash == expected
        except DamagedDatasetError:
            noticed += 1
    assert noticed >= 10


def test_an_altered_value_or_another_episode_count(built: Path, here: Path) -> None:
    with h5py.File(built, "a") as file:
        file["episode_7/rewards"][3] += 1e-6
    with pytest.raises(DamagedDatasetError, match="hash"):
        datasets.load(SPEC)
    datasets.build(SPEC, force=True)
    forget_flat(here)
    with h5py.File(built, "a") as file:
        del file["episode_479"]
    with pytest.raises(DamagedDatasetError, match="479 episodes, where the metadata have 480"):
        datasets.load(SPEC)


@pytest.mark.parametrize("what", ["garbage", "no entry", "no hash", "another id", "missing"])
def test_damaged_metadata(built: Path, here: Path, what: str) -> None:
    path = built.parent / "metadata.json"
    content = json.loads(path.read_text())
    if what == "no entry":
        del content["offlinemeta"]
    if what == "no hash":
        del content["offlinemeta"]["sha256"]
    if what == "another id":
        content["dataset_id"] = "OfflineMeta/PointRobot/replay-v1"
    path.write_text("{" if what == "garbage" else json.dumps(content))
    if what == "missing":
        path.unlink()
    with pytest.raises(DamagedDatasetError, match="damaged"):
        datasets.load(SPEC)


@pytest.mark.parametrize("change", ["tasks", "env", "format", "rollouts"])
def test_data_of_another_version(built: Path, here: Path, change: str) -> None:
    path = built.parent / "metadata.json"
    content = json.loads(path.read_text())
    entry = content["offlinemeta"]
    entry[change] = {"tasks": [], "env": "OfflineMeta/PointRobot-v9", "format": 99, "rollouts": 5}[change]
    path.write_text(json.dumps(content))
    with pytest.raises(OtherVersionError, match=f"its {change} is .*datasets build --force {SPEC.id}"):
        datasets.load(SPEC)
    datasets.build(SPEC, force=True)  # as the message says
    assert len(datasets.load(SPEC)) == 480


def test_another_dataset_in_its_place(built: Path, here: Path) -> None:
    import shutil

    shutil.copytree(here / SPEC.id, here / get_spec("PointRobot/smac-heldout").id)
    with pytest.raises(DamagedDatasetError, match=f"they are those of {SPEC.id}"):
        datasets.load("PointRobot/smac-heldout")


def test_what_minari_shows_is_checked_too(built: Path, here: Path) -> None:
    """Tasks and seeds as attributes of the episodes; the environment that Minari would make."""
    with h5py.File(built, "a") as file:
        file["episode_5"].attrs["options/task"] = 77
    with pytest.raises(DamagedDatasetError, match="episode 5 has the attributes"):
        datasets.load(SPEC)
    datasets.build(SPEC, force=True)
    path = built.parent / "metadata.json"
    path.write_text(path.read_text().replace("offlinemeta.envs:TaskEnv", "os:system"))
    with pytest.raises(DamagedDatasetError, match="would be made by os:system"):
        datasets.load(SPEC)


@pytest.mark.parametrize("step", ["new", ".smac-v1.new"])
def test_a_rename_that_fails_keeps_the_old_one(
    step: str, built: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = built.read_bytes(), Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == step:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(DatasetError, match=r"No space left on device\. Nothing was changed"):
            datasets.build(SPEC, force=True)
    assert built.read_bytes() == before
    assert [path.name for path in (here / SPEC.id).parent.iterdir() if path.is_dir()] == ["smac-v1"]


def test_a_kill_between_the_renames_keeps_the_old_one(built: Path, here: Path) -> None:
    """What such a kill leaves: nothing in place, the old one and the new one hidden beside it."""
    before, place = built.read_bytes(), here / SPEC.id
    place.rename(place.with_name(".smac-v1.previous"))
    place.with_name(".smac-v1.new").mkdir()
    assert len(datasets.load(SPEC, rebuild=False)) == 480
    assert built.read_bytes() == before
    datasets.build(SPEC, force=True)
    assert [path.name for path in place.parent.iterdir() if path.is_dir()] == ["smac-v1"]


def test_what_cannot_be_read_back_is_not_installed(built: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk, or an HDF5, that does not keep what is written."""
    before, write_bytes = built.read_bytes(), Path.write_bytes

    def badly(path: Path, content: bytes) -> int:
        damaged = bytearray(content)
        damaged[24] ^= 1  # in the superblock, over which HDF5 keeps a checksum
        return write_bytes(path, damaged)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", badly)
        with pytest.raises(DatasetError, match=r"was written, but cannot be read back \(.*\)\. Nothing was changed"):
            datasets.build(SPEC, force=True)
    assert built.read_bytes() == before
    assert not list((here / ".offlinemeta" / "drafts").iterdir())


OTHER_DISK = Path("/dev/shm")


@pytest.mark.parametrize("linked", ["OfflineMeta", "OfflineMeta/PointRobot", SPEC.id, ".offlinemeta"])
def test_a_folder_that_is_linked_to_another_disk(linked: str, here: Path) -> None:
    import shutil
    import tempfile

    import minari

    here.mkdir()
    if not os.access(OTHER_DISK, os.W_OK) or OTHER_DISK.stat().st_dev == here.stat().st_dev:
        pytest.skip(f"{OTHER_DISK} is no second file system here")
    far = Path(tempfile.mkdtemp(dir=OTHER_DISK))
    try:
        link = here / linked
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(far / "data" if linked == SPEC.id else far)
        expected = datasets.build(SPEC).hash
        for _ in range(2):
            assert datasets.load(SPEC, rebuild=False).hash == expected
        datasets.build(SPEC, force=True)
        assert list(minari.list_local_datasets()) == [SPEC.id]
        assert link.is_symlink()
        files = {path.stat().st_dev for path in far.rglob("*") if path.is_file()}
        assert files == {OTHER_DISK.stat().st_dev}
        hidden = [path for path in (far / "data").parent.iterdir() if path.name.endswith((".new", ".previous"))]
        assert not hidden
    finally:
        shutil.rmtree(far)


def test_a_folder_that_cannot_be_renamed_is_copied(built: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes with a container's image is on another layer: to rename a folder of it is refused."""
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if self.name == "smac-v1":
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    before = built.stat().st_ino
    datasets.build(SPEC, force=True)
    assert built.stat().st_ino != before
    assert len(datasets.load(SPEC, rebuild=False)) == 480
    assert [path.name for path in (here / SPEC.id).parent.iterdir() if path.is_dir()] == ["smac-v1"]


def test_flat_copies_of_older_contents_go(built: Path, here: Path) -> None:
    old = here / ".offlinemeta" / "flat" / f"{storage.slug(SPEC)}-{'0' * 64}"
    old.mkdir(parents=True)
    neighbour = here / ".offlinemeta" / "flat" / "OfflineMeta_PointRobot_smac-heldout-v1-1"
    neighbour.mkdir()
    datasets.load(SPEC)
    assert not old.exists()
    assert neighbour.exists()


@pytest.fixture
def shared(built: Path, here: Path) -> Iterator[Path]:
    """The dataset in a folder that everybody may read, and nobody else may write."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp())  # pytest's own is for its user alone
    forget_flat(here)
    shutil.copytree(here, folder, dirs_exist_ok=True)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def as_another(code: str, folder: Path) -> str:
    """Run code as a user who owns nothing; without root, as oneself. Modules are loaded before: they may be root's."""
    change = "os.setgroups([]); os.setgid(65534); os.setuid(65534)" if os.geteuid() == 0 else "pass"
    prelude = (
        "import os\n"
        "from offlinemeta import datasets\n"
        f"datasets.load({SPEC.id!r}, rebuild=False)\n"
        f"{change}\n"
        f"os.environ['MINARI_DATASETS_PATH'] = {str(folder)!r}\n"
    )
    done = subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_another_user_reads_what_is_there(shared: Path, here: Path) -> None:
    """Without a lock and without a flat copy, which cannot be written there; with one, if its owner has written it."""
    expected = datasets.load(SPEC).hash
    said = as_another(f"print(datasets.load({SPEC.id!r}).hash)", shared)
    assert said.strip() == expected
    said = as_another(f"datasets.build({SPEC.id!r}, force=True)", shared)
    assert "DatasetError" in said
    assert "ermission denied" in said
    assert "Get permission" in said
    assert "Building" not in said  # it is noticed before the work
    (shared / SPEC.id / "data" / "main_data.hdf5").chmod(0)
    said = as_another(f"datasets.load({SPEC.id!r})", shared)
    assert "may not be read: Permission denied. Ask its owner" in said
    (shared / SPEC.id).chmod(0)
    said = as_another(f"datasets.load({SPEC.id!r})", shared)
    assert "may not be read: Permission denied. Ask its owner" in said
    assert "damaged" not in said
    (shared / SPEC.id).chmod(0o755)


def test_what_another_user_made_in_a_shared_folder_is_not_replaced(shared: Path, here: Path) -> None:
    """Everybody may write in the folder itself, as in /tmp, but not take away what is others'."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as two users")
    for path in [shared, *shared.rglob("*")]:
        if path.is_dir() and SPEC.name not in path.as_posix():
            path.chmod(0o1777)
        if path.suffix == ".lock":
            path.chmod(0o666)
    said = as_another(f"print(len(datasets.load({SPEC.id!r})))", shared)
    assert said.strip() == "480"
    assert list((shared / ".offlinemeta" / "flat").iterdir())  # here it can be written
    said = as_another(f"datasets.build({SPEC.id!r}, force=True)", shared)
    assert f"{SPEC.name} may not be replaced: permission denied. Ask its owner" in said
    assert "Building" not in said


@pytest.mark.parametrize("trouble", ["no locks", "no locks, said otherwise", "held"])
def test_reading_needs_no_lock(trouble: str, built: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks, or while somebody holds them all: ours, and that of the HDF5 file."""
    import fcntl

    from filelock import FileLock

    expected = storage.read(storage.place(SPEC), SPEC).hash

    def refuse(*args: object, **options: object) -> None:
        raise OSError(37, "No locks available") if trouble == "no locks" else NotImplementedError("no flock")

    with built.open() as file, monkeypatch.context() as patch, contextlib.ExitStack() as stack:
        if trouble == "no locks":
            patch.setattr(fcntl, "flock", refuse)
        elif trouble == "held":
            fcntl.flock(file, fcntl.LOCK_EX)
            stack.enter_context(FileLock(here / ".offlinemeta" / "locks" / f"{storage.slug(SPEC)}.lock"))
        else:
            patch.setattr(FileLock, "acquire", refuse)
        assert datasets.load(SPEC).hash == expected
        assert not storage.flat_folder(SPEC, expected).exists()
        why = BusyError if trouble == "held" else DatasetError
        with pytest.raises(why, match="another process" if trouble == "held" else r"lock .* cannot be written.* locks"):
            datasets.build(SPEC, force=True)
    assert datasets.load(SPEC).hash == expected
    assert storage.flat_folder(SPEC, expected).exists()


def test_a_dataset_that_is_replaced_while_it_is_read_is_read_again(
    built: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    place, read, calls = here / SPEC.id, storage.read, 0
    shutil.copytree(place, here / "new")

    def slowly(folder: Path, spec: DatasetSpec) -> Dataset:
        nonlocal calls
        calls += 1
        if calls == 1:
            shutil.rmtree(place)
            if damage:
                shutil.copytree(here / "new", place)
        return read(folder, spec)

    damage = False
    monkeypatch.setattr(storage, "read", slowly)
    with pytest.raises(DatasetMissingError):
        datasets.load(SPEC, rebuild=False)
    shutil.copytree(here / "new", place)
    built.write_bytes(b"")
    damage, calls = True, 0
    expected = read(here / "new", SPEC).hash
    assert datasets.load(SPEC, rebuild=False).hash == expected


def test_writing_to_the_arrays_changes_no_file(built: Path, here: Path) -> None:
    """Torch writes to an array that numpy would not: the process lives, and nobody else sees it."""
    code = (
        "import torch\n"
        "from offlinemeta import datasets\n"
        f"datasets.load({SPEC.id!r})\n"
        f"dataset = datasets.load({SPEC.id!r})\n"
        "assert type(dataset.rewards).__name__ == 'memmap'\n"
        "torch.from_numpy(dataset.rewards).add_(1)\n"
        f"print(abs(dataset.rewards - datasets.load({SPEC.id!r}).rewards - 1).max() < 1e-5)"
    )
    process = in_a_process(code, here)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.strip() == "True"
    expected = storage.read(storage.place(SPEC), SPEC).hash
    assert datasets.load(SPEC).hash == expected


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "another"])
def test_a_flat_copy_that_is_damaged_is_written_anew(built: Path, here: Path, damage: str) -> None:
    expected = datasets.load(SPEC).hash
    folder = storage.flat_folder(SPEC, expected)
    path = folder / "rewards.npy"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    if damage == "flipped":
        content[-5] ^= 1
        path.write_bytes(content)
    if damage == "gone":
        path.unlink()
    if damage == "another":
        np.save(path, np.zeros(3))
    assert datasets.load(SPEC).hash == expected
    assert np.load(path).shape == (SPEC.steps,)
    built.write_bytes(b"")  # the copy is whole again, so nothing else is read
    assert datasets.load(SPEC).hash == expected


def test_a_missing_dataset_that_may_not_be_built(here: Path) -> None:
    with pytest.raises(DatasetMissingError, match=f"offlinemeta datasets build {SPEC.id}"):
        datasets.load(SPEC, rebuild=False)
    with pytest.raises(DatasetMissingError, match="the network is forbidden"):
        datasets.load(SPEC, rebuild=False, offline=True)
    assert not (here / "OfflineMeta").exists()


def test_a_folder_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "datasets"))
    with pytest.raises(DatasetError, match="MINARI_DATASETS_PATH"):
        datasets.load(SPEC)
    with pytest.raises(DatasetError, match="MINARI_DATASETS_PATH"):
        datasets.build(SPEC)


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:  # root may write anywhere, except where nothing can be written
        folder = Path("/proc")
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    with pytest.raises(DatasetError, match="MINARI_DATASETS_PATH"):
        datasets.build(SPEC)


def test_no_space_is_noticed_before_the_work(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "estimate", lambda spec: 10**18)
    with pytest.raises(DatasetError, match=r"needs about 2,000,000,000,000 MB with its flat copy, but .* free"):
        datasets.build(SPEC)


def in_a_process(code: str, here: Path, **options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "MINARI_DATASETS_PATH": str(here)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_disk_that_fills_up_while_writing(built: Path, here: Path) -> None:
    """A limit on the size of files makes the write itself fail, as a full disk does."""
    before = built.read_bytes()
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "from offlinemeta import datasets\n"
        f"datasets.build({SPEC.id!r}, force=True)"
    )
    process = in_a_process(code, here)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "DatasetError" in said
    assert "Nothing was changed" in said
    assert built.read_bytes() == before
    assert not list((here / ".offlinemeta" / "drafts").iterdir())
    forget_flat(here)
    assert len(datasets.load(SPEC)) == 480


SLOW = f"""
import time
from offlinemeta import datasets
from pathlib import Path
write_bytes = Path.write_bytes
def slowly(path, content):
    write_bytes(path, content[: len(content) // 2])
    print("half", flush=True)
    time.sleep(60)
    write_bytes(path, content)
Path.write_bytes = slowly
datasets.build({SPEC.id!r}, force=True)
"""


def wait_for_half(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if "half" in line:
            return
    raise AssertionError("the build ended")


def test_kill_in_the_middle_of_a_build(here: Path) -> None:
    import minari

    process = in_a_process(SLOW, here)
    wait_for_half(process)
    try:
        # a second build is refused while the first one runs
        with pytest.raises(BusyError, match="another process"):
            datasets.build(SPEC)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    left = list((here / ".offlinemeta" / "drafts").rglob("main_data.hdf5"))
    assert left, "the kill came too late"
    assert left[0].stat().st_size > 0
    assert minari.list_local_datasets() == {}
    with pytest.raises(FileNotFoundError):
        minari.load_dataset(SPEC.id)
    with pytest.raises(DatasetMissingError):
        datasets.load(SPEC, rebuild=False)
    assert len(datasets.load(SPEC)) == 480  # builds, and sweeps up
    assert not list((here / ".offlinemeta" / "drafts").iterdir())
    assert list(minari.list_local_datasets()) == [SPEC.id]


def test_kill_in_the_middle_of_a_rebuild_keeps_the_old_one(built: Path, here: Path) -> None:
    before = built.read_bytes()
    process = in_a_process(SLOW, here)
    wait_for_half(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert built.read_bytes() == before
    assert len(datasets.load(SPEC, rebuild=False)) == 480


def test_a_second_load_waits_for_the_first(here: Path) -> None:
    """Runs that start together share one build."""
    code = f"from offlinemeta import datasets; print(datasets.load({SPEC.id!r}).hash)"
    processes = [in_a_process(code, here) for _ in range(3)]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert len({text.strip().splitlines()[-1] for text in said}) == 1
    assert sum("Built" in text for text in said) == 1, said
    assert any("Waiting for another process" in text for text in said), said


def test_minari_lists_and_deletes_it(built: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import minari

    assert list(minari.list_local_datasets()) == [SPEC.id]
    assert minari.namespace.get_namespace_metadata("OfflineMeta")["description"]
    minari.delete_dataset(SPEC.id)
    with pytest.raises(DatasetMissingError):
        datasets.load(SPEC, rebuild=False)
    start = time.monotonic()
    assert len(datasets.load(SPEC)) == 480
    assert time.monotonic() - start < 60
