"""The table that answers the question of a suite: on a terminal of any width, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from aimonk_bench.errors import count
from aimonk_bench.reporting import fairness
from aimonk_bench.reporting.captions import caption, heading, row_names
from aimonk_bench.reporting.columns import BELOW, GAP, SELECTED, Detail, Layout, everything, fit, narrow_name
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.verdict import sentence
from aimonk_bench.reporting.words import number_range, run_name, span, wrap


def render(summary: Summary, console: Console, top: int = 20) -> None:
    """Print the table, as wide as the console allows.

    Args:
        summary: of the runs.
        console: where to print.
        top: the number of finished runs shown, best on validation first, and of those not run; the baseline and the
            failed runs are always shown.
    """
    names = row_names(summary)
    layout = fit(summary, names.values(), console.width, "+-" if console.options.ascii_only else "±")
    shown = [i for place, i in enumerate(summary.ranking) if place < top or i == summary.collection.baseline]
    title, *lines = heading(summary)
    console.print(Text(title, style="bold"), *map(Text, lines), "", sep="\n")

    columns = [_column(column.width, "\n".join(column.lines), "right") for column in layout.columns]
    runs = [(run_id, names[run_id], "bold" if run_id == summary.selected else "") for run_id in shown]
    if shown:
        rows = [(name, layout.texts(run_id), style) for run_id, name, style in runs]
        console.print(_grid(layout.name, columns, rows, show_header=True))
    for line in _not_shown(summary, shown, top):
        console.print(Text(line, style="dim"))
    if remarks := _remarks(summary, top):
        rest = max(1, console.width - layout.name - GAP)  # a remark takes the place of all columns
        rows = [(names[run_id], [Text("\n".join(wrap(text, rest)))], style) for run_id, text, style in remarks]
        console.print(_grid(layout.name, [_column(rest)], rows))
    if shown:
        below = [(row, layout.texts(row), "bold" if row == SELECTED else "dim") for row in _below(layout)]
        console.print(_grid(layout.name, columns, below))
    for grid in _targets(layout, [*runs, (SELECTED, SELECTED, "bold")], console.width):
        console.print("", grid)
    if lines := caption(summary, layout):
        console.print("", *(Text(line, style="dim") for line in lines), sep="\n")
    for line in _unfair(summary):
        console.print(Text(line, style="yellow"))
    if summary.statistics:
        console.print("", Text(sentence(summary.statistics.verdict, summary.collection.names), style="bold"), sep="\n")


def markdown(summary: Summary) -> str:
    """The table as Markdown, for ``summary.md``: all runs, all attributes, the verdict last."""
    names, layout = row_names(summary), everything(summary, Detail(macro_ranking=True, cost=True))
    title, *lines = heading(summary)

    def row(name: str, cells: Sequence[str], bold: bool = False) -> str:
        first, *rest = (cell.replace("|", "\\|").replace("*", "\\*") for cell in (name, *cells))
        return " | ".join([f"| **{first}**" if bold else f"| {first}", *rest]) + " |"

    layout = replace(layout, columns=[*layout.columns, *layout.targets])

    def figures(key: str) -> list[str]:
        return [text.plain for text in layout.texts(key)]

    table = [row("run", [column.head for column in layout.columns]), "|---|" + "---:|" * len(layout.columns)]
    table += [row(names[run_id], figures(run_id), run_id == summary.selected) for run_id in summary.ranking]
    empty = [""] * (len(layout.columns) - 1)
    table += [row(names[run_id], [text, *empty]) for run_id, text, _ in _remarks(summary, len(names))]
    table += [row(key, figures(key)) for key in _below(layout)]
    stats = summary.statistics
    verdict = [f"**{sentence(stats.verdict, summary.collection.names)}**"] if stats else []
    legend = [*caption(summary, layout), *_unfair(summary)]
    return "\n\n".join([f"# {title}", *lines, "\n".join(table), *legend, *verdict]) + "\n"


def _unfair(summary: Summary) -> list[str]:
    """What makes the comparison unfair, a line each."""
    names, stats = summary.collection.names, summary.statistics
    if stats is None:
        return []
    return [fairness.sentence(item, stats.key, lambda run_id: run_name(names[run_id])) for item in stats.fairness]


def _targets(layout: Layout, rows: Sequence[tuple[str, str, str]], width: int) -> Iterator[Table]:
    """The columns of targets, in as many tables as the width needs.

    Args:
        rows: key, name and style of the rows that are shown.
    """
    columns = list(layout.targets)
    labels = [name for key, name, _ in rows if any(key in column.cells for column in columns)]
    longest, widest = max(map(cell_len, labels), default=0), max((column.width for column in columns), default=0)
    name = longest if longest + GAP + widest <= width else narrow_name(longest, width)
    room = max(GAP + 1, width - name)
    columns = [column if column.width + GAP <= room else column.wrapped(room - GAP) for column in columns]
    while columns:
        fitting = max(1, int((np.cumsum([column.width + GAP for column in columns]) <= room).sum()))
        block = Layout(layout.detail, columns[:fitting])
        columns = columns[fitting:]
        cells = [
            (label, block.texts(key), style)
            for key, label, style in rows
            if any(key in column.cells for column in block.columns)
        ]
        yield _grid(
            name, [_column(c.width, "\n".join(c.lines), "right") for c in block.columns], cells, show_header=True
        )


def _column(width: int, head: str = "run", justify: Literal["left", "right"] = "left") -> Column:
    return Column(Text(head), width=width, justify=justify, overflow="fold")


def _grid(
    name: int, columns: Sequence[Column], rows: Iterable[tuple[str, Sequence[Text], str]], show_header: bool = False
) -> Table:
    """Rows (name, cells, style) under a column of names of this width and the columns of the cells."""
    fresh = (column.copy() for column in columns)  # a column holds the cells of its table
    padding = (0, GAP - 1, 0, 0)
    table = Table(
        _column(name),
        *fresh,
        box=SIMPLE_HEAD,
        show_header=show_header,
        show_edge=False,
        pad_edge=False,
        padding=padding,
    )
    for row_name, cells, style in rows:
        table.add_row(Text("\n".join(wrap(row_name, name))), *cells, style=style)
    return table


def _below(layout: Layout) -> list[str]:
    """The rows below the runs about which any column says something."""
    return [row for row in BELOW if any(row in column.cells for column in layout.columns)]


def _not_shown(summary: Summary, shown: Sequence[str], top: int) -> Iterator[str]:
    """How many runs are not shown, and how to see them."""
    hidden = [run_id for run_id in summary.ranking if run_id not in shown]
    if hidden:
        lowest, highest = span(summary.values[run_id]["f1_validation"][-1] for run_id in hidden)
        values = number_range(lowest, highest)
        yield f"{count(len(hidden), 'more run')}, validation macro F1 {values}: --top {len(summary.ranking)}"
    missing = len(summary.collection.missing)
    if missing > top:
        yield f"{count(missing - top, 'more run')} not run: --top {missing}"


def _remarks(summary: Summary, top: int) -> list[tuple[str, str, str]]:
    """Runs without figures: id, why, and style; of those that have not run at most ``top``."""
    remarks = []
    for record in summary.collection.failed:
        place = record.folder.relative_to(summary.collection.folder).as_posix()
        reason, _, _ = (record.status.reason or "").strip().partition("\n")
        where = "" if place == "." else f" ({place})"
        remarks.append((record.status.id, f"failed: {reason}{where}", "red"))
    remarks += [(run_id, f"damaged: {reason}", "red") for run_id, reason in summary.collection.damaged.items()]
    return remarks + [(run_id, "not run", "yellow") for run_id in summary.collection.missing[:top]]
