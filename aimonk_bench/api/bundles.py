"""Models to take home: a bundle of a run, and what a bundle says of images."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aimonk_bench.api.results import Result
from aimonk_bench.api.work import Report, shown

if TYPE_CHECKING:
    import pandas as pd


def export(
    source: Result | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    run: str | None = None,
    which: Literal["selected", "simplest"] = "simplest",
    head: str | int | None = None,
    progress: Report = False,
) -> Any:
    """Write a bundle that timm, transformers, onnxruntime and `predict` load, as `aimonk-bench export` does.

    Args:
        source: a run, a suite, or the folder of one.
        out: a new folder for the bundle.
        run: id of a run of the suite.
        which: where ``run`` is None: the run selected on validation rows, or the simplest that is not worse.
        head: a seed, "mean" or "refit"; default mean for a hold-out, refit for folds.
        progress: as for `aimonk_bench.run`.

    Returns:
        `aimonk_bench.serving.export.Exported`.

    Raises:
        UserError: the folder has no such run, its weights are missing, or ``out`` is not empty.
        RunFailed: the bundle does not give the predictions of the run.
    """
    exporter = importlib.import_module("aimonk_bench.serving.export")
    folder = source.folder if isinstance(source, Result) else Path(source)
    with shown(progress) as report:
        return exporter.export(folder, Path(out), run=run, which=which, head=head, progress=report)


def predict(
    bundle: str | os.PathLike[str],
    images: Any | Iterable[Any],
    *,
    thresholds: Mapping[str, float] | None = None,
    batch: int = 16,
    progress: Report = False,
) -> pd.DataFrame:
    """What a bundle says of images: a row for each, in their order.

    Columns: image (string), its path, or its number where it is no file; error (string), NA where there is none; and
    for each attribute ``NAME_probability`` (float64) and ``NAME_decision`` (boolean), NaN and NA where there is an
    error.

    Args:
        bundle: a folder that `export` wrote, or a single ``model.onnx``.
        images: paths, arrays [H, W, 3] uint8 RGB, or PIL images; or one of them.
        thresholds: attribute -> threshold instead of that of the bundle.
        batch: images at once; it changes no result beyond rounding.
        progress: as for `aimonk_bench.run`.

    Raises:
        UserError: the bundle is damaged, or a threshold is no probability or names no attribute of the bundle.
    """
    predictor = importlib.import_module("aimonk_bench.serving.predict")
    single = isinstance(images, str | os.PathLike) or getattr(images, "ndim", 0) == 3 or hasattr(images, "convert")
    paths = (Path(item) if isinstance(item, str) else item for item in ([images] if single else images))
    with shown(progress) as report:
        found = list(predictor.predict(Path(bundle), paths, thresholds=thresholds, batch=batch, progress=report))
    raise NotImplementedError(found)
