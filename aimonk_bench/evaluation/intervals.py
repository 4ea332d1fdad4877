"""The 95 % confidence interval of every figure of one run, over images and seeds.

A figure is a mean over seeds, so its variance has two parts.

Over images: the sum over groups of squared influences. The influence of a group of rows is what the figure gains, to
first order, when the group weighs a little more. This is the limit of the bootstrap over groups for many draws (the
infinitesimal jackknife; Efron 1982) without its draws: the same for every run, and exact for a proportion.

Over seeds: 1 / S of the variance between seeds, less what the images add to it, one and the same test set for all
heads, because the first part holds that already. S seeds are few, so the normal quantile is replaced by Student's with
Welch's degrees of freedom.

With folds, heads share training images and the question is about the recipe: the first part is multiplied by
`decisions.variance_factor`, and at the threshold 0.5 what another training set does to the heads' intercepts is added.

Every interval is Wilson's, of a proportion of as many trials as the variance says. The fewer rows that variance is
estimated from, the more it gives way to the variance of plain trials, so that no special case is needed where every
positive is lost or a ranking is perfect. experiments/simulations/coverage.py shows how often the intervals cover.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aimonk_bench.evaluation.decisions import Decisions, GroupCounts, variance_factor
from aimonk_bench.evaluation.metrics import PER_SEED, Descent, macro, ratio
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import Predictions, ScoredRows, sigmoid
from aimonk_bench.evaluation.proportions import Estimate, Intervals, effective_rows, positive_or_nan
from aimonk_bench.evaluation.resampling import by_group
from aimonk_bench.evaluation.thresholds import Thresholds

COUNTED_PRIOR = 1.0  # rows that plain trials weigh against the rarer outcome of a proportion; by simulation
RANKED_PRIOR = 20.0  # rows that plain trials weigh against the few rows of the rarer class; by simulation


def intervals(predictions: Predictions, thresholds: Thresholds) -> dict[str, Intervals]:
    """The intervals of every figure that is measured on test rows, by its name in `metrics.PER_SEED`.

    NaN where a figure is undefined.
    """
    factor = variance_factor(predictions.folds)
    folds = [predictions.part("test", fold) for fold in range(predictions.folds)]
    estimates = itertools.chain(counted(predictions, thresholds), ranked(folds, predictions.part("test").group))
    of_figure = {name: estimate.intervals(factor) for name, estimate in estimates}
    return {name: of_figure[name] for name in PER_SEED if name in of_figure}


def of_heads(rows: ScoredRows, thresholds: Array) -> dict[str, Intervals]:
    """The intervals of F1, precision, recall, average precision and ROC AUC of trained heads on rows of one fold.

    Args:
        rows: such as new images, on which nothing was trained or tuned.
        thresholds: [A].
    """
    counts = Decisions.of_rows(rows, thresholds).by_group()
    estimates = {"f1": f1(counts), "precision": precision(counts), "recall": recall(counts)}
    estimates |= ranked([rows], rows.group)
    return {name: estimate.intervals(1.0) for name, estimate in estimates.items()}


def counted(predictions: Predictions, thresholds: Thresholds) -> Iterator[tuple[str, Estimate]]:
    """The estimates of the figures that count decisions, one after the other: each is as large as the logits."""
    counts = Decisions.of(predictions, thresholds).by_group()
    for name, estimate in (
        ("f1_tuned", f1),
        ("precision", precision),
        ("recall", recall),
        ("accuracy_tuned", accuracy),
    ):
        yield name, estimate(counts)
    of_default = {"f1_default": f1, "accuracy_default": accuracy}
    training: dict[str, Array | float] = dict.fromkeys(of_default, 0.0)
    if predictions.folds > 1:
        error = _intercept_error(predictions)[predictions.part("test").fold]
        moved = []
        for sign in (-1, 1):
            counts = Decisions.of(predictions, sigmoid(sign * error)).by_group()
            moved.append({name: estimate(counts).per_seed for name, estimate in of_default.items()})
        training = {name: ((moved[0][name] - moved[1][name]).mean(axis=0) / 2) ** 2 for name in of_default}
    counts = Decisions.of(predictions, 0.5).by_group()
    for name, estimate in of_default.items():
        yield name, replace(estimate(counts), training=training[name])


def _intercept_error(predictions: Predictions) -> Array:
    """A standard error of the log-odds of each fold's training labels, sqrt(1 / n1 + 1 / n0), [F, A].

    Training on another set of images moves a head's intercept by about as much. With little signal all scores lie close
    together, and this decides how many of them pass 0.5; a tuned threshold moves with them.
    """
    positive, observed = predictions.train_positive, predictions.train_observed
    # a half is added to each count: Haldane (1956), Anscombe (1956)
    return np.asarray(np.sqrt(1 / (positive + 0.5) + 1 / (observed - positive + 0.5)))


def f1(counts: GroupCounts) -> Estimate:
    """2 TP / (2 TP + FP + FN) = 2 J / (1 + J), where J is the share of TP in TP + FP + FN.

    Without a positive it is undefined, as `metrics.f1`: here it is 0, with an interval of NaN.
    """
    trials = counts.accepted + counts.positive - counts.true_positive
    return _estimate(counts, counts.true_positive, trials, counts.positive, f1=True)


def precision(counts: GroupCounts) -> Estimate:
    """TP / (TP + FP), undefined without a positive."""
    return _estimate(counts, counts.true_positive, counts.accepted, counts.positive)


def recall(counts: GroupCounts) -> Estimate:
    """TP / (TP + FN)."""
    return _estimate(counts, counts.true_positive, counts.positive, counts.positive)


def accuracy(counts: GroupCounts) -> Estimate:
    """(TP + TN) / n."""
    right = counts.observed - counts.accepted - counts.positive + 2 * counts.true_positive
    return _estimate(counts, right, counts.observed, counts.observed)


def _estimate(counts: GroupCounts, success: Array, trials: Array, needed: Array, *, f1: bool = False) -> Estimate:
    """The proportion success / trials, or the F1 of it, undefined without any of the needed rows [G, A].

    Args:
        success: [S, G, A].
        trials: [S, G, A] or [G, A].
    """
    success, trials = np.broadcast_arrays(success, trials)
    above, below = (2 * success, trials + success) if f1 else (success, trials)

    def figure(groups: Array | slice) -> Array:
        return ratio(above[:, groups].sum(axis=1), below[:, groups].sum(axis=1), needed[groups].sum(axis=0) > 0)

    total = np.maximum(below.sum(axis=1), 1)
    per_seed = above.sum(axis=1) / total if f1 else figure(slice(None))
    rows, independent = trials.sum(axis=1).mean(axis=0), effective_rows(trials).mean(axis=0)
    successes = success.sum(axis=1).mean(axis=0)
    rarer = np.minimum(successes, rows - successes)
    return Estimate(
        per_seed=per_seed,
        per_fold=np.stack([figure(counts.fold == fold) for fold in np.unique(counts.fold)]),
        influence=(above - per_seed[:, None] * below) / total[:, None],
        labels=_centred(counts.positive, counts.observed),
        trials=positive_or_nan(np.where(needed.sum(axis=0) > 0, independent, 0)),
        rarer=rarer * independent / np.maximum(rows, 1),
        prior=COUNTED_PRIOR,
        rows=rarer,
        f1=f1,
    )


def ranked(folds: Sequence[ScoredRows], group: Array) -> Iterator[tuple[str, Estimate]]:
    """The estimates of the figures that read the order of the scores, one after the other.

    Args:
        folds: the test rows of each fold.
        group: [R] of all of them.
    """
    ranks = [FoldRanks.of(rows) for rows in folds]
    yield "average_precision", _over_folds([fold.average_precision() for fold in ranks], group)
    yield "roc_auc", _over_folds([fold.roc_auc() for fold in ranks], group)


@dataclass(frozen=True, eq=False)
class FoldRanks:
    """The test rows of one fold by falling score.

    Attributes:
        positive, negative: [R, A] bool, observed.
        positives, negatives: [A] how many independent rows of each class there are.
        descent: [S, R, A] the rows by falling score.
    """

    positive: Array
    negative: Array
    positives: Array
    negatives: Array
    descent: Descent

    @classmethod
    def of(cls, rows: ScoredRows) -> FoldRanks:
        """The ranks of the test rows of a fold."""
        positive, negative = rows.labels.positive, rows.labels.negative
        positives, negatives = (effective_rows(by_group(flags, rows.group)) for flags in (positive, negative))
        return cls(positive, negative, positives, negatives, Descent.of(rows.probabilities))

    def roc_auc(self) -> Estimate:
        """P(positive above negative), ties half: a row's influence is its share of pairs won, less the AUC.

        With one row per group and one seed the sum of squared influences is the variance of DeLong et al. (1988),
        Biometrics 44. Plain trials: the variance of Hanley and McNeil (1982), Radiology 143, as symmetrised by Newcombe
        (2006), Statistics in Medicine 25, method 5.
        """
        n1, n0 = positive_or_nan(self.positive.sum(axis=0)), positive_or_nan(self.negative.sum(axis=0))
        positives, negatives = (sum(self.descent.above(flags)) / 2 for flags in (self.positive, self.negative))
        won = np.where(self.positive, 1 - negatives / n0, 0) + np.where(self.negative, positives / n1, 0)
        auc = np.where(self.positive, won, 0).sum(axis=1) / n1 + 0 * n0
        away = won - auc[:, None]
        influence = np.where(self.positive, away / n1 * _unbiased(self.positives), 0)
        influence += np.where(self.negative, away / n0 * _unbiased(self.negatives), 0)
        mean = auc.mean(axis=0)
        both = (self.positives + self.negatives) / 2 - 1
        pairs = self.positives * self.negatives
        trials = pairs / (1 + both * ((1 - mean) / (2 - mean) + mean / (1 + mean)))
        return self._estimate(auc, influence, trials, np.minimum(self.positives, self.negatives))

    def average_precision(self) -> Estimate:
        """Mean over the positives of the precision at their score.

        A row's influence: the precision at its score if it is positive, and what it does to the precision at every
        score that is not above its own. Plain trials: the positives. Average precision depends on the number of rows:
        the interval is about what test sets of this size give on average.
        """
        n1 = positive_or_nan(self.positive.sum(axis=0))
        positives, negatives = (self.descent.above(flags)[1] for flags in (self.positive, self.negative))
        accepted = np.maximum(positives + negatives, 1)
        precision = positives / accepted
        value = np.where(self.positive, precision, 0).sum(axis=1) / n1
        ones, shares = (
            terms.sum(axis=1, keepdims=True) - self.descent.above(terms)[0]
            for terms in (self.positive / accepted, self.positive * precision / accepted)
        )
        influence = np.where(self.positive, precision - value[:, None] + ones, 0) - shares
        rarer = np.where(self.negatives > 0, np.minimum(self.positives, self.negatives), self.positives)
        influence = np.where(self.positive | self.negative, influence / n1 * _unbiased(rarer), 0)
        return self._estimate(value, influence, positive_or_nan(self.positives), rarer)

    def _estimate(self, per_seed: Array, influence: Array, trials: Array, rarer: Array) -> Estimate:
        """The estimate of this fold alone, with an influence [S, R, A] for each row."""
        rows = np.minimum(self.positive.sum(axis=0), self.negative.sum(axis=0))
        labels = _centred(self.positive, self.positive | self.negative)
        return Estimate(per_seed, per_seed[None], influence, labels, trials, rarer, RANKED_PRIOR, rows)


def _over_folds(folds: Sequence[Estimate], group: Array) -> Estimate:
    """The mean over the folds that define a figure; their rows follow one another, [R] group."""
    per_fold = np.concatenate([fold.per_fold for fold in folds])
    defined = np.isfinite(per_fold).all(axis=1)  # [F, A]; labels alone decide it
    number = defined.sum(axis=0)

    def total(name: str) -> Array:
        values = np.stack([getattr(fold, name) for fold in folds])
        return np.asarray(np.where(defined, values, 0).sum(axis=0))

    def summed(name: str, axis: int) -> Array:
        rows = np.concatenate([np.nan_to_num(getattr(fold, name)) for fold in folds], axis=axis)
        return np.moveaxis(by_group(np.moveaxis(rows, axis, 0), group), 0, axis)

    inverse = np.where(defined, 1 / np.stack([fold.trials for fold in folds]), 0).sum(axis=0)
    return Estimate(
        per_seed=macro(np.moveaxis(per_fold, 0, -1), defined.T),
        per_fold=per_fold,
        influence=summed("influence", 1) / np.maximum(number, 1),
        labels=summed("labels", 0),
        trials=ratio(number**2, inverse),
        rarer=np.maximum(total("rarer") - number, 0),
        prior=RANKED_PRIOR,
        rows=ratio(total("rows"), number),
    )


def _centred(positive: Array, observed: Array) -> Array:
    """[G, A] numbers of positive labels of each group, less those expected from all groups together."""
    return np.asarray(positive - observed * (positive.sum(axis=0) / np.maximum(observed.sum(axis=0), 1)))


def _unbiased(count: Array) -> Array:
    """sqrt(n / (n - 1)), which makes a variance from n rows unbiased; 0 where n = 1, which shows none."""
    return np.asarray(np.sqrt(np.divide(count, count - 1, out=np.zeros_like(count), where=count > 1)))
