"""Tables, claims, pictures and the page, from results with known figures."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import references_of
from pydantic import ValidationError
from rich.console import Console

from offlinemeta.benchmark import metrics
from offlinemeta.benchmark import result as result_module
from offlinemeta.benchmark.fields import check_method
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.result import Provenance, Result, join_results, make_result
from offlinemeta.datasets.references import WITHIN, References, read_references
from offlinemeta.datasets.spec import VERSION
from offlinemeta.envs import FAMILIES
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.leaderboard import table
from offlinemeta.leaderboard.charts import charts, gap_parts
from offlinemeta.leaderboard.claims import FAILS, HOLDS, OPEN, check_claims
from offlinemeta.leaderboard.report import page, plot
from offlinemeta.leaderboard.style import COLOURS, DASHES, styles
from offlinemeta.leaderboard.table import summarise

LEVELS = {"smac-offline": (-12.0, -8.0), "smac": (-7.0, -6.0), "oracle": (-6.5, -6.0), "pearl": (-15.0, -15.0)}
"""Return online and with logged context."""


def results(levels: dict[str, tuple[float, float]] = LEVELS, seeds: int = 3, noise: float = 0.1) -> list[Result]:
    rng, found = np.random.default_rng(0), []
    for method, (online, offline) in levels.items():
        for protocol, level, episodes in (("online-4", online, 4), ("offline-context", offline, 1)):
            benchmark = get_benchmark(f"PointRobot/smac/{protocol}")
            one = [
                make_result(
                    benchmark, method, "m:C", level + noise * rng.normal(size=(20, episodes)), 3, seed,
                    figures={"kl_shift": 0.8 if method == "smac-offline" else 0.1 * (1 + seed)},
                )
                for seed in range(seeds)
            ]  # fmt: skip
            found.append(join_results(one))
    return found


def test_rows_say_what_the_results_do() -> None:
    rows = {row.method: row for row in summarise(results())}
    assert list(rows) == ["pearl", "smac-offline", "smac", "oracle"]
    before = rows["smac-offline"]
    assert before.seeds == 3
    assert before.online is not None
    assert before.online.benchmark == "PointRobot/smac/online-4"
    assert before.third is not None
    assert before.offline is not None
    assert before.shift is not None
    assert before.third.value == pytest.approx(-12, abs=0.1)
    assert before.offline.value == pytest.approx(-8, abs=0.1)
    assert before.shift.value == pytest.approx(4, abs=0.1)
    assert before.shift.low < before.shift.value < before.shift.high
    assert before.kl_shift == pytest.approx(0.8)


def test_splits_have_rows_of_their_own_and_other_protocols_a_table() -> None:
    found = []
    for protocol, level in (("online-3", -8.0), ("test100-online-3", -9.0), ("ood", -20.0), ("zero-shot", -11.0)):
        benchmark = get_benchmark(f"PointRobot/smac/{protocol}")
        shape = (len(FAMILIES["PointRobot"].tasks[benchmark.protocol.split]), benchmark.protocol.episodes)
        found.append(make_result(benchmark, "smac", "m:C", np.full(shape, level), 1, 0))
    rows = {row.data: row for row in summarise(found)}
    thirds = {data: row.third.value for data, row in rows.items() if row.third is not None}
    assert thirds == {
        "PointRobot/smac": -8.0, "PointRobot/smac, test100 tasks": -9.0, "PointRobot/smac, ood tasks": -20.0
    }  # fmt: skip
    assert [row.split for row in rows.values()] == ["test", "ood", "test100"]
    _, lines = table.further(list(rows.values()))
    assert [line[:4] for line in lines] == [["PointRobot/smac", "smac", "1", "zero-shot"]]
    assert "zero-shot" in table.report_further(list(rows.values()))
    assert table.report_further([rows["PointRobot/smac, ood tasks"]]) == ""


def test_returns_on_tasks_to_choose_by_are_shown_beside_the_results() -> None:
    found = []
    for protocol, level in (("online-3", -8.0), ("train-online-3", -7.0)):
        benchmark = get_benchmark(f"PointRobot/smac/{protocol}")
        shape = (len(FAMILIES["PointRobot"].tasks[benchmark.protocol.split]), 3)
        found.append(make_result(benchmark, "smac", "m:C", np.full(shape, level), 1, 0))
    rows = summarise(found)
    assert [line[:2] for line in table.grid(rows)[1]] == [["PointRobot/smac", "smac"]]
    (line,) = table.further(rows)[1]
    assert line[:4] == ["PointRobot/smac, train tasks", "smac", "1", "online-3"]
    assert line[4].startswith("-7")


def flat_references(random: float, blind: float, told: float) -> References:
    """References that are the same on every task of PointRobot's training distribution."""
    returns = {
        kind: {split: [value] * 20 for split in WITHIN}
        for kind, value in (("random", random), ("blind", blind), ("told", told))
    }
    return references_of(returns)


@pytest.mark.parametrize(
    ("random", "blind", "expected"),
    [
        (-30.0, -20.0, 75.0),  # -8 lies three quarters of the way from -20 to -4
        (-24.0, -9.0, 80.0),  # worth is 5 / 20, so the line begins at -24
    ],
)
def test_results_are_scored_by_the_present_references(
    random: float, blind: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = summarise(results({"mine": (-8.0, -8.0)}, noise=0.0))[0]
    for module in (result_module, table):
        monkeypatch.setattr(module, "read_references", lambda family: flat_references(random, blind, -4.0))
    assert row.online is not None
    assert row.online.scores() == pytest.approx(expected)
    low = [said for said in table.remarks([row]) if "low-worth" in said]
    assert len(low) == (blind != -20)
    assert all(said.startswith("PointRobot is low-worth") for said in low)
    assert all(said.endswith("averages over families should leave it out.") for said in low)


def test_the_blind_policy_scores_0_and_the_told_expert_100() -> None:
    """Where goals are sparse too: the blind policy gets everything on a few tasks, and nothing on the others."""
    references = read_references("SparsePointRobot")
    for returns, expected in ((references.blind, 0.0), (references.told, 100.0)):
        scores, tasks = [], []
        for split in WITHIN:  # whose tasks make the scale together
            benchmark = get_benchmark(f"SparsePointRobot/smac/{'' if split == 'test' else split + '-'}online-1")
            result = make_result(benchmark, "it", "m:C", np.array(returns[split])[:, None], 3)
            assert result.score() == result.auc()
            assert result.score().low <= result.score().value <= result.score().high
            scores.append(result.score().value)
            tasks.append(len(returns[split]))
        assert np.average(scores, weights=tasks) == pytest.approx(expected, abs=0.01)


def test_remarks_name_other_versions_of_the_training_data() -> None:
    def trained(version: str) -> list[Result]:
        provenance = [Provenance(dataset={"id": f"OfflineMeta/PointRobot/smac-{version}", "sha256": "0"})] * 3
        return [result.model_copy(update={"provenance": provenance}) for result in results({version: (-8.0, -8.0)})]

    assert table.remarks(summarise(results())) == []
    assert table.remarks(summarise(trained(f"v{VERSION}"))) == []
    (said,) = table.remarks(summarise(trained("v0")))
    assert said == f"Trained on datasets of version v0, while the present one is v{VERSION}."
    (said,) = table.remarks(summarise([*trained("v9"), *trained("v0")]))
    assert "version v0 and v9," in said


def test_remarks_name_the_rows_on_data_that_are_not_the_manifest_s() -> None:
    known = {"id": f"OfflineMeta/PointRobot/smac-v{VERSION}", "sha256": "0"}
    other = known | {"other": "not the dataset of the manifest, 1"}
    found = []
    for result in results():
        trained = other if result.method == "pearl" else known
        context = {} if "online" in result.benchmark else other if result.method == "smac" else known
        provenance = [Provenance(dataset=trained, context=context)] * 3
        found.append(result.model_copy(update={"provenance": provenance}))
    assert table.remarks(summarise(found)) == [
        "Trained or adapted on data that are not those of the manifest: pearl on PointRobot/smac, smac on "
        "PointRobot/smac."
    ]


def test_claims_hold_where_they_do() -> None:
    verdicts = {claim.text[:30]: claim.verdict for claim in check_claims(summarise(results()))}
    assert list(verdicts.values()) == [HOLDS] * 6
    assert len(verdicts) == 6


def test_claims_fail_where_they_do_and_are_open_in_between() -> None:
    worse = {**LEVELS, "smac": (-12.0, -4.0), "oracle": (-2.0, -2.0), "pearl": (-11.0, -11.0)}
    verdicts = [claim.verdict for claim in check_claims(summarise(results(worse, noise=0.5)))]
    # the shift is there; it has grown; KL falls; SMAC against its start, and against PEARL; far from the oracle
    assert verdicts == [HOLDS, FAILS, HOLDS, OPEN, FAILS, FAILS]


def test_claims_are_open_where_there_is_no_gap_and_nothing_to_gain() -> None:
    none = {"smac-offline": (-8.0, -10.0), "smac": (-9.0, -15.0), "oracle": (-9.5, -9.5)}
    figures = {
        claim.text[0]: (claim.verdict, claim.figures)
        for claim in check_claims(summarise(results(none)))
        if "KL" not in claim.text
    }
    assert figures["1"][0] == FAILS
    assert figures["2"][0] == OPEN
    assert figures["2"][1].startswith("no clear gap to begin with: -1.99 [")
    assert figures["4"][0] == OPEN
    assert figures["4"][1].startswith("no clear gain of the oracle over that start: -1.48 [")


def test_no_gap_is_said_only_where_the_interval_says_so() -> None:
    """Told and blind are eleven apart, so five points of score are about half of a return."""
    for offline, noise, said in (
        (-8.1, 0.02, "no gap to begin with"),
        (-8.1, 3.0, "no clear gap"),
        (-9.0, 0.02, "no clear gap"),
        (-8.4, 0.9, "no clear gap to begin with: -0.267 [-0.686"),  # one end of the interval is near enough
    ):
        levels = {"smac-offline": (-8.0, offline), "smac": (-7.0, -7.0)}
        (second,) = [c for c in check_claims(summarise(results(levels, noise=noise))) if c.text.startswith("2 self")]
        assert (second.verdict, second.p_value, second.corrected) == (OPEN, None, None)
        assert second.figures.startswith(said), second.figures


def test_claims_are_about_the_third_episode_and_one_protocol() -> None:
    found = results()
    shuffled = []
    for result in found:
        returns = np.array(result.returns)
        if returns.shape[2] > 3:
            returns[..., [0, 1, 3]] = 1e6
        shuffled.append(result.model_copy(update={"returns": returns.tolist()}))
    assert check_claims(summarise(shuffled)) == check_claims(summarise(found))
    other = [
        r.model_copy(update={"benchmark": "PointRobot/smac/online-3", "returns": np.array(r.returns)[..., :3].tolist()})
        if (r.method, r.benchmark[-8:]) == ("smac", "online-4")
        else r
        for r in found
    ]
    texts = [claim.text[:1] for claim in check_claims(summarise(other))]
    assert texts == ["1", "2"], "SMAC's own contexts are compared with nobody's; the KL shift has no protocol"


def test_claims_are_corrected_for_their_number() -> None:
    found = check_claims(summarise(results(noise=1.0)))
    asked = [claim for claim in found if claim.p_value is not None]
    assert [claim.corrected for claim in asked] == pytest.approx(metrics.holm([claim.p_value for claim in asked]))
    assert all(claim.corrected >= claim.p_value for claim in asked)
    assert any(claim.corrected > claim.p_value for claim in asked)
    for claim in asked:
        assert (claim.verdict == HOLDS) == (claim.p_value < 0.025)


def test_who_is_told_the_task_is_marked_so() -> None:
    told = results()[0].model_copy(update={"sees_task": True, "method": "told"})
    assert [row.label for row in summarise([told])] == ["told (told the task)"]


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "[/x] [red]a[/red]", "_a|b|`c`", r"$\frac$"])
def test_a_name_is_shown_as_it_is_even_if_it_got_past_the_door(name: str, tmp_path: Path) -> None:
    rows = summarise([result.model_copy(update={"method": name}) for result in results() if result.method == "pearl"])
    console = Console(width=250, file=io.StringIO())
    console.print(table.table(rows))
    assert name in console.file.getvalue()  # type: ignore[attr-defined]
    lines = table.report(rows, [name]).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines[:3]] == [13, 13, 13]
    assert not re.findall(r"(?<!\\)[<`_$]", lines[2] + lines[-1])
    plot(rows, [tmp_path / "a.png"])
    html = page(rows, tmp_path / "report.html", notes={rows[0].data: name}, remarks=[name]).read_text()
    assert "<script>alert" not in html


@pytest.mark.parametrize("name", ["smac", "a", "MACAW-2.1_x+y", "9", "x" * 64])
def test_a_method_has_a_plain_name(name: str) -> None:
    assert results({name: (0.0, 0.0)}, seeds=1)[0].method == name


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "..", "a b", "a/b", "a\n", "\u0430", "\u202ea", "x" * 65, "a|b", "<b>", "[b]", "$b$"]
)
def test_a_result_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="method"):
        results({name: (0.0, 0.0)}, seeds=1)
    with pytest.raises(ArgumentError, match="A method is named by 1 to 64 of the letters"):
        check_method(name)


def test_one_seed_claims_nothing() -> None:
    assert check_claims(summarise(results(seeds=1))) == []
    assert len(check_claims(summarise(results(seeds=2)))) == 6


def test_claims_need_their_results() -> None:
    assert check_claims(summarise([result for result in results() if result.method == "pearl"])) == []


def test_the_parts_of_the_gap_sum_to_it() -> None:
    levels = {"gap_told": [-4.0, -6.0], "gap_exact": [-6.0, -6.0], "gap_reader": [-9.0, -9.0], "gap_own": [-7.0, -9.0]}
    base = results()[0]
    for known, parts in (
        (levels, [1.0, 3.0, -1.0]),
        ({k: v for k, v in levels.items() if k != "gap_exact"}, [4.0, -1.0]),
    ):
        assert list(gap_parts(base.model_copy(update={"metrics": known})).values()) == pytest.approx(parts)
    assert gap_parts(base) == gap_parts(None) == {}
    rows = summarise([base.model_copy(update={"metrics": levels})])
    assert any(
        title.startswith("Where the return is lost") for title in charts(rows, styles([row.method for row in rows]))
    )
    rows = summarise([base])
    assert not any(title.startswith("Where the return is lost") for title in charts(rows, styles([rows[0].method])))


def test_no_two_methods_look_alike_and_usual_ones_always_look_the_same() -> None:
    assert styles(["smac"])["smac"] == styles(["pearl", "mine", "smac"])["smac"]
    usual = table.STUDY["methods"]
    drawn = styles([*usual, *(f"method-{k}" for k in range(80 - len(usual)))])
    looks = {(style.colour, style.dash) for style in drawn.values()}
    assert len(looks) == len(drawn) == len(COLOURS) * len(DASHES)
    assert len({drawn[name].colour for name in usual}) == len(usual)
    assert {drawn[name].dash for name in usual} == {()}


def test_a_wide_interval_does_not_shrink_the_chart() -> None:
    rows = summarise(results())
    spec = charts(rows, styles([row.method for row in rows]))[
        "Adaptation: return of each episode, adapted on those before it"
    ]
    low, high = spec["layer"][1]["encoding"]["y"]["scale"]["domain"]
    shown = [point["return"] for name in ("values", "known") for point in spec["datasets"][name]]
    assert low < min(shown) < max(shown) < high
    assert high - low < 1.2 * (max(shown) - min(shown))


def test_a_picture_and_a_page_are_drawn(tmp_path: Path) -> None:
    found = summarise(results())
    film = tmp_path / "film.mp4"
    film.write_bytes(b"not a film, but bytes")
    png, pdf = plot(found, [tmp_path / "a.png", tmp_path / "a.pdf"])
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    html = page(found, tmp_path / "deep" / "report.html", {"a <film>": film}).read_text()
    assert html.count("<script>vegaEmbed(") == 3
    assert "a &lt;film&gt;" in html
    assert "PointRobot/smac" in html
    assert "does not hold" not in html
    assert not re.findall(r'(?:src|href)="https?:', html), "the page needs no network"
    assert "viewport" in html
