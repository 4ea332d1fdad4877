"""Several processes on one output folder and one store: each task is done once, whoever is killed."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_suite import execute, files_of_runs

from aimonk_bench import cli
from aimonk_bench.backbones.feature_table import open_table
from aimonk_bench.records import claims, run
from aimonk_bench.records.claims import ClaimFile
from aimonk_bench.records.suite import SuiteRecord
from aimonk_bench.suite import sharing, tasks
from aimonk_bench.suite.plan import PlannedRun

DEADLINE = 300.0  # seconds, for a process that would wait for ever
OTHER = SuiteRecord("other", "f" * 64, "0-x", ("0-x",), (("x",),))
IMPORTED = ["aimonk_bench.cli", "aimonk_bench.suite.tasks", "aimonk_bench.backbones.network", "pandas"]


def share(number: int, config: Path, out: Path) -> None:
    """What process ``number`` does: the suite. Process 0 is killed in its first run; until then the others wait."""
    real = tasks.train
    killed = out.parent / "killed"

    def train(planned: Any, *rest: Any) -> Any:
        with (out.parent / f"{number}.trained").open("a") as file:
            print(planned.id, file=file)
        if number == 0:
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        limit = time.monotonic() + DEADLINE
        while not killed.exists():
            assert time.monotonic() < limit
            time.sleep(0.01)
        return real(planned, *rest)

    tasks.train = train
    with (out.parent / f"{number}.out").open("w") as table, contextlib.redirect_stdout(table):
        os._exit(execute(config, out))


def test_three_processes_share_a_suite_and_two_finish_what_the_third_left_when_it_was_killed(
    suite: Path, pair: Path, tmp_path: Path, feature_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "store"
    shutil.copytree(feature_store / "networks", empty / "networks")
    [digest] = json.loads(next(suite.rglob(run.ENVIRONMENT)).read_text())["features"]
    (empty / "features" / digest).mkdir(parents=True)
    for name in ("encoder.json", "model.onnx"):  # which take long to make; no row is stored
        shutil.copy(feature_store / "features" / digest / name, empty / "features" / digest)
    monkeypatch.setenv("AIMONK_BENCH_CACHE", str(empty))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)  # once for all three
    out = tmp_path / "out"
    processes = [context.Process(target=share, args=(number, pair, out)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(DEADLINE)
    assert [process.exitcode for process in processes] == [-signal.SIGKILL, 0, 0]

    ids = json.loads((out / "suite.json").read_text())["ids"]
    trained = [(tmp_path / f"{number}.trained").read_text().split() for number in range(3)]
    assert len(trained[0]) == 1
    assert sorted(trained[1] + trained[2]) == sorted(ids)
    assert files_of_runs(out) == files_of_runs(suite)
    with open_table(empty / "features" / digest, "float32") as table:
        assert table.numbers() == (80, 2 * 80)
        assert (empty / "features" / digest / "rows.f32").stat().st_size == table.rows().nbytes == 160 * 1280 * 4
    tables = [(tmp_path / f"{number}.out").read_text() for number in (1, 2)]
    assert tables[0] == tables[1] != ""
    assert {path.name for path in out.iterdir()} == {path.name for path in suite.iterdir()}
    assert not [*out.rglob(".*"), *empty.rglob(".*")]


@pytest.fixture
def unfinished(suite: Path, tmp_path: Path) -> Path:
    """The folder of a run without its status, in a copy of the suite whose other runs are done."""
    out = Path(shutil.copytree(suite, tmp_path / "pair"))
    folder = out / "runs" / json.loads((out / "suite.json").read_text())["ids"][2]
    (folder / run.STATUS).unlink()
    return folder


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the runs that are trained here, in order."""
    real, ids = tasks.train, []

    def train(planned: PlannedRun, *rest: Any) -> Any:
        ids.append(planned.id)
        return real(planned, *rest)

    monkeypatch.setattr(tasks, "train", train)
    return ids


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_run_that_another_process_executes_is_waited_for_and_not_executed_again(
    suite: Path,
    pair: Path,
    unfinished: Path,
    trained: list[str],
    state: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = json.loads((suite / "runs" / unfinished.name / run.STATUS).read_text())
    status |= {"state": state, "reason": None if state == "done" else "it has its reasons"}
    other = ClaimFile(claims.of_folder(unfinished)).take()
    assert other is not None
    real = sharing.pause

    def pause() -> None:
        (unfinished / run.STATUS).write_text(json.dumps(status))
        other.release()
        real()

    monkeypatch.setattr(sharing, "pause", pause)
    assert cli.main(["suite", str(pair), "--out", str(unfinished.parent.parent)]) == (0 if state == "done" else 3)
    assert trained == []
    assert f"run 3 of 4: focal(gamma=1.0) + uniform is being done by {other.holder}" in capsys.readouterr().err


def dead_process(claim: Path) -> None:
    """Write the claim of a process of this machine that has ended."""
    holder = json.loads(claim.read_text().splitlines()[0])
    claim.write_text(f"{json.dumps(holder | {'started': '1', 'token': 'another'})}\n{0:012}\n")


@pytest.mark.parametrize("fails", [False, True])
def test_a_process_that_was_suspended_and_lost_its_claim_gives_the_run_up(
    suite: Path,
    pair: Path,
    unfinished: Path,
    trained: list[str],
    fails: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The other process ends without finishing the run, so that this one takes it again."""
    real, counting = sharing.pause, tasks.train

    def lost_at_first(*arguments: Any) -> Any:
        result = counting(*arguments)
        if len(trained) == 1:
            dead_process(claims.of_folder(unfinished))
            if fails:
                raise ZeroDivisionError("planted")
        return result

    def pause() -> None:
        assert not [name for name in (run.STATUS, run.PREDICTIONS) if (unfinished / name).exists()]
        real()

    monkeypatch.setattr(tasks, "train", lost_at_first)
    monkeypatch.setattr(sharing, "pause", pause)
    assert execute(pair, unfinished.parent.parent) == 0
    assert trained == [unfinished.name] * 2
    assert files_of_runs(unfinished.parent.parent) == files_of_runs(suite)
    printed = capsys.readouterr().err
    assert "given up here" in printed
    assert "failed" not in printed


def forbid_claims(monkeypatch: pytest.MonkeyPatch, is_forbidden: Callable[[Path], bool], code: int) -> None:
    """Let claims fail with the error of number ``code`` in the folders of some runs."""
    real = ClaimFile.take

    def take(self: ClaimFile) -> Any:
        if is_forbidden(self.path.parent):
            raise OSError(code, os.strerror(code), str(self.path))
        return real(self)

    monkeypatch.setattr(ClaimFile, "take", take)


def test_a_run_that_cannot_be_claimed_costs_no_other(
    pair: Path,
    unfinished: Path,
    trained: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    forbid_claims(monkeypatch, lambda folder: folder == unfinished, errno.ENOSPC)
    assert execute(pair, unfinished.parent.parent) == 3
    assert trained == []
    assert "focal(gamma=1.0) + uniform failed, because it cannot be claimed: OSError" in capsys.readouterr().err


def test_a_finished_run_that_cannot_be_claimed_keeps_no_other_from_being_executed(
    pair: Path,
    unfinished: Path,
    trained: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its folder belongs to somebody else, for example."""

    def is_protected(folder: Path) -> bool:
        return folder.parent == unfinished.parent and folder != unfinished

    forbid_claims(monkeypatch, is_protected, errno.EACCES)
    assert execute(pair, unfinished.parent.parent) == 0
    assert trained == [unfinished.name]
    assert "nothing that was deleted could be written again: PermissionError" in capsys.readouterr().err


@pytest.mark.parametrize("name", [claims.CLAIM, f"{sharing.SUITE}-another-token", sharing.SUITE])
def test_what_a_killed_process_left_keeps_nobody_out(tmp_path: Path, name: str) -> None:
    with claims.hold(tmp_path / name, "tests"):
        content = (tmp_path / name).read_text()
    (tmp_path / name).write_text(content)
    dead_process(tmp_path / name)
    with sharing.joined(tmp_path, OTHER):
        assert name == sharing.SUITE or not (tmp_path / name).exists()
    (tmp_path / name).write_text(content)
    dead_process(tmp_path / name)
    with sharing.alone(tmp_path, "one"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_run_that_failed_while_a_single_run_waited_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had no status when this process looked first, and has one when the claim is free."""
    real = ClaimFile.take

    def waited(self: ClaimFile) -> Any:
        (self.path.parent / run.STATUS).write_text("failed")
        return real(self)

    monkeypatch.setattr(ClaimFile, "take", waited)
    with sharing.alone(tmp_path, "one") as runs:
        assert runs.turn("one", "one") == "here"
