"""Splits: stratified over what is known and what is missing, never through a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aimonk_bench.config.schema import Holdout, KFold
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
    """Connected components of "same bytes" or "same group value": [N], numbered by first appearance.

    A group value of None connects a picture to nothing.

    >>> components(["a", "b", "a", "c"], ["x", "y", "y", None]).tolist()
    [0, 0, 0, 1]
    """
    root = list(range(len(sha256)))

    def find(row: int) -> int:
        while root[row] != row:
            root[row] = row = root[root[row]]
        return row

    for values in (sha256, groups or ()):
        first: dict[str, int] = {}
        for row, value in enumerate(values):
            if value is not None:
                one, other = find(row), find(first.setdefault(value, row))
                root[max(one, other)] = min(one, other)  # so that a root is the first row of its component
    return np.unique([find(row) for row in range(len(root))], return_inverse=True)[1].astype(np.int32)


def check(config: Holdout | KFold, groups: int) -> None:
    """Refuse what cannot be split whatever the labels are; `split` refuses, besides, what they leave no part of.

    Args:
        groups: how many there are.

    Raises:
        UserError: fewer groups than folds, or a part that would be empty.
    """
    left = groups
    if isinstance(config, KFold):
        if groups < config.folds:
            raise UserError(
                f"split.folds: found {config.folds}, expected at most {groups}: "
                "that is how many groups of pictures there are (equal bytes, or equal group values)"
            )
        left -= -(-groups // config.folds)  # by the largest test fold
    shares = _shares(config)
    for size, name in zip(_sizes(shares, left, shares), PARTS, strict=False):
        _some(size > 0, name, groups)


def _shares(config: Holdout | KFold) -> NDArray[np.float64]:
    """The shares of PARTS, [P], in a hold-out; with folds those of the first two in what the test fold leaves."""
    shares = [1 - config.val, config.val]
    return np.array([shares[0] - config.test, config.val, config.test] if isinstance(config, Holdout) else shares)


def _some(there: bool, part: str, groups: int) -> None:
    if not there:
        raise UserError(f"split: no picture is left for {part}: {groups} groups of pictures are too few")


def split(
    config: Holdout | KFold, targets: NDArray[np.int8], observed: NDArray[np.bool_], groups: NDArray[np.integer]
) -> list[Fold]:
    """Deal whole groups into training, validation and test rows.

    Each group is represented by its first row, each attribute by its three states (positive, negative, missing), and
    iterative stratification (Sechidis et al. 2011) deals the groups. Sizes are exact to one group: with groups of
    unequal size the numbers of pictures are so only on average. Randomness comes from ``config.seed`` alone.

    Args:
        config: a hold-out (one fold; fractions of everything) or k folds (``val`` of what the test fold leaves).
        targets: [N, A], not read where not observed.
        observed: [N, A].
        groups: [N] component of each row.

    Raises:
        UserError: fewer groups than folds, or a part that would be empty.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    known, positive = observed[first], targets[first] == 1
    states = np.concatenate([known & positive, known & ~positive, ~known], axis=1)
    states = states[:, states.any(axis=0) & ~states.all(axis=0)]
    check(config, len(first))
    if isinstance(config, Holdout):
        parts = _deal(states, _shares(config), [config.seed])[None]  # [F, G], numbers in PARTS
    else:
        fold_of = _deal(states, np.full(config.folds, 1 / config.folds), [config.seed])
        parts = np.full((config.folds, len(first)), 2)
        for fold in range(config.folds):
            left = fold_of != fold
            # [s, 0] would be the same as [s]
            parts[fold, left] = _deal(states[left], _shares(config), [config.seed, 1 + fold])
    for part, name in enumerate(PARTS):
        _some(bool((parts == part).any(axis=1).all()), name, len(first))
    return [Fold(*(np.flatnonzero(row == part) for part in range(3))) for row in parts[:, member]]


def prepare() -> None:
    """Load what deals, which is of scikit-learn and takes a second: something to do while another thread waits."""
    import iterstrat.ml_stratifiers  # noqa: F401


def _deal(states: NDArray[np.bool_], shares: NDArray[np.float64], seed: Sequence[int]) -> NDArray[np.intp]:
    """Deal G items with states [G, C] into parts by share [P]: the part of each, [G]."""
    from iterstrat.ml_stratifiers import IterativeStratification  # see `prepare`

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(states))
    dealt: NDArray[np.intp] = IterativeStratification(labels=states[order], r=shares, random_state=rng)
    part = np.empty_like(dealt)
    part[order] = _resized(dealt, states[order], shares)
    return part


def _sizes(shares: NDArray[np.float64], items: int, rank: NDArray[Any]) -> NDArray[np.intp]:
    """Whole numbers [P] of the items: largest remainders are rounded up, of equal ones those of the lowest rank."""
    exact = np.round(shares * items, 6)  # 0.29 * 100 is 28.999...
    size = np.floor(exact).astype(np.intp)
    size[np.lexsort((rank, size - exact))[: items - size.sum()]] += 1
    return size


def _resized(part: NDArray[np.intp], states: NDArray[np.bool_], shares: NDArray[np.float64]) -> NDArray[np.intp]:
    """Make the parts as large as their shares say: greedy dealing misses by up to four of sixty.

    Items move one by one, each time the one that keeps the squared excess of states, summed over parts, smallest.
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
