"""What is in the data of a run: labels, missing labels, pairs of attributes, folds, skipped images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

import numpy as np

from aimonk_bench.errors import count
from aimonk_bench.evaluation.audit import together
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.verdict import Doubts
from aimonk_bench.records.run import RunRecord
from aimonk_bench.report.shortened import shortened
from aimonk_bench.reporting.words import DEPENDS_ON


class DataFacts(TypedDict):
    """The labels of a data set; lists of attributes are [A], pairs [A, A].

    lines: the images, duplicates and missing labels in sentences.
    n_positive, n_observed: of ``data.json``; None where it has none.
    rows: number of images behind the pairs.
    all_rows: whether these are all images; a hold-out keeps no labels of its training images.
    missing_both: images where both labels are missing; ``missing_phi`` the correlation of "missing".
    both_positive: images where both labels are positive; ``phi`` the correlation of the labels.
    folds: of each fold, for each part: its images, and [A] positive and observed labels.
    skipped: images that were left out, each with line and reason.
    """

    lines: list[str]
    n_used: int
    n_positive: list[int] | None
    n_observed: list[int] | None
    rows: int
    all_rows: bool
    missing_both: Array
    missing_phi: Array
    both_positive: Array
    phi: Array
    folds: list[dict[str, Any]]
    skipped: list[dict[str, Any]]
    notes: list[str]


def data_facts(record: RunRecord) -> DataFacts:
    """The facts of the data of a finished run."""
    data, predictions = record.data, record.predictions
    attributes = predictions.labels.attributes

    def counted(name: str) -> Any:
        return [data[name][attribute] for attribute in attributes] if name in data else None

    rows = images(predictions)
    pairs = together(predictions.labels[rows])
    return DataFacts(
        lines=list(data_lines(data, record.doubts)),
        n_used=data["n_used"],
        n_positive=counted("n_positive"),
        n_observed=counted("n_observed"),
        rows=len(rows),
        all_rows=predictions.folds > 1,
        missing_both=pairs.missing,
        missing_phi=pairs.missing_phi,
        both_positive=pairs.both,
        phi=pairs.phi,
        folds=[_fold(predictions, fold, parts) for fold, parts in enumerate(data["folds"])],
        skipped=shortened(data["skipped"]),
        notes=shortened(data.get("notes", [])),
    )


def data_lines(data: Mapping[str, Any], doubts: Doubts | None) -> Iterator[str]:
    """The images that were used, duplicates, and what missing labels depend on; nothing on what a run did not record.

    Args:
        data: the content of ``data.json``.
    """
    used, skipped = data["n_used"], len(data["skipped"])
    yield f"Used {used:,} of {count(data['n_listed'], 'listed image')}; skipped: {skipped or 'none'}."
    if "n_groups" in data:
        yield f"Images that have the bytes or the group of an earlier one: {used - data['n_groups'] or 'none'}."
    if doubts is not None:
        if doubts.groups_cut:
            yield f"Duplicate groups (equal bytes or group) that the split separates: {doubts.groups_cut}."
        yield f"Pairs of near duplicates that the split separates: {doubts.near_cut or 'none'}."
        for name, families in doubts.missing_depends.items():
            yield f"Missing labels of {name} depend on {' and '.join(DEPENDS_ON[family] for family in families)}."


def images(predictions: Predictions) -> Array:
    """Row numbers of the predictions in which each image stands once: the test rows, and of a hold-out all rows."""
    return np.flatnonzero(predictions.split == "test") if predictions.folds > 1 else np.arange(len(predictions.split))


def _fold(predictions: Predictions, fold: int, parts: dict[str, int]) -> dict[str, Any]:
    """The images and labels of the parts of one fold."""
    labels = {"train": (predictions.train_positive[fold], predictions.train_observed[fold])}
    for part in ("val", "test"):
        rows = predictions.part(part, fold).labels
        labels[part] = rows.counts()[0], rows.observed.sum(axis=0)
    return {
        part: {"images": parts[part], "positive": positive, "observed": observed}
        for part, (positive, observed) in labels.items()
    }
