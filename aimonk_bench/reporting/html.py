"""A run or a suite in a notebook: HTML without scripts, in the colours of the page around it."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence

from aimonk_bench.errors import count
from aimonk_bench.reporting.captions import heading, row_names
from aimonk_bench.reporting.cells import versus
from aimonk_bench.reporting.columns import ALL_POSITIVE, PREVALENCE, SELECTED
from aimonk_bench.reporting.remarks import WARNINGS, shown_runs
from aimonk_bench.reporting.summary import MACRO, Array, Summary
from aimonk_bench.reporting.verdict import sentence
from aimonk_bench.reporting.warning_lines import warnings
from aimonk_bench.reporting.words import listed, number, number_range, span

SHOWN = 10  # runs of a suite, or attributes of a run
LEGEND = "F1 at tuned thresholds on test rows, with its 95 % confidence interval; gain: minus that of all positive."
# A notebook has rules of its own for tables, such as grey stripes, on which a dark page's text cannot be read.
PLAIN = "color: inherit; background: transparent; border: none"
Row = tuple[Sequence[str], bool]  # cells, and whether they are bold


def fragment(summary: Summary) -> str:
    """The verdict and a table: of a suite its ten best runs, of a run its attributes; F1 with its 95 % interval."""
    title, *lines = heading(summary)
    stats = summary.statistics
    verdict = sentence(stats.verdict, summary.collection.names, stats.against_winner) if stats else "No run finished."
    rows = _runs(summary) if summary.collection.name is not None else _attributes(summary)
    return "\n".join(
        [
            '<div style="color: inherit; background: transparent">',
            f"<p>{'<br>'.join(map(_text, (title, *lines)))}</p>",
            f"<p><strong>{_text(verdict)}</strong></p>",
            *(_table(list(rows)) if summary.ranking else []),
            *(f"<p>{_text(line)}</p>" for line in _below(summary)),
            "</div>",
        ]
    )


def _runs(summary: Summary) -> Iterator[Row]:
    """The heads, the best runs on validation, the baseline, and the rows that need no run."""
    names, values = row_names(summary), summary.values
    yield ("run", "macro F1", "95 % interval", "gain", "vs baseline"), True
    for run_id in shown_runs(summary, SHOWN):
        delta = summary.statistics.baseline.get(run_id) if summary.statistics else None
        mark = versus(delta, beside=True).text.plain if delta else ""
        yield (names[run_id], *_figures(values[run_id], -1), mark), run_id == summary.selected
    if summary.nested:
        yield (SELECTED, *_figures(summary.nested, -1), ""), True
    for name, figure in ((ALL_POSITIVE, "floor_f1"), (PREVALENCE, "prior_f1")):
        low, high = span(of_run[figure][-1] for of_run in values.values())
        yield (name, number_range(low, high), "", "", ""), False


def _attributes(summary: Summary) -> Iterator[Row]:
    """The heads, the first attributes of the only run, and their macro average."""
    [values] = summary.values.values()
    yield ("attribute", "F1", "95 % interval", "gain", ALL_POSITIVE), True
    for a, name in enumerate(summary.attributes[:SHOWN]):
        yield (name, *_figures(values, a), number(values["floor_f1"][a])), False
    yield (MACRO, *_figures(values, -1), number(values["floor_f1"][-1])), True


def _figures(values: Mapping[str, Array], a: int) -> tuple[str, str, str]:
    """F1, its interval and the gain of attribute ``a``, or of the macro average where ``a`` is -1."""
    low, high = (number(values[f"f1_tuned_{end}"][a]) for end in ("low", "high"))
    gain = values["f1_tuned"][a] - values["floor_f1"][a]
    return number(values["f1_tuned"][a]), f"{low} to {high}", number(gain, signed=True)


def _below(summary: Summary) -> Iterator[str]:
    """What the table means, and what it does not show."""
    collection = summary.collection
    names = row_names(summary)
    if summary.ranking:
        yield LEGEND
    if collection.name is None and len(summary.attributes) > SHOWN:
        yield f"{count(len(summary.attributes) - SHOWN, 'more attribute')}: the property summary has all."
    if collection.name is not None and (more := len(summary.ranking) - len(shown_runs(summary, SHOWN))):
        yield f"{count(more, 'more run')}: the property summary has all."
    lines = warnings(summary)
    yield from (f"warning: {line}" for line in lines[:WARNINGS])
    if more := len(lines[WARNINGS:]):
        yield f"{count(more, 'more warning')}: the property warnings has all."
    groups = {
        "failed": {record.status.id: str(record.status.reason) for record in collection.failed},
        "damaged": collection.damaged,
        "skipped": collection.skipped,
        "not run": dict.fromkeys(collection.missing, ""),
    }
    for state, reasons in groups.items():
        lines = [
            f"{names[i]} ({reason.partition(chr(10))[0]})" if reason else names[i] for i, reason in reasons.items()
        ]
        if lines:
            yield f"{count(len(lines), 'run')} {state}: {listed(lines, '; ')}"


def _table(rows: Sequence[Row]) -> list[str]:
    """The lines of a table whose first row is its heads; numbers stand at the right."""
    lines = []
    for place, (cells, bold) in enumerate(rows):
        tag, weight = ("td", "normal") if place else ("th", "bold")
        rule = "" if place else "; border-bottom: 1px solid currentColor"
        weight = "bold" if bold else weight
        style = f"{PLAIN}; max-width: none; padding: 0.2em 0.8em 0.2em 0; font-weight: {weight}{rule}; text-align:"
        texts = [
            f'<{tag} style="{style} {"right" if column else "left"}">{_text(cell)}</{tag}>'
            for column, cell in enumerate(cells)
        ]
        lines.append(f'<tr style="{PLAIN}">{"".join(texts)}</tr>')
    return [f'<table style="{PLAIN}; border-collapse: collapse">', *lines, "</table>"]


def _text(text: str) -> str:
    return html.escape(text)
