"""Sums over random subsets of many rows, for permutation tests that would take too long permutation by permutation.

P permutations of n labels take n P steps: 1,999 of a million rows an hour for one attribute. A statistic that depends
on the labels only by sums over the positive rows needs these sums alone.
"""

from __future__ import annotations

import numpy as np

from aimonk_bench.evaluation.numbers import Array

COMMON = 500  # rows of a subset, and outside it, from which its sums are taken as normal
_ROWS_AT_ONCE = 1 << 16  # whose products are summed in the type of the values
_DRAWS_AT_ONCE = 1 << 13
_ROUNDING = 1e-10  # a variance so small, relative to the largest, is nothing


def sums(values: Array, size: int, draws: int, rng: np.random.Generator) -> Array:
    """Sums of the values [n] over random subsets of so many of the n rows: [draws].

    Subsets of under `COMMON` rows, or of all but so many, are drawn. The sums of others come from the normal
    distribution with the mean and the variance that all subsets have, to which they converge (Hajek 1960, Limiting
    distributions in simple random sampling from a finite population). The p-values of `association.score_test` then
    are a little too large: of 512 features, .01 stands for .007 at 200 rows, and the difference shrinks with the rows.
    """
    return squares_and_sums(values[:, None], size, draws, rng)[1]


def squares_and_sums(values: Array, size: int, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """`sums` of the last column of the values [n, C], and the squared length of those of the others: [draws] each.

    The sums of the others are taken from their mean over all subsets. In the axes of their covariance they are
    independent, so that a draw takes C steps.
    """
    rows, mean = len(values), values.mean(axis=0, dtype=np.float64)
    if min(size, rows - size) < COMMON:
        away = _drawn(values, size, draws, rng) - size * mean
        return np.square(away[:, :-1]).sum(axis=1), away[:, -1] + size * mean[-1]
    covariance = _scatter(values, mean) * (size * (rows - size) / (rows * (rows - 1)))
    variances, axes = np.linalg.eigh(covariance[:-1, :-1])
    variances = np.maximum(variances, 0)
    some = variances > _ROUNDING * variances.max(initial=0)
    shared = axes.T @ covariance[:-1, -1]  # of the last column, along each axis
    along = np.divide(shared, np.sqrt(variances), out=np.zeros_like(shared), where=some)
    rest = np.sqrt(max(covariance[-1, -1] - along @ along, 0.0))
    squares, last = np.empty(draws), np.empty(draws)
    for start in range(0, draws, _DRAWS_AT_ONCE):
        block = slice(start, min(start + _DRAWS_AT_ONCE, draws))
        normal = rng.standard_normal((block.stop - start, len(mean)))
        last[block] = normal[:, :-1] @ along + rest * normal[:, -1] + size * mean[-1]
        squares[block] = np.square(normal[:, :-1]) @ variances
    return squares, last


def _drawn(values: Array, size: int, draws: int, rng: np.random.Generator) -> Array:
    """The sums of all columns over subsets that are drawn row by row, [draws, C] float64."""
    rows, fewer = len(values), min(size, len(values) - size)
    chosen = (rng.choice(rows, fewer, replace=False, shuffle=False) for _ in range(draws))
    of_subsets = np.array([values[places].sum(axis=0) for places in chosen], np.float64)  # few rows are exact enough
    return of_subsets if fewer == size else values.sum(axis=0, dtype=np.float64) - of_subsets


def _scatter(values: Array, mean: Array) -> Array:
    """Sums of squares and products [C, C] about the mean, float64."""
    scatter = np.zeros((len(mean), len(mean)))
    for start in range(0, len(values), _ROWS_AT_ONCE):
        away = values[start : start + _ROWS_AT_ONCE] - mean.astype(values.dtype)
        scatter += away.T @ away
    return scatter
