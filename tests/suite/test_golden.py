"""The predictions of a few recipes on a tiny data set, as stored in ``golden.json``.

They change when the code gives other numbers for the same config and data. Then raise `REVISION` in
``aimonk_bench/records/run.py`` and make the file again: ``AIMONK_BENCH_GOLDEN=1 pytest tests/suite/test_golden.py``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aimonk_bench import cli
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.records.run import PREDICTIONS, REVISION

GOLDEN = Path(__file__).parent / "golden.json"
TOLERANCE = 1e-5  # processors round differently; another recipe differs by more than a hundred times that
IMAGES, SIZE, EVERY = 40, 32, 16  # of the rows every 16th is stored

CONFIG = """\
data: {labels: labels.txt, images: .}
split: {scheme: kfold, folds: 2, val: 0.3}
backbone: {name: resnet18, weights: none, engine: torch}
transform: {size: 32}
train: {epochs: 2, batch_size: 16, weight_decay: 0, seeds: 2, device: cpu}
tune: {}
"""
RECIPES: dict[str, list[str]] = {
    "reference": [],
    "balanced focal": ["loss=focal", "sampler=balanced", "missing=negative"],
    "two stages": ["loss=pos_weight", "missing=self_trained", "sampler=repeat_factor", "train.clip=0.1"],
    "set loss": ["loss=two_way", "sampler=coverage", "missing=splc", "train.optimizer={name: sgd, momentum: 0.9}"],
    "chosen epoch": [
        "loss=hill",
        "sampler=class_aware",
        "train.select=loss",
        "train.patience=1",
        "train.schedule=cosine",
    ],
    "hidden and tuned": ["hide={mechanism: positives}", "tune={train.lr: [0.1, 0.01]}", "loss=class_balanced"],
    "hold-out": ["split={scheme: holdout, val: 0.2, test: 0.3}", "transform.train=[]", "sampler=inverse_frequency"],
    "fine-tuned": ["backbone.freeze=layer4", "train.seeds=1", "transform.train=[]", "train.optimizer=adamw"],
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config on images of noise; BMP files hold it as it is."""
    folder, rng = tmp_path_factory.mktemp("golden"), np.random.default_rng(0)
    labels = rng.choice(["1", "0", "NA"], (IMAGES, 3), p=[0.4, 0.45, 0.15])
    for number in range(IMAGES):
        assert cv2.imwrite(str(folder / f"{number}.bmp"), rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8))
    rows = (f"{number}.bmp {' '.join(tokens)}" for number, tokens in enumerate(labels))
    (folder / "labels.txt").write_text("\n".join(rows))
    (folder / "golden.yaml").write_text(CONFIG)
    return folder / "golden.yaml"


def stored() -> dict[str, Any]:
    """The content of the file."""
    content: dict[str, Any] = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {"recipes": {}}
    return content


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_predictions_are_those_of_this_revision(config: Path, recipe: str) -> None:
    out = config.parent / recipe
    overrides = [word for override in RECIPES[recipe] for word in ("--set", override)]
    assert cli.main(["run", str(config), "--out", str(out), "--quiet", *overrides]) == 0
    made = Predictions.load(out / PREDICTIONS)
    rows, logits = made.image_id[::EVERY].tolist(), made.logits[:, ::EVERY].astype(float).round(7).tolist()
    golden = stored()
    if os.environ.get("AIMONK_BENCH_GOLDEN"):
        golden["recipes"][recipe] = {"rows": rows, "logits": logits}
        lines = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(golden['recipes'][name])}"
            for name in RECIPES
            if name in golden["recipes"]
        )
        GOLDEN.write_text(f'{{\n "revision": {REVISION},\n "recipes": {{\n{lines}\n }}\n}}\n')
        return
    expected = golden["recipes"][recipe]
    advice = f"other numbers than those of revision {golden['revision']}: see the first lines of this file"
    assert rows == expected["rows"], advice
    np.testing.assert_allclose(logits, expected["logits"], rtol=TOLERANCE, atol=TOLERANCE, err_msg=advice)


def test_the_stored_predictions_are_those_of_this_revision() -> None:
    assert stored()["revision"] == REVISION
    assert list(stored()["recipes"]) == list(RECIPES)


def test_recipes_differ_by_more_than_the_tolerance() -> None:
    recipes = stored()["recipes"]
    reference = np.array(recipes["reference"]["logits"])
    for name, recipe in recipes.items():
        if name != "reference" and np.shape(recipe["logits"]) == reference.shape:
            assert abs(np.array(recipe["logits"]) - reference).max() > 100 * TOLERANCE
