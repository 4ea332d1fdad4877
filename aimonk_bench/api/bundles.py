"""Models to take home: a bundle of a run, and what a bundle says of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aimonk_bench.api.results import Run, Suite
from aimonk_bench.api.work import Report, shown

if TYPE_CHECKING:
    import pandas as pd

    from aimonk_bench.serving.export import Exported
    from aimonk_bench.serving.predict import Prediction


def export(
    source: Run | Suite | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    run: str | None = None,
    which: Literal["selected", "simplest"] | None = None,
    head: str | int | None = None,
    progress: Report = False,
    allow_plugins: bool = False,
) -> Exported:
    """Write a bundle that timm, transformers, onnxruntime and `predict` load, as `aimonk-bench export` does.

    Args:
        source: a run, a suite, or the folder of one.
        out: a new folder for the bundle.
        run: id of a run of the suite.
        which: of a suite, where ``run`` is None: the run selected on validation rows, or the simplest that is not worse
            (default).
        head: a seed, "mean" or "refit"; default mean for a hold-out (of a fine-tuned run the first seed), refit for
            folds.
        progress: as for `aimonk_bench.run`.
        allow_plugins: the plug-ins of the run may be executed.

    Returns:
        Where the bundle is, and of which run and head.

    Raises:
        UserError: the folder has no such run, its weights are missing or not those of its predictions, or ``out`` is
            not a new or empty folder.
        RunFailed: the network cannot be exported, or onnxruntime does not compute what torch does.
    """
    from aimonk_bench.serving.export import export as write_bundle

    folder = source.folder if isinstance(source, Run | Suite) else Path(source)
    with shown(progress) as report:
        return write_bundle(
            folder, Path(out), run=run, which=which, head=head, progress=report, allow_plugins=allow_plugins
        )


def predict(
    bundle: str | os.PathLike[str],
    images: Any | Iterable[Any],
    *,
    thresholds: Mapping[str, float] | None = None,
    batch: int = 8,
    progress: Report = False,
) -> pd.DataFrame:
    """What a bundle says of images: a row for each, in their order.

    Columns: image (string), its path, or ``[number]`` where it is no file; error (string), NA where there is none; and
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
    from aimonk_bench.serving.predict import predict as predicted

    single = isinstance(images, str | os.PathLike) or getattr(images, "ndim", 0) == 3 or hasattr(images, "convert")
    items: Any = [images] if single else images
    with shown(progress) as report:
        predictions = predicted(Path(bundle), items, thresholds=thresholds, batch=batch, progress=report)
        return _table(list(predictions))


def _table(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """The columns of `predict`."""
    import pandas as pd

    columns: dict[str, Any] = {
        name: pd.array([getattr(prediction, name) for prediction in predictions], dtype="string")
        for name in ("image", "error")
    }
    failed = np.array([prediction.error is not None for prediction in predictions], bool)
    probabilities, decisions = (
        np.array([getattr(prediction, name) for prediction in predictions])  # [N, A]
        for name in ("probabilities", "decisions")
    )
    for a, attribute in enumerate(predictions[0].attributes if predictions else ()):
        decided = pd.array(decisions[:, a].astype(bool), dtype="boolean")
        decided[failed] = pd.NA
        columns |= {f"{attribute}_probability": probabilities[:, a], f"{attribute}_decision": decided}
    return pd.DataFrame(columns)
