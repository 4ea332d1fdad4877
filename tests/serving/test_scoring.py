"""Scores of a bundle on new labelled images, against scikit-learn and against the intervals of a hold-out."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

import bundles
import numpy as np
import pytest
from sklearn import metrics as sk

from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import intervals
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.serving import scoring, training_images
from aimonk_bench.serving.graph import open_classifier
from aimonk_bench.serving.predict import predict
from aimonk_bench.serving.scoring import NewScores
from aimonk_bench.serving.training_images import TrainingImages

RNG = np.random.default_rng(5)
TRUTH = (RNG.random((40, 3)) < 0.5).astype(int)
MISSING = RNG.random((40, 3)) < 0.2


def write_csv(file: Path, columns: dict[str, list[object]]) -> Path:
    """A label file of the forty photos, comma-separated."""
    quoted = [f'"{name}"' for name in columns]
    lines = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    file.write_text("\n".join([",".join(quoted), *lines]) + "\n")
    return file


def columns(names: tuple[str, ...] = bundles.NAMES) -> dict[str, list[object]]:
    cells = np.where(MISSING, "NA", TRUTH.astype(str))
    labels = {name: cells[:, a].tolist() for a, name in enumerate(bundles.NAMES) if name in names}
    return {"image": [f"{n:02}.png" for n in range(40)], **labels}


def score(bundle: Path, labels: Path, photos: Path) -> NewScores:
    return scoring.score(open_classifier(bundle), scoring.guessed(labels, photos), photos, batch=8)


@pytest.fixture(scope="module")
def probabilities(bundle: Path, photos: Path) -> np.ndarray:
    return np.array([prediction.probabilities for prediction in predict(bundle, sorted(photos.glob("*.png")))])


@pytest.fixture(scope="module")
def scored(bundle: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> NewScores:
    return score(bundle, write_csv(tmp_path_factory.mktemp("labels") / "new.csv", columns()), photos)


def test_figures_are_those_of_scikit_learn(scored: NewScores, probabilities: np.ndarray) -> None:
    assert (scored.attributes, scored.images, scored.groups, scored.skipped) == (bundles.NAMES, 40, 40, ())
    for a, row in enumerate(scored.rows()[:3]):
        seen = ~MISSING[:, a]
        truth, scores = TRUTH[seen, a], probabilities[seen, a]
        decided = scores > bundles.THRESHOLDS[a]
        expected = {
            "n_observed": seen.sum(),
            "n_positive": truth.sum(),
            "threshold": bundles.THRESHOLDS[a],
            "f1": sk.f1_score(truth, decided),
            "precision": sk.precision_score(truth, decided),
            "recall": sk.recall_score(truth, decided),
            "average_precision": sk.average_precision_score(truth, scores),
            "roc_auc": sk.roc_auc_score(truth, scores),
            "all_positive_f1": sk.f1_score(truth, np.ones_like(truth)),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected)
        assert all(row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] for name in scoring.HEADS)


def test_the_last_row_is_the_mean(scored: NewScores) -> None:
    *rows, last = scored.rows()
    assert last["attribute"] == "macro"
    assert last["n_positive"] == sum(row["n_positive"] for row in rows)
    for name in (*scoring.HEADS, "all_positive_f1"):
        assert last[name] == pytest.approx(np.mean([row[name] for row in rows]))
    assert all(last[f"{name}_low"] < last[name] < last[f"{name}_high"] for name in scoring.HEADS)
    assert np.isnan(last["threshold"])


def test_intervals_are_those_of_a_hold_out_with_these_rows(scored: NewScores, probabilities: np.ndarray) -> None:
    logits = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    labels = Labels.of(np.tile(TRUTH, (2, 1)), np.tile(~MISSING, (2, 1)), bundles.NAMES)
    run = Predictions(
        logits=np.tile(logits, (2, 1))[None],
        labels=labels,
        split=np.repeat(["val", "test"], 40),
        fold=np.zeros(80, np.int16),
        group=np.arange(80, dtype=np.int32),
        image_id=np.arange(80).astype(str),
        seed=np.array([0]),
        train_positive=np.full((1, 3), 10, np.int32),
        train_observed=np.full((1, 3), 20, np.int32),
    )
    values = np.array(bundles.THRESHOLDS).reshape(1, 1, 3)
    tuned = Thresholds("fixed", [*bundles.NAMES], [0], values, [])
    expected = intervals.intervals(run, tuned)
    for name, interval in scored.intervals.items():
        reference = expected["f1_tuned" if name == "f1" else name]
        np.testing.assert_allclose(interval.low, reference.low, atol=1e-6)
        np.testing.assert_allclose(interval.high, reference.high, atol=1e-6)


def test_equal_images_are_one_group(bundle: Path, photos: Path, tmp_path: Path, scored: NewScores) -> None:
    shutil.copytree(photos, tmp_path / "twice")
    listed = columns()
    for file in sorted(photos.glob("*.png")):
        shutil.copy(file, tmp_path / "twice" / f"copy-{file.name}")
    copies = {name: cells * 2 for name, cells in listed.items()}
    copies["image"] = [*listed["image"], *(f"copy-{name}" for name in listed["image"])]
    twice = score(bundle, write_csv(tmp_path / "twice.csv", copies), tmp_path / "twice")
    assert (twice.images, twice.groups) == (80, 40)
    for name in scoring.HEADS:
        np.testing.assert_allclose(twice.values[name], scored.values[name])
        if name != "average_precision":  # which depends on the number of rows
            np.testing.assert_allclose(twice.intervals[name].low, scored.intervals[name].low, atol=0.02)


def test_attributes_are_matched_by_name(
    bundle: Path, photos: Path, tmp_path: Path, scored: NewScores, caplog: pytest.LogCaptureFixture
) -> None:
    """In any order; those that only one of both has are told."""
    listed = columns(("animal", "NA"))
    turned = {"image": listed["image"], "NA": listed["NA"], "snimal": listed["animal"], "animal": listed["animal"]}
    with caplog.at_level(logging.WARNING):
        fewer = score(bundle, write_csv(tmp_path / "new.csv", turned), photos)
    assert fewer.attributes == ("animal", "NA")
    np.testing.assert_allclose(fewer.values["f1"], scored.values["f1"][[0, 2]])
    texts = "\n".join(caplog.messages)
    assert "no labels for hat, red" in texts
    assert "does not predict snimal" in texts


def test_a_file_without_a_known_attribute_is_refused(bundle: Path, photos: Path, tmp_path: Path) -> None:
    listed = columns(("animal",))
    listed["tier"] = listed.pop("animal")
    with pytest.raises(UserError, match=r"found the attributes tier, expected some of those of the bundle: animal"):
        score(bundle, write_csv(tmp_path / "new.csv", listed), photos)


@pytest.mark.parametrize("form", ["tags", "jsonl", "words", "stems"])
def test_label_files_of_any_format(bundle: Path, photos: Path, tmp_path: Path, scored: NewScores, form: str) -> None:
    listed = columns()
    if form == "words":
        spelled = {"1": "yes", "0": "no", "NA": "?"}
        words = {name: [spelled.get(str(cell), cell) for cell in cells] for name, cells in listed.items()}
        file = write_csv(tmp_path / "new.csv", words)
    elif form == "stems":
        file = write_csv(tmp_path / "new.csv", listed | {"image": [str(name)[:2] + "x" for name in listed["image"]]})
        shutil.copytree(photos, tmp_path / "photos")
        photos = tmp_path / "photos"
        for path in photos.glob("*.png"):
            path.rename(photos / f"{path.stem}x.png")
    elif form == "jsonl":
        states = {"1": 1, "0": 0, "NA": None}
        rows = [
            {"image": name, "labels": dict(zip(bundles.NAMES, map(states.get, cells), strict=True))}
            for name, *cells in zip(*listed.values(), strict=True)
        ]
        file = tmp_path / "new.jsonl"
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        file = tmp_path / "new.csv"
        tags = ["animal" if label == "1" else "" for label in listed["animal"]]
        lines = [f"{name},{tag}" for name, tag in zip(listed["image"], tags, strict=True)]
        file.write_text("\n".join(["image,tags", *lines]) + "\n")
    scores = score(bundle, file, photos)
    if form == "tags":
        assert scores.attributes == ("animal",)
        assert scores.n_positive.tolist() == scored.n_positive[:1].tolist()
    else:
        assert scores.n_observed.tolist() == scored.n_observed.tolist()
        np.testing.assert_allclose(scores.values["f1"], scored.values["f1"])


def test_images_that_cannot_be_used_are_left_out_and_told(
    bundle: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "03.png").unlink()
    (tmp_path / "photos" / "05.png").write_bytes(b"no image")
    file = write_csv(tmp_path / "new.csv", columns())
    with caplog.at_level(logging.WARNING):
        scores = score(bundle, file, tmp_path / "photos")
    assert (scores.images, [item.image_id for item in scores.skipped]) == (38, ["03.png", "05.png"])
    texts = "\n".join(caplog.messages)
    assert f"{file}:5: skipped 03.png: missing" in texts
    assert f"{file}:7: skipped 05.png: " in texts
    for path in (tmp_path / "photos").glob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="none of which can be decoded"):
        score(bundle, file, tmp_path / "photos")


def test_an_attribute_without_positives_is_undefined(bundle: Path, photos: Path, tmp_path: Path) -> None:
    listed = columns(("animal", "NA")) | {"NA": ["0"] * 40}
    rows = score(bundle, write_csv(tmp_path / "new.csv", listed), photos).rows()
    assert np.isnan(rows[1]["f1"])
    assert rows[2]["f1"] == rows[0]["f1"]  # of the attributes that define it


@pytest.mark.parametrize("separator", [" ", ","])
def test_columns_without_names_are_those_of_the_bundle(
    bundle: Path, photos: Path, tmp_path: Path, scored: NewScores, separator: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [separator.join(map(str, cells)) for cells in zip(*columns().values(), strict=True)]
    file = tmp_path / "labels.txt"
    file.write_text("\n".join(rows) + "\n")
    with caplog.at_level(logging.WARNING):
        scores = score(bundle, file, photos)
    assert scores.attributes == bundles.NAMES
    np.testing.assert_array_equal(scores.values["f1"], scored.values["f1"])
    assert f"{file}: its columns of labels have no names: they are taken for" in caplog.text
    assert "in this order: animal, hat, red, NA" in caplog.text
    file.write_text("\n".join(row.rpartition(separator)[0] for row in rows) + "\n")
    with pytest.raises(
        UserError, match=r"found the attributes attr1, attr2, expected some of .* header.*attributes: \["
    ):
        score(bundle, file, photos)


def test_a_bundle_of_nameless_attributes_takes_such_files_as_they_are(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = bundles.write_bundle(tmp_path / "b", names=("attr1", "attr2", "attr3"))
    (tmp_path / "labels.txt").write_text("".join(f"{n:02}.png {n % 2} {n % 3 % 2}\n" for n in range(40)))
    assert score(made, tmp_path / "labels.txt", photos).attributes == ("attr1", "attr2")
    assert "have no names" not in caplog.text


def test_images_that_the_bundle_has_learned_from_are_named(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hashes = [hashlib.sha256((photos / f"{n:02}.png").read_bytes()).hexdigest() for n in range(40)]
    file = write_csv(tmp_path / "new.csv", columns())
    for learned, warned in (([hashes[3], hashes[7], "f" * 64], True), (["f" * 64], False)):
        made = bundles.write_bundle(tmp_path / f"b{len(learned)}", TrainingImages.of(learned).text)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            scores = score(made, file, photos)
        assert scores.learned_from == len(learned) - 1
        assert (f"{file}: the bundle has learned from 2 of these 40 images" in caplog.text) == warned
        assert ("2 of them seen in training" in str(scoring.table(scores).title)) == warned


def test_a_bundle_that_does_not_say_what_it_has_learned_from(scored: NewScores, tmp_path: Path) -> None:
    assert scored.learned_from is None
    made = bundles.write_bundle(tmp_path / "b", "AAAA")
    with pytest.raises(UserError, match=r"model\.onnx: metadata training_images: damaged .3 bytes.*export it again"):
        open_classifier(made)


def test_hashes_as_text_read_back_and_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = [f"{value:016x}{'0' * 48}" for value in (2**64 - 1, 5, 0, 5)]
    held = TrainingImages.of(hashes)
    assert held.prefixes.tolist() == [0, 5, 2**64 - 1]
    again = TrainingImages.of_text(held.text)
    assert again.prefixes.tolist() == held.prefixes.tolist()
    assert again.among([*hashes, f"{6:016x}"]).tolist() == [True] * 4 + [False]
    assert not held.is_sample
    monkeypatch.setattr(training_images, "MOST", 2)
    assert TrainingImages.of(hashes).prefixes.tolist() == [0, 5]
    assert TrainingImages.of(hashes).is_sample
