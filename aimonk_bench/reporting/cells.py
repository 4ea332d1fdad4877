"""What a cell of the table says: figures, differences, targets, and the marks that the legend explains."""

from __future__ import annotations

import math
from typing import NamedTuple

from rich.text import Text

from aimonk_bench.evaluation.comparison import MARGIN, Delta, Mark
from aimonk_bench.reporting.words import UNDEFINED, number

UNRESOLVED: Mark = "unresolved"
FEW, SPREAD, MISSED = "~", "a to b", "!"  # marks of cells; `UNDEFINED` and `NA_RANGE` are marks, too


class Cell(NamedTuple):
    """What one cell says, and the mark that the caption has to explain; "" for none."""

    text: Text
    mark: str = ""


def goal_text(target: float) -> str:
    """A target with two decimals, or with all that it has.

    >>> goal_text(0.9), goal_text(0.995), goal_text(1.0)
    ('.90', '.995', '1.00')
    """
    return number(target, places=max(2, len(str(target).partition(".")[2])))


def aimed(value: float, low: float, high: float, target: float) -> Cell:
    """A figure at which a threshold policy aims, and its 95 % interval; NaN is undefined.

    A target above the interval is marked as missed. It is not shown as a bound that rounds to it.

    >>> aimed(0.69, 0.55, 0.801, 0.9).text.plain, aimed(0.85, 0.7, 0.899, 0.9).text.plain
    ('.69 (.55 to .80) !', '.85 (.70 to <.90) !')
    """
    if math.isnan(value):
        return Cell(Text(UNDEFINED), UNDEFINED)
    goal, missed = goal_text(target), high < target
    figure, lower, upper = (number(x, places=len(goal.partition(".")[2])) for x in (value, low, high))
    text = f"{figure} ({lower} to {f'<{goal}' if missed and upper == goal else upper})"
    return Cell(Text(f"{text} {MISSED}", style="red"), MISSED) if missed else Cell(Text(text))


def score(
    value: float, before: float = math.nan, half_width: float = math.nan, few: bool = False, plus_minus: str = "±"
) -> Cell:
    """A figure between 0 and 1; NaN is undefined.

    Args:
        value: of F1 at the tuned thresholds.
        before: F1 at threshold 0.5, which stands before the value; NaN where the table does not show it.
        half_width: of the 95 % confidence interval; NaN where the table shows none.
        few: the value rests on few test rows.
        plus_minus: the sign before ``half_width``.

    >>> score(0.74, 0.64, 0.03).text.plain, score(0.5, few=True).text.plain
    ('.64 -> .74 ±.03', '~.50')
    """
    mark = UNDEFINED if math.isnan(value) else FEW if few else ""
    default = "" if math.isnan(before + value) else f"{number(before)} -> "
    interval = "" if math.isnan(half_width) else f" {plus_minus}{number(half_width)}"
    return Cell(Text.assemble((default, "dim"), (FEW if mark == FEW else "") + number(value), interval), mark)


def versus(delta: Delta, beside: bool) -> Cell:
    """The mark of a run against the baseline.

    Args:
        beside: whether the difference that would have been found stands beside ``unresolved``.
    """
    with_difference = beside and delta.mark == UNRESOLVED
    return Cell(Text(f"{delta.mark} ({detectable(delta.detectable)})" if with_difference else delta.mark))


def detectable(difference: float) -> str:
    """A difference of F1 that a test would find; it may have to be larger than any. It is never shown as 0.

    >>> detectable(0.0581), detectable(0.004), detectable(0.0002), detectable(2.7)
    ('.06', '.004', '<.001', '>1')
    """
    if difference >= 1:
        return ">1"
    return number(difference, places=2 if difference >= 0.00995 else 3) if difference >= 0.0005 else "<.001"


def difference(delta: Delta) -> Cell:
    """A difference of macro F1 and its simultaneous interval, which always agrees with the mark."""
    value = number(delta.value, signed=True, places=3)
    return Cell(Text(f"{value} ({interval(delta.simultaneous_low, delta.simultaneous_high, MARGIN)})"))


def interval(low: float, high: float, margin: float = math.inf) -> str:
    """The interval of a difference, three decimals; a mark and a p-value depend on its bounds.

    A bound beyond 0, or beyond the margin of an interval that includes 0, is not shown as a number that rounds to it.

    Args:
        margin: of equivalence.

    >>> interval(0.0003, 0.004), interval(-0.1, -0.0004), interval(-0.0196, 0.0203, 0.02)
    ('>.000 to +.004', '-.100 to <.000', '-.020 to >+.020')
    """
    lower, upper = (number(bound, signed=True, places=3) for bound in (low, high))
    if low > 0 or (low < -margin and high >= 0):
        lower = _beyond(low, 0.0 if low > 0 else -margin)
    if high < 0 or (high > margin and low <= 0):
        upper = _beyond(high, 0.0 if high < 0 else margin)
    return f"{lower} to {upper}"


def _beyond(bound: float, border: float) -> str:
    """A bound beyond a border, with three decimals; where both are written alike, with the side on which it lies."""
    text, of_border = (number(value, signed=True, places=3) for value in (bound, border))
    return text if text != of_border else f"{'>' if bound > border else '<'}{text}"


def gain(value: float) -> Cell:
    """A difference of F1; NaN is undefined.

    >>> gain(0.07).text.plain
    '+.07'
    """
    style = "green" if value > 0 else "red" if value < 0 else ""
    return Cell(Text(number(value, signed=True), style=style), UNDEFINED if math.isnan(value) else "")
