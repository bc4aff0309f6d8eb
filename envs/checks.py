"""What users pass in, checked at the door: a typed error that shows the value and the remedy, or the value to use."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from offlinemeta.envs.errors import ActionError, ArgumentError, UnknownNameError
from offlinemeta.envs.render import RENDER_MODES
from offlinemeta.envs.shapes import Array, Bool, Float


def check_count(name: str, count: Any, least: int = 1) -> int:
    """Return a whole number of at least ``least``.

    Raises:
        ArgumentError: it is none.
    """
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < least:
        raise ArgumentError(f"{name}={count!r} must be a whole number of at least {least}.")
    return int(count)


def check_horizon(max_episode_steps: Any, family: str, horizon: int) -> int:
    """Return the number of steps until truncation.

    Raises:
        ArgumentError: not between 1 and the family's horizon.
    """
    if max_episode_steps is None:
        return horizon
    if check_count("max_episode_steps", max_episode_steps) > horizon:
        raise ArgumentError(f"max_episode_steps={max_episode_steps} must lie between 1 and {family}'s {horizon}.")
    return int(max_episode_steps)


def check_render_mode(mode: Any) -> str | None:
    """Return a render mode.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if mode is not None and mode not in RENDER_MODES:
        raise UnknownNameError("Render mode", mode, RENDER_MODES)
    return mode if mode is None else str(mode)


def check_autoreset_mode(mode: Any) -> AutoresetMode:
    """Return an autoreset mode from itself or its value.

    Raises:
        UnknownNameError: there is none of that name.
    """
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        raise UnknownNameError("Autoreset mode", mode, [m.value for m in AutoresetMode]) from error


def check_options(options: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """Return reset options.

    Raises:
        ArgumentError: no dict.
        UnknownNameError: an option that does not exist.
    """
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise ArgumentError(f"Reset options are a dict such as {{'task': 3}}, not {options!r}.")
    for name in options:
        if name not in known:
            raise UnknownNameError("Reset option", name, known)
    return options


def check_seed(seed: Any) -> int | None:
    """Return a seed as a plain int.

    Raises:
        ArgumentError: no whole number, or negative.
    """
    if seed is None:
        return None
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if number < 0 or isinstance(seed, bool):
        raise ArgumentError(f"seed={seed!r} must be a whole number of at least 0, or None.")
    return number


def check_seeds(seed: Any, num_envs: int) -> list[int | None]:
    """Return a seed for each env: ``seed + i``, or those of a sequence.

    Raises:
        ArgumentError: no whole numbers, or another number of them.
    """
    if isinstance(seed, (Sequence, np.ndarray)) and not isinstance(seed, str) and np.ndim(np.array(seed, object)) == 1:
        if len(seed) != num_envs:
            raise ArgumentError(f"{len(seed)} seeds were given for {num_envs} environments.")
        return [check_seed(one) for one in seed]
    first = check_seed(seed)
    return [None if first is None else first + i for i in range(num_envs)]


def check_mask(mask: Any, num_envs: int) -> Bool[Array, " N"]:
    """Return which envs to reset; all without a mask.

    Raises:
        ArgumentError: no bool array of that length, or none is True.
    """
    if mask is None:
        return np.ones(num_envs, dtype=bool)
    array = np.asarray(mask)
    if array.shape != (num_envs,) or array.dtype != np.bool_ or not array.any():
        raise ArgumentError(
            f"reset_mask must be {num_envs} bools, at least one True; got {array.dtype} {array.shape}: {array}."
        )
    return array


def check_actions(actions: Any, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Return actions as float64, clipped to [-1, 1].

    Raises:
        ActionError: no real numbers, a wrong shape, or entries that are not finite.
    """
    try:
        array = np.asarray(actions)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors that need gradients
        raise ActionError(f"Actions must be an array of numbers {shape}, not {actions!r} ({error}).") from error
    if array.dtype.kind not in "fiu":
        raise ActionError(f"Actions must be an array of numbers {shape}, not {actions!r}.")
    if array.shape != shape:
        raise ActionError(f"Actions have shape {array.shape}; expected {shape}.")
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ActionError(f"The action at {bad} is {array[tuple(bad)]}. Actions must be finite numbers in [-1, 1].")
    return np.minimum(np.maximum(array, -1.0), 1.0, dtype=np.float64)


def say_that_nothing_renders() -> None:
    """Warn that there is no render mode, as Gymnasium's environments do."""
    gymnasium.logger.warn("render() shows nothing without a render mode. Make it with render_mode='rgb_array'.")
