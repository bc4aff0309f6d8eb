"""The code in README and in the documentation runs, its command lines exist, and the site builds without a warning.

Above a block that takes long, or needs what a test has not, stands ``<!-- not run: WHY -->``: it is parsed alone.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
}
BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(python|sh)(?: title=\"([^\"\n]+)\")?\n(.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    """A block of code: whether it runs, its language, the file that it is, and the code."""

    runs: bool
    language: str
    file: str
    code: str


def blocks(text: str) -> Iterator[Block]:
    for skipped, language, file, code in BLOCK.findall(text):
        yield Block(not skipped, language, file, code)


def commands(text: str) -> list[str]:
    """Return the command lines of ours, in blocks and in the text."""
    shell = [block.code.replace("\\\n", "") for block in blocks(text) if block.language == "sh"]
    code = [line for each in shell for line in each.splitlines()]
    inline = [" ".join(each.split()) for each in re.findall(r"`(offlinemeta [^`]+)`", text)]
    return [line for line in code if re.match(r"(\w+=\S+ )*offlinemeta ", line)] + inline


PARSE = """
import shlex, sys
from typer.testing import CliRunner
from offlinemeta.cli import app
for command in sys.stdin.read().splitlines():
    words = shlex.split(command, comments=True)
    words = [word for word in words[words.index("offlinemeta") + 1 :] if word != "..."]
    done = CliRunner().invoke(app, [*words, "--help"])
    if done.exit_code:
        sys.exit(f"{command}\\n{done.output}")
"""


def parse(text: str) -> None:
    """Check that the commands of a text, their subcommands and their options exist, outside of the shape checks."""
    done = subprocess.run(
        [sys.executable, "-c", PARSE], input="\n".join(commands(text)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def check(text: str, folder: Path) -> None:
    """Run the blocks of a page in a folder, Python's in one process and the shell's in another, or parse them."""
    running: dict[str, list[str]] = {"python": [], "sh": []}
    for block in blocks(text):
        if block.language == "python":
            ast.parse(block.code)
        else:
            run(["bash", "-n", "-c", block.code], folder)
        if block.file:
            (folder / block.file).write_text(block.code)
        elif block.runs:
            running[block.language].append(block.code)
    if running["python"]:
        run([sys.executable, "-W", "error", "-c", "\n".join(running["python"])], folder)
    if running["sh"]:
        run(["bash", "-euo", "pipefail", "-c", "\n".join(running["sh"])], folder)


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"


@pytest.fixture
def folder(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with PointRobot/smac at hand and ``offlinemeta`` on the path."""
    shim = tmp_path / "bin" / "offlinemeta"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m offlinemeta "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


ELSEWHERE = ("docs/cards/", "docs/submit.md")
"""Pages whose code other tests run: that of cards is about datasets that take long to build."""


@pytest.mark.parametrize(
    "page", [name for name, text in PAGES.items() if "```" in text and not name.startswith(ELSEWHERE)]
)
def test_the_code_of_the_documentation_runs(page: str, folder: Path) -> None:
    check(PAGES[page], folder)


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nofflinemeta methods no-such-method\n```\n",
        "```sh\nfalse | true\n```\n",
        "<!-- not run: long -->\n```sh\nofflinemeta evaluate A/b/c --no-such-option\n```\n",
        "<!-- not run: long -->\n```sh\nif true; then\n```\n",
        "By `offlinemeta datasets no-such-command`.",
        "```python\nimport offlinemeta.no_such_module\n```\n",
        "<!-- not run: long -->\n```python\nx = (\n```\n",
    ],
)
def test_broken_code_is_noticed(text: str, folder: Path) -> None:
    def read() -> None:
        check(text, folder)
        parse(text)

    with pytest.raises((AssertionError, SyntaxError)):
        read()


def test_the_commands_of_the_documentation_exist() -> None:
    parse("\n".join(PAGES.values()))


def test_the_agent_of_the_docs_is_short_and_adapts(folder: Path) -> None:
    from offlinemeta.benchmark.agent import load_agent
    from offlinemeta.benchmark.protocol import get_benchmark
    from offlinemeta.benchmark.runner import evaluate
    from offlinemeta.envs import get_family

    text = PAGES["docs/own-agent.md"]
    (code,) = [block.code for block in blocks(text) if block.file == "searcher.py"]
    assert len(code.splitlines()) <= 30
    (folder / "searcher.py").write_text(code)
    benchmark, family = get_benchmark("PointRobot/smac/online-3"), get_family("PointRobot")
    curve = evaluate(load_agent("searcher:Searcher", family), benchmark).mean(0)
    told = evaluate(load_agent("expert", family), benchmark).mean(0)
    said = re.search(r"climbs from (-\d+) over (-\d+) to (-\d+), where the expert, .* gets (-\d+)", text)
    assert said is not None
    assert [f"{value:.0f}" for value in (*curve, told[-1])] == list(said.groups())


def test_the_lines_for_minari_name_a_dataset_of_ours() -> None:
    import yaml

    from offlinemeta.datasets.spec import DATASETS

    text = PAGES["docs/minari-community.md"]
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (entry,) = yaml.safe_load(block)
    assert set(entry) == {"dataset_id", "display_name"}
    assert entry["dataset_id"].split("/", 3)[3] in DATASETS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built elsewhere than in the checkout."""
    folder = tmp_path_factory.mktemp("site")
    code = f"import build; build.make(build.Path({str(folder)!r}))"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'docs' / 'site'}", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "No issues found" in said
    assert "griffe" not in said  # a docstring that it cannot read
    return folder / "docs"


def test_the_site_builds_without_a_warning_and_needs_no_network(site: Path) -> None:
    from offlinemeta.envs import FAMILIES

    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert {f"families/{name}.html" for name, family in FAMILIES.items() if family.suite is None} <= set(pages)
    for name, text in pages.items():
        assert not re.search(r'<(script|img|iframe)[^>]* src="?https?:', text), name
        assert not re.search(r'<link[^>]* rel="?(stylesheet|preconnect)"?[^>]*https?:', text), name
        for left in ("<!-- generate", ":class:", r"\(", r"\["):
            assert left not in text, f"{name}: {left}"
    assert "<math" in pages["baselines/smac.html"]


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    """Zensical checks links to pages; this checks links to files and places too."""
    lost = []
    for path in site.rglob("*.html"):
        if path.name == "404.html":
            continue
        for link in re.findall(r'(?:href|src)="([^"]+)"', path.read_text(encoding="utf-8")):
            target, _, place = link.partition("#")
            if re.match(r"\w+:", link):
                continue
            other = (path.parent / target).resolve() if target else path
            other = other / "index.html" if other.is_dir() else other
            placed = not place or other.suffix != ".html" or f'id="{place}"' in other.read_text(encoding="utf-8")
            if not other.exists() or not placed:
                lost.append(f"{path.relative_to(site)}: {link}")
    assert not lost
