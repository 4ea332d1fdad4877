"""Models to take home: a bundle of a run, and what a bundle says of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from aimonk_bench.api.progress import Report, Reporter
from aimonk_bench.arguments import choice, flag, instance, path, wrong
from aimonk_bench.progress import Progress

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from aimonk_bench.api.label_frames import LabelFrame
    from aimonk_bench.api.results import Run, Suite
    from aimonk_bench.config.loader import Source
    from aimonk_bench.data.labels import LabelFile
    from aimonk_bench.serving.export import Exported
    from aimonk_bench.serving.files import FilePredictions
    from aimonk_bench.serving.graph import Classifier
    from aimonk_bench.serving.rows import Form
    from aimonk_bench.serving.scoring import NewScores

Thresholds = Mapping[str, float] | Sequence[str] | None
Which = Literal["selected", "simplest"]
BUNDLE = "a folder that `export` wrote, or its model.onnx"
CONFIGS = (".yaml", ".yml")


def export(
    source: Run | Suite | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    run: str | None = None,
    which: Which | None = None,
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
    from aimonk_bench.api.results import Result
    from aimonk_bench.serving.export import export as write_bundle

    place = source.folder if isinstance(source, Result) else path("source", source, "a run, a suite, or its folder")
    target = path("out", out, "a new folder for the bundle")
    if run is not None and not isinstance(run, str):
        raise wrong("run", run, "the id of a run, or None")
    if which is not None:
        choice("which", which, get_args(Which))
    if not (head is None or isinstance(head, str | int)) or isinstance(head, bool):
        raise wrong("head", head, "a seed, 'mean', 'refit', or None")
    flag("allow_plugins", allow_plugins)
    with Reporter(progress) as report:
        return write_bundle(
            place, target, run=run, which=which, head=head, progress=report, allow_plugins=allow_plugins
        )


def predict(
    bundle: str | os.PathLike[str],
    images: Any | Iterable[Any],
    *,
    thresholds: Thresholds = None,
    batch: int = 8,
    progress: Report = False,
) -> pd.DataFrame:
    """What a bundle says of images: a row for each, in their order.

    Columns: image (string), its path, or ``[number]`` where it is no file; error (string), NA where there is none; and
    for each attribute ``NAME_probability`` (float64) and ``NAME_decision`` (boolean), NaN and NA where there is an
    error. Bytes of a path that are not UTF-8 are escapes.

    Args:
        bundle: a folder that `export` wrote, or a single ``model.onnx``.
        images: paths of files, arrays [H, W, 3] uint8 RGB, or PIL images; or one of them. A JPEG that Pillow has opened
            and not decoded yet is decoded as its file. What is decoded already has all its pixels: where the bundle was
            trained with ``transform.decode: fast``, large JPEGs differ a little from that, so predict their files.
        thresholds: a dict of attribute -> threshold instead of that of the bundle; or texts as for --threshold.
        batch: images at once; it changes no result beyond rounding.
        progress: as for `aimonk_bench.run`.

    Raises:
        UserError: the bundle is damaged, an argument is of another type, or a threshold is no probability or names no
            attribute of the bundle.
    """
    from aimonk_bench.serving import rows
    from aimonk_bench.serving.predict import predicted

    classifier = _classifier(bundle, thresholds)
    single = isinstance(images, str | os.PathLike) or getattr(images, "ndim", 0) == 3 or hasattr(images, "convert")
    items: Any = [images] if single else images
    if not isinstance(items, Iterable) or isinstance(items, bytes | Mapping):
        raise wrong("images", images, "paths, NumPy arrays uint8 [H, W, 3] or Pillow images, or one of them")
    with Reporter(progress) as report:
        return rows.table(classifier.attributes, predicted(classifier, items, batch, report))


@dataclass(frozen=True)
class Scores:
    """How well a bundle does on new labelled images.

    Attributes:
        record: everything, with arrays [A].
    """

    record: NewScores

    @property
    def figures(self) -> pd.DataFrame:
        """A row for each attribute that bundle and labels have, and one for ``macro``.

        Columns: attribute (string); n_observed, n_positive (int64); threshold (float64), of the bundle; f1, precision,
        recall at the threshold, average_precision and roc_auc (float64), each with the bounds of its 95 % interval
        ``NAME_low`` and ``NAME_high``; all_positive_f1 (float64), that of calling every image positive. NaN is
        undefined; macro is the mean over the attributes that define a figure, and the sum of numbers.
        """
        from aimonk_bench.serving import scoring

        return scoring.frame(self.record)

    @property
    def skipped(self) -> pd.DataFrame:
        """Images that the labels name and that were not predicted: image (string), line (int64), reason (string)."""
        import pandas as pd

        rows = [(item.image_id, item.line, item.reason) for item in self.record.skipped]
        kinds = {"image": "string", "line": "int64", "reason": "string"}
        return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)

    def to_text(self, form: Form) -> str:
        """The figures as ``csv`` or ``jsonl``, as `aimonk-bench predict --labels` writes them."""
        from aimonk_bench.serving import rows, scoring

        choice("form", form, get_args(rows.Form))
        return scoring.text(self.record, form)

    def render(self, console: Console) -> None:
        """Print the figures with their intervals on a console of rich."""
        from rich.console import Console

        from aimonk_bench.serving import scoring

        instance("console", console, Console).print(scoring.table(self.record))

    def _repr_html_(self) -> str:
        """The figures, for a notebook."""
        import pandas as pd

        with pd.option_context("display.max_colwidth", None):  # names are not cut off
            return str(self.figures.to_html(index=False, float_format="{:.3f}".format))


def score(
    bundle: str | os.PathLike[str],
    labels: Source | LabelFrame,
    images: str | os.PathLike[str] | None = None,
    *,
    thresholds: Thresholds = None,
    batch: int = 8,
    progress: Report = False,
) -> Scores:
    """Score a bundle on labelled images, as `aimonk-bench predict --labels` does.

    A warning says if the bundle has learned from some of them. Images that cannot be read are skipped, and named.

    Args:
        bundle: a folder that `export` wrote, or a single ``model.onnx``.
        labels: a label file of any format, read as `aimonk-bench init` would read it. Or what says how it is to be
            read: a YAML file or a dict with a section ``data``, or `labels` of a DataFrame. Plug-ins that it names are
            not executed.
        images: the folder of the images; None where ``data`` names it.
        thresholds: as for `predict`.
        batch: as for `predict`.
        progress: as for `aimonk_bench.run`.

    Raises:
        UserError: bundle, labels or images cannot be used, no attribute is in both, or no image can be decoded.
    """
    from aimonk_bench.serving import scoring

    classifier, reporter = _classifier(bundle, thresholds), Reporter(progress)
    folder = None if images is None else path("images", images, "the folder of the images, or None")
    listed, place = _listed(labels, folder)
    with reporter as report:
        return Scores(scoring.score(classifier, listed, place, batch, report))


def _listed(labels: Source | LabelFrame, images: Path | None) -> tuple[LabelFile, Path]:
    """The labels, and the folder of their images."""
    from aimonk_bench.api.label_frames import LabelFrame
    from aimonk_bench.api.work import without_folder
    from aimonk_bench.config.fields import Config
    from aimonk_bench.data import label_file
    from aimonk_bench.serving import scoring
    from aimonk_bench.suite import inspection
    from aimonk_bench.tables import RECORDED

    source: Source = {"data": labels} if isinstance(labels, LabelFrame) else labels
    if not isinstance(source, Mapping | Config):
        file = path("labels", source, "a label file, a YAML file, a dict with a section `data`, or `labels`")
        if file.suffix.lower() not in CONFIGS:
            if images is None:
                raise wrong("images", images, "the folder of the images that the label file names")
            return scoring.guessed(file, images), images
    changed = {} if images is None else {"data.images": images}
    with without_folder(source, changed) as (config, layers):
        data = inspection.configured(config, RECORDED, layers).data  # plug-ins have no importers: none is executed
        listed = label_file.load(data)
    scoring.tell(listed)
    return listed, data.images


def stream(
    bundle: str | os.PathLike[str],
    words: Sequence[str],
    *,
    thresholds: Thresholds = None,
    batch: int = 8,
    progress: Progress | None = None,
) -> FilePredictions:
    """The predictions of `aimonk-bench predict`, one after another: iterate them once.

    Args:
        bundle: a folder that `export` wrote, or a single ``model.onnx``.
        words: files, folders, globs, and ``-`` for names on standard input.
        thresholds: as for `predict`.
        batch: as for `predict`.
        progress: a function of the phase, of what is done and of the total, None where it is not known.

    Raises:
        UserError: the bundle or an argument cannot be used; or, in the iteration, the words mean no image.
    """
    from aimonk_bench.serving.files import FilePredictions

    return FilePredictions(_classifier(bundle, thresholds), words, batch, progress)


def lines(predictions: FilePredictions, form: Form) -> Iterator[str]:
    """The row of each prediction as text; the first of CSV begins with the header."""
    from aimonk_bench.serving import rows

    return rows.lines(predictions, form)


def _classifier(bundle: str | os.PathLike[str], thresholds: Thresholds) -> Classifier:
    """What predicts.

    Raises:
        UserError: the bundle or the thresholds cannot be used.
    """
    from aimonk_bench.serving import graph

    classifier = graph.open_classifier(path("bundle", bundle, BUNDLE))
    if thresholds is None or isinstance(thresholds, Mapping):
        return classifier.at(thresholds or {})
    is_texts = isinstance(thresholds, list | tuple) and all(isinstance(text, str) for text in thresholds)
    if not is_texts:
        raise wrong("thresholds", thresholds, "a dict such as {'animal': 0.4}, or texts such as 'animal=0.4'")
    return classifier.at(graph.parse_thresholds(thresholds))
