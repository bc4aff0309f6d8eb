"""Builds the leaderboard's static site from raw results: pages that need no network and no server."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from offlinemeta.benchmark.result import Result, join_all, place, read_result, result_files, write_result
from offlinemeta.datasets.spec import REFERENCES
from offlinemeta.envs.errors import ArgumentError, MissingExtraError
from offlinemeta.files import FileError, check_writable
from offlinemeta.leaderboard.aggregate import as_csv
from offlinemeta.leaderboard.method import FILE, find_methods, method_files
from offlinemeta.leaderboard.pages import SPLIT_REMARKS, pages
from offlinemeta.leaderboard.pages.board import WHY, Board
from offlinemeta.leaderboard.rules import RULES
from offlinemeta.leaderboard.style import COLOURS, GREY, on_dark
from offlinemeta.leaderboard.table import TO_CHOOSE_BY, summarise

MARK = ".offlinemeta-site"
"""A file that says that a folder is such a site, which may be replaced."""

STATIC = ("site.css", "site.js", "theme.js")
NAVIGATION = {
    "index.html": "Overview",
    "index.html#families": "Families",
    "index.html#methods": "Methods",
    "results.html": "All results",
    "claims.html": "Claims",
    "reading.html": "How to read",
    "submitting.html": "Submit",
    "versions.html": "Versions",
}
ABOUT = "Scores of offline meta-reinforcement learning methods, with intervals, adaptation curves and raw results."


def build(paths: Sequence[Path], out: Path) -> Board:
    """Build the site in a folder, which takes the place of an older one at once or not at all.

    Args:
        paths: result files, or folders of them, with their ``method.yaml`` and films (``*.mp4``).
        out: the site's folder: a new one, an empty one, or that of an older site.

    Returns:
        What the site shows.

    Raises:
        ResultError: a result or a description is damaged, or there are none.
        MissingExtraError: altair is not installed.
        FileError: something cannot be written, or the folder holds something else than a site.
    """
    try:
        import altair  # noqa: F401
        import vl_convert
    except ImportError as error:
        raise MissingExtraError("plots", "Building the site") from error
    files = result_files(paths)
    raw = [read_result(file) for file in files]
    methods = find_methods(paths)
    rows = summarise(join_all(raw))
    with _replacing(out) as draft:
        for file, result in zip(files, raw, strict=True):
            _copy(file, result, draft / "raw")
        shutil.copyfile(REFERENCES, draft / REFERENCES.name)
        for file in method_files(paths):  # whose folder has the method's name
            (draft / "raw" / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, draft / "raw" / file.parent.name / FILE)
        films = _films(paths, {result.method for result in raw}, draft)
        board = Board(rows, methods, films)
        _write(board, draft)
        (draft / "vega.js").write_text(vl_convert.javascript_bundle(), encoding="utf-8")  # type: ignore[call-arg]
        (draft / "results.csv").write_text(as_csv(board.cells), encoding="utf-8")
    return board


def _write(board: Board, folder: Path) -> None:
    """Write the pages and what they share."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("offlinemeta.leaderboard"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {
        "pages": NAVIGATION.items(),
        "about": ABOUT,
        "styles": board.styles,
        "badges": board.badges,
        "why": WHY,
        "on_dark": on_dark,
        "rules": RULES.items(),
        "dark": json.dumps({colour: on_dark(colour) for colour in (*COLOURS, GREY)}),
        "splits": SPLIT_REMARKS,
        "to_choose_by": TO_CHOOSE_BY,
    }
    for file, template, content in pages(board):
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        root = "../" * file.count("/")
        html = environment.get_template(f"site/{template}.html.jinja").render(content, root=root, here=file)
        target.write_text(html, encoding="utf-8")
    for name in STATIC:
        shutil.copyfile(Path(__file__).parent / "templates" / "site" / name, folder / name)


def _copy(file: Path, result: Result, folder: Path) -> None:
    """Copy a raw result to its place; one of several seeds as a file for each."""
    if len(result.seeds) > 1:
        for seed in result.seeds:
            one = result.of_seeds([seed])
            write_result(one, place(folder, one))
        return
    target = place(folder, result)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def _films(paths: Sequence[Path], methods: set[str], draft: Path) -> dict[str, dict[str, str]]:
    """Copy the films that lie in the folders of methods; return captions by place, by method. Links are left out."""
    found: dict[str, dict[str, str]] = {}
    for path in paths:
        for film in sorted(path.rglob("*.mp4")) if path.is_dir() else []:
            method = next((folder.name for folder in film.parents if folder.name in methods), None)
            if method is None or film.is_symlink() or not film.is_file():
                continue
            own = found.setdefault(method, {})
            target = Path("films") / method / f"{len(own)}.mp4"
            (draft / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(film, draft / target)
            own[target.as_posix()] = film.stem
    return found


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Give a new folder, which takes the place of ``out`` when the block ends without an error."""
    out = out.resolve()
    if out.exists() and not (out.is_dir() and ((out / MARK).exists() or not any(out.iterdir()))):
        raise FileError(f"{out} holds something else than a site, and is left alone. Choose another place with --out.")
    check_writable(out.parent)
    draft, old = (out.with_name(f".{out.name}.{os.getpid()}.{what}") for what in ("draft", "old"))
    try:
        draft.mkdir()
        (draft / MARK).touch()
        yield draft
        if out.exists():
            out.rename(old)
        draft.rename(out)
    except OSError as error:
        raise FileError(f"{out} could not be written: {error.strerror or error}. What was there is kept.") from error
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for left in (draft, old):
            shutil.rmtree(left, ignore_errors=True)


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of a site, for this machine alone.

    Args:
        folder: the site.
        port: the port; 0 for any that is free.

    Raises:
        ArgumentError: there is no site, or the port is taken.
    """
    if not (folder / MARK).exists():
        raise ArgumentError(f"There is no site in {folder}. Build it: offlinemeta leaderboard build --out {folder}")
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=str(folder)))
    except OSError as error:
        raise ArgumentError(f"Port {port} cannot be served: {error.strerror}. Choose another with --port.") from error


class _Quiet(SimpleHTTPRequestHandler):
    """Serves files without a line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        pass
