"""How far a call is: reported to a function of the caller, or shown on a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from aimonk_bench.arguments import wrong
from aimonk_bench.console import ProgressBar

Report = bool | Callable[..., None] | None


class _Raised(BaseException):
    """What a function of the caller raised; no Exception, or it would be recorded as the failure of a run.

    Attributes:
        error: that exception.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error


class Reporter:
    """A callback ``(phase, done, total)`` while its block runs. What the caller's function raises leaves the block.

    Args:
        progress: True shows progress on a terminal and in a notebook; False and None report nothing; or a function.

    Raises:
        UserError: it is something else.
    """

    def __init__(self, progress: Report) -> None:
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise wrong("progress", progress, "True, False, or a function of the phase, of what is done, of the total")
        self._function = ProgressBar(lines=False) if progress is True else progress or None
        self._shown = ExitStack()

    def __enter__(self) -> Self:
        if isinstance(self._function, ProgressBar):
            self._shown.enter_context(self._function)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._shown.close()
        if isinstance(error, _Raised):
            raise error.error from error.error.__cause__  # without the context, which is about this module

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """Report that ``done`` of ``total`` units of ``phase`` are finished."""
        if self._function is None:
            return
        try:
            self._function(phase, done, total)
        except Exception as error:
            raise _Raised(error) from error
