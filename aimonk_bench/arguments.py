"""Arguments of functions, checked where they come in. A message says what was found and what was expected."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from aimonk_bench import registry
from aimonk_bench.errors import UserError, printable

T = TypeVar("T")
PLAIN = (str, bytes, int, float, list, tuple, set, dict, type(None))  # types whose values a message quotes
MOST_SHOWN = 60  # characters of a value in a message


def wrong(name: str, value: object, expected: str) -> UserError:
    """The error about an argument."""
    text = printable(repr(value)) if isinstance(value, PLAIN) else f"a {type(value).__name__}"
    shown = text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."
    return UserError(f"{name}: found {shown}, expected {expected}")


def path(name: str, value: object, expected: str = "a path") -> Path:
    """A path: a text or what `os.fspath` makes a text of.

    Raises:
        UserError: it is something else, is empty, or has a NUL, which no path can hold.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise wrong(name, value, expected)
    return Path(text)


def instance(name: str, value: object, kind: type[T]) -> T:
    """An object of a class.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(value, kind):
        raise wrong(name, value, f"a {kind.__module__}.{kind.__name__}")
    return value


def flag(name: str, value: object) -> bool:
    """True or False.

    Raises:
        UserError: it is something else, such as the text "no", which Python takes for true.
    """
    if not isinstance(value, bool | np.bool_):
        raise wrong(name, value, "True or False")
    return bool(value)


def whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """A whole number in a range; True is none.

    Raises:
        UserError: it is something else.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
        if least <= number and (most is None or number <= most):
            return number
    span = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise wrong(name, value, f"a whole number {span}")


def above_zero(name: str, value: object, what: str) -> float:
    """A finite number above 0; True is none.

    Args:
        what: the number is, such as "hours".

    Raises:
        UserError: it is something else.
    """
    if isinstance(value, int | float | np.integer | np.floating) and value is not True and 0 < value < math.inf:
        return float(value)
    raise wrong(name, value, f"a number of {what} above 0")


def choice(name: str, value: object, choices: Sequence[str]) -> str:
    """One of some names.

    Raises:
        UserError: it is something else; the nearest name is added.
    """
    if not isinstance(value, str) or value not in choices:
        hint = registry.hint(value, choices) if isinstance(value, str) else ""
        raise wrong(name, value, f"one of {', '.join(choices)}{hint}")
    return value
