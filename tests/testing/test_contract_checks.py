"""The contract tests that users call: what each of them refuses, in which words. That the program's own entries pass
them is tested where these entries are tested.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Annotated

import numpy as np
import pytest
import torch
from annotated_types import Ge, Le

from aimonk_bench.backbones.catalog import CATALOG
from aimonk_bench.testing import (
    check_backbone,
    check_loss,
    check_missing,
    check_sampler,
    check_set_loss,
    check_threshold,
)
from aimonk_bench.training.entries import declares
from aimonk_bench.training.losses import GRADIENTS, derivative_of, logs, masked_bce, wide


def bce(logits, targets, *, scale: float = 1.0):
    return -scale * torch.lerp(logs(logits)[1], logs(logits)[0], targets.to(wide(logits).dtype))


def mean(logits, targets):
    return bce(logits, targets).mean()


def naive(logits, targets):
    p = torch.sigmoid(wide(logits))
    return -targets * p.log() - (1 - targets) * (1 - p).log()


def half(logits, targets):
    return bce(logits, targets).to(logits.dtype)


def doubled(logits, targets):
    return bce(logits, targets).double()


def hard_only(logits, targets):
    return torch.where((targets == 0) | (targets == 1), bce(logits, targets), torch.nan)


def in_place(logits, targets):
    return bce(logits, targets.clamp_(0.1, 0.9))


def random(logits, targets):
    return bce(logits, targets) * torch.rand(())


def of_the_batch(logits, targets):
    return bce(logits, targets) * (1 + targets.mean(-2, keepdim=True))


def of_the_heads(logits, targets):
    return bce(logits, targets) * (1 + targets.mean(-3, keepdim=True)) if logits.ndim > 2 else bce(logits, targets)


def axis_from_the_front(logits, targets):
    return bce(logits, targets) * len(logits)


def wrong_sign(logits, targets):
    return bce(-logits, targets)


def detached(logits, targets):
    return bce(logits, targets) * (1 + torch.sigmoid(logits.detach()))


def no_tensor_option(logits, targets, *, scale: float = 1.0):
    return bce(logits, targets) * (2.0 if scale > 0.9 else 1.0)


def one_number_option(logits, targets, *, scale: float = 1.0):
    return bce(logits, targets) * float(np.sqrt(scale))


def needs_counts(logits, targets, positives, negatives):
    return bce(logits, targets) * (negatives / positives)


def raises(logits, targets):
    raise IndexError("too far")


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (mean, "mean: values for torch.float64, one for each label, no mean: found shape [], expected [3, 7, 4]"),
        (naive, "log-sigmoid"),
        (half, "values for logits in torch.bfloat16: found torch.bfloat16, expected torch.float32"),
        (doubled, "found torch.float64, expected torch.float32"),
        (hard_only, "some values are not finite for soft targets"),
        (in_place, "changes its arguments in place"),
        (random, "a second call gives other values"),
        (of_the_batch, "depends on other rows of the batch: it is a set loss"),
        (of_the_heads, "a head gets other values in company than alone"),
        (axis_from_the_front, "count axes from the end"),
        (wrong_sign, "at target 1 a right prediction costs no less than a wrong one"),
        (detached, "gradient is not that of finite differences"),
        (no_tensor_option, "a tensor [H, 1, 1]"),
        (one_number_option, "a tensor [H, 1, 1]"),
        (needs_counts, "not finite"),
        (raises, "raises: it raised IndexError: too far"),
        (lambda logits: logits, "found the parameters (logits), expected (logits, targets) first"),
    ],
)
def test_a_loss_that_breaks_the_contract_is_refused(loss, words):
    with pytest.raises(AssertionError) as caught:
        check_loss(loss)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{loss.__name__}: ")


def test_a_good_loss_passes_with_other_options_too():
    check_loss(bce)
    check_loss(bce, scale=3.0)
    for options, words in (({"scale": "x"}, "scale: found 'x'"), ({"sale": 1.0}, "did you mean scale")):
        with pytest.raises(AssertionError, match=words):
            check_loss(bce, **options)


def test_an_option_without_a_default_is_asked_for():
    def needy(logits, targets, *, k: int):
        return k * bce(logits, targets)

    check_loss(needy, k=2)
    with pytest.raises(AssertionError, match=r"needy: k: found nothing"):
        check_loss(needy)


@pytest.mark.parametrize(
    ("derivative", "words"),
    [
        (lambda logits, targets: torch.sigmoid(wide(logits)) - 0.9 * targets, "its derivative is not that of torch"),
        (lambda logits, targets: (torch.sigmoid(wide(logits)) - targets).mean(), "its derivative: found shape []"),
        (
            lambda logits, targets: torch.exp(wide(logits)) / (1 + torch.exp(wide(logits))) - targets,
            "not finite far out",
        ),
        (lambda logits: logits, "TypeError"),
    ],
)
def test_a_derivative_is_checked_with_its_loss(derivative, words, monkeypatch):
    def mine(logits, targets):
        return masked_bce(logits, targets)

    monkeypatch.setitem(GRADIENTS, mine, derivative)
    with pytest.raises(AssertionError) as caught:
        check_loss(mine)
    assert words in str(caught.value)
    monkeypatch.delitem(GRADIENTS, mine)
    derivative_of(mine)(lambda logits, targets: torch.sigmoid(wide(logits)) - targets)
    check_loss(mine)
    with pytest.raises(ValueError, match="mine has a derivative already"):
        derivative_of(mine)


def set_bce(logits, targets, weights, *, scale: float = 1.0):
    targets, logits = (torch.where(weights > 0, values, 0.0) for values in (targets, wide(logits)))
    return (weights * bce(logits, targets)).sum((-2, -1)) * (
        scale.flatten() if isinstance(scale, torch.Tensor) else scale
    )


def reads_hidden(logits, targets, weights):
    return (weights * bce(logits, targets)).sum((-2, -1))


def not_reduced(logits, targets, weights):
    return set_bce(logits, targets, weights)[..., None] * weights.mean(-2)


def of_row_order(logits, targets, weights):
    return set_bce(logits, targets, weights * torch.linspace(0.5, 1, weights.shape[-2]).to(weights)[:, None])


def offset(logits, targets, weights):
    return set_bce(logits, targets, weights) + 1


def undeclared_hard(logits, targets, weights):
    return set_bce(logits, torch.where((targets == 0) | (targets == 1) | (weights == 0), targets, torch.nan), weights)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (reads_hidden, "an element of weight 0 is read"),
        (not_reduced, "one for each head: found shape [5, 4], expected [5]"),
        (of_row_order, "the order of the rows"),
        (offset, "not 0 where all weights are 0"),
        (undeclared_hard, "hard_targets=True"),
        (bce, "found the parameters (logits, targets), expected (logits, targets, weights) first"),
    ],
)
def test_a_set_loss_that_breaks_the_contract_is_refused(loss, words):
    check_set_loss(set_bce)
    with pytest.raises(AssertionError) as caught:
        check_set_loss(loss)
    assert words in str(caught.value)


def test_hard_targets_are_declared():
    check_set_loss(declares(hard_targets=True)(undeclared_hard))
    undeclared_hard.__dict__.pop("declared")


def ignored(labels, logits, epoch):
    targets = torch.where(labels.observed, labels.targets, 0.0)
    return targets, labels.observed.to(targets.dtype), None


def reads_unobserved(labels, logits, epoch):
    return labels.targets, labels.observed.to(labels.targets.dtype), None


def weighs_observed(labels, logits, epoch):
    return ignored(labels, logits, epoch)[0], 0.5 * ignored(labels, logits, epoch)[1], None


def bool_weights(labels, logits, epoch):
    return ignored(labels, logits, epoch)[0], labels.observed, None


def soft(labels, logits, epoch):
    targets = torch.where(labels.observed, labels.targets, 0.3)
    return targets, torch.ones_like(targets), None


def with_gradient(labels, logits, epoch):
    p = torch.sigmoid(wide(logits)).to(labels.targets.dtype)
    targets = torch.where(labels.observed, labels.targets, (p > 0.5).to(p.dtype))
    return targets, torch.where(labels.observed, 1.0, p), None


def undeclared_override(labels, logits, epoch):
    targets, weights, _ = ignored(labels, logits, epoch)
    return targets, weights, torch.zeros_like(targets)


@declares(labels_only=True)
def not_labels_only(labels, logits, epoch):
    targets, weights, _ = ignored(labels, logits, epoch)
    return targets, torch.where(labels.observed, weights, float(epoch > 1)), None


def of_all_heads(labels, logits, epoch):
    targets, weights, _ = ignored(labels, logits, epoch)
    return targets, torch.where(labels.observed, weights, (logits > logits.mean()).to(weights.dtype)), None


def pair(labels, logits, epoch):
    return ignored(labels, logits, epoch)[:2]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (reads_unobserved, "it reads targets that are not observed: nan there changes the result"),
        (weighs_observed, "the weight of an observed label is not 1"),
        (bool_weights, "weights at epoch 1: found torch.bool, expected torch.float64"),
        (soft, "soft_targets=True"),
        (with_gradient, "its weights have a gradient"),
        (undeclared_override, "@declares(overrides=True)"),
        (not_labels_only, "it declares labels_only, and its result depends on logits or epoch"),
        (of_all_heads, "the weights of a head depend on other heads"),
        (pair, "found a tuple of 2, expected (targets, weights, override or None)"),
    ],
)
def test_a_policy_that_breaks_the_contract_is_refused(policy, words):
    check_missing(ignored)
    with pytest.raises(AssertionError) as caught:
        check_missing(policy)
    assert words in str(caught.value)


def shuffled(labels, batch_size, steps, rng):
    return rng.integers(len(labels), size=(steps, batch_size))


def short(labels, batch_size, steps, rng):
    return shuffled(labels, batch_size, steps, rng)[:, : min(batch_size, len(labels))]


def float_rows(labels, batch_size, steps, rng):
    return shuffled(labels, batch_size, steps, rng).astype(float)


def beyond(labels, batch_size, steps, rng):
    return shuffled(labels, batch_size, steps, rng) + 1


def global_generator(labels, batch_size, steps, rng):
    return np.random.randint(len(labels), size=(steps, batch_size))  # noqa: NPY002


def seeded_by_nothing(labels, batch_size, steps, rng):
    return np.random.default_rng().integers(len(labels), size=(steps, batch_size))


def by_targets(labels, batch_size, steps, rng):
    weights = 1 + (labels.targets[:, 0] == 1)
    return rng.choice(len(labels), size=(steps, batch_size), p=weights / weights.sum())


def fails(labels, batch_size, steps, rng):
    from aimonk_bench.errors import RunFailed

    raise RunFailed("no row")


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (short, "found shape (1, 1), expected (T, B) = (1, 16)"),
        (float_rows, "found float64, expected a NumPy array of int64"),
        (beyond, "found rows 1 to 1, expected 0 to 0"),
        (global_generator, "NumPy's global generator"),
        (seeded_by_nothing, "equal generators give other rows"),
        (by_targets, "it reads targets that are not observed"),
        (fails, "it failed (no row) where every attribute has both values"),
    ],
)
def test_a_sampler_that_breaks_the_contract_is_refused(sampler, words):
    check_sampler(shuffled)
    with pytest.raises(AssertionError) as caught:
        check_sampler(sampler)
    assert words in str(caught.value)


def half_of_all(scores, labels):
    return np.full(scores.shape[1], 0.5), [""] * scores.shape[1]


def median(scores, labels):
    return np.median(scores, axis=0), [""] * scores.shape[1]


def in_integers(scores, labels):
    return np.ones(scores.shape[1], int), [""] * scores.shape[1]


def above_one(scores, labels):
    return np.full(scores.shape[1], 1.5), [""] * scores.shape[1]


def one_note(scores, labels):
    return np.full(scores.shape[1], 0.5), [None]


def needs_rows(scores, labels):
    return np.full(scores.shape[1], 0.5 if len(scores) else scores[0, 0]), [""] * scores.shape[1]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (median, "expected probabilities: junk where labels are missing"),
        (in_integers, "found int64, expected float64"),
        (above_one, "found [1.5, 1.5, 1.5], expected probabilities"),
        (one_note, "notes: found [None]"),
        (needs_rows, "IndexError"),
        (lambda scores, labels: 0.5, "found a float, expected (thresholds, notes)"),
    ],
)
def test_a_threshold_policy_that_breaks_the_contract_is_refused(policy, words):
    check_threshold(half_of_all)
    with pytest.raises(AssertionError) as caught:
        check_threshold(policy)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": 511}, "features: found 511, but the network says 512"),
        ({"multiple": 3}, "multiple: found 3"),
        ({"stages": ("layer1", "layer9")}, "stages: found layer9, which the network does not have"),
        ({"mean": (0.5,)}, "mean"),
        ({"timm": "no_such_network"}, "no_such_network"),
    ],
)
def test_an_entry_of_the_catalog_that_does_not_describe_its_network_is_refused(change, words):
    with pytest.raises(AssertionError) as caught:
        check_backbone(replace(CATALOG["resnet18"], **change))
    assert words in str(caught.value)


def test_the_checks_need_neither_pytest_nor_hypothesis():
    code = "import sys, aimonk_bench.testing; print({'pytest', 'hypothesis'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_options_are_varied_within_their_range():
    def narrow(logits, targets, *, power: Annotated[float, Ge(1)] = 1.0, shift: Annotated[float, Le(0)] = 0.0):
        bounded = torch.as_tensor(power).min() >= 1 and torch.as_tensor(shift).max() <= 0
        assert bounded
        return masked_bce(logits, targets) * power - shift

    check_loss(narrow)
