"""Drawing beside training: a loss curve takes about as long as the training of its heads.

Run as a program, this draws what comes over its standard input.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy.typing as npt

from aimonk_bench.records.files import write_text
from aimonk_bench.reporting import figures

WORTHWHILE = 8  # curves; a process takes as long as some of them until it can draw


class Aside:
    """Draws loss curves one after another in a process of its own, while the caller goes on.

    As a context it waits at its end for what was asked for. The process ends with it or with that of the caller; if it
    ends before, what it did not draw is missing, as is what was to be written after that, and its traceback stands in
    the output.
    """

    def __enter__(self) -> Aside:
        command = [sys.executable, "-P", "-m", "aimonk_bench.reporting.aside"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C does not reach it, so that what was begun is drawn
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

    def loss_curve(
        self, history: Mapping[str, npt.ArrayLike], title: str, path: Path, then: tuple[Path, str]
    ) -> None:
        """`figures.loss_curve`, done some time before the end of the context.

        Args:
            then: a file to be written when the curve is drawn, and its text.
        """
        own = {name: history[name] for name in figures.OF_CURVE}
        file, text = then
        self._lane.submit(self._send, pickle.dumps((own, title, path.absolute(), file.absolute(), text)))

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone, and has told why
            self._process.stdin.write(message)
            self._process.stdin.flush()


def main() -> None:
    """Draw what comes over the standard input until it is closed."""
    from matplotlib.backends import backend_agg  # noqa: F401  # while there is nothing to draw yet

    while True:
        try:
            history, title, path, file, text = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        figures.loss_curve(history, title, path)
        write_text(file, text)


if __name__ == "__main__":
    main()
