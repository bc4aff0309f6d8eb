"""The command ``offlinemeta``. Heavy imports stay inside the commands, so that ``--help`` is quick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

import offlinemeta
from offlinemeta.benchmark import cli_datasets, cli_results

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="A benchmark suite for offline meta-reinforcement learning.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_datasets.app, name="datasets")
app.command(epilog=cli_results.EVALUATE_EPILOG)(cli_results.evaluate)
app.command(epilog=cli_results.REPORT_EPILOG)(cli_results.report)
console = Console()


def main() -> None:
    """Run the command line; what this package raises on purpose is shown as one line, without a traceback."""
    from offlinemeta.envs.errors import OfflineMetaError

    try:
        app()
    except OfflineMetaError as error:
        Console(stderr=True).print("[bold red]Error:[/bold red]", escape(str(error)), highlight=False, soft_wrap=True)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    """A benchmark suite for offline meta-reinforcement learning."""
    if show:
        console.print(f"offlinemeta {offlinemeta.__version__}", highlight=False)
        raise typer.Exit


@app.command(
    epilog="Examples:\n\n  offlinemeta envs\n\n  offlinemeta envs AntDir\n\n"
    "  offlinemeta envs AntDir --film out.mp4 --task 3\n\n"
    "  offlinemeta envs PointRobot --film goal.gif --policy scripted --split test"
)
def envs(
    family: Annotated[str | None, typer.Argument(help="A family to show in detail, such as AntDir.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List each ML1 family on a line of its own.")] = False,
    film: Annotated[Path | None, typer.Option(help="Write a film of one episode: a .mp4 or a .gif.")] = None,
    split: Annotated[str, typer.Option(help="Of the filmed task: train, test or ood.")] = "train",
    task: Annotated[int, typer.Option(help="Index of the filmed task.")] = 0,
    policy: Annotated[
        str, typer.Option(help="Who acts in the film: random, scripted or expert, where there is one.")
    ] = "random",
    seed: Annotated[int, typer.Option(help="Of the film.")] = 0,
) -> None:
    """List the task families, show one, or film it."""
    from offlinemeta.benchmark import show
    from offlinemeta.envs import get_family
    from offlinemeta.envs.checks import check_count
    from offlinemeta.envs.errors import ArgumentError
    from offlinemeta.envs.task import check_split

    if family is None:
        if film is not None:
            raise ArgumentError("--film needs a family, for example: offlinemeta envs AntDir --film out.mp4")
        Console(width=max(console.width, 100)).print(show.family_list(every))  # names stay whole
        return
    chosen = get_family(family)
    check_split(split)
    if film is None:
        console.print(show.family_detail(chosen))
        return
    check_count("seed", seed, least=0)
    act = show.get_policy(chosen, policy, seed)
    total = show.film_episode(chosen, film, split, task, act, seed, console)
    shown = f"{film}: {chosen.task(task, split)}, {policy} policy, return {total:.1f}"
    console.print(escape(shown), highlight=False, soft_wrap=True)


@app.command(epilog="Example:\n\n  offlinemeta behaviour")
def behaviour() -> None:
    """List the behaviour policies that ship: how good they are, and what it took to train them."""
    from offlinemeta.benchmark import show

    Console(width=max(console.width, 120)).print(show.behaviour_list())
