"""The tests of association and of gain weighed for each attribute, and the verdict: one of three outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from aimonk_bench.evaluation.association import AfterTraining, BeforeTraining
from aimonk_bench.evaluation.comparison import holm
from aimonk_bench.evaluation.differences import POWER
from aimonk_bench.evaluation.gain import Gain, largest_gain
from aimonk_bench.evaluation.metrics import ratio
from aimonk_bench.evaluation.numbers import Array, Number, Numbers

Outcome = Literal["no_signal", "no_gain", "gain"]

ALPHA = 0.05  # of each claim over all attributes; signal has two tests, each at half of it
_FACTOR = 1.41  # between the spread of an AUC of fixed scores and that of an out-of-fold AUC; simulated
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Doubts:
    """What of a data set and its split bears on a verdict.

    Attributes:
        near_cut: pairs of near duplicates of which a fold tests exactly one image; heads may know it by the other.
        near_alike: attribute -> of these, the pairs with the same observed label.
        missing_depends: attribute -> families of `missing_dependence` by which its missing labels depend on something
            else; only attributes with such a dependence.
        groups_cut: duplicate groups, of equal bytes or one group value, of which an official split trains on some
            images and tests others; None where an earlier version did not record it.
    """

    near_cut: int
    near_alike: dict[str, int]
    missing_depends: dict[str, list[str]]
    groups_cut: int | None = None


@dataclass(frozen=True, eq=False)
class Signal:
    """Association of the images with each attribute, and gain over all-positive, [A] each; NaN is undefined.

    Attributes:
        before: p of the score test before training, ``before_auc`` the out-of-fold ROC AUC of its linear probe; None
            where the run has no such test.
        after: p of the test after training, ``auc`` the ROC AUC of the test rows.
        adjusted: the smaller p of the two tests, adjusted for their number and, by Holm, for that of the attributes;
            signal is claimed up to 0.05.
        has_signal: bool, whether signal is claimed.
        after_adjusted: p of the test after training alone, adjusted likewise.
        ranked: bool, whether the test after training alone claims it: the one before does not see the scores.
        detectable_auc: the AUC that the tests would have found, see `detectable_auc`.
        gain: tuned F1 minus that of the all-positive baseline; ``gain_low`` its one-sided lower 95 % bound.
        gain_adjusted: p of the gain, adjusted by Holm over the attributes with signal; NaN for the others.
        gains: bool, whether a gain is claimed: its adjusted p is at most 0.05, and its lower bound is above 0.
        largest_gain: the largest gain that prevalence and AUC allow, see `gain.largest_gain`.
    """

    before: Numbers | None
    before_auc: Numbers | None
    after: Numbers
    auc: Numbers
    adjusted: Numbers
    has_signal: list[bool]
    after_adjusted: Numbers
    ranked: list[bool]
    detectable_auc: Numbers
    gain: Numbers
    gain_low: Numbers
    gain_adjusted: Numbers
    gains: list[bool]
    largest_gain: Numbers

    @property
    def outcome(self) -> Outcome:
        """ "gain"; "no_gain", signal without a shown gain; "no_signal"."""
        return "gain" if any(self.gains) else "no_gain" if any(self.has_signal) else "no_signal"


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a run or a suite comes to; `reporting` turns it into words. Lists of attributes and runs are in order.

    Attributes:
        outcome: the outcome of `Signal`.
        attributes: names of all attributes; ``with_signal``, ``ranked`` and ``with_gain`` of those for which signal,
            signal by the test after training, and a gain are claimed.
        smallest_p: the smallest adjusted p of signal; NaN where no attribute can be tested.
        detectable_auc: attribute -> the AUC that the tests find with 80 % probability; NaN without both classes.
        ranked_p: the largest adjusted p of the test after training that claims signal; NaN where none does.
        auc: mean ROC AUC of the ranked attributes; NaN without any.
        auc_low, auc_high: its 95 % interval. It may contain 0.5: it also covers what other training images would
            change, which the test does not.
        largest_gain: the largest that any ranked attribute allows; NaN without any.
        gain: attribute with a gain -> tuned F1 minus that of all-positive; ``gain_low`` its one-sided lower 95 % bound.
        missing: attribute -> share of the test labels that are missing; F1 is over the others.
        doubts: of the data; None where they are not known.
        run: id of the winner, see `statistics.Statistics`.
        folds: their number, and ``folds_of_run`` that of the folds in which the nested selection selects ``run``.
        f1: macro F1 of the nested selection, ``f1_low`` and ``f1_high`` its 95 % interval.
        all_positive_f1, prevalence_f1: macro F1 of the baselines on the same test rows.
        indistinguishable: ids of the candidates that no paired test finds worse than ``run`` or than the baseline;
            ``worse`` of the runs that one does, which may be ``run``, ``untested`` of those that could not be compared.
        simplest: id of the simplest of ``run``, unless a test finds it worse than the baseline, and the
            indistinguishable ones; ``simplest_f1`` its macro F1.
    """

    outcome: Outcome
    attributes: list[str]
    with_signal: list[str]
    ranked: list[str]
    with_gain: list[str]
    smallest_p: Number
    detectable_auc: dict[str, Number]
    ranked_p: Number
    auc: Number
    auc_low: Number
    auc_high: Number
    largest_gain: Number
    gain: dict[str, Number]
    gain_low: dict[str, Number]
    missing: dict[str, Number]
    doubts: Doubts | None
    run: str
    folds: int
    folds_of_run: int
    f1: Number
    f1_low: Number
    f1_high: Number
    all_positive_f1: Number
    prevalence_f1: Number
    indistinguishable: list[str]
    worse: list[str]
    untested: list[str]
    simplest: str
    simplest_f1: Number


def signal(before: BeforeTraining | None, after: AfterTraining, gain: Gain) -> Signal:
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
    has_signal = adjusted <= ALPHA
    gain_adjusted = holm(np.where(has_signal, gain.p, np.nan))
    counts = before or after
    prevalence = ratio(after.n_positive, after.n_positive + after.n_negative)
    return Signal(
        before=None if before is None else before.p,
        before_auc=None if before is None else before.auc,
        after=after.p,
        auc=after.auc,
        adjusted=adjusted,
        has_signal=has_signal.tolist(),
        after_adjusted=trained,
        ranked=(trained <= ALPHA).tolist(),
        detectable_auc=detectable_auc(counts.n_positive, counts.n_negative, len(adjusted)),
        gain=gain.value,
        gain_low=gain.low,
        gain_adjusted=gain_adjusted,
        gains=((gain_adjusted <= ALPHA) & (gain.low > 0)).tolist(),
        largest_gain=largest_gain(prevalence, after.auc),
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
