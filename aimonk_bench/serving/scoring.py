"""How well a bundle does on new labelled images: the figures of the table, at the bundle's thresholds."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

from aimonk_bench.data import guess, image_files, label_file, splits
from aimonk_bench.data.image_files import ImageFile, Skipped, by_reason, others
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.data.tables import is_unnamed
from aimonk_bench.errors import UserError, count
from aimonk_bench.evaluation import intervals
from aimonk_bench.evaluation.metrics import Confusion, macro, ranking
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import ScoredRows, sigmoid
from aimonk_bench.evaluation.proportions import Intervals
from aimonk_bench.progress import Progress
from aimonk_bench.records.files import csv_text, harmless, plain
from aimonk_bench.registry import hint
from aimonk_bench.reporting import words
from aimonk_bench.reporting.words import number
from aimonk_bench.serving.graph import Classifier
from aimonk_bench.serving.images import Item
from aimonk_bench.serving.predict import reported, stream

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

MACRO = "macro"
HEADS = {"f1": "F1", "precision": "preci-\nsion", "recall": "recall", "average_precision": "AP", "roc_auc": "ROC\nAUC"}


@dataclass(frozen=True, eq=False)
class NewScores:
    """The figures of a bundle on labelled images, for the A attributes that both have.

    Attributes:
        attributes: [A] names.
        thresholds: [A].
        images: number of images that were predicted.
        groups: of equal images, or of images that the label file groups.
        skipped: images that the label file names and that were not predicted.
        learned_from: how many of the images the bundle has learned from, if not more; None where it does not say.
        n_observed, n_positive: [A] numbers of labels.
        values: figure of `HEADS`, and ``all_positive_f1``, -> [A]; NaN is undefined.
        intervals: figure of `HEADS` -> its 95 % intervals, about these weights.
    """

    attributes: tuple[str, ...]
    thresholds: Array
    images: int
    groups: int
    skipped: tuple[Skipped, ...]
    learned_from: int | None
    n_observed: Array
    n_positive: Array
    values: Mapping[str, Array]
    intervals: Mapping[str, Intervals]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each attribute, and `MACRO`: sums of numbers, means over the attributes that define a figure."""
        rows: list[dict[str, Any]] = []
        for a, name in enumerate((*self.attributes, MACRO)):
            is_macro = name == MACRO
            row: dict[str, Any] = {
                "attribute": name,
                "n_observed": int(self.n_observed.sum() if is_macro else self.n_observed[a]),
                "n_positive": int(self.n_positive.sum() if is_macro else self.n_positive[a]),
                "threshold": np.nan if is_macro else float(self.thresholds[a]),
            }
            for figure, values in self.values.items():
                defined = np.isfinite(values)
                row[figure] = float(macro(values, defined) if is_macro else values[a])
                if interval := self.intervals.get(figure):
                    low, high = interval.macro(values, defined)[:2] if is_macro else (interval.low[a], interval.high[a])
                    row |= {f"{figure}_low": float(low), f"{figure}_high": float(high)}
            rows.append(row)
        return rows


def score(
    classifier: Classifier, listed: LabelFile, images: Path, batch: int, progress: Progress | None = None
) -> NewScores:
    """Predict the images that a label file names, and score the predictions.

    Args:
        listed: the label file; `guessed` reads one of any format.
        images: the folder of its images.
        batch: images that the network takes at once.

    Raises:
        UserError: the folder cannot be used, no attribute is in both, or no image can be decoded.
    """
    listed = _named(classifier, listed)
    names = _shared(classifier, listed)
    located, skipped = image_files.locate(listed, images, "skip")
    files = [file for file in located if file is not None]
    listed = listed.subset([n for n, file in enumerate(located) if file is not None])
    logits, undecodable = _logits(classifier, files, batch, progress)
    skipped += undecodable
    for items in by_reason(skipped):
        name, reason = items[0].image_id, items[0].reason
        logger.warning("%s:%d: skipped %s: %s%s", listed.path, items[0].line, name, reason, others(items))
    decoded = np.flatnonzero(np.isfinite(logits).all(axis=1))
    if not len(decoded):
        raise UserError(f"{listed.path}: found {count(len(logits), 'image')}, none of which can be decoded")
    listed, hashes = listed.subset(decoded), [files[n].sha256 for n in decoded]
    columns = [listed.labels.attributes.index(name) for name in names]
    heads = [classifier.attributes.index(name) for name in names]
    chosen = logits[decoded][None, :, heads]
    rows = ScoredRows(
        logits=chosen,
        probabilities=sigmoid(chosen),
        labels=Labels.of(listed.labels.targets[:, columns], listed.labels.observed[:, columns], names),
        fold=np.zeros(len(decoded), np.int16),
        group=splits.components(hashes, listed.groups),
        image_id=np.array(listed.ids),
    )
    return _scores(rows, classifier.thresholds[heads], skipped, _learned_from(classifier, listed.path, hashes))


def guessed(labels: Path, images: Path) -> LabelFile:
    """A label file, read as `init` would read it; the log says what was understood.

    Raises:
        UserError: file or folder cannot be used.
    """
    understood = guess.guess(labels.absolute(), images.absolute())
    for note in understood.notes:
        if note.doubt and note.key.startswith("data"):
            logger.warning("%s: check: %s", labels, note.text)
    listed = replace(label_file.load(understood.config), path=labels)
    tell(listed)
    return listed


def tell(listed: LabelFile) -> None:
    """Log how a label file was read."""
    for text in listed.notes:
        logger.info("%s: %s", listed.path, text)


def _named(classifier: Classifier, listed: LabelFile) -> LabelFile:
    """The label file; where it does not name its columns of labels, they are those of the bundle, in its order."""
    labels, names = listed.labels, classifier.attributes
    is_named = {*labels.attributes} & {*names} or not all(map(is_unnamed, labels.attributes))
    if is_named or len(labels.attributes) != len(names):
        return listed
    logger.warning(
        "%s: its columns of labels have no names: they are taken for the attributes of the bundle, in this order: %s; "
        "if that is wrong, write a header",
        *(listed.path, ", ".join(names)),
    )
    return replace(listed, labels=replace(labels, attributes=names))


def _learned_from(classifier: Classifier, labels: Path, hashes: Sequence[str]) -> int | None:
    """How many of these images the bundle has learned from; a warning says so."""
    if classifier.training_images is None:
        logger.info("%s: the bundle does not say which images it has learned from, so these may be among them", labels)
        return None
    number = int(classifier.training_images.among(hashes).sum())
    if number:
        least = "at least " if classifier.training_images.is_sample else ""
        logger.warning(
            "%s: the bundle has learned from %s%d of these %s: its figures would be lower on images that are new to it",
            *(labels, least, number, count(len(hashes), "image")),
        )
    return number


def _shared(classifier: Classifier, listed: LabelFile) -> tuple[str, ...]:
    """The attributes that the bundle and the label file have, in the order of the bundle; the others are logged.

    Raises:
        UserError: there is none.
    """
    ours, theirs = classifier.attributes, listed.labels.attributes
    shared = tuple(name for name in ours if name in theirs)
    if not shared:
        raise UserError(
            f"{listed.path}: found the attributes {', '.join(theirs)}, expected some of those of the bundle: "
            f"{', '.join(ours)}; attributes are matched by name: write the bundle's names into the file's header, or "
            "into `data: {attributes: [...]}` of a YAML file that says how to read it (`aimonk-bench init` writes one)"
        )
    lacking, unknown = [name for name in ours if name not in theirs], [name for name in theirs if name not in ours]
    if lacking:
        logger.warning("%s: no labels for %s", listed.path, ", ".join(name + hint(name, unknown) for name in lacking))
    if unknown:
        logger.warning("%s: the bundle does not predict %s", listed.path, words.listed(unknown))
    return shared


def _logits(
    classifier: Classifier, files: Sequence[ImageFile], batch: int, progress: Progress | None
) -> tuple[np.ndarray, list[Skipped]]:
    """Logits [N, A] of image files, NaN where one cannot be decoded; and those."""
    items = (Item(file.image_id, file.path) for file in files)
    with (
        LibraryMessages() as messages,
        contextlib.closing(stream(classifier, classifier.encoder(batch), items, messages)) as predictions,
    ):
        results = [*reported(predictions, len(files), progress)]
    undecodable = [
        Skipped(file.image_id, file.line, result.error)
        for file, result in zip(files, results, strict=True)
        if result.error is not None
    ]
    return np.array([result.logits for result in results]).reshape(len(files), -1), undecodable


def _scores(rows: ScoredRows, thresholds: Array, skipped: Sequence[Skipped], learned_from: int | None) -> NewScores:
    labels = rows.labels
    confusion = Confusion.of(rows.probabilities[0], labels, thresholds)
    values = {"f1": confusion.f1, "precision": confusion.precision, "recall": confusion.recall}
    values |= ranking(rows.probabilities[0], labels)
    values["all_positive_f1"] = Confusion.of(np.ones(labels.shape), labels, 0.5).f1
    return NewScores(
        attributes=labels.attributes,
        thresholds=thresholds,
        images=len(labels),
        groups=len(np.unique(rows.group)),
        skipped=tuple(skipped),
        learned_from=learned_from,
        n_observed=labels.observed.sum(axis=0),
        n_positive=labels.positive.sum(axis=0),
        values=values,
        intervals=intervals.of_heads(rows, thresholds),
    )


def frame(scores: NewScores) -> pd.DataFrame:
    """The rows as a table."""
    import pandas as pd

    return pd.DataFrame(scores.rows()).astype({"attribute": "string"})


def text(scores: NewScores, form: Literal["csv", "jsonl"]) -> str:
    """The rows as CSV or JSON lines; an undefined number is an empty cell or null."""
    if form == "csv":
        return csv_text(harmless(frame(scores)))
    return "".join(json.dumps(plain(row), ensure_ascii=False) + "\n" for row in scores.rows())


def table(scores: NewScores) -> Table:
    """The figures for reading, under each its 95 % confidence interval; names are folded, nothing is cut off."""
    images = f"{count(scores.images, 'image')} in {count(scores.groups, 'group')} of equal images"
    notes = f", {len(scores.skipped)} skipped" if scores.skipped else ""
    notes += f", {scores.learned_from} of them seen in training" if scores.learned_from else ""
    title = f"{images}{notes}; F1, precision and recall at the thresholds; below each its 95 % confidence interval"
    heads = ["positive", "thres-\nhold", "all\npositive", *HEADS.values()]
    columns = [
        Column("attribute", overflow="fold"),
        *(Column(head, justify="right", overflow="fold") for head in heads),
    ]
    grid = Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, title=title)
    for row in scores.rows():
        cells = [f"{row['n_positive']} of {row['n_observed']}", number(row["threshold"], places=3)]
        cells.append(number(row["all_positive_f1"]))
        for figure in HEADS:
            low, high = number(row[f"{figure}_low"]), number(row[f"{figure}_high"])
            cells.append(number(row[figure]) + (f"\n{low}-{high}" if np.isfinite(row[figure]) else ""))
        if row["attribute"] == MACRO:
            grid.add_section()
        grid.add_row(Text(row["attribute"]), *map(Text, cells))
    return grid
