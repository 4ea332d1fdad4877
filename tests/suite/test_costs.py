"""What a suite will take: what the store lacks, what was measured, and what a budget refuses."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_suite import execute, planned

from aimonk_bench import cli
from aimonk_bench.backbones.encoder import Record
from aimonk_bench.backbones.feature_table import open_table
from aimonk_bench.config.fields import Config, DataConfig, TrainConfig
from aimonk_bench.config.split_fields import Holdout, KFold, OfficialSplit
from aimonk_bench.data import splits
from aimonk_bench.data.labels import Labels
from aimonk_bench.records.files import PARTIAL, write_json
from aimonk_bench.registry import Spec
from aimonk_bench.reporting.costs import Costs
from aimonk_bench.suite import costs, plan, preview, training_speed
from aimonk_bench.training.recipe import TrainingData

FLOAT32 = 4


@pytest.fixture
def store(pair: Path, feature_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A feature store that holds no feature, but what was found when networks were tried, which takes seconds."""
    planned(pair)
    shutil.copytree(feature_store / "networks", tmp_path / "store" / "networks")
    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path / "store"))
    return tmp_path / "store"


def costs_of(suite: plan.Plan) -> Costs:
    return costs.of_runs(suite.runs, suite.dataset.listed, suite.dataset.images)


def fill(store: Path, run: plan.PlannedRun, names: list[tuple[str, str]], speed: float | None) -> None:
    """Put rows of these (SHA-256, view) into the store, encoded at some speed."""
    folder = store / "features" / run.encoder.digest
    folder.mkdir(parents=True)
    write_json(folder / "encoder.json", asdict(Record(run.encoder.identity, "onnxruntime", 1280, 0.0, None, speed)))
    with open_table(folder, "float32") as table:
        table.append(names, np.zeros((len(names), 1280), np.float32))


def test_what_an_empty_store_lacks_is_counted_and_nothing_is_estimated(pair: Path, store: Path) -> None:
    expected = costs_of(planned(pair))
    [encoding] = expected.encodings
    assert (encoding.images, encoding.rows, encoding.bytes) == (80, 160, 160 * 1280 * FLOAT32)
    assert (encoding.seconds, expected.seconds) == (None, 0.0)
    training = expected.training
    assert (training.runs, training.heads, training.networks, training.measured) == (4, 4 * 2 * 2, 0, 0)
    assert expected.unmeasured == [f"encoding with {encoding.network}", "the training of 4 runs"]
    assert expected.tensor is not None
    assert (expected.tensor.shape, expected.tensor.bytes) == ((80, 1280), 80 * 1280 * FLOAT32)


def test_stored_views_are_not_counted_and_measured_speeds_give_seconds(pair: Path, store: Path) -> None:
    suite = planned(pair)
    run, images = suite.baseline, suite.dataset.images
    fill(store, run, [(image.sha256, "identity") for image in images[:30]], speed=50.0)
    kind = training_speed.kind_of(run.config, run.encoder, attributes=4, features=1280)
    training_speed.keep(store, kind, seconds=3.0, steps=6)
    expected = costs_of(suite)
    [encoding] = expected.encodings
    assert (encoding.images, encoding.rows) == (80, 130)
    assert encoding.seconds == pytest.approx(130 / 50)
    assert expected.training.measured == 4, "the kind of training is the same in all"
    steps = 2 * 2  # epochs of 28 training rows in batches of 16
    assert expected.training.seconds == pytest.approx(4 * steps * 0.5)
    assert expected.seconds == pytest.approx(130 / 50 + 4 * steps * 0.5)
    assert expected.unmeasured == []


def test_features_with_a_damaged_index_are_encoded_again(pair: Path, store: Path) -> None:
    suite = planned(pair)
    fill(store, suite.baseline, [(image.sha256, "identity") for image in suite.dataset.images[:30]], speed=50.0)
    (store / "features" / suite.baseline.encoder.digest / "index.sqlite").write_bytes(b"\xff" * 4096)
    [encoding] = costs_of(suite).encodings
    assert (encoding.images, encoding.rows) == (80, 160)


def test_trainable_layers_need_pooled_features_too_and_other_times(workplace: Path, store: Path) -> None:
    run = "backbone={name: test_resnet, weights: none, freeze: layer4}", "missing=self_trained", "tune={}"
    suite = planned(workplace / "small.yaml", *run)
    expected = costs_of(suite)
    partly, pooled = expected.encodings
    assert (partly.rows, partly.bytes, pooled.rows) == (160, None, 80)
    assert (expected.training.heads, expected.training.networks) == (8, 8), "teachers are trained first"
    assert training_speed.steps_of(suite.baseline.config, 28) == 4 * 2 * 2 * 2  # jobs, stages, epochs, steps
    [of_pixels, _] = costs_of(planned(workplace / "small.yaml", *run, "backbone.freeze=none")).encodings
    assert (of_pixels.rows, of_pixels.bytes, of_pixels.seconds) == (80, 80 * 32 * 32 * 3, 0.0)


def test_a_finished_suite_has_measured_its_training(pair: Path, suite: Path, feature_store: Path) -> None:
    again = planned(pair)
    expected = costs_of(again)
    assert [encoding.rows for encoding in expected.encodings] == [0]
    assert expected.training.measured == 4
    assert 0 < expected.seconds < 600
    kind = training_speed.kind_of(again.baseline.config, again.baseline.encoder, 4, 1280)
    before = training_speed.read(feature_store, kind)
    training_speed.keep(feature_store, kind, seconds=1e9, steps=1)
    assert training_speed.read(feature_store, kind) == before, "it is measured once"


def test_heads_that_may_stop_early_are_not_measured(workplace: Path, store: Path) -> None:
    run = planned(workplace / "small.yaml", "train.patience=1", "train.select=loss").baseline
    labels = Labels.of(np.ones((4, 4), bool), np.ones((4, 4), bool))
    fold = splits.Fold(np.arange(2), np.array([2]), np.array([3]))
    training_speed.note(run, TrainingData(labels, labels, [fold], np.ones(1)), 1.0)
    assert not (store / "training").exists()


def test_budgets_are_shown_each_once():
    data = DataConfig(labels=Path("/labels.txt"), images=Path("/images"))

    def config(**train: Any) -> Config:
        tune = {"train.lr": [3e-3, 1e-2]} if "lr" not in train else {}
        return Config(name="a", data=data, train=TrainConfig(epochs=7, batch_size=8, **train), tune=tune)

    adamw = config(optimizer=Spec("adamw"), lr=0.5)
    assert preview._budgets([config(), config(), config(weight_decay=0, averaging="none"), adamw], 9) == [
        "budget: 7 epochs (their heads averaged), batches of 8, adam, train.lr 0.003 or 0.01, "
        "train.weight_decay 0.003 (in a head divided by 9 attributes)",
        "budget: 7 epochs, batches of 8, adam, train.lr 0.003 or 0.01, train.weight_decay 0",
        "budget: 7 epochs (their heads averaged), batches of 8, adamw, train.lr 0.5, train.weight_decay 0.003",
    ]


@pytest.mark.parametrize("verb", ["validate", "suite"])
def test_what_takes_longer_than_the_budget_is_refused_and_nothing_is_written(
    pair: Path, store: Path, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = planned(pair).baseline
    fill(store, run, [], speed=0.01)
    training_speed.keep(store, training_speed.kind_of(run.config, run.encoder, 4, 1280), seconds=1800.0, steps=1)
    out = ["--out", str(tmp_path / "out")] if verb == "suite" else []
    assert cli.main([verb, str(pair), *out, "--budget-hours", "12.4"]) == 2
    first, encoding, training = capsys.readouterr().err.splitlines()[-3:]
    assert re.match(r"--budget-hours: found 12.4, expected at least 12.5 .*fix: ", first)
    assert re.search(r"160 views .* 4.45 hours; fix: .*transform.size", encoding)
    assert re.search(r"16 heads in 4 runs: 8 hours; fix: .*train.epochs", training)
    assert not (tmp_path / "out").exists()
    assert cli.main(["validate", str(pair), "--budget-hours", "12.5"]) == 0


def test_finished_runs_take_nothing_of_the_budget(pair: Path, suite: Path) -> None:
    assert cli.main(["suite", str(pair), "--out", str(suite), "--quiet", "--budget-hours", "1e-9"]) == 0
    assert execute(pair, suite) == 0


def test_a_budget_warns_of_what_was_never_measured(pair: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(pair), "--budget-hours", "1"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"warning: --budget-hours 1 does not cover encoding with .* and the training of 4 runs", printed)


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf"])
def test_a_budget_is_a_number_of_hours(pair: Path, hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(pair), "--budget-hours", hours]) == 2
    assert "expected a number of hours above 0" in capsys.readouterr().err


def test_many_bytes_of_images_are_hashed_only_for_a_budget(
    pair: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preview, "HASHED_BYTES", 0)
    suite = planned(pair)
    fill(store, suite.baseline, [(image.sha256, "identity") for image in suite.dataset.images], speed=None)
    assert cli.main(["validate", str(pair)]) == 0
    printed = capsys.readouterr().out
    assert "to encode: 80 images, 160 views with" in printed
    assert "the images are not hashed here" in printed
    assert cli.main(["validate", str(pair), "--budget-hours", "1"]) == 0
    printed = capsys.readouterr().out
    assert "to encode: 80 images with" in printed
    assert "not hashed" not in printed


@pytest.mark.parametrize(
    "scheme",
    [
        KFold(folds=4, val=0.2),
        Holdout(val=0.1, test=0.3),
        OfficialSplit(column="part", val=0.25),
        OfficialSplit(column="part", train=("train",), val=("more",)),
    ],
    ids=lambda scheme: scheme.scheme,
)
def test_the_sizes_of_the_parts_are_those_of_the_split(scheme: splits.Split) -> None:
    rng = np.random.default_rng(0)
    labels = Labels.of(rng.random((120, 2)) < 0.4, np.ones((120, 2), bool))
    val = [] if isinstance(scheme, OfficialSplit) and isinstance(scheme.val, float) else ["more"]
    columns = {"part": rng.choice(["train", "test", *val], 120).tolist()}
    sizes = splits.part_sizes(scheme, 120, columns)
    for fold in splits.split(scheme, labels, np.arange(120), columns):
        np.testing.assert_allclose([len(fold.train), len(fold.val), len(fold.test)], sizes, atol=1)


def test_what_a_killed_process_left_beside_the_times_is_deleted_also_after_an_interruption(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    old, new = (tmp_path / "training" / f"{PARTIAL}{name}.json" for name in ("old", "new"))
    for partial in (old, new):
        partial.write_text("{")
    os.utime(old, (0, 0))
    training_speed.keep(tmp_path, {"network": "resnet18"}, None, 10)
    assert list((tmp_path / "training").iterdir()) == [new]  # another process may be writing it
    assert training_speed.read(tmp_path, {"network": "resnet18"}) is None
    training_speed.keep(tmp_path, {"network": "resnet18"}, 5.0, 10)
    assert training_speed.read(tmp_path, {"network": "resnet18"}) == 0.5
