"""Small text files, written atomically and always in the same form."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import math
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from aimonk_bench.errors import UserError, sentence

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

FORMULA = re.compile(r"'*[=+\-@\t\r].", re.DOTALL)  # how a text begins that a spreadsheet reads as a formula
T = TypeVar("T")
DIGITS = len(str(-(2**63)))  # of a whole number of 64 bits, with its sign
PARTIAL = ".partial-"
IDLE = 3600.0  # seconds after which nobody is writing a temporary file any more
CLAIM = ".claim"  # how the names of claims begin


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it replaces ``path`` when the block ends and is deleted if the block raises.

    Both paths have the same suffix, because NumPy and matplotlib choose the format by it.
    """
    # not the number of the process, which another one on another machine may have too
    partial = path.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        if os.path.lexists(partial):  # a read-only disk refuses to delete even what is not there
            partial.unlink(missing_ok=True)


def remove_partial(folder: Path, idle: float = 0.0) -> None:
    """Delete the temporary files and folders that killed processes, and those on a full disk, left in a folder.

    Args:
        idle: only what nobody has touched for so many seconds: `IDLE` where other processes may be writing.
    """
    for partial in folder.glob(PARTIAL + "*"):
        with contextlib.suppress(FileNotFoundError):  # its process, or another one that cleans up, was quicker
            if time.time() - partial.stat().st_mtime < idle:
                continue
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink()


def delete(folder: Path) -> None:
    """Delete a folder that nobody needs any more, if it is there; that it cannot be deleted is a warning."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        logger.warning("%s: cannot be deleted, although nobody needs it any more", folder)


def contents(folder: Path, without: str = "") -> list[str]:
    """The names in an output folder, sorted, without temporary files and claims; empty where there is no folder yet.

    Args:
        without: a name that is not listed either.

    Raises:
        UserError: ``folder`` is a file or cannot be read, or its parent cannot be written to.
    """
    try:
        if folder.is_dir():
            names = sorted(path.name for path in folder.iterdir() if not path.name.startswith((PARTIAL, CLAIM)))
            return [name for name in names if name != without]
        if folder.exists():
            raise UserError(f"{folder}: is a file, expected a folder or nothing")
        parent = next(parent for parent in folder.absolute().parents if parent.exists())
        remove_partial(parent, IDLE)
        with tempfile.TemporaryDirectory(dir=parent, prefix=PARTIAL):  # which other processes do not see
            return []
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {sentence(error)}") from error


def refuse_folders(folder: Path, names: Iterable[str]) -> None:
    """Raise a UserError with every folder that stands in the place of a file that is to be written or read."""
    if wrong := [folder / name for name in names if (folder / name).is_dir()]:
        fix = "move it away, or name another output folder"
        raise UserError([f"{path}: is a folder, expected a file; {fix}" for path in wrong])


def bytes_text(size: float) -> str:
    """A number of bytes for reading, in decimal units.

    >>> bytes_text(819_200), bytes_text(46_830_571), bytes_text(2e10)
    ('819 kB', '46.8 MB', '20 GB')
    """
    number, unit = float(size), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if number < 999.5 or unit == "TB":
            break
        number /= 1000
    return f"{number:.3g} {unit}" if unit != "bytes" else f"{number:.0f} {unit}"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with LF line ends, atomically."""
    write_bytes(path, text.encode())


def plain(value: Any) -> Any:
    """``value`` in JSON's types: arrays become lists, NumPy numbers Python numbers, NaN None.

    >>> plain({"f1": np.array([0.5, np.nan])})
    {'f1': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def dumps(value: Any) -> str:
    """``value`` as JSON with shortest-roundtrip numbers; undefined numbers are null.

    Raises:
        ValueError: an infinite number, which JSON cannot hold.
    """
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write ``dumps(value)``, atomically."""
    write_text(path, dumps(value))


def csv_text(table: pd.DataFrame) -> str:
    """The columns of a table as CSV; a missing text and an undefined number are empty fields.

    Floats are written in their shortest form that reads back exactly.
    """
    return table.to_csv(index=False, lineterminator="\n")


def harmless(table: pd.DataFrame) -> pd.DataFrame:
    """The table for a CSV file in which a spreadsheet finds no formula.

    A text that a spreadsheet would read as one begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return and
    is no number. It gets an apostrophe before it, and so does a text that looks like that already: a program that
    takes one apostrophe away from ``'=x`` and ``''=x`` has the texts again. JSON has them as they are.
    """
    made = table.copy()
    for name in made.columns[[not is_number for is_number in made.dtypes.map(_is_number)]]:
        made[name] = made[name].map(_harmless_text, na_action="ignore")
    return made


def _is_number(kind: Any) -> bool:
    return getattr(kind, "kind", "O") in "biuf"


def _harmless_text(text: Any) -> Any:
    """A text that is no formula; anything else as it is.

    >>> [_harmless_text(text) for text in ("=1+1", "'=x", "-", "-1.5", "-x", "a=b", 3)]
    ["'=1+1", "''=x", '-', '-1.5', "'-x", 'a=b', 3]
    """
    if not isinstance(text, str) or not FORMULA.match(text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write ``csv_text(table)``, atomically."""
    write_text(path, csv_text(table))


def _whole(digits: str) -> int:
    """A whole number in JSON."""
    if len(digits) > DIGITS or not -(2**63) <= (value := int(digits)) < 2**63:
        raise ValueError(f"found a whole number of {len(digits.lstrip('-'))} digits, expected one of 64 bits")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a map.

    Raises:
        UserError: the file cannot be read, is not JSON, or holds something else, or a whole number of more than 64
            bits, which no array takes.
    """
    refuse_folders(path.parent, [path.name])
    try:
        value = json.loads(path.read_bytes(), parse_int=_whole)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: found a {type(value).__name__}, expected a map")
    return value


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)  # building one takes as long as reading ten files


def read_as(kind: type[T], path: Path) -> T:
    """Read a JSON file as the dataclass ``kind``, see `checked`."""
    return checked(kind, read_json(path), path)


def checked(kind: type[T], content: object, path: Path) -> T:
    """The content of a file as the dataclass ``kind``, the types of its fields checked; other keys are ignored.

    Raises:
        UserError: fields are missing or of another type; all of them are listed.
    """
    try:
        value: T = _adapter(kind).validate_python(content)  # type: ignore[arg-type]  # a class has a hash
        return value
    except ValidationError as error:
        places = [(".".join(map(str, problem["loc"])), problem["msg"]) for problem in error.errors()]
        problems = "; ".join(f"{place}: {text}" if place else text for place, text in places)
        raise UserError(
            f"{path}: is damaged or was written by another version of aimonk_bench ({problems}); "
            "execute the same config again, into another output folder if this one is to stay"
        ) from error


def file_sha256(file: Path) -> str:
    """SHA-256 (hex) of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def derived(path: Path, load: Callable[[Path], T | None]) -> T | None:
    """A file that derives from the predictions; None where it is missing or damaged, which is logged."""
    if not path.exists():
        return None
    try:
        return load(path)
    except UserError as error:
        logger.warning("computed again from the predictions: %s", error.problems[0])
        return None
