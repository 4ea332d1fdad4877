"""Labels that the images speak against, by confident learning on the probabilities of a linear probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.metrics import ratio
from aimonk_bench.evaluation.numbers import Array

SUSPECTS = 50  # that are listed; the others are counted


@dataclass(frozen=True, eq=False)
class Suspects:
    """Observed labels that the images speak against, most suspicious first.

    Attributes:
        row, attribute: [P] of the label, the first `SUSPECTS`.
        positive: [P] bool, what the label says.
        probability: [P] out-of-fold probability of what it says.
        total: [A] suspected labels.
    """

    row: Array
    attribute: Array
    positive: Array
    probability: Array
    total: Array


def suspects(probabilities: Array, labels: Labels, usable: Array) -> Suspects:
    """Labels that the images speak against, by class-wise thresholds of self-confidence.

    The threshold of a class is the mean probability of that class among the labels that name it. A label of class i is
    suspected where the probability of the other class j reaches j's threshold, unless i's reaches i's threshold too and
    is the higher; they are ranked by (p_j - t_j) - (p_i - t_i). Their number estimates no error rate: with clean labels
    and a probe of AUC .5 it would be 43-50 %, at .9 still 3-7 %.

    Args:
        probabilities: [N, A] of the positive class, out of fold; NaN is never suspected.
        labels: [N, A].
        usable: [A] bool, attributes with signal; of the others no label is suspected.

    Source: Northcutt, Jiang, Chuang, Confident learning, JAIR 70, 2021 (arXiv 1911.00068).
    """
    positive = labels.positive
    judged = labels.observed & np.isfinite(probabilities) & usable
    confidence = np.where(positive, probabilities, 1 - probabilities)  # in what the label says
    thresholds = [
        ratio(np.where(judged & state, confidence, 0).sum(axis=0), (judged & state).sum(axis=0))
        for state in (positive, ~positive)
    ]
    label_threshold, other_threshold = np.where(positive, *thresholds), np.where(positive, *reversed(thresholds))
    with np.errstate(invalid="ignore"):
        doubtful = (confidence < label_threshold) | (1 - confidence > confidence)
        suspected = judged & (1 - confidence >= other_threshold) & doubtful
    margin = (1 - confidence - other_threshold) - (confidence - label_threshold)
    row, attribute = np.nonzero(suspected)
    order = np.argsort(-margin[row, attribute], kind="stable")[:SUSPECTS]
    row, attribute = row[order], attribute[order]
    return Suspects(row, attribute, positive[row, attribute], confidence[row, attribute], suspected.sum(axis=0))
