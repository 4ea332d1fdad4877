"""Samplers: the training rows that a head reads in one epoch.

    (labels, batch_size, steps, rng, **options) -> rows [T, B]

``labels`` are those of the n training rows, `Labels` of NumPy arrays [n, A]; the result are T x B row numbers, never a
short batch. NumPy, one head, one epoch. Only observed labels count; n1 and n0 are an attribute's observed positives and
negatives among these rows. A *stratum* is the rows in which one attribute is observed with one value; an empty stratum
is left out, and no weight is divided by its count of 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.training.entries import declares

Rows = NDArray[np.int64]
BLOCK_ROWS = 1024  # consecutive rows of the store: 1 MB of 512 features in float16
BUFFER_ROWS = 16 * BLOCK_ROWS  # per head


def uniform(labels: Labels, batch_size: int, steps: int, rng: np.random.Generator) -> Rows:
    """A permutation of the rows, filled up to T x B from its beginning."""
    return _evenly(len(labels), steps * batch_size, rng).reshape(steps, batch_size)


def blocks(labels: Labels, batch_size: int, steps: int, rng: np.random.Generator) -> Rows:
    """`uniform` for a feature store larger than memory: shuffled blocks of rows, through a shuffle buffer.

    A buffer of BUFFER_ROWS is filled with blocks of BLOCK_ROWS, shuffled and emptied, so that rows drawn one after the
    other are from a few blocks. Every pass has all rows once, and the last one is cut.
    """
    passes = [_through_buffer(len(labels), rng) for _ in range(-(-steps * batch_size // len(labels)))]
    return np.concatenate(passes)[: steps * batch_size].reshape(steps, batch_size)


def _through_buffer(count: int, rng: np.random.Generator) -> Rows:
    starts = rng.permutation(-(-count // BLOCK_ROWS)) * BLOCK_ROWS
    rows = np.concatenate([np.arange(start, min(start + BLOCK_ROWS, count)) for start in starts])
    for start in range(0, count, BUFFER_ROWS):
        rng.shuffle(rows[start : start + BUFFER_ROWS])
    return rows


def inverse_frequency(labels: Labels, batch_size: int, steps: int, rng: np.random.Generator) -> Rows:
    """A row's chance is the mean over its observed labels of 1/n, n the count of the label's attribute and value."""
    n1, n0 = labels.counts()
    weights = labels.positive / np.maximum(n1, 1) + labels.negative / np.maximum(n0, 1)
    return _draw(weights.sum(1) / np.maximum(labels.observed.sum(1), 1), batch_size, steps, rng)


def repeat_factor(
    labels: Labels, batch_size: int, steps: int, rng: np.random.Generator, *, t: Annotated[float, Gt(0), Le(1)] = 0.3
) -> Rows:
    """A row's chance is max(1, sqrt(t/f)) of its rarest positive, f = n1/(n1+n0) (LVIS, arXiv 1908.03195)."""
    n1, n0 = labels.counts()
    frequency = n1 / np.maximum(n1 + n0, 1)
    repeats = np.maximum(1.0, np.sqrt(t / np.where(frequency > 0, frequency, 1.0)))
    return _draw(np.where(labels.positive, repeats, 1.0).max(1, initial=1.0), batch_size, steps, rng)


def class_aware(labels: Labels, batch_size: int, steps: int, rng: np.random.Generator) -> Rows:
    """The attributes in turn, an observed positive of each, from shuffled lists (arXiv 1512.05830)."""
    strata = _strata(labels.positive)
    if not strata:
        raise RunFailed("sampler class_aware: no attribute has an observed positive among the training rows")
    rows = np.empty(steps * batch_size, np.int64)
    for start, stratum in enumerate(rng.permutation(len(strata))):
        turns = rows[start :: len(strata)]
        turns[:] = strata[stratum][_evenly(len(strata[stratum]), len(turns), rng)]
    return rows.reshape(steps, batch_size)


def balanced(labels: Labels, batch_size: int, steps: int, rng: np.random.Generator) -> Rows:
    """Each stratum (attribute and value) with equal chance, then each of its rows with equal chance."""
    strata = _strata(labels.negative, labels.positive)
    if not strata:
        raise RunFailed("sampler balanced: no label is observed among the training rows")
    sizes = np.array([len(rows) for rows in strata])
    chosen = rng.integers(len(strata), size=(steps, batch_size))
    members = rng.integers(sizes[chosen])
    rows: Rows = np.concatenate(strata)[(np.cumsum(sizes) - sizes)[chosen] + members]
    return rows


def _check_coverage(c: int, attributes: int, batch_size: int) -> None:
    if 2 * c * attributes > batch_size:
        raise UserError(
            f"sampler: coverage with c {c} needs 2 x {c} x {attributes} attributes = {2 * c * attributes} rows "
            f"in a batch of {batch_size}: lower c, raise train.batch_size or name fewer data.attributes"
        )


@declares(check=_check_coverage)
def coverage(
    labels: Labels, batch_size: int, steps: int, rng: np.random.Generator, *, c: Annotated[int, Ge(1)] = 1
) -> Rows:
    """Every batch holds c observed positives and c negatives of every attribute that has them; the rest is uniform."""
    _check_coverage(c, labels.shape[1], batch_size)
    strata = _strata(labels.negative, labels.positive)
    parts = [rows[_evenly(len(rows), steps * c, rng)].reshape(steps, c) for rows in strata]
    rest = batch_size - c * len(strata)
    return np.hstack([*parts, _evenly(len(labels), steps * rest, rng).reshape(steps, rest)])


def _evenly(rows: int, count: int, rng: np.random.Generator) -> Rows:
    """``count`` row numbers below ``rows``, all equally often up to one.

    Permutations, then the beginning of the first: with a single permutation no batch has a row twice.
    """
    if count < rows:
        return rng.choice(rows, count, replace=False)
    permutations = np.concatenate([rng.permutation(rows) for _ in range(count // rows)])
    return np.resize(permutations, count)


def _draw(weights: np.ndarray, batch_size: int, steps: int, rng: np.random.Generator) -> Rows:
    """Draw rows in proportion to their weights, with replacement; without any observed label uniformly."""
    total = weights.sum()
    return rng.choice(len(weights), size=(steps, batch_size), p=weights / total if total > 0 else None)


def _strata(*members: NDArray[np.bool_]) -> list[Rows]:
    """The rows of the strata that have any, attribute by attribute; ``members`` [n, A] are the rows of each value."""
    columns = np.stack(members, -1).reshape(len(members[0]), -1).T
    return [np.flatnonzero(column) for column in columns if column.any()]


def check_order(order: str, sampler: str) -> None:
    """Refuse, before anything is read, blocks of the store for a sampler that draws single rows.

    Raises:
        UserError: blocks with a sampler other than uniform.
    """
    if order == "blocks" and sampler != "uniform":
        raise UserError(
            f"train.order: found blocks with sampler {sampler}, which draws single rows of the store: expected "
            "order: shuffle, or sampler: uniform"
        )


SAMPLERS: dict[str, Callable[..., Rows]] = {
    "uniform": uniform,
    "inverse_frequency": inverse_frequency,
    "repeat_factor": repeat_factor,
    "class_aware": class_aware,
    "balanced": balanced,
    "coverage": coverage,
}
