"""Samplers: the contract of the table, and each one's own rule against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError
from aimonk_bench.registry import Spec
from aimonk_bench.testing import check_sampler
from aimonk_bench.training.entries import check_options
from aimonk_bench.training.samplers import BLOCK_ROWS, BUFFER_ROWS, SAMPLERS, blocks

each_sampler = pytest.mark.parametrize("name", SAMPLERS)


def labels(n=60, rates=(0.9, 0.5, 0.1), missing=0.2, seed=0):
    rng = np.random.default_rng(seed)
    observed = rng.random((n, len(rates))) >= missing
    return np.where(observed, rng.random((n, len(rates))) < rates, 0).astype(np.int8), observed


def draw(name, targets, observed, batch_size=8, steps=5, seed=0, **options):
    return SAMPLERS[name](Labels(targets, observed), batch_size, steps, np.random.default_rng(seed), **options)


@each_sampler
def test_every_sampler_keeps_the_contract(name):
    check_sampler(SAMPLERS[name])


@given(n=st.integers(1, 50), steps=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_uniform_draws_permutations_topped_up_from_the_beginning(n, steps):
    rows = draw("uniform", *labels(n), 8, steps).ravel()
    for start in range(0, len(rows), n):
        block = rows[start : start + n]
        assert len(set(block)) == len(block)
    rest = len(rows) % n
    assert rest == len(rows) or np.array_equal(rows[len(rows) - rest :], rows[:rest])
    assert not np.array_equal(draw("uniform", *labels(50), 50, 2)[0], draw("uniform", *labels(50), 50, 2)[1])


@given(n=st.integers(8, 60), seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_an_epoch_of_uniform_has_no_row_twice_in_a_batch(n, seed):
    for batch in draw("uniform", *labels(n), 8, -(-n // 8), seed):
        assert len(set(batch)) == 8


def frequencies(name, targets, observed, **options):
    rows = draw(name, targets, observed, 1000, 400, **options)
    return np.bincount(rows.ravel(), minlength=len(targets)) / rows.size


def assert_drawn_in_proportion(drawn, weights):
    chances = np.array(weights) / np.sum(weights)
    assert np.abs(drawn - chances).max() < 5 * np.sqrt(chances.max() / 400_000)
    assert (drawn[chances == 0] == 0).all()


def test_inverse_frequency_weighs_a_row_by_the_rarity_of_its_observed_labels():
    targets, observed = labels()
    observed[3] = False
    weights = []
    for row in range(len(targets)):
        cells = [
            1 / sum(observed[i, k] and targets[i, k] == targets[row, k] for i in range(len(targets)))
            for k in range(targets.shape[1])
            if observed[row, k]
        ]
        weights.append(np.mean(cells) if cells else 0)
    assert_drawn_in_proportion(frequencies("inverse_frequency", targets, observed), weights)


@pytest.mark.parametrize("t", [0.3, 0.9])
def test_repeat_factor_weighs_a_row_by_its_rarest_observed_positive(t):
    targets, observed = labels()
    weights = []
    for row in range(len(targets)):
        factors = [1.0]
        for k in range(targets.shape[1]):
            if observed[row, k] and targets[row, k] == 1:
                f = targets[observed[:, k], k].mean()
                factors.append(max(1, np.sqrt(t / f)))
        weights.append(max(factors))
    assert max(weights) > 1.2
    assert_drawn_in_proportion(frequencies("repeat_factor", targets, observed, t=t), weights)


def test_class_aware_takes_the_attributes_in_turn_and_their_positives_evenly():
    targets, observed = labels(missing=0.3)
    rows = draw("class_aware", targets, observed, 9, 20).ravel()
    order = []
    for start in range(3):
        turns = rows[start::3]
        homes = [k for k in range(3) if (observed[turns, k] & (targets[turns, k] == 1)).all()]
        (k,) = [k for k in homes if set(turns) == set(np.flatnonzero(observed[:, k] & (targets[:, k] == 1)))]
        counts = np.unique(turns, return_counts=True)[1]
        assert counts.max() - counts.min() <= 1
        order.append(k)
    assert sorted(order) == [0, 1, 2]


def test_balanced_gives_every_attribute_and_value_the_same_chance():
    targets, observed = labels(200)
    strata = [np.flatnonzero(observed[:, k] & (targets[:, k] == value)) for k in range(3) for value in (0, 1)]
    weights = np.zeros(200)
    for rows in strata:
        weights[rows] += 1 / len(rows) / len(strata)
    assert_drawn_in_proportion(frequencies("balanced", targets, observed), weights)


@given(c=st.integers(1, 2), missing=st.sampled_from([0.0, 0.4, 0.9]), seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_coverage_puts_every_value_that_exists_into_every_batch(c, missing, seed):
    targets, observed = labels(40, missing=missing, seed=seed)
    rows = draw("coverage", targets, observed, 14, 6, seed, c=c)
    for k in range(3):
        for value in (0, 1):
            there = observed[:, k] & (targets[:, k] == value)
            assert (there[rows].sum(1) >= (c if there.any() else 0)).all()


def check(spec, attributes, batch_size):
    check_options("sampler", SAMPLERS, spec, attributes=attributes, batch_size=batch_size)


def test_coverage_that_does_not_fit_into_a_batch_is_refused_beforehand():
    check(Spec("coverage"), 8, 16)
    check(Spec("uniform"), 100, 16)
    with pytest.raises(UserError, match=r"2 x 1 x 9 attributes = 18 rows in a batch of 16"):
        check(Spec("coverage"), 9, 16)
    with pytest.raises(UserError, match="lower c"):
        draw("coverage", *labels(), 8, 1, c=2)


@given(n=st.integers(1, 9 * BLOCK_ROWS), spare=st.floats(0.1, 2.5), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_blocks_hold_every_row_as_often_as_the_others_up_to_one(n, spare, seed):
    targets, observed = np.zeros((n, 2), np.int8), np.ones((n, 2), bool)
    steps = max(1, int(n * spare) // 16)
    rows = blocks(Labels(targets, observed), 16, steps, np.random.default_rng(seed))
    assert rows.shape == (steps, 16)
    times = np.bincount(rows.ravel(), minlength=n)
    assert times.max() - times.min() <= 1
    assert np.array_equal(rows, blocks(Labels(targets, observed), 16, steps, np.random.default_rng(seed)))


def test_blocks_mix_rows_within_a_buffer_and_no_further():
    count = 5 * BUFFER_ROWS + 100
    nothing = np.zeros((count, 1), np.int8)
    rows = blocks(Labels(nothing, nothing.astype(bool)), 64, -(-count // 64), np.random.default_rng(0))
    own = rows.ravel()[:count].reshape(-1)
    buffers = [np.unique(own[at : at + BUFFER_ROWS] // BLOCK_ROWS) for at in range(0, count, BUFFER_ROWS)]
    assert max(map(len, buffers)) <= BUFFER_ROWS // BLOCK_ROWS + 1  # the last block of all is a short one
    assert max(np.ptp(rows) for rows in buffers) > 2 * BUFFER_ROWS // BLOCK_ROWS  # which lie anywhere
    batch = rows[0] // BLOCK_ROWS
    assert len(set(batch)) > 8  # and a batch is of many of them
