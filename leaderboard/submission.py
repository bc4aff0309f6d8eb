"""Checks submissions, and places them among the results.

A submission is a folder: ``<method>/method.yaml``, results as ``<method>/<family>-<quality>/<protocol>-s<seed>.json``,
and, for a replay, ``<method>/checkpoints/*.safetensors``. It is read as data: sizes and kinds of files first, then
texts against the one schema of results, then the rules (:mod:`offlinemeta.leaderboard.rules`).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from offlinemeta.benchmark.errors import ResultError
from offlinemeta.benchmark.result import Result, join_results, read_result
from offlinemeta.files import FileError, sha256
from offlinemeta.leaderboard import rules
from offlinemeta.leaderboard.folder import NOTHING, SubmissionError, scan, tensors_hash
from offlinemeta.leaderboard.listed import Listed, of_copies, of_name
from offlinemeta.leaderboard.method import FILE, Method, read_method
from offlinemeta.leaderboard.rules import LATER, Fault
from offlinemeta.leaderboard.together import of_all

RESULTS = Path(__file__).parent / "results"
"""The results that are listed."""

MOST_BROKEN = 3
"""How many unreadable results are looked at; the others are not read."""


@dataclass(frozen=True)
class Submission:
    """What was found in a folder.

    Attributes:
        folder: the folder.
        method: its description, if it can be read.
        results: the results that can be read, of one seed each, by file.
        checkpoints: SHA-256 of the checkpoints that lie in the folder, by file.
        faults: what breaks rules, in the order in which it was found.
    """

    folder: Path
    method: Method | None
    results: dict[str, Result]
    checkpoints: dict[str, str]
    faults: tuple[Fault, ...]

    @property
    def name(self) -> str:
        """The method's name, as the folder says."""
        return self.folder.name

    def joined(self) -> list[Result]:
        """Return the results with the seeds of each benchmark joined, those that can be."""
        groups: dict[str, list[Result]] = {}
        for result in self.results.values():
            groups.setdefault(result.benchmark, []).append(result)
        done = []
        for group in groups.values():
            try:
                done.append(join_results(group))
            except ResultError:  # the rule "alike" names it
                continue
        return done

    def refused(self, listed: bool = False) -> list[Fault]:
        """Return the faults for which it is refused.

        Args:
            listed: whether it was listed before, so that it need not keep rules that came later (:data:`LATER`).
        """
        return [fault for fault in self.faults if not (listed and fault.rule in LATER)]


def check(folder: Path, root: Path = RESULTS, listed: Listed | None = None) -> Submission:
    """Check a submission; what breaks a rule is among the faults, and nothing is raised for it.

    Args:
        folder: the folder of a method.
        root: the folder of the methods that are listed, which a new one must not resemble.
        listed: these methods, where more than one submission is compared with them.

    Raises:
        SubmissionError: there is no such folder.
    """
    folder = Path(os.path.abspath(folder))
    if folder.is_symlink() or not folder.is_dir():
        raise SubmissionError(f"{folder} is no folder. Name the folder of a method, such as leaderboard/results/smac.")
    found: dict[str, list[str]] = {"method": [], "result": [], "checkpoint": []}
    faults: list[Fault] = []
    try:
        faults += scan(folder, found)
    except OSError as error:
        faults.append(Fault("file", "the whole", f"a folder cannot be read: {error.strerror}."))
    method, results, checkpoints = None, dict[str, Result](), dict[str, str]()
    listed = listed or Listed(root)
    try:
        method = read_method(folder / FILE) if found["method"] else None
    except ResultError as error:
        faults.append(Fault("method", FILE, _inside(error, folder)))
    if not found["method"]:
        faults.append(Fault("method", FILE, "there is no such file that may be read. It describes the method."))
    broken = 0
    for name in sorted(found["result"]):
        try:
            results[name] = result = read_result(folder / name)
        except ResultError as error:
            faults.append(Fault("result", name, _inside(error, folder)))
            broken += 1
            if broken == MOST_BROKEN:
                faults.append(
                    Fault("result", "the whole", f"{MOST_BROKEN} results cannot be read; the rest is not looked at.")
                )
                break
        else:
            faults += rules.of_result(result, name, folder.name, method)
    faults += of_name(folder.name, results.values(), listed)
    faults += of_all(list(results.values()))
    faults += of_copies(list(results.values()), listed)
    stated, tensors = {p.checkpoint for r in results.values() for p in r.provenance}, dict[str, str]()
    for name in sorted(found["checkpoint"]):
        faults += _of_checkpoint(folder, name, checkpoints, tensors, stated)
    return Submission(folder, method, results, checkpoints, tuple(faults))


def _inside(error: ResultError, folder: Path) -> str:
    """Return a message without the path of the folder, which is said beside it."""
    return re.sub(rf"{re.escape(str(folder))}/\S* ", "", str(error), count=1)


def _of_checkpoint(
    folder: Path, name: str, known: dict[str, str], tensors: dict[str, str], stated: set[str]
) -> Iterator[Fault]:
    """A checkpoint is a safetensors file, one of those that were evaluated, and no other file's with another head."""
    content = tensors_hash(folder / name)
    if content is None:
        yield Fault("file", name, "no safetensors, whatever its name says. Pickles are not accepted.")
        return
    known[name] = sha256(folder / name)
    if known[name] not in stated:
        yield Fault("checkpoint", name, f"no result was made with it: its SHA-256 is {known[name][:12]}...")
    if content == NOTHING:
        yield Fault("checkpoint", name, "it holds no tensors, so that it is no training.")
    elif (other := tensors.setdefault(content, name)) != name:
        yield Fault("checkpoint", name, f"its tensors are those of {other}: one training is one seed.")


def submit(folder: Path, root: Path = RESULTS, replace: bool = False) -> tuple[Submission, Path]:
    """Place a submission that keeps all rules below a folder of results; at once or not at all.

    Checkpoints stay where they are: results have their SHA-256, and ``checkpoints:`` in ``method.yaml`` says where to
    get them.

    Args:
        folder: the folder of the method.
        root: the folder of results, which is made if there is none.
        replace: whether it takes the place of an earlier submission of the same authors and code.

    Returns:
        The submission, and the folder where it lies now.

    Raises:
        SubmissionError: it breaks a rule; a method of that name is there already, and may not be replaced.
        FileError: there is no space or no permission.
    """
    checked = check(folder, root)
    raise_for(checked)
    home, draft = root / checked.name, root.parent / f".{root.name}.{os.getpid()}.draft"
    if home.resolve() == checked.folder.resolve():
        raise SubmissionError(
            f"{folder} lies among the results already. Check it: offlinemeta leaderboard check {folder}"
        )
    if home.exists():
        if not replace:
            raise SubmissionError(f"{home} is there already. To replace your own submission, add --replace.")
        check_same_author(checked, home)
    try:
        shutil.rmtree(draft, ignore_errors=True)
        for name in (FILE, *checked.results):
            (draft / "new" / checked.name / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checked.folder / name, draft / "new" / checked.name / name, follow_symlinks=False)
        again = check(draft / "new" / checked.name, root)  # what was copied, whatever happened meanwhile to its source
        raise_for(again)
        root.mkdir(parents=True, exist_ok=True)
        if home.exists():
            home.rename(draft / "old")
        (draft / "new" / checked.name).rename(home)
    except OSError as error:
        if (draft / "old").exists() and not home.exists():
            (draft / "old").rename(home)
        raise FileError(
            f"{home} could not be written: {error.strerror or error}. What was there is untouched."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return again, home


def raise_for(submission: Submission, listed: bool = False) -> None:
    """Raise an error that names the faults for which a submission is refused, if there are any.

    Raises:
        SubmissionError: there are.
    """
    if faults := submission.refused(listed):
        lines = "".join(f"\n  {line}" for line in rules.listing(faults))
        raise SubmissionError(f"{submission.name} is refused, faults: {len(faults)}{lines}")


def check_same_author(new: Submission, home: Path) -> None:
    """Refuse to change a method of others.

    Raises:
        SubmissionError: what lies at ``home`` is by other authors, or of other code.
    """
    old = read_method(home / FILE)
    if new.method is None or (new.method.authors, new.method.code) != (old.authors, old.code):
        raise SubmissionError(
            f"{home} is by {', '.join(old.authors)[:200]}, of {old.code}, and is not overwritten. Choose another name."
        )
