"""Where the seconds of a command go, by phase."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

PHASES = ("start", "plan", "encode", "train", "score", "plots", "statistics", "files")


def total(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The seconds of each phase, summed over tasks."""
    phases = dict.fromkeys(phase for part in parts for phase in part)
    return {phase: sum(part.get(phase, 0.0) for part in parts) for phase in phases}


class Clock:
    """Seconds per phase, none of them counted twice: a phase inside another one interrupts it.

    Args:
        began: when the process began, by `time.perf_counter`; the time since then is the phase "start".

    Attributes:
        seconds: phase -> seconds so far.
    """

    def __init__(self, began: float | None = None) -> None:
        now = time.perf_counter()
        self._began = now if began is None else began
        self._inner = 0.0  # seconds of the phases that interrupted the current one
        self.seconds = {"start": now - self._began}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time a phase, also if it raises; several times add up."""
        start, outer, self._inner = time.perf_counter(), self._inner, 0.0
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self.seconds[phase] = self.seconds.get(phase, 0.0) + elapsed - self._inner
            self._inner = outer + elapsed

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count phases that a task timed itself while it ran inside the current phase."""
        for phase, elapsed in seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + elapsed
            self._inner += elapsed

    def itemised(self) -> dict[str, float]:
        """Seconds of every one of `PHASES`, the rest ("other"), and "total", since the process began."""
        total = time.perf_counter() - self._began
        items = {phase: self.seconds.get(phase, 0.0) for phase in PHASES}
        items |= {"other": total - sum(items.values()), "total": total}
        return {phase: round(seconds, 3) for phase, seconds in items.items()}
