"""The figures of a run. A metric is ``(scores, targets, observed, thresholds) -> [..., A]``, NaN where it is undefined.

Shapes: scores [..., R, A]; targets (0 or 1) and observed [R, A] or with the leading axes of the scores; thresholds
broadcast to the scores: 0.5, [A], [S, R, A]. A cell that is not observed counts for nothing; padding is such a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, create_model

from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import Thresholds

Array = npt.NDArray[Any]
Metric = Callable[[Array, Array, Array, npt.ArrayLike], Array]


def _ratio(numerator: Array, denominator: Array, defined: Array) -> Array:
    """The quotient where it is defined, NaN elsewhere."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape, defined.shape), np.nan)
    np.divide(numerator, denominator, out=quotient, where=defined)
    return quotient


def _confusion(
    scores: Array, targets: Array, observed: Array, thresholds: npt.ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """Numbers of true positives, accepted, positive and all observed rows, each [..., A]."""
    accepted = observed & (scores > np.asarray(thresholds))
    positive = observed & (targets == 1)
    return (accepted & positive).sum(-2), accepted.sum(-2), positive.sum(-2), observed.sum(-2)


def precision(scores: Array, targets: Array, observed: Array, thresholds: npt.ArrayLike) -> Array:
    """TP / (TP + FP); undefined without a positive, or where nothing is accepted."""
    hits, accepted, positive, _ = _confusion(scores, targets, observed, thresholds)
    return _ratio(hits, accepted, (positive > 0) & (accepted > 0))


def recall(scores: Array, targets: Array, observed: Array, thresholds: npt.ArrayLike) -> Array:
    """TP / (TP + FN); undefined without a positive."""
    hits, _, positive, _ = _confusion(scores, targets, observed, thresholds)
    return _ratio(hits, positive, positive > 0)


def f1(scores: Array, targets: Array, observed: Array, thresholds: npt.ArrayLike) -> Array:
    """2 TP / (2 TP + FP + FN); undefined without a positive."""
    hits, accepted, positive, _ = _confusion(scores, targets, observed, thresholds)
    return _ratio(2 * hits, accepted + positive, positive > 0)


def accuracy(scores: Array, targets: Array, observed: Array, thresholds: npt.ArrayLike) -> Array:
    """(TP + TN) / n; undefined without an observed row."""
    hits, accepted, positive, rows = _confusion(scores, targets, observed, thresholds)
    return _ratio(rows - accepted - positive + 2 * hits, rows, rows > 0)


def _descent(scores: Array, targets: Array, observed: Array) -> tuple[Array, Array]:
    """Positives and negatives met so far, both [..., A, R], going down the observed rows from the highest score.

    Inside a group of equal scores both stay at what they were before the group: it counts as a whole, at its last row.
    """
    scores, targets, observed = (np.moveaxis(x, -2, -1) for x in np.broadcast_arrays(scores, targets, observed))
    order = np.argsort(-scores, axis=-1)
    ranked = np.take_along_axis(scores, order, axis=-1)
    last = np.ones(ranked.shape, dtype=bool)
    last[..., :-1] = ranked[..., :-1] != ranked[..., 1:]

    label = observed * np.where(targets == 1, 1, 1 << _BITS)  # both are counted at once, negatives above these bits
    counts = np.take_along_axis(label, order, axis=-1).cumsum(axis=-1)
    both = np.maximum.accumulate(np.where(last, counts, 0), axis=-1)
    return both & ((1 << _BITS) - 1), both >> _BITS


_BITS = 32


def ranking(scores: Array, targets: Array, observed: Array) -> dict[str, Array]:
    """`average_precision` and `roc_auc`, by name, for the price of one."""
    descent = _descent(scores, targets, observed)
    return {"average_precision": _average_precision(*descent), "roc_auc": _roc_auc(*descent)}


def average_precision(scores: Array, targets: Array, observed: Array, thresholds: npt.ArrayLike) -> Array:
    """Sum over distinct scores of (recall gained) x (precision there); undefined without a positive.

    The scores may be any finite numbers; the thresholds are not used.
    """
    return _average_precision(*_descent(scores, targets, observed))


def _average_precision(positives: Array, negatives: Array) -> Array:
    gained = np.diff(positives, axis=-1, prepend=0)
    area = (gained * positives / np.maximum(positives + negatives, 1)).sum(-1)
    return _ratio(area, positives[..., -1], positives[..., -1] > 0)


def roc_auc(scores: Array, targets: Array, observed: Array, thresholds: npt.ArrayLike) -> Array:
    """The share of (positive, negative) pairs in the right order, ties counting half; undefined without both classes.

    The scores may be any finite numbers; the thresholds are not used.
    """
    return _roc_auc(*_descent(scores, targets, observed))


def _roc_auc(positives: Array, negatives: Array) -> Array:
    gained = np.diff(negatives, axis=-1, prepend=0)
    before = np.diff(positives, axis=-1, prepend=0)
    twice = (gained * (2 * positives - before)).sum(-1)
    pairs = positives[..., -1] * negatives[..., -1]
    return _ratio(twice, 2 * pairs, pairs > 0)


def macro(values: Array, defined: Array) -> Array:
    """Mean over the attributes of the mask: [..., A], bool [..., A] -> [...]; NaN where the mask is empty.

    A value that is NaN although the mask names it makes the mean NaN.
    """
    total = np.where(defined, values, 0.0).sum(axis=-1)
    count = np.broadcast_to(defined, np.shape(values)).sum(axis=-1)
    return _ratio(total, count, count > 0)


METRICS: dict[str, Metric] = {
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "accuracy": accuracy,
    "average_precision": average_precision,
    "roc_auc": roc_auc,
}

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
FLOORS = ("floor_f1", "prior_f1")
CONSTANT = COUNTS + FLOORS
AVERAGED = tuple(name for name in PER_SEED + FLOORS if name != "threshold")
AGAINST_TRUTH = ("f1_default", "f1_tuned", "average_precision", "roc_auc")


_STRICT = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)  # intervals stand beside the figures


class _PerSeed(BaseModel):
    """The mean over the seeds, and each seed's figure; ``null`` is undefined."""

    model_config = _STRICT

    value: float | None
    seeds: list[float | None]


class _Floor(BaseModel):
    """A figure that no seed enters."""

    model_config = _STRICT

    value: float | None


class _Count(BaseModel):
    """A number of rows."""

    model_config = _STRICT

    value: int


_NAMES = {_PerSeed: PER_SEED, _Count: COUNTS, _Floor: FLOORS}
_ROW: dict[str, Any] = {name: (cell, ...) for cell, names in _NAMES.items() for name in names}
_Row = create_model("_Row", __config__=_STRICT, **_ROW)


class _File(BaseModel):
    """The layout of ``metrics.json``."""

    model_config = _STRICT

    attribute: Annotated[dict[str, _Row], Field(min_length=1)]  # type: ignore[valid-type]  # made above, from the names
    macro: dict[str, _PerSeed | _Floor]
    coverage: dict[str, int]


@dataclass(frozen=True, eq=False)
class Figures:
    """Everything a table says about one run, per attribute; NaN is undefined.

    Attributes:
        attribute: [A] names.
        per_seed: the figures of ``PER_SEED``, each [S, A] float64; ``threshold`` is already the mean over folds.
        constant: the figures of ``CONSTANT``, each [A]: counts, and what guessing without the pictures reaches.
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
        averages, coverage = {}, {}
        for name in AVERAGED:
            defined = self.defined(name)
            averages[name] = {"value": _plain(macro(self.value(name), defined))}
            if name in self.per_seed:
                averages[name]["seeds"] = _plain(macro(self.per_seed[name], defined))
            coverage[name] = int(defined.sum())
        cells: dict[str, dict[str, Any]] = {attribute: {} for attribute in self.attribute}
        for name in PER_SEED + CONSTANT:
            for a, value in enumerate(_plain(self.value(name))):
                cells[self.attribute[a]][name] = {"value": value}
                if name in self.per_seed:
                    cells[self.attribute[a]][name]["seeds"] = _plain(self.per_seed[name][:, a])
        return {"attribute": cells, "macro": averages, "coverage": coverage}

    @classmethod
    def from_json(cls, content: object, source: str = "metrics.json") -> Figures:
        """The figures in the content of ``metrics.json``; what can be derived from others is derived again.

        Args:
            content: the parsed JSON.
            source: the file's name for the error.

        Raises:
            UserError: the content is not of this layout.
        """
        try:
            rows = _File.model_validate(content).model_dump()["attribute"]
            cells = [[row[name]["seeds"] for name in PER_SEED] for row in rows.values()]
            per_seed = np.array(cells, dtype=np.float64)  # None becomes NaN; unequal lengths are a ValueError
        except ValueError as error:
            raise UserError(f"{source}: found content that cannot be used ({error})") from error
        constant = {
            name: np.array([row[name]["value"] for row in rows.values()], np.int64 if name in COUNTS else np.float64)
            for name in CONSTANT
        }
        return cls(list(rows), dict(zip(PER_SEED, per_seed.transpose(1, 2, 0), strict=True)), constant)


def _plain(values: Array) -> Any:
    """An array as (lists of) Python numbers, None for NaN."""
    return np.where(np.isnan(values), np.array(None), values).tolist()


def _constant(predictions: Predictions) -> dict[str, Array]:
    """The figures of ``CONSTANT``, over the pooled observed test rows."""
    test = predictions.split == "test"
    targets, observed = predictions.targets[test], predictions.observed[test]
    prevalence = predictions.train_positive / np.maximum(predictions.train_observed, 1)
    return {
        "n_observed": observed.sum(axis=0),
        "n_positive": (observed & (targets == 1)).sum(axis=0),
        "floor_f1": f1(np.ones(targets.shape), targets, observed, 0.5),
        "prior_f1": f1(prevalence[predictions.fold[test]], targets, observed, 0.5),
    }


def figures(predictions: Predictions, thresholds: Thresholds, cross_fitted: Array) -> Figures:
    """Score a run.

    Counting metrics pool the rows of all folds, each judged by its own fold's threshold. Ranking metrics are averaged
    over the folds that define them, because the heads of different folds are not on one scale. ``floor_f1`` calls every
    test row positive: 2 n1 / (n + n1). ``prior_f1`` gives every test row the prevalence among its fold's observed
    training labels (0 without any), read at 0.5. ``f1_validation`` judges each validation row by a threshold that has
    not seen it.

    Args:
        cross_fitted: [S, V, A] thresholds of the validation rows, as `thresholds.cross_fitted` gives them.

    Raises:
        UserError: the thresholds are those of another run.
    """
    folds = range(predictions.folds)
    expected = (predictions.attribute.tolist(), predictions.seed.tolist(), list(folds))
    found = (list(thresholds.attribute), list(thresholds.seed), list(thresholds.fold))
    if found != expected:
        raise UserError(f"thresholds: found (attributes, seeds, folds) {found}, expected {expected}: another run's?")

    def cells(rows: Array | slice) -> tuple[Array, Array, Array]:
        return predictions.probabilities[:, rows], predictions.targets[rows], predictions.observed[rows]

    ranked = [ranking(*cells(predictions.rows(fold, "test"))) for fold in folds]

    def over_folds(name: str) -> Array:
        values = np.stack([own[name] for own in ranked], axis=-1)
        return macro(values, np.isfinite(values))

    val, test = predictions.split == "val", predictions.split == "test"
    own = thresholds.values[:, predictions.fold]  # [S, R, A]
    per_seed = {
        "f1_default": f1(*cells(test), 0.5),
        "f1_tuned": f1(*cells(test), own[:, test]),
        "f1_validation": f1(*cells(val), cross_fitted),
        "threshold": thresholds.values.mean(axis=1),
        "precision": precision(*cells(test), own[:, test]),
        "recall": recall(*cells(test), own[:, test]),
        "accuracy_default": accuracy(*cells(test), 0.5),
        "accuracy_tuned": accuracy(*cells(test), own[:, test]),
        "average_precision": over_folds("average_precision"),
        "roc_auc": over_folds("roc_auc"),
    }
    return Figures(predictions.attribute.tolist(), per_seed, _constant(predictions))


@dataclass(frozen=True, eq=False)
class TruthFigures:
    """A run scored on all test rows whose truth is known, labelled or not; NaN is undefined.

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
        defined = {name: np.isfinite(own) for name, own in self.values.items()}
        cells = {
            attribute: {name: _plain(own[a]) for name, own in self.values.items()}
            | {"n_known": int(self.n_known[a]), "n_positive": int(self.n_positive[a])}
            for a, attribute in enumerate(self.attribute)
        }
        return {
            "attribute": cells,
            "macro": {name: _plain(macro(own, defined[name])) for name, own in self.values.items()},
            "coverage": {name: int(mask.sum()) for name, mask in defined.items()},
        }


def against_truth(predictions: Predictions, thresholds: Thresholds) -> TruthFigures | None:
    """Score a run on what is true about its test rows, at the same thresholds, which no truth enters; None without any.

    Raises:
        UserError: the thresholds are those of another run.
    """
    replaced = predictions.against_truth()
    if replaced is None:
        return None
    val = replaced.split == "val"
    found = figures(replaced, thresholds, thresholds.values[:, replaced.fold[val]])  # no validation figure is kept
    values = {name: found.value(name) for name in AGAINST_TRUTH}
    return TruthFigures(found.attribute, values, found.constant["n_observed"], found.constant["n_positive"])
