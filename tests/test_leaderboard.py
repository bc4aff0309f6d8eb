"""The committed results, where they lie, and what is said of the methods."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from offlinemeta.benchmark.agent import load_agent
from offlinemeta.benchmark.errors import ResultError
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.result import place, read_result
from offlinemeta.benchmark.runner import evaluate
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.files import FileError, fill
from offlinemeta.leaderboard.method import find_methods, read_method, remarks
from offlinemeta.leaderboard.table import figure

ROOT = Path(__file__).parents[1] / "leaderboard"
FOLDERS = [ROOT / "results", *sorted((ROOT / "ablations").iterdir())]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_results_lie_in_their_places_below_the_description_of_their_method(folder: Path) -> None:
    files = sorted(folder.rglob("*.json"))
    assert files
    methods = find_methods([folder])
    for file in files:
        result = read_result(file)
        assert place(folder, result) == file
        assert result.method in methods
    assert sorted(methods) == sorted(method.name for method in folder.iterdir())


def test_a_result_of_several_seeds_has_no_place() -> None:
    result = read_result(next((ROOT / "results").rglob("*.json")))
    several = result.model_copy(update={"seeds": [0, 1]})
    with pytest.raises(ArgumentError, match=r"of one seed; .* \[0, 1\]"):
        place(ROOT, several)


METHOD = """name: mine
title: "Ours: it learns."
authors: [A. Author]
paper: none
code: https://example.org/mine
information: Nothing.
tuning: {trials: 3, rollouts: null, note: On training tasks.}
hardware: One core.
note: Look out.
"""


def described(folder: Path, text: str, name: str = "mine") -> Path:
    file = folder / name / "method.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_descriptions_are_found_above_and_below_what_is_named(tmp_path: Path) -> None:
    file = described(tmp_path, METHOD)
    described(tmp_path, METHOD.replace("mine", "yours"), "yours")
    inner = file.parent / "AntDir-smac"
    inner.mkdir()
    (inner / "online-10-s0.json").touch()
    assert set(find_methods([tmp_path])) == {"mine", "yours"}
    assert list(find_methods([inner])) == list(find_methods([inner / "online-10-s0.json"])) == ["mine"]
    assert read_method(file).tuning.trials == 3
    assert remarks(list(find_methods([tmp_path]).values())) == ["mine, yours: Look out."]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: mine", "name: other", "is of 'other', but lies in the folder of 'mine'"),
        ("name: mine", "name: mi ne", "name: String should match"),
        ("name: mine", "name: no", "name: Input should be a valid string"),
        ("hardware: One core.", "", "hardware: Field required"),
        ("note: Look out.", "colour: red", "colour: Extra inputs"),
        ("trials: 3", "trials: '3'", "tuning.trials: Input should be a valid integer"),
        ("trials: 3", "trials: -3", "tuning.trials: Input should be greater"),
        ("note: Look out.", "hardware: Two.", "the key 'hardware' is there twice"),
        ("note: Look out.", "note: &a x\ntitle: *a", "aliases are not allowed"),
        ("note: Look out.", 'note: "a\\u202eb"', "note: String should match"),
        ("note: Look out.", 'note: "a\\nb"', "note: String should match"),
        ("note: Look out.", "note: !!python/object/apply:os.getcwd []", "no plain YAML"),
        ("note: Look out.", "note: " + "[" * 16_000, "no plain YAML"),
        ("note: Look out.", "note: " + "x" * 20_000, "more than 16,384 bytes"),
        ("note: Look out.", "note: \ud800", "no plain YAML"),
    ],
)
def test_a_bad_description_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    file = described(tmp_path, METHOD)
    file.write_bytes(METHOD.replace(old, new).encode("utf-8", "surrogatepass"))
    with pytest.raises(ResultError, match=message):
        read_method(file)


def test_a_description_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="the whole: Input should be"):
        read_method(described(tmp_path, "[1, 2]"))
    with pytest.raises(ResultError, match="cannot be read: No such file"):
        read_method(tmp_path / "method.yaml")


# --- documents that are generated


def test_readme_and_the_study_show_the_committed_results(tmp_path: Path) -> None:
    """Otherwise: ``offlinemeta report leaderboard/results --out docs/study --readme README.md``."""
    readme = tmp_path / "README.md"
    readme.write_bytes((ROOT.parent / "README.md").read_bytes())
    run("report", ROOT / "results", "--out", tmp_path, "--readme", readme)
    assert readme.read_text(encoding="utf-8") == (ROOT.parent / "README.md").read_text(encoding="utf-8")
    shown, made = (folder / "report.md" for folder in (ROOT.parent / "docs" / "study", tmp_path))
    assert shown.read_text(encoding="utf-8") == made.read_text(encoding="utf-8")


def test_the_list_of_references_is_that_of_the_package(tmp_path: Path) -> None:
    """Otherwise: ``offlinemeta datasets references --doc docs/references.md``."""
    shown, made = ROOT.parent / "docs" / "references.md", tmp_path / "references.md"
    made.write_bytes(shown.read_bytes())
    run("datasets", "references", "--doc", made)
    assert made.read_text(encoding="utf-8") == shown.read_text(encoding="utf-8")


def run(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "offlinemeta", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_document_is_filled_in_one_place_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    place = "<!-- results: by hand -->\n{}<!-- end of results -->\n"
    file.write_text("# A\n" + place.format("old\n") + "after\n")
    fill(file, "results", r"new \1")
    once = file.read_text()
    assert once == "# A\n" + place.format("\nnew \\1\n\n") + "after\n"
    fill(file, "results", r"new \1")
    assert file.read_text() == once
    for content, count in (("nothing", 0), (2 * once, 2)):
        file.write_text(content)
        with pytest.raises(FileError, match=f"has {count} places for results, not one"):
            fill(file, "results", "new")
        assert file.read_text() == content
    with pytest.raises(FileError, match="cannot be read"):
        fill(tmp_path / "none.md", "results", "new")


def test_figures_do_not_depend_on_the_last_bits() -> None:
    """Sums end in other bits on other processors; what is shown and judged does not."""
    for value, shown in (
        (0.3355, "0.336"),
        (1e-17, "0"),
        (-1e-17, "0"),
        (0.0, "0"),
        (-438.05, "-438"),
        (1.234e-5, "1.23e-05"),
    ):
        others = {figure(value + k * np.spacing(max(abs(value), 1.0))) for k in range(-8, 9)}
        assert others == {shown}


def test_the_agent_in_readme_is_short_and_climbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT.parent / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python title=\"climber.py\"\n([^`]*class Climber[^`]*)```", text)
    assert len(code.splitlines()) <= 30
    (tmp_path / "climber.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    benchmark = get_benchmark("PointRobot/smac/online-10")
    curve = evaluate(load_agent("climber:Climber", get_family("PointRobot")), benchmark).mean(0)
    said = re.findall(r"climbs from (-\d+) in its first episode to (-\d+) in its tenth", text)
    assert [(f"{curve[0]:.0f}", f"{curve[-1]:.0f}")] == said
