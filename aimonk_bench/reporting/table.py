"""The table that answers the question of a suite, on a terminal of any width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from aimonk_bench.errors import printable
from aimonk_bench.reporting.captions import explanation, heading, legend, row_names
from aimonk_bench.reporting.columns import ALL, BELOW, GAP, SELECTED, Layout, fit, narrow_name
from aimonk_bench.reporting.remarks import few_warnings, not_shown, remarks, shown_runs
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.together import difference, together, verdicts
from aimonk_bench.reporting.verdict import sentence
from aimonk_bench.reporting.view import View
from aimonk_bench.reporting.warning_lines import warnings
from aimonk_bench.reporting.words import wrap


def render(summary: Summary, console: Console, view: View = ALL) -> None:
    """Print the table, as wide as the console allows: heading, rows, legend, warnings, verdict."""
    names = row_names(summary)
    layout = fit(summary, names.values(), console.width, "+-" if console.options.ascii_only else "±", view)
    shown = shown_runs(summary, view.top)
    title, *lines = heading(summary)
    _print(console, [title], "bold")
    _print(console, lines, "")
    console.print()

    columns = [_column(column.width, "\n".join(column.lines), "right") for column in layout.columns]
    runs = [(run_id, names[run_id], "bold" if run_id == summary.selected else "") for run_id in shown]
    if shown:
        rows = [(name, layout.texts(run_id), style) for run_id, name, style in runs]
        console.print(_grid(layout.name, columns, rows, show_header=True))
    _print(console, not_shown(summary, view), "dim")
    if without_figures := remarks(summary, view.top):
        rest = max(1, console.width - layout.name - GAP)  # a remark takes the place of all columns
        rows = [
            (names[run_id], [Text("\n".join(wrap(printable(text), rest)))], style)
            for run_id, text, style in without_figures
        ]
        console.print(_grid(layout.name, [_column(rest)], rows))
    if shown:
        below = [(row, layout.texts(row), "bold" if row == SELECTED else "dim") for row in _below(layout)]
        console.print(_grid(layout.name, columns, below))
    for grid in _targets(layout, [*runs, (SELECTED, SELECTED, "bold")], console.width):
        console.print("", grid)
    lines = (explanation if view.explain else legend)(summary, layout)
    if lines:
        console.print()
        _print(console, lines, "dim")
    lines = warnings(summary) if view.explain else few_warnings(summary)
    if lines:
        console.print()
        _print(console, (f"warning: {line}" for line in lines), "yellow")
    if stats := summary.statistics:
        text = sentence(stats.verdict, summary.collection.names, stats.against_winner)
        console.print()
        _print(console, [text], "bold")


def render_all(summaries: Sequence[Summary], console: Console, view: View = ALL) -> None:
    """Print one table of several folders, and the verdict of each; or say why not, and print a table of each."""
    why = difference(summaries) if len(summaries) > 1 else None
    if len(summaries) == 1 or why:
        if why:
            _print(console, [f"a table for each folder: {why}"], "yellow")
        for summary in summaries:
            if why:
                console.print()
            render(view.ordered(summary), console, view)
        return
    render(view.ordered(together(summaries)), console, view)
    console.print()
    for line in verdicts(summaries):
        _print(console, [line], "bold")


def _print(console: Console, lines: Iterable[str], style: str) -> None:
    """Print lines, broken between words without a space at the end."""
    for line in lines:
        console.print(Text("\n".join(wrap(printable(line), console.width)), style=style))


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
