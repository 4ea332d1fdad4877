"""Missing-label policies: the contract of the table, each against a loop, with every loss it may stand beside."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.registry import Spec
from aimonk_bench.training.losses import LOSSES, SET_LOSSES, bind, masked_bce
from aimonk_bench.training.missing import (
    MISSING,
    check_missing,
    filled,
    objective,
    wants_teacher,
    weak_negative,
)

SHAPE = (2, 9, 3)
EPOCHS = (1, 2, 200)  # after 199 epochs of 0.2 % the largest two fifths of the missing cells are large losses
POSITIVES = torch.tensor([[[5.0, 2, 0]], [[1, 4, 6]]], dtype=torch.float64)
NEGATIVES = torch.tensor([[[1.0, 3, 0]], [[3, 4, 1]]], dtype=torch.float64)
PAIRS = [*itertools.product(MISSING, LOSSES | SET_LOSSES)]
REFUSED = {
    *itertools.product(["entropy", "selective"], SET_LOSSES),
    *itertools.product(["smooth_negative", "self_trained"], ["two_way", "zlpr"]),
}

each_policy = pytest.mark.parametrize("policy", MISSING)
each_loss = pytest.mark.parametrize("name", LOSSES)
each_epoch = pytest.mark.parametrize("epoch", EPOCHS)
each_set_pair = pytest.mark.parametrize(
    ("policy", "name"),
    [(policy, name) for policy, name in PAIRS if name in SET_LOSSES and (policy, name) not in REFUSED],
)


def draw(scale=1.0, dtype=torch.float64):
    """(logits, targets, observed, the teacher's probabilities)."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=rng, dtype=torch.float64) * scale
    targets, observed = torch.rand(SHAPE, generator=rng) < 0.5, torch.rand(SHAPE, generator=rng) < 0.6
    teacher = torch.rand(SHAPE, generator=rng, dtype=torch.float64)
    return logits.to(dtype), targets.to(dtype), observed, teacher.to(dtype)


def bound(name, heads=slice(None)):
    return bind(LOSSES[name], POSITIVES[heads], NEGATIVES[heads])


def apply(policy, loss, logits, targets, observed, epoch, teacher, heads=slice(None), **options):
    """The policy with what it wants; ``heads`` says whose counts."""
    extra = {"teacher": teacher} if wants_teacher(Spec(policy)) else {}
    function = bind(functools.partial(MISSING[policy], **options), POSITIVES[heads], NEGATIVES[heads])
    return function(loss, logits, targets, observed, epoch, **extra)


# --- what becomes of one cell without a label: (target, weight, its own loss or None) -------------------------------
# z its logit, rank its place among the head's n missing cells by falling loss as a negative, n1 and n0 of its attribute


def log_loss(z):
    """-log(1 - p), as written in the papers."""
    return -math.log(1 - 1 / (1 + math.exp(-z)))


def rejected(z, epoch, rank, n, n1, n0, teacher):
    return (0, 0 if epoch > 1 and rank < (epoch - 1) * 0.2 / 100 * n else 1, None)


def corrected(z, epoch, rank, n, n1, n0, teacher):
    return (1 if epoch > 1 and rank < (epoch - 1) * 0.2 / 100 * n else 0, 1, None)


def self_paced(z, epoch, rank, n, n1, n0, teacher):
    return (1 if epoch >= 2 and 1 / (1 + math.exp(-z)) > 0.6 else 0, 1, None)


def selected(z, epoch, rank, n, n1, n0, teacher):
    p = 1 / (1 + math.exp(-z))
    ignored = p > 0.5 or (n1 + n0 > 0 and n1 / (n1 + n0) > 0.5)
    return (0, 0 if ignored else 1, p**4 * log_loss(z))


def doubted(z, epoch, rank, n, n1, n0, teacher):
    p = 1 / (1 + math.exp(-z))
    return (0, 1, -0.1 * (-p * math.log(p) - (1 - p) * math.log(1 - p)))


BECOMES = {
    "ignore": lambda *_: (0, 0, None),
    "negative": lambda *_: (0, 1, None),
    "weak_negative": lambda *_: (0, 1 / 2, None),  # three attributes
    "positive": lambda *_: (1, 1, None),
    "smooth_negative": lambda *_: (0.1, 1, None),
    "large_loss_reject": rejected,
    "large_loss_correct": corrected,
    "splc": self_paced,
    "selective": selected,
    "entropy": doubted,
    "self_trained": lambda *rest: (rest[-1], 1, None),
}


def oracle(policy, loss, logits, targets, observed, epoch, teacher):
    """Filled targets, weights and own losses (NaN where the cell is a loss of its target), a cell at a time."""
    as_negative = loss(logits, torch.where(observed, targets, 0.0)).detach()
    filled_in, weights, own = targets.clone(), torch.ones_like(targets), torch.full_like(targets, torch.nan)
    for s in range(len(logits)):
        hidden = [tuple(place) for place in (~observed[s]).nonzero().tolist()]
        order = sorted(hidden, key=lambda place: -as_negative[s][place].item())
        for place in hidden:
            n1, n0 = POSITIVES[s, 0, place[1]].item(), NEGATIVES[s, 0, place[1]].item()
            z, t = logits[s][place].item(), teacher[s][place].item()
            target, weight, loss_ = BECOMES[policy](z, epoch, order.index(place), len(hidden), n1, n0, t)
            filled_in[s][place], weights[s][place] = target, weight
            if loss_ is not None:
                own[s][place] = loss_
    return filled_in, weights, own


def test_every_policy_has_an_oracle():
    assert set(BECOMES) == set(MISSING)


@each_policy
@each_loss
@each_epoch
def test_observed_cells_are_the_loss_and_the_others_what_the_paper_says(policy, name, epoch):
    logits, targets, observed, teacher = draw()
    loss = bound(name)
    filled_in, weights, own = oracle(policy, loss, logits, targets, observed, epoch, teacher)
    got, got_weights = apply(policy, loss, logits, targets, observed, epoch, teacher)
    wanted = torch.where(own.isnan(), loss(logits, filled_in), own)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(got_weights, weights, rtol=0, atol=0)
    assert torch.equal(got[observed], loss(logits, torch.where(observed, targets, filled_in))[observed])
    if name != "distribution_balanced":  # which sums over the row's filled targets
        assert torch.equal(got[observed], loss(logits, targets)[observed])


def test_at_the_late_epoch_the_deciding_policies_decide():
    logits, targets, observed, teacher = draw()
    hidden = ~observed
    weights = apply("large_loss_reject", masked_bce, logits, targets, observed, 200, teacher)[1]
    dropped = (weights == 0).sum((1, 2)).tolist()
    assert dropped == [math.ceil(0.398 * n) for n in hidden.sum((1, 2)).tolist()]
    assert min(dropped) > 1
    weights = apply("selective", masked_bce, logits, targets, observed, 1, teacher)[1]
    # attribute a of head 0 and c of head 1 are mostly positive; b of head 1 is so for half, c of head 0 unknown
    assert (weights[0, :, 0][hidden[0, :, 0]] == 0).all()
    assert (weights[1, :, 2][hidden[1, :, 2]] == 0).all()
    assert (weights[1, :, 1][hidden[1, :, 1]] == (logits[1, :, 1] <= 0)[hidden[1, :, 1]]).all()
    assert (weights[0, :, 2][hidden[0, :, 2]] == (logits[0, :, 2] <= 0)[hidden[0, :, 2]]).all()


@each_policy
@each_loss
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -1.0])
def test_nothing_under_a_missing_label_is_read(policy, name, junk):
    logits, targets, observed, teacher = draw()

    def outcome(under):
        z = logits.clone().requires_grad_()
        values, weights = apply(policy, bound(name), z, torch.where(observed, targets, under), observed, 200, teacher)
        (values * weights).sum().backward()
        return values.detach(), weights, z.grad

    for clean, dirty in zip(outcome(0.0), outcome(junk), strict=True):
        assert clean.isfinite().all()
        assert torch.equal(clean, dirty)


def test_a_teacher_is_not_read_where_a_label_is_known():
    logits, targets, observed, teacher = draw()
    one, other = (
        apply("self_trained", masked_bce, logits, targets, observed, 1, t)
        for t in (teacher, teacher.masked_fill(observed, torch.nan))
    )
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@each_policy
@each_epoch
def test_with_every_label_observed_all_policies_are_the_plain_loss(policy, epoch):
    logits, targets, observed, teacher = draw()
    values, weights = apply(policy, bound("focal"), logits, targets, torch.ones_like(observed), epoch, teacher)
    assert torch.equal(values, bound("focal")(logits, targets))
    assert (weights == 1).all()


@each_policy
@each_loss
def test_a_head_gets_in_company_what_it_gets_alone(policy, name):
    logits, targets, observed, teacher = draw()
    logits[1] *= 9  # its losses dwarf those of the other head
    together = apply(policy, bound(name), logits, targets, observed, 200, teacher)
    for head in range(2):
        arrays = (logits[head], targets[head], observed[head], 200, teacher[head])
        single = apply(policy, bound(name, head), *arrays, heads=head)
        for one, all_ in zip(single, together, strict=True):
            torch.testing.assert_close(one, all_[head], rtol=1e-14, atol=0)


@each_policy
@pytest.mark.parametrize("name", ["masked_bce", "distribution_balanced"])
def test_decisions_have_no_gradient_and_cells_that_of_finite_differences(policy, name):
    logits, targets, observed, teacher = draw()

    def weighed(z):
        cells, weights = apply(policy, bound(name), z, targets, observed, 200, teacher)
        assert not weights.requires_grad
        return cells * weights

    assert torch.autograd.gradcheck(weighed, logits.requires_grad_())


@each_policy
@each_epoch
def test_cells_and_gradients_are_finite_far_out_and_autocast_costs_no_digits(policy, epoch):
    _, targets, observed, teacher = draw(dtype=torch.float32)
    for size, sign in itertools.product((50, 88, 300), (1, -1)):
        for dtype in (torch.float32, torch.bfloat16):
            logits = (size * sign * torch.linspace(-1, 1, 27).view(1, 9, 3).expand(SHAPE)).to(dtype).requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                cells, weights = apply(policy, masked_bce, logits, targets, observed, epoch, teacher)
            wanted = apply(policy, masked_bce, logits.detach().float(), targets, observed, epoch, teacher)
            torch.testing.assert_close((cells.detach(), weights), wanted, rtol=1e-6, atol=0)
            (gradient,) = torch.autograd.grad((cells * weights).sum(), logits)
            assert cells.dtype == weights.dtype == torch.float32
            assert cells.isfinite().all()
            assert gradient.isfinite().all()


def test_options_move_what_they_name():
    logits, targets, observed, teacher = draw()
    hidden = ~observed

    def outcome(policy, epoch=2, **options):
        return apply(policy, bound("masked_bce"), logits, targets, observed, epoch, teacher, **options)

    assert outcome("weak_negative", w=0.2)[1][hidden].unique().tolist() == [0.2]
    assert torch.equal(outcome("smooth_negative", eps=1.0)[0], outcome("positive")[0])
    assert (outcome("large_loss_reject", delta=100.0)[1][hidden] == 0).all()
    assert (outcome("large_loss_reject", delta=1e9)[1][observed] == 1).all()
    assert torch.equal(outcome("large_loss_correct", delta=100.0)[0], outcome("positive")[0])
    assert torch.equal(outcome("large_loss_correct", delta=0.0)[0], outcome("negative")[0])
    assert torch.equal(outcome("splc", tau=0.0)[0], outcome("positive")[0])
    assert torch.equal(outcome("splc", tau=1.0)[0], outcome("negative")[0])
    open_hearted = outcome("selective", gamma_u=0.0, prior=1.0, likely=1.0)
    assert (open_hearted[1] == 1).all()
    torch.testing.assert_close(open_hearted[0], outcome("negative")[0])
    torch.testing.assert_close(outcome("entropy", alpha=0.3)[0][hidden], 3 * outcome("entropy")[0][hidden])
    assert (outcome("entropy")[0][hidden] >= -0.1 * math.log(2)).all()


@pytest.mark.parametrize(("policy", "mark"), [("large_loss_reject", 0.0), ("large_loss_correct", 1.0)])
def test_large_losses_are_the_published_share_of_the_missing_cells(policy, mark):
    """At epoch 11 and delta 0.2 two per cent of 1,000, whatever the labelled cells cost; ties go to the earlier one."""
    logits, observed = torch.zeros(1, 110, 10), torch.zeros(1, 110, 10, dtype=torch.bool)
    observed[0, 100:] = True
    logits[observed], logits[0, 40:43] = 60.0, 5.0
    targets, weights = filled(MISSING[policy], logits, torch.zeros_like(logits), observed, 11)
    chosen = (weights == 0) if policy == "large_loss_reject" else (targets == 1)
    assert chosen[0].nonzero()[:, 0].unique().tolist() == [40, 41]
    assert chosen.sum() == 20


def test_a_share_of_a_whole_number_of_cells_is_that_number():
    """9 % of 300, which in float32 is 27.000002."""
    blank = torch.zeros(1, 60, 5)
    assert (filled(MISSING["large_loss_reject"], blank, blank, blank > 0, 46)[1] == 0).sum() == 27


def test_splc_flips_above_tau_and_not_at_it():
    z = torch.tensor([0.6, 0.6 + 1e-6, 0.5, 0.9], dtype=torch.float64).logit().view(1, 1, 4)
    z[..., 0] -= 1e-12
    blank = torch.zeros_like(z)
    assert filled(MISSING["splc"], z, blank, blank > 0, 2)[0].ravel().tolist() == [0, 1, 0, 1]


# --- set losses ----------------------------------------------------------------------------------------------------


@each_set_pair
@each_epoch
def test_a_set_loss_gets_the_targets_and_weights_of_the_policy(policy, name, epoch):
    logits, targets, observed, teacher = draw()
    extra = {"teacher": teacher} if wants_teacher(Spec(policy)) else {}
    wanted, weights, _ = oracle(policy, masked_bce, logits, targets, observed, epoch, teacher)
    junk = targets.masked_fill(~observed, torch.nan)
    got = filled(MISSING[policy], logits, junk, observed, epoch, **extra)
    assert torch.equal(got[0], wanted)
    assert torch.equal(got[1], weights)
    value = objective(Spec(name), Spec(policy), POSITIVES, NEGATIVES)(logits, junk, observed, epoch, **extra)
    assert torch.equal(value, SET_LOSSES[name](logits, wanted, weights))


@pytest.mark.parametrize(("policy", "name"), [pair for pair in PAIRS if pair not in REFUSED])
def test_the_objective_of_a_head_is_its_own_mean(policy, name):
    logits, targets, observed, teacher = draw()
    logits.requires_grad_()
    extra = {"teacher": teacher} if wants_teacher(Spec(policy)) else {}
    values = objective(Spec(name), Spec(policy), POSITIVES, NEGATIVES)(logits, targets, observed, 200, **extra)
    assert values.shape == (2,)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    for head in range(2):
        alone = objective(Spec(name), Spec(policy), POSITIVES[head], NEGATIVES[head])
        single = logits[head].detach().requires_grad_()
        more = {key: value[head] for key, value in extra.items()}
        value = alone(single, targets[head], observed[head], 200, **more)
        torch.testing.assert_close(value, values[head])
        torch.testing.assert_close(torch.autograd.grad(value, single)[0], gradient[head], rtol=1e-9, atol=1e-14)
    if name in LOSSES:
        cells, weights = apply(policy, bound(name), logits, targets, observed, 200, teacher)
        for head, value in enumerate(values.tolist()):
            mean = np.average(cells[head].detach().numpy(), weights=weights[head].numpy())
            assert value == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("name", [*LOSSES, *SET_LOSSES])
def test_without_a_label_ignoring_costs_nothing(name):
    logits, targets, observed, _ = draw()
    logits.requires_grad_()
    blank = objective(Spec(name), Spec("ignore"), POSITIVES, NEGATIVES)
    values = blank(logits, targets.fill_(torch.nan), torch.zeros_like(observed), 1)
    assert values.tolist() == [0, 0]
    assert (torch.autograd.grad(values.sum(), logits)[0] == 0).all()


def test_options_of_both_reach_the_objective():
    logits, targets, observed, _ = draw()
    made = objective(Spec("two_way", {"t_pos": 2.0}), Spec("weak_negative", {"w": 0.3}), POSITIVES, NEGATIVES)
    weights = torch.full_like(logits, 0.3).masked_fill(observed, 1.0)
    wanted = SET_LOSSES["two_way"](logits, torch.where(observed, targets, 0.0), weights, t_pos=2.0)
    assert torch.equal(made(logits, targets, observed, 1), wanted)


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "name"), PAIRS)
def test_pairs_without_a_meaning_are_refused_by_name_with_a_way_out(policy, name):
    if (policy, name) not in REFUSED:
        check_missing(Spec(policy), Spec(name), 3)
        return
    with pytest.raises(UserError) as caught:
        check_missing(Spec(policy), Spec(name), 3)
    (problem,) = caught.value.problems
    for word in (policy, name, "use missing: ", "masked_bce", f"exclude {{loss: {name}, missing: {policy}}}"):
        assert word in problem
    instead = problem.partition("use missing: ")[2].partition(",")[0]
    check_missing(Spec(instead), Spec(name), 3)


def test_a_weak_negative_of_a_single_attribute_needs_its_weight():
    bce = Spec("masked_bce")
    with pytest.raises(UserError, match="give w"):
        check_missing(Spec("weak_negative"), bce, 1)
    check_missing(Spec("weak_negative", {"w": 0.5}), bce, 1)
    check_missing(Spec("weak_negative", {"w": None}), bce, 2)
    check_missing(Spec("ignore"), bce, 1)
    one = torch.zeros(1, 2, 1)
    with pytest.raises(UserError, match="give w"):
        weak_negative(bound("masked_bce"), one, one, one > 0, 1)


def test_only_self_training_wants_a_teacher():
    assert [name for name in MISSING if wants_teacher(Spec(name))] == ["self_trained"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("large_loss_reject", {"delta": -0.1}),
        ("splc", {"tau": 1.5}),
        ("selective", {"prior": 2.0}),
        ("selective", {"positives": 1.0}),
        ("entropy", {"alpha": -1.0}),
        ("self_trained", {"teacher": 1.0}),
    ],
)
def test_options_out_of_range_are_refused(name, options):
    spec, problems = registry.check("missing-label policy", MISSING, {"name": name, **options})
    assert spec is None
    assert len(problems) == 1
