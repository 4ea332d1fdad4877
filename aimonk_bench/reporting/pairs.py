"""Two runs side by side, and small tables of texts on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from aimonk_bench.errors import count, printable
from aimonk_bench.evaluation.comparison import MARGIN
from aimonk_bench.reporting.captions import UNTESTED
from aimonk_bench.reporting.cells import detectable, interval
from aimonk_bench.reporting.words import number, p_value, wrap

if TYPE_CHECKING:
    import pandas as pd

A, B = "A", "B"
ABSENT = "(not set)"
LEGEND = "tuned F1 on test rows; A - B: paired difference; interval and p are for this pair alone"


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """The settings in which two runs differ: key, value of one, value of the other."""
    keys = dict.fromkeys([*one, *other])
    pairs = [(key, one.get(key, ABSENT), other.get(key, ABSENT)) for key in keys]
    return [(key, first, second) for key, first, second in pairs if first != second]


def render(
    console: Console,
    names: Sequence[str],
    settings: Sequence[tuple[str, str, str]],
    figures: pd.DataFrame,
    disagreements: tuple[pd.DataFrame, int, int],
) -> None:
    """Print two runs side by side.

    Args:
        names: of A and of B, with their ids.
        settings: that differ, see `differing`.
        figures: of `frames.differences`, A minus B.
        disagreements: the first rows of `frames.disagreements`, the number of all, and that of all decisions; 0
            decisions where the test rows of the two differ.
    """
    say(console, [f"{letter}: {name}" for letter, name in zip((A, B), names, strict=True)], "bold")
    console.print()
    if settings:
        console.print(grid(["setting", A, B], settings, ""))
    else:
        say(console, ["no setting differs"])
    console.print()
    console.print(grid(["attribute", f"F1 {A}", f"F1 {B}", "A - B", "95 % interval", "p"], _figures(figures), "lrrrrr"))
    last = figures.iloc[[-1]].astype(object)
    [macro] = last.where(last.notna(), None).to_dict("records")
    say(console, [_tested(macro["mark"], macro["reason"], macro["detectable"])], "bold")
    say(console, [LEGEND], "dim")
    console.print()
    rows, total, decisions = disagreements
    if not decisions:
        say(console, ["the test rows differ, so that no image can be decided differently by the two"])
        return
    say(console, [f"{total} of {count(decisions, 'decision')} on test images differ"], "bold")
    if total:
        heads = ["image", "attribute", "label", f"decision {A}", f"decision {B}"]
        console.print(grid(heads, _images(rows), "lllrr"))
        say(console, ["decision of most seeds, mean probability; the widest apart first"], "dim")


def _figures(figures: pd.DataFrame) -> list[list[str]]:
    """The cells of the paired comparison, one row for each attribute and the macro average."""
    rows = []
    for row in figures.to_dict("records"):
        low, high = row["delta_low"], row["delta_high"]
        margin = MARGIN if isinstance(row["mark"], str) else math.inf  # an attribute has no mark
        rows.append(
            [
                row["attribute"],
                number(row["f1_a"]),
                number(row["f1_b"]),
                number(row["delta"], signed=True, places=3),
                "" if math.isnan(low) else interval(low, high, margin),
                p_value(row["p_value"]),
            ]
        )
    return rows


def _tested(mark: str | None, reason: str | None, least: float) -> str:
    """What the comparison of the macro averages comes to."""
    match mark:
        case "better" | "worse":
            return f"{A} is measurably {mark} than {B} in macro F1"
        case "equivalent":
            return f"{A} and {B} are equivalent in macro F1: the interval lies within the margin of {number(MARGIN)}"
        case "unresolved":
            power = f"a true difference of {detectable(least)} is found with 80 % probability"
            return f"the data cannot tell {A} and {B} apart in macro F1; {power}"
    assert reason is not None  # of a pair that was not tested
    words = {str(code): text for code, text in UNTESTED.items()} | {"other_rows": "their test rows differ"}
    return f"{A} and {B} were not tested: {words[reason]}"


def _images(rows: pd.DataFrame) -> list[list[str]]:
    """The cells of the images on which decisions differ."""
    labels = {0: "negative", 1: "positive"}
    cells = []
    for row in rows.astype(object).where(rows.notna(), None).to_dict("records"):
        decided = [
            f"{'positive' if row[f'decision_{run}'] else 'negative'} {number(row[f'probability_{run}'])}"
            for run in "ab"
        ]
        cells.append([row["image"], row["attribute"], labels.get(row["target"], "NA"), *decided])
    return cells


def grid(heads: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> Table:
    """A table of texts under heads; long texts are folded, none is cut.

    Args:
        sides: ``l`` or ``r`` for each column; "" is left for all.
    """
    columns = [
        Column(Text(head), justify="right" if side == "r" else "left", overflow="fold")
        for head, side in zip(heads, sides or "l" * len(heads), strict=True)
    ]
    table = Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def say(console: Console, lines: Iterable[str], style: str = "") -> None:
    """Print lines, broken between words."""
    for line in lines:
        console.print(Text("\n".join(wrap(printable(line), console.width)), style=style))
