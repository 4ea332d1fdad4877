"""A disk without room for the results is told before anything is encoded or trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_suite import execute, planned, statuses

from aimonk_bench import cli
from aimonk_bench.suite import room, tasks


@pytest.mark.parametrize("command", ["run", "suite"])
def test_without_room_nothing_begins(
    workplace: Path,
    pair: Path,
    tmp_path: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    config, out = pair if command == "suite" else workplace / "small.yaml", tmp_path / "out"
    assert cli.main([command, str(config), "--out", str(out), "--quiet"]) == 2
    message = capsys.readouterr().err
    runs = "4 runs" if command == "suite" else "1 run"
    assert all(part in message for part in (str(out), runs, "1 kB are free", "another output folder"))
    assert not out.exists()


def test_a_disk_that_fills_up_meanwhile_fails_the_run_before_it_is_trained(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([1 << 40, 1 << 40])  # of the suite, and of its first run

    def no_training(*arguments: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(room, "shutil", SimpleNamespace(disk_usage=lambda p: SimpleNamespace(free=next(free, 1000))))
    monkeypatch.setattr(tasks, "train", no_training)
    assert execute(pair, tmp_path) == 1
    reasons = [status["reason"] for status in statuses(tmp_path)]
    assert sum("AssertionError: trained" in reason for reason in reasons) == 1
    assert sum("1 kB are free there" in reason for reason in reasons) == 3


@pytest.mark.parametrize("override", ["split.scheme=kfold", "split.scheme=holdout", "backbone.freeze=conv_head"])
def test_the_estimate_is_a_little_above_the_files_of_a_run(
    workplace: Path, tmp_path: Path, override: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SMALL_FILES", 6000)  # the headers of arrays
    sets = [override, "train.epochs=1", "train.seeds=2", "transform.train=[]", "train.keep_weights=true"]
    plan = planned(workplace / "small.yaml", *sets)
    words = [word for item in sets for word in ("--set", item)]
    assert cli.main(["run", str(workplace / "small.yaml"), "--out", str(tmp_path), "--quiet", *words]) == 0
    counted = ["predictions.npz", "history.csv", *plan.baseline.weights]
    taken = sum((tmp_path / name).stat().st_size for name in counted)
    estimate = room.result_bytes(plan.baseline, plan.dataset.listed)
    assert taken < estimate < 3 * taken, (taken, estimate)
