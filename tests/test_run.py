"""Suites and the grid that runs them: shards, estimates, killed cells and runners, a Ray cluster that loses a node."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from offlinemeta import datasets
from offlinemeta.baselines.registry import METHODS
from offlinemeta.baselines.training.board import Board
from offlinemeta.baselines.training.cell import Cell, plan, split, steps_of
from offlinemeta.baselines.training.estimate import START, alike, estimate
from offlinemeta.baselines.training.on_ray import bring, train_there
from offlinemeta.benchmark.errors import RunError
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.result import Result, make_result, read_results
from offlinemeta.benchmark.suite import SUITES, get_suite
from offlinemeta.cli import app
from offlinemeta.cli.run import cells_of, parse_shard
from offlinemeta.datasets.references import LOW_WORTH, read_references
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import ArgumentError, UnknownNameError
from offlinemeta.envs.vector import CORES, available_cores
from offlinemeta.leaderboard.table import STUDY

LONG = (("rounds", "60"),)
"""Makes the smoke preset of SMAC take seconds, in which its process can be killed."""

QUIET = Console(quiet=True)


def wait_for(what: Callable[[], Any], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def trained_below(folder: Path) -> dict[str, int]:
    """Processes that train below a folder, by the name of the run's folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "train" in command and "--out" in command and command[command.index("--out") + 1].startswith(str(folder)):
            found[Path(command[command.index("--out") + 1]).name] = int(process.name)
    return found


def returns(root: Path) -> dict[str, Any]:
    """What results below a folder say, without times and machines; each only once."""
    found = {}
    for result in read_results([root]):
        ((training,), (seed,)) = result.provenance, result.seeds
        key = f"{result.method} {result.benchmark} s{seed}"
        assert key not in found
        found[key] = (result.returns, result.metrics, training.gradient_steps, training.env_steps)
    return found


# --- suites


@pytest.mark.parametrize("name", SUITES)
def test_every_benchmark_of_a_suite_exists_once(name: str) -> None:
    suite = get_suite(name)
    assert len(set(suite.benchmarks)) == len(suite.benchmarks)
    assert [get_benchmark(each).name for each in suite.benchmarks] == list(suite.benchmarks)
    joined = [f"{data}/{protocol}" for data, played in suite.protocols.items() for protocol in played]
    assert sorted(joined) == sorted(suite.benchmarks)


def test_what_is_in_which_suite() -> None:
    families = {name: {each.partition("/")[0] for each in suite.benchmarks} for name, suite in SUITES.items()}
    for family in families["core"] | families["study"]:
        assert LOW_WORTH not in read_references(family).tags
    assert families["core"] | families["study"] | families["smoke"] <= families["full"]
    assert families["full"] == {spec.family for spec in datasets.spec.DATASETS.values()}
    assert families["smoke"] <= {"PointRobot", "SparsePointRobot"}
    assert set(SUITES["study"].protocols.values()) == {tuple(STUDY["protocols"])}
    with pytest.raises(UnknownNameError, match="Did you mean 'smoke'"):
        get_suite("smok")


def test_all_methods_are_the_studys_less_what_cannot_be(tmp_path: Path) -> None:
    played = {data: ["online-3"] for data in ("CheetahVel/smac", "WalkerParam/smac", "ML1-reach/smac")}
    cells = cells_of(played, "all", 1, "default", tmp_path)
    left_out = {
        (data, method)
        for data in played
        for method in STUDY["trained"]
        if not any((cell.spec.short, cell.method) == (data, method) for cell in cells)
    }
    assert left_out == {(data, "borel-rr") for data in ("WalkerParam/smac", "ML1-reach/smac")}
    assert [cell.method for cell in cells_of(played, "bc, smac,bc", 1, "default", tmp_path)][:2] == ["bc", "smac"]
    for methods, preset in (("smca", "default"), ("all", "demo")):
        with pytest.raises(UnknownNameError):
            cells_of(played, methods, 1, preset, tmp_path)
    with pytest.raises(UnknownNameError, match="Protocol 'online-x'"):
        cells_of({"PointRobot/smac": ["online-x"]}, "bc", 1, "default", tmp_path)


# --- shards


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_shards_are_disjoint_and_together_the_grid(count: int, tmp_path: Path) -> None:
    cells = plan(SUITES["core"].protocols, list(METHODS), range(1), "smoke", tmp_path)
    shards = split(cells, count)
    assert len(shards) == count
    order = {cell: k for k, cell in enumerate(cells)}
    assert sorted((cell for part in shards for cell in part), key=order.__getitem__) == cells
    assert sum(map(len, shards)) == len(set(cells)) == len(cells)
    place = {cell.folder: k for k, part in enumerate(shards) for cell in part}
    branched = [cell for cell in cells if cell.before is not None]
    assert len(branched) >= 3 * 8
    assert all(place[cell.folder] == place[cell.before] for cell in branched if cell.before is not None)
    for part in shards:
        assert part == sorted(part, key=order.__getitem__), "cells keep their order"


def test_shards_make_about_equally_many_steps(tmp_path: Path) -> None:
    cells = plan(SUITES["core"].protocols, STUDY["trained"], range(2), "default", tmp_path)
    folders = {cell.folder for cell in cells}
    loads = [sum(steps_of(cell, folders) for cell in part) for part in split(cells, 9)]
    assert max(loads) - min(loads) <= 50_000  # the largest group, SMAC and what branches from it
    assert sum(loads) == sum(steps_of(cell, folders) for cell in cells)


def test_a_chain_of_branches_stays_together_whatever_is_listed_first(tmp_path: Path) -> None:
    spec = datasets.get_spec("PointRobot/smac")
    first, second, alone = (Cell(spec, "smac", seed, "smoke", tmp_path / str(seed)) for seed in range(3))
    middle = Cell(spec, "bc", 0, "smoke", tmp_path, branch=first.folder)
    last = Cell(spec, "pearl", 0, "smoke", tmp_path, branch=middle.folder)
    cells = [last, alone, middle, second, first]
    shards = split(cells, 5)
    assert [last, middle, first] in shards
    assert sorted(map(len, shards)) == [0, 0, 1, 1, 3]


def test_wrong_shards_are_refused(tmp_path: Path) -> None:
    assert parse_shard("3/16") == (3, 16)
    for text in ("3", "a/b", "3/16/2", "-1/4", "1.5/2", "", "0/4", "5/4", "0/0"):
        with pytest.raises(ArgumentError, match="such as 3/16"):
            parse_shard(text)


# --- estimates and the table


def result_of(cell: Cell, seconds: float, family: str = "PointRobot", **changes: Any) -> Result:
    """A result of a cell's method, made in a time."""
    (committed, *_) = read_results([Path(str(datasets.__path__[0])).parent / "leaderboard" / "results" / "bc"])
    about = cell.run.about()["config"]
    training = committed.provenance[0].model_copy(
        update={"config": {**about, **changes}, "gradient_steps": 100, "wall_time": seconds, "machine": "here"}
    )
    returns = np.zeros((len(get_family(family).tasks["test"]), 1))
    benchmark = get_benchmark(f"{family}/smac/zero-shot")
    return make_result(benchmark, cell.method, "m:C", returns, 1, cell.seed, provenance=training)


def test_times_are_estimated_from_the_results_that_are_most_alike(tmp_path: Path) -> None:
    spec = datasets.get_spec("PointRobot/smac")
    bc, smac, oracle = cells = [Cell(spec, name, 0, "smoke", tmp_path) for name in ("bc", "smac", "oracle")]
    folders = {cell.folder for cell in cells}

    def taken(cell: Cell, results: list[Result], among: set[Path] = folders) -> float | None:
        seconds = estimate(cell, among, results).seconds
        return None if seconds is None else seconds - START

    assert taken(bc, []) is None
    guess = estimate(bc, folders, [result_of(bc, 100.0)])
    assert (guess.step, guess.steps, guess.seconds, guess.source) == (0, 30, 30.0 + START, "the same family")
    assert guess.machines == {"here"}
    assert taken(bc, [result_of(bc, 100.0, steps=7)]) == 30.0
    other = [result_of(bc, 50.0, "AntDir"), result_of(bc, 70.0, "AntDir"), result_of(bc, 60.0, "AntDir")]
    assert estimate(bc, folders, other) == estimate(bc, folders, other[2:])  # the median
    assert estimate(bc, folders, other).source == "other families"
    wide, another = result_of(bc, 200.0, hidden=[64]), result_of(smac, 400.0)
    ever_less_like = [result_of(bc, 100.0), other[0], wide, another]
    sources = [estimate(bc, folders, ever_less_like[k:]).source for k in range(4)]
    assert sources == ["the same family", "other families", "other settings", "other methods"]
    assert [taken(bc, ever_less_like[k:]) for k in range(4)] == [30.0, 15.0, 60.0, 120.0]
    assert taken(oracle, [result_of(oracle, 100.0)]) == 10.0, "SMAC's cell makes the first 20 steps"
    assert taken(oracle, [result_of(oracle, 100.0)], {oracle.folder}) == 30.0
    bc.folder.mkdir(parents=True)
    (bc.folder / "log.jsonl").write_text('{"step": 20, "seconds": 9.0}\n')
    assert taken(bc, [result_of(bc, 100.0)]) == 10.0


def test_settings_are_alike_up_to_the_length_of_phases(tmp_path: Path) -> None:
    config = Cell(datasets.get_spec("PointRobot/smac"), "borel", 0, "smoke", tmp_path).run.config
    assert alike("borel", config, {"vae_steps": 1000, "sac_steps": 3, "lr": config.lr, "gone": 1})
    assert not alike("borel", config, {"vae_steps": 1000, "lr": 0.5})
    assert not alike("borel", config, {"decoded_steps": 1 + config.decoded_steps}), "a size, whatever its name"
    assert not alike("borel", config, {"lr": "fast"})
    assert not alike("borel", config, {})


def test_the_plan_is_shown_and_nothing_is_run(tmp_path: Path) -> None:
    arguments = ["run", "smoke", "--methods", "bc,smac,oracle", "--dry-run"]
    arguments += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    cells = cells_of({"PointRobot/smac": ["online-3"]}, "bc", 1, "smoke", tmp_path / "runs")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "6 trainings: 0 finished, 6 of a known duration, 0 of an unknown one" in done.output, "by those that ship"
    assert {" ".join(line.split()[-2:]) for line in done.output.splitlines() if "/smac" in line} == {"other settings"}
    assert "6 of them are known to an order of magnitude alone" in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "r.json").write_text(result_of(cells[0], 1000.0).model_dump_json())
    done = CliRunner().invoke(app, [*arguments, "--jobs", "3"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "about 11 min of one core, so about 4 min with 3 at once" in said
    assert "results of here" in said
    assert "4 of them are known to an order of magnitude alone" in said
    rows = {tuple(line.split()[:2]): line for line in done.output.splitlines() if "/smac" in line}
    assert "about 5 min" in rows["PointRobot/smac", "bc"]
    assert "about 9 s" in rows["SparsePointRobot/smac", "smac"]
    assert "3 trainings" in CliRunner().invoke(app, [*arguments, "--shard", "2/2"]).output
    assert "is empty" in CliRunner().invoke(app, [*arguments[:-5], "--shard", "9/9"]).output


def test_the_table_says_what_each_cell_is_doing(tmp_path: Path) -> None:
    spec = datasets.get_spec("PointRobot/smac")
    going, waiting, kept, failing = cells = [Cell(spec, "bc", seed, "default", tmp_path) for seed in range(4)]
    for cell in cells:
        cell.folder.mkdir(parents=True)
    write = (going.folder / "log.jsonl").write_text
    write('{"step": 250, "seconds": 50.0}\n')  # of an earlier process
    (kept.folder / "log.jsonl").write_text('{"step": 20000, "result": "bc-online-10.json", "curve": [-9.0, -7.0]}\n')
    board = Board(cells, [kept], QUIET)
    for cell in (going, failing):
        board.start(cell)
    board.end(failing, succeeded=False)

    def rows(height: int = 50) -> list[str]:
        shown = Console(width=150, height=height, file=io.StringIO(), record=True)
        board.console = shown
        shown.print(board.table(whole=height == 50))
        return shown.export_text().splitlines()

    def row(cell: Cell) -> str:
        return next(line for line in rows() if line.split()[1:3] == ["bc", str(cell.seed)])

    assert "unknown" in row(going), "how fast it goes now is not known yet"
    write('{"step": 250, "seconds": 50.0}\n{"step": 1000, "seconds": 60.0}\n{"step": 2000, "seconds": 70.0}\n')
    assert all(part in row(going) for part in ("running", "2,000 / 20,000", "3 min"))
    with (going.folder / "log.jsonl").open("a") as log:
        log.write('{"step": 2000, "seconds": 70.0, "curve": [-5.0, -4.0, -3.0]}\n')
    assert "training: -5 -4 -3" in row(going)
    assert "waiting" in row(waiting)
    assert all(part in row(kept) for part in ("kept", "online-10: -9 -7"))
    assert all(part in row(failing) for part in ("failed", "took"))
    assert "1 of 4 done" in rows()[0]
    assert "and 1 more, which do not fit here" in " ".join(rows(9))
    assert not any("kept" in line for line in rows(9)), "what is done comes last"


# --- cells are killed, runners are killed


GRID = """
import sys
from pathlib import Path
from rich.console import Console
from offlinemeta import datasets
from offlinemeta.baselines.training.cell import Cell
from offlinemeta.baselines.training.grid import run_grid
from offlinemeta.benchmark.result import gather
spec, root, console = datasets.get_spec("PointRobot/smac"), Path(sys.argv[1]), Console(width=150)
cells = [Cell(spec, name, 0, "smoke", root / "runs", LONG, ("online-3",)) for name in sys.argv[2].split(",")]
start = {}
if sys.argv[3:] == ["ray"]:
    from offlinemeta.baselines.training.on_ray import Cluster
    start = {"start": Cluster(console).start}
try:
    run_grid(cells, 2, console, lambda cell: gather(cell.folder / "results", root / "results"), **start)
except Exception as error:
    print("Error:", error)
    sys.exit(error.exit_code)
"""


def grid(root: Path, methods: str, *more: str, **environment: str) -> subprocess.Popen[str]:
    """Start a process that runs SMAC and a method that branches from it."""
    return subprocess.Popen(
        [sys.executable, "-c", GRID.replace("LONG", repr(LONG)), str(root), methods, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What comes out when nothing is killed, with as many threads: in the last bits, the number matters."""
    root = tmp_path_factory.mktemp("uninterrupted")
    process = grid(root, "smac,true-labels")
    said, _ = process.communicate(timeout=250)
    assert process.returncode == 0, said
    return returns(root / "results")


@pytest.mark.xdist_group("killed")  # both need what is trained uninterrupted
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_killed_cells_and_a_killed_runner_go_on_to_the_same_results(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    runs = tmp_path / "runs" / "PointRobot-smac"
    first = grid(tmp_path, "true-labels,smac")
    try:
        wait_for((runs / "smac-s0" / "offline.state.safetensors").exists)
        assert list(trained_below(tmp_path)) == ["smac-s0"], "the other waits for the phase that both share"
        os.kill(trained_below(tmp_path)["smac-s0"], signal.SIGKILL)
        wait_for((runs / "true-labels-s0" / "state.safetensors").exists)  # it goes on all the same, from that phase
        first.kill()
        said, _ = first.communicate(timeout=30)
        assert "PointRobot/smac, smac --rounds=60, seed 0, failed (killed by signal 9)" in said
        wait_for(lambda: not trained_below(tmp_path))
        assert not (runs / "smac-s0" / "agent.safetensors").exists()
        assert not (runs / "true-labels-s0" / "agent.safetensors").exists()
        branched = (runs / "true-labels-s0" / "state.safetensors").stat()
        second = grid(tmp_path, "true-labels,smac")
        said, _ = second.communicate(timeout=200)
        assert second.returncode == 0, said
        assert "2 of 2 done" in said
        assert branched.st_size < (runs / "true-labels-s0" / "state.safetensors").stat().st_size
        assert returns(tmp_path / "results") == uninterrupted
        third = grid(tmp_path, "smac")
        assert "kept" in third.communicate(timeout=60)[0]
    finally:
        first.kill()
        first.wait()
        for left in trained_below(tmp_path).values():
            os.kill(left, signal.SIGKILL)


def test_a_failed_cell_stops_no_other_and_the_command_ends_with_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "offlinemeta", "run", "smoke", "--methods", "bc", "--jobs", "1"]
    command += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    bad = tmp_path / "runs" / "PointRobot-smac" / "bc-s0" / "run.json"
    bad.parent.mkdir(parents=True)
    bad.write_text("{}")  # that is no run
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "PointRobot/smac, bc, seed 0, failed (exit status 2):" in done.stdout
    assert "run.json describes no run" in " ".join(done.stdout.split()), "the end of its log"
    assert "Error: 1 of 2 trainings failed; see" in done.stderr
    assert set(returns(tmp_path / "results")) == {
        f"bc SparsePointRobot/smac/{protocol} s0" for protocol in ("online-3", "offline-context")
    }
    bad.unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(returns(tmp_path / "results")) == 4
    assert "offlinemeta report" in done.stdout


def test_a_folder_with_runs_of_another_preset_is_refused_at_once(tmp_path: Path) -> None:
    cell = Cell(datasets.get_spec("PointRobot/smac"), "bc", 0, "smoke", tmp_path / "runs")
    cell.folder.mkdir(parents=True)
    (cell.folder / "run.json").write_text(json.dumps(cell.run.about()))
    arguments = ["run", "smoke", "--methods", "bc", "--preset", "default", "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, [*arguments, "--results", str(tmp_path / "results")])
    assert isinstance(done.exception, RunError)
    assert "holds another run" in str(done.exception)
    assert "steps is 30 there and 20000 here" in str(done.exception)
    assert "--runs" in str(done.exception)


def test_a_cell_takes_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CORES, "1")
    assert available_cores() == 1
    monkeypatch.setenv(CORES, "many")
    assert available_cores() >= 1


# --- Ray


def test_what_a_node_without_shared_storage_returns_is_a_finished_run(tmp_path: Path) -> None:
    spec = datasets.get_spec("PointRobot/smac")
    there, here = (Cell(spec, "bc", 0, "smoke", tmp_path / name, protocols=("zero-shot",)) for name in ("a", "b"))
    status, files = train_there(there)
    assert status == 0
    assert not here.run.finished
    bring(here.folder, files)
    assert here.run.finished
    assert returns(here.root) == returns(there.root)
    assert not list(here.folder.glob("*state*"))
    before = {file: file.stat().st_mtime_ns for file in here.folder.rglob("*")}
    bring(here.folder, files)
    assert before == {file: file.stat().st_mtime_ns for file in here.folder.rglob("*")}, (
        "on shared storage, it is there"
    )


@pytest.mark.xdist_group("killed")
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'")
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cell_whose_node_is_killed_runs_again_on_another(
    tmp_path: Path, uninterrupted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    handler = signal.getsignal(signal.SIGTERM)  # which Ray replaces
    # the head, on which the driver is, has no core at first: the cell has to begin on the node that is killed
    local = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    state = tmp_path / "runs" / "PointRobot-smac" / "smac-s0" / "offline.state.safetensors"
    process = None
    try:
        node = local.add_node(num_cpus=1)
        process = grid(tmp_path, "smac", "ray", RAY_ADDRESS=local.address)
        wait_for(state.exists)
        (begun,) = trained_below(tmp_path).values()
        local.remove_node(node, allow_graceful=False)
        wait_for(lambda: begun not in trained_below(tmp_path).values(), 20)
        local.add_node(num_cpus=1)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert "PointRobot/smac, smac --rounds=60, seed 0: its node was lost, so it runs again" in said
        assert "done in" in said
        assert returns(tmp_path / "results") == {k: v for k, v in uninterrupted.items() if k.startswith("smac")}
    finally:
        if process is not None:
            process.kill()
            process.wait()
        local.shutdown()
        signal.signal(signal.SIGTERM, handler)


def test_without_a_cluster_the_remedy_is_named(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    command = [sys.executable, "-m", "offlinemeta", "run", "smoke", "--methods", "bc", "--ray"]
    command += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    )
    assert done.returncode == 2
    assert "There is no Ray cluster at '127.0.0.1:1'" in done.stderr
    assert "ray start --head" in done.stderr
