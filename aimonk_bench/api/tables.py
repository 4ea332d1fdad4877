"""The tables of one or several folders, on a terminal and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from aimonk_bench.api.results import Result
from aimonk_bench.errors import UserError
from aimonk_bench.records.files import csv_text, harmless
from aimonk_bench.reporting import markup, summary, table
from aimonk_bench.reporting.view import View

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Form", "View", "as_text", "render"]
Form = Literal["csv", "json", "markdown", "latex"]


def render(results: Sequence[Result], console: Console, view: View) -> None:
    """Print one table of several folders where their labels and splits are the same, else a table of each.

    Raises:
        UserError: there is no attribute, metric or order of the name that the view has.
    """
    table.render_all(_checked(results, view), console, view)


def as_text(results: Sequence[Result], form: Form, view: View) -> str:
    """The same as text: csv and json are the rows of the summaries of all folders, markdown and latex tables to read.

    Raises:
        UserError: there is no attribute, metric or order of the name that the view has; or csv, json or latex are to be
            explained.
    """
    if view.explain and form != "markdown":
        raise UserError(f"--explain: found --format {form}, expected rich or markdown, which have a legend")
    summaries = _checked(results, view)
    if form in ("markdown", "latex"):
        return markup.as_text(summaries, form, view)
    order = [run_id for one in summaries for run_id in view.ordered(one).ranking]
    rows = view.rows(summary.frame(summaries), order)
    return csv_text(harmless(rows)) if form == "csv" else summary.to_json(rows)


def _checked(results: Sequence[Result], view: View) -> list[summary.Summary]:
    """The figures of all folders, which have what the view asks for."""
    summaries = [result._figures for result in results]
    for one in summaries:
        view.check(one)
    return summaries
