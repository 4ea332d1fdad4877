"""The table that answers the question of a suite: on a terminal of any width, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aimonk_bench.reporting.captions import caption
from aimonk_bench.reporting.columns import BELOW, PLUS_MINUS, SELECTED, Detail
from aimonk_bench.reporting.heading import heading, labels
from aimonk_bench.reporting.layout import GAP, Layout, everything, fit, wrap
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.words import count, number_range, span


def render(summary: Summary, console: Console, top: int = 20) -> None:
    """Print the table, as wide as the console allows.

    Args:
        summary: of the runs.
        console: where to print.
        top: the number of finished runs shown, best on validation first, and of those not run; the baseline and the
            failed runs are always shown.
    """
    names = labels(summary)
    layout = fit(summary, names.values(), console.width, "+-" if console.options.ascii_only else PLUS_MINUS)
    shown = [i for place, i in enumerate(summary.ranking) if place < top or i == summary.collection.baseline]
    title, *lines = heading(summary)
    console.print(Text(title, style="bold"), *map(Text, lines), "", sep="\n")
    if shown:
        console.print(_figures(summary, layout, {run_id: names[run_id] for run_id in shown}, head=True))
    for line in _not_shown(summary, shown, top):
        console.print(Text(line, style="dim"))
    if remarks := _remarks(summary, top):
        console.print(_texts(layout, [(names[run_id], text) for run_id, text in remarks], console.width))
    if shown:
        console.print(_figures(summary, layout, {row: row for row in _below(layout)}, style="dim"))
    if lines := caption(summary, layout):
        console.print("", *(Text(line, style="dim") for line in lines), sep="\n")
    if summary.statistics:
        # in a file on one line, so that who reads the last line has all of the verdict
        verdict = Text(summary.statistics.verdict, style="bold")
        console.print("", verdict, sep="\n", soft_wrap=not console.is_terminal)


def markdown(summary: Summary) -> str:
    """The table as Markdown, for ``summary.md``: all runs, all attributes, the verdict last."""
    names, layout = labels(summary), everything(summary, Detail(macro_ranking=True))
    title, *lines = heading(summary)

    def row(name: str, cells: Sequence[str], bold: bool = False) -> str:
        first, *rest = (cell.replace("|", "\\|").replace("*", "\\*") for cell in (name, *cells))
        return " | ".join([f"| **{first}**" if bold else f"| {first}", *rest]) + " |"

    def figures(key: str) -> list[str]:
        return [column.text(key).plain for column in layout.columns]

    table = [row("run", [column.head for column in layout.columns]), "|---|" + "---:|" * len(layout.columns)]
    table += [row(names[run_id], figures(run_id), run_id == summary.selected) for run_id in summary.ranking]
    empty = [""] * (len(layout.columns) - 1)
    table += [row(names[run_id], [text.plain, *empty]) for run_id, text in _remarks(summary, len(names))]
    table += [row(key, figures(key)) for key in _below(layout)]
    verdict = [f"**{summary.statistics.verdict}**"] if summary.statistics else []
    return "\n\n".join([f"# {title}", *lines, "\n".join(table), *caption(summary, layout), *verdict]) + "\n"


def _figures(
    summary: Summary, layout: Layout, names: Mapping[str, str], *, head: bool = False, style: str = ""
) -> Table:
    """The rows of these keys (run ids or rows below the runs) in the columns of the layout."""
    heads = [wrap(column.head, width) for column, width in zip(layout.columns, layout.widths, strict=True)]
    height = max(map(len, heads))
    table = _grid(head)
    table.add_column("\n" * (height - 1) + "run", width=layout.name, overflow="fold")
    for lines, width in zip(heads, layout.widths, strict=True):
        table.add_column(
            Text("\n" * (height - len(lines)) + "\n".join(lines)), width=width, justify="right", overflow="fold"
        )
    for key, name in names.items():
        cells = [column.text(key, layout.plus_minus) for column in layout.columns]
        bold = key in (summary.selected, SELECTED)
        table.add_row(_wrapped(name, layout.name), *cells, style="bold" if bold else style)
    return table


def _texts(layout: Layout, texts: Sequence[tuple[str, Text]], width: int) -> Table:
    """The rows of runs without figures: name and text, which takes the place of all columns."""
    rest = max(1, width - layout.name - GAP)
    table = _grid(head=False)
    table.add_column(width=layout.name, overflow="fold")
    table.add_column(width=rest, overflow="fold")
    for name, text in texts:
        table.add_row(_wrapped(name, layout.name), _wrapped(text.plain, rest), style=text.style)
    return table


def _grid(head: bool) -> Table:
    return Table(box=SIMPLE_HEAD, show_header=head, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))


def _wrapped(text: str, width: int) -> Text:
    return Text("\n".join(wrap(text, width)))


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


def _remarks(summary: Summary, top: int) -> list[tuple[str, Text]]:
    """Run ids and why they have no figures: all runs that failed, and at most ``top`` of those that have not run."""
    remarks = []
    for record in summary.collection.failed:
        place = record.folder.relative_to(summary.collection.folder).as_posix()
        reason, _, _ = (record.status.reason or "").strip().partition("\n")
        where = "" if place == "." else f" ({place})"
        remarks.append((record.status.id, Text(f"failed: {reason}{where}", style="red")))
    return remarks + [(run_id, Text("not run", style="yellow")) for run_id in summary.collection.missing[:top]]
