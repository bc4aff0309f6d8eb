"""Train a method on a dataset: log, checkpoint, resume, evaluate.

A run is a folder: ``run.json`` (what is trained), ``log.jsonl``, ``state.safetensors`` (everything a resumed run
needs), ``agent.safetensors`` (what the harness evaluates), ``<phase>.state.safetensors`` at the end of a phase, and
``results/``.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from torch import Tensor

from offlinemeta.baselines.parts.agent import LatentAgent
from offlinemeta.baselines.parts.buffer import TaskBuffer
from offlinemeta.baselines.registry import learner_class, plain_config
from offlinemeta.baselines.training.diagnostics import decoder_error, kl_shift, probe
from offlinemeta.baselines.training.storage import save_tensors
from offlinemeta.benchmark.errors import AgentError, RunError
from offlinemeta.benchmark.protocol import REPEATS, Benchmark, get_benchmark, get_protocol
from offlinemeta.benchmark.result import Provenance, about_here, make_result, write_result
from offlinemeta.benchmark.runner import evaluate
from offlinemeta.console import say
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.loading import load
from offlinemeta.datasets.spec import DatasetSpec
from offlinemeta.envs import env_id, get_family
from offlinemeta.files import write_text

AGENT = "offlinemeta.baselines.parts.agent:LatentAgent"
FORMAT = 1
"""Of checkpoints; others are refused."""
LOG_EVERY = 250
SAVE_EVERY = 120.0
"""Seconds between checkpoints."""
PROTOCOLS = ("online-10", "offline-context")


@dataclass(frozen=True)
class Run:
    """What is trained.

    Attributes:
        method: its name in the registry.
        config: of the method.
        spec: the dataset.
        seed: of everything random in training.
        folder: where the run lives.
        device: ``cpu`` or ``cuda``.
        protocols: evaluated at the end of each phase.
        repeats: of the evaluation.
        watch: gradient steps between glances at the held-out curve; 0 for none.
    """

    method: str
    config: Any
    spec: DatasetSpec
    seed: int
    folder: Path
    device: str = "cpu"
    protocols: tuple[str, ...] = PROTOCOLS
    repeats: int = REPEATS
    watch: int = 2500

    def about(self) -> dict[str, Any]:
        """What decides the run's numbers, as JSON."""
        return {
            "method": self.method,
            "config": plain_config(self.config),
            "dataset": self.spec.id,
            "env": env_id(get_family(self.spec.family)),
            "seed": self.seed,
        }


def train(run: Run, resume: bool = False, branch: Path | None = None, console: Console | None = None) -> list[Path]:
    """Train to the end, evaluate at the end of each phase, and return the result files.

    Args:
        run: what to train.
        resume: go on with what is in the folder.
        branch: another run's folder; begin where its offline phase ended (the oracle shares SMAC's).
        console: where progress is shown.

    Raises:
        RunError: the folder holds a run already, or another one; a checkpoint is damaged or cannot be written.
    """
    console = console or Console(stderr=True)
    for name in run.protocols:
        get_benchmark(f"{run.spec.family}/{run.spec.quality}/{name}")
    check_folder(run, resume)
    dataset = load(run.spec, console=console)
    heldout = load(run.spec.id.replace("-v", "-heldout-v"), console=console)
    device = torch.device(run.device)
    logged = TaskBuffer.of(dataset, device, run.config.normalise)
    generator = torch.Generator(device=device).manual_seed(run.seed)
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        learner = learner_class(run.method)(run.config, get_family(run.spec.family), logged, generator)
    about = {**run.about(), "sha256": dataset.hash, "latent": latent_size(learner)}
    seconds = restore(run, learner, about, branch)
    write_text(run.folder / "run.json", json.dumps(run.about(), indent=1) + "\n")
    trainer = Trainer(run, learner, about, dataset, heldout, seconds, console)
    return trainer.to_the_end()


class Trainer:
    """The loop, and what it writes down."""

    def __init__(
        self,
        run: Run,
        learner: Any,
        about: dict[str, Any],
        dataset: Dataset,
        heldout: Dataset,
        seconds: float,
        console: Console,
    ) -> None:
        self.run, self.learner, self.about, self.console = run, learner, about, console
        self.dataset, self.heldout = dataset, heldout
        self.family = get_family(run.spec.family)
        self.agent = LatentAgent.of(learner, self.family, about)
        self.started = time.monotonic() - seconds
        self.here = about_here()
        self.written: list[Path] = []

    def to_the_end(self) -> list[Path]:
        """Make all gradient steps; return the result files."""
        learner, total = self.learner, self.run.config.steps
        ends = {step: phase for phase, step in phases(self.run)}
        sums: dict[str, Tensor] = {}
        summed = 0
        saved = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console)
        with bar, log_to(self.run.folder) as log:
            line = bar.add_task(self.run.method, total=total, completed=learner.step)
            while True:
                if learner.step in ends:
                    self.end_phase(ends[learner.step], log)
                if learner.step >= total:
                    break
                for name, loss in learner.update().items():
                    sums[name] = sums.get(name, torch.zeros(())) + loss.detach()
                summed += 1
                if learner.step % LOG_EVERY == 0:
                    means = {name: float(value) / summed for name, value in sums.items()}
                    log({"step": learner.step, "seconds": self.seconds(), **means})
                    sums, summed = {}, 0
                    shown = " ".join(f"{name} {value:.3g}" for name, value in means.items())
                    bar.update(line, completed=learner.step, description=f"{self.run.method} {shown}")
                if self.run.watch and learner.step % self.run.watch == 0 and learner.step not in ends:
                    self.glance(log)
                if time.monotonic() - saved > SAVE_EVERY:
                    self.save("state")
                    saved = time.monotonic()
        return self.written

    def seconds(self) -> float:
        """Of training so far, over all resumes."""
        return round(time.monotonic() - self.started, 1)

    def glance(self, log: Any) -> None:
        """Show a short held-out curve; nothing is chosen by it."""
        benchmark = Benchmark(self.run.spec.family, self.run.spec.quality, get_protocol("online-3"))
        try:
            curve = evaluate(self.agent, benchmark, repeats=1).mean(0)
        except AgentError as error:  # a training that diverges is seen at its end
            say(self.console, f"{self.run.method} at {self.learner.step:,} steps: {error}", style="yellow")
            return
        log({"step": self.learner.step, "seconds": self.seconds(), "curve": curve.round(2).tolist()})
        shown = ", ".join(f"{value:.1f}" for value in curve)
        say(self.console, f"{self.run.method} at {self.learner.step:,} steps: held-out returns {shown}")

    def end_phase(self, phase: str, log: Any) -> None:
        """Save, and evaluate what this phase has trained."""
        self.save(f"{phase}.state" if phase != "final" else "state")
        name = "agent" if phase == "final" else f"{phase}.agent"
        self.agent.save(self.run.folder / f"{name}.safetensors")
        method = self.run.method if phase == "final" else f"{self.run.method}-{phase}"
        provenance = Provenance(
            dataset={"id": self.run.spec.id, "sha256": self.dataset.hash},
            config=self.about["config"],
            wall_time=self.seconds(),
            gradient_steps=self.learner.step,
            env_steps=self.learner.env_steps,
            **self.here,
        )
        for name in self.run.protocols:
            benchmark = Benchmark(self.run.spec.family, self.run.spec.quality, get_protocol(name))
            file = self.run.folder / "results" / f"{method}-{name}.json"
            agent = LatentAgent.of(self.learner, self.family, self.about)  # its randomness begins anew
            with self.console.status(f"evaluating {method} on {benchmark.name}"):
                dataset = self.dataset if benchmark.protocol.split == "train" else self.heldout
                returns = evaluate(agent, benchmark, self.run.seed, self.run.repeats, dataset)
                figures = self.diagnose() if name.startswith("online") else {}
            result = make_result(
                benchmark,
                method,
                AGENT,
                returns,
                self.run.repeats,
                self.run.seed,
                sees_task=hasattr(agent, "tell"),
                figures=figures,
                provenance=provenance,
            )
            write_result(result, file)
            log({"step": self.learner.step, "result": file.name, "curve": returns.mean(0).round(2).tolist()})
            curve = ", ".join(f"{value:.1f}" for value in returns.mean(0))
            say(self.console, f"{method} on {benchmark.name}: {curve}")
            self.written.append(file)

    def diagnose(self) -> dict[str, float]:
        """Measure what z knows."""
        if hasattr(self.agent, "tell"):
            return {}
        agent, seed = LatentAgent.of(self.learner, self.family, self.about), self.run.seed
        figures = kl_shift(agent, self.dataset, seed) | probe(agent, self.dataset, self.heldout, seed)
        if "decoder" in self.learner.nets:
            logged = self.learner.logged
            buffer = TaskBuffer(self.heldout.tasks, logged.normalise, logged.device)
            buffer.add(list(self.heldout))
            figures |= decoder_error(self.learner, buffer, seed)
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def save(self, name: str) -> None:
        """Write a checkpoint."""
        learner = self.learner
        counters = {"seconds": self.seconds(), "step": learner.step, "env_steps": learner.env_steps}
        about = {**self.about, **counters, "format": FORMAT, "device": self.run.device}
        save_tensors(self.run.folder / f"{name}.safetensors", state_of(learner), about)


def phases(run: Run) -> list[tuple[str, int]]:
    """Return the ends of a run's phases, as gradient steps."""
    offline = getattr(run.config, "offline_steps", run.config.steps)
    ends = [("final", run.config.steps)]
    if offline < run.config.steps and run.method == "smac":
        ends.insert(0, ("offline", offline))
    return ends


def latent_size(learner: Any) -> int:
    """Size of what the policy is conditioned on."""
    return learner.policy.inputs - learner.logged.normalise.mean.size


def check_folder(run: Run, resume: bool) -> None:
    """Check what is in a run's folder.

    Raises:
        RunError: there is a run already, or another one, or none to resume.
    """
    file = run.folder / "run.json"
    if not file.exists():
        if resume and not (run.folder / "state.safetensors").exists():
            raise RunError(f"There is no run in {run.folder} to resume.")
        return
    if not resume:
        raise RunError(f"{run.folder} holds a run. Go on with it by --resume, or choose another folder with --out.")
    there = json.loads(file.read_text(encoding="utf-8"))
    if there != json.loads(json.dumps(run.about())):
        changed = differences(there, run.about())
        raise RunError(f"The run in {run.folder} is another one: {changed}. Choose another folder with --out.")


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Say where two descriptions differ."""
    flat = [{**{k: v for k, v in about.items() if k != "config"}, **about["config"]} for about in (there, here)]
    names = sorted(set(flat[0]) | set(flat[1]))
    changed = [name for name in names if flat[0].get(name) != flat[1].get(name)]
    return ", ".join(f"{name} is {flat[0].get(name)!r} there and {flat[1].get(name)!r} here" for name in changed)


# --- state


def state_of(learner: Any) -> dict[str, Tensor]:
    """Return everything that a resumed run needs, by name."""
    state = {f"{name}.{key}": t for name, net in learner.nets.items() for key, t in net.state_dict().items()}
    for i, slots in learner.optimiser.state_dict()["state"].items():
        state |= {f"optimiser.{i}.{key}": torch.as_tensor(value) for key, value in slots.items()}
    state["generator"] = learner.generator.get_state()
    if hasattr(learner, "data"):
        state["collected"], state["sizes"] = learner.data.beyond(learner.logged)
    return {name: tensor.detach().cpu() for name, tensor in state.items()}


def load_state(learner: Any, state: Mapping[str, Tensor]) -> None:
    """Put a state back."""
    for name, net in learner.nets.items():
        net.load_state_dict({key: state[f"{name}.{key}"] for key in net.state_dict()})
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.startswith("optimiser."):
            _, i, key = name.split(".")
            slots.setdefault(int(i), {})[key] = tensor
    learner.optimiser.load_state_dict({**learner.optimiser.state_dict(), "state": slots})
    learner.generator.set_state(state["generator"])
    if hasattr(learner, "data"):
        learner.data.extend(state["collected"], state["sizes"])


def restore(run: Run, learner: Any, about: Mapping[str, Any], branch: Path | None) -> float:
    """Load the folder's checkpoint, or the one to branch from; return the seconds that it took.

    Raises:
        RunError: it is damaged, of another format, device, config or data, or its offline phase is another one.
    """
    file, here = run.folder / "state.safetensors", json.loads(json.dumps(about))
    if not file.exists():
        if branch is None:
            return 0.0
        file = branch / "offline.state.safetensors"
        if not file.exists():
            raise RunError(f"{branch} has no finished offline phase to branch from.")
        here = {**here, "method": "smac", "config": {**here["config"], **dict.fromkeys(online_fields(here["config"]))}}
    try:
        with safe_open(file, framework="pt") as content:
            there = json.loads((content.metadata() or {})["offlinemeta"])
            state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        counters = {name: there.pop(name) for name in ("seconds", "step", "env_steps", "format", "device")}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RunError(f"The checkpoint {file} is damaged ({error!r}). Delete it to begin anew.") from error
    if counters["format"] != FORMAT:
        raise RunError(f"{file} has format {counters['format']}; this version of offlinemeta reads {FORMAT}.")
    if file.parent != run.folder:
        there["config"] = {**there["config"], **dict.fromkeys(online_fields(there["config"]))}
    if there != here:
        what = "run" if file.parent == run.folder else "offline phase"
        raise RunError(f"The {what} in {file} is another one: {differences(there, here)}. Choose another folder.")
    if counters["device"].partition(":")[0] != run.device.partition(":")[0]:
        raise RunError(
            f"{file} was trained on {counters['device']}. Go on with it there: --device {counters['device']}"
        )
    try:
        load_state(learner, state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise RunError(f"The checkpoint {file} is damaged ({error!r}). Delete it to begin anew.") from error
    learner.step, learner.env_steps = counters["step"], counters["env_steps"]
    return counters["seconds"]


def online_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that matter only after the offline phase."""
    names = ("pearl_weight", "label_context", "explore_episodes")
    return {name: value for name, value in config.items() if name.startswith(("round", "online_")) or name in names}


@contextlib.contextmanager
def log_to(folder: Path) -> Iterator[Any]:
    """Give a function that appends a line to ``log.jsonl``, and to TensorBoard where that is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter

        board = SummaryWriter(folder / "tensorboard")
    except ImportError:
        board = None
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:

        def log(entry: Mapping[str, Any]) -> None:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            if board is not None:
                for name, value in entry.items():
                    if isinstance(value, float):
                        board.add_scalar(name, value, entry["step"])

        yield log
    if board is not None:
        board.close()
