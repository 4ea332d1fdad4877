"""Whether probabilities mean what they say: Brier score, calibration error, reliability, and Platt scaling.

Nothing here changes a figure of a table: those are read from the raw logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.evaluation.intervals import wilson
from aimonk_bench.evaluation.predictions import Predictions, sigmoid

Array = npt.NDArray[Any]

BINS = 15  # of equal width
DRAWS = 100  # sets of labels that a calibrated head is given
FEWEST = 10  # validation positives, and negatives, below which nothing is fitted
_STEPS = 100  # of Newton's method; 13 were the most in 3,000 hostile sets of rows
_SMALL = 1e-9  # change of a coefficient, on standardised logits, that ends it


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibration on the observed test rows of all folds, [A] each, means over the seeds; NaN is undefined.

    Attributes:
        attribute: [A] names.
        brier: mean of (probability - label)^2.
        brier_skill: 1 - brier / that of the training prevalence of each row's fold: 1 is perfect, 0 no better than the
            prior; NaN where the prior is perfect.
        ece: sum over bins of (rows / n) |mean probability - share of positives| (Guo et al. 2017, arXiv 1706.04599).
        ece_reference: the same for labels drawn from the head's own probabilities: what a perfectly calibrated head
            with these probabilities shows at this number of rows.
        bins: the reliability diagram, {column: [A, BINS]}; `rows` says which columns.
    """

    attribute: Sequence[str]
    brier: Array
    brier_skill: Array
    ece: Array
    ece_reference: Array
    bins: dict[str, Array]

    def to_json(self) -> dict[str, Any]:
        """Plain lists over the attributes."""
        return {name: getattr(self, name).tolist() for name in ("brier", "brier_skill", "ece", "ece_reference")}

    def rows(self) -> list[dict[str, Any]]:
        """The reliability diagram: a row for each attribute and bin that holds a test row of any seed.

        Columns: attribute; from (excluded, but 0 is in the first bin) and to; n, test rows per seed; probability, their
        mean; positive, the share of positives; low and high, its 95 % limits (Wilson), in which a picture counts once
        and not for every seed.
        """
        return [
            {"attribute": name, "from": b / BINS, "to": (b + 1) / BINS}
            | {column: values[a, b].item() for column, values in self.bins.items()}
            for a, name in enumerate(self.attribute)
            for b in np.flatnonzero(self.bins["n"][a]).tolist()
        ]


def calibration(predictions: Predictions, probabilities: Array, *, draws: int = DRAWS, seed: int) -> Calibration:
    """How calibrated probabilities [S, R, A] are, given for all rows of `predictions`, on its test rows.

    Args:
        draws: sets of labels behind `ece_reference`, which is NaN without any.
        seed: of these draws: the same for every run of the same rows.
    """
    test = predictions.split == "test"
    seen = predictions.observed[test]
    share, labels = probabilities[:, test][:, seen], predictions.targets[test][seen].astype(np.float64)  # [S, C], [C]
    prevalence = predictions.train_positive / np.maximum(predictions.train_observed, 1)
    prior = prevalence[predictions.fold[test]][seen]
    attribute, shape = np.nonzero(seen)[1], (len(share), seen.shape[1], BINS)
    n = np.where(seen.any(axis=0), seen.sum(axis=0), np.nan)  # NaN makes every mean undefined

    def mean(cells: Array) -> Array:
        return np.bincount(attribute, cells, minlength=shape[1]) / n

    head = np.arange(shape[0])[:, None] * shape[1] + attribute
    place = (head * BINS + np.searchsorted(np.arange(1, BINS) / BINS, share)).ravel()

    def binned(cells: Array) -> Array:
        weights = np.broadcast_to(cells, share.shape).ravel()
        return np.bincount(place, weights, minlength=int(np.prod(shape))).reshape(shape)

    number, total, positive = binned(np.ones(1)), binned(share), binned(labels)

    def error(positive: Array) -> Array:
        return np.asarray(np.abs(total - positive).sum(axis=2).mean(axis=0) / n)

    rng = np.random.default_rng(seed)
    reference = [error(binned(rng.random(labels.shape) < share)) for _ in range(draws)] or [np.full(shape[1], np.nan)]
    brier, brier_prior = mean(((share - labels) ** 2).mean(axis=0)), mean((prior - labels) ** 2)
    skill = 1 - brier / np.where(brier_prior > 0, brier_prior, np.nan)
    bins = _reliability(number, total, positive)
    names = predictions.attribute.tolist()
    return Calibration(names, brier, skill, error(positive), np.mean(reference, axis=0), bins)


def _reliability(number: Array, total: Array, positive: Array) -> dict[str, Array]:
    """The columns of the diagram from the sums of each head, [S, A, BINS] each."""
    per_seed = number.mean(axis=0)
    filled = np.where(per_seed > 0, per_seed, np.nan)
    probability, share = total.mean(axis=0) / filled, positive.mean(axis=0) / filled
    low, high = wilson(share, filled)
    return {"n": per_seed, "probability": probability, "positive": share, "low": low, "high": high}


def calibrate(predictions: Predictions) -> tuple[Array, Array]:
    """Platt-scaled probabilities [S, R, A] of all rows, and where that was possible, [F, A] bool.

    Each seed, fold and attribute has a scale of its own, fitted on its validation rows. With under `FEWEST` validation
    positives or negatives there is none, and the probability stays the raw one.
    """
    logits, calibrated = predictions.logits.astype(np.float64), predictions.probabilities.copy()
    fitted = []
    for fold in range(predictions.folds):
        val = predictions.rows(fold, "val")
        targets, observed = predictions.targets[val], predictions.observed[val]
        classes = [(observed & (targets == target)).sum(axis=0) for target in (0, 1)]
        fit = np.minimum(*classes) >= FEWEST
        fitted.append(fit)
        if fit.any():
            columns = np.moveaxis(logits[:, val][:, :, fit], 1, 2)
            slope, intercept = platt(columns, targets[:, fit].T, observed[:, fit].T)
            own = np.ix_(np.arange(len(logits)), predictions.fold == fold, fit)
            calibrated[own] = sigmoid(slope[:, None] * logits[own] + intercept[:, None])
    return calibrated, np.stack(fitted)


def platt(logits: Array, targets: Array, observed: Array) -> tuple[Array, Array]:
    """Slope and intercept of p = 1 / (1 + exp(-(slope logit + intercept))), slope >= 0: [..., R] -> [...], [...].

    The labels are fitted by maximum likelihood with Platt's targets, (n1 + 1) / (n1 + 2) for a positive and 1 / (n0 +
    2) for a negative (Platt 1999), so that separable rows have a finite fit too. The likelihood is concave: where the
    slope would be negative, the best one allowed is 0. Newton's method on standardised logits, a step halved
    until it is no step back (Lin, Lin and Weng 2007).

    Args:
        logits: finite [..., R].
        targets: 0 or 1, broadcasting to the logits.
        observed: bool, likewise; at least one of each column.
    """
    weights = np.broadcast_to(observed, logits.shape).astype(np.float64)
    rows = weights.sum(axis=-1, keepdims=True)

    def mean(cells: Array) -> Array:
        return np.asarray((weights * cells).sum(axis=-1, keepdims=True) / rows)

    logits = np.where(observed, logits, 0)
    positives = mean(targets == 1) * rows
    wanted = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (rows - positives + 2))
    centre = mean(logits)
    spread = np.sqrt(mean((logits - centre) ** 2))
    spread = np.where(spread > 0, spread, 1)  # without a spread every slope is as good: it stays 0
    z = (logits - centre) / spread

    def loss(slope: Array, intercept: Array) -> Array:
        score = slope * z + intercept
        return mean(np.logaddexp(0, score) - wanted * score)

    prior = np.log(mean(wanted) / (1 - mean(wanted)))
    slope, intercept = np.zeros_like(prior), prior
    for _ in range(_STEPS):
        share = sigmoid(slope * z + intercept)
        curvature = share * (1 - share)
        down, across = mean((share - wanted) * z), mean(share - wanted)  # the gradient
        zz, zi, ii = mean(curvature * z**2), mean(curvature * z), mean(curvature)
        determinant = np.where(zz * ii > zi**2, zz * ii - zi**2, np.inf)
        step = np.stack([ii * down - zi * across, zz * across - zi * down]) / determinant
        now = loss(slope, intercept)
        while (back := loss(slope - step[0], intercept - step[1]) > now + 1e-15).any():
            step = np.where(back, step / 2, step)
        slope, intercept = slope - step[0], intercept - step[1]
        if np.abs(step).max() < _SMALL:
            break
    slope, intercept = np.where(slope > 0, slope, 0), np.where(slope > 0, intercept, prior)
    return (slope / spread)[..., 0], (intercept - slope * centre / spread)[..., 0]
