"""Which worker gets which task, and what happens where workers cannot start: with workers that a test scripts."""

from __future__ import annotations

import logging
import pickle
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from aimonk_bench.suite import pool as pools
from aimonk_bench.suite.pool import DRAIN, LOOK, STILLBORN, Pool
from aimonk_bench.suite.replies import READY, Reply
from aimonk_bench.suite.worker import NoWorker, Worker, WorkerEnded

LINE = pickle.dumps(logging.makeLogRecord({"name": "aimonk_bench", "msg": "a word", "levelno": logging.DEBUG}))


class Scripted(Worker):
    """A worker in this process. It does a task when it is given, and is heard later."""

    has_ended = False

    def __init__(self, interruptions: list[KeyboardInterrupt], *, starts: bool) -> None:
        super().__init__()
        self.messages: deque[bytes] = deque([pickle.dumps(READY)] if starts else [])
        self.has_ended, self.interruptions = not starts, interruptions

    def pack(self, function: Callable[[], Any]) -> Any:
        if function is unpackable:
            raise MemoryError("no room")
        if function is interrupted and self.interruptions:
            raise self.interruptions.pop()
        return function

    def send(self, packed: Any) -> None:
        if packed is unsendable:
            raise ConnectionError("the store is full")
        if packed is chatty:
            self.messages.append(LINE)
        if packed is noisy:
            self.messages.extend([LINE] * 2 * DRAIN)
        if packed is not silent:
            self.messages.append(pickle.dumps(Reply(packed(), None, [])))

    def receive(self) -> bytes:
        if self.has_ended:
            raise WorkerEnded("ended with exit code 1")
        message = self.messages.popleft()
        if self.job is not None and self.job.function is cut_off and self.interruptions:
            raise self.interruptions.pop()
        return message

    def kill(self) -> None:
        self.has_ended = True

    def close(self) -> None: ...

    def join(self) -> None: ...


class ScriptedPool(Pool[Scripted]):
    """Workers that start or end at once, as a list says; None: no worker can be started."""

    noun = "worker"

    def __init__(self, count: int, starts: Sequence[bool | None], **options: Any) -> None:
        super().__init__(count, **options)
        self._starts, self.interruptions = deque(starts), [KeyboardInterrupt()]

    def _started(self) -> Scripted:
        starts = self._starts.popleft()
        if starts is None:
            raise OSError("there is no room")
        return Scripted(self.interruptions, starts=starts)

    def _heard(self, seconds: float | None) -> Sequence[Scripted]:
        heard = [worker for worker in self._workers if worker.messages or worker.has_ended]
        assert heard or seconds is not None, "this would wait for ever"
        return heard


def unpackable() -> None:
    """A task that cannot be packed."""


def unsendable() -> None:
    """A task that cannot be sent."""


def interrupted() -> int:
    """A task that Ctrl-C meets while it is packed."""
    return 2


def cut_off() -> int:
    """A task whose reply Ctrl-C meets."""
    return 3


def chatty() -> int:
    """A task of which its worker logs a line."""
    return 4


def silent() -> int:
    """A task whose reply nobody hears."""
    return 5


def noisy() -> int:
    """A task that does not stop logging."""
    return 6


def one() -> int:
    return 1


def outcomes(pool: Pool[Any], tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """The result or the exception of each task."""
    futures: list[Future[Any]] = [pool.submit(task) for task in tasks]
    while not all(future.done() for future in futures):
        pool.pump()
    return [future.exception() or future.result() for future in futures]


def test_workers_that_end_before_they_are_ready_cost_nothing_where_others_work(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "aimonk_bench")
    with ScriptedPool(2, [True] + [False] * STILLBORN) as pool:
        assert outcomes(pool, [one] * 10) == [1] * 10
    assert "no worker can start: it ended with exit code 1; fix: `run.executor: serial`; 1 go on" in caplog.text


def test_where_no_worker_is_ever_ready_every_task_fails_with_the_reason() -> None:
    with ScriptedPool(2, [False] * (STILLBORN + 1)) as pool:
        errors = outcomes(pool, [one] * 3)
    assert {str(error) for error in errors} == {
        "no worker can start: it ended with exit code 1; fix: `run.executor: serial`"
    }


def test_where_one_worker_cannot_be_started_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "aimonk_bench")
    with ScriptedPool(3, [True, True, None]) as pool:
        pool.start()
        assert outcomes(pool, [one] * 5) == [1] * 5
    assert "no worker can start: OSError: there is no room; fix: `run.executor: serial`; 2 go on" in caplog.text
    with ScriptedPool(3, [None, None]) as pool:
        with pytest.raises(NoWorker, match=r"^no worker can start: OSError: there is no room"):
            pool.start()
        [error] = outcomes(pool, [one])
    assert isinstance(error, NoWorker)


def test_a_task_that_cannot_be_given_to_a_worker_fails_and_the_next_one_is_given() -> None:
    with ScriptedPool(1, [True]) as pool:
        first, second, third = outcomes(pool, [unpackable, unsendable, one])
        assert (type(first), type(second), third) == (MemoryError, ConnectionError, 1)
        assert [type(error) for error in outcomes(pool, [unpackable, unpackable])] == [MemoryError] * 2


def test_a_task_that_an_interruption_meets_is_not_lost() -> None:
    with ScriptedPool(1, [True, True, True]) as pool:
        futures = [pool.submit(one), pool.submit(interrupted)]
        pool.pump()  # it is ready
        with pytest.raises(KeyboardInterrupt):
            pool.pump()
        while not all(future.done() for future in futures):
            pool.pump()
        assert [future.result() for future in futures] == [1, 2]


def test_without_a_task_there_is_nothing_to_wait_for() -> None:
    with ScriptedPool(1, [True]) as pool:
        pool.start()
        assert outcomes(pool, [one]) == [1]
        pool.pump()


def test_a_reply_that_an_interruption_meets_is_not_waited_for() -> None:
    with ScriptedPool(1, [True, True, True]) as pool:
        future = pool.submit(cut_off)
        pool.pump()  # it is ready
        with pytest.raises(KeyboardInterrupt):
            pool.pump()
        while not future.done():
            pool.pump()
        assert future.result() == 3


def test_a_worker_that_has_ended_is_given_no_task() -> None:
    with ScriptedPool(2, [True, True, True], retries=0) as pool:
        assert outcomes(pool, [one, one]) == [1, 1]
        for worker in pool._workers:
            worker.has_ended = True
        assert outcomes(pool, [one]) == [1]


def test_a_limit_counts_no_time_in_which_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(pools, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with ScriptedPool(1, [True, True], retries=0, timeout=60.0) as pool:
        pool.start()
        assert outcomes(pool, [one]) == [1]
        done = pool.submit(chatty)
        clock[0] += 1000.0  # the driver is busy, or suspended
        while not done.done():
            pool.pump()
        assert done.result() == 4
        lost, real = pool.submit(silent), pool._heard

        def suspended(seconds: float | None) -> Sequence[Scripted]:
            clock[0] += 1000.0 if seconds else 0.0
            return real(seconds)

        monkeypatch.setattr(pool, "_heard", suspended)
        for _ in range(round(60.0 / LOOK) - 1):
            pool.pump()
        assert not lost.done()
        pool.pump()
        assert str(lost.exception()) == "its worker took longer than run.timeout, 60 s"


def test_a_task_that_does_not_stop_logging_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(pools, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with ScriptedPool(1, [True, True], retries=0, timeout=LOOK) as pool:
        pool.start()
        assert outcomes(pool, [one]) == [1]
        lost, real = pool.submit(noisy), pool._heard

        def late(seconds: float | None) -> Sequence[Scripted]:
            clock[0] += seconds or 0.0
            return real(seconds)

        monkeypatch.setattr(pool, "_heard", late)
        pool.pump()
        assert str(lost.exception()) == f"its worker took longer than run.timeout, {LOOK:g} s"
