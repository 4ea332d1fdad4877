from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles import arrays, predictions, run_of
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation import association, probe
from aimonk_bench.evaluation.association import BeforeTraining, after_training, before_training
from aimonk_bench.evaluation.comparison import holm
from aimonk_bench.records.files import checked, plain


def data(rows: int, width: int, seed: int = 0, attributes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, targets and observed labels; the first attribute depends on the first feature."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, width)).astype(np.float32) * rng.uniform(0.1, 10, width).astype(np.float32)
    targets = (rng.random((rows, attributes)) < 0.5).astype(np.int8)
    targets[:, 0] = features[:, 0] > 0
    return features, targets, rng.random(targets.shape) >= 0.2


def standardised(features: np.ndarray) -> np.ndarray:
    x = features.astype(np.float64)
    return (x - x.mean(0)) / x.std(0)


def kernel(features: np.ndarray) -> np.ndarray:
    """G (G + 10)^-1."""
    x = standardised(features)
    gram = x @ x.T / x.shape[1]
    return gram @ np.linalg.inv(gram + 10 * np.eye(len(gram)))


# --- before training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "width"), [(30, 7), (30, 100)])  # the two forms: more rows, more features
def test_the_kernel_is_that_of_the_formula(rows: int, width: int) -> None:
    features, _, _ = data(rows, width)
    factor = association._kernel_factor(*probe.standardised(features))
    assert factor.shape == (rows, min(rows, width))
    np.testing.assert_allclose(factor @ factor.T, kernel(features), atol=1e-5)


@pytest.mark.parametrize("width", [4, 40])
def test_score_test_agrees_with_all_permutations(width: int) -> None:
    features, targets, observed = data(11, width)
    result = association.score_test(features, Labels.of(targets, observed), permutations=20_000, seed=0)
    k = kernel(features)
    for a in range(targets.shape[1]):
        rows = np.flatnonzero(observed[:, a])
        values = []
        for chosen in itertools.combinations(rows, int(targets[rows, a].sum())):
            y = np.isin(rows, chosen) - len(chosen) / len(rows)
            pairs = itertools.permutations(range(len(rows)), 2)
            values.append(sum(y[i] * k[rows[i], rows[j]] * y[j] for i, j in pairs))
            if np.array_equal(np.isin(rows, chosen), targets[rows, a] == 1):
                observed_value = values[-1]
        exact = np.mean(np.array(values) >= observed_value - 1e-9)
        assert result[a] == pytest.approx(exact, abs=0.015)


def test_p_values_count_the_labels_themselves() -> None:
    features, targets, observed = data(60, 5)
    for permutations in (19, 199):  # nothing is more extreme than the planted attribute
        result = association.score_test(features, Labels.of(targets, observed), permutations=permutations, seed=0)
        assert result[0] == 1 / (1 + permutations)
        np.testing.assert_allclose(result * (1 + permutations), np.round(result * (1 + permutations)))


@pytest.mark.parametrize(("rows", "width"), [(60, 8), (40, 90)])
def test_probe_is_ridge_regression_out_of_fold(rows: int, width: int) -> None:
    features, targets, observed = data(rows, width)
    groups = np.arange(rows) // 2
    scores = probe.probe(features, Labels.of(targets, observed), groups, seed=3)
    folds = probe.folds(Labels.of(targets, observed), groups, seed=3)
    x = standardised(features)
    for a, k in itertools.product(range(targets.shape[1]), range(probe.FOLDS)):
        fit, rest = (folds[:, a] != k) & observed[:, a], folds[:, a] == k
        head = Ridge(alpha=10 * width).fit(x[fit], targets[fit, a])
        expected = head.predict(x[rest]) - targets[fit, a].mean()
        np.testing.assert_allclose(scores[rest, a], expected, atol=1e-5)


def test_folds_keep_groups_together_and_spread_each_label_evenly() -> None:
    _, targets, observed = data(203, 2)
    groups = np.arange(203)
    groups[100:120] = groups[:20]
    targets[100:120], observed[100:120] = targets[:20], observed[:20]
    folds = probe.folds(Labels.of(targets, observed), groups, seed=0)
    np.testing.assert_array_equal(folds[100:120], folds[:20])
    first = np.unique(groups, return_index=True)[1]
    for a in range(targets.shape[1]):
        for label in (observed & (targets == 1), observed & (targets == 0), ~observed):
            counts = np.bincount(folds[first, a][label[first, a]], minlength=probe.FOLDS)
            assert np.ptp(counts) <= 1
    assert not np.array_equal(folds, probe.folds(Labels.of(targets, observed), groups, seed=1))


def test_probe_is_undefined_where_the_training_rows_of_a_fold_lack_a_class() -> None:
    features, targets, observed = data(40, 5)
    targets[:] = 0
    targets[7, 1], targets[[3, 9], 2] = 1, 1
    observed[[3, 7, 9]] = True
    scores = probe.probe(features, Labels.of(targets, observed), np.arange(40), seed=0)
    assert np.isnan(scores[:, 0]).all()
    np.testing.assert_array_equal(
        np.isnan(scores[:, 1]), probe.folds(Labels.of(targets, observed), np.arange(40), 0)[:, 1] == 0
    )
    assert np.isfinite(scores[:, 2]).all()
    result = before_training(features, Labels.of(targets, observed), np.arange(40), permutations=9, seed=0)
    assert np.isnan(result.auc).tolist() == [True, True, False]


def test_calibrated_is_logistic_regression_out_of_fold() -> None:
    """On Platt's targets: a soft label is both labels, weighted."""
    features, targets, observed = data(80, 5)
    groups, labels = np.arange(80), Labels.of(targets, observed)
    scores = probe.probe(features, labels, groups, seed=1)
    scores[4, 1] = np.nan
    result = probe.calibrated(scores, labels, groups, seed=1)
    folds = probe.folds(labels, groups, 1)
    for a, k in itertools.product(range(3), range(probe.FOLDS)):
        finite = np.isfinite(scores[:, a])
        fit, rest = finite & observed[:, a] & (folds[:, a] != k), finite & (folds[:, a] == k)
        positives, negatives = (targets[fit, a] == 1).sum(), (targets[fit, a] == 0).sum()
        soft = np.where(targets[fit, a] == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
        unit = scores[:, a] / scores[fit, a].std()
        model = LogisticRegression(C=np.inf, tol=1e-10)
        model.fit(np.tile(unit[fit], 2)[:, None], np.repeat([1, 0], fit.sum()), np.append(soft, 1 - soft))
        expected = model.predict_proba(unit[rest, None])[:, 1] if model.coef_[0, 0] > 0 else soft.mean()
        np.testing.assert_allclose(result[rest, a], expected, atol=1e-4)
    assert np.isnan(result[4, 1])
    assert np.isfinite(result).sum() == result.size - 1


def test_missing_labels_are_never_read() -> None:
    features, targets, observed = data(60, 9)
    other = np.where(observed, targets, 1 - targets).astype(np.int8)
    groups = np.arange(60) // 2

    def everything(behind: np.ndarray) -> list[Any]:
        labels = Labels(behind, observed)
        scores = probe.probe(features, labels, groups, seed=0)
        result = before_training(features, labels, groups, permutations=19, seed=0)
        return [scores, probe.calibrated(scores, labels, groups, seed=0), vars(result)]

    for one, two in zip(everything(targets), everything(other), strict=True):
        np.testing.assert_equal(one, two)


def test_a_group_is_one_row_with_the_majority_label() -> None:
    features, targets, observed = data(50, 9)
    copies = [0, 0, 1, 2, 3, 3]
    shown = np.concatenate([np.arange(50), copies])
    labels, labelled = targets[shown], observed[shown]
    labelled[[0, 50, 51]], labelled[[1, 52]], labelled[[2, 53]], labelled[[3, 54, 55]] = (
        True,
        True,
        [[True] * 3, [False] * 3],
        True,
    )
    labels[[0, 50, 51], 0] = 1, 0, 1  # a majority
    labels[[1, 52], 0] = 0, 1  # a tie
    labels[[3, 54, 55], 0] = 0, 0, 1
    targets[[0, 3], 0] = 1, 0
    observed[:4] = True
    observed[1, 0] = False
    for a in (1, 2):
        labels[[50, 51, 52, 53, 54, 55], a] = labels[copies, a]
    order = np.random.default_rng(0).permutation(len(shown))
    result = before_training(
        features[shown][order], Labels.of(labels[order], labelled[order]), shown[order], permutations=99, seed=4
    )
    expected = before_training(features, Labels.of(targets, observed), np.arange(50), permutations=99, seed=4)
    np.testing.assert_equal(vars(result), vars(expected))


def test_a_group_has_the_mean_of_its_features() -> None:
    features, targets, observed = data(50, 9)
    apart = np.concatenate([features + 1, features - 1])
    twice = np.tile(np.arange(50), 2)
    result = before_training(apart, Labels.of(targets[twice], observed[twice]), twice, permutations=99, seed=4)
    expected = before_training(features, Labels.of(targets, observed), np.arange(50), permutations=99, seed=4)
    np.testing.assert_array_equal(result.p, expected.p)
    np.testing.assert_allclose(result.auc, expected.auc)


@pytest.mark.parametrize(("rows", "width"), [(60, 8), (40, 90)])
def test_units_and_constant_features_do_not_matter(rows: int, width: int) -> None:
    features, targets, observed = data(rows, width)
    scale, shift = np.float32(2) ** np.arange(-3, width - 3).clip(max=5), np.arange(width, dtype=np.float32)
    other = np.insert(features * scale + shift, 3, 0.1, axis=1)
    groups = np.arange(rows)
    one = before_training(features, Labels.of(targets, observed), groups, permutations=199, seed=0)
    two = before_training(other, Labels.of(targets, observed), groups, permutations=199, seed=0)
    np.testing.assert_array_equal(one.p, two.p)
    np.testing.assert_allclose(one.auc, two.auc)


def test_one_class_is_undefined_and_says_why() -> None:
    features, targets, observed = data(30, 5, attributes=4)
    targets[:, 1], targets[:, 2], observed[:, 3] = 1, 0, False
    result = before_training(features, Labels.of(targets, observed), np.arange(30), permutations=9, seed=0)
    assert np.isnan(result.p).tolist() == np.isnan(result.auc).tolist() == [False, True, True, True]
    notes = [f"no observed {what}: nothing to test" for what in ("negative", "positive", "label")]
    assert result.notes == ["", *notes]
    assert result.n_positive.tolist()[1:] == [observed[:, 1].sum(), 0, 0]
    assert result.n_negative.tolist()[1:] == [0, observed[:, 2].sum(), 0]
    content = plain(vars(result))
    assert content["p"][1:] == [None] * 3
    np.testing.assert_equal(vars(checked(BeforeTraining, content, Path("data.json"))), vars(result))


# --- after training -----------------------------------------------------------------------------------------------


def test_hold_out_agrees_with_the_mann_whitney_test() -> None:
    from scipy.stats import mannwhitneyu

    few, many = (predictions(seed=5, folds=1, seeds=1, images=size, missing=0) for size in (54, 1200))
    for run, tolerance in ((few, 1e-6), (many, 0.01)):  # 9 test rows are enumerated
        logits = np.random.default_rng(0).normal(size=run.logits.shape) + 0.1 * run.labels.targets  # no ties
        run = dataclasses.replace(run, logits=logits.astype(np.float32))
        result = after_training(run, permutations=9999, seed=0)
        test = run.part("test")
        for a, labels in enumerate(test.labels.targets.T == 1):
            scores = test.logits[0, :, a]
            expected = mannwhitneyu(scores[labels], scores[~labels], alternative="greater").pvalue
            assert result.p[a] == pytest.approx(expected, abs=tolerance)
            assert result.auc[a] == pytest.approx(roc_auc_score(labels, scores))


def test_hold_out_with_ties_and_seeds_agrees_with_all_permutations() -> None:
    run = predictions(seed=2, folds=1, seeds=3, images=48)
    result = after_training(run, seed=0)
    test = run.part("test")
    for a, seen in enumerate(test.labels.observed.T):
        labels, scores = test.labels.targets[seen, a], test.logits[:, seen, a]
        if len(set(labels)) < 2:
            assert np.isnan(result.p[a])
            continue
        values = [
            np.mean([roc_auc_score(shuffled, seed_scores) for seed_scores in scores])
            for shuffled in set(itertools.permutations(labels.tolist()))
        ]
        observed_value = np.mean([roc_auc_score(labels, one) for one in scores])
        assert result.auc[a] == pytest.approx(observed_value)
        assert result.p[a] == pytest.approx(np.mean(np.array(values) >= observed_value - 1e-9))
    assert np.isfinite(result.p).sum() >= 2


def test_k_folds_follow_the_formula() -> None:
    run = predictions(seed=1, folds=4, images=60)
    result = after_training(run, seed=0)
    from scipy.stats import norm

    for a in range(4):
        areas, variance, counts = [], 0.0, np.zeros(2, int)
        for fold in range(4):
            test = run.part("test", fold)
            seen = test.labels.observed[:, a]
            labels = test.labels.targets[seen, a]
            n1, n0 = int(labels.sum()), int((1 - labels).sum())
            if n1 and n0:
                areas.append(np.mean([roc_auc_score(labels, logits[seen, a]) for logits in test.logits]))
                variance += (n1 + n0 + 1) / (12 * n1 * n0)
                counts += n1, n0
        z = (np.mean(areas) - 0.5) / np.sqrt((1 + 4 / 3) * variance / len(areas) ** 2)
        assert result.auc[a] == pytest.approx(np.mean(areas))
        assert result.p[a] == pytest.approx(norm.sf(z))
        assert [result.n_positive[a], result.n_negative[a]] == counts.tolist()
    assert any(len(set(run.part("test", f).labels.targets[:, 3])) == 1 for f in range(4))  # a fold was left out


@pytest.mark.parametrize("folds", [1, 3])
def test_duplicates_in_the_test_rows_are_no_evidence(folds: int) -> None:
    run = predictions(seed=3, folds=folds, images=90)
    twice = np.repeat(np.arange(len(run.fold)), 2)
    names = np.char.add(run.image_id[twice], np.tile(["", " again"], len(run.fold)))
    fields = {name: getattr(run, name)[twice] for name in ("labels", "split", "fold", "group")}
    copied = dataclasses.replace(run, **fields, image_id=names, logits=run.logits[:, twice])
    np.testing.assert_equal(vars(after_training(copied, seed=0)), vars(after_training(run, seed=0)))


def test_after_is_undefined_without_both_classes() -> None:
    fields = arrays(folds=3)
    fields["targets"][:, 1] = 0
    fields["observed"][:, 2], fields["targets"][:, 2] = False, 0
    result = after_training(run_of(fields), seed=0)
    assert np.isnan(result.p).tolist() == np.isnan(result.auc).tolist() == [False, True, True, False]
    assert result.n_positive[1] == result.n_negative[1] == 0


def test_forty_attributes_can_all_be_found() -> None:
    """999 permutations of each could not: 2 x 40 / 1000 is above 0.05."""
    features, targets, _ = data(120, 6, attributes=1)
    planted = np.repeat(targets, 40, axis=1)
    result = before_training(features, Labels.of(planted, np.ones_like(planted)), np.arange(120), seed=0)
    assert (np.minimum(2 * holm(result.p), 1) <= 0.05).all()
    few = before_training(features, Labels.of(planted, np.ones_like(planted)), np.arange(120), permutations=999, seed=0)
    assert few.p.min() == 1 / 1000


@pytest.mark.parametrize(("attributes", "expected"), [(4, 999), (40, 8000), (400, 20_000), (1000, 40_000)])
def test_as_many_permutations_as_holm_needs(attributes: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def small_p(factor: np.ndarray, positive: np.ndarray, permutations: int, rng: np.random.Generator) -> float:
        asked.append(permutations)
        return 1 / (1 + permutations)

    monkeypatch.setattr(association, "_permutation_p", small_p)
    rng = np.random.default_rng(0)
    labels = Labels.of(rng.random((30, attributes)) < 0.5, np.ones((30, attributes), bool))
    p = association.score_test(rng.normal(size=(30, 3)), labels, seed=0)
    assert max(asked) == expected
    assert max(p) * attributes < 0.05, "all can be rejected by Holm's test"
