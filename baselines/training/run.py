"""Runs, each of which is a folder.

A run's folder holds ``run.json`` (what decides its numbers), ``log.jsonl``, ``state.safetensors`` (everything that a
resumed run needs), ``agent.safetensors`` (the agent that the harness evaluates), ``<phase>.state.safetensors`` and
``<phase>.agent.safetensors`` from the end of each earlier phase, and ``results/``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from offlinemeta.baselines.parts.config import Phase
from offlinemeta.baselines.registry import get_method, plain_config
from offlinemeta.benchmark.errors import RunError
from offlinemeta.benchmark.protocol import REPEATS
from offlinemeta.datasets.spec import DatasetSpec
from offlinemeta.envs import env_id, get_family
from offlinemeta.files import denied

RUN_FILE = "run.json"

PROTOCOLS = ("online-10", "offline-context")

PATIENCE = 10.0
"""Seconds to wait for another run in the same folder, which may just be ending."""


@dataclass(frozen=True)
class Run:
    """One training: its method, config, data and seed, and where and how it runs.

    Attributes:
        method: the method's name in the registry.
        config: the method's config.
        spec: the dataset to train on.
        seed: seed for all randomness in training and evaluation.
        folder: the folder of the run.
        device: ``cpu`` or ``cuda``.
        protocols: names of the protocols that are evaluated at the end of each phase.
        repeats: number of evaluations of each task, whose returns are averaged.
        watch: number of gradient steps between two curves on training tasks; 0 for no curves.
    """

    method: str
    config: Any
    spec: DatasetSpec
    seed: int
    folder: Path
    device: str = "cpu"
    protocols: tuple[str, ...] = PROTOCOLS
    repeats: int = REPEATS
    watch: int = 5000

    def about(self) -> dict[str, Any]:
        """Return everything that decides the run's numbers, as plain values of JSON."""
        about = {
            "method": self.method,
            "config": plain_config(self.config),
            "dataset": self.spec.id,
            "env": env_id(get_family(self.spec.family)),
            "seed": self.seed,
        }
        return json.loads(json.dumps(about))

    @property
    def own_phases(self) -> tuple[Phase, ...]:
        """The phases at whose ends this run saves and evaluates its agent.

        A phase that another method has as well (``Method.shares``) is left to that method.
        """
        phases, shared = self.config.phases, get_method(self.method).shared
        names = [phase.name for phase in phases]
        return phases if shared is None else phases[names.index(shared[1]) + 1 :]

    @property
    def steps(self) -> int:
        """The number of gradient steps of the training."""
        return self.config.phases[-1].end

    def name_of(self, phase: Phase) -> str:
        """Return the name under which the agent at the end of a phase is listed."""
        return self.method if self.is_last(phase) else f"{self.method}-{phase.name}"

    def file_of(self, kind: str, phase: Phase) -> Path:
        """Return the file that keeps the state or the agent at the end of a phase."""
        return self.folder / file_name(kind, None if self.is_last(phase) else phase.name)

    def results_of(self, phase: Phase) -> dict[str, Path]:
        """Return the result files of the agent at the end of a phase, by protocol; an agent not evaluated has none.

        Of phases that end at the same step, only the last is evaluated.
        """
        last = [other for other in self.config.phases if other.end == phase.end][-1]
        names = self.protocols if phase == last and (phase.evaluated or self.is_last(phase)) else ()
        return {name: self.folder / "results" / f"{self.name_of(phase)}-{name}.json" for name in names}

    def is_last(self, phase: Phase) -> bool:
        """Tell whether a phase is the last one of the training."""
        return phase == self.config.phases[-1]

    @property
    def results(self) -> list[Path]:
        """The result files that the run has when it has finished; phases before a branch are another run's."""
        ended = [phase for phase in self.own_phases if self.is_last(phase) or self.file_of("agent", phase).exists()]
        return [file for phase in ended for file in self.results_of(phase).values()]

    @property
    def finished(self) -> bool:
        """Whether the folder holds this run, its last agent, and all of its results."""
        trained = self.file_of("agent", self.config.phases[-1]).exists()
        return trained and self.described() == self.about() and all(file.exists() for file in self.results)

    def described(self) -> dict[str, Any] | None:
        """Return what ``run.json`` in the folder says; None without that file.

        Raises:
            RunError: the file cannot be read, or describes no run.
        """
        file = self.folder / RUN_FILE
        try:
            about = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(about["config"], dict):
                raise TypeError("its config is no object")
            return dict(about)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file} describes no run ({error!r}). Delete it to begin anew.") from error


def file_name(kind: str, phase: str | None = None) -> str:
    """Return the name of a ``state`` or ``agent`` file: that of a phase's end or, without a phase, the latest."""
    return f"{kind}.safetensors" if phase is None else f"{phase}.{kind}.safetensors"


def run_folder(root: Path, spec: DatasetSpec, method: str, seed: int) -> Path:
    """Return the folder of a run, below the folder of all runs."""
    return root / f"{spec.family}-{spec.quality}" / f"{method}-s{seed}"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a run's folder; the system releases the lock when the process ends, however it ends.

    Raises:
        RunError: another process trains in the folder.
    """
    file = folder / ".lock"
    with contextlib.ExitStack() as stack:
        try:
            file.touch()  # with the umask's permissions
            lock = FileLock(file, mode=file.stat().st_mode & 0o777)
            lock.acquire(timeout=PATIENCE)
            stack.callback(lock.release)
        except Timeout as error:
            raise RunError(
                f"Another process trains in {folder}. Wait for it, or choose another folder with --out."
            ) from error
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and denied(error):
                raise RunError(
                    f"The lock {file} may not be written: {error.strerror}. Choose another folder with --out."
                ) from error
            # a file system without locks: two trainings in one folder are then the user's own affair
        yield


def check_folder(run: Run, resume: bool) -> None:
    """Check that a run can begin in its folder, or that it can be resumed there.

    Raises:
        RunError: the folder holds a run that is not to be resumed, or another run, or none to resume.
    """
    there, state = run.described(), (run.folder / file_name("state")).exists()
    if there is None and resume and not state:
        raise RunError(f"There is no run in {run.folder} to resume.")
    if not resume and (there is not None or state or any((run.folder / "results").glob("*.json"))):
        raise RunError(f"{run.folder} holds a run. Go on with it by --resume, or choose another folder with --out.")
    if there is not None and there != run.about():
        changed = differences(there, run.about())
        raise RunError(f"The run in {run.folder} is another one: {changed}. Choose another folder with --out.")


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Say in which fields two descriptions of runs differ, and how."""
    flat = [{**{k: v for k, v in about.items() if k != "config"}, **about["config"]} for about in (there, here)]
    names = sorted(set(flat[0]) | set(flat[1]))
    changed = [name for name in names if flat[0].get(name) != flat[1].get(name)]
    return ", ".join(f"{name} is {flat[0].get(name)!r} there and {flat[1].get(name)!r} here" for name in changed)
