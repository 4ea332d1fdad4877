"""Sums over groups of rows that a draw picks: one matrix product, the same draws for every run of the same groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.numbers import Array

DRAWS = 2000
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
    """Sums over the groups that draw a positive label, each with its own probability [G]: [G, C] -> [draws, C]."""

    def labels(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        return rng.random(shape, dtype=np.float32) < probability

    return _products(columns, draws, seed, labels)


def swaps(differences: Array, draws: int, seed: int) -> Array:
    """Sums over the groups that a fair coin picks: [G, C] -> [draws, C]."""

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
