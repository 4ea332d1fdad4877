"""Where tasks run: in the driver's process or in worker processes.

Every executor is a `concurrent.futures.Executor`. The results of a task do not depend on where it runs.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Literal

from aimonk_bench.records.environment import cores
from aimonk_bench.suite.clock import Clock

logger = logging.getLogger(__name__)

Name = Literal["auto", "serial", "processes"]
Stage = Literal["train", "score"]
DONE = {"train": "trained", "score": "scored"}
WORTHWHILE = 8  # runs from which `auto` starts a scoring worker, whose start takes as long as scoring some of them
AHEAD = 4  # tasks that may wait for the scoring worker; their predictions are in memory


class Serial(Executor):
    """Runs a task in this process, while it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


SERIAL = Serial()


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
        with _main_module_hidden():
            return super().submit(fn, *args, **kwargs)

    def kill(self) -> None:
        """End the workers at once; the futures of their tasks raise `BrokenProcessPool`."""
        for process in list((self._processes or {}).values()):
            process.kill()

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        if kind is not None:
            self.kill()
        try:
            super().__exit__(kind, *details)
        except BaseException:  # Ctrl-C while waiting
            self.kill()
            raise


def _set_up_worker() -> None:
    """What a worker does first: it imports what every scoring needs, too, while nothing waits for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver gets it too, and decides what is still wanted
    threading.Thread(target=_end_with_driver, daemon=True).start()
    import scipy.special  # noqa: F401
    from matplotlib.backends import backend_agg  # noqa: F401
    from threadpoolctl import threadpool_limits

    from aimonk_bench.suite import tasks  # noqa: F401

    threadpool_limits(1, user_api="blas")  # further threads would wait for those of the other processes


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


@contextlib.contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep a worker that is spawned from importing the main module again: a script may have no ``__main__`` guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


Task = Callable[[], Any]  # its result has `seconds`: phase -> seconds
Then = Callable[[Future[Any]], None]


@dataclass(frozen=True, eq=False)
class _Call:
    """A task in flight.

    Attributes:
        label: names the run in messages.
        then: receives the future when it is done.
    """

    stage: Stage
    label: str
    task: Task
    then: Then
    future: Future[Any]


class TaskQueue:
    """The tasks in flight, and what the driver does with the result of each.

    Time that the driver spends on a task or waits for it is counted in the phase called like its stage.

    Args:
        clock: of the driver.
        train: the executor of trainings.
        score: the executor of scorings.
        limit: tasks in flight; their data is in memory.
    """

    def __init__(self, clock: Clock, train: Executor = SERIAL, score: Executor = SERIAL, limit: int = AHEAD) -> None:
        self._clock, self._limit = clock, limit
        self._executors: dict[Stage, Executor] = {"train": train, "score": score}
        self._calls: list[_Call] = []

    @property
    def trains_here(self) -> bool:
        """Whether trainings run in this process."""
        return self._executors["train"] is SERIAL

    def submit(self, stage: Stage, label: str, task: Task, then: Then) -> None:
        """Run a task by the executor of its stage; here, if the workers have died.

        Where training is here and the scoring worker is behind, scoring is here, too; where training is in workers,
        this waits for room among the tasks in flight.

        Args:
            label: the run's name, for messages.
            task: a function with its arguments bound, which can be pickled (`functools.partial`).
            then: receives the future once it is done: at once, or in `collect`.
        """
        executor = self._executors[stage]
        if stage == "train" and not self.trains_here:
            self.collect(self._limit - 1)
        elif self.trains_here and len(self._calls) >= self._limit:
            executor = SERIAL
        if executor is not SERIAL:
            with contextlib.suppress(BrokenProcessPool):
                self._calls.append(_Call(stage, label, task, then, executor.submit(task)))
                return
        self._run_here(stage, task, then)

    def collect(self, at_most: int | None = None) -> None:
        """Pass on the results that are there; more tasks may follow from that.

        Args:
            at_most: wait until so few tasks are in flight; by default there is no waiting.
        """
        while self._calls:
            done = [call for call in self._calls if call.future.done()]
            self._calls = [call for call in self._calls if call not in done]
            for call in done:
                if isinstance(call.future.exception(), BrokenProcessPool):
                    logger.warning("%s was not %s in its worker process and is now", call.label, DONE[call.stage])
                    self._run_here(call.stage, call.task, call.then)
                else:
                    call.then(call.future)
            if done:
                continue
            if at_most is None or len(self._calls) <= at_most:
                return
            with self._clock(self._calls[0].stage):
                wait([call.future for call in self._calls], return_when=FIRST_COMPLETED)

    def finish(self) -> None:
        """Wait for all tasks in flight and pass on their results."""
        if count := len(self._calls):
            logger.info("%d run%s still in worker processes", count, " is" if count == 1 else "s are")
        self.collect(0)

    def drop_training(self) -> None:
        """After an interruption: give up the trainings in flight, so that `finish` only scores what is trained."""
        workers = self._executors["train"]
        if isinstance(workers, Workers):
            self._calls = [call for call in self._calls if call.stage != "train"]
            workers.kill()

    def _run_here(self, stage: Stage, task: Task, then: Then) -> None:
        with self._clock(stage):
            future = SERIAL.submit(task)
            if future.exception() is None:
                self._clock.add(future.result().seconds)
        then(future)


@contextlib.contextmanager
def opened(name: Name, runs: int, clock: Clock) -> Iterator[TaskQueue]:
    """The task queue of a suite.

    Args:
        name: ``serial`` runs everything here; ``processes`` trains and scores in as many workers as there are cores;
            ``auto`` trains here and, from `WORTHWHILE` runs on, scores in one worker beside the training.
        runs: on frozen features that are to be executed; fine-tuning takes so long that scoring beside it saves
            nothing.
        clock: of the driver.
    """
    if name == "processes":
        with Workers(cores()) as workers:
            yield TaskQueue(clock, train=workers, score=workers, limit=2 * cores())
    elif name == "auto" and runs >= WORTHWHILE:
        with Workers(1) as worker:
            worker.submit(os.getpid)  # it starts now, while images are decoded
            yield TaskQueue(clock, score=worker)
    else:
        yield TaskQueue(clock)
