"""The lines below the table: what its cells, marks and rows mean, what is left out, and where to see it."""

from __future__ import annotations

from collections.abc import Iterator

from aimonk_bench.evaluation.comparison import MARGIN
from aimonk_bench.evaluation.verdict import listed
from aimonk_bench.reporting.columns import ALL_POSITIVE, ASSOCIATION, FEW, NA_RANGE, SELECTED, Range, Score
from aimonk_bench.reporting.heading import SELECTED_MARK
from aimonk_bench.reporting.layout import Layout
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.words import UNDEFINED, count, number


def caption(summary: Summary, layout: Layout) -> list[str]:
    """Every line, one for each thing that the table shows."""
    lines = []
    if layout.columns:
        lines += [*_figures(summary, layout), *_tests(summary, layout), *_coverage(summary, layout)]
        lines += [_elsewhere(summary, layout)]
    if any("\n" in (record.status.reason or "").strip() for record in summary.collection.failed):
        lines.append("the whole reason of a failed run: status.json in its folder")
    if folders := [f"runs/{name}" for name in summary.collection.left_out]:
        lines.append(f"left out, not part of this suite: {listed(folders)}")
    return lines


def _figures(summary: Summary, layout: Layout) -> Iterator[str]:
    cells = [cell for column in layout.columns for cell in column.cells.values()]
    f1 = "F1 at threshold 0.5 -> at tuned thresholds" if layout.detail.default else "F1 at tuned thresholds"
    seeds = ", mean over seeds" if max(summary.seeds.values()) > 1 else ""
    yield f"{f1}, test rows{seeds}; gain: macro F1 minus that of {ALL_POSITIVE}"
    few = any(isinstance(cell, Score) and cell.few for cell in cells)
    mark = f"; {FEW}: few test rows (TP or FP + FN below 5)" if few else ""
    yield f"{layout.plus_minus}: half of the 95 % confidence interval {_population(summary)}{mark}"
    if summary.nested:
        mark = f"; {SELECTED_MARK}: selected on validation rows" if summary.selected else ""
        yield f"sorted by cross-fitted validation F1{mark}; {SELECTED}: nested model selection, the F1 to report"
    if summary.statistics and len(summary.statistics.candidates) < len(summary.ranking):
        yield "runs with other validation labels or seeds than the baseline are not selected from and come last"
    if any(NA_RANGE in column.cells for column in layout.columns):
        yield f"{NA_RANGE}: lowest and highest F1 of the row above for any labels in place of NA"
    if any(column.text(row).plain == UNDEFINED for column in layout.columns for row in column.cells):
        yield f"{UNDEFINED}: undefined, no positive test row, or for ROC AUC no negative one"
    baselines = [cell for column in layout.columns for row, cell in column.cells.items() if row != NA_RANGE]
    if any(isinstance(cell, Range) and number(cell.low) != number(cell.high) for cell in baselines):
        yield "a to b: lowest and highest of the runs, whose splits or labels differ"


def _population(summary: Summary) -> str:
    """What the intervals are about; folds and seeds decide."""
    folds = {len(record.data["folds"]) > 1 for record in summary.collection.finished}
    kinds = {True: "the recipe at this training size (approximate)", False: "these trained heads"}
    seeds = " and seeds" if min(summary.seeds.values()) > 1 else ""
    return f"over images{seeds}, for {' or '.join(kinds[kind] for kind in sorted(folds))}"


def _tests(summary: Summary, layout: Layout) -> Iterator[str]:
    stats = summary.statistics
    if stats is None:
        return
    if layout.detail.default and stats.baseline:
        margin = f"{layout.plus_minus}{number(MARGIN)}"
        yield (
            "vs baseline: paired test of macro F1 at .05, Holm-adjusted over the runs; "
            f"equivalent: 95 % interval within {margin}"
        )
        reasons = dict.fromkeys(versus.reason for versus in stats.baseline.values() if versus.reason)
        yield from ([f"vs baseline is empty where nothing was tested: {'; '.join(reasons)}"] if reasons else [])
    yield f"{ASSOCIATION}: the smaller of the tests before and after training, Bonferroni- and Holm-adjusted"


def _coverage(summary: Summary, layout: Layout) -> Iterator[str]:
    figures = {"F1": "f1_tuned"}
    if layout.detail.macro_ranking:
        figures |= {"AP": "average_precision", "ROC AUC": "roc_auc"}
    covered = {name: int(summary.covered[figure].sum()) for name, figure in figures.items()}
    total = len(summary.attributes)
    if min(covered.values()) < total:
        same = len(set(covered.values())) == 1
        numbers = str(covered["F1"]) if same else ", ".join(f"{n} ({name})" for name, n in covered.items())
        yield f"macro: over {numbers} of {total} attributes, those that every finished run defines"
    if layout.hidden:
        which = "those in which the runs differ least" if len(summary.ranking) > 1 else "the last ones"
        yield f"{layout.hidden} of {count(total, 'attribute')} not shown, {which}: a wider terminal shows more"


def _elsewhere(summary: Summary, layout: Layout) -> str:
    """How to see the figures that the table leaves out."""
    columns = [] if layout.detail.default else ["F1 at 0.5 from 120 columns on"]
    columns += [] if layout.detail.macro_ranking else ["AP and ROC AUC from 200 columns on"]
    file = "summary.csv or " if summary.collection.baseline else ""
    return "; ".join([*columns, f"every figure: {file}--format csv"])
