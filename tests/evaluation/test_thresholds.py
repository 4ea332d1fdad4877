from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import arrays, predictions

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import (
    THRESHOLDS,
    Thresholds,
    _grouped_parts,
    best_f1,
    cross_fit,
    cross_fitted,
    fixed,
    per_attribute_f1,
    pooled,
    shrunk,
    target_precision,
    tune,
    youden,
)
from aimonk_bench.registry import Spec

coarse = st.integers(0, 10).map(lambda tenth: tenth / 10)  # ties, exact 0 and 1
probability = coarse | st.floats(0, 1) | st.floats(-40, 40).map(lambda logit: float(1 / (1 + np.exp(-logit))))
cells = st.lists(st.tuples(probability, st.integers(0, 1)), min_size=1, max_size=12).filter(
    lambda pairs: any(target for _, target in pairs)
)


def counts(threshold: float, pairs: list[tuple[float, int]]) -> tuple[int, int, int, int]:
    """True positives, accepted, positives, rows."""
    accepted = [target for score, target in pairs if score > threshold]
    return sum(accepted), len(accepted), sum(target for _, target in pairs), len(pairs)


def exact_f1(threshold: float, pairs: list[tuple[float, int]]) -> Fraction:
    hits, accepted, positives, _ = counts(threshold, pairs)
    return Fraction(2 * hits, accepted + positives)


def exact_youden(threshold: float, pairs: list[tuple[float, int]]) -> Fraction:
    hits, accepted, positives, rows = counts(threshold, pairs)
    return Fraction(hits, positives) - Fraction(accepted - hits, rows - positives)


def exact_precision(threshold: float, pairs: list[tuple[float, int]]) -> Fraction:
    hits, accepted, _, _ = counts(threshold, pairs)
    return Fraction(hits, max(accepted, 1))


def candidates(pairs: list[tuple[float, int]]) -> list[float]:
    scores = sorted({score for score, _ in pairs})
    found = [(1 + scores[-1]) / 2]
    if scores[0] > 0:  # else min / 2 accepts what the next candidate does
        found.append(scores[0] / 2)
    for lower, upper in itertools.pairwise(scores):
        middle = (lower + upper) / 2
        found.append(middle if middle < upper else lower)
    return found


def brute_force(pairs: list[tuple[float, int]], quality: Callable[..., Any] = exact_f1) -> float:
    return min(candidates(pairs), key=lambda t: (-quality(t, pairs), abs(t - 0.5), t))


def columns(pairs: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, targets = zip(*pairs, strict=True)
    return np.array(scores), np.array(targets, dtype=np.int8), np.ones(len(pairs), dtype=bool)


def column(policy: Callable[..., Any], pairs: list[tuple[float, int]], **options: Any) -> float:
    return float(policy(*(values[:, None] for values in columns(pairs)), **options)[0][0])


@given(cells)
def test_the_best_threshold_is_the_one_of_brute_force(pairs: list[tuple[float, int]]) -> None:
    assert best_f1(*columns(pairs)) == brute_force(pairs)


@given(cells)
def test_no_threshold_at_all_has_a_higher_f1(pairs: list[tuple[float, int]]) -> None:
    reached = exact_f1(float(best_f1(*columns(pairs))), pairs)
    assert reached == max(exact_f1(t, pairs) for t in [0.0, *(score for score, _ in pairs)])  # every cut there is


@given(st.lists(cells, min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_columns_side_by_side_are_each_cut_as_if_alone(several: list[list[tuple[float, int]]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, targets = rng.random((2, len(several), 12))
    observed = np.zeros(scores.shape, dtype=bool)
    for row, pairs in enumerate(several):
        place = rng.permutation(12)[: len(pairs)]
        scores[row, place], targets[row, place], observed[row, place] = columns(pairs)
    assert best_f1(scores, targets, observed).tolist() == [brute_force(pairs) for pairs in several]


def test_on_equal_f1_the_threshold_nearest_one_half_then_the_lower() -> None:
    # one hit in one accepted row, or two hits in all four: both F1 2/3, by a cut at 0.5 or 0.1
    assert best_f1(*columns([(0.2, 1), (0.3, 0), (0.4, 0), (0.6, 1)])) == 0.5
    # the same counts, by a cut at 0.75 or 0.25, equally near: the lower
    assert best_f1(*columns([(0.5, 1), (0.5, 0), (0.5, 0), (1.0, 1)])) == 0.25


def test_a_cut_between_neighbouring_floats_still_separates() -> None:
    for lower in (0.3, 0.5, np.nextafter(0.5, 1), np.nextafter(1, 0)):
        upper = np.nextafter(lower, 2)
        threshold = best_f1(*columns([(lower, 0), (upper, 1)]))
        assert lower <= threshold < upper


def test_constant_scores_are_all_accepted() -> None:
    assert best_f1(*columns([(0.4, 0), (0.4, 1), (0.4, 0), (0.4, 0), (0.4, 0)])) == 0.2


both_classes = cells.filter(lambda pairs: not all(target for _, target in pairs))


@given(both_classes)
def test_youden_is_the_one_of_brute_force(pairs: list[tuple[float, int]]) -> None:
    assert column(youden, pairs) == brute_force(pairs, exact_youden)


@given(both_classes, st.integers(1, 20).map(lambda twentieth: twentieth / 20))
def test_target_precision_is_the_one_of_brute_force(pairs: list[tuple[float, int]], precision: float) -> None:
    asked = min(Fraction(str(precision)), max(exact_precision(t, pairs) for t in candidates(pairs)))

    def quality(threshold: float, pairs: list[tuple[float, int]]) -> tuple[int, int]:
        hits, accepted, _, _ = counts(threshold, pairs)
        return (hits, -accepted) if exact_precision(threshold, pairs) >= asked else (-1, 0)

    expected = max(quality(t, pairs) for t in candidates(pairs))
    threshold = column(target_precision, pairs, precision=precision)
    assert threshold in candidates(pairs)
    assert quality(threshold, pairs) == expected


def test_target_precision_says_where_it_is_not_reached() -> None:
    scores = np.array([[0.9, 0.9], [0.8, 0.8], [0.7, 0.7], [0.6, 0.6], [0.5, 0.5]])
    targets = np.array([[1, 0], [1, 1], [0, 1], [1, 0], [0, 1]], dtype=np.int8)
    thresholds, notes = target_precision(scores, targets, np.ones_like(targets, dtype=bool), precision=0.75)
    # 3 of 4 reach it at 0.55; of the other attribute's precisions 0, 1/2, 2/3, 1/2, 3/5 the third is the highest
    np.testing.assert_allclose(thresholds, [0.55, 0.65], rtol=1e-15)
    assert notes == ["", "validation precision 0.75 not reached: highest precision used"]


def test_notes_that_depend_on_scores_name_their_seeds() -> None:
    content = arrays(folds=1, missing=0.0)
    val = content["split"] == "val"
    content["logits"][0, val] = 4 * content["targets"][val] - 2  # the first seed separates everything
    content["logits"][1, val] = 2 - 4 * content["targets"][val]
    notes = tune(Predictions(**content), Spec("target_precision", {"precision": 1.0})).notes
    assert "fold 0, hat: validation precision 1.0 not reached: highest precision used (seed 10)" in notes


def cross_fit_by_hand(pairs: list[tuple[float, int]], parts: int, seed: int) -> float:
    """The classes dealt one after the other in the order of one set of random numbers."""
    ranked = sorted(pairs, key=lambda pair: (pair[1], pair[0]))
    keys = np.random.default_rng(seed).random(len(pairs))
    members: list[list[tuple[float, int]]] = [[] for _ in range(parts)]
    for target in (0, 1):
        own = sorted((key, pair) for key, pair in zip(keys, ranked, strict=True) if pair[1] == target)
        for number, (_, pair) in enumerate(own):
            members[number % parts].append(pair)
    complete = [part for part in members if {target for _, target in part} == {0, 1}]
    return float(np.mean([brute_force(part) for part in complete]))


@given(both_classes, st.integers(2, 6), st.integers(0, 3))
def test_cross_fit_is_the_mean_over_the_parts_that_hold_both_classes(
    pairs: list[tuple[float, int]], parts: int, seed: int
) -> None:
    assert column(cross_fit, pairs, parts=parts, seed=seed) == pytest.approx(cross_fit_by_hand(pairs, parts, seed))


def test_cross_fit_says_how_many_parts_hold_both_classes() -> None:
    rng = np.random.default_rng(0)
    targets = np.zeros((30, 3), dtype=np.int8)
    targets[:2, 0] = targets[:5, 1] = targets[:26, 2] = 1
    notes = cross_fit(rng.random((30, 3)), targets, np.ones_like(targets, dtype=bool))[1]
    assert notes == [f"only {few} of 5 parts hold both classes: mean over these" if few else "" for few in (2, 0, 4)]


def test_cross_fit_is_steadier_than_the_optimum_of_all_rows_where_positives_are_rare() -> None:
    rng = np.random.default_rng(0)
    shift, prior = 0.95, np.log(0.08 / 0.92)  # AUC .75

    def rows(number: int) -> tuple[np.ndarray, np.ndarray]:
        targets = rng.random(number) < 0.08
        return 1 / (1 + np.exp(-(shift * rng.normal(size=number) + shift**2 * (targets - 0.5) + prior))), targets

    new, truth = rows(20_000)
    found = []
    for _ in range(150):
        scores, targets = (values[:, None] for values in rows(117))
        limits = [policy(scores, targets, np.ones_like(targets))[0][0] for policy in (cross_fit, per_attribute_f1)]
        found.append([2 * (truth & (new > t)).sum() / (truth.sum() + (new > t).sum()) for t in limits])
    better, worse = np.mean(found, axis=0)
    assert better > worse + 0.01


def two_attributes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = np.array([[0.9, 0.1], [0.6, 0.3], [0.4, 0.2], [0.1, 0.8]])
    targets = np.array([[1, 0], [1, 0], [0, 0], [0, 1]], dtype=np.int8)
    return scores, targets, np.ones_like(targets, dtype=bool)


def test_each_policy_by_hand() -> None:
    scores, targets, observed = two_attributes()
    own = [0.5, (0.3 + 0.8) / 2]
    both = 0.5  # 0.4 | 0.6 separates all eight cells
    assert per_attribute_f1(scores, targets, observed)[0].tolist() == own
    assert pooled(scores, targets, observed)[0].tolist() == [both, both]
    expected = [2 / 12 * own[0] + 10 / 12 * both, 1 / 11 * own[1] + 10 / 11 * both]
    np.testing.assert_allclose(shrunk(scores, targets, observed)[0], expected, rtol=1e-15)
    assert fixed(scores, targets, observed, value=0.3)[0].tolist() == [0.3, 0.3]


@given(st.integers(0, 2**32 - 1), st.floats(0, 100))
def test_shrunk_lies_between_its_own_and_the_pooled_threshold(seed: int, k: float) -> None:
    rng = np.random.default_rng(seed)
    scores, targets = rng.random((12, 3)), rng.integers(0, 2, (12, 3))
    observed = rng.random((12, 3)) < 0.7
    own, shared = per_attribute_f1(scores, targets, observed)[0], pooled(scores, targets, observed)[0]
    weight = (observed & (targets == 1)).sum(0) / np.maximum((observed & (targets == 1)).sum(0) + k, 1e-300)
    np.testing.assert_allclose(
        shrunk(scores, targets, observed, k=k)[0], weight * own + (1 - weight) * shared, atol=1e-15
    )


@pytest.mark.parametrize("policy", [per_attribute_f1, shrunk, cross_fit, target_precision, youden])
def test_an_attribute_of_one_class_falls_back_to_the_pooled_threshold_and_says_so(policy: Callable[..., Any]) -> None:
    scores, targets, observed = two_attributes()
    for target, absent in ((0, "positive"), (1, "negative")):
        targets[:, 1] = target
        shared = pooled(scores, targets, observed)[0][1]
        thresholds, notes = policy(scores, targets, observed)
        assert thresholds[1] == shared
        assert notes[1] == f"no observed validation {absent}: pooled threshold used"
        assert "pooled" not in notes[0]
    observed[:, 1] = False
    assert policy(scores, targets, observed)[1][1] == "no observed validation label: pooled threshold used"


def test_shrunk_by_nothing_is_each_attributes_own_threshold() -> None:
    scores, targets, observed = two_attributes()
    assert np.array_equal(shrunk(scores, targets, observed, k=0.0)[0], per_attribute_f1(scores, targets, observed)[0])
    targets[:, 1] = 0  # no positive either
    assert shrunk(scores, targets, observed, k=0.0)[0][1] == pooled(scores, targets, observed)[0][1]


@pytest.mark.parametrize("policy", [per_attribute_f1, pooled, shrunk, cross_fit, target_precision, youden])
@pytest.mark.parametrize("target", [0, 1])
def test_without_two_classes_anywhere_the_threshold_is_one_half_and_says_so(
    policy: Callable[..., Any], target: int
) -> None:
    scores, targets, observed = two_attributes()
    thresholds, notes = policy(scores, np.full_like(targets, target), observed)
    assert thresholds.tolist() == [0.5, 0.5]
    assert all("no two classes among all validation labels: 0.5 used" in note for note in notes)
    assert policy(scores[:0], targets[:0], observed[:0])[0].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", THRESHOLDS)
def test_every_policy_keeps_the_contract(name: str) -> None:
    policy = registry.build("threshold", THRESHOLDS, name)
    rng = np.random.default_rng(3)
    scores, targets, observed = rng.random((40, 3)), rng.integers(0, 2, (40, 3)), rng.random((40, 3)) < 0.8
    thresholds, notes = policy(scores, targets, observed)
    assert thresholds.shape == (3,)
    assert thresholds.dtype == np.float64
    assert ((thresholds >= 0) & (thresholds <= 1)).all()
    assert len(notes) == 3
    disturbed = policy(np.where(observed, scores, np.nan), np.where(observed, targets, 9), observed)
    assert np.array_equal(disturbed[0], thresholds)
    order = rng.permutation(40)
    assert np.array_equal(policy(scores[order], targets[order], observed[order])[0], thresholds)


def test_tune_applies_the_policy_to_each_seed_and_fold() -> None:
    run = predictions(folds=3, seeds=2)
    thresholds = tune(run, Spec("shrunk", {"k": 3.0}))
    assert thresholds.policy == "shrunk(k=3.0)"
    assert thresholds.values.shape == (2, 3, 4)
    for s in range(2):
        for fold in range(3):
            val = (run.fold == fold) & (run.split == "val")
            expected, _ = shrunk(run.probabilities[s, val], run.targets[val], run.observed[val], k=3.0)
            assert np.array_equal(thresholds.values[s, fold], expected)


@pytest.mark.parametrize("name", THRESHOLDS)
@pytest.mark.parametrize("folds", [1, 3])
def test_tune_never_sees_a_test_row(name: str, folds: int) -> None:
    content = arrays(folds=folds)
    before = tune(Predictions(**content), Spec(name))
    test = content["split"] == "test"
    rng = np.random.default_rng(1)
    content["logits"][:, test] = rng.normal(size=content["logits"][:, test].shape)
    content["observed"][test] = rng.random(content["observed"][test].shape) < 0.5
    content["targets"][test] = content["observed"][test] & (rng.random(content["targets"][test].shape) < 0.5)
    after = tune(Predictions(**content), Spec(name))
    assert np.array_equal(before.values, after.values)
    assert before.notes == after.notes


def test_notes_name_fold_and_attribute_once_for_all_seeds() -> None:
    content = arrays()
    val = (content["split"] == "val") & (content["fold"] == 1)
    content["targets"][val, 3] = 0
    notes = tune(Predictions(**content), Spec("per_attribute_f1")).notes
    assert "fold 1, rare: no observed validation positive: pooled threshold used" in notes
    assert len(set(notes)) == len(notes)


def with_groups(seed: int, size: int) -> dict[str, Any]:
    """A hold-out whose validation rows stand in groups of `size`."""
    content = arrays(seed, folds=1, pictures=240)
    content["group"] = np.where(content["split"] == "val", content["group"] // (6 * size), content["group"] + 1000)
    content["group"] = content["group"].astype(np.int32)
    return content


@pytest.mark.parametrize("name", THRESHOLDS)
@pytest.mark.parametrize("size", [1, 3])
def test_a_cross_fitted_threshold_has_not_seen_the_labels_it_judges(name: str, size: int) -> None:
    content = with_groups(0, size)
    val = content["split"] == "val"
    groups = content["group"][val]
    before = cross_fitted(Predictions(**content), Spec(name))
    for group in np.unique(groups):
        changed = {**content, "logits": content["logits"].copy()}
        own = np.flatnonzero(val)[groups == group]
        changed["logits"][:, own] = -changed["logits"][:, own]  # scores alone: the labels decide who is in which part
        after = cross_fitted(Predictions(**changed), Spec(name))
        assert np.array_equal(before[:, groups == group], after[:, groups == group])


def test_cross_fitted_thresholds_are_those_of_the_policy_on_the_other_parts() -> None:
    run = predictions(folds=3, pictures=150)
    expected = np.full(run.probabilities.shape, np.nan)
    for fold in range(3):
        rows = np.flatnonzero((run.fold == fold) & (run.split == "val"))
        part = _grouped_parts(run.group[rows], run.targets[rows], run.observed[rows])
        assert np.unique(part).tolist() == [0, 1, 2, 3, 4]
        for s, number in itertools.product(range(2), range(5)):
            own, others = rows[part == number], rows[part != number]
            expected[s, own], _ = shrunk(run.probabilities[s, others], run.targets[others], run.observed[others], k=3.0)
    found = cross_fitted(run, Spec("shrunk", {"k": 3.0}))
    assert np.array_equal(found, expected[:, run.split == "val"])


@pytest.mark.parametrize("seed", range(3))
def test_parts_are_dealt_by_whole_groups_and_evenly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 60, 117)
    targets = (rng.random((117, 3)) < (0.9, 0.5, 0.1)).astype(np.int8)
    observed = rng.random(targets.shape) < 0.9
    part = _grouped_parts(group, targets * observed, observed)
    assert all(len(np.unique(part[group == one])) == 1 for one in np.unique(group))
    dealt = [len(np.unique(group[part == number])) for number in range(5)]
    assert max(dealt) - min(dealt) <= 1
    holds = [len(np.unique(group[(part == number) & observed[:, 2] & (targets[:, 2] == 1)])) for number in range(5)]
    assert max(holds) - min(holds) <= 1  # groups with a positive of the rarest attribute


def test_with_few_groups_there_are_fewer_parts() -> None:
    content = arrays(folds=1)
    val = content["split"] == "val"
    content["group"][val] = np.arange(val.sum()) % 2
    content["group"][~val] += 100
    limits = cross_fitted(Predictions(**content), Spec("per_attribute_f1"))
    assert len(np.unique(limits[0], axis=0)) <= 2
    content["group"][val] = 0
    assert (cross_fitted(Predictions(**content), Spec("per_attribute_f1")) == 0.5).all()  # nothing to tune on


@pytest.mark.parametrize("value", [0, 1, -0.5, float("nan"), "half"])
def test_fixed_takes_a_probability_between_0_and_1(value: object) -> None:
    with pytest.raises(UserError, match=r"^threshold: found"):
        tune(predictions(), Spec("fixed", {"value": value}))


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_thresholds_survive_the_file_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.mktemp("thresholds") / "thresholds.json"
    before = Thresholds("pooled", ["a", "größe"], [3], [0, 1], np.array(values).reshape(1, 2, 2), ["a note"])
    before.save(path)
    after = Thresholds.load(path)
    assert np.array_equal(before.values, after.values)
    assert {**vars(before), "values": 0} == {**vars(after), "values": 0}


VALID = b'{"policy": "p", "attribute": ["a"], "seed": [0], "fold": [0], "thresholds": [[[0.5]]], "notes": []}'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0.5", b"NaN"),
        (b"0.5", b"null"),
        (b"0.5", b'"0.5"'),
        (b"0.5", b"1.5"),
        (b"[[[0.5]]]", b"[[[0.5], [0.5]]]"),
        (b"[[[0.5]]]", b"[[[0.5], []]]"),
        (b'"notes"', b'"remarks"'),
        (b'"notes": []', b'"notes": [], "more": 1'),
        (b'"a"', b'"\xff"'),
        (b"}", b""),
        (VALID, b""),
    ],
)
def test_a_thresholds_file_is_read_strictly(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "thresholds.json"
    path.write_bytes(VALID)
    assert Thresholds.load(path).values.tolist() == [[[0.5]]]
    path.write_bytes(VALID.replace(old, new))
    with pytest.raises(UserError, match=r"thresholds\.json: found a file that cannot be used"):
        Thresholds.load(path)


def test_a_missing_thresholds_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"thresholds\.json"):
        Thresholds.load(tmp_path / "thresholds.json")


def test_thresholds_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[S, F, A\] = \(1, 2, 1\)"):
        Thresholds("fixed", ["a"], [0], [0, 1], np.zeros((1, 1, 1)), [])
