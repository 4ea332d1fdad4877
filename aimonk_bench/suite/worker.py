"""One worker of a pool, the task that it does, and the exceptions of tasks that have no result of their own."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from aimonk_bench.errors import RunFailed
from aimonk_bench.progress import Progress


class WorkerLost(RunFailed):
    """A task whose worker ended or took too long, each time that it was tried."""


class NoWorker(WorkerLost):
    """A task that was given up, because no worker can be started."""


class WorkersKilled(Exception):
    """A task that was given up, because all workers were killed."""


class Withdrawn(Exception):
    """A task that was given up before a worker began it."""


class WorkerEnded(Exception):
    """A worker has ended; its text says how, as a predicate such as "was ended by SIGKILL"."""


@dataclass(eq=False)
class Job:
    """A task with its future.

    Attributes:
        limit: seconds that it may take without a sign of life.
        retries: how often it is tried again.
        first: it comes before those that are not.
        progress: gets its reports.
        tries: how often a worker was given it.
        left: seconds of its limit that are left; only those count in which this process listens to its worker.
    """

    name: str
    function: Callable[[], Any]
    future: Future[Any]
    limit: float
    retries: int
    first: bool = False
    progress: Progress | None = None
    tries: int = 0
    left: float = math.inf

    def renew(self) -> None:
        """Count the limit from now on."""
        self.left = self.limit


class Worker(abc.ABC):
    """One worker.

    Attributes:
        ready: it has imported what tasks need.
        job: that it does.
    """

    def __init__(self) -> None:
        self.ready = False
        self.job: Job | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it is known, without a wait, that it has."""
        return False

    @abc.abstractmethod
    def pack(self, function: Callable[[], Any]) -> Any:
        """A function without arguments in the form that `send` takes; it raises whatever pickling raises."""

    @abc.abstractmethod
    def send(self, packed: Any) -> None:
        """Give it a task. That it has ended is seen by `receive`."""

    @abc.abstractmethod
    def receive(self) -> bytes:
        """What it sent: `READY`, then for each task perhaps log records, some `SignOfLife`, and a `Reply`, pickled.

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
