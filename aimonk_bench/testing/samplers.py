"""The contract of samplers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.testing.subject import Subject
from aimonk_bench.training.entries import bind, declared

BATCH_SIZE = 16
RATES = (0.1, 0.5, 0.9, 0.3)


def check_sampler(sampler: Callable[..., np.ndarray], **options: Any) -> None:
    """Check a sampler, for 1 to 200 rows, 1 to 4 attributes and up to 95 % missing labels.

    It draws T x B row numbers, whole numbers from 0 to n - 1. It reads observed labels alone and changes nothing. Equal
    generators give equal rows, and it reads no other source of random numbers. `RunFailed` is allowed only where an
    attribute lacks an observed label of one value.

    Args:
        sampler: (labels, batch_size, steps, rng, *, options) -> rows [T, B].
        options: those that differ from the defaults, and those without a default.

    Raises:
        AssertionError: what is violated, in a sentence.
    """
    subject = Subject.of(sampler, "SAMPLERS", options)
    cases = itertools.product((1, 7, 40, 200), (1, 5), (1, 4), (0.0, 0.5, 0.95), (0, 1))
    drawn = [_check_case(subject, *case) for case in cases if _fits(subject, case[2])]
    subject.require(any(drawn), f"its own `check` refuses its options for batches of {BATCH_SIZE} everywhere")


def _fits(subject: Subject, attributes: int) -> bool:
    """Whether the check that the sampler declares accepts its options."""
    check = declared(subject.function, "check")
    try:
        if check is not None:
            bind(check, **subject.options, attributes=attributes, batch_size=BATCH_SIZE)()
    except UserError:
        return False
    return True


def _check_case(subject: Subject, rows: int, steps: int, attributes: int, missing: float, seed: int) -> bool:
    """Check one case; whether rows were drawn."""
    rng = np.random.default_rng([rows, steps, attributes, seed])
    observed = rng.random((rows, attributes)) >= missing
    positive = rng.random((rows, attributes)) < RATES[:attributes]
    targets = np.where(observed, positive, 0).astype(np.int8)
    originals, when = (targets.copy(), observed.copy()), f"{rows} rows, {attributes} attributes, {missing:.0%} missing"

    def draw(values: np.ndarray) -> Any:
        before = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
        result = subject.with_data()(Labels(values, observed), BATCH_SIZE, steps, np.random.default_rng(seed))
        after = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
        is_same = before["pos"] == after["pos"] and np.array_equal(before["key"], after["key"])
        subject.require(is_same, "it draws from NumPy's global generator: draw from `rng`")
        return result

    try:
        drawn = subject.call(draw, targets, when=when)
    except RunFailed as error:
        complete = (observed & positive).any(0).all() and (observed & ~positive).any(0).all()
        subject.require(not complete, f"it failed ({error}) where every attribute has both values: {when}")
        return False
    is_array = isinstance(drawn, np.ndarray) and drawn.dtype == np.int64
    actual = f"{drawn.dtype}" if isinstance(drawn, np.ndarray) else type(drawn).__name__
    subject.require(is_array, f"found {actual}, expected a NumPy array of int64: {when}")
    expected = (steps, BATCH_SIZE)
    subject.require(drawn.shape == expected, f"found shape {drawn.shape}, expected (T, B) = {expected}: {when}")
    inside = drawn.min() >= 0 and drawn.max() < rows
    subject.require(inside, f"found rows {drawn.min()} to {drawn.max()}, expected 0 to {rows - 1}: {when}")
    subject.require(np.array_equal(drawn, draw(targets)), f"equal generators give other rows: {when}")
    junk = np.where(observed, targets, np.random.default_rng(seed).choice([-1, 1, 7], targets.shape))
    for under in (junk, np.where(observed, targets, np.nan)):
        same = np.array_equal(drawn, subject.call(draw, under, when="junk where labels are missing"))
        subject.require(same, f"it reads targets that are not observed: {when}")
    unchanged = np.array_equal(originals[0], targets) and np.array_equal(originals[1], observed)
    subject.require(unchanged, "it changes the labels in place")
    return True
