from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from scored import arrays, predictions
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from aimonk_bench.evaluation import signal, thresholds, verdict
from aimonk_bench.evaluation.cells import Cells
from aimonk_bench.evaluation.comparison import holm
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.registry import Spec
from experiments.simulations import signal as simulation


def data(rows: int, width: int, seed: int = 0, attributes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, targets and observed; the first attribute depends on the first feature."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, width)).astype(np.float32) * rng.uniform(0.1, 10, width).astype(np.float32)
    targets = (rng.random((rows, attributes)) < 0.5).astype(np.int8)
    targets[:, 0] = features[:, 0] > 0
    return features, targets, rng.random(targets.shape) >= 0.2


def standardised(features: np.ndarray) -> np.ndarray:
    x = features.astype(np.float64)
    return (x - x.mean(0)) / x.std(0)


def kernel(features: np.ndarray) -> np.ndarray:
    """G (G + 10)^-1."""
    x = standardised(features)
    gram = x @ x.T / x.shape[1]
    return gram @ np.linalg.inv(gram + 10 * np.eye(len(gram)))


# --- before training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "width"), [(30, 7), (30, 100)])  # the two forms: more rows, more features
def test_the_kernel_is_that_of_the_formula(rows: int, width: int) -> None:
    features, _, _ = data(rows, width)
    factor = signal._kernel_factor(*signal._standardised(features))
    assert factor.shape == (rows, min(rows, width))
    np.testing.assert_allclose(factor @ factor.T, kernel(features), atol=1e-5)


@pytest.mark.parametrize("width", [4, 40])
def test_score_test_agrees_with_all_permutations(width: int) -> None:
    features, targets, observed = data(11, width)
    found = signal.score_test(features, targets, observed, permutations=20_000, seed=0)
    k = kernel(features)
    for a in range(targets.shape[1]):
        rows = np.flatnonzero(observed[:, a])
        values = []
        for chosen in itertools.combinations(rows, int(targets[rows, a].sum())):
            y = np.isin(rows, chosen) - len(chosen) / len(rows)
            pairs = itertools.permutations(range(len(rows)), 2)
            values.append(sum(y[i] * k[rows[i], rows[j]] * y[j] for i, j in pairs))
            if np.array_equal(np.isin(rows, chosen), targets[rows, a] == 1):
                own = values[-1]
        exact = np.mean(np.array(values) >= own - 1e-9)
        assert found[a] == pytest.approx(exact, abs=0.015)


def test_p_values_count_the_labels_themselves() -> None:
    features, targets, observed = data(60, 5)
    for permutations in (19, 199):  # nothing is more extreme than the planted attribute
        found = signal.score_test(features, targets, observed, permutations=permutations, seed=0)
        assert found[0] == 1 / (1 + permutations)
        np.testing.assert_allclose(found * (1 + permutations), np.round(found * (1 + permutations)))


@pytest.mark.parametrize(("rows", "width"), [(60, 8), (40, 90)])
def test_probe_is_ridge_regression_out_of_fold(rows: int, width: int) -> None:
    features, targets, observed = data(rows, width)
    groups = np.arange(rows) // 2
    scores = signal.probe(features, targets, observed, groups, seed=3)
    folds = signal._folds(targets, observed, groups, seed=3)
    x = standardised(features)
    for a, k in itertools.product(range(targets.shape[1]), range(signal.FOLDS)):
        fit, rest = (folds[:, a] != k) & observed[:, a], folds[:, a] == k
        head = Ridge(alpha=10 * width).fit(x[fit], targets[fit, a])
        expected = head.predict(x[rest]) - targets[fit, a].mean()
        np.testing.assert_allclose(scores[rest, a], expected, atol=1e-5)


def test_folds_keep_groups_together_and_spread_each_label_evenly() -> None:
    _, targets, observed = data(203, 2)
    groups = np.arange(203)
    groups[100:120] = groups[:20]
    targets[100:120], observed[100:120] = targets[:20], observed[:20]
    folds = signal._folds(targets, observed, groups, seed=0)
    np.testing.assert_array_equal(folds[100:120], folds[:20])
    first = np.unique(groups, return_index=True)[1]
    for a in range(targets.shape[1]):
        for label in (observed & (targets == 1), observed & (targets == 0), ~observed):
            counts = np.bincount(folds[first, a][label[first, a]], minlength=signal.FOLDS)
            assert np.ptp(counts) <= 1
    assert not np.array_equal(folds, signal._folds(targets, observed, groups, seed=1))


def test_probe_is_undefined_where_the_training_rows_of_a_fold_lack_a_class() -> None:
    features, targets, observed = data(40, 5)
    targets[:] = 0
    targets[7, 1], targets[[3, 9], 2] = 1, 1
    observed[[3, 7, 9]] = True
    scores = signal.probe(features, targets, observed, np.arange(40), seed=0)
    assert np.isnan(scores[:, 0]).all()
    np.testing.assert_array_equal(np.isnan(scores[:, 1]), signal._folds(targets, observed, np.arange(40), 0)[:, 1] == 0)
    assert np.isfinite(scores[:, 2]).all()
    found = signal.before(features, targets, observed, np.arange(40), permutations=9, seed=0)
    assert np.isnan(found.auc).tolist() == [True, True, False]


def test_calibrated_is_logistic_regression_out_of_fold() -> None:
    features, targets, observed = data(80, 5)
    groups = np.arange(80)
    scores = signal.probe(features, targets, observed, groups, seed=1)
    scores[4, 1] = np.nan
    found = signal.calibrated(scores, targets, observed, groups, seed=1)
    folds = signal._folds(targets, observed, groups, 1)
    for a, k in itertools.product(range(3), range(signal.FOLDS)):
        usable = np.isfinite(scores[:, a])
        known = usable & observed[:, a]
        unit = (scores[:, a] - scores[known, a].mean()) / scores[known, a].std()
        fit, rest = known & (folds[:, a] != k), usable & (folds[:, a] == k)
        model = LogisticRegression().fit(unit[fit, None], targets[fit, a])
        np.testing.assert_allclose(found[rest, a], model.predict_proba(unit[rest, None])[:, 1])
    assert np.isnan(found[4, 1])
    assert np.isfinite(found).sum() == found.size - 1


def test_missing_labels_are_never_read() -> None:
    features, targets, observed = data(60, 9)
    other = np.where(observed, targets, 1 - targets).astype(np.int8)
    groups = np.arange(60) // 2

    def everything(labels: np.ndarray) -> list[Any]:
        scores = signal.probe(features, labels, observed, groups, seed=0)
        found = signal.before(features, labels, observed, groups, permutations=19, seed=0)
        return [scores, signal.calibrated(scores, labels, observed, groups, seed=0), found.to_json()]

    for one, two in zip(everything(targets), everything(other), strict=True):
        np.testing.assert_equal(one, two)


def test_a_group_is_one_row_with_the_majority_label() -> None:
    features, targets, observed = data(50, 9)
    copies = [0, 0, 1, 2, 3, 3]
    shown = np.concatenate([np.arange(50), copies])
    labels, known = targets[shown], observed[shown]
    known[[0, 50, 51]], known[[1, 52]], known[[2, 53]], known[[3, 54, 55]] = True, True, [[True] * 3, [False] * 3], True
    labels[[0, 50, 51], 0] = 1, 0, 1  # a majority
    labels[[1, 52], 0] = 0, 1  # a tie
    labels[[3, 54, 55], 0] = 0, 0, 1
    targets[[0, 3], 0] = 1, 0
    observed[:4] = True
    observed[1, 0] = False
    for a in (1, 2):
        labels[[50, 51, 52, 53, 54, 55], a] = labels[copies, a]
    order = np.random.default_rng(0).permutation(len(shown))
    found = signal.before(features[shown][order], labels[order], known[order], shown[order], permutations=99, seed=4)
    expected = signal.before(features, targets, observed, np.arange(50), permutations=99, seed=4)
    np.testing.assert_equal(found.to_json(), expected.to_json())


def test_a_group_has_the_mean_of_its_features() -> None:
    features, targets, observed = data(50, 9)
    apart = np.concatenate([features + 1, features - 1])
    twice = np.tile(np.arange(50), 2)
    found = signal.before(apart, targets[twice], observed[twice], twice, permutations=99, seed=4)
    expected = signal.before(features, targets, observed, np.arange(50), permutations=99, seed=4)
    np.testing.assert_array_equal(found.p, expected.p)
    np.testing.assert_allclose(found.auc, expected.auc)


@pytest.mark.parametrize(("rows", "width"), [(60, 8), (40, 90)])
def test_units_and_constant_features_do_not_matter(rows: int, width: int) -> None:
    features, targets, observed = data(rows, width)
    scale, shift = np.float32(2) ** np.arange(-3, width - 3).clip(max=5), np.arange(width, dtype=np.float32)
    other = np.insert(features * scale + shift, 3, 0.1, axis=1)
    groups = np.arange(rows)
    one = signal.before(features, targets, observed, groups, permutations=199, seed=0)
    two = signal.before(other, targets, observed, groups, permutations=199, seed=0)
    np.testing.assert_array_equal(one.p, two.p)
    np.testing.assert_allclose(one.auc, two.auc)


def test_one_class_is_undefined_and_says_why() -> None:
    features, targets, observed = data(30, 5, attributes=4)
    targets[:, 1], targets[:, 2], observed[:, 3] = 1, 0, False
    found = signal.before(features, targets, observed, np.arange(30), permutations=9, seed=0)
    assert np.isnan(found.p).tolist() == np.isnan(found.auc).tolist() == [False, True, True, True]
    notes = [f"no observed {what}: nothing to test" for what in ("negative", "positive", "label")]
    assert found.notes == ["", *notes]
    assert found.n_positive.tolist()[1:] == [observed[:, 1].sum(), 0, 0]
    assert found.n_negative.tolist()[1:] == [0, observed[:, 2].sum(), 0]
    plain = found.to_json()
    assert plain["p"][1:] == [None] * 3
    np.testing.assert_equal(vars(signal.Before.from_json(plain)), vars(found))


# --- after training -----------------------------------------------------------------------------------------------


def test_hold_out_agrees_with_the_mann_whitney_test() -> None:
    from scipy.stats import mannwhitneyu

    few, many = (predictions(seed=5, folds=1, seeds=1, pictures=size, missing=0) for size in (54, 1200))
    for run, tolerance in ((few, 1e-6), (many, 0.01)):  # 9 test rows are enumerated
        logits = np.random.default_rng(0).normal(size=run.logits.shape) + 0.1 * run.targets  # no ties
        run = dataclasses.replace(run, logits=logits.astype(np.float32))
        found = signal.after(run, permutations=9999, seed=0)
        rows = run.rows(0, "test")
        for a, labels in enumerate(run.targets[rows].T == 1):
            scores = run.logits[0, rows, a]
            expected = mannwhitneyu(scores[labels], scores[~labels], alternative="greater").pvalue
            assert found.p[a] == pytest.approx(expected, abs=tolerance)
            assert found.auc[a] == pytest.approx(roc_auc_score(labels, scores))


def test_hold_out_with_ties_and_seeds_agrees_with_all_permutations() -> None:
    run = predictions(seed=2, folds=1, seeds=3, pictures=48)
    found = signal.after(run, seed=0)
    rows = run.rows(0, "test")
    for a, seen in enumerate(run.observed[rows].T):
        labels, scores = run.targets[rows][seen, a], run.logits[:, rows, a][:, seen]
        if len(set(labels)) < 2:
            assert np.isnan(found.p[a])
            continue
        values = [
            np.mean([roc_auc_score(shuffled, own) for own in scores])
            for shuffled in set(itertools.permutations(labels.tolist()))
        ]
        own = np.mean([roc_auc_score(labels, one) for one in scores])
        assert found.auc[a] == pytest.approx(own)
        assert found.p[a] == pytest.approx(np.mean(np.array(values) >= own - 1e-9))
    assert np.isfinite(found.p).sum() >= 2


def test_k_folds_follow_the_formula() -> None:
    run = predictions(seed=1, folds=4, pictures=60)
    found = signal.after(run, seed=0)
    from scipy.stats import norm

    for a in range(4):
        areas, variance, counts = [], 0.0, np.zeros(2, int)
        for fold in range(4):
            rows = run.rows(fold, "test")
            seen = run.observed[rows, a]
            labels = run.targets[rows][seen, a]
            hits, misses = int(labels.sum()), int((1 - labels).sum())
            if hits and misses:
                areas.append(np.mean([roc_auc_score(labels, own[rows][seen, a]) for own in run.logits]))
                variance += (hits + misses + 1) / (12 * hits * misses)
                counts += hits, misses
        z = (np.mean(areas) - 0.5) / np.sqrt((1 + 4 / 3) * variance / len(areas) ** 2)
        assert found.auc[a] == pytest.approx(np.mean(areas))
        assert found.p[a] == pytest.approx(norm.sf(z))
        assert [found.n_positive[a], found.n_negative[a]] == counts.tolist()
    assert any(len(set(run.targets[run.rows(f, "test"), 3])) == 1 for f in range(4))  # a fold was left out


@pytest.mark.parametrize("folds", [1, 3])
def test_duplicates_in_the_test_rows_are_no_evidence(folds: int) -> None:
    run = predictions(seed=3, folds=folds, pictures=90)
    twice = np.repeat(np.arange(len(run.fold)), 2)
    names = np.char.add(run.image_id[twice], np.tile(["", " again"], len(run.fold)))
    fields = {name: getattr(run, name)[twice] for name in ("targets", "observed", "split", "fold", "group")}
    copied = dataclasses.replace(run, **fields, image_id=names, logits=run.logits[:, twice])
    np.testing.assert_equal(vars(signal.after(copied, seed=0)), vars(signal.after(run, seed=0)))


def test_after_is_undefined_without_both_classes() -> None:
    fields = arrays(folds=3)
    fields["targets"][:, 1] = 0
    fields["observed"][:, 2], fields["targets"][:, 2] = False, 0
    found = signal.after(Predictions(**fields), seed=0)
    assert np.isnan(found.p).tolist() == np.isnan(found.auc).tolist() == [False, True, True, False]
    assert found.n_positive[1] == found.n_negative[1] == 0


def test_forty_attributes_can_all_be_found() -> None:
    """999 permutations of each could not: 2 x 40 / 1000 is above 0.05."""
    features, targets, _ = data(120, 6, attributes=1)
    planted = np.repeat(targets, 40, axis=1)
    found = signal.before(features, planted, np.ones_like(planted, bool), np.arange(120), seed=0)
    assert (np.minimum(2 * holm(found.p), 1) <= 0.05).all()
    few = signal.before(features, planted, np.ones_like(planted, bool), np.arange(120), permutations=999, seed=0)
    assert few.p.min() == 1 / 1000


# --- gain and verdict ---------------------------------------------------------------------------------------------


def cells(folds: int = 3, seed: int = 0) -> Cells:
    run = predictions(seed=seed, folds=folds, pictures=120)
    return Cells.of(run, thresholds.tune(run, Spec("per_attribute_f1")))


def of_counts(rejected: int, lost: int, accepted: int, hits: int) -> Cells:
    """One seed: so many rejected rows, of which positives are lost; accepted ones, of which hits are positive."""
    n = rejected + accepted
    row = np.arange(n)
    positive = (row < lost) | ((row >= rejected) & (row < rejected + hits))
    one = {"observed": np.ones((n, 1), bool), "group": row, "fold": np.zeros(n, int), "folds": 1, "image_id": row}
    return Cells(accepted=(row >= rejected)[None, :, None], positive=positive[:, None], **one)


@pytest.mark.parametrize("counts", [(5, 0, 142, 130), (3, 0, 27, 20), (30, 8, 70, 60), (130, 2, 20, 9)])
def test_p_of_a_gain_agrees_with_the_enumeration_of_both_binomials(counts: tuple[int, int, int, int]) -> None:
    rejected, lost, accepted, hits = counts
    n, n1 = rejected + accepted, lost + hits
    found = verdict.gain(of_counts(*counts), draws=20_000)
    tuned, floor = 2 * hits / (n1 + accepted), 2 * n1 / (n + n1)
    assert found.value[0] == pytest.approx(tuned - floor)
    share = n1 / (n + n1)
    x, y = np.mgrid[: rejected + 1, : accepted + 1]
    weight = binom.pmf(x, rejected, share) * binom.pmf(y, accepted, (n1 - share * rejected) / accepted)
    gained = 2 * y / np.maximum(x + y + accepted, 1) - 2 * (x + y) / (n + x + y)
    assert found.p[0] == pytest.approx(weight[gained >= tuned - floor - 1e-9].sum(), abs=0.01)
    assert (found.low[0] > 0) == (found.p[0] <= 0.05)


@pytest.mark.parametrize(("folds", "seeds"), [(1, 1), (1, 5), (5, 5)])
@pytest.mark.parametrize("prevalence", [0.08, 0.5, 0.88])
@pytest.mark.parametrize("rejected", [4, 8, 60])
def test_a_gain_of_nothing_is_rarely_claimed(folds: int, seeds: int, prevalence: float, rejected: int) -> None:
    """Labels drawn with no gain for the given decisions, which seeds share but for a few rows; copies among the rows.

    The true p of a discrete test is below its level, and c makes it smaller still over folds.
    """
    sets, pictures, rng = 400, 147, np.random.default_rng([folds, seeds, rejected])
    row = np.append(np.arange(pictures - 12), np.arange(12))
    order = np.argsort(rng.random((seeds, 1, sets)) * 2 + np.arange(pictures)[:, None], axis=1)
    accepted = (np.argsort(order, axis=1) >= rejected)[:, row]
    share = prevalence / (1 + prevalence)
    rest = (prevalence * pictures - share * rejected) / (pictures - rejected)
    chance = accepted.mean(axis=0)
    positive = rng.random((pictures, sets))[row] < share + (rest - share) * chance
    own = Cells(accepted, positive, np.ones_like(positive), row, row % folds, folds, np.arange(pictures))
    claimed = np.mean(verdict.gain(own, draws=500).p <= 0.05)
    assert claimed <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / sets)


def test_gain_of_calling_everything_positive_is_none() -> None:
    own = cells()
    own = dataclasses.replace(own, accepted=np.ones_like(own.accepted), positive=own.positive & [1, 1, 1, 0] > 0)
    found = verdict.gain(own)
    np.testing.assert_allclose(found.value, [0, 0, 0, np.nan], atol=1e-12)
    np.testing.assert_array_equal(found.p, [1, 1, 1, np.nan])
    assert np.isnan(found.low[3])


def test_gain_does_not_read_missing_labels() -> None:
    own = cells()
    other = dataclasses.replace(own, accepted=own.accepted ^ ~own.observed)
    np.testing.assert_equal(vars(verdict.gain(own)), vars(verdict.gain(other)))


def test_detectable_auc_follows_the_formula() -> None:
    from scipy.stats import norm

    found = verdict.detectable_auc(np.array([50, 440, 0]), np.array([830, 440, 880]), 4)
    expected = 0.5 + (norm.ppf(1 - 0.025 / 4) + norm.ppf(0.8)) * 1.41 * np.sqrt(881 / (12 * 50 * 830))
    assert found[0] == pytest.approx(expected)
    assert found[1] < found[0]
    assert np.isnan(found[2])


def test_largest_gain_agrees_with_a_large_sample() -> None:
    rng = np.random.default_rng(0)
    for share, area in ((0.06, 0.75), (0.5, 0.75), (0.3, 0.9)):
        labels = np.arange(400_000) < share * 400_000
        scores = rng.standard_normal(len(labels)) + labels * simulation.distance(area)
        ranked = labels[np.argsort(-scores)]
        best = (2 * np.cumsum(ranked) / (np.arange(1, len(ranked) + 1) + labels.sum())).max()
        found = verdict.largest_gain(np.array([share]), np.array([area]))
        assert found[0] == pytest.approx(best - 2 * share / (1 + share), abs=0.004)
    at_most = verdict.largest_gain(np.array([0.88, 0.5, 0.5, np.nan]), np.array([0.75, 0.4, 1.0, 0.7]))
    np.testing.assert_allclose(at_most, [0.001, 0, 1 / 3, np.nan], atol=0.0005)


def weigh(p: list[float], gain_p: list[float], **options: Any) -> verdict.Verdict:
    count = len(p)
    after = signal.After(np.full(count, 0.75), np.array(p), np.full(count, 88), np.full(count, 12))
    gain = verdict.Gain(np.full(count, 0.1), np.full(count, 0.01), np.array(gain_p))
    found = {
        "before": None,
        "winner": "focal",
        "indistinguishable": ["hill", "masked_bce"],
        "simplest": "masked_bce",
        "untested": 0,
        "auc_interval": lambda signal: (0.6, 0.6 + 0.1 * signal.sum()),
    }
    return verdict.verdict(after=after, gain=gain, **(found | options))


def test_the_three_sentences() -> None:
    nothing = weigh([0.2, 0.013, np.nan], [0, 0, 0])  # 2 tests x 2 attributes x 0.013 > 0.05
    assert (nothing.kind, nothing.signal.tolist()) == ("a", [False] * 3)
    assert nothing.text == (
        "No configuration is distinguishable from guessing (smallest adjusted p = 0.052). With these counts an "
        "out-of-fold AUC of 0.91, 0.91, 0.91 would have been found with 80 % probability. Check labels, disagreeing "
        "duplicates, the join of labels and pictures."
    )
    ranks = weigh([0.001, 0.001, 0.5], [0.03, 0.2, 0.0])  # 2 x 0.03 > 0.05; the third has no signal
    assert (ranks.kind, ranks.signal.tolist()) == ("b", [True, True, False])
    assert ranks.text == (
        "Scores rank better than chance on 2 of 3 attributes (AUC [0.60, 0.80]), but no F1 above always-positive is "
        "shown; at this prevalence and AUC the largest possible gain is 0.001."
    )
    wins = weigh([0.001, 0.001, 0.5], [0.02, 0.2, 0.0])
    assert (wins.kind, wins.gains.tolist()) == ("c", [True, False, False])
    assert wins.text == (
        "focal beats always-positive on 1 of 3 attributes; not distinguishable from it: hill, masked_bce; simplest of "
        "these: masked_bce."
    )
    assert wins.to_json() == {
        "kind": "c",
        "text": wins.text,
        "adjusted": [0.006, 0.006, 1.0],
        "signal": [True, True, False],
        "gain_adjusted": [0.04, 0.2, None],
        "gains": [True, False, False],
    }


def test_either_test_finds_signal() -> None:
    first = signal.Before(*np.array([[0.001, 0.9], [0.7, 0.5]]), np.array([5, 0]), np.array([7, 9]), ["", ""])
    both = weigh([0.9, 0.001], [1, 1], before=first)
    assert both.signal.all()
    np.testing.assert_allclose(both.adjusted, [0.004, 0.004])
    alone = weigh([0.9, 0.9], [1, 1], before=dataclasses.replace(first, p=np.array([0.9, np.nan])))
    assert "AUC of none, none would" in alone.text  # too few, and no positives at all; 1.8 is cut to 1
    assert "smallest adjusted p = 1.000" in alone.text
    undefined = weigh([np.nan, np.nan], [np.nan, np.nan])
    assert undefined.kind == "a"
    assert "smallest adjusted p = undefined" in undefined.text


def test_scores_that_were_not_found_to_rank_are_not_said_to() -> None:
    first = signal.Before(*np.array([[0.001, 0.001], [0.7, 0.7]]), np.array([5, 5]), np.array([7, 9]), ["", ""])
    neither = weigh([0.9, 0.6], [1, 1], before=first)
    assert (neither.kind, neither.signal.tolist()) == ("b", [True, True])
    assert neither.text == (
        "Features tell something about 2 of 2 attributes (the test before training), but the trained scores are not "
        "shown to rank better than chance: train longer or at a higher learning rate, and look at the loss curve."
    )
    one = weigh([0.9, 0.001], [1, 1], before=first)
    assert one.signal.all()
    assert one.text.startswith("Scores rank better than chance on 1 of 2 attributes (AUC [0.60, 0.70]), but no F1")


def test_long_and_empty_lists_are_told_honestly() -> None:
    names = [f"run {number}" for number in range(13)]
    many = weigh([0.001], [0.001], indistinguishable=names)
    assert "from it: run 0, run 1, run 2, run 3, run 4, run 5, ... and 7 more; simplest" in many.text
    alone = weigh([0.001], [0.001], indistinguishable=[], simplest="focal", untested=2)
    assert "from it: none tested (2 could not be compared); simplest of these: focal." in alone.text
    none = weigh([0.001], [0.001], indistinguishable=[], simplest="focal")
    assert none.text.endswith("not distinguishable from it: none; simplest of these: focal.")


# --- simulation ---------------------------------------------------------------------------------------------------


def test_planted_labels_give_b_and_c_and_permuted_ones_give_a() -> None:
    kinds = {name: own.kind for name, own in simulation.small_verdicts(np.random.default_rng(0))}
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
    found = list(simulation.power_before(large, 60, 159, rng))
    assert [row.within for row in found] == [True, True, None]
    wrong = [row.value for row in levels if "not the method" in row.figure]
    assert np.mean(wrong) > 0.07  # the simulation can tell
