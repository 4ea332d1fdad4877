"""One run in full, on a terminal: its figures by attribute, its settings, and the images that it decides worst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console

from aimonk_bench.errors import count
from aimonk_bench.evaluation.plain_words import words
from aimonk_bench.records.run import RunRecord
from aimonk_bench.reporting.captions import heading
from aimonk_bench.reporting.pairs import grid, say
from aimonk_bench.reporting.summary import MACRO, Summary
from aimonk_bench.reporting.verdict import gains, sentence
from aimonk_bench.reporting.warning_lines import warnings
from aimonk_bench.reporting.words import number, threshold_notes

if TYPE_CHECKING:
    import pandas as pd

EMPTY = ("null", "[]", "{}")  # settings that say that something is not used

LEGEND = "on test rows; precision and recall at tuned thresholds, whose mean over seeds and folds is shown"


def render(console: Console, record: RunRecord, summary: Summary, settings: Mapping[str, str]) -> None:
    """Print a run that ended: state, figures, verdict, warnings, settings.

    Args:
        summary: of this run alone.
        settings: its config, flattened by dots.
    """
    status = record.status
    seconds = ", ".join(f"{phase} {spent:.1f} s" for phase, spent in status.seconds.items())
    title, *lines = heading(summary)
    say(console, [title], "bold")
    say(console, [status.id, f"{status.state} in {record.folder}: {seconds}", *lines])
    if not record.done:
        console.print()
        say(console, [f"failed: {line}" for line in (status.reason or "").strip().splitlines()], "red")
    else:
        _figures(console, summary)
        _notes(console, record, summary)
    console.print()
    console.print(grid(["setting", "value"], [pair for pair in settings.items() if pair[1] not in EMPTY], ""))


def errors(console: Console, wrong: pd.DataFrame, total: int) -> None:
    """Print the images that a run decides worst.

    Args:
        wrong: the first rows of `frames.errors`.
        total: the number of all.
    """
    console.print()
    say(console, [f"{count(total, 'wrong decision')} on test images"], "bold")
    if total:
        rows = [
            [row["image"], row["attribute"], row["kind"].replace("_", " "), number(row["probability"]),
             number(row["threshold"])]
            for row in wrong.to_dict("records")
        ]  # fmt: skip
        console.print(grid(["image", "attribute", "kind", "probability", "threshold"], rows, "lllrr"))
        say(console, ["means over the seeds; the farthest from the threshold first"], "dim")


def _figures(console: Console, summary: Summary) -> None:
    """Two tables, each of which fits into 80 columns: F1 and what it is compared with; the other figures."""
    [values] = summary.values.values()
    names = [*summary.attributes, MACRO]

    def column(figure: str, signed: bool = False) -> list[str]:
        return [number(value, signed=signed) for value in values[figure].tolist()]

    low, high = column("f1_tuned_low"), column("f1_tuned_high")
    intervals = [f"{bound} to {other}" for bound, other in zip(low, high, strict=True)]
    over = [number(x, signed=True) for x in (values["f1_tuned"] - values["floor_f1"]).tolist()]
    signal = summary.statistics.signal if summary.statistics else None
    plain = [*words(signal), ""] if signal else [""] * len(names)
    first = {
        "attribute": names,
        "F1 at .5": column("f1_default"),
        "tuned F1": column("f1_tuned"),
        "95 % interval": intervals,
        "all positive": column("floor_f1"),
        "gain": over,
        "": plain,
    }
    second = {
        "attribute": names,
        "labels": [f"{value:.0f}" for value in values["n_observed"].tolist()],
        "positive": [f"{value:.0f}" for value in values["n_positive"].tolist()],
        "threshold": column("threshold"),
        "precision": column("precision"),
        "recall": column("recall"),
        "AP": column("average_precision"),
        "ROC AUC": column("roc_auc"),
    }
    for columns, sides in ((first, "lrrrrrl"), (second, "lrrrrrrr")):
        console.print()
        console.print(grid(list(columns), list(zip(*columns.values(), strict=True)), sides))
    say(console, [LEGEND], "dim")


def _notes(console: Console, record: RunRecord, summary: Summary) -> None:
    """What the figures come to, and what weakens them."""
    stats = summary.statistics
    console.print()
    say(console, (f"warning: {line}" for line in warnings(summary)), "yellow")
    say(console, (f"note: {line}" for line in threshold_notes(record.thresholds)), "dim")
    if stats:
        say(console, filter(None, [gains(stats.verdict)]), "dim")
        say(console, [sentence(stats.verdict, summary.collection.names, stats.against_winner)], "bold")
