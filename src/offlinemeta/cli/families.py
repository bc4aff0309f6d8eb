"""The commands ``offlinemeta envs`` and ``offlinemeta behaviour``. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

console = Console()

ENVS_EPILOG = (
    "Examples:\n\n  offlinemeta envs\n\n  offlinemeta envs AntDir\n\n"
    "  offlinemeta envs AntDir --film out.mp4 --task 3\n\n"
    "  offlinemeta envs PointRobot --film goal.gif --policy scripted --split test\n\n"
    "  offlinemeta envs SawyerScene --film block.mp4 --policy move_block\n\n"
    "  offlinemeta envs SawyerScene --film logged.mp4 --policy random-behaviour --task 3\n\n"
    "  offlinemeta envs AntDir --film third.mp4 --split val --policy out/runs/AntDir-smac/smac-s0/agent.safetensors"
)
BEHAVIOUR_EPILOG = "Example:\n\n  offlinemeta behaviour"


def envs(
    family: Annotated[str | None, typer.Argument(help="A family to show in detail, such as AntDir.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List each ML1 family on its own line.")] = False,
    film: Annotated[Path | None, typer.Option(help="Write a film of one episode to this .mp4 or .gif file.")] = None,
    split: Annotated[str, typer.Option(help="Split of the filmed task: train, val, test, test100 or ood.")] = "train",
    task: Annotated[
        int | None,
        typer.Option(help="Index of the filmed task; by default 0, or the first task with the policy's aim."),
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="Who acts in the film: random, scripted or expert (if the family has one); in the manipulation scenes "
            "also random-behaviour or an aim, such as move_block; or an agent file of this package, agent.safetensors."
        ),
    ] = "random",
    rollout: Annotated[
        int,
        typer.Option(min=1, help="Which of an agent's rollouts is filmed; the agent has adapted to the earlier ones."),
    ] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the film.")] = 0,
) -> None:
    """List the task families, show one family, or film one of its tasks."""
    from offlinemeta.cli import film as films
    from offlinemeta.cli import show
    from offlinemeta.cli.training import require_torch
    from offlinemeta.envs import get_family
    from offlinemeta.envs.checks import check_count
    from offlinemeta.envs.errors import ArgumentError
    from offlinemeta.envs.task import check_split
    from offlinemeta.files import check_replaceable

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
    check_replaceable(film)
    who = f"{policy} policy"
    if policy.endswith(".safetensors"):
        require_torch("An agent of ours")
        who = f"rollout {rollout} of {policy}"
    filmed = films.get_task(chosen, split, task, policy)
    actor = films.get_policy(chosen, filmed, policy, seed, rollout)
    total = films.film_episode(chosen, film, filmed, actor, seed, console)
    aim = f" ({described})" if (described := chosen.describe(filmed.params)) else ""
    shown = f"{film}: {filmed}{aim}, {who}, return {total:.1f}"
    console.print(escape(shown), highlight=False, soft_wrap=True)


def behaviour() -> None:
    """List the behaviour policies of this package, with their returns and the cost of their training."""
    from offlinemeta.cli import show

    Console(width=max(console.width, 120)).print(show.behaviour_list())
