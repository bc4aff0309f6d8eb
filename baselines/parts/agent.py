"""The agents that the harness evaluates: a policy and an encoder of z, out of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from offlinemeta.baselines.parts.buffer import Normaliser
from offlinemeta.baselines.parts.encoder import Encoder, Gaussian, sample
from offlinemeta.baselines.parts.networks import Policy, act
from offlinemeta.baselines.training.storage import save_tensors
from offlinemeta.benchmark.agent import FunctionPolicy
from offlinemeta.benchmark.context import Context
from offlinemeta.benchmark.errors import RunError
from offlinemeta.envs import Task, TaskFamily, env_id
from offlinemeta.envs.shapes import Array

FORMAT = 1
"""Of agent files; others are refused."""


class LatentAgent:
    """Infers z from the context and acts by π(a | s, z): PEARL, SMAC and meta-behaviour-cloning.

    The first episodes of a task are explored with z from the prior and sampled actions; then z ~ q(z|h), mean actions.

    Args:
        family: that it acts in.
        checkpoint: a file that :meth:`save` wrote.

    Raises:
        RunError: the file is damaged, or of another family, format or version.
    """

    def __init__(self, family: TaskFamily, checkpoint: Path | None = None) -> None:
        if checkpoint is None:
            raise RunError("This agent needs a checkpoint: --checkpoint FILE, such as agent.safetensors of a run.")
        arrays, about = read_agent(checkpoint, family)
        observations, actions = family.observation_space.shape[0], family.action_space.shape[0]
        config = about["config"]
        context = observations + actions + 1 + observations * config.get("next_observations", False)
        encoder = Encoder(context, config["latent"], config["encoder_hidden"])
        policy = Policy(observations + about["latent"], actions, config["hidden"])
        for name, net in (("encoder", encoder), ("policy", policy)):
            weights = {key.removeprefix(f"{name}."): t for key, t in arrays.items() if key.startswith(f"{name}.")}
            try:
                net.load_state_dict(weights)
            except RuntimeError as error:
                raise RunError(f"{checkpoint}: the {name} does not fit its own config: {error}") from error
        normalise = Normaliser(arrays["mean"].numpy(), arrays["scale"].numpy())
        self._set(family, encoder, policy, normalise, about)

    @classmethod
    def of(cls, learner: Any, family: TaskFamily, about: dict[str, Any]) -> LatentAgent:
        """Make the agent of a learner in training; they share the networks."""
        agent = cls.__new__(cls)
        agent._set(family, learner.encoder, learner.policy, learner.logged.normalise, about)
        return agent

    def _set(
        self, family: TaskFamily, encoder: Encoder, policy: Policy, normalise: Normaliser, about: dict[str, Any]
    ) -> None:
        self.family, self.encoder, self.policy, self.normalise, self.about = family, encoder, policy, normalise, about
        self.config = about["config"]
        self._generator = torch.Generator().manual_seed(0)
        self._rng = np.random.default_rng(0)
        if self.config.get("z") == "task":  # the learner that is told the task
            self.tell = self._tell

    def _tell(self, tasks: Sequence[Task]) -> None:
        self._told = torch.as_tensor(self.family.encode(self.family.params(tasks)))

    @torch.no_grad()
    def adapt(self, contexts: Sequence[Context]) -> FunctionPolicy:
        """Infer z of each task, or draw it from the prior where few episodes are known."""
        if self.config.get("z") == "task":
            return self._act(self._told, np.zeros(len(contexts), dtype=bool))
        exploring = np.array([len(c.lengths) < self.config["explore_episodes"] for c in contexts], dtype=bool)
        z = torch.randn(len(contexts), self.config["latent"], generator=self._generator)
        known = np.flatnonzero(~exploring).tolist()
        if known:
            z[known] = sample(self.infer([contexts[i] for i in known]), self._generator)
        return self._act(z, exploring)

    @torch.no_grad()
    def infer(self, contexts: Sequence[Context]) -> Gaussian:
        """Return q(z|h) of N tasks."""
        rows, mask = pad([self._rows(context) for context in contexts])
        posterior = self.encoder(rows.to(self._device), mask.to(self._device))
        return Gaussian(*(moment.cpu() for moment in posterior))

    @property
    def _device(self) -> torch.device:
        return next(self.policy.parameters()).device

    def _act(self, z: Tensor, exploring: Array) -> FunctionPolicy:
        def function(observations: Array) -> Array:
            noise = self._rng.standard_normal((len(observations), self.family.action_space.shape[0]))
            return act(self.policy, self.normalise(observations), z, noise * exploring[:, None])

        return FunctionPolicy(function)

    def _rows(self, context: Context) -> Array:
        parts = [self.normalise(context.observations), context.actions, context.rewards[:, None]]
        if self.config.get("next_observations", False):
            parts.append(self.normalise(context.next_observations))
        return np.concatenate(parts, axis=1)

    def save(self, file: Path) -> None:
        """Write a file that the constructor reads.

        Raises:
            RunError: no space, no permission; what was there is still there.
        """
        nets: dict[str, nn.Module] = {"encoder": self.encoder, "policy": self.policy}
        arrays = {
            f"{name}.{key}": t.detach().cpu() for name, net in nets.items() for key, t in net.state_dict().items()
        }
        arrays |= {"mean": torch.as_tensor(self.normalise.mean), "scale": torch.as_tensor(self.normalise.scale)}
        save_tensors(file, arrays, {"format": FORMAT, **self.about})


def pad(blocks: Sequence[Array]) -> tuple[Tensor, Tensor]:
    """Stack ``[C_n, X]`` blocks: ``[N, max C, X]``, and the mask ``[N, max C]`` of what is there."""
    most = max(len(block) for block in blocks)
    rows = np.zeros((len(blocks), most, blocks[0].shape[1]), dtype=np.float32)
    mask = np.zeros((len(blocks), most), dtype=np.float32)
    for i, block in enumerate(blocks):
        rows[i, : len(block)] = block
        mask[i, : len(block)] = 1
    return torch.as_tensor(rows), torch.as_tensor(mask)


def read_agent(file: Path, family: TaskFamily | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read an agent's tensors and what is said about it.

    Raises:
        RunError: the file is missing, damaged, of another format, or of another family or version of it.
    """
    try:
        with safe_open(file, framework="pt") as content:
            about = json.loads((content.metadata() or {})["offlinemeta"])
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise RunError(f"There is no checkpoint {file}.") from error
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RunError(f"The checkpoint {file} is damaged, or no agent of offlinemeta ({error!r}).") from error
    if about.get("format") != FORMAT:
        raise RunError(f"{file} has format {about.get('format')}; this version of offlinemeta reads {FORMAT}.")
    if family is not None and about["env"] != env_id(family):
        raise RunError(f"{file} is an agent for {about['env']}, not for {env_id(family)}.")
    return arrays, about
