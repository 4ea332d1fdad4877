"""The figures of many runs side by side: what `table` shows and ``summary.csv`` holds."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import statistics
from aimonk_bench.evaluation.metrics import AVERAGED, COUNTS, PER_SEED, Figures, macro
from aimonk_bench.evaluation.scores import Scores
from aimonk_bench.evaluation.statistics import Entry, Statistics, Versus
from aimonk_bench.records import files, suite
from aimonk_bench.records.index import Collection
from aimonk_bench.records.run import RunRecord

Array = npt.NDArray[Any]

COLUMNS = (
    *("run", "state", "backbone", "weights", "loss", "missing", "sampler", "attribute", "n_observed", "n_positive"),
    *("f1_default", "f1_default_low", "f1_default_high", "f1_tuned", "f1_tuned_low", "f1_tuned_high", "f1_validation"),
    *("threshold", "precision", "recall", "accuracy_default", "accuracy_tuned", "average_precision", "roc_auc"),
    *("floor_f1", "prior_f1", "delta", "delta_low", "delta_high", "p_value", "seeds", "seconds"),
)
MACRO = "macro"
OVER_FLOOR = "over_floor"


@dataclass(frozen=True, eq=False)
class Summary:
    """The figures of the finished runs of a collection.

    Attributes:
        attributes: [A] names, the same for all runs; empty if none finished.
        values: run id -> figure -> [A]; beside the figures of a run `OVER_FLOOR`, f1_tuned - floor_f1.
        covered: figure -> [A] bool, the attributes that every finished run defines.
        macro: run id -> figure -> mean over the covered attributes, NaN if there is none; counts are summed over all.
        scores: run id -> the same figures with their intervals.
        seeds: run id -> number of seeds.
        ranking: ids from the best macro f1_validation to the worst, undefined ones last; equal ones keep their order;
            behind them those that were not chosen from.
        statistics: what the finished runs say together; None if none finished.
    """

    collection: Collection
    attributes: tuple[str, ...]
    values: Mapping[str, Mapping[str, Array]]
    covered: Mapping[str, Array]
    macro: Mapping[str, Mapping[str, float]]
    scores: Mapping[str, Scores]
    seeds: Mapping[str, int]
    ranking: tuple[str, ...]
    statistics: Statistics | None

    @property
    def winner(self) -> str | None:
        """The run that validation chooses; None where there is nothing to choose from."""
        best = self.statistics.winner if self.statistics and len(self.collection.names) > 1 else None
        return None if best is None or math.isnan(self.macro[best]["f1_validation"]) else best

    def limits(self, run_id: str, figure: str) -> tuple[float, float]:
        """Low and high of the 95 % interval of a macro figure, over the covered attributes."""
        interval = self.scores[run_id].intervals[figure]
        low, high, *_ = interval.macro(self.values[run_id][figure], self.covered[figure])
        return low, high


def summarize(collection: Collection) -> Summary:
    """Bring the finished runs of a collection together.

    Raises:
        UserError: their attributes differ, or a file of theirs is broken.
    """
    scores = {record.status.id: record.scores for record in collection.finished}
    finished = {run_id: own.figures for run_id, own in scores.items()}
    attributes = _attributes(collection, finished)
    values = {run_id: _values(figures) for run_id, figures in finished.items()}
    covered = {
        name: np.all([np.isfinite(own[name]) for own in values.values()], axis=0)
        for name in (*AVERAGED, OVER_FLOOR)
        if values
    }
    averages = {
        run_id: {name: float(macro(own[name], mask)) for name, mask in covered.items()}
        | {name: int(own[name].sum()) for name in COUNTS}
        for run_id, own in values.items()
    }

    found = _statistics(collection, averages, covered["f1_tuned"]) if values else None

    def order(run_id: str) -> tuple[bool, bool, float]:
        value = averages[run_id]["f1_validation"]
        return found is not None and run_id not in found.candidates, math.isnan(value), -value

    return Summary(
        collection=collection,
        attributes=attributes,
        values=values,
        covered=covered,
        macro=averages,
        scores=scores,
        seeds={run_id: len(figures.per_seed["f1_tuned"]) for run_id, figures in finished.items()},
        ranking=tuple(sorted(averages, key=order)),
        statistics=found,
    )


def _statistics(collection: Collection, averages: Mapping[str, Mapping[str, float]], covered: Array) -> Statistics:
    """Those of ``statistics.json`` if they were made of these very runs, else made now."""
    key = {record.status.id: _key(record, collection.names[record.status.id]) for record in collection.finished}
    baseline = collection.baseline if collection.baseline in key else None
    stored = suite.read_statistics(collection.folder)
    if stored and (list(stored.key.items()), stored.reference) == (list(key.items()), baseline):
        return stored
    entries = {
        record.status.id: Entry(
            collection.names[record.status.id],
            record.predictions,
            record.thresholds,
            record.scores,
            averages[record.status.id]["f1_validation"],
            record.status.complexity,
            record.before,
        )
        for record in collection.finished
    }
    return statistics.statistics(entries, key, baseline, covered)


def _attributes(collection: Collection, finished: Mapping[str, Figures]) -> tuple[str, ...]:
    found = {tuple(figures.attribute) for figures in finished.values()}
    if len(found) > 1:
        raise UserError(f"{collection.folder}: found runs with different attributes, expected the same in all: {found}")
    return found.pop() if found else ()


def _values(figures: Figures) -> dict[str, Array]:
    own = {name: figures.value(name) for name in (*PER_SEED, *figures.constant)}
    return own | {OVER_FLOOR: own["f1_tuned"] - own["floor_f1"]}


def rows(collection: Collection) -> list[dict[str, Any]]:
    """The rows of ``summary.csv``: for every run, in the order of the suite, its attributes and then `MACRO`.

    Every row has exactly the keys `COLUMNS`; None or NaN is empty. ``delta`` is 0 for the baseline itself and empty
    where no baseline finished. ``p_value`` of a macro is adjusted by Holm over the runs; that of an attribute is not
    adjusted. A run without figures has its state ("failed" or "not run") and empty numbers.
    """
    summary = summarize(collection)
    return [row for run_id in collection.names for row in _rows(summary, run_id)]


def _rows(summary: Summary, run_id: str) -> Iterator[dict[str, Any]]:
    record = summary.collection.records.get(run_id)
    state = record.status.state if record else "not run"
    for a, attribute in enumerate((*summary.attributes, MACRO)):
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"run": run_id, "state": state, "attribute": attribute}
        if record:
            row |= record.status.columns
        if record and record.done:
            row |= _numbers(summary, record, None if attribute == MACRO else a)
        yield row


def _numbers(summary: Summary, record: RunRecord, attribute: int | None) -> dict[str, Any]:
    def of(run_id: str, name: str) -> Any:
        if attribute is None:
            return summary.macro[run_id][name]
        return summary.values[run_id][name][attribute].item()

    run_id, baseline = record.status.id, summary.collection.baseline
    names = [*AVERAGED, *COUNTS] if attribute is None else [*AVERAGED, *COUNTS, "threshold"]
    numbers = {name: of(run_id, name) for name in names}
    for name in ("f1_default", "f1_tuned"):
        interval = summary.scores[run_id].intervals[name]
        numbers[f"{name}_low"], numbers[f"{name}_high"] = (
            summary.limits(run_id, name) if attribute is None else (interval.low[attribute], interval.high[attribute])
        )
    if baseline is not None and baseline in summary.values:
        numbers["delta"] = numbers["f1_tuned"] - of(baseline, "f1_tuned")
    if summary.statistics and run_id in summary.statistics.baseline:
        numbers |= _delta(summary.statistics.baseline[run_id], attribute)
    return numbers | {"seeds": summary.seeds[run_id], "seconds": record.status.seconds["train"]}


def _delta(versus: Versus, attribute: int | None) -> dict[str, Any]:
    if attribute is None:
        found = versus.low, versus.high, versus.p
    else:
        found = versus.attribute_low[attribute], versus.attribute_high[attribute], versus.attribute_p[attribute]
    return dict(zip(("delta_low", "delta_high", "p_value"), found, strict=True))


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of ``summary.csv``; floats in their shortest form that reads back exactly."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(files.plain(rows))
    return text.getvalue()


def to_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """The same rows as JSON; undefined is null."""
    return files.dumps(list(rows))


def _key(record: RunRecord, name: str) -> str:
    """SHA-256 (hex) of all that the statistics read of a run."""
    content = [name, record.digest, record.status.complexity, record.data.get("signal")]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
