"""Runs: through the command line, resumed, killed, damaged; and that something is learned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file
from test_baselines import make
from typer.testing import CliRunner

from offlinemeta import datasets
from offlinemeta.baselines.parts.agent import LatentAgent
from offlinemeta.baselines.registry import METHODS, make_config
from offlinemeta.baselines.training import loop as training
from offlinemeta.baselines.training.hardware import check_device
from offlinemeta.baselines.training.storage import save_tensors
from offlinemeta.benchmark.errors import RunError
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.result import read_results
from offlinemeta.benchmark.runner import evaluate
from offlinemeta.cli import app
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import UnknownNameError

QUIET = Console(quiet=True)


def run_of(folder: Path, method: str = "smac", seed: int = 0, **changes: Any) -> training.Run:
    spec = datasets.get_spec("PointRobot/smac")
    config = replace(make_config(method, "smoke"), **changes)
    return training.Run(
        method, config, spec, seed, folder, protocols=("online-3", "offline-context"), repeats=1, watch=0
    )


def train(run: training.Run, **options: Any) -> list[Path]:
    return training.train(run, console=QUIET, **options)


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
    assert ((f"{method}-offline", "PointRobot/smac/online-3") in found) == (method == "smac")
    (result,) = [r for r in read_results([out]) if r.method == method and r.benchmark.endswith("online-3")]
    assert result.provenance[0].dataset == {
        "id": "OfflineMeta/PointRobot/smac-v0",
        "sha256": datasets.load("PointRobot/smac").hash,
    }
    assert result.provenance[0].gradient_steps == make_config(method, "smoke").steps
    assert (result.provenance[0].env_steps > 0) == (method in ("smac", "oracle"))
    assert result.sees_task == (method == "told")
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert any("curve" in entry for entry in log)
    again = CliRunner().invoke(
        app, ["evaluate", "PointRobot/smac/online-3", "--checkpoint", str(out / "agent.safetensors"), "--seed", "3",
              "--out", str(tmp_path / "again.json"), "--method", method],
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    (evaluated,) = read_results([tmp_path / "again.json"])
    assert evaluated.returns == result.returns  # the checkpoint is the agent that was trained


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
    counters = {"seconds": 1.0, "step": first.step, "env_steps": first.env_steps, "format": 1, "device": "cpu"}
    save_tensors(tmp_path / "state.safetensors", training.state_of(first), run.about() | counters)
    assert training.restore(run, second, run.about(), None) == 1.0
    while second.step < second.config.steps:
        second.update()
    expected, got = training.state_of(whole), training.state_of(second)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert whole.env_steps == second.env_steps


KILLED = """
import sys
from pathlib import Path
from offlinemeta.baselines.training import loop as training
from test_train import QUIET, run_of
training.SAVE_EVERY = 0.0
run = run_of(Path(sys.argv[1]), rounds=3, round_steps=100, offline_steps=100)
training.train(run, resume=len(sys.argv) > 2, console=QUIET)
"""


def step_of(file: Path) -> int:
    if not file.exists():
        return 0
    with safe_open(file, framework="pt") as content:
        return json.loads(content.metadata()["offlinemeta"])["step"]


def test_a_run_killed_in_the_middle_goes_on_to_the_same_end(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, "-c", KILLED, whole], env=environment, check=True)
    process = subprocess.Popen([sys.executable, "-c", KILLED, killed], env=environment)
    deadline = time.monotonic() + 120
    while step_of(killed / "state.safetensors") < 150:  # inside the self-supervised phase
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "agent.safetensors").exists(), "killed too late to test anything"
    subprocess.run([sys.executable, "-c", KILLED, killed, "resume"], env=environment, check=True)
    expected, got = (load_file(folder / "state.safetensors") for folder in (whole, killed))
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    a, b = (sorted((r.benchmark, r.method, str(r.returns)) for r in read_results([f])) for f in (whole, killed))
    assert a == b


def test_the_oracle_branches_from_the_same_offline_phase(tmp_path: Path) -> None:
    train(run_of(tmp_path / "smac"))
    train(run_of(tmp_path / "alone", "oracle", online_rewards="true"))
    train(run_of(tmp_path / "branch", "oracle", online_rewards="true"), branch=tmp_path / "smac")
    expected, got = (load_file(tmp_path / name / "state.safetensors") for name in ("alone", "branch"))
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    with pytest.raises(RunError, match=r"offline phase in .* is another one: lr is"):
        train(run_of(tmp_path / "other", "oracle", online_rewards="true", lr=1.0), branch=tmp_path / "smac")
    with pytest.raises(RunError, match="no finished offline phase"):
        train(run_of(tmp_path / "none", "oracle", online_rewards="true"), branch=tmp_path / "nothing")


def test_a_study_gathers_its_cells_and_keeps_finished_ones(tmp_path: Path) -> None:
    arguments = ["study", "PointRobot/smac", "--seeds", "1", "--methods", "smac,oracle", "--preset", "smoke"]
    arguments += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    for _ in range(2):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert {(r.method, r.benchmark.split("/")[2]) for r in read_results([tmp_path / "results"])} == {
            (method, protocol)
            for method in ("smac", "smac-offline", "oracle")
            for protocol in ("online-10", "offline-context")
        }
    states = [
        load_file(tmp_path / "runs/PointRobot-smac" / f"{m}-s0" / "state.safetensors") for m in ("smac", "oracle")
    ]
    assert torch.equal(states[0]["decoder.biases.0"], states[1]["decoder.biases.0"]), "one offline phase"
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
    assert train(run, resume=True) == first  # finished: only its evaluation is made again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "other"}, "sha256 is 'other' there"),
        ({"format": 99}, "format 99; this version of offlinemeta reads 1"),
        ({"device": "cuda"}, "was trained on cuda. Go on with it there: --device cuda"),
        ({"seed": 7}, "seed is 7 there and 0 here"),
        ({"config": {"lr": 1.0}}, "lr is 1.0 there and 0.0003 here"),
    ],
)
def test_a_checkpoint_of_other_data_version_device_or_config_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    run = run_of(tmp_path, "bc")
    train(run)
    file = tmp_path / "state.safetensors"
    with safe_open(file, framework="pt") as content:
        about = json.loads(content.metadata()["offlinemeta"])
    config = {**about["config"], **change.pop("config", {})}
    save_tensors(file, load_file(file), {**about, **change, "config": config})
    with pytest.raises(RunError, match=message):
        train(run, resume=True)


def test_a_wrong_protocol_or_branch_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", "oracle", online_rewards="true")
    with pytest.raises(UnknownNameError, match="onlin-3"):
        train(replace(run, protocols=("online-3", "onlin-3")))
    with pytest.raises(RunError, match="no finished offline phase"):
        train(run, branch=tmp_path / "nothing")
    assert not (tmp_path / "run" / "run.json").exists()


def damage(file: Path, kind: str) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if kind == "truncated" else b"\xff" * 64 + content[64:])


@pytest.mark.parametrize("kind", ["truncated", "garbage"])
def test_damaged_checkpoints_are_refused(kind: str, tmp_path: Path) -> None:
    run = run_of(tmp_path, "bc")
    train(run)
    for name in ("state", "agent"):
        damage(tmp_path / f"{name}.safetensors", kind)
    with pytest.raises(RunError, match=r"state.safetensors is damaged .* Delete it"):
        train(run, resume=True)
    with pytest.raises(RunError, match=r"agent.safetensors is damaged"):
        LatentAgent(get_family("PointRobot"), tmp_path / "agent.safetensors")


def test_an_agent_of_another_family_version_or_config_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "agent.safetensors"
    train(run_of(tmp_path, "bc"))
    family = get_family("PointRobot")
    agent = LatentAgent(family, file)
    with pytest.raises(RunError, match=r"for OfflineMeta/PointRobot-v0, not for OfflineMeta/AntDir-v0"):
        LatentAgent(get_family("AntDir"), file)
    with pytest.raises(RunError, match="There is no checkpoint"):
        LatentAgent(family, tmp_path / "none")
    with pytest.raises(RunError, match="needs a checkpoint"):
        LatentAgent(family)
    about = agent.about
    agent.about = {**about, "format": 99}
    agent.save(file)
    with pytest.raises(RunError, match="format 99; this version"):
        LatentAgent(family, file)
    agent.about = {**about, "config": {**agent.config, "hidden": [16, 17]}}
    agent.save(file)
    with pytest.raises(RunError, match="does not fit its own config"):
        LatentAgent(family, file)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    """The kernel refuses to let the file grow beyond 64 kB, as a full disk would."""
    file = tmp_path / "state.safetensors"
    save_tensors(file, {"x": torch.zeros(3)}, {"step": 1})
    code = (
        "import resource, sys, signal, torch; from pathlib import Path\n"
        "from offlinemeta.baselines.training.storage import save_tensors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "save_tensors(Path(sys.argv[1]), {'x': torch.ones(10**6)}, {'step': 2})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=False)
    assert "RunError" in done.stderr
    assert "The one before is untouched" in done.stderr
    assert load_file(file)["x"].tolist() == [0.0, 0.0, 0.0]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


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
        (["smac", "PointRobot/smac-heldout"], "for evaluation alone"),
        (["smac", "PointRobot/smca"], "Did you mean 'smac-v0'"),
        (["smac", "PointRobot/smac", "lr=3"], "is no option"),
        (["smac", "PointRobot/smac", "--latnt=3"], "Did you mean 'latent'"),
    ):
        done = CliRunner().invoke(app, ["train", *arguments])
        assert message in str(done.exception)


@pytest.mark.parametrize(("method", "least"), [("told", 90.0), ("smac", 40.0)])
def test_something_is_learned(method: str, least: float) -> None:
    """PointRobot in a minute: told the task, most of the way from random to the expert; from own context, a part."""
    torch.set_num_threads(1)
    learner = make(
        method, dataset=datasets.load("PointRobot/smac"), hidden=(64, 64), encoder_hidden=(64, 64), meta_batch=16,
        batch=16, online_batch=16, context=32, lr=2e-3, temperature=0.3, relative_advantages=True, normalise=True,
        kl_weight=0.02, episode_contexts=True, offline_steps=2500, rounds=0,
    )  # fmt: skip
    while learner.step < learner.config.steps:
        learner.update()
    about = {"config": training.plain_config(learner.config), "latent": training.latent_size(learner)}
    agent = LatentAgent.of(learner, get_family("PointRobot"), about)
    returns = evaluate(agent, get_benchmark("PointRobot/smac/online-5"))
    references = datasets.read_references("PointRobot")
    curve = references.score(get_family("PointRobot").tasks["test"], returns).mean(0)
    assert curve[-1] > least
    if method == "smac":  # standing still scores 38; its own context must be worth something
        assert curve[2:].mean() > curve[:2].mean() + 15
