"""What weakens a comparison: each warning where it holds, with the number, and not elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import fake_suite
import numpy as np
import pytest

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.fairness import Unfair
from aimonk_bench.evaluation.verdict import Doubts
from aimonk_bench.records import run, suite
from aimonk_bench.reporting import summary
from aimonk_bench.reporting.remarks import few_warnings
from aimonk_bench.reporting.summary import Summary
from aimonk_bench.reporting.warning_lines import FEW_POSITIVES, warnings


def made(folder: Path, *, names: tuple[str, ...] = ("a",), **options: Any) -> Summary:
    for place, name in zip(fake_suite.write_suite(folder, names), names, strict=True):
        fake_suite.write_run(place, name, fake_suite.predictions(**options))
    return summary.summarize(suite.collect(folder))


def test_few_positive_test_labels_are_counted(tmp_path: Path) -> None:
    many = made(tmp_path / "many", attributes=["x", "y"], images=150)
    assert min(many.values["0-a"]["n_positive"][:-1]) >= FEW_POSITIVES
    assert warnings(many) == []
    for folds, fix in ((3, False), (1, True)):
        few = made(tmp_path / str(folds), folds=folds)
        positives = dict(zip(few.attributes, few.values["0-a"]["n_positive"].astype(int), strict=False))
        [line] = [line for line in warnings(few) if "positive test labels" in line]
        for name, number in positives.items():
            assert (f"{name} {number}" in line) == (0 < number < FEW_POSITIVES)
        assert ("split.scheme: kfold" in line) == fix, "folds are in use already"


def test_one_seed_says_what_is_not_known(tmp_path: Path) -> None:
    for number, names in enumerate([("a",), ("a", "b")]):
        [line] = [line for line in warnings(made(tmp_path / str(number), names=names, seeds=1)) if "one seed" in line]
        assert "train.seeds: 5" in line
        assert ("not compared" in line) == (len(names) > 1)


def test_attributes_of_one_class_are_named(tmp_path: Path) -> None:
    one = fake_suite.predictions(without_positives=["attr2"], images=150)
    targets = one.labels.targets.copy()
    targets[:, 0] = 1
    labels = Labels.of(targets, one.labels.observed, one.labels.attributes)
    fake_suite.write_run(tmp_path, "a", dataclasses.replace(one, labels=labels))
    [line] = [line for line in warnings(summary.summarize(suite.collect(tmp_path))) if "whose test labels are" in line]
    assert "all positive: attr1" in line
    assert "all negative: attr2" in line


@pytest.mark.parametrize(("claims", "named"), [("xz", "x 12, z 3"), ("x", "x 12"), ("y", ""), ("", "")])
def test_doubts_are_about_the_attributes_of_a_claim(tmp_path: Path, claims: str, named: str) -> None:
    base = made(tmp_path, attributes=["x", "y", "z"], images=150)
    assert base.statistics
    doubts = Doubts(14, {"x": 12, "y": 0, "z": 3}, {"x": ["labels", "features"], "z": ["labels", "features"]}, 5)
    verdict = dataclasses.replace(
        base.statistics.verdict, outcome="gain" if claims else "no_signal", with_gain=list(claims), doubts=doubts
    )
    changed = dataclasses.replace(base, statistics=dataclasses.replace(base.statistics, verdict=verdict))
    lines = warnings(changed)
    assert any("cuts 5 duplicate groups" in line for line in lines) == bool(claims)
    alike = [line for line in lines if "near duplicates" in line]
    depends = [line for line in lines if "missing labels depend" in line]
    assert (len(alike), len(depends)) == (bool(named), bool(named))
    if named:
        assert f": {named};" in alike[0]
        assert "14 pairs" in alike[0]
        assert "split: {near_duplicates: keep_together}" in alike[0]
        assert "other labels and the content of the image" in depends[0]
        assert f"({', '.join(name for name in claims if name != 'y')})" in depends[0]


def test_an_official_split_is_not_told_to_keep_near_duplicates_together(tmp_path: Path) -> None:
    base = made(tmp_path, attributes=["x", "y"], images=150)
    assert base.statistics
    verdict = dataclasses.replace(
        base.statistics.verdict, outcome="gain", with_gain=["x"], doubts=Doubts(14, {"x": 12, "y": 0}, {})
    )
    changed = dataclasses.replace(base, statistics=dataclasses.replace(base.statistics, verdict=verdict))
    config = base.collection.comparable[0].folder / run.CONFIG
    for split, fix in (
        ("", "fix: split: {near_duplicates: keep_together}"),
        ("split: {scheme: column, column: part}", "or use split: {scheme: kfold, near_duplicates: keep_together}"),
    ):
        config.write_text(fake_suite.CONFIG + split)
        [line] = [line for line in warnings(changed) if "near duplicates" in line]
        assert line.endswith(fix)
        assert ("name these pairs beside the figures" in line) == bool(split)


def test_what_is_not_fair_is_never_behind_what_is_said_of_the_data(tmp_path: Path) -> None:
    base = made(tmp_path, names=("a", "b"), seeds=1, without_positives=["attr2"])
    assert base.statistics
    assert len(warnings(base)) >= 3
    unfair = [Unfair("budgets", ("1-b",), differs=("epochs",)), Unfair("edge", ("0-a",), key="train.lr", end="largest")]
    changed = dataclasses.replace(base, statistics=dataclasses.replace(base.statistics, fairness=unfair))
    first, second, *_, last = few_warnings(changed)
    assert first.startswith("budgets differ (epochs)")
    assert "largest train.lr of the grid" in second
    assert last.endswith("more: table --explain")


@pytest.mark.parametrize("baseline", [0, 1, 2])
def test_a_baseline_without_figures_is_said_to_leave_everything_uncompared(tmp_path: Path, baseline: int) -> None:
    names = ("a", "b", "c")
    places = fake_suite.write_suite(tmp_path, names, baseline)
    fake_suite.write_run(places[0], "a", fake_suite.predictions(["x", "y"], images=150))
    fake_suite.write_failed(places[1], "b", "it broke")
    [line] = warnings(summary.summarize(suite.collect(tmp_path)))
    assert line.startswith("1 of 3 runs finished (1 failed, 1 not run)")
    assert ("the baseline is not among them, so that nothing is compared with it" in line) == (baseline > 0)


def test_unfair_comparisons_and_runs_without_figures_are_said(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    places = fake_suite.write_suite(tmp_path, names, skipped=[3])
    for place, name in zip(places[:2], names, strict=False):
        fake_suite.write_run(place, name, fake_suite.predictions(["x", "y"], images=150))
    fake_suite.write_failed(places[2], "c", "it broke")
    (tmp_path / suite.RUNS / "old").mkdir()
    base = summary.summarize(suite.collect(tmp_path))
    assert base.statistics
    unfair = [Unfair("improving", ("1-b",))]
    changed = dataclasses.replace(base, statistics=dataclasses.replace(base.statistics, fairness=unfair))
    first, second, third, fourth = warnings(changed)
    assert first == "2 of 3 runs finished (1 failed)", "which runs there are comes first"
    assert second.endswith("(suite.unavailable: skip): d")
    assert "(b)" in third
    assert "train.epochs" in third
    assert fourth.endswith(": runs/old")
    assert np.isfinite(changed.values["0-a"]["f1_tuned"]).all()
