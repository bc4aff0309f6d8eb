"""The one home of writing files, each at once or not at all, and of reading and writing files of tensors.

A reader sees the old file or the new one, never a half-written one. Files get the permissions of the user's umask. This
module imports nothing heavy; safetensors is imported where tensors are written or read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from offlinemeta.envs.errors import OfflineMetaError

KEY = "offlinemeta"
"""Name of the entry that holds this project's facts in the metadata of a tensor file."""


class FileError(OfflineMetaError, RuntimeError):
    """A file cannot be written or read; the message says why."""


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give the path of a draft, which takes a file's place when the block ends without an error.

    Args:
        file: the file to write; its folder is made if there is none.

    Raises:
        FileError: there is no space or no permission; the old file, if there is one, is kept.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}.draft")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for left in file.parent.glob(f".{file.name}.*.draft"):
            if not _runs(int(left.name.split(".")[-2])):
                left.unlink(missing_ok=True)  # what a killed process left
        draft.touch()
        mode = draft.stat().st_mode  # as the umask wants it; safetensors writes files that only their owner may read
        yield draft
        draft.chmod(mode)
        draft.replace(file)
    except OSError as error:
        remedy = "Get permission, or choose another place" if denied(error) else "Make room, or choose another place"
        raise FileError(
            f"{file} could not be written: {error.strerror or error}. What was there before is untouched. {remedy}."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Tell whether a process of that number runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def denied(error: OSError) -> bool:
    """Tell whether an operating system's error is about permission."""
    return isinstance(error, PermissionError) or error.errno in (1, 13, 30)


def check_writable(folder: Path) -> None:
    """Make a folder, and make sure that files can be written in it, before hours are spent on what goes there.

    Raises:
        FileError: the folder cannot be made, or nothing can be written in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(
            f"Nothing can be written in {folder}: {error.strerror or error}. Get permission, or choose another place."
        ) from error


def check_replaceable(file: Path) -> None:
    """Make sure that a file can be written or replaced, before hours are spent on what goes into it.

    Raises:
        FileError: its folder cannot be made or written in, or there is a folder in its place.
    """
    check_writable(file.parent)
    if file.is_dir():
        raise FileError(f"{file} is a folder. Name a file, such as {file / 'result.json'}.")


def write_text(file: Path, text: str) -> None:
    """Write a text file as UTF-8, at once or not at all.

    Raises:
        FileError: there is no space or no permission; the old file, if there is one, is kept.
    """
    with replacing(file) as draft:
        draft.write_text(text, encoding="utf-8")


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        FileError: it cannot be read.
    """
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"{file} cannot be read: {error.strerror}.") from error


def fill(file: Path, name: str, content: str) -> None:
    """Replace the text between two marks of a document by generated text.

    Args:
        file: a Markdown file, with the lines ``<!-- name: how it is made -->`` and ``<!-- end of name -->``.
        name: the name in the marks.
        content: the text to put between the marks.

    Raises:
        FileError: the file cannot be read or written, or does not have exactly one such pair of marks.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{file} cannot be read: {error}.") from error
    marks = re.compile(rf"(<!-- {re.escape(name)}: [^\n]* -->\n).*?(<!-- end of {re.escape(name)} -->)", re.DOTALL)
    filled, count = marks.subn(lambda found: f"{found[1]}\n{content.strip()}\n\n{found[2]}", text)
    if count != 1:
        raise FileError(
            f"{file} has {count} places for {name}, not one. A place is a line '<!-- {name}: how it is made -->' and, "
            f"below it, a line '<!-- end of {name} -->'."
        )
    write_text(file, filled)


def update_json(file: Path, key: str, value: Any, dump: Callable[[dict[str, Any]], str]) -> None:
    """Set one entry of a JSON file, which several processes may do at the same time; entries are sorted by key.

    Args:
        file: a file that holds a JSON object, or that does not exist yet.
        key: key of the entry.
        value: value of the entry.
        dump: a function that turns all entries into text.

    Raises:
        FileError: there is no space or no permission; the old file, if there is one, is kept.
    """
    from filelock import FileLock

    lock = Path(tempfile.gettempdir()) / f"offlinemeta{file.resolve().as_posix().replace('/', '_')}.lock"
    with FileLock(lock):
        entries = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        write_text(file, dump(dict(sorted({**entries, key: value}.items()))))


def write_tensors(file: Path, tensors: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write numpy arrays or torch tensors as safetensors, with plain metadata; at once or not at all.

    Args:
        file: the file to write.
        tensors: contiguous tensors by name, either all numpy arrays or all torch tensors.
        about: metadata, as plain values that JSON can hold.

    Raises:
        FileError: there is no space or no permission; the old file, if there is one, is kept.
    """
    from safetensors import SafetensorError

    save: Callable[..., Any]
    if all(type(tensor).__module__ == "numpy" for tensor in tensors.values()):
        from safetensors.numpy import save_file as save
    else:
        from safetensors.torch import save_file as save
    with replacing(file) as draft:
        try:
            save(dict(tensors), draft, {KEY: json.dumps(about)})
        except SafetensorError as error:  # the system's errors come wrapped
            raise OSError(str(error)) from error


def read_tensors(file: Path, framework: Literal["numpy", "pt"]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what :func:`write_tensors` wrote.

    Args:
        file: a safetensors file of this project.
        framework: ``"numpy"`` for arrays, ``"pt"`` for torch tensors.

    Returns:
        The tensors by name, and the metadata.

    Raises:
        FileError: the file is missing, may not be read, is damaged, or was not written by this project.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with file.open("rb"):  # says at once if it is missing or forbidden; safetensors takes both for missing
            pass
        with safe_open(file, framework=framework) as content:
            about = json.loads((content.metadata() or {})[KEY])
            return {name: content.get_tensor(name) for name in content.keys()}, about  # noqa: SIM118
    except FileNotFoundError as error:
        raise FileError(f"There is no file {file}.") from error
    except PermissionError as error:
        raise FileError(f"{file} may not be read: permission denied. Ask its owner to let you read it.") from error
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FileError(f"{file} is damaged, or was not written by offlinemeta ({error!r}).") from error
