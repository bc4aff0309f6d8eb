"""The methods by name; a new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter, ValidationError

from offlinemeta.envs.errors import ArgumentError, UnknownNameError


@dataclass(frozen=True)
class Method:
    """A way to train an agent.

    Attributes:
        home: ``module:Class`` of the learner; its module has ``Config`` and ``PRESETS``.
        what: one line on it.
        fixed: fields of the config that make it this method.
    """

    home: str
    what: str
    fixed: Mapping[str, Any]


METHODS = {
    "pearl": Method(
        "offlinemeta.baselines.pearl:PEARL", "offline PEARL: SAC on logged data, encoder by the Q loss", {}
    ),
    "bc": Method("offlinemeta.baselines.bc:MetaBC", "meta-behaviour-cloning with SMAC's encoder", {}),
    "smac": Method("offlinemeta.baselines.smac:SMAC", "offline, then self-supervised interaction", {}),
    "oracle": Method(
        "offlinemeta.baselines.smac:SMAC", "SMAC with true rewards in its interaction", {"online_rewards": "true"}
    ),
    "told": Method(
        "offlinemeta.baselines.smac:SMAC",
        "SMAC's offline phase, told the task: what is to be had",
        {"z": "task", "rounds": 0},
    ),
}


def get_method(name: str) -> Method:
    """Return a method by name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in METHODS:
        raise UnknownNameError("Method", name, METHODS)
    return METHODS[name]


@cache
def learner_class(name: str) -> Any:
    """Import a method's learner."""
    module, attribute = get_method(name).home.split(":")
    return getattr(import_module(module), attribute)


def make_config(name: str, preset: str = "default", overrides: Mapping[str, Any] | None = None) -> Any:
    """Return a method's config: a preset with some fields replaced; text is converted to the field's type.

    Raises:
        UnknownNameError: no such method, preset or field.
        ArgumentError: a value that does not fit its field.
    """
    module = import_module(get_method(name).home.split(":")[0])
    if preset not in module.PRESETS:
        raise UnknownNameError("Preset", preset, module.PRESETS)
    known = [field.name for field in fields(module.Config)]
    given, fixed = dict(overrides or {}), get_method(name).fixed
    for field in fixed:
        if str(given.setdefault(field, fixed[field])) != str(fixed[field]):
            raise ArgumentError(
                f"{name} is what it is by {field}={fixed[field]}; {given[field]!r} makes another method."
            )
    for field in given:
        if field not in known:
            raise UnknownNameError(f"Config field of {name}", field, known)
    base = module.PRESETS[preset]
    types = TypeAdapter(module.Config)
    plain = types.dump_python(base, mode="json")
    try:
        return types.validate_python({**plain, **{key: _parsed(value, plain[key]) for key, value in given.items()}})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        raise ArgumentError(f"{field}={given.get(field)!r} does not fit {name}: {first['msg']}.") from error


def plain_config(config: Any) -> dict[str, Any]:
    """Return a config as JSON holds it."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def _parsed(value: Any, present: Any) -> Any:
    """Split the text of a tuple: ``64,64``."""
    if isinstance(value, str) and isinstance(present, Sequence) and not isinstance(present, str):
        return [part for part in value.strip("()[] ").split(",") if part.strip()]
    return value
