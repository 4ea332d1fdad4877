from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from oracles import metric, predictions, probabilities, thresholds_of
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation import intervals as estimates
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.intervals import FoldRanks, intervals
from aimonk_bench.evaluation.predictions import Predictions, sigmoid
from aimonk_bench.evaluation.proportions import FEW, mover, wilson
from aimonk_bench.evaluation.thresholds import Thresholds, tune
from aimonk_bench.registry import Spec
from experiments.simulations.coverage import fixed_heads, retrained
from experiments.simulations.worlds import PREVALENCES, Heads, World, fixed

Array = np.ndarray[Any, Any]
COUNTED = ("f1_default", "f1_tuned", "precision", "recall", "accuracy_default", "accuracy_tuned")
NAMES = (*COUNTED, "average_precision", "roc_auc")


def holdout(scores: Array, targets: Array, observed: Array | None = None, group: Array | None = None) -> Predictions:
    """Scores [S, R, A] as logits of test rows, with one validation row that there must be."""
    seeds, rows, attributes = scores.shape
    observed = np.ones(targets.shape, dtype=bool) if observed is None else observed
    group = np.arange(rows) if group is None else group

    def below(array: Array, first: Array) -> Array:
        return np.concatenate([first, array], axis=-2)

    return Predictions(
        logits=below(scores, np.zeros((seeds, 1, attributes))).astype(np.float32),
        labels=Labels.of(
            below(targets, np.zeros((1, attributes))),
            below(observed, np.zeros((1, attributes), dtype=bool)),
            tuple(map(str, range(attributes))),
        ),
        split=np.array(["val"] + ["test"] * rows),
        fold=np.zeros(rows + 1, dtype=np.int16),
        group=np.append(group.max() + 1, group).astype(np.int32),
        image_id=np.arange(rows + 1).astype(str),
        seed=np.arange(seeds),
        train_positive=np.zeros((1, attributes), dtype=np.int32),
        train_observed=np.zeros((1, attributes), dtype=np.int32),
    )


def drawn(seed: int, rows: int = 80, seeds: int = 1, attributes: int = 3, missing: float = 0.0) -> Predictions:
    """Scores with ties that tell something about the labels."""
    rng = np.random.default_rng(seed)
    targets = rng.random((rows, attributes)) < np.linspace(0.2, 0.8, attributes)
    common = rng.normal(size=(rows, attributes))
    scores = common + 0.5 * rng.normal(size=(seeds, rows, attributes)) + 1.2 * targets - 0.5
    return holdout(np.round(scores, 1), targets, rng.random(targets.shape) >= missing)


def counts(run: Predictions, name: str) -> tuple[Array, Array]:
    """Numerator and denominator [S, A] of a proportion, at 0.5; of F1, TP and TP + FP + FN."""
    decisions = Decisions.of(run)
    observed, positives = decisions.labels.observed, decisions.labels.positive
    accepted = decisions.accepted & observed
    hits, wrong = (accepted & positives).sum(1), (observed & (accepted != positives)).sum(1)
    rows, positive = observed.sum(0) + 0 * hits, positives.sum(0) + 0 * hits
    of = {"f1": hits + wrong, "precision": accepted.sum(1), "recall": positive, "accuracy": rows}
    kind = name.split("_")[0]
    return (rows - wrong if kind == "accuracy" else hits), of[kind]


@pytest.mark.parametrize("count", [1, 3, 10, 250])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_is_that_of_statsmodels(count: int, level: float) -> None:
    hits = np.arange(count + 1)
    expected = proportion_confint(hits, count, alpha=1 - level, method="wilson")
    np.testing.assert_allclose(wilson(hits / count, count, level), expected, atol=1e-12)


@pytest.mark.parametrize("name", COUNTED)
def test_one_seed_of_a_holdout_is_a_plain_wilson_interval(name: str) -> None:
    run = drawn(1, missing=0.2)
    hits, of = (numbers[0] for numbers in counts(run, name))
    expected = np.array(proportion_confint(hits, of, method="wilson"))
    if name.startswith("f1"):
        expected = 2 * expected / (1 + expected)
    result = intervals(run, thresholds_of(run))[name]
    np.testing.assert_allclose([result.low, result.high], expected, rtol=1e-9)
    np.testing.assert_allclose([result.fixed_low, result.fixed_high], expected, rtol=1e-9)


def test_folds_divide_the_number_of_trials_by_the_variance_factor() -> None:
    run = predictions(3, images=200, folds=5, seeds=1)
    hits, of = (numbers[0] for numbers in counts(run, "recall"))
    result = intervals(run, thresholds_of(run))["recall"]
    np.testing.assert_allclose([result.low, result.high], wilson(hits / of, of / (1 + 5 / 4)), rtol=1e-9)
    of_heads = wilson(hits / of, of / np.sqrt(1 + 5 / 4))
    np.testing.assert_allclose([result.fixed_low, result.fixed_high], of_heads, rtol=1e-9)


def test_folds_at_the_default_threshold_add_what_another_intercept_does() -> None:
    run = predictions(4, images=400, folds=4, seeds=1)
    run = replace(run, train_positive=np.full((4, 4), 30, np.int32), train_observed=np.full((4, 4), 80, np.int32))
    test, error = run.part("test"), np.sqrt(1 / 30.5 + 1 / 50.5)
    moved = [metric("accuracy", sigmoid(test.logits[0] + sign * error), test.labels) for sign in (1, -1)]
    hits, of = (numbers[0] for numbers in counts(run, "accuracy"))
    share = hits / of
    variance = (1 + 4 / 3) * share * (1 - share) / of + ((moved[0] - moved[1]) / 2) ** 2
    result = intervals(run, thresholds_of(run))
    expected = wilson(share, share * (1 - share) / variance)
    np.testing.assert_allclose([result["accuracy_default"].low, result["accuracy_default"].high], expected, rtol=2e-3)
    assert (result["accuracy_default"].low < result["accuracy_tuned"].low).any()
    np.testing.assert_array_equal(result["accuracy_default"].fixed_low, result["accuracy_tuned"].fixed_low)


@pytest.mark.parametrize("name", NAMES)
def test_the_value_lies_within_the_limits_and_fixed_heads_are_surer(name: str) -> None:
    run = predictions(5, images=150, folds=3, seeds=3)
    thresholds = tune(run, Spec("per_attribute_f1"))
    result = intervals(run, thresholds)[name]
    value = figure(run, thresholds, name)
    assert np.isfinite(value).all()
    limits = np.array([np.zeros(len(value)), result.low, result.fixed_low, value, result.fixed_high, result.high])
    assert (np.diff([*limits, np.ones(len(value))], axis=0) >= 0).all()


def figure(run: Predictions, thresholds: Thresholds, name: str) -> Array:
    """The figure [A] by `metrics`."""
    test = run.split == "test"
    kind = name.removesuffix("_default").removesuffix("_tuned")
    parts = [test]
    if kind in ("average_precision", "roc_auc"):
        parts = [test & (run.fold == fold) for fold in range(run.folds)]
    values = []
    for part in parts:
        limit = 0.5 if name.endswith("_default") else thresholds.values[:, run.fold[part]]
        values.append(metric(kind, probabilities(run)[:, part], run.labels[part], limit).mean(axis=0))
    return np.mean(values, axis=0)


@pytest.mark.parametrize("name", ["f1_default", "precision", "accuracy_default"])
def test_the_variance_over_images_is_that_of_a_bootstrap_of_groups(name: str) -> None:
    rng = np.random.default_rng(0)
    run = drawn(2, rows=400, seeds=3)
    group = np.append(200, rng.integers(0, 200, 400)).astype(np.int32)
    summed = Decisions.of(replace(run, group=group)).by_group()
    estimate = getattr(estimates, name.removesuffix("_default"))(summed)
    groups = len(summed.fold)
    weight = rng.multinomial(groups, np.full(groups, 1 / groups), 4000)
    tp, accepted = (np.einsum("dg,sga->dsa", weight, counts) for counts in (summed.true_positive, summed.accepted))
    positive, observed = ((weight @ counts)[:, None] for counts in (summed.positive, summed.observed))
    wrong = accepted + positive - 2 * tp
    figures = {
        "f1_default": 2 * tp / (2 * tp + wrong),
        "precision": tp / accepted,
        "accuracy_default": 1 - wrong / observed,
    }
    expected = np.cov(figures[name].mean(axis=1).T)
    mean = estimate.influence.mean(axis=0)
    np.testing.assert_allclose(mean.T @ mean, expected, rtol=0.12, atol=0.02 * expected.max())


def delong(scores: Array, targets: Array) -> float:
    """Variance of the AUC of one head by the definition of DeLong et al., pair by pair."""
    above, below = scores[targets == 1], scores[targets == 0]
    kernel = [[float(p > q) + 0.5 * float(p == q) for q in below] for p in above]
    parts = []
    for placements in (kernel, list(zip(*kernel, strict=True))):
        means = [sum(row) / len(row) for row in placements]
        auc = sum(means) / len(means)
        parts.append(sum((mean - auc) ** 2 for mean in means) / (len(means) - 1) / len(means))
    return sum(parts)


def test_the_influences_of_roc_auc_give_delongs_variance() -> None:
    run = drawn(4, missing=0.3)
    ranking = FoldRanks.of(run.part("test", 0)).roc_auc()
    for a in range(3):
        seen = run.labels.observed[1:, a]
        scores, targets = probabilities(run)[0, 1:, a][seen], run.labels.targets[1:, a][seen]
        assert ranking.per_seed[0, a] == pytest.approx(roc_auc_score(targets, scores))
        assert (ranking.influence[0, :, a] ** 2).sum() == pytest.approx(delong(scores, targets))
        assert ranking.influence[0, :, a].sum() == pytest.approx(0, abs=1e-12)


def test_the_influences_of_average_precision_are_its_derivatives() -> None:
    run = drawn(5, rows=40, missing=0.3)
    ranking = FoldRanks.of(run.part("test", 0)).average_precision()
    step = 1e-6
    for a in range(3):
        seen = np.flatnonzero(run.labels.observed[1:, a])
        scores, targets = probabilities(run)[0, 1:, a][seen], run.labels.targets[1:, a][seen]
        assert ranking.per_seed[0, a] == pytest.approx(average_precision_score(targets, scores))
        count = min(targets.sum(), (1 - targets).sum())
        for place, row in enumerate(seen):
            nudge = step * (np.arange(len(seen)) == place)
            up, down = (average_precision_score(targets, scores, sample_weight=1 + s * nudge) for s in (1, -1))
            expected = (up - down) / (2 * step) * np.sqrt(count / (count - 1))
            assert ranking.influence[0, row, a] == pytest.approx(expected, abs=1e-7)
        assert not ranking.influence[0, ~run.labels.observed[1:, a], a].any()


@pytest.mark.parametrize("name", NAMES)
def test_duplicates_in_one_group_tell_nothing_new(name: str) -> None:
    run = drawn(6, seeds=3)
    scores, targets = run.logits[:, 1:], run.labels.targets[1:] == 1
    rows = np.repeat(np.arange(80), 3)
    doubled = holdout(scores[:, rows], targets[rows], group=rows)
    apart = holdout(scores[:, rows], targets[rows])
    one, two, three = (intervals(r, thresholds_of(r))[name] for r in (run, doubled, apart))
    for limit in ("low", "high", "seed_sd"):
        np.testing.assert_allclose(getattr(two, limit), getattr(one, limit), rtol=1e-9)
    assert (three.high - three.low < 0.7 * (one.high - one.low)).all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_heads_are_one_head(name: str) -> None:
    run = drawn(7, missing=0.1)
    many = holdout(np.repeat(run.logits[:, 1:], 4, axis=0), run.labels.targets[1:] == 1, run.labels.observed[1:])
    one, four = (intervals(r, thresholds_of(r))[name] for r in (run, many))
    np.testing.assert_allclose([four.low, four.high], [one.low, one.high], rtol=1e-9)
    assert not four.seed_sd.any()
    assert np.isnan(one.seed_sd).all()


def test_seeds_that_differ_beyond_what_images_explain_widen() -> None:
    run = drawn(8, rows=300, seeds=4)
    shift = np.linspace(-1, 1, 4)[:, None, None]
    moved = holdout(run.logits[:, 1:] + shift, run.labels.targets[1:] == 1)
    one, other = (intervals(r, thresholds_of(r))["recall"] for r in (run, moved))
    assert (other.high - other.low > 2 * (one.high - one.low)).all()
    result = metric("recall", probabilities(moved)[:, 1:], moved.labels[1:])
    np.testing.assert_allclose(other.seed_sd, result.std(axis=0, ddof=1))


@pytest.mark.parametrize("name", NAMES)
def test_fold_spread_is_that_of_the_folds_own_figures(name: str) -> None:
    run = predictions(9, images=300, folds=3, seeds=2)
    thresholds = tune(run, Spec("per_attribute_f1"))
    by_fold = []
    for fold in range(3):
        rows = (run.fold == fold) & (run.split == "test")
        limit = 0.5 if name.endswith("_default") else thresholds.values[:, [fold]]
        kind = name.removesuffix("_default").removesuffix("_tuned")
        by_fold.append(metric(kind, probabilities(run)[:, rows], run.labels[rows], limit))
    expected = np.std(by_fold, axis=0, ddof=1).mean(axis=0)
    np.testing.assert_allclose(intervals(run, thresholds)[name].fold_sd, expected)
    alone = predictions(9, folds=1)
    assert np.isnan(intervals(alone, thresholds_of(alone))[name].fold_sd).all()


def test_few_is_the_smaller_of_hits_and_errors() -> None:
    run = drawn(10, rows=40, seeds=3, attributes=12)
    hits, of = counts(run, "f1")
    expected = np.minimum(hits.mean(axis=0), (of - hits).mean(axis=0)) < FEW
    assert expected.any()
    assert not expected.all()
    np.testing.assert_array_equal(intervals(run, thresholds_of(run))["f1_tuned"].few, expected)
    classes = np.minimum(run.labels.targets[1:].sum(axis=0), (1 - run.labels.targets[1:]).sum(axis=0))
    np.testing.assert_array_equal(intervals(run, thresholds_of(run))["roc_auc"].few, classes < FEW)


def test_no_interval_where_a_figure_is_undefined() -> None:
    targets = np.zeros((30, 4), dtype=bool)
    targets[:6, 0] = True
    targets[:, 3] = True
    scores = np.full((2, 30, 4), -1.0)
    scores[:, :9, 1] = 1.0  # column 0: every positive missed; 1: no positive, 9 accepted; 2: neither
    scores[:, :, 3] = 1.0  # 3: every row a positive, all found
    observed = np.ones(targets.shape, dtype=bool)
    run = holdout(scores, targets, observed)
    result = intervals(run, thresholds_of(run))
    low, high = wilson([0, 1], [6, 30])
    np.testing.assert_allclose(result["f1_tuned"].low[[0, 3]], 2 * low / (1 + low))
    np.testing.assert_allclose(result["f1_tuned"].high[[0, 3]], 2 * high / (1 + high))
    nothing = {name: np.flatnonzero(np.isnan(result[name].low)).tolist() for name in NAMES}
    assert nothing == {
        "f1_default": [1, 2],
        "f1_tuned": [1, 2],
        "precision": [0, 1, 2],
        "recall": [1, 2],
        "accuracy_default": [],
        "accuracy_tuned": [],
        "average_precision": [1, 2],
        "roc_auc": [1, 2, 3],
    }
    observed[:, 0] = False
    empty = holdout(scores, targets, observed)
    for interval in intervals(empty, thresholds_of(empty)).values():
        assert np.isnan([interval.low[0], interval.high[0]]).all()
        np.testing.assert_array_equal(interval.correlation[0], [1, 0, 0, 0])


def test_a_perfect_ranking_of_few_images_is_not_sure() -> None:
    targets = (np.arange(40) < 4)[:, None]
    run = holdout(np.where(targets, 1.0, -1.0)[None], targets)
    result = intervals(run, thresholds_of(run))
    assert result["roc_auc"].high == 1
    assert 0.5 < result["roc_auc"].low < 0.8
    assert result["average_precision"].low < 0.6


@pytest.mark.parametrize("name", ["f1_default", "recall", "accuracy_default", "roc_auc", "average_precision"])
def test_widths_agree_with_the_bca_bootstrap(name: str) -> None:
    run = drawn(11, rows=300, attributes=1)
    result = intervals(run, thresholds_of(run))[name]
    scores, targets = probabilities(run)[0, 1:, 0], run.labels.targets[1:, 0]

    def statistic(rows: Array, axis: int) -> Array:
        rows = rows.astype(int)[..., None]
        return metric(
            name.removesuffix("_default"), scores[rows], Labels(targets[rows], np.ones_like(rows, dtype=bool)), 0.5
        )[..., 0]

    rng = np.random.default_rng(0)
    bca = bootstrap((np.arange(300),), statistic, n_resamples=999, rng=rng, vectorized=True).confidence_interval
    assert result.high - result.low == pytest.approx(bca.high - bca.low, rel=0.12)
    assert result.low[0] == pytest.approx(bca.low, abs=0.25 * (bca.high - bca.low))


def test_mover_adds_distances_like_standard_errors() -> None:
    values = np.array([0.5, 0.5])
    half = np.hypot(0.1, 0.05) / 2
    symmetric = mover(values, values - np.array([0.1, 0.05]), values + np.array([0.1, 0.05]), np.eye(2))
    np.testing.assert_allclose(symmetric, [0.5 - half, 0.5 + half])
    values, low, high = np.array([0.5, 0.9]), np.array([0.2, 0.5]), np.array([0.6, 0.95])
    np.testing.assert_allclose(mover(values, low, high, np.ones((2, 2))), [low.mean(), high.mean()])
    for a in range(2):  # a single figure keeps its interval
        np.testing.assert_allclose(
            mover(values[[a]], low[[a]], high[[a]], np.ones((1, 1))), [low[a], high[a]], rtol=1e-12
        )


def test_mover_takes_distances_where_the_figures_are_when_the_mean_is_at_its_bound() -> None:
    """The mean of many independent figures hardly moves any of them: each distance is that at the figure itself."""
    values, low, high = (np.full(10_000, x) for x in (0.9, 0.7, 0.95))
    at_value = np.sqrt(0.2 * 0.2**2 + 0.8 * 0.05**2)  # d^2 is linear between the bounds; .9 is four fifths of the way
    bounds = mover(values, low, high, np.eye(10_000))
    np.testing.assert_allclose(np.abs(np.subtract(bounds, 0.9)), at_value / 100, rtol=0.05)
    sure = mover(np.ones(3), np.ones(3), np.ones(3), np.eye(3))
    np.testing.assert_array_equal(sure, [1, 1])


def test_few_rows_do_not_show_that_rankings_are_unrelated() -> None:
    """Two attributes with the same labels, whose scores are unrelated, or opposite: the labels say that they may be."""
    for rows, least, most in ((12, 0.5, 0.95), (4000, -0.1, 0.1)):
        rng = np.random.default_rng(3)
        positive = np.repeat(np.arange(rows)[:, None] < rows // 4, 2, axis=1)
        run = holdout(rng.normal(size=(1, rows, 2)), positive)
        result = intervals(run, thresholds_of(run))["roc_auc"]
        assert least < result.correlation[0, 1] < most


def test_the_macro_covers_the_masked_attributes() -> None:
    run = drawn(12, seeds=3, attributes=4)
    result = intervals(run, thresholds_of(run))["f1_tuned"]
    values = figure(run, thresholds_of(run), "f1_tuned")
    alone = np.array([False, True, False, False])
    expected = [result.low[1], result.high[1], result.fixed_low[1], result.fixed_high[1]]
    np.testing.assert_allclose(result.macro(values, alone), expected)
    mask = np.array([True, True, False, True])
    chosen = result.correlation[np.ix_(mask, mask)]
    np.testing.assert_allclose(
        result.macro(values, mask)[:2], mover(values[mask], result.low[mask], result.high[mask], chosen)
    )
    assert np.isnan(result.macro(values, np.zeros(4, dtype=bool))).all()


def test_copies_of_an_attribute_are_wholly_correlated() -> None:
    run = drawn(13, seeds=2, attributes=2)
    columns = [0, 0, 1]
    twice = holdout(run.logits[:, 1:, columns], run.labels.targets[1:, columns] == 1)
    for result in intervals(twice, thresholds_of(twice)).values():
        assert result.correlation[0, 1] == pytest.approx(1)
        assert abs(result.correlation[0, 2]) < 0.9


@pytest.mark.parametrize("copies", [1, 99])
def test_two_rows_do_not_show_that_the_errors_of_two_attributes_cancel(copies: int) -> None:
    """Every row is accepted; a row is positive for one attribute, the next for the other: F1 = 2/3 of both."""
    targets = np.tile([[True, False], [False, True]], (copies, 1))
    run = holdout(np.ones((1, *targets.shape)), targets)
    result = intervals(run, thresholds_of(run, 0.5))["f1_tuned"]
    values = figure(run, thresholds_of(run, 0.5), "f1_tuned")
    np.testing.assert_allclose(values, 2 / 3)
    assert result.correlation[0, 1] == pytest.approx(0.2 - 1.2 * copies / (copies + 20))  # from -1 towards .2
    low, high, _, _ = result.macro(values, np.array([True, True]))
    assert (high - low) > (0.3 if copies == 1 else 0.005)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_limits_are_proportions_on_either_side(data: st.DataObject) -> None:
    seeds, rows, attributes = (data.draw(st.integers(1, high)) for high in (3, 12, 3))
    levels = data.draw(st_numpy.arrays(np.int8, (seeds, rows, attributes), elements=st.integers(-2, 2)))
    targets, observed = (data.draw(st_numpy.arrays(bool, (rows, attributes))) for _ in range(2))
    group = data.draw(st_numpy.arrays(np.int32, rows, elements=st.integers(0, rows)))
    run = holdout(levels.astype(float), targets, observed, group)
    for name, result in intervals(run, thresholds_of(run)).items():
        value = figure(run, thresholds_of(run), name)
        has = np.isfinite(value)
        assert (np.isfinite(result.low) == np.isfinite(result.high)).all()
        assert np.isfinite(result.low[has]).all()
        within = (result.low >= 0) & (result.low <= value + 1e-9) & (value <= result.high + 1e-9) & (result.high <= 1)
        assert within[has].all()
        assert (np.abs(result.correlation) <= 1).all()
        low, high, _, _ = result.macro(value, has)
        assert not has.any() or low <= value[has].mean() + 1e-9 <= high + 2e-9


@pytest.mark.parametrize(
    "world",
    [
        Heads(0.08, 0.9, 100, 0.5),
        Heads(0.5, 0.75, 100, 0.0),
        Heads(0.08, 0.6, 45, 0.0, shared=1.0),
        Heads(0.5, 0.75, 45, 0.0, copies=4, shared=1.0),
    ],
    ids=["few", "many", "hold-out of 300 images", "groups of four"],
)
def test_intervals_of_fixed_heads_cover(world: Heads) -> None:
    for row in fixed_heads(world, 200, 100, np.random.default_rng(0)):
        assert row["coverage"] > 0.93 - 2 * row["error"], row
        assert row["macro"] > 0.93 - 2 * row["macro_error"], row
        assert row["rarer"] < FEW * world.copies or row["coverage"] < 0.97 + 3 * row["error"], row


def test_the_simulation_finds_an_interval_that_does_not_cover() -> None:
    world = Heads(0.08, 0.9, 100, 0.5)
    run, thresholds = fixed(world, 200, np.random.default_rng(0))
    estimate = estimates.f1(Decisions.of(run, thresholds).by_group())
    value, error = estimate.per_seed.mean(axis=0), np.sqrt((estimate.influence.mean(axis=0) ** 2).sum(axis=0))
    covered = np.abs(value - world.truths()["f1_tuned"]) < 1.96 * error
    assert covered.mean() < 0.85  # the same variance, as +- 1.96 standard errors


def test_recipes_are_covered_when_retrained() -> None:
    rows = {
        (row["world"], row["figure"], row.get("prevalence")): row
        for row in retrained(World(0.75, 300), 25, np.random.default_rng(1))
    }
    for figure in ("f1_tuned", "roc_auc"):
        recipe, heads = ([rows[about, figure, p] for p in PREVALENCES] for about in ("recipe", "heads"))
        assert np.mean([row["coverage"] for row in recipe]) > 0.93
        assert recipe[0]["macro"] > 0.9
        assert np.mean([row["coverage"] for row in heads]) > 0.85
        ratios = [one["width"] / other["width"] for one, other in zip(recipe, heads, strict=True)]
        np.testing.assert_allclose(ratios, 1.5**0.5, atol=0.08)  # c over its root
    assert rows["difference", "macro f1_tuned", None]["macro"] > 0.9
