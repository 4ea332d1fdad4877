"""The figures that read the order of the scores within a fold, with their intervals: average precision and ROC AUC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.evaluation.decisions import variance_factor
from aimonk_bench.evaluation.metrics import macro
from aimonk_bench.evaluation.predictions import Predictions, ScoredRows
from aimonk_bench.evaluation.proportions import FEW, Estimate, Intervals, effective_rows, positive_or_nan
from aimonk_bench.evaluation.resampling import by_group

Array = npt.NDArray[Any]

PRIOR = 5.0  # rows that plain trials weigh against the few rows of the rarer class; by simulation


def ranked(predictions: Predictions) -> dict[str, Intervals]:
    """The intervals of the figures that read the order of the scores."""
    folds = [FoldRanks.of(predictions.part("test", fold)) for fold in range(predictions.folds)]
    group, factor = predictions.part("test").group, variance_factor(predictions.folds)
    return {
        "average_precision": _over_folds([fold.average_precision() for fold in folds], group).intervals(factor),
        "roc_auc": _over_folds([fold.roc_auc() for fold in folds], group).intervals(factor),
    }


@dataclass(frozen=True, eq=False)
class FoldFigure:
    """A ranking figure of one fold.

    Attributes:
        per_seed: [S, A].
        influence: [S, R, A] of its rows, as in `Estimate`.
        trials: [A] as in `Estimate`; ``rarer`` likewise.
        rows: [A] number of rows of the rarer class.
    """

    per_seed: Array
    influence: Array
    trials: Array
    rarer: Array
    rows: Array


@dataclass(frozen=True, eq=False)
class FoldRanks:
    """The test rows of one fold by falling score.

    Attributes:
        positive, negative: [R, A] bool, observed.
        positives, negatives: [A] how many independent rows of each class there are.
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
    def of(cls, rows: ScoredRows) -> FoldRanks:
        """The ranks of the test rows of a fold."""
        positive, negative = rows.labels.positive, rows.labels.negative
        order = np.argsort(-rows.probabilities, axis=1)
        ordered = np.take_along_axis(rows.probabilities, order, axis=1)
        first = np.ones(ordered.shape, dtype=bool)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        positives, negatives = (effective_rows(by_group(flags, rows.group)) for flags in (positive, negative))
        return cls(positive, negative, positives, negatives, order, first)

    def above(self, weights: Array) -> tuple[Array, Array]:
        """Sums [S, R, A] of weights >= 0 over the rows with a higher score, and over those with an equal one too."""
        ordered = np.take_along_axis(np.broadcast_to(weights, self.order.shape), self.order, axis=1).astype(np.float64)
        sums = ordered.cumsum(axis=1)
        higher = np.maximum.accumulate(np.where(self.first, sums - ordered, 0.0), axis=1)
        last = np.ones_like(self.first)
        last[:, :-1] = self.first[:, 1:]
        equal = np.minimum.accumulate(np.where(last, sums, np.inf)[:, ::-1], axis=1)[:, ::-1]
        by_row = np.empty((2, *self.order.shape))
        for rows, values in zip(by_row, (higher, equal), strict=True):
            np.put_along_axis(rows, self.order, values, axis=1)
        return by_row[0], by_row[1]

    def roc_auc(self) -> FoldFigure:
        """P(positive above negative), ties half: a row's influence is its share of pairs won, less the AUC.

        With one row per group and one seed the sum of squared influences is the variance of DeLong et al. (1988),
        Biometrics 44. Plain trials: the variance of Hanley and McNeil (1982), Radiology 143, as symmetrised by Newcombe
        (2006), Statistics in Medicine 25, method 5.
        """
        n1, n0 = positive_or_nan(self.positive.sum(axis=0)), positive_or_nan(self.negative.sum(axis=0))
        positives, negatives = (sum(self.above(flags)) / 2 for flags in (self.positive, self.negative))
        won = np.where(self.positive, 1 - negatives / n0, 0) + np.where(self.negative, positives / n1, 0)
        auc = np.where(self.positive, won, 0).sum(axis=1) / n1 + 0 * n0
        away = won - auc[:, None]
        influence = np.where(self.positive, away / n1 * _unbiased(self.positives), 0)
        influence += np.where(self.negative, away / n0 * _unbiased(self.negatives), 0)
        mean = auc.mean(axis=0)
        both = (self.positives + self.negatives) / 2 - 1
        pairs = self.positives * self.negatives
        trials = pairs / (1 + both * ((1 - mean) / (2 - mean) + mean / (1 + mean)))
        return FoldFigure(auc, influence, trials, np.minimum(self.positives, self.negatives), self._rarer_rows())

    def average_precision(self) -> FoldFigure:
        """Mean over the positives of the precision at their score.

        A row's influence: the precision at its score if it is positive, and what it does to the precision at every
        score that is not above its own. Plain trials: the positives. Average precision depends on the number of rows:
        the interval is about what test sets of this size give on average.
        """
        n1 = positive_or_nan(self.positive.sum(axis=0))
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
        influence = np.where(self.positive | self.negative, influence / n1 * _unbiased(rarer), 0)
        return FoldFigure(value, influence, positive_or_nan(self.positives), rarer, self._rarer_rows())

    def _rarer_rows(self) -> Array:
        return np.asarray(np.minimum(self.positive.sum(axis=0), self.negative.sum(axis=0)))


def _over_folds(folds: Sequence[FoldFigure], group: Array) -> Estimate:
    """The mean over the folds that define a figure; their rows follow one another, [R] group."""
    per_fold = np.stack([fold.per_seed for fold in folds])
    defined = np.isfinite(per_fold).all(axis=1)  # [F, A]; labels alone decide it
    number = defined.sum(axis=0)

    def total(name: str) -> Array:
        values = np.stack([getattr(fold, name) for fold in folds])
        return np.asarray(np.where(defined, values, 0).sum(axis=0))

    influence = np.concatenate([np.nan_to_num(fold.influence) for fold in folds], axis=1) / np.maximum(number, 1)
    inverse = np.where(defined, 1 / np.stack([fold.trials for fold in folds]), 0).sum(axis=0)
    return Estimate(
        per_seed=macro(np.moveaxis(per_fold, 0, -1), defined.T),
        per_fold=per_fold,
        influence=np.moveaxis(by_group(np.moveaxis(influence, 1, 0), group), 0, 1),
        trials=number**2 / positive_or_nan(inverse),
        rarer=np.maximum(total("rarer") - number, 0),
        prior=PRIOR,
        few=total("rows") < FEW * number,
    )


def _unbiased(count: Array) -> Array:
    """sqrt(n / (n - 1)), which makes a variance from n rows unbiased; 0 where n = 1, which shows none."""
    return np.asarray(np.sqrt(np.divide(count, count - 1, out=np.zeros_like(count), where=count > 1)))
