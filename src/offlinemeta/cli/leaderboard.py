"""``offlinemeta leaderboard``: check and submit results. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from offlinemeta.leaderboard.submission import Submission

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Check submissions, place them among the results, and evaluate their checkpoints again.",
    epilog="Examples:\n\n  offlinemeta leaderboard check mine\n\n  offlinemeta leaderboard submit mine\n\n"
    "  offlinemeta leaderboard replay mine --cell PointRobot/smac/online-3 --seed 0",
)
console = Console()

Folder = Annotated[Path, typer.Argument(help="The folder of the method, with its method.yaml.")]


@app.command(
    epilog="Examples:\n\n  offlinemeta leaderboard check mine\n\n"
    "  offlinemeta leaderboard check leaderboard/results --listed\n\n"
    "  offlinemeta leaderboard check theirs/leaderboard/results --against leaderboard/results --markdown summary.md"
)
def check(
    path: Annotated[Path, typer.Argument(help="The folder of a method, or a folder that holds several such folders.")],
    listed: Annotated[
        bool,
        typer.Option(
            "--listed",
            help="The methods are already listed: what later rules require may be missing, and is only named.",
        ),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(help="The folder of earlier results: only methods that differ from these are checked."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="A file to which the rows and the faults are appended as Markdown.")
    ] = None,
) -> None:
    """Check submissions by the rules of the leaderboard, and show their rows. No code in them is run."""
    from offlinemeta.console import say
    from offlinemeta.leaderboard.folder import SubmissionError, changes, submissions
    from offlinemeta.leaderboard.listed import Listed
    from offlinemeta.leaderboard.method import FILE
    from offlinemeta.leaderboard.submission import RESULTS, check_same_author
    from offlinemeta.leaderboard.submission import check as check_folder

    if against is not None and not against.is_dir():
        raise SubmissionError(f"--against {against} is no folder. Name that of the results as they were.")
    others, text, refused = Listed(against or RESULTS), "", list[str]()
    folders = submissions(path)
    for folder in folders:
        kept, how = listed, ""
        if against is not None:
            changed = changes(folder, against / folder.name)
            if not changed:
                continue
            kept = listed or changed == [FILE]  # its results are those that are listed
            how = f" ({len(changed)} files changed)" if (against / folder.name).exists() else " (new)"
        found = check_folder(folder, listed=others)
        others.add(found.name, list(found.results.values()))  # of two in one pull request, none may resemble the other
        said = _verdict(found, kept) + how
        say(console, said)
        text += f"\n### {_escaped(said)}\n\n{'' if found.refused(kept) else _rows(found)}"
        text += "".join(f"- {_escaped(line)}\n" for line in _faults(found))
        refused += [found.name] if found.refused(kept) else []
        if against is not None and found.checkpoints:
            said = f"  {found.name} has checkpoints, which stay with their authors: checkpoints: in method.yaml"
            say(console, said)
            text += f"- {_escaped(said.strip())}\n"
            refused += [found.name]
        if against is not None and (against / folder.name).exists():
            try:
                check_same_author(found, against / folder.name)
            except SubmissionError as error:
                say(console, f"  {error}")
                text += f"- {_escaped(str(error))}\n"
                refused += [found.name]
    if against is not None and path != folders[0]:
        gone = sorted({one.name for one in against.iterdir() if one.is_dir()} - {folder.name for folder in folders})
        if gone:
            say(console, f"gone, though listed: {', '.join(gone)}")
            text += f"\n### Gone, though listed: {_escaped(', '.join(gone))}\n"
            refused += gone
    if not text:
        say(console, f"Nothing in {path} differs from {against}.")
        text = "\nNo method differs from what is listed.\n"
    if markdown is not None:
        with markdown.open("a", encoding="utf-8") as file:
            file.write(f"## Submissions\n{text}")
    if refused:
        raise SubmissionError(f"Refused: {', '.join(dict.fromkeys(refused))}. docs/submit.md has the rules.")


def _verdict(found: Submission, listed: bool) -> str:
    """Say in a line what came out of a check; print the rows and the faults."""
    from offlinemeta.console import say
    from offlinemeta.leaderboard import table

    if not found.refused(listed) and found.joined():
        Console(width=max(console.width, 180)).print(table.table(table.summarise(found.joined())))
    for line in _faults(found):
        say(console, f"  {line}")
    what = f"{found.name}: {len(found.results)} results"
    if found.refused(listed):
        return f"{what}, refused"
    return f"{what}, keep all rules" if not found.faults else f"{what}, listed before, lack what later rules ask for"


def _faults(found: Submission) -> list[str]:
    from offlinemeta.leaderboard.rules import listing

    return listing(found.faults)


def _rows(found: Submission) -> str:
    from offlinemeta.leaderboard import table

    rows = table.summarise(found.joined())
    return table.report(rows, table.remarks(rows)) + table.report_further(rows).replace("\n## ", "\n#### ") + "\n"


def _escaped(text: str) -> str:
    from offlinemeta.console import printable
    from offlinemeta.leaderboard.table import escape

    return escape(printable(text))


@app.command(
    epilog="Examples:\n\n  offlinemeta leaderboard submit mine\n\n"
    "  offlinemeta leaderboard submit mine --to ~/fork/leaderboard/results --replace"
)
def submit(
    path: Folder,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder of results; by default, leaderboard/results of the current checkout."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an earlier submission with the same authors and code.")
    ] = False,
) -> None:
    """Check a submission, and copy it to its place among the results. A pull request then makes it public."""
    from offlinemeta.console import say
    from offlinemeta.leaderboard.folder import SubmissionError
    from offlinemeta.leaderboard.submission import submit as place

    here = Path("leaderboard") / "results"
    if to is None and not here.is_dir():
        raise SubmissionError(
            f"There is no {here} here. Go to a checkout of offlinemeta, or name the folder with --to."
        )
    found, home = place(path, to or here, replace)
    say(console, _verdict(found, listed=False))
    say(console, f"written: {home}")
    say(console, f"To publish it: git add {home}, commit, and open a pull request.")


@app.command(
    epilog="Examples:\n\n  offlinemeta leaderboard schema result > result.schema.json\n\n"
    "  offlinemeta leaderboard schema method"
)
def schema(
    of: Annotated[str, typer.Argument(help="result, for result files; or method, for method.yaml.")] = "result",
) -> None:
    """Print the JSON Schema of result files, or of method.yaml, for tools of any language."""
    import json

    from offlinemeta.leaderboard.schema import json_schema

    typer.echo(json.dumps(json_schema(of), indent=1))
