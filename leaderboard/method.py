"""Reads ``results/<method>/method.yaml``, which describes a method, against a strict schema."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from offlinemeta.benchmark.errors import ResultError
from offlinemeta.benchmark.fields import Commit, Line, MethodName, Place, Steps, explain

FILE = "method.yaml"
LARGEST = 16_384
"""Bytes of a file; a larger one is refused unread."""
DEEPEST = 10
"""How deep its parts may be nested."""


class Tuning(BaseModel):
    """What was spent on choosing the method's settings. None where it was not recorded.

    Attributes:
        trials: how many trainings were looked at, at least.
        rollouts: how many online rollouts were made to choose between them.
        note: on which tasks, and what else there is to know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    trials: Steps | None
    rollouts: Steps | None
    note: Line


class Method(BaseModel):
    """A method that is listed. Steps, versions, commit and machine of each run are in its results.

    Attributes:
        name: how it is listed; the name of its folder.
        title: what it is.
        authors: who wrote this implementation.
        paper: the publication that describes the method.
        code: where the implementation is, a link or a path in this repository.
        commit: of that code; None where each result names its own, as those of this repository's methods do.
        checkpoints: where the files are whose SHA-256 the results have, a link or a path; None if they are not public.
        information: what the method is given beyond the logged data.
        tuning: what was spent on choosing its settings.
        hardware: what it was trained on, and how long one training took.
        note: what a reader of the table has to know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: MethodName
    title: Line
    authors: Annotated[list[Line], Field(min_length=1, max_length=50)]
    paper: Line
    code: Place
    commit: Annotated[Commit, Field(min_length=7)] | None = None
    checkpoints: Place | None = None
    information: Line
    tuning: Tuning
    hardware: Line
    note: Line | None = None


def read_method(file: Path) -> Method:
    """Read a ``method.yaml``.

    Raises:
        ResultError: the file is missing, too large, no plain YAML, or against the schema.
    """
    try:
        with file.open("rb") as binary:
            text = binary.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ResultError(f"{file} has more than {LARGEST:,} bytes. Shorten it.")
        content = yaml.load(text.decode("utf-8"), Loader=_Plain)  # a safe loader
    except OSError as error:
        raise ResultError(f"{file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ResultError(f"{file} is no plain YAML: {' '.join(str(error).split())}.") from error
    try:
        method = Method.model_validate(content)
    except ValidationError as error:
        raise ResultError(f"{file} is no valid description of a method: {explain(error)}.") from error
    if method.name != file.parent.name:
        raise ResultError(f"{file} is of {method.name!r}, but lies in the folder of {file.parent.name!r}. Rename one.")
    return method


def method_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files of descriptions that lie in or above result files or folders; there may be none."""
    found: dict[Path, None] = {}
    for path in (path.resolve() for path in paths):
        above = [folder / FILE for folder in (path, *path.parents[:2])]
        found |= dict.fromkeys([file for file in above if file.exists()] + sorted(path.rglob(FILE)))
    return list(found)


def find_methods(paths: Sequence[Path]) -> dict[str, Method]:
    """Return the descriptions that lie in or above result files or folders, by name; there may be none.

    Raises:
        ResultError: one of them is damaged.
    """
    return {method.name: method for method in map(read_method, method_files(paths))}


def remarks(methods: Sequence[Method]) -> list[str]:
    """Return what a reader of a table of these methods has to know, each note once."""
    notes: dict[str, list[str]] = {}
    for method in methods:
        if method.note is not None:
            notes.setdefault(method.note, []).append(method.name)
    return [f"{', '.join(names)}: {note}" for note, names in notes.items()]


class _Plain(yaml.SafeLoader):  # type: ignore[misc]  # it has no types
    """YAML without what may grow without bound or be read as something else than it looks like.

    There are no aliases, tags, deep nesting, repeated keys, and numbers but decimal ones.
    """

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        if getattr(self.peek_event(), "tag", None) is not None:
            raise yaml.YAMLError("tags are not allowed")
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if not all(isinstance(key, str) for key in keys):
            raise yaml.YAMLError("a key is no text")
        if repeated := [key for key, times in Counter(keys).items() if times > 1]:
            raise yaml.YAMLError(f"the key {repeated[0]!r} is there twice")
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        if not re.fullmatch("-?(0|[1-9][0-9]{0,17})", node.value):
            raise yaml.YAMLError(f"{node.value[:50]!r} is no decimal number: YAML reads 010 as 8, and 1:30 as 90")
        return int(node.value)


_Plain.add_constructor("tag:yaml.org,2002:int", _Plain.construct_yaml_int)
