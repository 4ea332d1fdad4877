"""What is wrong in a file that a user wrote, and where: file, line, column."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aimonk_bench.errors import UserError
from aimonk_bench.registry import Problem


@dataclass(frozen=True, order=True)
class Place:
    """Where something is written.

    Attributes:
        source: the file as the user named it, or ``--set key``.
        line: from 1; 0 on the command line, where neither line nor column is shown.
        column: from 1.
        folder: relative paths written here start from it.
    """

    source: str
    line: int
    column: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(order=True, unsafe_hash=True)
class Fault(Exception):
    """One line for the user: a place, the config key, what was found and what was expected.

    A fault after which the text can still be read is collected; one after which it cannot is raised.
    """

    at: Place
    text: str

    def __str__(self) -> str:
        return f"{self.at}: {self.text}"


def dotted(path: Sequence[str | int]) -> str:
    """``train.seeds[0]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def placed(at: Place, problem: Problem) -> Fault:
    """The problem at a place, with its path in front."""
    where = dotted(problem.path)
    key = at.source.removeprefix("--set ")
    if key != at.source and (where == key or where.startswith((f"{key}.", f"{key}["))):
        return Fault(replace(at, source=f"--set {where}"), str(problem))  # the key once
    return Fault(at, f"{where}: {problem}" if where else str(problem))


def fault(at: Place, path: Sequence[str | int], found: str, expected: str) -> Fault:
    """What was found at a place, under the key of this path, and what was expected."""
    return placed(at, Problem(tuple(path), found, expected))


def user_error(faults: Sequence[Fault]) -> UserError:
    """All faults in the order of files and lines; the runs of a grid repeat one another's."""
    return UserError([str(item) for item in sorted(set(faults))])


def decode(data: bytes, source: Place) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Args:
        source: the file; of its place the line and the column are not read.

    Raises:
        Fault: at the first byte that is no UTF-8 text.
    """
    text, bad = "", 0
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        actual = "UTF-16 text"
    else:
        data = data.removeprefix(codecs.BOM_UTF8)
        try:
            text, bad = data.decode("utf-8"), data.find(b"\0")
        except UnicodeDecodeError as error:
            bad = error.start
        if bad < 0:
            return text
        actual = f"the byte 0x{data[bad]:02x}" if data[bad] else "a NUL byte (UTF-16, or no text at all)"
    at = replace(source, line=data.count(b"\n", 0, bad) + 1, column=bad - data.rfind(b"\n", 0, bad))
    raise fault(at, (), actual, "UTF-8 text")
