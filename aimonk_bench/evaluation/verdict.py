"""What the tests of signal and of gain amount to: one sentence, in one of three forms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aimonk_bench.evaluation.cells import Cells
from aimonk_bench.evaluation.comparison import holm
from aimonk_bench.evaluation.resampling import DRAWS, by_group, labellings
from aimonk_bench.evaluation.signal import After, Before

Array = npt.NDArray[Any]

ALPHA = 0.05  # of each claim over all attributes; signal has two tests, each at half of it
POWER = 0.8
SHOWN = 6  # names or figures of a list that are printed before the rest is only counted
_NORMAL = NormalDist()


@dataclass(frozen=True, eq=False)
class Gain:
    """Tuned F1 minus the F1 of calling every row positive, on the test rows, [A] each; NaN is undefined.

    Attributes:
        value: mean over seeds.
        low: one-sided lower 95 % limit.
        p: of no gain, one-sided, not adjusted for the number of attributes.
    """

    value: Array
    low: Array
    p: Array


@dataclass(frozen=True, eq=False)
class Verdict:
    """The last word on a run or a suite.

    Attributes:
        kind: "a" no signal, "b" signal without a shown gain, "c" a gain.
        text: its sentence.
        adjusted: [A] the smaller p of the two tests of signal, adjusted for their number and, by Holm, for that of the
            attributes; signal is claimed up to 0.05. NaN where neither is defined.
        signal: [A] bool.
        gain_adjusted: [A] p of the gain, adjusted by Holm over the attributes with signal; NaN for the others.
        gains: [A] bool.
    """

    kind: Literal["a", "b", "c"]
    text: str
    adjusted: Array
    signal: Array
    gain_adjusted: Array
    gains: Array

    def to_json(self) -> dict[str, Any]:
        """Plain data, None for NaN."""
        numbers = {name: getattr(self, name) for name in ("adjusted", "signal", "gain_adjusted", "gains")}
        plain = {name: [None if math.isnan(x) else x for x in own.tolist()] for name, own in numbers.items()}
        return {"kind": self.kind, "text": self.text} | plain


def gain(cells: Cells, *, draws: int | None = None, seed: int = 0) -> Gain:
    """Do the decisions beat calling every row positive? Worth reading only where there is signal.

    F1 = 2 TP / (n1 + accepted), mean over seeds, minus 2 n1 / (n + n1). It is above 0 where the share of positives
    among the rejected rows is below q = n1 / (n + n1). Often few rows are rejected, so p does not trust a normal
    approximation: the decisions stay, and labels are drawn as they would be without a gain. The probability of a
    positive is linear in the share of seeds that reject a row, such that n1 positives are expected, and a share q among
    the rejected. All rows of a group get one label.

    Each drawn gain is multiplied by c (`Cells.variance_factor` is c^2); a normal draw stands for the seeds, with the
    variance of F1 over the S seeds divided by S, and a common factor sqrt(df / chi^2_df) for that this variance is
    estimated, df after Welch and Satterthwaite. p = (1 + #{draw >= value}) / (1 + draws). low = value - the 95 %
    quantile of such draws, or of those around the value, with as many positives among the rejected as there are, if it
    is larger.

    NaN without an observed positive.

    Args:
        cells: decisions at the tuned thresholds.
        draws: how many; by default 2,000, or 100 for every attribute if these are more, so that Holm can reject.
        seed: of the draws.
    """
    attributes = cells.positive.shape[1]
    draws = draws or max(DRAWS, 100 * attributes)
    found = np.full((3, attributes), np.nan)
    for a in range(attributes):
        seen = cells.observed[:, a]
        positive, accepted = cells.positive[seen, a], cells.accepted[:, seen, a]
        if positive.any():
            columns = np.column_stack([np.ones(len(positive)), positive, accepted.T, (accepted & positive).T])
            counts = _Counts(by_group(columns, cells.group[seen]), cells.variance_factor, draws, (seed, a))
            found[:, a] = counts.tested()
    return Gain(*found)


_ROUNDING = 1e-9  # gains this close are equal


class _Counts:
    """One attribute: the observed rows of each group, and how many of them are positive, accepted, both.

    Args:
        sums: [G, 2 + 2 S] rows, positive rows, accepted rows of each seed, positive ones among these.
        factor: c^2.
        draws: number of labellings.
        seeds: of the labels and of what stands for other seeds.
    """

    def __init__(self, sums: Array, factor: float, draws: int, seeds: tuple[int, int]) -> None:
        number = (sums.shape[1] - 2) // 2
        self.size, self.accepted = sums[:, 0], sums[:, 2 : 2 + number]
        self.rows, self.positive = sums[:, :2].sum(axis=0)
        self.count, self.hits = self.accepted.sum(axis=0), sums[:, 2 + number :].sum(axis=0)
        self.f1 = _f1(self.positive, self.count, self.hits)
        self.value = float(self.f1.mean() - _f1(self.positive, self.rows, self.positive))
        self.factor, self.draws, self.seeds = factor, draws, seeds

    def tested(self) -> tuple[float, float, float]:
        """Value, lower limit and p."""
        rejected = self.rows - self.count.mean()
        without = self._drawn(self.positive / (self.rows + self.positive) * rejected, 0.0)
        with_it = self._drawn(self.positive - self.hits.mean(), self.value)
        away = max(np.quantile(own, 1 - ALPHA, method="higher") for own in (without, with_it))
        return self.value, self.value - away, (1 + (without >= self.value - _ROUNDING).sum()) / (1 + self.draws)

    def _drawn(self, lost: float, expected: float) -> Array:
        """Draws [draws] of the gain, less what is expected, if so many rejected rows are expected to be positive."""
        columns = np.column_stack([self.size, self.accepted])
        drawn = labellings(columns, self._probability(lost), self.draws, self.seeds[0])
        tuned, floor = _f1(drawn[:, :1], self.count, drawn[:, 1:]), _f1(drawn[:, 0], self.rows, drawn[:, 0])
        pictures = (tuned.mean(axis=1) - floor - expected) * math.sqrt(self.factor)
        return _with_seeds(pictures, self.f1, np.random.default_rng([1, *self.seeds]))

    def _probability(self, lost: float) -> Array:
        """The probability of a positive label of each group [G].

        b + (r - b) w, w the share of a group's rows and seeds that are rejected: sum(size p) = n1 and
        sum(size w p) = lost, as far as probabilities allow.
        """
        rejected = self.size - self.accepted.mean(axis=1)
        share, total = rejected / self.size, rejected.sum()
        equations = np.array([[self.rows, total], [total, rejected @ share]])
        base, slope = np.linalg.lstsq(equations, np.array([self.positive, lost]), rcond=None)[0]
        return np.asarray(np.clip(base + slope * share, 0, 1))


def _f1(positive: Array, accepted: Array, hits: Array) -> Array:
    """2 TP / (n1 + accepted); 0 without either."""
    both = np.asarray(positive + accepted, dtype=np.float64)
    return np.asarray(np.divide(2 * hits, both, out=np.zeros_like(both), where=both > 0))


def _with_seeds(pictures: Array, f1: Array, rng: np.random.Generator) -> Array:
    """Draws of a gain [draws] with what another S seeds would change; f1 [S]."""
    seeds = len(f1)
    over_seeds = float(f1.var(ddof=1)) / seeds if seeds > 1 else 0.0
    if over_seeds == 0:
        return pictures
    freedom = (1 + float(pictures.var()) / over_seeds) ** 2 * (seeds - 1)
    longer = np.sqrt(freedom / rng.chisquare(freedom, len(pictures)))
    return np.asarray((pictures + math.sqrt(over_seeds) * rng.standard_normal(len(pictures))) * longer)


def detectable_auc(n_positive: Array, n_negative: Array, attributes: int) -> Array:
    """The out-of-fold AUC that the tests of signal find with 80 % probability, [A]; NaN without both classes.

    X = 0.5 + (z(1 - 0.025 / A) + z(0.8)) 1.41 sqrt((n + 1) / (12 n1 n0)). It may exceed 1: then none is found so often.

    Args:
        n_positive: [A] groups.
        n_negative: [A].
        attributes: A, over which the tests are adjusted.
    """
    pairs = np.where((n_positive > 0) & (n_negative > 0), n_positive * n_negative, np.nan)
    quantiles = _NORMAL.inv_cdf(1 - ALPHA / 2 / attributes) + _NORMAL.inv_cdf(POWER)
    return np.asarray(0.5 + quantiles * _FACTOR * np.sqrt((n_positive + n_negative + 1) / (12 * pairs)))


_FACTOR = 1.41  # between the spread of an AUC of fixed scores and that of an out-of-fold AUC; simulated


def largest_gain(prevalence: Array, auc: Array) -> Array:
    """The largest F1 that any threshold reaches, minus that of calling every row positive, [A]; NaN goes through.

    Scores are N(d, 1) for positives and N(0, 1) for negatives, with d = sqrt(2) Phi^-1(AUC); below an AUC of 0.5
    nothing is gained.

    Args:
        prevalence: [A] share of positives.
        auc: [A].
    """
    values = np.full(np.shape(auc), np.nan)
    for a, (share, area) in enumerate(zip(prevalence, auc, strict=True)):
        if np.isfinite(share) and np.isfinite(area):
            distance = math.sqrt(2) * _NORMAL.inv_cdf(min(max(area, 0.5), 1 - 1e-12))
            thresholds = np.linspace(-8, 8 + distance, 2000)
            recall, false = (np.array([_NORMAL.cdf(m - t) for t in thresholds]) for m in (distance, 0.0))
            f1 = 2 * share * recall / (share + share * recall + (1 - share) * false)
            values[a] = max(f1.max() - 2 * share / (1 + share), 0.0)
    return values


def verdict(
    before: Before | None,
    after: After,
    gain: Gain,
    *,
    winner: str,
    indistinguishable: Sequence[str],
    simplest: str,
    untested: int,
    auc_interval: Callable[[Array], tuple[float, float]],
) -> Verdict:
    """Weigh the tests.

    An attribute has signal if either test rejects, each at 0.025 by Holm over the attributes; it gains if, among those
    with signal, the test of gain rejects at 0.05 by Holm. That scores rank better than chance is said only of the
    attributes on which the test after training rejects: the one before it does not know the scores.

    Args:
        before: the test before training; None where there is none.
        after: the test on the predictions of the winner, or of the row ``chosen``.
        gain: of the same predictions.
        winner: the name of the winning run.
        indistinguishable: names of the runs that are not distinguishable from it.
        simplest: the name of the simplest of it and those.
        untested: how many runs could not be compared with it.
        auc_interval: [A] bool, some attributes -> the 95 % interval of their mean AUC.
    """
    trained = np.minimum(2 * holm(after.p), 1)
    adjusted = trained if before is None else np.fmin(trained, np.minimum(2 * holm(before.p), 1))
    signal, ranked = adjusted <= ALPHA, trained <= ALPHA
    gain_adjusted = holm(np.where(signal, gain.p, np.nan))
    gains = gain_adjusted <= ALPHA
    if not signal.any():
        kind: Literal["a", "b", "c"] = "a"
        text = _nothing(adjusted, before or after)
    elif not gains.any():
        kind = "b"
        text = _ranks_only(ranked, after, auc_interval(ranked)) if ranked.any() else _unranked(signal)
    else:
        kind = "c"
        equals = listed(indistinguishable) if indistinguishable or not untested else "none tested"
        unknown = f" ({untested} could not be compared)" if untested else ""
        text = (
            f"{winner} beats always-positive on {gains.sum()} of {len(gains)} attributes; "
            f"not distinguishable from it: {equals}{unknown}; simplest of these: {simplest}."
        )
    return Verdict(kind, text, adjusted, signal, gain_adjusted, gains)


def _nothing(adjusted: Array, counts: Before | After) -> str:
    smallest = np.fmin.reduce(adjusted)
    limits = detectable_auc(counts.n_positive, counts.n_negative, len(adjusted))
    found = [f"{x:.2f}" if x < 1 else "none" for x in limits]
    return (
        f"No configuration is distinguishable from guessing (smallest adjusted p = {_number(smallest, 3)}). "
        f"With these counts an out-of-fold AUC of {listed(found)} would have been found with 80 % probability. "
        "Check labels, disagreeing duplicates, the join of labels and pictures."
    )


def _unranked(signal: Array) -> str:
    return (
        f"Features tell something about {signal.sum()} of {len(signal)} attributes (the test before training), but the "
        "trained scores are not shown to rank better than chance: train longer or at a higher learning rate, and look "
        "at the loss curve."
    )


def _ranks_only(ranked: Array, after: After, interval: tuple[float, float]) -> str:
    known = after.n_positive + after.n_negative
    prevalence = after.n_positive / np.where(known, known, np.nan)
    largest = np.fmax.reduce(largest_gain(prevalence[ranked], after.auc[ranked]))
    return (
        f"Scores rank better than chance on {ranked.sum()} of {len(ranked)} attributes "
        f"(AUC [{_number(interval[0], 2)}, {_number(interval[1], 2)}]), but no F1 above always-positive is shown; "
        f"at this prevalence and AUC the largest possible gain is {_number(largest, 3)}."
    )


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "undefined"


def listed(items: Sequence[str], separator: str = ", ") -> str:
    """The first of a list, and how many more there are: ``a, b, c, d, e, f, ... and 7 more``; of none, ``none``."""
    more = [f"... and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return separator.join([*items[:SHOWN], *more]) or "none"
