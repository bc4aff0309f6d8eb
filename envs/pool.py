"""A simulator whose environments run in several processes, for physics that holds Python's lock (Meta-World)."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from offlinemeta.envs.errors import ClosedError, OfflineMetaError, RenderError
from offlinemeta.envs.family import Simulator, Transition
from offlinemeta.envs.render import View
from offlinemeta.envs.shapes import Array, Float, Float32
from offlinemeta.envs.task import Task

Call = tuple[str, tuple[Any, ...]]
"""The name of a method of the simulator, and its arguments."""


class WorkerError(OfflineMetaError, RuntimeError):
    """A process of the pool has failed; the message holds its traceback."""


class ProcessPool:
    """A simulator that splits N environments over processes, each of which simulates its share.

    Tasks and resets are noted and sent with the next step or observation, so that all processes reset at once.

    Args:
        make: a picklable function that builds a simulator of ``n`` environments; each process calls it.
        num_envs: number of environments in all processes.
        num_processes: number of processes; there are no more of them than environments.
        preload: names of modules that workers need; a fork server, where there is one, imports them once.

    Raises:
        WorkerError: a process failed to build its simulator.
    """

    def __init__(
        self, make: Callable[[int], Simulator], num_envs: int, num_processes: int, preload: Sequence[str]
    ) -> None:
        # never a plain fork: threads and OpenGL do not survive it
        server = "forkserver" in multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if server else "spawn")
        if server:
            context.set_forkserver_preload(list(preload))
        shares = np.array_split(np.arange(num_envs), min(num_processes, num_envs))
        self._home = [(worker, local) for worker, share in enumerate(shares) for local in range(len(share))]
        self._rows = [slice(share[0], share[-1] + 1) for share in shares]
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        for share in shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, make, len(share)), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._finalizer = weakref.finalize(self, _stop, self._pipes, self._processes)
        self._noted: list[list[Call]] = [[] for _ in shares]
        self._broken = False
        self._exchange([[] for _ in shares])  # returns when all simulators are built

    def _exchange(self, calls: Sequence[list[Call]]) -> list[Any]:
        """Make calls in each process, after what was noted for it, and return each process's last result."""
        if not self._finalizer.alive:
            raise ClosedError
        if self._broken:
            raise WorkerError("A step was interrupted half-way, so the processes disagree. Make the environment anew.")
        self._broken = True  # until all have answered: an interrupt leaves it so
        results, errors = [], []
        for worker, last in enumerate(calls):
            noted, self._noted[worker] = self._noted[worker], []
            self._reach(worker, self._pipes[worker].send, noted + last)
        for worker in range(len(calls)):
            result, error = self._reach(worker, self._pipes[worker].recv)
            results.append(result)
            if error is not None:
                errors.append(error)
        self._broken = False
        if errors:
            raise WorkerError(f"A simulator process failed:\n{errors[0]}")
        return results

    def _reach(self, worker: int, act: Callable[..., Any], *args: Any) -> Any:
        try:
            return act(*args)
        except (EOFError, OSError) as error:
            code = self._processes[worker].exitcode
            raise WorkerError(
                f"Simulator process {worker} is gone (exit code {code}). Make the environment anew; if it went at the "
                f"start, put the code of your script under: if __name__ == '__main__':"
            ) from error

    def set_task(self, i: int, task: Task) -> None:
        """Give environment ``i`` a task."""
        worker, local = self._home[i]
        self._noted[worker].append(("set_task", (local, task)))

    def reset(self, i: int, rng: np.random.Generator) -> None:
        """Reset environment ``i``; the process gets a copy of the generator, so resets must not be random."""
        worker, local = self._home[i]
        self._noted[worker].append(("reset", (local, rng)))

    def step(self, actions: Float[Array, "N A"]) -> Transition:
        """Step all environments at once.

        Raises:
            WorkerError: a process failed or is gone, or an earlier step was interrupted.
            ClosedError: the pool has been closed.
        """
        parts: list[Transition] = self._exchange([[("step", (actions[rows],))] for rows in self._rows])
        return Transition(
            features=np.concatenate([part.features for part in parts]),
            terminated=np.concatenate([part.terminated for part in parts]),
            diverged=np.concatenate([part.diverged for part in parts]),
            rewards=None
            if parts[0].rewards is None
            else np.concatenate([part.rewards for part in parts if part.rewards is not None]),
            info={key: np.concatenate([part.info[key] for part in parts]) for key in parts[0].info},
        )

    def observe(self) -> Float32[Array, "N O"]:
        """Return the observations of all environments."""
        return np.concatenate(self._exchange([[("observe", ())] for _ in self._rows]))

    def view(self, i: int) -> View:
        """Raise RenderError: a view cannot leave its process."""
        raise RenderError("A pool of processes cannot be drawn. Make a single environment with gym.make for pictures.")

    def close(self) -> None:
        """Stop the processes."""
        self._finalizer()


def _stop(pipes: list[Connection], processes: list[BaseProcess]) -> None:
    for pipe in pipes:
        pipe.close()  # ends the worker's loop
    for process in processes:
        process.join(timeout=5)
        if process.is_alive():
            process.terminate()
            process.join()


def _work(pipe: Connection, make: Callable[[int], Simulator], num_envs: int) -> None:
    """Run a worker process: build a simulator, then make calls on it until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's business
    simulator: Simulator | None = None
    try:
        while True:
            calls = pipe.recv()
            result, error = None, None
            try:
                simulator = simulator or make(num_envs)
                for name, args in calls:
                    result = getattr(simulator, name)(*args)
            except Exception:
                error = traceback.format_exc()
            pipe.send((result, error))
    except (EOFError, OSError):
        if simulator is not None:
            simulator.close()
