"""The command ``offlinemeta``, with one module for each command group. It imports everything; nothing imports it.

Heavy imports stay inside the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

import offlinemeta
from offlinemeta.cli import (
    belief,
    curves,
    datasets,
    evaluate,
    families,
    leaderboard,
    replay,
    report,
    run,
    site,
    training,
    trials,
)
from offlinemeta.console import printable, tolerate_any_encoding

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="A benchmark suite for offline meta-reinforcement learning.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(datasets.app, name="datasets")
leaderboard.app.command(epilog=replay.EPILOG)(replay.replay)
leaderboard.app.command(epilog=site.BUILD_EPILOG)(site.build)
leaderboard.app.command(epilog=site.SERVE_EPILOG)(site.serve)
app.add_typer(leaderboard.app, name="leaderboard")
app.command(epilog=families.ENVS_EPILOG)(families.envs)
app.command(epilog=families.BEHAVIOUR_EPILOG)(families.behaviour)
app.command(epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command(epilog=report.EPILOG)(report.report)
app.command(epilog=training.METHODS_EPILOG)(training.methods)
fields_as_options = {"ignore_unknown_options": True}  # --lr=1e-3
app.command(epilog=training.TRAIN_EPILOG, context_settings=fields_as_options)(training.train)
app.command(epilog=belief.EPILOG)(belief.belief)
app.command(epilog=curves.EPILOG)(curves.curves)
app.command(epilog=run.RUN_EPILOG)(run.run)
app.command(epilog=run.STUDY_EPILOG)(run.study)
app.command(epilog=trials.EPILOG)(trials.trials)
app.command(epilog=training.DEMO_EPILOG)(training.demo)
console = Console()


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """A benchmark suite for offline meta-reinforcement learning."""
    if show:
        console.print(f"offlinemeta {offlinemeta.__version__}", highlight=False)
        raise typer.Exit


def main() -> None:
    """Run the command line; errors that this package raises on purpose are shown as one line, without a traceback."""
    from offlinemeta.console import end_with_parent
    from offlinemeta.envs.errors import OfflineMetaError

    end_with_parent()
    tolerate_any_encoding()
    try:
        app()
    except OfflineMetaError as error:
        message = Text.assemble(("Error:", "bold red"), " ", printable(str(error)))
        Console(stderr=True).print(message, soft_wrap=True)
        sys.exit(error.exit_code)
