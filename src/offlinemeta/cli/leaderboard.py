"""``offlinemeta leaderboard``: check, submit and replay results. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from offlinemeta.benchmark.result import Result
    from offlinemeta.envs import TaskFamily
    from offlinemeta.leaderboard.replay import Replay
    from offlinemeta.leaderboard.submission import Submission

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Check submissions, place them among the results, evaluate their checkpoints once more.",
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
    path: Annotated[Path, typer.Argument(help="The folder of a method, or one that holds several of them.")],
    listed: Annotated[
        bool,
        typer.Option(
            "--listed", help="They were listed before: what later rules ask for may be missing, and is only named."
        ),
    ] = False,
    against: Annotated[
        Path | None, typer.Option(help="Results as they were: only methods that differ from those are checked.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="A file to which the rows and the faults are appended as Markdown.")
    ] = None,
) -> None:
    """Check submissions by the rules of the leaderboard, and show their rows. Nothing in them is run."""
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
        typer.Option(help="Folder of results; by default, leaderboard/results of the checkout that you are in."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an earlier submission of the same authors and code.")
    ] = False,
) -> None:
    """Check a submission, and copy it to its place among the results; a pull request makes it public."""
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


@app.command(
    epilog="Examples:\n\n  offlinemeta leaderboard replay mine --cell PointRobot/smac/online-3 --seed 0\n\n"
    "  offlinemeta leaderboard replay leaderboard/results/smac --cell AntDir/smac/online-10 --seed 2 "
    "--checkpoint agent.safetensors\n\n"
    "  offlinemeta leaderboard replay mine --cell PointRobot/smac/online-3 --seed 0 --evaluation-seed 1234"
)
def replay(
    path: Folder,
    cell: Annotated[str, typer.Option(help="Which benchmark, as family/quality/protocol.")],
    seed: Annotated[int, typer.Option(min=0, help="Which of its seeds.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The checkpoint; by default, that of its checkpoints folder with the right hash."),
    ] = None,
    evaluation_seed: Annotated[
        int | None,
        typer.Option(min=0, help="Another seed of the evaluation, to see whether the submitted one was a lucky one."),
    ] = None,
) -> None:
    """Evaluate a submitted checkpoint once more, and say whether the numbers hold.

    This runs the class that the result names, as it is installed here: replay only code that you trust.
    """
    from offlinemeta.benchmark.protocol import get_benchmark
    from offlinemeta.benchmark.result import about_here
    from offlinemeta.benchmark.runner import evaluate
    from offlinemeta.console import bar, say
    from offlinemeta.envs import get_family
    from offlinemeta.leaderboard.folder import SubmissionError
    from offlinemeta.leaderboard.replay import compare
    from offlinemeta.leaderboard.submission import check as check_folder
    from offlinemeta.leaderboard.submission import raise_for

    found, benchmark = check_folder(path), get_benchmark(cell)
    raise_for(found, listed=True)
    fitting = [result for result in found.results.values() if (result.benchmark, result.seeds) == (cell, [seed])]
    if not fitting:
        there = sorted({f"{result.benchmark} of seed {result.seeds[0]}" for result in found.results.values()})
        raise SubmissionError(f"{path} has no result on {cell} of seed {seed}. It has {', '.join(there[:20])}.")
    (result,) = fitting
    provenance, family = result.provenance[0], get_family(benchmark.family)
    file = _checkpoint(found, result, checkpoint, family)
    agent = _agent(result, family, file)
    logged = None
    if benchmark.protocol.offline:
        from offlinemeta.datasets.loading import load

        logged = load(benchmark.dataset, console=console)
        if provenance.context and logged.hash != provenance.context.get("sha256"):
            raise SubmissionError(f"{logged.spec.id} is here with another content than that of the result.")
    used = evaluation_seed if evaluation_seed is not None else provenance.evaluation_seed
    steps = len(family.tasks[benchmark.protocol.split]) * result.repeats * benchmark.protocol.episodes * family.horizon
    with bar(Console(stderr=True)) as track:
        returns = evaluate(agent, benchmark, seed if used is None else used, result.repeats, logged, track(cell, steps))
    here = about_here()
    compared = compare(result, returns, here["versions"], here["machine"])
    for line in _sentences(compared, same_seed=evaluation_seed in (None, provenance.evaluation_seed)):
        say(console, line)
    if not compared.holds:
        raise typer.Exit(1)


def _checkpoint(found: Submission, result: Result, given: Path | None, family: TaskFamily) -> Path:
    """Return the file of a result's checkpoint, whose hash is the one that the result states."""
    from offlinemeta.files import sha256
    from offlinemeta.leaderboard.folder import SubmissionError, tensors_hash

    wanted = result.provenance[0].checkpoint
    if not wanted:
        raise SubmissionError(f"This result of {found.name} does not say which checkpoint was evaluated.")
    inside = [found.folder / name for name, hashed in found.checkpoints.items() if hashed == wanted]
    if given is None and not inside and result.agent.startswith(STAGES):
        from offlinemeta.baselines.training.stages import shipped

        given = shipped(family)
    if given is None and not inside:
        raise SubmissionError(f"{found.folder} has no checkpoint {wanted[:12]}.... Name its file with --checkpoint.")
    file = given if given is not None else inside[0]
    if not file.is_file() or tensors_hash(file) is None:
        raise SubmissionError(f"{file} is no safetensors file, and no other one is loaded.")
    if (hashed := sha256(file)) != wanted:
        raise SubmissionError(f"{file} is another checkpoint: {hashed[:12]}..., and the result's is {wanted[:12]}....")
    return file


STAGES = "offlinemeta.baselines.training.stages:"


def _agent(result: Result, family: TaskFamily, file: Path) -> Any:
    """Make the agent; of the stages of online PEARL in one file, the one with as many steps as the result says."""
    from offlinemeta.benchmark.agent import load_agent
    from offlinemeta.leaderboard.folder import SubmissionError

    if not result.agent.startswith(STAGES):
        return load_agent(result.agent, family, file)
    from offlinemeta.baselines.training.stages import load_stage
    from offlinemeta.files import read_tensors

    steps = [stage["step"] for stage in read_tensors(file, "numpy")[1]["stages"]]
    wanted = result.provenance[0].gradient_steps
    if wanted not in steps:
        raise SubmissionError(f"{file} has no stage of {wanted:,} gradient steps.")
    return load_stage(file, family, steps.index(wanted) + 1)[0]


def _sentences(compared: Replay, same_seed: bool) -> list[str]:
    """Say what came out of a replay."""
    if compared.equal:
        return ["The numbers hold: all returns are equal to the last digit."]
    said = [
        f"{compared.tasks} tasks have other returns. Return of the replay minus that of the result, mean over tasks:"
    ]
    for episode, (interval, p_value) in enumerate(zip(compared.differences, compared.p_values, strict=True), start=1):
        value, low, high = interval
        said.append(f"  episode {episode}: {value:.3f}, 95 % interval [{low:.3f}, {high:.3f}], p = {p_value:.3f}")
    said += [f"  differs here: {one}" for one in compared.changed]
    if same_seed and not compared.changed:
        said.append(
            "The seed, the versions and the machine are said to be the same, and then returns should be equal to the "
            "last digit: the agent has randomness that seed(seed) does not decide, or the processor is another."
        )
    how = f"at most {compared.points:.2g} points of score, p at least {min(compared.p_values):.3f}"
    verdict = "The numbers hold, within the noise of an evaluation" if compared.holds else "The numbers do not hold"
    return [*said, f"{verdict}: {how} (corrected for the number of episodes)."]
