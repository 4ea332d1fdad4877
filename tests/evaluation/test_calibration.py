from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import arrays, predictions, probabilities, run_of
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.calibration import BINS, calibrate, calibration, platt
from aimonk_bench.evaluation.predictions import Predictions, sigmoid
from aimonk_bench.evaluation.proportions import wilson


def test_brier_and_its_skill_are_those_of_scikit_learn() -> None:
    run = predictions(images=200)
    result = calibration(run, run.part("test").probabilities, draws=1, seed=0)
    prevalence = run.train_positive / run.train_observed
    for a in range(4):
        rows = (run.split == "test") & run.labels.observed[:, a]
        targets = run.labels.targets[rows, a]
        brier = np.mean([brier_score_loss(targets, probabilities(run)[s, rows, a]) for s in range(2)])
        assert result.brier[a] == pytest.approx(brier)
        prior = brier_score_loss(targets, prevalence[run.fold[rows], a])
        assert result.brier_skill[a] == pytest.approx(1 - brier / prior)


def test_ece_and_the_diagram_are_those_of_scikit_learn() -> None:
    run = predictions(images=300, seeds=1)
    result = calibration(run, run.part("test").probabilities, draws=1, seed=0)
    listed = result.rows()
    for a, name in enumerate(run.labels.attributes):
        rows = (run.split == "test") & run.labels.observed[:, a]
        share, mean = calibration_curve(run.labels.targets[rows, a], probabilities(run)[0, rows, a], n_bins=BINS)
        bins = [row for row in listed if row["attribute"] == name]
        number = np.histogram(probabilities(run)[0, rows, a], np.linspace(0, 1, BINS + 1))[0]
        np.testing.assert_allclose([row["probability"] for row in bins], mean)
        np.testing.assert_allclose([row["positive"] for row in bins], share)
        assert [row["n"] for row in bins] == number[number > 0].tolist()
        assert result.ece[a] == pytest.approx((np.abs(share - mean) * number[number > 0]).sum() / rows.sum())
        limits = [wilson(s, n) for s, n in zip(share, number[number > 0], strict=True)]
        np.testing.assert_allclose([(row["low"], row["high"]) for row in bins], limits)
    assert list(listed[0]) == ["attribute", "from", "to", "n", "probability", "positive", "low", "high"]


def test_figures_are_means_over_the_seeds_and_a_picture_counts_once_in_the_diagram() -> None:
    content = arrays(images=200, seeds=2)
    whole = run_of(content)
    result = calibration(whole, whole.part("test").probabilities, draws=5, seed=0)
    alone = []
    for s in range(2):
        one = run_of({**content, "logits": content["logits"][s : s + 1], "seed": content["seed"][s : s + 1]})
        alone.append(calibration(one, one.part("test").probabilities, draws=5, seed=0))
    for name in ("brier", "brier_skill", "ece", "ece_reference"):
        np.testing.assert_allclose(result.to_json()[name], np.mean([one.to_json()[name] for one in alone], axis=0))
    np.testing.assert_allclose(result.bins["n"], np.mean([one.bins["n"] for one in alone], axis=0))
    twice = run_of({**content, "logits": content["logits"][[0, 0]]})
    repeated = calibration(twice, twice.part("test").probabilities, draws=5, seed=0)
    assert repeated.rows() == alone[0].rows()


def many(rng: np.random.Generator, rows: int, shift: float = 0.0, copies: int = 1) -> Predictions:
    """A hold-out of calibrated logits, moved by `shift`; half of the rows are validation rows.

    Args:
        copies: rows of each duplicate group, which have the same logits and label.
    """
    group = np.arange(rows) // copies
    logits = (rng.normal(size=(1, rows // copies, 2)) * (1.5, 0.5) + (0, -1))[:, group]
    targets = (rng.random((rows // copies, 2))[group] < sigmoid(logits[0])).astype(np.int8)
    val = np.arange(rows) < rows // 2
    return Predictions(
        logits=(logits + shift).astype(np.float32),
        labels=Labels.of(targets, np.ones_like(targets, dtype=bool), ("wide", "narrow")),
        split=np.where(val, "val", "test"),
        fold=np.zeros(rows, dtype=np.int16),
        group=group.astype(np.int32),
        image_id=np.arange(rows).astype(str),
        seed=np.array([0]),
        train_positive=np.full((1, 2), 40, dtype=np.int32),
        train_observed=np.full((1, 2), 100, dtype=np.int32),
    )


def test_the_reference_is_what_a_calibrated_head_shows() -> None:
    rng = np.random.default_rng(0)
    result = [
        calibration(run, run.part("test").probabilities, draws=50, seed=1)
        for run in (many(rng, 600) for _ in range(60))
    ]
    shown, reference = (np.mean([getattr(one, name) for one in result], axis=0) for name in ("ece", "ece_reference"))
    np.testing.assert_allclose(reference, shown, rtol=0.08)  # standard error 4 %
    assert (reference > 0.02).all()  # so an ECE is not to be held against 0
    run = many(rng, 600, shift=1.0)
    off = calibration(run, run.part("test").probabilities, draws=50, seed=1)
    assert (off.ece > 2 * off.ece_reference).all()


@pytest.mark.parametrize("copies", [1, 4])
def test_duplicates_of_a_calibrated_head_show_what_the_reference_says(copies: int) -> None:
    rng = np.random.default_rng(2)
    result = [
        calibration(run, run.part("test").probabilities, draws=40, seed=1)
        for run in (many(rng, 800, copies=copies) for _ in range(60))
    ]
    shown, reference = (np.array([getattr(one, name) for one in result]) for name in ("ece", "ece_reference"))
    np.testing.assert_allclose(reference.mean(axis=0), shown.mean(axis=0), rtol=0.08)
    exceeded = (shown > reference).mean(axis=0)
    assert (exceeded > 0.3).all()
    assert (exceeded < 0.65).all()  # drawn row by row, the reference of groups of four was exceeded in 60 of 60
    diagram = [row for one in result for row in one.rows() if row["n"] >= 20]
    covered = np.mean([row["low"] <= row["probability"] <= row["high"] for row in diagram])
    assert 0.92 < covered < 0.99


def test_a_group_is_one_draw_only_where_its_labels_agree() -> None:
    run = many(np.random.default_rng(3), 80, copies=4)
    once = calibration(run, run.part("test").probabilities, draws=0, seed=0).rows()
    alone = replace(run, group=np.arange(80, dtype=np.int32))
    apart = calibration(alone, run.part("test").probabilities, draws=0, seed=0).rows()
    for row, other in zip(once, apart, strict=True):
        np.testing.assert_allclose((other["low"], other["high"]), wilson(row["positive"], row["n"]))
        np.testing.assert_allclose((row["low"], row["high"]), wilson(row["positive"], row["n"] / 4))
    labels = run.labels.targets.copy()
    labels[::4] = 1 - labels[::4]
    mixed = replace(run, labels=Labels.of(labels, run.labels.observed, run.labels.attributes))
    for row in calibration(mixed, run.part("test").probabilities, draws=0, seed=0).rows():
        np.testing.assert_allclose((row["low"], row["high"]), wilson(row["positive"], row["n"]))


def test_the_reference_depends_on_its_seed_alone() -> None:
    run = predictions()
    first, again, other = (calibration(run, run.part("test").probabilities, draws=3, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.ece_reference, again.ece_reference)
    assert not np.array_equal(first.ece_reference, other.ece_reference)
    assert np.array_equal(first.ece, other.ece)


def test_nothing_is_read_under_na() -> None:
    content = arrays()
    run = run_of(content)
    before = calibration(run, run.part("test").probabilities, draws=2, seed=0)
    test = run.part("test")
    noise = np.random.default_rng(1).random(test.probabilities.shape)
    after = calibration(run, np.where(test.labels.observed, test.probabilities, noise), draws=2, seed=0)
    np.testing.assert_equal(before.to_json(), after.to_json())
    assert before.rows() == after.rows()


def test_without_a_test_row_or_against_a_perfect_prior_there_is_no_figure() -> None:
    content = arrays()
    content["targets"][:, [1, 3]] = 0
    content["observed"][:, 3] = False
    content["train_positive"][:, [1, 3]] = 0
    run = run_of(content)
    result = calibration(run, run.part("test").probabilities, draws=2, seed=0)
    assert np.isnan([result.brier[3], result.brier_skill[3], result.ece[3], result.ece_reference[3]]).all()
    assert np.isfinite([result.brier[1], result.ece[1]]).all()
    assert np.isnan(result.brier_skill[1])
    assert all(row["attribute"] != "rare" for row in result.rows())


def smoothed(targets: np.ndarray) -> np.ndarray:
    positives, negatives = (targets == 1).sum(), (targets == 0).sum()
    return np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def by_scikit_learn(logits: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """A soft label is both labels, weighted."""
    wanted = smoothed(targets)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(np.tile(logits, 2)[:, None], np.repeat([1, 0], len(logits)), np.append(wanted, 1 - wanted))
    return float(model.coef_[0, 0]), float(model.intercept_[0])


@pytest.mark.parametrize("seed", range(6))
def test_platt_is_the_logistic_regression_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, 80)) * [[0.01], [1], [30]] + rng.normal(size=(3, 1))
    targets = rng.random(80) < sigmoid(logits[1] * 2 + 1)
    observed = rng.random((3, 80)) < 0.8
    slope, intercept = platt(logits.T, Labels.of(np.tile(targets, (3, 1)).T, observed.T))
    for row in range(3):
        seen = observed[row]
        expected = by_scikit_learn(logits[row, seen] / logits[row, seen].std(), targets[seen].astype(int))
        if expected[0] > 0:
            assert slope[row] * logits[row, seen].std() == pytest.approx(expected[0], rel=1e-4)
            assert intercept[row] == pytest.approx(expected[1], abs=1e-4)
        else:
            prior = smoothed(targets[seen].astype(int)).mean()
            assert (slope[row], intercept[row]) == (0, pytest.approx(np.log(prior / (1 - prior))))


def test_platt_finds_its_way_where_whole_newton_steps_run_off() -> None:
    rng = np.random.default_rng(0)
    targets = np.append([0, 1], rng.random(50) < 0.95).astype(int)
    logits = rng.standard_cauchy((8, 52)) + 30 * targets  # heavy tails, few negatives
    slope, intercept = platt(logits.T, Labels.of(np.tile(targets, (len(logits), 1)).T, np.ones(logits.T.shape, bool)))
    for row, expected in enumerate(by_scikit_learn(row_logits, targets) for row_logits in logits):
        assert (slope[row], intercept[row]) == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("rare", [0, 1])
def test_nine_of_a_class_are_too_few_and_ten_are_not(rare: int) -> None:
    content = arrays(images=400, folds=1, missing=0.0)
    val = np.flatnonzero(content["split"] == "val")
    content["targets"][val] = 1 - rare
    content["targets"][val[:9]] = rare
    content["targets"][val[9], 1] = rare
    content["targets"][val[9], 2], content["observed"][val[9], 2] = 0, False
    assert calibrate(run_of(content))[1].tolist() == [[False, True, False, False]]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1.0, 1e30]), st.integers(2, 30))
def test_platt_is_finite_and_never_worse_than_the_prior(seed: int, scale: float, rows: int) -> None:
    rng = np.random.default_rng(seed)
    targets = np.append([0, 1], rng.integers(0, 2, rows - 2))
    separable = scale * (2.0 * targets - 1 + rng.choice([0, 1e-9, 0.5]) * rng.random(rows))
    outlier = np.where(np.arange(rows) == 0, 1e6, rng.normal(size=rows)) * scale
    constant = np.full(rows, scale)
    logits = np.stack([separable, outlier, constant, -separable])
    slope, intercept = platt(logits.T, Labels.of(np.tile(targets, (len(logits), 1)).T, np.ones(logits.T.shape, bool)))
    assert np.isfinite([slope, intercept]).all()
    assert (slope >= 0).all()
    wanted = smoothed(targets)

    def loss(probability: Any) -> Any:
        return -(wanted * np.log(probability) + (1 - wanted) * np.log1p(-probability)).mean(axis=-1)

    with np.errstate(divide="ignore"):
        reached = loss(sigmoid(slope[:, None] * logits + intercept[:, None]))
    assert (reached <= loss(np.full(rows, wanted.mean())) + 1e-9).all()
    assert slope[0] > 0
    assert slope[2] == slope[3] == 0


def test_platt_repairs_a_moved_intercept_and_a_temperature_does_not() -> None:
    run = many(np.random.default_rng(1), 8000, shift=2.0)
    scaled, fitted = calibrate(run)
    assert fitted.all()
    raw, after = (calibration(run, values, draws=5, seed=0) for values in (run.part("test").probabilities, scaled))
    assert (raw.brier > 1.2 * after.brier).all()
    assert (raw.ece > 3 * raw.ece_reference).all()
    assert (after.ece < 1.8 * after.ece_reference).all()
    test = run.split == "test"
    for a in range(2):
        logits, targets = run.logits[0, test, a].astype(np.float64), run.labels.targets[test, a]
        best = min(log_loss(targets, sigmoid(logits / temperature)) for temperature in np.geomspace(0.05, 1000, 60))
        assert best > log_loss(targets, scaled[0, :, a]) + 0.05


def test_each_seed_fold_and_attribute_has_its_own_scale_from_its_validation_rows_alone() -> None:
    content = arrays(images=400, folds=3)
    run = run_of(content)
    scaled, fitted = calibrate(run)
    for fold in range(3):
        val, test = ((run.fold == fold) & (run.split == split) for split in ("val", "test"))
        part = run.part("test").fold == fold
        for a in range(4):
            targets = run.labels.targets[val & run.labels.observed[:, a], a]
            enough = min((targets == 1).sum(), (targets == 0).sum()) >= 10
            assert fitted[fold, a] == enough
            for s in range(2):
                logits = run.logits[s, :, a].astype(np.float64)
                if enough:
                    slope, intercept = by_scikit_learn(logits[val & run.labels.observed[:, a]], targets)
                    expected = sigmoid(slope * logits + intercept)
                else:
                    expected = sigmoid(logits)
                np.testing.assert_allclose(scaled[s, part, a], expected[test], atol=1e-4)
    assert fitted.any()
    assert not fitted.all()
    test = content["split"] == "test"
    content["targets"][test] = content["observed"][test] & (content["targets"][test] == 0)
    assert np.array_equal(calibrate(run_of(content))[0], scaled)
