"""How many labels a data set has, alone and in pairs of attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.metrics import ratio
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.resampling import by_group

if TYPE_CHECKING:
    from aimonk_bench.data.splits import Fold


EXPECTED = 5.0  # images expected of a combination of labels, below which its absence is no fact worth telling


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
