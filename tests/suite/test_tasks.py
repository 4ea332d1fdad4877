"""Tasks are pure: arguments can be pickled, results depend on them alone, and nothing but scratch is written."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from small_suite import planned

from aimonk_bench.data import transforms
from aimonk_bench.suite import artefacts, tasks
from aimonk_bench.suite.dataset import EncodedDataset
from aimonk_bench.suite.plan import PlannedRun
from aimonk_bench.suite.tasks import MappedRows, Training
from aimonk_bench.training.recipe import Recipe, TrainingData


@pytest.fixture(scope="module")
def run(workplace: Path) -> tuple[PlannedRun, EncodedDataset]:
    """A planned run and its encoded data set."""
    plan = planned(workplace / "small.yaml")
    return plan.baseline, tasks.encode(plan.dataset, plan.baseline.config, plan.baseline.encoder)


def training_of(run: tuple[PlannedRun, EncodedDataset], scratch: Path) -> Training:
    plan, dataset = run
    folds = dataset.folds(plan.config.split)
    views = transforms.views(plan.config.transform)
    return Training(
        data=TrainingData(dataset.labels, dataset.labels, folds, views.probabilities),
        recipe=Recipe.of(plan.config),
        rows=MappedRows.of(dataset.stored.rows),
        index=dataset.stored.index,
        encoder=plan.encoder,
        transform=plan.config.transform,
        key=plan.id,
        scratch=scratch,
    )


def test_a_training_is_pickled_without_its_features(run: tuple[PlannedRun, EncodedDataset], tmp_path: Path) -> None:
    _, dataset = run
    pickled = pickle.dumps(training_of(run, tmp_path))
    assert len(pickled) < dataset.stored.rows.nbytes / 10
    np.testing.assert_array_equal(pickle.loads(pickled).rows.open(), dataset.stored.rows)


def test_tasks_give_the_same_values_again_and_write_nothing_but_scratch(
    run: tuple[PlannedRun, EncodedDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan, dataset = run
    training, config = training_of(run, tmp_path / "scratch"), plan.config
    labels = dataset.split_labels(config.hide, dataset.folds(config.split))
    results = []
    for _ in range(2):
        trained = tasks.train(pickle.loads(pickle.dumps(training))).trained
        predictions = artefacts.predictions(trained, dataset, labels, dataset.folds(config.split), config.train.seeds)
        scored = tasks.score(
            pickle.loads(pickle.dumps(predictions)), config.threshold, "none", trained.history, "title"
        )
        results.append((predictions.logits, scored.thresholds.values, scored.loss_curve))
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)
    assert results[0][2].startswith(b"\x89PNG")
    assert not list(tmp_path.iterdir())
