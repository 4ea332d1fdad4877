"""A linear probe: ridge regression of labels on features, out of fold."""

from __future__ import annotations

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.calibration import platt
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import sigmoid
from aimonk_bench.evaluation.resampling import by_group

RIDGE = 10.0  # in units of the mean variance of a feature: leading directions count, trailing ones are shrunk away
FOLDS = 5


def standardised(features: Array) -> tuple[Array, float]:
    """Features with mean 0 and variance 1 in the fewest columns that keep all inner products, and the ridge penalty.

    Only inner products enter the probe and the score test, so that D > N features can be replaced by N, in float64.
    Columns that do not vary are left out.

    Returns:
        [N, min(N, D)], and 10 D, what X'X is shrunk by.
    """
    features = features[:, features.max(axis=0) > features.min(axis=0)]
    rows, width = features.shape
    x: Array = features.astype(np.float64 if rows < width else np.float32)
    x = x - features.mean(axis=0, dtype=np.float64).astype(x.dtype)
    x = x / np.sqrt(np.einsum("nd,nd->d", x, x) / rows)
    if rows < width:
        eigenvalues, vectors = np.linalg.eigh(x @ x.T)
        x = vectors * np.sqrt(np.maximum(eigenvalues, 0))
    return x, RIDGE * width


def probe(features: Array, labels: Labels, groups: Array, *, seed: int) -> Array:
    """Out-of-fold scores [N, A] of a ridge regression of each attribute, without its intercept.

    w = (X'X + 10 D)^-1 X'(y - mean) on the observed rows of four fifths of the groups, X centred by them; the score of
    any other row, observed or not, is (x - mean) w. `folds` divides the rows. Without intercepts the scores of all
    folds are on one scale, and their pooled ROC AUC is not biased by the prevalence that each fold's training rows
    happen to have.

    NaN where the training rows of a fold lack one class.

    Args:
        features: [N, D].
        labels: [N, A].
        groups: [N] rows of one group share a fold.
        seed: of the folds.
    """
    return probed(*standardised(features), labels, groups, seed)


def probed(x: Array, penalty: float, labels: Labels, groups: Array, seed: int) -> Array:
    """`probe` of what `standardised` gives."""
    scores = np.full(labels.shape, np.nan)
    for a, fold in enumerate(folds(labels, groups, seed).T):
        observed, positive = labels.observed[:, a], labels.positive[:, a]
        parts = [_moments(x[rows], positive[rows]) for rows in ((fold == k) & observed for k in range(FOLDS))]
        for k in range(FOLDS):
            rows = fold == k
            count, positives, sums, products, along = (sum(m) for m in zip(*parts[:k], *parts[k + 1 :], strict=True))
            if 0 < positives < count:
                mean = sums / count
                centred = products - count * np.outer(mean, mean)
                centred[np.diag_indices_from(centred)] += penalty
                scores[rows, a] = (x[rows] - mean) @ np.linalg.solve(centred, along - positives * mean)
    return scores


def _moments(x: Array, positive: Array) -> tuple[int, int, Array, Array, Array]:
    """n, n1, the sums of x [d], of x x' [d, d], and of x over the positive rows [d], which add up over parts."""
    total, along = x.sum(axis=0, dtype=np.float64), x[positive].sum(axis=0, dtype=np.float64)
    return len(x), int(positive.sum()), total, (x.T @ x).astype(np.float64), along


def folds(labels: Labels, groups: Array, seed: int) -> Array:
    """The fold of each row for each attribute, [N, A]: whole groups, stratified by the majority of their labels.

    The groups are sorted by label (positive, negative, none observed), at random within a label, and go to the folds in
    turn.
    """
    _, member = np.unique(groups, return_inverse=True)
    positive, observed = by_group(labels.positive, member), by_group(labels.observed, member)
    label = np.where(observed == 0, 2, np.where(2 * positive > observed, 0, 1))
    chance = np.random.default_rng(seed).random(label.shape)
    place = np.argsort(np.lexsort((chance, label), axis=0), axis=0)
    return np.asarray((place % FOLDS)[member])


def calibrated(scores: Array, labels: Labels, groups: Array, *, seed: int) -> Array:
    """Out-of-fold probabilities [N, A] of out-of-fold scores, by `calibration.platt` on the rows of the other folds.

    NaN where the score is, or where the other folds lack one class.

    Args:
        scores: [N, A] as `probe` gives them, NaN allowed.
        labels: [N, A].
        groups: [N].
        seed: of the folds, which are those of `probe` under the same seed.
    """
    probabilities = np.full(scores.shape, np.nan)
    fold = folds(labels, groups, seed)
    for k in range(FOLDS):
        others = labels.masked(np.isfinite(scores) & (fold != k))
        fit = np.minimum(*others.counts()) > 0
        if fit.any():
            slope, intercept = platt(scores[:, fit], Labels(others.targets[:, fit], others.observed[:, fit]))
            inside = np.where(fold[:, fit] == k, sigmoid(slope * scores[:, fit] + intercept), probabilities[:, fit])
            probabilities[:, fit] = inside
    return probabilities
