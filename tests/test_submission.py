"""Submissions: what is refused, what is accepted, where they are placed, and whether a replay says the truth."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from offlinemeta.benchmark.errors import ResultError
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.result import Result, make_result, parse_result
from offlinemeta.cli import app
from offlinemeta.envs import FAMILIES
from offlinemeta.files import FileError
from offlinemeta.leaderboard import folder as folders
from offlinemeta.leaderboard import replay, rules, submission
from offlinemeta.leaderboard.folder import SubmissionError, changes, submissions
from offlinemeta.leaderboard.listed import same
from offlinemeta.leaderboard.method import Method
from offlinemeta.leaderboard.schema import json_schema
from offlinemeta.leaderboard.submission import RESULTS, check, submit

ROOT = Path(__file__).parents[1]

GOING_ON = {"AntDir/smac of true-labels", "AntDir/smac of oracle", "CheetahVel/smac of macaw"}
"""Data on which a method's trainings go on: it may have fewer seeds there than the rules ask for."""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A valid submission."""
    return hostile.write(tmp_path)


def refused_by(folder: Path) -> list[str]:
    return list(dict.fromkeys(fault.rule for fault in check(folder, root=folder.parent / "listed").faults))


def said(folder: Path) -> str:
    return "\n".join(map(str, check(folder, root=folder.parent / "listed").faults))


# --- what is accepted


def test_a_valid_submission_keeps_all_rules(mine: Path) -> None:
    found = check(mine)
    assert (found.faults, len(found.results)) == ((), 6)
    assert {(result.benchmark, tuple(result.seeds)) for result in found.joined()} == {
        (f"PointRobot/smac/{protocol}", (0, 1, 2)) for protocol in hostile.PROTOCOLS
    }
    assert hostile.invalid(mine) == ""


def test_our_own_results_keep_the_rules_but_those_that_came_later() -> None:
    """Online PEARL has one seed and no data but its own; some have fewer seeds so far; see docs/submit.md."""
    for folder in submissions(RESULTS):
        found = check(folder)
        assert found.refused(listed=True) == [], folder.name
        going_on = {("seeds", data.removesuffix(f" of {folder.name}")) for data in GOING_ON}
        lacking = {fault.rule for fault in found.faults if (fault.rule, fault.where) not in going_on}
        later = {"older data", "data", "seeds", "another"} if folder.name.startswith("pearl-online") else set()
        assert lacking <= later, folder.name


def test_the_order_of_seeds_and_tasks_plays_no_role(mine: Path) -> None:
    for protocol in hostile.PROTOCOLS:  # seeds 7, 3, 5 in place of 0, 1, 2, and tasks in another order
        for old, new in zip((0, 1, 2), (7, 3, 5), strict=True):
            content = hostile.result(protocol, old)
            content["seeds"] = [new]
            random.Random(0).shuffle(content["returns"][0])
            hostile.put(mine, content)
            (mine / "PointRobot-smac" / f"{protocol}-s{old}.json").unlink()
    assert check(mine).faults == ()


# --- what is refused

Change = Callable[[dict[str, Any]], Any]


def provenance(**changes: Any) -> Change:
    return lambda content: content["provenance"][0].update(changes)


def returns(value: Any) -> Change:
    return lambda content: content["returns"][0][3].__setitem__(0, value)


BAD_RESULTS: list[tuple[Change, str, str]] = [
    (returns(float("nan")), "result", "NaN is no number of JSON"),
    (returns(float("inf")), "result", "Infinity is no number"),
    (returns(1e300), "result", "returns.0.3.0: Input should be less than or equal to"),
    (returns(1e6), "range", "a return of 1e+06 is not between -1351.09 and 0"),
    (returns(0.001), "range", "PointRobot cannot give it"),
    (returns(True), "result", "returns.0.3.0: Input should be a valid number"),
    (returns("-7"), "result", "returns.0.3.0: Input should be a valid number"),
    (returns(None), "result", "returns.0.3.0"),
    (returns([]), "result", "returns.0.3.0"),
    (lambda c: c["returns"][0].pop(), "result", "have shape"),
    (lambda c: c["returns"][0][3].append(-1.0), "result", "have shape"),
    (lambda c: c["returns"].append(c["returns"][0]), "result", "have shape"),
    (lambda c: c.update(score=99.0), "result", "score: Extra inputs"),
    (lambda c: c.update(curve=[1.0]), "result", "curve: Extra inputs"),
    (lambda c: c.update(references={"told": 0.0}), "result", "references: Extra inputs"),
    (lambda c: c["provenance"][0].update(expert=0.0), "result", "expert: Extra inputs"),
    (lambda c: c.update(seeds=[0, 0]), "result", "seeds"),
    (lambda c: c.update(seeds=[True]), "result", "seeds.0: Input should be a valid integer"),
    (lambda c: c.update(seeds=["0"]), "result", "seeds.0: Input should be a valid integer"),
    (lambda c: c.update(seeds=[0.0]), "result", "seeds.0: Input should be a valid integer"),
    (lambda c: c.update(seeds=[10**30]), "result", "seeds.0"),
    (lambda c: c.update(schema_version=True), "result", "schema_version is True"),
    (lambda c: c.update(schema_version="2"), "result", "schema_version is a str"),
    (lambda c: c.update(sees_task=1), "result", "sees_task: Input should be a valid boolean"),
    (lambda c: c.update(repeats=1), "repeats", "Evaluate it 3 times"),
    (lambda c: c.update(benchmark="AntDir/smac/online-3"), "place", "belongs to mine/AntDir-smac/online-3-s0.json"),
    (lambda c: c.update(benchmark="CheetahVel/smac/online-3"), "result", "have shape"),
    (lambda c: c.update(benchmark="../../etc/passwd"), "result", "benchmark: String should match"),
    (lambda c: c.update(benchmark="PointRobot/smac/online-9999"), "result", "have shape"),
    (lambda c: c.update(benchmark="PointRobot/smak/online-3"), "result", "Did you mean 'smac'"),
    (lambda c: c.update(method="../evil"), "result", "method: String should match"),
    (lambda c: c.update(method="min\u0435"), "result", "method: String should match: a name of letters of ASCII"),
    (lambda c: c.update(method="\u202eenim"), "result", "method: String should match"),
    (lambda c: c.update(method="other"), "place", "by what it says it belongs to other/PointRobot-smac"),
    (lambda c: c.update(agent="<script>:x"), "result", "agent: String should match"),
    (lambda c: c.update(agent="other:Agent"), "alike", "differ in agent"),
    (lambda c: c["metrics"].update({"<b>": [1.0]}), "result", "metrics"),
    (lambda c: c["metrics"].update(kl_shift=[float("inf")]), "result", "Infinity"),
    (provenance(machine="<script>alert(1)</script>"), "result", "one line of plain text, without < and >"),
    (provenance(machine="a\nb"), "result", "provenance.0.machine"),
    (provenance(machine="\u202egnp"), "result", "provenance.0.machine"),
    (provenance(machine="\ud800"), "result", "provenance.0.machine"),
    (provenance(machine="x" * 601), "result", "at most 600 characters"),
    (provenance(machine=""), "provenance", "machine is missing"),
    (provenance(config={"a": {"b": 1}}), "result", "provenance.0.config.a"),
    (provenance(config={"a": 10**19}), "result", "provenance.0.config.a"),
    (provenance(config={"lr": 1.0}), "alike", "config differs in"),
    (provenance(config={}), "alike", "others do not"),
    (provenance(wall_time=-1.0), "result", "provenance.0.wall_time"),
    (provenance(gradient_steps="1000"), "result", "provenance.0.gradient_steps"),
    (provenance(gradient_steps=0), "steps", "--gradient-steps"),
    (provenance(started="yesterday"), "result", "provenance.0.started"),
    (provenance(started="2026-13-01T00:00:00Z"), "result", "provenance.0.started"),
    (provenance(started="2026-02-31T00:00:00Z"), "provenance", "is no time that has been"),
    (provenance(started="2099-01-01T00:00:00+00:00"), "provenance", "2099-01-01T00:00:00+00:00 is no time"),
    (lambda c: c["provenance"][0]["versions"].update(numpy="the newest"), "result", "provenance.0.versions.numpy"),
    (lambda c: c["metrics"].update(gap_told=[-0.1]), "range", "gap_told is -0.1; the told expert gets"),
    (lambda c: c["metrics"].update(gap_own=[1e8]), "range", "gap_own is a return, and not between"),
    (provenance(evaluation_seed=None), "provenance", "evaluation_seed is missing"),
    (provenance(versions={}), "versions", "the version of offlinemeta, mujoco, gymnasium, numpy is missing"),
    (provenance(checkpoint=""), "checkpoint", "SHA-256 is missing"),
    (provenance(checkpoint="abc"), "result", "provenance.0.checkpoint"),
    (provenance(checkpoint=f"{2:064x}"), "checkpoint", "one checkpoint is not the training of seeds [0, 1]"),
    (provenance(checkpoint="f" * 64), "checkpoint", "seed 0 has several checkpoints"),
    (provenance(dataset={}), "data", "none stated"),
    (provenance(dataset={"id": "OfflineMeta/PointRobot/smac-v0", "sha256": "0"}), "older data", "smac-v0, while"),
    (provenance(dataset={"id": "OfflineMeta/AntDir/smac-v1", "sha256": "0"}), "data", "that of the benchmark is"),
    (provenance(dataset={"id": hostile.TRAINED, "sha256": "0" * 64}), "content", "has the content 1a025d4111ed"),
    (provenance(context={"id": hostile.LOGGED, "sha256": "0"}), "data", "online-3 has no logged context"),
    (lambda c: c["provenance"][0]["versions"].update(mujoco="3.4.0"), "versions", "under mujoco 3.3.0 alone"),
    (lambda c: c["provenance"][0]["dataset"].update(other="not it"), "content", "has the content"),
    (lambda c: c["provenance"].append(c["provenance"][0]), "result", "2 provenances for 1 seeds"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "rule", "message"), BAD_RESULTS)
def test_a_bad_result_is_refused(change: Change, rule: str, message: str, mine: Path) -> None:
    content = hostile.result()
    change(content)
    (mine / "PointRobot-smac" / "online-3-s0.json").write_text(json.dumps(content))
    assert rule in refused_by(mine)
    assert message in said(mine)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b'{"schema_version": 2, "schema_version": 2}', "the key 'schema_version' is there twice"),
        (b'{"schema_version": 2, "x": ' + b"9" * 5000 + b"}", "limit (4300 digits)"),
        (b"\x80\x04cos\nsystem\n", "'utf-8' codec"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"", "no JSON"),
        (b"{}" * 600_000, "more than"),
        (json.dumps({"schema_version": 2, **{str(i): 1 for i in range(80_000)}}).encode(), "Field required"),
        (json.dumps({"schema_version": 2, "returns": [[[""] * 200_000]]}).encode(), "benchmark: Field required"),
    ],
)
def test_a_text_that_is_no_result_is_refused_in_bounded_time(text: bytes, message: str, mine: Path) -> None:
    file = mine / "PointRobot-smac" / "online-3-s0.json"
    file.write_bytes(text)
    started = time.perf_counter()
    if len(text) <= folders.LARGEST_RESULT:
        with pytest.raises(ResultError, match=re.escape(message)):
            parse_result(text)
        assert message in said(mine)
    else:
        assert refused_by(mine)[0] == "size"
    assert time.perf_counter() - started < 10


def test_a_submission_whose_files_are_all_broken_is_left_soon(mine: Path) -> None:
    for seed in range(1000):
        (mine / "PointRobot-smac" / f"online-3-s{seed}.json").write_text("{")
    assert len([fault for fault in check(mine).faults if fault.rule == "result"]) == submission.MOST_BROKEN + 1


def spoil_100_mb(mine: Path) -> None:
    with (mine / "PointRobot-smac" / "online-3-s0.json").open("r+b") as file:
        file.truncate(100_000_000)


def spoil_many(mine: Path) -> None:
    for i in range(folders.MOST_FILES):
        (mine / "PointRobot-smac" / f"online-4-s{i}.json").touch()


def spoil_total(mine: Path) -> None:
    for i in range(20):
        with (mine / "PointRobot-smac" / f"online-4-s{i}.json").open("wb") as file:
            file.truncate(folders.LARGEST_RESULT)


def spoil_link(mine: Path) -> None:
    (mine / "PointRobot-smac" / "online-3-s0.json").unlink()
    (mine / "PointRobot-smac" / "online-3-s0.json").symlink_to("/etc/passwd")


def spoil_linked_folder(mine: Path) -> None:
    (mine / "AntDir-smac").symlink_to(mine / "PointRobot-smac")


def spoil_linked_method(mine: Path) -> None:
    (mine / "method.yaml").rename(mine.parent / "elsewhere.yaml")
    (mine / "method.yaml").symlink_to(mine.parent / "elsewhere.yaml")


def spoil_pipe(mine: Path) -> None:
    (mine / "method.yaml").unlink()
    os.mkfifo(mine / "method.yaml")


def spoil_pickle(mine: Path) -> None:
    (mine / "checkpoints").mkdir()
    (mine / "checkpoints" / "agent.pt").write_bytes(b"\x80\x04.")


def spoil_dressed_pickle(mine: Path) -> None:
    (mine / "checkpoints").mkdir()
    (mine / "checkpoints" / "agent.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'id'\ntR.")


def spoil_unknown_checkpoint(mine: Path) -> None:
    from safetensors.numpy import save_file

    (mine / "checkpoints").mkdir()
    save_file({"a": np.zeros(3)}, mine / "checkpoints" / "agent.safetensors")


def spoil_seeds(mine: Path) -> None:
    for file in mine.rglob("*-s2.json"):
        file.unlink()


def spoil_budget(mine: Path) -> None:
    content = hostile.result("offline-context")
    content["provenance"][0]["gradient_steps"] = 10
    hostile.put(mine, content)


def spoil_agents(mine: Path) -> None:
    for seed in hostile.SEEDS:
        hostile.put(mine, {**hostile.result("offline-context", seed), "agent": "mine:Other", "sees_task": True})


def spoil_many_seeds(mine: Path) -> None:
    for seed in range(3, 200):
        for protocol in hostile.PROTOCOLS:
            hostile.put(mine, hostile.result(protocol, seed))


def spoil_copy(mine: Path) -> None:
    content = hostile.result(seed=1)
    content["returns"] = hostile.result(seed=0)["returns"]
    hostile.put(mine, content)


def spoil_altered_copy(mine: Path) -> None:
    for seed in (1, 2):
        content = hostile.result(seed=seed)
        content["returns"] = hostile.result(seed=0)["returns"]
        content["returns"][0][seed] = [-7.0 - seed] * 3
        hostile.put(mine, content)


def spoil_shuffled_copy(mine: Path) -> None:
    content, tasks = hostile.result(seed=1), hostile.result(seed=0)["returns"][0]
    content["returns"] = [tasks[1:] + tasks[:1]]
    hostile.put(mine, content)


def list_theirs(mine: Path, change: Change) -> None:
    """List another method, of which something is as in this one."""
    theirs = renamed(mine.parent / "listed", "theirs")
    for file in theirs.rglob("*.json"):
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))


def spoil_their_returns(mine: Path) -> None:
    list_theirs(mine, provenance(checkpoint="e" * 64))


def spoil_their_checkpoint(mine: Path) -> None:
    list_theirs(mine, lambda c: c.update(returns=[[[value - 0.5 for value in task] for task in c["returns"][0]]]))


def spoil_salted_checkpoints(mine: Path, tensors: bool = True) -> None:
    """The same tensors, or none, in three files, which another text in their head makes different ones."""
    from safetensors.numpy import save_file

    (mine / "checkpoints").mkdir()
    for seed in hostile.SEEDS:
        file = mine / "checkpoints" / f"s{seed}.safetensors"
        save_file({"a": np.arange(9.0)} if tensors else {}, file, metadata={"salt": str(seed)})
        for protocol in hostile.PROTOCOLS:
            content = hostile.result(protocol, seed)
            content["provenance"][0]["checkpoint"] = hashlib.sha256(file.read_bytes()).hexdigest()
            hostile.put(mine, content)


def spoil_method(old: str, new: str) -> Callable[[Path], Any]:
    assert old in hostile.METHOD
    text = hostile.METHOD.replace(old, new)
    return lambda mine: (mine / "method.yaml").write_text(text, encoding="utf-8")


CODE = "code: https://example.org/mine"


def spoil_commit(mine: Path) -> None:
    (mine / "method.yaml").write_text(hostile.METHOD.replace('commit: "0123abc"\n', ""), encoding="utf-8")


def spoil_nothing_online(mine: Path) -> None:
    for file in mine.rglob("online-3-*"):
        file.unlink()


BAD_FOLDERS: list[tuple[Callable[[Path], Any], str, str]] = [
    (spoil_100_mb, "size", "100,000,000 bytes; at most 1,000,000 are read"),
    (spoil_many, "size", "there are more than 2,000 files"),
    (spoil_total, "size", "together are too large"),
    (spoil_link, "link", "online-3-s0.json: a symbolic link"),
    (spoil_linked_folder, "link", "AntDir-smac: a symbolic link"),
    (spoil_linked_method, "link", "method.yaml: a symbolic link"),
    (spoil_pipe, "file", "method.yaml: no part of a submission"),
    (spoil_pickle, "file", "may run code when it is read"),
    (spoil_dressed_pickle, "file", "no safetensors, whatever its name says"),
    (spoil_unknown_checkpoint, "checkpoint", "no result was made with it"),
    (spoil_seeds, "seeds", "2 seeds; 3 are needed"),
    (spoil_copy, "copies", "seeds 0 and 1 have the same returns"),
    (spoil_budget, "alike", "trained for 10 gradient and 0 env steps and 20,000 gradient and 0 env steps"),
    (spoil_agents, "alike", "a method is one agent, but agent differs: mine:Agent, mine:Other"),
    (spoil_agents, "alike", "a method is one agent, but sees_task differs: False, True"),
    (spoil_many_seeds, "seeds", "200 seeds; at most 100 are compared"),
    (spoil_altered_copy, "copies", "seeds 0 and 1 have the same returns"),
    (spoil_shuffled_copy, "copies", "seeds 0 and 1 have the same returns"),
    (spoil_their_returns, "another", "its returns are those of theirs"),
    (spoil_their_checkpoint, "another", "its checkpoint 000000000000... is that of theirs"),
    (spoil_salted_checkpoints, "checkpoint", "its tensors are those of checkpoints/s0.safetensors"),
    (lambda m: spoil_salted_checkpoints(m, tensors=False), "checkpoint", "it holds no tensors"),
    (spoil_method(CODE, "code: https://github.com@evil.org/x"), "method", "code: String should match"),
    (spoil_method(CODE, "code: https://a"), "method", "code: String should match"),
    (spoil_method(CODE, "code: baselines/smac.py"), "commit", "is a path here, but mine:Agent is not from here"),
    (spoil_method("One core.", '" "'), "method", "hardware: String should match: one line of plain text"),
    (spoil_method("One core.", '"\u2800"'), "method", "hardware: String should match: one line of plain text"),
    (spoil_method("trials: 3", "trials: 010"), "method", "'010' is no decimal number"),
    (spoil_method("trials: 3", "trials: 1:30"), "method", "'1:30' is no decimal number"),
    (spoil_nothing_online, "cells", "online-3, or with more episodes, is not there"),
    (lambda m: (m / "method.yaml").unlink(), "method", "there is no such file"),
    (lambda m: (m / "run.sh").write_text("rm -rf /"), "file", "run.sh: no part of a submission"),
    (lambda m: (m / "PointRobot-smac" / "deep").mkdir(), "file", "folders lie one deep"),
    (lambda m: (m / "PointRobot-smac" / "a\n\u202eb.json").touch(), "file", "a\\n\\u202eb.json"),
    (lambda m: (m / "PointRobot-smac" / "online-3-s2.json").unlink(), "cells", "is not there for seeds [2]"),
    (lambda m: shutil.rmtree(m / "PointRobot-smac"), "cells", "there are no results"),
    (lambda m: (m / "PointRobot-smac").rename(m / "AntDir-smac"), "place", "belongs to mine/PointRobot-smac"),
    (spoil_commit, "commit", "the commit of the code is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "rule", "message"), BAD_FOLDERS)
def test_a_bad_folder_is_refused(spoil: Callable[[Path], Any], rule: str, message: str, mine: Path) -> None:
    spoil(mine)
    assert rule in refused_by(mine)
    assert message in said(mine)


def test_every_rule_has_an_example_that_breaks_it() -> None:
    assert {rule for _, rule, _ in (*BAD_RESULTS, *BAD_FOLDERS)} == set(rules.RULES) - {"name"}


@pytest.mark.parametrize(
    ("name", "like"), [("PEARL", "pearl"), ("smac-0ffline", "smac-offline"), ("0racle", "oracle"), ("pear1", "pearl")]
)
def test_a_name_that_looks_like_a_listed_one_is_refused(name: str, like: str, tmp_path: Path) -> None:
    assert f"mistaken for {like}" in "\n".join(map(str, check(renamed(tmp_path, name)).faults))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CON", "on Windows"), ("nul.x", "on Windows"), ("mine.", "on Windows"), ("index", "means something else"),
        ("random", "means something else"), ("true-labels", "means something else"), ("mine.json", "name of a file"),
        ("s-mac", "mistaken for smac"), ("pearl+", "mistaken for pearl"),
    ],
)  # fmt: skip
def test_a_name_that_means_something_else_is_refused(name: str, message: str, tmp_path: Path) -> None:
    assert message in "\n".join(map(str, check(renamed(tmp_path, name)).faults))


def test_our_own_methods_have_their_names(tmp_path: Path) -> None:
    home = renamed(tmp_path, "true-labels")
    for file in home.rglob("*.json"):
        file.write_text(file.read_text().replace("mine:Agent", "offlinemeta.baselines.training.checkpoint:load_agent"))
    assert check(home).faults == ()


def test_what_is_no_coincidence() -> None:
    rng = np.random.default_rng(0)
    ours = rng.uniform(-20, 0, 60).round(3).tolist()
    for few in (0, 1, 5):
        assert same(ours, [value + 0.5 * (place < few) for place, value in enumerate(ours)])
    assert not same(ours, [value + 0.5 * (place < 8) for place, value in enumerate(ours)])
    assert same(ours, rng.permutation(ours).tolist())
    assert not same(ours, ours[1:])
    assert not same([0.0] * 60, [0.0] * 60), "nothing was found, twice"
    assert not same([0.0] * 55 + [1.0, 0.0, 0.0, 2.0, 1.0], [0.0] * 55 + [1.0, 1.0, 0.0, 2.0, 0.0])
    counts = [float(value) for value in rng.integers(0, 4, 60)]
    assert not same(counts, rng.permutation(counts).tolist()), "few different returns have one order as well as another"


def renamed(folder: Path, name: str) -> Path:
    """Return a valid submission of another name."""
    home = hostile.write(folder).rename(folder / name)
    (home / "method.yaml").write_text(hostile.METHOD.replace("name: mine", f"name: {name}"), encoding="utf-8")
    for file in home.rglob("*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "method": name}))
    return home


def test_yaml_that_explodes_or_makes_objects_is_refused(mine: Path) -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    for text in (bomb, "name: !!python/object/apply:os.system [id]", "name: !!timestamp x", "? [a]\n: b"):
        (mine / "method.yaml").write_text(text)
        assert "method" in refused_by(mine)
    started = time.perf_counter()
    (mine / "method.yaml").write_text("[" * 16_000)
    assert "it is nested too deeply" in said(mine)
    assert time.perf_counter() - started < 2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_nothing_invalid_is_accepted(seed: int) -> None:
    """``python tests/hostile.py 10000`` tries more."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        hostile.try_one(seed, Path(folder))


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(LEAVES, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=20),
    st.sampled_from(["", "returns", "provenance", "seeds", "metrics"]),
)
def test_no_json_raises_anything_else(content: Any, name: str) -> None:
    text = {**hostile.result(), name: content} if name else content
    try:
        parse_result(json.dumps(text).encode("utf-8", "replace"))
    except ResultError:
        return
    one_seed = name == "seeds" and len(content) == 1 and type(content[0]) is int
    assert name == "metrics" or one_seed, "what replaces the other parts cannot be valid"


@given(st.binary())
def test_no_bytes_raise_anything_else(text: bytes) -> None:
    with pytest.raises(ResultError):
        parse_result(text)


# --- what a check costs


def test_a_check_needs_no_physics_no_data_and_no_torch(mine: Path) -> None:
    code = (
        "import sys; from offlinemeta.cli import app; "
        f"app(['leaderboard', 'check', {str(mine)!r}], standalone_mode=False); "
        "print({'torch', 'mujoco', 'minari', 'h5py', 'matplotlib', 'metaworld'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
    assert "mine: 6 results, keep all rules" in done.stdout


def test_a_family_s_returns_are_bounded_by_its_reward_and_its_references() -> None:
    assert rules.bounds("PointRobot")[1] == rules.bounds("CheetahVel")[1] == rules.bounds("AntGoal")[1] == 0
    assert rules.bounds("SparsePointRobot")[1] == 20
    low, high = rules.bounds("CheetahDir")
    assert low < -40_000
    assert 4_000 < high < 6_000  # a cheetah of 15 m/s from the first step on would get 3,000


def test_no_reward_is_better_than_the_best() -> None:
    rng = np.random.default_rng(0)
    for family in FAMILIES.values():
        if family.best_reward is not None:
            features = rng.normal(size=(1000, 1, len(family.feature_names))).astype(np.float32)
            features[..., -1] = np.abs(features[..., -1])  # of MuJoCo's families, the last one is the cost of control
            params = family.params(family.tasks["train"])
            family_rewards = family.reward(features, params)
            assert family_rewards.max() <= family.best_reward
            assert family_rewards.max() > family.best_reward - 0.5


# --- where it is placed


def test_a_submission_is_placed_at_once_and_only_with_what_was_checked(mine: Path, tmp_path: Path) -> None:
    _, home = submit(mine, tmp_path / "listed")
    assert home == tmp_path / "listed" / "mine"
    files = {path.relative_to(home): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert files == {path.relative_to(mine): path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    assert check(home, tmp_path / "listed").faults == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["listed", "mine"]


def test_nothing_is_overwritten_but_by_its_author(mine: Path, tmp_path: Path) -> None:
    root = tmp_path / "listed"
    submit(mine, root)
    with pytest.raises(SubmissionError, match="add --replace"):
        submit(mine, root)
    (mine / "method.yaml").write_text(hostile.METHOD.replace("note: Look out.", "note: Better."))
    submit(mine, root, replace=True)
    assert "Better" in (root / "mine" / "method.yaml").read_text()
    (mine / "method.yaml").write_text(hostile.METHOD.replace("A. Author", "M. Allory"))
    with pytest.raises(SubmissionError, match=r"is by A\. Author, .* is not overwritten"):
        submit(mine, root, replace=True)
    assert "A. Author" in (root / "mine" / "method.yaml").read_text()


def test_without_a_checkout_the_place_has_to_be_named(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine.parent)
    with pytest.raises(SubmissionError, match="name the folder with --to"):
        CliRunner().invoke(app, ["leaderboard", "submit", "mine"], catch_exceptions=False)


def test_what_is_refused_is_not_placed(mine: Path, tmp_path: Path) -> None:
    spoil_seeds(mine)
    with pytest.raises(SubmissionError, match=r"mine is refused, faults: 1\n  seeds: PointRobot/smac"):
        submit(mine, tmp_path / "listed")
    assert not (tmp_path / "listed").exists()


def test_a_failure_leaves_what_was_there(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "listed"
    submit(mine, root)
    (mine / "method.yaml").write_text(hostile.METHOD.replace("note: Look out.", "note: Better."))
    rename, done = Path.rename, []

    def fail(self: Path, target: Path) -> Path:
        done.append(self)
        if len(done) == 2:  # the old one is out of the way, the new one not yet there
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(FileError, match="No space left"):
        submit(mine, root, replace=True)
    assert "Look out" in (root / "mine" / "method.yaml").read_text()


# --- the command line


def offlinemeta(*arguments: str | Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "offlinemeta", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_pull_request_is_compared_with_what_is_listed(mine: Path, tmp_path: Path) -> None:
    base, theirs, summary = tmp_path / "base", tmp_path / "theirs", tmp_path / "summary.md"
    submit(mine, base)
    submit(mine, theirs)
    said = offlinemeta("leaderboard", "check", theirs, "--against", base, "--markdown", summary)
    assert "differs from" in said
    another = renamed(tmp_path / "x", "another")
    for file in another.rglob("*.json"):
        content = json.loads(file.read_text())
        content["returns"] = [[[value - 0.5 for value in task] for task in content["returns"][0]]]
        content["provenance"][0]["checkpoint"] = "a" * 63 + str(content["seeds"][0])
        file.write_text(json.dumps(content))
    shutil.copytree(another, theirs / "another")
    said = offlinemeta("leaderboard", "check", theirs, "--against", base, "--markdown", summary)
    assert "another: 6 results, keep all rules (new)" in said
    assert "mine" not in said
    assert "| PointRobot/smac | another | 3 |" in summary.read_text()
    (theirs / "mine" / "method.yaml").write_text(hostile.METHOD.replace("Look out", "Look in"), encoding="utf-8")
    said = offlinemeta("leaderboard", "check", theirs, "--against", base)
    assert "mine: 6 results, keep all rules (1 files changed)" in said
    (theirs / "mine" / "method.yaml").write_text(hostile.METHOD.replace("A. Author", "M. Allory"), encoding="utf-8")
    said = offlinemeta("leaderboard", "check", theirs, "--against", base, code=2)
    assert "is by A. Author, Ω. Μέλος, of https://example.org/mine, and is not overwritten" in said
    assert "Refused: mine." in said
    (theirs / "mine" / "method.yaml").write_text(hostile.METHOD, encoding="utf-8")
    shutil.rmtree(theirs / "another")
    shutil.copytree(another, theirs / "another")
    spoil_salted_checkpoints(theirs / "mine")
    assert "which stay with their authors" in offlinemeta("leaderboard", "check", theirs, "--against", base, code=2)
    (theirs / "another" / "a|<b>\n::warning::x").touch()
    shutil.rmtree(theirs / "mine")
    said = offlinemeta("leaderboard", "check", theirs, "--against", base, "--markdown", summary, code=2)
    assert "gone, though listed: mine" in said
    assert "Refused: another, mine" in said
    assert "\n::warning" not in said
    assert r"a\|\<b\>\\n::warning::x" in summary.read_text()


def test_two_methods_of_one_pull_request_must_not_resemble_one_another(mine: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    submit(mine, theirs)
    renamed(tmp_path / "x", "another").rename(theirs / "another")
    for name in ("Mine", "m1ne"):
        renamed(tmp_path / name, name).rename(theirs / name)
    nothing = tmp_path / "nothing"
    assert "nothing is no folder" in offlinemeta("leaderboard", "check", theirs, "--against", nothing, code=2)
    nothing.mkdir()
    said = offlinemeta("leaderboard", "check", theirs, "--against", nothing, code=2)
    assert "its returns are those of Mine" in said
    assert "it can be mistaken for Mine" in said
    assert "Refused: another, m1ne, mine" in said, "all but the first, Mine"


def test_what_was_hidden_deep_in_a_listed_method_is_a_change(mine: Path, tmp_path: Path) -> None:
    shutil.copytree(mine, tmp_path / "old")
    assert changes(mine, tmp_path / "old") == []
    (mine / "PointRobot-smac" / "deep" / "er").mkdir(parents=True)
    (mine / "PointRobot-smac" / "deep" / "er" / "run.sh").touch()
    assert changes(mine, tmp_path / "old") == ["PointRobot-smac/deep"]
    assert changes(tmp_path / "none", tmp_path / "old") == changes(tmp_path / "old", tmp_path / "none") != []


def test_every_command_shows_examples() -> None:
    for command in ([], ["check"], ["submit"], ["schema"], ["replay"]):
        shown = CliRunner().invoke(app, ["leaderboard", *command, "--help"]).output
        assert f"offlinemeta leaderboard {' '.join(command)}" in shown


# --- the exported schema


@cache
def validator(kind: str) -> Any:
    return pytest.importorskip("jsonschema").Draft202012Validator(json_schema(kind))


def valid_in(kind: str, content: Any) -> bool:
    return validator(kind).is_valid(content)


def test_the_exported_schema_is_the_one_that_is_printed() -> None:
    assert json.loads(offlinemeta("leaderboard", "schema", "result")) == json_schema("result")
    assert valid_in("result", hostile.result())
    assert valid_in("method", yaml.safe_load(hostile.METHOD))
    for file in RESULTS.rglob("*.json"):
        assert valid_in("result", json.loads(file.read_text()))
    for file in RESULTS.rglob("*.yaml"):
        assert valid_in("method", yaml.safe_load(file.read_text()))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["result", "method"]))
def test_the_exported_schema_and_pydantic_agree(seed: int, kind: str) -> None:
    """But for whole numbers that are written 1.0, which JSON Schema takes for integers, and for how parts fit."""
    model = Result if kind == "result" else Method
    whole = hostile.result() if kind == "result" else yaml.safe_load(hostile.METHOD)
    _, content = hostile.spoil_node(whole, random.Random(seed))
    try:
        content = json.loads(json.dumps(content))
        json.dumps(content, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError, UnicodeEncodeError):
        return  # no JSON
    try:
        model.model_validate(content)
        errors = []
    except ValidationError as error:
        errors = error.errors()
    if all(error["type"] == "value_error" and error["loc"] == () for error in errors):
        if errors and "seeds repeat" in str(errors[0]["msg"]):
            return
        assert valid_in(kind, content)
    elif not any(error["type"] == "int_type" and isinstance(error["input"], float) for error in errors):
        assert not valid_in(kind, content), errors


# --- replays


def replayed(differences: np.ndarray, family: str = "CheetahVel") -> replay.Replay:
    benchmark = get_benchmark(f"{family}/smac/online-3")
    rng = np.random.default_rng(1)
    played = rng.uniform(-100, -50, differences.shape)
    result = make_result(benchmark, "mine", "m:C", played, 3)
    return replay.compare(result, result.array()[0] + differences, {}, "here")


def test_equal_numbers_hold_and_forged_ones_do_not() -> None:
    same = replayed(np.zeros((30, 3)))
    assert same.equal
    assert same.holds
    assert (same.tasks, same.points) == (0, 0)
    assert replayed(np.full((30, 3), 0.002)).holds, "what no table shows"
    better = np.zeros((30, 3))
    better[:, 2] = -5.0 + np.random.default_rng(0).normal(size=30)  # the third episode was said to be better
    forged = replayed(better)
    assert not forged.holds
    assert forged.p_values[2] < 0.001 < forged.p_values[0]
    assert forged.points == pytest.approx(5 * 100 / 150, rel=0.2)


def test_noise_is_taken_for_a_difference_as_rarely_as_the_interval_says() -> None:
    rng = np.random.default_rng(0)
    wrong = [not replayed(rng.normal(scale=10, size=(30, 3))).holds for _ in range(80)]
    assert 0 < sum(wrong) <= 10


def test_what_differs_between_the_machines_is_named() -> None:
    result = parse_result(json.dumps(hostile.result()).encode())
    compared = replay.compare(result, result.array()[0], {"offlinemeta": "0.1.0", "mujoco": "3.4.0"}, "elsewhere")
    assert compared.changed == (
        "mujoco: 3.3.0, 3.4.0", "gymnasium: 1.4.0, not here", "numpy: 2.4.6, not here",
        "machine: x86_64, Linux, 2 cores, elsewhere",
    )  # fmt: skip


# --- the example in the documentation


def blocks(language: str) -> list[str]:
    text = (ROOT / "docs" / "submit.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_an_outside_agent_is_evaluated_checked_placed_and_replayed(tmp_path: Path, built: Path) -> None:
    """As docs/submit.md says, by a shell; then its numbers are forged."""
    for name in ("offlinemeta", "python"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\nexec {sys.executable} {"-m offlinemeta " * (name != "python")}"$@"\n')
        tool.chmod(0o755)
    here = tmp_path / "here"
    here.mkdir()
    (here / "guess.py").write_text(blocks("python")[0], encoding="utf-8")
    assert len(blocks("python")[0].splitlines()) <= 30
    (here / "guess").mkdir()
    (here / "guess" / "method.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    def shell(commands: str, code: int = 0) -> str:
        done = subprocess.run(
            ["bash", "-ec", commands], cwd=here, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    said = shell(blocks("sh")[0])
    assert "guess: 3 results, keep all rules" in said
    assert "The numbers hold: all returns are equal to the last digit." in said
    assert check(here / "my-fork" / "leaderboard" / "results" / "guess").faults == ()
    again = "offlinemeta leaderboard replay guess --cell PointRobot/smac/online-3 --seed 1"
    assert "The numbers hold, within the noise of an evaluation" in shell(f"{again} --evaluation-seed 1234")
    file = here / "guess" / "PointRobot-smac" / "online-3-s1.json"
    content = json.loads(file.read_text())
    content["returns"] = [[[a, b, min(0, c + 3)] for a, b, c in content["returns"][0]]]
    file.write_text(json.dumps(content))
    assert "The numbers do not hold" in shell(again, code=1)
    for checkpoint in (here / "guess" / "checkpoints").iterdir():
        checkpoint.unlink()
    assert "has no checkpoint" in offlinemeta(*again.split()[1:3], here / "guess", *again.split()[4:], code=2)


def test_the_documentation_lists_the_rules() -> None:
    text = (ROOT / "docs" / "submit.md").read_text(encoding="utf-8")
    assert [f"| `{rule}` | {what} |" for rule, what in rules.RULES.items()] == re.findall(
        r"^\| `.*", text, re.MULTILINE
    )


# --- workflows


@pytest.mark.parametrize("name", ["submission", "evaluate-agent"])
def test_workflows_have_no_rights_and_put_nothing_from_outside_into_a_shell(name: str) -> None:
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
    workflow = yaml.safe_load(text)
    triggers = workflow[True]  # YAML 1.1 reads "on" as true
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets" not in text
    assert "pull_request_target" not in triggers
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            assert ("checkout" not in step.get("uses", "")) or step["with"]["persist-credentials"] is False
    if name == "submission":
        assert triggers == {"pull_request": {"paths": ["leaderboard/results/**"]}}
        base, theirs = (
            step["with"] for step in workflow["jobs"]["check"]["steps"] if "checkout" in step.get("uses", "")
        )
        assert base["ref"] == "${{ github.event.pull_request.base.sha }}"
        assert theirs["path"] == "submission"
    else:
        assert triggers["workflow_call"]["inputs"].keys() == {"agent", "suite", "requirement", "checkpoint"}


def test_the_workflow_for_agents_evaluates_one_on_the_suite_smoke(tmp_path: Path, built: Path) -> None:
    """Its commands, run by a shell as GitHub runs them."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "evaluate-agent.yml").read_text())
    (step,) = [one for one in workflow["jobs"]["evaluate"]["steps"] if one.get("name") == "evaluate"]
    given = {
        name: value["default"]
        for name, value in workflow[True]["workflow_call"]["inputs"].items()
        if not value.get("required")
    }
    assert given["suite"] == "smoke"
    shim = tmp_path / "bin" / "offlinemeta"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m offlinemeta "$@"\n')
    shim.chmod(0o755)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.py").write_text("from offlinemeta.benchmark.agent import RandomAgent as Agent\n")
    environment = {"AGENT": "mine:Agent", "SUITE": given["suite"], "CHECKPOINT": given["checkpoint"]}
    environment |= {"RUNNER_TEMP": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    assert step["env"].keys() < environment.keys()
    environment |= {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=tmp_path / "here", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = (tmp_path / "summary.md").read_text()
    assert "| PointRobot/smac | Agent | 1 |" in summary
    assert "| SparsePointRobot/smac | Agent | 1 |" in summary
    assert len(list((tmp_path / "results").rglob("*-s0.json"))) == 4
