"""The exceptions that carry a message for the user; everything else is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence


class UserError(Exception):
    """Config, data or usage is wrong: the command prints every problem and exits 2.

    Args:
        problems: one line each, ``where: what was found, what was expected``; at least one.
        limit: print only this many of them, followed by a count of the rest; None prints all.
    """

    def __init__(self, problems: str | Sequence[str], *, limit: int | None = None) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.limit = limit
        super().__init__(self.problems)

    def __str__(self) -> str:
        shown = self.problems if self.limit is None else self.problems[: self.limit]
        more = len(self.problems) - len(shown)
        return "\n".join([*shown, f"... and {more} more ({len(self.problems)} problems in all)"] if more else shown)


def check_all(checks: Iterable[Callable[[], object]]) -> None:
    """Run every check.

    Raises:
        UserError: checks raised it; it holds the problems of all of them, each once.
    """
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(list(dict.fromkeys(problems)))


class RunFailed(Exception):
    """One run could not be finished, for the reason given: `run` exits 1, a suite records it and goes on."""
