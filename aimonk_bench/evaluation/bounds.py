"""What the missing labels of the test rows could still change: the range of a figure over all ways to fill them in.

These are bounds, not intervals: no filling lies outside them, and nothing is said about which is likely. They are exact
for each seed; their means over the seeds are outer bounds, because one filling holds for all seeds at once. Attributes
are filled independently, so the mean of the attributes' bounds bounds a macro average in the same sense.

A filling that leaves an attribute without a positive defines no F1 and is left out; where no other is possible, the
bounds are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.numbers import Array


@dataclass(frozen=True, eq=False)
class Bounds:
    """Bounds of a run's figures over all fillings of its missing test labels, [A] each, means over the seeds.

    Attributes:
        cells: number of missing labels.
        f1_low: lower bound of F1 at the thresholds of the decisions; ``f1_high`` the upper one.
        gain_low: lower bound of F1 minus that of the all-positive baseline under the same filling; ``gain_high`` the
            upper one.
    """

    cells: Array
    f1_low: Array
    f1_high: Array
    gain_low: Array
    gain_high: Array


def bounds(decisions: Decisions) -> Bounds:
    """The bounds of a run's F1 and of its gain over the all-positive baseline."""
    none = replace(decisions, accepted=np.zeros_like(decisions.accepted))  # its F1 is 0
    all_positive = replace(decisions, accepted=np.ones_like(decisions.accepted))
    f1, gain = delta_bounds(decisions, none), delta_bounds(decisions, all_positive)
    return Bounds((~decisions.labels.observed).sum(axis=0), *f1, *gain)


def delta_bounds(first: Decisions, second: Decisions) -> tuple[Array, Array]:
    """Smallest and largest F1 of the first run minus that of the second, over fillings that both share: [A], [A].

    Runs with equally many seeds are paired seed by seed, else every seed with every other.

    Raises:
        ValueError: the two are not about the same test rows.
    """
    if not first.same_rows(second):
        raise ValueError("bounds: found runs with different test rows, expected the same")
    a, b = first.accepted, second.accepted
    if len(a) != len(b):
        a, b = np.repeat(a, len(b), axis=0), np.tile(b, (len(a), 1, 1))
    low, high = -_largest(b, a, first.labels), _largest(a, b, first.labels)
    return low.mean(axis=0), high.mean(axis=0)


def _largest(a: Array, b: Array, labels: Labels) -> Array:
    """The largest F1(a) - F1(b) over all fillings, exact: decisions [S, R, A] each -> [S, A].

    Let x_ij be how many missing labels that a judges i and b judges j are filled positive, at most u_ij. With P the
    positives and m_a, m_b the rows predicted positive, none of which depends on where the x lie once their sum is
    fixed,
        F1(a) - F1(b) = 2 (TP_a + x_11 + x_10) / (m_a + P) - 2 (TP_b + x_11 + x_01) / (m_b + P).
    For a fixed sum this is linear in x, with the weights
        x_10: 2 / (m_a + P) > 0;    x_11: 2 / (m_a + P) - 2 / (m_b + P);    x_00: 0;    x_01: -2 / (m_b + P) < 0,
    where that of x_11 lies between the first and the last and has the sign of m_b - m_a, whatever P. So the best
    filling of a fixed sum takes the kinds one after the other, in an order that is the same for all sums; all sums are
    tried.
    """
    missing, positive = ~labels.observed, labels.positive
    accepted_a, accepted_b = a.sum(axis=1), b.sum(axis=1)
    tp_a, tp_b = (a & positive).sum(axis=1), (b & positive).sum(axis=1)
    both, neither = (missing & a & b).sum(axis=1), (missing & ~(a | b)).sum(axis=1)
    only_a, only_b = (missing & a & ~b).sum(axis=1), (missing & b & ~a).sum(axis=1)
    middle = np.where(accepted_a < accepted_b, both, neither)  # the kind filled second

    filled = np.arange(missing.sum(axis=0).max() + 1)[:, None, None]  # the sum of the x, one after the other

    def share(before: Array, size: Array) -> Array:
        return np.asarray(np.clip(filled - before, 0, size))

    x_10, x_01 = share(np.zeros_like(only_a), only_a), share(only_a + both + neither, only_b)
    second, third = share(only_a, middle), share(only_a + middle, both + neither - middle)
    x_11 = np.where(accepted_a < accepted_b, second, third)
    positives = positive.sum(axis=0) + filled
    possible = (filled <= missing.sum(axis=0)) & (positives > 0)
    f1_a = 2 * (tp_a + x_11 + x_10) / np.maximum(accepted_a + positives, 1)
    f1_b = 2 * (tp_b + x_11 + x_01) / np.maximum(accepted_b + positives, 1)
    largest = np.where(possible, f1_a - f1_b, -np.inf).max(axis=0)
    return np.asarray(np.where(possible.any(axis=0), largest, np.nan))
