from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
from scipy.stats import binom

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation import association, gain, thresholds, verdict
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.registry import Spec
from experiments.simulations import signal as simulation

# --- gain and verdict ---------------------------------------------------------------------------------------------


def decided(folds: int = 3, seed: int = 0) -> Decisions:
    run = oracles.predictions(seed=seed, folds=folds, images=120)
    return Decisions.of(run, thresholds.tune(run, Spec("per_attribute_f1")))


def of_counts(rejected: int, lost: int, accepted: int, hits: int) -> Decisions:
    """One seed: so many rejected rows, of which positives are lost; accepted ones, of which hits are positive."""
    n = rejected + accepted
    row = np.arange(n)
    positive = (row < lost) | ((row >= rejected) & (row < rejected + hits))
    return oracles.decisions((row >= rejected)[None, :, None], Labels.of(positive[:, None], np.ones((n, 1))))


@pytest.mark.parametrize("counts", [(5, 0, 142, 130), (3, 0, 27, 20), (30, 8, 70, 60), (130, 2, 20, 9)])
def test_p_of_a_gain_agrees_with_the_enumeration_of_both_binomials(counts: tuple[int, int, int, int]) -> None:
    rejected, lost, accepted, hits = counts
    n, n1 = rejected + accepted, lost + hits
    result = gain.gain(of_counts(*counts), draws=20_000)
    gained_here = 2 * hits / (n1 + accepted) - 2 * n1 / (n + n1)
    assert result.value[0] == pytest.approx(gained_here)
    share = n1 / (n + n1)
    x, y = np.mgrid[: rejected + 1, : accepted + 1]
    weight = binom.pmf(x, rejected, share) * binom.pmf(y, accepted, (n1 - share * rejected) / accepted)
    gained = 2 * y / np.maximum(x + y + accepted, 1) - 2 * (x + y) / (n + x + y)
    assert result.p[0] == pytest.approx(weight[gained >= gained_here - 1e-9].sum(), abs=0.01)
    assert (result.low[0] > 0) == (result.p[0] <= 0.05)


@pytest.mark.parametrize(("folds", "seeds"), [(1, 1), (1, 5), (5, 5)])
@pytest.mark.parametrize("prevalence", [0.08, 0.5, 0.88])
@pytest.mark.parametrize("rejected", [4, 8, 60])
def test_a_gain_of_nothing_is_rarely_claimed(folds: int, seeds: int, prevalence: float, rejected: int) -> None:
    """Labels drawn with no gain for the given decisions, which seeds share but for a few rows; copies among the rows.

    The true p of a discrete test is below its level, and c makes it smaller still over folds.
    """
    sets, images, rng = 400, 147, np.random.default_rng([folds, seeds, rejected])
    row = np.append(np.arange(images - 12), np.arange(12))
    order = np.argsort(rng.random((seeds, 1, sets)) * 2 + np.arange(images)[:, None], axis=1)
    accepted = (np.argsort(order, axis=1) >= rejected)[:, row]
    share = prevalence / (1 + prevalence)
    rest = (prevalence * images - share * rejected) / (images - rejected)
    chance = accepted.mean(axis=0)
    positive = rng.random((images, sets))[row] < share + (rest - share) * chance
    made = oracles.decisions(accepted, Labels.of(positive, np.ones_like(positive)), row, row % folds)
    claimed = np.mean(gain.gain(made, draws=500).p <= 0.05)
    assert claimed <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / sets)


def test_gain_of_calling_everything_positive_is_none() -> None:
    made = decided()
    labels = Labels.of(made.labels.targets * [1, 1, 1, 0], made.labels.observed)
    result = gain.gain(dataclasses.replace(made, accepted=np.ones_like(made.accepted), labels=labels))
    np.testing.assert_allclose(result.value, [0, 0, 0, np.nan], atol=1e-12)
    np.testing.assert_array_equal(result.p, [1, 1, 1, np.nan])
    assert np.isnan(result.low[3])


def test_gain_does_not_read_missing_labels() -> None:
    made = decided()
    other = dataclasses.replace(made, accepted=made.accepted ^ ~made.labels.observed)
    np.testing.assert_equal(vars(gain.gain(made)), vars(gain.gain(other)))


def test_detectable_auc_follows_the_formula() -> None:
    from scipy.stats import norm

    result = verdict.detectable_auc(np.array([50, 440, 0]), np.array([830, 440, 880]), 4)
    expected = 0.5 + (norm.ppf(1 - 0.025 / 4) + norm.ppf(0.8)) * 1.41 * np.sqrt(881 / (12 * 50 * 830))
    assert result[0] == pytest.approx(expected)
    assert result[1] < result[0]
    assert np.isnan(result[2])


def test_largest_gain_agrees_with_a_large_sample() -> None:
    rng = np.random.default_rng(0)
    for share, area in ((0.06, 0.75), (0.5, 0.75), (0.3, 0.9)):
        labels = np.arange(400_000) < share * 400_000
        scores = rng.standard_normal(len(labels)) + labels * simulation.distance(area)
        ranked = labels[np.argsort(-scores)]
        best = (2 * np.cumsum(ranked) / (np.arange(1, len(ranked) + 1) + labels.sum())).max()
        result = gain.largest_gain(np.array([share]), np.array([area]))
        assert result[0] == pytest.approx(best - 2 * share / (1 + share), abs=0.004)
    at_most = gain.largest_gain(np.array([0.88, 0.5, 0.5, np.nan]), np.array([0.75, 0.4, 1.0, 0.7]))
    np.testing.assert_allclose(at_most, [0.001, 0, 1 / 3, np.nan], atol=0.0005)


def weigh(p: list[float], gain_p: list[float], before: association.BeforeTraining | None = None) -> verdict.Signal:
    n = len(p)
    after = association.AfterTraining(np.full(n, 0.75), np.array(p), np.full(n, 88), np.full(n, 12))
    return verdict.signal(before, after, gain.Gain(np.full(n, 0.1), np.full(n, 0.01), np.array(gain_p)))


def test_no_gain_is_claimed_whose_lower_bound_is_not_above_0() -> None:
    after = association.AfterTraining(np.full(2, 0.75), np.full(2, 0.001), np.full(2, 88), np.full(2, 12))
    gained = gain.Gain(np.full(2, 0.01), np.array([0.001, -0.001]), np.full(2, 0.01))
    assert verdict.signal(None, after, gained).gains == [True, False]


def before(*p: float) -> association.BeforeTraining:
    n = len(p)
    return association.BeforeTraining(np.array(p), np.full(n, 0.7), np.array([5, 0]), np.array([7, 9]), [""] * n)


@pytest.mark.parametrize(
    ("p", "gain_p", "outcome", "has_signal", "gains"),
    [
        ([0.2, 0.013, np.nan], [0, 0, 0], "no_signal", [False] * 3, [False] * 3),  # 2 tests x 2 attributes x 0.013
        ([0.001, 0.001, 0.5], [0.03, 0.2, 0], "no_gain", [True, True, False], [False] * 3),  # 2 x 0.03; no signal in 3
        ([0.001, 0.001, 0.5], [0.02, 0.2, 0], "gain", [True, True, False], [True, False, False]),
        ([np.nan, np.nan], [np.nan, np.nan], "no_signal", [False] * 2, [False] * 2),
    ],
)
def test_the_outcome_is_that_of_the_adjusted_tests(
    p: list[float], gain_p: list[float], outcome: verdict.Outcome, has_signal: list[bool], gains: list[bool]
) -> None:
    result = weigh(p, gain_p)
    assert (result.outcome, result.has_signal, result.gains) == (outcome, has_signal, gains)
    assert result.ranked == has_signal, "without a test before training"


def test_p_is_adjusted_over_the_attributes_and_that_of_a_gain_over_those_with_signal() -> None:
    result = weigh([0.001, 0.001, 0.5], [0.02, 0.2, 0.0])
    np.testing.assert_allclose(result.adjusted, [0.006, 0.006, 1.0])
    np.testing.assert_allclose(result.gain_adjusted, [0.04, 0.2, np.nan])
    np.testing.assert_allclose(result.largest_gain, gain.largest_gain(np.full(3, 0.88), np.full(3, 0.75)))
    np.testing.assert_allclose(
        result.detectable_auc, verdict.detectable_auc(np.full(3, 88), np.full(3, 12), 3), equal_nan=False
    )


def test_either_test_finds_signal_but_the_one_before_training_does_not_see_the_scores() -> None:
    both = weigh([0.9, 0.001], [1, 1], before(0.001, 0.9))
    assert (both.outcome, both.has_signal, both.ranked) == ("no_gain", [True, True], [False, True])
    np.testing.assert_allclose(both.adjusted, [0.004, 0.004])
    assert np.isnan(both.detectable_auc).tolist() == [False, True], "from the counts of all images"
    neither = weigh([0.9, 0.6], [1, 1], before(0.001, 0.001))
    assert (neither.outcome, neither.has_signal, neither.ranked) == ("no_gain", [True, True], [False, False])
    assert weigh([0.9, 0.9], [1, 1], before(0.9, np.nan)).outcome == "no_signal"


# --- simulation ---------------------------------------------------------------------------------------------------


def test_permuted_and_planted_labels_give_the_three_outcomes() -> None:
    outcomes = dict(simulation.small_outcomes(np.random.default_rng(0)))
    assert outcomes == {
        "permuted": "no_signal",
        "planted, prevalence 0.88": "no_gain",
        "planted, prevalence 0.3": "gain",
    }


def test_the_tests_keep_their_level_and_find_what_is_planted() -> None:
    rng = np.random.default_rng(1)
    small, large = simulation.gaussian(), simulation.gaussian(880)
    levels = [
        *simulation.level_before(small, 60, 79, rng),
        *simulation.level_after(small, 150, 3, 40, 10.0, rng),
        *simulation.level_gain(200, rng),
    ]
    judged = list(simulation.together(levels))  # single cells miss by chance
    assert len(judged) == 6
    assert [row for row in judged if not row.within] == []
    result = list(simulation.power_before(large, 20, 159, rng))
    assert [row.within for row in result] == [True, True, None]
    wrong = [row.value for row in levels if "not the method" in row.figure]
    assert np.mean(wrong) > 0.07  # the simulation can tell
