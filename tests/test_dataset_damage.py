"""What can go wrong with datasets on disk: each case a clear error, the previous state intact, nothing half."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from offlinemeta import datasets
from offlinemeta.datasets import storage
from offlinemeta.datasets.errors import (
    BusyError,
    DamagedDatasetError,
    DatasetError,
    DatasetMissingError,
    OtherVersionError,
)
from offlinemeta.datasets.spec import get_spec

SPEC = get_spec("PointRobot/smac")


@pytest.fixture
def built(here: Path) -> Path:
    """The dataset, built; its HDF5 file."""
    datasets.build(SPEC)
    return here / SPEC.id / "data" / "main_data.hdf5"


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
        content["dataset_id"] = "OfflineMeta/PointRobot/replay-v0"
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


def test_a_rename_that_fails_keeps_the_old_one(built: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, rename = built.read_bytes(), Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(DatasetError, match=r"No space left on device\. Nothing was changed"):
            datasets.build(SPEC, force=True)
    assert built.read_bytes() == before


def test_a_kill_between_the_renames_keeps_the_old_one(built: Path, here: Path) -> None:
    """What such a kill leaves: nothing in place, the old one in the draft."""
    before = built.read_bytes()
    left = here / ".offlinemeta" / "drafts" / storage.slug(SPEC)
    left.mkdir()
    (here / SPEC.id).rename(left / "previous")
    assert len(datasets.load(SPEC, rebuild=False)) == 480
    assert built.read_bytes() == before


def test_flat_copies_of_older_contents_go(built: Path, here: Path) -> None:
    old = here / ".offlinemeta" / "flat" / f"{storage.slug(SPEC)}-{'0' * 64}"
    old.mkdir(parents=True)
    neighbour = here / ".offlinemeta" / "flat" / "OfflineMeta_PointRobot_smac-heldout-v0-1"
    neighbour.mkdir()
    datasets.load(SPEC)
    assert not old.exists()
    assert neighbour.exists()


def test_a_folder_for_reading_only(built: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's datasets: no lock and no flat copy can be written there."""
    forget_flat(here)

    def refuse(name: str) -> Path:
        raise DatasetError("read-only file system")

    monkeypatch.setattr(storage, "ours", refuse)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert len(datasets.load(SPEC)) == 480
    with pytest.raises(DatasetError, match="read-only"):
        datasets.load("PointRobot/replay")


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
