"""The training of a method on a dataset, with log, checkpoints, resuming and evaluation."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from offlinemeta.baselines.parts.config import Phase
from offlinemeta.baselines.parts.learner import Learner
from offlinemeta.baselines.registry import learner_class
from offlinemeta.baselines.training import diagnostics
from offlinemeta.baselines.training.checkpoint import AGENT, restore, resume, save_agent, save_state
from offlinemeta.baselines.training.log import Log, log_to
from offlinemeta.baselines.training.run import RUN_FILE, Run, check_folder, file_name, held
from offlinemeta.benchmark.errors import AgentError, RunError
from offlinemeta.benchmark.protocol import Benchmark, get_benchmark, get_protocol
from offlinemeta.benchmark.result import Provenance, about_here, make_result, write_result
from offlinemeta.benchmark.runner import evaluate
from offlinemeta.console import say
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.datasets.loading import load
from offlinemeta.datasets.manifest import origin
from offlinemeta.envs import get_family
from offlinemeta.files import check_writable, sha256, write_text

LOG_EVERY = 250
"""Number of gradient steps between two entries of the log."""

SAVE_EVERY = 120.0
"""Seconds between two checkpoints."""

DIAGNOSED = ("test", "val", "test100")
"""Splits on which results with own contexts say where the gap comes from too."""

WATCHED = "train-online-3"
"""The protocol of the curves that are shown while training goes on: nobody should look at held-out tasks then."""


def train(run: Run, resume: bool = False, branch: Path | None = None, console: Console | None = None) -> list[Path]:
    """Train to the end, evaluate at the end of each phase, and return the result files.

    Args:
        run: the run to train.
        resume: whether to go on with the run in the folder.
        branch: another run's folder; training begins where the last phase that both runs share ended there.
        console: the console on which progress is shown.

    Raises:
        RunError: the folder holds a run that may not be resumed, or another run; another process trains in it; a
            checkpoint is damaged; or the training has diverged.
        FileError: the folder cannot be written in.
    """
    console = console or Console(stderr=True)
    for name in run.protocols:
        get_benchmark(f"{run.spec.family}/{run.spec.quality}/{name}")
    check_folder(run, resume)
    if resume and run.finished:
        say(console, f"The run in {run.folder} has finished. Delete a result to have it made again.")
        return run.results
    check_writable(run.folder)
    with held(run.folder):
        check_folder(run, resume)
        trainer = Trainer(run, console)
        trainer.begin(branch)
        return trainer.to_the_end()


class Trainer:
    """The training loop, with the log, checkpoints and results that it writes."""

    def __init__(self, run: Run, console: Console) -> None:
        self.run, self.console = run, console
        self.dataset, self.heldout = (load(spec, console=console) for spec in (run.spec, run.spec.heldout_sibling))
        self.about = {**run.about(), "sha256": self.dataset.hash}
        self.here, self.started = about_here(), time.monotonic()
        self.learner = self.make()
        self.window: dict[str, list[float]] = {}

    def make(self) -> Learner:
        """Construct the run's learner, and give it the dataset.

        Raises:
            RunError: the nets that act are not among the learner's nets.
        """
        generator = torch.Generator(device=self.run.device).manual_seed(self.run.seed)
        learner: Learner = learner_class(self.run.method)(self.run.config, get_family(self.run.spec.family), generator)
        if missing := set(learner.acting) - set(learner.nets):
            raise RunError(f"{self.run.method} acts by {sorted(missing)}, which are not among its nets.")
        learner.load(self.dataset)
        return learner

    def begin(self, branch: Path | None) -> None:
        """Go on from the folder's checkpoint, or from another run's; write down what is trained."""
        state = self.run.folder / file_name("state")
        self.started -= restore(self.run, self.learner, self.about, branch)
        write_text(self.run.folder / RUN_FILE, json.dumps(self.run.about(), indent=1) + "\n")
        if self.learner.step and not state.exists():
            self.save(state)  # of a branch; a resumed run need not know where it branched from

    def to_the_end(self) -> list[Path]:
        """Make all gradient steps; return the result files."""
        run, learner, saved = self.run, self.learner, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console)
        with bar, log_to(run.folder, learner.step, self.console) as log:
            line = bar.add_task(run.method, total=run.steps, completed=learner.step)
            self.catch_up(log)
            while True:
                ended = [phase for phase in run.own_phases if phase.end == learner.step]
                for phase in ended:
                    self.end_phase(phase, log)
                if learner.step >= run.steps:
                    return run.results
                self.note(learner.update())
                if learner.step % LOG_EVERY == 0:
                    means = {name: sum(values) / len(values) for name, values in self.window.items()}
                    self.window = {}
                    log({"step": learner.step, "seconds": self.seconds(), **means})
                    shown = " ".join(f"{name} {value:.3g}" for name, value in means.items())
                    bar.update(line, description=f"{run.method} {shown}")
                bar.update(line, completed=learner.step)
                if run.watch and learner.step % run.watch == 0 and learner.step < run.steps:
                    self.glance(log)
                if time.monotonic() - saved > SAVE_EVERY:
                    self.save(run.folder / file_name("state"))
                    saved = time.monotonic()

    def catch_up(self, log: Log) -> None:
        """Make the results that are missing of phases that ended before, from the checkpoints at their ends."""
        for phase in self.run.own_phases:
            file = self.run.file_of("state", phase)
            missing = not all(result.exists() for result in self.run.results_of(phase).values())
            if phase.end < self.learner.step and missing and file.exists():
                learner = self.make()
                seconds = resume(file, self.run, learner, self.about)
                self.evaluate(phase, learner, seconds, log)

    def note(self, losses: Mapping[str, Tensor]) -> None:
        """Keep the losses of an update for the next entry of the log.

        Raises:
            RunError: a loss is not finite.
        """
        if not losses:
            return
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        if not values.isfinite().all():
            shown = ", ".join(f"{name} {value:.3g}" for name, value in zip(losses, values.tolist(), strict=True))
            raise RunError(
                f"{self.run.method} has diverged: at step {self.learner.step:,} its losses are {shown}. Checkpoints "
                f"in {self.run.folder} are kept as they were. Lower the step size (--lr), and begin anew elsewhere."
            )
        for name, value in zip(losses, values.tolist(), strict=True):
            self.window.setdefault(name, []).append(value)

    def seconds(self) -> float:
        """Return the seconds that the training has taken so far, over all resumes."""
        return round(time.monotonic() - self.started, 1)

    def glance(self, log: Log) -> None:
        """Log and show a short curve on training tasks; no decision depends on it."""
        run, learner = self.run, self.learner
        try:
            curve = evaluate(learner, self.benchmark(WATCHED), run.seed, repeats=1).mean(0)
        except AgentError as error:  # a training that diverges is seen in its losses
            say(self.console, f"{run.method} at {learner.step:,} steps: {error}", style="yellow")
            return
        log({"step": learner.step, "seconds": self.seconds(), "curve": curve.round(2).tolist()})
        shown = ", ".join(f"{value:.1f}" for value in curve)
        say(self.console, f"{run.method} at {learner.step:,} steps: returns on training tasks {shown}")

    def end_phase(self, phase: Phase, log: Log) -> None:
        """Save the state and the agent, and evaluate the agent."""
        run, learner = self.run, self.learner
        for file in dict.fromkeys((run.file_of("state", phase), run.folder / file_name("state"))):
            self.save(file)  # the latest one too, so that a run that is killed now goes on from here
        save_agent(run.file_of("agent", phase), learner, self.about, run.name_of(phase), self.seconds())
        self.evaluate(phase, learner, self.seconds(), log)

    def evaluate(self, phase: Phase, learner: Learner, seconds: float, log: Log) -> None:
        """Evaluate the agent at the end of a phase by every protocol whose result is not there yet."""
        run, name, figures = self.run, self.run.name_of(phase), dict[str, dict[str, float]]()
        provenance = Provenance(
            dataset=origin(run.spec.id, self.dataset.hash),
            config=self.about["config"],
            wall_time=seconds,
            gradient_steps=learner.step,
            env_steps=learner.env_steps,
            checkpoint=sha256(file) if (file := run.file_of("agent", phase)).exists() else "",
            evaluation_seed=run.seed,
            **self.here,
        )
        for protocol, file in run.results_of(phase).items():
            if file.exists():
                continue
            benchmark = self.benchmark(protocol)
            split, dataset = benchmark.protocol.split, self.logged(benchmark)
            measured = benchmark.protocol.kind.startswith("online") and split in DIAGNOSED
            context = origin(dataset.spec.id, dataset.hash) if benchmark.protocol.offline else {}
            with self.console.status(f"evaluating {name} on {benchmark.name}"):
                returns = evaluate(learner, benchmark, run.seed, run.repeats, dataset)
                if measured and split not in figures:
                    figures[split] = diagnostics.measure(learner, self.dataset, self.heldout, split, run.seed)
            result = make_result(
                benchmark,
                name,
                AGENT,
                returns,
                run.repeats,
                run.seed,
                sees_task=hasattr(learner, "tell"),
                figures=figures[split] if measured else None,
                provenance=provenance.model_copy(update={"context": context}),
            )
            write_result(result, file)
            log({"step": learner.step, "result": file.name, "curve": returns.mean(0).round(2).tolist()})
            say(self.console, f"{name} on {benchmark.name}: {', '.join(f'{v:.1f}' for v in returns.mean(0))}")

    def benchmark(self, protocol: str) -> Benchmark:
        """Return the benchmark of a protocol on the run's family and quality."""
        return Benchmark(self.run.spec.family, self.run.spec.quality, get_protocol(protocol))

    def logged(self, benchmark: Benchmark) -> Dataset:
        """Return the dataset over a benchmark's tasks: the run's own, or that of another quality."""
        if benchmark.protocol.source:
            return load(benchmark.dataset, console=self.console)
        return self.dataset if benchmark.protocol.split == "train" else self.heldout

    def save(self, file: Path) -> None:
        """Write a checkpoint."""
        save_state(file, self.learner, self.about, self.seconds())
