"""Files that are replaced at once or not at all, and files of tensors: the one home of both.

A reader sees the old file or the new one, never half of it. What is written has the permissions that the user's umask
gives. This module imports nothing heavy; safetensors is imported where tensors are written or read.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from offlinemeta.envs.errors import OfflineMetaError

KEY = "offlinemeta"
"""The entry of a tensor file's metadata that is ours."""


class FileError(OfflineMetaError, RuntimeError):
    """A file that cannot be written or read, and why."""


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give a draft beside a file, which takes the file's place when the block ends without an error.

    Args:
        file: what to write; its folder is made.

    Raises:
        FileError: there is no space or no permission; what was there is still there.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}.draft")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
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
        FileError: there is no space or no permission; what was there is still there.
    """
    with replacing(file) as draft:
        draft.write_text(text, encoding="utf-8")


def fill(file: Path, name: str, content: str) -> None:
    """Put generated text into a document, in place of what stands between two marks.

    Args:
        file: a Markdown file with the lines ``<!-- name: how it is made -->`` and ``<!-- end of name -->``.
        name: the name in the marks.
        content: what is put between them.

    Raises:
        FileError: the file cannot be read or written, or has not one such pair of marks.
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
    """Set one entry of a JSON file that several processes may write; entries are sorted by key.

    Args:
        file: a JSON object, or a file that does not exist yet.
        key: of the entry.
        value: of the entry.
        dump: turns all entries into text.

    Raises:
        FileError: there is no space or no permission; what was there is still there.
    """
    from filelock import FileLock

    lock = Path(tempfile.gettempdir()) / f"offlinemeta{file.resolve().as_posix().replace('/', '_')}.lock"
    with FileLock(lock):
        entries = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        write_text(file, dump(dict(sorted({**entries, key: value}.items()))))


def write_tensors(file: Path, tensors: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write numpy arrays or torch tensors as safetensors, with plain metadata; at once or not at all.

    Args:
        file: what to write.
        tensors: all numpy arrays, or all torch tensors; contiguous.
        about: metadata that JSON holds.

    Raises:
        FileError: there is no space or no permission; what was there is still there.
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
        FileError: the file is missing, may not be read, is damaged, or is no file of this project.
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
        raise FileError(f"{file} is damaged, or no file of offlinemeta ({error!r}).") from error
