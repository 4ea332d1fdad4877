"""A pool of workers, wherever they are: each does one task at a time, and one that ends costs that task alone.

`Pool` holds what does not depend on where the workers are: which task goes where, limits of time, tries. The workers
are processes of this machine (`workers`) or actors of a Ray cluster (`ray_workers`). The driver sends a task when a
worker is idle, and reads results only in `Pool.pump`: there is no thread between.
"""

from __future__ import annotations

import abc
import logging
import math
import pickle
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import Any, Generic, Self, TypeVar

from aimonk_bench.errors import sentence, traceback_of
from aimonk_bench.progress import Progress
from aimonk_bench.suite.replies import READY, Reply, SignOfLife, log
from aimonk_bench.suite.worker import Job, NoWorker, Withdrawn, Worker, WorkerEnded, WorkerLost, WorkersKilled

logger = logging.getLogger(__name__)

STILLBORN = 3  # workers in a row that end before they are ready
DRAIN = 1000  # messages of each worker that are read at most before it is ended; a task may never stop logging
LOOK = 5.0  # seconds of one wait at most; a longer one means that this process was suspended, and workers perhaps too


W = TypeVar("W", bound=Worker)


class Pool(abc.ABC, Generic[W]):
    """Workers that share tasks. As a context they are waited for; where the context raises they are killed.

    Args:
        count: of workers, each started when a task is submitted and no worker is idle, or all by `start`.
        retries: times that a task whose worker ended or took too long is given to another worker.
        timeout: seconds that a worker may take for a task, or if it sends signs of life between them; None: no limit.

    Attributes:
        noun: what a worker is called in messages.
    """

    noun: str

    def __init__(self, count: int, *, retries: int = 1, timeout: float | None = None) -> None:
        self._most, self._retries, self._timeout = count, retries, timeout
        self._workers: list[W] = []
        self._waiting: deque[Job] = deque()
        self._stillborn = 0
        self._is_short = False  # that no more workers can start was logged
        self.killed = False

    @abc.abstractmethod
    def _started(self) -> W:
        """A new worker; it raises whatever starting one raises."""

    @abc.abstractmethod
    def _heard(self, seconds: float | None) -> Sequence[W]:
        """Wait until some workers have sent something or have ended, or for a while; None: no limit. Which ones."""

    def start(self) -> None:
        """Start all workers now; they import what tasks need while nothing waits for them.

        Raises:
            NoWorker: none can be started.
        """
        while len(self._workers) < self._most:
            try:
                self._start_one()
            except NoWorker as error:
                if not self._workers:
                    raise
                self._go_on_with_fewer(error)

    def submit(
        self,
        function: Callable[[], Any],
        name: str = "a task",
        *,
        first: bool = False,
        at_least: float = 0.0,
        progress: Progress | None = None,
    ) -> Future[Any]:
        """A future of a function without arguments, which is pickled; `pump` settles it.

        Its exception is what the function raised, `WorkerLost`, `Withdrawn` or `WorkersKilled`.

        Args:
            name: of the task, for messages.
            first: it comes before the tasks that wait and are not.
            at_least: seconds that the task may take without a sign of life, also where ``timeout`` is shorter.
            progress: gets the reports in its signs of life.
        """
        limit = math.inf if self._timeout is None else max(self._timeout, at_least)
        job = Job(name, function, Future(), limit, self._retries, first, progress)
        if self.killed:
            job.future.set_exception(WorkersKilled(name))
            return job.future
        place = sum(waiting.first for waiting in self._waiting) if first else len(self._waiting)
        self._waiting.insert(place, job)
        try:
            self._assign()
        except BaseException:  # Ctrl-C, for example
            self.withdraw([job.future])
            raise
        return job.future

    def result(
        self,
        function: Callable[[], Any],
        name: str,
        *,
        at_least: float = 0.0,
        progress: Progress | None = None,
    ) -> Any:
        """Wait for the result of a task; arguments and exceptions as of `submit`."""
        future = self.submit(function, name, at_least=at_least, progress=progress)
        try:
            while not future.done():
                self.pump()
        except BaseException:  # as in `submit`
            self.withdraw([future])
            raise
        return future.result()

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
        """Wait a while, until something is sent or a worker ends, and settle the futures of what is done.

        Where no task waits or is being done, there is nothing to wait for.

        Args:
            seconds: to wait at most; None: without a limit.
        """
        self._assign()
        if not self._waiting and all(worker.job is None for worker in self._workers):
            return
        running = [worker.job for worker in self._workers if worker.job is not None]
        shortest = min([job.left for job in running] + ([] if seconds is None else [seconds]), default=math.inf)
        began, longest = time.monotonic(), min(max(0.0, shortest), LOOK)
        heard = self._heard(None if shortest == math.inf else longest)
        spent = min(time.monotonic() - began, longest)
        for job in running:
            job.left -= spent
        for _ in range(DRAIN):
            for worker in heard:
                self._receive(worker)
            if not heard or not any(job.left <= 0 for job in running):
                break
            heard = self._heard(0.0)  # what workers have sent by now comes before a verdict on them
        for worker in [one for one in self._workers if one.job is not None and one.job.left <= 0]:
            worker.kill()
            assert worker.job is not None
            self._lost(worker, self._exceeded(worker.job.limit))
        self._assign()

    def _exceeded(self, limit: float) -> str:
        """What a worker did that exceeded a limit, as a predicate."""
        if limit == self._timeout:
            return f"took longer than run.timeout, {limit:g} s"
        return f"stood still for {limit:g} s (run.timeout is {self._timeout:g} s)"

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
        for worker in [one for one in self._workers if one.job is None]:
            while worker in self._workers and worker.has_ended:
                self._receive(worker)  # before a job is given that it would lose
        for worker in self._workers:
            while self._waiting and worker.ready and worker.job is None:
                self._give(worker, self._waiting.popleft())
        starting = sum(not worker.ready for worker in self._workers)
        while not self.killed and len(self._waiting) > starting and len(self._workers) < self._most:
            try:
                self._start_one()
            except NoWorker as error:
                self._go_on_with_fewer(error)
                return
            starting += 1

    def _give(self, worker: W, job: Job) -> None:
        """Give a worker a job, which fails where it cannot be sent."""
        try:
            task = worker.pack(job.function)
            job.tries += 1
            job.renew()
            worker.job = job
            worker.send(task)
        except Exception as error:  # whatever its parts do
            worker.job = None
            job.future.set_exception(error)
        except BaseException:  # Ctrl-C: perhaps a part of the task was sent
            worker.job = None
            worker.kill()
            self._waiting.appendleft(job)
            raise

    def _start_one(self) -> None:
        """Start a worker.

        Raises:
            NoWorker: it cannot be started.
        """
        try:
            self._workers.append(self._started())
        except Exception as error:  # of the system, or of Ray
            raise self._no_worker(sentence(error)) from error

    def _no_worker(self, reason: str) -> NoWorker:
        return NoWorker(f"no {self.noun} can start: {reason}; fix: `run.executor: serial`")

    def _go_on_with_fewer(self, error: NoWorker) -> None:
        """Start no more workers, as far as others are left; where none is, all that waits fails."""
        if self._workers:
            self._most = len(self._workers)
            if not self._is_short:
                self._is_short = True
                logger.warning("%s; %d go on", error, self._most)
            return
        for job in self._waiting:
            job.future.set_exception(error)
        self._waiting.clear()

    def _receive(self, worker: W) -> None:
        """Take what a worker sent, or notice that it has ended."""
        try:
            self._take(worker)
        except BaseException:  # Ctrl-C: perhaps a part of a message was read
            job, worker.job = worker.job, None
            worker.kill()
            if job is not None and not job.future.done():
                self._waiting.appendleft(job)
            raise

    def _take(self, worker: W) -> None:
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
        if isinstance(message, logging.LogRecord):
            log(message)
            return
        assert worker.job is not None
        if isinstance(message, SignOfLife):
            worker.job.renew()
            if worker.job.progress is not None and message.report is not None:
                worker.job.progress(*message.report)
            return
        message.settle(worker.job.future)
        worker.job = None

    def _lost(self, worker: W, reason: str) -> None:
        """Go on without a worker; its job is tried again, or fails."""
        self._workers.remove(worker)
        worker.close()
        worker.join()
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                self._go_on_with_fewer(self._no_worker(f"it {reason}"))
        job = worker.job
        if job is None:
            return
        if job.tries <= job.retries:
            logger.warning("%s: its %s %s, so another one begins again", job.name, self.noun, reason)
            self._waiting.appendleft(job)
        else:
            times = "" if job.tries == 1 else f" ({job.tries} times)"
            job.future.set_exception(WorkerLost(f"its {self.noun} {reason}{times}"))
