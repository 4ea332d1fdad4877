"""Worker processes. Each does one task at a time; one that dies or takes too long costs that task alone.

The driver sends a task when a worker is idle, and reads results only in `Workers.pump`: there is no thread between.
"""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
import types
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from aimonk_bench.errors import RunFailed

logger = logging.getLogger(__name__)

READY = "ready"  # what a worker sends when it has imported what tasks need
STILLBORN = 3  # workers in a row that end before they are ready


class WorkerLost(RunFailed):
    """A task whose worker process ended or took too long, each time that it was tried."""


class WorkersKilled(Exception):
    """A task that was given up, because all workers were killed."""


@dataclass(frozen=True, eq=False)
class Reply:
    """What a worker sends back.

    Attributes:
        result: of the task; None if it raised.
        error: what it raised, and the traceback there as text.
        messages: that it logged.
    """

    result: Any
    error: tuple[Exception, str] | None
    messages: list[logging.LogRecord]

    def settle(self, future: Future[Any]) -> None:
        """Give the result or the exception to a future; what was logged is logged here."""
        for record in self.messages:
            target = logging.getLogger(record.name)
            if target.isEnabledFor(record.levelno):
                target.handle(record)
        if self.error is None:
            future.set_result(self.result)
        else:
            error, text = self.error
            error.__cause__ = TracebackOfWorker(f"\n{text}")  # pickling would lose a cause
            future.set_exception(error)


class TracebackOfWorker(Exception):
    """The cause of an exception that was raised in a worker: its traceback there, as text."""


@dataclass(eq=False)
class _Job:
    """A task with its future: how often a worker was given it, and when it must be done, by `time.monotonic`."""

    name: str
    function: Callable[[], Any]
    future: Future[Any]
    tries: int = 0
    deadline: float = float("inf")


@dataclass(eq=False)
class _Worker:
    process: Any
    connection: Connection
    ready: bool = False
    job: _Job | None = None


class Workers:
    """Worker processes that ignore Ctrl-C and end with this process, even if it is killed.

    As a context they are waited for; where the context raises they are killed.

    Args:
        count: of processes, each started when a task is submitted and no worker is idle, or all by `start`.
        retries: times that a task whose worker ended or took too long is given to another worker.
        timeout: seconds that a worker may take for a task; None: as long as it likes.
    """

    def __init__(self, count: int, *, retries: int = 1, timeout: float | None = None) -> None:
        self._count, self._retries, self._timeout = count, retries, timeout
        self._workers: list[_Worker] = []
        self._waiting: deque[_Job] = deque()
        self._stillborn = 0
        self.killed = False

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes that were started and are not known to have ended."""
        return [worker.process.pid for worker in self._workers]

    def start(self) -> None:
        """Start all processes now; they import what tasks need while nothing waits for them."""
        while len(self._workers) < self._count:
            self._workers.append(_started())

    def submit(self, function: Callable[[], Any], name: str = "a task") -> Future[Any]:
        """A future of a function without arguments, which is pickled; `pump` settles it.

        Its exception is what the function raised, `WorkerLost` or `WorkersKilled`.

        Args:
            name: of the task, for messages.
        """
        job = _Job(name, function, Future())
        self._waiting.append(job)
        self._assign()
        return job.future

    def pump(self, seconds: float | None = None) -> None:
        """Wait until something is sent or a worker ends, and settle the futures of what is done.

        Args:
            seconds: to wait at most; None: without a limit.
        """
        self._assign()
        if not self._workers:
            return
        limits = [worker.job.deadline - time.monotonic() for worker in self._workers if worker.job is not None]
        limits += [] if seconds is None else [seconds]
        shortest = min(limits, default=float("inf"))
        sources = [source for worker in self._workers for source in (worker.connection, worker.process.sentinel)]
        events = wait(sources, None if shortest == float("inf") else max(0.0, shortest))
        for worker in list(self._workers):
            if worker.connection in events or worker.process.sentinel in events:
                self._receive(worker)
        now = time.monotonic()
        for worker in [one for one in self._workers if one.job is not None and one.job.deadline <= now]:
            worker.process.kill()
            self._lost(worker, f"took longer than run.timeout, {self._timeout:g} s")
        self._assign()

    def kill(self) -> None:
        """End the workers at once; every future that is not done raises `WorkersKilled`."""
        self.killed = True
        jobs = [*(worker.job for worker in self._workers if worker.job is not None), *self._waiting]
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()
        self._waiting.clear()
        for job in jobs:
            job.future.set_exception(WorkersKilled(job.name))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        if kind is None:
            while self._waiting or any(worker.job is not None for worker in self._workers):
                self.pump()
            for worker in self._workers:
                worker.connection.close()  # its end
        else:
            self.kill()
        for worker in self._workers:
            if not worker.ready:
                worker.process.kill()  # it would first import what nobody needs any more
            worker.process.join()
        self._workers.clear()

    def _assign(self) -> None:
        """Give waiting jobs to idle workers; start one where a job would wait and there may be more."""
        for worker in self._workers:
            if self._waiting and worker.ready and worker.job is None:
                job = self._waiting.popleft()
                try:
                    task = pickle.dumps(job.function)
                except Exception as error:  # whatever its parts do
                    job.future.set_exception(error)
                    continue
                job.tries += 1
                job.deadline = time.monotonic() + (float("inf") if self._timeout is None else self._timeout)
                worker.job = job
                try:
                    worker.connection.send_bytes(task)
                except OSError:  # it has ended, which `pump` sees
                    continue
        starting = sum(not worker.ready for worker in self._workers)
        while not self.killed and len(self._waiting) > starting and len(self._workers) < self._count:
            self._workers.append(_started())
            starting += 1

    def _receive(self, worker: _Worker) -> None:
        """Take what a worker sent, or notice that it has ended."""
        try:
            message = pickle.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            worker.process.join()
            self._lost(worker, _how(worker.process.exitcode))
            return
        except Exception as error:  # a result that cannot be read back
            message = Reply(None, (RuntimeError(f"{type(error).__name__}: {error}"), traceback.format_exc()), [])
        if message == READY:
            worker.ready, self._stillborn = True, 0
            return
        job, worker.job = worker.job, None
        assert job is not None
        message.settle(job.future)

    def _lost(self, worker: _Worker, reason: str) -> None:
        """Go on without a worker; its job is tried again, or fails."""
        self._workers.remove(worker)
        worker.process.join()
        worker.connection.close()
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                for stuck in self._waiting:
                    stuck.future.set_exception(WorkerLost(f"no worker process can start: it {reason}"))
                self._waiting.clear()
        job = worker.job
        if job is None:
            return
        if job.tries <= self._retries:
            logger.warning("%s: its worker process %s, so another one begins again", job.name, reason)
            self._waiting.appendleft(job)
        else:
            times = "" if job.tries == 1 else f" ({job.tries} times)"
            job.future.set_exception(WorkerLost(f"its worker process {reason}{times}"))


def _how(code: int | None) -> str:
    """How a process ended, as a predicate."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = ", as the system does where memory runs out" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"


def _started() -> _Worker:
    """A new worker, which inherits that SIGINT is blocked until it ignores it."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,))
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")  # a worker would import a script without a guard again
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        sys.modules["__main__"] = main
    there.close()  # so that the pipe ends with the worker
    return _Worker(process, here)


def _serve(connection: Connection) -> None:
    """What a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver gets it too, and decides what is still wanted
    threading.Thread(target=_end_with_driver, daemon=True).start()
    from threadpoolctl import threadpool_limits

    from aimonk_bench.suite import tasks  # noqa: F401  # takes a second

    threadpool_limits(1, user_api="blas")  # further threads would wait for those of the other processes
    connection.send_bytes(pickle.dumps(READY))
    while True:
        try:
            task = connection.recv_bytes()
        except (EOFError, OSError):  # nothing more is wanted
            return
        connection.send_bytes(_answer(task))


def _answer(task: bytes) -> bytes:
    answered = reply(lambda: pickle.loads(task)())
    try:
        return pickle.dumps(answered)
    except Exception as error:  # whatever the parts of the result do
        return pickle.dumps(Reply(None, (_sendable(error), traceback.format_exc()), answered.messages))


def reply(function: Callable[[], Any]) -> Reply:
    """Do a task in a worker."""
    messages: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(messages)  # formats messages, so that they can be pickled
    package = logging.getLogger("aimonk_bench")
    package.setLevel(logging.INFO)  # the driver leaves out what it does not print
    package.addHandler(handler)
    result, error = None, None
    try:
        result = function()
    except Exception as raised:
        error = _sendable(raised), "".join(traceback.format_exception(raised))
    finally:
        package.removeHandler(handler)
    return Reply(result, error, [messages.get() for _ in range(messages.qsize())])


def _sendable(error: Exception) -> Exception:
    """The exception, or one of another type with the same text where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)
