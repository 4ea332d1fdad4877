"""Sums over groups of rows that a draw picks: one matrix product, the same draws for every run of the same groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.numbers import Array

DRAWS = 2000
LARGE = 5000  # groups, beyond which equal ones are drawn together, and labels are not permuted one by one
_BLOCK_BYTES = 64 << 20  # of draws held at once


def by_group(rows: npt.ArrayLike, groups: Array) -> Array:
    """Sums of the rows of each group: [R, ...], [R] -> [G, ...] float64, groups in ascending order."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
    ordered = np.asarray(rows)[order].astype(np.float64)
    return ordered if len(starts) == len(order) else np.add.reduceat(ordered, starts, axis=0)


def majority(labels: Labels, groups: Array) -> Labels:
    """The majority of the observed labels of each group, [R, A] -> [G, A]; missing where they tie. Groups ascend."""
    positive, observed = by_group(labels.positive, groups), by_group(labels.observed, groups)
    return Labels.of(2 * positive > observed, 2 * positive != observed, labels.attributes)


def labellings(columns: Array, probability: Array, draws: int, seed: int) -> Array:
    """Sums over the groups that draw a positive label, each with its own probability [G]: [G, C] -> [draws, C].

    Beyond `LARGE` groups, how many of equal groups draw a positive label is one binomial draw: the same distribution,
    other random numbers.
    """
    if len(columns) > LARGE:
        return _binomial(columns, probability, draws, np.random.default_rng([seed, 0]))

    def labels(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        return rng.random(shape, dtype=np.float32) < probability

    return _products(columns, draws, seed, labels)


def _binomial(columns: Array, probability: Array, draws: int, rng: np.random.Generator) -> Array:
    """`labellings` by a binomial draw for all groups of equal columns and probabilities."""
    kind = np.zeros(len(columns), np.int64)
    for values in (*columns.T, probability):
        _, level = np.unique(values, return_inverse=True)
        kind = np.unique(kind * (level.max() + 1) + level, return_inverse=True)[1]
    _, first, sizes = np.unique(kind, return_index=True, return_counts=True)
    total = np.zeros((draws, columns.shape[1]))
    for row, size in zip(first, sizes.tolist(), strict=True):  # one call draws faster than one for all sizes
        total += rng.binomial(size, probability[row], draws)[:, None] * columns[row]
    return total


def exchanged_sums(differences: Array, draws: int, seed: int) -> Array:
    """Sums over the groups that a random permutation exchanges, each with probability 1/2: [G, C] -> [draws, C]."""

    def coins(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        return rng.integers(2, size=shape, dtype=np.int8)

    return _products(differences, draws, seed, coins)


def _products(
    columns: Array, draws: int, seed: int, draw: Callable[[np.random.Generator, tuple[int, int]], Array]
) -> Array:
    rng = np.random.default_rng([seed, 0])
    groups = len(columns)
    block = max(1, _BLOCK_BYTES // (8 * groups))
    right = columns.astype(np.float32)
    sizes = [min(block, draws - start) for start in range(0, draws, block)]
    return np.concatenate([draw(rng, (size, groups)).astype(np.float32) @ right for size in sizes])
