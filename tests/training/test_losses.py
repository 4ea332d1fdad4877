"""Losses against the formulas of their papers in float64, against torch and torchvision, and far out."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.metrics import f1_score
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from aimonk_bench import registry
from aimonk_bench.training.losses import LOSSES, SET_LOSSES, bind, focal, logs, masked_bce, pos_weight, reduce, two_way
from aimonk_bench.training.slopes import SLOPES, slope_of

SHAPE = (3, 7, 4)  # S, B, A
COUNTS = torch.tensor([[[90, 40, 3, 0]], [[50, 50, 1, 20]], [[7, 0, 30, 5]]])
OTHERS = torch.tensor([[[10, 60, 97, 30]], [[50, 2, 99, 0]], [[70, 0, 1, 5]]])

each_loss = pytest.mark.parametrize("name", LOSSES)
each_set_loss = pytest.mark.parametrize("name", SET_LOSSES)


def bound(name, dtype=torch.float64, **options):
    return bind(functools.partial(LOSSES[name], **options), COUNTS.to(dtype), OTHERS.to(dtype))


def draw(dtype=torch.float64, scale=3.0):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=rng, dtype=torch.float64) * scale
    return logits.to(dtype), (torch.rand(SHAPE, generator=rng) < 0.5).to(dtype)


# --- the formulas, one cell at a time: z, y, the row's labels, the attribute's place, all n1, all n0 ----------------


def p_of(z):
    return 1 / (1 + np.exp(-z))


def bce(z, y):
    return -np.log(p_of(z)) if y else -np.log(1 - p_of(z))


def weighted(z, y, row, k, n1, n0):
    return bce(z, y) * (min(n0[k] / n1[k], 20) if y and n1[k] else 1)


def deepmar(z, y, row, k, n1, n0):
    r = n1[k] / (n1[k] + n0[k]) if n1[k] + n0[k] else 0.5
    return bce(z, y) * np.exp(y * (1 - r) + (1 - y) * r)


def effective_number(z, y, row, k, n1, n0, beta=0.999):
    cells = [n for n in (n1[k], n0[k]) for _ in range(int(n))]
    count = n1[k] if y else n0[k]
    if not count:
        return bce(z, y)
    mean = np.mean([(1 - beta) / (1 - beta**n) for n in cells])
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
    n = np.maximum(n1, 1)
    instance = sum(1 / n[j] for j in range(len(row)) if row[j])
    r = 1 / n[k] / instance if instance else np.inf
    rebalance = 0.1 + 1 / (1 + np.exp(-10 * (r - 0.2)))
    nu = 0.05 * np.log((n1[k] + n0[k]) / n1[k] - 1) if n1[k] and n0[k] else 0
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
def test_each_cell_is_the_formula(name, dtype, rtol):
    logits, targets = draw(dtype)
    targets[0, 0] = 0  # a row without a positive
    cells = bound(name, dtype)(logits, targets)
    assert (cells.shape, cells.dtype) == (SHAPE, dtype)
    wanted = np.empty(SHAPE)
    for s, b, a in np.ndindex(SHAPE):
        row, n1, n0 = targets[s, b].numpy(), COUNTS[s, 0].numpy(), OTHERS[s, 0].numpy()
        wanted[s, b, a] = PAPERS[name](logits[s, b, a].double().item(), row[a], row, a, n1, n0)
    np.testing.assert_allclose(cells.double().numpy(), wanted, rtol=rtol, atol=rtol * 1e-2)


@each_loss
def test_a_soft_target_mixes_the_two_cells(name):
    logits, targets = draw()
    targets = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = bound(name)
    for a in range(SHAPE[-1]):  # one attribute at a time: distribution_balanced looks at the rest of the row
        one, zero = targets.clone(), targets.clone()
        one[..., a], zero[..., a] = 1, 0
        t = targets[..., a]
        mixed = t * loss(logits, one)[..., a] + (1 - t) * loss(logits, zero)[..., a]
        torch.testing.assert_close(loss(logits, targets)[..., a], mixed, rtol=1e-12, atol=1e-14)


EXTREME = {"focal": {"gamma": 0.5}, "asymmetric": {"gamma_neg": 0.5, "gamma_pos": 0.0}, "distribution_balanced": {}}


@each_loss
@pytest.mark.parametrize("sharp", [False, True])
@pytest.mark.parametrize("target", [0.0, 0.1, 1.0])
def test_values_and_gradients_are_finite_far_out(name, sharp, target):
    grid = torch.cat([torch.linspace(-50, 50, 401), torch.tensor([-88.0, 88.0, -300.0, 300.0])])
    for dtype in (torch.float32, torch.bfloat16):
        logits = grid.to(dtype)[None, :, None].expand(3, -1, 4).clone().requires_grad_()
        cells = bound(name, torch.float32, **(EXTREME.get(name, {}) if sharp else {}))(
            logits, torch.full_like(logits, target)
        )
        (gradient,) = torch.autograd.grad(cells.sum(), logits)
        assert cells.dtype == torch.float32
        assert cells.isfinite().all()
        assert (cells >= 0).all()
        assert gradient.isfinite().all()


@each_loss
def test_autocast_costs_no_digits(name):
    features = torch.tensor([50, 5, 0.5])[:, None, None] * torch.linspace(-1, 1, SHAPE[1])[:, None]
    weight = torch.ones(3, 1, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = features @ weight
        assert logits.dtype == torch.bfloat16
        cells = bound(name, torch.float32)(logits, draw(torch.float32)[1])
    wanted = bound(name, torch.float32)(logits.detach().float(), draw(torch.float32)[1])
    torch.testing.assert_close(cells, wanted, rtol=1e-5, atol=0)
    cells.sum().backward()
    assert weight.grad.isfinite().all()


@each_loss
def test_gradients_are_those_of_finite_differences(name):
    logits, targets = draw()
    assert torch.autograd.gradcheck(lambda z: bound(name)(z, targets), logits.requires_grad_())


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


def test_class_balanced_weights_average_to_one_over_the_observed_cells():
    n1, n0 = torch.tensor([37.0]), torch.tensor([411.0])
    z = torch.zeros(1, dtype=torch.float64)
    one, zero = (LOSSES["class_balanced"](z, z + t, n1, n0, beta=0.99).item() / np.log(2) for t in (1, 0))
    assert one > 1 > zero
    assert (37 * one + 411 * zero) / 448 == pytest.approx(1)


def test_reduce_divides_each_head_by_its_own_weight():
    cells, _ = draw()
    cells = cells.abs().requires_grad_()
    weights = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)[
        torch.randint(3, SHAPE, generator=torch.Generator().manual_seed(2))
    ]
    weights[1] = 0
    means = reduce(cells, weights)
    for s in (0, 2):
        wanted = np.average(cells[s].detach().numpy(), weights=weights[s].numpy())
        assert means[s].item() == pytest.approx(wanted, rel=1e-12)
    means.sum().backward()
    assert means[1] == 0
    assert (cells.grad[1] == 0).all()
    assert cells.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("focal", {"alpha": 2.0}),
        ("focal", {"gama": 2.0}),
        ("asymmetric", {"clip": 1.0}),
        ("class_balanced", {"beta": 1.0}),
        ("hill", {"lam": 0.5}),
        ("pos_weight", {"positives": 1.0}),
        ("two_way", {"t_pos": 0.0}),
        ("zlpr", {"gamma": 1.0}),
        ("sigmoid_f1", {"beta": -1.0}),
    ],
)
def test_options_out_of_range_are_refused(name, options):
    spec, problems = registry.check("loss", LOSSES | SET_LOSSES, {"name": name, **options})
    assert spec is None
    assert len(problems) == 1


# --- set losses: the formulas in loops over one head, z, y, w [B, A] -------------------------------------------------


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
        cells = [(zk, yk, wk) for zk, yk, wk in zip(z_, y_, w_, strict=True) if wk > 0]
        if cells:
            positives = sum(wk * np.exp(-zk) for zk, yk, wk in cells if yk)
            negatives = sum(wk * np.exp(zk) for zk, yk, wk in cells if not yk)
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
    """Five heads: mixed, without positives, without negatives, nothing observed, a lone picture."""
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
def test_a_cell_of_weight_zero_is_never_read_and_has_no_gradient(name, junk):
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


def test_bind_gives_counts_only_to_what_names_them():
    assert bind(masked_bce, COUNTS, OTHERS).keywords == {}
    assert set(bind(functools.partial(pos_weight, cap=2.0), COUNTS, OTHERS).keywords) == {
        "cap",
        "positives",
        "negatives",
    }


# --- derivatives in closed form, and options of which every head has its own --------------------------------------


def own_options(name):
    """For each numeric option of a loss three values, one per head."""
    rng = np.random.default_rng(0)
    model = registry.options_model((LOSSES | SET_LOSSES)[name]).model_fields
    options = {}
    for option in registry.numeric_options((LOSSES | SET_LOSSES)[name]):
        usual = model[option].default
        options[option] = (usual * rng.uniform(0.5, 0.99, 3)).tolist() if usual else [0.0, 0.1, 0.2]
    return options


def sloped(slope, logits, targets, weights):
    """Derivatives and cells, [S, B, A]."""
    known = [each.transpose(1, 2).clone() for each in (logits, targets, weights)]
    out, kept = torch.empty_like(known[0]), torch.empty_like(known[0])
    slope.ahead(*known[1:])
    known.append(kept)
    for call in slope.into(out, *known):
        call()
    return out.transpose(1, 2), slope.cells(*known).transpose(1, 2)


def test_the_logs_of_p_are_exact_and_so_are_their_derivatives():
    logits = torch.cat([torch.linspace(-80, 80, 20001), torch.logspace(-8, 0, 101), torch.zeros(1)])
    for sign, found in zip((-1, 1), logs(logits), strict=True):
        np.testing.assert_allclose(found, -np.logaddexp(0, sign * logits.double().numpy()), rtol=4e-7)
    assert [value.tolist() for value in logs(torch.tensor([-np.inf, np.inf]))] == [[-np.inf, 0], [0, -np.inf]]
    leaf = (logits[::97].double()).requires_grad_()
    assert torch.autograd.gradcheck(logs, leaf)
    assert torch.autograd.gradgradcheck(logs, leaf)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", SLOPES)
def test_a_slope_is_the_derivative_of_the_cells(name, own):
    logits, hard = draw()
    stacked = {
        key: torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for key, values in own_options(name).items()
    }
    options = registry.build("loss", LOSSES, registry.Spec(name)).keywords | (stacked if own else {})
    for targets in (hard, torch.rand(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)):
        leaf = logits.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(bound(name, **options)(leaf, targets).sum(), leaf)
        slope = slope_of(name, bound(name, **options), COUNTS.double(), OTHERS.double(), options)
        weights = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        found, cells = sloped(slope, logits, targets, weights)
        np.testing.assert_allclose(found, weights * wanted, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(cells, weights * bound(name, **options)(logits, targets), rtol=1e-9, atol=1e-12)
        edge = torch.tensor([[[-50.0], [50.0]]]).to(logits).expand(3, 2, 4)
        assert all(each.isfinite().all() for each in sloped(slope, edge, torch.ones_like(edge), torch.ones_like(edge)))


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("target", [0.0, 0.1, 1.0])
def test_the_cells_of_a_slope_are_exact_far_out(name, target):
    logits = torch.cat([torch.linspace(-50, 50, 401), torch.tensor([-300.0, 300.0, 1e30])])[None, :, None]
    logits = logits.expand(3, -1, 4).contiguous()
    targets = torch.full_like(logits, target)
    options = registry.build("loss", LOSSES, registry.Spec(name)).keywords
    slope = slope_of(name, bound(name, torch.float32), COUNTS.float(), OTHERS.float(), options)
    _, found = sloped(slope, logits, targets, torch.ones_like(logits))
    exact = bound(name)(logits.double(), targets.double())
    assert (found >= 0).all()
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


def test_the_clip_of_asymmetric_may_be_zero_for_some_heads():
    logits, targets = draw()
    clip = torch.tensor([0.0, 0.05, 0.2], dtype=torch.float64).view(3, 1, 1)
    found = LOSSES["asymmetric"](logits, targets, clip=clip)
    for head in range(3):
        wanted = LOSSES["asymmetric"](logits[head], targets[head], clip=float(clip[head]))
        np.testing.assert_allclose(found[head], wanted, rtol=1e-12)
    leaf = (50 * torch.ones(SHAPE, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES["asymmetric"](leaf, targets, clip=clip).sum(), leaf)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES | SET_LOSSES)
def test_every_head_can_have_its_own_value_of_every_numeric_option(name):
    logits, targets = draw()
    weights = (torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) > 0.3).double()
    rest = (weights,) if name in SET_LOSSES else ()
    options = own_options(name)
    table = LOSSES | SET_LOSSES
    stacked = {key: torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for key, values in options.items()}
    found = bind(functools.partial(table[name], **stacked), COUNTS.double(), OTHERS.double())(logits, targets, *rest)
    for head in range(3):
        own = functools.partial(table[name], **{key: values[head] for key, values in options.items()})
        counts = COUNTS[head : head + 1].double(), OTHERS[head : head + 1].double()
        arguments = (each[head : head + 1] for each in (logits, targets, *rest))
        np.testing.assert_allclose(found[head], bind(own, *counts)(*arguments)[0], rtol=1e-12)
