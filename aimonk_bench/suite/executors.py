"""Where tasks run: in the driver's process or in worker processes. The result of a task does not depend on where.

A run is a generator of tasks. It goes on with the future of a task when the task is done. A task that raises is not
tried again, because it would raise again; a task whose worker has died is done in the driver's process.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Literal

from aimonk_bench.backbones.encoder import pick_device
from aimonk_bench.config.fields import Config
from aimonk_bench.records.environment import cores
from aimonk_bench.suite.clock import Clock

logger = logging.getLogger(__name__)

Name = Literal["auto", "serial", "processes"]
Stage = Literal["train", "score"]
WORTHWHILE = 8  # runs from which `auto` starts workers, whose start takes as long as some runs
MOST_WORKERS = 8  # that `auto` starts; each takes some 400 MB
AHEAD = 4  # tasks that may wait for the scoring worker; their predictions are in memory


@dataclass(frozen=True, eq=False)
class Task:
    """A part of a run that can be done in another process.

    Attributes:
        stage: what is done.
        run: the name of the run, for messages.
        function: without arguments; it can be pickled, and its result has `seconds`: phase -> seconds.
    """

    stage: Stage
    run: str
    function: Callable[[], Any]


Run = Generator[Task, Future[Any], None]


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

    def future(self) -> Future[Any]:
        """The result or the exception, as a future that is done; what was logged is logged here."""
        for record in self.messages:
            target = logging.getLogger(record.name)
            if target.isEnabledFor(record.levelno):
                target.handle(record)
        future: Future[Any] = Future()
        if self.error is None:
            future.set_result(self.result)
        else:
            error, text = self.error
            error.__cause__ = TracebackOfWorker(f"\n{text}")  # pickling would lose a cause
            future.set_exception(error)
        return future


class TracebackOfWorker(Exception):
    """The cause of an exception that was raised in a worker: its traceback there, as text."""


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
    """The exception, or one of another type with the same text where it cannot be pickled: that would end the pool."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class Workers(ProcessPoolExecutor):
    """Worker processes that ignore Ctrl-C and end with this process, even if it is killed.

    As a context they are waited for; where the context raises they are killed.

    Args:
        count: of processes, each started when a task is submitted and no worker is idle.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count, multiprocessing.get_context("spawn"), _set_up_worker)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future of the task in a worker; function and arguments are pickled.

        Raises:
            BrokenProcessPool: a worker has died.
        """
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")  # a worker would import a script without a guard again
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a worker that starts now inherits it
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            sys.modules["__main__"] = main

    def kill(self) -> None:
        """End the workers at once; the futures of their tasks raise `BrokenProcessPool`."""
        for process in list((self._processes or {}).values()):
            process.kill()

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *details)


def _set_up_worker() -> None:
    """What a worker does first, while nothing waits for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver gets it too, and decides what is still wanted
    threading.Thread(target=_end_with_driver, daemon=True).start()
    from threadpoolctl import threadpool_limits

    from aimonk_bench.suite import tasks  # noqa: F401  # takes a second

    threadpool_limits(1, user_api="blas")  # further threads would wait for those of the other processes


def _has_result(future: Future[Any]) -> bool:
    return future.done() and future.exception() is None and future.result().error is None


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


class TaskQueue:
    """Takes runs from task to task; tasks of several runs may be in flight.

    Time that the driver spends on a task or waits for it is counted in the phase called like its stage.

    Args:
        clock: of the driver.
        workers: stage -> the processes that do its tasks; tasks of other stages are done in this process.
        limit: tasks in flight; their data is in memory.
    """

    def __init__(self, clock: Clock, workers: Mapping[Stage, Workers], limit: int = AHEAD) -> None:
        self._clock, self._workers, self._limit = clock, workers, limit
        self._in_flight: list[tuple[Task, Future[Any], Run]] = []

    @property
    def trains_here(self) -> bool:
        """Whether trainings run in this process."""
        return "train" not in self._workers

    def execute(self, runs: Iterable[Run]) -> None:
        """Execute runs, beginning with each in its turn.

        Where training is here and the scoring worker is behind, scoring is here, too; where training is in workers, a
        run begins when there is room among the tasks in flight. A task whose worker dies is done here. After an
        interruption, trainings in flight are given up, and what is trained is still scored.
        """
        try:
            for run in runs:
                self._advance(run)
                self._collect(None if self.trains_here else self._limit - 1)
        except BaseException:
            if not self.trains_here:
                self._in_flight = [item for item in self._in_flight if item[0].stage == "score" or _has_result(item[1])]
                self._workers["train"].kill()
            raise
        finally:
            if count := len(self._in_flight):
                logger.info("%d run%s still in worker processes", count, " is" if count == 1 else "s are")
            try:
                self._collect(0)
            except BaseException:
                self._collect(0)  # the interrupted run is lost, the others are not; a second interruption ends this too
                raise

    def _advance(self, run: Run, done: Future[Any] | None = None) -> None:
        """Take a run to its next task in a worker, or to its end.

        Args:
            done: the future of the task before; None at the beginning.
        """
        try:
            task = next(run) if done is None else run.send(done)
        except StopIteration:
            return
        behind = self.trains_here and len(self._in_flight) >= self._limit
        if task.stage in self._workers and not behind:
            with contextlib.suppress(BrokenProcessPool):
                self._in_flight.append((task, self._workers[task.stage].submit(reply, task.function), run))
                return
        self._advance(run, self._done_here(task))

    def _collect(self, at_most: int | None) -> None:
        """Go on with the runs whose task is done.

        Args:
            at_most: wait until so few tasks are in flight; None does not wait.
        """
        while self._in_flight:
            done = next((item for item in self._in_flight if item[1].done()), None)
            if done is not None:
                self._in_flight.remove(done)  # one at a time: an interruption leaves the others to be collected
                task, future, run = done
                if isinstance(future.exception(), BrokenProcessPool):
                    logger.warning("%s: its worker process ended, so its task `%s` is done here", task.run, task.stage)
                    future = self._done_here(task)
                elif future.exception() is None:
                    future = future.result().future()
                self._advance(run, future)
                continue
            if at_most is None or len(self._in_flight) <= at_most:
                return
            with self._clock(self._in_flight[0][0].stage):
                wait([future for _, future, _ in self._in_flight], return_when=FIRST_COMPLETED)

    def _done_here(self, task: Task) -> Future[Any]:
        future: Future[Any] = Future()
        with self._clock(task.stage):
            try:
                result = task.function()
            except Exception as error:
                future.set_exception(error)
            else:
                self._clock.add(result.seconds)
                future.set_result(result)
        return future


@contextlib.contextmanager
def opened(name: Name, configs: Sequence[Config], clock: Clock) -> Iterator[TaskQueue]:
    """The task queue of a suite, whose workers start now, while images are decoded.

    Args:
        name: ``serial`` runs everything here; ``processes`` trains and scores in as many workers as there are cores.
            ``auto`` does so from `WORTHWHILE` runs on frozen features on, with at most `MOST_WORKERS`; where a run
            trains layers, which uses all cores by itself, or trains on another device, training is here and scoring in
            one worker beside it.
        configs: of the runs that are to be executed.
        clock: of the driver.
    """
    frozen = sum(config.backbone.freeze == "all" for config in configs)
    count, train = 0, False
    if name == "processes":
        count, train = max(1, min(cores(), frozen)), True
    elif name == "auto" and frozen >= WORTHWHILE:
        train = frozen == len(configs) and {pick_device(config.train.device) for config in configs} == {"cpu"}
        count = min(cores(), frozen, MOST_WORKERS) if train else 1
    if not count:
        yield TaskQueue(clock, {})
        return
    with Workers(count) as workers:
        for _ in range(count):
            workers.submit(os.getpid)
        if train:
            yield TaskQueue(clock, {"train": workers, "score": workers}, limit=2 * count)
        else:
            yield TaskQueue(clock, {"score": workers})
