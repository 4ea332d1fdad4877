"""What fits into a width: which columns, how wide they are, and how much each cell says.

Nothing is ever cut off: a narrow terminal gets fewer columns and wrapped names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len, chop_cells

from aimonk_bench.reporting.columns import BELOW, PLUS_MINUS, Column, Detail, block
from aimonk_bench.reporting.summary import Summary

GAP = 2  # cells between columns
NARROW_NAME = 16  # a name may be wrapped to this, or to a third of the terminal, whichever is wider
NARROWEST_NAME = 4  # where even the macro average hardly fits
NARROW_HEAD = 10  # to which the head of a column may be wrapped
DETAILS = {  # from this width on: the first that shows all attributes, else the last
    200: (Detail(macro_ranking=True, ranking=True), Detail(macro_ranking=True)),
    120: (Detail(),),
    0: (Detail(default=False),),
}


@dataclass(frozen=True)
class Layout:
    """The columns that are shown.

    Attributes:
        name: width of the names.
        widths: of the columns.
        hidden: number of attributes that do not fit.
    """

    detail: Detail
    columns: Sequence[Column]
    name: int = 0
    widths: Sequence[int] = ()
    hidden: int = 0
    plus_minus: str = PLUS_MINUS


def everything(summary: Summary, detail: Detail) -> Layout:
    """The columns of the macro average and of every attribute, whatever their width; none if no run finished."""
    blocks = [block(summary, detail, a) for a in (-1, *range(len(summary.attributes)))]
    return Layout(detail, [column for columns in blocks for column in columns] if summary.ranking else [])


def fit(summary: Summary, names: Collection[str], width: int, plus_minus: str = PLUS_MINUS) -> Layout:
    """Choose what fits into ``width`` cells beside the names of the runs, which may have to be wrapped.

    If the attributes do not all fit, those are shown in which the runs differ most.
    """
    whole = max(map(cell_len, (*names, *BELOW)))
    if not summary.ranking:
        return Layout(DETAILS[0][0], [], min(whole, max(NARROW_NAME, width // 3)))
    for detail in next(choices for least, choices in DETAILS.items() if width >= least):
        layout = _fit(summary, detail, whole, width, plus_minus)
        if not layout.hidden:
            break
    return layout


def _fit(summary: Summary, detail: Detail, whole: int, width: int, plus_minus: str) -> Layout:
    """Fit the columns of one detail beside names of at most ``whole`` cells."""

    def taken(columns: Sequence[Column]) -> int:
        return sum(_width(column) + GAP for column in columns)

    macro = block(summary, detail, -1)
    blocks: dict[int, list[Column]] = {}
    room = width - taken(macro) - min(whole, max(NARROW_NAME, width // 3))
    for a in _most_differing(summary):
        columns = block(summary, detail, a)
        room -= taken(columns)
        if room < 0:
            break
        blocks[a] = columns
    hidden = len(summary.attributes) - len(blocks)
    order = blocks if hidden else sorted(blocks)
    shown = [*macro, *(column for a in order for column in blocks[a])]
    name = max(NARROWEST_NAME, min(whole, width - taken(shown)))
    return Layout(detail, shown, name, [_width(column) for column in shown], hidden, plus_minus)


def _width(column: Column) -> int:
    """Width in cells; the head is wrapped to `NARROW_HEAD` or to the widest cell."""
    widest = max(column.text(row).cell_len for row in column.cells)
    return max(widest, *map(cell_len, wrap(column.head, max(widest, NARROW_HEAD))))


def _most_differing(summary: Summary) -> list[int]:
    """Attributes by the range of tuned F1 over the runs, widest first, undefined ones last; equal ones in order."""
    tuned = np.array([values["f1_tuned"][:-1] for values in summary.values.values()])
    spread = np.nan_to_num(np.ptp(tuned, axis=0), nan=-1.0)
    return [int(a) for a in np.argsort(-spread, kind="stable")]


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
