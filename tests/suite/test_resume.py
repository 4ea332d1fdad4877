"""Suites that go on: what is done is not done again, and an interruption leaves whole runs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from small_suite import execute, files_of_runs, statuses

from aimonk_bench import cli
from aimonk_bench.suite import executors, tasks
from aimonk_bench.suite.tasks import BadImages
from aimonk_bench.suite.workers import Workers


def test_finished_runs_are_not_run_again(
    suite: Path, pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a finished run was executed")

    before, seconds = ((suite / name).read_bytes() for name in ("summary.csv", "seconds.json"))
    monkeypatch.setattr(tasks, "encode", refuse)
    assert cli.main(["suite", str(pair), "--out", str(suite)]) == 0
    messages = capsys.readouterr().err.splitlines()
    assert "4 of 4 runs were already done" in messages
    assert " s: start " in messages[-1]
    assert (suite / "summary.csv").read_bytes() == before
    assert (suite / "seconds.json").read_bytes() == seconds  # of the command that did the work


def test_every_table_comes_back_from_the_predictions(suite: Path, pair: Path) -> None:
    derived = [*suite.rglob("metrics.json"), *suite.rglob("thresholds.json"), *suite.rglob("reliability.csv")]
    derived += [*suite.rglob("loss_curve.png"), *suite.glob("summary.*"), suite / "statistics.json"]
    before = {path: path.read_bytes() for path in derived}
    assert len(before) == 19
    for path in derived:
        path.unlink()
    assert execute(pair, suite) == 0
    assert {path: path.read_bytes() for path in derived} == before


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Workers]:
    """The workers that suites of at least two runs start for scoring, as where a GPU trains."""
    started: list[Workers] = []

    class Watched(Workers):
        def __init__(self, count: int, **options: Any) -> None:
            super().__init__(count, **options)
            started.append(self)

    monkeypatch.setattr(executors, "Workers", Watched)
    monkeypatch.setattr(executors, "WORTHWHILE", 2)
    monkeypatch.setattr(executors, "pick_device", lambda requested: "cuda")
    return started


def gone(workers: Workers) -> bool:
    return not workers.pids


def test_the_scoring_worker_is_there_before_images_are_encoded_and_ends_with_their_failure(
    workers: list[Workers], pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def encode(*arguments: object) -> None:
        assert [gone(pool) for pool in workers] == [False]
        raise BadImages("no image can be decoded")

    monkeypatch.setattr(tasks, "encode", encode)
    out = pair.parent / "undecodable"
    assert execute(pair, out) == 2
    assert capsys.readouterr().err == "no image can be decoded\n"
    assert [gone(pool) for pool in workers] == [True]
    assert not list(out.rglob("*.*"))


def test_an_interruption_leaves_whole_runs_and_no_worker(
    workers: list[Workers], pair: Path, suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = tasks.train, []

    def interrupted(*arguments: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 3:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest may run in the background, which ignores it
    monkeypatch.setattr(tasks, "train", interrupted)
    out = pair.parent / "interrupted"
    assert execute(pair, out) == 130
    assert [gone(pool) for pool in workers] == [True]
    assert [status["state"] for status in statuses(out)] == ["done"] * 2
    assert (out / "summary.csv").exists()
    assert not [*out.rglob(".*")]  # claims are released
    monkeypatch.undo()
    assert execute(pair, out) == 0
    assert files_of_runs(out) == files_of_runs(suite)


def test_runs_whose_worker_is_killed_are_scored_in_the_driver(
    workers: list[Workers], pair: Path, suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tasks.train

    def killing(*arguments: Any) -> Any:
        workers[0].kill()
        return real(*arguments)

    monkeypatch.setattr(tasks, "train", killing)
    out = pair.parent / "killed"
    assert execute(pair, out) == 0
    assert files_of_runs(out) == files_of_runs(suite)


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


def test_an_unfinished_run_goes_on_under_another_executor(workplace: Path) -> None:
    asked = ["run", str(workplace / "small.yaml"), "--out", str(workplace / "moved"), "--quiet"]
    assert cli.main(asked) == 0
    (workplace / "moved" / "status.json").unlink()
    assert cli.main([*asked, "--set", "run.executor=serial"]) == 0


def test_a_run_of_a_suite_can_be_run_again_as_it_stands(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sorted((suite / "runs").iterdir())[0]
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", str(folder / "config.yaml"), "--quiet"]) == 0
    (again,) = (tmp_path / "experiments").iterdir()
    for name in ("config.yaml", "predictions.npz", "metrics.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
