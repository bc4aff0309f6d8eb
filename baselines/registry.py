"""The methods by name; a new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
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
        what: one sentence on it.
        fixed: fields of the config that make it this method.
        shares: another method and a phase, such as ``"smac:offline"``, up to which the two are the same training: a run
            may begin where that phase of a run of the other has ended.
    """

    home: str
    what: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    shares: str | None = None


METHODS = {
    "pearl": Method("offlinemeta.baselines.pearl:PEARL", "Offline PEARL: SAC on logged data, encoder by the Q loss."),
    "bc": Method("offlinemeta.baselines.bc:MetaBC", "Meta-behaviour-cloning, with SMAC's encoder and decoder."),
    "smac": Method("offlinemeta.baselines.smac:SMAC", "Offline training, then self-supervised interaction."),
    "oracle": Method(
        "offlinemeta.baselines.smac:SMAC",
        "SMAC with true rewards in its interaction.",
        {"online_rewards": "true"},
        "smac:offline",
    ),
    "told": Method(
        "offlinemeta.baselines.told:Told", "An upper bound: SMAC's offline actor-critic, told the true task."
    ),
}


def get_method(name: str) -> Method:
    """Return a method by name.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in METHODS:
        raise UnknownNameError("Method", name, METHODS)
    return METHODS[name]


def module_of(name: str) -> Any:
    """Import the module of a method's paper."""
    return import_module(get_method(name).home.partition(":")[0])


@cache
def learner_class(name: str) -> Any:
    """Import a method's learner."""
    return getattr(module_of(name), get_method(name).home.partition(":")[2])


def make_config(name: str, preset: str = "default", overrides: Mapping[str, Any] | None = None) -> Any:
    """Return a method's config: a preset with some fields replaced; text is converted to the field's type.

    Raises:
        UnknownNameError: there is no such method, preset or field.
        ArgumentError: a value does not fit its field.
    """
    method, module = get_method(name), module_of(name)
    if preset not in module.PRESETS:
        raise UnknownNameError(f"Preset of {name}", preset, module.PRESETS)
    known, given = [each.name for each in fields(module.Config)], {**method.fixed, **(overrides or {})}
    for each, value in given.items():
        if each not in known:
            raise UnknownNameError(f"Config field of {name}", each, known)
        if each in method.fixed and str(value) != str(method.fixed[each]):
            raise ArgumentError(f"{name} is what it is by {each}={method.fixed[each]}; {value!r} makes another method.")
    plain = plain_config(module.PRESETS[preset])
    return read_config(name, {**plain, **{each: _parsed(value, plain[each]) for each, value in given.items()}})


def read_config(name: str, plain: Mapping[str, Any]) -> Any:
    """Return the config that :func:`plain_config` wrote down.

    Raises:
        ArgumentError: a value does not fit its field.
    """
    try:
        return TypeAdapter(module_of(name).Config).validate_python(dict(plain))
    except ValidationError as error:
        first = error.errors()[0]
        wrong = str(first["loc"][0])
        value = plain.get(wrong)
        shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        raise ArgumentError(f"{wrong}={shown!r} does not fit {name}: {first['msg']}.") from error


def plain_config(config: Any) -> dict[str, Any]:
    """Return a config as JSON holds it."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def _parsed(value: Any, present: Any) -> Any:
    """Split the text of a tuple: ``64,64``."""
    if isinstance(value, str) and isinstance(present, Sequence) and not isinstance(present, str):
        return [part for part in value.strip("()[] ").split(",") if part.strip()]
    return value
