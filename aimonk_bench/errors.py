"""The exceptions that carry a message for the user, and every other exception in one sentence."""

from __future__ import annotations

import errno
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

FIXES = {  # errno -> what the user can do
    errno.ENOSPC: "free space on that disk, or name another one for the output folder and AIMONK_BENCH_CACHE",
    errno.EDQUOT: "free space in that quota, or name another disk for the output folder and AIMONK_BENCH_CACHE",
    errno.EFBIG: "name another disk for the output folder and AIMONK_BENCH_CACHE",
    errno.EIO: "check that disk and its connection, or name another one for the output folder and AIMONK_BENCH_CACHE",
    errno.EROFS: "name an output folder and an AIMONK_BENCH_CACHE that can be written",
    errno.EACCES: "allow access to that file, or name another output folder and AIMONK_BENCH_CACHE",
    errno.EPERM: "allow access to that file, or name another output folder and AIMONK_BENCH_CACHE",
    errno.ENAMETOOLONG: "a shorter name, or another output folder",
    errno.EMFILE: "allow more open files: ulimit -n 4096",
}
NO_MEMORY = ("out of memory", "allocate memory", "status_alloc_failed")
NO_CARD = "start the command again, because a process cannot use its card any more after such an error"
LONGEST = 1000  # characters of a message that somebody else wrote
OUT_OF_MEMORY = "a smaller train.batch_size, transform.size or backbone, or run.executor: serial"


def count(n: int, noun: str) -> str:
    """A number and its noun.

    >>> count(1, "seed"), count(5, "seed")
    ('1 seed', '5 seeds')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def printable(text: str) -> str:
    r"""Text of a user's file with control characters and lone surrogates as escapes, as a terminal can show it.

    >>> printable("a\x1b[31m \ud800 \xf6")
    'a\\x1b[31m \\ud800 \xf6'
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def visible(text: str) -> str:
    r"""Lines as a terminal can show them, see `printable`: control characters would colour it or move its cursor.

    >>> visible("a\x1b[31m\n")
    'a\\x1b[31m\n'
    """
    return "\n".join(map(printable, text.split("\n")))


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
        lines = [*shown, f"... and {more} more ({len(self.problems)} problems in all)"] if more else shown
        return visible("\n".join(lines))


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

    def __str__(self) -> str:
        return visible(super().__str__())


class Resumable(KeyboardInterrupt):
    """Interrupted, and what was done is kept: the same call goes on from there."""


def fix(error: BaseException) -> str | None:
    """What the user can do about an exception that is no `UserError`; None where nothing is known."""
    text = text_of(error).lower()
    if isinstance(error, MemoryError) or any(message in text for message in NO_MEMORY):  # of torch, too
        return OUT_OF_MEMORY
    if "cuda error" in text:
        return NO_CARD
    number = _attribute(error, "errno") if isinstance(error, OSError) else None
    return FIXES.get(number) if isinstance(number, int) else None


def text_of(error: BaseException) -> str:
    """The message of an exception, or that it has none that can be formatted."""
    try:
        return str(error)
    except BaseException as failure:  # somebody else wrote its `__str__`
        if type(failure) is KeyboardInterrupt:
            raise
        return f"its message cannot be formatted ({type(failure).__name__})"


def traceback_of(error: BaseException) -> str:
    """The traceback of an exception and of its causes as text, or that it cannot be formatted."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception as failure:  # somebody else wrote the attributes of the exception
        return f"{type(error).__name__}: its traceback cannot be formatted ({type(failure).__name__})\n"


def notes_of(error: BaseException) -> list[str]:
    """The notes of an exception that are text; somebody else may have put anything there."""
    notes = _attribute(error, "__notes__")
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list | tuple) else []


def _attribute(error: BaseException, name: str) -> object:
    """An attribute of an exception that somebody else wrote; None where there is none, or reading it raises."""
    try:
        return getattr(error, name, None)
    except Exception:
        return None


def sentence(error: BaseException) -> str:
    """An exception in one line: what went wrong, what was being done (its notes), and the fix where one is known."""
    if isinstance(error, UserError):
        return visible("; ".join(error.problems))
    if isinstance(error, RunFailed):
        return text_of(error)
    text = _one_line(text_of(error))
    parts = [f"{type(error).__name__}: {text}" if text else type(error).__name__, *map(_one_line, notes_of(error))]
    advice = fix(error)
    return ", ".join(parts) + (f" (fix: {advice})" if advice else "")


def _one_line(text: str) -> str:
    """Text that somebody else wrote in one line that a terminal can show, shortened."""
    line = printable(" ".join(text.split()))
    return f"{line[:LONGEST]} ... ({len(line):,} characters)" if len(line) > LONGEST else line


def release(error: BaseException) -> None:
    """Drop the variables that the tracebacks of an exception and of its causes hold: tensors of a run that failed.

    Runs that follow need the memory, such as that of a GPU which ran out of it.
    """
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        one = chain.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            chain += [one.__cause__, one.__context__]


def write_traceback(error: BaseException, file: Path | None = None) -> str:
    """Write the traceback of an exception.

    Args:
        file: where; default a new file in the folder of temporary files.

    Returns:
        Where it stands, or why it could not be written, for a message.
    """
    text = traceback_of(error)
    try:
        if file is None:
            with tempfile.NamedTemporaryFile("w", prefix="aimonk-bench-", suffix=".log", delete=False) as log:
                file = Path(log.name)
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as unwritable:
        return f"its traceback could not be written: {unwritable}"
    return f"traceback: {file}"
