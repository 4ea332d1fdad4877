"""What the page says in words: which run to use and what it costs, the marks of runs, and what would settle a doubt."""

from __future__ import annotations

import math
from collections import Counter
from typing import TypedDict

import numpy as np

from aimonk_bench.evaluation.comparison import Delta
from aimonk_bench.evaluation.plain_words import MEANING, USEFUL_AUC, Word
from aimonk_bench.evaluation.statistics import Statistics
from aimonk_bench.evaluation.verdict import Signal, detectable_auc
from aimonk_bench.reporting.cells import interval
from aimonk_bench.reporting.columns import ALL_POSITIVE, SELECTED
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.words import UNDEFINED, listed, number, run_name

MOST = 1_000_000  # labels, beyond which no number of further ones is stated


class Card(TypedDict):
    """A run that the page recommends, or the nested selection: macro F1 with its interval, and a line each on it."""

    heading: str
    name: str
    value: float
    figure: str
    lines: list[str]


class Mark(TypedDict):
    """What is special about a run, in a word and in a sentence."""

    word: str
    text: str


def supported(value: float, low: float, high: float) -> str:
    """A number with the decimals that its interval supports: two, or three where it is narrower than .01.

    >>> supported(0.8712, 0.85, 0.89), supported(0.9991, 0.9971, 1.0)
    ('.87', '.999')
    """
    return number(value, places=3 if high - low < 0.01 else 2)


def cards(summary: Summary) -> list[Card]:
    """The simplest run, the selected one and the nested selection, as far as there are such and they are not one."""
    stats = summary.statistics
    if stats is None:
        return []
    verdict, is_suite = stats.verdict, len(summary.collection.names) > 1
    same = verdict.simplest == verdict.run
    heading = "The simplest run that is not measurably worse" if is_suite else "The run"
    biased = ["Its figure is a little too high, because it was selected."] * (verdict.folds > 1)
    also_selected = ["It is the selected run too.", *biased] if same and is_suite else []
    made = [_card(summary, verdict.simplest, heading, also_selected)]
    if not same:
        made.append(_card(summary, verdict.run, "Selected on validation rows", biased))
    if summary.nested:
        value, low, high = (float(summary.nested[f"f1_tuned{end}"][-1]) for end in ("", "_low", "_high"))
        folds = Counter(stats.chosen.runs)
        selected = [f"{_name(summary, run_id)} ({n} of {folds.total()} folds)" for run_id, n in folds.items()]
        lines = [
            f"macro F1, {_interval(low, high)}: each fold is tested with the run that its own validation rows select",
            f"selected: {', '.join(selected)}",
        ]
        figure = supported(value, low, high)
        made.append(
            Card(
                heading="The figure to report: nested model selection",
                name=SELECTED,
                value=value,
                figure=figure,
                lines=lines,
            )
        )
    return made


def _card(summary: Summary, run_id: str, heading: str, notes: list[str]) -> Card:
    """A run, and what it costs."""
    values, costs = summary.values[run_id], summary.costs[run_id]
    record = summary.collection.records[run_id]
    value, low, high = (float(values[f"f1_tuned{end}"][-1]) for end in ("", "_low", "_high"))
    speed = costs["images_per_second"]
    cost = [
        record.status.columns["backbone"],
        "" if math.isnan(costs["parameters"]) else f"{costs['parameters']:.1f} million parameters",
        "" if math.isnan(speed) else f"encodes {speed:.0f} images per second",
        f"trained in {record.status.seconds['train']:.1f} s",
    ]
    figures = f"macro F1 on test images, {_interval(low, high)}; {ALL_POSITIVE} {number(float(values['floor_f1'][-1]))}"
    return Card(
        heading=heading,
        name=_name(summary, run_id),
        value=value,
        figure=supported(value, low, high),
        lines=[figures, ", ".join(filter(None, cost)), *notes],
    )


def _interval(low: float, high: float) -> str:
    if math.isnan(low + high):
        return "without an interval"
    return f"95 % interval {supported(low, low, high)} to {supported(high, low, high)}"


def _name(summary: Summary, run_id: str) -> str:
    return run_name(summary.collection.names[run_id])


def plainly(summary: Summary) -> str:
    """What the simplest run comes to, for a reader who knows no F1; empty where nothing beats guessing."""
    stats = summary.statistics
    if stats is None or stats.verdict.outcome != "gain":
        return ""
    verdict, values = stats.verdict, summary.values[stats.verdict.simplest]
    right, every = verdict.with_gain, len(verdict.attributes)
    rows = [verdict.attributes.index(name) for name in right]
    precision, recall = (100 * float(np.mean(values[name][rows])) for name in ("precision", "recall"))
    if math.isnan(precision + recall):
        return ""
    which, of = f"{len(right)} of {every} attributes ({listed(right)})", "There, of"
    if len(right) == every:
        which, of = "all attributes", "Of"
    return (
        f"For a manager: {_name(summary, verdict.simplest)} works on {which}. {of} 100 images that it marks, "
        f"about {precision:.0f} are right, and of 100 images that it should mark, it finds about {recall:.0f} "
        "(averages over these attributes, on images that were not trained on)."
    )


def marks(stats: Statistics | None, run_id: str, baseline: str | None) -> list[Mark]:
    """What is special about a finished run: of a single run nothing is.

    Args:
        baseline: the run with which the others are compared.
    """
    if stats is None or len(stats.key) < 2:
        return []
    verdict, delta = stats.verdict, stats.against_winner.get(run_id)
    compared = _compared(delta)
    special = {
        "selected": (run_id == verdict.run, "best on validation rows"),
        "simplest": (run_id == verdict.simplest, "the simplest of the runs that are not measurably worse"),
        "baseline": (run_id == baseline, "the run that the others are compared with"),
        "tie": (run_id in verdict.indistinguishable, f"not distinguishable from the selected run: {compared}"),
        "worse than selected": (
            delta is not None and delta.mark == "worse",
            f"worse than the selected run: {compared}",
        ),
        "worse": (
            run_id in verdict.worse and (delta is None or delta.mark != "worse"),
            f"worse by the tests against the baseline; against the selected run: {compared}",
        ),
        "not selected from": (
            run_id not in stats.candidates,
            "its validation labels, seeds or version are not those of the baseline",
        ),
    }
    return [Mark(word=word, text=text) for word, (holds, text) in special.items() if holds]


def _compared(delta: Delta | None) -> str:
    """The difference from the selected run, with its simultaneous interval."""
    if delta is None:
        return UNDEFINED
    value = number(delta.value, signed=True, places=3)
    return f"macro F1 {value} ({interval(delta.simultaneous_low, delta.simultaneous_high)})"


def needed(word: Word, more: int | None) -> str:
    """What would settle whether an attribute works, where that cannot be told; else empty.

    Args:
        more: see `more_positives`.

    >>> needed("cannot be told", 1700), needed("cannot be told", None), needed("weak", 3)
    ('1,700 more', 'no number would do', '')
    """
    if word != "cannot be told":
        return ""
    if more is None:
        return "no number would do"
    return f"{more:,} more" if more else "enough"


def more_positives(positives: int, negatives: int, attributes: int) -> int | None:
    """How many more positive labels make an AUC of `USEFUL_AUC` detectable, all else equal; None where none do.

    >>> more_positives(68, 815, 4), more_positives(5, 815, 4), more_positives(5, 3, 4)
    (0, 17, None)
    """
    if not negatives:
        return None

    def enough(n: int) -> bool:
        return bool(detectable_auc(np.array([n]), np.array([negatives]), attributes)[0] <= USEFUL_AUC)

    low, high = max(positives, 1), MOST
    if positives and enough(positives):
        return 0
    if not enough(high):
        return None
    while low < high:  # the AUC falls with the number of positives
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low - positives


def tests(signal: Signal, a: int, word: Word) -> str:
    """What the tests say of attribute ``a``, behind its word."""
    p_signal, p_gain = (number(p, places=3) for p in (signal.adjusted[a], signal.gain_adjusted[a]))
    detectable = number(float(signal.detectable_auc[a]))
    return f"{MEANING[word]}. Adjusted p: signal {p_signal}, gain {p_gain}; detectable AUC {detectable}"


def meanings(words: list[Word]) -> list[tuple[str, str]]:
    """The words and columns of the table of attributes, each with what it means."""
    explained = [(str(word), MEANING[word]) for word in dict.fromkeys(words)]
    explained.append(("F1 for any NA", "lowest and highest F1 for any labels in place of the missing ones"))
    if "cannot be told" in words:
        text = (
            f"how many more positive labels would show an AUC of {USEFUL_AUC:g} with 80 % probability, all else equal"
        )
        explained.append(("positives to tell", text))
    return explained
