"""The figures of many runs together: what `table` shows and ``summary.csv`` holds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import fairness, statistics
from aimonk_bench.evaluation.fairness import Unfair
from aimonk_bench.evaluation.metrics import AVERAGED, COUNTS, macro
from aimonk_bench.evaluation.scores import Scores
from aimonk_bench.evaluation.statistics import Chosen, Entry, Statistics
from aimonk_bench.evaluation.thresholds import TARGETS
from aimonk_bench.evaluation.verdict import Verdict
from aimonk_bench.records import files, suite
from aimonk_bench.records.environment import BackboneCost
from aimonk_bench.records.run import RunRecord
from aimonk_bench.records.suite import Collection

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]

COLUMNS = (
    *("run", "state", "backbone", "weights", "loss", "missing", "sampler", "attribute", "n_observed", "n_positive"),
    *("f1_default", "f1_default_low", "f1_default_high", "f1_tuned", "f1_tuned_low", "f1_tuned_high", "f1_validation"),
    *("threshold", "precision", "recall", "accuracy_default", "accuracy_tuned", "average_precision", "roc_auc"),
    *("floor_f1", "prior_f1", "delta", "delta_low", "delta_high", "p_value", "seeds", "seconds"),
    *("parameters", "macs", "images_per_second"),
    *("mark", "simultaneous_low", "simultaneous_high", "detectable"),
)
MARK = "mark"
TEXTS, NUMERIC = COLUMNS[:8], tuple(name for name in COLUMNS[8:] if name != MARK)
WHOLE = (*COUNTS, "seeds")  # columns of whole numbers
MACRO = "macro"


@dataclass(frozen=True, eq=False)
class Summary:
    """The figures of the finished runs of a collection.

    Attributes:
        attributes: [A] names, the same for all runs; empty if no run finished.
        values: run id -> numeric column of ``summary.csv`` -> [A + 1], the macro average last; NaN is undefined. Also
            ``few`` [A + 1], whether tuned F1 rests on few test rows, and, of a figure at which threshold policies aim,
            ``precision_target``, ``precision_low`` and ``precision_high``.
        nested: the same figures of the nested model selection, as far as it has them; None where there are not two
            finished runs to select from.
        covered: figure -> [A] bool, the attributes for which every comparable run defines the figure; the macro average
            is over these, counts are summed over all.
        ranking: run ids from the best macro f1_validation to the worst. Undefined ones come last; runs that are no
            candidates of the selection stand behind all others; equal runs keep their order.
        statistics: comparisons, selection and verdict; None if no run finished, and of the runs of several folders.
        costs: run id -> ``parameters`` (millions), ``macs`` (billions) and ``images_per_second`` of its backbone; NaN
            where they were not measured.
    """

    collection: Collection
    attributes: tuple[str, ...]
    values: Mapping[str, Mapping[str, Array]]
    nested: Mapping[str, Array] | None
    covered: Mapping[str, Array]
    ranking: tuple[str, ...]
    statistics: Statistics | None
    costs: Mapping[str, Mapping[str, float]]

    @property
    def selection(self) -> Verdict | None:
        """The verdict, which names the run with the best macro f1_validation, and the simplest of those that are not
        worse; None where no run has such a figure.
        """
        stats = self.statistics
        if stats is None or math.isnan(self.values[stats.winner]["f1_validation"][-1]):
            return None
        return stats.verdict

    @property
    def selected(self) -> str | None:
        """The run with the best macro f1_validation; None where there is nothing to choose from."""
        return self.selection.run if self.selection and len(self.collection.names) > 1 else None

    @property
    def unfair(self) -> Sequence[Unfair]:
        """What makes the comparison of the runs unfair."""
        if self.statistics:
            return self.statistics.fairness
        records = self.collection.comparable
        trainings = {record.status.id: record.training for record in records if record.training is not None}
        return fairness.unfair(trainings)


def summarize(collection: Collection) -> Summary:
    """Bring the finished runs of a collection together.

    Raises:
        UserError: their attributes differ.
    """
    stats = suite.read_statistics(collection.folder)
    collection = collection.without(_damaged(collection, stats))
    without_statistics = figures_of(collection)
    finished = {record.status.id: record for record in collection.finished}
    compared = {record.status.id: record for record in collection.comparable}
    values, covered = without_statistics.values, without_statistics.covered
    validation = {run_id: float(numbers["f1_validation"][-1]) for run_id, numbers in values.items()}
    key = {run_id: _key(record) for run_id, record in compared.items()}
    baseline = collection.baseline if collection.baseline in key else None
    planned = len(collection.names) - len(collection.skipped) - 1  # skipped runs are known before anything is trained
    if stats is None or (list(stats.key.items()), stats.reference, stats.planned) != (
        list(key.items()),
        baseline,
        planned,
    ):
        entries = {
            run_id: Entry(
                load=partial(getattr, record, "predictions"),
                thresholds=record.thresholds,
                scores=record.scores,
                validation=validation[run_id],
                complexity=_complexity(record),
                before=record.before,
                doubts=record.doubts,
                training=record.training,
            )
            for run_id, record in compared.items()
        }
        stats = statistics.statistics(entries, key, baseline, covered, planned) if entries else None

    return dataclasses.replace(
        without_statistics,
        values={run_id: {**numbers, **_comparison(run_id, values, stats)} for run_id, numbers in values.items()},
        nested=_nested(stats.chosen, finished) if stats and len(stats.key) > 1 else None,
        ranking=tuple(
            sorted(without_statistics.ranking, key=lambda run_id: bool(stats and run_id not in stats.candidates))
        ),
        statistics=stats,
    )


def figures_of(collection: Collection) -> Summary:
    """The figures of a collection without statistics; all its runs can be read.

    Raises:
        UserError: their attributes differ.
    """
    finished = {record.status.id: record for record in collection.finished}
    attributes = {tuple(record.scores.figures.attribute) for record in finished.values()} or {()}
    if len(attributes) > 1:
        raise UserError(f"{collection.folder}: found runs with different attributes, expected one set: {attributes}")
    figures = [record.scores.figures for record in collection.comparable]
    covered = {name: np.all([np.isfinite(of_run.value(name)) for of_run in figures], axis=0) for name in AVERAGED}
    values = {run_id: _values(record.scores, covered) for run_id, record in finished.items()}

    def order(run_id: str) -> tuple[bool, float]:
        validation = float(values[run_id]["f1_validation"][-1])
        return math.isnan(validation), -validation

    return Summary(
        collection=collection,
        attributes=attributes.pop(),
        values=values,
        nested=None,
        covered=covered,
        ranking=tuple(sorted(values, key=order)),
        statistics=None,
        costs={run_id: _cost(record.cost) for run_id, record in finished.items()},
    )


def _cost(cost: BackboneCost) -> dict[str, float]:
    """The columns of a run about its backbone."""
    speed = math.nan if cost.images_per_second is None else cost.images_per_second
    return {"parameters": cost.parameters / 1e6, "macs": cost.macs / 1e9, "images_per_second": speed}


def _damaged(collection: Collection, stats: Statistics | None) -> dict[str, str]:
    """Run id -> why its figures cannot be read. Predictions are as the stored statistics know them, or are read."""
    reasons = {}
    for record in collection.finished:
        run_id = record.status.id
        try:
            _ = record.thresholds, record.scores, record.before, record.doubts, record.training
            if stats is None or stats.key.get(run_id) != _key(record):
                _ = record.predictions
        except UserError as error:
            reasons[run_id] = error.problems[0]
    return reasons


def _complexity(record: RunRecord) -> tuple[int, ...]:
    """What `Status` says of a run that is done."""
    complexity = record.status.complexity
    assert complexity is not None
    return complexity if isinstance(complexity, tuple) else dataclasses.astuple(complexity)


def _key(record: RunRecord) -> str:
    """SHA-256 (hex) of everything that the statistics read of a run."""
    content = [
        record.digest,
        _complexity(record),
        *(record.data.get(name) for name in ("signal", "training", "doubts")),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _values(scores: Scores, covered: Mapping[str, Array]) -> dict[str, Array]:
    """The figures of one run and their intervals, column -> [A + 1]."""
    figures = scores.figures
    values = {name: np.append(figures.value(name), figures.value(name).sum()) for name in COUNTS}
    values |= {name: np.append(figures.value(name), macro(figures.value(name), covered[name])) for name in AVERAGED}
    values["threshold"] = np.append(figures.value("threshold"), math.nan)
    for name in ("f1_default", "f1_tuned"):
        interval = scores.intervals[name]
        low, high, *_ = interval.macro(figures.value(name), covered[name])
        values |= {f"{name}_low": np.append(interval.low, low), f"{name}_high": np.append(interval.high, high)}
    for name, target in scores.targets.items():
        values |= _aimed(name, target, scores.intervals[name].low, scores.intervals[name].high)
    return values | {"few": np.append(scores.intervals["f1_tuned"].few, False)}


def _aimed(name: str, target: Array, low: Array, high: Array) -> dict[str, Array]:
    """The columns of a figure at which the threshold policies of some attributes aim: the target [A], NaN for none."""
    columns = {f"{name}_target": target, f"{name}_low": low, f"{name}_high": high}
    return {key: np.append(column, math.nan) for key, column in columns.items()}


def _comparison(run_id: str, values: Mapping[str, Mapping[str, Array]], stats: Statistics | None) -> dict[str, Array]:
    """The columns of a run that compare it with the baseline; none where no baseline finished."""
    if stats is None or stats.reference is None or run_id not in stats.key:
        return {}
    columns = {"delta": values[run_id]["f1_tuned"] - values[stats.reference]["f1_tuned"]}
    if versus := stats.baseline.get(run_id):
        columns["delta_low"] = np.append(versus.attribute_low, versus.low)
        columns["delta_high"] = np.append(versus.attribute_high, versus.high)
        columns["p_value"] = np.append(versus.attribute_p, versus.p)
        of_attributes = np.full(len(versus.attribute_p), math.nan)
        for name in ("simultaneous_low", "simultaneous_high", "detectable"):
            columns[name] = np.append(of_attributes, getattr(versus, name) if versus.mark else math.nan)
    return columns


def _nested(chosen: Chosen, records: Mapping[str, RunRecord]) -> dict[str, Array]:
    """The figures of the nested model selection, column -> [A + 1]; targets are those that its runs share."""
    _, low, high = chosen.macro["f1_tuned"]
    values = {name: np.append(column, chosen.macro[name][0]) for name, column in chosen.value.items()}
    for name in TARGETS:
        none = np.full(len(chosen.low[name]), math.nan)
        targets = np.array([records[run_id].scores.targets.get(name, none) for run_id in chosen.runs])
        shared = np.where((targets == targets[0]).all(axis=0), targets[0], math.nan)
        values |= _aimed(name, shared, chosen.low[name], chosen.high[name])
    return values | {
        "f1_tuned_low": np.append(chosen.low["f1_tuned"], low),
        "f1_tuned_high": np.append(chosen.high["f1_tuned"], high),
        "few": np.append(chosen.few["f1_tuned"], False),
    }


def frame(summaries: Sequence[Summary]) -> pd.DataFrame:
    """The rows of ``summary.csv``: for every run, in the order of the suite, its attributes and then `MACRO`.

    The columns are `COLUMNS`: `TEXTS` and `MARK` of type string, NA where a run has none; `WHOLE` of type Int64, NA
    where undefined; the others of type float64, NaN where undefined. ``delta`` is 0 for the baseline itself and
    undefined where no baseline finished. ``p_value`` of the macro is adjusted by Holm over the runs; the p-value of an
    attribute is not adjusted. ``mark``, the simultaneous interval and ``detectable`` are those of a tested macro alone.
    A run without figures has its state ("failed", "damaged", "skipped" or "not run") and no numbers.
    """
    import pandas as pd  # takes half a second, and the table on a terminal does not need it

    blocks = [pd.DataFrame(_block(summary, run_id)) for summary in summaries for run_id in summary.collection.names]
    table = pd.concat([block.astype(object) for block in blocks], ignore_index=True).reindex(columns=list(COLUMNS))
    return table.astype(
        dict.fromkeys((*TEXTS, MARK), "string") | {name: "Int64" if name in WHOLE else "float64" for name in NUMERIC}
    )


def _block(summary: Summary, run_id: str) -> dict[str, Any]:
    """The columns of one run."""
    record = summary.collection.records.get(run_id)
    columns: dict[str, Any] = {"run": run_id, "state": "not run", "attribute": [*summary.attributes, MACRO]}
    if run_id in summary.collection.damaged:
        columns["state"] = "damaged"
    if run_id in summary.collection.skipped:
        columns["state"] = "skipped"
    if record:
        columns |= {"state": record.status.state, **record.status.columns}
    if record and record.done:
        columns |= summary.values[run_id]
        columns |= {"seeds": len(record.thresholds.seed), "seconds": record.status.seconds["train"]}
        columns |= summary.costs[run_id]
    if record and summary.statistics and (versus := summary.statistics.baseline.get(run_id)):
        columns[MARK] = [*[None] * len(summary.attributes), versus.mark or None]
    return columns


def to_json(table: pd.DataFrame) -> str:
    """The rows as JSON; undefined is null."""
    return files.dumps(table.astype(object).where(table.notna(), None).to_dict("records"))
