"""Samplers: which training rows a head sees in one epoch.

``(targets [n, A], observed [n, A], batch_size, steps, rng, **options) -> rows [T, B]``: indices into the n rows,
exactly T x B of them, never a short batch. NumPy, one head, one epoch. Only observed labels count; n1 and n0 are an
attribute's observed positives and negatives among these rows. A *stratum* is the rows in which one attribute is
observed with one value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from aimonk_bench import registry
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.registry import Spec

Rows = NDArray[np.int64]
BLOCK_ROWS = 1024  # read one after another: 1 MB of 512 features in float16
BUFFER_ROWS = 16 * BLOCK_ROWS  # of each head's own


def uniform(targets: np.ndarray, observed: np.ndarray, batch_size: int, steps: int, rng: np.random.Generator) -> Rows:
    """A permutation of the rows, topped up from its beginning."""
    return _deal(len(targets), steps * batch_size, rng).reshape(steps, batch_size)


def blocks(targets: np.ndarray, observed: np.ndarray, batch_size: int, steps: int, rng: np.random.Generator) -> Rows:
    """`uniform` for rows as a store beyond memory has them: shuffled blocks of BLOCK_ROWS, through a shuffle buffer.

    A buffer of BUFFER_ROWS is filled block by block, shuffled and emptied, so that as many rows in a row come from a
    few blocks; every pass has all rows once, and the last one is cut.
    """
    passes = [_through_buffer(len(targets), rng) for _ in range(-(-steps * batch_size // len(targets)))]
    return np.concatenate(passes)[: steps * batch_size].reshape(steps, batch_size)


def _through_buffer(count: int, rng: np.random.Generator) -> Rows:
    starts = rng.permutation(-(-count // BLOCK_ROWS)) * BLOCK_ROWS
    rows = np.concatenate([np.arange(start, min(start + BLOCK_ROWS, count)) for start in starts])
    for start in range(0, count, BUFFER_ROWS):
        rng.shuffle(rows[start : start + BUFFER_ROWS])
    return rows


def inverse_frequency(
    targets: np.ndarray, observed: np.ndarray, batch_size: int, steps: int, rng: np.random.Generator
) -> Rows:
    """A row's chance is the mean over its observed cells of 1/n of the cell's attribute and value."""
    positive, negative = observed & (targets == 1), observed & (targets == 0)
    rarity = positive / np.maximum(positive.sum(0), 1) + negative / np.maximum(negative.sum(0), 1)
    return _draw(rarity.sum(1) / np.maximum(observed.sum(1), 1), batch_size, steps, rng)


def repeat_factor(
    targets: np.ndarray,
    observed: np.ndarray,
    batch_size: int,
    steps: int,
    rng: np.random.Generator,
    *,
    t: Annotated[float, Gt(0), Le(1)] = 0.3,
) -> Rows:
    """A row's chance is its rarest positive's max(1, sqrt(t/f)), f = n1/(n1+n0) (LVIS, arXiv 1908.03195)."""
    positive = observed & (targets == 1)
    frequency = positive.sum(0) / np.maximum(observed.sum(0), 1)
    repeats = np.maximum(1.0, np.sqrt(t / np.where(frequency > 0, frequency, 1.0)))
    return _draw(np.where(positive, repeats, 1.0).max(1, initial=1.0), batch_size, steps, rng)


def class_aware(
    targets: np.ndarray, observed: np.ndarray, batch_size: int, steps: int, rng: np.random.Generator
) -> Rows:
    """The attributes in turn, an observed positive of each, dealt from shuffled lists (arXiv 1512.05830)."""
    strata = [rows for *_, rows in _strata(targets, observed, STRATA["class_aware"]) if len(rows)]
    if not strata:
        raise RunFailed("sampler class_aware: no attribute has an observed positive among the training rows")
    rows = np.empty(steps * batch_size, np.int64)
    for start, stratum in enumerate(rng.permutation(len(strata))):
        turns = rows[start :: len(strata)]
        turns[:] = strata[stratum][_deal(len(strata[stratum]), len(turns), rng)]
    return rows.reshape(steps, batch_size)


def balanced(targets: np.ndarray, observed: np.ndarray, batch_size: int, steps: int, rng: np.random.Generator) -> Rows:
    """An equal chance for every attribute and value, then for every row that has it."""
    strata = [rows for *_, rows in _strata(targets, observed, STRATA["balanced"]) if len(rows)]
    if not strata:
        raise RunFailed("sampler balanced: no label is observed among the training rows")
    sizes = np.array([len(rows) for rows in strata])
    chosen = rng.integers(len(strata), size=(steps, batch_size))
    members = rng.integers(sizes[chosen])
    rows: Rows = np.concatenate(strata)[(np.cumsum(sizes) - sizes)[chosen] + members]
    return rows


def coverage(
    targets: np.ndarray,
    observed: np.ndarray,
    batch_size: int,
    steps: int,
    rng: np.random.Generator,
    *,
    c: Annotated[int, Ge(1)] = 1,
) -> Rows:
    """Every batch holds c observed positives and c negatives of every attribute that has them; the rest is uniform."""
    _fits(c, targets.shape[1], batch_size)
    strata = [rows for *_, rows in _strata(targets, observed, STRATA["coverage"]) if len(rows)]
    parts = [rows[_deal(len(rows), steps * c, rng)].reshape(steps, c) for rows in strata]
    rest = batch_size - c * len(strata)
    return np.hstack([*parts, _deal(len(targets), steps * rest, rng).reshape(steps, rest)])


def _deal(rows: int, count: int, rng: np.random.Generator) -> Rows:
    """``count`` numbers below ``rows``, each as often as the others up to one.

    Permutations, and the beginning of the first again: after a single one, no batch it fills has a row twice.
    """
    if count < rows:
        return rng.choice(rows, count, replace=False)
    dealt, numbers = np.empty(count, np.int64), np.arange(rows)
    whole = count - count % rows
    for start in range(0, whole, rows):
        rng.permuted(numbers, out=dealt[start : start + rows])  # a fifth quicker than `permutation`, whose order it is
    dealt[whole:] = dealt[: count - whole]
    return dealt


def _draw(weights: np.ndarray, batch_size: int, steps: int, rng: np.random.Generator) -> Rows:
    """Rows in proportion to their weights, with replacement; a split without any observed label is drawn uniformly."""
    total = weights.sum()
    return rng.choice(len(weights), size=(steps, batch_size), p=weights / total if total > 0 else None)


def _strata(targets: np.ndarray, observed: np.ndarray, values: tuple[int, ...]) -> Iterator[tuple[int, int, Rows]]:
    """(attribute, value, rows in which the attribute is observed with that value)."""
    for attribute in range(targets.shape[1]):
        for value in values:
            yield attribute, value, np.flatnonzero(observed[:, attribute] & (targets[:, attribute] == value))


def left_out(sampler: str, targets: np.ndarray, observed: np.ndarray) -> list[tuple[int, int]]:
    """(attribute, value) of the strata from which this sampler should draw but which have no row."""
    return [
        (attribute, value)
        for attribute, value, rows in _strata(targets, observed, STRATA.get(sampler, ()))
        if not len(rows)
    ]


def _fits(c: int, attributes: int, batch_size: int) -> None:
    if 2 * c * attributes > batch_size:
        raise UserError(
            f"sampler: coverage with c {c} asks for 2 x {c} x {attributes} attributes = {2 * c * attributes} rows "
            f"in a batch of {batch_size}: lower c, raise train.batch_size or name fewer data.attributes"
        )


def check_sampler(spec: Spec, attributes: int, batch_size: int) -> None:
    """Refuse, before anything is read, a sampler whose demands do not fit into a batch.

    Raises:
        UserError: coverage with 2 c A > batch size.
    """
    if spec.name == "coverage":
        _fits(registry.build("sampler", SAMPLERS, spec).keywords["c"], attributes, batch_size)


def check_order(order: str, sampler: Spec) -> None:
    """Refuse, before anything is read, blocks of the store for a sampler that asks for rows from anywhere.

    Raises:
        UserError: blocks with a sampler other than uniform.
    """
    if order == "blocks" and sampler.name != "uniform":
        raise UserError(
            f"train.order: found blocks with sampler {sampler.name}, which draws rows from anywhere: expected "
            "order: shuffle, or sampler: uniform"
        )


STRATA = {"class_aware": (1,), "balanced": (0, 1), "coverage": (0, 1)}  # the values a sampler draws from by name

SAMPLERS: dict[str, Callable[..., Rows]] = {
    "uniform": uniform,
    "inverse_frequency": inverse_frequency,
    "repeat_factor": repeat_factor,
    "class_aware": class_aware,
    "balanced": balanced,
    "coverage": coverage,
}
