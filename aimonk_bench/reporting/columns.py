"""The columns of the table: what their cells say, and which columns fit into a width.

Nothing is ever cut off: a narrow terminal gets fewer columns, wrapped heads and wrapped names.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from aimonk_bench.errors import printable
from aimonk_bench.evaluation.thresholds import TARGETS
from aimonk_bench.reporting.cells import (
    SPREAD,
    Cell,
    aimed,
    difference,
    gain,
    goal_text,
    score,
    versus,
)
from aimonk_bench.reporting.summary import MACRO, Array, Summary
from aimonk_bench.reporting.view import METRICS, TUNED, VALIDATION, View
from aimonk_bench.reporting.words import UNDEFINED, number, number_range, p_value, span, three_digits, unbroken, wrap

# the rows below the runs
SELECTED, NA_RANGE = "selected per fold", "range over NA fillings"
ALL_POSITIVE, PREVALENCE, ASSOCIATION = "all positive", "prevalence", "association p"
BELOW = (SELECTED, NA_RANGE, ALL_POSITIVE, PREVALENCE, ASSOCIATION)

ALL = View()
GAP = 2  # cells between columns
NARROW_NAME = 16  # a name may be wrapped to this, or to a quarter of the terminal, whichever is wider
NARROWEST_NAME = 4  # where even the macro average hardly fits
WIDE_HEAD, NARROW_HEAD, NARROWEST_HEAD = 16, 10, 7  # to which the head of a column may be wrapped, see `Column.of`
NARROWEST_MACRO = 4  # that of a column of the macro average, whose heads have short words


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
    def of(cls, head: str, cells: Mapping[str, Cell], limit: int) -> Column:
        """A column whose head is wrapped to ``limit`` or to the widest cell.

        Words of up to `WIDE_HEAD` cells stay whole, but not with the limit `NARROWEST_HEAD`.
        """
        head = printable(head)
        widest = max(cell.text.cell_len for cell in cells.values())
        word = min(unbroken(head), WIDE_HEAD) if limit != NARROWEST_HEAD else 0
        lines = wrap(head, max(limit, widest, word))
        return cls(head, lines, max(widest, *map(cell_len, lines)), cells)

    def wrapped(self, width: int) -> Column:
        """The same with head and cells wrapped to a smaller width."""

        def text(cell: Cell) -> Text:
            return Text("\n".join(wrap(cell.text.plain, width)), style=cell.text.style)

        cells = {row: cell._replace(text=text(cell)) for row, cell in self.cells.items()}
        return Column(self.head, wrap(self.head, width), width, cells)


@dataclass(frozen=True)
class Detail:
    """How much the table says.

    Attributes:
        metric: of `view.METRICS`, what the columns of the macro average and of the attributes show. All that follows is
            about tuned F1, and is not shown with another one.
        sort: of `view.METRICS`, what sorts the runs; it is always shown.
        gain: over the all-positive baseline.
        versus: the comparison with the baseline.
        difference: from the baseline, with its simultaneous interval, and the detectable difference.
        default: F1 at threshold 0.5, and the range of tuned F1 over the fillings of NA.
        macro_ranking: AP and ROC AUC of the macro average.
        ranking: AP and ROC AUC of each attribute.
        cost: parameters, multiply-accumulates and speed of the backbones, where they differ.
        plus_minus: the sign before half of a confidence interval.
    """

    metric: str = TUNED
    sort: str = VALIDATION
    gain: bool = True
    versus: bool = True
    difference: bool = True
    default: bool = True
    macro_ranking: bool = False
    ranking: bool = False
    cost: bool = False
    plus_minus: str = "±"


@dataclass(frozen=True)
class Layout:
    """The columns that are shown.

    Attributes:
        name: width of the names.
        hidden: the attributes that do not fit, in order.
        targets: further columns, of the attributes whose threshold policies aim at a figure; all of them are shown.
    """

    detail: Detail
    columns: Sequence[Column]
    name: int = 0
    hidden: Sequence[str] = ()
    targets: Sequence[Column] = ()

    def texts(self, row: str) -> list[Text]:
        """The cells of a row, a run id or one of `BELOW`."""
        return [column.cells[row].text if row in column.cells else Text() for column in self.columns]


# what is shown where it costs no attribute, the first of these first -> from which width on
EXTRAS = {
    "gain": 0,
    "versus": 0,
    "cost": 120,
    "default": 120,
    "macro_ranking": 200,
    "ranking": 200,
    "difference": 160,
}
Head = tuple[str, Mapping[str, Cell]]  # of a column and its cells


def everything(summary: Summary, view: View = ALL) -> Layout:
    """The columns of the macro average and of the attributes, whatever their width; none if no run finished."""
    detail = Detail(view.metric, view.sort, macro_ranking=True, cost=True)
    chosen = view.places(summary) or range(len(summary.attributes))
    blocks = [_block(summary, detail, a) for a in (-1, *chosen)] if summary.ranking else []
    columns = [Column.of(head, cells, WIDE_HEAD) for block in blocks for head, cells in block]
    return Layout(detail, columns, targets=_targets(summary, view))


def fit(summary: Summary, names: Collection[str], width: int, plus_minus: str = "±", view: View = ALL) -> Layout:
    """Choose what fits into ``width`` cells beside the names of the runs, which may have to be wrapped.

    The figures of the attributes come first; if they do not all fit, those in which the runs differ most. What
    `EXTRAS` names is added if no attribute is lost by it; below 120 cells but for ``gain``, and for ``difference``, no
    name is wrapped for it either, and no head is broken for it that was whole before.
    """
    detail = Detail(
        view.metric, view.sort, gain=False, versus=False, difference=False, default=False, plus_minus=plus_minus
    )
    chosen = view.places(summary)
    layout = _fit(summary, names, width, detail, chosen)
    broken = len(layout.hidden) < len(_fit(summary, names, width, detail, chosen, NARROW_HEAD).hidden)
    narrowest = NARROWEST_HEAD if broken else NARROW_HEAD
    longest = max(map(cell_len, (*names, *BELOW)))
    extras = EXTRAS if summary.ranking and detail.metric == TUNED else {}
    for extra in (extra for extra, least in extras.items() if width >= least):
        switched: dict[str, Any] = {extra: True}
        more = _fit(summary, names, width, replace(layout.detail, **switched), chosen, narrowest)
        may_wrap = extra == "gain" or (width >= 120 and extra != "difference")
        if len(more.hidden) <= len(layout.hidden) and (may_wrap or more.name == longest):
            layout = more
    return replace(layout, targets=_targets(summary, view))


def _fit(
    summary: Summary,
    names: Collection[str],
    width: int,
    detail: Detail,
    chosen: Sequence[int],
    narrowest: int = NARROWEST_HEAD,
) -> Layout:
    """The layout with the widest heads, down to ``narrowest``, with which all attributes fit.

    Args:
        chosen: the places of the attributes that the user wants; none: of all.
    """
    longest = max(map(cell_len, (*names, *BELOW)))
    narrow = narrow_name(longest, width)
    if not summary.ranking:
        return Layout(detail, [], narrow)
    in_order = list(chosen) or _most_differing(summary, detail.metric)
    blocks = {a: _block(summary, detail, a) for a in (-1, *in_order)}

    def wrapped(limit: int, of_macro: int) -> Layout:
        limits = {a: of_macro if a == -1 else limit for a in blocks}
        columns = {a: [Column.of(head, cells, limits[a]) for head, cells in block] for a, block in blocks.items()}
        ends = np.cumsum([_width(columns[a]) for a in (-1, *in_order)])
        fitting = int((ends[1:] <= width - narrow).sum())
        shown = in_order[:fitting] if chosen or fitting < len(in_order) else sorted(in_order)
        all_columns = [column for a in (-1, *shown) for column in columns[a]]
        hidden = [summary.attributes[a] for a in sorted(in_order[fitting:])]
        name = max(NARROWEST_NAME, min(longest, width - _width(all_columns)))
        if name < longest and of_macro > NARROWEST_MACRO:
            return wrapped(limit, NARROWEST_MACRO)
        return Layout(detail, all_columns, name, hidden)

    limits = [limit for limit in (WIDE_HEAD, NARROW_HEAD, NARROWEST_HEAD) if limit >= narrowest]
    layouts = {limit: wrapped(limit, limit if limit > NARROWEST_HEAD else NARROWEST_MACRO) for limit in limits}
    return next((layout for layout in layouts.values() if not layout.hidden), layouts[NARROW_HEAD])


def narrow_name(longest: int, width: int) -> int:
    """The width to which names may be wrapped, where they take room from columns."""
    return min(longest, max(NARROW_NAME, width // 4))


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width + GAP for column in columns)


def _most_differing(summary: Summary, metric: str) -> list[int]:
    """Attributes by the range of a metric over the runs, widest first, undefined ones last; equal ones in order."""
    figures = np.array([values[metric][:-1] for values in summary.values.values()])
    spread = np.nan_to_num(np.ptp(figures, axis=0), nan=-1.0)
    return [int(a) for a in np.argsort(-spread, kind="stable")]


def _block(summary: Summary, detail: Detail, a: int) -> list[Head]:
    """The columns of attribute ``a``, or of the macro average where ``a`` is -1."""
    macro, stats, rows = a == -1, summary.statistics, _rows(summary)
    name = MACRO if macro else summary.attributes[a]
    if detail.metric != TUNED:
        head = f"{MACRO} {METRICS[detail.metric]}" if macro else name
        return [
            (head, {row: score(v[detail.metric][a]) for row, v in rows if detail.metric in v}),
            *_sort(summary, detail, a),
        ]
    columns: list[Head] = [("macro F1" if macro else name, _f1(summary, detail, a))]
    if macro and detail.gain:
        columns.append(("gain", {row: gain(v["f1_tuned"][a] - v["floor_f1"][a]) for row, v in rows}))
    if macro and detail.versus and stats and stats.baseline:
        columns.append(("vs baseline", {run_id: versus(v, detail.difference) for run_id, v in stats.baseline.items()}))
    tested = {run_id: v for run_id, v in stats.baseline.items() if v.mark} if stats else {}
    if macro and detail.difference and tested:
        columns.append(("difference", {run_id: difference(v) for run_id, v in tested.items()}))
    columns += _sort(summary, detail, a)
    if macro and detail.cost:
        columns += costs(summary)
    if detail.macro_ranking if macro else detail.ranking:
        for head, figure in (("AP", "average_precision"), ("ROC AUC", "roc_auc")):
            columns.append((f"{name} {head}", {row: score(v[figure][a]) for row, v in rows}))
    return columns


def _sort(summary: Summary, detail: Detail, a: int) -> list[Head]:
    """The column of the macro average that sorts the runs; none where nothing is sorted or a column shows it anyway."""
    by_rank = detail.macro_ranking and detail.metric == TUNED and detail.sort in ("average_precision", "roc_auc")
    if a != -1 or len(summary.ranking) < 2 or detail.sort == detail.metric or by_rank:
        return []
    return [(METRICS[detail.sort], {run_id: score(v[detail.sort][a]) for run_id, v in summary.values.items()})]


def costs(summary: Summary) -> list[Head]:
    """The columns about the backbones; none where all runs have the same, and none that is empty."""
    distinct = {(cost["parameters"], cost["macs"]) for cost in summary.costs.values() if not math.isnan(cost["macs"])}
    if len(distinct) < 2:
        return []
    heads = {"parameters": "params (M)", "macs": "MACs (G)", "images_per_second": "images/s"}
    return [
        (head, {run_id: Cell(Text(three_digits(cost[name]))) for run_id, cost in summary.costs.items()})
        for name, head in heads.items()
        if not all(math.isnan(cost[name]) for cost in summary.costs.values())
    ]


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


def _targets(summary: Summary, view: View) -> list[Column]:
    """A column for each attribute, figure and target of a threshold policy: the figure on test rows, its interval."""
    if view.metric != TUNED:
        return []
    shown = view.places(summary) or range(len(summary.attributes))
    cells: dict[tuple[str, float, int], dict[str, Cell]] = {}
    for row, values in _rows(summary):
        for figure in TARGETS:
            goals = values.get(f"{figure}_target", np.array([]))
            for a in (a for a in np.flatnonzero(np.isfinite(goals)).tolist() if a in shown):
                low, high = values[f"{figure}_low"][a], values[f"{figure}_high"][a]
                cell = aimed(values[figure][a], low, high, goals[a])
                cells.setdefault((figure, goals[a].item(), a), {})[row] = cell
    columns = []
    for (figure, goal, a), of_rows in sorted(cells.items()):
        parts = f"{printable(summary.attributes[a])} {figure},", f"target {goal_text(goal)}"
        width = max(cell_len(parts[1]), *(cell.text.cell_len for cell in of_rows.values()))
        columns.append(Column(" ".join(parts), [*wrap(parts[0], width), parts[1]], width, of_rows))
    return columns
