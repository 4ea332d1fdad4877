"""What a run decided on its test rows, its exported heads decide again, by `predict`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.records.files import read_json
from aimonk_bench.serving.export import Exported
from aimonk_bench.serving.predict import predict

BAND = 1e-4  # of a logit


@pytest.mark.parametrize("run", ["holdout", "fine_tuned"])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_exported_head_decides_as_its_run(
    run: str,
    seed: int,
    bundle_of: Callable[[Path, str | int | None], Exported],
    workplace: Path,
    request: pytest.FixtureRequest,
) -> None:
    folder: Path = request.getfixturevalue(run)
    predictions = Predictions.load(folder / "predictions.npz")
    rows = predictions.part("test")
    s = predictions.seed.tolist().index(seed)
    stored = np.array(read_json(folder / "thresholds.json")["thresholds"])[s, 0]
    images = [workplace / "synthetic" / "images" / name for name in rows.image_id]
    predicted = [*predict(bundle_of(folder, seed).folder, images)]
    assert [prediction.error for prediction in predicted] == [None] * len(rows.image_id)
    logits = np.array([prediction.logits for prediction in predicted])
    np.testing.assert_allclose(logits, rows.logits[s], rtol=1e-4, atol=1e-4)
    near = np.abs(rows.logits[s] - np.log(stored / (1 - stored))) < BAND
    decided = np.array([prediction.decisions for prediction in predicted])
    assert (decided != (rows.probabilities[s] > stored))[~near].sum() == 0
    assert near.mean() < 0.1
