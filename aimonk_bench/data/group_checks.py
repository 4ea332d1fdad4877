"""Groups by the names of images, and what is doubtful about groups: too large, cut, or only in the file names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aimonk_bench.config.split_fields import KFold, OfficialSplit, Split
from aimonk_bench.data.splits import PARTS, Fold

Groups = Sequence[str | None]
# Where file names are cut in search of a common stem: at the last _, at the last -, before the last number.
STEM_PATTERNS = ("^(.*)_", "^(.*)-", "^([^.]*[^.0-9])[0-9]+([.]|$)")
FEWEST_STEMS = 3  # `train_1.png` and `test_1.png` are parts of a data set, not sources


@dataclass(frozen=True)
class Stem:
    """A pattern by which most file names fall into groups.

    Attributes:
        pattern: for ``data.group.regex``.
        stem: the group of the examples.
        examples: two names of one group.
        stems: groups of at least two images.
        images: in those groups.
    """

    pattern: str
    stem: str
    examples: tuple[str, str]
    stems: int
    images: int


@dataclass(frozen=True)
class LargeGroup:
    """A group that is larger than the test rows of a fold.

    Attributes:
        value: most frequent group value; None if no image of it has one.
        example: its first image.
        size: number of images.
    """

    value: str | None
    example: str
    size: int


@dataclass(frozen=True)
class CutGroups:
    """Duplicate groups that an official split cuts.

    Attributes:
        groups, images: how many.
        examples: (image, its part, another image of its group, the part of that) of up to three groups.
    """

    groups: int
    images: int
    examples: list[tuple[str, str, str, str]]


@dataclass(frozen=True)
class GroupChecks:
    """What is doubtful about the groups of a data set.

    Attributes:
        stem: None if images have group values, or names no common stem.
        large: groups larger than a fold, the largest first.
        fold: number of test images of a fold that the split aims at.
        cut: None if the split cuts no group.
    """

    stem: Stem | None
    large: list[LargeGroup]
    fold: int
    cut: CutGroups | None = None


def groups_by_name(pattern: str, names: Sequence[str]) -> tuple[str | None, ...]:
    """The group of each image: what the first parentheses that match contain; None where nothing matches.

    The pattern is searched for in the file name, or in the whole name, if the pattern contains a ``/``.
    """
    compiled = re.compile(pattern)
    whole = [name.replace("\\", "/") for name in names]
    searched = whole if "/" in pattern else [name.rpartition("/")[2] for name in whole]
    matches = [compiled.search(name) for name in searched]
    return tuple(next(filter(None, match.groups()), None) if match else None for match in matches)


def common_stem(names: Sequence[str]) -> Stem | None:
    """The first pattern that puts most images into groups of at least two, none of which holds more than half of them.

    Names that are plain numbers, or have one stem or all different ones, have no such pattern.
    """
    for pattern in STEM_PATTERNS:
        groups = groups_by_name(pattern, names)
        sizes = Counter(group for group in groups if group is not None)
        shared = {stem: size for stem, size in sizes.items() if size > 1}
        images = sum(shared.values())
        if len(shared) >= FEWEST_STEMS and 2 * images >= len(names) and 2 * max(shared.values()) <= len(names):
            stem = next(iter(shared))
            first, second = [name for name, group in zip(names, groups, strict=True) if group == stem][:2]
            return Stem(pattern, stem, (first, second), len(shared), images)
    return None


def check_groups(
    scheme: Split, names: Sequence[str], values: Groups | None, groups: NDArray[np.integer], folds: Sequence[Fold] = ()
) -> GroupChecks:
    """What is doubtful about the groups of N images.

    Args:
        scheme: of the split.
        names: [N] of the images.
        values: [N] group values.
        groups: [N] components.
        folds: of an official split, to look for groups that it cuts.
    """
    stem = common_stem(names) if values is None else None
    if isinstance(scheme, OfficialSplit):
        return GroupChecks(stem, [], 0, _cut(names, groups, folds[0]) if folds else None)
    fold = round(len(names) * (1 / scheme.folds if isinstance(scheme, KFold) else scheme.test))
    number, size = np.unique(groups, return_counts=True)
    large = sorted(zip(size.tolist(), number.tolist(), strict=True), reverse=True)
    return GroupChecks(stem, [_large(names, values, groups == group) for size, group in large if size > fold], fold)


def _large(names: Sequence[str], values: Groups | None, member: NDArray[np.bool_]) -> LargeGroup:
    rows = np.flatnonzero(member)
    there = Counter(value for row in rows.tolist() if values is not None and (value := values[row]) is not None)
    return LargeGroup(there.most_common(1)[0][0] if there else None, names[rows[0]], len(rows))


def _cut(names: Sequence[str], groups: NDArray[np.integer], fold: Fold) -> CutGroups | None:
    part = np.zeros(len(names), np.intp)
    for number, rows in enumerate((fold.train, fold.val, fold.test)):
        part[rows] = number
    parts = pd.Series(part).groupby(groups).agg(["min", "max"])
    cut = parts[parts["min"] != parts["max"]]
    if cut.empty:
        return None
    examples = []
    for group, lowest, highest in cut.head(3).itertuples():
        one, other = (np.flatnonzero((groups == group) & (part == number))[0] for number in (lowest, highest))
        examples.append((names[one], PARTS[lowest], names[other], PARTS[highest]))
    return CutGroups(len(cut), int(np.isin(groups, cut.index).sum()), examples)
