"""What the files of a run say about its training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

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
