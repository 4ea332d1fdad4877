"""Predictions of a run that never happened, for tests of what reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from aimonk_bench.evaluation.predictions import Predictions


def arrays(
    seed: int = 0, *, pictures: int = 60, folds: int = 3, seeds: int = 2, missing: float = 0.1
) -> dict[str, Any]:
    """The arguments of `Predictions`: every picture is a test row of one fold, some of the others are its val rows."""
    rng = np.random.default_rng(seed)
    names = ("smile", "hat", "größe", "rare")
    truth = rng.random((pictures, len(names))) < (0.8, 0.5, 0.5, 0.1)
    seen = rng.random(truth.shape) >= missing
    home = np.arange(pictures) % (folds if folds > 1 else 6)  # a hold-out tests and validates on a sixth each
    rows, split, fold = [], [], []
    for number in range(folds):
        test = np.flatnonzero(home == number)
        val = np.flatnonzero(home == 1) if folds == 1 else np.flatnonzero(home != number)[::4]
        rows += [val, test]
        split += ["val"] * len(val) + ["test"] * len(test)
        fold += [number] * (len(val) + len(test))
    chosen = np.concatenate(rows)
    logits = rng.normal(size=(seeds, len(chosen), len(names))) + 1.5 * truth[chosen] - 0.5
    return {
        "logits": np.round(logits, 1).astype(np.float32),  # rounded: ties
        "targets": (truth & seen)[chosen].astype(np.int8),
        "observed": seen[chosen],
        "split": np.array(split),
        "fold": np.array(fold, dtype=np.int16),
        "group": chosen.astype(np.int32),
        "image_id": np.array([f"image_{row}.jpg" for row in chosen]),
        "attribute": np.array(names),
        "seed": np.arange(seeds) * 10,
        "train_positive": rng.integers(5, 20, (folds, len(names)), dtype=np.int32),
        "train_observed": rng.integers(20, 30, (folds, len(names)), dtype=np.int32),
    }


def predictions(seed: int = 0, **options: Any) -> Predictions:
    return Predictions(**arrays(seed, **options))
