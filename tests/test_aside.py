"""Loss curves drawn in a process of their own: the same pictures, and nothing lost or left over."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from aimonk_bench.reporting import figures
from aimonk_bench.reporting.aside import Aside

HISTORY = {"seed": [0, 0], "fold": [0, 0], "iteration_number": [1, 2], "training_loss": [0.7, 0.6]}
ABANDONED = """
import os
from aimonk_bench.reporting.aside import Aside

print(Aside().__enter__()._process.pid, flush=True)
os._exit(1)
"""


def test_curves_are_those_drawn_here(tmp_path: Path) -> None:
    figures.loss_curve(HISTORY, "title", tmp_path / "here.png")
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    with Aside() as aside:
        for path in paths:
            aside.loss_curve(HISTORY, "title", path, (path.with_suffix(".txt"), "drawn"))
    assert [path.read_bytes() for path in paths] == [(tmp_path / "here.png").read_bytes()] * 3
    assert [path.with_suffix(".txt").read_text("utf-8") for path in paths] == ["drawn"] * 3


def test_a_curve_that_cannot_be_drawn_is_missing_and_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Aside() as aside:
        for path in (tmp_path / "missing" / "curve.png", tmp_path / "curve.png"):
            aside.loss_curve(HISTORY, "title", path, (path.with_suffix(".txt"), "drawn"))
    assert list(tmp_path.iterdir()) == []
    assert "FileNotFoundError" in capfd.readouterr().err


def test_a_process_that_is_gone_holds_nobody_up(tmp_path: Path) -> None:
    with Aside() as aside:
        aside._process.kill()
        aside._process.wait()
        for path in (tmp_path / "one.png", tmp_path / "two.png"):
            aside.loss_curve(HISTORY, "title", path, (path.with_suffix(".txt"), "drawn"))
    assert list(tmp_path.iterdir()) == []


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
    script = f"""
from pathlib import Path
from aimonk_bench.reporting.aside import Aside
print("once")
with Aside() as aside:
    aside.loss_curve({HISTORY}, "title", Path({str(tmp_path / "curve.png")!r}), (Path({str(tmp_path / "a.txt")!r}), ""))
"""
    done = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("once\n", "")
    assert (tmp_path / "curve.png").exists()


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    with Aside() as aside:
        aside.loss_curve(HISTORY, "title", Path("curve.png"), (Path("then.txt"), "drawn"))
    assert (tmp_path / "curve.png").exists()


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
