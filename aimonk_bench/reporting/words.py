"""How numbers, counts, run names and notes of thresholds are written, and how a text is broken into lines."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress

from rich.cells import cell_len, chop_cells

from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.thresholds import Thresholds

UNDEFINED = "-"
DEPENDS_ON = {  # family of tests -> on what the missing labels (NA) of an attribute may depend
    "labels": "other labels",
    "missing": "the NA of other attributes",
    "size": "the size of the image",
    "format": "the file format",
    "features": "the content of the image",
}
SHOWN = 6  # names or figures of a list that are printed before the rest is only counted


def number(value: float, signed: bool = False, places: int = 2) -> str:
    """Two decimals, or more, without the leading zero; a value that rounds to 0 has no sign.

    >>> number(0.947), number(1.0), number(-0.012, signed=True), number(math.nan)
    ('.95', '1.00', '-.01', '-')
    >>> number(0.0084, signed=True, places=3), number(-0.0001, signed=True, places=3)
    ('+.008', '.000')
    """
    if math.isnan(value):
        return UNDEFINED
    text = f"{value:+.{places}f}" if signed else f"{value:.{places}f}"
    return (text if text.strip("+-0.") else text.lstrip("+-")).replace("0.", ".", 1)


def p_value(p: float) -> str:
    """Two decimals, three below .1, and the bound alone below .001.

    >>> p_value(0.5), p_value(0.0123), p_value(0.0004), p_value(math.nan)
    ('.50', '.012', '<.001', '-')
    """
    if math.isnan(p):
        return UNDEFINED
    if p < 0.001:
        return "<.001"
    return (f"{p:.2f}" if p >= 0.0995 else f"{p:.3f}").replace("0.", ".", 1)


def three_digits(value: float) -> str:
    """Three significant digits, and all digits before the point; NaN is empty.

    >>> three_digits(11.1765), three_digits(0.05549), three_digits(1234.5), three_digits(math.nan)
    ('11.2', '0.0555', '1234', '')
    """
    return "" if math.isnan(value) else f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def span(values: Iterable[float]) -> tuple[float, float]:
    """The lowest and the highest of the values that are defined; NaN twice if none is."""
    defined = [value for value in values if not math.isnan(value)] or [math.nan]
    return min(defined), max(defined)


def number_range(low: float, high: float) -> str:
    """The two ends of a range, or one number where both are written alike.

    >>> number_range(0.62, 0.67), number_range(0.621, 0.622)
    ('.62 to .67', '.62')
    """
    return " to ".join(dict.fromkeys([number(low), number(high)]))


def listed(items: Sequence[str], separator: str = ", ") -> str:
    """The first `SHOWN` of a list, and how many more there are; of none, ``none``.

    >>> listed(["a", "b"]), listed("abcdefghi")
    ('a, b', 'a, b, c, d, e, f, ... and 3 more')
    """
    more = [f"... and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return separator.join([*items[:SHOWN], *more]) or "none"


def which(names: Sequence[str], everything: Sequence[str]) -> str:
    """Which of all names are meant: the names, or the exceptions where these are fewer; nothing for all.

    >>> which("ab", "abcde"), which("abcd", "abcde"), which("ab", "ab")
    ('a, b', 'all but e', '')
    """
    rest = [name for name in everything if name not in names]
    if not rest:
        return ""
    return f"all but {listed(rest)}" if len(rest) < len(names) else listed(names)


def one_class(attributes: Sequence[str], positive: Array, negative: Array) -> str:
    """The attributes without both classes, from bool [A] whether there is a positive, and a negative; "" for none.

    >>> import numpy as np
    >>> one_class(["x", "y", "z"], np.array([True, True, False]), np.array([True, False, False]))
    'all positive: y; all missing: z'
    """
    words = {
        "all positive": positive & ~negative,
        "all negative": negative & ~positive,
        "all missing": ~(positive | negative),
    }
    parts = [(text, list(compress(attributes, holds))) for text, holds in words.items()]
    return "; ".join(f"{text}: {listed(names)}" for text, names in parts if names)


def run_name(parts: Sequence[str]) -> str:
    """The name of a run from its parts.

    >>> run_name(("focal(gamma=1.0)", "repeat_factor"))
    'focal(gamma=1.0) + repeat_factor'
    """
    return " + ".join(parts)


def run_names(parts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Run id -> the name of the run, with its id where another run has the same name.

    >>> run_names({"a-1": ("focal",), "b-2": ("focal",), "c-3": ("hill",)})
    {'a-1': 'focal [a-1]', 'b-2': 'focal [b-2]', 'c-3': 'hill'}
    """
    names = {run_id: run_name(of_run) for run_id, of_run in parts.items()}
    number_of = Counter(names.values())
    return {run_id: f"{name} [{run_id}]" if number_of[name] > 1 else name for run_id, name in names.items()}


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` cells: broken at spaces; a longer word after punctuation; a longer rest anywhere.

    >>> wrap("focal(gamma=1.0) + repeat_factor", 20)
    ['focal(gamma=1.0) +', 'repeat_factor']
    """
    pieces: list[str] = []
    for word in re.findall(r"\S+\s*", text):
        for part in [word] if cell_len(word.rstrip()) <= width else _word_parts(word):
            pieces += [part] if cell_len(part.rstrip()) <= width else chop_cells(part, width)
    return fill(pieces, width)


def unbroken(text: str) -> int:
    """The fewest cells into which `wrap` breaks a text without a break inside a word or a part of one.

    >>> unbroken("Streifenmuster sichtbar"), unbroken("wearing_hat")
    (14, 8)
    """
    return max((cell_len(part.rstrip()) for part in _word_parts(text)), default=0)


def _word_parts(text: str) -> list[str]:
    """Words, and what stands between punctuation in them, each with what follows it."""
    return re.findall(r"[^\s_,./()=-]*[_,./()=-]+\s*|[^\s_,./()=-]+\s*", text)


def fill(pieces: Iterable[str], width: int, indent: str = "") -> list[str]:
    """Lines of at most ``width`` cells, each of as many whole pieces as fit, but of one at least.

    All lines but the first begin with ``indent``.
    """
    lines = [""]
    for piece in pieces:
        if lines[-1].strip() and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append(indent)
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def threshold_notes(thresholds: Thresholds) -> list[str]:
    """One line for all attributes and folds that share a note: ``rare, hat: no observed label (folds 0, 3)``.

    The seeds stand beside the folds where a note does not hold for all seeds. A hold-out has no folds to name.
    """
    folds: dict[tuple[str, str, tuple[int, ...]], list[int]] = {}
    for note in thresholds.notes:
        folds.setdefault((note.attribute, note.reason, tuple(note.seeds)), []).append(note.fold)
    attributes: dict[tuple[str, tuple[int, ...], tuple[int, ...]], list[str]] = {}
    for (attribute, reason, seeds), where in folds.items():
        attributes.setdefault((reason, seeds, tuple(where)), []).append(attribute)
    n_folds = thresholds.values.shape[1]
    lines = []
    for (reason, seeds, numbers), names in attributes.items():
        some = [which_folds(numbers, n_folds)] if n_folds > 1 else []
        some += [_numbered("seed", seeds)] if len(seeds) < len(thresholds.seed) else []
        lines.append(f"{listed(names)}: {reason}" + (f" ({'; '.join(some)})" if some else ""))
    return lines


def which_folds(folds: Sequence[int], total: int) -> str:
    """Some of the folds of a run, by number.

    >>> which_folds([0, 2], 5), which_folds([1], 5), which_folds([0, 1], 2)
    ('folds 0, 2', 'fold 1', 'every fold')
    """
    return "every fold" if len(folds) == total else _numbered("fold", folds)


def _numbered(noun: str, numbers: Sequence[int]) -> str:
    return f"{noun}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
