"""Whole runs and suites through the command line: what their folders hold, and what happens when a run fails."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from small_suite import execute, no_progress, planned, rows_of, statuses

from aimonk_bench import cli
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.errors import RunFailed
from aimonk_bench.records.suite import SuiteRecord
from aimonk_bench.reporting import figures
from aimonk_bench.suite import runner, sharing, tasks
from aimonk_bench.suite.clock import PHASES, Clock
from aimonk_bench.suite.plan import PlannedRun
from aimonk_bench.suite.tasks import TrainingResult

OTHER = SuiteRecord("other", "f" * 64, "0-x", ("0-x",), (("x",),))
RUN_FILES = {
    *("config.yaml", "environment.json", "data.json", "history.csv", "loss_curve.png", "predictions.npz"),
    *("heads.safetensors", "thresholds.json", "metrics.json", "reliability.csv", "status.json"),
}


def test_a_suite_leaves_the_files_of_the_contract(suite: Path) -> None:
    assert {path.name for path in suite.iterdir()} == {
        *("suite.json", "statistics.json", "summary.csv", "summary.md", "seconds.json", "runs")
    }
    record = json.loads((suite / "suite.json").read_text())
    assert sorted(path.name for path in (suite / "runs").iterdir()) == sorted(record["ids"])
    assert [run_id.rpartition("-")[0] for run_id in record["ids"]] == [
        f"{recipe}-tf_efficientnet_lite0-batch_size16-epochs2"
        for recipe in (
            "masked_bce-uniform",
            "masked_bce-balanced",
            "focal_gamma_1.0-uniform",
            "focal_gamma_1.0-balanced",
        )
    ]
    assert record["baseline"] == record["ids"][0]
    seconds = [json.loads((suite / "runs" / run_id / "status.json").read_text())["seconds"] for run_id in record["ids"]]
    assert [set(phases) for phases in seconds] == [{"encode", "train", "score"}] * 4
    assert seconds[0]["encode"] > 0 == sum(phases["encode"] for phases in seconds[1:])
    for run_id in record["ids"]:
        assert {path.name for path in (suite / "runs" / run_id).iterdir()} == RUN_FILES


def test_the_seconds_of_a_suite_add_up_and_hold_those_of_its_runs(suite: Path) -> None:
    items = json.loads((suite / "seconds.json").read_text())
    assert list(items) == [*PHASES, "other", "total"]
    assert min(items.values()) >= 0
    assert sum(items.values()) - items["total"] == pytest.approx(items["total"], abs=0.01)
    for phase in ("encode", "train", "score"):
        assert items[phase] >= sum(status["seconds"][phase] for status in statuses(suite)) - 0.01


def test_encoding_is_charged_to_the_runs_that_needed_it(workplace: Path) -> None:
    """Two encoders with two runs each: all images are encoded before the first run."""
    (workplace / "sizes.yaml").write_text(
        "extends: small.yaml\nsuite:\n  baseline: {transform.size: 48, sampler: uniform}\n"
        "  axes: {transform.size: [48, 40], sampler: [uniform, balanced]}\n"
    )
    out = workplace / "sizes"
    assert execute(workplace / "sizes.yaml", out) == 0
    names = json.loads((out / "suite.json").read_text())["ids"]
    spent = [json.loads((out / "runs" / name / "status.json").read_text())["seconds"]["encode"] for name in names]
    assert [seconds > 0 for seconds in spent] == [True, False, True, False]
    assert sum(spent) == pytest.approx(json.loads((out / "seconds.json").read_text())["encode"], abs=0.01)


def test_scikit_learn_reproduces_every_number_of_the_summary(suite: Path) -> None:
    ids = json.loads((suite / "suite.json").read_text())["ids"]
    expected = {run_id: oracles.scored(suite / "runs" / run_id) for run_id in ids}
    rows = rows_of(suite / "summary.csv")
    assert len(rows) == 4 * 5
    for row in rows:
        figures, base = (expected[run_id][row["attribute"]] for run_id in (row["run"], ids[0]))
        wanted = {**figures, "delta": figures["f1_tuned"] - base["f1_tuned"], "seeds": 2}
        wanted |= {"parameters": 3.371008, "macs": 0.007834848}  # of tf_efficientnet_lite0 at 32 x 32 pixels
        words = ("run", "state", "backbone", "weights", "loss", "missing", "sampler", "attribute", "mark")
        times = ("seconds", "images_per_second")
        numbers = {name: float(value) for name, value in row.items() if value and name not in (*words, *times)}
        if row["attribute"] == "macro":
            del wanted["threshold"]
        limits = {name: numbers.pop(name) for name in [*numbers] if name.endswith(("_low", "_high", "p_value"))}
        tested = row["run"] != ids[0]
        whole = ("mark", "detectable", "simultaneous_low", "simultaneous_high")  # of a tested macro alone
        assert [bool(row[name]) for name in whole] == [tested and row["attribute"] == "macro"] * 4
        simultaneous = {name: limits.pop(name) for name in whole[2:] if name in limits}
        if simultaneous:
            assert numbers.pop("detectable") > 0
            assert simultaneous["simultaneous_low"] <= limits["delta_low"]
            assert limits["delta_high"] <= simultaneous["simultaneous_high"]
        for name in {name.rpartition("_")[0] for name in limits} - {"p"}:
            assert limits[f"{name}_low"] <= numbers[name] <= limits[f"{name}_high"]
        assert set(limits) == {
            *("f1_default_low", "f1_default_high", "f1_tuned_low", "f1_tuned_high"),
            *(("delta_low", "delta_high", "p_value") if tested else ()),
        }
        assert numbers == pytest.approx(wanted, rel=1e-12, abs=1e-15)


def test_a_failed_run_has_the_seconds_of_the_phases_it_reached(
    pair: Path, monkeypatch: pytest.MonkeyPatch, workplace: Path
) -> None:
    real, drawn = figures.loss_curve, []

    def fail_once(*arguments: Any) -> bytes:
        drawn.append(arguments)
        if len(drawn) == 2:
            raise OSError("No space left on device")
        return real(*arguments)

    monkeypatch.setattr(figures, "loss_curve", fail_once)
    out = workplace / "seconds"
    assert execute(pair, out) == 3
    ended = statuses(out)
    assert sorted(status["state"] for status in ended) == ["done"] * 3 + ["failed"]
    assert all(status["seconds"].keys() == {"encode", "train", "score"} for status in ended)
    (failed,) = (status for status in ended if status["state"] == "failed")
    assert failed["reason"] == "OSError: No space left on device"
    left = sorted(path.name for path in (out / "runs" / failed["id"]).iterdir())
    assert left == ["config.yaml", "status.json", "traceback.txt"]


def test_an_encoder_that_cannot_be_had_is_tried_once(
    pair: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []

    def fail(*arguments: object) -> None:
        tried.append(arguments)
        raise RunFailed("engine: onnxruntime: no")

    monkeypatch.setattr(FeatureStore, "features", fail)
    assert execute(pair, workplace / "none") == 1
    assert len(tried) == 1


def test_a_failed_run_is_recorded_and_the_others_go_on(
    pair: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = tasks.train

    def fail_for_focal(planned: PlannedRun, *options: Any) -> TrainingResult:
        if planned.config.loss.name == "focal":
            raise RunFailed("loss is not finite at epoch 2")
        return real(planned, *options)

    monkeypatch.setattr(tasks, "train", fail_for_focal)
    out = workplace / "half"
    assert execute(pair, out) == 3
    captured = capsys.readouterr()
    assert "failed: loss is not finite at epoch 2" in " ".join(captured.out.split())
    assert "focal(gamma=1.0) + uniform failed: loss is not finite at epoch 2" in captured.err
    states = {row["run"].partition("-")[0]: row["state"] for row in rows_of(out / "summary.csv")}
    assert states == {"masked_bce": "done", "focal_gamma_1.0": "failed"}
    monkeypatch.undo()
    assert execute(pair, out) == 0


def test_an_unexpected_error_is_a_failed_run_with_its_traceback_in_a_file(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(tasks, "train", fail)
    out = workplace / "broken"
    assert cli.main(["run", str(workplace / "small.yaml"), "--out", str(out)]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert f"traceback: {out / 'traceback.txt'}" in printed
    assert (out / "traceback.txt").read_text().endswith("ZeroDivisionError: planted\n")
    status = json.loads((out / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["reason"] == "ZeroDivisionError: planted"


def test_an_unexpected_error_of_encoding_is_a_failed_run(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(tasks, "encode", fail)
    out = workplace / "not-encoded"
    assert cli.main(["run", str(workplace / "small.yaml"), "--out", str(out)]) == 1
    reason = json.loads((out / "status.json").read_text())["reason"]
    done = "while encoding with tf_efficientnet_lite0 at transform.size 32 (fix: another transform.size or backbone)"
    assert reason == f"ZeroDivisionError: planted, {done}"


def test_weights_that_cannot_be_had_fail_a_run_and_only_it(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`run` exits 2 before anything; a suite exits 3 and goes on."""
    absent = "backbone={name: tf_efficientnet_lite0, weights: 'package:not-installed'}"
    assert cli.main(["run", str(workplace / "small.yaml"), "--set", absent, "--out", str(workplace / "no")]) == 2
    assert "not-installed" in capsys.readouterr().err
    assert not (workplace / "no").exists()
    (workplace / "weights.yaml").write_text(
        "extends: small.yaml\n"
        "suite:\n  baseline: {backbone.weights: imagenet}\n"
        "  axes: {backbone.weights: [imagenet, 'package:not-installed']}\n"
    )
    assert cli.main(["suite", str(workplace / "weights.yaml"), "--out", str(workplace / "weights")]) == 3
    assert "not-installed" in capsys.readouterr().out
    (failed,) = (status for status in statuses(workplace / "weights") if status["state"] == "failed")
    assert not {"train", "score"} & failed["seconds"].keys()


def test_a_mistake_that_only_one_run_meets_is_its_own_failure(workplace: Path) -> None:
    (workplace / "bad.pth").write_bytes(b"not weights")
    (workplace / "mistake.yaml").write_text(
        "extends: small.yaml\n"
        "suite:\n  baseline: {backbone.weights: imagenet}\n"
        "  axes: {backbone.weights: [imagenet, ./bad.pth, none]}\n"
    )
    out = workplace / "mistake"
    assert execute(workplace / "mistake.yaml", out) == 3
    states = [row["state"] for row in rows_of(out / "summary.csv") if row["attribute"] == "macro"]
    assert states == ["done", "failed", "done"]


def test_a_split_that_is_impossible_leaves_the_folder_alone(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "suite.json").write_text("{")
    assert execute(pair, tmp_path, "split={scheme: kfold, folds: 81}") == 2
    assert "split.folds: found 81" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["suite.json"]


def test_a_run_with_a_target_for_one_attribute(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = "threshold={name: per_attribute_f1, for: {attr2: {name: target_precision, precision: 0.99}}}"
    arguments = ["--set", policy, "--set", "suite=null", "--out", str(tmp_path)]
    assert cli.main(["run", str(workplace / "small.yaml"), *arguments]) == 0
    assert "attr2 precision," in capsys.readouterr().out
    attributes = json.loads((tmp_path / "metrics.json").read_text())["attribute"]
    assert [row["precision"]["target"] for row in attributes.values()] == [None, 0.99, None, None]
    assert json.loads((tmp_path / "thresholds.json").read_text())["policy"] == (
        "per_attribute_f1(attr2: target_precision(precision=0.99))"
    )


def test_a_suite_with_other_options_needs_another_folder(
    pair: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in suite.glob("*.*")}
    assert execute(pair, suite, "train.epochs=3") == 2
    printed = capsys.readouterr().err
    assert f"{suite}: holds results of another config: 4 finished runs of the suite pair" in printed
    assert "output folder" in printed
    assert {path: path.read_bytes() for path in suite.glob("*.*")} == before


def test_two_processes_do_not_write_different_things_into_one_folder(
    pair: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sharing.alone(workplace / "shared", "other"):
        assert cli.main(["run", str(workplace / "small.yaml"), "--out", str(workplace / "shared")]) == 2
        assert execute(pair, workplace / "shared") == 2
    with sharing.joined(workplace / "shared", OTHER):
        assert cli.main(["run", str(workplace / "small.yaml"), "--out", str(workplace / "shared")]) == 2
        assert execute(pair, workplace / "shared") == 2
    refusals = [line for line in capsys.readouterr().err.splitlines() if "importer" not in line]
    assert len(refusals) == 4
    for line in refusals:
        assert f"{workplace / 'shared'}: process {os.getpid()} on {socket.gethostname()} is writing there" in line
        assert "another output folder" in line
    assert not (workplace / "shared").exists()


def test_a_folder_that_cannot_be_written(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, config in (("run", "small.yaml"), ("suite", "valid.yaml")):
        (workplace / "valid.yaml").write_text(
            "extends: small.yaml\nsuite: {baseline: {loss: hill}, axes: {loss: [hill, focal]}}\n"
        )
        assert cli.main([verb, str(workplace / config), "--out", "/proc/here"]) == 2
        assert "/proc/here: cannot be written" in capsys.readouterr().err


def test_bad_images_are_errors_or_reported(workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = (workplace / "synthetic" / "labels.txt").read_text() + "gone.jpg 1 1 1 1\njunk.jpg 1 1 0 0\n"
    labels, images = tmp_path / "bad.txt", tmp_path / "images"
    labels.write_text(listed)
    shutil.copytree(workplace / "synthetic" / "images", images)
    (images / "junk.jpg").write_bytes(b"not an image")
    asked = ["run", str(workplace / "small.yaml"), "--set", f"data.labels={labels}", "--set", f"data.images={images}"]
    assert cli.main([*asked, "--out", str(tmp_path / "bad")]) == 2
    assert "bad.txt:81: image gone.jpg is missing" in capsys.readouterr().err
    assert cli.main([*asked, "--set", "data.on_bad_image=skip", "--out", str(tmp_path / "bad")]) == 0
    captured = capsys.readouterr()
    assert "skipped gone.jpg: missing" in captured.err
    assert "skipped junk.jpg" in captured.err
    content = json.loads((tmp_path / "bad" / "data.json").read_text())
    assert (content["n_listed"], content["n_used"]) == (82, 80)
    assert [(item["image_id"], item["line"]) for item in content["skipped"]] == [("gone.jpg", 81), ("junk.jpg", 82)]
    labels.write_text(listed.replace("gone.jpg 1 1 1 1\n", ""))
    assert cli.main([*asked, "--out", str(tmp_path / "worse")]) == 2
    assert "bad.txt:81: image junk.jpg cannot be decoded" in capsys.readouterr().err
    assert not (tmp_path / "worse").exists()


def test_values_under_na_change_nothing(pair: Path, workplace: Path) -> None:
    """The loader puts 0 under NA; whatever a caller's array holds there must not reach any file of a suite."""
    config = workplace / "na.yaml"
    config.write_text(pair.read_text().replace("uniform, balanced", "uniform, balanced, inverse_frequency"))
    outs = [workplace / "na-as-loaded", workplace / "na-randomised"]
    for out in outs:
        suite = planned(config)
        labels = suite.dataset.listed.labels
        if out is outs[1]:
            noise = np.random.default_rng(0).integers(0, 2, labels.targets.shape, np.int8)
            labels.targets[~labels.observed] = noise[~labels.observed]
        runner.execute_suite(suite, out, Clock(), no_progress)
    for path in outs[0].rglob("*"):
        if path.name in ("predictions.npz", "thresholds.json", "metrics.json", "history.csv", "data.json"):
            assert path.read_bytes() == (outs[1] / path.relative_to(outs[0])).read_bytes(), path.name
    summaries = [
        [{**row, "seconds": "", "images_per_second": ""} for row in rows_of(out / "summary.csv")] for out in outs
    ]
    assert summaries[0] == summaries[1]


def test_the_environment_names_its_features_in_the_store(suite: Path) -> None:
    for path in suite.rglob("environment.json"):
        [digest] = json.loads(path.read_text())["features"]
        assert (FeatureStore().root / "features" / digest / "index.sqlite").exists()
