"""Bundles of real runs: they give the predictions of the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml

from aimonk_bench.data.images import decode
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import metrics, thresholds
from aimonk_bench.evaluation.predictions import ScoredRows, sigmoid
from aimonk_bench.records import run as runs
from aimonk_bench.records import weights
from aimonk_bench.records.files import dumps
from aimonk_bench.serving import bundle, refit
from aimonk_bench.serving.export import Exported, export
from aimonk_bench.serving.graph import open_classifier
from aimonk_bench.serving.heads import FURTHEST

BundleOf = Callable[..., Exported]
BAND = 1e-4  # on the logit scale


def images_of(rows: ScoredRows, run: Path, block: dict[str, Any]) -> np.ndarray:
    """The images of test rows as a bundle says that they are decoded: float32 [R, 3, H, W]."""
    folder = Path(yaml.safe_load((run / runs.CONFIG).read_text())["data"]["images"])
    pixels = [
        decode((folder / name).read_bytes(), block["size"], block["interpolation"], white=block["white"])
        for name in rows.image_id.tolist()
    ]
    return np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32)


def outputs(made: Exported, images: np.ndarray, **further: np.ndarray) -> tuple[np.ndarray, ...]:
    session = onnxruntime.InferenceSession(str(made.folder / bundle.MODEL))
    return tuple(session.run(["logits", "probabilities", "decisions"], {"images": images, **further}))


def values_of(made: Exported) -> np.ndarray:
    return np.array([made.bundle.thresholds[name] for name in made.bundle.label_names])


def test_the_head_of_a_seed_gives_the_decisions_of_the_run(holdout: Path, bundle_of: BundleOf):
    made, record = bundle_of(holdout, 1), runs.read(holdout)
    rows = record.predictions.part("test")
    logits, probabilities, decisions = outputs(made, images_of(rows, holdout, made.bundle.aimonk_bench))
    expected, tuned = rows.logits[1], record.thresholds.values[1, 0]
    assert values_of(made).tolist() == tuned.tolist()
    assert np.abs(logits - expected).max() < BAND * max(1.0, np.abs(expected).max())
    assert np.abs(probabilities - sigmoid(expected)).max() < BAND
    near = np.abs(expected - np.log(tuned / (1 - tuned))) <= BAND
    assert ((decisions == (rows.probabilities[1] > tuned)) | near).all()
    assert near.mean() < 0.05
    figures, block = metrics.figures(record.predictions, record.thresholds), made.bundle.aimonk_bench
    for a, name in enumerate(made.bundle.label_names):
        assert block["figures"][name]["f1_tuned"]["value"] == pytest.approx(figures.per_seed["f1_tuned"][1, a])
        assert block["all_positive"][name] == pytest.approx(figures.constant["floor_f1"][a])


def test_the_mean_of_the_heads_is_tuned_and_measured_as_one_head(holdout: Path, bundle_of: BundleOf):
    made, record = bundle_of(holdout), runs.read(holdout)
    assert (made.head, made.seeds) == ("mean", (0, 1, 2))
    val, test = (record.predictions.part(part) for part in ("val", "test"))
    logits, *_ = outputs(made, images_of(test, holdout, made.bundle.aimonk_bench))
    assert np.abs(logits - test.logits.mean(axis=0)).max() < BAND * max(1.0, np.abs(logits).max())
    mean = {
        part: rows.logits.mean(axis=0, dtype=np.float64).astype(np.float32)
        for part, rows in (("val", val), ("test", test))
    }
    tuned, _ = thresholds.per_attribute_f1(sigmoid(mean["val"]), val.labels)
    assert values_of(made).tolist() == tuned.tolist()
    measured = metrics.f1(sigmoid(mean["test"]), test.labels, tuned)
    block = made.bundle.aimonk_bench
    assert [block["figures"][name]["f1_tuned"]["value"] for name in made.bundle.label_names] == pytest.approx(measured)
    assert block["figures_of"] == "head"


def test_a_recipe_with_folds_is_trained_again_on_all_images(folds: Path, bundle_of: BundleOf):
    made, record = bundle_of(folds), runs.read(folds)
    block, of_run = made.bundle.aimonk_bench, record.thresholds.values
    assert (made.head, made.seeds) == ("refit", (0, 1))
    assert block["head"]["images"] == record.data["n_used"]
    assert set(block["head"]["setting"]) == {"train.lr", "loss.gamma"}
    logit = np.clip(np.log(of_run / (1 - of_run)), -FURTHEST, FURTHEST)
    assert values_of(made) == pytest.approx(sigmoid(logit.mean(axis=(0, 1))), rel=1e-9)
    figures = record.scores.figures.value("f1_tuned")
    assert [block["figures"][name]["f1_tuned"]["value"] for name in made.bundle.label_names] == pytest.approx(figures)
    assert block["figures_of"] == "recipe"
    card = (made.folder / bundle.CARD).read_text()
    assert "**The figures are those of the recipe by 2-fold cross-validation, not of these weights.**" in card
    heads = weights.read_heads(folds)
    rows = record.predictions.part("test", 0)
    logits, *_ = outputs(made, images_of(rows, folds, block))
    assert not np.allclose(logits, rows.logits.mean(axis=0), atol=1e-3)  # other weights than any of the run's
    assert heads.weight.shape[1] == 2


def test_exporting_twice_gives_equal_bytes(folds: Path, bundle_of: BundleOf, tmp_path: Path):
    """Also where the head is trained again."""
    again = export(folds, tmp_path / "another name").folder
    names = sorted(path.name for path in again.iterdir())
    assert names == sorted([bundle.CONFIG, bundle.WEIGHTS, bundle.MODEL, bundle.CARD])
    for name in names:
        assert (again / name).read_bytes() == (bundle_of(folds).folder / name).read_bytes(), name


def test_a_bundle_says_what_predicting_needs(holdout: Path, bundle_of: BundleOf):
    made = bundle_of(holdout)
    config = json.loads((made.folder / bundle.CONFIG).read_text())
    session = onnxruntime.InferenceSession(str(made.folder / bundle.MODEL))
    metadata = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    assert metadata.pop("training_images") == made.bundle.training_images
    assert metadata == {key: config[key] for key in ("aimonk_bench", "label_names", "thresholds")}
    block = config["aimonk_bench"]
    stated = {key: block[key] for key in ("schema_version", "size", "decode", "white", "interpolation", "licence")}
    assert stated == {
        "schema_version": 1,
        "size": 32,
        "decode": "full",
        "white": None,
        "interpolation": "bicubic",
        "licence": "apache-2.0",
    }
    assert block["run"] == runs.read(holdout).status.id
    assert block["data_fingerprint"] == runs.read(holdout).data["fingerprint"]
    assert block["timm_transform"]["images"] == runs.read(holdout).data["n_used"]
    assert block["mean"] == list(made.bundle.pretrained_cfg["mean"])
    assert set(block["calibration"]) == {"method", "slope", "intercept"}
    assert json.loads(dumps(made.bundle.config())) == config


def test_a_bundle_says_which_images_it_has_learned_from(
    holdout: Path, folds: Path, bundle_of: BundleOf, workplace: Path
):
    """Those of training and validation; a head that is trained again has learned from all."""
    images = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in workplace.glob("synthetic/images/*")}
    test = set(runs.read(holdout).predictions.part("test").image_id.tolist())
    for run, head, new in ((holdout, 1, test), (holdout, None, test), (folds, None, set())):
        learned = open_classifier(bundle_of(run, head).folder).training_images
        assert learned is not None
        assert {name for name, digest in images.items() if not learned.among([digest])[0]} == new


def test_a_fine_tuned_network_gives_the_decisions_of_the_run(fine_tuned: Path, bundle_of: BundleOf):
    made, record = bundle_of(fine_tuned, 1), runs.read(fine_tuned)
    rows = record.predictions.part("test")
    logits, _, decisions = outputs(made, images_of(rows, fine_tuned, made.bundle.aimonk_bench))
    assert np.abs(logits - rows.logits[1]).max() < BAND * max(1.0, np.abs(logits).max())
    tuned = record.thresholds.values[1, 0]
    near = np.abs(rows.logits[1] - np.log(tuned / (1 - tuned))) <= BAND
    assert ((decisions == (rows.probabilities[1] > tuned)) | near).all()


def test_a_fine_tuned_network_is_trained_again(fine_tuned: Path, bundle_of: BundleOf, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO"):
        made = bundle_of(fine_tuned, "refit")
    assert made.seeds == (0,)
    assert "training again on all 80 images: 1 seed, 1 epoch; about" in caplog.text


def test_a_run_of_a_version_that_trains_otherwise_is_not_trained_again(
    folds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(refit, "REVISION", runs.REVISION + 1)
    with pytest.raises(UserError, match="a run of an earlier version, whose training differs"):
        export(folds, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_other_data_are_not_trained_on(folds: Path, tmp_path: Path, workplace: Path):
    labels = workplace / "synthetic" / "labels.txt"
    before = labels.read_text()
    try:
        labels.write_text("\n".join(before.splitlines()[:-1]))
        with pytest.raises(UserError, match="not those of the run any more"):
            export(folds, tmp_path / "bundle")
    finally:
        labels.write_text(before)
    assert not list(tmp_path.iterdir())
