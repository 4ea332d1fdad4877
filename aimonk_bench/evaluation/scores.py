"""Everything measured on the predictions of one run: figures, intervals, calibration, bounds over missing labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import bounds, calibration, intervals, metrics, thresholds
from aimonk_bench.evaluation.calibration import Calibration
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.metrics import Figures
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.proportions import Intervals
from aimonk_bench.evaluation.thresholds import ThresholdCandidates, Thresholds

if TYPE_CHECKING:
    import pandas as pd

Calibrator = Literal["none", "platt"]

REVISION = 13  # raised by hand when a method changes a number, or a file its layout: stored ones are then made again
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
        targets: figure -> the value [A] at which the threshold policy of each attribute aims, NaN for none.
    """

    figures: Figures
    intervals: Mapping[str, Intervals]
    validation: Array
    remarks: Mapping[str, Any]
    targets: Mapping[str, Array] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data. The macro average is over the attributes that define a figure; coverage is their number."""
        scored, defined = self.figures, {name: self.figures.defined(name) for name in metrics.AVERAGED}
        columns: dict[str, dict[str, Array]] = {}  # figure -> field -> [..., A]
        for name in metrics.PER_SEED + metrics.CONSTANT:
            columns[name] = {"value": scored.value(name)}
            if name in scored.per_seed:
                columns[name]["seeds"] = scored.per_seed[name]
            if name in self.intervals:
                columns[name] |= {field: getattr(self.intervals[name], field) for field in _OF_ATTRIBUTE}
        for name, target in self.targets.items():
            columns[name]["target"] = target
        averages: dict[str, dict[str, Any]] = {}
        for name, mask in defined.items():
            means = [field for field in ("value", "seeds") if field in columns[name]]
            averages[name] = {field: metrics.macro(columns[name][field], mask) for field in means}
            if interval := self.intervals.get(name):
                averages[name] |= zip(_OF_ATTRIBUTE[:4], interval.macro(scored.value(name), mask), strict=True)
                averages[name]["correlation"] = interval.correlation
        return {
            "revision": REVISION,
            "attribute": _by_attribute(scored.attribute, columns),
            "macro": averages,
            "coverage": {name: mask.sum() for name, mask in defined.items()},
            "validation": self.validation,
            **self.remarks,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "metrics.json") -> Scores:
        """The scores in the content of ``metrics.json``; means are formed again from the figures of the seeds.

        Args:
            content: the parsed JSON.
            source: the file's name for the error.

        Raises:
            UserError: the content is not of this layout.
        """

        def column(name: str, field: str, kind: type = np.float64) -> Array:
            return np.array([row[name][field] for row in content["attribute"].values()], kind)  # None becomes NaN

        try:
            figures = Figures(
                attribute=list(content["attribute"]),
                per_seed={name: column(name, "seeds").T for name in metrics.PER_SEED},
                constant={name: column(name, "value") for name in metrics.BASELINES}
                | {name: column(name, "value", np.int64) for name in metrics.COUNTS},
            )
            of_figures = {
                name: Intervals(
                    **{field: column(name, field, bool if field == "few" else np.float64) for field in _OF_ATTRIBUTE},
                    correlation=np.array(average["correlation"], np.float64),
                )
                for name, average in content["macro"].items()
                if "correlation" in average
            }
            validation = np.array(content["validation"], np.float64)
            aimed = {
                name for row in content["attribute"].values() for name in thresholds.TARGETS if "target" in row[name]
            }
            goals = {name: column(name, "target") for name in thresholds.TARGETS if name in aimed}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{source}: found content that cannot be used ({error!r})") from error
        read = ("revision", "attribute", "macro", "coverage", "validation")
        remarks = {name: part for name, part in content.items() if name not in read}
        return cls(figures, of_figures, validation, remarks, goals)


def _by_attribute(attributes: Sequence[str], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns [..., A], in maps of any depth, as such a map for each attribute."""

    def at(a: int, node: Any) -> Any:
        return {name: at(a, child) for name, child in node.items()} if isinstance(node, Mapping) else node[..., a]

    return {attribute: at(a, columns) for a, attribute in enumerate(attributes)}


def score(
    predictions: Predictions, tuned: Thresholds, policy: registry.Spec, calibrator: Calibrator = "none"
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
    figures = metrics.figures(predictions, tuned, cross_fitted)
    remarks: dict[str, Any] = {
        "thresholds": threshold_checks(predictions, tuned, figures),
        "na_bounds": vars(bounds.bounds(Decisions.of(predictions, tuned))),
    }
    remarks |= {name: one.to_json() for name, one in _calibrations(predictions, calibrator).items()}
    if calibrator == "platt":
        remarks["calibration_platt"]["fitted"] = calibration.calibrate(predictions)[1]
    if truth := metrics.against_truth(predictions, tuned):
        remarks["truth"] = _truth_json(truth)
    return Scores(
        figures=figures,
        intervals=intervals.intervals(predictions, tuned),
        validation=_by_fold(predictions, cross_fitted),
        remarks=remarks,
        targets=targets(policy, predictions.labels.attributes),
    )


def targets(policy: registry.Spec, attributes: Sequence[str]) -> dict[str, Array]:
    """Figure of `thresholds.TARGETS` -> the value [A] that the policy of each attribute aims at, NaN for none.

    Figures at which no policy aims are left out.
    """
    rules = [policy.attributes.get(name, replace(policy, attributes={})) for name in attributes]
    options = [registry.build("threshold", thresholds.THRESHOLDS, rule).keywords for rule in rules]
    values = {
        figure: np.array([rule.get(figure, np.nan) for rule in options], np.float64) for figure in thresholds.TARGETS
    }
    return {figure: value for figure, value in values.items() if np.isfinite(value).any()}


def threshold_checks(predictions: Predictions, tuned: Thresholds, scored: Figures) -> dict[str, Array]:
    """F1 of one run on rows that its thresholds have read and on others, pooled over folds, means over the seeds.

    Args:
        scored: the figures of the run at these thresholds.

    Returns:
        optimism: [A] F1 on the validation rows at the tuned thresholds, minus the cross-fitted F1 on these rows.
        validation_minus_test: [A] F1 on the validation rows at the tuned thresholds, minus that on the test rows.
        unachievable_oracle_f1: [A] the highest F1 on the test rows that any thresholds have, one for each seed and
            fold; they are chosen on these very rows.
        validation_positives: [F, A] observed positives among the validation rows behind each threshold.
    """
    val = predictions.part("val")
    of_tuned_rows = metrics.f1(val.probabilities, val.labels, tuned.values[:, val.fold]).mean(axis=0)
    folds = [predictions.part("val", fold) for fold in range(predictions.folds)]
    return {
        "optimism": of_tuned_rows - scored.value("f1_validation"),
        "validation_minus_test": of_tuned_rows - scored.value("f1_tuned"),
        "unachievable_oracle_f1": oracle_f1(predictions).mean(axis=0),
        "validation_positives": np.stack([rows.labels.counts()[0] for rows in folds]),
    }


def oracle_f1(predictions: Predictions) -> Array:
    """The highest pooled F1 on the test rows over all thresholds of each seed and fold: [S, A]; NaN without a positive.

    F1 = 2 TP / (accepted + positives) is a ratio of sums over folds. For a ratio q, each fold by itself makes 2 TP - q
    accepted largest; the ratio reached by these thresholds is the next q. It rises to the maximum (Dinkelbach 1967), in
    few rounds, because there are finitely many candidates.
    """
    parts = [predictions.part("test", fold) for fold in range(predictions.folds)]
    folds = [ThresholdCandidates.of(rows.probabilities, rows.labels) for rows in parts]
    positives = predictions.part("test").labels.positive.sum(axis=0)
    best, reached = np.full(folds[0].positives.shape, -1.0), np.zeros(folds[0].positives.shape)  # [S, 1, A]
    while (reached > best).any():
        best = np.maximum(best, reached)
        true_positive, accepted = np.zeros_like(best), np.zeros_like(best)
        for fold in folds:
            value = np.where(fold.possible, 2 * fold.true_positive - best * fold.accepted, -np.inf)
            place = value.argmax(axis=1, keepdims=True)
            true_positive += np.take_along_axis(fold.true_positive, place, axis=1)
            accepted += np.take_along_axis(fold.accepted, place, axis=1)
        reached = 2 * true_positive / np.maximum(accepted + positives, 1)
    return np.where(positives > 0, best[:, 0], np.nan)


def _truth_json(truth: Figures) -> dict[str, Any]:
    """The figures against the truth, ``n_known`` test rows; macro and coverage as in `Scores.to_json`."""
    values = {name: truth.value(name) for name in ("f1_default", "f1_tuned", "average_precision", "roc_auc")}
    counts = {"n_known": truth.constant["n_observed"], "n_positive": truth.constant["n_positive"]}
    return {
        "attribute": _by_attribute(truth.attribute, values | counts),
        "macro": {name: metrics.macro(value, truth.defined(name)) for name, value in values.items()},
        "coverage": {name: truth.defined(name).sum() for name in values},
    }


def _by_fold(predictions: Predictions, cross_fitted: Array) -> Array:
    """F1 [S, F, A] of the validation rows of each fold at thresholds [S, R, A]."""
    val = predictions.part("val")
    folds = [val.fold == fold for fold in range(predictions.folds)]
    values = [metrics.f1(val.probabilities[:, rows], val.labels[rows], cross_fitted[:, rows]) for rows in folds]
    return np.stack(values, axis=1)


def reliability(predictions: Predictions, calibrator: Calibrator) -> pd.DataFrame:
    """The rows of ``reliability.csv``: those of `Calibration.rows`, each with its ``probabilities``, raw or scaled.

    The first two columns, ``probabilities`` and ``attribute``, are of type string, the others of type float64.
    """
    import pandas as pd

    rows = [
        {"probabilities": name} | row
        for name, one in _calibrations(predictions, calibrator, draws=0).items()
        for row in one.rows()
    ]
    return pd.DataFrame(rows).astype({"probabilities": "string", "attribute": "string"})


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
