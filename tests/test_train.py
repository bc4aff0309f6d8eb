"""Runs: through the command line, resumed, killed, damaged; and that something is learned."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from test_baselines import make
from typer.testing import CliRunner

from offlinemeta import datasets
from offlinemeta.baselines.registry import METHODS, Method, make_config
from offlinemeta.baselines.training import checkpoint, loop
from offlinemeta.baselines.training.cell import Cell
from offlinemeta.baselines.training.checkpoint import load_agent, restore, save_state, state_of
from offlinemeta.baselines.training.hardware import check_device
from offlinemeta.baselines.training.log import log_to, read_log
from offlinemeta.baselines.training.run import Run, held
from offlinemeta.baselines.training.stages import load_stage, pack
from offlinemeta.benchmark.context import as_context, join_contexts
from offlinemeta.benchmark.errors import RunError
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.result import read_result, read_results
from offlinemeta.benchmark.runner import evaluate
from offlinemeta.cli import app, trials
from offlinemeta.datasets import manifest as manifests
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import ArgumentError, UnknownNameError
from offlinemeta.files import FileError, read_tensors, write_tensors, write_text
from offlinemeta.leaderboard.table import STUDY, remarks, summarise

QUIET = Console(quiet=True)


ONLINE = ("online-3", "offline-context")

ACTING = ("smac", "smac-q", "smac-frozen", "oracle", "true-labels", "pearl-online")
"""Methods that act in training tasks while they are trained."""


def run_of(
    folder: Path,
    method: str = "smac",
    seed: int = 0,
    protocols: tuple[str, ...] = ("offline-context",),
    **changes: Any,
) -> Run:
    spec = datasets.get_spec("PointRobot/smac")
    config = replace(make_config(method, "smoke"), **changes)
    return Run(method, config, spec, seed, folder, protocols=protocols, repeats=1, watch=0)


def train(run: Run, **options: Any) -> list[Path]:
    return loop.train(run, console=QUIET, **options)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_through_the_command_line(method: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["train", method, "PointRobot/smac", "--preset", "smoke", "--out", str(out), "--lr=2e-3", "--seed", "3"]
    done = CliRunner().invoke(app, [*arguments, "--protocols", "online-3,offline-context", "--watch", "10"])
    assert done.exit_code == 0, done.output
    about = json.loads((out / "run.json").read_text())
    assert (about["method"], about["seed"], about["config"]["lr"]) == (method, 3, 0.002)
    found = {(r.method, r.benchmark) for r in read_results([out])}
    assert {(method, f"PointRobot/smac/{protocol}") for protocol in ("online-3", "offline-context")} <= found
    assert ((f"{method}-offline", "PointRobot/smac/online-3") in found) == (
        method in ("smac", "smac-q", "smac-rollout")
    )
    (logged, result) = sorted((r for r in read_results([out]) if r.method == method), key=lambda r: r.benchmark)
    trained_on, drawn_from = (
        {"id": f"OfflineMeta/{name}-v1", "sha256": datasets.load(name).hash}
        for name in ("PointRobot/smac", "PointRobot/smac-heldout")
    )
    assert (result.provenance[0].dataset, result.provenance[0].context) == (trained_on, {})
    assert (logged.provenance[0].dataset, logged.provenance[0].context) == (trained_on, drawn_from)
    assert result.provenance[0].gradient_steps == make_config(method, "smoke").steps
    assert (result.provenance[0].env_steps > 0) == (method in ACTING)
    assert result.sees_task == (method == "told")
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert any("curve" in entry for entry in log)
    for phase, name in {(r.method, r.benchmark) for r in read_results([out])}:
        file = out / ("agent.safetensors" if phase == method else f"{phase.rpartition('-')[2]}.agent.safetensors")
        arguments = ["evaluate", name, "--checkpoint", str(file)]
        again = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / f"{phase}.json")])
        assert again.exit_code == 0, again.output
        (evaluated,) = read_results([tmp_path / f"{phase}.json"])
        (trained,) = [r for r in read_results([out]) if (r.method, r.benchmark) == (phase, name)]
        assert evaluated.returns == trained.returns, "the file is the agent that was trained, and says so:"
        assert (evaluated.method, evaluated.seeds) == (phase, [3])
        names = ("dataset", "context", "config", "gradient_steps", "env_steps", "checkpoint", "evaluation_seed")
        assert trained.provenance[0].checkpoint == hashlib.sha256(file.read_bytes()).hexdigest()
        assert all(getattr(evaluated.provenance[0], n) == getattr(trained.provenance[0], n) for n in names)


def test_results_of_other_data_than_everybody_s_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest knows other data of the training tasks, and the same of the held-out ones."""
    known = manifests.read_manifest()
    changed = {"OfflineMeta/PointRobot/smac-v1": {**known["OfflineMeta/PointRobot/smac-v1"], "sha256": "0" * 64}}
    (manifest := tmp_path / "manifest.json").write_text(json.dumps(known | changed))
    monkeypatch.setattr(manifests, "MANIFEST", manifest)
    (result,) = map(read_result, train(run_of(tmp_path / "run", "bc")))
    assert result.provenance[0].dataset["other"] == f"not the dataset of the manifest, {'0' * 64}"
    assert "other" not in result.provenance[0].context
    assert any("not those of the manifest: bc on PointRobot/smac" in said for said in remarks(summarise([result])))


def test_trials_are_run_and_written_down(tmp_path: Path) -> None:
    """One that differs from the first in its second phase alone branches from it; nothing is trained twice."""
    file, runs = tmp_path / "mine.json", tmp_path / "runs"
    listed = {
        "base": {"method": "smac", "preset": "smoke", "why": "what the others are held against"},
        "No interaction": {
            "method": "smac",
            "preset": "smoke",
            "fields": {"round_prior": 0, "round_posterior": 0},
            "why": "a | b",
        },
        "wide": {"method": "smac", "preset": "smoke", "fields": {"hidden": "20,20"}, "why": "size"},
        "not run": {"method": "bc", "why": "nothing"},
    }
    content = {"title": "What to choose", "protocols": ["val-online-4", "val-offline-context"], "trials": listed}
    file.write_text(json.dumps(content))
    arguments = ["trials", file, "PointRobot/smac", "--seeds", 1, "--only", "base,No interaction,wide", "--runs", runs]
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    table = (tmp_path / "mine.md").read_text().splitlines()
    assert table[0] == "# What to choose"
    rows = [line.split(" | ") for line in table if line.startswith("| PointRobot/smac")]
    assert [row[1] for row in rows] == ["base", "No interaction", "wide"]
    assert rows[1][2] == "smac `--round-prior=0` `--round-posterior=0`"
    assert [len(row) for row in rows] == [11, 11, 11]
    assert all(re.fullmatch(r"-?[\d.]+ ± [\d.]+", figure) for row in rows for figure in row[4:10])
    assert "a \\| b" in table[5]
    curves = {
        result.method: result.array().mean((0, 1))
        for result in read_results([tmp_path / "mine" / "base"])
        if result.benchmark.endswith("online-4")
    }
    expected = [curves[method][k] for method in ("smac-offline", "smac") for k in (2, 3)]
    assert [float(figure.split()[0]) for figure in rows[0][4:8]] == pytest.approx(expected, rel=1e-3)
    names = ("base", "no-interaction", "wide")
    folders = {name: runs / "mine" / name / "PointRobot-smac" / "smac-s0" for name in names}
    cells = trials.cells_of(trials.read(file), list(listed), datasets.get_spec("PointRobot/smac"), 0, runs / "mine")
    assert [cell.branch for cell in cells] == [None, folders["base"], None, None]
    assert [cell.folder for cell in cells[:3]] == list(folders.values())
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "mine").rglob("*.json")}
    assert CliRunner().invoke(app, [*map(str, arguments)]).exit_code == 0
    assert (folders["base"] / "state.safetensors").stat().st_mtime_ns < min(times.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocols": ["online-3"]}, "online-3 is about test tasks"),
        ({"trials": {"a": {"method": "bc"}}}, r"no list of trials: trials\.a\.why"),
        ({"trials": {n: {"method": "bc", "why": "x"} for n in ("a b", "a-b")}}, "differ in punctuation alone"),
        ({"more": 1}, "no list of trials: more"),
        ({"trials": {"a, b": {"method": "bc", "why": "x"}}}, "a comma separates names"),
    ],
)
def test_a_bad_list_of_trials_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = {"title": "t", "protocols": ["val-online-3"], "trials": {"a": {"method": "bc", "why": "x"}}} | change
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(ArgumentError, match=message):
        trials.read(tmp_path / "t.json")


def test_a_context_of_another_quality_says_so(tmp_path: Path) -> None:
    run = replace(run_of(tmp_path, "bc"), protocols=("offline-context-expert",))
    train(run)
    (result,) = read_results([tmp_path])
    assert result.benchmark == "PointRobot/smac/offline-context-expert"
    ids = [result.provenance[0].dataset["id"], result.provenance[0].context["id"]]
    assert ids == ["OfflineMeta/PointRobot/smac-v1", "OfflineMeta/PointRobot/expert-heldout-v1"]


def test_the_curves_of_a_run_are_drawn(tmp_path: Path) -> None:
    for seed in (0, 1):
        train(replace(run_of(tmp_path / f"smac-s{seed}", seed=seed, protocols=()), watch=10))
    picture = tmp_path / "curves.png"
    done = CliRunner().invoke(
        app, ["curves", *(str(tmp_path / f"smac-s{seed}") for seed in (0, 1)), "--out", str(picture)]
    )
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    last = [entry["curve"] for entry in read_log(tmp_path / "smac-s1") if "curve" in entry][-1]
    assert ", ".join(f"{value:.1f}" for value in last) in done.output
    assert "smac-s0" in done.output
    done = CliRunner().invoke(app, ["curves", str(tmp_path), "--out", str(picture)])
    assert "There is no log of a training in" in str(done.exception)


def test_beliefs_of_trained_agents_are_drawn(tmp_path: Path) -> None:
    def offlinemeta(*arguments: Any, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*map(str, arguments)])
        assert done.exit_code == code, done.output
        return done.output if code == 0 else str(done.exception)

    files = {}
    for method, data in (
        ("borel", "PointRobot"),
        ("pearl", "PointRobot"),
        ("macaw", "PointRobot"),
        ("bc", "SparsePointRobot"),
    ):
        out = tmp_path / method
        offlinemeta("train", method, f"{data}/smac", "--preset", "smoke", "--out", out, "--protocols", "", "--watch", 0)
        files[method] = out / "agent.safetensors"
    picture = tmp_path / "belief.png"
    said = offlinemeta("belief", files["borel"], files["pearl"], "--rollouts", 2, "--points", 2, "--out", picture)
    assert "borel, seed 0" in said
    assert "pearl, seed 0" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "is an agent of macaw, which has no latent variable" in offlinemeta("belief", files["macaw"], code=1)
    assert "Split 'vla' does not exist. Did you mean 'val'?" in offlinemeta(
        "belief", files["borel"], "--split=vla", code=1
    )
    assert "These agents are of 2 families" in offlinemeta("belief", files["borel"], files["bc"], code=1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", [7, 20, 25])
def test_a_resumed_run_equals_an_uninterrupted_one(method: str, stop: int, tmp_path: Path) -> None:
    """Bit for bit: in the offline phase, where the self-supervised one begins, and inside that."""
    whole, first, second = (make(method) for _ in range(3))
    stop = min(stop, whole.config.steps - 1)
    for learner, steps in ((whole, whole.config.steps), (first, stop)):
        for _ in range(steps):
            learner.update()
    run = run_of(tmp_path, method)
    save_state(tmp_path / "state.safetensors", first, run.about(), 1.0)
    assert restore(run, second, run.about(), None) == 1.0
    while second.step < second.config.steps:
        second.update()
    expected, got = state_of(whole), state_of(second)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert whole.env_steps == second.env_steps


KILLED = """
import sys
from pathlib import Path
from offlinemeta.baselines.registry import METHODS
from offlinemeta.baselines.training import loop
from test_train import LONG, QUIET, TOY, run_of
METHODS["toy"] = TOY
loop.SAVE_EVERY, loop.LOG_EVERY = 0.0, 10
method, folder, *resume = sys.argv[1:]
loop.train(run_of(Path(folder), method, **LONG[method]), resume=bool(resume), console=QUIET)
"""

LONG: dict[str, dict[str, int]] = {
    "smac": {"offline_steps": 40, "rounds": 2, "round_steps": 60},
    "borel": {"vae_steps": 40, "sac_steps": 120},
    "toy": {"values": 40, "imitation": 40, "steps": 80},
}
TOY = Method("toy:Toy", "Two optimisers, three phases, adapts by a gradient step.")


def step_of(file: Path) -> int:
    return read_tensors(file, "pt")[1]["step"] if file.exists() else 0


def with_tests() -> dict[str, str]:
    """An environment in which a process finds the tests' modules."""
    path = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("method", LONG)
def test_a_run_killed_in_the_middle_goes_on_to_the_same_end(method: str, tmp_path: Path) -> None:
    """Inside a later phase: SMAC's self-supervised one, BOReL's second one, the last one of another learner."""
    environment, command = with_tests(), [sys.executable, "-c", KILLED, method]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, whole], env=environment, check=True)
    process = subprocess.Popen([*command, killed], env=environment)
    deadline = time.monotonic() + 120
    while step_of(killed / "state.safetensors") < 90:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "agent.safetensors").exists(), "killed too late to test anything"
    subprocess.run([*command, killed, "resume"], env=environment, check=True)
    expected, got = (load_file(folder / "state.safetensors") for folder in (whole, killed))
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    a, b = (sorted((r.benchmark, r.method, str(r.returns)) for r in read_results([f])) for f in (whole, killed))
    assert a == b
    steps = [[e["step"] for e in read_log(f) if not {"result", "curve"} & e.keys()] for f in (whole, killed)]
    assert steps[1] == steps[0] == list(range(10, 161, 10)), "no step twice, none lost"


def test_a_run_that_ends_while_a_phase_is_evaluated_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    run = run_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    assert step_of(tmp_path / "state.safetensors") == run.config.offline_steps
    assert len(train(run, resume=True)) == 2


def test_the_oracle_branches_from_the_same_offline_phase(tmp_path: Path) -> None:
    train(run_of(tmp_path / "smac"))
    train(run_of(tmp_path / "alone", "oracle", online_rewards="true", online_nets="all"))
    train(run_of(tmp_path / "branch", "oracle", online_rewards="true", online_nets="all"), branch=tmp_path / "smac")
    expected, got = (load_file(tmp_path / name / "state.safetensors") for name in ("alone", "branch"))
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    with pytest.raises(RunError, match=r"offline phase in .* is another one: lr is"):
        train(
            run_of(tmp_path / "other", "oracle", online_rewards="true", online_nets="all", lr=1.0),
            branch=tmp_path / "smac",
        )
    with pytest.raises(RunError, match="no finished phase 'offline'"):
        train(
            run_of(tmp_path / "none", "oracle", online_rewards="true", online_nets="all"), branch=tmp_path / "nothing"
        )
    with pytest.raises(RunError, match="no finished phase that could be shared"):
        train(run_of(tmp_path / "bc", "bc"), branch=tmp_path / "smac")


def test_a_method_branches_from_itself_with_other_fields_of_later_phases(tmp_path: Path) -> None:
    train(run_of(tmp_path / "smac"))
    train(run_of(tmp_path / "alone", online_lr=1e-2))
    train(run_of(tmp_path / "branch", online_lr=1e-2), branch=tmp_path / "smac")
    expected, got = (load_file(tmp_path / name / "state.safetensors") for name in ("alone", "branch"))
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_study_gathers_its_cells_and_keeps_finished_ones(tmp_path: Path) -> None:
    arguments = ["study", "PointRobot/smac", "--seeds", "1", "--methods", "smac,true-labels", "--preset", "smoke"]
    arguments += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    folders = [tmp_path / "runs" / "PointRobot-smac" / f"{method}-s0" for method in ("smac", "true-labels")]
    wanted = {
        Path(method, "PointRobot-smac", f"{protocol}-s0.json")
        for method in ("smac", "smac-offline", "true-labels")
        for protocol in STUDY["protocols"]
    }
    for _ in range(2):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        found = {file.relative_to(tmp_path / "results") for file in (tmp_path / "results").rglob("*.json")}
        assert found == wanted
        ends = [(folder / "output.txt").stat().st_mtime_ns for folder in folders]
        (tmp_path / "results" / min(wanted)).unlink()
    assert ends == [(folder / "output.txt").stat().st_mtime_ns for folder in folders], "finished cells do not run again"
    states = [load_file(folder / "state.safetensors") for folder in folders]
    assert torch.equal(states[0]["nets.decoder.biases.0"], states[1]["nets.decoder.biases.0"]), "one offline phase"
    done = CliRunner().invoke(app, ["study", "PointRobot/smac", "--methods", "smca"])
    assert "Did you mean 'smac'" in str(done.exception)


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "bc")
    with pytest.raises(RunError, match=r"no run in .* to resume"):
        train(run, resume=True)
    first = train(run)
    with pytest.raises(RunError, match="holds a run"):
        train(run)
    with pytest.raises(RunError, match=r"lr is 0.0003 there and 0.1 here"):
        train(run_of(tmp_path / "run", "bc", lr=0.1), resume=True)
    with pytest.raises(RunError, match=r"seed is 0 there and 5 here"):
        train(run_of(tmp_path / "run", "bc", seed=5), resume=True)
    assert train(run, resume=True) == first  # finished: nothing is left to do
    before = [file.read_text() for file in first]
    first[0].unlink()
    assert train(run, resume=True) == first  # its evaluation is made again
    again = [json.loads(file.read_text())["returns"] for file in first]
    assert again == [json.loads(text)["returns"] for text in before]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "other"}, "sha256 is 'other' there"),
        ({"format": 99}, "is of another format than 3"),
        ({"device": "cuda"}, "was trained on cuda. Go on with it there: --device cuda"),
        ({"seed": 7}, "seed is 7 there and 0 here"),
        ({"config": {"lr": 1.0}}, "lr is 1.0 there and 0.0003 here"),
    ],
)
def test_a_checkpoint_of_other_data_version_device_or_config_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    run = run_of(tmp_path, "bc")
    train(run)[0].unlink()  # something is left to do
    file = tmp_path / "state.safetensors"
    state, about = read_tensors(file, "pt")
    config = {**about["config"], **change.pop("config", {})}
    write_tensors(file, state, {**about, **change, "config": config})
    with pytest.raises(RunError, match=message):
        train(run, resume=True)


def test_a_wrong_protocol_or_branch_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "oracle", online_rewards="true", online_nets="all")
    with pytest.raises(UnknownNameError, match="onlin-3"):
        train(replace(run, protocols=("online-3", "onlin-3")))
    with pytest.raises(RunError, match="no finished phase 'offline'"):
        train(run, branch=tmp_path / "nothing")
    assert not (tmp_path / "run" / "run.json").exists()


def damage(file: Path, kind: str) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if kind == "truncated" else b"\xff" * 64 + content[64:])


@pytest.mark.parametrize("kind", ["truncated", "garbage"])
def test_damaged_checkpoints_are_refused(kind: str, tmp_path: Path) -> None:
    run = run_of(tmp_path, "bc")
    train(run)[0].unlink()  # something is left to do
    for name in ("state", "agent"):
        damage(tmp_path / f"{name}.safetensors", kind)
    with pytest.raises(RunError, match=r"state.safetensors is damaged.* Delete it"):
        train(run, resume=True)
    with pytest.raises(RunError, match=r"agent.safetensors is damaged"):
        load_agent(get_family("PointRobot"), tmp_path / "agent.safetensors")


def test_an_agent_of_another_family_version_or_config_is_refused(tmp_path: Path) -> None:
    file, family = tmp_path / "agent.safetensors", get_family("PointRobot")
    train(run_of(tmp_path, "bc"))
    load_agent(family, file)
    with pytest.raises(RunError, match=r"for OfflineMeta/PointRobot-v0, not for OfflineMeta/AntDir-v0"):
        load_agent(get_family("AntDir"), file)
    with pytest.raises(RunError, match="There is no file"):
        load_agent(family, tmp_path / "none")
    with pytest.raises(RunError, match="needs a checkpoint"):
        load_agent(family)
    tensors, about = read_tensors(file, "pt")
    for change, message in (
        ({"format": 99}, "another format than 3"),
        ({"config": {**about["config"], "hidden": [16, 17]}}, "does not fit its own method and config"),
        ({"method": "smca"}, "does not fit its own method and config: .*Did you mean 'smac'"),
    ):
        write_tensors(file, tensors, {**about, **change})
        with pytest.raises(RunError, match=message):
            load_agent(family, file)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    """The kernel refuses to let the file grow beyond 64 kB, as a full disk would."""
    file = tmp_path / "state.safetensors"
    write_tensors(file, {"x": torch.zeros(3)}, {"step": 1})
    code = (
        "import resource, sys, signal, torch; from pathlib import Path\n"
        "from offlinemeta.files import write_tensors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "write_tensors(Path(sys.argv[1]), {'x': torch.ones(10**6)}, {'step': 2})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=False)
    assert "FileError" in done.stderr
    assert "What was there before is untouched" in done.stderr
    assert load_file(file)["x"].tolist() == [0.0, 0.0, 0.0]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_files_have_the_permissions_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        train(run_of(tmp_path / "run", "bc"))
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "run").rglob("*.safetensors")}
    modes |= {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "run").rglob("*.json*")}
    assert {"agent.safetensors", "state.safetensors", "run.json", "log.jsonl"} <= modes.keys()
    assert set(modes.values()) == {0o640}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_file_of_somebody_else_is_forbidden_and_not_missing(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "agent.safetensors"
    write_tensors(file, {"x": torch.zeros(3)}, {})
    file.chmod(0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(FileError, match="may not be read: permission denied"):
            read_tensors(file, "pt")
    finally:
        os.seteuid(0)


# --- what is there, and what is missing


def test_a_missing_result_of_any_phase_is_made_again_and_no_other(tmp_path: Path) -> None:
    run = run_of(tmp_path, protocols=ONLINE)
    files = train(run)
    before = {file: json.loads(file.read_text())["returns"] for file in files}
    times = {file: file.stat().st_mtime_ns for file in files}
    gone = tmp_path / "results" / "smac-offline-online-3.json"
    gone.unlink()
    assert not run.finished
    assert sorted(train(run, resume=True)) == sorted(files)
    assert json.loads(gone.read_text())["returns"] == before[gone]
    assert json.loads(gone.read_text())["metrics"]["decoder_error"] is not None
    assert all(file.stat().st_mtime_ns == times[file] for file in files if file != gone)
    more = replace(run, protocols=(*run.protocols, "zero-shot"))
    assert not more.finished
    assert {file.name for file in train(more, resume=True)} >= {"smac-zero-shot.json", "smac-offline-zero-shot.json"}
    assert more.finished


def test_a_run_without_protocols_is_finished_when_it_is_trained(tmp_path: Path) -> None:
    run = replace(run_of(tmp_path), protocols=())
    (tmp_path / "run.json").write_text(json.dumps(run.about()))
    assert not run.finished
    assert train(run, resume=True) == []
    assert run.finished


def test_results_without_their_run_are_not_taken_for_those_of_a_new_one(tmp_path: Path) -> None:
    train(run_of(tmp_path, "bc"))
    for name in ("run.json", "state.safetensors"):
        (tmp_path / name).unlink()
    with pytest.raises(RunError, match="holds a run"):
        train(run_of(tmp_path, "bc", lr=1e-2))


def test_a_branch_is_saved_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before its first own checkpoint, it goes on from where it branched."""
    train(run_of(tmp_path / "smac"))
    oracle = run_of(tmp_path / "oracle", "oracle", online_rewards="true", online_nets="all")
    monkeypatch.setattr(loop.Trainer, "note", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(oracle, branch=tmp_path / "smac")
    assert read_tensors(tmp_path / "oracle" / "state.safetensors", "pt")[1]["step"] == 20


def test_phases_that_end_at_once_leave_a_state_to_branch_from(tmp_path: Path) -> None:
    """The offline phase alone (rounds=0) is listed once, and can be gone on with."""
    files = train(run_of(tmp_path / "offline", rounds=0))
    assert [file.name for file in files] == ["smac-offline-context.json"]
    train(run_of(tmp_path / "alone"))
    train(run_of(tmp_path / "branch"), branch=tmp_path / "offline")
    expected, got = (load_file(tmp_path / name / "state.safetensors") for name in ("alone", "branch"))
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_no_interaction_is_offline_training_that_goes_on() -> None:
    learner = make("smac", round_prior=0, round_posterior=0, online_contexts="visit")
    while learner.step < learner.config.steps:
        learner.update()
    assert learner.env_steps == len(learner.data.collected()[0]) == 0


@pytest.mark.parametrize("method", ["pearl", "smac"])
def test_watching_changes_nothing(method: str, tmp_path: Path) -> None:
    train(run_of(tmp_path / "quiet", method))
    train(replace(run_of(tmp_path / "watched", method), watch=7))
    assert any("curve" in entry and "result" not in entry for entry in read_log(tmp_path / "watched"))
    expected, got = (load_file(tmp_path / name / "state.safetensors") for name in ("quiet", "watched"))
    assert all(torch.equal(expected[name], got[name]) for name in expected)


# --- runs that go wrong


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_lock_of_somebody_else_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / ".lock").touch(mode=0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(RunError, match=r"The lock .* may not be written"), held(tmp_path):
            pass
    finally:
        os.seteuid(0)


def test_a_file_system_without_locks_does_not_stop_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(tmp_path):
        pass


def test_what_a_killed_process_left_of_a_file_is_cleared_away(tmp_path: Path) -> None:
    left = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    old = tmp_path / f".run.json.{int(left.stdout)}.draft"
    mine = tmp_path / f".run.json.{os.getppid()}.draft"
    for draft in (old, mine):
        draft.write_text("half")
    write_text(tmp_path / "run.json", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["run.json", mine.name])


def test_a_training_that_diverges_stops_at_once_and_keeps_its_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    with pytest.raises(RunError, match=r"pearl has diverged: at step \d+ its losses are .*(nan|inf).*--lr"):
        train(run_of(tmp_path / "run", "pearl", lr=1e20))
    state, about = read_tensors(tmp_path / "run" / "state.safetensors", "pt")
    assert about["step"] < 30
    assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())
    assert not (tmp_path / "run" / "agent.safetensors").exists()
    for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    learner = make("bc")
    file = tmp_path / "state.safetensors"
    save_state(file, learner, {"method": "bc"}, 0.0)
    next(learner.actor.parameters()).data.fill_(torch.nan)
    with pytest.raises(RunError, match=r"bc has diverged: at step 0, actor.* are not finite"):
        save_state(file, learner, {"method": "bc"}, 0.0)
    assert read_tensors(file, "pt")[0]["nets.actor.net.weights.0"].isfinite().all()


def wait_for(what: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_trainings_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from offlinemeta.baselines.training import run as runs

    monkeypatch.setattr(runs, "PATIENCE", 0.2)
    arguments = [sys.executable, "-m", "offlinemeta", "train", "smac", "PointRobot/smac", "--preset", "smoke"]
    other = subprocess.Popen([*arguments, "--rounds=100000", "--out", str(tmp_path)], stdout=subprocess.DEVNULL)
    try:
        wait_for((tmp_path / "run.json").exists)
        with pytest.raises(RunError, match="Another process trains in"):
            train(run_of(tmp_path, rounds=100000), resume=True)
    finally:
        other.kill()
        other.wait()
    with pytest.raises(RunError, match="rounds is 100000 there"):
        train(run_of(tmp_path), resume=True)  # a dead process holds nothing


PARENT = """
import signal, sys
from pathlib import Path
from rich.console import Console
from offlinemeta import datasets
from offlinemeta.baselines.training.cell import Cell
from offlinemeta.baselines.training.grid import run_grid
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
cells = [Cell(datasets.get_spec("PointRobot/smac"), "smac", seed, "paper", Path(sys.argv[1])) for seed in (0, 1)]
run_grid(cells, 2, Console(quiet=True))
"""


def running(folder: Path) -> list[int]:
    """Processes that train below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"train" in command and any(part.startswith(str(folder).encode()) for part in command):
            found.append(int(process.name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_trainings_end_with_the_process_that_started_them(how: signal.Signals, tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(list(tmp_path.rglob("run.json"))) == 2)
        assert len(running(tmp_path)) == 2
        parent.send_signal(how)
        parent.wait(timeout=30)
        wait_for(lambda: running(tmp_path) == [], 20)
    finally:
        parent.kill()
        parent.wait()
        for left in running(tmp_path):
            os.kill(left, signal.SIGKILL)


def test_a_failed_cell_is_named_with_its_last_words(tmp_path: Path) -> None:
    from offlinemeta.baselines.training.grid import run_grid

    spec, ended = datasets.get_spec("PointRobot/smac"), []
    cells = [Cell(spec, "bc", seed, "smoke", tmp_path) for seed in (0, 1)]
    cells[0].folder.mkdir(parents=True)
    (cells[0].folder / "run.json").write_text("{}")  # that is no run
    told = Console(record=True, width=400, file=io.StringIO())
    with pytest.raises(RunError, match=r"1 of 2 trainings failed; see .*bc-s0/output.txt"):
        run_grid(cells, 1, told, ended.append)
    assert ended == cells[1:]
    assert "PointRobot/smac, bc, seed 0, failed (exit status 2): Error:" in told.export_text(clear=False)
    assert "describes no run" in told.export_text()


def test_an_unwritable_folder_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="Nothing can be written in"):
        train(run_of(tmp_path / "file" / "run", "bc"))
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "file" / "out")])
    assert "Nothing can be written in" in str(done.exception)


# --- the log


def test_a_log_is_trimmed_to_the_checkpoint_and_a_half_written_line_swallows_nothing(tmp_path: Path) -> None:
    entries = [{"step": 10, "actor": 1.0}, {"step": 20, "result": "r.json"}, {"step": 20, "actor": 2.0}, {"step": 30}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"step": 4')
    with log_to(tmp_path, 20, QUIET) as log:
        log({"step": 30, "actor": 3.0})
    assert read_log(tmp_path) == [entries[0], entries[2], {"step": 30, "actor": 3.0}]


def test_losses_are_averaged_over_the_updates_that_had_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SMAC's decoder has a loss in the offline phase alone, which ends within the logging window."""
    monkeypatch.setattr(loop, "LOG_EVERY", 30)
    seen: list[float] = []
    note = loop.Trainer.note

    def spy(self: Any, losses: Any) -> None:
        seen.extend([float(losses["decoder"].detach())] if "decoder" in losses else [])
        note(self, losses)

    monkeypatch.setattr(loop.Trainer, "note", spy)
    train(run_of(tmp_path))
    (entry,) = [entry for entry in read_log(tmp_path) if "decoder" in entry]
    assert len(seen) == 20
    assert entry["decoder"] == pytest.approx(np.mean(seen), rel=1e-6)


def test_a_broken_tensorboard_does_not_stop_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils import tensorboard

    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("a version that does not fit")

    monkeypatch.setattr(tensorboard.SummaryWriter, "add_scalar", broken)
    with log_to(tmp_path / "first", 0, QUIET) if (tmp_path / "first").mkdir() is None else None as log:  # type: ignore[union-attr]
        log({"step": 1, "actor": 1.0})
        log({"step": 2, "actor": 1.0})
    monkeypatch.setattr(tensorboard, "SummaryWriter", broken)
    train(run_of(tmp_path / "second", "bc"))
    assert len(read_log(tmp_path / "first")) == 2
    assert (tmp_path / "second" / "agent.safetensors").exists()


# --- the stages of an online training


def test_stages_ship_in_one_file_and_act_as_they_did(tmp_path: Path) -> None:
    run = replace(run_of(tmp_path / "run", "pearl-online", stages=3, hidden=(64, 64), lr=1e-2), watch=5)
    train(run)
    file, family = tmp_path / "PointRobot.safetensors", get_family("PointRobot")
    facts = pack(tmp_path / "run", file, "offlinemeta train ...")
    assert [stage["step"] for stage in facts["stages"]] == [10, 20, 30]
    assert [stage["env_steps"] for stage in facts["stages"]] == [0, 3200, 6400]
    assert [entry["step"] for entry in facts["curve"]] == [5, 10, 15, 20, 25]
    assert file.stat().st_size < (tmp_path / "run" / "agent.safetensors").stat().st_size * 2
    seen = np.random.default_rng(0).uniform(-1, 1, (2, 2)).astype(np.float32)
    logged = datasets.load("PointRobot/smac")
    contexts = [join_contexts([as_context(logged[e]), as_context(logged[e + 80])]) for e in (0, 1)]  # two episodes each
    whole = [tmp_path / "run" / name for name in ("stage2.agent.safetensors", "agent.safetensors")]
    acts = []
    for agent in (*(load_stage(file, family, i)[0] for i in (2, 3)), *(load_agent(family, path) for path in whole)):
        agent.seed(0)
        acts.append(agent.adapt(contexts).act(seen))
    np.testing.assert_allclose(acts[:2], acts[2:], atol=2e-3)
    assert not np.allclose(acts[2], acts[3], atol=2e-3), "stages differ"
    with pytest.raises(RunError, match=r"stages 1 to 3 of OfflineMeta/PointRobot-v0, not stage 4"):
        load_stage(file, family, 4)


@pytest.mark.parametrize(
    "file", sorted((Path(datasets.__file__).parent / "online").glob("*.safetensors")), ids=lambda file: file.stem
)
def test_shipped_stages_do_what_they_claim(file: Path) -> None:
    """The last one does, rounded to float16, on test tasks; and the first one does not."""
    family, (_, about) = get_family(file.stem), read_tensors(file, "pt")
    assert about["method"] == "pearl-online"
    assert len(about["stages"]) == 10
    references, benchmark = datasets.read_references(family.name), get_benchmark(f"{family.name}/random/online-3")
    first, last = (
        evaluate(load_stage(file, family, stage)[0], benchmark, about["seed"]).mean(0)[2] for stage in (1, 10)
    )  # the same evaluation as that of the claim
    low, high = (float(np.mean(table["test"])) for table in (references.random, references.told))
    assert last == pytest.approx(about["returns"][benchmark.name][2], abs=0.05 * (high - low))
    assert last > first + 0.1 * (high - low)


# --- a stranger among the learners


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "toy", TOY)
    monkeypatch.setitem(METHODS, "toy-more", Method("toy:Toy", "The toy, branched.", {}, "toy:imitation"))


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("stop", [5, 15, 45])
def test_a_learner_of_another_kind_is_killed_and_goes_on_bit_for_bit(stop: int, tmp_path: Path) -> None:
    whole, first, second = (make("toy") for _ in range(3))
    for learner, steps in ((whole, 60), (first, stop)):
        for _ in range(steps):
            learner.update()
    run = run_of(tmp_path, "toy")
    save_state(tmp_path / "state.safetensors", first, run.about(), 1.0)
    restore(run, second, run.about(), None)
    while second.step < 60:
        second.update()
    expected, got = state_of(whole), state_of(second)
    assert {"optimisers.values.0.momentum_buffer", "optimisers.actor.2.exp_avg", "nets.rate.log"} <= expected.keys()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.usefixtures("toy")
def test_a_learner_of_another_kind_trains_branches_evaluates_and_is_replayed_from_its_file(tmp_path: Path) -> None:
    train(run_of(tmp_path / "toy", "toy", protocols=ONLINE))
    found = {r.method for r in read_results([tmp_path / "toy"])}
    assert found == {"toy", "toy-imitation"}, "its first phase is not for evaluation"
    assert (tmp_path / "toy" / "values.state.safetensors").exists()
    train(run_of(tmp_path / "alone", "toy", rate_lr=0.1))
    train(run_of(tmp_path / "branch", "toy-more", rate_lr=0.1), branch=tmp_path / "toy")
    assert {r.method for r in read_results([tmp_path / "branch"])} == {"toy-more"}, "what it shares is the other's"
    expected, got = (load_file(tmp_path / name / "state.safetensors") for name in ("alone", "branch"))
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    with pytest.raises(RunError, match=r"imitation phase in .* is another one: lr is"):
        train(run_of(tmp_path / "other", "toy-more", lr=1.0), branch=tmp_path / "toy")
    train(run_of(tmp_path / "longer", "toy", imitation=25))
    train(run_of(tmp_path / "earlier", "toy", imitation=25), branch=tmp_path / "toy")  # shares the first phase alone
    expected, got = (load_file(tmp_path / name / "state.safetensors") for name in ("longer", "earlier"))
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    agent = load_agent(get_family("PointRobot"), tmp_path / "toy" / "agent.safetensors")
    (trained,) = [r for r in read_results([tmp_path / "toy"]) if (r.method, r.benchmark[-8:]) == ("toy", "online-3")]
    assert trained.agent == checkpoint.AGENT
    replayed = evaluate(agent, get_benchmark("PointRobot/smac/online-3"), seed=0, repeats=1)
    assert replayed.round(3).tolist() == trained.returns[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(RunError, match="torch sees no such device"):
        check_device("cuda")
    for name in ("gpu", "cpu:x"):
        with pytest.raises(RunError, match="neither cpu nor cuda"):
            check_device(name)
    assert check_device(None) == "cpu"


def test_heldout_data_and_wrong_options_are_refused() -> None:
    for arguments, message in (
        (["smac", "PointRobot/smac-heldout"], "only for evaluation"),
        (["smac", "PointRobot/smca"], "Did you mean 'smac-v1'"),
        (["smac", "PointRobot/smac", "lr=3"], "is no option"),
        (["smac", "PointRobot/smac", "--latnt=3"], "Did you mean 'latent'"),
    ):
        done = CliRunner().invoke(app, ["train", *arguments])
        assert message in str(done.exception)


@pytest.mark.parametrize(("method", "least"), [("told", 85.0), ("smac", 11.0)])
def test_something_is_learned(method: str, least: float) -> None:
    """PointRobot in a minute: told the task, most of the way from random to the expert; from own context, a part."""
    torch.set_num_threads(1)
    fields: dict[str, Any] = {"steps": 2500}
    if method == "smac":
        fields = {"offline_steps": 2500, "rounds": 0, "encoder_hidden": (64, 64), "context": 32, "kl_weight": 0.02}
        fields |= {"contexts": "rollout"}
    agent = make(
        method, dataset=datasets.load("PointRobot/spread"), hidden=(64, 64), meta_batch=16, batch=16, lr=2e-3,
        temperature=0.3, relative_advantages=True, normalise=True, **fields,
    )  # fmt: skip
    while agent.step < 2500:
        agent.update()
    returns = evaluate(agent, get_benchmark("PointRobot/spread/online-5"))
    references = datasets.read_references("PointRobot")
    curve = references.score(get_family("PointRobot").tasks["test"], returns).mean(0)
    assert curve[-1] > least
    if method == "smac":  # going to the middle scores 8; its own context must be worth something
        assert curve[2:].mean() > curve[:2].mean() + 22
