from __future__ import annotations

import itertools

import numpy as np
import oracles
import pytest
from sklearn.metrics import f1_score

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.bounds import bounds, delta_bounds
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.metrics import figures
from aimonk_bench.evaluation.thresholds import cross_fitted, tune
from aimonk_bench.registry import Spec


def decided(accepted: np.ndarray, states: np.ndarray) -> Decisions:
    """Decisions [S, R, A] on labels that are 0, 1 or -1 (missing), [R, A]."""
    return oracles.decisions(accepted, Labels.of(states == 1, states >= 0))


def f1(accepted: np.ndarray, targets: np.ndarray) -> float:
    return 2 * (accepted & targets).sum() / (accepted.sum() + targets.sum())


def fillings(states: np.ndarray) -> list[np.ndarray]:
    """Every completion of the column [R] that has a positive."""
    unknown = np.flatnonzero(states < 0)
    made = []
    for filling in itertools.product((0, 1), repeat=len(unknown)):
        complete = states.copy()
        complete[unknown] = filling
        made.append(complete == 1)
    return [complete for complete in made if complete.any()]


def random_case(rng: np.random.Generator, runs: int) -> tuple[list[np.ndarray], np.ndarray]:
    labelled, unknown = rng.integers(0, 8), rng.integers(0, 8)
    states = np.append(rng.random(labelled) < rng.choice([0.0, 0.1, 0.5, 0.9]), np.full(unknown, -1)).astype(int)
    return [rng.random(len(states)) < rng.choice([0.1, 0.5, 0.9]) for _ in range(runs)], states


def limits(values: list[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (np.nan, np.nan)


@pytest.mark.parametrize("seed", range(4))
def test_bounds_are_the_extremes_over_all_fillings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(60):
        (accepted,), states = random_case(rng, 1)
        result = bounds(decided(accepted[None, :, None], states[:, None]))
        filled, every = fillings(states), np.ones(len(states), dtype=bool)
        assert result.cells[0] == (states < 0).sum()
        expected = limits([f1(accepted, targets) for targets in filled])
        np.testing.assert_allclose((result.f1_low[0], result.f1_high[0]), expected, atol=1e-15)
        expected = limits([f1(accepted, targets) - f1(every, targets) for targets in filled])
        np.testing.assert_allclose((result.gain_low[0], result.gain_high[0]), expected, atol=1e-15)


@pytest.mark.parametrize("seed", range(4))
def test_bounds_of_a_difference_are_the_extremes_over_all_fillings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(60):
        (a, b), states = random_case(rng, 2)
        low, high = delta_bounds(*(decided(run[None, :, None], states[:, None]) for run in (a, b)))
        expected = limits([f1(a, targets) - f1(b, targets) for targets in fillings(states)])
        np.testing.assert_allclose((low[0], high[0]), expected, atol=1e-15)


def test_the_closed_form_of_f1_with_positives() -> None:
    rng = np.random.default_rng(0)
    states = rng.choice([0, 1, -1], size=(400, 3), p=[0.4, 0.3, 0.3])
    accepted = rng.random((1, *states.shape)) < 0.5
    result = bounds(decided(accepted, states))
    tp, fp, u1 = ((accepted[0] & (states == state)).sum(axis=0) for state in (1, 0, -1))
    fn, u0 = ((~accepted[0] & (states == state)).sum(axis=0) for state in (1, -1))
    np.testing.assert_allclose(result.f1_low, 2 * tp / (2 * tp + fp + u1 + fn + u0), rtol=1e-14)
    np.testing.assert_allclose(result.f1_high, 2 * (tp + u1) / (2 * (tp + u1) + fp + fn), rtol=1e-14)


def test_no_random_filling_of_many_cells_lies_outside_and_the_greedy_one_is_reached() -> None:
    rng = np.random.default_rng(1)
    states = rng.choice([0, 1, -1], size=1500, p=[0.3, 0.2, 0.5])
    a, b = rng.random((2, 1500)) < [[0.5], [0.4]]
    low, high = delta_bounds(*(decided(run[None, :, None], states[:, None]) for run in (a, b)))
    kind = 2 * a + b
    reached = []
    for _ in range(3000):
        targets = (states == 1) | ((states < 0) & (rng.random(1500) < rng.choice([0.0, 1.0, rng.random()], 4)[kind]))
        reached.append(f1(a, targets) - f1(b, targets))
    assert low[0] <= min(reached)
    assert max(reached) <= high[0]
    # among these are the fillings of whole kinds of cells; what those miss is a kind filled in part
    assert low[0] == pytest.approx(min(reached), abs=0.01)
    assert high[0] == pytest.approx(max(reached), abs=0.01)


def test_without_na_cells_the_bounds_are_the_figures() -> None:
    run = oracles.predictions(missing=0.0)
    policy = Spec("per_attribute_f1")
    tuned = tune(run, policy)
    result, scored = bounds(Decisions.of(run, tuned)), figures(run, tuned, cross_fitted(run, policy))
    np.testing.assert_allclose(result.f1_low, scored.value("f1_tuned"), rtol=1e-14)
    np.testing.assert_allclose(result.f1_high, scored.value("f1_tuned"), rtol=1e-14)
    np.testing.assert_allclose(result.gain_low, scored.value("f1_tuned") - scored.value("floor_f1"), atol=1e-15)
    other = Decisions.of(oracles.predictions(missing=0.0))
    expected = scored.value("f1_tuned") - scored.value("f1_default")
    np.testing.assert_allclose(delta_bounds(Decisions.of(run, tuned), other), [expected, expected], atol=1e-15)


def test_a_truth_that_hides_behind_na_lies_within() -> None:
    whole, partly = (
        Decisions.of(oracles.predictions(missing=missing)) for missing in (0.0, 0.3)
    )  # the same but for the NA
    result = bounds(partly)
    truth = [[f1_score(whole.labels.targets[:, a], seed[:, a]) for a in range(4)] for seed in whole.accepted]
    assert (result.f1_low <= np.mean(truth, axis=0)).all()
    assert (np.mean(truth, axis=0) <= result.f1_high).all()
    assert result.cells.tolist() == (~partly.labels.observed).sum(axis=0).tolist()


def test_without_any_positive_there_is_nothing_to_bound_but_with_na_there_is() -> None:
    accepted = np.array([True, False, True])[None, :, None]
    result = bounds(decided(accepted, np.array([[0], [0], [0]])))
    assert np.isnan([result.f1_low, result.f1_high, result.gain_low, result.gain_high]).all()
    result = bounds(decided(accepted, np.array([[0], [0], [-1]])))  # one filling with a positive
    assert (result.f1_low, result.f1_high) == (2 / 3, 2 / 3)
    result = bounds(decided(accepted, np.array([[-1], [-1], [-1]])))
    assert (result.f1_low, result.f1_high) == (0, 1)


def test_seeds_are_paired_and_averaged_and_other_rows_refused() -> None:
    rng = np.random.default_rng(2)
    states = rng.choice([0, 1, -1], size=(40, 2), p=[0.3, 0.4, 0.3])
    a, b = rng.random((3, 40, 2)) < 0.6, rng.random((3, 40, 2)) < 0.4

    def each(i: int, j: int) -> np.ndarray:
        return np.array(delta_bounds(decided(a[i : i + 1], states), decided(b[j : j + 1], states)))

    result = delta_bounds(decided(a, states), decided(b, states))
    np.testing.assert_allclose(result, np.mean([each(i, i) for i in range(3)], axis=0), atol=1e-15)
    result = delta_bounds(decided(a, states), decided(b[:2], states))
    np.testing.assert_allclose(result, np.mean([each(i, j) for i in range(3) for j in range(2)], axis=0), atol=1e-15)
    assert np.array_equal(delta_bounds(decided(a, states), decided(a, states)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="different test rows"):
        delta_bounds(decided(a, states), decided(a, 1 - states))
