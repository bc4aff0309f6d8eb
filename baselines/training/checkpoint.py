"""Checkpoints, which hold the state of a training so that it can go on, and agent files, which can be evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offlinemeta.baselines.parts.config import later_fields
from offlinemeta.baselines.parts.learner import Learner
from offlinemeta.baselines.registry import get_method, learner_class, read_config
from offlinemeta.baselines.training.run import Run, differences, file_name
from offlinemeta.benchmark.errors import RunError
from offlinemeta.envs import TaskFamily, env_id
from offlinemeta.envs.errors import OfflineMetaError
from offlinemeta.files import FileError, read_tensors, write_tensors

FORMAT = 3
"""Number of the format of checkpoints and agent files; files of another format are refused."""

AGENT = f"{__name__}:load_agent"
"""The harness's name for the agent in any agent file, whatever its method."""

COUNTERS = ("step", "env_steps", "seconds", "device")


# --- the state of a training


def state_of(learner: Learner) -> dict[str, Tensor]:
    """Return everything that a resumed training needs, as tensors by name."""
    state = {f"nets.{name}.{key}": t for name, net in learner.nets.items() for key, t in net.state_dict().items()}
    for name, optimiser in learner.optimisers.items():
        for i, slots in optimiser.state_dict()["state"].items():
            state |= {f"optimisers.{name}.{i}.{key}": torch.as_tensor(value) for key, value in slots.items()}
        for i, group in enumerate(optimiser.param_groups):
            for key, value in group.items():
                if isinstance(value, float):  # step sizes and the like, which a learner may change as it goes
                    state[f"groups.{name}.{i}.{key}"] = torch.tensor(value, dtype=torch.float64)
    state["generator"] = learner.generator.get_state()
    if learner.data is not None:
        state["collected.rows"], state["collected.sizes"] = learner.data.collected()
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def load_state(learner: Learner, state: Mapping[str, Tensor]) -> None:
    """Put a state back into a learner that has loaded the same dataset."""
    for name, net in learner.nets.items():
        net.load_state_dict({key: state[f"nets.{name}.{key}"] for key in net.state_dict()})
    for name, optimiser in learner.optimisers.items():
        slots: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            if key.startswith(f"optimisers.{name}."):
                i, slot = key.removeprefix(f"optimisers.{name}.").split(".")
                slots.setdefault(int(i), {})[slot] = tensor
        optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
        for g, group in enumerate(optimiser.param_groups):
            for key in [key for key, value in group.items() if isinstance(value, float)]:
                group[key] = float(state[f"groups.{name}.{g}.{key}"])
    learner.generator.set_state(state["generator"])
    if learner.data is not None:
        learner.data.extend(state["collected.rows"], state["collected.sizes"])


def save_state(file: Path, learner: Learner, about: Mapping[str, Any], seconds: float) -> None:
    """Write a checkpoint.

    Raises:
        RunError: the learner has numbers that are not finite; the previous checkpoint is kept.
        FileError: there is no space or no permission; the previous checkpoint is kept.
    """
    parameters = {f"{name}.{key}": p for name, net in learner.nets.items() for key, p in net.named_parameters()}
    if bad := [name for name, parameter in parameters.items() if not parameter.isfinite().all()]:
        raise RunError(
            f"{about['method']} has diverged: at step {learner.step:,}, {', '.join(bad[:3])} are not finite. The "
            f"previous checkpoint is kept. Lower the step size (--lr), and begin anew in another folder."
        )
    counters = (learner.step, learner.env_steps, seconds, str(learner.generator.device))
    write_tensors(file, state_of(learner), {**about, **dict(zip(COUNTERS, counters, strict=True)), "format": FORMAT})


def restore(run: Run, learner: Learner, about: Mapping[str, Any], branch: Path | None) -> float:
    """Load the run's checkpoint, or the phase of another run to branch from.

    Args:
        run: the run that begins or goes on.
        learner: the run's learner, newly constructed, with its dataset loaded.
        about: everything that decides the run's numbers: :meth:`Run.about` and the data's hash.
        branch: the folder of a run whose first phases are this run's too.

    Returns:
        The seconds of training that led to the checkpoint; 0 where there is no checkpoint.

    Raises:
        RunError: the checkpoint is damaged; it has another format, device, config or dataset; or the other run has no
            finished phase that this run shares.
    """
    file = run.folder / file_name("state")
    if file.exists():
        return resume(file, run, learner, about)
    if branch is None:
        return 0.0
    names, shared = [phase.name for phase in run.config.phases[:-1]], get_method(run.method).shared
    if shared is not None:
        names = names[: names.index(shared[1]) + 1]
    files = {name: branch / file_name("state", name) for name in reversed(names)}  # the latest first
    found = {name: file for name, file in files.items() if file.exists()}
    if not found:
        wanted = " or ".join(f"'{name}'" for name in names) or "that could be shared"
        raise RunError(f"{branch} has no finished phase {wanted} to branch from.")
    errors = []
    for name, file in found.items():
        try:
            return resume(file, run, learner, about, name)
        except OtherRunError as error:
            errors.append(error)
    raise errors[0]


class OtherRunError(RunError):
    """A checkpoint of a run that is not this one, and does not begin like it."""


def resume(file: Path, run: Run, learner: Learner, about: Mapping[str, Any], phase: str | None = None) -> float:
    """Load a checkpoint into a learner.

    Args:
        file: the checkpoint.
        run: the run that goes on from it.
        learner: the run's learner, newly constructed, with its dataset loaded.
        about: everything that decides the run's numbers: :meth:`Run.about` and the data's hash.
        phase: the phase that ended at the checkpoint, if it is another run's; that one may differ in its method, and in
            config fields of later phases.

    Returns:
        The seconds of training that led to the checkpoint.

    Raises:
        OtherRunError: the checkpoint is another run's.
        RunError: the checkpoint is damaged, of another format, or of another kind of device.
    """
    state, there = _read(file, "Delete it to begin anew.")
    counters = {name: there.pop(name, None) for name in COUNTERS}
    skipped = set() if phase is None else later_fields(type(run.config), run.config.phases, phase)
    ours, theirs = (_without(one, skipped, method=phase is None) for one in (about, there))
    if ours != theirs:
        what = "run" if phase is None else f"{phase} phase"
        changed = differences(theirs, ours)
        raise OtherRunError(f"The {what} in {file} is another one: {changed}. Choose another folder.")
    if str(counters["device"]).partition(":")[0] != run.device.partition(":")[0]:
        raise RunError(
            f"{file} was trained on {counters['device']}. Go on with it there: --device {counters['device']}"
        )
    try:
        load_state(learner, state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise RunError(f"The checkpoint {file} is damaged ({error!r}). Delete it to begin anew.") from error
    learner.step, learner.env_steps = counters["step"], counters["env_steps"]
    return float(counters["seconds"])


def _without(about: Mapping[str, Any], fields: set[str], method: bool) -> dict[str, Any]:
    """Return a description of a run without some config fields, and without the method unless ``method`` is set."""
    config = {name: value for name, value in about["config"].items() if name not in fields}
    return {**{name: value for name, value in about.items() if method or name != "method"}, "config": config}


# --- agent files


def save_agent(file: Path, learner: Learner, about: Mapping[str, Any], name: str, seconds: float) -> None:
    """Write an agent file: the nets that :meth:`~Learner.adapt` needs, and how they were trained.

    Args:
        file: the agent file.
        learner: the agent.
        about: everything that decides the run's numbers: :meth:`Run.about` and the data's hash.
        name: the name under which the agent is listed.
        seconds: how long its training took.

    Raises:
        FileError: there is no space or no permission; the previous file is kept.
    """
    state = {f"{name}.{key}": t for name in learner.acting for key, t in learner.nets[name].state_dict().items()}
    tensors = {key: t.detach().cpu().contiguous().clone() for key, t in state.items()}
    counters = {"name": name, "step": learner.step, "env_steps": learner.env_steps, "seconds": seconds}
    write_tensors(file, tensors, {**about, **counters, "format": FORMAT})


def load_agent(family: TaskFamily, checkpoint: Path | None = None) -> Learner:
    """Return the agent in a file of :func:`save_agent`: the learner of the method that the file names.

    Raises:
        RunError: the file is missing, damaged, or of another family, format or version.
    """
    if checkpoint is None:
        raise RunError("This agent needs a checkpoint: --checkpoint FILE, such as agent.safetensors of a run.")
    tensors, about = _read(checkpoint, "Train it anew, or fetch it again.")
    if about["env"] != env_id(family):
        raise RunError(f"{checkpoint} is an agent for {about['env']}, not for {env_id(family)}.")
    try:
        return learner_of(about, family, tensors)
    except (OfflineMetaError, RuntimeError, TypeError) as error:
        raise RunError(f"{checkpoint} does not fit its own method and config: {error}") from error


def learner_of(about: Mapping[str, Any], family: TaskFamily, tensors: Mapping[str, Tensor]) -> Learner:
    """Construct the learner that a description names, and give it the nets that act.

    Args:
        about: ``method`` and ``config``.
        family: the task family.
        tensors: the nets' tensors, named ``<net>.<tensor>``.
    """
    config = read_config(about["method"], about["config"])
    learner: Learner = learner_class(about["method"])(config, family, torch.Generator().manual_seed(0))
    for name in learner.acting:
        mine = {k.removeprefix(f"{name}."): t for k, t in tensors.items() if k.startswith(f"{name}.")}
        learner.nets[name].load_state_dict(mine)
    return learner


def describe(checkpoint: Path) -> dict[str, Any]:
    """Return an agent file's account of its training: method, config, dataset and its hash, env and seed.

    Raises:
        RunError: the file is missing, damaged, or of another format.
    """
    return _read(checkpoint, "Train it anew, or fetch it again.")[1]


def _read(file: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint or an agent file, and check its format."""
    try:
        tensors, about = read_tensors(file, "pt")
    except FileError as error:
        raise RunError(f"The checkpoint cannot be used: {error} {remedy}") from error
    if about.pop("format", None) != FORMAT or not {"method", "config", "env"} <= about.keys():
        raise RunError(f"{file} is of another format than {FORMAT}, which this version of offlinemeta reads. {remedy}")
    return tensors, about
