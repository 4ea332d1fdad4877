"""The figures of many runs together: what `table` shows and ``summary.csv`` holds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import statistics
from aimonk_bench.evaluation.metrics import AVERAGED, COUNTS, PER_SEED, Figures, macro
from aimonk_bench.evaluation.scores import Scores
from aimonk_bench.evaluation.statistics import Chosen, Entry, Statistics
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.records import derived, files, suite
from aimonk_bench.records.index import Collection
from aimonk_bench.records.run import RunRecord
from aimonk_bench.reporting.words import run_name

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]

COLUMNS = (
    *("run", "state", "backbone", "weights", "loss", "missing", "sampler", "attribute", "n_observed", "n_positive"),
    *("f1_default", "f1_default_low", "f1_default_high", "f1_tuned", "f1_tuned_low", "f1_tuned_high", "f1_validation"),
    *("threshold", "precision", "recall", "accuracy_default", "accuracy_tuned", "average_precision", "roc_auc"),
    *("floor_f1", "prior_f1", "delta", "delta_low", "delta_high", "p_value", "seeds", "seconds"),
)
WHOLE = (*COUNTS, "seeds")  # columns of whole numbers
MACRO = "macro"
GAIN = "gain"  # f1_tuned minus the F1 of the all-positive baseline


@dataclass(frozen=True, eq=False)
class Summary:
    """The figures of the finished runs of a collection.

    Attributes:
        attributes: [A] names, the same for all runs; empty if no run finished.
        values: run id -> figure -> [A]; the figures of the run, and `GAIN`.
        covered: figure -> [A] bool, the attributes for which every finished run defines the figure.
        macro: run id -> figure -> mean over the covered attributes, NaN without any; counts are summed over all.
        thresholds: run id -> its tuned thresholds.
        scores: run id -> its figures with their intervals.
        ranking: run ids from the best macro f1_validation to the worst. Undefined ones come last; runs that are no
            candidates of the selection stand behind all others; equal runs keep their order.
        statistics: comparisons, selection and verdict; None if no run finished.
    """

    collection: Collection
    attributes: tuple[str, ...]
    values: Mapping[str, Mapping[str, Array]]
    covered: Mapping[str, Array]
    macro: Mapping[str, Mapping[str, float]]
    thresholds: Mapping[str, Thresholds]
    scores: Mapping[str, Scores]
    ranking: tuple[str, ...]
    statistics: Statistics | None

    @property
    def selected(self) -> str | None:
        """The run that has the best validation F1; None where there are not two runs with one."""
        best = self.statistics.winner if self.statistics and len(self.collection.names) > 1 else None
        return None if best is None or math.isnan(self.macro[best]["f1_validation"]) else best

    @property
    def nested(self) -> Chosen | None:
        """The nested model selection; None where there are not two finished runs to select from."""
        return self.statistics.chosen if self.statistics and len(self.ranking) > 1 else None

    def value(self, run_id: str, figure: str, a: int | None) -> float:
        """A figure of attribute ``a``, or its macro average where ``a`` is None."""
        return self.macro[run_id][figure] if a is None else float(self.values[run_id][figure][a])

    def interval(self, run_id: str, figure: str) -> tuple[float, float]:
        """Lower and upper bound of the 95 % confidence interval of a macro figure."""
        low, high, *_ = self.scores[run_id].intervals[figure].macro(self.values[run_id][figure], self.covered[figure])
        return low, high

    def seeds(self, run_id: str) -> int:
        """Number of seeds of a run."""
        return len(self.scores[run_id].figures.per_seed["f1_tuned"])


def summarize(collection: Collection) -> Summary:
    """Bring the finished runs of a collection together.

    Raises:
        UserError: their attributes differ, or one of their files is broken.
    """
    thresholds = {record.status.id: derived.read_or_tune(record) for record in collection.finished}
    scores = {
        record.status.id: derived.read_or_score(record, thresholds[record.status.id]) for record in collection.finished
    }
    attributes = _attributes(collection, scores)
    values = {run_id: _values(run_scores.figures) for run_id, run_scores in scores.items()}
    covered = {
        name: np.all([np.isfinite(figures[name]) for figures in values.values()], axis=0)
        for name in (*AVERAGED, GAIN)
        if values
    }
    macros = {
        run_id: {name: float(macro(figures[name], mask)) for name, mask in covered.items()}
        | {name: int(figures[name].sum()) for name in COUNTS}
        for run_id, figures in values.items()
    }
    stats = _statistics(collection, thresholds, scores, macros, covered["f1_tuned"]) if values else None

    def order(run_id: str) -> tuple[bool, bool, float]:
        validation = macros[run_id]["f1_validation"]
        return stats is not None and run_id not in stats.candidates, math.isnan(validation), -validation

    return Summary(
        collection=collection,
        attributes=attributes,
        values=values,
        covered=covered,
        macro=macros,
        thresholds=thresholds,
        scores=scores,
        ranking=tuple(sorted(macros, key=order)),
        statistics=stats,
    )


def _attributes(collection: Collection, scores: Mapping[str, Scores]) -> tuple[str, ...]:
    names = {tuple(run_scores.figures.attribute) for run_scores in scores.values()}
    if len(names) > 1:
        raise UserError(f"{collection.folder}: found runs with different attributes, expected the same in all: {names}")
    return names.pop() if names else ()


def _values(figures: Figures) -> dict[str, Array]:
    values = {name: figures.value(name) for name in (*PER_SEED, *figures.constant)}
    return values | {GAIN: values["f1_tuned"] - values["floor_f1"]}


def _statistics(
    collection: Collection,
    thresholds: Mapping[str, Thresholds],
    scores: Mapping[str, Scores],
    macros: Mapping[str, Mapping[str, float]],
    covered: Array,
) -> Statistics:
    """The content of ``statistics.json`` if it was computed from exactly these runs; else computed now."""
    names = {record.status.id: run_name(collection.names[record.status.id]) for record in collection.finished}
    key = {record.status.id: _key(record, names[record.status.id]) for record in collection.finished}
    baseline = collection.baseline if collection.baseline in key else None
    stored = suite.read_statistics(collection.folder)
    if stored and (list(stored.key.items()), stored.reference) == (list(key.items()), baseline):
        return stored
    entries = {
        record.status.id: Entry(
            name=names[record.status.id],
            predictions=record.predictions,
            thresholds=thresholds[record.status.id],
            scores=scores[record.status.id],
            validation=macros[record.status.id]["f1_validation"],
            complexity=record.status.complexity,
            before=record.before,
        )
        for record in collection.finished
    }
    return statistics.statistics(entries, key, baseline, covered)


def _key(record: RunRecord, name: str) -> str:
    """SHA-256 (hex) of everything that the statistics read of a run."""
    content = [name, record.digest, record.status.complexity, record.data.get("signal")]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def frame(summaries: Sequence[Summary]) -> pd.DataFrame:
    """The rows of ``summary.csv``: for every run, in the order of the suite, its attributes and then `MACRO`.

    The columns are `COLUMNS`; undefined numbers are NaN or NA. ``delta`` is 0 for the baseline itself and undefined
    where no baseline finished. ``p_value`` of the macro is adjusted by Holm over the runs; the p-value of an attribute
    is not adjusted. A run without figures has its state ("failed" or "not run") and no numbers.
    """
    import pandas as pd  # takes half a second, and the table on a terminal does not need it

    blocks = [
        pd.DataFrame(_rows(summary, run_id), dtype=object)
        for summary in summaries
        for run_id in summary.collection.names
    ]
    table = pd.concat(blocks, ignore_index=True).reindex(columns=list(COLUMNS))
    numeric = COLUMNS[COLUMNS.index("attribute") + 1 :]
    return table.astype({name: "Int64" if name in WHOLE else "float64" for name in numeric})


def _rows(summary: Summary, run_id: str) -> dict[str, Any]:
    """Columns of a run: one value, or one for each attribute and the macro average."""
    record = summary.collection.records.get(run_id)
    columns: dict[str, Any] = {
        "run": run_id,
        "state": record.status.state if record else "not run",
        "attribute": [*summary.attributes, MACRO],
    }
    if record is None:
        return columns
    columns |= record.status.columns
    return columns | _numbers(summary, record) if record.done else columns


def _numbers(summary: Summary, record: RunRecord) -> dict[str, Any]:
    run_id, baseline = record.status.id, summary.collection.baseline
    values, macros = summary.values[run_id], summary.macro[run_id]
    columns: dict[str, Any] = {name: [*values[name], macros[name]] for name in (*COUNTS, *AVERAGED)}
    columns["threshold"] = [*values["threshold"], math.nan]
    for name in ("f1_default", "f1_tuned"):
        interval, (low, high) = summary.scores[run_id].intervals[name], summary.interval(run_id, name)
        columns |= {f"{name}_low": [*interval.low, low], f"{name}_high": [*interval.high, high]}
    if baseline is not None and baseline in summary.values:
        reference = [*summary.values[baseline]["f1_tuned"], summary.macro[baseline]["f1_tuned"]]
        columns["delta"] = np.subtract(columns["f1_tuned"], reference)
    if summary.statistics and (versus := summary.statistics.baseline.get(run_id)):
        columns["delta_low"] = [*versus.attribute_low, versus.low]
        columns["delta_high"] = [*versus.attribute_high, versus.high]
        columns["p_value"] = [*versus.attribute_p, versus.p]
    return columns | {"seeds": summary.seeds(run_id), "seconds": record.status.seconds["train"]}


def to_csv(table: pd.DataFrame) -> str:
    """The text of ``summary.csv``; floats in their shortest form that reads back exactly."""
    return table.to_csv(index=False, lineterminator="\n")


def to_json(table: pd.DataFrame) -> str:
    """The rows as JSON; undefined is null."""
    return files.dumps(table.astype(object).where(table.notna(), None).to_dict("records"))
