"""The leaderboard's site: its figures, its links, hostile results, and what a real browser makes of it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from helpers import references_of
from typer.testing import CliRunner

from offlinemeta.benchmark import result as result_module
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.result import Provenance, Result, make_result, place, read_results, write_result
from offlinemeta.cli import app
from offlinemeta.datasets.references import WITHIN, read_references
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.files import FileError
from offlinemeta.leaderboard import aggregate, table
from offlinemeta.leaderboard.charts import script_json
from offlinemeta.leaderboard.pages import method as method_page
from offlinemeta.leaderboard.pages.board import Board, elsewhere
from offlinemeta.leaderboard.pages.standings import standings
from offlinemeta.leaderboard.site import MARK, build, server

pytestmark = pytest.mark.xdist_group("site")  # which is built once

SCRIPT = "</script><script>window.owned=1</script><img/src=x/onerror=window.owned=1>"
EVIL = "'onmouseover=window.owned=1 &lt;script&gt;window.owned=1&lt;/script&gt; {{7*7}} `${window.owned=1}`"
"""What the schema lets through; it refuses angle brackets."""
METHOD = """name: {name}
title: "It learns. {evil}"
authors: ["A. {evil}"]
paper: "javascript:window.owned=1"
code: "https://example.org/'onmouseover=window.owned=1//"
information: "Nothing. {evil}"
tuning: {{trials: 3, rollouts: null, note: "On training tasks. {evil}"}}
hardware: "One core. {evil}"
"""
LEVELS = {"smac-offline": 40.0, "smac": 80.0, "pearl": -20.0, "mine": 70.0}
BENCHMARKS = (
    "PointRobot/smac/online-4", "PointRobot/smac/offline-context", "PointRobot/smac/zero-shot", "PointRobot/smac/ood",
    "PointRobot/smac/val-online-4", "PointRobot/smac/train-zero-shot", "CheetahVel/smac/online-4",
    "WalkerParam/smac/online-4",
)  # fmt: skip


def made_up(name: str, method: str, seed: int, level: float) -> Result:
    """A result whose scores lie about a level, by a method whose texts are hostile."""
    benchmark = get_benchmark(name)
    low, high = read_references(benchmark.family).scale(benchmark.protocol.split)
    shape = (len(get_family(benchmark.family).tasks[benchmark.protocol.split]), benchmark.protocol.episodes)
    scores = level + 10 * np.random.default_rng(seed).normal(size=shape)
    evil = EVIL if method == "mine" else ""
    about = Provenance(
        dataset={"id": f"OfflineMeta/{benchmark.family}/smac-v1{evil}", "sha256": "0" * 64},
        config={"lr": f"0.1{evil}"}, commit="c0ffee0", machine=f"x{evil}", started="2026-11-28T00:00:00Z",
        versions={"offlinemeta": "0.1.0", "mujoco": "3.3.0"},
        gradient_steps=20_000, env_steps=1000 * (method == "smac"), wall_time=90.0,
    )  # fmt: skip
    figures = {"m": 1.0, "gap_told": high, "gap_reader": high - 1, "gap_own": high - 2}
    returns = low + (high - low) * scores / 100
    return make_result(benchmark, method, "m:C", returns, 3, seed, figures=figures, provenance=about)


def write_all(root: Path) -> None:
    for method, level in LEVELS.items():
        for name in BENCHMARKS:
            if method == "pearl" and "CheetahVel" in name:
                continue  # it lacks a family
            for seed in range(2):
                result = made_up(name, method, seed, level)
                write_result(result, place(root, result))
    (root / "mine" / "method.yaml").write_text(METHOD.format(name="mine", evil=EVIL), encoding="utf-8")
    (root / "mine" / "a film & <b>.mp4").write_bytes(b"not a film, but bytes")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "results"
    write_all(folder)
    return folder


@pytest.fixture(scope="module")
def site(results: Path) -> Path:
    out = results.parent / "site"
    build([results], out)
    return out


# --- figures


def flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make scores of returns: 0 at 0 and 100 at 100 in every family, on each of its tasks."""

    def references(family: str) -> Any:
        counts = {split: len(get_family(family).tasks[split]) for split in WITHIN}
        levels = {"random": -100.0, "blind": 0.0, "told": 100.0}
        return references_of({kind: {s: [v] * n for s, n in counts.items()} for kind, v in levels.items()})

    for module in (result_module, table, aggregate):
        monkeypatch.setattr(module, "read_references", references)
    aggregate._low_worth.cache_clear()


@pytest.fixture
def flat_scale(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    flat(monkeypatch)
    yield
    aggregate._low_worth.cache_clear()


def constant(family: str, method: str, *levels: float) -> Result:
    """A result of one seed for each level, which all its tasks have."""
    benchmark = get_benchmark(f"{family}/smac/online-3")
    tasks = len(get_family(family).tasks["test"])
    parts = [
        make_result(benchmark, method, "m:C", np.full((tasks, 3), float(level)), 3, seed)
        for seed, level in enumerate(levels)
    ]
    return result_module.join_results(parts)


@pytest.mark.usefixtures("flat_scale")
def test_the_table_as_it_should_be() -> None:
    """Two seeds of 70 and 80: t of one degree of freedom, 12.706, times half of their distance."""
    rows = table.summarise([constant("PointRobot", "smac", 70, 80), constant("AntDir", "mine", 1234.0)])
    assert table.short(rows, ["Look out."]) == (
        "| data | method | seeds | third return | score |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| AntDir/smac | mine | 1 | 1,230 [1,230, 1,230] | 1,230 [1,230, 1,230] |\n"
        "| PointRobot/smac | smac | 2 | 75 [11.5, 139] | 75 [11.5, 139] |\n"
        "\nthird return: mean return of the third online episode, after two of exploration (or the last, of fewer); "
        "score: mean of its normalised scores, 0 the best blind policy, 100 the expert told its task. "
        f"{table.INTERVALS}\n\nLook out.\n"
    )


@pytest.mark.usefixtures("flat_scale")
def test_families_weigh_the_same_and_methods_are_compared_on_what_they_share() -> None:
    found = [
        constant("PointRobot", "smac", 80), constant("ML1-reach", "smac", 40), constant("AntDir", "smac", 0),
        constant("PointRobot", "mine", 90), constant("ML1-reach", "mine", 30),
    ]  # fmt: skip
    summed = aggregate.aggregates(aggregate.cells(table.summarise(found)))
    assert [(one.method, len(one.cells), one.families, one.mean.value) for one in summed] == [
        ("smac", 3, 3, pytest.approx(40.0)), ("mine", 2, 3, pytest.approx(60.0))
    ]  # fmt: skip
    assert [one.complete for one in summed] == [True, False]
    compared = aggregate.compare(summed)["mine", "smac"]
    assert (compared.families, compared.probability.value) == (2, 0.5), "it wins one and loses one"
    alone = aggregate.aggregates(aggregate.cells(table.summarise([found[2], found[3]])))
    assert aggregate.compare(alone) == {}, "they share no family"


@pytest.mark.usefixtures("flat_scale")
def test_the_third_episode_counts_however_many_follow() -> None:
    def played(method: str, protocol: str, level: float) -> Result:
        benchmark = get_benchmark(f"PointRobot/smac/{protocol}")
        returns = np.full((20, benchmark.protocol.episodes), float(level))
        return make_result(benchmark, method, "m:C", returns, 3)

    found = [
        played("mine", "online-3", 40), played("mine", "online-10", 50), played("smac", "online-4", 60),
        played("bc", "online-2", 70),
    ]  # fmt: skip
    summed = aggregate.aggregates(aggregate.cells(table.summarise(found)))
    assert [(one.setting.kind, one.method, one.mean.value) for one in summed] == [
        ("online", "smac", 60.0), ("online", "mine", 50.0), ("online-2", "bc", 70.0),
    ]  # fmt: skip


def test_low_worth_families_are_left_out(results: Path) -> None:
    cells = aggregate.cells(table.summarise(read_results([results])))
    summed = aggregate.aggregates(cells)
    assert "WalkerParam" in {cell.benchmark.family for cell in cells}
    assert {cell.benchmark.family for one in summed for cell in one.cells} == {"PointRobot", "CheetahVel"}
    assert {one.setting.split for one in summed} == {"test", "ood", "val", "train"}
    assert aggregate.headline(summed) == ("smac", "online", "test")


def test_order_of_seeds_tasks_and_files_does_not_matter(results: Path) -> None:
    def shuffled(result: Result) -> Result:
        seeds = result.of_seeds(result.seeds[::-1])
        tasks = np.random.default_rng(0).permutation(len(result.returns[0]))
        return seeds.model_copy(update={"returns": seeds.array()[:, tasks].tolist()})

    read = read_results([results])
    one, other = (
        aggregate.aggregates(aggregate.cells(table.summarise(found)))
        for found in (read, [shuffled(result) for result in read[::-1]])
    )
    assert [(a.setting, a.method) for a in one] == [(a.setting, a.method) for a in other]
    for a, b in zip(one, other, strict=True):
        for name in ("mean", "iqm", "worst"):
            assert tuple(getattr(a, name)) == pytest.approx(tuple(getattr(b, name)))


def test_the_csv_has_every_cell(site: Path) -> None:
    lines = list(csv.DictReader(io.StringIO((site / "results.csv").read_text(encoding="utf-8"))))
    assert len(lines) == len(LEVELS) * len(BENCHMARKS) - 1
    assert {line["protocol"] for line in lines} == {name.rpartition("/")[2] for name in BENCHMARKS}
    first = next(line for line in lines if (line["method"], line["protocol"]) == ("smac", "ood"))
    assert float(first["score_low"]) < float(first["score"]) < float(first["score_high"])
    assert float(first["score"]) == pytest.approx(80, abs=5)
    assert (first["split"], first["seeds"], first["gradient_steps"], first["env_steps"]) == (
        "ood",
        "2",
        "20000",
        "1000",
    )


def of_scores(method: str, *levels: float, sees_task: bool = False, data: str = "smac-v1") -> list[Result]:
    """Results of one seed for each level, on the tasks of PointRobot; scores differ between tasks."""
    benchmark = get_benchmark("PointRobot/smac/online-3")
    about = Provenance(dataset={"id": f"OfflineMeta/PointRobot/{data}", "sha256": "0" * 64})
    spread = np.random.default_rng(0).normal(size=(20, 3))
    return [
        make_result(benchmark, method, "m:C", level + spread, 3, seed, sees_task=sees_task, provenance=about)
        for seed, level in enumerate(levels)
    ]


@pytest.mark.usefixtures("flat_scale")
def test_the_best_is_marked_and_who_cannot_be_told_apart_from_it() -> None:
    found = [
        *of_scores("first", 50, 51, 52), *of_scores("second", 49, 52, 50), *of_scores("third", 10, 11, 12),
        *of_scores("expert", 99, 99, 99, sees_task=True), *of_scores("elsewhere", 98, 98, 98, data="random-v1"),
        *of_scores("renamed", 5, 5, 5, data="smac-v1"),
    ]  # fmt: skip
    board = Board(table.summarise(result_module.join_all(found)), {}, {})
    (standing,) = standings(board)
    assert [(name, line[0]["mark"]) for name, line in standing["lines"]] == [
        ("expert", ""), ("elsewhere", ""), ("first", "best"), ("second", "like"), ("third", ""), ("renamed", ""),
    ]  # fmt: skip
    assert board.badges == {"expert": "told the task", "elsewhere": "other data"}


def test_data_of_an_earlier_version_are_known_by_their_name_of_then() -> None:
    assert not elsewhere("OfflineMeta/AntDir/smac-v0", "AntDir/spread/online-10")
    assert elsewhere("OfflineMeta/AntDir/smac-v0", "AntDir/smac/online-10")
    assert elsewhere("OfflineMeta/AntDir/random-v0", "AntDir/smac/online-10")
    assert elsewhere("OfflineMeta/AntGoal/smac-v1", "AntDir/smac/online-10")
    assert not elsewhere("", "AntDir/smac/online-10")


# --- the site as files


class Links(HTMLParser):
    """What a page refers to, what can be referred to in it, its inline scripts, and figures that are no links."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.inline: list[str] = []
        self.bare: list[str] = []
        self.path: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        assert not any(name.startswith("on") for name in given), given
        self.links += [given[name] for name in ("href", "src") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag == "script" and "src" not in given and given.get("type") != "application/json":
            self.inline.append(self.get_starttag_text() or "")
        if tag not in ("meta", "link", "input", "br", "img", "path"):
            self.path.append((tag, given.get("class", "")))

    def handle_endtag(self, tag: str) -> None:
        if self.path and self.path[-1][0] == tag:
            self.path.pop()

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self.path]
        if "td" in tags and "a" not in tags and re.search(r"\d", data) and ("td", "num") in self.path:
            self.bare.append(data)


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_link_leads_somewhere_and_every_figure_is_one(site: Path) -> None:
    parsed = {page: Links(page.read_text(encoding="utf-8")) for page in pages(site)}
    assert len(parsed) == 6 + 3 + len(LEVELS)
    for page, found in parsed.items():
        assert len(found.ids) == len(set(found.ids)), page
        for link in found.links:
            if link.startswith("data:") or (link.startswith("https://example.org") and page.name == "mine.html"):
                continue
            path, _, mark = link.partition("#")
            target = (page.parent / unquote(path)).resolve() if path else page
            assert target.is_file(), (page, link)
            assert target.is_relative_to(site)
            if mark and target.name != "results.html":
                assert unquote(mark) in parsed[target].ids, (page, link)
        allowed = "methods" if page.parent.name == "methods" else ""  # dates, commits, check sums, beside their results
        assert allowed or not found.bare, (page, found.bare)


def test_raw_results_are_those_that_were_given(results: Path, site: Path) -> None:
    given = {file.relative_to(results): file.read_bytes() for file in results.rglob("*.json")}
    copied = {file.relative_to(site / "raw"): file.read_bytes() for file in (site / "raw").rglob("*.json")}
    assert copied == given
    assert (site / "films" / "mine" / "0.mp4").read_bytes() == b"not a film, but bytes"
    linked = Links((site / "methods" / "mine.html").read_text(encoding="utf-8")).links
    assert {f"../raw/{path.as_posix()}" for path in given if path.parts[0] == "mine"} <= set(linked)


def test_results_of_several_seeds_become_a_file_for_each(tmp_path: Path) -> None:
    parts = [made_up("PointRobot/smac/online-4", "smac", seed, 50.0) for seed in (3, 5)]
    write_result(result_module.join_results(parts), tmp_path / "both.json")
    build([tmp_path / "both.json"], tmp_path / "site")
    written = [file.name for file in sorted((tmp_path / "site" / "raw").rglob("*.json"))]
    assert written == ["online-4-s3.json", "online-4-s5.json"]


def test_hostile_texts_are_texts(site: Path) -> None:
    for page in pages(site):
        html = page.read_text(encoding="utf-8")
        found = Links(html)
        assert not found.inline, (page, found.inline)
        assert not [link for link in found.links if link.startswith("javascript:")]
        assert EVIL not in html
        assert "default-src 'none'; script-src 'self' file:;" in html
        for spec in re.findall(r'<script type="application/json">(.*?)</script>', html):
            json.loads(spec)
    assert "window.owned" in (site / "methods" / "mine.html").read_text(encoding="utf-8")


def test_json_in_a_script_cannot_end_it() -> None:
    text = script_json({SCRIPT: SCRIPT})
    assert "<" not in text
    assert json.loads(text) == {SCRIPT: SCRIPT}


def test_pages_are_small_and_need_no_network(site: Path) -> None:
    shared = (site / "vega.js").stat().st_size
    for page in pages(site):
        html = page.read_text(encoding="utf-8")
        assert len(html.encode()) + shared < 3e6
        assert re.search(r'<html lang="en">', html)
        assert re.search(r"<title>[^<]+</title>", html)
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', html.replace("https://example.org", ""))


def test_what_is_only_to_choose_by_is_shown_and_said_so(site: Path) -> None:
    html = (site / "families" / "PointRobot.html").read_text(encoding="utf-8")
    for said in ("ood tasks", "val tasks", "train tasks", "zero-shot", "to choose by", "outside of the training"):
        assert said in html, said
    listed = (site / "results.html").read_text(encoding="utf-8")
    for split in ("val", "train", "ood"):
        assert f'data-split="{split}"' in listed


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("https://example.org/a", "https://example.org/a"), ("http://example.org", ""),
        ("https://github.com@evil.org", ""), ("https://evil\u2024org", ""),
        ("javascript:alert(1)", ""), ("baselines/smac.py", ""), ("data:text/html,x", ""), ("https://a b", ""),
    ],
)  # fmt: skip
def test_only_addresses_of_the_web_become_links(text: str, link: str) -> None:
    assert method_page._web(text) == link


def test_a_site_replaces_a_site_and_nothing_else(results: Path, tmp_path: Path) -> None:
    out, one = tmp_path / "site", results / "smac" / "PointRobot-smac" / "online-4-s0.json"
    build([results / "mine" / "PointRobot-smac"], out)
    assert (out / "methods" / "mine.html").exists()
    build([one], out)
    assert not (out / "methods" / "mine.html").exists()
    damaged = tmp_path / "damaged.json"
    damaged.write_text("{}")
    before = sorted(out.rglob("*"))
    with pytest.raises(result_module.ResultError, match=r"damaged\.json is no result"):
        build([damaged], out)
    assert sorted(out.rglob("*")) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(FileError, match="holds something else than a site"):
        build([one], tmp_path / "mine")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["damaged.json", "mine", "site"]


def test_folders_that_are_named_like_files_do_no_harm(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "smac" / "PointRobot-smac", tmp_path / "smac" / "PointRobot-smac")
    for name in ("x.json", "film.mp4"):
        (tmp_path / "smac" / name).mkdir()
    build([tmp_path / "smac"], tmp_path / "site")
    assert (tmp_path / "site" / "methods" / "smac.html").exists()


def test_films_that_are_links_are_left_out(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "smac" / "PointRobot-smac", tmp_path / "smac" / "PointRobot-smac")
    (tmp_path / "smac" / "film.mp4").symlink_to("/etc/hostname")
    build([tmp_path / "smac"], tmp_path / "site")
    assert not (tmp_path / "site" / "films").exists()


def test_a_site_is_served_to_this_machine(site: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="There is no site in"):
        server(tmp_path, 0)
    with server(site, 0) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            with pytest.raises(ArgumentError, match=r"cannot be served: .* Choose another with --port"):
                server(site, serving.server_port)
            address = f"http://127.0.0.1:{serving.server_port}/families/PointRobot.html"
            with urllib.request.urlopen(address) as answer:
                assert b"<h1>PointRobot</h1>" in answer.read()
        finally:
            serving.shutdown()
            thread.join()


def test_the_command_builds_the_site_and_the_readme(results: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results: by a command -->\n<!-- end of results -->\n")
    folder = str(results / "smac" / "PointRobot-smac")
    out = str(tmp_path / "site")
    done = CliRunner().invoke(app, ["leaderboard", "build", "--results", folder, "--out", out, "--readme", str(readme)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "site" / MARK).exists()
    assert "| PointRobot/smac | smac | 2 |" in readme.read_text(encoding="utf-8")
    assert done.output.split("methods: ")[1].strip() == "smac"


# --- in a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Chromium without a window; tests that need it are skipped where there is none, unless it is required."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None and not os.environ.get("OFFLINEMETA_REQUIRE_BROWSER"):
        pytest.skip("There is no chromium: apt-get install -y chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page of the site in a browser, which complains of nothing, asks no network, and runs nothing hostile."""

    def __init__(self, browser: Any, site: Path, **options: Any) -> None:
        self.site, self.complaints = site, list[str]()
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
        self.page.on("request", self._asked)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.complaints.append(f"network: {request.url}")

    def open(self, name: str) -> Any:
        self.page.goto((self.site / name).as_uri())
        return self.page

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *error: object) -> None:
        owned = self.page.evaluate("window.owned")
        self.context.close()
        if not any(error):
            assert self.complaints == []
            assert owned is None


def shown(page: Any, table: str) -> list[str]:
    return [text.strip() for text in page.locator(f"#{table} tbody tr:visible th").all_inner_texts()]


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something; the browser's own way of waiting needs what the pages forbid."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_reader_sorts_filters_and_opens_a_family(chromium: Any, site: Path) -> None:
    with Visit(chromium, site) as visit:
        page = visit.open("index.html")
        assert shown(page, "aggregates") == ["smac", "mine", "smac-offline", "pearl"]
        score = page.get_by_role("columnheader", name="mean score")
        score.get_by_role("button").click()
        best = ["smac", "mine", "smac-offline", "pearl"]
        assert (score.get_attribute("aria-sort"), shown(page, "aggregates")) == ("descending", best)
        score.get_by_role("button").click()
        assert (score.get_attribute("aria-sort"), shown(page, "aggregates")) == ("ascending", best[::-1])
        page.get_by_role("button", name="Show all").click()
        assert len(shown(page, "aggregates")) == 4 * 6
        page.get_by_label("Method").fill("SMAC-o")
        assert set(shown(page, "aggregates")) == {"smac-offline"}
        page.get_by_label("Tasks").select_option("ood")
        assert page.locator("output").inner_text() == "1 of 24 rows"
        page.locator("#aggregates tbody tr:visible td a").first.click()  # the figure leads to its cells
        page.wait_for_url("**/results.html#*")
        assert shown(page, "cells") == ["smac-offline"]
        page.get_by_role("button", name="Show all").click()
        page.get_by_label("Family").select_option("PointRobot")
        assert len(shown(page, "cells")) == 4 * 6
        page.get_by_role("link", name="PointRobot").first.click()
        page.wait_for_url("**/families/PointRobot.html#*")
        assert page.title() == "PointRobot · offlinemeta leaderboard"
        page.locator(".chart").first.locator("svg").wait_for()
        page.locator("#smac-test td a").first.click()
        page.wait_for_url("**/methods/*.html#PointRobot-smac-*")
        page.get_by_role("link", name="JSON").first.click()
        page.wait_for_url("**/raw/**")
        assert json.loads(page.locator("body").inner_text())["schema_version"] == 2


def test_charts_are_drawn_with_lines_of_what_is_known(chromium: Any, site: Path) -> None:
    with Visit(chromium, site) as visit:
        page = visit.open("families/PointRobot.html")
        charts = page.locator("#smac-test .chart")
        assert charts.count() == 4
        for place in range(4):
            charts.nth(place).scroll_into_view_if_needed()
            charts.nth(place).locator("svg").wait_for()
        for place in (0, 1, 3):  # adaptation, shift, tasks; the gap has no scale of returns
            text = charts.nth(place).text_content()
            assert all(name in text for name in ("told", "blind", "random")), text


def test_lines_are_chosen_in_one_legend_by_keyboard(chromium: Any, site: Path) -> None:
    with Visit(chromium, site) as visit:
        page = visit.open("families/PointRobot.html")
        section = page.locator("#smac-test")
        chart = section.locator(".chart").first

        def lines() -> int:
            return int(chart.locator(".mark-line path[aria-roledescription='line mark']").count())

        chart.locator("svg").wait_for()
        until(lambda: lines() == len(LEVELS))
        box = section.get_by_role("checkbox", name="smac-offline")
        box.focus()
        page.keyboard.press("Space")
        until(lambda: lines() == len(LEVELS) - 1)
        section.get_by_role("button", name="None").click()
        until(lambda: lines() == 0)
        assert all(name in chart.text_content() for name in ("told", "blind", "random")), "what is known stays"
        section.get_by_role("checkbox", name="mine").check()
        until(lambda: lines() == 1)
        tasks = section.locator(".chart").last
        tasks.scroll_into_view_if_needed()
        tasks.locator("svg").wait_for()
        assert tasks.locator("path[aria-label*='smac-offline']").count() == 0, "it is one legend for all charts"
        section.get_by_role("button", name="All").click()
        until(lambda: lines() == len(LEVELS))


def test_dark_as_the_system_or_by_the_switch(chromium: Any, site: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with Visit(chromium, site, color_scheme="dark") as visit:
        page = visit.open("families/PointRobot.html")
        page.locator(".chart svg").first.wait_for()
        dark, axis = page.evaluate(background), ".chart svg .role-axis-label text"
        assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 120
        grey = page.locator(axis).first.get_attribute("fill")
        page.get_by_role("button", name="Light").click()
        light = page.evaluate(background)
        assert sum(map(int, re.findall(r"\d+", light)[:3])) > 700
        until(lambda: page.evaluate(f"document.querySelector({axis!r})?.getAttribute('fill')") not in (grey, None))
        assert visit.open("claims.html").evaluate(background) == light, "the choice holds on the next page"
    with Visit(chromium, site, color_scheme="light") as visit:
        page = visit.open("index.html")
        assert page.evaluate(background) == light
        page.get_by_role("button", name="Dark").click()
        assert page.evaluate(background) == dark


@pytest.mark.parametrize("width", [320, 375])
def test_on_a_phone_no_page_scrolls_sideways(width: int, chromium: Any, site: Path) -> None:
    with Visit(chromium, site, viewport={"width": width, "height": 700}, is_mobile=True, has_touch=True) as visit:
        for file in pages(site):
            page = visit.open(file.relative_to(site).as_posix())
            if page.locator(".chart").count():
                page.locator(".chart").first.scroll_into_view_if_needed()
                page.locator(".chart svg").first.wait_for()
            page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            wide = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert wide[0] <= wide[1], (file, wide)


def test_by_keyboard_alone(chromium: Any, site: Path) -> None:
    focused = "document.activeElement"
    with Visit(chromium, site) as visit:
        page = visit.open("index.html")
        page.keyboard.press("Tab")
        assert page.evaluate(f"{focused}.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate(f"{focused}.id") == "content"
        for _ in range(40):
            page.keyboard.press("Tab")
            assert page.evaluate(f"getComputedStyle({focused}).outlineStyle") != "none", "what has the focus is seen"
            if page.evaluate(f"{focused}.textContent") == "mean score":
                break
        page.keyboard.press("Enter")
        page.keyboard.press("Space")
        assert shown(page, "aggregates")[0] == "pearl"
        visit.open("results.html")
        page.locator(".wide").first.focus()
        page.set_viewport_size({"width": 400, "height": 700})
        page.keyboard.press("ArrowRight")
        until(lambda: page.evaluate("document.querySelector('.wide').scrollLeft") > 0)


def test_every_page_is_quiet(chromium: Any, site: Path) -> None:
    with Visit(chromium, site) as visit:
        for file in pages(site):
            page = visit.open(file.relative_to(site).as_posix())
            for chart in page.locator(".chart").all():
                chart.scroll_into_view_if_needed()
                chart.locator("svg").wait_for()
            assert page.locator("html").get_attribute("lang") == "en"
            assert page.locator("h1").count() == 1
            unnamed = "[...document.querySelectorAll('a, button, select, input, video, [role=img]')]"
            unnamed += ".filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length"
            assert page.evaluate(unnamed) == 0
            assert page.evaluate("document.querySelectorAll('script:not([src]):not([type])').length") == 0


def test_without_javascript_everything_can_be_read(chromium: Any, site: Path) -> None:
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto((site / "index.html").as_uri())
        assert len(shown(page, "aggregates")) == 24
        assert not page.locator("form").first.is_visible()
