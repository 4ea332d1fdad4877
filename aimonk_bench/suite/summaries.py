"""What the folder of a suite holds beside its runs: the statistics, the summary as CSV and Markdown, a plot."""

from __future__ import annotations

from aimonk_bench.records import suite
from aimonk_bench.records.files import harmless, write_bytes, write_csv, write_text
from aimonk_bench.records.suite import Collection
from aimonk_bench.reporting import figures, markup, summary
from aimonk_bench.reporting.view import View
from aimonk_bench.suite import missingness
from aimonk_bench.suite.plan import Plan

MISSINGNESS = "missingness.png"


def write(collection: Collection) -> Collection:
    """Write ``statistics.json``, ``summary.csv`` and ``summary.md`` from the runs of a suite.

    Returns:
        The collection, with what turned out to be damaged.
    """
    summarized = summary.summarize(collection)
    if summarized.statistics:
        suite.write_statistics(collection.folder, summarized.statistics, collection.skipped)
    write_csv(collection.folder / "summary.csv", harmless(summary.frame([summarized])))
    everything = View(top=len(collection.names), explain=True)
    write_text(collection.folder / "summary.md", markup.markdown(summarized, everything))
    return summarized.collection


def draw_missingness(plan: Plan, collection: Collection) -> None:
    """Draw ``missingness.png`` if the suite hides labels in several ways; that of an earlier suite does not stay."""
    points = missingness.scores(plan, collection)
    path = collection.folder / MISSINGNESS
    if points:
        truth = plan.baseline.config.data.truth
        scored_on = "the test labels" if truth is None else truth.name
        write_bytes(path, figures.missingness(points, f"{plan.name}: scored on {scored_on}"))
    else:
        path.unlink(missing_ok=True)
