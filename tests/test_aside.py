"""Loss curves drawn in a process of their own: the same pictures, and nothing lost or left over."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aimonk_bench.errors import RunFailed
from aimonk_bench.reporting import figures
from aimonk_bench.reporting.aside import Aside

HISTORY = {"seed": [0, 0], "fold": [0, 0], "iteration_number": [1, 2], "training_loss": [0.7, 0.6]}
ABANDONED = """
import os
from aimonk_bench.reporting.aside import Aside

if __name__ == "__main__":
    print(Aside().__enter__()._process.pid, flush=True)
    os._exit(1)
"""


def test_curves_are_those_drawn_here(tmp_path: Path) -> None:
    figures.loss_curve(HISTORY, "title", tmp_path / "here.png")
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    with Aside() as aside:
        for path in paths:
            aside.loss_curve(HISTORY, "title", path)
    assert [path.read_bytes() for path in paths] == [(tmp_path / "here.png").read_bytes()] * 3


def draw(*paths: Path, between: Callable[[Aside], None] = lambda _: None) -> None:
    with Aside() as aside:
        between(aside)
        for path in paths:
            aside.loss_curve(HISTORY, "title", path)


def test_what_cannot_be_drawn_is_told_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"curve\.png: cannot be drawn: FileNotFoundError"):
        draw(tmp_path / "missing" / "curve.png", tmp_path / "curve.png")


def test_a_process_that_is_gone_is_told(tmp_path: Path) -> None:
    def end(aside: Aside) -> None:
        aside._process.kill()
        aside._process.join()

    with pytest.raises(RunFailed, match="the process that draws is gone"):
        draw(tmp_path / "curve.png", between=end)


def test_an_error_of_the_caller_ends_the_process_too() -> None:
    seen: list[Aside] = []

    def fail(aside: Aside) -> None:
        seen.append(aside)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        draw(between=fail)
    assert [aside._process.exitcode for aside in seen] == [0]


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
