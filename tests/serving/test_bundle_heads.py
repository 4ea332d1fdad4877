"""Thresholds, calibrators and weights of a head; its figures are tested in `test_export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fake_suite
import numpy as np
import pytest

from aimonk_bench.config import loader
from aimonk_bench.config.fields import Config
from aimonk_bench.evaluation import calibration
from aimonk_bench.evaluation.predictions import sigmoid
from aimonk_bench.records import run as runs
from aimonk_bench.records.run import RunRecord
from aimonk_bench.records.weights import HeadWeights
from aimonk_bench.serving import heads
from aimonk_bench.tables import TABLES


def run_of(folder: Path, folds: int) -> tuple[RunRecord, Config]:
    """A calibrated run with three seeds; its last attribute has too few positives for a calibrator."""
    made = fake_suite.predictions(images=600, folds=folds, seeds=3, without_positives=["attr4"])
    fake_suite.write_run(folder, "focal", made)
    text = "calibration: platt\ndata: {labels: /labels.txt, images: /images}\n"
    with (folder / runs.CONFIG).open("a") as config:
        config.write(text)
    return runs.read(folder), loader.load(folder / runs.CONFIG, TABLES, check_paths=False)


@pytest.fixture(scope="module")
def holdout(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Config]:
    return run_of(tmp_path_factory.mktemp("holdout"), 1)


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Config]:
    return run_of(tmp_path_factory.mktemp("folds"), 3)


def test_the_calibrator_of_a_seed_is_that_of_the_run(holdout: tuple[RunRecord, Config]):
    record, config = holdout
    scaled, fitted = calibration.calibrate(record.predictions)
    assert fitted.tolist() == [[True, True, True, False]]
    tuned = heads.tuned_seed(record, config, int(record.predictions.seed[2]))
    assert tuned.slope is not None
    assert tuned.intercept is not None
    logits = record.predictions.part("test").logits[2, :, :3]
    assert sigmoid(tuned.slope[:3] * logits + tuned.intercept[:3]) == pytest.approx(scaled[2, :, :3], rel=1e-12)
    assert np.isnan([tuned.slope[3], tuned.intercept[3]]).all()
    assert tuned.thresholds.tolist() == record.thresholds.values[2, 0].tolist()


def test_the_calibrator_of_the_mean_is_fitted_on_mean_logits(holdout: tuple[RunRecord, Config]):
    record, config = holdout
    tuned = heads.tuned_mean(record, config)
    val = record.predictions.part("val")
    mean = val.logits.mean(axis=0, dtype=np.float64)
    labels = replace(val.labels, targets=val.labels.targets[:, :3], observed=val.labels.observed[:, :3], attributes=())
    slope, intercept = calibration.platt(mean[:, :3], labels)
    assert tuned.slope is not None
    assert tuned.intercept is not None
    assert tuned.slope[:3] == pytest.approx(slope, rel=1e-4)
    assert tuned.intercept[:3] == pytest.approx(intercept, rel=1e-4)


def test_a_recipe_has_the_mean_of_thresholds_and_calibrators(folds: tuple[RunRecord, Config]):
    record, config = folds
    tuned = heads.tuned_recipe(record, config)
    values = record.thresholds.values
    expected = [
        sigmoid(np.mean([np.log(t / (1 - t)) for t in values[:, :, a].ravel().tolist()])).item() for a in range(4)
    ]
    assert tuned.thresholds == pytest.approx(expected, rel=1e-9)
    slope, intercept, fitted = calibration.scaling(record.predictions)
    assert tuned.slope is not None
    assert tuned.intercept is not None
    for a in range(3):
        seeds_and_folds = [(s, f) for s in range(3) for f in range(3) if fitted[f, a]]
        assert seeds_and_folds
        assert tuned.slope[a] == pytest.approx(np.mean([slope[s, f, a] for s, f in seeds_and_folds]))
        assert tuned.intercept[a] == pytest.approx(np.mean([intercept[s, f, a] for s, f in seeds_and_folds]))
    assert np.isnan(tuned.slope[3])
    assert tuned.figures.value("f1_tuned").tolist()[:3] == record.scores.figures.value("f1_tuned").tolist()[:3]


def test_a_threshold_without_a_logit_does_not_decide_the_mean_alone(folds: tuple[RunRecord, Config]):
    record, config = folds
    values = record.thresholds.values.copy()
    values[0, 0, 0], values[0, 0, 1] = 0.0, 1.0
    vars(record)["thresholds"] = replace(record.thresholds, values=values)  # a cached property
    tuned = heads.tuned_recipe(record, config).thresholds
    assert ((tuned > 0.001) & (tuned < 0.999)).all()


def test_the_mean_of_heads_is_one_linear_head():
    rng = np.random.default_rng(0)
    of_run = HeadWeights(
        rng.normal(size=(3, 1, 2, 5)).astype(np.float32), rng.normal(size=(3, 1, 2)).astype(np.float32)
    )
    features = rng.normal(size=(4, 5)).astype(np.float32)
    logits = np.einsum("nd,sad->sna", features, of_run.weight[:, 0]) + of_run.bias
    mean = heads.average(of_run, [0, 1, 2], "a file")
    assert features @ mean.weight.T + mean.bias == pytest.approx(logits.mean(axis=0), abs=1e-5)
    single = heads.average(of_run, [2], "a file")
    assert np.array_equal(single.weight, of_run.weight[2, 0])
    assert np.array_equal(single.bias, of_run.bias[2, 0])
    assert single.weight.dtype == np.float32
