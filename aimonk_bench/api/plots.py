"""The plots of a run or a suite as figures of matplotlib, and as files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from aimonk_bench.arguments import choice, path, whole
from aimonk_bench.errors import UserError
from aimonk_bench.records.files import write_bytes
from aimonk_bench.records.run import RunRecord
from aimonk_bench.reporting import plots
from aimonk_bench.reporting.plots import TOP, Format
from aimonk_bench.reporting.summary import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plots:
    """Figures of finished work; each call draws a new `matplotlib.figure.Figure`.

    Plots of one run take it, its id or its name; without one a suite takes `Suite.simplest`, the run that its verdict
    advises. All raise UserError where there is no such run or it has no figures.

    Args:
        figures: of all runs.
        record: the files of the run that is meant, which is done.
    """

    figures: Summary
    record: Callable[[Any], RunRecord]

    def leaderboard(self, top: int = TOP) -> Figure:
        """Macro tuned F1 with 95 % intervals of the ``top`` best runs by validation F1, and all positive."""
        return plots.leaderboard(self.figures, whole("top", top, least=1))

    def heat_map(self, column: str = "f1_tuned", top: int = TOP) -> Figure:
        """A figure of each run and attribute: f1_default, f1_tuned, precision, recall, average_precision or roc_auc."""
        choice("column", column, plots.SHARES)
        return plots.heat_map(self.figures, column, whole("top", top, least=1))

    def precision_recall(self, run: Any = None) -> Figure:
        """Precision over recall of each attribute and seed, and the points at the tuned thresholds."""
        return plots.precision_recall(_scored(self.record(run)))

    def threshold_sweep(self, run: Any = None) -> Figure:
        """F1 of each attribute and seed over the threshold, and the tuned thresholds."""
        return plots.threshold_sweep(_scored(self.record(run)))

    def reliability(self, run: Any = None) -> Figure:
        """Share of positives over the predicted probability, with 95 % intervals."""
        record = self.record(run)
        return plots.reliability(_scored(record), record.reliability())

    def missingness(self, run: Any = None) -> Figure:
        """Percentage of test rows in which the labels of an attribute, or of both of a pair, are missing."""
        return plots.missingness(_scored(self.record(run)))

    def save(self, folder: str | os.PathLike[str], form: Format = "png", run: Any = None) -> list[Path]:
        """Write every plot into a folder, as ``NAME.FORM``; equal results give equal bytes.

        Raises:
            UserError: there is no such run or format, or a file cannot be written.
        """
        choice("format", form, get_args(Format))
        place = path("folder", folder, "a folder for the plots")
        _ = self.record(run)  # a run that cannot be drawn is refused before anything is written
        draw: dict[str, Callable[[], Figure]] = {"leaderboard": self.leaderboard, "heat_map": self.heat_map}
        of_run = (self.precision_recall, self.threshold_sweep, self.reliability, self.missingness)
        files = []
        try:
            place.mkdir(parents=True, exist_ok=True)
            for name, figure in draw.items():
                files.append(_written(place / f"{name}.{form}", figure(), form))
            for method in of_run:
                files.append(_written(place / f"{method.__name__}.{form}", method(run), form))
        except OSError as error:
            raise UserError(f"{place}: the plots cannot be written: {error.strerror}") from error
        return files


def _scored(record: RunRecord) -> plots.Run:
    return record.predictions, record.thresholds


def _written(path: Path, figure: Figure, form: Format) -> Path:
    write_bytes(path, plots.save(figure, form))
    return path
