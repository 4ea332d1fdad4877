"""The study of the budget of a head: what a budget loses against the best fixed setting."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.simulations.budget import Budget, Wide, _budgets, _crossed, _default, _judge

WIDE = Wide(rates=(0.1, 1.0), decays=(0.0, 0.5), epochs=(10, 20), splits=2)  # points: rate x decay, decay fastest


def cell() -> dict[str, np.ndarray]:
    """[E, F, P]: the best setting is rate 1.0, decay 0 after 20 epochs."""
    shape = 2, 2, 4
    scores = {name: np.zeros(shape) for name in ("val_ap", "val_loss", "test_ap", "test_f1")}
    scores["test_ap"][1] = [[0.5, 0.6, 0.9, 0.7], [0.5, 0.6, 0.7, 0.6]]
    scores["test_f1"][1] = [[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]]
    scores["val_ap"][1] = [[0.1, 0.2, 0.4, 0.3], [0.1, 0.4, 0.2, 0.3]]
    scores["val_loss"][1] = [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]
    return scores


@pytest.mark.parametrize(
    ("budget", "ap", "f1"),
    [
        (Budget(20, (0.1, 1.0), (0.0, 0.5)), 0.8 - (0.9 + 0.6) / 2, 0.3 - (0.3 + 0.2) / 2),
        (Budget(20, (0.1, 1.0), (0.0, 0.5), "loss"), 0.8 - (0.5 + 0.6) / 2, 0.3 - (0.1 + 0.4) / 2),
        (Budget(20, (1.0,), (0.0,)), 0.0, 0.0),
        (Budget(10, (1.0,), (0.0,)), 0.8, 0.3),
    ],
)
def test_the_shortfall_is_that_of_the_choice_of_each_split(budget, ap, f1):
    [row] = _judge(cell(), WIDE, [budget])
    assert (row["best_lr"], row["best_decay"], row["best_epochs"]) == (1.0, 0.0, 20)
    assert row["ap_shortfall"] == pytest.approx(ap)
    assert row["f1_shortfall"] == pytest.approx(f1)


def test_the_best_setting_of_one_half_is_scored_on_the_other():
    scores = np.zeros((1, 4, 3))  # of the even splits the second setting is the best, of the odd ones the third
    scores[0, ::2] = [0.1, 0.9, 0.3]
    scores[0, 1::2] = [0.2, 0.4, 0.8]
    assert _crossed(scores) == pytest.approx((0.4 + 0.3) / 2)


def test_the_default_budget_is_judged():
    assert _default(Wide()) in _budgets(Wide())


def test_budgets_are_neighbouring_parts_of_the_grid():
    budgets = _budgets(Wide())
    assert len({str(budget) for budget in budgets}) == len(budgets)
    assert {budget.epochs for budget in budgets} == {10, 15, 20, 30, 50, 70, 100}
    assert max(budget.settings for budget in budgets) == 9
