"""How much better thresholds look on the rows that chose them, and what the best thresholds could have reached."""

from __future__ import annotations

import numpy as np

from aimonk_bench.evaluation.metrics import Figures, f1
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import ThresholdCandidates, Thresholds


def threshold_checks(predictions: Predictions, thresholds: Thresholds, scored: Figures) -> dict[str, Array]:
    """F1 of one run on rows that its thresholds have seen and on others, pooled over folds, means over the seeds.

    Args:
        scored: the figures of the run at these thresholds.

    Returns:
        optimism: [A] F1 on the validation rows at the tuned thresholds, minus the cross-fitted F1 on these rows.
        validation_minus_test: [A] F1 on the validation rows at the tuned thresholds, minus that on the test rows.
        unachievable_oracle_f1: [A] the highest F1 on the test rows that any thresholds have, one for each seed and
            fold; they are chosen on these very rows.
        validation_positives: [F, A] observed positives among the validation rows behind each threshold.
    """
    val = predictions.part("val")
    seen = f1(val.probabilities, val.labels, thresholds.values[:, val.fold]).mean(axis=0)
    folds = [predictions.part("val", fold) for fold in range(predictions.folds)]
    return {
        "optimism": seen - scored.value("f1_validation"),
        "validation_minus_test": seen - scored.value("f1_tuned"),
        "unachievable_oracle_f1": oracle_f1(predictions).mean(axis=0),
        "validation_positives": np.stack([rows.labels.counts()[0] for rows in folds]),
    }


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
