"""A run with plug-ins is exported where its code may be executed; official splits are read with their column."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from aimonk_bench import cli
from aimonk_bench.backbones.weights import resolve
from aimonk_bench.config import loader
from aimonk_bench.serving import resizing
from aimonk_bench.tables import TABLES

PLUGIN = """\
from aimonk_bench.training.losses import masked_bce


def twice(logits, targets):
    '''Cross-entropy, doubled.'''
    return 2 * masked_bce(logits, targets)


LOSSES = {"twice": twice}
"""
CONFIG = """\
data: {labels: synthetic/labels.txt, images: synthetic/images}
plugins: [twice.py]
loss: twice
split: {scheme: holdout, val: 0.3, test: 0.3}
backbone: {name: tf_efficientnet_lite0}
transform: {size: 32}
train: {epochs: 2, seeds: 1}
tune: {}
"""


def test_a_run_with_plugins_is_exported_with_permission_only(workplace: Path, capsys: pytest.CaptureFixture) -> None:
    folder = workplace / "plugin_export"
    folder.mkdir()
    shutil.copytree(workplace / "synthetic", folder / "synthetic")
    (folder / "twice.py").write_text(PLUGIN)
    (folder / "twice.yaml").write_text(CONFIG)
    assert (
        cli.main(["run", str(folder / "twice.yaml"), "--out", str(folder / "run"), "--allow-plugins", "--quiet"]) == 0
    )
    capsys.readouterr()
    export = ["export", str(folder / "run"), "-o", str(folder / "bundle")]
    assert cli.main(export) == 2
    assert "--allow-plugins" in capsys.readouterr().err
    assert not (folder / "bundle").exists()
    assert cli.main([*export, "--allow-plugins"]) == 0
    assert (folder / "bundle" / "model.onnx").exists()


def test_images_of_an_official_split_are_looked_at(workplace: Path, tmp_path: Path) -> None:
    names = [line.split()[0] for line in (workplace / "synthetic" / "labels.txt").read_text().splitlines()]
    parts = np.resize(["train", "train", "val", "test"], len(names))
    rows = [f"{name},{n % 2},{part}" for n, (name, part) in enumerate(zip(names, parts, strict=True))]
    (tmp_path / "labels.csv").write_text("\n".join(["image,a,part", *rows]) + "\n")
    (tmp_path / "official.yaml").write_text(
        f"data: {{labels: labels.csv, images: {workplace / 'synthetic' / 'images'}}}\n"
        "split: {scheme: column, column: part, train: [train], val: [val], test: [test]}\n"
        "backbone: {name: tf_efficientnet_lite0}\ntransform: {size: 32}\n"
    )
    config = loader.load(tmp_path / "official.yaml", TABLES)
    assert len(resizing.samples(config, resolve(config.backbone), [names])) == len(names)
