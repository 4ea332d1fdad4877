"""Which figures of a summary are looked at, and in which order the runs stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aimonk_bench.arguments import choice
from aimonk_bench.reporting.summary import COLUMNS, TEXTS, Summary

if TYPE_CHECKING:
    import pandas as pd

METRICS = {  # column of ``summary.csv`` -> what the table calls it
    "f1_tuned": "F1",
    "f1_default": "F1 at 0.5",
    "f1_validation": "val F1",
    "precision": "precision",
    "recall": "recall",
    "accuracy_default": "accuracy at 0.5",
    "accuracy_tuned": "accuracy",
    "average_precision": "AP",
    "roc_auc": "ROC AUC",
}
TUNED, VALIDATION = "f1_tuned", "f1_validation"  # what the table is about, and what sorts it


@dataclass(frozen=True)
class View:
    """What of a summary is shown.

    Attributes:
        attributes: their names; none: all, or those that fit in which the runs differ most.
        metric: of `METRICS`, that of the macro average and the attributes; with another one than tuned F1 the table has
            no comparison and no baselines, which are about tuned F1.
        sort: of `METRICS`, whose macro average sorts the runs, best first.
        top: the number of finished runs shown; the baseline and the failed runs are always shown.
        explain: the whole legend and every warning instead of their first lines.
    """

    attributes: Sequence[str] = ()
    metric: str = TUNED
    sort: str = VALIDATION
    top: int = 20
    explain: bool = False

    def check(self, summary: Summary) -> None:
        """Check that there is what is asked for.

        Raises:
            UserError: there is no such attribute, metric or order; the nearest one is named.
        """
        choice("--metric", self.metric, list(METRICS))
        choice("--sort", self.sort, list(METRICS))
        for name in self.attributes if summary.attributes else ():
            choice(f"{summary.collection.folder}: --attribute", name, summary.attributes)

    def places(self, summary: Summary) -> list[int]:
        """The places of the attributes that are asked for; none: all."""
        return [summary.attributes.index(name) for name in dict.fromkeys(self.attributes) if summary.attributes]

    def ordered(self, summary: Summary) -> Summary:
        """The summary with its runs in the order that is asked for; undefined ones last."""
        if self.sort == VALIDATION:
            return summary
        figures = {run_id: float(values[self.sort][-1]) for run_id, values in summary.values.items()}

        def order(run_id: str) -> tuple[bool, float]:
            return math.isnan(figures[run_id]), -figures[run_id]

        return replace(summary, ranking=tuple(sorted(summary.ranking, key=order)))

    def rows(self, table: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
        """The rows of ``summary.csv`` that are asked for.

        Args:
            table: all rows.
            order: ids of the runs as they are sorted; runs without figures stand behind them.
        """
        if self.attributes:
            table = table[table["attribute"].isin(self.attributes)]
        if self.metric != TUNED:
            columns = [*TEXTS, "n_observed", "n_positive", *(c for c in COLUMNS if c.startswith(self.metric))]
            table = table[list(dict.fromkeys(columns))]
        if self.sort != VALIDATION:
            places = {run_id: place for place, run_id in enumerate(order)}
            rank = table["run"].map(lambda run_id: places.get(run_id, len(places)))
            table = table.iloc[rank.argsort(kind="stable")]
        return table
