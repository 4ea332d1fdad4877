"""The bias that a head starts with: the constant logit with the lowest loss on the training labels."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from test_finetune import fine, single
from test_trainer import problem, recipe, run, training_data

from aimonk_bench import registry
from aimonk_bench.data.labels import Labels
from aimonk_bench.registry import Spec
from aimonk_bench.training.initial_bias import LIMIT, best_constant, initial_bias
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.missing import MISSING
from aimonk_bench.training.objective import Objective
from aimonk_bench.training.recipe import Recipe
from aimonk_bench.training.set_losses import SET_LOSSES
from aimonk_bench.training.stack import Stack

COUNTS = torch.tensor([[[3, 50, 800], [900, 50, 40], [97, 900, 160]]], dtype=torch.float64)  # [1, 3, A]


def objective(loss, missing="ignore", counts=COUNTS):
    specs = registry.check("loss", LOSSES | SET_LOSSES, loss)[0], registry.check("missing", MISSING, missing)[0]
    return Objective(*specs, *counts[:, :2].split(1, 1))


def log_odds(positive, negative):
    return np.log((np.asarray(positive, float) + 0.5) / (np.asarray(negative, float) + 0.5))


def whole(counts):
    """Labels [1, N, 1] of all images of one attribute, without the half images that are added."""
    kinds = [[1, 1], [0, 1], [0, 0]]  # value, observed
    rows = torch.tensor(kinds, dtype=torch.float64).repeat_interleave(counts.long(), 0)[None]
    return Labels(rows[..., :1], rows[..., 1:].bool())


@pytest.mark.parametrize("missing", ["ignore", "negative", "smooth_negative"])
@pytest.mark.parametrize(
    "loss", ["masked_bce", "pos_weight", "class_balanced", "ratio_exp", "focal", "asymmetric", "hill"]
)
def test_no_other_constant_has_a_lower_loss_on_all_images(loss, missing):
    scale = 40  # so many images that half an image more is nothing
    bias = best_constant(objective(loss, missing, COUNTS * scale), COUNTS * scale)
    for attribute in range(3):
        counts = COUNTS[:, :, attribute : attribute + 1] * scale
        one, labels = objective(loss, missing, counts), whole(COUNTS[0, :, attribute])

        def value(logit, one=one, labels=labels):
            return one(torch.full_like(labels.targets, logit), labels).item()

        best = minimize_scalar(value, bounds=(-LIMIT, LIMIT), method="bounded", options={"xatol": 1e-6}).x
        assert bias[0, 0, attribute].item() == pytest.approx(best, abs=0.02)


def test_of_masked_bce_they_are_the_log_odds_of_the_labels_as_the_policy_fills_them():
    positive, negative, missing = COUNTS[0].numpy()
    ignored, negatives = (best_constant(objective("masked_bce", policy), COUNTS) for policy in ("ignore", "negative"))
    np.testing.assert_allclose(ignored[0, 0], log_odds(positive, negative), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(negatives[0, 0], log_odds(positive, negative + missing), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("loss", SET_LOSSES)
def test_a_set_loss_starts_at_the_log_odds(loss):
    np.testing.assert_allclose(
        best_constant(objective(loss), COUNTS)[0, 0], log_odds(*COUNTS[0, :2].numpy()), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("loss", [*LOSSES, *SET_LOSSES])
@pytest.mark.parametrize("counts", [(0, 0, 9), (9, 0, 0), (0, 9, 0), (0, 10**7, 0), (1, 10**7, 5)])
def test_labels_of_one_value_or_none_give_finite_logits(loss, counts):
    kinds = torch.tensor(counts, dtype=torch.float32)[None, :, None]
    (bias,) = best_constant(objective(loss, counts=kinds), kinds).flatten().tolist()
    assert abs(bias) <= LIMIT
    if counts == (0, 0, 9):
        assert bias == pytest.approx(0, abs=3)


@pytest.mark.parametrize("value", [float("nan"), -1.0, 1.0])
def test_a_loss_without_a_minimum_starts_at_the_log_odds(value):
    def monotone(logits, targets):
        return value * logits

    flat = objective("masked_bce")
    flat.loss, flat.gradient = monotone, None
    np.testing.assert_allclose(
        best_constant(flat, COUNTS)[0, 0], log_odds(*COUNTS[0, :2].numpy()), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("missing", ["splc", "large_loss_reject"])
def test_a_policy_that_reads_logits_leaves_it_to_the_observed_labels(missing):
    config = recipe(missing=missing, bias_init="best_constant")
    made = Recipe(**config)
    stack = Stack(training_data(problem()), made, made.jobs(2), torch.device("cpu"), torch.float64)
    positive, negative, _ = stack.counts.split(1, 1)
    torch.testing.assert_close(
        initial_bias(stack, Spec(missing), torch.zeros(1)), ((positive + 0.5) / (negative + 0.5)).log()
    )
    assert stack.counts.sum(1).unique().tolist() == [17, 22]  # every training row is counted once


@pytest.mark.parametrize("how", ["best_constant", "uniform"])
def test_a_head_that_hardly_learns_predicts_where_it_starts(how):
    data = problem()
    data.features[:] = 0
    trained = run(data, recipe(lr=1e-9, bias_init=how))
    for number, fold in enumerate(data.folds):
        positive, negative = (counts + 0.5 for counts in training_data(data).train_labels[fold.train].counts())
        logits = trained.logits[number]["test"]
        starts_at_log_odds = np.allclose(logits, np.log(positive / negative), atol=1e-6)
        assert starts_at_log_odds == (how == "best_constant")


@pytest.mark.parametrize("missing", ["ignore", "self_trained"])
def test_a_network_that_hardly_learns_predicts_where_its_head_starts(missing):
    data = single(problem())
    data.features[:] = 0
    trained = fine(data, recipe(lr=1e-9, missing=missing, bias_init="best_constant"), torch.nn.Identity())
    for number, fold in enumerate(data.folds):
        positive, negative = (counts + 0.5 for counts in training_data(data).train_labels[fold.train].counts())
        np.testing.assert_allclose(
            trained.logits[number]["test"],
            np.broadcast_to(np.log(positive / negative), trained.logits[number]["test"].shape),
            atol=1e-5,
        )
