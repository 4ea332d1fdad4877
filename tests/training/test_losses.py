"""Elementwise losses and their derivatives: the formulas of the papers in float64, torch, torchvision, and far out."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from aimonk_bench import registry
from aimonk_bench.testing import check_loss
from aimonk_bench.training.entries import bind
from aimonk_bench.training.losses import GRADIENTS, LOSSES, focal, logs, masked_bce, pos_weight

SHAPE = (3, 7, 4)  # H, B, A
COUNTS = torch.tensor([[[90, 40, 3, 0]], [[50, 50, 1, 20]], [[7, 0, 30, 5]]])
OTHERS = torch.tensor([[[10, 60, 97, 30]], [[50, 2, 99, 0]], [[70, 0, 1, 5]]])

each_loss = pytest.mark.parametrize("name", LOSSES)


def bound(name, dtype=torch.float64, **options):
    return bind(functools.partial(LOSSES[name], **options), positives=COUNTS.to(dtype), negatives=OTHERS.to(dtype))


def draw(dtype=torch.float64, scale=3.0):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=rng, dtype=torch.float64) * scale
    return logits.to(dtype), (torch.rand(SHAPE, generator=rng) < 0.5).to(dtype)


# --- the formulas, one element at a time: z, y, the row's labels, the attribute's place, all n1, all n0 ----------


def p_of(z):
    return 1 / (1 + np.exp(-z))


def bce(z, y):
    return -np.log(p_of(z)) if y else -np.log(1 - p_of(z))


def weighted(z, y, row, k, n1, n0):
    return bce(z, y) * (min(n0[k] / n1[k], 20) if y and n1[k] and n0[k] else 1)


def deepmar(z, y, row, k, n1, n0):
    if not (n1[k] and n0[k]):
        return bce(z, y)
    r = n1[k] / (n1[k] + n0[k])
    return bce(z, y) * np.exp(y * (1 - r) + (1 - y) * r)


def effective_number(z, y, row, k, n1, n0, beta=0.999):
    values = [n for n in (n1[k], n0[k]) for _ in range(int(n))]
    count = n1[k] if y else n0[k]
    if not count:
        return bce(z, y)
    mean = np.mean([(1 - beta) / (1 - beta**n) for n in values])
    return bce(z, y) * (1 - beta) / (1 - beta**count) / mean


def focal_paper(z, y, row, k, n1, n0):
    pt = p_of(z) if y else 1 - p_of(z)
    return -(0.25 if y else 0.75) * (1 - pt) ** 2 * np.log(pt)


def asymmetric_paper(z, y, row, k, n1, n0):
    p = p_of(z)
    pm = max(p - 0.05, 0)
    return -(1 - p) * np.log(p) if y else -(pm**4) * np.log(1 - pm)


def hill_paper(z, y, row, k, n1, n0):
    shifted = p_of(z - 1)
    return -((1 - shifted) ** 2) * np.log(shifted) if y else (1.5 - p_of(z)) * p_of(z) ** 2


def distribution_balanced_paper(z, y, row, k, n1, n0):
    """Eq. 1-3, 6-8 of arXiv 2007.09654 with the focal factor: nu = -kappa b_hat, b_hat = -log(1/prior - 1)."""
    rebalance, nu = 1, 0
    if n1[k] and n0[k]:
        instance = sum(1 / n1[j] for j in range(len(row)) if row[j] and n1[j])
        r = 1 / n1[k] / instance if instance else np.inf
        rebalance = 0.1 + 1 / (1 + np.exp(-10 * (r - 0.2)))
        nu = 0.05 * np.log((n1[k] + n0[k]) / n1[k] - 1)
    if y:
        q = p_of(z - nu)
        return -rebalance * (1 - q) ** 2 * np.log(q)
    q = p_of(2 * (z - nu))
    return -rebalance / 2 * q**2 * np.log(1 - q)


PAPERS = {
    "masked_bce": lambda z, y, *rest: bce(z, y),
    "pos_weight": weighted,
    "ratio_exp": deepmar,
    "class_balanced": effective_number,
    "focal": focal_paper,
    "asymmetric": asymmetric_paper,
    "hill": hill_paper,
    "distribution_balanced": distribution_balanced_paper,
}


def test_every_loss_has_a_formula():
    assert set(PAPERS) == set(LOSSES)


@each_loss
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_each_value_is_the_formula(name, dtype, rtol):
    logits, targets = draw(dtype)
    targets[0, 0] = 0  # a row without a positive
    values = bound(name, dtype)(logits, targets)
    assert (values.shape, values.dtype) == (SHAPE, dtype)
    assert (values >= 0).all()
    wanted = np.empty(SHAPE)
    for s, b, a in np.ndindex(SHAPE):
        row, n1, n0 = targets[s, b].numpy(), COUNTS[s, 0].numpy(), OTHERS[s, 0].numpy()
        wanted[s, b, a] = PAPERS[name](logits[s, b, a].double().item(), row[a], row, a, n1, n0)
    np.testing.assert_allclose(values.double().numpy(), wanted, rtol=rtol, atol=rtol * 1e-2)


@each_loss
def test_a_soft_target_mixes_the_two_values(name):
    logits, targets = draw()
    targets = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = bound(name)
    for a in range(SHAPE[-1]):  # one attribute at a time: distribution_balanced looks at the rest of the row
        one, zero = targets.clone(), targets.clone()
        one[..., a], zero[..., a] = 1, 0
        t = targets[..., a]
        mixed = t * loss(logits, one)[..., a] + (1 - t) * loss(logits, zero)[..., a]
        torch.testing.assert_close(loss(logits, targets)[..., a], mixed, rtol=1e-12, atol=1e-14)


EXTREME = {"focal": {"gamma": 0.5}, "asymmetric": {"gamma_neg": 0.5, "gamma_pos": 0.0}}  # where powers have no slope


@each_loss
def test_every_loss_and_its_derivative_keep_the_contract(name):
    check_loss(LOSSES[name])
    check_loss(LOSSES[name], **EXTREME.get(name, {}))


def test_cross_entropy_and_its_positive_weight_are_torchs():
    logits, targets = draw(torch.float32, scale=20)
    torch.testing.assert_close(
        masked_bce(logits, targets), F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    )
    wanted = F.binary_cross_entropy_with_logits(
        logits, targets, reduction="none", pos_weight=torch.tensor([9.0, 1.5, 20.0, 1.0])
    )
    counts = torch.tensor([10.0, 20.0, 1.0, 0.0]), torch.tensor([90.0, 30.0, 50.0, 50.0])
    torch.testing.assert_close(pos_weight(logits, targets, *counts), wanted)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 0.5), (None, 3.0)])
def test_focal_is_torchvisions(alpha, gamma):
    logits, targets = draw()
    wanted = sigmoid_focal_loss(logits, targets, alpha=-1 if alpha is None else alpha, gamma=gamma)
    torch.testing.assert_close(focal(logits, targets, gamma=gamma, alpha=alpha), wanted)


@pytest.mark.parametrize(
    ("name", "options", "factor"),
    [
        ("focal", {"gamma": 0.0, "alpha": None}, 1.0),
        ("focal", {"gamma": 0.0, "alpha": 0.5}, 0.5),
        ("asymmetric", {"gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.0}, 1.0),
        ("class_balanced", {"beta": 1e-300}, 1.0),
        ("distribution_balanced", {"alpha": 0.0, "mu": -1e3, "lam": 1.0, "bias": 0.0, "gamma": 0.0}, 1.0),
    ],
)
def test_limits_are_cross_entropy(name, options, factor):
    logits, targets = draw()
    torch.testing.assert_close(bound(name, **options)(logits, targets), factor * masked_bce(logits, targets))


def test_asymmetric_without_clip_and_with_equal_gammas_is_focal():
    logits, targets = draw()
    one = bound("asymmetric", gamma_neg=2.0, gamma_pos=2.0, clip=0.0)(logits, targets)
    torch.testing.assert_close(one, focal(logits, targets, gamma=2.0, alpha=None))


def test_class_balanced_weights_average_to_one_over_the_observed_values():
    n1, n0 = torch.tensor([37.0]), torch.tensor([411.0])
    z = torch.zeros(1, dtype=torch.float64)
    one, zero = (LOSSES["class_balanced"](z, z + t, n1, n0, beta=0.99).item() / np.log(2) for t in (1, 0))
    assert one > 1 > zero
    assert (37 * one + 411 * zero) / 448 == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("focal", {"alpha": 2.0}),
        ("focal", {"gama": 2.0}),
        ("asymmetric", {"clip": 1.0}),
        ("class_balanced", {"beta": 1.0}),
        ("hill", {"lam": 0.5}),
        ("pos_weight", {"positives": 1.0}),
    ],
)
def test_options_out_of_range_are_refused(name, options):
    spec, problems = registry.check("loss", LOSSES, {"name": name, **options})
    assert spec is None
    assert len(problems) == 1


# --- derivatives ------------------------------------------------------------------------------------------------


def test_the_logs_of_p_are_exact_and_so_are_their_derivatives():
    logits = torch.cat([torch.linspace(-80, 80, 20001), torch.logspace(-8, 0, 101), torch.zeros(1)])
    for sign, values in zip((-1, 1), logs(logits), strict=True):
        np.testing.assert_allclose(values, -np.logaddexp(0, sign * logits.double().numpy()), rtol=4e-7)
    assert [value.tolist() for value in logs(torch.tensor([-np.inf, np.inf]))] == [[-np.inf, 0], [0, -np.inf]]
    assert torch.autograd.gradcheck(logs, logits[::97].double().requires_grad_())


def test_every_loss_but_one_has_a_derivative_here():
    assert {name for name, loss in LOSSES.items() if loss not in GRADIENTS} == {"distribution_balanced"}


def test_the_clip_of_asymmetric_may_be_zero_for_some_heads():
    logits, targets = draw()
    clip = torch.tensor([0.0, 0.05, 0.2], dtype=torch.float64).view(3, 1, 1)
    values = LOSSES["asymmetric"](logits, targets, clip=clip)
    for head in range(3):
        wanted = LOSSES["asymmetric"](logits[head], targets[head], clip=float(clip[head]))
        np.testing.assert_allclose(values[head], wanted, rtol=1e-12)
    leaf = (50 * torch.ones(SHAPE, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES["asymmetric"](leaf, targets, clip=clip).sum(), leaf)
    assert gradient.isfinite().all()
