"""The commands ``offlinemeta methods``, ``train`` and ``demo``. Heavy imports stay inside the commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()


def methods(
    name: Annotated[str | None, typer.Argument(help="A method to show in detail, such as smac.")] = None,
    preset: Annotated[str, typer.Option(help="The preset whose values are shown.")] = "default",
) -> None:
    """List the methods that can be trained, or show the presets and config fields of one method."""
    require_torch("Listing the methods")
    from offlinemeta.cli import show

    wide = Console(width=max(console.width, 120))
    wide.print(show.method_list() if name is None else show.method_detail(name, preset))


def train(
    method: Annotated[str, typer.Argument(help="The method to train; `offlinemeta methods` lists them.")],
    dataset: Annotated[str, typer.Argument(help="The dataset to train on, such as AntDir/smac.")],
    fields: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[--FIELD=VALUE]...", help="Fields of the config; `offlinemeta methods METHOD` lists them."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed for all randomness in training and evaluation.")] = 0,
    preset: Annotated[
        str,
        typer.Option(
            help="Preset of the config: default, smoke (takes seconds) or paper (published sizes and schedule)."
        ),
    ] = "default",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; by default out/runs/<dataset>/<method>-s<seed>.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run that is in the folder.")] = False,
    branch: Annotated[
        Path | None,
        typer.Option(help="Folder of another run: begin at the end of the last phase that both runs share."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device, cpu or cuda; by default, cuda where it is available.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Number of threads of torch; at these network sizes, one is as fast as two.")
    ] = 1,
    protocols: Annotated[
        str, typer.Option(help="Comma-separated protocols that are evaluated at the end of each phase.")
    ] = "online-10,offline-context",
    watch: Annotated[
        int,
        typer.Option(
            min=0, help="Gradient steps between two evaluations on training tasks, which give the curves; 0 for none."
        ),
    ] = 5000,
) -> None:
    """Train a method on a dataset, and evaluate it. Every field of its config is an option, such as --lr=1e-3."""
    require_torch("Training")
    import torch

    from offlinemeta.baselines.registry import make_config
    from offlinemeta.baselines.training.hardware import check_device, keep_memory
    from offlinemeta.baselines.training.loop import train as train_run
    from offlinemeta.baselines.training.run import Run, run_folder
    from offlinemeta.console import say
    from offlinemeta.datasets.spec import get_spec
    from offlinemeta.envs.errors import ArgumentError

    torch.set_num_threads(threads)
    keep_memory()
    spec = get_spec(dataset)
    if spec.heldout:
        raise ArgumentError(
            f"{spec.id} holds data of held-out tasks, only for evaluation. Train on {spec.family}/{spec.quality}."
        )
    run = Run(
        method=method,
        config=make_config(method, preset, parse_overrides(fields or [])),
        spec=spec,
        seed=seed,
        folder=out or run_folder(Path("out/runs"), spec, method, seed),
        device=check_device(device),
        protocols=tuple(name for name in protocols.split(",") if name),
        watch=watch,
    )
    for file in train_run(run, resume, branch, console):
        say(console, f"written: {file}")


def demo(
    data: Annotated[str | None, typer.Argument(help="Dataset to train on; by default, CheetahVel/smac.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs, the picture, the page and the films.")] = Path("out"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the trainings.")] = 0,
    preset: Annotated[
        str, typer.Option(help="Preset of the methods' configs: demo, or smoke to check that the demo runs.")
    ] = "demo",
) -> None:
    """Train offline PEARL and SMAC, and show how they adapt to held-out tasks. It takes minutes."""
    require_torch("The demo")
    from offlinemeta.cli.demo import run

    run(data, out, seed, preset, console)


def require_torch(what: str) -> None:
    """Make sure that torch is installed.

    Raises:
        MissingExtraError: torch is not installed.
    """
    import importlib.util

    from offlinemeta.envs.errors import MissingExtraError

    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("baselines", what)


def parse_overrides(arguments: Sequence[str]) -> dict[str, str]:
    """Return config fields from arguments of the form ``--field=value`` or ``--field value``.

    Raises:
        ArgumentError: an argument has neither form.
    """
    from offlinemeta.envs.errors import ArgumentError

    overrides, rest = {}, list(arguments)
    while rest:
        first = rest.pop(0)
        field, equals, value = first.removeprefix("--").partition("=")
        if not first.startswith("--") or (not equals and not rest):
            raise ArgumentError(f"{first!r} is no option. A field of the config is set as --field=value.")
        overrides[field.replace("-", "_")] = value if equals else rest.pop(0)
    return overrides


METHODS_EPILOG = (
    "Examples:\n\n  offlinemeta methods\n\n  offlinemeta methods smac\n\n  offlinemeta methods smac --preset paper"
)
DEMO_EPILOG = "Examples:\n\n  offlinemeta demo\n\n  offlinemeta demo AntDir/smac --out out/ant"
TRAIN_EPILOG = (
    "Examples:\n\n  offlinemeta train smac CheetahVel/smac\n\n"
    "  offlinemeta train pearl AntDir/smac --seed 1 --lr=3e-4\n\n"
    "  offlinemeta train oracle CheetahVel/smac --branch out/runs/CheetahVel-smac/smac-s0\n\n"
    "  offlinemeta train smac PointRobot/smac --preset smoke --out /tmp/run\n\n"
    "  offlinemeta train smac CheetahVel/smac --resume"
)
