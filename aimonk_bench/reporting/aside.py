"""Drawing beside training: a loss curve takes about as long as the training of its heads."""

from __future__ import annotations

import importlib
import multiprocessing
import signal
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy.typing as npt

from aimonk_bench.errors import RunFailed
from aimonk_bench.reporting import figures

WORTHWHILE = 8  # curves; a process takes as long as some of them until it can draw


class Aside:
    """Draws loss curves one after another in a process of its own, while the caller goes on.

    As a context it waits at its end until all are there; the process ends with it, or with the caller's process.

    Raises:
        RunFailed: at the end of the context: a curve cannot be drawn; those after it are not.
    """

    def __enter__(self) -> Aside:
        context = multiprocessing.get_context("spawn")  # forking a process that has threads is not safe
        self._process_end, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._waiting = ThreadPoolExecutor(1)
        self._asked: list[Future[None]] = []
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for future in self._asked:
                    future.result()
        finally:
            self._waiting.shutdown(cancel_futures=True)
            self._process_end.close()
            self._process.join()

    def loss_curve(self, history: Mapping[str, npt.ArrayLike], title: str, path: Path) -> None:
        """`figures.loss_curve`, done some time before the end of the context, where it fails if it cannot be done."""
        self._asked.append(self._waiting.submit(self._ask, dict(history), title, path))

    def _ask(self, history: dict[str, npt.ArrayLike], title: str, path: Path) -> None:
        try:
            self._process_end.send((history, title, path))
            error = self._process_end.recv()
        except (EOFError, OSError):
            error = "the process that draws is gone"
        if error is not None:
            raise RunFailed(f"{path}: cannot be drawn: {error}")


def _serve(caller: Connection) -> None:
    """Draw what the caller asks for until it is gone; answer None or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller is told too, and ends this process
    importlib.import_module("matplotlib.backends.backend_agg")  # while there is nothing to draw yet
    while True:
        try:
            arguments = caller.recv()
        except EOFError:
            return
        try:
            figures.loss_curve(*arguments)
        except Exception as error:
            caller.send(f"{type(error).__name__}: {error}")
        else:
            caller.send(None)
