"""Set losses: the formulas in loops over one head, and the contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.metrics import f1_score
from torch.nn import functional as F

from aimonk_bench import registry
from aimonk_bench.testing import check_set_loss
from aimonk_bench.testing.losses import draw_set
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.set_losses import SET_LOSSES, two_way

each_set_loss = pytest.mark.parametrize("name", SET_LOSSES)


def p_of(z):
    return 1 / (1 + np.exp(-z))


def softplus(x):
    return np.logaddexp(0, x)


def two_way_paper(z, y, w):
    """T+ 4, T- 1; the means over the samples and over the classes that have a positive."""
    total = 0
    for lines in (zip(z, y, w, strict=True), zip(z.T, y.T, w.T, strict=True)):
        costs = []
        for z_, y_, w_ in lines:
            pos, neg = (w_ > 0) & (y_ == 1), (w_ > 0) & (y_ == 0)
            if pos.any():
                lse_neg = logsumexp(z_[neg], b=w_[neg]) if neg.any() else -np.inf
                costs.append(softplus(lse_neg + 4 * logsumexp(-z_[pos] / 4, b=w_[pos])))
        total += np.mean(costs) if costs else 0
    return total


def zlpr_paper(z, y, w):
    costs = []
    for z_, y_, w_ in zip(z, y, w, strict=True):
        values = [(zk, yk, wk) for zk, yk, wk in zip(z_, y_, w_, strict=True) if wk > 0]
        if values:
            positives = sum(wk * np.exp(-zk) for zk, yk, wk in values if yk)
            negatives = sum(wk * np.exp(zk) for zk, yk, wk in values if not yk)
            costs.append(np.log(1 + positives) + np.log(1 + negatives))
    return np.mean(costs) if costs else 0


def sigmoid_f1_paper(z, y, w):
    costs = []
    for k in range(z.shape[1]):
        tp = fp = fn = 0
        for b in np.flatnonzero(w[:, k] > 0):
            s = p_of(z[b, k])
            tp += w[b, k] * y[b, k] * s
            fp += w[b, k] * (1 - y[b, k]) * s
            fn += w[b, k] * y[b, k] * (1 - s)
        if tp:
            costs.append(1 - 2 * tp / (2 * tp + fp + fn))
    return np.mean(costs) if costs else 0


SET_PAPERS = {"two_way": two_way_paper, "zlpr": zlpr_paper, "sigmoid_f1": sigmoid_f1_paper}


def test_every_set_loss_has_a_formula_and_a_name_of_its_own():
    assert set(SET_PAPERS) == set(SET_LOSSES)
    assert not set(LOSSES) & set(SET_LOSSES)


@each_set_loss
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_each_heads_set_loss_is_the_formula(name, dtype, rtol):
    logits, targets, weights = draw_set(dtype)
    values = SET_LOSSES[name](logits, targets, weights)
    assert (values.shape, values.dtype) == ((5,), dtype)
    heads = (array.double().numpy() for array in (logits, targets, weights))
    wanted = [SET_PAPERS[name](z, y, w) for z, y, w in zip(*heads, strict=True)]
    np.testing.assert_allclose(values.double().numpy(), wanted, rtol=rtol, atol=rtol * 1e-2)
    assert values[0] > 0
    assert values[3] == 0


@each_set_loss
def test_every_set_loss_keeps_the_contract(name):
    check_set_loss(SET_LOSSES[name])


@each_set_loss
def test_a_set_loss_knows_no_order_of_the_attributes(name):
    arrays = draw_set()
    columns = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(SET_LOSSES[name](*(a[..., columns] for a in arrays)), SET_LOSSES[name](*arrays))


@each_set_loss
def test_a_set_loss_rewards_what_is_right(name):
    _, targets, weights = draw_set()
    z = torch.zeros_like(targets).requires_grad_()
    (gradient,) = torch.autograd.grad(SET_LOSSES[name](z, targets, weights)[0], z)
    pull = gradient[0] * (1 - 2 * targets[0])
    assert (pull >= 0).all()
    assert (pull > 0).any()
    right, wrong = (SET_LOSSES[name](sign * 20 * (2 * targets - 1), targets, weights)[0] for sign in (1, -1))
    assert right < 1e-2 < wrong


def test_two_way_of_one_positive_and_one_negative_is_their_logistic_ranking_loss():
    z = torch.tensor([[0.7], [-0.4]], dtype=torch.float64)
    pair = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    torch.testing.assert_close(two_way(z, pair, torch.ones_like(z)), F.softplus(z[1, 0] - z[0, 0]))
    torch.testing.assert_close(two_way(z.T, pair.T, torch.ones_like(z.T)), F.softplus(z[1, 0] - z[0, 0]))


def test_sigmoid_f1_with_a_steep_sigmoid_is_the_f1_of_hard_predictions():
    logits, targets, _ = draw_set()
    values = SET_LOSSES["sigmoid_f1"](logits, targets, torch.ones_like(logits), beta=1e4, eta=0.5)
    wanted = 1 - f1_score(targets[0].numpy(), logits[0].numpy() > -0.5, average="macro")
    assert values[0].item() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("name", "options"), [("two_way", {"t_pos": 0.0}), ("zlpr", {"gamma": 1.0}), ("sigmoid_f1", {"beta": -1.0})]
)
def test_options_out_of_range_are_refused(name, options):
    spec, problems = registry.check("loss", SET_LOSSES, {"name": name, **options})
    assert spec is None
    assert len(problems) == 1
