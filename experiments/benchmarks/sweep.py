"""A 100-point sweep as one stacked run, against one of its points: 5 learning rates x 5 decays x 4 gammas of focal.

D 512, B 16, A 4, one seed, a hold-out, ten epochs. Timed is `train_heads` from start to end, with the validation of
every epoch. Stacked heads equal separate heads, which is a test (`tests/training/test_trainer.py`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aimonk_bench.config.fields import TrainConfig
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.registry import Spec
from aimonk_bench.training.heads_trainer import train_heads
from aimonk_bench.training.recipe import Recipe, TrainingData
from experiments.benchmarks.timing import Conditions, Panel, Row, bars, interleaved, write

IMAGES, FEATURES, BATCH, ATTRIBUTES = 2048, 512, 16, 4
GRID = {
    "train.lr": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
    "train.weight_decay": [0.0, 1e-5, 1e-4, 1e-3, 1e-2],
    "loss.gamma": [0.5, 1.0, 2.0, 3.0],
}


def main(out: Path, quick: bool = False) -> None:
    """Write sweep.json, sweep.md and sweep.png."""
    conditions, rng = Conditions.now(), np.random.default_rng(0)
    features = rng.normal(size=(2 * IMAGES, FEATURES)).astype(np.float32)
    index = rng.permutation(2 * IMAGES).reshape(2, IMAGES)
    names = [f"attr{number}" for number in range(1, ATTRIBUTES + 1)]
    labels = Labels.of(rng.random((IMAGES, ATTRIBUTES)) > 0.7, rng.random((IMAGES, ATTRIBUTES)) > 0.2, names)
    fold = Fold(*np.array_split(rng.permutation(IMAGES), (int(0.7 * IMAGES), int(0.8 * IMAGES))))
    data = TrainingData(labels, labels, [fold], np.array([0.5, 0.5]))
    train = TrainConfig(seeds=[0], batch_size=BATCH, epochs=1 if quick else 10, optimizer=Spec("adamw"))
    specs = Spec("focal", {"gamma": 2.0, "alpha": 0.25}), Spec("ignore"), Spec("uniform")
    cases = {
        "one point": lambda: train_heads(features, index, data, Recipe(train, *specs)),
        "100 points": lambda: train_heads(features, index, data, Recipe(train, *specs, tune=GRID)),
    }
    seconds = interleaved(cases, 1 if quick else 5)
    one = seconds["one point"]
    rows = [{"case": name, "seconds": taken, "x one point": taken / one} for name, taken in seconds.items()]
    write(out, "sweep", __doc__ or "", {"Training": rows}, conditions)
    draw(out / "sweep.png", rows)


def draw(path: Path, rows: list[Row]) -> None:
    """Both cases, in times of one point."""
    panel = Panel("training, times one point", "x one point", {row["case"]: row["x one point"] for row in rows})
    bars(path, "A 100-point sweep as one stacked run", [panel])
