"""Tasks are pure: arguments can be pickled, results depend on them alone, and nothing but scratch is written."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_suite import planned

from aimonk_bench.data import transforms
from aimonk_bench.suite import artefacts, tasks
from aimonk_bench.suite.dataset import EncodedDataset
from aimonk_bench.suite.plan import PlannedRun
from aimonk_bench.training.recipe import TrainingData


@pytest.fixture(scope="module")
def run(workplace: Path) -> tuple[PlannedRun, EncodedDataset]:
    """A planned run and its encoded data set."""
    plan = planned(workplace / "small.yaml")
    return plan.baseline, tasks.encode(plan.dataset, plan.baseline.config, plan.baseline.encoder)


def data_of(run: tuple[PlannedRun, EncodedDataset]) -> TrainingData:
    plan, dataset = run
    views = transforms.views(plan.config.transform)
    return TrainingData(dataset.labels, dataset.labels, dataset.folds(plan.config.split), views.probabilities)


def test_features_are_pickled_as_the_path_of_their_rows(run: tuple[PlannedRun, EncodedDataset]) -> None:
    _, dataset = run
    pickled = pickle.dumps(dataset.stored)
    assert len(pickled) < dataset.stored.rows.nbytes / 10
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(again.rows, dataset.stored.rows)
    np.testing.assert_array_equal(again.index, dataset.stored.index)
    assert not again.rows.flags.writeable


def test_tasks_give_the_same_values_again_and_write_nothing_but_scratch(
    run: tuple[PlannedRun, EncodedDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan, dataset = run
    arguments, config = (plan, data_of(run), dataset.stored, tmp_path / "scratch"), plan.config
    labels = dataset.split_labels(config.split, config.hide)
    results = []
    assert len(pickle.dumps(partial(tasks.train, *arguments))) < dataset.stored.rows.nbytes / 5  # labels and folds
    for _ in range(2):
        trained = tasks.train(*pickle.loads(pickle.dumps(arguments))).trained
        predictions = artefacts.predictions(trained, dataset, labels, config.train.seeds)
        scored = tasks.score(*pickle.loads(pickle.dumps((config, predictions, trained.history))))
        results.append((predictions.logits, scored.thresholds.values, scored.files))
    for first, second in zip(*(result[:2] for result in results), strict=True):
        np.testing.assert_array_equal(first, second)
    assert results[0][2] == results[1][2]
    assert results[0][2]["loss_curve.png"].startswith(b"\x89PNG")
    assert not list(tmp_path.iterdir())
