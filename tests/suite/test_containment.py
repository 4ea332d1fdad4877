"""One failure stays one failure: what fails is named with its fix, and every other run goes on."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_suite import execute, files_of_runs, rows_of, statuses

import aimonk_bench
from aimonk_bench import cli
from aimonk_bench.backbones import trial
from aimonk_bench.backbones.feature_table import FeatureTable
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.records import files, run
from aimonk_bench.records.weights import HEADS
from aimonk_bench.suite import artefacts, plan, restoring, runner, summaries, tasks

SIZES = """\
extends: small.yaml
suite:
  baseline: {transform.size: 64}
  axes: {transform.size: [64, 56]}
"""


@pytest.fixture
def sizes(workplace: Path) -> Path:
    """A suite of two runs, each with features of its own."""
    (workplace / "two_sizes.yaml").write_text(SIZES)
    return workplace / "two_sizes.yaml"


def states(suite: Path) -> list[str]:
    """The state of every run in the summary."""
    return [row["state"] for row in rows_of(suite / "summary.csv") if row["attribute"] == "macro"]


def failure(suite: Path) -> str:
    """The reason of the only run that failed."""
    (reason,) = (status["reason"] for status in statuses(suite) if status["state"] == "failed")
    return str(reason)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            RuntimeError("Kernel size can't be greater\nthan the input"),
            "transform.size 56 (fix: another transform.size",
        ),
        (
            AssertionError("Input height (56) doesn't match model (224)."),
            "transform.size 56 (fix: another transform.size",
        ),
        (MemoryError(), "fix: a smaller train.batch_size"),
        (OSError(errno.EROFS, "Read-only file system"), "AIMONK_BENCH_CACHE"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_network_that_cannot_encode_costs_its_own_runs(
    sizes: Path, tmp_path: Path, error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FeatureStore.features

    def fails_at_56(self: FeatureStore, images: Any, views: Any, transform: Any, *rest: Any) -> Any:
        if transform.size == 56:
            raise error
        return real(self, images, views, transform, *rest)

    monkeypatch.setattr(FeatureStore, "features", fails_at_56)
    assert execute(sizes, tmp_path) == 3
    assert states(tmp_path) == ["done", "failed"]
    assert expected in failure(tmp_path)
    assert len(failure(tmp_path).splitlines()) == 1


def test_a_disk_that_is_full_while_encoding_costs_its_runs_and_no_stored_row(
    sizes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path / "store"))
    real, appended, is_full = FeatureTable.append, [], True

    def full_after_three(self: FeatureTable, names: Any, features: Any) -> None:
        if is_full and len(appended) == 3:
            with (self.folder / "rows.f32").open("ab") as file:
                file.write(b"half a row")
            raise OSError(errno.ENOSPC, "No space left on device", str(self.folder))
        appended.append(len(names))
        real(self, names, features)

    monkeypatch.setattr(FeatureTable, "append", full_after_three)
    assert execute(sizes, tmp_path / "out") == 3
    assert states(tmp_path / "out") == ["done", "failed"]
    assert all(part in failure(tmp_path / "out") for part in ("No space left", "output folder", "AIMONK_BENCH_CACHE"))
    is_full = False
    assert execute(sizes, tmp_path / "out") == 0
    assert states(tmp_path / "out") == ["done", "done"]
    assert sum(appended) == 2 * 2 * 80  # sizes, views, images: no row was encoded twice


def test_an_image_that_is_damaged_between_two_encodings_costs_the_second(
    sizes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = sorted((sizes.parent / "synthetic" / "images").iterdir())[3]
    content, real = image.read_bytes(), FeatureStore.features

    def damages_at_56(self: FeatureStore, images: Any, views: Any, transform: Any, *rest: Any) -> Any:
        if transform.size == 56:
            image.write_bytes(content[:200])
        return real(self, images, views, transform, *rest)

    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(tmp_path / "store"))
    monkeypatch.setattr(FeatureStore, "features", damages_at_56)
    try:
        assert execute(sizes, tmp_path / "out", "backbone={name: test_resnet, weights: none}") == 3
    finally:
        image.write_bytes(content)
    assert states(tmp_path / "out") == ["done", "failed"]
    assert failure(tmp_path / "out") == f"{image} changed while it was in use"


def test_an_exception_that_nobody_expected_in_scoring_costs_its_run(
    sizes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failed = tasks.score, []

    def fails_once(*arguments: Any) -> Any:
        if not failed:
            failed.append(arguments)
            raise KeyError("nobody expected me")
        return real(*arguments)

    monkeypatch.setattr(tasks, "score", fails_once)
    assert execute(sizes, tmp_path) == 3
    assert states(tmp_path) == ["failed", "done"]
    assert failure(tmp_path) == "KeyError: 'nobody expected me'"
    [traceback] = tmp_path.rglob(run.TRACEBACK)
    assert "fails_once" in traceback.read_text()


@pytest.fixture
def suite(suite: Path, tmp_path: Path) -> Path:
    """A copy of the folder of `pair.yaml`, which other tests do not see."""
    return Path(shutil.copytree(suite, tmp_path / "pair"))


@pytest.mark.parametrize("name", [run.PREDICTIONS, run.HISTORY, run.DATA, run.ENVIRONMENT, run.STATUS])
def test_a_damaged_run_is_executed_again_and_only_it(
    suite: Path, pair: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, real, trained = files_of_runs(suite), tasks.train, []

    def watched(planned: Any, *rest: Any) -> Any:
        trained.append(planned.id)
        return real(planned, *rest)

    monkeypatch.setattr(tasks, "train", watched)
    run_id = files.read_json(suite / "suite.json")["ids"][2]
    (suite / "runs" / run_id / name).write_bytes(b"PK damaged")
    assert execute(pair, suite) == 0
    assert trained == [run_id]
    assert f"{run_id}/{name}" in capsys.readouterr().err
    assert files_of_runs(suite) == before


def test_a_finished_run_that_fails_when_it_is_trained_again_is_a_failure_of_the_suite(
    suite: Path, pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its results of before stay, so only the exit code and the API say it once the messages are gone."""
    run_id = files.read_json(suite / "suite.json")["ids"][1]
    (suite / "runs" / run_id / HEADS).unlink()
    monkeypatch.setattr(tasks, "train", lambda *_: 1 / 0)
    assert execute(pair, suite) == 3
    assert "the results of before stay" in capsys.readouterr().err
    assert states(suite) == ["done"] * 4
    result = aimonk_bench.suite(pair, out=suite)
    assert result.failed_again.keys() == {run_id}
    assert "ZeroDivisionError" in result.failed_again[run_id]
    assert not result.unfinished


def test_a_file_that_cannot_be_read_costs_its_run_and_not_the_table(
    suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = suite / "runs" / files.read_json(suite / "suite.json")["ids"][2] / run.PREDICTIONS
    path.unlink()
    path.mkdir()
    assert cli.main(["table", str(suite)]) == 0
    assert "damaged" in capsys.readouterr().out


def test_a_failure_that_cannot_be_recorded_is_no_success(
    suite: Path, pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (suite / "runs" / files.read_json(suite / "suite.json")["ids"][2] / run.STATUS).unlink()

    def full(folder: Path, config: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(run, "begin", full)
    assert execute(pair, suite) == 3
    assert "cannot be recorded" in capsys.readouterr().err


def test_a_disk_that_is_full_at_the_end_costs_no_finished_run(
    suite: Path, pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(summaries, "write_csv", full)
    monkeypatch.setattr(runner, "write_json", full)  # seconds.json, where a run is executed
    (suite / "runs" / files.read_json(suite / "suite.json")["ids"][2] / run.STATUS).unlink()
    assert execute(pair, suite) == 3
    captured = capsys.readouterr()
    assert f"{suite}: the summary cannot be written: OSError" in captured.err
    assert f"{suite / runner.SECONDS}: cannot be written: OSError" in captured.err
    assert "Traceback" not in captured.err
    assert "masked_bce" in captured.out
    assert "No space left" in str(aimonk_bench.suite(pair, out=suite).unwritten)
    monkeypatch.undo()
    result = aimonk_bench.suite(pair, out=suite)
    assert (result.unwritten, result.unfinished) == (None, {})


def test_a_suite_whose_record_somebody_removes_loses_its_summary_alone(
    suite: Path, pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = runner.suite.collect

    def collect(folder: Path) -> Any:
        (folder / "suite.json").unlink(missing_ok=True)
        return real(folder)

    monkeypatch.setattr(runner.suite, "collect", collect)
    assert execute(pair, suite) == 2
    printed = capsys.readouterr().err
    assert "the summary cannot be written" in printed
    assert "suite.json is lost: the same `aimonk-bench suite` command writes it again" in printed
    assert "Traceback" not in printed
    monkeypatch.undo()
    result = aimonk_bench.suite(pair, out=suite)
    assert (result.unwritten, result.unfinished) == (None, {})


def test_a_folder_in_the_place_of_a_file_is_named_before_anything_starts(
    suite: Path, pair: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = suite / "runs" / files.read_json(suite / "suite.json")["ids"][2] / run.CONFIG
    path.unlink()
    path.mkdir()
    assert execute(pair, suite) == 2
    assert f"{path}: is a folder" in capsys.readouterr().err


def test_a_derived_file_that_cannot_be_written_again_costs_nothing(
    suite: Path, pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (suite / "summary.csv").read_bytes()
    first = sorted((suite / "runs").iterdir())[0]
    curve = (first / run.LOSS_CURVE).read_bytes()
    (first / run.LOSS_CURVE).unlink()

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(restoring, "write_bytes", full)
    assert execute(pair, suite) == 0
    assert "loss_curve.png" in capsys.readouterr().err
    monkeypatch.undo()
    assert execute(pair, suite) == 0
    assert (first / run.LOSS_CURVE).read_bytes() == curve
    assert (suite / "summary.csv").read_bytes() == before


def test_results_of_an_earlier_revision_stay_and_are_not_taken_for_done(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "one_axis.yaml"
    config.write_text(
        f"extends: {workplace / 'small.yaml'}\nsuite: {{baseline: {{loss: hill}}, axes: {{loss: [hill]}}}}\n"
    )
    for module in (artefacts, plan):
        monkeypatch.setattr(module, "REVISION", run.REVISION - 1)
    assert execute(config, tmp_path / "out") == 0
    monkeypatch.undo()
    capsys.readouterr()
    assert cli.main(["table", str(tmp_path / "out")]) == 0
    assert "1 run of another version of aimonk_bench" in capsys.readouterr().out
    assert execute(config, tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert "1 of its 1 runs are no longer in the table" in printed.err
    assert len([status for status in statuses(tmp_path / "out") if status["state"] == "done"]) == 2
    assert "left out" in printed.out


def test_a_network_that_cannot_be_built_costs_its_own_runs(
    sizes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trial.attempt

    def fails_at_56(spec: Any, cache: Path) -> Any:
        if spec.size == 56:
            raise MemoryError
        return real(spec, cache)

    monkeypatch.setattr(trial, "attempt", fails_at_56)
    monkeypatch.setattr(trial, "stored", lambda *_: None)  # an earlier test may have tried it
    assert execute(sizes, tmp_path) == 3
    assert states(tmp_path) == ["done", "failed"]
    assert "transform.size 56 cannot be built: MemoryError (fix: " in failure(tmp_path)
