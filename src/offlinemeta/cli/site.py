"""The commands ``offlinemeta leaderboard build`` and ``serve``. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()

BUILD_EPILOG = (
    "Examples:\n\n  offlinemeta leaderboard build --out out/site\n\n"
    "  offlinemeta leaderboard build --results leaderboard/results --results mine --out out/site\n\n"
    "  offlinemeta leaderboard build --results leaderboard/results --out out/site --readme README.md"
)
SERVE_EPILOG = "Examples:\n\n  offlinemeta leaderboard serve\n\n  offlinemeta leaderboard serve out/site --port 8001"


def build(
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of results; may be given several times. By default, the results of the package."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the site; an older site there is replaced.")] = Path("out/site"),
    readme: Annotated[
        Path | None, typer.Option(help="A Markdown file with a place for results, into which a short table is written.")
    ] = None,
) -> None:
    """Build the leaderboard from raw results: a site that needs no network, results.csv, and a table for a README."""
    import offlinemeta.leaderboard
    from offlinemeta.console import say
    from offlinemeta.files import fill
    from offlinemeta.leaderboard import site, table
    from offlinemeta.leaderboard.method import remarks

    paths = results or [Path(offlinemeta.leaderboard.__file__).parent / "results"]
    board = site.build(paths, out)
    if readme is not None:
        said = [*table.remarks(board.rows), *remarks(list(board.methods.values()))]
        fill(readme, "results", table.short(board.rows, said))
        say(console, f"written: {readme}")
    say(console, f"written: {out / 'index.html'}, to be opened in a browser; methods: {', '.join(board.names)}")


def serve(
    folder: Annotated[Path, typer.Argument(help="Folder of a site.")] = Path("out/site"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free port.")] = 8000,
) -> None:
    """Serve a site to browsers on this machine, until Ctrl-C."""
    from offlinemeta.console import say
    from offlinemeta.leaderboard import site

    with site.server(folder, port) as server:
        say(console, f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
