"""Publishing and downloading, with the real Minari CLI and real clients, against servers on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hub import Hub, serving

ID = "OfflineMeta/PointRobot/smac-v1"
REMOTE = "hf://om-bench"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub()) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_TOKEN", "any")
        yield server


def run(*command: str | Path, code: int = 0, cwd: Path | None = None, **variables: str | Path) -> str:
    environment = {**os.environ, "COLUMNS": "300", "NO_COLOR": "1", **{k: str(v) for k, v in variables.items()}}
    done = subprocess.run(
        list(map(str, command)),
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def ours(*args: str | Path, code: int = 0, cwd: Path | None = None, **variables: str | Path) -> str:
    return run(sys.executable, "-m", "offlinemeta", "datasets", *args, code=code, cwd=cwd, **variables)


MINARI = Path(sys.executable).parent / "minari"


def files(folder: Path) -> dict[str, bytes]:
    data = folder / ID / "data"
    return {path.name: path.read_bytes() for path in data.iterdir()}


def test_round_trip_through_the_hub(built: Path, here: Path, hub: Hub, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    said = ours("publish", ID, "--remote", REMOTE, "--manifest", manifest)
    assert f"MINARI_REMOTE={REMOTE} minari download {ID}" in said
    entry = json.loads(manifest.read_text())[ID]
    assert entry["steps"] == 9600
    assert len(entry["sha256"]) == 64

    # anybody, by Minari alone
    other = tmp_path / "other"
    assert ID in run(MINARI, "list", "remote", MINARI_REMOTE=REMOTE, MINARI_DATASETS_PATH=other)
    run(MINARI, "download", ID, MINARI_REMOTE=REMOTE, MINARI_DATASETS_PATH=other)
    assert files(other) == files(here)

    # ours, verified
    third = tmp_path / "third"
    said = ours("download", ID, MINARI_REMOTE=REMOTE, MINARI_DATASETS_PATH=third)
    assert f"minari download {ID}" in said
    assert "content " + entry["sha256"][:12] in said
    assert files(third) == files(here)
    assert ID in run(MINARI, "list", "local", MINARI_DATASETS_PATH=third)
    assert "is there already" in ours("download", ID, MINARI_REMOTE=REMOTE, MINARI_DATASETS_PATH=third)

    # load() prefers the remote to a build
    fourth = tmp_path / "fourth"
    assert "Downloaded" in ours("load", ID, "--no-rebuild", MINARI_REMOTE=REMOTE, MINARI_DATASETS_PATH=fourth)

    # published data are never replaced
    assert "has OfflineMeta/PointRobot/smac-v1 already" in ours("publish", ID, "--remote", REMOTE, code=2)


def test_what_the_remote_sends_is_checked(
    built: Path, here: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from io import StringIO

    from rich.console import Console

    from offlinemeta.datasets import manifest, remote, storage
    from offlinemeta.datasets.errors import DamagedDatasetError
    from offlinemeta.datasets.spec import get_spec

    ours("publish", ID, "--remote", REMOTE, "--manifest", tmp_path / "manifest.json")
    stored = hub.repos["om-bench/OfflineMeta"]
    name = next(name for name in stored if name.endswith("main_data.hdf5"))
    intact = stored[name]
    fresh = tmp_path / "fresh"

    stored[name] = intact[: len(intact) // 2]
    said = ours("download", ID, code=2, MINARI_REMOTE=REMOTE, MINARI_DATASETS_PATH=fresh)
    assert "is damaged" in said
    assert "Nothing was kept" in said
    assert not (fresh / "OfflineMeta").exists()
    assert "--force" not in ours("load", ID, code=2, MINARI_REMOTE=REMOTE, MINARI_DATASETS_PATH=fresh)

    # what is intact, but not what the manifest has
    stored[name] = intact
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(fresh))
    known = {**manifest.read_manifest(tmp_path / "manifest.json")[ID], "sha256": "f" * 64}
    spec = get_spec(ID)
    with (
        storage.locked(spec),
        pytest.raises(DamagedDatasetError, match=r"the manifest of this package says f{64}"),
    ):
        remote.fetch(spec, REMOTE, known, Console(file=StringIO()))
    assert not storage.is_local(spec)

    # the previous state stays, when it is downloaded anew and something goes wrong
    ours("download", ID, MINARI_REMOTE=REMOTE)
    before = files(fresh)
    stored[name] = intact[:1000]
    ours("download", ID, "--force", code=2, MINARI_REMOTE=REMOTE)
    assert files(fresh) == before


class Garbage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"<garbage>")

    def log_message(self, *args: object) -> None:
        pass


def test_a_remote_that_answers_with_garbage_or_not_at_all(
    here: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offlinemeta.datasets import remote
    from offlinemeta.datasets.errors import RemoteError
    from offlinemeta.datasets.spec import get_spec

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Garbage)) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        said = ours("download", ID, code=2, MINARI_REMOTE=REMOTE, HF_ENDPOINT=url)
    assert f"{ID} cannot be found: {REMOTE} did not do it" in said
    assert "Traceback" not in said
    assert not list(here.glob("OfflineMeta*"))
    # the port is closed now; the hub's client, which tries again for 23 s, is kept from waiting
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setattr(remote, "LIST", f"import time; time.sleep = lambda seconds: None; {remote.LIST}")
    with pytest.raises(RemoteError, match=r"Connection refused.* Nothing was changed"):
        remote.remote_hash(get_spec(ID), REMOTE)


def test_a_remote_that_hangs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from offlinemeta.datasets import remote
    from offlinemeta.datasets.errors import RemoteError
    from offlinemeta.datasets.spec import get_spec

    monkeypatch.setattr(remote, "ANSWER", 4.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(RemoteError, match="took longer than 4 s"):
            remote.remote_hash(get_spec(ID), "gcp://bucket")


def test_mistakes(here: Path, hub: Hub, tmp_path: Path) -> None:
    assert "hf://nobody does not have" in ours("download", ID, "--remote", "hf://nobody", code=2)
    assert "is no address" in ours("download", ID, "--remote", "[/b]", code=2)
    assert "No remote was named" in ours("download", ID, code=2)
    assert "needs HF_TOKEN" in ours("publish", ID, "--remote", REMOTE, code=2, HF_TOKEN="")
    assert "--key FILE for gcp://" in ours("publish", ID, "--remote", "gcp://bucket", code=2)
    assert "Build it with" in ours("publish", ID, "--remote", REMOTE, code=2)
    assert not list(here.glob("OfflineMeta*"))
    ours("build", ID)
    nowhere = tmp_path / "no" / "manifest.json"
    assert "cannot be written" in ours("publish", ID, "--remote", REMOTE, "--manifest", nowhere, code=2)
    said = ours("publish", ID, "--remote", REMOTE, "--manifest", tmp_path / "m.json", code=2, HF_TOKEN="bad")
    assert "cannot be uploaded" in said
    assert "401" in said
    assert not hub.repos.get("om-bench/OfflineMeta")
    assert not (tmp_path / "m.json").exists()


def test_data_of_another_version_and_relative_paths(here: Path, hub: Hub, tmp_path: Path) -> None:
    ours("build", ID, MINARI_DATASETS_PATH="some/where", cwd=tmp_path)
    ours("publish", ID, "--remote", REMOTE, "--manifest", "m.json", MINARI_DATASETS_PATH="some/where", cwd=tmp_path)
    assert (tmp_path / "m.json").exists()
    said = ours("download", ID, "--remote", REMOTE, MINARI_DATASETS_PATH="else/where", cwd=tmp_path)
    assert "Downloaded" in said
    assert files(tmp_path / "else" / "where") == files(tmp_path / "some" / "where")

    stored = hub.repos["om-bench/OfflineMeta"]
    name = next(name for name in stored if name.endswith("smac-v1/data/metadata.json"))
    content = json.loads(stored[name])
    content["offlinemeta"]["env"] = "OfflineMeta/PointRobot-v9"
    stored[name] = json.dumps(content).encode()
    said = ours("download", ID, "--remote", REMOTE, code=2)
    assert f"What {REMOTE} sent is for another version" in said
    assert "Nothing was kept" in said
    assert not list(here.glob("OfflineMeta*"))


def test_loading_builds_where_the_remote_fails(here: Path, hub: Hub) -> None:
    said = ours("load", ID, MINARI_REMOTE=REMOTE)
    assert "It is built instead" in said
    assert "Built OfflineMeta/PointRobot/smac-v1" in said
    assert "9,600 transitions" in said


class Token(BaseHTTPRequestHandler):
    """Grants anybody a token, as Google's OAuth endpoint does."""

    def do_POST(self) -> None:
        body = json.dumps({"access_token": "x", "token_type": "Bearer", "expires_in": 3600}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def bucket(name: str, folder: Path) -> Iterator[str]:
    """Run the emulator of Google's storage with one bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    command = [Path(sys.executable).parent / "gcp-storage-emulator", "start", "--host=127.0.0.1", f"--port={port}"]
    with subprocess.Popen(
        [*map(str, command), f"--default-bucket={name}", "--in-memory"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def service_account(path: Path, token_uri: str) -> None:
    """Write the key of a service account that nobody knows."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    content = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": pem,
        "client_email": "nobody@p.example",
        "client_id": "1",
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(content))


def test_round_trip_through_a_bucket(built: Path, here: Path, tmp_path: Path) -> None:
    remote = "gcp://om-data"
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Token)) as tokens, bucket("om-data", tmp_path / "gcs") as url:
        service_account(tmp_path / "key.json", f"http://127.0.0.1:{tokens.server_port}/token")
        key, manifest = tmp_path / "key.json", tmp_path / "manifest.json"
        ours("publish", ID, "--remote", remote, "--key", key, "--manifest", manifest, STORAGE_EMULATOR_HOST=url)
        other, third = tmp_path / "other", tmp_path / "third"
        run(MINARI, "download", ID, MINARI_REMOTE=remote, MINARI_DATASETS_PATH=other, STORAGE_EMULATOR_HOST=url)
        assert files(other) == files(here)
        said = ours("download", ID, MINARI_REMOTE=remote, MINARI_DATASETS_PATH=third, STORAGE_EMULATOR_HOST=url)
        assert "Downloaded" in said
        assert files(third) == files(here)


def test_all_datasets_of_a_manifest_are_published_and_checked_and_a_stopped_run_goes_on(
    built: Path, here: Path, hub: Hub, tmp_path: Path
) -> None:
    from offlinemeta.datasets.manifest import read_manifest

    third = "OfflineMeta/SparsePointRobot/smac-v1"
    chosen = {each: read_manifest()[each] for each in (ID, "OfflineMeta/PointRobot/smac-heldout-v1", third)}
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({**chosen, third: {**chosen[third], "sha256": "f" * 64}}))
    command = ("publish", "--all", "--remote", REMOTE, "--manifest", manifest)

    # the third one stops it: its content is not the manifest's, so it is not published
    said = ours(*command, code=2)
    assert f"1 of 3: published {ID}, downloaded it again" in said
    assert "2 of 3: published OfflineMeta/PointRobot/smac-heldout-v1" in said  # built first
    assert f"{third} has the content {chosen[third]['sha256']} here" in said
    stored = hub.repos["om-bench/OfflineMeta"]
    assert not [name for name in stored if "SparsePointRobot" in name]

    # a repetition goes on there, and uploads nothing twice
    manifest.write_text(json.dumps(chosen))
    before = dict(stored)
    said = ours(*command)
    assert f"1 of 3: {ID} is published, with the content of the manifest" in said
    assert f"3 of 3: published {third}" in said
    assert "3 of 3 datasets are published" in said
    assert {name: stored[name] for name in before if "metadata" not in name} == {
        name: content for name, content in before.items() if "metadata" not in name
    }
    assert json.loads(manifest.read_text()) == chosen

    # what the remote has with another content is told, and left as it is
    manifest.write_text(json.dumps({**chosen, ID: {**chosen[ID], "sha256": "f" * 64}}))
    said = ours(*command, code=1)
    assert f"has {ID} with another content, {chosen[ID]['sha256']}" in said
    assert "2 of 3 datasets are published" in said
    assert "Name one dataset" in ours("publish", "--remote", REMOTE, code=2)
    assert "Name one dataset" in ours("publish", ID, "--all", "--remote", REMOTE, code=2)


def test_an_upload_that_the_remote_has_spoilt_is_noticed(
    built: Path, here: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from io import StringIO

    from rich.console import Console

    from offlinemeta.datasets import publishing, remote
    from offlinemeta.datasets.errors import DamagedDatasetError
    from offlinemeta.datasets.manifest import read_manifest

    uploaded = remote.publish

    def spoil(*arguments: object) -> None:
        uploaded(*arguments)  # type: ignore[arg-type]
        stored = hub.repos["om-bench/OfflineMeta"]
        name = next(name for name in stored if name.endswith("main_data.hdf5"))
        stored[name] = stored[name][: len(stored[name]) // 2]

    monkeypatch.setattr(remote, "publish", spoil)
    with pytest.raises(DamagedDatasetError, match=f"What {REMOTE} sent for {ID} is damaged"):
        publishing.publish_all({ID: read_manifest()[ID]}, REMOTE, "any", Console(file=StringIO()))
