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
    best_f1_threshold,
    fixed,
    per_attribute_f1,
    pooled,
    shrunk,
    tune,
)
from aimonk_bench.registry import Spec

coarse = st.integers(0, 10).map(lambda tenth: tenth / 10)  # ties, exact 0 and 1
probability = coarse | st.floats(0, 1) | st.floats(-40, 40).map(lambda logit: float(1 / (1 + np.exp(-logit))))
cells = st.lists(st.tuples(probability, st.integers(0, 1)), min_size=1, max_size=12).filter(
    lambda pairs: any(target for _, target in pairs)
)


def exact_f1(threshold: float, pairs: list[tuple[float, int]]) -> Fraction:
    accepted = [target for score, target in pairs if score > threshold]
    return Fraction(2 * sum(accepted), len(accepted) + sum(target for _, target in pairs))


def brute_force(pairs: list[tuple[float, int]]) -> float:
    scores = sorted({score for score, _ in pairs})
    candidates = [scores[0] / 2, (1 + scores[-1]) / 2]
    for lower, upper in itertools.pairwise(scores):
        middle = (lower + upper) / 2
        candidates.append(middle if middle < upper else lower)
    return min(candidates, key=lambda t: (-exact_f1(t, pairs), abs(t - 0.5), t))


def columns(pairs: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in pairs]), np.array([target for _, target in pairs], dtype=np.int8)


@given(cells)
def test_the_best_threshold_is_the_one_of_brute_force(pairs: list[tuple[float, int]]) -> None:
    assert best_f1_threshold(*columns(pairs)) == brute_force(pairs)


@given(cells)
def test_no_threshold_at_all_has_a_higher_f1(pairs: list[tuple[float, int]]) -> None:
    reached = exact_f1(best_f1_threshold(*columns(pairs)), pairs)
    assert reached == max(exact_f1(t, pairs) for t in [0.0, *(score for score, _ in pairs)])  # every cut there is


def test_on_equal_f1_the_threshold_nearest_one_half_then_the_lower() -> None:
    # one hit in one accepted row, or two hits in all four: both F1 2/3, by a cut at 0.5 or 0.1
    assert best_f1_threshold(np.array([0.2, 0.3, 0.4, 0.6]), np.array([1, 0, 0, 1])) == 0.5
    # the same counts, by a cut at 0.75 or 0.25, equally near: the lower
    assert best_f1_threshold(np.array([0.5, 0.5, 0.5, 1.0]), np.array([1, 0, 0, 1])) == 0.25


def test_a_cut_between_neighbouring_floats_still_separates() -> None:
    for lower in (0.3, 0.5, np.nextafter(0.5, 1), np.nextafter(1, 0)):
        upper = np.nextafter(lower, 2)
        threshold = best_f1_threshold(np.array([lower, upper]), np.array([0, 1]))
        assert lower <= threshold < upper


def test_constant_scores_are_all_accepted() -> None:
    assert best_f1_threshold(np.full(5, 0.4), np.array([0, 1, 0, 0, 0])) == 0.2


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


@pytest.mark.parametrize("policy", [per_attribute_f1, shrunk])
def test_an_attribute_of_one_class_falls_back_to_the_pooled_threshold_and_says_so(policy: Callable[..., Any]) -> None:
    scores, targets, observed = two_attributes()
    for target, absent in ((0, "positive"), (1, "negative")):
        targets[:, 1] = target
        shared = pooled(scores, targets, observed)[0][1]
        thresholds, notes = policy(scores, targets, observed)
        assert thresholds[1] == shared
        assert notes == ["", f"no observed validation {absent}: pooled threshold used"]
    observed[:, 1] = False
    assert policy(scores, targets, observed)[1][1] == "no observed validation label: pooled threshold used"


def test_shrunk_by_nothing_is_each_attributes_own_threshold() -> None:
    scores, targets, observed = two_attributes()
    assert np.array_equal(shrunk(scores, targets, observed, k=0.0)[0], per_attribute_f1(scores, targets, observed)[0])
    targets[:, 1] = 0  # no positive either
    assert shrunk(scores, targets, observed, k=0.0)[0][1] == pooled(scores, targets, observed)[0][1]


@pytest.mark.parametrize("policy", [per_attribute_f1, pooled, shrunk])
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
