"""Behaviour policies: task-conditioned networks from random to expert, which collect the datasets.

They ship as small files, ``datasets/checkpoints/<family>.safetensors``: about ten checkpoints of one training run, with
the command, versions and learning curve that made them in the metadata. ``train_behaviour.py`` makes them.

They act in numpy's float64, and on a grid (:func:`on_grid`): the low bits of a matrix product differ between processors
and libraries, and chaotic physics would make other episodes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from offlinemeta.envs.errors import UnknownNameError
from offlinemeta.envs.shapes import Array, Float, Float32
from offlinemeta.files import read_tensors, write_tensors

CHECKPOINTS = Path(__file__).parent / "checkpoints"

GRID = 2.0**-14
"""Distance between neighbouring values of an action: coarse beside the low bits of float64, fine beside any noise."""

CLIP = 10.0
"""Bound to which normalised observations are clipped, as they were in training."""


def on_grid(actions: Float[Array, "*batch A"]) -> Float32[Array, "*batch A"]:
    """Return the nearest multiples of :data:`GRID` inside the box (-1, 1), which float32 holds exactly."""
    steps = np.round(np.asarray(actions, dtype=np.float64) / GRID)
    edge = 1 / GRID - 1
    return (np.clip(steps, -edge, edge) * GRID).astype(np.float32)


@dataclass(frozen=True)
class BehaviourPolicy:
    """A tanh-squashed Gaussian policy on ``[observation, task]``: a = tanh(u), u ~ N(mean(x), exp(log_std)²).

    Attributes:
        weights: ``(W, b)`` of each layer, ``W`` ``[in, out]``; hidden layers are tanh.
        log_std: ``[A]``.
        mean, scale: ``[O + E]`` normalisation of the input.
    """

    weights: tuple[tuple[Array, Array], ...]
    log_std: Float[Array, " A"]
    mean: Float[Array, " X"]
    scale: Float[Array, " X"]

    def act(self, inputs: Float[Array, "N X"], rng: np.random.Generator | None) -> Float[Array, "N A"]:
        """Return actions in (-1, 1), not yet on the grid: sampled, or those of the mean without a generator."""
        x = np.clip((np.asarray(inputs, dtype=np.float64) - self.mean) / self.scale, -CLIP, CLIP)
        for weight, bias in self.weights[:-1]:
            x = np.tanh(x @ weight + bias)
        u = x @ self.weights[-1][0] + self.weights[-1][1]
        if rng is not None:
            u = u + np.exp(self.log_std) * rng.standard_normal(u.shape)
        return np.tanh(u)


def pack(policy: BehaviourPolicy, prefix: str) -> dict[str, Array]:
    """Return a policy's arrays by name, in float16 but for the normalisation."""
    arrays = {f"{prefix}.log_std": policy.log_std.astype(np.float16)}
    for layer, (weight, bias) in enumerate(policy.weights):
        arrays[f"{prefix}.{layer}.weight"] = weight.astype(np.float16)
        arrays[f"{prefix}.{layer}.bias"] = bias.astype(np.float16)
    arrays[f"{prefix}.mean"] = policy.mean.astype(np.float32)
    arrays[f"{prefix}.scale"] = policy.scale.astype(np.float32)
    return arrays


def unpack(arrays: Mapping[str, Array], prefix: str) -> BehaviourPolicy:
    """Return the policy that :func:`pack` packed, in float64."""
    layers = sum(1 for name in arrays if name.startswith(f"{prefix}.") and name.endswith(".weight"))
    parts = {name: arrays[f"{prefix}.{name}"].astype(np.float64) for name in ("log_std", "mean", "scale")}
    weights = tuple(
        (arrays[f"{prefix}.{i}.weight"].astype(np.float64), arrays[f"{prefix}.{i}.bias"].astype(np.float64))
        for i in range(layers)
    )
    return BehaviourPolicy(weights, **parts)


def save_checkpoints(path: Path, policies: list[BehaviourPolicy], metadata: Mapping[str, Any]) -> None:
    """Write checkpoints, from random to best, and metadata that say what made them.

    Raises:
        FileError: there is no space or no permission.
    """
    arrays = {name: array for i, policy in enumerate(policies) for name, array in pack(policy, f"{i:02}").items()}
    write_tensors(path, {name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata)


def load_checkpoints(family: str) -> tuple[list[BehaviourPolicy], dict[str, Any]]:
    """Return a family's checkpoints, from random to best, and the metadata of their training.

    Raises:
        UnknownNameError: the family has none.
        FileError: the file may not be read, or is damaged.
    """
    path = CHECKPOINTS / f"{family}.safetensors"
    if not path.exists():
        raise UnknownNameError(
            "Behaviour policy of family", family, sorted(p.stem for p in CHECKPOINTS.glob("*.safetensors"))
        )
    arrays, metadata = read_tensors(path, "numpy")
    count = len({name.split(".")[0] for name in arrays})
    return [unpack(arrays, f"{i:02}") for i in range(count)], metadata
