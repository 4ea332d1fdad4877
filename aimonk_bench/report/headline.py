"""The chart that shows without JavaScript: macro F1 of the best runs with its interval, as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from aimonk_bench.report.document import Document
from aimonk_bench.reporting.columns import ALL_POSITIVE
from aimonk_bench.reporting.words import number

SHOWN = 12  # runs in the chart, and in the table beside it
WIDTH, ROW, LEFT, RIGHT, TOP = 720, 26, 300, 70, 34


@dataclass(frozen=True)
class Mark:
    """One run in the chart: texts, and places in pixels; ``bar`` is None without an interval."""

    name: str
    text: str
    y: float
    x: float
    bar: tuple[float, float] | None


@dataclass(frozen=True)
class Headline:
    """The chart as the template draws it: places in pixels.

    Attributes:
        ticks: (x, text) of the axis.
        line: (x, text) of the all-positive baseline; None where it is undefined.
    """

    width: int
    height: int
    marks: list[Mark]
    ticks: list[tuple[float, str]]
    line: tuple[float, str] | None


def headline(document: Document) -> Headline | None:
    """The chart of the best runs on validation, the best at the top; None where no run has an F1."""
    runs = {run["id"]: run for run in document["runs"]}
    rows = [runs[run_id] for run_id in document["ranking"][:SHOWN]]
    figures = [[_last(run, name) for name in ("f1_tuned", "f1_tuned_low", "f1_tuned_high")] for run in rows]
    baseline = float(document["all_positive"][-1]) if len(document["all_positive"]) else math.nan
    defined = [value for values in [*figures, [baseline]] for value in values if not math.isnan(value)]
    if not rows or not defined:
        return None
    low, high = math.floor(20 * min(defined)) / 20, math.ceil(20 * max(defined)) / 20
    high = max(high, low + 0.05)

    def x(value: float) -> float:
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    marks = [
        Mark(
            name=run["name"],
            text=number(value),
            y=TOP + ROW * (place + 0.5),
            x=x(value),
            bar=None if math.isnan(lower) else (x(lower), x(upper)),
        )
        for place, (run, (value, lower, upper)) in enumerate(zip(rows, figures, strict=True))
        if not math.isnan(value)
    ]
    step = 0.05 if high - low <= 0.5 else 0.1
    ticks = [(x(low + step * i), number(low + step * i)) for i in range(round((high - low) / step) + 1)]
    line = None if math.isnan(baseline) else (x(baseline), f"{ALL_POSITIVE} {number(baseline)}")
    return Headline(WIDTH, TOP + ROW * len(rows) + 24, marks, ticks, line)


def _last(run: Any, name: str) -> float:
    """The macro average of a figure of a run; NaN where it has none."""
    return float(run["figures"][name][-1]) if name in run["figures"] else math.nan
