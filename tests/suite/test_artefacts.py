"""What the files of a run say about its training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aimonk_bench.config import loader
from aimonk_bench.suite import artefacts
from aimonk_bench.tables import TABLES
from aimonk_bench.training.tuning import Tuning


def test_ends_of_the_grid_are_those_of_the_best_scores_and_not_of_the_choices(workplace: Path) -> None:
    config = loader.load(workplace / "small.yaml", TABLES, {"tune": {"train.lr": [0.001, 0.01]}})
    # two seeds x two folds: the larger rate scores best in all heads, in one of them by less than a step
    scores = np.array([[[0.5, 0.5], [0.5, 0.5]], [[0.51, 0.52], [0.503, 0.53]]])
    rates = {"train.lr": np.array([0.001, 0.01])}
    tuning = Tuning("average_precision", rates, scores, {"train.lr": np.full((2, 2), 0.001)})
    heads = {"seed": np.array([0, 0, 1, 1]), "fold": np.array([0, 1, 0, 1])}
    history = heads | {"epoch": np.ones(4, int), "val_average_precision": np.full(4, 0.5)}
    planned: Any = SimpleNamespace(config=config)
    trained: Any = SimpleNamespace(tuning=tuning, history=history)
    assert artefacts._training(planned, trained).ends == {"train.lr": (0.0, 0.75)}


@pytest.mark.parametrize(
    ("freeze", "epochs", "value", "gain", "one_epoch"),
    [
        ("all", 1, 0.5, np.nan, True),
        ("all", 1, np.nan, np.nan, False),  # no history
        ("all", 2, 0.5, 0.25, False),
        ("blocks.3", 1, 0.5, np.nan, False),
        ("blocks.3", 2, 0.5, np.nan, False),
    ],
)
def test_one_and_two_epochs_of_heads_are_judged(
    workplace: Path, freeze: str, epochs: int, value: float, gain: float, one_epoch: bool
) -> None:
    keys = {"train.epochs": epochs, "backbone.freeze": freeze, "tune": {}}
    planned: Any = SimpleNamespace(config=loader.load(workplace / "small.yaml", TABLES, keys))
    history = {"seed": [0] * epochs, "fold": [0] * epochs, "epoch": [1, 2][:epochs]}
    history["val_average_precision"] = [value, value + 0.25][:epochs]
    trained: Any = SimpleNamespace(tuning=None, history=history)
    made = artefacts._training(planned, trained)
    assert made.late_gain == pytest.approx(gain, nan_ok=True)
    assert made.one_epoch is one_epoch
