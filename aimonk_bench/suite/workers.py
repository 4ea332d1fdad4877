"""Worker processes of this machine, with their parts of its GPUs."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import types
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from aimonk_bench.suite.pool import LOOK, Pool
from aimonk_bench.suite.replies import READY, SignOfLife, answer, prepare
from aimonk_bench.suite.worker import Worker, WorkerEnded

GPUS = "CUDA_VISIBLE_DEVICES"
PATIENCE = 10.0  # seconds that a worker may take to end
OOM_SCORE = Path("/proc/self/oom_score_adj")  # where memory runs out, Linux ends the process with the highest number


class _Process(Worker):
    """A worker process.

    Args:
        gpu: the only one that it sees; None: it sees those that this process sees.
        modules: that it imports before it is ready.
    """

    def __init__(self, gpu: str | None, modules: Sequence[str]) -> None:
        super().__init__()
        self.gpu = gpu
        self.process, self.connection = _spawned({} if gpu is None else {GPUS: gpu}, modules)

    def pack(self, function: Callable[[], Any]) -> bytes:
        return pickle.dumps(function)

    def send(self, packed: bytes) -> None:
        try:
            self.connection.send_bytes(packed)
        except OSError:  # it has ended
            return

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone; a process that it has forked may keep the connection open."""
        return self.process.exitcode is not None

    def receive(self) -> bytes:
        has_ended = self.has_ended  # asked first: what it sent before is in the pipe now
        if has_ended and not self.connection.poll():
            raise WorkerEnded(_how(self.process.exitcode))
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError) as error:
            self.join()
            raise WorkerEnded(_how(self.process.exitcode)) from error

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.connection.close()

    def join(self) -> None:
        self.process.join(PATIENCE)
        if self.process.exitcode is None:  # a plug-in has left a thread that goes on, or closed the connection
            self.kill()
            self.process.join()


class Workers(Pool[_Process]):
    """Worker processes that ignore Ctrl-C and end with this process, even if it is killed.

    Args:
        count, retries, timeout: as of a `Pool`.
        gpus: of which each worker sees one, in turn; empty: each sees all that this process sees.
        modules: that tasks need and that take long to import.
    """

    noun = "worker process"

    def __init__(
        self,
        count: int,
        *,
        retries: int = 1,
        timeout: float | None = None,
        gpus: Sequence[str] = (),
        modules: Sequence[str] = (),
    ) -> None:
        super().__init__(count, retries=retries, timeout=timeout)
        self._gpus, self._modules = list(gpus), tuple(modules)

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes that were started and are not known to have ended."""
        return [worker.process.pid for worker in self._workers]

    def _started(self) -> _Process:
        taken = [worker.gpu for worker in self._workers]
        return _Process(min(self._gpus, key=taken.count, default=None), self._modules)

    def _heard(self, seconds: float | None) -> list[_Process]:
        sources = [source for worker in self._workers for source in (worker.connection, worker.process.sentinel)]
        events = wait(sources, LOOK if seconds is None else min(seconds, LOOK))
        heard = (one.connection in events or one.process.sentinel in events or one.has_ended for one in self._workers)
        return list(itertools.compress(self._workers, heard))


def can_start() -> bool:
    """Whether this process may start others: a daemonic one of `multiprocessing` may not."""
    return not multiprocessing.current_process().daemon


def _how(code: int | None) -> str:
    """How a process ended, as a predicate."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = ", as the system does where memory runs out" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"


def _spawned(variables: dict[str, str], modules: Sequence[str]) -> tuple[Any, Connection]:
    """A new process, which inherits that SIGINT is blocked until it ignores it, and the connection with it.

    Args:
        variables: of its environment, beside those of this process.
        modules: that it imports before it is ready.
    """
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, variables, modules))
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")  # a worker would import a script without a guard again
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        sys.modules["__main__"] = main
    there.close()  # so that the pipe ends with the worker
    return process, here


class _Driver:
    """The driver of this worker process, which gets what several threads send."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def send(self, message: object) -> None:
        """Send a message.

        Raises:
            OSError: the driver has ended, or a plug-in closed the connection.
        """
        content = message if isinstance(message, bytes) else pickle.dumps(message)
        with self._lock:
            self._connection.send_bytes(content)

    def log(self, record: logging.LogRecord) -> None:
        """Send what was logged; nothing where the connection is closed, which ends this process after its task."""
        with contextlib.suppress(OSError):
            self.send(record)


_driver: _Driver | None = None  # in a worker process
_exit_code = 1  # of a worker process; 0 once nothing more is wanted


def report(phase: str, done: int, total: int | None) -> None:
    """Tell the driver how far the task of this worker process is."""
    assert _driver is not None
    _driver.send(SignOfLife((phase, done, total)))


def stay_alive() -> None:
    """Tell the driver that this worker process does not stand still, though it has nothing to report."""
    assert _driver is not None
    _driver.send(SignOfLife())


def _serve(connection: Connection, variables: dict[str, str], modules: Sequence[str]) -> None:
    """What a worker does."""
    atexit.register(_leave)  # first, so that it comes after what tasks register
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver gets it too, and decides what is still wanted
    threading.Thread(target=_end_with_driver, daemon=True).start()
    with contextlib.suppress(OSError):  # only Linux has this file
        OOM_SCORE.write_text("1000")
    os.environ |= variables  # before anything imports torch
    prepare(modules)
    global _driver
    _driver = driver = _Driver(connection)
    driver.send(READY)
    while True:
        try:
            task = connection.recv_bytes()
        except (EOFError, OSError):  # nothing more is wanted
            global _exit_code
            _exit_code = 0
            return
        answered = answer(partial(_loaded, task), driver.log)
        try:
            driver.send(answered)
        except OSError:  # the driver has ended, or a plug-in closed the connection: the driver says that this ended
            sys.exit(1)


def _leave() -> None:
    """End this worker process: to take torch's modules apart would take a second, for which the driver waits."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(_exit_code)


def _loaded(task: bytes) -> Callable[[], Any]:
    function: Callable[[], Any] = pickle.loads(task)
    return function


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)
