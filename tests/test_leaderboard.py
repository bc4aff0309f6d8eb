"""The committed results, where they lie, and what is said of the methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from offlinemeta.benchmark.errors import ResultError
from offlinemeta.benchmark.result import place, read_result
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.leaderboard.method import find_methods, read_method, remarks

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
