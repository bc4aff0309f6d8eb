"""A simulator whose environments live in processes, for physics that holds Python's lock (Meta-World)."""

from __future__ import annotations

import multiprocessing
import traceback
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from offlinemeta.envs.errors import OfflineMetaError, RenderError
from offlinemeta.envs.family import Simulator, Transition
from offlinemeta.envs.render import View
from offlinemeta.envs.shapes import Array, Float, Float32
from offlinemeta.envs.task import Task


class WorkerError(OfflineMetaError, RuntimeError):
    """A process of the pool has failed; the message holds its traceback."""


class ProcessPool:
    """Splits N environments over processes, each with a simulator of its own for its share.

    A worker answers every request with ``(result, error)``; resets are sent ahead and their answers read with the next
    step or observation, so that all processes reset at once.

    Args:
        make: builds the simulator of ``n`` environments in its process; must be picklable.
        num_envs: how many in all.
        num_processes: over how many to split them.
        preload: modules that workers need; where processes can be forked from a server, it imports them once.
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
        self._owed = [1] * len(shares)  # answers not yet read; the first says that the simulator is built
        self._finalizer = weakref.finalize(self, _stop, self._pipes, self._processes)
        self._settle()

    def _send(self, worker: int, name: str, *args: Any) -> None:
        try:
            self._pipes[worker].send((name, args))
        except OSError as error:
            raise self._died(worker) from error
        self._owed[worker] += 1

    def _receive(self, worker: int) -> Any:
        """Read all answers that a worker owes and return the last."""
        result = None
        while self._owed[worker]:
            try:
                result, error = self._pipes[worker].recv()
            except (EOFError, OSError) as broken:
                raise self._died(worker) from broken
            self._owed[worker] -= 1
            if error is not None:
                raise WorkerError(f"A simulator process failed:\n{error}")
        return result

    def _died(self, worker: int) -> WorkerError:
        code = self._processes[worker].exitcode
        return WorkerError(
            f"Simulator process {worker} is gone (exit code {code}). Make the environment anew; if it went at the "
            f"start, put the code of your script under: if __name__ == '__main__':"
        )

    def _settle(self) -> None:
        for worker in range(len(self._pipes)):
            self._receive(worker)

    def _gather(self, name: str) -> list[Any]:
        self._settle()
        for worker in range(len(self._pipes)):
            self._send(worker, name)
        return [self._receive(worker) for worker in range(len(self._pipes))]

    def set_task(self, i: int, task: Task) -> None:
        """Give environment ``i`` a task."""
        worker, local = self._home[i]
        self._send(worker, "set_task", local, task)

    def reset(self, i: int, rng: np.random.Generator) -> None:
        """Reset environment ``i``. The generator is copied: simulators with random resets cannot be pooled."""
        worker, local = self._home[i]
        self._send(worker, "reset", local, rng)

    def step(self, actions: Float[Array, "N A"]) -> Transition:
        """Step all environments at once."""
        self._settle()
        for worker, rows in enumerate(self._rows):
            self._send(worker, "step", actions[rows])
        parts: list[Transition] = [self._receive(worker) for worker in range(len(self._pipes))]
        return Transition(
            features=np.concatenate([part.features for part in parts]),
            terminated=np.concatenate([part.terminated for part in parts]),
            diverged=np.concatenate([part.diverged for part in parts]),
            rewards=None
            if parts[0].rewards is None
            else np.concatenate([p.rewards for p in parts if p.rewards is not None]),
            info={key: np.concatenate([part.info[key] for part in parts]) for key in parts[0].info},
        )

    def observe(self) -> Float32[Array, "N O"]:
        """The observations of all environments."""
        return np.concatenate(self._gather("observe"))

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
    """The life of a worker: build a simulator, then call its methods until the pipe closes."""
    call: Callable[..., Any] = make
    args: tuple[Any, ...] = (num_envs,)
    simulator: Simulator | None = None
    try:
        while True:
            result, error = None, None
            try:
                result = call(*args)
            except Exception:
                error = traceback.format_exc()
            if simulator is None and error is None:
                simulator, result = result, None
            pipe.send((result, error))
            name, args = pipe.recv()
            call = getattr(simulator, name)
    except (EOFError, OSError, KeyboardInterrupt):
        if simulator is not None:
            simulator.close()
