"""The command ``offlinemeta evaluate``. Heavy imports stay inside the functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from offlinemeta.benchmark.protocol import Benchmark
    from offlinemeta.benchmark.result import Provenance, Result
    from offlinemeta.envs import TaskFamily

console = Console()

EPILOG = (
    "Examples:\n\n  offlinemeta evaluate AntDir/smac/online-10 --agent random\n\n"
    "  offlinemeta evaluate smoke --agent mymodule:MyAgent\n\n"
    "  offlinemeta evaluate PointRobot/smac/online-10 --checkpoint out/runs/PointRobot-smac/bc-s0/agent.safetensors\n\n"
    "  offlinemeta evaluate CheetahVel/smac/online-10 --agent pearl-online --stage 3\n\n"
    "  offlinemeta evaluate core --agent mymodule:MyAgent --method mine --seed 0 --gradient-steps 10000 "
    "--checkpoint 'trained/{family}-s0.safetensors' --trained-on '{family}/{quality}' --out mine"
)


@dataclass(frozen=True)
class Asked:
    """Which agent is to be evaluated, and what is known of its training; see the options of :func:`evaluate`."""

    agent: str
    checkpoint: str | None
    stage: int | None
    method: str | None
    seed: int | None
    repeats: int
    trained_on: str | None
    gradient_steps: int
    env_steps: int


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            help="A benchmark, named family/quality/protocol, such as AntDir/smac/online-10; or a suite of benchmarks: "
            "smoke, core, study or full."
        ),
    ],
    agent: Annotated[
        str,
        typer.Option(
            help="random, expert, checkpoint (an agent file of this package), pearl-online (which the package includes "
            "for some families), or module:Class, called as Class(family, checkpoint)."
        ),
    ] = "checkpoint",
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="File that is passed to the agent. {family} and {quality} stand for those of each benchmark."
        ),
    ] = None,
    stage: Annotated[
        int | None,
        typer.Option(min=1, help="Which of the ten stages of pearl-online's training; by default, the last."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Name under which the result is listed; by default, the agent's name.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seed of the evaluation; by default, the seed of the checkpoint's training, or 0. For an agent of "
            "another project, it is also the seed of its training.",
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of evaluations of each task; their returns are averaged.")
    ] = 3,
    trained_on: Annotated[
        str | None,
        typer.Option(
            help="The dataset that the agent was trained on, such as AntDir/smac; {family}/{quality} stands for the "
            "dataset of each benchmark."
        ),
    ] = None,
    gradient_steps: Annotated[
        int, typer.Option(min=0, help="Gradient steps of the agent's training; a fit in closed form counts as one.")
    ] = 0,
    env_steps: Annotated[
        int, typer.Option(min=0, help="Env steps of the agent's training, beyond the logged data.")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A .json file for the result; or a folder, in which results are placed as in a submission: "
            "FAMILY-QUALITY/PROTOCOL-sSEED.json. Repeating the command evaluates only what is missing."
        ),
    ] = None,
) -> None:
    """Evaluate any agent with a benchmark's protocol, such as online-10 or offline-context, or on a whole suite."""
    from offlinemeta.benchmark.fields import check_method
    from offlinemeta.benchmark.protocol import get_benchmark
    from offlinemeta.benchmark.suite import SUITES
    from offlinemeta.envs.errors import ArgumentError, UnknownNameError
    from offlinemeta.files import check_replaceable, check_writable
    from offlinemeta.leaderboard import table

    if "/" not in what and what not in SUITES:
        raise UnknownNameError("Suite, or benchmark family/quality/protocol,", what, SUITES)
    benchmarks = [get_benchmark(name) for name in (SUITES[what].benchmarks if what in SUITES else (what,))]
    asked = Asked(agent, checkpoint, stage, method, seed, repeats, trained_on, gradient_steps, env_steps)
    if method is not None:
        check_method(method)
    single = out is not None and out.suffix == ".json"
    if single and len(benchmarks) > 1:
        raise ArgumentError(f"The results of a suite need a folder, not a file: --out {out}. Leave .json out.")
    if out is not None:
        (check_replaceable if single else check_writable)(out)
    if stage is not None and agent != "pearl-online":
        raise ArgumentError(f"--stage is of the agent pearl-online, not of {agent}. Leave it out.")
    if agent in ("checkpoint", "pearl-online") and (trained_on or gradient_steps or env_steps):
        raise ArgumentError(f"The file of {agent} says how it was trained. Leave --trained-on and the steps out.")
    results = [_of_benchmark(benchmark, asked, out, single) for benchmark in benchmarks]
    Console(width=max(console.width, 180)).print(table.table(table.summarise(results)))
    if out is not None:
        from offlinemeta.console import say

        say(console, f"written: {out}")


def _of_benchmark(benchmark: Benchmark, asked: Asked, out: Path | None, single: bool) -> Result:
    """Return the result of one benchmark, evaluated now or before, and write it if it is to be written."""
    from offlinemeta.benchmark.agent import BUILTIN
    from offlinemeta.benchmark.fields import check_agent, check_method
    from offlinemeta.benchmark.result import make_result, result_place, write_result
    from offlinemeta.benchmark.runner import evaluate as play
    from offlinemeta.console import bar, say
    from offlinemeta.datasets.loading import load
    from offlinemeta.datasets.manifest import origin
    from offlinemeta.envs import get_family

    family, names = get_family(benchmark.family), {"{family}": benchmark.family, "{quality}": benchmark.quality}

    def filled(text: str | None) -> str | None:
        for name, value in names.items():
            text = text.replace(name, value) if text is not None else None
        return text

    given = filled(asked.checkpoint)
    loaded, checkpoint, about = _agent(asked, family, Path(given) if given is not None else None)
    agent = check_agent(BUILTIN.get(asked.agent, asked.agent))
    listed = check_method(asked.method or about.get("name") or asked.agent.rpartition(":")[2])
    seed = about.get("seed", 0) if asked.seed is None else asked.seed
    trained_on = filled(asked.trained_on)
    data = load(trained_on, rebuild=False, console=console) if trained_on is not None else None
    provenance = _provenance(asked, checkpoint, seed, about)
    if data is not None:
        provenance = provenance.model_copy(update={"dataset": origin(data.spec.id, data.hash)})
    training = about.get("seed", seed)
    file = out if out is None or single else out / result_place(benchmark.name, training)
    if file is not None and not single and file.exists():
        kept = _kept(file, listed, agent, asked.repeats, provenance)
        if kept is not None:
            say(console, f"{benchmark.name}: kept from before; delete {file} to evaluate it anew")
            return kept
    logged = load(benchmark.dataset, console=console) if benchmark.protocol.offline else None
    if logged is not None:
        provenance = provenance.model_copy(update={"context": origin(logged.spec.id, logged.hash)})
    steps = len(family.tasks[benchmark.protocol.split]) * asked.repeats * benchmark.protocol.episodes * family.horizon
    with bar(Console(stderr=True)) as track:
        returns = play(loaded, benchmark, seed, asked.repeats, logged, track(benchmark.name, steps))
    result = make_result(
        benchmark,
        listed,
        agent,
        returns,
        asked.repeats,
        training,
        sees_task=hasattr(loaded, "tell"),
        provenance=provenance,
    )
    if file is not None:  # before it is shown: whatever goes wrong with a terminal must not lose it
        write_result(result, file)
    curve = ", ".join(f"{value:.1f}" for value in returns.mean(0))
    say(console, f"{benchmark.name}: mean return of each episode {curve}")
    return result


def _agent(asked: Asked, family: TaskFamily, checkpoint: Path | None) -> tuple[Any, Path | None, dict[str, Any]]:
    """Return the agent, the file that holds it, and what a file of ours says of its training."""
    from offlinemeta.benchmark.agent import load_agent

    loaded: Any = load_agent(asked.agent, family, checkpoint)
    if asked.agent == "pearl-online":
        from offlinemeta.baselines.training.stages import load_stage, shipped

        checkpoint = checkpoint or shipped(family)
        loaded, about = load_stage(checkpoint, family, asked.stage)
        return loaded, checkpoint, about
    if asked.agent == "checkpoint" and checkpoint is not None:
        from offlinemeta.baselines.training.checkpoint import describe

        return loaded, checkpoint, describe(checkpoint)
    return loaded, checkpoint, {}


def _provenance(asked: Asked, checkpoint: Path | None, seed: int, about: dict[str, Any]) -> Provenance:
    """Return where the result comes from, but for the datasets that have to be loaded."""
    from offlinemeta.benchmark.result import Provenance, about_here
    from offlinemeta.datasets.manifest import origin
    from offlinemeta.files import sha256

    said: dict[str, Any] = {"gradient_steps": asked.gradient_steps, "env_steps": asked.env_steps}
    if about:
        said = {"config": about["config"], "gradient_steps": about["step"], "env_steps": about["env_steps"]}
        said |= {"dataset": origin(about["dataset"], about["sha256"]), "wall_time": about["seconds"]}
    hashed = sha256(checkpoint) if checkpoint is not None else ""
    return Provenance(checkpoint=hashed, evaluation_seed=seed, **said, **about_here())


def _kept(file: Path, method: str, agent: str, repeats: int, now: Provenance) -> Result | None:
    """Return the result that a file holds, if it is of the evaluation that is asked for; None if it is to be replaced.

    Raises:
        ArgumentError: it is of another method or agent, and is not overwritten.
        ResultError: it cannot be read.
    """
    from offlinemeta.benchmark.result import read_result
    from offlinemeta.envs.errors import ArgumentError

    there = read_result(file)
    if (there.method, there.agent) != (method, agent):
        raise ArgumentError(
            f"{file} is of {there.method} ({there.agent}), not of {method} ({agent}), and is not overwritten. Choose "
            f"another folder with --out, or delete it."
        )
    names = ("checkpoint", "evaluation_seed", "dataset", "gradient_steps", "env_steps")
    same = all(getattr(there.provenance[0], name) == getattr(now, name) for name in names)
    return there if same and there.repeats == repeats else None
