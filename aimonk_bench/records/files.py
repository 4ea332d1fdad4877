"""Small files written whole or not at all, in one readable and reproducible form."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from aimonk_bench.errors import UserError

T = TypeVar("T")
PARTIAL = ".partial-"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write to that takes the place of ``path`` when the block ends, and vanishes if it raises.

    The two share their suffix, because NumPy and matplotlib look at it.
    """
    partial = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def contents(folder: Path) -> list[str]:
    """What an output folder holds, sorted, without partial files; nothing if it is new.

    Raises:
        UserError: it is a file, or could not be written.
    """
    if folder.is_dir():
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith(PARTIAL))
    if folder.exists():
        raise UserError(f"{folder}: is a file, expected a folder or nothing")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryDirectory(dir=above):
            return []
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with LF line ends, atomically."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def plain(value: Any) -> Any:
    """``value`` in JSON's own types: arrays as lists, NumPy numbers as Python's, NaN as None.

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
    """JSON with shortest-roundtrip numbers, one map entry or nested list per line, a list of plain values on one line.

    Raises:
        ValueError: an infinite number, which JSON cannot hold.
    """
    return _dumps(plain(value), "\n") + "\n"


_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # json.dumps would make one each time


def _dumps(value: Any, newline: str) -> str:
    inner = newline + "  "
    if isinstance(value, dict) and value:
        body = ("," + inner).join(f"{_text(key)}: {_dumps(item, inner)}" for key, item in value.items())
        return "{" + inner + body + newline + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[" + inner + ("," + inner).join(_dumps(item, inner) for item in value) + newline + "]"
    return _text(value)


def write_json(path: Path, value: Any) -> None:
    """Write ``dumps(value)``, atomically."""
    write_text(path, dumps(value))


def read_json(path: Path) -> dict[str, Any]:
    """The map in a JSON file.

    Raises:
        UserError: the file cannot be read, is not JSON, or holds something other than a map.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: found a {type(value).__name__}, expected a map")
    return value


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)  # takes as long as to read ten files


def read_as(kind: type[T], path: Path) -> T:
    """The JSON file as the dataclass ``kind``, its types checked.

    Raises:
        UserError: it is not such a file; every reason is named.
    """
    try:
        checked: T = _adapter(kind).validate_python(read_json(path))  # type: ignore[arg-type]  # a class has a hash
        return checked
    except ValidationError as error:
        raise UserError([f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]) from error
