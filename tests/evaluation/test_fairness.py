"""What makes a comparison unfair: budgets, one learning rate, ends of the grid, unfinished training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aimonk_bench.evaluation.fairness import Budget, Training, Unfair, late_gain, late_share, measured, planned

RATES = (("train.lr", (1e-3, 1e-2)),)
TUNED = Training(Budget(20, 64, "adam", "constant", None, RATES), ("masked_bce", "uniform"))


def budget(training: Training, **changes: object) -> Training:
    return replace(training, budget=replace(training.budget, **changes))


def test_equal_budgets_with_tuned_rates_are_fair():
    runs = {"a": TUNED, "b": replace(TUNED, varied=("focal", "uniform"))}
    assert planned(runs) == measured(runs) == []
    assert planned({}) == measured({}) == []


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 10},
        {"grid": (), "lr": 1e-3},
        {"grid": (("train.lr", (1e-6, 1e-5)),)},
        {"batch_size": 16},
        {"optimizer": "sgd"},
        {"select": "f1_default", "patience": 1},
        {"accumulate": 2},
    ],
)
def test_the_runs_with_the_rarer_budget_are_named(change):
    runs = {"a": TUNED, "b": budget(TUNED, **change), "c": TUNED}
    differs = tuple(name for name in change if name != "lr")
    assert planned(runs) == [Unfair("budgets", ("b",), differs=differs)]


def test_one_rate_for_several_losses_is_named_and_for_one_loss_it_is_not():
    plain = budget(TUNED, grid=(), lr=1e-3)
    other = replace(plain, varied=("masked_bce", "balanced"))
    assert planned({"a": plain, "b": other}) == [Unfair("one_rate", ("a", "b"))]
    assert planned({"a": plain, "b": plain}) == []


def test_untuned_rates_that_differ_between_losses_are_named():
    plain = budget(TUNED, grid=(), lr=1e-3)
    other = replace(plain, varied=("focal", "uniform"))
    rates = {"a": plain, "b": budget(plain, lr=1e-2)}
    assert planned(rates) == []  # one loss: the rates are what is compared
    assert planned({"a": plain, "b": budget(other, lr=1e-2)}) == [Unfair("rates", ("a", "b"))]
    crossed = {**rates, "c": other, "d": budget(other, lr=1e-2)}
    assert planned(crossed) == []  # each loss has every rate
    part = planned({**crossed, "e": budget(plain, lr=1e-4)})
    assert [item.kind for item in part] == ["rates", "one_rate", "one_rate"]


def test_a_teacher_is_named_where_others_train_none():
    taught = budget(TUNED, teacher="self_trained")
    assert planned({"a": TUNED, "b": taught}) == [Unfair("teacher", ("b",), policy="self_trained")]
    assert planned({"a": taught, "b": taught}) == []


def test_heads_at_an_end_of_the_grid_are_named():
    runs = {
        "a": replace(TUNED, ends={"train.lr": (0.0, 0.75), "train.weight_decay": (0.0, 0.74)}),
        "b": replace(TUNED, ends={"train.lr": (1.0, 0.0)}),
    }
    edges = [
        Unfair("edge", ("b",), key="train.lr", end="smallest"),
        Unfair("edge", ("a",), key="train.lr", end="largest"),
    ]
    assert measured(runs) == edges


def test_the_late_gain_is_that_of_the_last_quarter():
    rising = np.tile(np.linspace(0.1, 0.8, 8), (3, 1))
    assert late_gain(rising) == pytest.approx((0.2, 0.0))
    stopped = np.array([[0.1, 0.2, 0.3, np.nan], [0.1, 0.2, 0.3, 0.5]])
    assert late_gain(stopped) == pytest.approx((0.2, 0.0))
    assert np.isnan(late_gain(stopped[:1])).all()
    assert late_gain(np.array([[0.1, 0.5]])) == pytest.approx((0.4, 0.0))
    assert late_gain(np.array([[0.1, 0.2, 0.5]])) == pytest.approx((0.3, 0.0))
    assert np.isnan(late_gain(np.array([[0.5], [0.6]]))).all()  # one epoch has no quarter


@pytest.mark.parametrize(
    ("mean", "share"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], 0.25),
        ([0.40, 0.405, 0.4052], 0.04 / 1.04),
        ([0.1, 0.3, 0.25, 0.4], 0.0),
        ([0.4, 0.3], 0.0),
        ([0.4, 0.5], 1.0),
        ([0.4], np.nan),
    ],
)
def test_the_share_of_the_last_quarter_in_a_steady_rise(mean: list[float], share: float):
    spread = np.array([[-0.01], [0.01]])  # the heads rise alike
    assert late_share(np.array(mean) + spread) == pytest.approx(share, nan_ok=True)
    stopped = np.full((1, len(mean)), np.nan)
    assert late_share(np.vstack([np.array(mean) + spread, stopped])) == pytest.approx(share, nan_ok=True)
    assert np.isnan(late_share(stopped))


def test_slow_training_is_named_though_a_quarter_of_it_gains_little():
    slow, even = (replace(TUNED, late_gain=0.0016, late_gain_se=0.0, late_share=share) for share in (0.25, 0.05))
    assert measured({"a": slow, "b": even}) == [Unfair("improving", ("a",))]


def test_one_epoch_is_named():
    assert measured({"a": replace(TUNED, one_epoch=True), "b": TUNED}) == [Unfair("one_epoch", ("a",))]


@pytest.mark.parametrize(("gain", "error", "named"), [(0.02, 0.001, True), (0.02, 0.02, False), (0.004, 0.0, False)])
def test_training_that_still_improves_is_named_when_it_is_clear(gain, error, named):
    runs = {"a": replace(TUNED, late_gain=gain, late_gain_se=error), "b": TUNED}
    assert measured(runs) == ([Unfair("improving", ("a",))] if named else [])
