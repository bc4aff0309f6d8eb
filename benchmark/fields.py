"""Types of what results and descriptions of methods hold: plain text, names, hashes and numbers, each with bounds.

Their patterns are in the part of regular expressions that Rust (pydantic), Python and JavaScript read alike, since they
are exported as JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from offlinemeta.envs.errors import ArgumentError

LETTERS = (
    r" !-;=?-~\u00a1-\u00ac\u00ae-\u02ff\u0370-\u0482\u048a-\u058f\u1e00-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\u27ff"
    r"\u2801-\u2bff\u3001-\u3029\u3041-\u3096\u30a1-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
)
"""Characters of plain text: letters of Latin, Greek, Cyrillic and East Asian scripts, digits, punctuation and signs.
Control characters, marks of direction, characters that nobody sees or that are put on top of others, and the brackets
of HTML are not among them."""

Text = Annotated[str, StringConstraints(max_length=600, pattern=f"^[{LETTERS}]*$")]
"""One line of plain text, or nothing."""
LINE = f"^[{LETTERS[1:]}][{LETTERS}]*$"
Line = Annotated[str, StringConstraints(min_length=1, max_length=600, pattern=LINE)]
"""One line of plain text, which does not begin with a space."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
MethodName = Annotated[str, StringConstraints(pattern=NAME)]
"""How a method is listed: it names files, and is shown in terminals, tables, pages and pictures."""
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}$")]
"""Name of a setting, a figure or a package."""

Origin = dict[Annotated[str, StringConstraints(pattern="^(id|sha256|other)$")], Text]
"""Which data: their id and SHA-256, and ``other`` where the manifest has other content."""

AgentName = Annotated[
    str, StringConstraints(max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*:[A-Za-z_][A-Za-z0-9_]*$")
]
"""A class or function as ``module:Class``."""

Place = Annotated[
    str,
    StringConstraints(
        max_length=300,
        pattern=r"^(https://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:[0-9]{1,5})?(/[!#-;=?-Z_a-z~]*)?|[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*)$",
    ),
]
"""A link that begins with https://, or a path in this repository."""

Hash = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")]
"""A SHA-256; or nothing."""
Commit = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{7,64}\+?)?$")]
"""A commit, with ``+`` if there were changes on top; or nothing."""
Version = Annotated[str, StringConstraints(pattern=r"^([0-9][A-Za-z0-9.+!_-]{0,63})?$")]
"""The version of a package; or nothing."""
Time = Annotated[
    str,
    StringConstraints(
        pattern=r"^(20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])(:[0-5][0-9]){2}"
        r"(Z|[+-][01][0-9]:[0-5][0-9]))?$"
    ),
]
"""A time in ISO 8601; or nothing."""

LARGEST = 1e9
"""No return, figure or time is larger."""

T = TypeVar("T")
Few = Annotated[list[T], Field(fail_fast=True)]
"""A list that is refused at its first wrong entry: to name a million of them would take long."""

Figure = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
"""A return, or another figure."""
Seconds = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Steps = Annotated[int, Field(ge=0, le=10**12)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]

MOST = 10**18
Scalar = bool | Annotated[int, Field(ge=-MOST, le=MOST)] | Annotated[float, Field(ge=-MOST, le=MOST)] | Text | None
Setting = Scalar | Annotated[list[Scalar], Field(max_length=1000, fail_fast=True)]
"""A value in a training's config: a number, a text, yes or no, nothing, or a list of these."""


WORDS = {
    f"^[{LETTERS}]*$": "one line of plain text, without < and >, control and invisible characters",
    LINE: "one line of plain text, without < and >, control and invisible characters, which is not blank",
    NAME: "a name of letters of ASCII, digits and - _ . +",
}
"""What is said of a text in place of its pattern."""


def explain(error: ValidationError) -> str:
    """Say where the first error is, and what is wrong there."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the whole"
    words = WORDS.get(first.get("ctx", {}).get("pattern", ""))
    return f"{where}: String should match: {words}" if words is not None else f"{where}: {first['msg']}"


def check_method(name: str) -> str:
    """Return a method's name if it is one.

    Raises:
        ArgumentError: it is none.
    """
    if _fits(MethodName, name):
        return name
    raise ArgumentError(
        f"A method is named by 1 to 64 of the letters A to Z and a to z, digits and - _ . +, beginning with a "
        f"letter or digit; not {name!r}. Give another name with --method."
    )


def check_agent(name: str) -> str:
    """Return the name of an agent's class if it can be written into a result.

    Raises:
        ArgumentError: it cannot.
    """
    if _fits(AgentName, name):
        return name
    raise ArgumentError(
        f"A result names its agent as module:Class, in letters of ASCII; not {name!r}. Rename the module."
    )


def is_place(text: str) -> bool:
    """Tell whether a text is a link that begins with https://, or a path in this repository."""
    return _fits(Place, text)


def _fits(kind: Any, value: str) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True
