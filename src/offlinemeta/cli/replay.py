"""The command ``offlinemeta leaderboard replay``. Heavy imports stay inside the command."""

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

console = Console()

EPILOG = (
    "Examples:\n\n  offlinemeta leaderboard replay mine --cell PointRobot/smac/online-3 --seed 0\n\n"
    "  offlinemeta leaderboard replay leaderboard/results/smac --cell AntDir/smac/online-10 --seed 2 "
    "--checkpoint agent.safetensors\n\n"
    "  offlinemeta leaderboard replay mine --cell PointRobot/smac/online-3 --seed 0 --evaluation-seed 1234"
)


def replay(
    path: Annotated[Path, typer.Argument(help="The folder of the method, with its method.yaml.")],
    cell: Annotated[str, typer.Option(help="The benchmark to replay, as family/quality/protocol.")],
    seed: Annotated[int, typer.Option(min=0, help="The seed of the result to replay.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The checkpoint; by default, the file with the right hash in the method's checkpoints folder."
        ),
    ] = None,
    evaluation_seed: Annotated[
        int | None,
        typer.Option(min=0, help="Another seed of the evaluation, to see whether the submitted seed was a lucky one."),
    ] = None,
) -> None:
    """Evaluate a submitted checkpoint again, and say whether the numbers hold.

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
