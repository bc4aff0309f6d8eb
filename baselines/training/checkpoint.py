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

FORMAT = 2
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
    state["generator"] = learner.generator.get_state()
    if learner.data is not None:
        state["collected.rows"], state["collected.sizes"] = learner.data.collected()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


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
    learner.generator.set_state(state["generator"])
    if learner.data is not None:
        learner.data.extend(state["collected.rows"], state["collected.sizes"])


def save_state(file: Path, learner: Learner, about: Mapping[str, Any], seconds: float) -> None:
    """Write a checkpoint.

    Raises:
        RunError: the learner has numbers that are not finite; the previous checkpoint is kept.
        FileError: there is no space or no permission; the previous checkpoint is kept.
    """
    state = state_of(learner)
    if bad := [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]:
        raise RunError(
            f"{about['method']} has diverged: at step {learner.step:,}, {', '.join(bad[:3])} are not finite. The "
            f"previous checkpoint is kept. Lower the step size (--lr), and begin anew in another folder."
        )
    counters = (learner.step, learner.env_steps, seconds, str(learner.generator.device))
    write_tensors(file, state, {**about, **dict(zip(COUNTERS, counters, strict=True)), "format": FORMAT})


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
        phase = None
    elif branch is None:
        return 0.0
    else:
        phase, file = _phase_to_branch_from(run, branch)
    state, there = _read(file, "Delete it to begin anew.")
    counters = {name: there.pop(name, None) for name in COUNTERS}
    skipped = set() if phase is None else later_fields(type(run.config), run.config.phases, phase)
    ours, theirs = (_without(one, skipped, method=phase is None) for one in (about, there))
    if ours != theirs:
        what = "run" if phase is None else f"{phase} phase"
        raise RunError(f"The {what} in {file} is another one: {differences(theirs, ours)}. Choose another folder.")
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


def _phase_to_branch_from(run: Run, branch: Path) -> tuple[str, Path]:
    """Return the latest phase that a folder has finished and this run shares, and its checkpoint."""
    shares = get_method(run.method).shares
    names = [phase.name for phase in run.config.phases[:-1]]
    if shares is not None:
        names = names[: names.index(shares.partition(":")[2]) + 1]
    for name in reversed(names):
        if (file := branch / file_name("state", name)).exists():
            return name, file
    wanted = " or ".join(f"'{name}'" for name in names) or "that could be shared"
    raise RunError(f"{branch} has no finished phase {wanted} to branch from.")


def _without(about: Mapping[str, Any], fields: set[str], method: bool) -> dict[str, Any]:
    """Return a description of a run without some config fields, and without the method unless ``method`` is set."""
    config = {name: value for name, value in about["config"].items() if name not in fields}
    return {**{name: value for name, value in about.items() if method or name != "method"}, "config": config}


# --- agent files


def save_agent(file: Path, learner: Learner, about: Mapping[str, Any]) -> None:
    """Write an agent file: the nets that :meth:`~Learner.adapt` needs, and how they were trained.

    Raises:
        FileError: there is no space or no permission; the previous file is kept.
    """
    state = {f"{name}.{key}": t for name in learner.acting for key, t in learner.nets[name].state_dict().items()}
    write_tensors(file, {name: t.detach().cpu().contiguous() for name, t in state.items()}, {**about, "format": FORMAT})


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
        config = read_config(about["method"], about["config"])
        learner: Learner = learner_class(about["method"])(config, family, torch.Generator().manual_seed(0))
        for name in learner.acting:
            mine = {k.removeprefix(f"{name}."): t for k, t in tensors.items() if k.startswith(f"{name}.")}
            learner.nets[name].load_state_dict(mine)
    except (OfflineMetaError, RuntimeError, TypeError) as error:
        raise RunError(f"{checkpoint} does not fit its own method and config: {error}") from error
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
