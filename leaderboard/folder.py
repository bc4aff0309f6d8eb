"""Reads what lies in the folder of a submission without opening a file: names, kinds and sizes.

Nothing outside of the folder is read, whatever links say; what is larger than a submission needs is not read at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from offlinemeta.benchmark.errors import ResultError
from offlinemeta.benchmark.result import LARGEST as LARGEST_RESULT
from offlinemeta.files import sha256
from offlinemeta.leaderboard.method import FILE
from offlinemeta.leaderboard.method import LARGEST as LARGEST_METHOD
from offlinemeta.leaderboard.rules import Fault

CHECKPOINTS = "checkpoints"
MOST_FILES = 2_000
MOST_BYTES = 16_000_000
"""Bytes of all results of a submission together."""
LARGEST_CHECKPOINT = 32_000_000
MOST_CHECKPOINT_BYTES = 256_000_000

PLACES = (
    ("result", re.compile(r"[A-Za-z0-9-]{1,64}/[a-z0-9-]{1,64}-s[0-9]{1,10}\.json"), LARGEST_RESULT),
    ("checkpoint", re.compile(rf"{CHECKPOINTS}/[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}\.safetensors"), LARGEST_CHECKPOINT),
    ("method", re.compile(re.escape(FILE)), LARGEST_METHOD),
)
"""Kinds of files: where they lie, and how many bytes they have at most."""


class SubmissionError(ResultError):
    """A submission breaks rules, or cannot be placed."""


def scan(folder: Path, found: dict[str, list[str]]) -> Iterator[Fault]:
    """Sort the files of a folder by kind, without opening one; yield what has no place in a submission.

    Args:
        folder: the folder.
        found: gets the names of files by kind, as in :data:`PLACES`.
    """
    limits = {"result": MOST_BYTES, "checkpoint": MOST_CHECKPOINT_BYTES, "method": LARGEST_METHOD}
    for count, entry in enumerate(_entries(folder), start=1):
        name = os.path.relpath(entry.path, folder).replace(os.sep, "/")
        if count > MOST_FILES:
            yield Fault(
                "size", "the whole", f"there are more than {MOST_FILES:,} files and folders; the rest is not read."
            )
            return
        about = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(about.st_mode):
            yield Fault("link", name, "a symbolic link. Put the file itself there.")
        elif stat.S_ISDIR(about.st_mode):
            if "/" in name:
                yield Fault("file", name, "folders lie one deep: <family>-<quality> or checkpoints.")
        else:
            kind, most = next(((kind, most) for kind, place, most in PLACES if place.fullmatch(name)), ("", 0))
            if not kind or not stat.S_ISREG(about.st_mode):
                yield Fault("file", name, _no_place(name))
            elif about.st_size > most:
                yield Fault("size", name, f"{about.st_size:,} bytes; at most {most:,} are read.")
            elif about.st_size > limits[kind]:
                yield Fault("size", name, "all files of its kind together are too large; it and the rest are not read.")
                limits[kind] = 0
            else:
                limits[kind] -= about.st_size
                found[kind].append(name)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Return what lies in a folder and, one deep, in its folders; links are not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                with os.scandir(entry.path) as inner:
                    yield from inner


def _no_place(name: str) -> str:
    if name.endswith((".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".npz", ".npy", ".zip")):
        return "a file that may run code when it is read. Convert the tensors to safetensors, or leave it out."
    return (
        "no part of a submission, which holds method.yaml, <family>-<quality>/<protocol>-s<seed>.json and "
        "checkpoints/*.safetensors."
    )


NOTHING = hashlib.sha256().hexdigest()
"""SHA-256 of nothing."""


def tensors_hash(file: Path) -> str | None:
    """Return the SHA-256 of what follows the head of a safetensors file; None if the file does not begin like one.

    It begins with eight bytes of length, and as much JSON; another text in that head makes no other tensors.
    """
    try:
        with file.open("rb") as content:
            size = int.from_bytes(content.read(8), "little")
            header = content.read(size) if size <= 1_000_000 else b""
            if not isinstance(json.loads(header.decode("utf-8")), dict):
                return None
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, ValueError, RecursionError):
        return None


def changes(folder: Path, old: Path) -> list[str]:
    """Return the files that were added to a method's folder, changed or taken away since it was as in another one."""
    here, there = (_contents(one) for one in (folder, old))
    return sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))


def _contents(folder: Path) -> dict[str, str]:
    """Return the hashes of what lies in a folder; of folders, links and large files, what they are."""
    found = {}
    for entry in islice(_entries(folder), MOST_FILES + 1) if not folder.is_symlink() and folder.is_dir() else ():
        about = entry.stat(follow_symlinks=False)
        name = os.path.relpath(entry.path, folder)
        if stat.S_ISREG(about.st_mode) and about.st_size <= LARGEST_RESULT:
            found[name] = sha256(Path(entry.path))
        else:
            found[name] = "a folder" if stat.S_ISDIR(about.st_mode) else f"{about.st_mode} {about.st_size}"
    return found


def submissions(path: Path) -> list[Path]:
    """Return the folders of methods at a path: itself, or all folders in it where it holds those of several methods.

    Raises:
        SubmissionError: there is no such folder, or a file, or a link lies among the folders.
    """
    if path.is_symlink() or not path.is_dir():
        raise SubmissionError(f"{path} is no folder. Name the folder of a method, or one that holds several of them.")
    inside = sorted(islice(path.iterdir(), MOST_FILES + 1))
    if len(inside) > MOST_FILES:
        raise SubmissionError(f"{path} holds more than {MOST_FILES:,} files and folders.")
    if (path / FILE).exists() or not any((folder / FILE).exists() for folder in inside):
        return [path]
    if wrong := [one.name for one in inside if one.is_symlink() or not one.is_dir()]:
        raise SubmissionError(f"{path} holds folders of methods, but also {wrong[0][:100]!a}. Take it away.")
    return inside
