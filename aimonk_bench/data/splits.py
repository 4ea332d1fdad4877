"""Splits into training, validation and test rows, stratified by labels and grouped: no split cuts a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aimonk_bench.config.fields import Holdout, KFold
from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError

Rows = NDArray[np.intp]
PARTS = ("training", "validation", "test")


@dataclass(frozen=True, eq=False)
class Fold:
    """Sorted row numbers of the three parts; together they are all N rows."""

    train: Rows
    val: Rows
    test: Rows


def components(sha256: Sequence[str], groups: Sequence[str | None] | None) -> NDArray[np.int32]:
    """Duplicate groups: the connected components of "same bytes" or "same group value", numbered by first appearance.

    Args:
        sha256: [N] hash of each image.
        groups: [N] group values; None connects an image to nothing.

    Returns:
        [N] number of the component of each image.

    >>> components(["a", "b", "a", "c"], ["x", "y", "y", None]).tolist()
    [0, 0, 0, 1]
    """
    import pandas as pd
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(sha256)
    edges = []
    for values in (sha256, groups or ()):
        first: dict[str, int] = {}
        edges += [row if value is None else first.setdefault(value, row) for row, value in enumerate(values)]
    rows = np.resize(np.arange(count), len(edges))
    graph = coo_array((np.ones(len(edges), bool), (rows, np.array(edges, np.intp))), shape=(count, count))
    component: NDArray[np.intp] = pd.factorize(connected_components(graph, directed=False)[1])[0]
    return component.astype(np.int32)


def check(scheme: Holdout | KFold, groups: int) -> None:
    """Refuse a scheme that no labels could satisfy; `split` refuses also what these labels leave no part of.

    Args:
        groups: the number of groups.

    Raises:
        UserError: fewer groups than folds, or a part that would be empty.
    """
    left = groups
    if isinstance(scheme, KFold):
        if groups < scheme.folds:
            raise UserError(
                f"split.folds: found {scheme.folds}, expected at most {groups}: "
                "that is the number of groups of images (equal bytes, or equal group values)"
            )
        left -= -(-groups // scheme.folds)  # the largest test fold
    shares = _shares(scheme)
    _refuse_empty([size > 0 for size in _sizes(shares, left, shares)], groups)


def _shares(scheme: Holdout | KFold) -> NDArray[np.float64]:
    """The shares of PARTS, [P], in a hold-out; with folds those of the first two in what the test fold leaves."""
    shares = [1 - scheme.val, scheme.val]
    return np.array([shares[0] - scheme.test, scheme.val, scheme.test] if isinstance(scheme, Holdout) else shares)


def _refuse_empty(filled: Sequence[bool], groups: int) -> None:
    for part, name in zip(filled, PARTS, strict=False):
        if not part:
            raise UserError(f"split: no image is left for {name}: {groups} groups of images are too few")


def split(scheme: Holdout | KFold, labels: Labels, groups: NDArray[np.integer]) -> list[Fold]:
    """Split whole groups into training, validation and test rows.

    Each group is represented by its first row, each attribute by its three states (positive, negative, missing);
    iterative stratification (Sechidis et al. 2011) assigns the groups to the parts. Sizes are exact to one group: if
    groups differ in size, the numbers of images are right on average only. Randomness comes from ``scheme.seed`` alone.

    Args:
        scheme: a hold-out (one fold; fractions of everything) or k folds (``val`` of what the test fold leaves).
        labels: [N, A].
        groups: [N] component of each row.

    Raises:
        UserError: fewer groups than folds, or a part that would be empty.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    rows = labels[first]
    states = np.concatenate([rows.positive, rows.negative, ~rows.observed], axis=1)
    states = states[:, states.any(axis=0) & ~states.all(axis=0)]
    check(scheme, len(first))
    if isinstance(scheme, Holdout):
        parts = _stratified(states, _shares(scheme), [scheme.seed])[None]  # [F, G], numbers in PARTS
    else:
        fold_of = _stratified(states, np.full(scheme.folds, 1 / scheme.folds), [scheme.seed])
        parts = np.full((scheme.folds, len(first)), 2)
        for fold in range(scheme.folds):
            left = fold_of != fold
            # [s, 0] would be the same seed as [s]
            parts[fold, left] = _stratified(states[left], _shares(scheme), [scheme.seed, 1 + fold])
    _refuse_empty([bool((parts == part).any(axis=1).all()) for part in range(3)], len(first))
    return [Fold(*(np.flatnonzero(row == part) for part in range(3))) for row in parts[:, member]]


def _stratified(states: NDArray[np.bool_], shares: NDArray[np.float64], seed: Sequence[int]) -> NDArray[np.intp]:
    """Assign G groups with states [G, C] to parts of these shares [P]: the part of each group, [G]."""
    from iterstrat.ml_stratifiers import IterativeStratification  # imports scikit-learn: about a second

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(states))
    shuffled: NDArray[np.intp] = IterativeStratification(labels=states[order], r=shares, random_state=rng)
    part = np.empty_like(shuffled)
    part[order] = _resized(shuffled, states[order], shares)
    return part


def _sizes(shares: NDArray[np.float64], items: int, rank: NDArray[Any]) -> NDArray[np.intp]:
    """Whole numbers [P] that sum to ``items``: largest remainders are rounded up, of equal ones the lowest rank."""
    exact = np.round(shares * items, 6)  # 0.29 * 100 is 28.999...
    size = np.floor(exact).astype(np.intp)
    size[np.lexsort((rank, size - exact))[: items - size.sum()]] += 1
    return size


def _resized(part: NDArray[np.intp], states: NDArray[np.bool_], shares: NDArray[np.float64]) -> NDArray[np.intp]:
    """Make the parts as large as their shares say; the greedy stratification misses by up to four groups of sixty.

    Groups move one by one, each time the one that keeps the squared excess of states, summed over parts, smallest.
    """
    part = part.copy()
    count = np.bincount(part, minlength=len(shares))
    size = _sizes(shares, len(part), -count)
    members = np.arange(len(shares))[:, None] == part
    excess = members.astype(np.int64) @ states - np.outer(shares, states.sum(axis=0))
    while (surplus := count - size).any():
        source, target = surplus.argmax(), surplus.argmin()
        items = np.flatnonzero(part == source)
        item = items[(states[items] @ (excess[target] - excess[source] + 1)).argmin()]
        part[item] = target
        for changed, sign in ((source, -1), (target, 1)):
            count[changed] += sign
            excess[changed] += sign * states[item]
    return part
