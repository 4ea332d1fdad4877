"""Exact and near duplicates: whether their labels agree, and whether the split separates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.data.near_duplicates import Hashes, close_pairs
from aimonk_bench.data.splits import Fold
from aimonk_bench.evaluation.metrics import ratio
from aimonk_bench.evaluation.numbers import Array

LISTED_PAIRS = 1000  # of near duplicates; the others are counted
FEWEST_PAIRS = 20  # of exact duplicates, below which no rate of disagreement is claimed


@dataclass(frozen=True, eq=False)
class Disagreement:
    """How often exact duplicates have different labels, [A] each.

    Attributes:
        pairs: of observed labels, each label in one pair only, so that pairs are independent.
        differing: such pairs.
        low, high: 95 % interval of the share (Clopper and Pearson 1934); NaN under `FEWEST_PAIRS`.
        chance: the share that unrelated labels would have, 2 pi (1 - pi).
    """

    pairs: Array
    differing: Array
    low: Array
    high: Array
    chance: Array


@dataclass(frozen=True, eq=False)
class Near:
    """Pairs of images of different bytes that look alike; those that a split cuts first, of them the most alike.

    Attributes:
        first, second: [P] rows of the first `LISTED_PAIRS`.
        distance: [P] bits in which their perceptual hashes differ.
        total: of all pairs.
        cut: of all pairs, those of which a fold tests exactly one image.
        alike: [A] of these, the pairs of which both images have the same observed label.
    """

    first: Array
    second: Array
    distance: Array
    total: int
    cut: int
    alike: Array


def tested_part(folds: Sequence[Fold], rows: int) -> Array:
    """[N] the fold that tests each image; -1 for one that none does. A split cuts the pairs whose numbers differ."""
    part = np.full(rows, -1)
    for number, fold in enumerate(folds):
        part[fold.test] = number
    return part


def cut_chance(part: Array) -> float:
    """How probably a random split by image into parts of these sizes would cut a pair: 1 - sum s(s-1) / N(N-1)."""
    sizes = np.unique(part, return_counts=True)[1]
    return float(1 - (sizes * (sizes - 1)).sum() / (len(part) * (len(part) - 1)))


def copies(content: Array) -> list[Array]:
    """The rows of each content [N] that occurs more than once."""
    _, member, size = np.unique(content, return_inverse=True, return_counts=True)
    return [np.flatnonzero(member == number) for number in np.flatnonzero(size > 1)]


def disagreement(content: Array, labels: Labels) -> Disagreement:
    """How often images with equal bytes have different labels.

    A label wrong with probability e differs from that of its copy with probability 2 e (1 - e), so that a share d of
    differing pairs means an error of at least d / 2.

    Args:
        content: [N] equal for equal bytes.
        labels: [N, A].
    """
    from scipy.stats import binomtest

    attributes = labels.shape[1]
    pairs, differing = np.zeros((2, attributes), int)
    low, high = np.full((2, attributes), np.nan)
    for a in range(attributes):
        rows = np.flatnonzero(labels.observed[:, a])
        rows = rows[np.argsort(content[rows], kind="stable")]
        _, start, size = np.unique(content[rows], return_index=True, return_counts=True)
        place = np.arange(len(rows)) - np.repeat(start, size)
        second = np.flatnonzero(place % 2 == 1)  # of a pair with the row before
        positive = labels.positive[rows, a]
        pairs[a], differing[a] = len(second), (positive[second] != positive[second - 1]).sum()
        if pairs[a] >= FEWEST_PAIRS:
            low[a], high[a] = binomtest(int(differing[a]), int(pairs[a])).proportion_ci(0.95, method="exact")
    prevalence = ratio(labels.positive.sum(axis=0), labels.observed.sum(axis=0))
    return Disagreement(pairs, differing, low, high, 2 * prevalence * (1 - prevalence))


def near_duplicates(hashes: Hashes, content: Array, part: Array, labels: Labels) -> Near:
    """Pairs of images of different bytes whose perceptual hashes differ in at most `MOST_BITS` bits.

    Args:
        hashes: [N].
        content: [N]; of equal bytes the first image stands for all.
        part: [N] see `tested_part`.
        labels: [N, A].
    """
    row = np.sort(np.unique(content, return_index=True)[1])
    row = row[hashes.usable[row]]
    listed, total, cut = np.zeros((4, 0), np.intp), 0, 0
    alike = np.zeros(labels.shape[1], np.int64)
    for first, second, distance in close_pairs(hashes.bits[row]):
        one, other = row[first], row[second]
        separated = part[one] != part[other]
        total += len(one)
        cut += int(separated.sum())
        states = [(labels.positive[rows[separated]], labels.observed[rows[separated]]) for rows in (one, other)]
        (positive, observed), (its_positive, its_observed) = states
        alike += (observed & its_observed & (positive == its_positive)).sum(axis=0)
        listed = np.concatenate([listed, np.stack([one, other, distance, separated])], axis=1)
        listed = listed[:, np.lexsort((listed[1], listed[0], listed[2], -listed[3]))[:LISTED_PAIRS]]
    return Near(listed[0], listed[1], listed[2], total, cut, alike)
