"""The choice of an epoch, and of a tuned setting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aimonk_bench.config.fields import TrainConfig
from aimonk_bench.training import tuning
from aimonk_bench.training.selection import TIE, Selection
from aimonk_bench.training.tuning import choose


def test_each_head_keeps_its_best_epoch_and_ties_go_to_the_earlier():
    selection = Selection(4, last=False, patience=2)
    scores = [[1, 1, np.nan, 3], [2, 1, np.nan, 2], [2, 5, np.nan, 1], [9, 0, np.nan, 9], [9, 0, np.nan, 9]]
    keeps = [selection.choose(epoch, np.array(row, float)).tolist() for epoch, row in enumerate(scores, 1)]
    # head 0 improves at 2 and 4, head 1 at 3 only, head 2 never has a score, head 3 has stopped before its 9
    assert keeps == [
        [True, True, True, True],
        [True, False, True, False],
        [False, True, True, False],
        [True, False, True, False],
        [False, False, True, False],
    ]
    assert selection.epoch.tolist() == [4, 3, 5, 1]
    assert selection.active.tolist() == [True, False, True, False]
    assert selection.scored.tolist() == [True, True, False, True]


def test_the_last_epoch_is_kept_whatever_the_scores_are():
    selection = Selection(2, last=True, patience=None)
    for epoch, scores in enumerate(([5.0, np.nan], [1.0, np.nan]), 1):
        assert selection.choose(epoch, np.array(scores)).all()
    assert selection.epoch.tolist() == [2, 2]


def test_a_setting_is_chosen_by_score_the_earlier_of_equals_never_nan():
    nan, tied = np.nan, 0.5 + TIE / 2
    scores = np.array([[0.1, 0.5, 0.3], [0.5, tied, 0.2], [nan, 0.1, nan], [nan, nan, nan], [nan, nan, nan]])
    possible = np.ones(scores.shape, bool)
    possible[4, 0] = False
    assert choose(scores, possible).tolist() == [1, 0, 1, 0, 1]
    assert choose(-scores, possible).tolist() == [0, 2, 1, 0, 1]


def test_each_step_along_a_list_must_gain():
    tune = {"train.lr": [0.1, 0.2, 0.3], "train.weight_decay": [0.0, 1.0]}
    steps = tuning.steps(TrainConfig(), tune)
    assert steps.tolist() == [0, 1, 1, 2, 2, 3]
    scores = np.array([[0.5, 0.504, 0.5, 0.509, 0.5, 0.5], [0.5, 0.506, 0.4, 0.4, 0.512, 0.4], [np.nan] * 5 + [0.1]])
    possible = np.ones(scores.shape, bool)
    assert choose(tuning.ranked(scores, "average_precision", steps), possible).tolist() == [0, 4, 5]
    assert choose(tuning.ranked(scores, "loss", steps), possible).tolist() == [0, 2, 5]
    assert tuning.steps(TrainConfig(), {}).tolist() == [0]
    longer = {"train.weight_decay": [0.0, 0.5, 1.0], "train.lr": [0.1, 0.2]}  # the grid begins with learning rates
    assert tuning.grid(TrainConfig(), longer)["train.lr"].tolist() == [0.1] * 3 + [0.2] * 3
    assert tuning.steps(TrainConfig(), longer).tolist() == [0, 1, 2, 1, 2, 3]


def test_the_ends_of_a_grid_are_shares_of_the_heads_that_score_clearly_best_there():
    points = {"train.lr": np.array([0.1, 0.1, 1.0, 1.0]), "train.weight_decay": np.array([0.0, 0.5, 0.0, 0.5])}
    heads = [[0.6, 0.5, 0.4, 0.4], [0.5, 0.4, 0.504, 0.4], [0.4, 0.4, 0.4, 0.6], [np.nan, np.nan, np.nan, 0.1]]
    scores = np.array(heads).T[:, :, None]
    tried = tuning.Tuning("average_precision", points, scores, {})
    assert tried.ends() == {"train.lr": (0.25, 0.5), "train.weight_decay": (0.0, 0.5)}  # nothing lies below 0
    by_loss = replace(tried, metric="loss", scores=-scores)
    assert by_loss.ends() == {"train.lr": (0.25, 0.75), "train.weight_decay": (0.0, 0.5)}  # .004 of .5 is clear
    alike = tuning.Tuning("loss", {"train.lr": np.array([0.1, 1.0])}, np.array([0.35, 0.3499])[:, None, None], {})
    assert alike.ends() == {"train.lr": (0.0, 0.0)}
    assert tuning.Tuning("loss", {"train.lr": np.array([0.1])}, scores[:1], {}).ends() == {}
    undefined = replace(tried, scores=np.full(scores.shape, np.nan))
    assert set(undefined.ends().values()) == {(0.0, 0.0)}
