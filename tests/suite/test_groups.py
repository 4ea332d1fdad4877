"""Copies of one source on both sides of a split make random labels predictable; grouped, they do not."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from small_suite import planned, rows_of

from aimonk_bench import cli
from aimonk_bench.records.suite import collect
from aimonk_bench.reporting.summary import summarize
from aimonk_bench.reporting.warning_lines import warnings

CONFIG = """\
data: {labels: labels.csv, images: images}
split: {scheme: kfold, folds: 10}
backbone: {name: tf_efficientnet_lite0}
transform: {size: 32}
train: {epochs: 300, seeds: 1, lr: 1e-2, weight_decay: 2e-3}
"""
OFFICIAL = "{scheme: column, column: part, train: ['0'], val: ['1'], test: ['2']}"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`copies.yaml`: 40 sources x 3 brightness copies with random labels, an official split that cuts the sources."""
    folder, rng = tmp_path_factory.mktemp("sources"), np.random.default_rng(0)
    (folder / "images").mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "x", "y", "part"])
        for source in range(40):
            colours = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            pixels, labels = cv2.resize(colours, (64, 64), interpolation=cv2.INTER_CUBIC), rng.integers(0, 2, 2)
            for copy, factor in enumerate((0.9, 1.0, 1.1)):
                name = f"s{source:02d}_{copy}.png"
                cv2.imwrite(str(folder / "images" / name), np.clip(pixels * factor, 0, 255).astype(np.uint8))
                rows.writerow([name, *labels, (source + copy) % 3])
    (folder / "copies.yaml").write_text(CONFIG)
    return folder / "copies.yaml"


def macro_f1(config: Path, out: str, *sets: str) -> tuple[float, dict[str, Any]]:
    """The macro F1 of a run, and its `data.json`."""
    folder = config.parent / out
    overrides = [word for override in ("data.ignore=[part]", *sets) for word in ("--set", override)]
    assert cli.main(["run", str(config), "--out", str(folder), *overrides]) == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    return metrics["macro"]["f1_tuned"]["value"], json.loads((folder / "data.json").read_text())


def test_near_duplicates_that_a_split_cuts_are_named_and_can_be_kept_together(
    sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking, data = macro_f1(sources, "report")
    told = capsys.readouterr().err
    assert told.count("of near duplicates (perceptual hashes") == 1
    assert "`split: {near_duplicates: keep_together}`" in told
    assert told.count('`data: {group: {regex: "^(.*)_"}}`') == 1
    assert data["n_groups"] == 120
    assert any("pairs of near duplicates" in note for note in data["notes"])
    doubts = data["doubts"]  # three images of each source have one label
    assert doubts["near_alike"] == dict.fromkeys("xy", doubts["near_cut"])
    assert 60 < doubts["near_cut"] < 120
    made = summarize(collect(sources.parent / "report"))
    assert made.statistics
    verdict = made.statistics.verdict
    assert verdict.doubts
    assert verdict.doubts.near_alike == doubts["near_alike"]
    [warning] = [line for line in warnings(made) if "near duplicates" in line]
    assert f"{doubts['near_cut']} pairs" in warning
    assert "split: {near_duplicates: keep_together}" in warning

    honest, data = macro_f1(sources, "together", "split.near_duplicates=keep_together")
    assert "of near duplicates" not in capsys.readouterr().err
    assert data["n_groups"] == 40
    assert data["doubts"] == {"near_cut": 0, "near_alike": {"x": 0, "y": 0}, "missing_depends": {}, "groups_cut": 0}
    named, data = macro_f1(sources, "named", 'data.group={regex: "^(.*?)_"}')
    told = capsys.readouterr().err
    assert "of near duplicates" not in told
    assert "data: {group" not in told
    assert data["n_groups"] == 40
    assert leaking > 0.8 > 0.72 > max(honest, named), (leaking, honest, named)  # always positive has .67


def test_keeping_near_duplicates_together_is_another_run(sources: Path) -> None:
    ignore = "data.ignore=[part]"
    ids = {planned(sources, ignore, *sets).baseline.id for sets in ((), ("split.near_duplicates=keep_together",))}
    assert len(ids) == 2


def test_an_official_split_is_used_as_it_is(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sources.parent / "official"
    overrides = ["--set", f"split={OFFICIAL}", "--set", 'data.group={regex: "^(.*?)_"}', "--out", str(folder)]
    assert cli.main(["validate", str(sources), *overrides[:-2]]) == 0
    assert capsys.readouterr().out.count("cuts 40 duplicate groups") == 1
    assert cli.main(["run", str(sources), *overrides]) == 0
    told = capsys.readouterr().err
    assert told.count("cuts 40 duplicate groups") == 1
    assert "s00_0.png (training) and s00_2.png (test)" in told
    assert json.loads((folder / "data.json").read_text())["doubts"]["groups_cut"] == 40
    arrays = np.load(folder / "predictions.npz")
    tokens = {row["image"]: row["part"] for row in rows_of(sources.parent / "labels.csv")}
    assert {(tokens[name], part) for name, part in zip(arrays["image_id"], arrays["split"], strict=True)} == {
        ("1", "val"),
        ("2", "test"),
    }
    assert arrays["attribute"].tolist() == ["x", "y"]


def test_images_without_a_part_are_left_out_and_counted(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *rows = (sources.parent / "labels.csv").read_text().splitlines()
    # the third copy of each source is in no part
    copies = [row[:-1] + ("NA" if "_2.png" in row else "0" if row < "s3" else "12"[row > "s35"]) for row in rows]
    (tmp_path / "labels.csv").write_text("\n".join([header, *copies]))
    sets = [f"data.labels={tmp_path / 'labels.csv'}", f"split={OFFICIAL}", 'data.group={regex: "^(.*?)_"}']
    assert cli.main(["validate", str(sources), *(word for text in sets for word in ("--set", text))]) == 0
    printed = capsys.readouterr().out
    assert "split.column 'part': 40 images of 120 left out, in no part of the split ('NA')" in printed
    assert "duplicate groups" not in printed  # what is left out is in no part that a split could cut


def test_the_tokens_of_an_official_split_enter_the_id_of_its_runs_alone(sources: Path, tmp_path: Path) -> None:
    text = (sources.parent / "labels.csv").read_text()
    assert text.count("s00_0.png,") == 1
    first = text.splitlines()[1]
    (tmp_path / "labels.csv").write_text(text.replace(first, first[:-1] + "1"))
    ids = {
        scheme: {
            planned(sources, f"data.labels={labels}", *sets).baseline.id
            for labels in (sources.parent / "labels.csv", tmp_path / "labels.csv")
        }
        for scheme, sets in {"column": [f"split={OFFICIAL}"], "kfold": ["data.ignore=[part]"]}.items()
    }
    assert {scheme: len(of_files) for scheme, of_files in ids.items()} == {"column": 2, "kfold": 1}


def test_validate_tells_wrong_tokens_and_groups_larger_than_a_fold(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["--set", "split={scheme: column, column: part, train: ['0'], test: ['2'], val: 0.2}"]
    assert cli.main(["validate", str(sources), *wrong]) == 2
    assert "'1' (40)" in capsys.readouterr().err
    rows = (sources.parent / "labels.csv").read_text().splitlines()
    patients = ["patient", *("u" if row < 60 else str(row) for row in range(120))]
    lines = [",".join([row.rpartition(",")[0], patient]) for row, patient in zip(rows, patients, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    changed = ["--set", f"data.labels={tmp_path / 'labels.csv'}", "--set", "data.group=patient"]
    assert cli.main(["validate", str(sources), *changed]) == 0
    printed = capsys.readouterr().out
    assert "1 group larger than a fold, which has 12 images: 'u' (60 images)" in printed
    assert "data.values.missing" in printed
    assert "data: {group" not in printed
