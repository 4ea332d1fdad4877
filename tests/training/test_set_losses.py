"""Set losses: the formulas in loops over one head, what they must not read, and far out."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.metrics import f1_score
from torch.nn import functional as F

from aimonk_bench import registry
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


def draw_set(dtype=torch.float64, scale=3.0):
    """Five heads: mixed, without positives, without negatives, nothing observed, a lone image."""
    rng = torch.Generator().manual_seed(3)
    shape = (5, 7, 4)
    logits = torch.randn(shape, generator=rng, dtype=torch.float64) * scale
    targets = (torch.rand(shape, generator=rng) < 0.5).to(dtype)
    weights = torch.tensor([0.0, 0.25, 1.0], dtype=dtype)[torch.randint(3, shape, generator=rng)]
    targets[1], targets[2], weights[3], weights[4, 1:] = 0, 1, 0, 0
    return logits.to(dtype), targets, weights


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
def test_a_set_loss_knows_no_order_and_no_other_head(name):
    arrays = draw_set()
    loss, values = SET_LOSSES[name], SET_LOSSES[name](*arrays)
    rng = torch.Generator().manual_seed(4)
    heads, rows, columns = (torch.randperm(size, generator=rng) for size in (5, 7, 4))
    torch.testing.assert_close(loss(*(a[:, rows][:, :, columns] for a in arrays)), values)
    torch.testing.assert_close(loss(*(a[heads] for a in arrays)), values[heads])
    for head in range(5):
        torch.testing.assert_close(loss(*(a[head] for a in arrays)), values[head])
        torch.testing.assert_close(loss(*(a[None, head : head + 1] for a in arrays)), values[None, head : head + 1])


@each_set_loss
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -1.0])
def test_an_element_of_weight_zero_is_never_read_and_has_no_gradient(name, junk):
    logits, targets, weights = draw_set()
    hidden = weights == 0

    def outcome(logits, targets):
        logits = logits.clone().requires_grad_()
        values = SET_LOSSES[name](logits, targets, weights)
        values.sum().backward()
        return values.detach(), logits.grad

    clean = outcome(logits, targets)
    dirty = outcome(logits.masked_fill(hidden, junk), targets.masked_fill(hidden, junk))
    assert all(torch.equal(one, other) for one, other in zip(clean, dirty, strict=True))
    assert clean[1].isfinite().all()
    assert (clean[1][hidden] == 0).all()
    assert clean[1][0].abs().sum() > 0


@each_set_loss
def test_set_losses_and_their_gradients_are_finite_far_out(name):
    _, targets, weights = draw_set(torch.float32)
    signs = torch.randint(2, targets.shape, generator=torch.Generator().manual_seed(5)) * 2 - 1.0
    for size in (50, 88, 300):
        for far in (size * signs, size * (2 * targets - 1), size * (1 - 2 * targets)):
            for dtype in (torch.float32, torch.bfloat16):
                logits = far.to(dtype).requires_grad_()
                values = SET_LOSSES[name](logits, targets, weights)
                (gradient,) = torch.autograd.grad(values.sum(), logits)
                assert values.dtype == torch.float32
                assert values.isfinite().all()
                assert (values >= 0).all()
                assert gradient.isfinite().all()
                assert (gradient[3] == 0).all()


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


@each_set_loss
def test_autocast_costs_a_set_loss_no_digits(name):
    _, targets, weights = draw_set(torch.float32)
    features = torch.tensor([50, 5, 0.5, 1, 2])[:, None, None] * torch.linspace(-1, 1, 7)[:, None]
    weight = torch.ones(5, 1, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = features @ weight
        assert logits.dtype == torch.bfloat16
        values = SET_LOSSES[name](logits, targets, weights)
    torch.testing.assert_close(values, SET_LOSSES[name](logits.detach().float(), targets, weights), rtol=1e-6, atol=0)
    values.sum().backward()
    assert weight.grad.isfinite().all()


@each_set_loss
def test_gradients_of_set_losses_are_those_of_finite_differences(name):
    logits, targets, weights = draw_set()
    assert torch.autograd.gradcheck(lambda z: SET_LOSSES[name](z, targets, weights), logits.requires_grad_())


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


@each_set_loss
def test_every_head_can_have_its_own_value_of_every_numeric_option(name):
    arrays = draw_set()
    rng = np.random.default_rng(0)
    options = {key: rng.uniform(0.5, 2.0, 5) for key in registry.numeric_options(SET_LOSSES[name])}
    stacked = {key: torch.from_numpy(values).view(5, 1, 1) for key, values in options.items()}
    values = functools.partial(SET_LOSSES[name], **stacked)(*arrays)
    for head in range(5):
        single = functools.partial(SET_LOSSES[name], **{key: own[head] for key, own in options.items()})
        np.testing.assert_allclose(values[head], single(*(array[head] for array in arrays)), rtol=1e-12)
