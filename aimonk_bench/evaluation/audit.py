"""The record of an audit: what can be said of a data set before anything is trained.

How many labels there are, alone and in pairs of attributes; labels that the images speak against; and the record that
holds these and the tests and duplicates of the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aimonk_bench.config.split_fields import Split
from aimonk_bench.data.group_checks import GroupChecks
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.evaluation.association import BeforeTraining
from aimonk_bench.evaluation.comparison import holm
from aimonk_bench.evaluation.duplicates import Disagreement, Near
from aimonk_bench.evaluation.metrics import ratio
from aimonk_bench.evaluation.missing_dependence import Dependence
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.resampling import by_group
from aimonk_bench.evaluation.verdict import ALPHA

EXPECTED = 5.0  # images expected of a combination of labels, below which its absence is no fact worth telling
SUSPECTS = 50  # that are listed; the others are counted


@dataclass(frozen=True, eq=False)
class Counts:
    """How many labels there are.

    Attributes:
        positive, negative, missing: [A] images.
        groups: [A] groups of duplicates with an observed label: the effective number of images.
        smallest: [3, 2, A] the fewest positives and negatives that a fold's training, validation and test rows hold.
    """

    positive: Array
    negative: Array
    missing: Array
    groups: Array
    smallest: Array

    @property
    def prevalence(self) -> Array:
        """Share of positives among the observed labels, [A]; NaN without any."""
        return ratio(self.positive, self.positive + self.negative)

    @property
    def missing_rate(self) -> Array:
        """Share of missing labels, [A]."""
        return ratio(self.missing, self.positive + self.negative + self.missing)


@dataclass(frozen=True, eq=False)
class Together:
    """Co-occurrence of pairs of attributes, [A, A] each, over the images where both are observed.

    Attributes:
        both, first_only, neither: numbers of images; ``first_only`` has a and not b.
        phi: correlation of the labels; NaN where one of them is constant.
        missing: number of all images where both labels are missing.
        missing_phi: correlation of "missing" over all images.
    """

    both: Array
    first_only: Array
    neither: Array
    phi: Array
    missing: Array
    missing_phi: Array


def counts(labels: Labels, groups: Array, folds: Sequence[Fold]) -> Counts:
    """Count the labels [N, A] of groups [N], and the fewest in any fold's parts."""
    parts = [[labels[getattr(fold, part)].counts() for part in ("train", "val", "test")] for fold in folds]
    positive, negative = labels.counts()
    with_label = (by_group(labels.observed, groups) > 0).sum(axis=0)
    return Counts(positive, negative, (~labels.observed).sum(axis=0), with_label, np.min(parts, axis=0))


def together(labels: Labels) -> Together:
    """Co-occurrence of labels and of missing labels, [N, A] -> [A, A].

    phi = (n11 n00 - n10 n01) / sqrt(n1. n0. n.1 n.0) for the numbers of images of each combination.
    """
    positive, negative, observed = (x.astype(float) for x in (labels.positive, labels.negative, labels.observed))
    missing = 1 - observed

    def phi(yes: Array, no: Array) -> Array:
        both, only, neither = yes.T @ yes, yes.T @ no, no.T @ no
        margins = (both + only) * (only.T + neither) * (both + only.T) * (only + neither)
        return ratio(both * neither - only * only.T, np.sqrt(margins))

    def number(one: Array, other: Array) -> Array:
        return (one.T @ other).astype(int)

    return Together(
        both=number(positive, positive),
        first_only=number(positive, negative),
        neither=number(negative, negative),
        phi=phi(positive, negative),
        missing=number(missing, missing),
        missing_phi=phi(missing, observed),
    )


def conflicts(pairs: Together) -> list[tuple[str, int, int, float]]:
    """Combinations that never occur although chance would give at least `EXPECTED` of them.

    Returns:
        (kind, a, b, images expected): "exclusive", a and b are never both positive; "implies", a is never positive
        without b; "one of", never are both negative.
    """
    only, total = pairs.first_only, pairs.both + pairs.first_only + pairs.first_only.T + pairs.neither
    yes = pairs.both + only  # [a, b]: a is positive, b observed
    no = total - yes
    never = []
    for kind, number, expected, ordered in (
        ("exclusive", pairs.both, yes * yes.T, False),
        ("one of", pairs.neither, no * no.T, False),
        ("implies", only, yes * no.T, True),
    ):
        chance = ratio(expected, total)
        rows = [(a, b) for a, b in np.argwhere((number == 0) & (chance >= EXPECTED)) if ordered or a < b]
        never += [(kind, int(a), int(b), float(chance[a, b])) for a, b in rows if a != b]
    return never


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


@dataclass(frozen=True, eq=False)
class Files:
    """What the headers of the N image files say.

    Attributes:
        formats: JPEG, PNG, ... -> number of images.
        width, height: [N] in pixels, upright.
        misnamed: (row, format) whose name promises another format.
        transparent, grey: [N] bool.
    """

    formats: dict[str, int]
    width: Array
    height: Array
    misnamed: list[tuple[int, str]]
    transparent: Array
    grey: Array


@dataclass(frozen=True, eq=False)
class Audit:
    """Everything that `aimonk-bench audit` says of N used images.

    Attributes:
        name: of the experiment or suite.
        ids: [N] names in the label file.
        labels: [N, A].
        features: what made the features: the backbone's name.
        skipped: (name in the label file, reason) of images left out.
        content: [N] equal for equal bytes.
        part: [N] see `duplicates.tested_part`.
        scheme: of the split.
        groups: what is doubtful about them.
        dependence: every test whether missing labels depend on something.
        before: the association test before training.
    """

    name: str
    ids: tuple[str, ...]
    labels: Labels
    features: str
    skipped: list[tuple[str, str]]
    content: Array
    part: Array
    scheme: Split
    groups: GroupChecks
    files: Files
    counts: Counts
    together: Together
    dependence: list[Dependence]
    disagreement: Disagreement
    near: Near
    before: BeforeTraining
    suspects: Suspects

    @property
    def attributes(self) -> tuple[str, ...]:
        """[A] names."""
        return self.labels.attributes

    @property
    def folds(self) -> int:
        """Number of folds of the config's split; 1 is a hold-out."""
        return int(self.part.max()) + 1

    @property
    def adjusted(self) -> Array:
        """[A] p of the association test, adjusted by Holm."""
        return holm(self.before.p)

    @property
    def signal(self) -> Array:
        """[A] bool, see `has_signal`."""
        return has_signal(self.before)


def has_signal(before: BeforeTraining) -> Array:
    """[A] bool: p of the association test, adjusted by Holm, is at most the level of the verdict's first test."""
    return np.asarray(np.nan_to_num(holm(before.p), nan=1.0) <= ALPHA / 2)
