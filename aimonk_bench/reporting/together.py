"""The runs of several folders in one table: figures and intervals; tests, selection and verdict stay per folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from aimonk_bench.evaluation.predictions import agree
from aimonk_bench.records.run import RunRecord
from aimonk_bench.records.suite import Collection
from aimonk_bench.reporting.summary import Summary, figures_of
from aimonk_bench.reporting.verdict import sentence
from aimonk_bench.reporting.warning_lines import doubts
from aimonk_bench.reporting.words import listed, run_name

T = TypeVar("T")


def difference(summaries: Sequence[Summary]) -> str | None:
    """Why the runs of several folders cannot stand in one table; None where they can.

    They can where all finished runs have the same attributes, split and test labels.
    """
    runs = [(summary.collection.folder, record) for summary in summaries for record in summary.collection.finished]
    for folder, record in runs[1:]:
        if what := _differs(runs[0][1], record):
            one, other = _labels([runs[0][0], folder]).values() if folder != runs[0][0] else (runs[0][0], folder)
            return f"{what} ({runs[0][1].status.id} in {one}, {record.status.id} in {other})"
    return None


def _differs(one: RunRecord, other: RunRecord) -> str:
    first, second = one.predictions, other.predictions
    if first.labels.attributes != second.labels.attributes:
        names = (listed(made.labels.attributes) for made in (first, second))
        return f"the attributes differ: {' against '.join(names)}"
    if not agree(first, second, "image_id", "split", "fold", "group"):
        return "the images or the split differ"
    if not agree(first.part("test"), second.part("test"), "labels"):
        return "the labels of the test images differ"
    return ""


def together(summaries: Sequence[Summary]) -> Summary:
    """One summary of the runs of several folders, for which `difference` says nothing; it has no statistics.

    The macro averages cover the attributes that all of these runs define. Runs of one name, and of one id, are told
    apart by their folder.
    """
    labels = _labels([summary.collection.folder for summary in summaries])
    ids = Counter(run_id for summary in summaries for run_id in summary.collection.names)
    names = Counter(run_name(parts) for summary in summaries for parts in summary.collection.names.values())
    collections = [summary.collection for summary in summaries]
    keys = {
        (collection.folder, run_id): f"{labels[collection.folder]}/{run_id}" if ids[run_id] > 1 else run_id
        for collection in collections
        for run_id in collection.names
    }

    def renamed(collection: Collection) -> Collection:
        def key(run_id: str) -> str:
            return keys[collection.folder, run_id]

        def apart(parts: tuple[str, ...]) -> tuple[str, ...]:
            return parts if names[run_name(parts)] == 1 else (*parts[:-1], f"{parts[-1]} ({labels[collection.folder]})")

        return replace(
            collection,
            names={key(run_id): apart(parts) for run_id, parts in collection.names.items()},
            records={key(run_id): _with_id(record, key(run_id)) for run_id, record in collection.records.items()},
            damaged={key(run_id): reason for run_id, reason in collection.damaged.items()},
            skipped={key(run_id): reason for run_id, reason in collection.skipped.items()},
        )

    parts = [renamed(collection) for collection in collections]
    merged = Collection(
        folder=Path(os.path.commonpath([collection.folder.absolute() for collection in collections])),
        name=", ".join(dict.fromkeys(collection.name or labels[collection.folder] for collection in collections)),
        baseline=None,
        names=_merged([part.names for part in parts]),
        records=_merged([part.records for part in parts]),
        damaged=_merged([part.damaged for part in parts]),
        skipped=_merged([part.skipped for part in parts]),
        left_out=(),
    )
    return figures_of(merged)


def verdicts(summaries: Sequence[Summary]) -> list[str]:
    """The verdict of each folder, and what of its data speaks against it, a line each."""
    labels = _labels([summary.collection.folder for summary in summaries])
    lines = []
    for summary in summaries:
        if stats := summary.statistics:
            text = sentence(stats.verdict, summary.collection.names, stats.against_winner)
            label = labels[summary.collection.folder]
            lines += [f"{label}: {text}", *(f"{label}: warning: {line}" for line in doubts(summary))]
    return lines


def _merged(maps: Sequence[Mapping[str, T]]) -> dict[str, T]:
    return {key: value for one in maps for key, value in one.items()}


def _with_id(record: RunRecord, run_id: str) -> RunRecord:
    """The same run under another id."""
    return record if record.status.id == run_id else replace(record, status=replace(record.status, id=run_id))


def _labels(folders: Sequence[Path]) -> dict[Path, str]:
    """Folder -> its name, or the whole path where several are called so."""
    number_of = Counter(folder.absolute().name for folder in dict.fromkeys(folders))
    return {
        folder: folder.absolute().name if number_of[folder.absolute().name] == 1 else str(folder) for folder in folders
    }
