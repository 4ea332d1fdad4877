"""What replaces permutations, draws and exact tests of many rows has their distribution."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import predictions
from scipy.stats import fisher_exact

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation import association, missing_dependence, resampling, subsets


@pytest.mark.parametrize("common", [0, 10_000], ids=["normal", "drawn"])
@pytest.mark.parametrize("size", [60, 340])
def test_sums_over_subsets_have_the_mean_and_covariance_of_all_subsets(monkeypatch, common, size):
    monkeypatch.setattr(subsets, "COMMON", common)
    values = np.random.default_rng(0).gamma(1.0, size=(400, 4)) @ np.array(
        [[1, 0, 0, 0], [2, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0.5]]
    )
    squares, last = subsets.squares_and_sums(values.astype(np.float32), size, 8000, np.random.default_rng(1))
    covariance = np.cov(values.T) * size * (400 - size) / 400
    of_others = covariance[:3, :3]
    assert last.mean() == pytest.approx(size * values[:, 3].mean(), abs=4 * np.sqrt(covariance[3, 3] / 8000))
    assert last.var() == pytest.approx(covariance[3, 3], rel=0.08)
    assert squares.mean() == pytest.approx(np.trace(of_others), rel=0.05)
    assert squares.var() == pytest.approx(2 * np.square(of_others).sum(), rel=0.15)  # of a normal vector
    shared = np.square(covariance[:3, 3]).sum()  # Cov(|u|^2, t^2) = 2 |Cov(u, t)|^2
    assert np.cov(squares, np.square(last - last.mean()))[0, 1] == pytest.approx(2 * shared, rel=0.25)
    np.testing.assert_allclose(
        subsets.sums(values[:, 3], size, 8000, np.random.default_rng(1)).std(), last.std(), rtol=0.05
    )


def test_the_score_test_by_sums_agrees_with_permutations(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1200, 8)).astype(np.float32)
    signal = np.array([0.0, 0.05, 0.08, 0.1, -0.05])
    targets = features[:, :1] * signal + rng.standard_normal((1200, 5)) > 0
    labels = Labels.of(targets, rng.random(targets.shape) < 0.9)
    permuted = association.score_test(features, labels, permutations=1500, seed=0)
    monkeypatch.setattr(association, "LARGE", 0)
    drawn = association.score_test(features, labels, permutations=1500, seed=0)
    assert not np.array_equal(drawn, permuted)
    spread = np.sqrt(2 * permuted * (1 - permuted) / 1500) + 1e-3
    assert (np.abs(drawn - permuted) < 4 * spread).all()
    assert permuted.min() < 0.05 < permuted.max()


def test_the_rank_test_by_sums_agrees_with_permutations(monkeypatch):
    made = predictions(3, folds=1, images=3000, signal=0.02)
    permuted = association.after_training(made, permutations=1500, seed=0).p
    monkeypatch.setattr(association, "LARGE", 0)
    monkeypatch.setattr(subsets, "COMMON", 100)
    drawn = association.after_training(made, permutations=1500, seed=0).p
    assert not np.array_equal(drawn, permuted)
    assert (np.abs(drawn - permuted) < 4 * np.sqrt(2 * permuted * (1 - permuted) / 1500) + 1e-3).all()


def test_labels_of_equal_groups_are_drawn_together(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 3, 500)
    columns = np.column_stack([rows, rng.integers(0, rows + 1)]).astype(np.float64)
    probability = np.clip(0.2 + 0.3 * columns[:, 1] / rows, 0, 1)
    monkeypatch.setattr(resampling, "LARGE", 0)
    drawn = resampling.labellings(columns, probability, 4000, seed=0)
    variance = (probability * (1 - probability)) @ columns**2
    assert (np.abs(drawn.mean(axis=0) - probability @ columns) < 4 * np.sqrt(variance / 4000)).all()
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.12)
    np.testing.assert_array_equal(drawn % 1, 0)


def test_fishers_test_of_all_tables_is_that_of_scipy():
    rng = np.random.default_rng(0)
    tables = np.concatenate([rng.integers(1, most, (40, 2, 2)) for most in (4, 20, 300)])
    expected = [fisher_exact(table)[1] for table in tables]
    np.testing.assert_allclose(missing_dependence.fisher(tables), expected, rtol=1e-10)
    tables = rng.multinomial(9000, [0.3, 0.2, 0.3, 0.2], 30).reshape(-1, 2, 2) + np.array([[60, 0], [0, 0]])
    pearson, exact = missing_dependence.independence(tables), missing_dependence.fisher(tables)
    np.testing.assert_allclose(pearson, exact, rtol=0.1)
    assert exact.min() < 0.05 < exact.max()


def test_rows_of_a_fold_are_no_copy():
    made = predictions(3)
    assert np.shares_memory(made.part("val", 1).logits, made.logits)
