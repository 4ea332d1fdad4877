"""Labels that are hidden from training: which, from which rows, and that they change nothing there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics
from small_suite import execute, no_progress, planned, rows_of

from aimonk_bench import cli
from aimonk_bench.config import loader
from aimonk_bench.records import suite
from aimonk_bench.suite import dataset, missingness, plan, runner, tasks
from aimonk_bench.suite.clock import Clock
from aimonk_bench.tables import TABLES

HIDE = """\
extends: small.yaml
suite:
  baseline: {hide: null}
  axes:
    hide: [null, {mechanism: random}, {mechanism: random, rows: train}, {mechanism: positives, fraction: 0.4},
           {mechanism: score, fraction: 0.4}]
"""


@pytest.fixture(scope="module")
def hidden(workplace: Path) -> dict[str, Path]:
    """What is hidden -> the folder of the run."""
    (workplace / "hide.yaml").write_text(HIDE)
    out = workplace / "hide"
    assert execute(workplace / "hide.yaml", out) == 0
    record = json.loads((out / "suite.json").read_text())
    names = [" + ".join(parts) for parts in record["names"]]
    return {name: out / "runs" / run_id for name, run_id in zip(names, record["ids"], strict=True)}


def test_hiding_takes_labels_from_training_and_validation_and_no_other(hidden: dict[str, Path]) -> None:
    saved = {name: np.load(folder / "predictions.npz") for name, folder in hidden.items()}
    whole = saved.pop("nothing hidden")
    test = whole["split"] == "test"
    assert list(saved) == [
        "hide random(fraction=0.5)",
        "hide random(fraction=0.5, rows=train)",
        "hide positives(fraction=0.4)",
        "hide score(fraction=0.4)",
    ]
    for name, arrays in saved.items():
        for same in ("image_id", "fold", "split", "group", "truth"):  # the split does not depend on what is hidden
            np.testing.assert_array_equal(arrays[same], whole[same])
        for part in ("observed", "targets"):
            np.testing.assert_array_equal(arrays[part][test], whole[part][test])
        gone = whole["observed"] & ~arrays["observed"]
        assert not (arrays["observed"] & ~whole["observed"]).any()
        assert gone.any() == ("rows=train" not in name)
        assert (arrays["train_observed"] < whole["train_observed"]).all()
        if "positives" in name:
            assert (whole["targets"][gone] == 1).all()
            negatives = [run_["train_observed"] - run_["train_positive"] for run_ in (arrays, whole)]
            np.testing.assert_array_equal(*negatives)
        # one mask for all folds: an image that validates in several folds loses the same labels in each
        masks: dict[str, np.ndarray] = {}
        for image, mask in zip(arrays["image_id"][~test], arrays["observed"][~test], strict=True):
            np.testing.assert_array_equal(masks.setdefault(image, mask), mask)
        content = json.loads((hidden[name] / "data.json").read_text())
        assert set(content["n_hidden"]) == {"attr1", "attr2", "attr3", "attr4"}
        share = sum(content["n_hidden"].values()) / sum(content["n_observed"].values())
        assert share == pytest.approx(0.5 if "random" in name else 0.4, abs=0.3 if "positives" in name else 0.1)
    np.testing.assert_array_equal(
        saved["hide random(fraction=0.5)"]["train_observed"],
        saved["hide random(fraction=0.5, rows=train)"]["train_observed"],
    )


def test_what_is_hidden_is_in_the_id(hidden: dict[str, Path]) -> None:
    assert len({folder.name.rpartition("-")[2] for folder in hidden.values()}) == len(hidden)
    assert hidden["hide random(fraction=0.5)"].name.startswith("masked_bce-uniform-hide_random_fraction_0.5-")


def test_the_truth_stands_beside_the_predictions(hidden: dict[str, Path], workplace: Path) -> None:
    rows = rows_of(workplace / "synthetic" / "truth.csv")
    truth = {row["image"]: [int(row[f"attr{a}"]) for a in range(1, 5)] for row in rows}
    saved = np.load(hidden["nothing hidden"] / "predictions.npz")
    assert saved["truth"].tolist() == [truth[name] for name in saved["image_id"].tolist()]
    assert (saved["truth"] == saved["targets"])[saved["observed"]].all()
    assert not saved["observed"].all()


def test_hidden_values_change_nothing_in_training(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that is hidden from training reaches no head and no threshold; test rows are scored by it."""
    run = planned(workplace / "small.yaml", "hide={mechanism: random}", "sampler=inverse_frequency")
    config, labels = run.baseline.config, run.dataset.listed.labels
    as_labelled = tasks.encode(run.dataset, config, run.baseline.encoder)
    folds = as_labelled.folds(config.split)  # stratified by all labels
    monkeypatch.setattr(dataset.splits, "split", lambda *_: folds)
    outs = [workplace / "hidden-as-labelled", workplace / "hidden-flipped"]
    for out in outs:
        if out is outs[1]:
            hidden = labels.observed & ~as_labelled.split_labels(config.split, config.hide).train.observed
            assert hidden.sum() > 50
            labels.targets[hidden] = 1 - labels.targets[hidden]
        runner.execute_run(run, out, Clock(), no_progress)
    for name in ("history.csv", "thresholds.json"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
    first, second = (np.load(out / "predictions.npz") for out in outs)
    for name in ("logits", "observed", "train_positive", "train_observed"):
        np.testing.assert_array_equal(first[name], second[name])
    val = first["split"] == "val"
    np.testing.assert_array_equal(first["targets"][val], second["targets"][val])
    assert (first["targets"][~val] != second["targets"][~val]).any()


@pytest.mark.parametrize("scheme", ["split={folds: 4}", "split={scheme: holdout, test: 0.25, val: 0.2}"])
def test_what_is_hidden_from_training_does_not_depend_on_test_labels(workplace: Path, scheme: str) -> None:
    """Other labels of the test rows of a fold hide the same labels of the rows that train and validate there."""
    run = planned(workplace / "small.yaml", "hide={mechanism: score, fraction: 0.6}", scheme)
    config = run.baseline.config
    encoded = tasks.encode(run.dataset, config, run.baseline.encoder)
    labels, folds = encoded.labels, encoded.folds(config.split)
    before = encoded.split_labels(config.split, config.hide)
    rng = np.random.default_rng(0)
    for fold in folds:
        targets = labels.targets.copy()
        targets[fold.test] = rng.random(targets[fold.test].shape) < 0.5
        listed = dataclasses.replace(encoded.listed, labels=dataclasses.replace(labels, targets=targets))
        changed = dataclasses.replace(encoded, listed=listed, _probes={}).split_labels(config.split, config.hide)
        rest = np.concatenate([fold.train, fold.val])
        np.testing.assert_array_equal(changed.train.observed[rest], before.train.observed[rest])
    assert (before.train.observed != labels.observed).sum() > 20


def test_a_suite_that_hides_in_several_ways_has_a_plot(hidden: dict[str, Path], workplace: Path) -> None:
    plot = workplace / "hide" / "missingness.png"
    before = plot.read_bytes()
    assert before.startswith(b"\x89PNG")
    plot.unlink()
    assert execute(workplace / "hide.yaml", plot.parent) == 0
    assert plot.read_bytes() == before


def test_the_plot_shows_the_scores_of_the_truth(hidden: dict[str, Path], workplace: Path) -> None:
    points = missingness.scores(planned(workplace / "hide.yaml"), suite.collect(workplace / "hide"))
    assert [(point.mechanism, point.train_only, point.fraction) for point in points] == [
        *((None, False, 0.0), ("random", False, 0.5), ("random", True, 0.5)),
        *(("positives", False, 0.4), ("score", False, 0.4)),
    ]
    for point, folder in zip(points, hidden.values(), strict=True):
        saved = np.load(folder / "predictions.npz")
        test = saved["split"] == "test"
        tuned = np.array(json.loads((folder / "thresholds.json").read_text())["thresholds"])[:, saved["fold"][test]]
        accepted = 1 / (1 + np.exp(-saved["logits"][:, test].astype(np.float64))) > tuned
        f1 = [metrics.f1_score(saved["truth"][test], decisions, average="macro") for decisions in accepted]
        assert point.f1 == pytest.approx(np.mean(f1), rel=1e-12)
    one = loader.load_suite(workplace / "hide.yaml", TABLES)
    one = dataclasses.replace(one, runs=one.runs[:2])
    assert missingness.scores(plan.plan_suite(one), suite.collect(workplace / "hide")) == []


def test_a_broken_truth_is_a_usage_error(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = workplace / "half_true"
    folder.mkdir()
    (folder / "labels.txt").write_text((workplace / "synthetic" / "labels.txt").read_text())
    asked = [str(workplace / "small.yaml"), "--set", f"data.labels={folder / 'labels.txt'}"]
    asked += ["--set", f"data.truth={folder / 'truth.csv'}"]
    (folder / "truth.csv").write_text("image,attr1,attr2,attr3,attr4\nimage_0.jpg,1,1,NA,\n")
    assert cli.main(["validate", *asked]) == 0
    assert "truth.csv: states 2 of 320 labels" in capsys.readouterr().out
    (folder / "truth.csv").write_text("image,attr1,attr2,attr3,attr4\nother.jpg,1,1,1,1\n")
    for verb in ("validate", "run"):
        assert cli.main([verb, *asked]) == 2
        assert "truth.csv:2: image other.jpg is not listed in" in capsys.readouterr().err
