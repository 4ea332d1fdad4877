"""What a tracker is given of finished work, whichever tracker it is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.records import history as histories
from aimonk_bench.records import run as runs
from aimonk_bench.records import suite as suites
from aimonk_bench.records.run import RunRecord
from aimonk_bench.reporting.summary import MACRO, NUMERIC, Summary
from aimonk_bench.reporting.words import run_name

ENTRIES = ("loss", "missing", "sampler", "threshold", "train.optimizer", "train.schedule")  # a name, or with options
FILES = (runs.CONFIG, runs.METRICS, runs.THRESHOLDS, runs.ENVIRONMENT, runs.DATA, runs.HISTORY, runs.LOSS_CURVE)
SUITE_FILES = ("summary.csv", "summary.md", suites.STATISTICS)


@dataclass(frozen=True, eq=False)
class Curve:
    """A value over the course of training, the mean over seeds and folds.

    Attributes:
        steps: [N] int64, from 1: iterations, or of validation figures epochs.
        values: [N] float64, finite.
    """

    steps: Array
    values: Array


@dataclass(frozen=True, eq=False)
class TrackedRun:
    """One run as a tracker shows it.

    Attributes:
        id: of the run; the same run has the same id whenever it is logged.
        name: in the table.
        failure: why it failed; None where it is done.
        parameters: its config, flattened by dots, such as ``train.batch_size`` -> ``64``; entries of tables have their
            name under ``loss.name``.
        figures: ``FIGURE/ATTRIBUTE`` -> value, columns of ``summary.csv``; undefined ones are left out.
        curves: ``training_loss`` and ``val_*`` of ``history.csv``.
        files: that a tracker may keep.
        time: when the run was scored, seconds since 1970: logged again, its values have the same time.
    """

    id: str
    name: str
    failure: str | None
    parameters: Mapping[str, str]
    figures: Mapping[str, float]
    curves: Mapping[str, Curve]
    files: tuple[Path, ...]
    time: float


def tracked(summary: Summary) -> list[TrackedRun]:
    """The runs of a folder that ended, in the order of the suite.

    Raises:
        UserError: none has.
    """
    names, records = summary.collection.names, summary.collection.records
    if not records:
        raise UserError(f"{summary.collection.folder}: found no run that ended, expected one to log")
    attributes = distinct([*summary.attributes, MACRO])
    return [
        _tracked(summary, records[run_id], run_name(names[run_id]), attributes) for run_id in names if run_id in records
    ]


def _tracked(summary: Summary, record: RunRecord, name: str, attributes: list[str]) -> TrackedRun:
    folder, run_id = record.folder, record.status.id
    config = yaml.safe_load((folder / runs.CONFIG).read_text(encoding="utf-8"))
    done = record.done and run_id in summary.values
    scored = folder / (runs.METRICS if done else runs.STATUS)
    return TrackedRun(
        id=run_id,
        name=name,
        failure=record.status.reason,
        parameters=dict(flattened(config)),
        figures=_figures(summary.values[run_id], attributes) if done else {},
        curves=_curves(folder) if done else {},
        files=tuple(file for part in FILES if (file := folder / part).exists()),
        time=scored.stat().st_mtime,
    )


def tracked_suite(summary: Summary) -> TrackedRun | None:
    """What stands above the runs of a suite: the figures of the nested selection, and its files; None for a run."""
    collection = summary.collection
    if collection.name is None:
        return None
    files = tuple(file for name in SUITE_FILES if (file := collection.folder / name).exists())
    attributes = distinct([*summary.attributes, MACRO])
    return TrackedRun(
        id=f"suite {distinct([collection.name])[0]}",
        name=collection.name,
        failure=None,
        parameters={},
        figures={} if summary.nested is None else _figures(summary.nested, attributes),
        curves={},
        files=files,
        time=max((file.stat().st_mtime for file in files), default=collection.folder.stat().st_mtime),
    )


def flattened(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a config with their dotted keys; lists, empty mappings and null are JSON."""
    if key in ENTRIES and not isinstance(value, dict):
        value = {"name": value}
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from flattened(part, f"{key}.{name}" if key else str(name))
    else:
        yield key, value if isinstance(value, str) else json.dumps(value)


def _figures(values: Mapping[str, Array], attributes: list[str]) -> dict[str, float]:
    return {
        f"{column}/{attribute}": float(value)
        for column in NUMERIC
        if column in values
        for attribute, value in zip(attributes, values[column], strict=True)
        if math.isfinite(value)
    }


def _curves(folder: Path) -> dict[str, Curve]:
    history = histories.read(folder / runs.HISTORY)
    curves = {}
    for column in history.columns:
        if column == "training_loss" or column.startswith("val_"):
            step = "iteration_number" if column == "training_loss" else "epoch"
            mean = history.groupby(step)[column].mean().dropna()
            if len(mean):
                curves[column] = Curve(mean.index.to_numpy(np.int64), mean.to_numpy(np.float64))
    return curves


def distinct(names: list[str], longest: int = 100) -> list[str]:
    """Names that trackers accept: letters, digits and ``_ - .``, none of them twice.

    >>> distinct(["a b", "a/b", "grün", "a_b"])
    ['a_b', 'a_b-2', 'gr_n', 'a_b-3']
    """
    accepted: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:longest]
        places = (plain if number == 1 else f"{plain}-{number}" for number in range(1, len(names) + 2))
        accepted.append(next(place for place in places if place not in accepted))
    return accepted
