"""What goes to stderr: the messages of every room, by logging, and the progress of long work."""

from __future__ import annotations

import logging
import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from aimonk_bench.data.library_messages import stderr_apart

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0
PACE_SECONDS = 1800.0  # over which a rate is measured: an epoch of fine-tuning can take minutes
UNITS = {"encode": "images", "hash": "images", "train": "epochs"}


def set_up_logging(*, quiet: bool) -> None:
    """Send the package's messages to stderr: warnings always, information unless ``quiet``.

    ``sys.stderr`` leaves descriptor 2 to libraries, whose messages are caught while images are decoded.
    """
    sys.stderr = stderr_apart() or sys.stderr
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
            print(text, file=sys.stderr)


class Progress:
    """A callback ``(phase, done, total)``: a bar on a terminal, else a line every ten seconds.

    It reports nothing where information is not logged.
    """

    def __init__(self) -> None:
        self._quiet = not logger.isEnabledFor(logging.INFO)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Bars(  # off a terminal they are not shown and only measure the pace
            *columns,
            console=Console(stderr=True),
            transient=True,
            get_time=time.monotonic,
            speed_estimate_period=PACE_SECONDS,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bars.live.is_started:
            self._bars.stop()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units of ``phase`` are finished."""
        if self._quiet:
            return
        unit = UNITS.get(phase, "")
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(f"{phase} {unit}", total=total)
        self._bars.update(self._tasks[phase], completed=done, total=total)
        if not self._bars.live.is_started and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            logger.info("%s: %d of %d %s%s", phase, done, total, unit, self._pace(self._tasks[phase]))
        if done >= total:
            self._bars.remove_task(self._tasks.pop(phase))

    def _pace(self, number: TaskID) -> str:
        """``, 98/s, 5 s left``; nothing before the second report."""
        (task,) = (task for task in self._bars.tasks if task.id == number)
        if not task.speed:
            return ""
        return f", {format(task.speed, '.0f' if task.speed >= 10 else '.2g')}/s, {task.time_remaining:.0f} s left"
