"""Tasks are pure: arguments can be pickled, results depend on them alone, and nothing but scratch is written."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from small_suite import planned

from aimonk_bench.backbones import network
from aimonk_bench.backbones.threads import torch_threads
from aimonk_bench.data import transforms
from aimonk_bench.suite import artefacts, tasks
from aimonk_bench.suite.dataset import EncodedDataset
from aimonk_bench.suite.plan import PlannedRun
from aimonk_bench.training import finetune
from aimonk_bench.training.recipe import Cores, TrainingData


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


@pytest.mark.parametrize(
    ("share", "building"), [(Cores(share=1, machine=2), 1), (Cores(), 2)], ids=["a worker", "the driver"]
)
def test_a_network_is_built_with_the_cores_of_its_process_and_trained_with_its_threads(
    share: Cores, building: int, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(
        workplace / "small.yaml",
        *("backbone={name: test_resnet, weights: none, freeze: layer4}", "train={epochs: 1, seeds: 2}"),
    )
    dataset = tasks.encode(plan.dataset, plan.baseline.config, plan.baseline.encoder)
    used: dict[str, int] = {}

    def noting(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def noted(*arguments: object, **options: object) -> object:
            used[name] = torch.get_num_threads()
            return function(*arguments, **options)

        return noted

    monkeypatch.setattr(network, "build_trainable", noting("build", network.build_trainable))
    monkeypatch.setattr(finetune, "Stack", noting("prepare", finetune.Stack))
    monkeypatch.setattr(finetune, "_train_job", noting("train", finetune._train_job))
    monkeypatch.setattr(finetune, "cores", lambda: 2)
    data = data_of((plan.baseline, dataset))
    with torch_threads(2):
        tasks.train_jobs(plan.baseline, data, dataset.stored, tmp_path, cores=share, jobs=[(0, 0)])
    assert used == {"build": building, "prepare": 1, "train": 1}
