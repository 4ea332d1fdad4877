"""Missing-label policies: the contract of the table, each with every loss."""

from __future__ import annotations

import functools

import pytest
import torch

from aimonk_bench.errors import UserError
from aimonk_bench.registry import Spec
from aimonk_bench.training.losses import LOSSES, bind
from aimonk_bench.training.missing import MISSING, check_missing, weak_negative

SHAPE = (2, 9, 3)
FILLED = {  # (target, weight) of a cell without a label
    "ignore": (0.0, 0.0),
    "negative": (0.0, 1.0),
    "weak_negative": (0.0, 0.5),
    "positive": (1.0, 1.0),
    "smooth_negative": (0.1, 1.0),
}

each_policy = pytest.mark.parametrize("policy", MISSING)
each_loss = pytest.mark.parametrize("name", LOSSES)


@pytest.fixture
def cells():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=rng, dtype=torch.float64).requires_grad_()
    targets = (torch.rand(SHAPE, generator=rng) < 0.5).double()
    return logits, targets, torch.rand(SHAPE, generator=rng) < 0.6


def bound(name):
    counts = torch.tensor([[[5.0, 2, 0]], [[1, 4, 6]]]), torch.tensor([[[1.0, 3, 4]], [[3, 2, 1]]])
    return bind(LOSSES[name], *(count.double() for count in counts))


def test_every_policy_says_what_it_fills():
    assert set(FILLED) == set(MISSING)


@each_policy
@each_loss
def test_observed_cells_are_the_loss_and_the_others_what_the_policy_says(policy, name, cells):
    logits, targets, observed = cells
    value, weight = FILLED[policy]
    got, weights = MISSING[policy](bound(name), logits, targets, observed, 1)
    filled = torch.where(observed, targets, torch.full_like(targets, value))
    torch.testing.assert_close(got, bound(name)(logits, filled), rtol=0, atol=0)
    torch.testing.assert_close(weights, torch.where(observed, 1.0, weight).double(), rtol=0, atol=0)
    if name != "distribution_balanced":  # which sums over the row's filled targets
        torch.testing.assert_close(got[observed], bound(name)(logits, targets)[observed], rtol=0, atol=0)


@each_policy
@each_loss
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -1.0])
def test_nothing_under_a_missing_label_is_read(policy, name, junk, cells):
    logits, targets, observed = cells

    def outcome(under):
        logits.grad = None
        values, weights = MISSING[policy](bound(name), logits, torch.where(observed, targets, under), observed, 2)
        (values * weights).sum().backward()
        return values.detach(), weights, logits.grad

    for clean, dirty in zip(outcome(0.0), outcome(junk), strict=True):
        assert clean.isfinite().all()
        assert torch.equal(clean, dirty)


@each_policy
def test_with_every_label_observed_all_policies_are_the_plain_loss(policy, cells):
    logits, targets, observed = cells
    values, weights = MISSING[policy](bound("focal"), logits, targets, torch.ones_like(observed), 1)
    assert torch.equal(values, bound("focal")(logits, targets))
    assert (weights == 1).all()


def test_the_weight_of_a_weak_negative_and_the_target_of_a_smooth_one_can_be_chosen(cells):
    logits, targets, observed = cells
    weights = MISSING["weak_negative"](bound("masked_bce"), logits, targets, observed, 1, w=0.2)[1]
    assert weights[~observed].unique().tolist() == [0.2]
    policy = functools.partial(MISSING["smooth_negative"], eps=1.0)
    smoothed, positive = (p(bound("hill"), logits, targets, observed, 1)[0] for p in (policy, MISSING["positive"]))
    assert torch.equal(smoothed, positive)


def test_a_weak_negative_of_a_single_attribute_needs_its_weight():
    with pytest.raises(UserError, match="give w"):
        check_missing(Spec("weak_negative"), 1)
    check_missing(Spec("weak_negative", {"w": 0.5}), 1)
    check_missing(Spec("weak_negative", {"w": None}), 2)
    check_missing(Spec("ignore"), 1)
    one = torch.zeros(1, 2, 1)
    with pytest.raises(UserError, match="give w"):
        weak_negative(bound("masked_bce"), one, one, one > 0, 1)
