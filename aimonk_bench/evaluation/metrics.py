"""The figures of a run, NaN where they are undefined.

Shapes of `Confusion` and `ranking`: scores [..., R, A]; labels [R, A] or with the leading axes of the scores;
thresholds broadcast to the scores: 0.5, [A], [S, R, A]. A label that is not observed counts for nothing, so padding is
rows without observed labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import Thresholds


def ratio(numerator: Array, denominator: Array, defined: Array | bool = True) -> Array:
    """The quotient; NaN where the denominator is 0 and where the quotient is not defined. The three broadcast."""
    return np.asarray(numerator / np.where(defined & (denominator != 0), denominator, np.nan))


@dataclass(frozen=True, eq=False)
class Confusion:
    """Confusion counts, [..., A] each; a row is predicted positive where its score is above the threshold."""

    tp: Array
    fp: Array
    fn: Array
    tn: Array

    @classmethod
    def of(cls, scores: Array, labels: Labels, thresholds: npt.ArrayLike) -> Confusion:
        """The counts over the observed rows."""
        positive, negative, accepted = labels.positive, labels.negative, scores > np.asarray(thresholds)
        tp, fp = (accepted & positive).sum(-2), (accepted & negative).sum(-2)
        return cls(tp, fp, positive.sum(-2) - tp, negative.sum(-2) - fp)

    @property
    def precision(self) -> Array:
        """TP / (TP + FP); undefined without a positive, or where nothing is predicted positive."""
        return ratio(self.tp, self.tp + self.fp, self.tp + self.fn > 0)

    @property
    def recall(self) -> Array:
        """TP / (TP + FN); undefined without a positive."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> Array:
        """2 TP / (2 TP + FP + FN); undefined without a positive."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn, self.tp + self.fn > 0)

    @property
    def accuracy(self) -> Array:
        """(TP + TN) / n; undefined without an observed row."""
        return ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)


def f1(scores: Array, labels: Labels, thresholds: npt.ArrayLike) -> Array:
    """`Confusion.f1` of the decisions, [..., A]."""
    return Confusion.of(scores, labels, thresholds).f1


@dataclass(frozen=True, eq=False)
class Descent:
    """Rows by falling score.

    Attributes:
        order: [..., R, A] row numbers by falling score.
        first: [..., R, A] in that order, whether the row has another score than the one before.
        last: [..., R, A] in that order, whether the row has another score than the one after.
    """

    order: Array
    first: Array
    last: Array

    @classmethod
    def of(cls, scores: Array) -> Descent:
        """The order of scores [..., R, A]."""
        order = np.argsort(-scores, axis=-2)
        ordered = np.take_along_axis(scores, order, axis=-2)
        first, last = (np.ones(ordered.shape, dtype=bool) for _ in range(2))
        first[..., 1:, :] = last[..., :-1, :] = ordered[..., 1:, :] != ordered[..., :-1, :]
        return cls(order, first, last)

    def above(self, weights: Array) -> tuple[Array, Array]:
        """For each row the sum of the weights of the rows with a higher score, and of those with an equal one too.

        Args:
            weights: 0 or more, broadcast to [..., R, A].
        """
        by_row = np.empty((2, *self.order.shape))
        for rows, values in zip(by_row, self.sums(self.ordered(weights)), strict=True):
            np.put_along_axis(rows, self.order, values, axis=-2)
        return by_row[0], by_row[1]

    def ordered(self, weights: Array) -> Array:
        """The weights of the rows, broadcast to [..., R, A], by falling score: float64."""
        by_row = np.broadcast_to(weights, self.order.shape)
        return np.take_along_axis(by_row, self.order, axis=-2).astype(np.float64)

    def sums(self, ordered: Array) -> tuple[Array, Array]:
        """`above` of weights that are ordered by falling score, in that order."""
        sums = ordered.cumsum(axis=-2)
        higher = np.maximum.accumulate(np.where(self.first, sums - ordered, 0.0), axis=-2)
        equal = np.minimum.accumulate(np.where(self.last, sums, np.inf)[..., ::-1, :], axis=-2)[..., ::-1, :]
        return higher, equal


def ranking(scores: Array, labels: Labels) -> dict[str, Array]:
    """``average_precision`` and ``roc_auc``, [..., A] each, of scores that may be any finite numbers.

    Average precision is the mean over the positives of the precision at their score, undefined without a positive; ROC
    AUC the share of (positive, negative) pairs in the right order, ties counting half, undefined without both classes.
    """
    descent, (n1, n0) = Descent.of(scores), labels.counts()
    positive = descent.ordered(labels.positive)
    _, positives = descent.sums(positive)
    higher_negatives, negatives = descent.sums(descent.ordered(labels.negative))
    precision = positive * positives / np.maximum(positives + negatives, 1)
    lost_twice = (positive * (higher_negatives + negatives)).sum(-2)
    return {
        "average_precision": ratio(precision.sum(-2), n1),
        "roc_auc": ratio(2 * n1 * n0 - lost_twice, 2 * n1 * n0),
    }


def macro(values: Array, defined: Array) -> Array:
    """Mean over the attributes of the mask: [..., A], bool [..., A] -> [...]; NaN where the mask is empty.

    A value that is NaN although the mask names it makes the mean NaN.
    """
    return ratio(np.where(defined, values, 0.0).sum(axis=-1), np.broadcast_to(defined, np.shape(values)).sum(axis=-1))


PER_SEED = (
    "f1_default",
    "f1_tuned",
    "f1_validation",
    "threshold",
    "precision",
    "recall",
    "accuracy_default",
    "accuracy_tuned",
    "average_precision",
    "roc_auc",
)
COUNTS = ("n_observed", "n_positive")
BASELINES = ("floor_f1", "prior_f1")  # F1 of the all-positive and of the prevalence baseline
CONSTANT = COUNTS + BASELINES
AVERAGED = tuple(name for name in PER_SEED + BASELINES if name != "threshold")


@dataclass(frozen=True, eq=False)
class Figures:
    """Everything a table says about one run, per attribute; NaN is undefined.

    Attributes:
        attribute: [A] names.
        per_seed: the figures of ``PER_SEED``, each [S, A] float64; ``threshold`` is already the mean over folds.
        constant: the figures of ``CONSTANT``, each [A]: numbers of test rows, and F1 of the two baselines.
    """

    attribute: Sequence[str]
    per_seed: Mapping[str, Array]
    constant: Mapping[str, Array]

    def value(self, name: str) -> Array:
        """The figure of the run, [A]: the mean over its seeds, NaN if it is undefined for one of them."""
        return self.per_seed[name].mean(axis=0) if name in self.per_seed else self.constant[name]

    def defined(self, name: str) -> Array:
        """The attributes that define the figure, [A] bool; a suite's macro covers those that every run defines."""
        return np.isfinite(self.value(name))


def prevalence(predictions: Predictions) -> Array:
    """Share of positives among the observed training labels of each fold, [F, A]; 0 without any."""
    return np.asarray(predictions.train_positive / np.maximum(predictions.train_observed, 1))


def figures(predictions: Predictions, thresholds: Thresholds, cross_fitted: Array | None = None) -> Figures:
    """Score a run.

    Counting metrics pool the test rows of all folds, each judged by its own fold's threshold. Ranking metrics are
    averaged over the folds that define them, because the heads of different folds are not on one scale. ``floor_f1`` is
    the all-positive baseline, 2 n1 / (n + n1). ``prior_f1`` is the prevalence baseline: every test row scores the
    `prevalence` of its fold, read at 0.5. ``f1_validation`` judges each validation row by a threshold that has not seen
    it.

    Args:
        cross_fitted: [S, R, A] thresholds of the validation rows, as `thresholds.cross_fitted` gives them; without them
            ``f1_validation`` is NaN.

    Raises:
        UserError: the thresholds are those of another run.
    """
    run = predictions.labels.attributes, predictions.seed.tolist(), predictions.folds
    tuned_for = tuple(thresholds.attribute), list(thresholds.seed), thresholds.values.shape[1]
    if tuned_for != run:
        raise UserError(f"thresholds: found (attributes, seeds, folds) {tuned_for}, expected {run}: another run's?")
    val, test = predictions.part("val"), predictions.part("test")
    default = Confusion.of(test.probabilities, test.labels, 0.5)
    tuned = Confusion.of(test.probabilities, test.labels, thresholds.values[:, test.fold])
    folds = [predictions.part("test", fold) for fold in range(predictions.folds)]
    ranked = [ranking(rows.probabilities, rows.labels) for rows in folds]
    per_seed = {
        "f1_default": default.f1,
        "f1_tuned": tuned.f1,
        "f1_validation": np.full_like(default.f1, np.nan),
        "threshold": thresholds.values.mean(axis=1),
        "precision": tuned.precision,
        "recall": tuned.recall,
        "accuracy_default": default.accuracy,
        "accuracy_tuned": tuned.accuracy,
    }
    for name in ranked[0]:
        by_fold = np.stack([of_fold[name] for of_fold in ranked], axis=-1)
        per_seed[name] = macro(by_fold, np.isfinite(by_fold))
    if cross_fitted is not None:
        per_seed["f1_validation"] = f1(val.probabilities, val.labels, cross_fitted)
    constant = {
        "n_observed": test.labels.observed.sum(axis=0),
        "n_positive": test.labels.positive.sum(axis=0),
        "floor_f1": f1(np.ones(test.labels.shape), test.labels, 0.5),
        "prior_f1": f1(prevalence(predictions)[test.fold], test.labels, 0.5),
    }
    return Figures(list(predictions.labels.attributes), per_seed, constant)


def against_truth(predictions: Predictions, thresholds: Thresholds) -> Figures | None:
    """The figures of a run on all test rows whose truth is stated, labelled or not; None without a truth.

    The thresholds are those of the run, tuned without the truth.

    Raises:
        UserError: the thresholds are those of another run.
    """
    if predictions.truth is None:
        return None
    return figures(replace(predictions, labels=predictions.truth), thresholds)
