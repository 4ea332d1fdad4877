"""The figures of a run, NaN where they are undefined.

Shapes of `Confusion` and `ranking`: scores [..., R, A]; labels [R, A] or with the leading axes of the scores;
thresholds broadcast to the scores: 0.5, [A], [S, R, A]. A label that is not observed counts for nothing, so padding is
rows without observed labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import Thresholds

Array = npt.NDArray[Any]


def ratio(numerator: Array, denominator: Array, defined: Array) -> Array:
    """The quotient where it is defined, NaN elsewhere; the three broadcast."""
    quotient = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator), np.shape(defined)), np.nan)
    np.divide(numerator, denominator, out=quotient, where=defined)
    return quotient


@dataclass(frozen=True, eq=False)
class Confusion:
    """Confusion counts, [..., A] each; a row is predicted positive where its score is above the threshold."""

    tp: Array
    fp: Array
    fn: Array
    tn: Array

    @classmethod
    def of(cls, scores: Array, labels: Labels, thresholds: npt.ArrayLike) -> Confusion:
        """The counts over the observed rows."""
        positive, negative, accepted = labels.positive, labels.negative, scores > np.asarray(thresholds)
        tp, fp = (accepted & positive).sum(-2), (accepted & negative).sum(-2)
        return cls(tp, fp, positive.sum(-2) - tp, negative.sum(-2) - fp)

    @property
    def precision(self) -> Array:
        """TP / (TP + FP); undefined without a positive, or where nothing is predicted positive."""
        return ratio(self.tp, self.tp + self.fp, (self.tp + self.fn > 0) & (self.tp + self.fp > 0))

    @property
    def recall(self) -> Array:
        """TP / (TP + FN); undefined without a positive."""
        return ratio(self.tp, self.tp + self.fn, self.tp + self.fn > 0)

    @property
    def f1(self) -> Array:
        """2 TP / (2 TP + FP + FN); undefined without a positive."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn, self.tp + self.fn > 0)

    @property
    def accuracy(self) -> Array:
        """(TP + TN) / n; undefined without an observed row."""
        rows = self.tp + self.fp + self.fn + self.tn
        return ratio(self.tp + self.tn, rows, rows > 0)


def f1(scores: Array, labels: Labels, thresholds: npt.ArrayLike) -> Array:
    """`Confusion.f1` of the decisions, [..., A]."""
    return Confusion.of(scores, labels, thresholds).f1


def _descent(scores: Array, labels: Labels) -> tuple[Array, Array]:
    """Observed positives and negatives, both [..., A, R], from the highest score down to each row.

    Rows of equal scores are one step: all but the last of them repeat the counts from before the step.
    """
    scores, positive, negative = (
        np.moveaxis(x, -2, -1) for x in np.broadcast_arrays(scores, labels.positive, labels.negative)
    )
    order = np.argsort(-scores, axis=-1)
    ordered = np.take_along_axis(scores, order, axis=-1)
    last = np.ones(ordered.shape, dtype=bool)
    last[..., :-1] = ordered[..., :-1] != ordered[..., 1:]

    def count(flags: Array) -> Array:
        counts = np.take_along_axis(flags, order, axis=-1).cumsum(axis=-1, dtype=np.int64)
        return np.asarray(np.maximum.accumulate(np.where(last, counts, 0), axis=-1))

    return count(positive), count(negative)


def ranking(scores: Array, labels: Labels) -> dict[str, Array]:
    """``average_precision`` and ``roc_auc``, [..., A] each, of scores that may be any finite numbers.

    Average precision is the sum over distinct scores of (recall gained) x (precision there), undefined without a
    positive; ROC AUC the share of (positive, negative) pairs in the right order, ties counting half, undefined without
    both classes.
    """
    positives, negatives = _descent(scores, labels)
    gained = np.diff(positives, axis=-1, prepend=0)
    n1, n0 = positives[..., -1], negatives[..., -1]
    area = (gained * positives / np.maximum(positives + negatives, 1)).sum(-1)
    won_twice = (np.diff(negatives, axis=-1, prepend=0) * (2 * positives - gained)).sum(-1)
    return {"average_precision": ratio(area, n1, n1 > 0), "roc_auc": ratio(won_twice, 2 * n1 * n0, n1 * n0 > 0)}


def macro(values: Array, defined: Array) -> Array:
    """Mean over the attributes of the mask: [..., A], bool [..., A] -> [...]; NaN where the mask is empty.

    A value that is NaN although the mask names it makes the mean NaN.
    """
    count = np.broadcast_to(defined, np.shape(values)).sum(axis=-1)
    return ratio(np.where(defined, values, 0.0).sum(axis=-1), count, count > 0)


PER_SEED = (
    "f1_default",
    "f1_tuned",
    "f1_validation",
    "threshold",
    "precision",
    "recall",
    "accuracy_default",
    "accuracy_tuned",
    "average_precision",
    "roc_auc",
)
COUNTS = ("n_observed", "n_positive")
BASELINES = ("floor_f1", "prior_f1")  # F1 of the all-positive and of the prevalence baseline
CONSTANT = COUNTS + BASELINES
AVERAGED = tuple(name for name in PER_SEED + BASELINES if name != "threshold")
AGAINST_TRUTH = ("f1_default", "f1_tuned", "average_precision", "roc_auc")


_STRICT = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)  # intervals stand beside the figures


class _Figure(BaseModel):
    """A figure of an attribute or the macro average: the mean over the seeds, and each seed's; ``null`` is undefined.

    Counts of rows and baselines have no seeds.
    """

    model_config = _STRICT

    value: int | float | None
    seeds: list[float | None] = []


class _File(BaseModel):
    """The layout of ``metrics.json``."""

    model_config = _STRICT

    attribute: Annotated[dict[str, dict[str, _Figure]], Field(min_length=1)]
    macro: dict[str, _Figure]
    coverage: dict[str, int]


@dataclass(frozen=True, eq=False)
class Figures:
    """Everything a table says about one run, per attribute; NaN is undefined.

    Attributes:
        attribute: [A] names.
        per_seed: the figures of ``PER_SEED``, each [S, A] float64; ``threshold`` is already the mean over folds.
        constant: the figures of ``CONSTANT``, each [A]: numbers of test rows, and F1 of the two baselines.
    """

    attribute: Sequence[str]
    per_seed: Mapping[str, Array]
    constant: Mapping[str, Array]

    def value(self, name: str) -> Array:
        """The figure of the run, [A]: the mean over its seeds, NaN if it is undefined for one of them."""
        return self.per_seed[name].mean(axis=0) if name in self.per_seed else self.constant[name]

    def defined(self, name: str) -> Array:
        """The attributes that define the figure, [A] bool; a suite's macro covers those that every run defines."""
        return np.isfinite(self.value(name))

    def to_json(self) -> dict[str, Any]:
        """The content of ``metrics.json``; macro is over the attributes this run defines, coverage their number."""
        averages: dict[str, dict[str, Any]] = {name: {} for name in AVERAGED}
        for name, average in averages.items():
            average["value"] = macro(self.value(name), self.defined(name))
            if name in self.per_seed:
                average["seeds"] = macro(self.per_seed[name], self.defined(name))
        rows: dict[str, dict[str, Any]] = {attribute: {} for attribute in self.attribute}
        for name in PER_SEED + CONSTANT:
            for a, row in enumerate(rows.values()):
                row[name] = {"value": self.value(name)[a]}
                if name in self.per_seed:
                    row[name]["seeds"] = self.per_seed[name][:, a]
        return {"attribute": rows, "macro": averages, "coverage": {name: self.defined(name).sum() for name in AVERAGED}}

    @classmethod
    def from_json(cls, content: object, source: str = "metrics.json") -> Figures:
        """The figures in the content of ``metrics.json``; means are formed again from the figures of the seeds.

        Args:
            content: the parsed JSON.
            source: the file's name for the error.

        Raises:
            UserError: the content is not of this layout.
        """
        try:
            rows = _File.model_validate(content).attribute
            seeds = [[row[name].seeds for name in PER_SEED] for row in rows.values()]
            per_seed = np.array(seeds, dtype=np.float64)  # None becomes NaN; unequal lengths are a ValueError
            values = {name: [row[name].value for row in rows.values()] for name in CONSTANT}
            if not all(isinstance(value, int) for name in COUNTS for value in values[name]):
                raise ValueError(f"{' or '.join(COUNTS)} is not a whole number")
        except (KeyError, ValueError) as error:
            raise UserError(f"{source}: found content that cannot be used ({error})") from error
        constant = {name: np.array(x, np.int64 if name in COUNTS else np.float64) for name, x in values.items()}
        return cls(list(rows), dict(zip(PER_SEED, per_seed.transpose(1, 2, 0), strict=True)), constant)


def prevalence(predictions: Predictions) -> Array:
    """Share of positives among the observed training labels of each fold, [F, A]; 0 without any."""
    return np.asarray(predictions.train_positive / np.maximum(predictions.train_observed, 1))


def figures(predictions: Predictions, thresholds: Thresholds, cross_fitted: Array) -> Figures:
    """Score a run.

    Counting metrics pool the test rows of all folds, each judged by its own fold's threshold. Ranking metrics are
    averaged over the folds that define them, because the heads of different folds are not on one scale. ``floor_f1`` is
    the all-positive baseline, 2 n1 / (n + n1). ``prior_f1`` is the prevalence baseline: every test row scores the
    `prevalence` of its fold, read at 0.5. ``f1_validation`` judges each validation row by a threshold that has not seen
    it.

    Args:
        cross_fitted: [S, R, A] thresholds of the validation rows, as `thresholds.cross_fitted` gives them.

    Raises:
        UserError: the thresholds are those of another run.
    """
    run = predictions.labels.attributes, predictions.seed.tolist(), predictions.folds
    tuned_for = tuple(thresholds.attribute), list(thresholds.seed), thresholds.values.shape[1]
    if tuned_for != run:
        raise UserError(f"thresholds: found (attributes, seeds, folds) {tuned_for}, expected {run}: another run's?")
    val, test = predictions.part("val"), predictions.part("test")
    default = Confusion.of(test.probabilities, test.labels, 0.5)
    tuned = Confusion.of(test.probabilities, test.labels, thresholds.values[:, test.fold])
    folds = [predictions.part("test", fold) for fold in range(predictions.folds)]
    ranked = [ranking(rows.probabilities, rows.labels) for rows in folds]

    def over_folds(name: str) -> Array:
        values = np.stack([one[name] for one in ranked], axis=-1)
        return macro(values, np.isfinite(values))

    per_seed = {
        "f1_default": default.f1,
        "f1_tuned": tuned.f1,
        "f1_validation": f1(val.probabilities, val.labels, cross_fitted),
        "threshold": thresholds.values.mean(axis=1),
        "precision": tuned.precision,
        "recall": tuned.recall,
        "accuracy_default": default.accuracy,
        "accuracy_tuned": tuned.accuracy,
        "average_precision": over_folds("average_precision"),
        "roc_auc": over_folds("roc_auc"),
    }
    constant = {
        "n_observed": test.labels.observed.sum(axis=0),
        "n_positive": test.labels.positive.sum(axis=0),
        "floor_f1": f1(np.ones(test.labels.shape), test.labels, 0.5),
        "prior_f1": f1(prevalence(predictions)[test.fold], test.labels, 0.5),
    }
    return Figures(list(predictions.labels.attributes), per_seed, constant)


@dataclass(frozen=True, eq=False)
class TruthFigures:
    """A run scored on all test rows whose truth is stated, labelled or not; NaN is undefined.

    Attributes:
        attribute: [A] names.
        values: the figures of ``AGAINST_TRUTH``, each [A], the mean over the seeds.
        n_known: [A] number of those rows.
        n_positive: [A] number of positive ones among them.
    """

    attribute: Sequence[str]
    values: Mapping[str, Array]
    n_known: Array
    n_positive: Array

    def to_json(self) -> dict[str, Any]:
        """Plain data; macro is over the attributes that this run defines, coverage their number."""
        columns = {**self.values, "n_known": self.n_known, "n_positive": self.n_positive}
        defined = {name: np.isfinite(values) for name, values in self.values.items()}
        return {
            "attribute": {
                attribute: {name: values[a] for name, values in columns.items()}
                for a, attribute in enumerate(self.attribute)
            },
            "macro": {name: macro(values, defined[name]) for name, values in self.values.items()},
            "coverage": {name: mask.sum() for name, mask in defined.items()},
        }


def against_truth(predictions: Predictions, thresholds: Thresholds) -> TruthFigures | None:
    """Score a run on the truth of its test rows, at the same thresholds, which no truth enters; None without a truth.

    Raises:
        UserError: the thresholds are those of another run.
    """
    if predictions.truth is None:
        return None
    judged = thresholds.values[:, predictions.part("val").fold]  # no validation figure is read
    scored = figures(replace(predictions, labels=predictions.truth), thresholds, judged)
    values = {name: scored.value(name) for name in AGAINST_TRUTH}
    return TruthFigures(scored.attribute, values, scored.constant["n_observed"], scored.constant["n_positive"])
