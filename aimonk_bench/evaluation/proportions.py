"""95 % confidence intervals of figures that are, or behave like, proportions: Wilson's, with as many trials as the
variance of the figure says. `intervals` explains the method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from aimonk_bench.evaluation.metrics import macro, ratio
from aimonk_bench.evaluation.numbers import Array

LEVEL = 0.95
CORRELATION_PRIOR = 20.0  # rows that a plain correlation between two attributes is worth; by simulation
LEAST_CORRELATION = 0.2  # of the plain ones; by simulation
FEW = 5  # rows of the rarer outcome below which an interval is marked


def wilson(share: npt.ArrayLike, count: npt.ArrayLike, level: float = LEVEL) -> tuple[Array, Array]:
    """Lower and upper bound of Wilson's interval: every p with (share - p)^2 <= z^2 p (1 - p) / count.

    Args:
        share: the observed proportion, any shape.
        count: number of trials, any number above 0; broadcasts to the share.
        level: of confidence.

    Source: Wilson (1927), JASA 22.

    >>> [round(float(bound), 3) for bound in wilson(0.0, 10)]
    [0.0, 0.278]
    """
    share, count = np.asarray(share, dtype=np.float64), np.asarray(count, dtype=np.float64)
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return np.clip(middle - half, 0, share), np.clip(middle + half, share, 1)


def mover(values: Array, low: Array, high: Array, correlation: Array) -> tuple[Array, Array]:
    """The interval of the mean of correlated proportions from that of each: [..., A], correlation [..., A, A] -> [...].

    The distances d [A] of the bounds from the figures are combined like standard errors: sqrt(d' R d) / A on each side.
    Where the mean is at its bound, a figure is not at its own: it moved by its correlation with the mean. So each d is
    taken there, between the one distance and the other, d^2 being linear between the bounds. Taken at the bounds, the
    intervals of skewed figures, such as high AUCs of few positives, miss on one side.

    Source: method of variance estimates recovery; Zou and Donner (2008), Statistics in Medicine 27. The place at which
    d is taken: simulation. The interval of a single figure, and of figures that move as one, stays as it is.
    """
    below, above = values - low, high - values
    width = np.where(high > low, high - low, 1)

    def spread(distances: Array) -> Array:
        squared = np.einsum("...i,...ij,...j->...", distances, correlation, distances)
        return np.asarray(np.sqrt(np.maximum(squared, 0)))

    total = spread(high - low)[..., None]
    moves = np.einsum("...ij,...j->...i", correlation, high - low) / np.where(total > 0, total, 1)
    moves = np.clip(moves, 0, 1)  # the correlation of each figure with the mean

    def distance(place: Array) -> Array:
        share = (place - low) / width
        return np.asarray(spread(np.sqrt((1 - share) * below**2 + share * above**2)) / values.shape[-1])

    mean = values.mean(axis=-1)
    down, up = distance(values - moves * below), distance(values + moves * above)
    return np.maximum(mean - down, 0), np.minimum(mean + up, 1)


@dataclass(frozen=True, eq=False)
class Intervals:
    """95 % confidence intervals of one figure, [A] each; NaN is undefined.

    Attributes:
        low, high: of the estimand that the caption names: with folds the recipe at this training size, else these
            heads.
        fixed_low, fixed_high: of these trained heads, with folds too.
        few: bool, whether fewer than `FEW` rows stand behind the rarer outcome: min(TP, FP + FN) of F1, the rarer class
            in a fold for a ranking; means over seeds and folds.
        seed_sd: SD over seeds; NaN with one seed.
        fold_sd: SD over folds of the figure of each fold, mean over seeds; NaN where fewer than two folds define it.
        correlation: [A, A] between the figures of the attributes.
    """

    low: Array
    high: Array
    fixed_low: Array
    fixed_high: Array
    few: Array
    seed_sd: Array
    fold_sd: Array
    correlation: Array

    def macro(self, values: Array, mask: Array) -> tuple[float, float, float, float]:
        """Low, high, fixed_low and fixed_high of the mean of the figures [A] over the attributes of the mask [A].

        NaN where the mask is empty, or names an attribute without an interval.
        """
        if not mask.any():
            return (np.nan, np.nan, np.nan, np.nan)
        correlation = self.correlation[np.ix_(mask, mask)]
        low, high = mover(values[mask], self.low[mask], self.high[mask], correlation)
        fixed_low, fixed_high = mover(values[mask], self.fixed_low[mask], self.fixed_high[mask], correlation)
        return float(low), float(high), float(fixed_low), float(fixed_high)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A figure of every seed, and what its interval rests on.

    Attributes:
        per_seed: [S, A].
        per_fold: [F, S, A] the figure of each fold alone.
        influence: [S, G, A] what a seed's figure gains, to first order, when a group of test rows weighs more.
        labels: [G, A] the observed labels, 1 or 0, less their mean, summed over each group. Figures of attributes with
            like labels are correlated.
        trials: [A] number of plain trials that would tell as much as the rows do, judged by their numbers alone.
        rarer: [A] rows of the rarer outcome, on which the estimated variance rests.
        prior: rows that the variance of plain trials is worth.
        rows: [A] rows behind the rarer outcome, by which an interval is marked; means over seeds and folds.
        f1: whether the figure is an F1 = 2 J / (1 + J), and J the proportion.
        training: [A] variance over training sets that `Decisions.variance_factor` does not stand for.
    """

    per_seed: Array
    per_fold: Array
    influence: Array
    labels: Array
    trials: Array
    rarer: Array
    prior: float
    rows: Array
    f1: bool = False
    training: Array | float = 0.0

    def intervals(self, factor: float) -> Intervals:
        """The intervals.

        Args:
            factor: c^2, by which the variance over images is multiplied. For these trained heads it is c: the test rows
                of a fold have trained the heads of the others, and the figures of these heads vary less than those of
                the recipe. Source: simulation.
        """
        seeds = len(self.per_seed)
        mean = self.influence.mean(axis=0)
        images, between = mean.T @ mean, _covariance(self.per_seed)
        over_seeds = _excess(between, self.influence - mean) / seeds
        image_variance, seed_variance = np.diagonal(images), np.diagonal(over_seeds)
        recipe, fixed = (
            _student(variance, seed_variance, seeds - 1) ** 2 * variance
            for variance in (
                factor * image_variance + self.training + seed_variance,
                math.sqrt(factor) * image_variance + seed_variance,
            )
        )
        fixed = np.minimum(fixed, recipe)  # fewer degrees of freedom may outweigh a smaller variance
        return Intervals(
            *self._bounds(recipe, factor),
            *self._bounds(fixed, math.sqrt(factor)),
            few=self.rows < FEW,
            seed_sd=np.sqrt(np.diagonal(between)) if seeds > 1 else np.full(len(self.rows), np.nan),
            fold_sd=_fold_sd(self.per_fold),
            correlation=self._correlation(factor * images + over_seeds + self.training * np.eye(len(self.rows))),
        )

    def _correlation(self, covariance: Array) -> Array:
        """[A, A]; a low one, which narrows a mean, gives way to a plain one the fewer rows it is estimated from.

        The plain one is that of the labels, and at least `LEAST_CORRELATION`.
        """
        correlation, rarer = _correlation(covariance), np.minimum.outer(self.rarer, self.rarer)
        plain = np.maximum(_correlation(self.labels.T @ self.labels), LEAST_CORRELATION)
        defined = np.isfinite(self.trials)
        short = np.where(np.outer(defined, defined), np.maximum(plain - correlation, 0), 0)
        return np.asarray(correlation + short * CORRELATION_PRIOR / (rarer + CORRELATION_PRIOR))

    def _bounds(self, variance: Array, factor: float) -> tuple[Array, Array]:
        """Wilson's interval [A] with the number of trials that the variance [A] of the figure says."""
        value = self.per_seed.mean(axis=0)
        share = value / (2 - value) if self.f1 else value
        slope = 2 / (2 - value) ** 2 if self.f1 else 1.0
        plain = share * (1 - share)
        per_trial = np.divide(slope**2 * variance, plain, out=np.zeros_like(plain), where=plain > 0)  # 1 / their number
        rarer = np.where(plain > 0, self.rarer, 0.0)
        low, high = wilson(share, (rarer + self.prior) / (rarer * per_trial + self.prior * factor / self.trials))
        return (2 * low / (1 + low), 2 * high / (1 + high)) if self.f1 else (low, high)


def _covariance(per_seed: Array) -> Array:
    """Between seeds, [S, A] -> [A, A]; 0 with one seed, which shows none."""
    away = per_seed - per_seed.mean(axis=0)
    return np.asarray(away.T @ away / max(len(per_seed) - 1, 1))


def _excess(between: Array, residual: Array) -> Array:
    """Covariance between seeds [A, A], less what one and the same test set adds to it; 0 where nothing is left.

    Args:
        between: [A, A] as observed.
        residual: [S, G, A] influences of the groups less their mean over seeds.
    """
    flat = residual.reshape(-1, residual.shape[-1])
    excess = between - flat.T @ flat / max(len(residual) - 1, 1)
    some = np.diagonal(excess) > 0
    return np.asarray(np.where(np.outer(some, some), excess, 0))


def _correlation(covariance: Array) -> Array:
    """[A, A]; 0 beside an attribute whose figure does not vary."""
    sd = np.sqrt(np.diagonal(covariance))
    scale = np.divide(1, sd, out=np.zeros_like(sd), where=sd > 0)
    correlation = scale[:, None] * np.where(np.isfinite(covariance), covariance, 0) * scale
    np.fill_diagonal(correlation, 1)
    return np.asarray(np.clip(correlation, -1, 1))


def _student(variance: Array, over_seeds: Array, seeds_less_one: int) -> Array:
    """Student's quantile over the normal one, [A], where a part of the variance is that over seeds.

    Degrees of freedom: (variance / over_seeds)^2 (S - 1), after Welch; the other part counts as exact.
    """
    from scipy.special import stdtrit

    longer = np.ones_like(variance)
    some = over_seeds > 0
    freedom = (variance[some] / over_seeds[some]) ** 2 * seeds_less_one
    level = (1 + LEVEL) / 2
    longer[some] = stdtrit(np.minimum(freedom, 1e6), level) / NormalDist().inv_cdf(level)
    return longer


def _fold_sd(per_fold: Array) -> Array:
    """SD over the folds that define a figure, mean over the seeds that have one: [F, S, A] -> [A]."""
    defined = np.isfinite(per_fold)
    away = np.where(defined, per_fold - macro(np.moveaxis(per_fold, 0, -1), np.moveaxis(defined, 0, -1)), 0.0)
    folds = defined.sum(axis=0)
    sd = np.sqrt(ratio((away**2).sum(axis=0), folds - 1, folds > 1))
    return macro(sd.T, (folds > 1).T)


def positive_or_nan(values: Array) -> Array:
    """The values, NaN where they are 0."""
    return np.where(values > 0, values, np.nan)


def effective_rows(sums: Array) -> Array:
    """How many independent rows the rows of G groups are worth: [..., G, A] -> [..., A], (sum)^2 / (sum of squares).

    Their number where every group is one row, the number of groups where all are of one size. Source: Kish (1965).
    """
    squares = (sums**2).sum(axis=-2)
    return np.asarray(np.divide(sums.sum(axis=-2) ** 2, squares, out=np.zeros_like(squares), where=squares > 0))
