"""The contract of threshold policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.thresholds import Tuned
from aimonk_bench.testing.subject import Subject


def check_threshold(policy: Callable[..., Tuned], **options: Any) -> None:
    """Check a threshold policy, also without rows, for attributes of one class and for constant scores.

    It returns A thresholds in float64 from 0 to 1 and A notes, which are text. It reads scores and targets of observed
    labels alone, changes nothing, and does not depend on the order of the rows. The attributes of a single class get a
    threshold all the same.

    Args:
        policy: (scores [R, A], labels [R, A], *, options) -> (thresholds [A], notes [A]).
        options: those that differ from the defaults, and those without a default.

    Raises:
        AssertionError: what is violated, in a sentence.
    """
    subject = Subject.of(policy, "THRESHOLDS", options)
    rng = np.random.default_rng(3)
    scores, targets, observed = rng.random((40, 3)), rng.integers(0, 2, (40, 3)), rng.random((40, 3)) < 0.8
    labels = Labels.of(targets, observed)
    before = scores.copy(), labels.targets.copy()
    thresholds = _tuned(subject, scores, labels, "40 rows")
    unchanged = np.array_equal(before[0], scores) and np.array_equal(before[1], labels.targets)
    subject.require(unchanged, "it changes its arguments in place")
    junk = Labels(np.where(observed, labels.targets, 9), observed)
    again = _tuned(subject, np.where(observed, scores, np.nan), junk, "junk where labels are missing")
    subject.require(np.array_equal(again, thresholds), "it reads scores or targets where labels are missing")
    order = rng.permutation(40)
    again = _tuned(subject, scores[order], labels[order], "rows in another order")
    subject.require(np.array_equal(again, thresholds), "the order of the rows changes thresholds")
    for target in (0, 1):
        of_one_class = Labels.of(np.full_like(targets, target), observed)
        _tuned(subject, scores, of_one_class, f"all labels are {target}")
        one = np.where(np.arange(3) == 1, target, targets)
        _tuned(subject, scores, Labels.of(one, observed), f"all labels of an attribute are {target}")
    _tuned(subject, scores, Labels.of(targets, np.zeros_like(observed)), "no label is observed")
    _tuned(subject, scores[:0], labels[:0], "no row")
    for score in (0.0, 0.5, 1.0):
        _tuned(subject, np.full_like(scores, score), labels, f"all scores are {score:g}")


def _tuned(subject: Subject, scores: np.ndarray, labels: Labels, when: str) -> np.ndarray:
    """The thresholds [A]."""
    result = subject.call(subject.with_data(), scores, labels, when=when)
    is_pair = isinstance(result, tuple) and len(result) == 2
    subject.require(is_pair, f"found a {type(result).__name__}, expected (thresholds, notes): {when}")
    thresholds, notes = result
    attributes = scores.shape[1]
    shape = getattr(thresholds, "shape", None)
    subject.require(shape == (attributes,), f"thresholds: found shape {shape}, expected ({attributes},): {when}")
    subject.require(thresholds.dtype == np.float64, f"thresholds: found {thresholds.dtype}, expected float64: {when}")
    inside = ((thresholds >= 0) & (thresholds <= 1)).all()
    subject.require(inside, f"thresholds: found {thresholds.tolist()}, expected probabilities: {when}")
    is_text = len(notes) == attributes and all(isinstance(note, str) for note in notes)
    subject.require(is_text, f"notes: found {notes!r}, expected a text for each attribute, empty for none: {when}")
    values: np.ndarray = thresholds
    return values
