"""What fits into a width: which columns, how wide, and how much each cell says.

Nothing is ever cut: less room gives fewer columns and wrapped names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len, chop_cells

from aimonk_bench.reporting.summary import OVER_FLOOR, Summary

ALWAYS, PRIOR = "always positive", "guess by prevalence"
UNDEFINED = "-"
CHOSEN = "*"
GAP = 2  # cells between columns
NARROW_NAME = 16  # a run's name may be wrapped to this, or to a third of the terminal, whichever is wider
NARROWEST_NAME = 4  # where even the macro hardly fits
HEADS = (16, 10, 8)  # widths that the heads of columns may be wrapped to, tried in this order


@dataclass(frozen=True)
class Detail:
    """How much is said: F1 at 0.5 beside the tuned one; AP and ROC AUC of the macro; and of each attribute."""

    default: bool
    ranking: bool = False
    each_ranking: bool = False


DETAILS = {  # from this width on; the first that leaves no attribute out, else the last
    200: (Detail(True, True, True), Detail(True, True)),
    120: (Detail(True),),
    0: (Detail(False),),
}


@dataclass(frozen=True)
class Column:
    """One column of numbers: its head, and a cell for each finished run id, for `ALWAYS` and for `PRIOR`."""

    head: str
    cells: Mapping[str, str]

    def width(self, head: int) -> int:
        """Width in cells if the head may be wrapped to ``head``."""
        widest = max(map(cell_len, self.cells.values()))
        return max(widest, *map(cell_len, wrap(self.head, max(head, widest))))


Value = Callable[[str, str], float]  # (run id, figure)


@dataclass(frozen=True)
class Layout:
    """What fits: the width of the names, the columns and their widths, and the number of attributes left out."""

    detail: Detail
    name: int
    columns: Sequence[Column]
    widths: Sequence[int]
    left_out: int


def number(value: float, signed: bool = False) -> str:
    """Two decimals without the leading zero.

    >>> number(0.947), number(1.0), number(-0.012, signed=True), number(math.nan)
    ('.95', '1.00', '-.01', '-')
    """
    if math.isnan(value):
        return UNDEFINED
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return ".00" if text in ("+0.00", "-0.00") else text.replace("0.", ".", 1)


def span(values: Iterable[float]) -> str:
    """The one number that all values round to, or the lowest and the highest: ``.67`` or ``.62 to .67``."""
    known = sorted(value for value in values if not math.isnan(value))
    ends = dict.fromkeys([number(known[0]), number(known[-1])] if known else [UNDEFINED])
    return " to ".join(ends)


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` cells: broken at spaces; a longer word after punctuation; a longer rest anywhere.

    >>> wrap("focal(gamma=1.0) + repeat_factor", 20)
    ['focal(gamma=1.0) +', 'repeat_factor']
    """
    pieces: list[str] = []
    for word in re.findall(r"\S+\s*", text):
        fits = cell_len(word.rstrip()) <= width
        for part in [word] if fits else re.findall(r"[^_,./()=-]*[_,./()=-]+\s*|.+$", word):
            pieces += [part] if cell_len(part.rstrip()) <= width else chop_cells(part, width)
    lines = [""]
    for piece in pieces:
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


class Columns:
    """The columns of a summary in one detail."""

    def __init__(self, summary: Summary, detail: Detail) -> None:
        self.summary, self.detail = summary, detail

    def macro(self) -> list[Column]:
        """F1, its gain over the floor, AP and ROC AUC."""

        def value(run_id: str, figure: str) -> float:
            return self.summary.macro[run_id][figure]

        gain = self._column("over floor", lambda run_id: number(value(run_id, OVER_FLOOR), signed=True))
        f1 = self._f1("macro F1", value)
        return [f1, gain, *(self._ranking("macro", value) if self.detail.ranking else ())]

    def attribute(self, a: int) -> list[Column]:
        """F1, AP and ROC AUC of one attribute."""

        def value(run_id: str, figure: str) -> float:
            return float(self.summary.values[run_id][figure][a])

        name = self.summary.attributes[a]
        return [self._f1(name, value), *(self._ranking(name, value) if self.detail.each_ranking else ())]

    def _column(self, head: str, cell: Callable[[str], str], always: str = "", prior: str = "") -> Column:
        return Column(head, {run_id: cell(run_id) for run_id in self.summary.ranking} | {ALWAYS: always, PRIOR: prior})

    def _f1(self, head: str, value: Value) -> Column:
        def cell(run_id: str) -> str:
            default, tuned = number(value(run_id, "f1_default")), number(value(run_id, "f1_tuned"))
            return f"{default} -> {tuned}" if self.detail.default else tuned

        floors = (span(value(run_id, name) for run_id in self.summary.ranking) for name in ("floor_f1", "prior_f1"))
        return self._column(head, cell, *floors)

    def _ranking(self, name: str, value: Value) -> list[Column]:
        return [
            self._column(f"{name} AP", lambda run_id: number(value(run_id, "average_precision"))),
            self._column(f"{name} ROC AUC", lambda run_id: number(value(run_id, "roc_auc"))),
        ]


def _most_differing(summary: Summary) -> list[int]:
    """Attributes by the range of tuned F1 over the runs, widest first, undefined ones last; ties keep their order."""
    tuned = np.array([summary.values[run_id]["f1_tuned"] for run_id in summary.ranking])
    spread = np.nan_to_num(tuned.max(axis=0) - tuned.min(axis=0), nan=-1.0)
    return [int(a) for a in np.argsort(-spread, kind="stable")]


def fitting(summary: Summary, names: Collection[str], width: int) -> Layout:
    """Choose what fits into ``width`` cells beside ``names``.

    In turn: all attributes beside whole names; beside wrapped names; as many as fit, those first in which the runs
    differ most.
    """
    mark = len(CHOSEN) + 1 if summary.chosen else 0
    whole = mark + max(map(cell_len, (*names, ALWAYS, PRIOR)))
    wrapped = min(whole, max(NARROW_NAME, width // 3))
    if not summary.ranking:
        return Layout(Detail(False), wrapped, (), (), 0)
    details = next(choices for least, choices in DETAILS.items() if width >= least)
    for detail in details:
        columns = complete(summary, detail)
        for name in (whole, wrapped):
            for head in HEADS:
                widths = [column.width(head) for column in columns]
                left = width - _taken(widths)
                if left >= name:
                    return Layout(detail, min(whole, left), columns, widths, 0)
    return _partial(Columns(summary, details[-1]), width, whole, wrapped)


def complete(summary: Summary, detail: Detail) -> list[Column]:
    """The columns of the macro and of every attribute."""
    make = Columns(summary, detail)
    return [*make.macro(), *(column for a in range(len(summary.attributes)) for column in make.attribute(a))]


def _partial(make: Columns, width: int, whole: int, wrapped: int) -> Layout:
    """The macro and as many attributes as fit beside wrapped names."""
    columns, shown = make.macro(), 0
    widths = [column.width(HEADS[-1]) for column in columns]
    for a in _most_differing(make.summary):
        block = make.attribute(a)
        needed = [column.width(HEADS[-1]) for column in block]
        if width - _taken([*widths, *needed]) < wrapped:
            break
        columns, widths, shown = [*columns, *block], [*widths, *needed], shown + 1
    name = max(NARROWEST_NAME, min(whole, width - _taken(widths)))
    return Layout(make.detail, name, columns, widths, len(make.summary.attributes) - shown)


def _taken(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * len(widths)
