"""Hiding labels by a known mechanism."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aimonk_bench.data.hiding import MECHANISMS, hide

FRACTIONS = (0.1, 0.5, 0.9)


def some(pictures: int = 2000, seed: int = 99) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, observed and scores of four attributes: common, even, rare, and one of which little is labelled."""
    rng = np.random.default_rng(seed)
    truth = rng.random((pictures, 4)) < (0.9, 0.5, 0.05, 0.5)
    observed = rng.random(truth.shape) < (0.9, 0.9, 0.9, 0.05)
    scores = truth + rng.normal(0, 0.5, truth.shape)
    return truth.astype(np.int8), observed, scores


def hidden_of(mechanism: Any, fraction: float, seed: int = 0, **changed: np.ndarray) -> np.ndarray:
    targets, observed, scores = some()
    given_ = {"targets": targets, "observed": observed, "scores": scores} | changed
    return hide(mechanism, fraction, rng=np.random.default_rng(seed), **given_)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@given(
    rows=st.lists(st.lists(st.sampled_from([0, 1, None]), min_size=3, max_size=3), min_size=1, max_size=12),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 5),
)
@settings(deadline=None, max_examples=60)
def test_whatever_is_labelled(mechanism: Any, rows: list[list[int | None]], fraction: float, seed: int) -> None:
    """Only observed cells are hidden, no class of an attribute vanishes, and what lies under NA is not read."""
    observed = np.array([[cell is not None for cell in row] for row in rows])
    targets = np.array([[cell or 0 for cell in row] for row in rows], np.int8)
    scores = np.random.default_rng(seed).normal(size=observed.shape).round(1)
    hidden = hide(mechanism, fraction, targets, observed, scores, np.random.default_rng(seed))
    assert hidden.dtype == bool
    assert not (hidden & ~observed).any()
    for value in (0, 1):
        labelled = observed & (targets == value)
        assert ((labelled & ~hidden).any(0) == labelled.any(0)).all()
    if mechanism == "positives":
        assert not (hidden & (targets == 0)).any()
    other_targets, other_scores = np.where(observed, targets, 7).astype(np.int8), np.where(observed, scores, np.nan)
    again = hide(mechanism, fraction, other_targets, observed, other_scores, np.random.default_rng(seed))
    np.testing.assert_array_equal(again, hidden)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_seed_decides_and_a_larger_fraction_hides_more_of_the_same(mechanism: Any) -> None:
    masks = [hidden_of(mechanism, fraction) for fraction in FRACTIONS]
    for less, more in itertools.pairwise(masks):
        assert (less <= more).all()
        assert less.sum() < more.sum()
    np.testing.assert_array_equal(hidden_of(mechanism, 0.5), masks[1])
    assert (hidden_of(mechanism, 0.5, seed=1) != masks[1]).any()


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_random_hides_every_cell_with_the_same_probability(fraction: float) -> None:
    targets, observed, _ = some()
    hidden = hidden_of("random", fraction)
    for cells in (observed & (targets == 1), observed & (targets == 0)):
        for a in range(4):
            p_value = stats.binomtest(int(hidden[cells[:, a], a].sum()), int(cells[:, a].sum()), fraction).pvalue
            assert p_value > 1e-3


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_per_class_keeps_equally_many_of_every_class_as_far_as_there_are(fraction: float) -> None:
    targets, observed, _ = some()
    kept = observed & ~hidden_of("per_class", fraction)
    counts = np.array([[(observed & (targets == value)).sum(0)] for value in (0, 1)]).ravel()
    left = np.array([[(kept & (targets == value)).sum(0)] for value in (0, 1)]).ravel()
    best = min(range(1, 2001), key=lambda k: abs(sum(min(k, n) for n in counts) - (1 - fraction) * observed.sum()))
    assert left.tolist() == [min(best, n) for n in counts]


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_positives_hides_that_part_of_them_and_nothing_else(fraction: float) -> None:
    targets, observed, _ = some()
    hidden = hidden_of("positives", fraction)
    positive = (observed & (targets == 1)).sum(0)
    assert (hidden & (targets == 1)).sum(0).tolist() == [round(fraction * n) for n in positive.tolist()]
    assert not (hidden & (targets == 0)).any()


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_score_hides_that_part_of_every_attribute(fraction: float) -> None:
    targets, observed, _ = some()
    hidden = hidden_of("score", fraction)
    spared = [(observed & ~hidden & (targets == value)).sum(0) == 1 for value in (0, 1)]  # the last of its class
    short = np.round(fraction * observed.sum(0)) - hidden.sum(0)
    assert (short >= 0).all()
    assert (short <= spared[0].astype(int) + spared[1]).all()
    assert short.any() == (fraction == 0.9)


def test_score_draws_without_replacement_with_the_weights_of_its_formula() -> None:
    """One attribute of five pictures: how often each is among the two hidden ones, against every ordered draw."""
    scores = np.array([-1.5, -0.5, 0.0, 0.5, 1.5])[:, None]
    weights = np.exp(-2 * (scores[:, 0] - scores.mean()) / scores.std())
    expected = np.zeros(5)
    for first in range(5):
        for second in {*range(5)} - {first}:
            chance = weights[first] / weights.sum() * weights[second] / (weights.sum() - weights[first])
            expected[[first, second]] += chance
    targets, observed = np.ones((5, 1), np.int8), np.ones((5, 1), bool)
    rng, draws = np.random.default_rng(0), 4000
    found = sum(hide("score", 0.4, targets, observed, scores, rng)[:, 0].astype(int) for _ in range(draws)) / draws
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / draws))


def test_score_is_at_random_where_nothing_stands_out() -> None:
    targets, observed, scores = some()
    scores = scores.copy()
    scores[:, 0], scores[5, 1] = 0.1, np.nan
    observed[5, 1] = True
    hidden = hidden_of("score", 0.5, scores=scores, observed=observed)
    for a in (0, 1):
        known = observed[:, a]
        table = [[(hidden[known, a] & (targets[known, a] == v)).sum() for v in (0, 1)]]
        table += [[(~hidden[known, a] & (targets[known, a] == v)).sum() for v in (0, 1)]]
        assert stats.fisher_exact(table).pvalue > 1e-3
    assert hidden[observed[:, 2] & (targets[:, 2] == 1), 2].mean() < 0.1 < 0.4 < hidden[observed[:, 2], 2].mean()


def test_score_without_scores_is_refused() -> None:
    targets, observed, _ = some()
    with pytest.raises(ValueError, match="needs scores"):
        hide("score", 0.5, targets, observed, None, np.random.default_rng(0))
