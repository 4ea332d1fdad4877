"""Groups by file names, and what is doubtful about groups."""

from __future__ import annotations

import numpy as np
import pytest

from aimonk_bench.config.split_fields import Holdout, KFold, OfficialSplit
from aimonk_bench.data.group_checks import (
    STEM_PATTERNS,
    CutGroups,
    LargeGroup,
    check_groups,
    common_stem,
    groups_by_name,
)
from aimonk_bench.data.splits import Fold, components


@pytest.mark.parametrize(
    ("pattern", "names", "groups"),
    [
        ("^(.*?)_", ["s01_a.png", "s01_b_2.png", "s2_a.png", "plain.png"], ["s01", "s01", "s2", None]),
        ("^(.*?)_", ["a/s01_1.png", "b/s01_2.png", "a_b/7.png", "a\\s01_3.png"], ["s01", "s01", None, "s01"]),
        ("^([^/]*)/", ["p1/1.png", "p1/x/2.png", "3.png", "p2\\4.png"], ["p1", "p1", None, "p2"]),
        ("(p[0-9]+)|x", ["p12.png", "x.png", "y.png"], ["p12", None, None]),
        ("^(?:(p[0-9]+)_|s([0-9]+))", ["p1_a.png", "s2.png", "q.png"], ["p1", "2", None]),
        ("([0-9]*)", ["12.png", "a.png"], ["12", None]),  # an empty match is no group
    ],
)
def test_groups_by_name(pattern: str, names: list[str], groups: list[str | None]) -> None:
    assert groups_by_name(pattern, names) == tuple(groups)


def numbered(form: str, sources: int, copies: int) -> list[str]:
    return [form.format(source=source, copy=copy) for source in range(sources) for copy in range(copies)]


LAST_UNDERSCORE, LAST_DASH, LAST_NUMBER = STEM_PATTERNS


@pytest.mark.parametrize(
    ("names", "pattern", "stem"),
    [
        (["s01_a.png", "s01_b.png", "s02_a.png", "s02_b.png", "s03_a.png", "s03_b.png"], LAST_UNDERSCORE, "s01"),
        (numbered("s{source}_{copy}.png", 40, 3), LAST_UNDERSCORE, "s0"),
        (numbered("{source:08d}_{copy:03d}.png", 30, 4), LAST_UNDERSCORE, "00000000"),
        (numbered("pics/s{source}_{copy}.png", 9, 3), LAST_UNDERSCORE, "s0"),
        (numbered("video{source}-frame{copy}.jpg", 10, 5), LAST_DASH, "video0"),
        (numbered("{source}a{copy}.jpg", 10, 5), LAST_NUMBER, "0a"),
        ([*numbered("s{source}_{copy}.png", 10, 3), *map(str, range(25))], LAST_UNDERSCORE, "s0"),
    ],
)
def test_a_common_stem_of_file_names_is_found(names: list[str], pattern: str, stem: str) -> None:
    hint = common_stem(names)
    assert hint is not None
    assert (hint.pattern, hint.stem) == (pattern, stem)
    assert hint.examples[0] != hint.examples[1]
    assert groups_by_name(pattern, hint.examples) == (stem, stem)
    sizes = [groups_by_name(pattern, names).count(group) for group in {*groups_by_name(pattern, names)} - {None}]
    assert (hint.stems, hint.images) == (len(sizes), sum(sizes))


@pytest.mark.parametrize(
    "names",
    [
        [f"{number}.png" for number in range(50)],
        [f"{number:06d}.jpg" for number in range(50)],
        [f"image_{number}.jpg" for number in range(50)],
        [f"cell{number:04d}.png" for number in range(50)],
        [f"{part}_{number}.png" for part in ("train", "test") for number in range(30)],
        [f"{part}-{number}.png" for part in ("train", "val", "test") for number in range(60 if part == "train" else 9)],
        [f"{number * 7919:032x}.png" for number in range(50)],
        [f"{name}.png" for name in "abcdefghijklmnop"],
        [*numbered("s{source}_{copy}.png", 10, 2), *map(str, range(25))],
        [],
    ],
)
def test_numbers_and_names_that_differ_have_no_common_stem(names: list[str]) -> None:
    assert common_stem(names) is None


@pytest.mark.parametrize(
    ("scheme", "fold", "large"),
    [
        (KFold(folds=5), 20, [LargeGroup("NA", "10.png", 60), LargeGroup("p1", "70.png", 21)]),
        (KFold(folds=4), 25, [LargeGroup("NA", "10.png", 60)]),
        (Holdout(test=0.61), 61, []),
        (Holdout(test=0.2), 20, [LargeGroup("NA", "10.png", 60), LargeGroup("p1", "70.png", 21)]),
        (OfficialSplit(column="s"), 0, []),
    ],
)
def test_groups_larger_than_a_fold(scheme: KFold | Holdout | OfficialSplit, fold: int, large: list[LargeGroup]) -> None:
    names = [f"{row}.png" for row in range(100)]
    values = [None] * 10 + ["NA"] * 60 + ["p1"] * 21 + [None] * 9
    checks = check_groups(scheme, names, values, components(names, values))
    assert (checks.fold, checks.large, checks.stem) == (fold, large, None)


def test_images_of_equal_bytes_can_be_a_group_that_is_too_large() -> None:
    names = [f"{row}.png" for row in range(10)]
    checks = check_groups(KFold(folds=5), names, None, components([*"aaaabcdefg"], None))
    assert checks.large == [LargeGroup(None, "0.png", 4)]


def test_groups_that_an_official_split_cuts() -> None:
    names = [*"abcdefgh"]
    groups = np.array([0, 0, 1, 1, 2, 2, 2, 3])
    fold = Fold(*(np.array(rows) for rows in ([0, 2, 3, 4], [1, 5], [6, 7])))
    checks = check_groups(OfficialSplit(column="part"), names, ["x"] * 8, groups, [fold])
    assert checks.cut == CutGroups(2, 5, [("a", "training", "b", "validation"), ("e", "training", "g", "test")])
    whole = Fold(*(np.array(rows) for rows in ([0, 1], [2, 3], [4, 5, 6, 7])))
    assert check_groups(OfficialSplit(column="part"), names, None, groups, [whole]).cut is None
