"""Hide observed labels by a declared mechanism: which policy for missing labels is right depends on the mechanism."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aimonk_bench.config.fields import Mechanism
from aimonk_bench.data.labels import Labels

Array = NDArray[Any]


def hide(
    mechanism: Mechanism,
    fraction: float,
    labels: Labels,
    scores: NDArray[np.floating] | None,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Choose the observed labels to hide.

    With n1, n0 the observed positives and negatives of an attribute:

    * ``random``, missing completely at random (MCAR): every label with probability ``fraction`` (RPA of arXiv
      2110.10955).
    * ``per_class``: all but K positives and K negatives of every attribute, where it has so many (FPC of the same
      paper). K >= 1 makes sum(min(K, n1) + min(K, n0)) nearest to 1 - ``fraction`` of the observed labels.
    * ``positives``, positive-unlabelled (PU): round(``fraction`` n1) positives of every attribute and no negative
      (arXiv 2112.07368).
    * ``score``, missing not at random (MNAR): round(``fraction`` (n1 + n0)) labels of every attribute, drawn one after
      the other with weights exp(-2 z), z the score standardised over the attribute's observed labels. High scores are
      labelled more often. Where all scores of an attribute are equal, or one is NaN, z is 0 and the draw is uniform.

    One positive and one negative of every attribute that has them stay observed, so that it can be trained; fewer
    labels are hidden then. With the same state of the generator a larger fraction hides the same labels and more.

    Args:
        fraction: between 0 and 1.
        labels: [N, A].
        scores: [N, A], read by ``score`` alone.
        rng: the source of all randomness, one number per label.

    Returns:
        [N, A] bool, True where the label is hidden.

    Raises:
        ValueError: ``score`` without scores.
    """
    observed: NDArray[np.bool_] = labels.observed
    positive, negative = labels.positive, labels.negative
    key = rng.random(observed.shape)  # the smallest keys are hidden first
    if mechanism == "random":
        hidden = observed & (key < fraction)
    elif mechanism == "positives":
        hidden = _smallest(key, positive, np.rint(fraction * positive.sum(0)))
    elif mechanism == "per_class":
        counts = np.concatenate([positive.sum(0), negative.sum(0)])
        per_class = _nearest_total(counts, (1 - fraction) * counts.sum())
        hidden = np.zeros_like(observed)
        for members in (positive, negative):
            hidden |= _smallest(key, members, members.sum(0) - per_class)
    elif scores is None:
        raise ValueError("hide: the mechanism 'score' needs scores")
    else:
        # the smallest of exponential variables with rates w are a draw without replacement with weights w
        key = -np.log1p(-key) * np.exp(2 * _standardised(scores, observed))
        hidden = _smallest(key, observed, np.rint(fraction * observed.sum(0)))
    for members in (positive, negative):
        _spare_last(hidden, key, members)
    return hidden


def _smallest(key: Array, members: NDArray[np.bool_], counts: Array) -> NDArray[np.bool_]:
    """The members [N, A] with the smallest keys, ``counts`` [A] of each attribute; none where a count is negative."""
    rank = np.where(members, key, np.inf).argsort(0).argsort(0)
    return members & (rank < counts)


def _nearest_total(counts: Array, wanted: float) -> int:
    """K >= 1 for which sum(min(K, counts)) is nearest to ``wanted``; the smaller of two that are equally near."""
    totals = np.minimum(np.arange(1, max(counts.max(), 1) + 1)[:, None], counts).sum(1)
    return int(np.abs(totals - wanted).argmin()) + 1


def _standardised(scores: Array, observed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(score - mean) / SD over each attribute's observed labels, float64; 0 where undefined or not observed."""
    filled = np.where(observed, scores, 0.0).astype(np.float64)
    count = np.maximum(observed.sum(0), 1)
    centred = np.where(observed, filled - filled.sum(0) / count, 0.0)
    deviation = np.sqrt((centred**2).sum(0) / count)
    constant = ~(deviation > 1e-12 * np.abs(filled).max(0, initial=0.0))  # NaN too
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, deviation))


def _spare_last(hidden: NDArray[np.bool_], key: Array, members: NDArray[np.bool_]) -> None:
    """Where all of an attribute's ``members`` are hidden, uncover the one with the largest key."""
    lost = (members & hidden).any(0) & ~(members & ~hidden).any(0)
    hidden[np.where(members, key, -1.0).argmax(0)[lost], np.flatnonzero(lost)] = False
