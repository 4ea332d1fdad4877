"""What a worker answers when a task raises what no program should."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aimonk_bench.errors import RunFailed, sentence
from aimonk_bench.suite import workers
from aimonk_bench.suite.replies import answer
from aimonk_bench.suite.worker import WorkerLost
from aimonk_bench.suite.workers import Workers


class Stop(KeyboardInterrupt):
    """Like Ctrl-C."""


class Closed(Exception):
    """Can be neither pickled nor formatted."""

    def __init__(self) -> None:
        self.function = lambda: 1

    def __str__(self) -> str:
        raise ValueError("no text")


class Text(Exception):
    """Becomes a text where it is read back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ("a text",)


class Unready(Exception):
    """Ends the process where it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise SystemExit(3)


class Odd:
    """A result that raises what is no `Exception` where it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise Stop("odd")


def settled(task: Callable[[], Any]) -> BaseException | None:
    """What the driver gets for a task that raises."""
    future: Future[Any] = Future()
    pickle.loads(answer(lambda: task)).settle(future)
    return future.exception()


def raising(error: BaseException) -> Callable[[], Any]:
    def task() -> None:
        error.add_note("in a plug-in")
        raise error

    return task


@pytest.mark.parametrize(
    ("error", "kind", "expected"),
    [
        (ZeroDivisionError("planted"), ZeroDivisionError, "ZeroDivisionError: planted, in a plug-in"),
        (
            Closed(),
            RuntimeError,
            "RuntimeError: Closed: its message cannot be formatted (ValueError), in a plug-in",
        ),
        (Text("planted"), RuntimeError, "RuntimeError: Text: planted, in a plug-in"),
        (Text(), RuntimeError, "RuntimeError: Text, in a plug-in"),
        (Unready("planted"), RuntimeError, "RuntimeError: Unready: planted, in a plug-in"),
        (Stop("planted"), RunFailed, "found Stop: planted, in a plug-in (fix: raise an exception instead)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_a_task_raises_is_an_exception_of_the_driver(
    error: BaseException, kind: type[Exception], expected: str
) -> None:
    got = settled(raising(error))
    assert type(got) is kind
    assert sentence(got) == expected


def test_a_result_that_cannot_be_sent_is_an_exception_of_the_driver() -> None:
    assert isinstance(settled(Odd), RunFailed)


def close_all() -> None:
    os.closerange(3, 256)


def test_a_worker_without_its_connection_ends_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with Workers(1, retries=0) as workers:
        future = workers.submit(partial(close_all), "a task")
        while not future.done():
            workers.pump()
    assert isinstance(future.exception(), WorkerLost)
    assert "Traceback" not in capfd.readouterr().err


def leave_behind(file: Path) -> None:
    """A handler that writes a file, and text that nobody has flushed yet."""
    atexit.register(file.touch)
    sys.stdout.write("not flushed")


def test_a_worker_ends_with_the_handlers_of_its_tasks_and_code_0(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Workers(1) as pool:
        pool.result(partial(leave_behind, tmp_path / "left"), "a task")
        (worker,) = pool._workers
    assert worker.process.exitcode == 0
    assert (tmp_path / "left").exists()
    assert "not flushed" in capfd.readouterr().out


def report_for(seconds: float) -> str:
    """Reports ten times."""
    for number in range(10):
        time.sleep(seconds / 10)
        workers.report("encode", number + 1, 10)
    return "done"


def test_a_limit_of_time_counts_from_the_last_sign_of_life() -> None:
    reports: list[tuple[str, int, int]] = []
    with Workers(1, retries=0, timeout=1.5) as pool:
        result = pool.result(partial(report_for, 3.0), "reporting", progress=lambda *report: reports.append(report))
        assert result == "done"
        assert reports == [("encode", number + 1, 10) for number in range(10)]
        with pytest.raises(WorkerLost, match=r"its worker process took longer than run\.timeout, 1\.5 s"):
            pool.result(partial(time.sleep, 60), "silent")
        with pytest.raises(WorkerLost, match=r"stood still for 2 s \(run\.timeout is 1\.5 s\)"):
            pool.result(partial(time.sleep, 60), "silent", at_least=2.0)


def log_and_wait(folder: Path) -> None:
    """Log, and end when somebody has made a file."""
    logging.getLogger("aimonk_bench.suite").info("begun")
    while not (folder / "seen").exists():
        time.sleep(0.01)


def test_what_a_worker_logs_is_logged_while_it_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aimonk_bench")
    with Workers(1) as pool:
        future = pool.submit(partial(log_and_wait, tmp_path))
        while "begun" not in caplog.text:
            assert not future.done()
            pool.pump(1.0)
        (tmp_path / "seen").touch()


def linger() -> None:
    """Leave a thread that does not end."""
    threading.Thread(target=time.sleep, args=(600,)).start()


def test_a_worker_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    with Workers(1) as pool:
        pool.result(linger, "lingering")
        [pid] = pool.pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_task_is_given_up_where_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(workers, "_spawned", unable)
    with Workers(1) as pool, pytest.raises(WorkerLost, match="no worker process can start: BlockingIOError: no more"):
        pool.result(linger, "never begun")


def crash_after_fork() -> None:
    """End by SIGSEGV, while a process that has the same connections goes on."""
    if os.fork():
        signal.raise_signal(signal.SIGSEGV)
    time.sleep(20)


def test_a_worker_that_ends_is_noticed_though_its_child_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LOOK", 0.2)
    with Workers(1, retries=0) as pool:
        future = pool.submit(crash_after_fork, "forking")
        while not future.done():
            pool.pump()
        assert "was ended by SIGSEGV" in str(future.exception())


def log_what_cannot_be_pickled() -> None:
    """Log with a function beside the message."""
    logging.getLogger("aimonk_bench.suite").warning("odd", extra={"function": lambda: 0})


def test_a_message_arrives_without_what_cannot_be_pickled(caplog: pytest.LogCaptureFixture) -> None:
    with Workers(1) as pool:
        pool.result(log_what_cannot_be_pickled, "logging")
    assert "odd" in caplog.text


def end_with_answer() -> None:
    """End with exit code 1 where this process may start others."""
    sys.exit(int(workers.can_start()))


def test_a_daemonic_process_can_start_no_worker() -> None:
    process = multiprocessing.get_context("spawn").Process(target=end_with_answer, daemon=True)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert workers.can_start()
