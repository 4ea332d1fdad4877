"""The columns of the table as records, and how one cell is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from aimonk_bench.evaluation.statistics import Chosen
from aimonk_bench.reporting.summary import GAIN, Summary
from aimonk_bench.reporting.words import number, number_range, p_value, span

# the rows below the runs
SELECTED, NA_RANGE = "selected per fold", "range over NA fillings"
ALL_POSITIVE, PREVALENCE, ASSOCIATION = "all positive", "prevalence", "association p"
BELOW = (SELECTED, NA_RANGE, ALL_POSITIVE, PREVALENCE, ASSOCIATION)
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


def block(summary: Summary, detail: Detail, a: int | None = None) -> list[Column]:
    """The columns of attribute ``a``, or of the macro average where ``a`` is None."""
    if a is not None:
        name = summary.attributes[a]
        return [Column(name, _f1(summary, detail, a)), *(_rankings(summary, name, a) if detail.ranking else [])]
    columns = [Column("macro F1", _f1(summary, detail, None)), Column("gain", _gains(summary))]
    if detail.default and summary.statistics and summary.statistics.baseline:
        columns.append(Column("vs baseline", {i: versus.mark for i, versus in summary.statistics.baseline.items()}))
    return [*columns, *(_rankings(summary, "macro", None) if detail.macro_ranking else [])]


def _f1(summary: Summary, detail: Detail, a: int | None) -> dict[str, Cell]:
    """F1 of every run, and all rows below."""
    cells: dict[str, Cell] = {}
    for run_id in summary.ranking:
        default, tuned = (summary.value(run_id, figure, a) for figure in ("f1_default", "f1_tuned"))
        low, high = summary.interval(run_id, "f1_tuned") if a is None else (math.nan, math.nan)
        few = a is not None and bool(summary.scores[run_id].intervals["f1_tuned"].few[a])
        cells[run_id] = Score(tuned, default if detail.default else None, (high - low) / 2, few)
    if chosen := summary.nested:
        low, high = _numbers(chosen.macro["f1_tuned"][1:]) if a is None else (math.nan, math.nan)
        few = a is not None and chosen.few["f1_tuned"][a]
        default, tuned = (_nested(chosen, figure, a) for figure in ("f1_default", "f1_tuned"))
        cells[SELECTED] = Score(tuned, default if detail.default else None, (high - low) / 2, few)
    for row, figure in ((ALL_POSITIVE, "floor_f1"), (PREVALENCE, "prior_f1")):
        cells[row] = Range(*span(summary.value(run_id, figure, a) for run_id in summary.ranking))
    if a is not None and (stats := summary.statistics):
        cells[ASSOCIATION] = PValue(*_numbers([stats.signal.adjusted[a]]))
        fillings = stats.chosen.na_low[a], stats.chosen.na_high[a]
        if detail.default and fillings[0] != fillings[1]:
            cells[NA_RANGE] = Range(*_numbers(fillings))
    return cells


def _gains(summary: Summary) -> dict[str, Cell]:
    """The macro gain over the all-positive baseline."""
    cells: dict[str, Cell] = {run_id: Gain(summary.macro[run_id][GAIN]) for run_id in summary.ranking}
    if chosen := summary.nested:  # from runs with the same test rows, so with the same all-positive F1
        all_positive = summary.macro[chosen.runs[0]]["floor_f1"]
        cells[SELECTED] = Gain(_nested(chosen, "f1_tuned", None) - all_positive)
    return cells


def _rankings(summary: Summary, name: str, a: int | None) -> list[Column]:
    """AP and ROC AUC."""
    columns = []
    for head, figure in (("AP", "average_precision"), ("ROC AUC", "roc_auc")):
        cells: dict[str, Cell] = {run_id: Score(summary.value(run_id, figure, a)) for run_id in summary.ranking}
        if chosen := summary.nested:
            cells[SELECTED] = Score(_nested(chosen, figure, a))
        columns.append(Column(f"{name} {head}", cells))
    return columns


def _nested(chosen: Chosen, figure: str, a: int | None) -> float:
    """A figure of the nested model selection."""
    return _numbers([chosen.macro[figure][0] if a is None else chosen.value[figure][a]])[0]


def _numbers(values: Sequence[float | None]) -> list[float]:
    """Floats, NaN for None."""
    return [math.nan if value is None else value for value in values]
