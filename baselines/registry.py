"""The registry of methods by name; a new method is one file and one line here."""

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
        what: one sentence that describes the method.
        fixed: config fields that define the method, with the only values that they may have.
        shares: another method and one of its phases, such as ``"smac:offline"``, up to whose end both methods train
            alike; a run of this method may begin where that phase of the other method's run has ended.
    """

    home: str
    what: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    shares: str | None = None

    @property
    def shared(self) -> tuple[str, str] | None:
        """The other method and the phase of :attr:`shares`."""
        if self.shares is None:
            return None
        method, _, phase = self.shares.partition(":")
        return method, phase


METHODS = {
    "pearl": Method(
        "offlinemeta.baselines.pearl:PEARL", "Offline PEARL: SAC on logged data; the critics' loss trains the encoder."
    ),
    "pearl-online": Method(
        "offlinemeta.baselines.pearl:PEARL",
        "PEARL as published, which collects experience with rewards; use --preset online and a random dataset.",
        {"online": True},
    ),
    "bc": Method("offlinemeta.baselines.bc:MetaBC", "Meta-behaviour-cloning, with SMAC's encoder and decoder."),
    "macaw": Method(
        "offlinemeta.baselines.macaw:MACAW",
        "MACAW: value function and policy are meta-trained so that one gradient step each adapts them.",
    ),
    "smac": Method("offlinemeta.baselines.smac:SMAC", "SMAC: offline training, then self-supervised interaction."),
    "oracle": Method(
        "offlinemeta.baselines.smac:SMAC",
        "SMAC that is given the true rewards of its interaction, and trains encoder and decoder on them too.",
        {"online_rewards": "true", "online_nets": "all"},
        "smac:offline",
    ),
    "true-labels": Method(
        "offlinemeta.baselines.smac:SMAC",
        "SMAC whose own rollouts have their true rewards in place of decoded ones.",
        {"online_rewards": "true"},
        "smac:offline",
    ),
    "smac-frozen": Method(
        "offlinemeta.baselines.smac:SMAC",
        "SMAC with its encoder frozen after the offline phase, as published.",
        {"online_nets": "actor-critic"},
        "smac:offline",
    ),
    "smac-no-interaction": Method(
        "offlinemeta.baselines.smac:SMAC",
        "A control: SMAC that goes on training as in its second phase, but collects nothing.",
        {"round_prior": 0, "round_posterior": 0},
        "smac:offline",
    ),
    "smac-rollout": Method(
        "offlinemeta.baselines.smac:SMAC",
        "A control: SMAC with contexts of one logged rollout each, and no interaction.",
        {"contexts": "rollout", "online_contexts": "rollout", "round_prior": 0, "round_posterior": 0},
    ),
    "smac-q": Method(
        "offlinemeta.baselines.smac:SMAC",
        "A control: SMAC whose encoder is trained by the critics' error, as PEARL's is, and not by the decoder's.",
        {"encoder_loss": "q"},
    ),
    "pearl-rollout": Method(
        "offlinemeta.baselines.pearl:PEARL",
        "A control: offline PEARL with contexts of one logged rollout each.",
        {"contexts": "rollout"},
    ),
    "borel": Method(
        "offlinemeta.baselines.borel:BOReL", "BOReL: a recurrent belief about the task, and SAC on states and beliefs."
    ),
    "borel-rr": Method(
        "offlinemeta.baselines.borel:BOReL",
        "BOReL with reward relabelling, which knows the true reward function; where tasks differ in rewards alone.",
        {"relabel": True},
    ),
    "told": Method(
        "offlinemeta.baselines.told:Told", "An upper bound: SMAC's offline actor-critic, told the true task."
    ),
}


def get_method(name: str) -> Method:
    """Return a method by name.

    Raises:
        UnknownNameError: there is no method of that name.
    """
    if name not in METHODS:
        raise UnknownNameError("Method", name, METHODS)
    return METHODS[name]


def module_of(name: str) -> Any:
    """Import the module that defines a method, and return it."""
    return import_module(get_method(name).home.partition(":")[0])


@cache
def learner_class(name: str) -> Any:
    """Import a method's learner class, and return it."""
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
        if each in method.fixed and str(value).lower() != str(method.fixed[each]).lower():
            raise ArgumentError(f"{name} is defined by {each}={method.fixed[each]}, so {value!r} cannot be set.")
    plain = plain_config(module.PRESETS[preset])
    return read_config(name, {**plain, **{each: _parsed(value, plain[each]) for each, value in given.items()}})


def read_config(name: str, plain: Mapping[str, Any]) -> Any:
    """Return a config from the plain values that :func:`plain_config` returned.

    Raises:
        ArgumentError: a value does not fit its field.
    """
    try:
        return _adapter(module_of(name).Config).validate_python(dict(plain))
    except ValidationError as error:
        first = error.errors()[0]
        wrong = str(first["loc"][0])
        value = plain.get(wrong)
        shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        raise ArgumentError(f"{wrong}={shown!r} does not fit {name}: {first['msg']}.") from error


def plain_config(config: Any) -> dict[str, Any]:
    """Return a config's fields as plain values, which JSON can hold."""
    return _adapter(config.__class__).dump_python(config, mode="json")


@cache
def _adapter(config_class: type) -> Any:
    """Return the TypeAdapter of a class of configs, which takes milliseconds to make."""
    return TypeAdapter(config_class)


def _parsed(value: Any, present: Any) -> Any:
    """Split text such as ``64,64`` where the field's present value is a tuple."""
    if isinstance(value, str) and isinstance(present, Sequence) and not isinstance(present, str):
        return [part for part in value.strip("()[] ").split(",") if part.strip()]
    return value
