"""How much better thresholds look on the rows that chose them, and what the best thresholds could have reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.evaluation.metrics import f1
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import ThresholdCandidates, Thresholds

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ThresholdChecks:
    """F1 of one run on rows that its thresholds have seen and on others, pooled over folds, means over the seeds.

    Attributes:
        optimism: [A] F1 on the validation rows at the tuned thresholds, minus that at thresholds found without them.
        validation_minus_test: [A] F1 on the validation rows at the tuned thresholds, minus that on the test rows.
        unachievable_oracle_f1: [A] the highest F1 on the test rows that any thresholds have, one for each seed and
            fold; they are chosen on these very rows.
        validation_positives: [F, A] observed positives among the validation rows behind each threshold.
    """

    optimism: Array
    validation_minus_test: Array
    unachievable_oracle_f1: Array
    validation_positives: Array


def threshold_checks(predictions: Predictions, thresholds: Thresholds, cross_fitted: Array) -> ThresholdChecks:
    """The checks of a run.

    Args:
        cross_fitted: [S, R, A] thresholds of the validation rows, as `thresholds.cross_fitted` gives them.
    """
    val, test = predictions.part("val"), predictions.part("test")
    tuned_val, unseen_val, tuned_test = (
        f1(rows.probabilities, rows.labels, limits).mean(axis=0)
        for rows, limits in (
            (val, thresholds.values[:, val.fold]),
            (val, cross_fitted),
            (test, thresholds.values[:, test.fold]),
        )
    )
    folds = [predictions.part("val", fold) for fold in range(predictions.folds)]
    return ThresholdChecks(
        optimism=tuned_val - unseen_val,
        validation_minus_test=tuned_val - tuned_test,
        unachievable_oracle_f1=oracle_f1(predictions).mean(axis=0),
        validation_positives=np.stack([rows.labels.positive.sum(axis=0) for rows in folds]),
    )


def oracle_f1(predictions: Predictions) -> Array:
    """The highest pooled F1 on the test rows over all thresholds of each seed and fold: [S, A]; NaN without a positive.

    F1 = 2 TP / (accepted + positives) is a ratio of sums over folds. For a ratio q, each fold by itself makes 2 TP - q
    accepted largest; the ratio reached by these thresholds is the next q. It rises to the maximum (Dinkelbach 1967), in
    few rounds, because there are finitely many candidates.
    """
    parts = [predictions.part("test", fold) for fold in range(predictions.folds)]
    folds = [ThresholdCandidates.of(rows.probabilities, rows.labels) for rows in parts]
    positives = predictions.part("test").labels.positive.sum(axis=0)
    best, reached = np.full(folds[0].positives.shape, -1.0), np.zeros(folds[0].positives.shape)  # [S, 1, A]
    while (reached > best).any():
        best = np.maximum(best, reached)
        true_positive, accepted = np.zeros_like(best), np.zeros_like(best)
        for fold in folds:
            value = np.where(fold.possible, 2 * fold.true_positive - best * fold.accepted, -np.inf)
            place = value.argmax(axis=1, keepdims=True)
            true_positive += np.take_along_axis(fold.true_positive, place, axis=1)
            accepted += np.take_along_axis(fold.accepted, place, axis=1)
        reached = 2 * true_positive / np.maximum(accepted + positives, 1)
    return np.where(positives > 0, best[:, 0], np.nan)
