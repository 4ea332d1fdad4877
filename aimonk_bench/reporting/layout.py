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

CHOSEN, NA = "chosen in each fold", "any filling of NA"
ALWAYS, PRIOR, SIGNAL = "always positive", "guess by prevalence", "signal: p"
UNDEFINED = "-"
WINNER = "*"
FEW = "~"
PLUS_MINUS = "±"
GAP = 2  # cells between columns
NARROW_NAME = 16  # a run's name may be wrapped to this, or to a third of the terminal, whichever is wider
NARROWEST_NAME = 4  # where even the macro hardly fits
HEADS = (16, 10, 8)  # widths that the heads of columns may be wrapped to, tried in this order


@dataclass(frozen=True)
class Detail:
    """How much is said: F1 at 0.5 and the comparison; AP and ROC AUC of the macro; and of each attribute."""

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
    """One column: its head, and a cell for each finished run id and for the rows below the runs, `BELOW`."""

    head: str
    cells: Mapping[str, str]

    def width(self, head: int) -> int:
        """Width in cells if the head may be wrapped to ``head``."""
        widest = max(map(cell_len, self.cells.values()))
        return max(widest, *map(cell_len, wrap(self.head, max(head, widest))))


Value = Callable[[str, str], float]  # (run id, figure)
BELOW = (CHOSEN, NA, ALWAYS, PRIOR, SIGNAL)


@dataclass(frozen=True)
class Layout:
    """What fits: the width of the names, the columns and their widths, and the number of attributes left out.

    ``sign`` is what stands before half an interval.
    """

    detail: Detail
    name: int
    columns: Sequence[Column]
    widths: Sequence[int]
    left_out: int
    sign: str = PLUS_MINUS


def number(value: float, signed: bool = False) -> str:
    """Two decimals without the leading zero.

    >>> number(0.947), number(1.0), number(-0.012, signed=True), number(math.nan)
    ('.95', '1.00', '-.01', '-')
    """
    if math.isnan(value):
        return UNDEFINED
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return ".00" if text in ("+0.00", "-0.00") else text.replace("0.", ".", 1)


def probability(p: float | None) -> str:
    """A p-value: two decimals, three below .1, and no more than that it is below .001.

    >>> probability(0.5), probability(0.0123), probability(0.0004), probability(None)
    ('.50', '.012', '<.001', '-')
    """
    if p is None or math.isnan(p):
        return UNDEFINED
    if p < 0.001:
        return "<.001"
    return (f"{p:.2f}" if p >= 0.0995 else f"{p:.3f}").replace("0.", ".", 1)


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
    """The columns of a summary in one detail; ``sign`` stands before half an interval."""

    def __init__(self, summary: Summary, detail: Detail, sign: str) -> None:
        self.summary, self.detail, self.sign = summary, detail, sign

    def macro(self) -> list[Column]:
        """F1 with its interval, its gain over the floor, the comparison with the baseline, AP and ROC AUC."""
        summary, found = self.summary, self.summary.statistics

        def value(run_id: str, figure: str) -> float:
            return summary.macro[run_id][figure]

        def f1(run_id: str) -> str:
            own = self._f1_cell(value(run_id, "f1_default"), value(run_id, "f1_tuned"))
            return own + margin(*summary.limits(run_id, "f1_tuned"), self.sign)

        below, gain = self._floors(value), {}
        if found and len(summary.ranking) > 1:  # a single run was chosen from nothing
            tuned, low, high = map(known, found.chosen.macro["f1_tuned"])
            below[CHOSEN] = self._f1_cell(known(found.chosen.macro["f1_default"][0]), tuned) + margin(
                low, high, self.sign
            )
            floors = {value(run_id, "floor_f1") for run_id in found.chosen.runs}
            gain[CHOSEN] = number(tuned - floors.pop(), signed=True)  # one floor: their test rows are the same
        columns = [
            self._column("macro F1", f1, below),
            self._column("over floor", lambda run_id: number(value(run_id, OVER_FLOOR), signed=True), gain),
        ]
        if found and found.baseline and self.detail.default:
            columns.append(self._column("vs baseline", lambda run_id: found.baseline[run_id].mark))
        if self.detail.ranking:
            columns += self._ranking("macro", value, lambda figure: found.chosen.macro[figure][0] if found else None)
        return columns

    def attribute(self, a: int) -> list[Column]:
        """F1, AP and ROC AUC of one attribute."""
        summary, found = self.summary, self.summary.statistics
        name = summary.attributes[a]

        def value(run_id: str, figure: str) -> float:
            return float(summary.values[run_id][figure][a])

        def f1(run_id: str) -> str:
            few = bool(summary.scores[run_id].intervals["f1_tuned"].few[a])
            return self._f1_cell(value(run_id, "f1_default"), value(run_id, "f1_tuned"), few)

        below = self._floors(value)
        if found and len(summary.ranking) > 1:
            default, tuned = (known(found.chosen.value[figure][a]) for figure in ("f1_default", "f1_tuned"))
            below[CHOSEN] = self._f1_cell(default, tuned, found.chosen.few["f1_tuned"][a])
        if found:
            below[SIGNAL] = probability(found.signal.adjusted[a])
            fillings = found.chosen.na_low[a], found.chosen.na_high[a]
            if self.detail.default and fillings[0] != fillings[1]:
                below[NA] = span(map(known, fillings))
        columns = [self._column(name, f1, below)]
        if self.detail.each_ranking:
            columns += self._ranking(name, value, lambda figure: found.chosen.value[figure][a] if found else None)
        return columns

    def _column(self, head: str, cell: Callable[[str], str], below: Mapping[str, str] | None = None) -> Column:
        cells = {run_id: cell(run_id) for run_id in self.summary.ranking}
        return Column(head, cells | dict.fromkeys(BELOW, "") | dict(below or {}))

    def _f1_cell(self, default: float, tuned: float, few: bool = False) -> str:
        said = (FEW if few and not math.isnan(tuned) else "") + number(tuned)
        return f"{number(default)} -> {said}" if self.detail.default else said

    def _floors(self, value: Value) -> dict[str, str]:
        rows = {ALWAYS: "floor_f1", PRIOR: "prior_f1"}
        return {row: span(value(run_id, name) for run_id in self.summary.ranking) for row, name in rows.items()}

    def _ranking(self, name: str, value: Value, chosen: Callable[[str], float | None]) -> list[Column]:
        def column(short: str, figure: str) -> Column:
            below = {CHOSEN: number(known(chosen(figure)))} if len(self.summary.ranking) > 1 else {}
            return self._column(f"{name} {short}", lambda run_id: number(value(run_id, figure)), below)

        return [column("AP", "average_precision"), column("ROC AUC", "roc_auc")]


def margin(low: float, high: float, sign: str = PLUS_MINUS) -> str:
    """Half the width of an interval, as it stands behind a value; empty where there is none.

    >>> margin(0.70, 0.76)
    ' ±.03'
    """
    return "" if math.isnan(high - low) else f" {sign}{number((high - low) / 2)}"


def known(value: float | None) -> float:
    """The number, NaN for None."""
    return math.nan if value is None else value


def below(layout: Layout) -> list[str]:
    """The rows below the runs in which any column says something."""
    return [row for row in BELOW if any(column.cells[row] for column in layout.columns)]


def _most_differing(summary: Summary) -> list[int]:
    """Attributes by the range of tuned F1 over the runs, widest first, undefined ones last; ties keep their order."""
    tuned = np.array([summary.values[run_id]["f1_tuned"] for run_id in summary.ranking])
    spread = np.nan_to_num(tuned.max(axis=0) - tuned.min(axis=0), nan=-1.0)
    return [int(a) for a in np.argsort(-spread, kind="stable")]


def fitting(summary: Summary, names: Collection[str], width: int, sign: str = PLUS_MINUS) -> Layout:
    """Choose what fits into ``width`` cells beside ``names``.

    In turn: all attributes beside whole names; beside wrapped names; as many as fit, those first in which the runs
    differ most.
    """
    mark = len(WINNER) + 1 if summary.winner else 0
    whole = mark + max(map(cell_len, (*names, *BELOW)))
    wrapped = min(whole, max(NARROW_NAME, width // 3))
    if not summary.ranking:
        return Layout(Detail(False), wrapped, (), (), 0, sign)
    details = next(choices for least, choices in DETAILS.items() if width >= least)
    for detail in details:
        columns = complete(summary, detail, sign)
        for name in (whole, wrapped):
            for head in HEADS:
                widths = [column.width(head) for column in columns]
                left = width - _taken(widths)
                if left >= name:
                    return Layout(detail, min(whole, left), columns, widths, 0, sign)
    return _partial(Columns(summary, details[-1], sign), width, whole, wrapped)


def complete(summary: Summary, detail: Detail, sign: str = PLUS_MINUS) -> list[Column]:
    """The columns of the macro and of every attribute."""
    make = Columns(summary, detail, sign)
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
    return Layout(make.detail, name, columns, widths, len(make.summary.attributes) - shown, make.sign)


def _taken(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * len(widths)
