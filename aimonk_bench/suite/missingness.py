"""The scores of a suite with the axis ``hide`` by mechanism and fraction, for its plot."""

from __future__ import annotations

import numpy as np

from aimonk_bench.evaluation import metrics
from aimonk_bench.records.run import COLUMNS, RunRecord
from aimonk_bench.records.suite import Collection
from aimonk_bench.reporting.figures import HiddenScore
from aimonk_bench.suite.plan import Plan

FIGURES = ("f1_tuned", "average_precision")


def scores(plan: Plan, collection: Collection) -> list[HiddenScore]:
    """A score of every finished run, against the truth where there is one, else against the test labels.

    Macro averages are over the attributes that all these runs define. The recipe of a run is those of its columns in
    which the runs differ. There are no scores unless labels are hidden in two ways (mechanism, rows or fraction).
    """
    finished = {record.status.id: record for record in collection.finished}
    runs = [planned for planned in plan.runs if planned.id in finished]
    ways = {(hide.mechanism, hide.rows, hide.fraction) for planned in runs if (hide := planned.config.hide)}
    if len(ways) < 2:
        return []
    values = np.array([_values(finished[planned.id]) for planned in runs])  # [runs, figure, A]
    macros = metrics.macro(values, np.isfinite(values).all(axis=0))
    varying = [key for key in COLUMNS if len({planned.columns[key] for planned in runs}) > 1]
    return [
        HiddenScore(
            mechanism=planned.config.hide.mechanism if planned.config.hide else None,
            train_only=planned.config.hide is not None and planned.config.hide.rows == "train",
            fraction=planned.config.hide.fraction if planned.config.hide else 0.0,
            recipe=", ".join(planned.columns[key] for key in varying),
            f1=f1,
            average_precision=average_precision,
        )
        for planned, (f1, average_precision) in zip(runs, macros.tolist(), strict=True)
    ]


def _values(record: RunRecord) -> np.ndarray:
    """The figures [figure, A], each the mean over the seeds."""
    if truth := metrics.against_truth(record.predictions, record.thresholds):
        return np.stack([truth.value(name) for name in FIGURES])
    return np.stack([record.scores.figures.value(name) for name in FIGURES])
