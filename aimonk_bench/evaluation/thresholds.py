"""Turning probabilities into decisions: policies that choose thresholds, on validation rows only.

A policy is ``(scores [R, A], targets [R, A], observed [R, A], **options) -> (thresholds [A], notes [A])``:
probabilities in; out come a threshold and a note for each attribute: what was done instead of the rule, or an empty
string. Positive means ``probability > threshold``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel, ConfigDict, Field

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.predictions import Predictions

Array = npt.NDArray[Any]
Tuned = tuple[npt.NDArray[np.float64], list[str]]


def best_f1_threshold(scores: Array, targets: Array) -> float:
    """The threshold with the highest F1 = 2 TP / (2 TP + FP + FN), by trying every candidate.

    Candidates are the midpoints of neighbouring distinct scores, min / 2 and (1 + max) / 2; on equal F1 the one nearest
    0.5 is taken, then the lower.

    Args:
        scores: probabilities [R] of observed cells, at least one of them positive.
        targets: [R] 0 or 1.

    >>> best_f1_threshold(np.array([0.2, 0.4, 0.8]), np.array([0, 1, 1]))
    0.30000000000000004
    """
    order = np.argsort(scores)
    ranked, hits = scores[order], np.append(0, np.cumsum(targets[order] == 1))
    distinct = np.unique(ranked)
    lower, upper = distinct[:-1], distinct[1:]
    middle = (lower + upper) / 2
    # Between neighbouring floats the midpoint may round to the upper one, which `>` would then no longer accept.
    middle = np.where(middle < upper, middle, lower)
    candidates = np.concatenate([ranked[:1] / 2, middle, (1 + ranked[-1:]) / 2])
    first = np.searchsorted(ranked, candidates, side="right")  # ranked[first:] is what a candidate accepts
    # One rounded division of small integers (below 2**26) keeps their order and their ties, so `==` is exact.
    f1 = 2 * (hits[-1] - hits[first]) / (len(ranked) - first + hits[-1])
    best = candidates[f1 == f1.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])  # ascending, so the first of two equally near is the lower


def fixed(scores: Array, targets: Array, observed: Array, *, value: Annotated[float, Gt(0), Lt(1)] = 0.5) -> Tuned:
    """The same given threshold for every attribute."""
    attributes = scores.shape[1]
    return np.full(attributes, value), [""] * attributes


def pooled(scores: Array, targets: Array, observed: Array) -> Tuned:
    """One threshold for all attributes: the best F1 over all their observed cells together."""
    attributes = scores.shape[1]
    cells = targets[observed]
    if len(np.unique(cells)) < 2:
        return np.full(attributes, 0.5), ["no two classes among all validation labels: 0.5 used"] * attributes
    return np.full(attributes, best_f1_threshold(scores[observed], cells)), [""] * attributes


def per_attribute_f1(scores: Array, targets: Array, observed: Array) -> Tuned:
    """The best F1 of each attribute; the pooled threshold where one of the two classes, or both, were not observed."""
    thresholds, notes = pooled(scores, targets, observed)
    for a, seen in enumerate(observed.T):
        cells = targets[seen, a]
        if len(np.unique(cells)) == 2:
            thresholds[a] = best_f1_threshold(scores[seen, a], cells)
        else:
            absent = "label" if not cells.size else "negative" if cells.any() else "positive"
            notes[a] = f"no observed validation {absent}: pooled threshold used" + (notes[a] and f"; {notes[a]}")
    return thresholds, notes


def shrunk(scores: Array, targets: Array, observed: Array, *, k: Annotated[float, Ge(0)] = 10.0) -> Tuned:
    """Between the attribute's own best F1 and the pooled threshold: w own + (1 - w) pooled, w = n1 / (n1 + k).

    n1 counts the observed validation positives: the optimum of a rare attribute is mostly noise, so it weighs little.
    """
    own, notes = per_attribute_f1(scores, targets, observed)
    shared, _ = pooled(scores, targets, observed)
    positives = (observed & (targets == 1)).sum(axis=0)
    weight = positives / np.maximum(positives + k, 1)  # 0 / 0 without positives and k = 0
    return np.where(own == shared, shared, weight * own + (1 - weight) * shared), notes


class _File(BaseModel):
    """The layout of ``thresholds.json``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    policy: str
    attribute: list[str]
    seed: list[int]
    fold: list[int]
    thresholds: list[list[list[Annotated[float, Field(ge=0, le=1)]]]]
    notes: list[str]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The thresholds of one run.

    Attributes:
        policy: the name of the policy and its options that differ from the defaults.
        attribute: [A] names.
        seed: [S].
        fold: [F].
        values: probabilities [S, F, A] float64; a row is positive where its probability is above.
        notes: where the policy could not follow its own rule, and what it did.
    """

    policy: str
    attribute: Sequence[str]
    seed: Sequence[int]
    fold: Sequence[int]
    values: npt.NDArray[np.float64]
    notes: Sequence[str]

    def __post_init__(self) -> None:
        expected = (len(self.seed), len(self.fold), len(self.attribute))
        if self.values.shape != expected:
            raise ValueError(f"thresholds: found shape {self.values.shape}, expected [S, F, A] = {expected}")

    def save(self, path: Path) -> None:
        """Write ``thresholds.json``, floats in their shortest exact form."""
        content = {**vars(self), "thresholds": self.values.tolist()}
        text = json.dumps({name: content[name] for name in _File.model_fields}, ensure_ascii=False, indent=2)
        path.write_text(text + "\n", encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: Path) -> Thresholds:
        """Read ``thresholds.json``.

        Raises:
            UserError: the file is missing, no JSON, or not of this layout.
        """
        try:
            content = _File.model_validate_json(path.read_bytes()).model_dump()
            return cls(values=np.array(content.pop("thresholds"), dtype=np.float64), **content)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: found a file that cannot be used ({error}), expected thresholds.json") from error


def tune(predictions: Predictions, policy: registry.Spec) -> Thresholds:
    """Apply a policy to the validation rows of every seed and fold; it is handed nothing else.

    Raises:
        UserError: unknown policy or bad option.
    """
    function = registry.build("threshold", THRESHOLDS, policy)
    names = predictions.attribute.tolist()
    values = np.empty((len(predictions.seed), predictions.folds, len(names)))
    notes: dict[str, None] = {}  # in order; they depend on labels alone, so every seed repeats them
    for fold in range(predictions.folds):
        val = predictions.rows(fold, "val")
        for s, scores in enumerate(predictions.probabilities[:, val]):
            values[s, fold], remarks = function(scores, predictions.targets[val], predictions.observed[val])
            notes |= {
                f"fold {fold}, {name}: {remark}": None for name, remark in zip(names, remarks, strict=True) if remark
            }
    label = registry.label(THRESHOLDS, policy)
    return Thresholds(label, names, predictions.seed.tolist(), list(range(predictions.folds)), values, list(notes))


THRESHOLDS: registry.Table = {
    "fixed": fixed,
    "per_attribute_f1": per_attribute_f1,
    "pooled": pooled,
    "shrunk": shrunk,
}
