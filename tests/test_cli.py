"""The command line, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from offlinemeta.benchmark.result import read_results
from offlinemeta.datasets.spec import VERSION
from offlinemeta.envs import FAMILIES

COMMAND = (sys.executable, "-m", "offlinemeta")


def offlinemeta(*args: str | int | Path, code: int = 0) -> str:
    command = [*COMMAND, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=None, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_help_shows_commands_and_examples() -> None:
    assert "envs" in offlinemeta("--help")
    assert "offlinemeta envs AntDir --film out.mp4 --task 3" in offlinemeta("envs", "--help")
    assert "0.1.0" in offlinemeta("--version")


def test_listing_names_every_family() -> None:
    short, full = offlinemeta("envs"), offlinemeta("envs", "--all")
    for name, family in FAMILIES.items():
        assert name in full
        assert (name in short) == (family.suite is None)
    assert "ML1-<task>: 50 families (extra: metaworld)" in short
    assert "80/20/20/100/10" in short


def test_one_family_in_detail() -> None:
    shown = offlinemeta("envs", "AntDir")
    for fact in (
        "OfflineMeta/AntDir-v0",
        "27 numbers",
        "8 numbers",
        "200 steps of 0.05 s",
        "angle [rad]",
        "[0.2, 1.0] m",
    ):
        assert fact in shown
    assert "100, in [0.0182, 6.27]" in shown
    assert "worth of a task" in shown
    assert "low-worth" not in shown
    low = "low-worth: averages over families should leave it out"
    assert low in " ".join(offlinemeta("envs", "WalkerParam").split())


def test_mistakes_are_one_line() -> None:
    assert (
        offlinemeta("envs", "AntDri", code=2).strip() == "Error: Family 'AntDri' does not exist. Did you mean 'AntDir'?"
    )
    assert "there is no task 500" in offlinemeta("envs", "AntDir", "--film", "x.mp4", "--task", "500", code=2)
    assert "There are: PointRobot" in offlinemeta("envs", "AntDir", "--film", "x.gif", "--policy", "scripted", code=2)
    assert "--film needs a family" in offlinemeta("envs", "--film", "x.mp4", code=2)


def test_behaviour_policies_are_listed_with_their_returns() -> None:
    rows = {line.split()[0]: line.split() for line in offlinemeta("behaviour").splitlines() if line.strip()}
    assert rows["CheetahVel"][1:3] == ["-346", "-20"]
    assert rows["AntDir"][5:6] == ["8.0M"]


@pytest.mark.gl
@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_films_have_a_picture_for_each_step(suffix: str, tmp_path: Path) -> None:
    import imageio.v2 as imageio

    path = tmp_path / "new" / f"film.{suffix}"
    said = offlinemeta("envs", "PointRobot", "--film", path, "--split", "test", "--task", "3")
    assert "Task(PointRobot test[3]" in said
    with imageio.get_reader(path) as film:
        count = film.count_frames() if suffix == "mp4" else film.get_length()
        first, later = film.get_data(0).astype(int), film.get_data(5).astype(int)
    assert count == 21
    assert first.shape[:2] == (480, 480)
    assert abs(first - later).max() > 50


@pytest.mark.gl
def test_manipulation_scenes_are_filmed_by_the_script_of_an_aim_and_by_random_behaviour(tmp_path: Path) -> None:
    import imageio.v2 as imageio

    film = ("envs", "SawyerScene", "--film", tmp_path / "film.mp4", "--policy")
    said = offlinemeta(*film, "move_block", "--split", "test")
    assert "SawyerScene test[1]: 6" in said, "the first test task of that aim"
    assert "(move_block), move_block policy, return -5" in said, "its success, after some fifty steps"
    with imageio.get_reader(tmp_path / "film.mp4") as reader:
        assert reader.count_frames() == 76
    assert "(move_hand), random-behaviour policy, return -" in offlinemeta(*film, "random-behaviour")
    said = offlinemeta(*film, "move_block", "--task", "0", code=2)
    assert "its aim move_block needs a bottom drawer that starts open" in said
    assert "There are: random, scripted, expert, random-behaviour" in offlinemeta(*film, "fly", code=2)
    assert "Did you mean 'move_block'" in offlinemeta(*film, "moveblock", code=2)
    assert "does not exist" in offlinemeta("envs", "AntDir", "--film", "x.mp4", "--policy", "move_block", code=2)


@pytest.mark.gl
def test_an_agent_is_filmed_after_rollouts_of_its_own(tmp_path: Path) -> None:
    """In its third rollout an agent acts otherwise than in its first: it has adapted."""
    train = ("train", "smac", "PointRobot/smac", "--preset", "smoke", "--protocols", "", "--watch", "0")
    offlinemeta(*train, "--out", tmp_path)
    agent = tmp_path / "agent.safetensors"
    film = ("envs", "PointRobot", "--film", tmp_path / "film.gif", "--policy", agent, "--split", "val", "--task", "3")
    seen = []
    for rollout in (1, 1, 3):
        assert f"rollout {rollout} of {agent}, return -" in offlinemeta(*film, "--rollout", rollout)
        seen.append((tmp_path / "film.gif").read_bytes())
    assert seen[0] == seen[1] != seen[2]
    assert "is an agent for OfflineMeta/PointRobot-v0, not" in offlinemeta("envs", "AntDir", *film[2:6], code=2)


@pytest.mark.gl
def test_the_demo_runs(tmp_path: Path) -> None:
    """Its smoke preset, which learns nothing; and it says so."""
    said = offlinemeta("demo", "PointRobot/smac", "--out", tmp_path, "--preset", "smoke")
    rows = {tuple(cell.strip() for cell in line.split("│")[1:3]) for line in said.splitlines() if "/smac " in line}
    methods = ("pearl", "smac", "smac-offline")
    assert rows >= {("PointRobot/smac", method) for method in methods}
    assert "PointRobot/smac, third episode on held-out tasks: smac" in said
    for name in ("adaptation.png", "report.html", "smac-task0.mp4", "pearl-task5.mp4"):
        assert (tmp_path / name).stat().st_size > 1000


def test_datasets_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    shown = offlinemeta("datasets")
    assert f"Full ids: OfflineMeta/<family>/<name>-v{VERSION}." in " ".join(shown.split())
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "1,000,000" in rows["AntDir/history"]
    assert "120,000" in rows["CheetahVel/smac"]
    assert "CheetahVel/smac-heldout" not in rows
    assert "AntDir/smac-heldout" in offlinemeta("datasets", "--family", "AntDir")
    assert "Did you mean 'AntDir'" in offlinemeta("datasets", "--family", "AntDri", code=2)
    assert "PointRobot/smac" not in offlinemeta("datasets", "--local")
    assert "9,600 steps" in offlinemeta("datasets", "build", "PointRobot/smac")
    assert "PointRobot/smac" in offlinemeta("datasets", "--local")
    assert "80 tasks, 480 episodes, 9,600 transitions" in offlinemeta(
        "datasets", "load", "PointRobot/smac", "--offline"
    )


def test_datasets_help_and_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert "offlinemeta datasets build AntDir/history" in offlinemeta("datasets", "--help")
    for command in ("build", "load", "card", "download", "publish", "references", "manifest"):
        assert f"offlinemeta datasets {command}" in offlinemeta("datasets", command, "--help")
    said = offlinemeta("datasets", "build", "AntDri/replay", code=2)
    assert said.strip() == "Error: Family 'AntDri' does not exist. Did you mean 'AntDir'?"
    said = offlinemeta("datasets", "load", "PointRobot/smac", "--no-rebuild", "--offline", code=2)
    assert "the network is forbidden" in said


def test_references_are_listed() -> None:
    rows = {
        line.split()[0]: line.split() for line in offlinemeta("datasets", "references").splitlines() if line.strip()
    }
    split, random, blind, told, worth, *_ = rows["SparsePointRobot"][1:]
    assert split == "test"
    assert float(random) == pytest.approx(0, abs=0.1)
    assert float(told) == pytest.approx(13.1, abs=0.2)
    assert float(worth) == pytest.approx((float(told) - float(blind)) / (float(told) - float(random)), abs=0.02)
    random, blind, told = map(float, rows["CheetahVel"][2:5])
    assert random < -300 < blind < -100 < -20 < told
    assert "low-worth" in rows["WalkerParam"]
    assert "±" in rows["SparsePointRobot"]
    assert "±" not in rows["CheetahDir"], "two tasks"


@pytest.mark.parametrize(
    ("encoding", "arguments", "code", "shown"),
    [
        ("cp1252", ["envs", "AntDir"], 0, "angle [rad]"),
        ("latin-1", ["envs", "AntDir"], 0, "angle [rad]"),
        ("ascii", ["envs", "HopperParam"], 0, r"height \N{LESS-THAN OR EQUAL TO} 0.7 m"),
        ("ascii", ["envs", "--help"], 0, "--film"),
        ("ascii", ["behaviour"], 0, "CheetahVel"),
        ("ascii", ["datasets"], 0, "AntDir/history"),
        ("cp1252", ["datasets", "references"], 0, "SparsePointRobot"),
        ("ascii", ["envs", "AntDr\u03b8"], 2, "does not exist"),
        ("cp1252", ["report", "no\u03b8where.json"], 2, "cannot be read"),
    ],
)
def test_output_that_is_not_utf8_lacks_letters_and_nothing_else(
    encoding: str, arguments: list[str], code: int, shown: str, here: Path
) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, env=environment, check=False)
    said = done.stdout.decode(encoding) + done.stderr.decode(encoding)
    assert done.returncode == code, said
    assert shown in said
    assert "Traceback" not in said


EVALUATE = ("evaluate", "PointRobot/smac/online-2", "--agent", "random", "--repeats", "1")


def test_a_stage_of_online_pearl_is_evaluated_as_it_ships(tmp_path: Path) -> None:
    said = offlinemeta("evaluate", "PointRobot/smac/online-3", "--agent", "pearl-online", "--out", tmp_path / "r.json")
    assert "pearl-online" in said
    (result,) = read_results([tmp_path / "r.json"])
    assert result.array().mean((0, 1))[2] == pytest.approx(-9.34, abs=0.3)
    assert (result.provenance[0].gradient_steps, result.provenance[0].env_steps) == (20_000, 28_800)
    early = (*EVALUATE[:2], "--agent", "pearl-online", "--stage", "1", "--out", tmp_path / "early.json")
    offlinemeta(*early)
    assert read_results([tmp_path / "early.json"])[0].provenance[0].gradient_steps == 2_000
    assert "stages 1 to 10" in offlinemeta(*early[:-3], "11", code=2)
    assert "--stage is of the agent pearl-online" in offlinemeta(*EVALUATE, "--stage", "1", code=2)
    assert "No online PEARL ships" in offlinemeta("evaluate", "AntDir/smac/online-3", "--agent=pearl-online", code=2)


@pytest.mark.parametrize("name", ["[/x] bad", "..", "sm\u0430c"])
def test_a_bad_name_is_refused_before_the_evaluation(name: str, tmp_path: Path) -> None:
    said = offlinemeta(*EVALUATE, "--out", tmp_path / "r.json", f"--method={name}", code=2)
    assert "Error: A method is named by 1 to 64 of the letters" in said
    assert not list(tmp_path.iterdir())


def test_an_out_that_cannot_be_written_is_refused_before_the_evaluation(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = offlinemeta(*EVALUATE, "--out", tmp_path / "file" / "r.json", code=2)
    assert "Nothing can be written in" in said
    assert "mean return" not in said
    (tmp_path / "r.json").mkdir()
    assert "is a folder" in offlinemeta(*EVALUATE, "--out", tmp_path / "r.json", code=2)
    assert "need a folder" in offlinemeta("evaluate", "smoke", *EVALUATE[2:], "--out", tmp_path / "s.json", code=2)
    offlinemeta(*EVALUATE, "--out", tmp_path / "[/x]" / "r.json")
    said = offlinemeta("report", tmp_path / "[/x]", "--out", tmp_path / "file", code=2)
    assert "Nothing can be written in" in said
    assert "third return" not in said


TEMPLATED = """
import numpy as np
from offlinemeta.benchmark.agent import FunctionPolicy


class Still:
    def __init__(self, family, checkpoint):
        assert checkpoint.read_text() == family.name

    def adapt(self, contexts):
        return FunctionPolicy(lambda observations: np.zeros((len(observations), 2)))
"""


@pytest.mark.usefixtures("built")
def test_a_suite_is_evaluated_into_the_layout_of_a_submission_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("still.py").write_text(TEMPLATED)
    Path("PointRobot.txt").write_text("PointRobot")
    command = ("evaluate", "smoke", "--agent", "still:Still", "--checkpoint", "{family}.txt", "--repeats", "1")
    command += ("--trained-on", "{family}/{quality}", "--seed", "4", "--method", "mine", "--out", "mine")
    said = offlinemeta(*command, code=2)
    assert "SparsePointRobot.txt" in said
    done = {file: file.stat().st_mtime_ns for file in Path("mine").rglob("*.json")}
    assert {str(file) for file in done} == {
        f"mine/PointRobot-smac/{protocol}-s4.json" for protocol in ("online-3", "offline-context")
    }, "what was evaluated before the failure is kept"
    Path("SparsePointRobot.txt").write_text("SparsePointRobot")
    offlinemeta("datasets", "build", "SparsePointRobot/smac")
    said = offlinemeta(*command)
    assert said.count("kept from before") == 2
    assert all(file.stat().st_mtime_ns == time for file, time in done.items())
    results = read_results([Path("mine")])
    assert [result.benchmark for result in results] == [
        f"{family}/smac/{protocol}"
        for family in ("PointRobot", "SparsePointRobot")
        for protocol in ("offline-context", "online-3")
    ]
    for result in results:
        (about,), family = result.provenance, result.benchmark.partition("/")[0]
        assert (result.method, result.seeds, about.evaluation_seed) == ("mine", [4], 4)
        assert about.dataset["id"].startswith(f"OfflineMeta/{family}/smac-v")
    assert "is of mine (still:Still), not of other" in offlinemeta(*command, "--method", "other", code=2)
    assert "kept" not in offlinemeta(*command, "--repeats", "2"), "it replaces what was evaluated otherwise"
    assert {result.repeats for result in read_results([Path("mine")])} == {2}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_result_is_written_before_it_is_shown(tmp_path: Path) -> None:
    command = [*COMMAND, *EVALUATE, "--out", tmp_path / "r.json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.DEVNULL, check=False)
    assert done.returncode != 0
    assert '"method":"random"' in (tmp_path / "r.json").read_text()


def test_names_from_outside_are_shown_as_they_are(tmp_path: Path) -> None:
    name = tmp_path / "[/x] [red]bad"
    said = offlinemeta(*EVALUATE, "--method", "a_b.c+d-1", "--out", name / "r.json")
    assert f"written: {name / 'r.json'}" in said
    said = offlinemeta("report", name, "--out", name / "report")
    assert f"written: {name / 'report' / 'report.md'}" in said
    assert "a_b.c+d-1" in said
    assert r"| a\_b.c+d-1 |" in (name / "report" / "report.md").read_text()
    assert f"{name / 'none.json'} cannot be read" in offlinemeta("report", name / "none.json", code=2)
    assert r"no\x1b[2Jne" in offlinemeta("report", tmp_path / "no\x1b[2Jne", code=2)
