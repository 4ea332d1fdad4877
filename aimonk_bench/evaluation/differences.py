"""The difference of two runs in F1: what exchanged decisions, images and seeds say about its standard error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from aimonk_bench.evaluation.decisions import Decisions, variance_factor
from aimonk_bench.evaluation.intervals import f1 as f1_estimate
from aimonk_bench.evaluation.metrics import macro
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.resampling import exchanged_sums

POWER = 0.8  # with which a difference is called detectable
_SUMS_AT_ONCE = 1 << 25
_ROUNDING = 1e-18  # a variance of F1 below it is an error of rounding
_APART = 2  # groups assumed to be decided apart, one by each run, where fewer are (Bonett and Price 2012)


@dataclass(frozen=True, eq=False)
class Difference:
    """Differences of F1 and what Student's t needs to test them, [C] each; NaN where nothing is tested.

    Attributes:
        value: mean over the seeds of one run minus that of the other.
        error: its standard error.
        freedom: degrees of freedom of the error.
    """

    value: Array
    error: Array
    freedom: Array

    def bounds(self, alpha: float) -> tuple[Array, Array]:
        """The confidence interval of level 1 - alpha."""
        half = self._quantile(1 - alpha / 2) * self.error
        return self.value - half, self.value + half

    def detectable(self, alpha: float) -> Array:
        """The true difference that a two-sided test at level alpha finds with probability `POWER`."""
        return np.asarray((self._quantile(1 - alpha / 2) + self._quantile(POWER)) * self.error)

    @property
    def p(self) -> Array:
        """Two-sided p of a difference of 0; 1 where nothing varies."""
        from scipy import special

        varies = self.error != 0
        statistic = np.abs(self.value) / np.where(varies, self.error, 1)
        return np.where(varies, 2 * special.stdtr(self.freedom, -statistic), 1)

    def _quantile(self, level: float) -> Array:
        from scipy import special

        return np.asarray(special.stdtrit(self.freedom, level))


@dataclass(frozen=True, eq=False)
class Spread:
    """What the influences of the duplicate groups say about one run, [A + 1] each, the macro last.

    The influence of a group is what F1 gains, to first order, when the group weighs a little more.

    Attributes:
        figures: [S, A + 1] F1 of every seed on the test rows.
        influence: [G, A + 1] mean over seeds.
        of_seeds: part of the variance over images that comes from the seeds: the variance of the influence over seeds,
            summed over the groups, divided by the number of seeds. 0 in a hold-out.
        flip: what F1 loses with the decision on the positives of one group; of the macro, on those of one covered
            attribute (root mean squares).
        folds: their number K.
    """

    figures: Array
    influence: Array
    of_seeds: Array
    flip: Array
    folds: int

    @classmethod
    def of(cls, run: Decisions, covered: Array) -> Spread:
        """The spread of the figures of a run; the macro is over the covered attributes."""
        counts, folds = run.by_group(), int(run.fold.max()) + 1
        influence = _with_macro(f1_estimate(counts).influence, covered)
        sums = np.stack([counts.true_positive.sum(axis=1), counts.accepted.sum(axis=1)], axis=1)  # [S, 2, A]
        positive, seeds = counts.positive.sum(axis=0), len(influence)
        figures = _with_macro(_f1(sums, positive), covered)
        rows = np.sqrt(np.square(counts.positive).sum(axis=0) / np.maximum(positive, 1))  # positives of a group
        flip = rows * (2 - figures[:, :-1].mean(axis=0)) / np.maximum(positive + sums[:, 1].mean(axis=0), 1)
        of_macro = np.sqrt(macro(np.square(flip), covered)) / max(covered.sum(), 1)
        of_seeds = influence.var(axis=0, ddof=1).sum(axis=0) / seeds if min(folds, seeds) > 1 else 0 * influence[0, 0]
        return cls(figures, influence.mean(axis=0), of_seeds, np.append(flip, of_macro), folds)


def welch(run: Spread, reference: Spread, images: Array) -> Difference:
    """The difference of two runs, with degrees of freedom SE^4 / sum_i (part_i^2 / df_i), by Welch and Satterthwaite.

    SE^2 = I + T + X_r + X_b. I is the variance over images, at least that of two groups decided apart: where two runs
    decide all test rows alike, others may still part them, the more so the fewer rows there were.
    T = (c^2 - 1) (1 - r^2) (I - E) is what other training images would change: as much as for a single run
    (`decisions.variance_factor` is c^2), but only of what the runs do not share, r the correlation of their
    influences, and only of what does not come from the seeds anyway, E the sum of `of_seeds`, at most I. It rests
    on K training sets, which both runs share. X is what is left of the variance of F1 over the S seeds of a run,
    divided by S, without its part of E.

    Args:
        images: [A + 1] the variance over groups of images.
    """
    images = np.maximum(images, _APART * np.square(np.maximum(run.flip, reference.flip)))
    freedom = _freedom(run.influence - reference.influence)
    both = run.of_seeds + reference.of_seeds
    of_seeds = np.minimum(both, images)
    share = np.divide(of_seeds, both, out=np.zeros_like(images), where=both > 0)
    training = (variance_factor(run.folds) - 1) * _not_shared(run.influence, reference.influence) * (images - of_seeds)
    parts = [(images, freedom), (training, max(run.folds - 1, 1))]
    for one in (run, reference):
        seeds = len(one.figures)
        parts.append((np.maximum(one.figures.var(axis=0, ddof=1) / seeds - share * one.of_seeds, 0), seeds - 1))
    variance = np.sum([part for part, _ in parts], axis=0)
    varies = ~(variance < _ROUNDING)
    freedoms = variance**2 / np.where(varies, np.sum([part**2 / df for part, df in parts], axis=0), 1)
    value = run.figures.mean(axis=0) - reference.figures.mean(axis=0)
    return Difference(value, np.where(varies, np.sqrt(variance), 0), np.where(varies, freedoms, 1))


def _freedom(influence: Array) -> Array:
    """Degrees of freedom of a sum of squares V of influences [G, C]: 2 V^2 / (sum of fourth powers - V^2 / G).

    G where they are normal, about twice as many as differ from 0 where few do.
    """
    squares = np.square(influence)
    total, fourth = squares.sum(axis=0), np.square(squares).sum(axis=0)
    spread = fourth - total**2 / len(influence)
    freedom = np.divide(2 * total**2, spread, out=np.full_like(total, np.inf), where=spread > 0)
    return np.asarray(np.clip(freedom, 1, max(len(influence) - 1, 1)))


def _not_shared(one: Array, other: Array) -> Array:
    """1 - r^2, r the correlation of two influences [G, C], which sum to 0; 1 where one of them is nothing."""
    squares = np.square(one).sum(axis=0) * np.square(other).sum(axis=0)
    shared = np.divide((one * other).sum(axis=0) ** 2, squares, out=np.zeros_like(squares), where=squares > 0)
    return np.asarray(1 - shared)


def untested(run: Array, reference: Array) -> Difference:
    """The difference of the figures [S, C] of two runs that are not tested."""
    value = run.mean(axis=0) - reference.mean(axis=0)
    return Difference(value, np.full_like(value, np.nan), np.full_like(value, np.nan))


def _with_macro(values: Array, covered: Array) -> Array:
    """[..., A] with the macro behind it: [..., A + 1]."""
    return np.append(values, macro(values, covered)[..., None], axis=-1)


def _f1(counts: Array, positive: Array) -> Array:
    """2 TP / (accepted + positive) of the numbers of true positives and accepted [..., 2, A]; NaN without positives."""
    return 2 * counts[..., 0, :] / np.where(positive > 0, counts[..., 1, :] + positive, np.nan)


def _by_group(run: Decisions) -> Array:
    """True positives and accepted of every group: [G, S, 2, A], in float32, which holds the rows of a group exactly."""
    counts = run.by_group()
    return np.stack([counts.true_positive, counts.accepted], axis=2, dtype=np.float32).swapaxes(0, 1)


def permutation_variances(
    runs: Sequence[Decisions], reference: Decisions, covered: Array, draws: int, seed: int
) -> Iterator[Array]:
    """For each run the mean square, over permutations, of the differences of each attribute and of the macro: [A + 1].

    A permutation exchanges the decisions of the two runs on some duplicate groups. The mean difference over all
    permutations is 0, because each has its opposite. Seed i of a run exchanges with seed i of the reference; if they
    have different numbers of seeds, both are repeated up to the least common multiple.
    """
    base, positive = _by_group(reference), reference.labels.positive.sum(axis=0)
    seeds, attributes = len(reference.accepted), len(covered)
    widest = 2 * attributes * max((math.lcm(seeds, len(run.accepted)) for run in runs), default=1)
    step = max(1, _SUMS_AT_ONCE // (widest * max(draws, len(base))))
    for start in range(0, len(runs), step):
        pairs = [_aligned(_by_group(run), base) for run in runs[start : start + step]]
        differences = [(one - other).reshape(len(base), -1) for one, other in pairs]
        ends = np.cumsum([columns.shape[1] for columns in differences])
        moved = np.split(exchanged_sums(np.concatenate(differences, axis=1), draws, seed), ends[:-1], axis=1)
        for (one, other), counts in zip(pairs, moved, strict=True):
            of_one, of_other = (values.sum(axis=0, dtype=np.float64) for values in (one, other))
            exchanged = _exchanged(of_one, of_other, counts, positive)
            yield np.square(_with_macro(exchanged, covered)).mean(axis=0)


def _aligned(one: Array, other: Array) -> tuple[Array, Array]:
    """Both [G, S, 2, A] repeated to the same number of seeds, so that each keeps equal shares."""
    if one.shape[1] == other.shape[1]:
        return one, other
    seeds = np.arange(math.lcm(one.shape[1], other.shape[1]))
    return one[:, seeds % one.shape[1]], other[:, seeds % other.shape[1]]


def _exchanged(one: Array, other: Array, moved: Array, positive: Array) -> Array:
    """The difference of F1, mean over seeds, once some counts moved from one run to the other: [draws, A].

    Args:
        one: [S, 2, A] counts of the one run; ``other`` of the other.
        moved: [draws, S * 2 * A] what the one loses and the other gains.
        positive: [A] observed positives.
    """
    moved = moved.reshape(-1, *one.shape)
    return np.asarray((_f1(one - moved, positive) - _f1(other + moved, positive)).mean(axis=1))
