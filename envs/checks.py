"""Checks of what users pass in: each returns the value to use, or raises an error with the value and the remedy."""

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
        ArgumentError: the value is not a whole number, or is too small.
    """
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < least:
        raise ArgumentError(f"{name}={count!r} must be a whole number of at least {least}.")
    return int(count)


def check_horizon(max_episode_steps: Any, family: str, horizon: int) -> int:
    """Return the number of steps until truncation.

    Raises:
        ArgumentError: the number is not between 1 and the family's horizon.
    """
    if max_episode_steps is None:
        return horizon
    if check_count("max_episode_steps", max_episode_steps) > horizon:
        raise ArgumentError(f"max_episode_steps={max_episode_steps} must lie between 1 and {family}'s {horizon}.")
    return int(max_episode_steps)


def check_render_mode(mode: Any) -> str | None:
    """Return a render mode, or None.

    Raises:
        UnknownNameError: there is no render mode of that name.
    """
    if mode is not None and mode not in RENDER_MODES:
        raise UnknownNameError("Render mode", mode, RENDER_MODES)
    return mode if mode is None else str(mode)


def check_autoreset_mode(mode: Any) -> AutoresetMode:
    """Return an autoreset mode, which is given as itself or as its value.

    Raises:
        UnknownNameError: there is no autoreset mode of that name.
    """
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        raise UnknownNameError("Autoreset mode", mode, [m.value for m in AutoresetMode]) from error


def check_options(options: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """Return reset options; None becomes an empty dict.

    Raises:
        ArgumentError: the options are not a dict.
        UnknownNameError: an option does not exist.
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
        ArgumentError: the seed is not a whole number, or is negative.
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
    """Return a seed for each env: ``seed + i`` for env i, or the seeds of a sequence.

    Raises:
        ArgumentError: the seeds are not whole numbers, or there are more or fewer seeds than envs.
    """
    if isinstance(seed, (Sequence, np.ndarray)) and not isinstance(seed, str) and np.ndim(np.array(seed, object)) == 1:
        if len(seed) != num_envs:
            raise ArgumentError(f"{len(seed)} seeds were given for {num_envs} environments.")
        return [check_seed(one) for one in seed]
    first = check_seed(seed)
    return [None if first is None else first + i for i in range(num_envs)]


def check_mask(mask: Any, num_envs: int) -> Bool[Array, " N"]:
    """Return which envs to reset; without a mask, all of them.

    Raises:
        ArgumentError: the mask is not a bool array ``[N]``, or it is True nowhere.
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
        ActionError: the actions are not real numbers, have a wrong shape, or have entries that are not finite.
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
