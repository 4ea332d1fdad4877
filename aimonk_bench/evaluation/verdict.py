"""What the tests of association and of gain amount to: one of three outcomes, and the sentence that states it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from aimonk_bench.evaluation.association import AfterTraining, BeforeTraining
from aimonk_bench.evaluation.comparison import holm
from aimonk_bench.evaluation.gain import Gain, largest_gain
from aimonk_bench.evaluation.metrics import ratio
from aimonk_bench.evaluation.numbers import Array, Numbers

ALPHA = 0.05  # of each claim over all attributes; signal has two tests, each at half of it
POWER = 0.8
SHOWN = 6  # names or figures of a list that are printed before the rest is only counted
_FACTOR = 1.41  # between the spread of an AUC of fixed scores and that of an out-of-fold AUC; simulated
_NORMAL = NormalDist()


@dataclass(frozen=True, eq=False)
class Signal:
    """Whether the images tell anything about each attribute, [A] each; NaN is undefined.

    Attributes:
        before: p of the score test before training, ``before_auc`` the out-of-fold ROC AUC of its linear probe; None
            where the run has no such test.
        after: p of the test after training, ``auc`` the ROC AUC of the test rows.
        adjusted: the smaller p of the two tests, adjusted for their number and, by Holm, for that of the attributes;
            signal is claimed up to 0.05.
        found: bool, whether signal is claimed.
        gain: tuned F1 minus that of the all-positive baseline; ``gain_low`` its one-sided lower 95 % bound.
        gain_adjusted: p of the gain, adjusted by Holm over the attributes with signal; NaN for the others.
        gains: bool, whether a gain is claimed.
    """

    before: Numbers | None
    before_auc: Numbers | None
    after: Numbers
    auc: Numbers
    adjusted: Numbers
    found: list[bool]
    gain: Numbers
    gain_low: Numbers
    gain_adjusted: Numbers
    gains: list[bool]


@dataclass(frozen=True, eq=False)
class Verdict:
    """The last word on a run or a suite.

    Attributes:
        kind: "a" no signal, "b" signal without a shown gain, "c" a gain.
        signal: what the tests say of each attribute.
        ranked: [A] bool, whether the test after training alone rejects: the one before it does not see the scores.
        detectable: [A] the AUC that the tests would have found, see `detectable_auc`.
        largest_gain: the largest gain that the ranked attributes allow at their prevalence and AUC; NaN without any.
    """

    kind: Literal["a", "b", "c"]
    signal: Signal
    ranked: Array
    detectable: Array
    largest_gain: float


def verdict(before: BeforeTraining | None, after: AfterTraining, gain: Gain) -> Verdict:
    """Weigh the tests.

    An attribute has signal if either test rejects, each at 0.025 by Holm over the attributes; it gains if, among those
    with signal, the test of gain rejects at 0.05 by Holm.

    Args:
        before: the test before training; None where there is none.
        after: the test on the predictions of the winner, or of the nested selection.
        gain: of the same predictions.
    """
    trained = np.minimum(2 * holm(after.p), 1)
    adjusted = trained if before is None else np.fmin(trained, np.minimum(2 * holm(before.p), 1))
    has_signal, ranked = adjusted <= ALPHA, trained <= ALPHA
    gain_adjusted = holm(np.where(has_signal, gain.p, np.nan))
    gains = gain_adjusted <= ALPHA
    signal = Signal(
        before=None if before is None else before.p,
        before_auc=None if before is None else before.auc,
        after=after.p,
        auc=after.auc,
        adjusted=adjusted,
        found=has_signal.tolist(),
        gain=gain.value,
        gain_low=gain.low,
        gain_adjusted=gain_adjusted,
        gains=gains.tolist(),
    )
    counts, rows = before or after, after.n_positive + after.n_negative
    prevalence = ratio(after.n_positive, rows)
    return Verdict(
        kind="c" if gains.any() else "b" if has_signal.any() else "a",
        signal=signal,
        ranked=ranked,
        detectable=detectable_auc(counts.n_positive, counts.n_negative, len(adjusted)),
        largest_gain=float(np.fmax.reduce(largest_gain(prevalence[ranked], after.auc[ranked]), initial=np.nan)),
    )


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


def sentence(
    verdict: Verdict,
    auc_interval: tuple[float, float],
    *,
    winner: str,
    indistinguishable: Sequence[str],
    simplest: str,
    untested: int,
) -> str:
    """The last line of a table.

    Args:
        auc_interval: 95 % interval of the mean AUC of the ranked attributes; NaN without any.
        winner: the name of the winning run.
        indistinguishable: the names of the runs that are not distinguishable from it.
        simplest: the name of the simplest of it and those.
        untested: number of runs that could not be compared with it.
    """
    signal, attributes = verdict.signal, len(verdict.ranked)
    if verdict.kind == "a":
        areas = listed([f"{area:.2f}" if area < 1 else "none" for area in verdict.detectable.tolist()])
        return (
            "No configuration is distinguishable from guessing "
            f"(smallest adjusted p = {_number(np.fmin.reduce(signal.adjusted), 3)}). "
            f"With these counts an out-of-fold AUC of {areas} would have been found with 80 % probability. "
            "Check labels, disagreeing duplicates, the join of labels and images."
        )
    if verdict.kind == "b" and verdict.ranked.any():
        low, high = (_number(bound, 2) for bound in auc_interval)
        return (
            f"Scores rank better than chance on {verdict.ranked.sum()} of {attributes} attributes "
            f"(AUC [{low}, {high}]), but no F1 above the all-positive baseline is shown; "
            f"at this prevalence and AUC the largest possible gain is {_number(verdict.largest_gain, 3)}."
        )
    if verdict.kind == "b":
        return (
            f"Features tell something about {sum(signal.found)} of {attributes} attributes (the test before training), "
            "but the trained scores are not shown to rank better than chance: train longer or at a higher learning "
            "rate, and look at the loss curve."
        )
    names = listed(indistinguishable) if indistinguishable or not untested else "none tested"
    names += f" ({untested} could not be compared)" if untested else ""
    return (
        f"{winner} beats the all-positive baseline on {sum(signal.gains)} of {attributes} attributes; "
        f"runs not distinguishable from the winner: {names}; simplest of these: {simplest}."
    )


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "undefined"


def listed(items: Sequence[str], separator: str = ", ") -> str:
    """The first of a list, and how many more there are: ``a, b, c, d, e, f, ... and 7 more``; of none, ``none``."""
    more = [f"... and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return separator.join([*items[:SHOWN], *more]) or "none"
