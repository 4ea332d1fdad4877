"""Exact and near duplicates: whether their labels agree, and whether the split separates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.evaluation.metrics import ratio
from aimonk_bench.evaluation.numbers import Array

NEAR = 0.9  # cosine; see `near_duplicates` for the duplicates that it finds
LISTED_PAIRS = 1000  # of near duplicates; the others are counted
FEWEST_PAIRS = 20  # of exact duplicates, below which no rate of disagreement is claimed
_BLOCK_BYTES = 64 << 20  # cosines held at once


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
    """Pairs of images of different bytes that look alike, most alike first.

    Attributes:
        first, second: [P] rows, the `LISTED_PAIRS` most alike.
        cosine: [P].
        total: of all pairs.
        cut: of all pairs, those of which a fold tests exactly one image.
    """

    first: Array
    second: Array
    cosine: Array
    total: int
    cut: int


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


def near_duplicates(features: Array, content: Array, part: Array) -> Near:
    """Pairs of images of different bytes whose standardised features have a cosine of at least `NEAR`.

    Features are centred and scaled first: unscaled ones, never negative, all have high cosines. On 972 product
    photographs the 14 pairs found show the same photograph, or one garment in several prints. Of altered copies of
    every twentieth of them it finds about nine in ten saved again as JPEG of quality 40, half of those of half the
    size, and one in ten with 5 % cut off on each side. 0.85 would find more copies, but on 2,624 solar cells 2,247
    pairs instead of 660, most of which only look alike.

    Args:
        features: [N, D].
        content: [N]; of equal bytes the first image stands for all.
        part: [N] see `tested_part`.

    Memory: the features once more, and blocks of cosines of 64 MB.
    """
    row = np.sort(np.unique(content, return_index=True)[1])
    x = features[row] - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    x = x / np.maximum(np.sqrt(np.einsum("nd,nd->d", x, x) / len(x)), np.finfo(np.float32).tiny)
    x = x / np.maximum(np.sqrt(np.einsum("nd,nd->n", x, x)), np.finfo(np.float32).tiny)[:, None]
    step = max(1, _BLOCK_BYTES // (4 * len(x)))
    nearest, total, cut = np.zeros((3, 0)), 0, 0
    for start in range(0, len(x), step):
        cosine = np.triu(x[start : start + step] @ x[start:].T, k=1)
        one, other = np.nonzero(cosine >= NEAR)
        pairs = np.stack([row[one + start], row[other + start], cosine[one, other]])
        total += len(one)
        cut += int((part[row[one + start]] != part[row[other + start]]).sum())
        nearest = np.concatenate([nearest, pairs], axis=1)
        nearest = nearest[:, np.argsort(-nearest[2], kind="stable")[:LISTED_PAIRS]]
    return Near(nearest[0].astype(int), nearest[1].astype(int), nearest[2], total, cut)
