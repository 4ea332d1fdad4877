from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aimonk_bench.config.fields import Config, DataConfig, TrainConfig
from aimonk_bench.registry import Spec
from aimonk_bench.serving.refit import Budget, budget_of, with_budget


def tuning(lr: list[list[float]], decay: list[list[float]]) -> dict[str, Any]:
    """`tune` of data.json for a grid of lr .001, .01 and decay 0, .1; what each seed and fold chose."""
    points = {"train.lr": [0.001, 0.001, 0.01, 0.01], "train.weight_decay": [0.0, 0.1, 0.0, 0.1]}
    return {"points": points, "chosen": {"train.lr": lr, "train.weight_decay": decay}}


@pytest.mark.parametrize(
    ("chosen", "epochs", "expected"),
    [
        (None, [[3, 5, 9]], Budget({}, 5)),
        (None, [[3, 4], [5, 6]], Budget({}, 5)),  # the median 4.5, rounded up
        # the most frequent, and the epochs of those that chose it
        (([[0.01, 0.01, 0.001]], [[0.0, 0.0, 0.1]]), [[10, 20, 90]], ({"lr": 0.01, "decay": 0.0}, 15)),
        # ties: the fewest steps from the first value of every list
        (([[0.01, 0.01]], [[0.1, 0.0]]), [[20, 10]], ({"lr": 0.01, "decay": 0.0}, 10)),
        (([[0.01, 0.001]], [[0.1, 0.0]]), [[20, 10]], ({"lr": 0.001, "decay": 0.0}, 10)),
        (([[0.01], [0.001]], [[0.0], [0.0]]), [[10], [20]], ({"lr": 0.001, "decay": 0.0}, 20)),
        # then the earlier in the grid
        (([[0.01], [0.001]], [[0.0], [0.1]]), [[10], [20]], ({"lr": 0.001, "decay": 0.1}, 20)),
    ],
)
def test_the_setting_and_the_epochs(chosen: Any, epochs: list[list[int]], expected: Any):
    if chosen is None:
        assert budget_of(None, epochs) == expected
        return
    values, number = expected
    setting = {"train.lr": values["lr"], "train.weight_decay": values["decay"]}
    assert budget_of(tuning(*chosen), epochs) == Budget(setting, number)


def test_ties_between_options_of_a_loss_go_to_the_earlier_in_the_grid():
    tuning = {"points": {"loss.gamma": [2.0, 0.5]}, "chosen": {"loss.gamma": [[0.5, 2.0]]}}
    assert budget_of(tuning, [[1, 7]]) == Budget({"loss.gamma": 2.0}, 7)


def test_the_config_of_one_more_training():
    config = Config(
        name="a",
        data=DataConfig(labels=Path("/l"), images=Path("/i")),
        loss=Spec("focal", {"gamma": 2.0, "alpha": 0.25}),
        train=TrainConfig(epochs=50, seeds=[0, 1], select="roc_auc", patience=3, averaging="none"),
        tune={"train.lr": [1e-3, 1e-2], "loss.gamma": [1.0, 2.0]},
    )
    again = with_budget(config, Budget({"train.lr": 1e-2, "loss.gamma": 1.0}, 7), [1])
    assert again.loss == Spec("focal", {"gamma": 1.0, "alpha": 0.25})
    assert again.tune == {}
    train = again.train
    assert (train.epochs, train.seeds, train.lr, train.select, train.patience) == (7, [1], 1e-2, "last", None)
    assert (train.averaging, config.train.epochs) == ("none", 50)
