"""Build the documentation's site: ``python docs/site/build.py``, or ``make docs``.

The pages are gathered in ``out/pages``: those of ``docs/``, those that are made from the package, so that no figure is
copied by hand, and some of other folders. Then Zensical makes the site of them in ``out/docs``, as ``mkdocs.yml`` says.

Pages may hold ``<!-- generate: WHAT ARGUMENT -->``, which is replaced by what :data:`GENERATORS` makes of it; and
formulas, ``\\(...\\)`` or ``\\[...\\]``, which become MathML, so that they need no script.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import families
import methods
import plots
from latex2mathml.converter import convert

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
TRIALS = ROOT / "leaderboard" / "trials"
OUT = ROOT / "out"

GENERATORS = {
    "families": lambda _: families.overview(),
    "qualities": lambda _: families.qualities(),
    "methods": lambda _: methods.overview(),
    "docstring": methods.docstring,
    "presets": methods.presets,
    "trials": lambda name: methods.trials(name, TRIALS),
    "protocols": lambda _: methods.protocols(),
}
"""What a page can ask for."""


def gather(folder: Path) -> None:
    """Write all pages and pictures of the site into a folder, which is emptied first.

    Raises:
        SystemExit: a page is not in the navigation of ``mkdocs.yml``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns("site"))
    cards = sorted(path.stem for path in (DOCS / "cards").glob("*.md"))
    made = {"contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")}
    made["cards/index.md"] = "# Dataset cards\n\n" + "".join(f"- [{name}]({name}.md)\n" for name in cards)
    for path in TRIALS.glob("*.md"):
        made[f"trials/{path.name}"] = path.read_text(encoding="utf-8")
    for name in families.shown():
        made[f"families/{name}.md"] = families.page(name, cards)
        made[f"families/tasks/{name}.svg"] = plots.task_plot(name)
    for place, content in made.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(content, encoding="utf-8")
    pages = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.md")}
    for place, path in pages.items():
        path.write_text(finish(path.read_text(encoding="utf-8"), place), encoding="utf-8")
    if lost := sorted(set(pages) - set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))):
        raise SystemExit(f"Not in the navigation of mkdocs.yml: {', '.join(lost)}.")


def finish(text: str, place: str) -> str:
    """Return a page as the site has it: filled in, with formulas as MathML and links to where pages lie on the site."""
    text = re.sub(r"<!-- generate: (\S+) ?(\S*) -->", lambda found: GENERATORS[found[1]](found[2]), text)
    text = re.sub(r"\]\((?:\.\./)+leaderboard/trials/", f"]({'../' * place.count('/')}trials/", text)
    text = text.replace("](cards)", "](cards/index.md)")
    for pattern, display in ((r"\\\((.+?)\\\)", "inline"), (r"\\\[(.+?)\\\]", "block")):
        text = re.sub(pattern, lambda found, d=display: _formula(found[1], d), text, flags=re.DOTALL)
    return text


def _formula(latex: str, display: str) -> str:
    math = convert(" ".join(latex.split()), display=display)
    return f'<span class="math">{math}</span>' if display == "inline" else f'<div class="math">{math}</div>'


def make(out: Path = OUT) -> None:
    """Build the site in ``out/docs``.

    Raises:
        CalledProcessError: Zensical has found something wrong, such as a link that leads nowhere.
    """
    gather(out / "pages")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for name in ("src", "docs/site/roles.py"):
        settings = settings.replace(f"[{name}]", f"[{ROOT / name}]")
    (out / "mkdocs.yml").write_text(settings, encoding="utf-8")
    zensical = Path(sys.executable).parent / "zensical"
    subprocess.run([zensical, "build", "--strict", "--clean", "-f", out / "mkdocs.yml"], cwd=out, check=True)


if __name__ == "__main__":
    make()
