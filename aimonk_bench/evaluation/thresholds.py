"""Turning probabilities into decisions: policies that choose thresholds, on validation rows only.

A policy is ``(scores [R, A], labels [R, A], **options) -> (thresholds [A], notes [A])``: probabilities in; out come a
threshold and a note for each attribute. A note says where the policy could not follow its own rule and what it did
instead; it is empty elsewhere. A row is positive where ``probability > threshold``.

An option that is named after a figure of `TARGETS` is what the policy aims at: the table shows that figure on the test
rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator, Field

from aimonk_bench import registry
from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.numbers import Array, Numbers
from aimonk_bench.evaluation.predictions import Predictions

Tuned = tuple[npt.NDArray[np.float64], list[str]]

TARGETS = ("precision", "recall")
PARTS = 5  # of the validation rows of a fold, for a figure on rows that the threshold has not seen


@dataclass(frozen=True, eq=False)
class ThresholdCandidates:
    """The thresholds that divide a column of scores differently, ascending: min / 2, the midpoints, (1 + max) / 2.

    Attributes:
        threshold: [..., R + 1, A].
        possible: [..., R + 1, A] bool, False between equal scores and behind the last observed one.
        true_positive: [..., R + 1, A] observed positives above the threshold.
        accepted: [..., R + 1, A] observed rows above it.
        positives: [..., 1, A] observed positives of the column.
        rows: [..., 1, A] its observed rows.
    """

    threshold: Array
    possible: Array
    true_positive: Array
    accepted: Array
    positives: Array
    rows: Array

    @classmethod
    def of(cls, scores: Array, labels: Labels) -> ThresholdCandidates:
        """The candidates for probabilities [..., R, A]; the labels broadcast to them."""
        observed = np.where(labels.observed, scores, np.inf)
        order = np.argsort(observed, axis=-2)
        ordered = np.take_along_axis(observed, order, axis=-2)
        positive = np.take_along_axis(np.broadcast_to(labels.positive, observed.shape), order, axis=-2)
        zero = np.zeros((*ordered.shape[:-2], 1, ordered.shape[-1]))
        below = np.concatenate([zero, positive.cumsum(axis=-2)], axis=-2)
        lower, upper = np.concatenate([zero, ordered], axis=-2), np.concatenate([ordered, zero + np.inf], axis=-2)
        middle = (lower + np.minimum(upper, 1)) / 2
        rows = np.broadcast_to(labels.observed, observed.shape).sum(axis=-2, keepdims=True)
        return cls(
            # Between neighbouring floats the midpoint may round to the upper one, which `>` would then not accept.
            threshold=np.where(middle < upper, middle, lower),
            possible=lower < upper,  # not so below a score of 0: min / 2 divides likewise and is nearer to 0.5
            true_positive=below[..., -1:, :] - below,
            accepted=rows - np.arange(observed.shape[-2] + 1)[:, None],
            positives=below[..., -1:, :],
            rows=rows,
        )

    def best(self, quality: Array) -> Array:
        """The threshold [..., A] of the highest quality [..., R + 1, A]; of equal ones that nearest 0.5, the lower."""
        quality = np.where(self.possible, quality, -np.inf)
        equal = quality == quality.max(axis=-2, keepdims=True)
        distance = np.where(equal, np.abs(self.threshold - 0.5), np.inf)
        nearest = distance.argmin(axis=-2)[..., None, :]  # the first of two equally near is the lower
        return np.take_along_axis(self.threshold, nearest, axis=-2)[..., 0, :]


def best_f1(scores: Array, labels: Labels) -> Array:
    """The threshold with the highest F1 = 2 TP / (2 TP + FP + FN) of each column, by trying every candidate.

    Candidates are the midpoints of neighbouring distinct scores, min / 2 and (1 + max) / 2; on equal F1 the one nearest
    0.5 is taken, then the lower. Without an observed positive the threshold has no meaning.

    Args:
        scores: probabilities [..., R, A].
        labels: [R, A], or with the leading axes of the scores.

    >>> best_f1(np.array([[0.2], [0.4], [0.8]]), Labels.of([[0], [1], [1]], np.full((3, 1), True))).item()
    0.30000000000000004
    """
    candidates = ThresholdCandidates.of(scores, labels)
    # One rounded division of small integers (below 2**26) keeps their order and their ties, so `==` is exact.
    return candidates.best(2 * candidates.true_positive / np.maximum(candidates.accepted + candidates.positives, 1))


def fixed(scores: Array, labels: Labels, *, value: Annotated[float, Gt(0), Lt(1)] = 0.5) -> Tuned:
    """The same threshold, `value`, for every attribute."""
    attributes = scores.shape[1]
    return np.full(attributes, value), [""] * attributes


def pooled(scores: Array, labels: Labels) -> Tuned:
    """One threshold for all attributes: the best F1 over all their observed labels together."""
    attributes = scores.shape[1]
    if not (labels.positive.any() and labels.negative.any()):
        return np.full(attributes, 0.5), ["no two classes among all validation labels: 0.5 used"] * attributes
    column = labels.targets[labels.observed][:, None]
    threshold = best_f1(scores[labels.observed][:, None], Labels(column, np.ones_like(column, dtype=bool)))
    return np.full(attributes, threshold), [""] * attributes


def _or_pooled(choose: Callable[[Array, Labels], Array], scores: Array, labels: Labels) -> Tuned:
    """The threshold that ``choose`` gives each attribute; the pooled one where a class, or both, were not observed."""
    thresholds, notes = choose(scores, labels), [""] * scores.shape[1]
    positive, negative = labels.positive.any(axis=0), labels.negative.any(axis=0)
    if not (positive & negative).all():
        shared, remarks = pooled(scores, labels)
        thresholds = np.where(positive & negative, thresholds, shared)
        for a in np.flatnonzero(~(positive & negative)):
            absent = "negative" if positive[a] else "positive" if negative[a] else "label"
            instead = f", and {remarks[a]}" if remarks[a] else ": pooled threshold used"
            notes[a] = f"no observed validation {absent}{instead}"
    return thresholds, notes


def per_attribute_f1(scores: Array, labels: Labels) -> Tuned:
    """The best F1 of each attribute; the pooled threshold where one of the two classes, or both, were not observed."""
    return _or_pooled(best_f1, scores, labels)


def shrunk(scores: Array, labels: Labels, *, k: Annotated[float, Ge(0)] = 10.0) -> Tuned:
    """Between the attribute's best F1 and the pooled threshold: w best + (1 - w) pooled, w = n1 / (n1 + k).

    n1 counts the observed validation positives: the optimum of a rare attribute is mostly noise, so it weighs little.
    """
    best, notes = per_attribute_f1(scores, labels)
    shared, _ = pooled(scores, labels)
    positives = labels.positive.sum(axis=0)
    weight = positives / np.maximum(positives + k, 1)  # 0 / 0 without positives and k = 0
    return np.where(best == shared, shared, weight * best + (1 - weight) * shared), notes


def cross_fit(
    scores: Array, labels: Labels, *, parts: Annotated[int, Ge(2)] = 5, seed: Annotated[int, Ge(0)] = 0
) -> Tuned:
    """The mean of the best-F1 thresholds of stratified parts of the rows (Fan and Lin 2007, by cross-validation).

    The optimum of all rows at once follows a single division of them; the mean of several is steadier. Simulated with
    117 rows, prevalence .08, AUC .75: F1 on new rows .280; by the optimum of all rows .256; by the mean of the optima
    of each four parts out of five .265. In no cell of prevalence .08 / .5 / .88 x AUC .6 / .75 / .9 x 60, 117 or 400
    rows was it more than .001 below the optimum of all rows.

    A part without both classes does not enter the mean. The parts depend on `seed` and not on the order of the rows; no
    row is judged by the others, so groups need not stay together.
    """
    fewest = np.minimum(*labels.counts())

    def choose(scores: Array, labels: Labels) -> Array:
        part = _stratified_parts(scores, labels, parts, np.random.default_rng(seed))
        members = labels.observed & (part == np.arange(parts)[:, None, None])  # [parts, R, A]
        complete = np.arange(parts)[:, None] < np.maximum(fewest, 1)
        return np.asarray(best_f1(scores, Labels(labels.targets, members)).mean(axis=0, where=complete))

    thresholds, notes = _or_pooled(choose, scores, labels)
    for a in np.flatnonzero((fewest > 0) & (fewest < parts)):
        notes[a] = f"only {fewest[a]} of {parts} parts hold both classes: mean over these"
    return thresholds, notes


def _stratified_parts(scores: Array, labels: Labels, parts: int, rng: np.random.Generator) -> Array:
    """The part of each row, [R, A] from 0: the rows of each class go to the parts in turn, in random order.

    Every class begins at part 0. Rows are first sorted by class and score, so that their order does not matter: rows
    that still tie are equal. Rows without an observed label come last; their part means nothing.
    """
    state = np.where(labels.observed, labels.targets, 2)
    order = np.lexsort((np.where(labels.observed, scores, 0), state), axis=0)
    chance = np.broadcast_to(rng.random(len(scores))[:, None], scores.shape)
    shuffled = np.lexsort((chance, np.sort(state, axis=0)), axis=0)
    place = np.empty(scores.shape, dtype=np.int64)
    np.put_along_axis(place, np.take_along_axis(order, shuffled, axis=0), np.arange(len(scores))[:, None], axis=0)
    return np.where(state == 1, place - labels.negative.sum(axis=0), place) % parts


def target_precision(scores: Array, labels: Labels, *, precision: Annotated[float, Gt(0), Le(1)] = 0.9) -> Tuned:
    """The most recall among the thresholds whose validation precision TP / (TP + FP) reaches `precision`.

    On equal recall the higher precision. Where no threshold reaches it, the most recall among those of the highest
    precision there is. Nothing promises that precision on other rows.
    """
    missed = np.zeros(scores.shape[1], dtype=bool)

    def choose(scores: Array, labels: Labels) -> Array:
        candidates = ThresholdCandidates.of(scores, labels)
        possible, accepted = candidates.possible & (candidates.accepted > 0), np.maximum(candidates.accepted, 1)
        reached = np.where(possible, candidates.true_positive / accepted, 0)
        highest = reached.max(axis=0, keepdims=True)
        missed[:] = highest[0] < precision
        # recall first, then as few accepted rows as possible
        quality = candidates.true_positive * (candidates.rows + 1) - candidates.accepted
        return candidates.best(np.where(reached >= np.minimum(highest, precision), quality, -np.inf))

    thresholds, notes = _or_pooled(choose, scores, labels)
    remark = f"validation precision {precision} not reached: highest precision used"
    return thresholds, [note or remark * below for note, below in zip(notes, missed.tolist(), strict=True)]


def youden(scores: Array, labels: Labels) -> Tuned:
    """The highest TPR - FPR = TP / n1 - FP / n0 of each attribute (Youden 1950)."""

    def choose(scores: Array, labels: Labels) -> Array:
        candidates = ThresholdCandidates.of(scores, labels)  # n0 n1 times the difference is whole: its ties are exact
        quality = candidates.true_positive * candidates.rows - candidates.accepted * candidates.positives
        return candidates.best(quality)

    return _or_pooled(choose, scores, labels)


@dataclass(frozen=True)
class ThresholdNote:
    """Where a policy could not follow its own rule.

    Attributes:
        fold: whose validation rows it was.
        attribute: whose threshold it is.
        reason: what was in the way, and what the policy did instead.
        seeds: for which that holds; all of them where labels alone are the reason.
    """

    fold: int
    attribute: str
    reason: str
    seeds: Sequence[int]


def _without_sentences(notes: Any) -> Any:
    """Notes of a file; those of earlier versions are sentences, which nothing reads."""
    return [note for note in notes if not isinstance(note, str)] if isinstance(notes, list) else notes


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The thresholds of one run.

    Attributes:
        policy: the name of the policy and its options that differ from the defaults.
        attribute: [A] names.
        seed: [S].
        values: probabilities [S, F, A] float64; a row is positive where its probability is above.
        notes: where the policy could not follow its own rule, by fold and attribute.

    Raises:
        ValueError: the values are no probabilities, or of another shape.
    """

    policy: str
    attribute: Sequence[str]
    seed: Sequence[int]
    values: Annotated[Numbers, Field(validation_alias="thresholds")]
    notes: Annotated[Sequence[ThresholdNote], BeforeValidator(_without_sentences)] = ()

    def __post_init__(self) -> None:
        shape, expected = self.values.shape, (len(self.seed), len(self.attribute))
        if len(shape) != 3 or shape[::2] != expected or not ((self.values >= 0) & (self.values <= 1)).all():
            raise ValueError(f"thresholds: found shape {shape}, expected [S, F, A] probabilities, (S, A) = {expected}")

    def to_json(self) -> dict[str, Any]:
        """The content of ``thresholds.json``."""
        return {
            "policy": self.policy,
            "attribute": self.attribute,
            "seed": self.seed,
            "fold": list(range(self.values.shape[1])),
            "thresholds": self.values,
            "notes": [asdict(note) for note in self.notes],
        }


def check_attributes(policy: registry.Spec, attributes: Sequence[str]) -> None:
    """Check that every attribute with a policy of its own exists.

    Raises:
        UserError: some do not.
    """
    problems = []
    for name in policy.attributes:
        if name not in attributes:
            unknown = registry.Problem((), f"unknown attribute {name!r}", f"one of {', '.join(attributes)}")
            problem = replace(unknown, suggestion=registry.nearest(name, attributes))
            problems.append(f"{policy.places.get(name, f'threshold.{registry.FOR}.{name}')}: {problem}")
    if problems:
        raise UserError(problems)


def _chooser(policy: registry.Spec, attributes: Sequence[str]) -> Callable[[Array, Labels], Tuned]:
    """The policy; each attribute with another one gets the threshold that this gives it among all attributes.

    Raises:
        UserError: unknown name, attribute or bad option.
    """
    check_attributes(policy, attributes)
    rules = [replace(policy, attributes={})]
    rule_of = np.zeros(len(attributes), dtype=np.int64)
    for name, rule in policy.attributes.items():
        if rule not in rules:
            rules.append(rule)
        rule_of[list(attributes).index(name)] = rules.index(rule)
    policies = [registry.build("threshold", THRESHOLDS, rule) for rule in rules]
    if len(policies) == 1:
        return policies[0]

    def choose(scores: Array, labels: Labels) -> Tuned:
        tuned = [policy(scores, labels) for policy in policies]
        thresholds, notes = (list(column) for column in zip(*tuned, strict=True))
        return np.stack(thresholds)[rule_of, np.arange(len(rule_of))], [notes[r][a] for a, r in enumerate(rule_of)]

    return choose


def tune(predictions: Predictions, policy: registry.Spec) -> Thresholds:
    """Apply a policy to the validation rows of every seed and fold; it is handed nothing else.

    Raises:
        UserError: unknown policy or bad option.
    """
    names, seeds = predictions.labels.attributes, predictions.seed.tolist()
    choose = _chooser(policy, names)
    values = np.empty((len(seeds), predictions.folds, len(names)))
    seeds_of: dict[tuple[int, str, str], list[int]] = {}  # (fold, attribute, reason) -> seeds
    for fold in range(predictions.folds):
        val = predictions.part("val", fold)
        for s, scores in enumerate(val.probabilities):
            values[s, fold], reasons = choose(scores, val.labels)
            for name, reason in zip(names, reasons, strict=True):
                if reason:
                    seeds_of.setdefault((fold, name, reason), []).append(seeds[s])
    notes = [ThresholdNote(*key, seeds=where) for key, where in seeds_of.items()]
    return Thresholds(registry.label(THRESHOLDS, policy), list(names), seeds, values, notes)


def cross_fitted(predictions: Predictions, policy: registry.Spec) -> Array:
    """Thresholds that did not see the validation rows they judge: [S, R, A], R all validation rows in order.

    The validation rows of a fold are divided into `PARTS` stratified parts, whole groups together, the same for every
    seed; each part is judged by what the policy finds on the others. Fewer groups than parts: as many parts as groups;
    a single group is judged by what the policy does without rows.

    Raises:
        UserError: unknown policy or bad option.
    """
    choose = _chooser(policy, predictions.labels.attributes)
    thresholds = []
    for fold in range(predictions.folds):
        val = predictions.part("val", fold)
        part = _grouped_parts(val.group, val.labels)
        values = np.empty(val.probabilities.shape)
        for number in range(part.max() + 1):
            judged = part == number
            others = val.labels[~judged]
            for s, scores in enumerate(val.probabilities[:, ~judged]):
                values[s, judged], _ = choose(scores, others)
        thresholds.append(values)
    return np.concatenate(thresholds, axis=1)


def _grouped_parts(group: Array, labels: Labels) -> Array:
    """The part of each row, [R] from 0: whole groups go to at most `PARTS` parts in turn.

    The groups are sorted by what they hold of each attribute (a positive, only negatives, nothing), the attribute with
    the rarest class first: that class is spread evenly, the others as well as the sorting leaves it.
    """
    _, member = np.unique(group, return_inverse=True)
    state = np.zeros((member.max() + 1, labels.shape[1]), dtype=np.int8)
    np.maximum.at(state, member, labels.positive * np.int8(2) + labels.negative)
    rarest = np.argsort(np.minimum(*labels.counts()), kind="stable")
    part = np.empty(len(state), dtype=np.int64)
    part[np.lexsort(state[:, rarest[::-1]].T)] = np.arange(len(state)) % PARTS
    return part[member]


THRESHOLDS: registry.Table = {
    "cross_fit": cross_fit,
    "fixed": fixed,
    "per_attribute_f1": per_attribute_f1,
    "pooled": pooled,
    "shrunk": shrunk,
    "target_precision": target_precision,
    "youden": youden,
}
