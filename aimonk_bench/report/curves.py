"""The curves of one run, thinned to what can be drawn: they show its figures, and no figure is read from them."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.metrics import Confusion
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import ThresholdCandidates
from aimonk_bench.records import history as histories
from aimonk_bench.records.run import HISTORY, RunRecord

RECALL = (np.arange(100) + 0.5) / 100  # where the precision-recall curve is drawn; its mean is then close to AP
THRESHOLD = np.arange(101) / 100  # where F1 is drawn
BINS = 20  # of the histogram of probabilities
LOSS_POINTS = 100
PLACES = 3  # decimals of everything that is only drawn


class OfAttribute(TypedDict):
    """The curves of one attribute on the test rows; None where undefined.

    precision: at the recalls of `RECALL`, mean over seeds and folds; ``precision_low`` and ``precision_high`` the
        lowest and the highest of a seed.
    f1: at the thresholds of `THRESHOLD`, pooled over the folds, mean over seeds; ``f1_low`` and ``f1_high`` likewise.
    chosen: the tuned thresholds of all seeds and folds.
    histogram: class -> [BINS] rows per seed.
    confusion: counts at the tuned thresholds, means over the seeds.
    reliability: column -> [bins with a row], see `Calibration.rows`.
    """

    precision: Array
    precision_low: Array
    precision_high: Array
    f1: Array
    f1_low: Array
    f1_high: Array
    chosen: Array
    histogram: dict[str, Array]
    confusion: dict[str, float]
    reliability: dict[str, Array]


class Loss(TypedDict):
    """Means over the heads: ``training`` loss by ``iteration``, and ``validation`` loss at ``validation_iteration``."""

    iteration: Array
    training: Array
    validation_iteration: Array
    validation: Array


class Curves(TypedDict):
    """The curves of a run: [A] of its attributes, and of its training."""

    attributes: list[OfAttribute]
    loss: Loss


def curves(record: RunRecord) -> Curves:
    """Read and thin the curves of a finished run.

    Raises:
        UserError: a file of the run is missing or damaged.
    """
    predictions, tuned = record.predictions, record.thresholds
    rows = predictions.part("test")
    precision, f1 = precision_at_recall(predictions), f1_at_threshold(predictions)
    counts = Confusion.of(rows.probabilities, rows.labels, tuned.values[:, rows.fold])
    means = {name: getattr(counts, name).mean(axis=0) for name in ("tp", "fp", "fn", "tn")}
    bins, reliability = _histograms(rows.probabilities, rows.labels), _reliability(record)
    attributes = [
        OfAttribute(
            precision=_drawn(precision[..., a].mean(axis=0)),
            precision_low=_drawn(precision[..., a].min(axis=0)),
            precision_high=_drawn(precision[..., a].max(axis=0)),
            f1=_drawn(f1[..., a].mean(axis=0)),
            f1_low=_drawn(f1[..., a].min(axis=0)),
            f1_high=_drawn(f1[..., a].max(axis=0)),
            chosen=_drawn(tuned.values[..., a].ravel()),
            histogram={name: _drawn(values[a]) for name, values in bins.items()},
            confusion={name: float(values[a]) for name, values in means.items()},
            reliability=reliability[name],
        )
        for a, name in enumerate(predictions.labels.attributes)
    ]
    return Curves(attributes=attributes, loss=_loss(record))


def precision_at_recall(predictions: Predictions) -> Array:
    """Precision at each recall of `RECALL`, [S, 100, A]: means over the folds with a positive; NaN where none has one.

    It is the precision of the highest threshold that reaches the recall, as average precision counts it.
    """
    folds = [predictions.part("test", fold) for fold in range(predictions.folds)]
    sums = np.zeros((len(predictions.seed), len(RECALL), len(predictions.labels.attributes)))
    numbers = np.zeros(sums.shape[2])
    for fold in folds:
        candidates = ThresholdCandidates.of(fold.probabilities, fold.labels)
        positives = fold.labels.counts()[0]
        numbers += positives > 0
        for a in np.flatnonzero(positives):
            for s in range(len(sums)):
                possible = candidates.possible[s, :, a]
                true_positive = candidates.true_positive[s, possible, a][::-1]  # by falling threshold: rising
                accepted = np.broadcast_to(candidates.accepted, candidates.possible.shape)[s, possible, a][::-1]
                place = np.searchsorted(true_positive, RECALL * positives[a] - 1e-9)
                sums[s, :, a] += true_positive[place] / accepted[place]
    return np.asarray(sums / np.where(numbers > 0, numbers, np.nan))


def f1_at_threshold(predictions: Predictions) -> Array:
    """F1 of the test rows of all folds at each threshold of `THRESHOLD`, [S, 101, A]; NaN without a positive."""
    rows = predictions.part("test")
    return np.stack([Confusion.of(rows.probabilities, rows.labels, limit).f1 for limit in THRESHOLD], axis=1)


def _histograms(probabilities: Array, labels: Labels) -> dict[str, Array]:
    """Class -> [A, BINS] test rows of the class by probability, means over the seeds."""
    masks = {"positive": labels.positive, "negative": labels.negative, "missing": ~labels.observed}
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)  # [S, R, A]
    seeds, _, attributes = place.shape
    cells = place + BINS * np.arange(attributes)
    return {
        name: np.bincount(cells[:, mask].ravel(), minlength=attributes * BINS).reshape(attributes, BINS) / seeds
        for name, mask in masks.items()
    }


def _reliability(record: RunRecord) -> dict[str, dict[str, Array]]:
    """Attribute -> the columns of its reliability diagram, of the raw probabilities."""
    table = record.reliability()
    table = table[table["probabilities"] == "calibration"]
    columns = ("n", "probability", "positive", "low", "high")
    return {
        name: {column: _drawn(table.loc[table["attribute"] == name, column].to_numpy()) for column in columns}
        for name in record.predictions.labels.attributes
    }


def _loss(record: RunRecord) -> Loss:
    """The loss curves; each point of the training loss is the mean of its neighbours, so that none is left out."""
    history = histories.read(record.folder / HISTORY)
    training = history.groupby("iteration_number")["training_loss"].mean()
    parts = np.array_split(np.arange(len(training)), min(LOSS_POINTS, len(training)))
    iterations, losses = training.index.to_numpy(), training.to_numpy()
    validation = history.groupby("iteration_number")["val_loss"].mean() if "val_loss" in history else training[:0]
    validation = validation.dropna()
    thin = np.unique(np.linspace(0, max(len(validation) - 1, 0), LOSS_POINTS).round().astype(int))[: len(validation)]
    return Loss(
        iteration=np.array([iterations[part].mean() for part in parts]).round(1),
        training=_drawn(np.array([losses[part].mean() for part in parts])),
        validation_iteration=validation.index.to_numpy()[thin],
        validation=_drawn(validation.to_numpy()[thin]),
    )


def _drawn(values: Array) -> Array:
    return np.asarray(values, np.float64).round(PLACES)
