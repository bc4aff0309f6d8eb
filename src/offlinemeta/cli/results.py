"""The commands ``offlinemeta evaluate`` and ``offlinemeta report``. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

console = Console()

EVALUATE_EPILOG = (
    "Examples:\n\n  offlinemeta evaluate AntDir/smac/online-10 --agent random\n\n"
    "  offlinemeta evaluate PointRobot/smac/online-10 --checkpoint out/runs/PointRobot-smac/bc-s0/agent.safetensors\n\n"
    "  offlinemeta evaluate CheetahVel/smac/online-10 --agent pearl-online --stage 3\n\n"
    "  offlinemeta evaluate AntDir/smac/offline-context --agent mymodule:MyAgent --checkpoint my.safetensors "
    "--trained-on AntDir/smac --gradient-steps 10000 --seed 0 --out mine.json"
)
REPORT_EPILOG = (
    "Examples:\n\n  offlinemeta report out/runs\n\n  offlinemeta report leaderboard/results --out report\n\n"
    "  offlinemeta report a.json b.json --pdf\n\n"
    "  offlinemeta report leaderboard/results --out docs/study --readme README.md"
)


def evaluate(
    benchmark: Annotated[
        str, typer.Argument(help="The benchmark, family/quality/protocol, such as AntDir/smac/online-10.")
    ],
    agent: Annotated[
        str,
        typer.Option(
            help="random, expert, checkpoint (for an agent file of ours), pearl-online (as it ships for some "
            "families), or module:Class, called as Class(family, checkpoint)."
        ),
    ] = "checkpoint",
    checkpoint: Annotated[Path | None, typer.Option(help="File that is given to the agent.")] = None,
    stage: Annotated[
        int | None, typer.Option(min=1, help="Stage of pearl-online's training, of ten; by default, the last.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Name under which the result is listed; by default, the agent's name.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seed of the evaluation; by default, that of the checkpoint's training, or 0. For an agent of another "
            "project it is the seed of its training too.",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Number of evaluations of each task; returns are averaged.")] = 3,
    trained_on: Annotated[
        str | None, typer.Option(help="The dataset that the agent was trained on, such as AntDir/smac.")
    ] = None,
    gradient_steps: Annotated[
        int, typer.Option(min=0, help="Gradient steps of its training; a fit in closed form counts as one.")
    ] = 0,
    env_steps: Annotated[int, typer.Option(min=0, help="Env steps of its training, beyond the logged data.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File for the result, as JSON.")] = None,
) -> None:
    """Evaluate any agent by a benchmark's protocol, such as online-10, offline-context or zero-shot."""
    from offlinemeta.benchmark.agent import BUILTIN, load_agent
    from offlinemeta.benchmark.fields import check_agent, check_method
    from offlinemeta.benchmark.protocol import get_benchmark
    from offlinemeta.benchmark.result import Provenance, about_here, make_result, write_result
    from offlinemeta.benchmark.runner import evaluate as run
    from offlinemeta.console import bar, say
    from offlinemeta.datasets.loading import load
    from offlinemeta.datasets.manifest import origin
    from offlinemeta.envs import get_family
    from offlinemeta.envs.errors import ArgumentError
    from offlinemeta.files import check_replaceable, sha256
    from offlinemeta.leaderboard import table

    chosen = get_benchmark(benchmark)
    family = get_family(chosen.family)
    if method is not None:
        check_method(method)
    if out is not None:
        check_replaceable(out)
    if stage is not None and agent != "pearl-online":
        raise ArgumentError(f"--stage is of the agent pearl-online, not of {agent}. Leave it out.")
    loaded: Any = load_agent(agent, family, checkpoint)
    about: dict[str, Any] = {}
    if agent == "pearl-online":
        from offlinemeta.baselines.training.stages import load_stage, shipped

        checkpoint = checkpoint or shipped(family)
        loaded, about = load_stage(checkpoint, family, stage)
    if agent in ("checkpoint", "pearl-online") and (trained_on or gradient_steps or env_steps):
        raise ArgumentError(f"The file of {agent} says how it was trained. Leave --trained-on and the steps out.")
    data = load(trained_on, rebuild=False, console=console) if trained_on is not None else None
    if agent == "checkpoint" and checkpoint is not None:
        from offlinemeta.baselines.training.checkpoint import describe

        about = describe(checkpoint)  # our own files describe their training
    check_agent(BUILTIN.get(agent, agent))
    listed = check_method(method or about.get("name") or agent.rpartition(":")[2])
    seed = about.get("seed", 0) if seed is None else seed
    logged = load(chosen.dataset, console=console) if chosen.protocol.offline else None
    steps = len(family.tasks[chosen.protocol.split]) * repeats * chosen.protocol.episodes * family.horizon
    with bar(Console(stderr=True)) as track:
        returns = run(loaded, chosen, seed, repeats, logged, track(chosen.name, steps))
    context = origin(logged.spec.id, logged.hash) if logged is not None else {}
    hashed = sha256(checkpoint) if checkpoint is not None else ""
    provenance = Provenance(
        dataset=origin(data.spec.id, data.hash) if data is not None else {},
        context=context,
        gradient_steps=gradient_steps,
        env_steps=env_steps,
        checkpoint=hashed,
        evaluation_seed=seed,
        **about_here(),
    )
    if about:
        training = {"config": about["config"], "gradient_steps": about["step"], "env_steps": about["env_steps"]}
        training |= {"dataset": origin(about["dataset"], about["sha256"]), "wall_time": about["seconds"]}
        provenance = provenance.model_copy(update=training)
    result = make_result(
        chosen,
        listed,
        BUILTIN.get(agent, agent),
        returns,
        repeats,
        about.get("seed", seed),
        sees_task=hasattr(loaded, "tell"),
        provenance=provenance,
    )
    if out is not None:  # before it is shown: whatever goes wrong with a terminal must not lose it
        write_result(result, out)
    curve = ", ".join(f"{value:.1f}" for value in returns.mean(0))
    say(console, f"{chosen.name}: mean return of each episode {curve}")
    Console(width=max(console.width, 180)).print(table.table(table.summarise([result])))
    if out is not None:
        say(console, f"written: {out}")


def report(
    results: Annotated[
        list[Path], typer.Argument(help="Result files, or folders of them; results that differ in the seed are joined.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables, the picture and the page.")] = Path("out/report"),
    readme: Annotated[
        Path | None, typer.Option(help="A Markdown file with a place for results, in which a short table is written.")
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Write the picture as a PDF file too.")] = False,
) -> None:
    """Draw results: tables (report.md), adaptation.png, and report.html, one page that needs no network."""
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
