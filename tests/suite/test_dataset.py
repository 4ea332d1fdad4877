"""The encoded data set: features, splits and labels that runs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from small_suite import execute, planned

from aimonk_bench.suite import dataset, tasks


def test_networks_that_share_stored_pixels_have_pooled_features_of_their_own(workplace: Path) -> None:
    names = ("test_efficientnet", "test_byobnet")
    one, other = (f"{{name: {name}, weights: none, freeze: none}}" for name in names)
    (workplace / "networks.yaml").write_text(
        f"extends: small.yaml\nsuite:\n  baseline: {{backbone: {one}}}\n  axes: {{backbone: [{one}, {other}]}}\n"
    )
    suite = planned(workplace / "networks.yaml")
    assert len({run.encoder.digest for run in suite.runs}) == 1
    datasets = [tasks.encode(suite.dataset, run.config, run.encoder) for run in suite.runs]
    assert np.array_equal(*(encoded.stored.rows[encoded.stored.index] for encoded in datasets))
    widths = [timm.create_model(name).num_features for name in names]
    assert [encoded.features().shape for encoded in datasets] == [(80, width) for width in widths]
    least = min(widths)
    assert not np.allclose(*(encoded.features()[:, :least] for encoded in datasets))


def test_the_association_test_is_computed_once_for_all_runs(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, computed = dataset.before_training, []

    def count(*arguments: Any, **options: Any) -> Any:
        computed.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(dataset, "before_training", count)
    assert execute(pair, pair.parent / "associated") == 0
    assert len(computed) == 1
