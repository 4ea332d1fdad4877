from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import METRICS, NAN, arrays, figure, metric, predictions, run_of, thresholds_of

from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import scores
from aimonk_bench.evaluation.metrics import (
    AVERAGED,
    CONSTANT,
    COUNTS,
    PER_SEED,
    Figures,
    f1,
    figures,
    macro,
)
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.scores import Scores
from aimonk_bench.evaluation.thresholds import Thresholds, tune
from aimonk_bench.records.files import plain
from aimonk_bench.registry import Spec

Array = np.ndarray[Any, Any]
POLICY = Spec("per_attribute_f1")


@st.composite
def problems(draw: st.DrawFn) -> tuple[Array, Labels, Array]:
    """Scores [S, R, A], labels [R, A], thresholds [S, 1, A], with ties, constant scores, empty classes."""
    s, r, a = draw(st.integers(1, 2)), draw(st.integers(1, 10)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    scores = rng.integers(0, levels + 1, (s, r, a)) / levels
    targets = (rng.random((r, a)) < rng.choice([0, 0.3, 0.7, 1], a)).astype(np.int8)
    observed = rng.random((r, a)) < rng.choice([0, 0.5, 1], a)
    thresholds = np.where(rng.random((s, 1, a)) < 0.5, scores[:, :1], rng.random((s, 1, a)))  # `>` or `>=` matters
    return scores, Labels.of(targets, observed), thresholds


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_every_metric_is_scikit_learns(name: str, problem: tuple[Array, Labels, Array]) -> None:
    scores, labels, thresholds = problem
    result = metric(name, scores, labels, thresholds)
    assert result.shape == (len(scores), labels.shape[1])
    for s, a in np.ndindex(*result.shape):
        rows = labels.observed[:, a]
        expected = figure(name, scores[s, rows, a], labels.targets[rows, a], thresholds[s, 0, a])
        np.testing.assert_allclose(result[s, a], expected, rtol=1e-12)


@pytest.mark.parametrize("name", METRICS)
@given(problem=problems())
def test_every_metric_keeps_the_contract(name: str, problem: tuple[Array, Labels, Array]) -> None:
    scores, labels, thresholds = problem
    result = metric(name, scores, labels, thresholds)
    for s in range(len(scores)):  # no leading axis at all
        np.testing.assert_array_equal(metric(name, scores[s], labels, thresholds[s, 0]), result[s])
    every = np.broadcast_to(labels.targets, scores.shape).astype(np.float32)  # labels per seed, as in training
    mask = np.broadcast_to(labels.observed, scores.shape)
    hidden = Labels(np.where(mask, every, np.nan), mask)
    limits = np.broadcast_to(thresholds, scores.shape)
    np.testing.assert_array_equal(metric(name, np.where(mask, scores, np.nan), hidden, limits), result)
    padded = [
        np.concatenate([x, np.full_like(x[:, :3], fill)], axis=1) for x, fill in ((scores, 1), (every, 1), (mask, 0))
    ]
    # padding may change the order in which a sum is taken
    np.testing.assert_allclose(metric(name, padded[0], Labels(*padded[1:]), thresholds), result, rtol=1e-12)


def test_a_ranking_ignores_thresholds_and_any_rising_change_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(50, 2)), rng.integers(0, 2, (50, 2))
    labels = Labels.of(targets, rng.random((50, 2)) < 0.9)
    for name in ("average_precision", "roc_auc"):
        expected = metric(name, logits, labels, 0.5)
        np.testing.assert_array_equal(metric(name, np.exp(logits), labels, 0.9), expected)


def test_macro_is_the_mean_over_the_mask_and_nothing_else() -> None:
    values = np.array([[0.2, 0.4, NAN], [0.6, NAN, 0.9]])
    np.testing.assert_array_equal(macro(values, np.array([True, False, False])), [0.2, 0.6])
    np.testing.assert_allclose(macro(values, np.array([True, True, False])), [0.3, NAN])  # promised, yet undefined
    np.testing.assert_array_equal(macro(values, np.zeros(3, dtype=bool)), [NAN, NAN])
    np.testing.assert_allclose(macro(values, np.isfinite(values)), [0.3, 0.75])


def naive(run: Predictions, thresholds: Thresholds, name: str, split: str, threshold: str, s: int, a: int) -> float:
    """One figure of one seed and attribute by the words of the contract, row by row."""
    probabilities = 1 / (1 + np.exp(-run.logits.astype(np.float64)))
    rows = [
        (run.fold[r], probabilities[s, r, a], run.labels.targets[r, a], thresholds.values[s, run.fold[r], a])
        for r in range(len(run.fold))
        if run.split[r] == split and run.labels.observed[r, a]
    ]
    if name in ("average_precision", "roc_auc"):
        per_fold = []
        for fold in range(run.folds):
            of_fold = np.array([row[1:3] for row in rows if row[0] == fold]).reshape(-1, 2)
            per_fold.append(figure(name, of_fold[:, 0], of_fold[:, 1], 0.5))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN, as it should be
            return float(np.nanmean(per_fold))
    _, scores, targets, limits = np.array(rows).reshape(-1, 4).T
    return figure(name, scores, targets, limits if threshold == "tuned" else 0.5)


ORACLE = {
    "f1_default": ("f1", "test", "default"),
    "f1_tuned": ("f1", "test", "tuned"),
    "f1_validation": ("f1", "val", "tuned"),
    "precision": ("precision", "test", "tuned"),
    "recall": ("recall", "test", "tuned"),
    "accuracy_default": ("accuracy", "test", "default"),
    "accuracy_tuned": ("accuracy", "test", "tuned"),
    "average_precision": ("average_precision", "test", ""),
    "roc_auc": ("roc_auc", "test", ""),
}


def scored(content: dict[str, Any], policy: str = "per_attribute_f1") -> tuple[Predictions, Thresholds, Figures]:
    run = run_of(content)
    thresholds = tune(run, Spec(policy))
    return run, thresholds, figures(run, thresholds, own_limits(run, thresholds))


def own_limits(run: Predictions, thresholds: Thresholds) -> np.ndarray:
    """The validation rows judged by the thresholds that they chose, where the judge does not matter."""
    return thresholds.values[:, run.fold[run.split == "val"]]


def hostile(seed: int, folds: int) -> dict[str, Any]:
    """An attribute nobody observed, one without test positives in fold 0, one that is never negative."""
    content = arrays(seed, folds=folds, images=40)
    content["observed"][:, 0] = False
    first = (content["fold"] == 0) & (content["split"] == "test")
    content["targets"][first, 1] = 0
    content["targets"][:, 2] = 1
    content["targets"] *= content["observed"]
    return content


@pytest.mark.parametrize("content", [arrays(1), arrays(2, folds=1), hostile(3, 3), hostile(4, 1)])
def test_every_figure_is_scikit_learns(content: dict[str, Any]) -> None:
    run, thresholds, result = scored(content)
    assert {*ORACLE, "threshold"} == set(PER_SEED) == set(result.per_seed)
    for name, words in ORACLE.items():
        values = [[naive(run, thresholds, *words, s, a) for a in range(4)] for s in range(2)]
        np.testing.assert_allclose(result.per_seed[name], values, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(result.value(name), np.mean(values, axis=0), rtol=1e-12, err_msg=name)
        np.testing.assert_array_equal(result.defined(name), np.isfinite(np.mean(values, axis=0)))
    np.testing.assert_allclose(result.value("threshold"), thresholds.values.mean(axis=(0, 1)), rtol=1e-12)


@pytest.mark.parametrize("content", [arrays(1), arrays(2, folds=1), hostile(3, 3)])
def test_the_baselines_are_those_of_the_contract(content: dict[str, Any]) -> None:
    run, _, result = scored(content)
    for a in range(4):
        test = (run.split == "test") & run.labels.observed[:, a]
        targets, fold = run.labels.targets[test, a], run.fold[test]
        n, n1 = len(targets), targets.sum()
        assert (result.value("n_observed")[a], result.value("n_positive")[a]) == (n, n1)
        all_positive = 2 * (n1 / n) / (1 + n1 / n) if n1 else NAN
        np.testing.assert_allclose(result.value("floor_f1")[a], all_positive)
        prevalence = np.array([run.train_positive[k, a] / run.train_observed[k, a] for k in fold])
        np.testing.assert_allclose(result.value("prior_f1")[a], figure("f1", prevalence, targets, 0.5))


def test_a_prevalence_of_one_half_or_without_a_label_predicts_negative() -> None:
    content = arrays(missing=0)
    content["train_observed"][:] = [20, 21, 20, 0]
    content["train_positive"][:] = [10, 11, 9, 0]
    _, _, result = scored(content)
    assert result.value("prior_f1").tolist() == [0, result.value("floor_f1")[1], 0, 0]


def test_a_figure_is_undefined_if_one_seed_is() -> None:
    content = arrays()
    content["logits"][1, :, 0] = -9  # this seed accepts nothing at 0.9
    run = run_of(content)
    thresholds = tune(run, Spec("fixed", {"value": 0.9}))
    result = figures(run, thresholds, own_limits(run, thresholds))
    precision = result.per_seed["precision"][:, 0]
    assert np.isfinite(precision[0])
    assert np.isnan(precision[1])
    assert np.isnan(result.value("precision")[0])
    assert not result.defined("precision")[0]
    file = scores.score(run, thresholds, Spec("fixed", {"value": 0.9})).to_json()
    assert file["macro"]["precision"]["seeds"][0] == pytest.approx(
        result.per_seed["precision"][0][result.defined("precision")].mean()
    )


def test_each_row_is_judged_by_its_own_folds_threshold() -> None:
    run = predictions()
    values = np.zeros((2, 3, 4))
    values[:, 1] = 1  # fold 1 accepts nothing, the others everything
    thresholds = thresholds_of(run, values)
    result = figures(run, thresholds, own_limits(run, thresholds))
    test = run.part("test")
    accepted = np.broadcast_to((test.fold != 1)[:, None], test.labels.shape).astype(float)
    np.testing.assert_array_equal(result.per_seed["f1_tuned"][0], f1(accepted, test.labels, 0.5))


def test_nothing_under_na_enters_a_figure() -> None:
    content = arrays(missing=0.3)
    _, _, result = scored(content)
    labels = run_of(content).labels
    hidden = np.random.default_rng(0).integers(0, 2, labels.shape, dtype=np.int8)
    noisy = run_of(content)
    noisy.labels.targets[~labels.observed] = hidden[~labels.observed]  # behind the back of the check
    thresholds = tune(noisy, Spec("per_attribute_f1"))
    other = figures(noisy, thresholds, own_limits(noisy, thresholds))
    for name in (*PER_SEED, *CONSTANT):
        np.testing.assert_array_equal(other.value(name), result.value(name))


def test_metrics_json_has_the_targets_of_the_threshold_policies() -> None:
    run = predictions()
    aims = Spec("target_precision", {"precision": 0.8}, {"hat": POLICY})
    made = scores.score(run, tune(run, aims), aims)
    file = json.loads(json.dumps(plain(made.to_json())))
    goals = {name: row["precision"]["target"] for name, row in file["attribute"].items()}
    assert goals == dict.fromkeys(run.labels.attributes, 0.8) | {"hat": None}
    interval = made.intervals["precision"]
    for a, row in enumerate(file["attribute"].values()):
        assert (row["precision"]["low"], row["precision"]["high"]) == (interval.low[a], interval.high[a])
        assert "target" not in row["recall"]
    read = Scores.from_json(file)
    assert list(read.targets) == ["precision"]
    np.testing.assert_array_equal(read.targets["precision"], made.targets["precision"])
    assert json.loads(json.dumps(plain(read.to_json()))) == file


@pytest.mark.parametrize("content", [arrays(1), hostile(3, 3)])
def test_metrics_json_is_the_one_of_the_contract_and_survives(content: dict[str, Any]) -> None:
    run, thresholds, _ = scored(content)
    made = scores.score(run, thresholds, POLICY)
    result = made.figures
    text = json.dumps(plain(made.to_json()), allow_nan=False)
    assert json.dumps(plain(Scores.from_json(json.loads(text)).to_json())) == text
    file = json.loads(text)
    assert list(file)[:5] == ["revision", "attribute", "macro", "coverage", "validation"]
    for a, name in enumerate(content["attribute"]):
        row = file["attribute"][name]
        for per_seed in PER_SEED:
            np.testing.assert_array_equal(
                np.array(row[per_seed]["seeds"], dtype=float), result.per_seed[per_seed][:, a]
            )
        assert all(type(row[count]["value"]) is int for count in COUNTS)
    for average in AVERAGED:
        values = [row[average]["value"] for row in file["attribute"].values()]
        defined = [value for value in values if value is not None]
        assert file["coverage"][average] == len(defined)
        assert file["macro"][average]["value"] == (pytest.approx(np.mean(defined)) if defined else None)


def drop(*keys: str) -> Callable[[dict[str, Any]], object]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


@pytest.mark.parametrize(
    "change",
    [
        drop("macro"),
        drop("validation"),
        drop("attribute", "hat", "f1_tuned"),
        drop("attribute", "hat", "f1_tuned", "seeds"),
        lambda content: content.update(attribute="of another layout"),
        drop("attribute", "hat", "f1_tuned", "few"),
        lambda content: content["attribute"]["hat"]["f1_tuned"].update(seeds=[0.5]),
        lambda content: content["attribute"]["hat"]["f1_tuned"].update(seeds=["half", "half"]),
        lambda content: content["attribute"]["hat"]["n_observed"].update(value=None),
    ],
)
def test_metrics_json_of_another_layout_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    run, thresholds, _ = scored(arrays())
    content = plain(scores.score(run, thresholds, POLICY).to_json())
    change(content)
    with pytest.raises(UserError, match=r"^here/metrics\.json: found content that cannot be used"):
        Scores.from_json(content, "here/metrics.json")


def test_thresholds_of_another_run_are_refused() -> None:
    _, thresholds, _ = scored(arrays())
    for other in (predictions(seeds=1), predictions(folds=2)):
        with pytest.raises(UserError, match="another run's"):
            figures(other, thresholds, np.zeros(0))
