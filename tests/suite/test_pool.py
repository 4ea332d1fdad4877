"""What a worker answers when a task raises what no program should."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from aimonk_bench.errors import RunFailed, sentence
from aimonk_bench.suite.pool import WorkerLost
from aimonk_bench.suite.replies import answer
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
