"""Hiding labels by a known mechanism."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aimonk_bench.config.fields import Mechanism
from aimonk_bench.data.hiding import hide
from aimonk_bench.data.labels import Labels

FRACTIONS = (0.1, 0.5, 0.9)


def example(rows: int = 2000, seed: int = 99) -> tuple[Labels, np.ndarray]:
    """Labels and scores of four attributes: common, even, rare, and one with few labels."""
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, 4)) < (0.9, 0.5, 0.05, 0.5)
    observed = rng.random(truth.shape) < (0.9, 0.9, 0.9, 0.05)
    return Labels.of(truth, observed), truth + rng.normal(0, 0.5, truth.shape)


def hidden_of(mechanism: Any, fraction: float, seed: int = 0) -> np.ndarray:
    labels, scores = example()
    return hide(mechanism, fraction, labels, scores, np.random.default_rng(seed))


@pytest.mark.parametrize("mechanism", get_args(Mechanism))
@given(
    rows=st.lists(st.lists(st.sampled_from([0, 1, None]), min_size=3, max_size=3), min_size=1, max_size=12),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 5),
)
@settings(deadline=None, max_examples=60)
def test_only_observed_labels_are_hidden_and_no_class_vanishes(
    mechanism: Any, rows: list[list[int | None]], fraction: float, seed: int
) -> None:
    """Besides, values and scores under NA are not read."""
    observed = np.array([[state is not None for state in row] for row in rows])
    targets = np.array([[state or 0 for state in row] for row in rows], np.int8)
    scores = np.random.default_rng(seed).normal(size=observed.shape).round(1)
    hidden = hide(mechanism, fraction, Labels(targets, observed), scores, np.random.default_rng(seed))
    assert hidden.dtype == bool
    assert not (hidden & ~observed).any()
    for value in (0, 1):
        labelled = observed & (targets == value)
        assert ((labelled & ~hidden).any(0) == labelled.any(0)).all()
    if mechanism == "positives":
        assert not (hidden & (targets == 0)).any()
    other_targets, other_scores = np.where(observed, targets, 7).astype(np.int8), np.where(observed, scores, np.nan)
    again = hide(mechanism, fraction, Labels(other_targets, observed), other_scores, np.random.default_rng(seed))
    np.testing.assert_array_equal(again, hidden)


@pytest.mark.parametrize("mechanism", get_args(Mechanism))
def test_the_seed_decides_and_a_larger_fraction_hides_more_of_the_same(mechanism: Any) -> None:
    masks = [hidden_of(mechanism, fraction) for fraction in FRACTIONS]
    for less, more in itertools.pairwise(masks):
        assert (less <= more).all()
        assert less.sum() < more.sum()
    np.testing.assert_array_equal(hidden_of(mechanism, 0.5), masks[1])
    assert (hidden_of(mechanism, 0.5, seed=1) != masks[1]).any()


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_random_hides_every_cell_with_the_same_probability(fraction: float) -> None:
    labels, _ = example()
    hidden = hidden_of("random", fraction)
    for members in (labels.positive, labels.negative):
        for a in range(4):
            p_value = stats.binomtest(int(hidden[members[:, a], a].sum()), int(members[:, a].sum()), fraction).pvalue
            assert p_value > 1e-3


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_per_class_keeps_equally_many_of_every_class_as_far_as_there_are(fraction: float) -> None:
    labels, _ = example()
    counts = np.concatenate(labels.counts())
    left = np.concatenate(labels.masked(~hidden_of("per_class", fraction)).counts())
    wanted = (1 - fraction) * labels.observed.sum()
    best = min(range(1, 2001), key=lambda k: abs(sum(min(k, n) for n in counts) - wanted))
    assert left.tolist() == [min(best, n) for n in counts]


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_positives_hides_that_part_of_them_and_nothing_else(fraction: float) -> None:
    labels, _ = example()
    hidden = hidden_of("positives", fraction)
    positives, _ = labels.counts()
    assert (hidden & labels.positive).sum(0).tolist() == [round(fraction * n) for n in positives.tolist()]
    assert not (hidden & ~labels.positive).any()


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_score_hides_that_part_of_every_attribute(fraction: float) -> None:
    labels, _ = example()
    hidden = hidden_of("score", fraction)
    spared = sum((count == 1).astype(int) for count in labels.masked(~hidden).counts())  # the last of its class
    short = np.round(fraction * labels.observed.sum(0)) - hidden.sum(0)
    assert (short >= 0).all()
    assert (short <= spared).all()
    assert short.any() == (fraction == 0.9)


def test_score_draws_without_replacement_with_the_weights_of_its_formula() -> None:
    """One attribute of five images: how often each is among the two hidden ones, against every ordered draw."""
    scores = np.array([-1.5, -0.5, 0.0, 0.5, 1.5])[:, None]
    weights = np.exp(-2 * (scores[:, 0] - scores.mean()) / scores.std())
    expected = np.zeros(5)
    for first in range(5):
        for second in {*range(5)} - {first}:
            chance = weights[first] / weights.sum() * weights[second] / (weights.sum() - weights[first])
            expected[[first, second]] += chance
    labels = Labels.of(np.ones((5, 1)), np.ones((5, 1)))
    rng, draws = np.random.default_rng(0), 4000
    frequency = sum(hide("score", 0.4, labels, scores, rng)[:, 0].astype(int) for _ in range(draws)) / draws
    np.testing.assert_allclose(frequency, expected, atol=4 * np.sqrt(0.25 / draws))


def test_score_is_at_random_where_scores_are_constant_or_nan() -> None:
    labels, scores = example()
    scores[:, 0], scores[5, 1] = 0.1, np.nan
    labels.observed[5, 1] = True
    hidden = hide("score", 0.5, labels, scores, np.random.default_rng(0))
    for a in (0, 1):
        table = [
            [(members[:, a] & hiding[:, a]).sum() for members in (labels.negative, labels.positive)]
            for hiding in (hidden, ~hidden)
        ]
        assert stats.fisher_exact(table).pvalue > 1e-3
    assert hidden[labels.positive[:, 2], 2].mean() < 0.1 < 0.4 < hidden[labels.observed[:, 2], 2].mean()


def test_score_without_scores_is_refused() -> None:
    labels, _ = example()
    with pytest.raises(ValueError, match="needs scores"):
        hide("score", 0.5, labels, None, np.random.default_rng(0))
