"""Finished work in experiment trackers, as a function."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from aimonk_bench.api.results import Run, Suite, load
from aimonk_bench.arguments import choice, path, wrong
from aimonk_bench.errors import UserError

Tracker = Literal["mlflow", "tensorboard"]


def log(
    source: Run | Suite | str | os.PathLike[str],
    *,
    to: Tracker,
    uri: str | None = None,
    artifacts: Sequence[str | os.PathLike[str]] = (),
) -> str:
    """Log a run or a suite to MLflow or TensorBoard; logged again it is updated, not doubled.

    Each run has its config as parameters, flattened by dots; the figures of ``summary.csv`` with their intervals, as
    ``FIGURE/ATTRIBUTE``; its loss curves. MLflow keeps the files of the runs too.

    Args:
        source: a run, a suite, or the folder of one.
        to: "mlflow" (extra ``[mlflow]``) or "tensorboard" (extra ``[tensorboard]``).
        uri: of MLflow the store or server, such as ``sqlite:///mlflow.db``, by default the one that MLflow takes; of
            TensorBoard a folder, by default ``tensorboard`` in the folder of the results.
        artifacts: files and folders that MLflow keeps beside the results, such as a report or a bundle.

    Returns:
        Where the results were logged.

    Raises:
        UserError: the tracker is not installed or refuses, no run ended, or an artifact is not there.
    """
    choice("to", to, get_args(Tracker))
    if not (uri is None or isinstance(uri, str)):
        raise wrong("uri", uri, "a text, or None")
    if isinstance(artifacts, str) or not isinstance(artifacts, Sequence):
        raise wrong("artifacts", artifacts, "a list of files and folders")
    result = source if isinstance(source, Run | Suite) else load(source)
    paths = [path("artifacts", artifact, "files and folders") for artifact in artifacts]
    if absent := [str(path) for path in paths if not path.exists()]:
        raise UserError(f"artifact: found no file or folder {', '.join(absent)}")
    if to == "mlflow":
        from aimonk_bench.trackers import content, to_mlflow

        runs, suite = content.tracked(result._figures), content.tracked_suite(result._figures)
        name = result.name if isinstance(result, Suite) else "aimonk_bench"
        return to_mlflow.log(name, runs, suite=suite, uri=uri, artifacts=paths)
    from aimonk_bench.trackers import content, to_tensorboard

    if paths:
        raise UserError("artifact: found a file for tensorboard, which keeps none; expected it with mlflow alone")
    folder = result.folder / "tensorboard" if uri is None else Path(uri)
    to_tensorboard.log(content.tracked(result._figures), folder)
    return str(folder)
