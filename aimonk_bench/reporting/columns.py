"""The columns of the table: what their cells say, and which columns fit into a width.

Nothing is ever cut off: a narrow terminal gets fewer columns, wrapped heads and wrapped names.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from aimonk_bench.reporting.summary import MACRO, Array, Summary
from aimonk_bench.reporting.words import UNDEFINED, number, number_range, p_value, span, wrap

# the rows below the runs
SELECTED, NA_RANGE = "selected per fold", "range over NA fillings"
ALL_POSITIVE, PREVALENCE, ASSOCIATION = "all positive", "prevalence", "association p"
BELOW = (SELECTED, NA_RANGE, ALL_POSITIVE, PREVALENCE, ASSOCIATION)

FEW, SPREAD = "~", "a to b"  # marks of cells; `UNDEFINED` and `NA_RANGE` are marks, too
GAP = 2  # cells between columns
NARROW_NAME = 16  # a name may be wrapped to this, or to a third of the terminal, whichever is wider
NARROWEST_NAME = 4  # where even the macro average hardly fits
NARROW_HEAD = 10  # to which the head of a column may be wrapped


class Cell(NamedTuple):
    """What one cell says, and the mark that the caption has to explain; "" for none."""

    text: Text
    mark: str = ""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        head: what stands above it, ``lines`` the same in several lines.
        width: of the lines and of every cell.
        cells: of each finished run (by id) and of the rows `BELOW`; those of other rows are empty.
    """

    head: str
    lines: Sequence[str]
    width: int
    cells: Mapping[str, Cell]

    @classmethod
    def of(cls, head: str, cells: Mapping[str, Cell]) -> Column:
        """A column whose head is wrapped to `NARROW_HEAD` or to the widest cell."""
        widest = max(cell.text.cell_len for cell in cells.values())
        lines = wrap(head, max(NARROW_HEAD, widest))
        return cls(head, lines, max(widest, *map(cell_len, lines)), cells)


@dataclass(frozen=True)
class Detail:
    """How much the table says.

    Attributes:
        default: F1 at threshold 0.5, and the comparison with the baseline.
        macro_ranking: AP and ROC AUC of the macro average.
        ranking: AP and ROC AUC of each attribute.
        plus_minus: the sign before half of a confidence interval.
    """

    default: bool = True
    macro_ranking: bool = False
    ranking: bool = False
    plus_minus: str = "±"


@dataclass(frozen=True)
class Layout:
    """The columns that are shown.

    Attributes:
        name: width of the names.
        hidden: number of attributes that do not fit.
    """

    detail: Detail
    columns: Sequence[Column]
    name: int = 0
    hidden: int = 0

    def texts(self, row: str) -> list[Text]:
        """The cells of a row, a run id or one of `BELOW`."""
        return [column.cells[row].text if row in column.cells else Text() for column in self.columns]


def everything(summary: Summary, detail: Detail) -> Layout:
    """The columns of the macro average and of every attribute, whatever their width; none if no run finished."""
    blocks = [_block(summary, detail, a) for a in (-1, *range(len(summary.attributes)))] if summary.ranking else []
    return Layout(detail, [column for columns in blocks for column in columns])


def fit(summary: Summary, names: Collection[str], width: int, plus_minus: str = "±") -> Layout:
    """Choose what fits into ``width`` cells beside the names of the runs, which may have to be wrapped.

    F1 at threshold 0.5 is shown from 120 cells on, AP and ROC AUC of the macro average from 200 on, and those of the
    attributes if then all attributes fit. If the attributes do not all fit, those are shown in which the runs differ
    most.
    """
    detail = Detail(default=width >= 120, macro_ranking=width >= 200, ranking=width >= 200, plus_minus=plus_minus)
    layout = _fit(summary, names, width, detail)
    if detail.ranking and layout.hidden:
        return _fit(summary, names, width, Detail(macro_ranking=True, plus_minus=plus_minus))
    return layout


def _fit(summary: Summary, names: Collection[str], width: int, detail: Detail) -> Layout:
    longest = max(map(cell_len, (*names, *BELOW)))
    narrow = min(longest, max(NARROW_NAME, width // 3))
    if not summary.ranking:
        return Layout(detail, [], narrow)
    macro, blocks = _block(summary, detail, -1), {a: _block(summary, detail, a) for a in _most_differing(summary)}
    room = width - narrow - _width(macro)
    fitting = int((np.cumsum([_width(block) for block in blocks.values()]) <= room).sum())
    hidden = len(blocks) - fitting
    shown = list(blocks)[:fitting] if hidden else sorted(blocks)
    columns = [*macro, *(column for a in shown for column in blocks[a])]
    return Layout(detail, columns, max(NARROWEST_NAME, min(longest, width - _width(columns))), hidden)


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width + GAP for column in columns)


def _most_differing(summary: Summary) -> list[int]:
    """Attributes by the range of tuned F1 over the runs, widest first, undefined ones last; equal ones in order."""
    tuned = np.array([values["f1_tuned"][:-1] for values in summary.values.values()])
    spread = np.nan_to_num(np.ptp(tuned, axis=0), nan=-1.0)
    return [int(a) for a in np.argsort(-spread, kind="stable")]


def _block(summary: Summary, detail: Detail, a: int) -> list[Column]:
    """The columns of attribute ``a``, or of the macro average where ``a`` is -1."""
    macro, stats = a == -1, summary.statistics
    name = MACRO if macro else summary.attributes[a]
    columns = [Column.of("macro F1" if macro else name, _f1(summary, detail, a))]
    if macro:
        columns.append(Column.of("gain", {row: gain(v["f1_tuned"][a] - v["floor_f1"][a]) for row, v in _rows(summary)}))
    if macro and detail.default and stats and stats.baseline:
        columns.append(Column.of("vs baseline", {run_id: Cell(Text(v.mark)) for run_id, v in stats.baseline.items()}))
    if detail.macro_ranking if macro else detail.ranking:
        for head, figure in (("AP", "average_precision"), ("ROC AUC", "roc_auc")):
            columns.append(Column.of(f"{name} {head}", {row: score(v[figure][a]) for row, v in _rows(summary)}))
    return columns


def _rows(summary: Summary) -> list[tuple[str, Mapping[str, Array]]]:
    """The figures of every run and, under `SELECTED`, of the nested model selection."""
    runs = [(run_id, summary.values[run_id]) for run_id in summary.ranking]
    return [*runs, (SELECTED, summary.nested)] if summary.nested else runs


def _f1(summary: Summary, detail: Detail, a: int) -> dict[str, Cell]:
    """F1 of every row; the interval stands only behind the macro average."""
    cells: dict[str, Cell] = {}
    for row, values in _rows(summary):
        before = values["f1_default"][a] if detail.default else math.nan
        half_width = (values["f1_tuned_high"][a] - values["f1_tuned_low"][a]) / 2 if a == -1 else math.nan
        cells[row] = score(values["f1_tuned"][a], before, half_width, values["few"][a], detail.plus_minus)
    for row, figure in ((ALL_POSITIVE, "floor_f1"), (PREVALENCE, "prior_f1")):
        low, high = span(values[figure][a] for values in summary.values.values())
        mark = UNDEFINED if math.isnan(low) else SPREAD if number(low) != number(high) else ""
        cells[row] = Cell(Text(number_range(low, high)), mark)
    if a != -1 and (stats := summary.statistics):
        adjusted, low, high = stats.signal.adjusted[a], stats.chosen.na_low[a], stats.chosen.na_high[a]
        cells[ASSOCIATION] = Cell(Text(p_value(adjusted)), UNDEFINED if math.isnan(adjusted) else "")
        if detail.default and low < high:
            cells[NA_RANGE] = Cell(Text(number_range(low, high)), NA_RANGE)
    return cells


def score(
    value: float, before: float = math.nan, half_width: float = math.nan, few: bool = False, plus_minus: str = "±"
) -> Cell:
    """A figure between 0 and 1; NaN is undefined.

    Args:
        value: of F1 at the tuned thresholds.
        before: F1 at threshold 0.5, which stands before the value; NaN where the table does not show it.
        half_width: of the 95 % confidence interval; NaN where the table shows none.
        few: the value rests on few test rows.
        plus_minus: the sign before ``half_width``.

    >>> score(0.74, 0.64, 0.03).text.plain, score(0.5, few=True).text.plain
    ('.64 -> .74 ±.03', '~.50')
    """
    mark = UNDEFINED if math.isnan(value) else FEW if few else ""
    default = "" if math.isnan(before + value) else f"{number(before)} -> "
    interval = "" if math.isnan(half_width) else f" {plus_minus}{number(half_width)}"
    return Cell(Text.assemble((default, "dim"), (FEW if mark == FEW else "") + number(value), interval), mark)


def gain(value: float) -> Cell:
    """A difference of F1; NaN is undefined.

    >>> gain(0.07).text.plain
    '+.07'
    """
    style = "green" if value > 0 else "red" if value < 0 else ""
    return Cell(Text(number(value, signed=True), style=style), UNDEFINED if math.isnan(value) else "")
