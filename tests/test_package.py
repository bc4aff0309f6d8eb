"""The house: who imports whom, and what importing costs."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "envs": {"envs"},
    "datasets": {"datasets", "envs"},
    "benchmark": {"benchmark", "datasets", "envs"},
    "baselines": {"baselines", "benchmark", "datasets", "envs"},
    "leaderboard": {"leaderboard", "benchmark", "datasets", "envs"},
}

LEAVES = {"console", "files"}
MAY_SHARE = {("told", "smac")}
"""Papers that may import another: told is SMAC's offline learner, which sees the task."""


def imports(file: Path) -> list[str]:
    """Names of what a file imports, such as ``offlinemeta.envs.get_family``."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def modules(file: Path, package: str) -> set[str]:
    """First parts, below a package, of what a file imports of it: ``smac`` for ``offlinemeta.baselines.smac.SMAC``."""
    names = [name.removeprefix(f"{package}.") for name in imports(file) if name.startswith(f"{package}.")]
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_run_one_way(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        for name in imports(file):
            top, _, inner = name.partition(".")
            assert top not in MAY_IMPORT, f"{file} imports {name}: say offlinemeta.{name}"
            if top == "torch":
                assert folder == "baselines", f"{file} imports torch"
            if top == "offlinemeta" and inner and inner != "__version__":
                allowed = [a for a in MAY_IMPORT[folder] | LEAVES if inner == a or inner.startswith(f"{a}.")]
                assert allowed, f"{file} imports {name}"


def test_papers_stand_alone() -> None:
    """No paper knows another, parts know no paper, and training finds papers through the registry alone."""
    home = ROOT / "baselines"
    shared = {"__init__", "registry"}
    papers = {file.stem: file for file in home.glob("*.py") if file.stem not in shared}
    assert {"pearl", "bc", "smac"} <= set(papers)
    for paper, file in papers.items():
        others = modules(file, "offlinemeta.baselines") - {"parts"}
        assert all((paper, other) in MAY_SHARE for other in others), f"{file} imports {sorted(others)}"
    for file in (home / "parts").rglob("*.py"):
        assert modules(file, "offlinemeta.baselines") <= {"parts"}, file
    for file in (home / "training").rglob("*.py"):
        assert modules(file, "offlinemeta.baselines") <= {"parts", "training", "registry"}, file


def test_nothing_imports_the_command_line_but_its_entry() -> None:
    package = ROOT / "src" / "offlinemeta"
    files = [file for folder in MAY_IMPORT for file in (ROOT / folder).rglob("*.py")]
    files += [file for file in package.glob("*.py") if file.name != "__main__.py"]
    assert package / "console.py" in files
    for file in files:
        assert "cli" not in modules(file, "offlinemeta"), file


def run(code: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_is_cheap(tmp_path: Path) -> None:
    loaded = run("import sys, json, offlinemeta; print(json.dumps(sorted(sys.modules)))", tmp_path)
    heavy = {"torch", "mujoco", "metaworld", "matplotlib", "h5py", "minari", "pydantic", "typer", "rich", "jaxtyping"}
    assert not heavy & set(json.loads(loaded))


def test_results_are_read_and_summed_up_without_heavy_packages(tmp_path: Path) -> None:
    """Whoever checks results or builds a table of them needs no physics, no data and no torch."""
    code = "import sys; from pathlib import Path; from offlinemeta.benchmark.result import read_results; "
    code += "from offlinemeta.leaderboard import claims, method, report, table; "
    code += (
        f"folders = [Path({str(ROOT / 'leaderboard' / 'results')!r})]; rows = table.summarise(read_results(folders)); "
    )
    code += "claims.check_claims(rows); method.find_methods(folders); table.report(rows); "
    code += "print(len(rows), {'minari', 'h5py', 'mujoco', 'torch', 'matplotlib', 'metaworld'} & set(sys.modules))"
    rows, _, loaded = run(code, tmp_path).partition(" ")
    assert int(rows) > 0
    assert loaded == "set()"


def test_a_spec_needs_no_import_of_ours(tmp_path: Path) -> None:
    """This is how Minari recovers the environment of a dataset."""
    spec = run(
        "import gymnasium as g, offlinemeta; print(g.make('OfflineMeta/AntDir-v0', task=7).spec.to_json())", tmp_path
    )
    code = "import gymnasium as g; from gymnasium.envs.registration import EnvSpec; "
    code += f"print(g.make(EnvSpec.from_json({spec!r})).unwrapped.get_task().index)"
    assert run(code, tmp_path) == "7"
    code = "import gymnasium as g; print(g.make('offlinemeta:OfflineMeta/AntDir-v0').unwrapped.family.name)"
    assert run(code, tmp_path) == "AntDir"


def test_a_foreign_package_named_datasets_is_not_shadowed(tmp_path: Path) -> None:
    """With the checkout's root on the path, ``import datasets`` finds the installed one; ours has its full name."""
    site = tmp_path / "site"
    (site / "datasets").mkdir(parents=True)
    (site / "datasets" / "__init__.py").write_text("who = 'the other'\n")
    (site / "datasets" / "inner.py").write_text("who = 'inside the other'\n")
    code = f"import sys; sys.path.append({str(site)!r}); import datasets.inner, offlinemeta.datasets.scripted as ours; "
    code += "print(datasets.who, '|', datasets.inner.who, '|', ours.__name__)"
    assert run(code, ROOT) == "the other | inside the other | offlinemeta.datasets.scripted"
    done = subprocess.run(
        [sys.executable, "-c", "import datasets"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError: No module named 'datasets' (this project's is offlinemeta.datasets)" in done.stderr


def test_the_lowest_versions_are_those_that_are_declared() -> None:
    """``constraints-min.txt``, with which they are tested, against the lower bounds in ``pyproject.toml``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {}
    for text in (*project["dependencies"], *extras["baselines"], *extras["plots"], *extras["log"]):
        wanted = Requirement(text)
        (declared[wanted.name],) = [Version(part.version) for part in wanted.specifier if part.operator == ">="]
    listed = {}
    for line in (ROOT / "constraints-min.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            listed[name] = Version(version)
    assert listed == declared


@pytest.fixture
def frozen_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for frozen task lists."""
    from offlinemeta.envs import freeze

    monkeypatch.setattr(freeze, "TASK_FILES", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["AntDir", "WalkerParam", "ML1-reach"])
def test_freezing_writes_what_is_frozen(name: str, frozen_here: Path) -> None:
    from offlinemeta.envs import SPLITS, get_family
    from offlinemeta.envs.freeze import agree, freeze
    from offlinemeta.envs.task import TASK_FILES, read_tasks

    family, written, shipped = get_family(name), frozen_here / f"{name}.json", TASK_FILES / f"{name}.json"
    freeze(name)
    again = read_tasks(written, name, family.param_names)
    for split in SPLITS:
        assert agree(family.params(again[split]), family.params(family.tasks[split]))
    for kept in (shipped.read_text(), nudged(shipped.read_text(), 1e-15)):  # the file is the truth, not this processor
        written.write_text(kept)
        freeze(name)
        assert written.read_text() == kept
    for lost in (nudged(shipped.read_text(), 1e-9), "{"):
        written.write_text(lost)
        freeze(name)
        assert agree(family.params(read_tasks(written, name, family.param_names)["train"]), drawn_tasks(name))


def nudged(text: str, by: float) -> str:
    """Move the first number of the first training task."""
    content = json.loads(text)
    first = content["train"][0][0]
    assert first + by != first
    return text.replace(repr(first), repr(first + by), 1)


def drawn_tasks(name: str) -> Any:
    from offlinemeta.envs import get_family

    return get_family(name).draw_lists()["train"]


def test_freezing_on_a_lesser_processor_changes_nothing(frozen_here: Path) -> None:
    """NumPy without the instructions that this machine has beyond the least: powers differ in their last bits."""
    import numpy as np

    from offlinemeta.envs.task import TASK_FILES

    shutil.copy(TASK_FILES / "WalkerParam.json", frozen_here)
    code = f"""if True:
        from pathlib import Path
        from offlinemeta.envs import freeze
        freeze.TASK_FILES = Path({str(frozen_here)!r})
        freeze.freeze("WalkerParam")"""
    without = " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
    run(code, frozen_here, NPY_DISABLE_CPU_FEATURES=without)
    assert (frozen_here / "WalkerParam.json").read_bytes() == (TASK_FILES / "WalkerParam.json").read_bytes()
