from __future__ import annotations

import dataclasses
from typing import Any

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


def weigh(p: list[float], gain_p: list[float], before: association.BeforeTraining | None = None) -> verdict.Verdict:
    count = len(p)
    after = association.AfterTraining(np.full(count, 0.75), np.array(p), np.full(count, 88), np.full(count, 12))
    return verdict.verdict(before, after, gain.Gain(np.full(count, 0.1), np.full(count, 0.01), np.array(gain_p)))


def sentence(weighed: verdict.Verdict, **options: Any) -> str:
    names: dict[str, Any] = {
        "winner": "focal",
        "indistinguishable": ["hill", "masked_bce"],
        "simplest": "masked_bce",
        "untested": 0,
    }
    return verdict.sentence(weighed, (0.6, 0.6 + 0.1 * weighed.ranked.sum()), **(names | options))


def test_the_three_sentences() -> None:
    nothing = weigh([0.2, 0.013, np.nan], [0, 0, 0])  # 2 tests x 2 attributes x 0.013 > 0.05
    assert (nothing.kind, nothing.signal.found) == ("a", [False] * 3)
    assert sentence(nothing) == (
        "No configuration is distinguishable from guessing (smallest adjusted p = 0.052). With these counts an "
        "out-of-fold AUC of 0.91, 0.91, 0.91 would have been found with 80 % probability. Check labels, disagreeing "
        "duplicates, the join of labels and images."
    )
    ranks = weigh([0.001, 0.001, 0.5], [0.03, 0.2, 0.0])  # 2 x 0.03 > 0.05; the third has no signal
    assert (ranks.kind, ranks.signal.found) == ("b", [True, True, False])
    assert sentence(ranks) == (
        "Scores rank better than chance on 2 of 3 attributes (AUC [0.60, 0.80]), but no F1 above the all-positive "
        "baseline is shown; at this prevalence and AUC the largest possible gain is 0.001."
    )
    wins = weigh([0.001, 0.001, 0.5], [0.02, 0.2, 0.0])
    assert (wins.kind, wins.signal.gains) == ("c", [True, False, False])
    assert sentence(wins) == (
        "focal beats the all-positive baseline on 1 of 3 attributes; runs not distinguishable from the winner: hill, "
        "masked_bce; simplest of these: masked_bce."
    )
    np.testing.assert_allclose(wins.signal.adjusted, [0.006, 0.006, 1.0])
    np.testing.assert_allclose(wins.signal.gain_adjusted, [0.04, 0.2, np.nan])
    assert wins.signal.found == wins.ranked.tolist() == [True, True, False]


def test_either_test_finds_signal() -> None:
    first = association.BeforeTraining(
        *np.array([[0.001, 0.9], [0.7, 0.5]]), np.array([5, 0]), np.array([7, 9]), ["", ""]
    )
    both = weigh([0.9, 0.001], [1, 1], before=first)
    assert all(both.signal.found)
    np.testing.assert_allclose(both.signal.adjusted, [0.004, 0.004])
    alone = weigh([0.9, 0.9], [1, 1], before=dataclasses.replace(first, p=np.array([0.9, np.nan])))
    assert "AUC of none, none would" in sentence(alone)  # too few, and no positives at all; 1.8 is cut to 1
    assert "smallest adjusted p = 1.000" in sentence(alone)
    undefined = weigh([np.nan, np.nan], [np.nan, np.nan])
    assert undefined.kind == "a"
    assert "smallest adjusted p = undefined" in sentence(undefined)


def test_scores_that_were_not_found_to_rank_are_not_said_to() -> None:
    first = association.BeforeTraining(
        *np.array([[0.001, 0.001], [0.7, 0.7]]), np.array([5, 5]), np.array([7, 9]), ["", ""]
    )
    neither = weigh([0.9, 0.6], [1, 1], before=first)
    assert (neither.kind, neither.signal.found) == ("b", [True, True])
    assert sentence(neither) == (
        "Features tell something about 2 of 2 attributes (the test before training), but the trained scores are not "
        "shown to rank better than chance: train longer or at a higher learning rate, and look at the loss curve."
    )
    one = weigh([0.9, 0.001], [1, 1], before=first)
    assert all(one.signal.found)
    assert sentence(one).startswith("Scores rank better than chance on 1 of 2 attributes (AUC [0.60, 0.70]), but no F1")


def test_long_and_empty_lists_are_told_honestly() -> None:
    names = [f"run {number}" for number in range(13)]
    wins = weigh([0.001], [0.001])
    many = sentence(wins, indistinguishable=names)
    assert "from the winner: run 0, run 1, run 2, run 3, run 4, run 5, ... and 7 more; simplest" in many
    alone = sentence(wins, indistinguishable=[], simplest="focal", untested=2)
    assert "from the winner: none tested (2 could not be compared); simplest of these: focal." in alone
    none = sentence(wins, indistinguishable=[], simplest="focal")
    assert none.endswith("not distinguishable from the winner: none; simplest of these: focal.")


# --- simulation ---------------------------------------------------------------------------------------------------


def test_planted_labels_give_b_and_c_and_permuted_ones_give_a() -> None:
    kinds = {name: one.kind for name, one in simulation.small_verdicts(np.random.default_rng(0))}
    assert kinds == {"permuted": "a", "planted, prevalence 0.88": "b", "planted, prevalence 0.3": "c"}


def test_the_tests_keep_their_level_and_find_what_is_planted() -> None:
    rng = np.random.default_rng(1)
    small, large = simulation.gaussian(), simulation.gaussian(880)
    levels = [
        *simulation.level_before(small, 200, 79, rng),
        *simulation.level_after(small, 300, 5, 40, 10.0, rng),
        *simulation.level_gain(200, rng),
    ]
    judged = list(simulation.together(levels))  # single cells miss by chance
    assert len(judged) == 6
    assert [row for row in judged if not row.within] == []
    result = list(simulation.power_before(large, 60, 159, rng))
    assert [row.within for row in result] == [True, True, None]
    wrong = [row.value for row in levels if "not the method" in row.figure]
    assert np.mean(wrong) > 0.07  # the simulation can tell
