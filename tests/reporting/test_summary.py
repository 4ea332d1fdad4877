"""The figures of many runs, as ``summary.csv`` holds them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import shutil
from pathlib import Path

import fake_suite
import numpy as np
import oracles
import pandas as pd
import pytest

from aimonk_bench.errors import UserError
from aimonk_bench.records import files, run, suite
from aimonk_bench.reporting import markup, summary
from aimonk_bench.reporting.summary import MACRO
from aimonk_bench.reporting.view import View

ATTRIBUTES = ["attr1", "attr2", "attr3", "attr4"]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 runs on four attributes: 13 done, one failed, one not run."""
    folder = tmp_path_factory.mktemp("suites") / "comparison"
    fake_suite.comparison(folder)
    return folder


def frame(folder: Path) -> pd.DataFrame:
    return summary.frame([summary.summarize(suite.collect(folder))])


def test_summary_csv_is_what_scikit_learn_computes_from_the_predictions(comparison: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(files.csv_text(frame(comparison)))))
    assert list(rows[0]) == list(summary.COLUMNS)
    by_run: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_run.setdefault(row["run"], []).append(row)
    assert [len(run_rows) for run_rows in by_run.values()] == [5] * 15
    baseline = oracles.scored(comparison / "runs" / next(iter(by_run)))
    for run_id, run_rows in list(by_run.items())[:3]:
        expected = oracles.scored(comparison / "runs" / run_id)
        assert [row["attribute"] for row in run_rows] == [*ATTRIBUTES, MACRO]
        for row in run_rows:
            figures = expected[row["attribute"]]
            for name, value in figures.items():
                if (name, row["attribute"]) == ("threshold", MACRO):
                    assert row[name] == ""
                else:
                    np.testing.assert_allclose(float(row[name]), value, rtol=1e-12)
            delta = figures["f1_tuned"] - baseline[row["attribute"]]["f1_tuned"]
            np.testing.assert_allclose(float(row["delta"]), delta, atol=1e-12)
        assert {(row["state"], row["seeds"], row["seconds"], row["loss"]) for row in run_rows} == {
            ("done", "2", "1.25", "masked_bce")
        }


def test_csv_reads_back_to_the_same_floats_and_json_holds_the_same_rows(comparison: Path) -> None:
    table = frame(comparison)
    read = list(csv.DictReader(io.StringIO(files.csv_text(table))))
    rows = json.loads(summary.to_json(table))
    assert [list(row) for row in rows] == [list(summary.COLUMNS)] * len(table)
    for row, fields in zip(rows, read, strict=True):
        for name, value in row.items():
            assert fields[name] == ("" if value is None else str(value))
            if isinstance(value, float):
                assert float(fields[name]) == value
    assert {type(row["n_observed"]) for row in rows} == {int, type(None)}


@pytest.mark.parametrize("names", [["NA", "None", "null", "nan"]])
def test_attributes_may_be_called_as_missing_values_are(tmp_path: Path, names: list[str]) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions(names))
    assert [row["attribute"] for row in csv.DictReader(io.StringIO(files.csv_text(frame(tmp_path))))] == [*names, MACRO]


def test_runs_without_figures_have_a_state_and_empty_numbers(comparison: Path) -> None:
    rows = json.loads(summary.to_json(frame(comparison)))
    states = {row["state"]: row for row in rows}
    assert list(states) == ["done", "failed", "not run"]
    for state in ("failed", "not run"):
        defined = {name for name, value in states[state].items() if value is not None}
        assert defined == {"run", "state", "attribute", *(run.COLUMNS if state == "failed" else ())}
    assert [row["attribute"] for row in rows if row["state"] == "failed"] == [*ATTRIBUTES, MACRO]


def test_a_suite_without_a_finished_run_has_a_row_for_each(tmp_path: Path) -> None:
    failed, _ = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_failed(failed, "a", "it broke")
    rows = list(csv.DictReader(io.StringIO(files.csv_text(frame(tmp_path)))))
    assert [(row["state"], row["attribute"], row["seeds"]) for row in rows] == [
        ("failed", MACRO, ""),
        ("not run", MACRO, ""),
    ]


def test_the_mark_of_the_macro_stands_beside_the_interval_that_it_belongs_to(comparison: Path) -> None:
    names = ["mark", "simultaneous_low", "simultaneous_high", "detectable"]
    assert list(summary.COLUMNS[-4:]) == names
    assert "mark" not in summary.NUMERIC
    stored = summary.summarize(suite.collect(comparison)).statistics
    assert stored
    table = frame(comparison)
    assert table.loc[table["attribute"] != MACRO, names].isna().all(axis=None)
    marks = set()
    for row in table[table["attribute"] == MACRO].to_dict("records"):
        delta = stored.baseline.get(row["run"])
        if delta is None or not delta.mark:
            assert all(pd.isna(row[name]) for name in names), "the baseline and runs without figures"
            continue
        assert [row[name] for name in names] == [getattr(delta, name) for name in names]
        assert (row["simultaneous_low"] > 0 or row["simultaneous_high"] < 0) == (row["p_value"] <= 0.05)
        marks.add(row["mark"])
    assert {"better", "unresolved"} <= marks


def test_the_cost_of_the_backbone_stands_in_millions_and_billions(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    measured, plain, old, _ = fake_suite.write_suite(tmp_path, names, skipped=[3])
    fake_suite.write_run(measured, "a", fake_suite.predictions(), cost=fake_suite.COST | {"images_per_second": 81.5})
    fake_suite.write_run(plain, "b", fake_suite.predictions())
    fake_suite.write_run(old, "c", fake_suite.predictions(), cost=None)
    rows = list(csv.DictReader(io.StringIO(files.csv_text(frame(tmp_path)))))
    cost = {(row["run"], row["parameters"], row["macs"], row["images_per_second"]) for row in rows}
    assert cost == {
        ("0-a", "3.371008", "0.383907552", "81.5"),
        ("1-b", "3.371008", "0.383907552", ""),
        ("2-c", "", "", ""),
        ("3-d", "", "", ""),
    }
    assert {row["state"] for row in rows if row["run"] == "3-d"} == {"skipped"}
    made = summary.summarize(suite.collect(tmp_path)).statistics
    assert made is not None
    assert made.planned == 2, "a skipped run is known before anything is trained"


def test_undefined_is_empty_null_and_outside_the_macro(tmp_path: Path) -> None:
    fake_suite.write_run(tmp_path, "a", fake_suite.predictions(without_positives=["attr3"]))
    table = frame(tmp_path).set_index("attribute")
    assert math.isnan(table.loc["attr3", "f1_tuned"])
    for name, defined in (("f1_tuned", ["attr1", "attr2", "attr4"]), ("accuracy_tuned", ATTRIBUTES)):
        assert table.loc[MACRO, name] == pytest.approx(table.loc[defined, name].mean(), rel=1e-12)
    assert json.loads(summary.to_json(frame(tmp_path)))[2]["f1_tuned"] is None


def test_a_macro_covers_the_attributes_that_every_finished_run_defines(tmp_path: Path) -> None:
    names = ["a", "b"]
    for place, name, absent in zip(fake_suite.write_suite(tmp_path, names), names, (["attr1"], ["attr2"]), strict=True):
        fake_suite.write_run(place, name, fake_suite.predictions(without_positives=absent))
    f1 = frame(tmp_path)["f1_tuned"]
    assert f1[4] == pytest.approx((f1[2] + f1[3]) / 2, rel=1e-12)


def test_a_single_run_and_a_failed_baseline_have_no_delta(tmp_path: Path) -> None:
    first, second = fake_suite.write_suite(tmp_path / "suite", ["a", "b"])
    fake_suite.write_failed(first, "a", "it broke")
    fake_suite.write_run(second, "b", fake_suite.predictions())
    fake_suite.write_run(tmp_path / "single", "reference", fake_suite.predictions())
    for folder in (tmp_path / "suite", tmp_path / "single"):
        assert frame(folder)[["delta", "delta_low", "delta_high", "p_value"]].isna().all(axis=None)


def test_runs_on_different_attributes_are_refused(tmp_path: Path) -> None:
    first, second = fake_suite.write_suite(tmp_path, ["a", "b"])
    fake_suite.write_run(first, "a", fake_suite.predictions())
    fake_suite.write_run(second, "b", fake_suite.predictions(["x", "y"]))
    with pytest.raises(UserError, match="different attributes"):
        summary.summarize(suite.collect(tmp_path))


def test_a_summary_of_stored_scores_and_statistics_reads_no_predictions(tmp_path: Path) -> None:
    first, second = fake_suite.write_suite(tmp_path, ["a", "b"])
    for number, place in enumerate((first, second)):
        fake_suite.write_run(place, place.name[2:], fake_suite.predictions(noise=number))
    stats = summary.summarize(suite.collect(tmp_path)).statistics
    assert stats
    suite.write_statistics(tmp_path, stats)
    again = summary.summarize(suite.collect(tmp_path))
    assert again.statistics
    first, second = (files.plain(dataclasses.asdict(made)) for made in (again.statistics, stats))
    assert first == second
    assert all("predictions" not in vars(record) for record in again.collection.finished)


@pytest.fixture
def four(tmp_path: Path) -> list[Path]:
    """The folders of the four finished runs of a suite in ``tmp_path``, the first of which is the baseline."""
    names = ["a", "b", "c", "d"]
    places = fake_suite.write_suite(tmp_path, names)
    for number, (place, name) in enumerate(zip(places, names, strict=True)):
        fake_suite.write_run(place, name, fake_suite.predictions(noise=number, signal=0.5 + number))
    return places


def test_a_run_that_fails_makes_no_p_smaller_and_statistics_of_another_plan_are_made_again(
    tmp_path: Path, four: list[Path]
) -> None:
    whole = summary.summarize(suite.collect(tmp_path)).statistics
    assert whole
    assert whole.planned == 3
    shutil.rmtree(four[3])
    fake_suite.write_failed(four[3], "d", "it broke")
    some = summary.summarize(suite.collect(tmp_path)).statistics
    assert some
    assert some.planned == 3
    for run_id in ("1-b", "2-c"):
        assert some.baseline[run_id].p >= whole.baseline[run_id].p
        assert some.baseline[run_id].p_unadjusted == pytest.approx(whole.baseline[run_id].p_unadjusted, rel=1e-4)
    suite.write_statistics(tmp_path, dataclasses.replace(some, planned=2))
    again = summary.summarize(suite.collect(tmp_path)).statistics
    assert again
    assert again.baseline["1-b"].p == some.baseline["1-b"].p
    content = files.read_json(tmp_path / suite.STATISTICS)
    assert content["planned"] == 2
    assert {"low", "high", "simultaneous_low", "simultaneous_high", "detectable"} <= set(content["baseline"]["1-b"])


@pytest.mark.parametrize("content", [None, b"", b"PK"])
@pytest.mark.parametrize("known", [False, True], ids=["without statistics.json", "with statistics.json"])
def test_a_run_without_its_predictions_is_named_and_the_others_are_compared(
    tmp_path: Path, four: list[Path], content: bytes | None, known: bool
) -> None:
    if known:
        stored = summary.summarize(suite.collect(tmp_path)).statistics
        assert stored
        suite.write_statistics(tmp_path, stored)
    (four[2] / run.PREDICTIONS).unlink()
    if content is not None:
        (four[2] / run.PREDICTIONS).write_bytes(content)
    summarized = summary.summarize(suite.collect(tmp_path))
    assert summarized.statistics
    assert list(summarized.statistics.key) == ["0-a", "1-b", "3-d"]
    states = summary.frame([summarized]).set_index("run")["state"]
    assert states["2-c"].unique().tolist() == ["damaged"]
    assert states[["0-a", "1-b", "3-d"]].unique().tolist() == ["done"]
    (row,) = (line for line in markup.markdown(summarized, View()).splitlines() if line.startswith("| c "))
    assert f"damaged: {four[2] / run.PREDICTIONS}" in row


@pytest.mark.parametrize("older", [0, 2])
def test_runs_of_older_code_are_shown_and_never_compared(tmp_path: Path, four: list[Path], older: int) -> None:
    run_id = four[older].name
    status = files.read_json(four[older] / run.STATUS)
    del status["revision"]
    status["complexity"] = [0, 1, 1280, 0, 3, 0, 0, 2]  # before it had names
    files.write_json(four[older] / run.STATUS, status)
    summarized = summary.summarize(suite.collect(tmp_path))
    stats = summarized.statistics
    assert stats
    assert stats.reference == (None if older == 0 else "0-a")
    compared = [place.name for place in four if place.name != run_id]
    assert (list(stats.key), stats.candidates) == (compared, compared)
    assert run_id not in {*stats.baseline, *stats.against_winner, *stats.chosen.runs}
    assert np.isfinite(summarized.values[run_id]["f1_tuned"]).all()
    assert "delta" not in summarized.values[run_id]
    assert summarized.ranking[-1] == run_id
    assert "1 run of another version of aimonk_bench" in markup.markdown(summarized, View())


def test_runs_of_one_older_code_are_compared_with_each_other(tmp_path: Path, four: list[Path]) -> None:
    for place in four:
        files.write_json(place / run.STATUS, files.read_json(place / run.STATUS) | {"revision": None})
    summarized = summary.summarize(suite.collect(tmp_path))
    assert summarized.statistics
    assert len(summarized.statistics.key) == 4
    assert "4 runs of another version of aimonk_bench" in markup.markdown(summarized, View())
