"""The last files of runs, made in a process beside the training: a loss curve takes as long as the training of its heads.

Run as a program, this completes the runs that come over its standard input.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from aimonk_bench.records import run
from aimonk_bench.records.run import Status
from aimonk_bench.reporting import figures

WORTHWHILE = 8  # runs; a process takes as long as some of them until it can draw


def complete(
    folder: Path,
    history: Mapping[str, npt.ArrayLike],
    title: str,
    status: Status,
    phase: Callable[[str], AbstractContextManager[Any]] = contextlib.nullcontext,
) -> None:
    """Write ``history.csv``, draw ``loss_curve.png``, and end the run.

    Args:
        history: its columns.
        title: of the curve.
        phase: times what is done, "files" and "plots".
    """
    with phase("files"):
        run.write_history(folder, history)
    with phase("plots"):
        figures.loss_curve(history, title, folder / run.LOSS_CURVE)
    with phase("files"):
        run.end(folder, status)


class Aside:
    """Completes runs one after another in a process of its own, while the caller goes on.

    As a context it waits at its end for what was asked for. The process ends with it or with that of the caller; if it
    ends before, the runs that it did not complete have no status, and its traceback stands in the output.
    """

    def __enter__(self) -> Aside:
        command = [sys.executable, "-P", "-m", "aimonk_bench.reporting.aside"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C does not reach it, so that what was begun is completed
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},  # the modules of the caller, no others
        )
        self._lane = ThreadPoolExecutor(1)  # a pipe that is full would hold up the caller
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._lane.shutdown()
        with contextlib.suppress(BrokenPipeError):  # there may be something left to send to a process that is gone
            self._process.stdin.close()
        self._process.wait()

    def complete(self, folder: Path, history: Mapping[str, npt.ArrayLike], title: str, status: Status) -> None:
        """`complete`, done some time before the end of the context."""
        self._lane.submit(self._send, pickle.dumps((folder.absolute(), dict(history), title, status)))

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone, and has told why
            self._process.stdin.write(message)
            self._process.stdin.flush()


def main() -> None:
    """Complete what comes over the standard input until it is closed."""
    from matplotlib.backends import backend_agg  # noqa: F401  # while there is nothing to draw yet

    while True:
        try:
            arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        complete(*arguments)


if __name__ == "__main__":
    main()
