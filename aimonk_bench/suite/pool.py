"""A pool of workers, wherever they are: each does one task at a time, and one that ends costs that task alone.

`Pool` holds what does not depend on where the workers are: which task goes where, limits of time, tries. The workers
are processes of this machine (`workers`) or actors of a Ray cluster (`ray_workers`). The driver sends a task when a
worker is idle, and reads results only in `Pool.pump`: there is no thread between.
"""

from __future__ import annotations

import abc
import importlib
import logging
import logging.handlers
import pickle
import queue
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from aimonk_bench.errors import RunFailed, notes_of, sentence, text_of, traceback_of

logger = logging.getLogger(__name__)

READY = "ready"  # what a worker sends when it has imported what tasks need
STILLBORN = 3  # workers in a row that end before they are ready


class WorkerLost(RunFailed):
    """A task whose worker ended or took too long, each time that it was tried."""


class WorkersKilled(Exception):
    """A task that was given up, because all workers were killed."""


class Withdrawn(Exception):
    """A task that was given up before a worker began it."""


class WorkerEnded(Exception):
    """A worker has ended; its text says how, as a predicate such as "was ended by SIGKILL"."""


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
class Job:
    """A task with its future.

    Attributes:
        limit: seconds that it may take.
        retries: how often it is tried again.
        first: it comes before those that are not.
        tries: how often a worker was given it.
        deadline: when it must be done, by `time.monotonic`.
    """

    name: str
    function: Callable[[], Any]
    future: Future[Any]
    limit: float
    retries: int
    first: bool = False
    tries: int = 0
    deadline: float = float("inf")


class Worker(abc.ABC):
    """One worker.

    Attributes:
        ready: it has imported what tasks need.
        job: that it does.
    """

    def __init__(self) -> None:
        self.ready = False
        self.job: Job | None = None

    @abc.abstractmethod
    def pack(self, function: Callable[[], Any]) -> Any:
        """A function without arguments in the form that `send` takes; it raises whatever pickling raises."""

    @abc.abstractmethod
    def send(self, packed: Any) -> None:
        """Give it a task. That it has ended is seen by `receive`."""

    @abc.abstractmethod
    def receive(self) -> bytes:
        """What it sent: `READY`, then a `Reply` to each task, pickled.

        Raises:
            WorkerEnded: it has.
        """

    @abc.abstractmethod
    def kill(self) -> None:
        """End it at once."""

    @abc.abstractmethod
    def close(self) -> None:
        """Tell it to end."""

    @abc.abstractmethod
    def join(self) -> None:
        """Wait until it has ended."""


W = TypeVar("W", bound=Worker)


class Pool(abc.ABC, Generic[W]):
    """Workers that share tasks. As a context they are waited for; where the context raises they are killed.

    Args:
        count: of workers, each started when a task is submitted and no worker is idle, or all by `start`.
        retries: times that a task whose worker ended or took too long is given to another worker.
        timeout: seconds that a worker may take for a task; None: as long as it likes.

    Attributes:
        noun: what a worker is called in messages.
    """

    noun: str

    def __init__(self, count: int, *, retries: int = 1, timeout: float | None = None) -> None:
        self._count, self._retries, self._timeout = count, retries, timeout
        self._workers: list[W] = []
        self._waiting: deque[Job] = deque()
        self._stillborn = 0
        self.killed = False

    @abc.abstractmethod
    def _started(self) -> W:
        """A new worker."""

    @abc.abstractmethod
    def _heard(self, seconds: float | None) -> Sequence[W]:
        """Wait until some workers have sent something or have ended; None: without a limit. Which ones."""

    def start(self) -> None:
        """Start all workers now; they import what tasks need while nothing waits for them."""
        while len(self._workers) < self._count:
            self._workers.append(self._started())

    def submit(
        self, function: Callable[[], Any], name: str = "a task", *, limited: bool = True, first: bool = False
    ) -> Future[Any]:
        """A future of a function without arguments, which is pickled; `pump` settles it.

        Its exception is what the function raised, `WorkerLost`, `Withdrawn` or `WorkersKilled`.

        Args:
            name: of the task, for messages.
            limited: the task may take ``timeout`` seconds.
            first: it comes before the tasks that wait and are not.
        """
        limit = self._timeout if limited and self._timeout is not None else float("inf")
        job = Job(name, function, Future(), limit, self._retries, first)
        place = sum(waiting.first for waiting in self._waiting) if first else len(self._waiting)
        self._waiting.insert(place, job)
        self._assign()
        return job.future

    def withdraw(self, futures: Collection[Future[Any]]) -> None:
        """Give up tasks: those that no worker has begun raise `Withdrawn`; the others are not tried again."""
        for job in (worker.job for worker in self._workers):
            if job is not None and job.future in futures:
                job.retries = 0
        given_up = [job for job in self._waiting if job.future in futures]
        self._waiting = deque(job for job in self._waiting if job.future not in futures)
        for job in given_up:
            job.future.set_exception(Withdrawn(job.name))

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
        for worker in self._heard(None if shortest == float("inf") else max(0.0, shortest)):
            self._receive(worker)
        now = time.monotonic()
        for worker in [one for one in self._workers if one.job is not None and one.job.deadline <= now]:
            worker.kill()
            self._lost(worker, f"took longer than run.timeout, {self._timeout:g} s")
        self._assign()

    def kill(self) -> None:
        """End the workers at once; every future that is not done raises `WorkersKilled`."""
        self.killed = True
        jobs = [*(worker.job for worker in self._workers if worker.job is not None), *self._waiting]
        for worker in self._workers:
            worker.kill()
        self._end()
        self._waiting.clear()
        for job in jobs:
            job.future.set_exception(WorkersKilled(job.name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        if kind is None:
            while self._waiting or any(worker.job is not None for worker in self._workers):
                self.pump()
            for worker in self._workers:
                if not worker.ready:
                    worker.kill()  # it would first import what nobody needs any more
            self._end()
        else:
            self.kill()

    def _end(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.close()
        for worker in self._workers:
            worker.join()
        self._workers.clear()

    def _assign(self) -> None:
        """Give waiting jobs to idle workers; start one where a job would wait and there may be more."""
        for worker in self._workers:
            if self._waiting and worker.ready and worker.job is None:
                job = self._waiting.popleft()
                try:
                    task = worker.pack(job.function)
                except Exception as error:  # whatever its parts do
                    job.future.set_exception(error)
                    continue
                job.tries += 1
                job.deadline = time.monotonic() + job.limit
                worker.job = job
                worker.send(task)
        starting = sum(not worker.ready for worker in self._workers)
        while not self.killed and len(self._waiting) > starting and len(self._workers) < self._count:
            self._workers.append(self._started())
            starting += 1

    def _receive(self, worker: W) -> None:
        """Take what a worker sent, or notice that it has ended."""
        try:
            message = pickle.loads(worker.receive())
        except WorkerEnded as error:
            self._lost(worker, str(error))
            return
        except Exception as error:  # a result that cannot be read back
            message = Reply(None, (RuntimeError(sentence(error)), traceback_of(error)), [])
        if message == READY:
            worker.ready, self._stillborn = True, 0
            return
        job, worker.job = worker.job, None
        assert job is not None
        message.settle(job.future)

    def _lost(self, worker: W, reason: str) -> None:
        """Go on without a worker; its job is tried again, or fails."""
        self._workers.remove(worker)
        worker.close()
        worker.join()
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                for stuck in self._waiting:
                    stuck.future.set_exception(WorkerLost(f"no {self.noun} can start: it {reason}"))
                self._waiting.clear()
        job = worker.job
        if job is None:
            return
        if job.tries <= job.retries:
            logger.warning("%s: its %s %s, so another one begins again", job.name, self.noun, reason)
            self._waiting.appendleft(job)
        else:
            times = "" if job.tries == 1 else f" ({job.tries} times)"
            job.future.set_exception(WorkerLost(f"its {self.noun} {reason}{times}"))


def prepare(modules: Sequence[str]) -> None:
    """Make this process a worker: import what tasks need, before the time of a task is counted."""
    from threadpoolctl import threadpool_limits

    for module in ("aimonk_bench.suite.tasks", *modules):
        importlib.import_module(module)
    threadpool_limits(1, user_api="blas")  # further threads would wait for those of the other workers


def answer(load: Callable[[], Callable[[], Any]]) -> bytes:
    """The pickled `Reply` of a worker to a task.

    Args:
        load: unpickles the task.
    """
    answered = reply(lambda: load()())
    try:
        return pickle.dumps(answered)
    except BaseException as error:  # whatever the parts of the result do
        return pickle.dumps(Reply(None, (_sendable(error), traceback_of(error)), answered.messages))


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
    except BaseException as raised:  # a worker ignores Ctrl-C
        error = _sendable(raised), traceback_of(raised)
    finally:
        package.removeHandler(handler)
    return Reply(result, error, [messages.get() for _ in range(messages.qsize())])


def _sendable(error: BaseException) -> Exception:
    """The exception, or one of another type with the same text where it would not arrive as it is."""
    if not isinstance(error, Exception):
        return RunFailed(f"found {sentence(error)} (fix: raise an exception instead)")
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except BaseException:  # whatever its class does
        pass
    text, name = text_of(error), type(error).__name__
    other = RuntimeError(f"{name}: {text}" if text else name)
    for note in notes_of(error):
        other.add_note(note)
    return other
