"""Sums over random subsets of many rows, for permutation tests that would take too long permutation by permutation.

P permutations of n labels take n P steps: 1,999 of a million rows an hour for one attribute. A statistic that depends
on the labels only by sums over the positive rows needs these sums alone.
"""

from __future__ import annotations

import numpy as np

from aimonk_bench.evaluation.numbers import Array

COMMON = 500  # rows of a subset from which its sums are taken as normal
_BLOCK = 1 << 16  # rows whose products are summed in the type of the values


def sums(values: Array, size: int, draws: int, rng: np.random.Generator) -> Array:
    """Sums of the values [n, C] over random subsets of so many of the n rows: [draws, C] float64.

    Subsets of under `COMMON` rows, or of all but so many, are drawn. The sums of others come from the normal
    distribution with the mean and the covariance that all subsets have, to which they converge (Hajek 1960, Limiting
    distributions in simple random sampling from a finite population). At 500 rows, p-values of `score_test` differ from
    those of permutations by less than the permutations do from each other.
    """
    rows = len(values)
    if 2 * size > rows:
        return np.asarray(values.sum(axis=0, dtype=np.float64) - sums(values, rows - size, draws, rng))
    if size < COMMON:
        chosen = (rng.choice(rows, size, replace=False, shuffle=False) for _ in range(draws))
        return np.array([values[places].sum(axis=0, dtype=np.float64) for places in chosen])
    mean = values.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((len(mean), len(mean)))
    for start in range(0, rows, _BLOCK):
        away = values[start : start + _BLOCK] - mean.astype(values.dtype)
        scatter += away.T @ away
    variances, axes = np.linalg.eigh(scatter * (size * (rows - size) / (rows * (rows - 1))))
    root = axes * np.sqrt(np.maximum(variances, 0))
    return np.asarray(rng.standard_normal((draws, len(mean))) @ root.T + size * mean)
