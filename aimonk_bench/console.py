"""What goes to stderr: messages of every room (by logging) and the progress of long work."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0
WINDOW = 8  # reports over which a rate is measured, so that a slow start is forgotten
UNITS = {"encode": "pictures", "train": "epochs"}


def set_up_logging(*, quiet: bool) -> None:
    """Send the package's messages to stderr: warnings always, information unless ``quiet``."""
    package = logging.getLogger("aimonk_bench")
    package.handlers[:] = [_Stderr()]
    package.setLevel(logging.WARNING if quiet else logging.INFO)
    package.propagate = False


class _Stderr(logging.Handler):
    """A message to whatever stderr is now (a live bar takes its place); once, as the runs of a suite repeat them."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        label = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        text = label + self.format(record)
        if text not in self._said:
            self._said.add(text)
            print(text, file=sys.stderr)


class _Pace(ProgressColumn):
    """Units per second and the time left."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("pace", "")))


class Progress:
    """A callback ``(phase, done, total)``: a bar on a terminal, else a line every ten seconds, nothing when quiet.

    Args:
        quiet: report nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._reports: dict[str, deque[tuple[float, int]]] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            self._bars = Bars(*columns, _Pace(), console=Console(stderr=True), transient=True)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units of ``phase`` are finished."""
        if self._quiet:
            return
        now = time.monotonic()
        reports = self._reports.setdefault(phase, deque(maxlen=WINDOW))
        if not reports or now - reports[-1][0] > 0.2 or done >= total:
            reports.append((now, done))
        unit, pace = UNITS.get(phase, ""), _pace(reports, total)
        if self._bars is not None:
            if phase not in self._tasks:
                self._tasks[phase] = self._bars.add_task(f"{phase} {unit}", total=total)
            self._bars.update(self._tasks[phase], completed=done, total=total, pace=pace)
        elif now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            logger.info("%s: %d of %d %s%s", phase, done, total, unit, pace and f", {pace}")
        if done >= total:
            del self._reports[phase]
            if self._bars is not None:
                self._bars.remove_task(self._tasks.pop(phase))


def _pace(reports: deque[tuple[float, int]], total: int) -> str:
    """``98/s, 5 s left`` from the first and last of the reports; empty where they say nothing."""
    (start, first), (end, done) = reports[0], reports[-1]
    if done <= first:
        return ""
    rate = (done - first) / (end - start)
    return f"{format(rate, '.0f' if rate >= 10 else '.2g')}/s, {(total - done) / rate:.0f} s left"
