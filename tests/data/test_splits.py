"""Splits: partition, groups, sizes, prevalences, and what they must not depend on."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aimonk_bench.config.split_fields import Holdout, KFold, OfficialSplit
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold, _resized, check, components, split, within_parts
from aimonk_bench.errors import UserError


def holdout(val: float = 0.15, test: float = 0.15, seed: int = 0) -> Holdout:
    return Holdout(scheme="holdout", val=val, test=test, seed=seed)


def kfold(folds: int = 5, val: float = 0.15, seed: int = 0) -> KFold:
    return KFold(scheme="kfold", folds=folds, val=val, seed=seed)


def skewed(rows: int, seed: int = 0) -> Labels:
    rng = np.random.default_rng(seed)
    return Labels.of(rng.random((rows, 4)) < [0.88, 0.81, 0.53, 0.08], rng.random((rows, 4)) < 0.9)


def all_positive(rows: int, attributes: int = 1) -> Labels:
    return Labels.of(np.ones((rows, attributes)), np.ones((rows, attributes)))


def parts(fold: Fold) -> tuple[np.ndarray, ...]:
    return fold.train, fold.val, fold.test


def same(one: Sequence[Fold], other: Sequence[Fold]) -> bool:
    return all(
        np.array_equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(parts(x), parts(y), strict=True)
    )


value = st.sampled_from("abcdefgh")


@given(st.lists(st.tuples(value, st.none() | value), max_size=20))
@settings(deadline=None)  # the first call imports pandas and SciPy
def test_components_are_the_closure_of_equal_bytes_or_equal_group(rows: list[tuple[str, str | None]]) -> None:
    component = components([sha for sha, _ in rows], [group for _, group in rows])
    reach = np.array([[a == c or (b is not None and b == d) for c, d in rows] for a, b in rows]).reshape(
        len(rows), len(rows)
    )
    for _ in rows:
        reach = reach @ reach
    assert ((component[:, None] == component[None]) == reach).all()
    assert list(dict.fromkeys(component.tolist())) == list(range(len(set(component.tolist()))))
    assert component.dtype == np.int32


def test_without_group_values_only_bytes_connect() -> None:
    assert components(["x", "y", "x"], None).tolist() == [0, 1, 0]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(30, 80),
    attributes=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(12, 80),
    folded=st.booleans(),
)
def test_groups_stay_whole_sizes_are_right_and_hidden_values_do_not_matter(
    rows: int, attributes: int, seed: int, groups: int, folded: bool
) -> None:
    rng = np.random.default_rng(seed)
    observed = rng.random((rows, attributes)) < rng.random()
    targets = (rng.random((rows, attributes)) < rng.random(attributes) ** 3).astype(np.int8)
    group = components([str(number) for number in rng.integers(groups, size=rows)], None)
    config = kfold(seed=seed) if folded else holdout(seed=seed)
    folds = split(config, Labels.of(targets, observed), group)

    for fold in folds:
        assert np.array_equal(np.sort(np.concatenate(parts(fold))), np.arange(rows))
        assert sum(len(np.unique(group[part])) for part in parts(fold)) == group.max() + 1
        assert all((np.diff(part) > 0).all() for part in parts(fold))
        number = group.max() + 1
        test = number / 5 if folded else 0.15 * number
        val = 0.15 * (number - len(np.unique(group[fold.test]))) if folded else 0.15 * number
        for part, size in ((fold.test, test), (fold.val, val)):
            assert abs(len(np.unique(group[part])) - size) <= 1
    if folded:
        assert np.array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(rows))

    under_na = np.where(observed, targets, rng.integers(2, size=targets.shape)).astype(np.int8)
    assert same(folds, split(config, Labels(under_na, observed), group))


@pytest.mark.parametrize("config", [kfold(), holdout(), holdout(val=0.29, test=0.01), kfold(folds=7, val=0.33)])
@pytest.mark.parametrize("rows", [100, 975, 1000])
def test_sizes_and_states_of_ungrouped_images(config: Holdout | KFold, rows: int) -> None:
    labels = skewed(rows)
    states = np.concatenate([labels.positive, labels.negative, ~labels.observed], axis=1)
    for fold in split(config, labels, np.arange(rows)):
        test = rows * config.test if isinstance(config, Holdout) else rows / config.folds
        left = rows if isinstance(config, Holdout) else rows - len(fold.test)
        assert abs(len(fold.test) - test) < 1
        assert abs(len(fold.val) - left * config.val) < 1
        for part in parts(fold):
            expected = states.mean(axis=0) * len(part)
            assert np.abs(states[part].sum(axis=0) - expected).max() <= 2.5


def test_a_split_depends_on_its_seed_alone() -> None:
    labels = skewed(200)
    rows = np.arange(200)
    for config, other in ((kfold(), kfold(seed=1)), (holdout(), holdout(seed=1))):
        np.random.seed(len(str(config)))  # noqa: NPY002  (the global generator must not be read)
        folds = split(config, labels, rows)
        assert same(folds, split(config, labels, rows))
        assert not same(folds, split(other, labels, rows))
    tests = [[fold.test.tolist() for fold in split(kfold(val=val), labels, rows)] for val in (0.1, 0.4)]
    assert tests[0] == tests[1]


@given(st.integers(0, 10**6))
def test_parts_are_resized_by_the_least_harmful_moves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    states, part, shares = rng.random((16, 5)) < 0.4, np.repeat([0, 1], [12, 4]), np.array([0.5, 0.5])

    def excess(part: np.ndarray) -> float:
        return sum(((states[part == p].sum(axis=0) - states.sum(axis=0) / 2) ** 2).sum() for p in range(2))

    resized = _resized(part, states, shares)
    for _ in range(4):
        moves = [np.where(np.arange(16) == item, 1, part) for item in np.flatnonzero(part == 0)]
        part = min(moves, key=excess)
    assert np.array_equal(resized, part)


def test_identical_rows_are_split_evenly() -> None:
    folds = split(kfold(val=0.25), all_positive(10, 2), np.arange(10))
    assert [tuple(map(len, parts(fold))) for fold in folds] == [(6, 2, 2)] * 5


@pytest.mark.parametrize(
    ("config", "groups", "message"),
    [
        (kfold(), [0, 1, 2, 3, 3, 3], r"split.folds: found 5, expected at most 4.*split: \{scheme: holdout"),
        (kfold(val=0.3), [0, 1, 2, 3], r"split.folds: found 5, expected at most 4.*write `split: \{folds: 4\}`"),
        (kfold(), [0, 1, 1], "expected at most 2.*label more images.*need a group each"),
        (kfold(folds=2), [0, 1, 2, 3], r"no image is left for validation.*fix:.*split: \{scheme: holdout"),
        (holdout(test=0.05), [0, 1, 2, 3, 4, 5], "no image is left for test"),
        (holdout(val=0.5, test=0.45), [0, 1, 2], "no image is left for training"),
    ],
)
def test_a_scheme_that_leaves_a_part_empty_is_an_error(
    config: Holdout | KFold, groups: list[int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        split(config, all_positive(len(groups)), np.array(groups))
    with pytest.raises(UserError, match=message):
        check(config, len(set(groups)))


@pytest.mark.parametrize(("groups", "val"), [(3, 0.15), (4, 0.15), (4, 0.3), (6, 0.15)])
def test_the_split_that_a_message_proposes_can_be_used(groups: int, val: float) -> None:
    with pytest.raises(UserError) as error:
        check(kfold(folds=7, val=val), groups)
    [line] = re.findall("`split: ({.*?})`", str(error.value))
    proposed = yaml.safe_load(line)
    config = (
        holdout(**{k: proposed[k] for k in ("val", "test")}) if "scheme" in proposed else kfold(val=val, **proposed)
    )
    assert split(config, all_positive(groups), np.arange(groups))


@pytest.mark.parametrize("config", [kfold(folds=2), kfold(folds=3, val=0.5), holdout(), holdout(val=0.5, test=0.25)])
def test_what_passes_the_check_can_be_split(config: Holdout | KFold) -> None:
    possible = []
    for groups in range(2, 25):
        with contextlib.suppress(UserError):
            check(config, groups)
            possible.append(groups)
    assert len(possible) > 10
    for groups in possible:
        assert split(config, all_positive(groups), np.arange(groups))


def official(**keys: object) -> OfficialSplit:
    return OfficialSplit.model_validate({"scheme": "column", "column": "part", **keys})


def test_an_official_split_is_the_column() -> None:
    tokens = ["train", "test", "val", "train", "extra", "test"]
    config = official(train=["train", "extra"])
    (fold,) = split(config, all_positive(6), np.zeros(6, int), {"part": tokens})  # whatever the groups
    assert [part.tolist() for part in parts(fold)] == [[0, 3, 4], [2], [1, 5]]


def test_validation_rows_that_the_column_does_not_name_are_drawn_from_the_training_rows() -> None:
    labels, rng = skewed(200), np.random.default_rng(0)
    tokens = np.where(rng.random(200) < 0.3, "2", "0").tolist()
    groups = np.arange(200) // 2 % 90  # some groups stand in both parts
    config = official(train=["0"], test=["2"], val=0.25)
    (fold,) = split(config, labels, groups, {"part": tokens})
    assert fold.test.tolist() == [row for row, token in enumerate(tokens) if token == "2"]
    assert np.array_equal(np.sort(np.concatenate(parts(fold))), np.arange(200))
    assert not set(groups[fold.train]) & set(groups[fold.val])
    trained = len(set(groups[fold.train])) + len(set(groups[fold.val]))
    assert abs(len(set(groups[fold.val])) - 0.25 * trained) < 1
    assert same([fold], split(config, labels, groups, {"part": tokens}))
    assert not same(
        [fold], split(official(train=["0"], test=["2"], val=0.25, seed=1), labels, groups, {"part": tokens})
    )


@pytest.mark.parametrize(
    ("keys", "tokens", "messages"),
    [
        ({}, ["train", "val", "test", "extra", "extra", None], ["2 of 6", "'extra' (2)"]),
        ({"test": ["?"]}, ["train", "val", None], ["split.test", "'?'", "no token"]),
        ({}, ["train", "test"], ["split.val", "'val'", "'train', 'test'", "`split: {val: 0.15}`"]),
        ({}, ["Train", "valid", "dev", "test"], ['`split: {train: ["Train"], val: ["valid", "dev"], test: ["test"]}`']),
        ({"train": ["0"], "val": ["1"], "test": ["2"]}, ["0.0", "1", "2.00", "3"], ["1 of 4", "add each token"]),
        ({"val": 0.15}, ["train", "valid", "train"], ["split.test", "'valid' (1)"]),
        ({"train": ["1"], "val": ["2"], "test": ["3"]}, ["0"] * 3, ["split.train", "split.val", "split.test", "(3)"]),
        ({"val": 0.15}, ["train", "test"], ["no image is left for validation"]),
    ],
)
def test_tokens_that_make_no_official_split(keys: dict[str, object], tokens: list[str], messages: list[str]) -> None:
    with pytest.raises(UserError) as error:
        split(official(**keys), all_positive(len(tokens)), np.arange(len(tokens)), {"part": tokens})
    assert [text for text in messages if text not in str(error.value)] == []


@pytest.mark.parametrize(
    ("tokens", "fix"),
    [
        (["TRAIN", "VAL", "TEST"], 'train: ["TRAIN"], val: ["VAL"], test: ["TEST"]'),
        (["train", "valid", "test"], 'train: ["train"], val: ["valid"], test: ["test"]'),
        (["Training", "train", "dev", "Testing"], 'train: ["train", "Training"], val: ["dev"], test: ["Testing"]'),
    ],
)
def test_lists_that_would_do_are_one_message(tokens: list[str], fix: str) -> None:
    with pytest.raises(UserError) as error:
        split(official(), all_positive(len(tokens)), np.arange(len(tokens)), {"part": tokens})
    (message,) = error.value.problems
    assert message.endswith(f"write `split: {{{fix}}}`")


def test_images_with_a_missing_token_are_in_no_part() -> None:
    tokens = ["train", "NA", "val", None, "test", "", "train"]
    (fold,) = split(official(), all_positive(7), np.arange(7), {"part": tokens})
    assert [part.tolist() for part in parts(fold)] == [[0, 6], [2], [4]]
    (fold,) = split(
        official(train=["train", "NA"]), all_positive(7), np.arange(7), {"part": tokens}
    )  # which is declared
    assert [part.tolist() for part in parts(fold)] == [[0, 1, 6], [2], [4]]
    (fold,) = split(
        official(val=0.3, test=["test"], train=["train"]),
        all_positive(7),
        np.arange(7),
        {"part": [*tokens[:2], "train", *tokens[3:]]},
    )
    assert sorted(np.concatenate(parts(fold)).tolist()) == [0, 2, 4, 6]
    assert within_parts(np.zeros(7, int), fold)[[1, 3, 5]].tolist() == [0] * 3  # a group apart from the three parts


def test_numbers_as_tokens_are_compared_by_value() -> None:
    (fold,) = split(
        official(train=["0"], val=["1"], test=["2"]), all_positive(4), np.arange(4), {"part": ["2.0", "0", "1.0", "2"]}
    )
    assert [part.tolist() for part in parts(fold)] == [[1], [2], [0, 3]]


def test_a_group_that_an_official_split_cuts_is_one_group_in_each_part() -> None:
    fold = Fold(*(np.array(rows) for rows in ([0, 1, 4], [2], [3, 5])))
    assert within_parts(np.array([0, 0, 0, 0, 1, 1]), fold).tolist() == [0, 0, 1, 2, 3, 4]
