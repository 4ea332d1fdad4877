"""The standard streams: data on stdout; messages of every room, by logging, and the progress of long work on stderr."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from aimonk_bench.data.library_messages import stderr_apart
from aimonk_bench.errors import UserError, visible

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_UPDATES = 0.5  # in a notebook
PACE_SECONDS = 1800.0  # over which a rate is measured: an epoch of fine-tuning can take minutes
UNITS = {"encode": "images", "hash": "images", "predict": "images", "suite": "runs", "train": "epochs"}


class _Stream:
    """A standard stream that may end before the command does: what comes after that is dropped.

    Args:
        stream: whose reader may leave, as `| head` does.
        optional: it may end for another reason too, such as a full disk; otherwise that is raised, once.

    Attributes:
        ended: its reader has left.
    """

    def __init__(self, stream: TextIO, *, optional: bool) -> None:
        self._stream, self._optional = stream, optional
        self.ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text; its length."""
        with self._may_end():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand over what is buffered."""
        with self._may_end():
            self._stream.flush()

    @contextlib.contextmanager
    def _may_end(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.ended = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # what is buffered would raise again when the process ends
            os.close(nowhere)
            if not (self._optional or isinstance(error, BrokenPipeError)):
                raise


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Let no reader that has left end a command, nor a sign that cannot be encoded, nor a message that has no room.

    Such a sign is written as an escape: ``\\xf6`` on an ASCII terminal. A stream that is closed takes nothing.
    ``sys.stderr`` leaves descriptor 2 to the libraries, whose messages are caught while images are decoded.
    """
    streams = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        for name, stream in zip(("stdout", "stderr"), streams, strict=True):
            opened = stack.enter_context(open(os.devnull, "w")) if stream is None else stream
            if name == "stderr" and (apart := stderr_apart()) is not None:
                opened = stack.enter_context(apart)
            if isinstance(opened, io.TextIOWrapper):
                stack.callback(opened.reconfigure, encoding=opened.encoding, errors=opened.errors)
                opened.reconfigure(errors="backslashreplace")
            setattr(sys, name, cast(TextIO, _Stream(opened, optional=name == "stderr")))
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            sys.stdout, sys.stderr = streams


def write_data(text: str) -> None:
    """Write data for another program to stdout: UTF-8, whatever the terminal's encoding."""
    with output(None) as file:
        file.write(for_stream(file, text))


@contextlib.contextmanager
def output(out: Path | None) -> Iterator[TextIO]:
    """Where to write UTF-8: a file that appears when it is complete, or standard output.

    Raises:
        UserError: the file cannot be written.
    """
    from aimonk_bench.records.files import atomic  # imports NumPy, which `--help` does not need

    if out is None:
        if reconfigure := getattr(sys.stdout, "reconfigure", None):  # a stream in memory has no encoding
            reconfigure(encoding="utf-8", errors="backslashreplace")
        yield sys.stdout
        return
    if out.is_dir():
        raise UserError(f"-o: found the folder {out}, expected a file")
    if not out.parent.is_dir():
        raise UserError(f"-o: found no folder {out.parent}, expected one that exists")
    device = out.exists() and not out.is_file()  # such as /dev/null, which nothing may replace
    # of a link, what it leads to is replaced
    with contextlib.nullcontext(out) if device else atomic(Path(os.path.realpath(out))) as place:
        try:
            file = place.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        except OSError as error:
            raise UserError(f"-o: {out} cannot be written: {error.strerror}") from error
        with file:
            yield file


def for_stream(stream: TextIO, text: str) -> str:
    """Text as a stream takes it: on a terminal, control characters of names and messages are escapes."""
    return visible(text) if stream.isatty() else text


def set_up_logging(*, quiet: bool) -> None:
    """Send the package's messages to stderr: warnings always, information unless ``quiet``."""
    package = logging.getLogger("aimonk_bench")
    package.handlers[:] = [_Stderr()]
    package.setLevel(logging.WARNING if quiet else logging.INFO)
    package.propagate = False


class _Stderr(logging.Handler):
    """Prints each message once, as the runs of a suite repeat them, to what stderr is now: a live bar replaces it."""

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        label = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        text = label + self.format(record)
        if text not in self._printed:
            self._printed.add(text)
            print(visible(text), file=sys.stderr)


def _rate(task: Task) -> str:
    """Units per second, such as ``98/s``; empty before the second report."""
    return f"{format(task.speed, '.0f' if task.speed >= 10 else '.2g')}/s" if task.speed else ""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """The cell of a bar."""
        return Text(_rate(task))


class ProgressBar:
    """A callback ``(phase, done, total)``: a bar on a terminal, a line of text in a notebook.

    A total of None is not known.

    Args:
        lines: elsewhere log a line every ten seconds; and report nothing at all where information is not logged.
    """

    def __init__(self, *, lines: bool = True) -> None:
        self._lines = lines
        self._quiet = lines and not logger.isEnabledFor(logging.INFO)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        self._bars = Bars(  # off a terminal they are not shown and only measure the pace
            *columns,
            console=Console(stderr=True),
            transient=True,
            get_time=time.monotonic,
            speed_estimate_period=PACE_SECONDS,
            redirect_stdout=False,  # `predict` writes rows while the bar is there
        )
        self._tasks: dict[str, TaskID] = {}
        self._last_line = time.monotonic()
        self._cell: Any = None  # of the notebook

    def __enter__(self) -> Self:
        if not self._lines and self._bars.console.is_jupyter:
            from IPython.display import display  # rich would need ipywidgets

            self._cell = display(_plain(""), raw=True, display_id=True)
        elif not self._quiet and sys.stderr.isatty():
            self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._cell is not None:
            self._cell.update(_plain(""), raw=True)
        if self._bars.live.is_started:
            self._bars.stop()

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """Report that ``done`` of ``total`` units of ``phase`` are finished."""
        if self._quiet:
            return
        unit = UNITS.get(phase, "")
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(f"{phase} {unit}", total=total)
        self._bars.update(self._tasks[phase], completed=done, total=total)
        between = SECONDS_BETWEEN_LINES if self._cell is None else SECONDS_BETWEEN_UPDATES
        if not self._bars.live.is_started and time.monotonic() - self._last_line >= between:
            self._last_line = time.monotonic()
            of = "" if total is None else f" of {total}"
            text = f"{phase}: {done}{of} {unit}{self._pace(self._tasks[phase])}"
            if self._cell is not None:
                self._cell.update(_plain(text), raw=True)
            elif self._lines:
                logger.info("%s", text)
        if total is not None and done >= total:
            self._bars.remove_task(self._tasks.pop(phase))

    def _pace(self, number: TaskID) -> str:
        """``, 98/s, 5 s left``; nothing before the second report."""
        (task,) = (task for task in self._bars.tasks if task.id == number)
        left = task.time_remaining
        return "".join(f", {part}" for part in (_rate(task), "" if left is None else f"{left:.0f} s left") if part)


def _plain(text: str) -> dict[str, str]:
    """What a cell of a notebook shows."""
    return {"text/plain": text}
