"""How workers answer: what they send to the driver, all of it pickled, and how they do tasks."""

from __future__ import annotations

import importlib
import logging
import logging.handlers
import pickle
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from aimonk_bench.errors import RunFailed, notes_of, sentence, text_of, traceback_of

READY = "ready"  # it has imported what tasks need


@dataclass(frozen=True, eq=False)
class Reply:
    """What a worker sends back.

    Attributes:
        result: of the task; None if it raised.
        error: what it raised, and the traceback there as text.
        messages: that it logged and has not sent before.
    """

    result: Any
    error: tuple[Exception, str] | None
    messages: list[logging.LogRecord]

    def settle(self, future: Future[Any]) -> None:
        """Give the result or the exception to a future; what was logged is logged here."""
        for record in self.messages:
            log(record)
        if self.error is None:
            future.set_result(self.result)
        else:
            error, text = self.error
            error.__cause__ = TracebackOfWorker(f"\n{text}")  # pickling would lose a cause
            future.set_exception(error)


@dataclass(frozen=True)
class SignOfLife:
    """What a worker sends while it does a task, so that it is not taken for one that stands still.

    Attributes:
        report: (phase, units done, units to do), for a progress bar; None where nothing is new.
    """

    report: tuple[str, int, int | None] | None = None


def log(record: logging.LogRecord) -> None:
    """Log in the driver what a worker logged."""
    target = logging.getLogger(record.name)
    if target.isEnabledFor(record.levelno):
        target.handle(record)


class TracebackOfWorker(Exception):
    """The cause of an exception that was raised in a worker: its traceback there, as text."""


def prepare(modules: Sequence[str]) -> None:
    """Make this process a worker: import what tasks need, before the time of a task is counted."""
    from threadpoolctl import threadpool_limits

    for module in ("aimonk_bench.suite.tasks", *modules):
        importlib.import_module(module)
    threadpool_limits(1, user_api="blas")  # further threads would wait for those of the other workers


def answer(load: Callable[[], Callable[[], Any]], send: Callable[[logging.LogRecord], object] | None = None) -> bytes:
    """The pickled `Reply` of a worker to a task.

    Args:
        load: unpickles the task.
        send: sends what is logged at once; None: the reply has it.
    """
    answered = reply(lambda: load()(), send)
    try:
        return pickle.dumps(answered)
    except BaseException as error:  # whatever the parts of the result do
        return pickle.dumps(Reply(None, (_sendable(error), traceback_of(error)), answered.messages))


class _Handler(logging.handlers.QueueHandler):
    """Formats messages and sends them, without what else a record may carry, so that they can be pickled."""

    def __init__(self, send: Callable[[logging.LogRecord], object]) -> None:
        super().__init__(queue.SimpleQueue())
        self._send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a message."""
        self._send(
            logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, record.msg, None, None)
        )


def reply(function: Callable[[], Any], send: Callable[[logging.LogRecord], object] | None = None) -> Reply:
    """Do a task in a worker; `send` as of `answer`."""
    messages: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = _Handler(send or messages.put)
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
