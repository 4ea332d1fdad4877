"""Whole runs and suites through the command line, in this process, on a small synthetic set."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from sklearn import metrics

from aimonk_bench import cli
from aimonk_bench.backbones import network as networks
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.config import loader
from aimonk_bench.data import images, splits
from aimonk_bench.errors import RunFailed
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import cross_fitted
from aimonk_bench.records import index
from aimonk_bench.registry import Spec
from aimonk_bench.reporting import figures
from aimonk_bench.suite import missingness, plan, runner
from aimonk_bench.suite.completion import Aside
from aimonk_bench.tables import TABLES
from aimonk_bench.training import batches, heads, heads_trainer, samplers

SUITE = """\
extends: small.yaml
suite:
  baseline: {loss: masked_bce, sampler: uniform}
  axes:
    loss: [masked_bce, {name: focal, gamma: 1.0}]
    sampler: [uniform, balanced]
"""
RUN_FILES = {
    *("config.yaml", "environment.json", "data.json", "history.csv", "loss_curve.png", "predictions.npz"),
    *("thresholds.json", "metrics.json", "reliability.csv", "status.json"),
}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def suite(workplace: Path) -> Path:
    (workplace / "pair.yaml").write_text(SUITE)
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(workplace / "pair"), "--quiet"]) == 0
    return workplace / "pair"


def test_a_suite_leaves_the_files_of_the_contract(suite: Path) -> None:
    assert {path.name for path in suite.iterdir()} == {
        *("suite.json", "statistics.json", "summary.csv", "summary.md", "seconds.json", "runs")
    }
    record = json.loads((suite / "suite.json").read_text())
    assert sorted(path.name for path in (suite / "runs").iterdir()) == sorted(record["ids"])
    assert [run_id.rpartition("-")[0] for run_id in record["ids"]] == [
        f"{recipe}-tf_efficientnet_lite0-epochs2"
        for recipe in (
            "masked_bce-uniform",
            "masked_bce-balanced",
            "focal_gamma_1.0-uniform",
            "focal_gamma_1.0-balanced",
        )
    ]
    assert record["baseline"] == record["ids"][0]
    seconds = [json.loads((suite / "runs" / run_id / "status.json").read_text())["seconds"] for run_id in record["ids"]]
    assert [set(own) for own in seconds] == [{"encode", "train", "score"}] * 4
    assert seconds[0]["encode"] > 0 == sum(own["encode"] for own in seconds[1:])
    for run_id in record["ids"]:
        assert {path.name for path in (suite / "runs" / run_id).iterdir()} == RUN_FILES


def test_the_seconds_of_a_suite_add_up_to_the_wall_time(workplace: Path) -> None:
    """Those of its runs are among them, and little is "other" than what has a name."""
    (workplace / "timed.yaml").write_text(SUITE)
    before = time.perf_counter()
    assert cli.main(["suite", str(workplace / "timed.yaml"), "--out", str(workplace / "timed"), "--quiet"]) == 0
    wall = time.perf_counter() - before
    items = json.loads((workplace / "timed" / "seconds.json").read_text())
    assert list(items) == [*runner.PHASES, "other", "total"]
    assert min(items.values()) >= 0
    assert sum(items.values()) - items["total"] == pytest.approx(items["total"], abs=0.01)
    assert items["total"] == pytest.approx(wall, rel=0.05)
    assert items["other"] < 0.1 * items["total"]
    spent = [json.loads(path.read_text())["seconds"] for path in (workplace / "timed").rglob("status.json")]
    for phase in ("encode", "train", "score"):
        assert items[phase] == pytest.approx(sum(own[phase] for own in spent), abs=0.01)


def test_encoding_is_charged_to_the_runs_that_needed_it(workplace: Path) -> None:
    """Two encoders, two runs of each: all encoded before the first run, each on account of its own."""
    (workplace / "sizes.yaml").write_text(
        "extends: small.yaml\nsuite:\n  baseline: {transform.size: 48, sampler: uniform}\n"
        "  axes: {transform.size: [48, 40], sampler: [uniform, balanced]}\n"
    )
    out = workplace / "sizes"
    assert cli.main(["suite", str(workplace / "sizes.yaml"), "--out", str(out), "--quiet"]) == 0
    names = json.loads((out / "suite.json").read_text())["ids"]
    spent = [json.loads((out / "runs" / name / "status.json").read_text())["seconds"]["encode"] for name in names]
    assert [seconds > 0 for seconds in spent] == [True, False, True, False]
    assert sum(spent) == pytest.approx(json.loads((out / "seconds.json").read_text())["encode"], abs=0.01)


def test_a_phase_within_another_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(runner.time, "perf_counter", lambda: now)
    clock = runner.Clock(began=97.0)
    for _ in range(2):
        with contextlib.suppress(KeyError), clock("files"):
            now += 1
            with clock("plots"):
                now += 10
                with clock("train"):
                    now += 100
            with clock("plots"):
                now += 1000
            raise KeyError
    now += 0.5
    assert clock.laps("plots", "train", "score") == {"plots": 2020, "train": 200}
    assert clock.laps("plots", "train") == {}
    items = clock.itemised()
    assert {phase: seconds for phase, seconds in items.items() if seconds} == {
        **{"start": 3, "files": 2, "plots": 2020, "train": 200},
        **{"other": 0.5, "total": 2225.5},
    }


def scored(folder: Path) -> dict[str, dict[str, float]]:
    """Attribute -> figure, by scikit-learn, from predictions.npz and thresholds.json alone; every class is present."""
    crossed = cross_fitted(Predictions.load(folder / "predictions.npz"), Spec("per_attribute_f1"))
    saved = np.load(folder / "predictions.npz")
    tuned = np.array(json.loads((folder / "thresholds.json").read_text())["thresholds"])  # [S, F, A]
    logits = saved["logits"].astype(np.float64)
    found: dict[str, dict[str, float]] = {}
    for a, attribute in enumerate(saved["attribute"].tolist()):
        parts = {}
        for split in ("val", "test"):
            used = (saved["split"] == split) & saved["observed"][:, a]
            probability = 1 / (1 + np.exp(-logits[:, used, a]))
            parts[split] = saved["targets"][used, a], saved["fold"][used], probability
        truth, fold, probability = parts["test"]
        labels, _, scores = parts["val"]
        limits = crossed[:, saved["observed"][saved["split"] == "val", a], a]
        prior = (saved["train_positive"] / saved["train_observed"])[fold, a]

        def counted(
            score: Callable[..., float], split: str, cut: float | None, a: int = a, parts: Any = parts
        ) -> float:
            truth, fold, probability = parts[split]
            cuts = tuned[:, fold, a] if cut is None else np.full(probability.shape, cut)
            return float(np.mean([score(truth, p > t) for p, t in zip(probability, cuts, strict=True)]))

        def ranked(score: Callable[..., float], truth: Any = truth, fold: Any = fold, p: Any = probability) -> float:
            folds = np.unique(fold)
            return float(np.mean([[score(truth[fold == k], row[fold == k]) for k in folds] for row in p]))

        found[attribute] = {
            "n_observed": len(truth),
            "n_positive": truth.sum(),
            "f1_default": counted(metrics.f1_score, "test", 0.5),
            "f1_tuned": counted(metrics.f1_score, "test", None),
            "f1_validation": np.mean([metrics.f1_score(labels, p > t) for p, t in zip(scores, limits, strict=True)]),
            "threshold": tuned[:, :, a].mean(),
            "precision": counted(metrics.precision_score, "test", None),
            "recall": counted(metrics.recall_score, "test", None),
            "accuracy_default": counted(metrics.accuracy_score, "test", 0.5),
            "accuracy_tuned": counted(metrics.accuracy_score, "test", None),
            "average_precision": ranked(metrics.average_precision_score),
            "roc_auc": ranked(metrics.roc_auc_score),
            "floor_f1": metrics.f1_score(truth, np.ones_like(truth)),
            "prior_f1": metrics.f1_score(truth, prior > 0.5),
        }
    figures = list(found["attr1"])
    found["macro"] = {name: np.mean([found[attribute][name] for attribute in found]) for name in figures}
    for name in ("n_observed", "n_positive"):
        found["macro"][name] *= len(found) - 1
    return found


def test_scikit_learn_reproduces_every_number_of_the_summary(suite: Path) -> None:
    ids = json.loads((suite / "suite.json").read_text())["ids"]
    expected = {run_id: scored(suite / "runs" / run_id) for run_id in ids}
    rows = rows_of(suite / "summary.csv")
    assert len(rows) == 4 * 5
    for row in rows:
        own, base = (expected[run_id][row["attribute"]] for run_id in (row["run"], ids[0]))
        wanted = {**own, "delta": own["f1_tuned"] - base["f1_tuned"], "seeds": 2}
        words = ("run", "state", "backbone", "weights", "loss", "missing", "sampler", "attribute")
        found = {name: float(value) for name, value in row.items() if value and name not in (*words, "seconds")}
        if row["attribute"] == "macro":
            del wanted["threshold"]
        limits = {name: found.pop(name) for name in [*found] if name.endswith(("_low", "_high", "p_value"))}
        for name in {name.rpartition("_")[0] for name in limits} - {"p"}:
            assert limits[f"{name}_low"] <= found[name] <= limits[f"{name}_high"]
        assert set(limits) == {
            *("f1_default_low", "f1_default_high", "f1_tuned_low", "f1_tuned_high"),
            *(() if row["run"] == ids[0] else ("delta_low", "delta_high", "p_value")),
        }
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-15)


def test_finished_runs_are_not_run_again(
    suite: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a finished run was executed")

    before, seconds = ((suite / name).read_bytes() for name in ("summary.csv", "seconds.json"))
    monkeypatch.setattr(runner, "execute", refuse)
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(suite)]) == 0
    told = capsys.readouterr().err
    assert "4 of 4 runs were already done" in told
    assert " s: start " in told.splitlines()[-1]
    assert (suite / "summary.csv").read_bytes() == before
    assert (suite / "seconds.json").read_bytes() == seconds  # of the command that did the work


def test_every_table_comes_back_from_the_predictions(suite: Path, workplace: Path) -> None:
    derived = [*suite.rglob("metrics.json"), *suite.rglob("thresholds.json"), *suite.rglob("reliability.csv")]
    derived += [*suite.rglob("loss_curve.png"), *suite.glob("summary.*"), suite / "statistics.json"]
    before = {path: path.read_bytes() for path in derived}
    assert len(before) == 19
    for path in derived:
        path.unlink()
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(suite), "--quiet"]) == 0
    assert {path: path.read_bytes() for path in derived} == before


def statuses(suite: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in suite.rglob("status.json")]


def files_of_runs(suite: Path) -> dict[Path, bytes]:
    """Every file of every run but those that hold times or paths."""
    found = [path for path in (suite / "runs").rglob("*") if path.is_file()]
    kept = [path for path in found if path.name not in ("status.json", "config.yaml", "environment.json")]
    return {path.relative_to(suite): path.read_bytes() for path in kept}


def test_many_runs_are_completed_beside_the_training(
    suite: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("done in this process")

    monkeypatch.setattr(runner, "WORTHWHILE", 2)
    monkeypatch.setattr(runner, "complete", refuse)
    out = workplace / "beside"
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(out), "--quiet"]) == 0
    assert files_of_runs(out) == files_of_runs(suite)
    assert all(own["seconds"].keys() == {"encode", "train", "score"} for own in statuses(out))


@pytest.fixture
def asides(monkeypatch: pytest.MonkeyPatch) -> list[Aside]:
    """The processes that complete runs beside the training, as they begin; two runs are worth one."""

    def watched(self: Aside) -> Aside:
        begun.append(self)
        return enter(self)

    begun: list[Aside] = []
    enter = Aside.__enter__
    monkeypatch.setattr(Aside, "__enter__", watched)
    monkeypatch.setattr(runner, "WORTHWHILE", 2)
    return begun


def test_who_completes_runs_is_there_before_pictures_are_encoded_and_leaves_with_their_failure(
    asides: list[Aside], workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bank(*arguments: object) -> None:
        assert [aside.gone for aside in asides] == [False]
        raise runner.BadPictures("no picture can be decoded")

    monkeypatch.setattr(FeatureStore, "bank", bank)
    out = workplace / "undecodable"
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(out), "--quiet"]) == 2
    assert capsys.readouterr().err == "no picture can be decoded\n"
    assert [aside.gone for aside in asides] == [True]
    assert not list(out.rglob("*.*"))


def test_work_begins_once_with_the_first_progress_and_its_failure_is_left_to_who_needs_it() -> None:
    told: list[tuple[str, int, int]] = []
    begun: list[int] = []

    def work() -> None:
        begun.append(len(told))
        raise ImportError("no splitter")

    with runner._meanwhile(work, lambda *progress: told.append(progress)) as progress:
        assert not begun
        progress("encode", 0, 2)
        progress("encode", 1, 2)
    assert told == [("encode", 0, 2), ("encode", 1, 2)]
    assert len(begun) == 1


def test_an_interruption_leaves_whole_runs_and_nobody_who_writes(
    asides: list[Aside], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = heads_trainer.train_heads, []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(heads_trainer, "train_heads", interrupted)
    out = workplace / "interrupted"
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(out), "--quiet"]) == 130
    assert [aside.gone for aside in asides] == [True]
    assert [own["state"] for own in statuses(out)] == ["done"]
    assert (out / "summary.csv").exists()
    monkeypatch.undo()
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(out), "--quiet"]) == 0


def test_runs_are_completed_here_where_the_process_is_gone(
    suite: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(self: Aside) -> Aside:
        real(self)
        self._process.kill()
        self._process.wait()
        return self

    real = Aside.__enter__
    monkeypatch.setattr(runner, "WORTHWHILE", 2)
    monkeypatch.setattr(Aside, "__enter__", enter)
    out = workplace / "gone"
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(out), "--quiet"]) == 0
    assert files_of_runs(out) == files_of_runs(suite)


def test_a_failed_run_has_the_seconds_of_the_phases_it_reached_and_no_others(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, drawn = figures.loss_curve, []

    def once(*arguments: Any) -> None:
        drawn.append(arguments)
        if len(drawn) == 2:
            raise OSError("No space left on device")
        real(*arguments)

    monkeypatch.setattr(figures, "loss_curve", once)
    out = workplace / "seconds"
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(out), "--quiet"]) == 3
    found = statuses(out)
    assert sorted(own["state"] for own in found) == ["done"] * 3 + ["failed"]
    assert all(own["seconds"].keys() == {"encode", "train", "score"} for own in found)


def test_runs_that_were_not_completed_beside_the_training_are_completed_after_it(
    suite: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but one, which cannot be: that run has failed."""
    expected = {path.relative_to(suite): path.read_bytes() for path in suite.rglob("loss_curve.png")}
    expected |= {path.relative_to(suite): path.read_bytes() for path in suite.rglob("history.csv")}
    broken, real = max(expected), figures.loss_curve

    def drawn(history: Any, title: str, path: Path) -> None:
        if path.relative_to(out) == broken:
            raise OSError("No space left on device")
        real(history, title, path)

    monkeypatch.setattr(runner, "WORTHWHILE", len(expected))
    monkeypatch.setattr(Aside, "complete", lambda *arguments: None)
    monkeypatch.setattr(figures, "loss_curve", drawn)
    out = workplace / "undrawn"
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(out), "--quiet"]) == 3
    expected = {path: content for path, content in expected.items() if path.parent != broken.parent}
    found = [*out.rglob("loss_curve.png"), *out.rglob("history.csv")]
    assert {path.relative_to(out): path.read_bytes() for path in found} == expected
    assert "No space left" in json.loads((out / broken.parent / "status.json").read_text())["reason"]
    failed = {row["run"] for row in rows_of(out / "summary.csv") if row["state"] == "failed"}
    assert failed == {broken.parent.name}


def test_an_encoder_that_cannot_be_had_is_tried_once(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def fail(*arguments: object) -> None:
        tried.append(arguments)
        raise RunFailed("engine: onnxruntime: no")

    (workplace / "pair.yaml").write_text(SUITE)
    monkeypatch.setattr(FeatureStore, "bank", fail)
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(workplace / "none"), "--quiet"]) == 1
    assert len(tried) == 1


def test_networks_that_share_stored_pixels_have_pooled_features_of_their_own(workplace: Path) -> None:
    names = ("test_efficientnet", "test_byobnet")
    one, other = (f"{{name: {name}, weights: none, freeze: none}}" for name in names)
    (workplace / "networks.yaml").write_text(
        f"extends: small.yaml\nsuite:\n  baseline: {{backbone: {one}}}\n  axes: {{backbone: [{one}, {other}]}}\n"
    )
    planned = plan.plan_suite(loader.load_suite(workplace / "networks.yaml", TABLES))
    assert len({run.encoder.digest for run in planned.runs}) == 1
    materials = runner.Materials(planned.dataset, runner.Clock(), lambda *_: None)
    found = [materials.of(run) for run in planned.runs]
    assert np.array_equal(*(material.bank.rows[material.bank.index] for material in found))
    widths = [timm.create_model(name).num_features for name in names]
    assert [material.features().shape for material in found] == [(80, width) for width in widths]
    least = min(widths)
    assert not np.allclose(*(material.features()[:, :least] for material in found))


def test_a_failed_run_is_recorded_and_the_others_go_on(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = heads_trainer.train_heads

    def fail_for_focal(*arguments: object, **named: object) -> object:
        if arguments[3].loss.name == "focal":  # type: ignore[attr-defined]  # the recipe
            raise RunFailed("loss is not finite at epoch 2")
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(heads_trainer, "train_heads", fail_for_focal)
    out = workplace / "half"
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(out)]) == 3
    assert "failed: loss is not finite at epoch 2" in " ".join(capsys.readouterr().out.split())
    states = {row["run"].partition("-")[0]: row["state"] for row in rows_of(out / "summary.csv")}
    assert states == {"masked_bce": "done", "focal_gamma_1.0": "failed"}
    monkeypatch.undo()
    assert cli.main(["suite", str(workplace / "pair.yaml"), "--out", str(out), "--quiet"]) == 0


def test_an_unexpected_error_is_a_failed_run_with_its_traceback(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(heads_trainer, "train_heads", fail)
    out = workplace / "broken"
    assert cli.main(["run", str(workplace / "small.yaml"), "--out", str(out)]) == 1
    assert "Traceback" in capsys.readouterr().err
    status = json.loads((out / "status.json").read_text())
    assert status["state"] == "failed"
    assert status["reason"] == "ZeroDivisionError: planted"


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
    (failed,) = (own for own in statuses(workplace / "weights") if own["state"] == "failed")
    assert not {"train", "score"} & failed["seconds"].keys()  # which the run before it has


def test_run_into_a_folder(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, config = str(workplace / "one"), str(workplace / "small.yaml")
    assert cli.main(["run", config, "--out", out]) == 0
    first = (workplace / "one" / "predictions.npz").read_bytes()
    assert cli.main(["run", config, "--out", out]) == 0
    assert "already done" in capsys.readouterr().err
    assert cli.main(["run", config, "--out", out, "--set", "train.epochs=3"]) == 2
    assert "holds the run" in capsys.readouterr().err
    # the resolved config, run again elsewhere, gives the same run
    assert cli.main(["run", str(workplace / "one" / "config.yaml"), "--out", str(workplace / "two"), "--quiet"]) == 0
    assert (workplace / "two" / "predictions.npz").read_bytes() == first


def test_values_under_na_change_nothing(workplace: Path) -> None:
    """The loader puts 0 under NA; whatever a caller's array holds there must not reach any file of a suite."""
    (workplace / "na.yaml").write_text(SUITE.replace("uniform, balanced", "uniform, balanced, inverse_frequency"))
    outs = [workplace / "na-as-loaded", workplace / "na-randomised"]
    for out in outs:
        planned = plan.plan_suite(loader.load_suite(workplace / "na.yaml", TABLES))
        labels = planned.dataset.listed.labels
        if out is outs[1]:
            noise = np.random.default_rng(0).integers(0, 2, labels.targets.shape, np.int8)
            labels.targets[~labels.observed] = noise[~labels.observed]
        runner.execute_suite(planned, out, runner.Clock(), lambda phase, done, total: None)
    for path in outs[0].rglob("*"):
        if path.name in ("predictions.npz", "thresholds.json", "metrics.json", "history.csv", "data.json"):
            assert path.read_bytes() == (outs[1] / path.relative_to(outs[0])).read_bytes(), path.name
    summaries = [[{**row, "seconds": ""} for row in rows_of(out / "summary.csv")] for out in outs]
    assert summaries[0] == summaries[1]


def test_a_run_of_a_suite_can_be_run_again_as_it_stands(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sorted((suite / "runs").iterdir())[0]
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", str(folder / "config.yaml"), "--quiet"]) == 0
    (again,) = (tmp_path / "experiments").iterdir()
    for name in ("config.yaml", "predictions.npz", "metrics.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_mistake_that_only_one_run_meets_is_its_own_failure(workplace: Path) -> None:
    (workplace / "bad.pth").write_bytes(b"not weights")
    (workplace / "mistake.yaml").write_text(
        "extends: small.yaml\n"
        "suite:\n  baseline: {backbone.weights: imagenet}\n"
        "  axes: {backbone.weights: [imagenet, ./bad.pth, none]}\n"
    )
    out = workplace / "mistake"
    assert cli.main(["suite", str(workplace / "mistake.yaml"), "--out", str(out), "--quiet"]) == 3
    states = [row["state"] for row in rows_of(out / "summary.csv") if row["attribute"] == "macro"]
    assert states == ["done", "failed", "done"]


def test_a_split_that_is_impossible_leaves_the_folder_alone(
    workplace: Path, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (suite / "suite.json").read_bytes()
    folds = ["--set", "split={scheme: kfold, folds: 81}"]
    assert cli.main(["suite", str(workplace / "pair.yaml"), *folds, "--out", str(suite)]) == 2
    assert "split.folds: found 81" in capsys.readouterr().err
    assert (suite / "suite.json").read_bytes() == before


def test_two_processes_do_not_write_into_one_folder(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with runner.alone(workplace / "shared"):
        assert cli.main(["run", str(workplace / "small.yaml"), "--out", str(workplace / "shared")]) == 2
    assert "another process is writing there" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, config in (("run", "small.yaml"), ("suite", "valid.yaml")):
        (workplace / "valid.yaml").write_text(
            "extends: small.yaml\nsuite: {baseline: {loss: hill}, axes: {loss: [hill, focal]}}\n"
        )
        assert cli.main([verb, str(workplace / config), "--out", "/proc/here"]) == 2
        assert "/proc/here: cannot be written" in capsys.readouterr().err


def test_bad_pictures_are_errors_or_reported(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = (workplace / "synthetic" / "labels.txt").read_text() + "gone.jpg 1 1 1 1\njunk.jpg 1 1 0 0\n"
    (workplace / "bad.txt").write_text(listed)
    (workplace / "synthetic" / "images" / "junk.jpg").write_bytes(b"not a picture")
    asked = ["run", str(workplace / "small.yaml"), "--set", f"data.labels={workplace / 'bad.txt'}"]
    assert cli.main([*asked, "--out", str(workplace / "bad")]) == 2
    assert "bad.txt:81: image gone.jpg is missing" in capsys.readouterr().err
    assert cli.main([*asked, "--set", "data.on_bad_image=skip", "--out", str(workplace / "bad")]) == 0
    captured = capsys.readouterr()
    assert "skipped gone.jpg: missing" in captured.err
    assert "skipped junk.jpg" in captured.err
    found = json.loads((workplace / "bad" / "data.json").read_text())
    assert (found["n_listed"], found["n_used"]) == (82, 80)
    assert [(item["image_id"], item["line"]) for item in found["skipped"]] == [("gone.jpg", 81), ("junk.jpg", 82)]
    (workplace / "bad.txt").write_text(listed.replace("gone.jpg 1 1 1 1\n", ""))
    assert cli.main([*asked, "--out", str(workplace / "worse")]) == 2
    assert "bad.txt:81: picture junk.jpg cannot be decoded" in capsys.readouterr().err
    assert not (workplace / "worse").exists()


def test_the_reference_recipe_on_the_aimonk_data(aimonk: Path, workplace: Path) -> None:
    """The split and the record of what was skipped, at a small picture size."""
    reference = Path(__file__).parents[2] / "configs" / "reference.yaml"
    sets = [f"data.labels={aimonk / 'labels.txt'}", f"data.images={aimonk / 'images'}", "data.on_bad_image=skip"]
    sets += ["backbone={name: tf_efficientnet_lite0}", "transform.size=32"]
    out = workplace / "reference"
    assert (
        cli.main(["run", str(reference), "--out", str(out), "--quiet", *(w for s in sets for w in ("--set", s))]) == 0
    )
    found = json.loads((out / "data.json").read_text())
    assert (found["n_listed"], found["n_used"], len(found["skipped"])) == (975, 972, 3)
    history = rows_of(out / "history.csv")
    assert len(history) == -(-found["folds"][0]["train"] // 16) * 5
    assert list(history[0])[:5] == ["seed", "fold", "iteration_number", "epoch", "training_loss"]


def test_training_from_the_store_equals_decoding_and_encoding_every_picture_in_every_epoch(workplace: Path) -> None:
    """A naive loop: one nn.Linear, and for every batch the pictures are read, flipped, normalised and encoded anew."""
    config = loader.load(
        workplace / "small.yaml", TABLES, ["split={scheme: holdout}", "train.seeds=[3]", "train.lr=0.01"]
    )
    planned = plan.plan_run(config)
    out = workplace / "stored"
    runner.execute_run(planned, out, runner.Clock(), lambda phase, done, total: None)
    ids, labels = planned.dataset.listed.ids, planned.dataset.listed.labels
    weights = planned.runs[0].encoder.weights
    network = timm.create_model(weights.entry.timm, pretrained=False, num_classes=0).eval()
    network.load_state_dict(networks.build(weights, 32).network.state_dict())

    def encode(rows: np.ndarray, flips: np.ndarray) -> torch.Tensor:
        read = [images.decode((config.data.images / ids[n]).read_bytes(), 32, "bicubic") for n in rows]
        seen = [pixels[:, ::-1] if flip else pixels for pixels, flip in zip(read, flips, strict=True)]
        normal = (np.stack(seen).astype(np.float32) / 255 - 0.5) / 0.5
        with torch.no_grad():
            return network(torch.from_numpy(normal).permute(0, 3, 1, 2))

    sha256 = [picture.sha256 for picture in planned.dataset.pictures if picture]
    (fold,) = splits.split(config.split, labels, splits.components(sha256, None))
    rngs = batches.HeadRngs.of(3, 0)
    start = heads.Heads.initial(4, 1280, [rngs.init])
    head = torch.nn.Linear(1280, 4)
    head.weight.data, head.bias.data = start.weight[0].detach(), start.bias[0, 0].detach()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    steps, losses = -(-len(fold.train) // 16), []
    for _ in range(2):
        halves, shape = np.array([0.5, 0.5]), (steps, 16)
        drawn = batches.EpochBatches.draw(samplers.uniform, labels, [fold.train], [rngs], halves, shape)
        for rows, views in zip(drawn.images[:, 0], drawn.views[:, 0], strict=True):
            logits = head(encode(rows, views == 1))
            known = torch.from_numpy(labels.observed[rows])
            truth = torch.from_numpy(labels.targets[rows]).float()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], truth[known])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    found = [float(row["training_loss"]) for row in rows_of(out / "history.csv")]
    np.testing.assert_allclose(found, losses, rtol=1e-3)
    saved = np.load(out / "predictions.npz")
    with torch.no_grad():
        wanted = head(encode(fold.test, np.zeros(len(fold.test), bool))).numpy()
    np.testing.assert_allclose(saved["logits"][0, saved["split"] == "test"], wanted, rtol=1e-3, atol=1e-3)
    assert saved["image_id"][saved["split"] == "test"].tolist() == [ids[n] for n in fold.test]


# Hidden labels


HIDE = """\
extends: small.yaml
suite:
  baseline: {hide: null}
  axes:
    hide: [null, {mechanism: random}, {mechanism: random, rows: train}, {mechanism: positives, fraction: 0.4},
           {mechanism: score, fraction: 0.4}]
"""


@pytest.fixture(scope="module")
def hidden(workplace: Path) -> dict[str, Path]:
    """What is hidden -> the folder of the run."""
    (workplace / "hide.yaml").write_text(HIDE)
    out = workplace / "hide"
    assert cli.main(["suite", str(workplace / "hide.yaml"), "--out", str(out), "--quiet"]) == 0
    record = json.loads((out / "suite.json").read_text())
    return {
        " + ".join(name): out / "runs" / run_id for run_id, name in zip(record["ids"], record["names"], strict=True)
    }


def test_hiding_takes_labels_from_training_and_validation_and_no_other(hidden: dict[str, Path]) -> None:
    saved = {name: np.load(folder / "predictions.npz") for name, folder in hidden.items()}
    whole = saved.pop("nothing hidden")
    test = whole["split"] == "test"
    assert list(saved) == [
        "hide random(fraction=0.5)",
        "hide random(fraction=0.5, rows=train)",
        "hide positives(fraction=0.4)",
        "hide score(fraction=0.4)",
    ]
    for name, own in saved.items():
        for same in ("image_id", "fold", "split", "group", "truth"):  # the split does not depend on what is hidden
            np.testing.assert_array_equal(own[same], whole[same])
        for part in ("observed", "targets"):
            np.testing.assert_array_equal(own[part][test], whole[part][test])
        gone = whole["observed"] & ~own["observed"]
        assert not (own["observed"] & ~whole["observed"]).any()
        assert gone.any() == ("rows=train" not in name)
        assert (own["train_observed"] < whole["train_observed"]).all()
        if "positives" in name:
            assert (whole["targets"][gone] == 1).all()
            negatives = [saved_["train_observed"] - saved_["train_positive"] for saved_ in (own, whole)]
            np.testing.assert_array_equal(*negatives)
        # one mask for all folds: a picture that validates in one fold and in another loses the same labels
        masks: dict[str, np.ndarray] = {}
        for picture, mask in zip(own["image_id"][~test], own["observed"][~test], strict=True):
            np.testing.assert_array_equal(masks.setdefault(picture, mask), mask)
        found = json.loads((hidden[name] / "data.json").read_text())
        assert set(found["n_hidden"]) == {"attr1", "attr2", "attr3", "attr4"}
        share = sum(found["n_hidden"].values()) / sum(found["n_observed"].values())
        assert share == pytest.approx(0.5 if "random" in name else 0.4, abs=0.3 if "positives" in name else 0.1)
    np.testing.assert_array_equal(
        saved["hide random(fraction=0.5)"]["train_observed"],
        saved["hide random(fraction=0.5, rows=train)"]["train_observed"],
    )


def test_what_is_hidden_is_in_the_id(hidden: dict[str, Path]) -> None:
    assert len({folder.name.rpartition("-")[2] for folder in hidden.values()}) == len(hidden)
    assert hidden["hide random(fraction=0.5)"].name.startswith("masked_bce-uniform-hide_random_fraction_0.5-")


def test_the_truth_stands_beside_the_predictions(hidden: dict[str, Path], workplace: Path) -> None:
    rows = rows_of(workplace / "synthetic" / "truth.csv")
    truth = {row["image"]: [int(row[f"attr{a}"]) for a in range(1, 5)] for row in rows}
    saved = np.load(hidden["nothing hidden"] / "predictions.npz")
    assert saved["truth"].tolist() == [truth[name] for name in saved["image_id"].tolist()]
    assert (saved["truth"] == saved["targets"])[saved["observed"]].all()
    assert not saved["observed"].all()


def test_hidden_values_change_nothing_in_training(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a label says that is hidden from training reaches no head and no threshold; test rows are scored by it."""
    config = loader.load(workplace / "small.yaml", TABLES, ["hide={mechanism: random}", "sampler=inverse_frequency"])
    planned = plan.plan_run(config)
    labels = planned.dataset.listed.labels
    groups = splits.components([picture.sha256 for picture in planned.dataset.pictures if picture], None)
    folds = splits.split(config.split, labels, groups)  # it is stratified by all labels
    monkeypatch.setattr(runner.splits, "split", lambda *_: folds)
    outs = [workplace / "hidden-as-labelled", workplace / "hidden-flipped"]
    for out in outs:
        if out is outs[1]:
            material = runner.Materials(planned.dataset, runner.Clock(), lambda *_: None).of(planned.runs[0])
            hidden = labels.observed & ~material.seen(config.hide, folds).train
            assert hidden.sum() > 50
            labels.targets[hidden] = 1 - labels.targets[hidden]
        runner.execute_run(planned, out, runner.Clock(), lambda *_: None)
    for name in ("history.csv", "thresholds.json"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
    first, second = (np.load(out / "predictions.npz") for out in outs)
    for name in ("logits", "observed", "train_positive", "train_observed"):
        np.testing.assert_array_equal(first[name], second[name])
    val = first["split"] == "val"
    np.testing.assert_array_equal(first["targets"][val], second["targets"][val])
    assert (first["targets"][~val] != second["targets"][~val]).any()


@pytest.mark.parametrize("scheme", ["split={folds: 4}", "split={scheme: holdout, test: 0.25, val: 0.2}"])
def test_what_is_hidden_from_training_does_not_tell_of_test_labels(workplace: Path, scheme: str) -> None:
    """Other labels of the test rows of a fold hide the same labels of the rows that train and validate there."""
    config = loader.load(workplace / "small.yaml", TABLES, ["hide={mechanism: score, fraction: 0.6}", scheme])
    planned = plan.plan_run(config)
    labels = planned.dataset.listed.labels
    groups = np.arange(len(labels))
    folds = splits.split(config.split, labels, groups)
    material = runner.Materials(planned.dataset, runner.Clock(), lambda *_: None).of(planned.runs[0])
    before = material.seen(config.hide, folds)
    rng = np.random.default_rng(0)
    for fold in folds:
        other = labels.targets.copy()
        other[fold.test] = rng.random(other[fold.test].shape) < 0.5
        changed = dataclasses.replace(
            material,
            listed=dataclasses.replace(material.listed, labels=dataclasses.replace(labels, targets=other)),
            _probed={},
        )
        found = changed.seen(config.hide, folds)
        rest = np.concatenate([fold.train, fold.val])
        np.testing.assert_array_equal(found.train[rest], before.train[rest])
    assert (before.train != labels.observed).sum() > 20


def test_a_suite_that_hides_in_several_ways_has_a_plot(hidden: dict[str, Path], workplace: Path) -> None:
    plot = workplace / "hide" / "missingness.png"
    before = plot.read_bytes()
    assert before.startswith(b"\x89PNG")
    plot.unlink()
    assert cli.main(["suite", str(workplace / "hide.yaml"), "--out", str(plot.parent), "--quiet"]) == 0
    assert plot.read_bytes() == before


def test_the_plot_shows_the_scores_of_the_truth(hidden: dict[str, Path], workplace: Path) -> None:
    planned = plan.plan_suite(loader.load_suite(workplace / "hide.yaml", TABLES))
    points = missingness.scores(planned, index.collect(workplace / "hide"))
    assert [(point.mechanism, point.fraction) for point in points] == [
        *((None, 0.0), ("random", 0.5), ("random, training rows only", 0.5), ("positives", 0.4), ("score", 0.4))
    ]
    for point, folder in zip(points, hidden.values(), strict=True):
        saved = np.load(folder / "predictions.npz")
        test = saved["split"] == "test"
        tuned = np.array(json.loads((folder / "thresholds.json").read_text())["thresholds"])[:, saved["fold"][test]]
        accepted = 1 / (1 + np.exp(-saved["logits"][:, test].astype(np.float64))) > tuned
        f1 = [metrics.f1_score(saved["truth"][test], own, average="macro") for own in accepted]
        assert point.f1 == pytest.approx(np.mean(f1), rel=1e-12)
    one = loader.load_suite(workplace / "hide.yaml", TABLES)
    one = dataclasses.replace(one, runs=one.runs[:2])
    assert missingness.scores(plan.plan_suite(one), index.collect(workplace / "hide")) == []


def test_a_broken_truth_is_a_usage_error(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = workplace / "half_true"
    folder.mkdir()
    (folder / "labels.txt").write_text((workplace / "synthetic" / "labels.txt").read_text())
    asked = [str(workplace / "small.yaml"), "--set", f"data.labels={folder / 'labels.txt'}"]
    (folder / "truth.csv").write_text("image,attr1,attr2,attr3,attr4\nimage_0.jpg,1,1,NA,\n")
    assert cli.main(["validate", *asked]) == 0
    assert "truth.csv: known for 2 of 320 labels" in capsys.readouterr().out
    (folder / "truth.csv").write_text("image,attr1,attr2,attr3,attr4\nother.jpg,1,1,1,1\n")
    for verb in ("validate", "run"):
        assert cli.main([verb, *asked]) == 2
        assert "truth.csv:2: image other.jpg is not listed in" in capsys.readouterr().err
