"""Everything that one run's predictions say about it: its figures, how sure they are, and what they leave open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import bounds, calibration, intervals, metrics, optimism, thresholds
from aimonk_bench.evaluation.calibration import Calibration
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.metrics import Figures
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.proportions import Intervals
from aimonk_bench.evaluation.thresholds import Thresholds

Array = npt.NDArray[Any]
Calibrator = Literal["none", "platt"]

REVISION = 5  # raised by hand when a method changes a number, or a file its layout: stored ones are then made again
SEED = 0  # of the labels drawn for the calibration of reference: the same for every run
_OF_ATTRIBUTE = ("low", "high", "fixed_low", "fixed_high", "few", "seed_sd", "fold_sd")


@dataclass(frozen=True, eq=False)
class Scores:
    """The content of ``metrics.json``.

    Attributes:
        figures: the figures of the contract.
        intervals: figure -> its 95 % intervals and spreads.
        validation: [S, F, A] cross-fitted F1 on the validation rows of each fold; it chooses between runs.
        remarks: what no table reads back: thresholds and their optimism, bounds over all fillings of the missing
            labels, calibration, and, where there is a truth, the figures against it. Plain data.
    """

    figures: Figures
    intervals: Mapping[str, Intervals]
    validation: Array
    remarks: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain data: the figures, with the interval of each beside its value."""
        content = self.figures.to_json()
        for name, interval in self.intervals.items():
            for a, row in enumerate(content["attribute"].values()):
                row[name] |= {field: getattr(interval, field)[a] for field in _OF_ATTRIBUTE}
            of_macro = interval.macro(self.figures.value(name), self.figures.defined(name))
            content["macro"][name] |= dict(zip(_OF_ATTRIBUTE[:4], of_macro, strict=True))
            content["macro"][name]["correlation"] = interval.correlation
        return {"revision": REVISION, **content, "validation": self.validation, **self.remarks}

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "metrics.json") -> Scores:
        """The scores in the content of ``metrics.json``.

        Args:
            content: the parsed JSON.
            source: the file's name for the error.

        Raises:
            UserError: the content is not of this layout.
        """
        figures = Figures.from_json(content, source)
        try:
            rows = content["attribute"].values()
            sure = {
                name: Intervals(
                    **{field: _column([row[name][field] for row in rows], field) for field in _OF_ATTRIBUTE},
                    correlation=np.array(macro["correlation"], dtype=np.float64),
                )
                for name, macro in content["macro"].items()
                if "correlation" in macro
            }
            validation = np.array(content["validation"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{source}: found content that cannot be used ({error!r})") from error
        read = ("revision", "attribute", "macro", "coverage", "validation")
        return cls(figures, sure, validation, {name: part for name, part in content.items() if name not in read})


def _column(values: list[Any], field: str) -> Array:
    return np.array(values, dtype=bool if field == "few" else np.float64)  # None becomes NaN


def score(
    predictions: Predictions,
    tuned: Thresholds,
    policy: registry.Spec,
    calibrator: Calibrator = "none",
) -> Scores:
    """Score a run.

    Args:
        tuned: its thresholds.
        policy: what tuned them; the validation figure is cross-fitted by it.
        calibrator: "platt" adds the calibration of Platt-scaled probabilities; it changes nothing else.

    Raises:
        UserError: the thresholds are those of another run.
    """
    cross_fitted = thresholds.cross_fitted(predictions, policy)
    remarks: dict[str, Any] = {
        "thresholds": vars(optimism.threshold_checks(predictions, tuned, cross_fitted)),
        "na_bounds": vars(bounds.bounds(Decisions.of(predictions, tuned))),
    }
    remarks |= {name: one.to_json() for name, one in _calibrations(predictions, calibrator).items()}
    if calibrator == "platt":
        remarks["calibration_platt"]["fitted"] = calibration.calibrate(predictions)[1]
    if truth := metrics.against_truth(predictions, tuned):
        remarks["truth"] = truth.to_json()
    return Scores(
        figures=metrics.figures(predictions, tuned, cross_fitted),
        intervals=intervals.intervals(predictions, tuned),
        validation=_by_fold(predictions, cross_fitted),
        remarks=remarks,
    )


def _by_fold(predictions: Predictions, cross_fitted: Array) -> Array:
    """F1 [S, F, A] of the validation rows of each fold at thresholds [S, R, A]."""
    val = predictions.part("val")
    folds = [val.fold == fold for fold in range(predictions.folds)]
    values = [metrics.f1(val.probabilities[:, rows], val.labels[rows], cross_fitted[:, rows]) for rows in folds]
    return np.stack(values, axis=1)


def reliability(predictions: Predictions, calibrator: Calibrator) -> list[dict[str, Any]]:
    """The rows of ``reliability.csv``: those of `Calibration.rows`, each with its ``probabilities``, raw or scaled."""
    return [
        {"probabilities": name} | row
        for name, one in _calibrations(predictions, calibrator, draws=0).items()
        for row in one.rows()
    ]


def _calibrations(
    predictions: Predictions, calibrator: Calibrator, *, draws: int = calibration.DRAWS
) -> dict[str, Calibration]:
    """``calibration`` of the raw probabilities and, if asked for, ``calibration_platt`` of the scaled ones."""
    probabilities = {"calibration": predictions.part("test").probabilities}
    if calibrator == "platt":
        probabilities["calibration_platt"], _ = calibration.calibrate(predictions)
    return {
        name: calibration.calibration(predictions, values, draws=draws, seed=SEED)
        for name, values in probabilities.items()
    }
