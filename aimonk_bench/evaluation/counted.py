"""The figures that count decisions, with their intervals: F1, precision, recall, accuracy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.evaluation.decisions import Decisions, GroupCounts, variance_factor
from aimonk_bench.evaluation.predictions import Predictions, sigmoid
from aimonk_bench.evaluation.proportions import FEW, Estimate, Intervals, effective_rows, positive_or_nan
from aimonk_bench.evaluation.thresholds import Thresholds

Array = npt.NDArray[Any]

PRIOR = 1.0  # rows that plain trials weigh against the rarer outcome of a proportion; by simulation


def counted(predictions: Predictions, thresholds: Thresholds) -> dict[str, Intervals]:
    """The intervals of the figures that count decisions."""
    rows = predictions.part("test")
    default, tuned = (Decisions.at(rows, cut).by_group() for cut in (0.5, thresholds.values[:, rows.fold]))
    estimates = {
        "f1_default": f1(default),
        "f1_tuned": f1(tuned),
        "precision": precision(tuned),
        "recall": recall(tuned),
        "accuracy_default": accuracy(default),
        "accuracy_tuned": accuracy(tuned),
    }
    if predictions.folds > 1:
        error = _intercept_error(predictions)[rows.fold]
        lower, higher = (Decisions.at(rows, sigmoid(sign * error)).by_group() for sign in (-1, 1))
        for name, estimate in (("f1_default", f1), ("accuracy_default", accuracy)):
            away = (estimate(lower).per_seed - estimate(higher).per_seed).mean(axis=0) / 2
            estimates[name] = replace(estimates[name], training=away**2)
    factor = variance_factor(predictions.folds)
    return {name: estimate.intervals(factor) for name, estimate in estimates.items()}


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

    Without a positive `metrics.f1` is undefined; here it is 0, because FP alone bound what it can be.
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
        defined = needed[groups].sum(axis=0) > 0
        return np.asarray(above[:, groups].sum(axis=1) / positive_or_nan(defined * below[:, groups].sum(axis=1)))

    total = np.maximum(below.sum(axis=1), 1)
    per_seed = above.sum(axis=1) / total if f1 else figure(slice(None))
    rows, independent = trials.sum(axis=1).mean(axis=0), effective_rows(trials).mean(axis=0)
    successes = success.sum(axis=1).mean(axis=0)
    rarer = np.minimum(successes, rows - successes)
    return Estimate(
        per_seed=per_seed,
        per_fold=np.stack([figure(counts.fold == fold) for fold in np.unique(counts.fold)]),
        influence=(above - per_seed[:, None] * below) / total[:, None],
        trials=positive_or_nan(independent),
        rarer=rarer * independent / np.maximum(rows, 1),
        prior=PRIOR,
        few=rarer < FEW,
        f1=f1,
    )
