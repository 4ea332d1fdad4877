"""Missing-label policies: the contract of the table, each against a loop, and with every loss it may stand beside."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from aimonk_bench import registry
from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError
from aimonk_bench.registry import Spec
from aimonk_bench.testing import check_missing
from aimonk_bench.training.entries import bind, check_options, declared, declares
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.missing import MISSING, wants_teacher, weak_negative
from aimonk_bench.training.objective import BlockLoss, Objective, check_accumulation, check_combination, reduce
from aimonk_bench.training.set_losses import SET_LOSSES

SHAPE = (2, 9, 3)  # H, B, A
EPOCHS = (1, 2, 200)  # after 199 epochs of 0.2 % the largest two fifths of the missing labels have large losses
POSITIVES = torch.tensor([[[5.0, 2, 0]], [[1, 4, 6]]], dtype=torch.float64)
NEGATIVES = torch.tensor([[[1.0, 3, 0]], [[3, 4, 1]]], dtype=torch.float64)
TABLE = LOSSES | SET_LOSSES
PAIRS = [*itertools.product(MISSING, TABLE)]
REFUSED = {
    (policy, loss)
    for policy, loss in itertools.product(MISSING, SET_LOSSES)
    if declared(MISSING[policy], "overrides")
    or (declared(MISSING[policy], "soft_targets") and declared(SET_LOSSES[loss], "hard_targets"))
}

each_policy = pytest.mark.parametrize("policy", MISSING)
each_loss = pytest.mark.parametrize("name", LOSSES)
each_epoch = pytest.mark.parametrize("epoch", EPOCHS)
each_set_pair = pytest.mark.parametrize(
    ("policy", "name"),
    [(policy, name) for policy, name in PAIRS if name in SET_LOSSES and (policy, name) not in REFUSED],
)


def draw(scale=1.0, dtype=torch.float64):
    """(logits, labels, the teacher's probabilities)."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(SHAPE, generator=rng, dtype=torch.float64) * scale
    targets, observed = torch.rand(SHAPE, generator=rng) < 0.5, torch.rand(SHAPE, generator=rng) < 0.6
    teacher = torch.rand(SHAPE, generator=rng, dtype=torch.float64)
    return logits.to(dtype), Labels(targets.to(dtype), observed), teacher.to(dtype)


def block(labels):
    """The labels of a block of one batch, [1, H, B, A]."""
    return Labels(labels.targets[None], labels.observed[None])


def of_head(labels, head):
    """The labels [B, A] of one head."""
    return Labels(labels.targets[head], labels.observed[head])


def with_junk(labels, junk):
    """The same labels with other values where they are missing."""
    return Labels(labels.targets.masked_fill(~labels.observed, junk), labels.observed)


def loss_of(name, heads=slice(None)):
    return bind(LOSSES[name], positives=POSITIVES[heads], negatives=NEGATIVES[heads])


def objective(name, policy, heads=slice(None), **options):
    return Objective(Spec(name), Spec(policy, options), POSITIVES[heads], NEGATIVES[heads])


def apply(policy, name, logits, labels, epoch, teacher, heads=slice(None), **options):
    """Values and weights [H, B, A] of an elementwise loss under a policy."""
    made = objective(name, policy, heads, **options)
    targets, weights, override = made.fill(labels, logits, epoch, teacher if wants_teacher(Spec(policy)) else None)
    values = made.loss(logits, targets)
    return values if override is None else torch.where(labels.observed, values, override), weights


# --- what becomes of one missing label: (target, weight, what overrides its loss or None) ------
# z its logit, rank its place among the head's n missing labels by falling loss as a negative, n1 and n0 its attribute's


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


def oracle(policy, name, logits, labels, epoch, teacher):
    """Filled targets, weights and overrides (NaN where there is none), one label at a time; ``name`` ranks."""
    targets, observed = labels.targets, labels.observed
    as_negative = loss_of(name)(logits, torch.where(observed, targets, 0.0)).detach()
    filled, weights, overrides = targets.clone(), torch.ones_like(targets), torch.full_like(targets, torch.nan)
    for h in range(len(logits)):
        missing = [tuple(place) for place in (~observed[h]).nonzero().tolist()]
        order = sorted(missing, key=lambda place: -as_negative[h][place].item())
        for place in missing:
            n1, n0 = POSITIVES[h, 0, place[1]].item(), NEGATIVES[h, 0, place[1]].item()
            z, t = logits[h][place].item(), teacher[h][place].item()
            target, weight, override = BECOMES[policy](z, epoch, order.index(place), len(missing), n1, n0, t)
            filled[h][place], weights[h][place] = target, weight
            if override is not None:
                overrides[h][place] = override
    return filled, weights, overrides


def test_every_policy_has_an_oracle():
    assert set(BECOMES) == set(MISSING)


# --- the contract, for every entry and for one that is defined here ---------------------------------------------------


@declares(soft_targets=True)
def added_by_a_user(labels, logits, epoch, positives, negatives, *, least: float = 0.0):
    """A missing label is the observed share of positives: a policy as a user would add it."""
    share = (positives / (positives + negatives).clamp(min=1)).clamp(min=least)
    targets = torch.where(labels.observed, labels.targets, share.to(labels.targets.dtype))
    return targets, torch.ones_like(targets), None


@pytest.fixture(params=[*MISSING, "added_by_a_user"])
def entry(request, monkeypatch):
    """The name of each policy; one of them is added to the table by a single line."""
    monkeypatch.setitem(MISSING, "added_by_a_user", added_by_a_user)
    return request.param


def test_every_policy_keeps_the_contract(entry):
    check_missing(MISSING[entry])


@pytest.mark.parametrize("name", TABLE)
def test_a_policy_goes_with_a_loss_or_is_refused_by_name_with_a_way_out(entry, name):
    logits, labels, teacher = draw()
    logits.requires_grad_()
    try:
        check_combination(Spec(name), Spec(entry))
    except UserError as error:
        (problem,) = error.problems
        for word in (entry, name, "masked_bce", f"exclude {{loss: {name}, missing: {entry}}}"):
            assert word in problem
        for instead in problem.partition("use missing: ")[2].partition(";")[0].split(", "):
            check_combination(Spec(name), Spec(instead))
        assert (entry, name) in REFUSED or entry == "added_by_a_user"
        return
    assert (entry, name) not in REFUSED
    made = objective(name, entry)
    for epoch in EPOCHS:
        values = made(logits, with_junk(labels, torch.nan), epoch, teacher)
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        assert values.shape == (2,)
        assert values.isfinite().all()
        assert gradient.isfinite().all()
        value, by_formula = made.value_and_grad(logits.detach(), labels, epoch, teacher)
        torch.testing.assert_close(value, values.detach())
        torch.testing.assert_close(by_formula, gradient, rtol=1e-9, atol=1e-14)


# --- each policy against its oracle -----------------------------------------------------------------------------------


@each_policy
@each_loss
@each_epoch
def test_observed_labels_cost_the_loss_and_the_others_what_the_paper_says(policy, name, epoch):
    logits, labels, teacher = draw()
    loss, observed = loss_of(name), labels.observed
    filled, weights, overrides = oracle(policy, name, logits, labels, epoch, teacher)
    values, got_weights = apply(policy, name, logits, labels, epoch, teacher)
    wanted = torch.where(overrides.isnan(), loss(logits, filled), overrides)
    torch.testing.assert_close(values, wanted, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(got_weights, weights, rtol=0, atol=0)
    assert torch.equal(values[observed], loss(logits, torch.where(observed, labels.targets, filled))[observed])
    if name != "distribution_balanced":  # which sums over the row's filled targets
        assert torch.equal(values[observed], loss(logits, labels.targets)[observed])


def test_at_the_late_epoch_the_deciding_policies_decide():
    logits, labels, teacher = draw()
    hidden = ~labels.observed
    weights = apply("large_loss_reject", "masked_bce", logits, labels, 200, teacher)[1]
    dropped = (weights == 0).sum((1, 2)).tolist()
    assert dropped == [math.ceil(0.398 * n) for n in hidden.sum((1, 2)).tolist()]
    assert min(dropped) > 1
    weights = apply("selective", "masked_bce", logits, labels, 1, teacher)[1]
    # attribute a of head 0 and c of head 1 are mostly positive; b of head 1 is so for half, c of head 0 unknown
    assert (weights[0, :, 0][hidden[0, :, 0]] == 0).all()
    assert (weights[1, :, 2][hidden[1, :, 2]] == 0).all()
    assert (weights[1, :, 1][hidden[1, :, 1]] == (logits[1, :, 1] <= 0)[hidden[1, :, 1]]).all()
    assert (weights[0, :, 2][hidden[0, :, 2]] == (logits[0, :, 2] <= 0)[hidden[0, :, 2]]).all()


@each_policy
@each_loss
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -1.0])
def test_nothing_under_a_missing_label_is_read(policy, name, junk):
    logits, labels, teacher = draw()

    def outcome(under):
        z = logits.clone().requires_grad_()
        values, weights = apply(policy, name, z, with_junk(labels, under), 200, teacher)
        (values * weights).sum().backward()
        return values.detach(), weights, z.grad

    for clean, dirty in zip(outcome(0.0), outcome(junk), strict=True):
        assert clean.isfinite().all()
        assert torch.equal(clean, dirty)


def test_a_teacher_is_not_read_where_a_label_is_observed():
    logits, labels, teacher = draw()
    one, other = (
        apply("self_trained", "masked_bce", logits, labels, 1, t)
        for t in (teacher, teacher.masked_fill(labels.observed, torch.nan))
    )
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@each_policy
@each_epoch
def test_with_every_label_observed_all_policies_are_the_plain_loss(policy, epoch):
    logits, labels, teacher = draw()
    values, weights = apply(
        policy, "focal", logits, Labels(labels.targets, torch.ones_like(labels.observed)), epoch, teacher
    )
    assert torch.equal(values, loss_of("focal")(logits, labels.targets))
    assert (weights == 1).all()


@each_policy
@each_loss
def test_a_head_gets_in_company_what_it_gets_alone(policy, name):
    logits, labels, teacher = draw()
    logits[1] *= 9  # its losses dwarf those of the other head
    together = apply(policy, name, logits, labels, 200, teacher)
    for head in range(2):
        single = apply(policy, name, logits[head], of_head(labels, head), 200, teacher[head], heads=head)
        for one, all_ in zip(single, together, strict=True):
            torch.testing.assert_close(one, all_[head], rtol=1e-14, atol=0)


@each_policy
@pytest.mark.parametrize("name", ["masked_bce", "distribution_balanced"])
def test_decisions_have_no_gradient_and_values_that_of_finite_differences(policy, name):
    logits, labels, teacher = draw()

    def weighed(z):
        values, weights = apply(policy, name, z, labels, 200, teacher)
        assert not weights.requires_grad
        return values * weights

    assert torch.autograd.gradcheck(weighed, logits.requires_grad_())


def test_options_move_what_they_name():
    logits, labels, teacher = draw()
    hidden, observed = ~labels.observed, labels.observed

    def outcome(policy, epoch=2, **options):
        return apply(policy, "masked_bce", logits, labels, epoch, teacher, **options)

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


def single(policy):
    """The objective of masked_bce under a policy that needs no counts."""
    return Objective(Spec("masked_bce"), Spec(policy), torch.ones(()), torch.ones(()))


@pytest.mark.parametrize(("policy", "mark"), [("large_loss_reject", 0.0), ("large_loss_correct", 1.0)])
def test_large_losses_are_the_published_share_of_the_missing_labels(policy, mark):
    """At epoch 11 and delta 0.2 two per cent of 1,000, whatever the labelled cells cost; ties go to the earlier one."""
    logits, observed = torch.zeros(1, 110, 10), torch.zeros(1, 110, 10, dtype=torch.bool)
    observed[0, 100:] = True
    logits[observed], logits[0, 40:43] = 60.0, 5.0
    targets, weights, _ = single(policy).fill(Labels(torch.zeros_like(logits), observed), logits, 11)
    chosen = (weights == 0) if policy == "large_loss_reject" else (targets == 1)
    assert chosen[0].nonzero()[:, 0].unique().tolist() == [40, 41]
    assert chosen.sum() == 20


def test_a_share_of_a_whole_number_of_labels_is_that_number():
    """9 % of 300, which in float32 is 27.000002."""
    blank = torch.zeros(1, 60, 5)
    assert (single("large_loss_reject").fill(Labels(blank, blank > 0), blank, 46)[1] == 0).sum() == 27


def test_splc_flips_above_tau_and_not_at_it():
    z = torch.tensor([0.6, 0.6 + 1e-6, 0.5, 0.9], dtype=torch.float64).logit().view(1, 1, 4)
    z[..., 0] -= 1e-12
    blank = torch.zeros_like(z)
    assert single("splc").fill(Labels(blank, blank > 0), z, 2)[0].ravel().tolist() == [0, 1, 0, 1]


# --- set losses ----------------------------------------------------------------------------------------------------


@each_set_pair
@each_epoch
def test_a_set_loss_gets_the_targets_and_weights_of_the_policy(policy, name, epoch):
    logits, labels, teacher = draw()
    wanted, weights, _ = oracle(policy, "masked_bce", logits, labels, epoch, teacher)
    made, junk = objective(name, policy), with_junk(labels, torch.nan)
    targets, got_weights, _ = made.fill(junk, logits, epoch, teacher)
    assert torch.equal(targets, wanted)
    assert torch.equal(got_weights, weights)
    assert torch.equal(made(logits, junk, epoch, teacher), SET_LOSSES[name](logits, wanted, weights))


# --- the objective ----------------------------------------------------------------------------------------------------


def test_losses_of_their_own_and_soft_targets_are_refused_where_a_set_loss_has_no_place_for_them():
    assert {
        *itertools.product(["entropy", "selective"], SET_LOSSES),
        *itertools.product(["smooth_negative", "self_trained"], ["two_way", "zlpr"]),
    } <= REFUSED
    assert not any(loss == "sigmoid_f1" for policy, loss in REFUSED if policy in ("smooth_negative", "self_trained"))


@pytest.mark.parametrize(("policy", "name"), [pair for pair in PAIRS if pair not in REFUSED])
def test_the_objective_of_a_head_is_its_own_mean(policy, name):
    logits, labels, teacher = draw()
    logits.requires_grad_()
    values = objective(name, policy)(logits, labels, 200, teacher)
    assert values.shape == (2,)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    for head in range(2):
        leaf = logits[head].detach().requires_grad_()
        value = objective(name, policy, head)(leaf, of_head(labels, head), 200, teacher[head])
        torch.testing.assert_close(value, values[head])
        torch.testing.assert_close(torch.autograd.grad(value, leaf)[0], gradient[head], rtol=1e-9, atol=1e-14)
    if name in LOSSES:
        elements, weights = apply(policy, name, logits, labels, 200, teacher)
        for head, value in enumerate(values.tolist()):
            mean = np.average(elements[head].detach().numpy(), weights=weights[head].numpy())
            assert value == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("name", TABLE)
def test_without_a_label_ignoring_costs_nothing(name):
    logits, labels, _ = draw()
    logits.requires_grad_()
    nothing = Labels(torch.full(SHAPE, torch.nan, dtype=torch.float64), torch.zeros_like(labels.observed))
    values = objective(name, "ignore")(logits, nothing)
    assert values.tolist() == [0, 0]
    assert (torch.autograd.grad(values.sum(), logits)[0] == 0).all()
    value, gradient = objective(name, "ignore").value_and_grad(logits.detach(), nothing, 1)
    assert value.tolist() == [0, 0]
    assert (gradient == 0).all()


def test_options_of_both_reach_the_objective():
    logits, labels, _ = draw()
    made = Objective(Spec("two_way", {"t_pos": 2.0}), Spec("weak_negative", {"w": 0.3}), POSITIVES, NEGATIVES)
    weights = torch.full_like(logits, 0.3).masked_fill(labels.observed, 1.0)
    wanted = SET_LOSSES["two_way"](logits, torch.where(labels.observed, labels.targets, 0.0), weights, t_pos=2.0)
    assert torch.equal(made(logits, labels), wanted)


def test_reduce_divides_each_head_by_its_own_weight():
    rng = torch.Generator().manual_seed(2)
    values = torch.rand((3, 7, 4), generator=rng, dtype=torch.float64).requires_grad_()
    weights = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)[torch.randint(3, (3, 7, 4), generator=rng)]
    weights[1] = 0
    means = reduce(values, weights)
    for head in (0, 2):
        wanted = np.average(values[head].detach().numpy(), weights=weights[head].numpy())
        assert means[head].item() == pytest.approx(wanted, rel=1e-12)
    means.sum().backward()
    assert means[1] == 0
    assert (values.grad[1] == 0).all()
    assert values.grad.isfinite().all()


# --- what is refused -----------------------------------------------------------------------------------------------


def test_a_weak_negative_of_a_single_attribute_needs_its_weight():
    def check(spec, attributes):
        check_options("missing-label policy", MISSING, spec, attributes=attributes)

    with pytest.raises(UserError, match="give w"):
        check(Spec("weak_negative"), 1)
    check(Spec("weak_negative", {"w": 0.5}), 1)
    check(Spec("weak_negative", {"w": None}), 2)
    check(Spec("ignore"), 1)
    one = torch.zeros(1, 2, 1)
    with pytest.raises(UserError, match="give w"):
        weak_negative(Labels(one, one > 0), None, 1)


def test_a_batch_is_cut_only_where_no_part_depends_on_the_others(monkeypatch):
    @declares(labels_only=True, overrides=True)
    def zero(labels, logits, epoch):
        return labels.targets, torch.ones_like(labels.targets), torch.zeros_like(labels.targets)

    monkeypatch.setitem(MISSING, "zero", zero)  # labels alone decide, but it is no loss of a target
    check_accumulation(Spec("zlpr"), Spec("splc"), 1)
    fitting = [name for name, policy in MISSING.items() if declared(policy, "labels_only") and name != "zero"]
    assert {"ignore", "negative", "smooth_negative"} <= set(fitting)
    for policy in MISSING:
        if policy in fitting:
            check_accumulation(Spec("focal"), Spec(policy), 2)
            continue
        message = rf"found 2, expected 1 for focal \+ {policy}; .* missing: {', '.join(fitting)}$"
        with pytest.raises(UserError, match=message):
            check_accumulation(Spec("focal"), Spec(policy), 2)
    with pytest.raises(UserError, match=r"expected 1 for zlpr \+ ignore"):
        check_accumulation(Spec("zlpr"), Spec("ignore"), 2)


def test_a_policy_of_labels_alone_may_have_a_teacher(monkeypatch):
    @declares(labels_only=True, soft_targets=True)
    def taught(labels, logits, epoch, teacher):
        return torch.where(labels.observed, labels.targets, teacher), torch.ones_like(teacher), None

    monkeypatch.setitem(MISSING, "taught", taught)
    logits, labels, teacher = draw()
    losses = [
        loss.grad(0, logits)
        for policy in ("taught", "self_trained")
        for loss in [BlockLoss(objective("focal", policy), block(labels), 1, teacher[None])]
    ]
    torch.testing.assert_close(*losses)


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
