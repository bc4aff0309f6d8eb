"""Configs: frozen dataclasses whose fields say what they mean, and in which phase of a training they first matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any

from pydantic import TypeAdapter


def option(default: Any, meaning: str, phase: str = "") -> Any:
    """Return a dataclass field that explains itself.

    Args:
        default: the field's value in the ``paper`` preset, unless that preset says otherwise.
        meaning: one sentence that explains the field; ``offlinemeta methods NAME`` shows it.
        phase: the first phase of training in which the field matters; runs that differ only in fields of later phases
            share their earlier ones.
    """
    return field(default=default, metadata={"meaning": meaning, "phase": phase})


@dataclass(frozen=True)
class Phase:
    """A part of a training that has a name and an end.

    Attributes:
        name: name of the phase, such as ``"offline"``.
        end: the gradient step at which the phase ends, counted from the beginning of the training.
        evaluated: whether the agent at the phase's end is evaluated, and listed as ``<method>-<name>``. The agent at
            the end of the last phase is always evaluated, and listed under the method's own name.
    """

    name: str
    end: int
    evaluated: bool = True


@dataclass(frozen=True)
class Option:
    """A config field as the command line shows it."""

    name: str
    default: str
    meaning: str
    allowed: str


def options(config: Any) -> Iterator[Option]:
    """Describe the fields of a config, with this config's values as their defaults."""
    schema = TypeAdapter(type(config)).json_schema()["properties"]
    for each in fields(config):
        value = getattr(config, each.name)
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        yield Option(each.name, shown, each.metadata.get("meaning", ""), _allowed(schema[each.name]))


def later_fields(config_class: type, phases: tuple[Phase, ...], after: str) -> set[str]:
    """Return the fields that matter only after a phase."""
    names = [phase.name for phase in phases]
    later = set(names[names.index(after) + 1 :])
    return {each.name for each in fields(config_class) if _phase_of(each) in later}


def _phase_of(each: Field[Any]) -> str:
    return each.metadata.get("phase", "")


def _allowed(schema: dict[str, Any]) -> str:
    """Say in words which values a field's JSON schema admits."""
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"comma-separated: {_allowed(schema['items'])}"
    kind = {"integer": "whole number", "number": "number", "boolean": "true or false"}.get(
        schema.get("type", ""), "text"
    )
    bounds = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
    limits = [f"{words} {schema[key]:g}" for key, words in bounds.items() if key in schema]
    return " ".join([kind, " and ".join(limits)]).strip()
