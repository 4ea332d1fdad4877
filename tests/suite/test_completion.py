"""Runs completed in a process of its own: the same files, and nothing lost or left over."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fake_suite
import numpy as np
import pytest

from aimonk_bench.evaluation import thresholds
from aimonk_bench.records.run import Status
from aimonk_bench.registry import Spec
from aimonk_bench.suite.completion import Aside, Unscored, complete

HISTORY: dict[str, Any] = {
    "seed": np.array([0, 0]),
    "fold": np.array([0, 0]),
    "iteration_number": np.array([1, 2]),
    "training_loss": np.array([0.7, 0.6]),
}
ABANDONED = """
import os
from aimonk_bench.suite.completion import Aside

print(Aside().__enter__()._process.pid, flush=True)
os._exit(1)
"""


def unscored(folder: Path) -> Unscored:
    folder.mkdir(parents=True)
    made, policy = fake_suite.predictions(), Spec("per_attribute_f1")
    status = Status("id", "done", {"train": 1.0}, None, ("name",), fake_suite.columns(), (1, 0))
    tuned = thresholds.tune(made, policy)
    return Unscored(folder, HISTORY, made, tuned, policy, "none", "title", status)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "status.json"}


def test_runs_are_completed_as_they_are_here(tmp_path: Path) -> None:
    complete(unscored(tmp_path / "here"))
    places = [tmp_path / str(n) for n in range(3)]
    with Aside() as aside:
        for place in places:
            aside.complete(unscored(place))
    assert [contents(place) for place in places] == [contents(tmp_path / "here")] * 3
    files = ["history.csv", "loss_curve.png", "metrics.json", "predictions.npz", "reliability.csv", "thresholds.json"]
    assert sorted(contents(tmp_path / "here")) == files
    for place in (*places, tmp_path / "here"):
        status = json.loads((place / "status.json").read_text("utf-8"))
        assert status["state"] == "done"
        assert 0 < status["seconds"].pop("score") < 60
        assert status["seconds"] == {"train": 1.0}


def test_a_run_that_cannot_be_completed_is_told_and_has_no_status(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Aside() as aside:
        one, two = unscored(tmp_path / "one"), unscored(tmp_path / "two")
        (tmp_path / "one" / "loss_curve.png").mkdir()
        aside.complete(one)
        aside.complete(two)
    assert [path.parent.name for path in tmp_path.rglob("status.json")] == ["two"]  # which comes after it
    assert f"{tmp_path / 'one'}: not completed: IsADirectoryError" in capfd.readouterr().err


def test_a_process_that_is_gone_holds_nobody_up(tmp_path: Path) -> None:
    with Aside() as aside:
        aside._process.kill()
        aside._process.wait()
        assert aside.gone
        for name in ("one", "two"):
            aside.complete(unscored(tmp_path / name))
    assert [contents(path) for path in tmp_path.iterdir()] == [{}, {}]


def test_who_does_not_wait_for_it_is_left_alone_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption of the wait: nothing is written after it."""
    aside = Aside().__enter__()
    kill, wait = aside._process.kill, aside._process.wait
    calls: list[str] = []

    def interrupted() -> int:
        calls.append("wait")
        if len(calls) == 1:
            raise KeyboardInterrupt
        return wait()

    monkeypatch.setattr(aside._process, "wait", interrupted)
    monkeypatch.setattr(aside._process, "kill", lambda: (calls.append("kill"), kill()))
    with pytest.raises(KeyboardInterrupt):
        aside.__exit__()
    assert calls == ["wait", "kill", "wait"]
    assert aside.gone


def test_a_caller_who_is_killed_while_sending_leaves_no_status_and_no_traceback(tmp_path: Path) -> None:
    message = pickle.dumps(unscored(tmp_path / "one"))
    command = [sys.executable, "-m", "aimonk_bench.suite.completion"]
    done = subprocess.run(command, input=message[:-100], capture_output=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert contents(tmp_path / "one") == {}


def test_a_run_that_nobody_wants_any_more_gets_no_status(tmp_path: Path) -> None:
    complete(unscored(tmp_path / "one"), wanted=lambda: False)
    assert not (tmp_path / "one" / "status.json").exists()
    assert (tmp_path / "one" / "loss_curve.png").exists()


def test_it_ends_with_the_context_even_if_that_fails() -> None:
    def fail(seen: list[Aside]) -> None:
        with Aside() as aside:
            seen.append(aside)
            raise ZeroDivisionError

    seen: list[Aside] = []
    with pytest.raises(ZeroDivisionError):
        fail(seen)
    assert [aside._process.returncode for aside in seen] == [0]


def test_the_main_module_of_the_caller_is_not_run_again(tmp_path: Path) -> None:
    """Not even one that has no guard, or no file."""
    (tmp_path / "unscored").write_bytes(pickle.dumps(unscored(tmp_path / "run")))
    script = f"""
import pickle
from pathlib import Path
from aimonk_bench.suite.completion import Aside
print("once")
with Aside() as aside:
    aside.complete(pickle.loads(Path({str(tmp_path / "unscored")!r}).read_bytes()))
"""
    done = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("once\n", "")
    assert (tmp_path / "run" / "status.json").exists()


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    with Aside() as aside:
        aside.complete(unscored(Path("run")))
    assert (tmp_path / "run" / "status.json").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux which processes there are")
def test_the_process_ends_with_that_of_the_caller(tmp_path: Path) -> None:
    script = tmp_path / "abandoned.py"
    script.write_text(ABANDONED, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    pid, deadline = int(done.stdout), time.monotonic() + 60
    while _runs(pid):
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # one that nobody waits for has ended too
