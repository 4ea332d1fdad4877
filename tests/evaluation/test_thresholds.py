from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    Pairs,
    arrays,
    brute_force,
    candidates,
    counts,
    exact_f1,
    parts,
    predictions,
    probabilities,
    run_of,
)

from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.scores import targets
from aimonk_bench.evaluation.thresholds import (
    THRESHOLDS,
    ThresholdNote,
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
from aimonk_bench.records.files import checked, dumps
from aimonk_bench.registry import Spec
from aimonk_bench.testing import check_threshold

coarse = st.integers(0, 10).map(lambda tenth: tenth / 10)  # ties, exact 0 and 1
probability = coarse | st.floats(0, 1) | st.floats(-40, 40).map(lambda logit: float(1 / (1 + np.exp(-logit))))
cells = st.lists(st.tuples(probability, st.integers(0, 1)), min_size=1, max_size=12).filter(
    lambda pairs: any(target for _, target in pairs)
)


def exact_youden(threshold: float, pairs: Pairs) -> Fraction:
    hits, accepted, positives, rows = counts(threshold, pairs)
    return Fraction(hits, positives) - Fraction(accepted - hits, rows - positives)


def exact_precision(threshold: float, pairs: Pairs) -> Fraction:
    hits, accepted, _, _ = counts(threshold, pairs)
    return Fraction(hits, max(accepted, 1))


def column(pairs: Pairs) -> tuple[np.ndarray, Labels]:
    """Scores and labels of one attribute, [R, 1]."""
    scores, targets = np.array(pairs).T[:, :, None]
    return scores, Labels.of(targets, np.ones(targets.shape, dtype=bool))


def threshold(policy: Callable[..., Any], pairs: Pairs, **options: Any) -> float:
    return float(policy(*column(pairs), **options)[0][0])


def every(targets: np.ndarray) -> Labels:
    """Labels that are all observed."""
    return Labels.of(targets, np.ones(targets.shape, dtype=bool))


@given(cells)
def test_the_best_threshold_is_the_one_of_brute_force(pairs: Pairs) -> None:
    assert best_f1(*column(pairs)) == brute_force(pairs)


@given(cells)
def test_no_threshold_at_all_has_a_higher_f1(pairs: Pairs) -> None:
    reached = exact_f1(best_f1(*column(pairs)).item(), pairs)
    assert reached == max(exact_f1(t, pairs) for t in [0.0, *(score for score, _ in pairs)])  # every cut there is


@given(st.lists(cells, min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_columns_side_by_side_are_each_divided_as_if_alone(several: list[Pairs], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, targets = rng.random((2, 12, len(several)))
    observed = np.zeros(scores.shape, dtype=bool)
    for a, pairs in enumerate(several):
        place = rng.permutation(12)[: len(pairs)]
        (scores[place, a], targets[place, a]), observed[place, a] = np.array(pairs).T, True
    assert best_f1(scores, Labels.of(targets, observed)).tolist() == [brute_force(pairs) for pairs in several]


def test_on_equal_f1_the_threshold_nearest_one_half_then_the_lower() -> None:
    # one hit in one accepted row, or two hits in all four: both F1 2/3, by a cut at 0.5 or 0.1
    assert best_f1(*column([(0.2, 1), (0.3, 0), (0.4, 0), (0.6, 1)])) == 0.5
    # the same counts, by a cut at 0.75 or 0.25, equally near: the lower
    assert best_f1(*column([(0.5, 1), (0.5, 0), (0.5, 0), (1.0, 1)])) == 0.25


def test_a_threshold_between_neighbouring_floats_still_separates() -> None:
    for lower in (0.3, 0.5, np.nextafter(0.5, 1), np.nextafter(1, 0)):
        upper = np.nextafter(lower, 2)
        assert lower <= best_f1(*column([(lower, 0), (upper, 1)])) < upper


def test_constant_scores_are_all_accepted() -> None:
    assert best_f1(*column([(0.4, 0), (0.4, 1), (0.4, 0), (0.4, 0), (0.4, 0)])) == 0.2


both_classes = cells.filter(lambda pairs: not all(target for _, target in pairs))


@given(both_classes)
def test_youden_is_the_one_of_brute_force(pairs: Pairs) -> None:
    assert threshold(youden, pairs) == brute_force(pairs, exact_youden)


@given(both_classes, st.integers(1, 20).map(lambda twentieth: twentieth / 20))
def test_target_precision_is_the_one_of_brute_force(pairs: Pairs, precision: float) -> None:
    asked = min(Fraction(str(precision)), max(exact_precision(t, pairs) for t in candidates(pairs)))

    def quality(threshold: float, pairs: Pairs) -> tuple[int, int]:
        hits, accepted, _, _ = counts(threshold, pairs)
        return (hits, -accepted) if exact_precision(threshold, pairs) >= asked else (-1, 0)

    expected = max(quality(t, pairs) for t in candidates(pairs))
    result = threshold(target_precision, pairs, precision=precision)
    assert result in candidates(pairs)
    assert quality(result, pairs) == expected


def test_target_precision_says_where_it_is_not_reached() -> None:
    scores = np.array([[0.9, 0.9], [0.8, 0.8], [0.7, 0.7], [0.6, 0.6], [0.5, 0.5]])
    targets = np.array([[1, 0], [1, 1], [0, 1], [1, 0], [0, 1]], dtype=np.int8)
    thresholds, notes = target_precision(scores, every(targets), precision=0.75)
    # 3 of 4 reach it at 0.55; of the other attribute's precisions 0, 1/2, 2/3, 1/2, 3/5 the third is the highest
    np.testing.assert_allclose(thresholds, [0.55, 0.65], rtol=1e-15)
    assert notes == ["", "validation precision 0.75 not reached: highest precision used"]


def test_notes_that_depend_on_scores_name_their_seeds() -> None:
    content = arrays(folds=1, missing=0.0)
    val = content["split"] == "val"
    content["logits"][0, val] = 4 * content["targets"][val] - 2  # the first seed separates everything
    content["logits"][1, val] = 2 - 4 * content["targets"][val]
    notes = tune(run_of(content), Spec("target_precision", {"precision": 1.0})).notes
    reason = "validation precision 1.0 not reached: highest precision used"
    assert ThresholdNote(fold=0, attribute="hat", reason=reason, seeds=[10]) in notes


def cross_fit_by_hand(pairs: Pairs, parts: int, seed: int) -> float:
    """The rows of each class go to the parts in turn, in the order of one set of random numbers."""
    ranked = sorted(pairs, key=lambda pair: (pair[1], pair[0]))
    keys = np.random.default_rng(seed).random(len(pairs))
    members: list[Pairs] = [[] for _ in range(parts)]
    for target in (0, 1):
        of_class = sorted((key, pair) for key, pair in zip(keys, ranked, strict=True) if pair[1] == target)
        for number, (_, pair) in enumerate(of_class):
            members[number % parts].append(pair)
    complete = [part for part in members if {target for _, target in part} == {0, 1}]
    return float(np.mean([brute_force(part) for part in complete]))


@given(both_classes, st.integers(2, 6), st.integers(0, 3))
def test_cross_fit_is_the_mean_over_the_parts_that_hold_both_classes(pairs: Pairs, parts: int, seed: int) -> None:
    assert threshold(cross_fit, pairs, parts=parts, seed=seed) == pytest.approx(cross_fit_by_hand(pairs, parts, seed))


def test_cross_fit_says_how_many_parts_hold_both_classes() -> None:
    rng = np.random.default_rng(0)
    targets = np.zeros((30, 3), dtype=np.int8)
    targets[:2, 0] = targets[:5, 1] = targets[:26, 2] = 1
    notes = cross_fit(rng.random((30, 3)), every(targets))[1]
    assert notes == [f"only {few} of 5 parts hold both classes: mean over these" if few else "" for few in (2, 0, 4)]


def test_cross_fit_is_steadier_than_the_optimum_of_all_rows_where_positives_are_rare() -> None:
    rng = np.random.default_rng(0)
    shift, prior = 0.95, np.log(0.08 / 0.92)  # AUC .75

    def rows(number: int) -> tuple[np.ndarray, np.ndarray]:
        targets = rng.random(number) < 0.08
        return 1 / (1 + np.exp(-(shift * rng.normal(size=number) + shift**2 * (targets - 0.5) + prior))), targets

    new, truth = rows(20_000)
    result = []
    for _ in range(150):
        scores, targets = (values[:, None] for values in rows(117))
        limits = [policy(scores, every(targets))[0][0] for policy in (cross_fit, per_attribute_f1)]
        result.append([2 * (truth & (new > t)).sum() / (truth.sum() + (new > t).sum()) for t in limits])
    better, worse = np.mean(result, axis=0)
    assert better > worse + 0.01


def two_attributes() -> tuple[np.ndarray, np.ndarray]:
    """Scores and targets [4, 2]."""
    scores = np.array([[0.9, 0.1], [0.6, 0.3], [0.4, 0.2], [0.1, 0.8]])
    targets = np.array([[1, 0], [1, 0], [0, 0], [0, 1]], dtype=np.int8)
    return scores, targets


def test_each_policy_by_hand() -> None:
    scores, targets = two_attributes()
    labels = every(targets)
    alone = [0.5, (0.3 + 0.8) / 2]
    both = 0.5  # 0.4 | 0.6 separates all eight labels
    assert per_attribute_f1(scores, labels)[0].tolist() == alone
    assert pooled(scores, labels)[0].tolist() == [both, both]
    expected = [2 / 12 * alone[0] + 10 / 12 * both, 1 / 11 * alone[1] + 10 / 11 * both]
    np.testing.assert_allclose(shrunk(scores, labels)[0], expected, rtol=1e-15)
    assert fixed(scores, labels, value=0.3)[0].tolist() == [0.3, 0.3]


@given(st.integers(0, 2**32 - 1), st.floats(0, 100))
def test_shrunk_lies_between_its_own_and_the_pooled_threshold(seed: int, k: float) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.random((12, 3)), Labels.of(rng.integers(0, 2, (12, 3)), rng.random((12, 3)) < 0.7)
    alone, shared = per_attribute_f1(scores, labels)[0], pooled(scores, labels)[0]
    weight = labels.positive.sum(0) / np.maximum(labels.positive.sum(0) + k, 1e-300)
    np.testing.assert_allclose(shrunk(scores, labels, k=k)[0], weight * alone + (1 - weight) * shared, atol=1e-15)


@pytest.mark.parametrize("policy", [per_attribute_f1, shrunk, cross_fit, target_precision, youden])
def test_an_attribute_of_one_class_falls_back_to_the_pooled_threshold_and_says_so(policy: Callable[..., Any]) -> None:
    scores, targets = two_attributes()
    for target, absent in ((0, "positive"), (1, "negative")):
        targets[:, 1] = target
        shared = pooled(scores, every(targets))[0][1]
        thresholds, notes = policy(scores, every(targets))
        assert thresholds[1] == shared
        assert notes[1] == f"no observed validation {absent}: pooled threshold used"
        assert "pooled" not in notes[0]
    first = Labels.of(targets, np.array([True, False]) & (targets >= 0))
    assert policy(scores, first)[1][1] == "no observed validation label: pooled threshold used"


def test_shrunk_by_nothing_is_each_attributes_own_threshold() -> None:
    scores, targets = two_attributes()
    assert np.array_equal(shrunk(scores, every(targets), k=0.0)[0], per_attribute_f1(scores, every(targets))[0])
    targets[:, 1] = 0  # no positive either
    assert shrunk(scores, every(targets), k=0.0)[0][1] == pooled(scores, every(targets))[0][1]


@pytest.mark.parametrize("policy", [per_attribute_f1, pooled, shrunk, cross_fit, target_precision, youden])
@pytest.mark.parametrize("target", [0, 1])
def test_without_two_classes_anywhere_the_threshold_is_one_half_and_says_so(
    policy: Callable[..., Any], target: int
) -> None:
    scores, targets = two_attributes()
    labels = every(np.full_like(targets, target))
    thresholds, notes = policy(scores, labels)
    assert thresholds.tolist() == [0.5, 0.5]
    assert all("no two classes among all validation labels: 0.5 used" in note for note in notes)
    assert policy(scores[:0], labels[:0])[0].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", THRESHOLDS)
def test_every_policy_keeps_the_contract(name: str) -> None:
    check_threshold(THRESHOLDS[name])


def test_tune_applies_the_policy_to_each_seed_and_fold() -> None:
    run = predictions(folds=3, seeds=2)
    thresholds = tune(run, Spec("shrunk", {"k": 3.0}))
    assert thresholds.policy == "shrunk(k=3.0)"
    assert thresholds.values.shape == (2, 3, 4)
    for s in range(2):
        for fold in range(3):
            val = (run.fold == fold) & (run.split == "val")
            expected, _ = shrunk(probabilities(run)[s, val], run.labels[val], k=3.0)
            assert np.array_equal(thresholds.values[s, fold], expected)


@pytest.mark.parametrize("name", THRESHOLDS)
@pytest.mark.parametrize("folds", [1, 3])
def test_tune_never_sees_a_test_row(name: str, folds: int) -> None:
    content = arrays(folds=folds)
    before = tune(run_of(content), Spec(name))
    test = content["split"] == "test"
    rng = np.random.default_rng(1)
    content["logits"][:, test] = rng.normal(size=content["logits"][:, test].shape)
    content["observed"][test] = rng.random(content["observed"][test].shape) < 0.5
    content["targets"][test] = content["observed"][test] & (rng.random(content["targets"][test].shape) < 0.5)
    after = tune(run_of(content), Spec(name))
    assert np.array_equal(before.values, after.values)
    assert before.notes == after.notes


def test_notes_name_fold_and_attribute_once_for_all_seeds() -> None:
    content = arrays()
    val = (content["split"] == "val") & (content["fold"] == 1)
    content["targets"][val, 3] = 0
    notes = tune(run_of(content), Spec("per_attribute_f1")).notes
    reason = "no observed validation positive: pooled threshold used"
    assert ThresholdNote(fold=1, attribute="rare", reason=reason, seeds=[0, 10]) in notes
    assert len({(note.fold, note.attribute) for note in notes}) == len(notes)


def with_groups(seed: int, size: int) -> dict[str, Any]:
    """A hold-out whose validation rows stand in groups of `size`."""
    content = arrays(seed, folds=1, images=240)
    content["group"] = np.where(content["split"] == "val", content["group"] // (6 * size), content["group"] + 1000)
    content["group"] = content["group"].astype(np.int32)
    return content


@pytest.mark.parametrize("name", THRESHOLDS)
@pytest.mark.parametrize("size", [1, 3])
def test_a_cross_fitted_threshold_has_not_seen_the_labels_it_judges(name: str, size: int) -> None:
    content = with_groups(0, size)
    val = content["split"] == "val"
    groups = content["group"][val]
    before = cross_fitted(run_of(content), Spec(name))
    for group in np.unique(groups):
        changed = {**content, "logits": content["logits"].copy()}
        rows = np.flatnonzero(val)[groups == group]
        changed["logits"][:, rows] = -changed["logits"][:, rows]  # scores alone: the labels decide who is in which part
        after = cross_fitted(run_of(changed), Spec(name))
        assert np.array_equal(before[:, groups == group], after[:, groups == group])


def test_cross_fitted_thresholds_are_those_of_the_policy_on_the_other_parts() -> None:
    run = predictions(folds=3, images=150)
    scores = probabilities(run)
    expected = np.full(scores.shape, np.nan)
    for fold in range(3):
        rows = np.flatnonzero((run.fold == fold) & (run.split == "val"))
        part = parts(run.group[rows], run.labels.targets[rows], run.labels.observed[rows])
        assert np.unique(part).tolist() == [0, 1, 2, 3, 4]
        for s, number in itertools.product(range(2), range(5)):
            judged, others = rows[part == number], rows[part != number]
            expected[s, judged], _ = shrunk(scores[s, others], run.labels[others], k=3.0)
    result = cross_fitted(run, Spec("shrunk", {"k": 3.0}))
    assert np.array_equal(result, expected[:, run.split == "val"])


@pytest.mark.parametrize("seed", range(3))
def test_parts_hold_whole_groups_and_are_even(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 60, 117)
    targets = (rng.random((117, 3)) < (0.9, 0.5, 0.1)).astype(np.int8)
    observed = rng.random(targets.shape) < 0.9
    part = _grouped_parts(group, Labels.of(targets, observed))
    assert all(len(np.unique(part[group == one])) == 1 for one in np.unique(group))
    sizes = [len(np.unique(group[part == number])) for number in range(5)]
    assert max(sizes) - min(sizes) <= 1
    holds = [len(np.unique(group[(part == number) & observed[:, 2] & (targets[:, 2] == 1)])) for number in range(5)]
    assert max(holds) - min(holds) <= 1  # groups with a positive of the rarest attribute


def test_with_few_groups_there_are_fewer_parts() -> None:
    content = arrays(folds=1)
    val = content["split"] == "val"
    content["group"][val] = np.arange(val.sum()) % 2
    content["group"][~val] += 100
    limits = cross_fitted(run_of(content), Spec("per_attribute_f1"))
    assert len(np.unique(limits[0], axis=0)) <= 2
    content["group"][val] = 0
    assert (cross_fitted(run_of(content), Spec("per_attribute_f1")) == 0.5).all()  # nothing to tune on


@pytest.mark.parametrize("value", [0, 1, -0.5, float("nan"), "half"])
def test_fixed_takes_a_probability_between_0_and_1(value: object) -> None:
    with pytest.raises(UserError, match=r"^threshold: found"):
        tune(predictions(), Spec("fixed", {"value": value}))


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_thresholds_survive_the_file_bit_by_bit(values: list[float]) -> None:
    note = ThresholdNote(fold=1, attribute="größe", reason="why", seeds=[3])
    before = Thresholds("pooled", ["a", "größe"], [3], np.array(values).reshape(1, 2, 2), [note])
    after = checked(Thresholds, json.loads(dumps(before.to_json())), FILE)
    assert np.array_equal(before.values, after.values)
    assert {**vars(before), "values": 0} == {**vars(after), "values": 0}


def test_sentences_in_the_notes_of_an_older_file_are_left_out() -> None:
    content = json.loads(VALID) | {"notes": ["fold 0, a: why"]}
    assert checked(Thresholds, content, FILE).notes == []


FILE = Path("thresholds.json")
VALID = '{"policy": "p", "attribute": ["a"], "seed": [0], "fold": [0], "thresholds": [[[0.5]]], "notes": []}'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.5", "NaN"),
        ("0.5", "null"),
        ("0.5", '"half"'),
        ("0.5", "{}"),
        ("0.5", "1.5"),
        ("[[[0.5]]]", "[[[0.5, 0.5]]]"),
        ("[[[0.5]]]", "[[[0.5], []]]"),
        ('"thresholds"', '"remarks"'),
        ('"seed": [0]', '"seed": [0, 1]'),
        ('"notes": []', '"notes": 1'),
        ('"notes": []', '"notes": [{"fold": 0}]'),
    ],
)
def test_a_thresholds_file_of_another_layout_is_refused(old: str, new: str) -> None:
    assert checked(Thresholds, json.loads(VALID), FILE).values.tolist() == [[[0.5]]]
    with pytest.raises(UserError, match=r"^thresholds\.json: "):
        checked(Thresholds, json.loads(VALID.replace(old, new)), FILE)


# Policies of single attributes ----------------------------------------------------------------------------------------

MIXED = Spec("per_attribute_f1", attributes={"smile": Spec("target_precision", {"precision": 0.8})})


@pytest.mark.parametrize("folds", [1, 3])
def test_an_attribute_gets_the_threshold_that_its_own_policy_gives_it(folds: int) -> None:
    run = predictions(folds=folds, seeds=2, without_positives=["rare"])
    mixed = tune(run, MIXED)
    usual, other = tune(run, Spec("per_attribute_f1")), tune(run, MIXED.attributes["smile"])
    column = run.labels.attributes.index("smile")
    expected = usual.values.copy()
    expected[..., column] = other.values[..., column]
    assert (other.values[..., column] != usual.values[..., column]).any()
    assert np.array_equal(mixed.values, expected)
    assert mixed.policy == "per_attribute_f1(smile: target_precision(precision=0.8))"
    notes = [
        note
        for made, chosen in ((usual, False), (other, True))
        for note in made.notes
        if (note.attribute == "smile") == chosen
    ]
    assert sorted(map(str, mixed.notes)) == sorted(map(str, notes))
    judged = cross_fitted(run, MIXED)
    expected = cross_fitted(run, Spec("per_attribute_f1"))
    expected[..., column] = cross_fitted(run, MIXED.attributes["smile"])[..., column]
    assert np.array_equal(judged, expected)


def test_an_unknown_attribute_is_refused_with_the_nearest_name() -> None:
    policy = Spec("pooled", attributes={"rar": Spec("fixed"), "hat": Spec("fixed"), "x": Spec("fixed")})
    for function in (tune, cross_fitted):
        with pytest.raises(UserError) as error:
            function(predictions(), policy)
        first, second = error.value.problems
        assert first.startswith("threshold.for.rar: found unknown attribute 'rar', expected one of smile, hat")
        assert first.endswith("(did you mean rare?)")
        assert second.startswith("threshold.for.x: ")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Spec("pooled"), {}),
        (Spec("target_precision"), {"precision": [0.9, 0.9]}),
        (Spec("target_precision", {"precision": 0.5}, {"b": Spec("fixed")}), {"precision": [0.5, np.nan]}),
        (Spec("fixed", attributes={"b": Spec("target_precision")}), {"precision": [np.nan, 0.9]}),
        (
            Spec("target_precision", attributes={"b": Spec("wanted")}),
            {"precision": [0.9, np.nan], "recall": [np.nan, 0.7]},
        ),
    ],
)
def test_an_option_that_is_named_after_a_figure_is_its_target(
    policy: Spec, expected: dict[str, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wanted(scores: Any, labels: Any, *, recall: float = 0.7) -> Any:
        """Some recall."""

    monkeypatch.setitem(THRESHOLDS, "wanted", wanted)
    aimed = targets(policy, ["a", "b"])
    assert list(aimed) == list(expected)
    for figure, values in expected.items():
        np.testing.assert_array_equal(aimed[figure], values)
