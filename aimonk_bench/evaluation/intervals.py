"""How far each figure of one run can be trusted: 95 % intervals over pictures and seeds.

A figure is a mean over seeds, so its variance has two parts.

Over pictures: the sum over groups of squared influences. The influence of a group of rows is what the figure gains, to
first order, when the group weighs a little more. This is the limit of the bootstrap over groups for many draws (the
infinitesimal jackknife; Efron 1982) without its draws: the same for every run, and exact for a proportion.

Over seeds: 1 / S of the variance between seeds, less what the pictures add to it, one and the same test set for all
heads, because the first part holds that already. S seeds are few, so the normal quantile is replaced by Student's with
Welch's degrees of freedom.

With folds, heads share training pictures and the question is about the recipe: the first part is multiplied by
`Cells.variance_factor`, and at the threshold 0.5 what another training set does to the heads' intercepts is added.

Every interval is Wilson's, of a proportion of as many trials as the variance says. The fewer rows that variance is
estimated from, the more it gives way to the variance of plain trials, so that no special case is needed where every
positive is lost or a ranking is perfect. experiments/simulations/coverage.py shows how often the intervals cover.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.evaluation.cells import Cells
from aimonk_bench.evaluation.metrics import macro
from aimonk_bench.evaluation.predictions import Predictions, sigmoid
from aimonk_bench.evaluation.resampling import by_group
from aimonk_bench.evaluation.thresholds import Thresholds

Array = npt.NDArray[Any]
Limits = tuple[Array, Array]

LEVEL = 0.95
FEW = 5  # rows of the rarer outcome below which an interval is marked
COUNTED_PRIOR = 1.0  # rows that plain trials weigh against the rarer outcome of a proportion,
RANKED_PRIOR = 5.0  # and of a ranking, whose variance is estimated from the few rows of the rarer class; by simulation


def wilson(share: npt.ArrayLike, count: npt.ArrayLike, level: float = LEVEL) -> Limits:
    """Wilson's interval of a proportion: every p with (share - p)^2 <= z^2 p (1 - p) / count.

    Args:
        share: the proportion found, any shape.
        count: number of trials, any number above 0; broadcasts to the share.
        level: of confidence.

    Source: Wilson (1927), JASA 22.

    >>> [round(float(limit), 3) for limit in wilson(0.0, 10)]
    [0.0, 0.278]
    """
    share, count = np.asarray(share, dtype=np.float64), np.asarray(count, dtype=np.float64)
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return np.clip(middle - half, 0, share), np.clip(middle + half, share, 1)


def mover(values: Array, low: Array, high: Array, correlation: Array) -> Limits:
    """Limits of the mean of correlated figures from those of each: [..., A], correlation [..., A, A] -> [...].

    The distances d [A] of the limits from the figures are combined like standard errors: sqrt(d' R d) / A on each side.

    Source: method of variance estimates recovery; Zou and Donner (2008), Statistics in Medicine 27.
    """

    def distance(limits: Array) -> Array:
        away = np.abs(values - limits)
        squared = np.einsum("...i,...ij,...j->...", away, correlation, away)
        return np.asarray(np.sqrt(np.maximum(squared, 0)) / values.shape[-1])

    mean = values.mean(axis=-1)
    return mean - distance(low), mean + distance(high)


@dataclass(frozen=True, eq=False)
class Intervals:
    """95 % intervals of one figure, [A] each; NaN is undefined.

    Attributes:
        low: of the estimand that the caption names: with folds the recipe at this training size, else these heads.
        high: likewise.
        fixed_low: of these trained heads, with folds too; there a little narrow (simulated: 89 to 99 %, mean 94 %),
            because the test rows of a fold have trained the heads of the others.
        fixed_high: likewise.
        few: bool, whether fewer than `FEW` rows stand behind the rarer outcome: min(TP, FP + FN) of F1, the rarer class
            in a fold for a ranking; means over seeds and folds.
        seed_sd: SD over seeds; NaN with one seed.
        fold_sd: SD over folds of the fold's own figure, mean over seeds; NaN where fewer than two folds define it.
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


def intervals(predictions: Predictions, thresholds: Thresholds) -> dict[str, Intervals]:
    """The intervals of every figure that is measured on test rows, by its name in `metrics.PER_SEED`.

    NaN only where there is none: for F1 without a single TP, FP or FN, for the others where they are undefined.
    """
    return counted(predictions, thresholds) | ranked(predictions)


def counted(predictions: Predictions, thresholds: Thresholds) -> dict[str, Intervals]:
    """The intervals of the figures that count decisions: F1, precision, recall, accuracy."""
    default, tuned = (_Counts.of(Cells.of(predictions, limits)) for limits in (None, thresholds))
    found = {
        "f1_default": default.f1(),
        "f1_tuned": tuned.f1(),
        "precision": tuned.share(tuned.hits, tuned.accepted, tuned.positive),
        "recall": tuned.share(tuned.hits, tuned.positive, tuned.positive),
        "accuracy_default": default.accuracy(),
        "accuracy_tuned": tuned.accuracy(),
    }
    if predictions.folds > 1:
        lower, higher = (_Counts.of(Cells.of(predictions, _intercepts(predictions, sign))) for sign in (-1, 1))
        for name, one, other in (
            ("f1_default", lower.f1(), higher.f1()),
            ("accuracy_default", lower.accuracy(), higher.accuracy()),
        ):
            away = (one.per_seed - other.per_seed).mean(axis=0) / 2
            found[name] = replace(found[name], training=away**2)
    return {name: estimate.intervals(tuned.variance_factor) for name, estimate in found.items()}


def _intercepts(predictions: Predictions, sign: int) -> Thresholds:
    """0.5 moved by a standard error of the log-odds of each fold's training labels, sqrt(1 / n1 + 1 / n0).

    Training another set of pictures moves a head's intercept by about as much. With little signal all scores lie close
    together, and this decides how many of them pass 0.5; a tuned threshold moves with them.
    """
    positive, observed = predictions.train_positive, predictions.train_observed
    error = np.sqrt(1 / (positive + 0.5) + 1 / (observed - positive + 0.5))  # a half: Haldane (1956), Anscombe (1956)
    values = np.repeat(sigmoid(sign * error)[None], len(predictions.seed), axis=0)
    folds = list(range(predictions.folds))
    return Thresholds("shifted", predictions.attribute.tolist(), predictions.seed.tolist(), folds, values, [])


def ranked(predictions: Predictions) -> dict[str, Intervals]:
    """The intervals of the figures that read the order of the scores within a fold: average precision and ROC AUC."""
    test = predictions.split == "test"
    folds = [_Ranks.of(predictions, fold) for fold in range(predictions.folds)]
    found = {
        "average_precision": _over_folds([fold.average_precision() for fold in folds], predictions.group[test]),
        "roc_auc": _over_folds([fold.roc_auc() for fold in folds], predictions.group[test]),
    }
    return {name: estimate.intervals(Cells.of(predictions).variance_factor) for name, estimate in found.items()}


@dataclass(frozen=True, eq=False)
class _Estimate:
    """A figure of every seed, and what its interval rests on.

    Attributes:
        per_seed: [S, A].
        per_fold: [F, S, A] the fold's own figure.
        influence: [S, G, A] what a seed's figure gains, to first order, when a group of test rows weighs more.
        trials: [A] number of plain trials that would tell as much as the rows do, judged by their numbers alone.
        rarer: [A] rows of the rarer outcome, on which the estimated variance rests.
        prior: rows that the variance of plain trials is worth.
        few: [A] bool.
        f1: whether the figure is an F1 = 2 J / (1 + J), and J the proportion.
        training: [A] variance over training sets that `Cells.variance_factor` does not stand for.
    """

    per_seed: Array
    per_fold: Array
    influence: Array
    trials: Array
    rarer: Array
    prior: float
    few: Array
    f1: bool = False
    training: Array | float = 0.0

    def intervals(self, factor: float) -> Intervals:
        """The intervals; factor: c^2, by which the variance over pictures is multiplied."""
        seeds = len(self.per_seed)
        mean = self.influence.mean(axis=0)
        pictures, between = mean.T @ mean, _covariance(self.per_seed)
        over_seeds = _excess(between, self.influence - mean) / seeds
        own, of_seeds = np.diagonal(pictures), np.diagonal(over_seeds)
        recipe, fixed = (
            _student(variance, of_seeds, seeds - 1) ** 2 * variance
            for variance in (factor * own + self.training + of_seeds, own + of_seeds)
        )
        return Intervals(
            *self._limits(recipe, factor),
            *self._limits(np.minimum(fixed, recipe), 1.0),  # fewer degrees of freedom may outweigh a smaller variance
            few=self.few,
            seed_sd=np.sqrt(np.diagonal(between)) if seeds > 1 else np.full(len(self.few), np.nan),
            fold_sd=_fold_sd(self.per_fold),
            correlation=_correlation(factor * pictures + over_seeds + self.training * np.eye(len(own))),
        )

    def _limits(self, variance: Array, factor: float) -> Limits:
        """Wilson's limits [A] with the number of trials that the variance [A] of the figure says."""
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
        between: as found.
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
    """How much longer than the normal quantile Student's is, [A], where a part of the variance is that over seeds.

    Degrees of freedom: (variance / over_seeds)^2 (S - 1), after Welch; the other part counts as known.
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
    freedom = defined.sum(axis=0) - 1
    sd = np.sqrt((away**2).sum(axis=0) / np.maximum(freedom, 1))
    return macro(sd.T, (freedom > 0).T)


@dataclass(frozen=True, eq=False)
class _Counts:
    """Numbers of observed test rows by group, each [S, G, A].

    Attributes:
        hits: true positives.
        accepted: predicted positive.
        positive: the same for every seed.
        observed: likewise.
        fold: [G].
        variance_factor: c^2 of the cells.
    """

    hits: Array
    accepted: Array
    positive: Array
    observed: Array
    fold: Array
    variance_factor: float

    @classmethod
    def of(cls, cells: Cells) -> _Counts:
        accepted = cells.accepted & cells.observed
        hits = _grouped(accepted & cells.positive, cells.group)

        def of_labels(flags: Array) -> Array:
            return np.broadcast_to(_grouped(flags[None], cells.group), hits.shape)

        return cls(
            hits=hits,
            accepted=_grouped(accepted, cells.group),
            positive=of_labels(cells.positive),
            observed=of_labels(cells.observed),
            fold=cells.fold[np.unique(cells.group, return_index=True)[1]],
            variance_factor=cells.variance_factor,
        )

    def share(self, hits: Array, of: Array, needed: Array) -> _Estimate:
        """hits / of, undefined without rows, or without any of the needed ones."""

        def figure(groups: Array) -> Array:
            defined = needed[:, groups].sum(axis=1) > 0
            return np.asarray(hits[:, groups].sum(axis=1) / _positive(defined * of[:, groups].sum(axis=1)))

        return self._estimate(hits, of, hits, of, figure(np.full(len(self.fold), True)), self._folds(figure))

    def accuracy(self) -> _Estimate:
        """(TP + TN) / n."""
        right = self.observed - self.accepted - self.positive + 2 * self.hits
        return self.share(right, self.observed, self.observed)

    def f1(self) -> _Estimate:
        """2 TP / (2 TP + FP + FN) = 2 J / (1 + J), where J is the share of TP in TP + FP + FN.

        Without a positive `metrics.f1` is undefined; here it is 0, because FP alone bound what it can be.
        """
        above, below = 2 * self.hits, self.accepted + self.positive

        def figure(groups: Array) -> Array:
            defined = self.positive[:, groups].sum(axis=1) > 0
            return np.asarray(above[:, groups].sum(axis=1) / _positive(defined * below[:, groups].sum(axis=1)))

        per_seed = above.sum(axis=1) / np.maximum(below.sum(axis=1), 1)
        return self._estimate(self.hits, below - self.hits, above, below, per_seed, self._folds(figure), f1=True)

    def _folds(self, figure: Callable[[Array], Array]) -> Array:
        return np.stack([figure(self.fold == fold) for fold in np.unique(self.fold)])

    def _estimate(
        self, hits: Array, of: Array, above: Array, below: Array, per_seed: Array, per_fold: Array, f1: bool = False
    ) -> _Estimate:
        """The figure above / below, whose proportion is hits / of; all four [S, G, A]."""
        rows, worth = of.sum(axis=1).mean(axis=0), _worth(of).mean(axis=0)
        hit = hits.sum(axis=1).mean(axis=0)
        rarer = np.minimum(hit, rows - hit)
        return _Estimate(
            per_seed=per_seed,
            per_fold=per_fold,
            influence=(above - per_seed[:, None] * below) / np.maximum(below.sum(axis=1), 1)[:, None],
            trials=_positive(worth),
            rarer=rarer * worth / np.maximum(rows, 1),
            prior=COUNTED_PRIOR,
            few=rarer < FEW,
            f1=f1,
        )


def _grouped(rows: Array, group: Array) -> Array:
    """Sums over the rows of each group: [S, R, A], [R] -> [S, G, A]."""
    seeds, count, attributes = rows.shape
    sums = by_group(np.moveaxis(rows, 0, 1).reshape(count, -1), group)
    return np.moveaxis(sums.reshape(len(sums), seeds, attributes), 1, 0)


@dataclass(frozen=True, eq=False)
class _Ranking:
    """A ranking figure of one fold.

    Attributes:
        per_seed: [S, A].
        influence: [S, R, A] of its rows.
        trials: [A] as in `_Estimate`.
        rarer: [A] likewise.
        rows: [A] number of rows of the rarer class.
    """

    per_seed: Array
    influence: Array
    trials: Array
    rarer: Array
    rows: Array


@dataclass(frozen=True, eq=False)
class _Ranks:
    """The test rows of one fold by falling score.

    Attributes:
        positive: [R, A] bool, observed.
        negative: [R, A] bool, observed.
        positives: [A] rows of their own that the positives are worth.
        negatives: likewise.
        order: [S, R, A] rows by falling score.
        first: [S, R, A] in that order, whether the row has another score than the one before.
    """

    positive: Array
    negative: Array
    positives: Array
    negatives: Array
    order: Array
    first: Array

    @classmethod
    def of(cls, predictions: Predictions, fold: int) -> _Ranks:
        rows = predictions.rows(fold, "test")
        scores, observed = predictions.probabilities[:, rows], predictions.observed[rows]
        positive = observed & (predictions.targets[rows] == 1)
        negative = observed & ~positive
        order = np.argsort(-scores, axis=1)
        ordered = np.take_along_axis(scores, order, axis=1)
        first = np.ones(ordered.shape, dtype=bool)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        worth = [_worth(_grouped(flags[None], predictions.group[rows]))[0] for flags in (positive, negative)]
        return cls(positive, negative, worth[0], worth[1], order, first)

    def above(self, weights: Array) -> tuple[Array, Array]:
        """Sums [S, R, A] of weights >= 0 over the rows with a higher score, and over those with an equal one too."""
        ordered = np.take_along_axis(np.broadcast_to(weights, self.order.shape), self.order, axis=1).astype(np.float64)
        sums = ordered.cumsum(axis=1)
        higher = np.maximum.accumulate(np.where(self.first, sums - ordered, 0.0), axis=1)
        last = np.ones_like(self.first)
        last[:, :-1] = self.first[:, 1:]
        equal = np.minimum.accumulate(np.where(last, sums, np.inf)[:, ::-1], axis=1)[:, ::-1]
        found = np.empty((2, *self.order.shape))
        for rows, values in zip(found, (higher, equal), strict=True):
            np.put_along_axis(rows, self.order, values, axis=1)
        return found[0], found[1]

    def roc_auc(self) -> _Ranking:
        """P(positive above negative), ties half: a row's influence is its own share of pairs won, less the AUC.

        With one row per group and one seed the sum of squared influences is the variance of DeLong et al. (1988),
        Biometrics 44. Plain trials: the variance of Hanley and McNeil (1982), Radiology 143, as symmetrised by Newcombe
        (2006), Statistics in Medicine 25, method 5.
        """
        n1, n0 = _positive(self.positive.sum(axis=0)), _positive(self.negative.sum(axis=0))
        positives, negatives = (sum(self.above(flags)) / 2 for flags in (self.positive, self.negative))
        won = np.where(self.positive, 1 - negatives / n0, 0) + np.where(self.negative, positives / n1, 0)
        auc = np.where(self.positive, won, 0).sum(axis=1) / n1 + 0 * n0
        away = won - auc[:, None]
        influence = np.where(self.positive, away / n1 * _spread(self.positives), 0)
        influence += np.where(self.negative, away / n0 * _spread(self.negatives), 0)
        mean = auc.mean(axis=0)
        both = (self.positives + self.negatives) / 2 - 1
        pairs = self.positives * self.negatives
        trials = pairs / (1 + both * ((1 - mean) / (2 - mean) + mean / (1 + mean)))
        return _Ranking(auc, influence, trials, np.minimum(self.positives, self.negatives), self._rarer_rows())

    def average_precision(self) -> _Ranking:
        """Mean over the positives of the precision at their score.

        A row's influence: the precision at its own score if it is positive, and what it does to the precision at every
        score that is not above its own. Plain trials: the positives. Average precision depends on the number of rows:
        the interval is about what test sets of this size give on average.
        """
        n1 = _positive(self.positive.sum(axis=0))
        positives, negatives = self.above(self.positive)[1], self.above(self.negative)[1]
        accepted = np.maximum(positives + negatives, 1)
        precision = positives / accepted
        value = np.where(self.positive, precision, 0).sum(axis=1) / n1
        ones, shares = (
            terms.sum(axis=1, keepdims=True) - self.above(terms)[0]
            for terms in (self.positive / accepted, self.positive * precision / accepted)
        )
        influence = np.where(self.positive, precision - value[:, None] + ones, 0) - shares
        rarer = np.where(self.negatives > 0, np.minimum(self.positives, self.negatives), self.positives)
        influence = np.where(self.positive | self.negative, influence / n1 * _spread(rarer), 0)
        return _Ranking(value, influence, _positive(self.positives), rarer, self._rarer_rows())

    def _rarer_rows(self) -> Array:
        return np.asarray(np.minimum(self.positive.sum(axis=0), self.negative.sum(axis=0)))


def _over_folds(folds: Sequence[_Ranking], group: Array) -> _Estimate:
    """The mean over the folds that define a figure; their rows follow one another, [R] group."""
    per_fold = np.stack([fold.per_seed for fold in folds])
    defined = np.isfinite(per_fold).all(axis=1)  # [F, A]; labels alone decide it
    number = defined.sum(axis=0)

    def total(name: str) -> Array:
        values = np.stack([getattr(fold, name) for fold in folds])
        return np.asarray(np.where(defined, values, 0).sum(axis=0))

    influence = np.concatenate([np.nan_to_num(fold.influence) for fold in folds], axis=1) / np.maximum(number, 1)
    inverse = np.where(defined, 1 / np.stack([fold.trials for fold in folds]), 0).sum(axis=0)
    return _Estimate(
        per_seed=macro(np.moveaxis(per_fold, 0, -1), defined.T),
        per_fold=per_fold,
        influence=_grouped(influence, group),
        trials=number**2 / _positive(inverse),
        rarer=np.maximum(total("rarer") - number, 0),
        prior=RANKED_PRIOR,
        few=total("rows") < FEW * number,
    )


def _spread(count: Array) -> Array:
    """sqrt(n / (n - 1)), which makes a variance from n rows unbiased; 0 where n = 1, which shows none."""
    return np.asarray(np.sqrt(np.divide(count, count - 1, out=np.zeros_like(count), where=count > 1)))


def _positive(values: Array) -> Array:
    """The values, NaN where they are 0."""
    return np.where(values > 0, values, np.nan)


def _worth(sums: Array) -> Array:
    """How many rows of their own the rows of G groups are worth: [..., G, A] -> [..., A], (sum)^2 / (sum of squares).

    Their number where every group is one row, the number of groups where all are of one size. Source: Kish (1965).
    """
    squares = (sums**2).sum(axis=-2)
    return np.asarray(np.divide(sums.sum(axis=-2) ** 2, squares, out=np.zeros_like(squares), where=squares > 0))
