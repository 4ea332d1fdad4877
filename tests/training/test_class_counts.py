"""What every entry that reads class counts gives where an attribute has no observed positive, negative or label."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aimonk_bench.config.fields import TrainConfig
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.errors import RunFailed
from aimonk_bench.registry import Spec
from aimonk_bench.training.entries import bind, takes
from aimonk_bench.training.heads_trainer import train_heads
from aimonk_bench.training.losses import GRADIENTS, LOSSES, masked_bce
from aimonk_bench.training.missing import MISSING
from aimonk_bench.training.objective import Objective
from aimonk_bench.training.recipe import Recipe, TrainingData, absent_values
from aimonk_bench.training.samplers import SAMPLERS
from aimonk_bench.training.set_losses import SET_LOSSES

ABSENT = {"positive": (0, 40), "negative": (40, 0), "label": (0, 0)}  # the value without an observed label -> n1, n0
each_absent = pytest.mark.parametrize("absent", ABSENT)


def counts(absent):
    """Counts [1, 1, 2] of two attributes: 10 positives of 40, and the counts of ``absent``."""
    n1, n0 = ABSENT[absent]
    return {name: torch.tensor([[[a, b]]]).double() for name, a, b in (("positives", 10, n1), ("negatives", 30, n0))}


def unit_focal(logits, targets):
    """distribution_balanced with R = 1 and z' = z."""
    p, q = torch.sigmoid(logits), torch.sigmoid(2 * logits)
    return torch.where(targets > 0.5, -((1 - p) ** 2) * torch.log(p), -(q**2) * torch.log(1 - q) / 2)


# a loss with class counts -> its values where the class weights are 1
UNIT_WEIGHTS = {
    "pos_weight": masked_bce,
    "ratio_exp": masked_bce,
    "class_balanced": masked_bce,
    "distribution_balanced": unit_focal,
}


def test_the_table_has_every_entry_that_reads_class_counts():
    readers = {name for name, loss in (LOSSES | SET_LOSSES).items() if takes(loss, "positives")}
    assert readers == set(UNIT_WEIGHTS)
    assert {name for name, policy in MISSING.items() if takes(policy, "positives")} == {"selective"}


@pytest.mark.parametrize("name", UNIT_WEIGHTS)
@each_absent
def test_class_weights_are_one_where_a_count_is_zero(name, absent):
    logits = torch.linspace(-3, 3, 14, dtype=torch.float64).view(1, 7, 2)
    for targets in (torch.zeros_like(logits), torch.ones_like(logits)):
        leaf = logits.clone().requires_grad_()
        values = bind(LOSSES[name], **counts(absent))(leaf, targets)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        wanted = UNIT_WEIGHTS[name](logits, targets)
        torch.testing.assert_close(values[..., 1].detach(), wanted[..., 1])
        has_weight = name != "pos_weight" or targets.any()  # which leaves negatives as they are
        assert torch.allclose(values[..., 0].detach(), wanted[..., 0], rtol=1e-2, atol=0) != has_weight
        assert gradient.isfinite().all()
        if LOSSES[name] in GRADIENTS:
            options = {"cap": 20.0} if name == "pos_weight" else {"beta": 0.999} if name == "class_balanced" else {}
            torch.testing.assert_close(GRADIENTS[LOSSES[name]](logits, targets, **counts(absent), **options), gradient)


@pytest.mark.parametrize("absent", ["positive", "label"])
def test_a_filled_positive_without_a_count_does_not_rebalance_the_other_attributes(absent):
    logits, targets = torch.randn(1, 5, 2, dtype=torch.float64), torch.tensor([1.0, 0.0]).double().expand(1, 5, 2)
    loss = bind(LOSSES["distribution_balanced"], **counts(absent))
    filled = targets.clone()
    filled[..., 1] = 1
    assert torch.equal(loss(logits, targets)[..., 0], loss(logits, filled)[..., 0])


@pytest.mark.parametrize(
    ("name", "absent", "value"),
    [
        ("two_way", "positive", 0.0),
        ("two_way", "negative", 0.0),
        ("two_way", "label", 0.0),
        ("zlpr", "positive", np.log(2)),
        ("zlpr", "negative", np.log(2)),
        ("zlpr", "label", 0.0),
        ("sigmoid_f1", "positive", 0.0),
        ("sigmoid_f1", "negative", 1 / 3),  # tp = fn = 2
        ("sigmoid_f1", "label", 0.0),
    ],
)
def test_a_set_loss_of_four_images_at_logit_zero(name, absent, value):
    logits = torch.zeros(1, 4, 1, dtype=torch.float64, requires_grad=True)
    targets = torch.full_like(logits, absent == "negative")
    values = SET_LOSSES[name](logits, targets, torch.full_like(logits, absent != "label"))
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    assert values.item() == pytest.approx(value)
    assert gradient.isfinite().all()


@each_absent
def test_selective_reads_only_the_prediction_where_a_count_is_zero(absent):
    logits = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).double()[None]
    labels = Labels(torch.zeros_like(logits), torch.zeros_like(logits).bool())
    made = Objective(Spec("masked_bce"), Spec("selective"), **counts(absent))
    assert made.fill(labels, logits)[1].tolist() == [[[1, 1], [0, 0]]]


def small(absent):
    """Four rows: the first is the positive of attribute a; attribute b has the counts of ``absent``."""
    targets = np.array([[1, 0, 0, 0], [absent == "negative"] * 4]).T.astype(np.int8)
    return Labels.of(targets, np.array([[True] * 4, [absent != "label"] * 4]).T, ("a", "b"))


REPEATED = np.sqrt(0.3 / 0.25)
CHANCES = {  # of the first of four rows, by the value of b that is absent; the other rows have equal chances
    "uniform": {"positive": 1 / 4, "negative": 1 / 4, "label": 1 / 4},
    "inverse_frequency": {"positive": 5 / 12, "negative": 5 / 12, "label": 1 / 2},
    "repeat_factor": dict.fromkeys(ABSENT, REPEATED / (REPEATED + 3)),
    "class_aware": {"positive": 1.0, "negative": 5 / 8, "label": 1.0},
    "balanced": {"positive": 5 / 12, "negative": 5 / 12, "label": 1 / 2},
    "coverage": {"positive": 2.5 / 8, "negative": 2.5 / 8, "label": 2.5 / 8},
}


@pytest.mark.parametrize("name", SAMPLERS)
@each_absent
def test_the_chances_of_a_sampler_come_from_the_strata_that_have_rows(name, absent):
    rows = SAMPLERS[name](small(absent), 8, 5000, np.random.default_rng(0))
    first = CHANCES[name][absent]
    np.testing.assert_allclose(
        np.bincount(rows.ravel(), minlength=4) / rows.size, [first] + [(1 - first) / 3] * 3, atol=0.015
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_without_any_observed_label_a_sampler_is_uniform_or_says_that_it_has_nothing_to_draw(name):
    nothing = Labels.of(np.zeros((4, 2)), np.zeros((4, 2), bool))
    if name in ("class_aware", "balanced"):
        with pytest.raises(RunFailed, match=f"sampler {name}"):
            SAMPLERS[name](nothing, 8, 5, np.random.default_rng(0))
        return
    rows = SAMPLERS[name](nothing, 8, 5000, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(rows.ravel(), minlength=4) / rows.size, [1 / 4] * 4, atol=0.015)


# --- training -----------------------------------------------------------------------------------------------------


def one_class_data(value):
    """Forty images; all observed labels of attribute b are ``value``, a quarter of its labels are missing."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 5))
    targets = np.stack([features[:, 0] > 0, np.full(40, value)], 1)
    observed = np.stack([np.ones(40, bool), np.arange(40) % 4 > 0], 1)
    labels = Labels.of(targets, observed, ("a", "b"))
    fold = Fold(*np.split(rng.permutation(40), [24, 32]))
    return features, TrainingData(labels, labels, [fold], np.ones(1))


def logits_of(loss, missing, value):
    """Test logits [R] of attribute b."""
    features, data = one_class_data(value)
    config = TrainConfig(epochs=30, batch_size=8, lr=0.1, seeds=1, select="last")
    recipe = Recipe(config, Spec(loss), Spec(missing), Spec("uniform"))
    return train_heads(features, np.arange(40)[None], data, recipe, dtype=torch.float64).logits[0]["test"][0, :, 1]


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("missing", ["ignore", "negative", "positive"])
def test_an_attribute_of_one_class_is_trained_as_if_the_loss_had_no_class_weights(missing, value):
    plain = logits_of("masked_bce", missing, value)
    for loss in ("pos_weight", "ratio_exp", "class_balanced"):
        np.testing.assert_allclose(logits_of(loss, missing, value), plain, rtol=1e-9)
    if missing == "ignore":
        assert (2 * value - 1) * plain.mean() > 1


# --- the warning --------------------------------------------------------------------------------------------------

FOLDS = [Fold(*np.split(np.roll(np.arange(6), 2 * shift), [2, 4])) for shift in (0, -1, -2)]  # train on pairs of rows
ROWS = {  # an attribute of six rows, as 0, 1 or - for NA
    "mixed": "010101",
    "all positive": "1-11-1",
    "all negative": "0000-0",
    "unlabelled": "------",
    "late negative": "1111-0",
    "late positive": "000001",
    "gap": "01--10",
}


@pytest.mark.parametrize(
    ("names", "warnings"),
    [
        (["mixed"], []),
        (["mixed", "all positive"], ["all positive: no observed negative among the training rows:"]),
        (["all negative"], ["all negative: no observed positive among the training rows:"]),
        (["unlabelled"], ["unlabelled: no observed label among the training rows:"]),
        (
            ["late negative"],
            [
                "late negative: no observed positive among the training rows of fold 2:",
                "late negative: no observed negative among the training rows of fold 0, 1:",
            ],
        ),
        (["late positive"], ["late positive: no observed positive among the training rows of fold 0, 1:"]),
        (["gap", "late positive"], ["gap: no observed label among the training rows of fold 1:", "late positive: "]),
    ],
)
def test_one_warning_for_each_absent_value_and_set_of_folds(names, warnings):
    columns = np.array([list(ROWS[name]) for name in names]).T
    texts = absent_values(Labels.of(columns == "1", columns != "-", names), FOLDS)
    assert len(texts) == len(warnings)
    assert all(text.startswith(start) for text, start in zip(texts, warnings, strict=True))
    assert all("class weights" in text and "data.attributes" in text for text in texts)


def test_attributes_with_the_same_absent_value_and_folds_share_a_warning():
    targets = np.ones((6, 3))
    targets[::2, 1] = 0
    (text,) = absent_values(Labels.of(targets, np.ones((6, 3)), ("x", "y", "z")), FOLDS)
    assert text.startswith("x, z: no observed negative among the training rows:")
