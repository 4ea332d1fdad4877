"""The table as Markdown, for ``summary.md`` and for comments, and as LaTeX, for papers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aimonk_bench.errors import printable
from aimonk_bench.reporting.captions import explanation, heading, legend, row_names
from aimonk_bench.reporting.columns import BELOW, Layout, everything
from aimonk_bench.reporting.remarks import few_warnings, not_shown, remarks, shown_runs
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.together import difference, together, verdicts
from aimonk_bench.reporting.verdict import sentence
from aimonk_bench.reporting.view import View
from aimonk_bench.reporting.warning_lines import warnings

LATEX = {  # what LaTeX would read as a command, or draw as another sign
    "\\": r"\textbackslash{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
}
# what Markdown, or HTML in it, would read as markup; an underscore inside a word is none
MARKDOWN = re.compile(r"([\\`*\[\]<|~$&]|(?<!\w)_|_(?!\w))")


def as_text(summaries: Sequence[Summary], form: Literal["markdown", "latex"], view: View) -> str:
    """One table of several folders, and the verdict of each; or why not, and a table of each."""
    one = markdown if form == "markdown" else latex
    if len(summaries) == 1:
        return one(view.ordered(summaries[0]), view)

    def line(text: str) -> str:
        return f"**{_markdown(text)}**\n" if form == "markdown" else f"% {_one_line(text)}\n"

    if why := difference(summaries):
        tables = [one(view.ordered(summary), view) for summary in summaries]
        return "\n".join([line(f"a table for each folder: {why}"), *tables])
    return "\n".join([one(view.ordered(together(summaries)), view), *map(line, verdicts(summaries))])


@dataclass(frozen=True)
class _Grid:
    """Heads, and rows as (cells, bold); the first cell of a row is its name."""

    heads: Sequence[str]
    rows: Sequence[tuple[Sequence[str], bool]]


def markdown(summary: Summary, view: View) -> str:
    """The table as Markdown: the attributes that the view asks for, default all; warnings and the verdict last."""
    layout = everything(summary, view)
    grid = _grid(summary, layout, view)

    def row(cells: Sequence[str], bold: bool = False) -> str:
        first, *rest = map(_markdown, cells)
        return " | ".join([f"| **{first}**" if bold else f"| {first}", *rest]) + " |"

    lines = [row(grid.heads), "|---|" + "---:|" * (len(grid.heads) - 1), *(row(*one) for one in grid.rows)]
    title, *more = map(_markdown, heading(summary))
    below = [*not_shown(summary, view), *(explanation if view.explain else legend)(summary, layout)]
    below += [f"warning: {line}" for line in (warnings(summary) if view.explain else few_warnings(summary))]
    stats = summary.statistics
    verdict = sentence(stats.verdict, summary.collection.names, stats.against_winner) if stats else ""
    last = [f"**{_markdown(verdict)}**"] if verdict else []
    return "\n\n".join([f"# {title}", *more, "\n".join(lines), *map(_markdown, below), *last]) + "\n"


def latex(summary: Summary, view: View) -> str:
    """The table as a ``tabular`` of LaTeX; what stands above and below it in Markdown are comments."""
    layout = everything(summary, view)
    grid = _grid(summary, layout, view)

    def row(cells: Sequence[str], bold: bool = False) -> str:
        first, *rest = map(_latex, cells)
        return " & ".join([rf"\textbf{{{first}}}" if bold else first, *rest]) + r" \\"

    stats = summary.statistics
    verdict = [sentence(stats.verdict, summary.collection.names, stats.against_winner)] if stats else []
    comments = [
        *heading(summary),
        *not_shown(summary, view),
        *legend(summary, layout),
        *warnings(summary),
        *verdict,
    ]
    lines = [
        *(f"% {_one_line(text)}" for text in comments),
        rf"\begin{{tabular}}{{l{'r' * (len(grid.heads) - 1)}}}",
        r"\hline",
        row(grid.heads),
        r"\hline",
        *(row(*one) for one in grid.rows),
        r"\hline",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _grid(summary: Summary, layout: Layout, view: View) -> _Grid:
    """The runs that are shown, those without figures, and the rows below."""
    names, columns = row_names(summary), [*layout.columns, *layout.targets]

    def figures(key: str) -> list[str]:
        return [column.cells[key].text.plain if key in column.cells else "" for column in columns]

    rows = [([names[i], *figures(i)], i == summary.selected) for i in shown_runs(summary, view.top)]
    empty = [""] * (len(columns) - 1)
    rows += [([names[run_id], text, *empty], False) for run_id, text, _ in remarks(summary, view.top)]
    rows += [([key, *figures(key)], False) for key in BELOW if any(key in column.cells for column in columns)]
    return _Grid(["run", *(column.head for column in columns)], rows)


def _one_line(text: str) -> str:
    """A text in one line, with escapes for signs that nobody sees, such as one that writes from right to left."""
    return printable(" ".join(text.split()))


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is.

    >>> _markdown("a|b *<i>c</i>*")
    'a\\\\|b \\\\*\\\\<i>c\\\\</i>\\\\*'
    """
    return MARKDOWN.sub(r"\\\1", _one_line(text))


def _latex(text: str) -> str:
    r"""Text that LaTeX shows as it is.

    >>> _latex("50 % of a_b \\input{x}")
    '50 \\% of a\\_b \\textbackslash{}input\\{x\\}'
    """
    arrows = _one_line(text).split("->")
    return r"$\to$".join("".join(LATEX.get(sign, sign) for sign in part) for part in arrows)
