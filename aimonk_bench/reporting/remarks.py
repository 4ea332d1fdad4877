"""The rows and lines of a table that are no figures: runs that ended without any, runs that are not shown, warnings."""

from __future__ import annotations

from collections.abc import Iterator

from aimonk_bench.errors import count
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.view import METRICS, View
from aimonk_bench.reporting.warning_lines import warnings
from aimonk_bench.reporting.words import number_range, span

WARNINGS = 3  # that are shown before the rest is only counted


def shown_runs(summary: Summary, top: int) -> list[str]:
    """Ids of the finished runs that are shown: the first of the ranking, the baseline, and what the verdict names."""
    always = {summary.collection.baseline}
    if summary.statistics and summary.statistics.verdict.outcome == "gain":
        always |= {summary.statistics.verdict.run, summary.statistics.verdict.simplest}
    return [run_id for place, run_id in enumerate(summary.ranking) if place < top or run_id in always]


def not_shown(summary: Summary, view: View) -> Iterator[str]:
    """How many runs are not shown, the range of what sorts them, and how to see them."""
    shown = shown_runs(summary, view.top)
    if hidden := [run_id for run_id in summary.ranking if run_id not in shown]:
        values = number_range(*span(summary.values[run_id][view.sort][-1] for run_id in hidden))
        yield f"{count(len(hidden), 'more run')}, {METRICS[view.sort]} {values}: --top {len(summary.ranking)}"
    missing = len(summary.collection.missing)
    if missing > view.top:
        yield f"{count(missing - view.top, 'more run')} not run: --top {missing}"


def remarks(summary: Summary, top: int) -> list[tuple[str, str, str]]:
    """Runs without figures: id, why, and style; of those that have not run at most ``top``."""
    lines = []
    for run_id, record in summary.collection.records.items():
        if record.done:
            continue
        inside = record.folder.is_relative_to(summary.collection.folder)
        place = (record.folder.relative_to(summary.collection.folder) if inside else record.folder).as_posix()
        reason, _, _ = (record.status.reason or "").strip().partition("\n")
        lines.append((run_id, f"failed: {reason}{'' if place == '.' else f' ({place})'}", "red"))
    lines += [(run_id, f"damaged: {reason}", "red") for run_id, reason in summary.collection.damaged.items()]
    return lines + [(run_id, "not run", "yellow") for run_id in summary.collection.missing[:top]]


def few_warnings(summary: Summary) -> list[str]:
    """The weightiest warnings, and how many more there are."""
    lines = warnings(summary)
    rest = len(lines) - WARNINGS
    return [*lines[:WARNINGS], *([f"{rest} more: table --explain"] if rest > 0 else [])]
