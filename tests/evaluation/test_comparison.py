from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import arrays, decisions, run_of
from scipy import stats
from sklearn.metrics import f1_score
from statsmodels.stats.multitest import multipletests

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.comparison import ALPHA, MARGIN, chosen, holm, paired, simultaneous_levels
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.differences import Spread, permutation_variances, welch
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import Thresholds, tune
from aimonk_bench.registry import Spec
from experiments.simulations import comparison as simulation

ALL = np.ones(4, dtype=bool)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def run(noise: int, **options: Any) -> tuple[Predictions, Thresholds]:
    """Runs of one data set that differ in their logits."""
    content = arrays(0, **options)
    rng = np.random.default_rng(noise)
    content["logits"] = (content["logits"] + rng.normal(size=content["logits"].shape)).astype(np.float32)
    predictions = run_of(content)
    return predictions, tune(predictions, Spec("per_attribute_f1"))


def readers(runs: dict[str, tuple[Predictions, Thresholds]]) -> dict[str, tuple[Callable[[], Predictions], Thresholds]]:
    return {name: (lambda made=made: made, tuned) for name, (made, tuned) in runs.items()}


def decided(noise: int, **options: Any) -> Decisions:
    return Decisions.of(*run(noise, **options))


def at_random(rng: np.random.Generator, seeds: int, group: np.ndarray, attributes: int = 3) -> Decisions:
    shape = len(group), attributes
    observed = rng.random(shape) < 0.8
    positive = observed & (rng.random(shape) < 0.6)
    accepted = rng.random((seeds, *shape)) < 0.3 + 0.4 * positive
    return decisions(accepted, Labels.of(positive, observed), group)


def seed_f1(run: Decisions) -> np.ndarray:
    """F1 of every seed and attribute, by scikit-learn."""
    labels = run.labels
    attributes = list(enumerate(labels.observed.T))
    return np.array(
        [[f1_score(labels.targets[rows, a], one[rows, a]) for a, rows in attributes] for one in run.accepted]
    )


def enumerated(one: Decisions, other: Decisions, covered: np.ndarray) -> np.ndarray:
    """Standard deviation over every exchange of whole groups, of each attribute's difference and of their mean."""
    names = np.unique(one.group)
    times = np.lcm(len(one.accepted), len(other.accepted))
    a, b = (np.concatenate([x.accepted] * (times // len(x.accepted))) for x in (one, other))
    result = []
    for coins in itertools.product([False, True], repeat=len(names)):
        exchanged = np.isin(one.group, names[list(coins)])[:, None]
        counts = [np.where(exchanged, second, first) & one.labels.observed for first, second in ((a, b), (b, a))]
        f1 = [
            (2 * (x & one.labels.positive).sum(axis=1) / (x.sum(axis=1) + one.labels.positive.sum(axis=0))).mean(axis=0)
            for x in counts
        ]
        result.append(f1[0] - f1[1])
    differences = np.array(result)
    return np.append(differences, differences[:, covered].mean(axis=1, keepdims=True), axis=1).std(axis=0)


@pytest.mark.parametrize("size", [1, 2, 7, 23])
def test_holm_is_that_of_statsmodels(size: int) -> None:
    p = np.random.default_rng(size).choice([0, 0.0003, 0.002, 0.01, 0.011, 0.04, 0.3, 1], size)
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@pytest.mark.parametrize("lost", range(8))
def test_tests_that_were_not_made_make_no_p_smaller(lost: int) -> None:
    p = np.random.default_rng(lost).choice([0, 0.001, 0.002, 0.006, 0.007, 0.01, 0.04, 0.3, 1], 8)
    rest = np.delete(p, lost)
    with_lost = multipletests(np.append(rest, 1.0), method="holm")[1][:-1]  # the lost one as the largest
    assert holm(rest, 8) == pytest.approx(with_lost)
    assert (holm(rest, 8) >= np.delete(holm(p), lost) - 1e-12).all()
    assert (simultaneous_levels(rest, 8) <= np.delete(simultaneous_levels(p, 8), lost) + 1e-12).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 10))
def test_the_level_of_an_interval_is_that_at_which_holm_decides(p: list[float], more: int) -> None:
    values, planned = np.array(p), len(p) + more
    levels, adjusted = simultaneous_levels(values, planned), holm(values, planned)
    assert ((values <= levels) == (adjusted <= ALPHA)).all()
    assert ((levels >= ALPHA / planned) & (levels <= ALPHA)).all()
    assert (levels[adjusted > ALPHA] == ALPHA / planned).all()


def test_levels_by_hand() -> None:
    """Of m = 5: .05 / 5 = .01, then .0125, then .0167; the third step rejects .0151, the fourth, .025, does not .03."""
    levels = simultaneous_levels(np.array([0.03, 0.004, 0.0151, 0.012, 0.9]), 5)
    assert levels == pytest.approx([0.01, 0.01, 0.05 / 3, 0.0125, 0.01])
    assert simultaneous_levels(np.array([]), 0).shape == (0,)


def test_holm_leaves_out_what_was_not_tested() -> None:
    adjusted = holm([[0.02, np.nan], [0.01, 0.5]])
    assert adjusted == pytest.approx(np.array([[0.04, np.nan], [0.03, 0.5]]), nan_ok=True)
    assert holm([]).shape == (0,)


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (3, 3), (2, 3)])
def test_permutations_are_those_of_the_full_enumeration(
    ours: int, theirs: int, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    group = np.append(np.arange(12), [0, 0, 5, 11])
    one = at_random(rng, ours, group)
    other = dataclasses.replace(one, accepted=rng.random((theirs, *one.labels.shape)) < 0.5)
    covered = np.array([True, False, True])
    expected = enumerated(one, other, covered)
    (drawn,) = permutation_variances([one], other, covered, 4000, 0)
    assert np.sqrt(drawn) == pytest.approx(expected, rel=0.05)

    every = np.array(list(itertools.product([0, 1], repeat=12)))
    monkeypatch.setattr(
        "aimonk_bench.evaluation.differences.exchanged_sums", lambda differences, draws, seed: every @ differences
    )
    (exact,) = permutation_variances([one], other, covered, 4096, 0)
    assert np.sqrt(exact) == pytest.approx(expected, rel=1e-12)


def test_a_group_is_exchanged_as_a_whole(rng: np.random.Generator) -> None:
    """Four copies of every image in one group are worth one image; as groups of their own they are worth more."""
    one = at_random(rng, 2, np.arange(40))
    other = dataclasses.replace(one, accepted=one.accepted ^ (rng.random(one.labels.shape) < 0.4))

    def variance(copies: int, group: np.ndarray) -> np.ndarray:
        def repeated(x: Decisions) -> Decisions:
            rows = np.repeat(np.arange(40), copies)
            return decisions(x.accepted[:, rows], x.labels[rows], group)

        (result,) = permutation_variances([repeated(one)], repeated(other), ALL[:3], 2000, 0)
        return result

    single = variance(1, np.arange(40))
    assert variance(4, np.repeat(np.arange(40), 4)) == pytest.approx(single, rel=1e-5)
    assert variance(4, np.arange(160)) == pytest.approx(single / 4, rel=0.2)


def test_blocks_of_runs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = {str(noise): decided(noise, seeds=2 + noise % 2) for noise in range(5)}
    whole = paired(suite, "0", ALL, seed=0)
    monkeypatch.setattr("aimonk_bench.evaluation.differences._SUMS_AT_ONCE", 1)
    for name, delta in paired(suite, "0", ALL, seed=0).items():
        assert delta.p == pytest.approx(whole[name].p, rel=1e-4, nan_ok=True)


def spread(
    figures: Any, influence: np.ndarray | None = None, of_seeds: float = 0.0, folds: int = 1, groups: int = 100
) -> Spread:
    """Figures [S, C], and influences [G, C] that are independent of those of any other call by default."""
    values = np.asarray(figures, dtype=np.float64)
    if influence is None:
        influence = np.zeros((groups, values.shape[1]))
    return Spread(values, influence, np.full(values.shape[1], of_seeds), np.zeros(values.shape[1]), folds)


@pytest.mark.parametrize(("ours", "theirs"), [(5, 5), (2, 7)])
def test_welch_is_that_of_scipy_where_images_do_not_vary(ours: int, theirs: int, rng: np.random.Generator) -> None:
    one, other = rng.normal(size=(ours, 3)), rng.normal(0.5, 2, size=(theirs, 3))
    difference = welch(spread(one), spread(other), np.zeros(3))
    expected = stats.ttest_ind(one, other, equal_var=False)
    assert difference.p == pytest.approx(expected.pvalue)
    assert np.array(difference.bounds(0.05)) == pytest.approx(np.array(expected.confidence_interval(0.95)))


RAMP = np.linspace(-1, 1, 11)[:, None]  # its square is orthogonal to it
BOWL = RAMP**2 - (RAMP**2).mean()


@pytest.mark.parametrize(
    ("folds", "other", "of_seeds", "training", "over_seeds"),
    [
        (1, BOWL, (0.0, 0.0), 0.0, (1.0, 4.0)),  # a hold-out: 2 / 2 and 8 / 2 over seeds
        (5, BOWL, (0.0, 0.0), 1.25 * 4, (1.0, 4.0)),  # 5 / 4 of the variance over images, nothing of it is shared
        (2, BOWL, (0.0, 0.0), 2 * 4, (1.0, 4.0)),
        (5, RAMP + BOWL / 2, (0.0, 0.0), None, (1.0, 4.0)),  # 1 - r^2 of it
        (5, -3 * RAMP, (0.0, 0.0), 0.0, (1.0, 4.0)),  # all of it
        (5, BOWL, (0.5, 1.5), 1.25 * (4 - 2), (0.5, 2.5)),  # what images and seeds share is counted once
        (5, BOWL, (1.5, 1.0), 1.25 * (4 - 2.5), (0.0, 3.0)),  # the seeds show less than that: nothing is left
        (5, BOWL, (5.0, 6.0), 0.0, (0.0, 4 - 6 * 4 / 11)),  # never more than the variance over images
    ],
)
def test_welch_by_hand(
    folds: int,
    other: np.ndarray,
    of_seeds: tuple[float, float],
    training: float | None,
    over_seeds: tuple[float, float],
) -> None:
    """The variance over images is 4; figures are 4 and 6 against 1 and 5."""
    run = spread([[4.0], [6.0]], RAMP, of_seeds[0], folds)
    difference = welch(run, spread([[1.0], [5.0]], other, of_seeds[1], folds), np.array([4.0]))
    if training is None:
        training = 1.25 * (1 - np.corrcoef(RAMP[:, 0], other[:, 0])[0, 1] ** 2) * 4
    variance = 4 + training + sum(over_seeds)
    squares = (RAMP - other)[:, 0] ** 2
    images_freedom = min(2 * squares.sum() ** 2 / ((squares**2).sum() - squares.sum() ** 2 / 11), 10)
    parts = 16 / images_freedom + training**2 / max(folds - 1, 1) + over_seeds[0] ** 2 + over_seeds[1] ** 2
    freedom = variance**2 / parts
    half = np.sqrt(variance) * stats.t.ppf(0.975, freedom)
    assert np.concatenate(difference.bounds(0.05)) == pytest.approx((2 - half, 2 + half))
    assert difference.p[0] == pytest.approx(2 * stats.t.sf(2 / np.sqrt(variance), freedom))
    assert difference.detectable(0.05)[0] == pytest.approx(half + np.sqrt(variance) * stats.t.ppf(0.8, freedom))


@pytest.mark.parametrize(("differing", "freedom"), [(4000, 4000), (40, 27), (3, 2)])
def test_few_rows_that_differ_give_few_degrees_of_freedom(
    differing: int, freedom: float, rng: np.random.Generator
) -> None:
    """Normal influences: one for each group that differs; with a third fewer where most groups have none."""
    influence = np.zeros((4000, 1))
    influence[:differing, 0] = rng.normal(size=differing)
    one, other = spread([[0.6], [0.6]], influence), spread([[0.5], [0.5]], np.zeros_like(influence))
    result = welch(one, other, np.array([1e-4])).freedom[0]
    assert result == pytest.approx(freedom, rel=0.5)


def test_a_flip_is_one_decision_less(rng: np.random.Generator) -> None:
    positive = rng.random((60, 2)) < 0.4
    run = decisions(np.stack([positive ^ (rng.random(positive.shape) < 0.2)]), Labels.of(positive, positive | True))
    flips = []
    for a in range(2):
        accepted = run.accepted.copy()
        accepted[0, np.flatnonzero(accepted[0, :, a] & positive[:, a])[0], a] = False
        changed = dataclasses.replace(run, accepted=accepted)
        flips.append((seed_f1(run) - seed_f1(changed))[0, a])
    flip = Spread.of(run, ALL[:2]).flip
    assert flip[:2] == pytest.approx(flips, rel=0.05)  # to first order
    assert flip[2] == pytest.approx(np.sqrt(np.mean(np.square(flip[:2]))) / 2)


@pytest.mark.parametrize(
    ("rows", "copies", "mark"), [(24, 1, "unresolved"), (600, 20, "unresolved"), (600, 1, "equivalent")]
)
def test_runs_that_decide_alike_are_equivalent_where_the_groups_are_many(rows: int, copies: int, mark: str) -> None:
    positive = np.arange(rows)[:, None] // copies % 3 == 0
    labels = Labels.of(positive, positive | True)
    run = decisions(np.repeat(positive[None], 3, axis=0), labels, group=np.arange(rows) // copies)
    delta = paired({"a": run, "b": run}, "a", np.ones(1, bool), seed=0)["b"]
    assert (delta.value, delta.mark) == (0, mark)
    assert delta.simultaneous_low == -delta.simultaneous_high < 0 < delta.detectable


def test_where_nothing_varies_the_two_decide_alike() -> None:
    difference = welch(spread(np.full((2, 1), 0.5)), spread(np.full((3, 1), 0.5)), np.zeros(1))
    assert (difference.p[0], *difference.bounds(0.05), difference.detectable(0.05)) == (1, 0, 0, 0)


def test_the_share_of_the_seeds_is_what_more_seeds_would_remove(rng: np.random.Generator) -> None:
    """Decisions that differ between seeds at random: the variance over images of their mean is this share alone."""
    positive = rng.random((2000, 2)) < 0.5
    labels, fold, both = Labels.of(positive, np.ones_like(positive)), np.arange(2000) % 5, np.ones(2, dtype=bool)
    run = decisions(rng.random((4, *positive.shape)) < 0.5, labels, fold=fold)
    f1 = np.stack([seed_f1(decisions(rng.random((4, *positive.shape)) < 0.5, labels)).mean(axis=0) for _ in range(120)])
    assert Spread.of(run, both).of_seeds[:2] == pytest.approx(f1.var(axis=0), rel=0.25)
    alike = dataclasses.replace(run, accepted=np.repeat(run.accepted[:1], 4, axis=0))
    assert Spread.of(alike, both).of_seeds == pytest.approx(np.zeros(3))
    assert Spread.of(dataclasses.replace(run, fold=0 * fold), both).of_seeds.tolist() == [0, 0, 0]


@settings(max_examples=40, deadline=None)
@given(
    wrong=st.lists(st.floats(0.02, 0.5), min_size=2, max_size=5),
    images=st.integers(30, 200),
    folds=st.integers(1, 5),
    more=st.integers(0, 20),
    seed=st.integers(0, 1000),
)
def test_a_mark_and_the_interval_beside_it_agree(
    wrong: list[float], images: int, folds: int, more: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random((images, 3)) < 0.5
    labels, fold = Labels.of(positive, np.ones_like(positive)), np.arange(images) % folds
    noise = rng.random((3, *positive.shape))
    suite = {
        str(number): dataclasses.replace(
            decisions(positive ^ (noise + 0.1 * rng.random(noise.shape) < share), labels), fold=fold
        )
        for number, share in enumerate(wrong)
    }
    planned = len(wrong) - 1 + more
    deltas = list(paired(suite, "0", ALL[:3], planned=planned, draws=400, seed=seed).values())[1:]
    assert [delta.p for delta in deltas] == pytest.approx(holm([delta.p_unadjusted for delta in deltas], planned))
    for delta in deltas:
        low, high = delta.simultaneous_low, delta.simultaneous_high
        assert (delta.mark == "better") == (low > 0)
        assert (delta.mark == "worse") == (high < 0)
        assert (delta.mark == "equivalent") == (-MARGIN <= low <= 0 <= high <= MARGIN)
        assert (delta.mark in ("better", "worse")) == (delta.p <= ALPHA)
        assert low <= delta.low <= delta.value <= delta.high <= high
        assert delta.p_unadjusted <= delta.p
        assert delta.detectable >= high - delta.value


def test_failed_runs_stay_in_the_family() -> None:
    suite = {name: decided(noise, seeds=3) for noise, name in enumerate("abcdef")}
    whole = paired(suite, "a", ALL, planned=5, seed=0)
    assert whole["b"].p == paired(suite, "a", ALL, seed=0)["b"].p
    for names in ("abd", "ab", "acdef"):
        some = paired({name: suite[name] for name in names}, "a", ALL, planned=5, seed=0)
        for name in names[1:]:
            assert some[name].p >= whole[name].p
            assert some[name].p_unadjusted == pytest.approx(whole[name].p_unadjusted, rel=1e-4)
            assert some[name].simultaneous_high == pytest.approx(whole[name].simultaneous_high, rel=1e-3)
            assert some[name].detectable == pytest.approx(whole[name].detectable, rel=1e-3)
    alone = paired({name: suite[name] for name in "ab"}, "a", ALL, planned=5, seed=0)["b"]
    assert alone.p == pytest.approx(min(1, 5 * alone.p_unadjusted))


def test_the_whole_from_its_parts() -> None:
    """Values are those of scikit-learn; the error is made of the parts that the formula names."""
    suite = {name: decided(noise, seeds=3) for noise, name in enumerate("abc")}
    covered = np.array([True, True, False, True])
    deltas = paired(suite, "b", covered, seed=0)
    f1 = {name: seed_f1(one) for name, one in suite.items()}
    for name in "ac":
        delta = deltas[name]
        difference = f1[name].mean(axis=0) - f1["b"].mean(axis=0)
        assert delta.attribute_value == pytest.approx(difference)
        assert delta.value == pytest.approx(difference[covered].mean())
        (images,) = permutation_variances([suite[name]], suite["b"], covered, 2000, 0)
        difference = welch(Spread.of(suite[name], covered), Spread.of(suite["b"], covered), images)
        assert (delta.low, delta.high) == pytest.approx([bound[-1] for bound in difference.bounds(0.05)])
        assert delta.p_unadjusted == pytest.approx(difference.p[-1])
        alone = paired({name: suite[name], "b": suite["b"]}, "b", np.arange(4) == 2, seed=0)[name]
        assert (alone.value, alone.low, alone.p_unadjusted) == pytest.approx(
            (delta.attribute_value[2], delta.attribute_low[2], delta.attribute_p[2])
        )
    assert [deltas["a"].p, deltas["c"].p] == pytest.approx(holm([deltas["a"].p_unadjusted, deltas["c"].p_unadjusted]))


def test_the_influence_of_a_run_is_the_derivative_of_its_figure() -> None:
    """A group that weighs a little more moves F1 by its influence: its rows are copied into a hundredfold data set."""
    run = decided(1, seeds=2)
    spread_of_run = Spread.of(run, ALL)
    many = np.tile(np.arange(len(run.group)), 100)
    for number, group in enumerate(np.unique(run.group)[:10]):
        rows = np.append(many, np.flatnonzero(run.group == group))
        moved = seed_f1(decisions(run.accepted[:, rows], run.labels[rows])).mean(axis=0)
        gained = 100 * (moved - spread_of_run.figures[:, :4].mean(axis=0))
        assert gained == pytest.approx(spread_of_run.influence[number, :4], abs=0.002)


def test_the_reference_and_its_equal() -> None:
    deltas = paired({"a": decided(0), "again": decided(0), "b": decided(1)}, "a", ALL, seed=0)
    assert (deltas["a"].value, deltas["a"].mark, deltas["a"].reason) == (0, "", None)
    assert np.isnan([deltas["a"].low, deltas["a"].p, deltas["a"].p_unadjusted]).all()
    assert (deltas["again"].value, deltas["again"].p, deltas["again"].p_unadjusted) == (0, 1, 1)
    assert deltas["again"].low == -deltas["again"].high < 0  # other seeds would have given other figures


def test_exchanged_runs_change_sign_alone() -> None:
    suite = {"a": decided(0, seeds=3), "b": decided(1, seeds=4)}
    one, other = paired(suite, "a", ALL, seed=0)["b"], paired(suite, "b", ALL, seed=0)["a"]
    assert (one.value, one.low, one.high, one.p) == pytest.approx((-other.value, -other.high, -other.low, other.p))
    assert one.attribute_low == pytest.approx(-other.attribute_high)


def test_decisions_on_missing_labels_never_matter() -> None:
    suite = {name: decided(noise) for noise, name in enumerate("ab")}
    assert not suite["a"].labels.observed.all()
    flipped = {name: dataclasses.replace(x, accepted=x.accepted ^ ~x.labels.observed) for name, x in suite.items()}
    before, after = (dataclasses.asdict(paired(x, "a", ALL, seed=0)["b"]) for x in (suite, flipped))
    tested = [name for name in before if not name.startswith("na_")]  # these are about decisions on missing labels
    assert {name: np.array_equal(before[name], after[name]) for name in tested} == dict.fromkeys(tested, True)


def test_an_attribute_without_positives_is_undefined_alone() -> None:
    suite = {name: decided(noise) for noise, name in enumerate("ab")}
    suite = {
        name: dataclasses.replace(
            x, labels=Labels.of(x.labels.targets * (np.arange(4) != 3), x.labels.observed, x.labels.attributes)
        )
        for name, x in suite.items()
    }
    delta = paired(suite, "a", np.arange(4) != 3, seed=0)["b"]
    assert np.isfinite([delta.value, delta.low, delta.p]).all()
    assert np.isnan(delta.attribute_low).tolist() == np.isnan(delta.attribute_p).tolist() == [False] * 3 + [True]


def test_what_cannot_be_tested_says_why() -> None:
    other = decided(1)
    suite = {
        "a": decided(0),
        "one seed": decided(2, seeds=1),
        "other rows": dataclasses.replace(other, image_id=other.image_id[::-1]),
        "other split": decided(1, folds=2),
        "other groups": dataclasses.replace(other, group=other.group // 2),
        "other labels": dataclasses.replace(
            other, labels=other.labels.masked(np.broadcast_to(np.arange(60) > 0, (4, 60)).T)
        ),
        "b": other,
    }
    deltas = paired(suite, "a", ALL, seed=0)
    for name in list(suite)[1:-1]:
        delta = deltas[name]
        assert (delta.mark, delta.reason) == ("", "one_seed" if name == "one seed" else "other_rows")
        assert np.isfinite(delta.value)
        assert np.isnan(
            [delta.low, delta.high, delta.p, delta.p_unadjusted, delta.detectable, *delta.attribute_p]
        ).all()
    assert deltas["b"].p == pytest.approx(min(1, 6 * deltas["b"].p_unadjusted))  # the only test made, of six planned
    assert paired(suite, "one seed", ALL, seed=0)["b"].reason == "one_seed"
    assert paired(suite, "a", ~ALL, seed=0)["b"].reason == "no_f1"


def test_marks() -> None:
    """Runs that copy the truth but for a share of wrong decisions; the reference is wrong in 20 % of them."""
    rng = np.random.default_rng(0)
    positive = rng.random((1000, 4)) < 0.5
    wrong = {"base": 0.2, "same": 0.2, "good": 0.1, "bad": 0.3}
    noise = rng.random((4, *positive.shape))
    suite = {
        name: decisions(positive ^ (noise < share), Labels.of(positive, np.ones_like(positive)))
        for name, share in wrong.items()
    }
    marks = {name: delta.mark for name, delta in paired(suite, "base", ALL, seed=0).items()}
    assert marks == {"base": "", "same": "equivalent", "good": "better", "bad": "worse"}
    narrow = paired(
        suite | {"other": dataclasses.replace(suite["base"], accepted=positive ^ (rng.random((4, 1000, 4)) < 0.2))},
        "base",
        ALL,
        margin=1e-4,
        seed=0,
    )
    assert narrow["other"].mark == "unresolved"


def test_chosen_is_a_plain_loop_over_folds() -> None:
    runs = {name: run(noise, folds=4, seeds=3) for noise, name in enumerate("abc")}
    validation = np.array([[0.5, 0.1, 0.7, np.nan], [0.5, 0.2, 0.6, 0.1], [0.4, np.nan, 0.8, 0.2]])
    result = chosen(readers(runs), validation)
    predictions, thresholds, names = result
    assert names == ["a", "b", "c", "c"]
    for row, fold in enumerate(predictions.fold):
        part, limits = runs[names[fold]]
        assert np.array_equal(predictions.logits[:, row], part.logits[:, row])
        assert np.array_equal(thresholds.values[:, fold], limits.values[:, fold])
        assert np.array_equal(predictions.train_positive[fold], part.train_positive[fold])
    alone = chosen(readers({"a": runs["a"]}), np.ones((1, 4)))
    assert np.array_equal(alone[0].logits, runs["a"][0].logits)
    assert alone[1].notes == runs["a"][1].notes
    assert alone[1].policy == "per_attribute_f1"


def test_a_fold_in_which_no_run_has_a_validation_figure_is_judged_by_the_first_run() -> None:
    """Its choice may rest on no other fold, whose validation rows this one tests."""
    runs = {"a": run(0), "b": run(1)}
    _, _, names = chosen(readers(runs), np.array([[0.5, np.nan, 0.5], [0.6, np.nan, 0.6]]))
    assert names == ["b", "a", "b"]


def test_equal_runs_are_seldom_called_different_and_true_differences_are_found() -> None:
    """A small version of `python -m experiments.simulations comparison`."""
    false = []
    for setting in (simulation.ONE, simulation.UNLIKE):
        outcome = simulation.simulate(setting, 16, 0, draws=300)
        assert outcome.disagree > 0.02
        error = (outcome.high - outcome.low).mean() / 2 / stats.norm.ppf(0.975)
        assert 0.6 < outcome.value.std() / error < 1.25  # the spread against its estimate
        assert ((outcome.low <= 0) & (outcome.high >= 0)).mean() >= 0.88
        marked = np.isin(outcome.mark, ("better", "worse"))
        assert (marked == ((outcome.simultaneous[..., 0] > 0) | (outcome.simultaneous[..., 1] < 0))).all()
        false.append(marked.any(axis=1))
    assert np.sum(false) <= 5  # of 32; 5 % gives more in one of 250 cases

    outcome = simulation.simulate(simulation.BETTER, 6, 0, draws=300)
    strongest = np.array(simulation.MIXED[1:]) == max(simulation.MIXED)
    better = outcome.mark == "better"
    assert better[:, strongest].mean() > 0.15
    assert better[:, np.array(simulation.MIXED[1:]) == 1].mean() < 0.15
    assert 0.03 < outcome.detectable.mean() < 0.1
