"""Finished work as objects: summary, selection, comparison; names that pandas reads as missing."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import fake_suite
import numpy as np
import pandas as pd
import pytest

import aimonk_bench as ab
from aimonk_bench.records import files, run
from aimonk_bench.reporting import summary
from aimonk_bench.reporting.verdict import sentence

HOSTILE = ["NA", "null", "None", "nan", "001", "True", "a,b", ' "x"', "-"]
[READ] = re.findall(r"^ *(pd\.read_csv\(.*\))$", str(ab.Suite.summary.__doc__), re.MULTILINE)  # the documented line


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> ab.Suite:
    """15 runs: 13 done, one failed, one not run."""
    folder = tmp_path_factory.mktemp("suites") / "comparison"
    fake_suite.comparison(folder)
    return ab.Suite(folder)


def test_the_summary_is_the_file_with_exact_types(suite: ab.Suite) -> None:
    table = suite.summary
    assert list(table) == list(summary.COLUMNS)
    kinds = dict.fromkeys(table.columns[:8], "string")
    kinds |= {
        name: "Int64" if name in ("n_observed", "n_positive", "seeds") else "float64" for name in table.columns[8:]
    } | {"mark": "string"}
    assert {name: str(kind) for name, kind in table.dtypes.items()} == kinds
    assert table["state"].value_counts().to_dict() == {"done": 65, "failed": 5, "not run": 5}
    assert table["loss"].isna().sum() == 5
    table["f1_tuned"] = 0.0
    assert suite.summary["f1_tuned"].max() > 0, "what a caller changes is the caller's"


def test_attributes_with_hostile_names_survive_the_summary_the_pivot_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b"]
    for place, name in zip(fake_suite.write_suite(tmp_path, names), names, strict=True):
        fake_suite.write_run(place, name, fake_suite.predictions(HOSTILE))
    suite = ab.Suite(tmp_path)
    assert suite.summary["attribute"].tolist() == [*HOSTILE, "macro"] * 2
    wide = suite.pivot("n_positive")
    assert (list(wide.columns), list(wide.index)) == ([*HOSTILE, "macro"], ["0-a", "1-b"])
    assert set(wide.dtypes.astype(str)) == {"Int64"}
    assert wide["macro"].tolist() == wide[HOSTILE].sum(axis=1).tolist()
    files.write_csv(tmp_path / "summary.csv", suite.summary)
    monkeypatch.chdir(tmp_path)
    read = eval(READ, {"pd": pd})
    for name in read:
        kind = suite.summary[name].dtype
        pd.testing.assert_series_equal(read[name].astype(kind), suite.summary[name], check_exact=True)
    assert read.query("attribute != 'macro'").groupby("attribute").size().to_dict() == dict.fromkeys(HOSTILE, 2)


def test_a_pivot_has_every_run_in_order(suite: ab.Suite) -> None:
    wide = suite.pivot("roc_auc")
    runs = suite.summary["run"].unique().tolist()
    assert wide.index.tolist() == runs
    assert (wide.index.name, wide.columns.name) == ("run", "attribute")
    assert wide.iloc[-2:].isna().all(axis=None)
    by_place = suite.summary.set_index(["run", "attribute"])["roc_auc"]
    assert wide.stack(future_stack=True).dropna().to_dict() == by_place.dropna().to_dict()
    with pytest.raises(
        ab.UserError, match=r"column: found 'f1_tunes', expected one of n_observed, .* \(did you mean f1_tuned\?\)"
    ):
        suite.pivot("f1_tunes")


def test_selection_and_verdict_are_those_of_the_statistics(suite: ab.Suite) -> None:
    assert suite.verdict is not None
    record = suite.verdict.record
    assert suite.selected is not None
    assert suite.simplest is not None
    assert suite.baseline is not None
    macro = suite.summary[suite.summary["attribute"] == "macro"].set_index("run")["f1_validation"]
    assert suite.selected.id == record.run == macro.idxmax()
    assert suite.simplest.id == record.simplest
    assert suite.baseline.id == "0-masked-bce---uniform"
    assert suite.verdict.outcome == record.outcome
    stats = suite._figures.statistics
    assert stats is not None
    assert suite.verdict == sentence(record, suite._collection.names, stats.against_winner)


def test_a_run_is_found_by_its_id_or_its_name(suite: ab.Suite) -> None:
    first = suite["masked_bce + uniform"]
    assert first == suite["0-masked-bce---uniform"] == suite.baseline
    assert (first.name, len(suite.runs), len(suite.finished)) == ("masked_bce + uniform", 14, 13)
    assert [run.id for run in suite] == list(suite.runs)
    assert len(suite) == 14
    failed, unrun = suite.unfinished
    assert suite[failed].failure == "loss is not finite at epoch 3"
    with pytest.raises(ab.UserError, match="the run 14-class-balanced---cla has no results: not run"):
        suite[unrun]
    with pytest.raises(ab.UserError, match=r"expected the id or name of a run \(did you mean hill \+ uniform|masked"):
        suite["masked_bce + unifrom"]


def test_two_runs_of_one_name_need_their_ids(tmp_path: Path) -> None:
    first, _ = fake_suite.write_suite(tmp_path, ["a", "a"])
    fake_suite.write_run(first, "a", fake_suite.predictions())
    with pytest.raises(ab.UserError, match="found 2 runs called 'a'; use an id: 0-a, 1-a"):
        ab.Suite(tmp_path)["a"]


def test_the_comparison_with_the_baseline_is_that_of_the_statistics(suite: ab.Suite) -> None:
    assert suite.baseline is not None
    stats = suite._figures.statistics
    assert stats is not None
    values = suite.pivot()
    for one in suite.finished[1:4]:
        table = suite.compare(one, "masked_bce + uniform").set_index("attribute")
        assert list(table.index) == list(values.columns)
        np.testing.assert_allclose(table["f1_a"], values.loc[one.id], rtol=1e-12)
        np.testing.assert_allclose(table["delta"], values.loc[one.id] - values.loc[suite.baseline.id], atol=1e-12)
        delta = stats.baseline[one.id]
        np.testing.assert_allclose(table["p_value"], [*delta.attribute_p, delta.p_unadjusted], rtol=1e-12)
        np.testing.assert_allclose(table["delta_low"], [*delta.attribute_low, delta.low], rtol=1e-12)
        back = suite.compare(suite.baseline, one.id).set_index("attribute")
        np.testing.assert_allclose(back["delta_high"], -table["delta_low"], rtol=1e-9)
        assert {table.loc["macro", "mark"], back.loc["macro", "mark"]} in ({"better", "worse"}, {"unresolved"})
        assert table["mark"].isna().sum() == 4
        assert table["reason"].isna().all()
    with pytest.raises(ab.UserError, match="found 0-masked-bce---uniform twice, expected two runs"):
        suite.compare(suite.baseline, suite.baseline.id)
    with pytest.raises(ab.UserError, match="failed"):
        suite.compare(suite.baseline, next(iter(suite.unfinished)))


def test_disagreements_and_errors_name_the_images(suite: ab.Suite) -> None:
    a, b = suite.finished[:2]
    table = suite.disagreements(a, b)
    predictions = a.predictions()
    assert set(table["image"]) <= set(predictions.loc[predictions["split"] == "test", "image"])
    wrong = a.errors("attr2", kind="false_positive", n=5)
    assert set(wrong["target"]) == {0}
    assert len(wrong) <= 5


def test_files_are_read_when_they_are_needed(tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path / "a", "a", fake_suite.predictions())
    (tmp_path / "a" / run.PREDICTIONS).write_bytes(b"damaged")
    made = ab.load(tmp_path / "a")
    assert isinstance(made, ab.Run)
    assert (made.id, made.name, made.failure) == ("a", "a", None)
    assert made.history["training_loss"].tolist() == [0.7, 0.6]
    for read in (made.predictions, made.errors, lambda: made.reliability):
        with pytest.raises(ab.UserError, match=r"predictions\.npz"):
            read()


def test_a_run_and_a_suite_are_frozen_and_equal_by_folder(suite: ab.Suite) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        suite.folder = Path()  # type: ignore[misc]
    assert suite == ab.load(str(suite.folder))
    assert {suite, ab.Suite(suite.folder)} == {suite}
    assert suite != ab.Run(suite.folder)


def test_the_reliability_of_a_run_is_its_file(suite: ab.Suite) -> None:
    made = suite.finished[0]
    assert files.csv_text(made.reliability) == (made.folder / run.RELIABILITY).read_text()
    assert set(made.reliability.dtypes.astype(str)) == {"string", "float64"}


@pytest.mark.parametrize("kind", [ab.Run, ab.Suite])
def test_a_folder_of_another_kind_is_named(kind: Any, suite: ab.Suite, tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path / "a", "a", fake_suite.predictions())
    wrong = suite.folder if kind is ab.Run else tmp_path / "a"
    with pytest.raises(ab.UserError, match=f"{wrong}: holds a .*, expected a {kind.__name__.lower()}"):
        kind(wrong).id if kind is ab.Run else kind(wrong).runs
    with pytest.raises(ab.UserError, match=r"expected a folder with suite\.json or status\.json"):
        ab.load(tmp_path)
