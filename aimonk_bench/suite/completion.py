"""What follows the training of a run and needs no torch: its scores, its files, its loss curve, its end.

That takes about as long as to train some heads, and so there may be a process for it beside the training. Run as a
program, this module is that process: it completes what comes over its standard input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from aimonk_bench.evaluation import scores
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.scores import Calibrator
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.records import run
from aimonk_bench.records.run import Status
from aimonk_bench.registry import Spec
from aimonk_bench.reporting import figures

WORTHWHILE = 8  # runs; the process takes as long as some of them to begin


@dataclass(frozen=True, eq=False)
class Unscored:
    """A run that is trained and not scored yet.

    Attributes:
        folder: of the run; ``environment.json`` and ``data.json`` are there.
        history: the columns of ``history.csv``.
        predictions: of its validation and test rows.
        thresholds: tuned on these.
        policy: by which.
        calibration: as the config names it.
        title: of the loss curve.
        status: with which it ends, but for the seconds that scoring takes.
    """

    folder: Path
    history: Mapping[str, np.ndarray]
    predictions: Predictions
    thresholds: Thresholds
    policy: Spec
    calibration: Calibrator
    title: str
    status: Status


def complete(
    unscored: Unscored,
    phase: Callable[[str], AbstractContextManager[Any]] = contextlib.nullcontext,
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Score a run and write the rest of its files, the status last.

    Args:
        phase: times the phases "score", "files" and "plots".
        wanted: asked last; where the answer is no, the run gets no status.
    """
    folder, predictions, status = unscored.folder, unscored.predictions, unscored.status
    run.remove_partial(folder)  # of a process that began this and was killed
    begin = time.perf_counter()
    with phase("score"):
        scored = scores.score(predictions, unscored.thresholds, unscored.policy, unscored.calibration)
    seconds = round(status.seconds.get("score", 0.0) + time.perf_counter() - begin, 3)
    with phase("files"):
        run.write_history(folder, unscored.history)
        run.write_predictions(folder, predictions)
        run.write_thresholds(folder, unscored.thresholds)
        run.write_metrics(folder, scored)
        run.write_reliability(folder, scores.reliability(predictions, unscored.calibration))
    with phase("plots"):
        figures.loss_curve(unscored.history, unscored.title, folder / run.LOSS_CURVE)
    with phase("files"):
        if not wanted():
            return
        run.end(folder, dataclasses.replace(status, seconds={**status.seconds, "score": seconds}))


class Aside:
    """Completes runs one after another in a process of its own, while the caller goes on.

    As a context it waits at its end for what was asked for; to interrupt that wait stops it. The process ends with the
    context or with that of the caller. Runs that it did not complete, because it could not or was gone, have no status.
    """

    def __enter__(self) -> Aside:
        command = [sys.executable, "-P", "-m", "aimonk_bench.suite.completion"]
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
        try:
            self._lane.shutdown()
            with contextlib.suppress(BrokenPipeError):  # there may be something left to send to a process that is gone
                self._process.stdin.close()
            self._process.wait()
        except BaseException:  # nothing may be written once the caller is done
            self._process.kill()
            self._process.wait()
            self._lane.shutdown(cancel_futures=True)
            raise

    @property
    def gone(self) -> bool:
        """Whether the process has ended, which it should not before the context does."""
        return self._process.poll() is not None

    def complete(self, unscored: Unscored) -> None:
        """`complete`, done some time before the end of the context."""
        self._lane.submit(self._send, unscored)

    def _send(self, unscored: Unscored) -> None:
        assert self._process.stdin is not None
        bare = dataclasses.replace(unscored.predictions)  # without the probabilities, which are as large again
        message = dataclasses.replace(unscored, folder=unscored.folder.absolute(), predictions=bare)
        with contextlib.suppress(BrokenPipeError):  # the caller sees that it is gone
            self._process.stdin.write(pickle.dumps(message))
            self._process.stdin.flush()


def main() -> None:
    """Complete what comes over the standard input until it is closed.

    A run for which that fails is told and left without a status: the caller tries it too.
    """
    import scipy.special  # noqa: F401  # while there is nothing to do yet
    from matplotlib.backends import backend_agg  # noqa: F401

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which may go to a whole group of processes: the caller decides
    caller = os.getppid()
    with threadpool_limits(1, user_api="blas"):  # a second thread would wait for those that train
        while True:
            try:
                unscored = pickle.load(sys.stdin.buffer)
            except (EOFError, pickle.UnpicklingError):  # the end, or that of a caller who was killed while sending
                return
            try:
                complete(unscored, wanted=lambda: os.getppid() == caller)
            except Exception as error:
                print(f"{unscored.folder}: not completed: {type(error).__name__}: {error}", file=sys.stderr)


if __name__ == "__main__":
    from aimonk_bench.suite import completion  # what is sent is of this module, not of __main__

    completion.main()
