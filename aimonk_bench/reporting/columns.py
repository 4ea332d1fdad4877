"""The columns of the table as records, and how one cell is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.text import Text

from aimonk_bench.reporting.summary import MACRO, Array, Summary
from aimonk_bench.reporting.words import number, number_range, p_value, span

# the rows below the runs
SELECTED, NA_RANGE = "selected per fold", "range over NA fillings"
ALL_POSITIVE, PREVALENCE, ASSOCIATION = "all positive", "prevalence", "association p"
BELOW = (SELECTED, NA_RANGE, ALL_POSITIVE, PREVALENCE, ASSOCIATION)
_F1 = ("f1_default", "f1_tuned", "f1_tuned_low", "f1_tuned_high", "few")
PLUS_MINUS = "±"
FEW = "~"


@dataclass(frozen=True)
class Score:
    """A figure between 0 and 1; NaN is undefined.

    Attributes:
        value: of F1 at the tuned thresholds.
        default: F1 at threshold 0.5, which stands before the value; None where the table does not show it.
        half_width: of the 95 % confidence interval; NaN where the table shows none.
        few: it rests on few test rows.
    """

    value: float
    default: float | None = None
    half_width: float = math.nan
    few: bool = False


@dataclass(frozen=True)
class Gain:
    """A difference of F1; NaN is undefined."""

    value: float


@dataclass(frozen=True)
class Range:
    """The lowest and the highest of several scores."""

    low: float
    high: float


@dataclass(frozen=True)
class PValue:
    """A p-value; NaN is undefined."""

    value: float


Cell = Score | Gain | Range | PValue | str


@dataclass(frozen=True)
class Column:
    """One column: its head, and a cell for each finished run (by id) and for the rows `BELOW`; others are empty."""

    head: str
    cells: Mapping[str, Cell] = field(default_factory=dict)

    def text(self, row: str, plus_minus: str = PLUS_MINUS) -> Text:
        """The cell of a row, as it is printed."""
        return written(self.cells.get(row, ""), plus_minus)


@dataclass(frozen=True)
class Detail:
    """How much the table says.

    Attributes:
        default: F1 at threshold 0.5, and the comparison with the baseline.
        macro_ranking: AP and ROC AUC of the macro average.
        ranking: AP and ROC AUC of each attribute.
    """

    default: bool = True
    macro_ranking: bool = False
    ranking: bool = False


def written(cell: Cell, plus_minus: str = PLUS_MINUS) -> Text:
    """A cell as text.

    >>> written(Score(0.74, 0.64, 0.03)).plain, written(Score(0.5, few=True)).plain, written(Gain(0.07)).plain
    ('.64 -> .74 ±.03', '~.50', '+.07')
    """
    match cell:
        case Score(value, default, half_width, few):
            before = "" if default is None or math.isnan(default + value) else f"{number(default)} -> "
            after = "" if math.isnan(half_width) else f" {plus_minus}{number(half_width)}"
            return Text.assemble((before, "dim"), (FEW if few and not math.isnan(value) else "") + number(value), after)
        case Gain(value):
            return Text(number(value, signed=True), style="green" if value > 0 else "red" if value < 0 else "")
        case Range(low, high):
            return Text(number_range(low, high))
        case PValue(value):
            return Text(p_value(value))
    return Text(cell)


def block(summary: Summary, detail: Detail, a: int) -> list[Column]:
    """The columns of attribute ``a``, or of the macro average where ``a`` is -1."""
    macro, stats = a == -1, summary.statistics
    name = MACRO if macro else summary.attributes[a]
    columns = [Column("macro F1" if macro else name, _f1(summary, detail, a))]
    if macro:
        columns.append(Column("gain", {row: Gain(v["f1_tuned"][a] - v["floor_f1"][a]) for row, v in _rows(summary)}))
    if macro and detail.default and stats and stats.baseline:
        columns.append(Column("vs baseline", {run_id: versus.mark for run_id, versus in stats.baseline.items()}))
    if detail.macro_ranking if macro else detail.ranking:
        for head, figure in (("AP", "average_precision"), ("ROC AUC", "roc_auc")):
            columns.append(Column(f"{name} {head}", {row: Score(v[figure][a]) for row, v in _rows(summary)}))
    return columns


def _rows(summary: Summary) -> list[tuple[str, Mapping[str, Array]]]:
    """The figures of every run and, under `SELECTED`, of the nested model selection."""
    runs = [(run_id, summary.values[run_id]) for run_id in summary.ranking]
    return [*runs, (SELECTED, summary.nested)] if summary.nested else runs


def _f1(summary: Summary, detail: Detail, a: int) -> dict[str, Cell]:
    """F1 of every row; the interval stands only behind the macro average."""
    cells: dict[str, Cell] = {}
    for row, values in _rows(summary):
        default, tuned, low, high, few = (values[name][a] for name in _F1)
        half_width = (high - low) / 2 if a == -1 else math.nan
        cells[row] = Score(tuned, default if detail.default else None, half_width, bool(few))
    for row, figure in ((ALL_POSITIVE, "floor_f1"), (PREVALENCE, "prior_f1")):
        cells[row] = Range(*span(values[figure][a] for values in summary.values.values()))
    if a != -1 and (stats := summary.statistics):
        adjusted, low, high = stats.signal.adjusted[a], stats.chosen.na_low[a], stats.chosen.na_high[a]
        cells[ASSOCIATION] = PValue(adjusted)
        if detail.default and low < high:
            cells[NA_RANGE] = Range(low, high)
    return cells
