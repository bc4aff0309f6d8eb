"""The command ``offlinemeta report``. Heavy imports stay inside the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()

EPILOG = (
    "Examples:\n\n  offlinemeta report out/runs\n\n  offlinemeta report leaderboard/results --out report\n\n"
    "  offlinemeta report a.json b.json --pdf\n\n"
    "  offlinemeta report leaderboard/results --out docs/study --readme README.md"
)


def report(
    results: Annotated[
        list[Path], typer.Argument(help="Result files, or folders of them; results that differ in the seed are joined.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables, the picture and the page.")] = Path("out/report"),
    readme: Annotated[
        Path | None, typer.Option(help="A Markdown file with a place for results, into which a short table is written.")
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write the picture as a PDF file.")] = False,
) -> None:
    """Summarise results: tables (report.md), adaptation.png, and report.html, one page that needs no network."""
    from offlinemeta.benchmark.result import read_results
    from offlinemeta.console import say
    from offlinemeta.files import check_writable, fill, write_text
    from offlinemeta.leaderboard import claims, table
    from offlinemeta.leaderboard.method import find_methods, remarks
    from offlinemeta.leaderboard.report import page, plot

    rows = table.summarise(read_results(results))
    said = [*table.remarks(rows), *remarks(list(find_methods(results).values()))]
    check_writable(out)
    wide = Console(width=max(console.width, 180))
    wide.print(table.table(rows))
    for remark in said:
        say(console, remark)
    found = claims.check_claims(rows)
    if found:
        wide.print(claims.table(found))
    pictures = [out / "adaptation.png", *([out / "adaptation.pdf"] if pdf else [])]
    text = "# Results\n\n![adaptation curves](adaptation.png)\n\n" + table.report(rows, said)
    text += table.report_further(rows) + claims.report(found)
    write_text(out / "report.md", text)
    if readme is not None:
        fill(readme, "results", table.short(rows, said))
        say(console, f"written: {readme}")
    for file in [*plot(rows, pictures), page(rows, out / "report.html", remarks=said), out / "report.md"]:
        say(console, f"written: {file}")
