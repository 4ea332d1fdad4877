"""What identifies a run, and the declared order of complexity."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_suite import planned

from aimonk_bench.suite import plan


def test_the_id_names_what_differs_from_the_defaults(workplace: Path) -> None:
    run = planned(
        workplace / "small.yaml",
        "loss={name: focal, gamma: 1.0}",
        "train.lr=0.01",
        "train.schedule=cosine",
        "threshold=pooled",
        "hide={mechanism: random}",
    ).baseline
    readable, _, digest = run.id.rpartition("-")
    assert readable == (
        "focal_gamma_1.0-uniform-pooled-cosine-hide_random_fraction_0.5-tf_efficientnet_lite0-lr0.01-epochs2"
    )
    assert len(digest) == 6
    assert set(digest) <= set("0123456789abcdef")


@pytest.mark.parametrize("override", ["name=other", "plot.title=other", "run.executor=serial"])
def test_what_changes_no_result_changes_no_id(workplace: Path, override: str) -> None:
    config = workplace / "small.yaml"
    assert planned(config, override).baseline.id == planned(config).baseline.id


def test_what_changes_a_result_changes_the_id(workplace: Path) -> None:
    overrides = ["calibration=platt", "split.seed=1", "train.seeds=3", "tune={train.lr: [0.1, 0.01]}", "loss=focal"]
    ids = {planned(workplace / "small.yaml", override).baseline.id for override in overrides}
    assert len(ids | {planned(workplace / "small.yaml").baseline.id}) == len(overrides) + 1


def test_runs_are_ordered_by_complexity(workplace: Path) -> None:
    """More of the backbone trained, more trainings of a head, more departures from the reference recipe."""
    orders = [
        plan.complexity(planned(workplace / "small.yaml", *overrides).baseline.config, features=1280)
        for overrides in (
            [],
            ["loss=pos_weight"],
            ["loss=pos_weight", "sampler=balanced"],
            ["tune={train.lr: [0.1, 0.01]}"],
            ["tune={train.lr: [0.1, 0.01, 0.001]}"],
            ["backbone.freeze=blocks.3"],
            ["backbone.freeze=none"],
        )
    ]
    assert orders == sorted(orders)
    assert len(set(orders)) == len(orders)
