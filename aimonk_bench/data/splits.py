"""Splits into training, validation and test rows, stratified by labels and grouped: no split cuts a group."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aimonk_bench.config.fields import value_of
from aimonk_bench.config.split_fields import Holdout, KFold, OfficialSplit, Split
from aimonk_bench.data.cells import first_rows
from aimonk_bench.data.image_files import SHOWN
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.tokens import is_missing
from aimonk_bench.errors import UserError, count

Rows = NDArray[np.intp]
PARTS = ("training", "validation", "test")
NO_PART = -1
PART_NAMES = {  # of tokens such as Training, tr, valid, dev and hold-out
    "train": r"tr|tra?i?n.*",
    "val": r"va|(val|dev|tune).*",
    "test": r"te|(te?st|eval|hold).*",
}


@dataclass(frozen=True, eq=False)
class Fold:
    """Sorted row numbers of the three parts; together they are all rows that an official split does not leave out."""

    train: Rows
    val: Rows
    test: Rows


def components(*attributes: Sequence[Hashable | None] | None) -> NDArray[np.int32]:
    """Duplicate groups: images that share a value of any of the attributes, directly or through others.

    Args:
        attributes: [N] values each, such as the hash of the bytes and the group value; None as a value connects an
            image to nothing, None for all of them is no attribute. The first attribute is not None.

    Returns:
        [N] number of the component of each image, numbered by first appearance.

    >>> components(["a", "b", "a", "c"], ["x", "y", "y", None]).tolist()
    [0, 0, 0, 1]
    """
    import pandas as pd
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = [first_rows(values) for values in attributes if values]
    count = len(attributes[0] or ())
    rows = np.resize(np.arange(count), count * len(edges))
    graph = coo_array((np.ones(len(rows), bool), (rows, np.array(edges, np.intp).ravel())), shape=(count, count))
    component: NDArray[np.intp] = pd.factorize(connected_components(graph, directed=False)[1])[0]
    return component.astype(np.int32)


def check(scheme: Split, groups: int) -> None:
    """Refuse a scheme that no labels could satisfy; `split` refuses also what these labels leave no part of.

    Args:
        groups: the number of groups.

    Raises:
        UserError: fewer groups than folds, or a part that would be empty.
    """
    if isinstance(scheme, OfficialSplit):
        return
    left, shares = groups, _shares(scheme)
    if isinstance(scheme, KFold):
        if groups < scheme.folds:
            fits = groups > 1 and min(_sizes(shares, groups - 1, shares)) > 0
            raise UserError(
                f"split.folds: found {scheme.folds}, expected at most {groups}: "
                "that is the number of groups of images (equal bytes, or equal group values); "
                + (f"write `split: {{folds: {groups}}}`" if fits else f"fix: {_more_groups(groups)}")
            )
        left -= -(-groups // scheme.folds)  # the largest test fold
    _refuse_empty([size > 0 for size in _sizes(shares, left, shares)], groups)


def official_parts(scheme: OfficialSplit, tokens: Sequence[str | None]) -> NDArray[np.intp]:
    """The part of each image by the column of an official split, [N] numbers in PARTS.

    An image whose token is a missing one, and stands in no list, is in no part: `NO_PART`.

    Raises:
        UserError: tokens that stand in no list, or a part without an image.
    """
    lists, counts = scheme.lists(), Counter(tokens)
    part_of = {value_of(token): part for part, listed in enumerate(lists.values()) for token in listed}
    stated = {
        token: part_of.get(value_of(token or ""), NO_PART if is_missing(token or "") else None) for token in counts
    }
    column = f"split.column {scheme.column!r}"
    unlisted = {token: count for token, count in counts.most_common() if stated[token] is None}
    completed = _completed(counts, scheme)
    problems = []
    if unlisted:
        shown = ", ".join(f"{_shown(token)} ({count})" for token, count in [*unlisted.items()][:SHOWN])
        more = f" and {len(unlisted) - SHOWN} more tokens" if len(unlisted) > SHOWN else ""
        parts = (f"{key}: {json.dumps(tokens, ensure_ascii=False)}" for key, tokens in completed.items() if tokens)
        advice = f"write `split: {{{', '.join(parts)}}}`" if completed else "add each token to one of these lists"
        problems.append(
            f"{column}: found {sum(unlisted.values())} of {len(tokens)} images whose token is in none of split.train, "
            f"split.val and split.test: {shown}{more}; {advice}"
        )
    for part, (key, listed) in enumerate(lists.items()):
        if listed and part not in stated.values() and not completed.get(key):
            there = ", ".join(_shown(token) for token, _ in counts.most_common(SHOWN))
            draw = "; `split: {val: 0.15}` draws validation images from the training images" if key == "val" else ""
            problems.append(
                f"split.{key}: found no image with {' or '.join(map(repr, listed))} in {column}, "
                f"expected tokens that are there: {there}{draw}"
            )
    if problems:
        raise UserError(problems)
    return np.array([stated[token] for token in tokens], np.intp)


def left_out(scheme: OfficialSplit, tokens: Sequence[str | None]) -> str | None:
    """How many images an official split leaves out, because their token is missing; None if there are none."""
    tokens_left_out = [token for token, part in zip(tokens, official_parts(scheme, tokens), strict=True) if part < 0]
    if not tokens_left_out:
        return None
    shown = ", ".join(repr(token or "") for token in dict.fromkeys(tokens_left_out))
    number = count(len(tokens_left_out), "image")
    return f"split.column {scheme.column!r}: {number} of {len(tokens)} left out, in no part of the split ({shown})"


def _completed(there: Iterable[str | None], scheme: OfficialSplit) -> dict[str, list[str]]:
    """The lists for the tokens that are there, if each other token begins as the name of a part; else empty."""
    lists = {key: [token for token in listed if token in there] for key, listed in scheme.lists().items()}
    for token in there:
        if token and not is_missing(token) and all(token not in listed for listed in lists.values()):
            key = part_of(token)
            if key is None:
                return {}
            lists[key].append(token)
    return lists


def part_of(token: str) -> str | None:
    """The part of a split that a token probably names, by its beginning."""
    return next((part for part, names in PART_NAMES.items() if re.fullmatch(names, token.casefold())), None)


def _shown(token: str | None) -> str:
    return "no token" if token is None else repr(token)


def _shares(scheme: Holdout | KFold) -> NDArray[np.float64]:
    """The shares of PARTS, [P], in a hold-out; with folds those of the first two in what the test fold leaves."""
    shares = [1 - scheme.val, scheme.val]
    return np.array([shares[0] - scheme.test, scheme.val, scheme.test] if isinstance(scheme, Holdout) else shares)


def _refuse_empty(filled: Sequence[bool], groups: int) -> None:
    for part, name in zip(filled, PARTS, strict=False):
        if not part:
            raise UserError(
                f"split: no image is left for {name}: {groups} groups of images (equal bytes, or equal group values) "
                f"are too few for these shares; fix: {_more_groups(groups)}"
            )


def _more_groups(groups: int) -> str:
    """What to do about too few groups."""
    if groups < len(PARTS):
        return "label more images, or check data.group: training, validation and test rows need a group each"
    return "label more images, or write `split: {scheme: holdout, val: 0.3, test: 0.3}`"


def split(
    scheme: Split,
    labels: Labels,
    groups: NDArray[np.integer],
    columns: Mapping[str, Sequence[str | None]] | None = None,
) -> list[Fold]:
    """Split whole groups into training, validation and test rows.

    Each group is represented by its first row, each attribute by its three states (positive, negative, missing);
    iterative stratification (Sechidis et al. 2011) assigns the groups to the parts. Sizes are exact to one group: if
    groups differ in size, the numbers of images are right on average only. Randomness comes from ``scheme.seed`` alone.
    An official split is taken as it is, even where it cuts groups; validation rows that it does not name are drawn
    from its training rows, whole groups of them.

    Args:
        scheme: a hold-out (one fold; fractions of everything), k folds (``val`` of what the test fold leaves), or the
            column of an official split (one fold).
        labels: [N, A].
        groups: [N] component of each row.
        columns: name -> [N] tokens, for official splits.

    Raises:
        UserError: fewer groups than folds, a part that would be empty, or a token that names no part.
    """
    if isinstance(scheme, OfficialSplit):
        return [_official(scheme, labels, groups, (columns or {})[scheme.column])]
    states, first, member = _states(labels, groups)
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
    return [_fold(row) for row in parts[:, member]]


def part_sizes(scheme: Split, images: int, columns: Mapping[str, Sequence[str | None]]) -> NDArray[np.float64]:
    """The rows of the three parts of a fold, [P], before anything is split: right to one group of images.

    Args:
        scheme: whose tokens `official_parts` has passed.
        images: N.
        columns: name -> [N] tokens, for official splits.
    """
    if isinstance(scheme, Holdout):
        return images * _shares(scheme)
    if isinstance(scheme, KFold):
        return images * np.append(_shares(scheme) * (1 - 1 / scheme.folds), 1 / scheme.folds)
    parts = official_parts(scheme, columns[scheme.column])
    sizes = np.bincount(parts[parts != NO_PART], minlength=len(PARTS)).astype(np.float64)
    if isinstance(scheme.val, float):
        sizes[:2] = sizes[0] * (1 - scheme.val), sizes[0] * scheme.val
    return sizes


def within_parts(groups: NDArray[np.integer], fold: Fold) -> NDArray[np.int32]:
    """[N] group numbers, where a group that an official split cuts is one group in each part."""
    part = np.full(len(groups), NO_PART)
    part[fold.train], part[fold.val], part[fold.test] = range(3)
    numbers: NDArray[np.intp] = np.unique(np.stack([groups, part]), axis=1, return_inverse=True)[1]
    return numbers.astype(np.int32)


def _fold(parts: NDArray[np.integer]) -> Fold:
    return Fold(*(np.flatnonzero(parts == part) for part in range(3)))


def _states(labels: Labels, groups: NDArray[np.integer]) -> tuple[NDArray[np.bool_], Rows, Rows]:
    """The states [G, C] of the first row of each group, that row [G], and the place of each row's group [N]."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    rows = labels[first]
    states = np.concatenate([rows.positive, rows.negative, ~rows.observed], axis=1)
    return states[:, states.any(axis=0) & ~states.all(axis=0)], first, member


def _official(scheme: OfficialSplit, labels: Labels, groups: NDArray[np.integer], tokens: Sequence[str | None]) -> Fold:
    parts = official_parts(scheme, tokens)
    if isinstance(scheme.val, float):
        train = np.flatnonzero(parts == 0)
        states, first, member = _states(labels[train], groups[train])
        shares = np.array([1 - scheme.val, scheme.val])
        _refuse_empty([size > 0 for size in _sizes(shares, len(first), shares)], len(first))
        parts[train] = _stratified(states, shares, [scheme.seed])[member]
    return _fold(parts)


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
