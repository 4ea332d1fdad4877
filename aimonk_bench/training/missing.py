"""Missing-label policies: the targets and weights of labels that are not observed.

    fill(labels, logits, epoch, ..., **options) -> (targets, weights, override or None)

``labels`` are `Labels` of tensors [..., H, B, A]; ``logits`` are [..., H, B, A]; epochs count from 1. ``targets`` and
``weights`` have the same shape; where a label is observed they are the label and 1. ``override``, of the same shape,
replaces the loss where the label is missing. Batches of several steps may come first: a policy counts axes from the
end. A policy never calls the loss and never reads a target that is not observed.

==================  =====================================================================  =================
name                what a missing label becomes                                           source
==================  =====================================================================  =================
ignore              weight 0                                                               arXiv 1901.07031
negative            target 0                                                               assume negative
weak_negative       target 0, weight w, by default 1 / (A - 1)                             2106.09708
positive            target 1                                                               1901.07031
smooth_negative     target eps                                                             label smoothing
large_loss_reject   target 0; the largest (epoch - 1) delta % of these losses weigh 0      2206.03740 (LL-R)
large_loss_correct  target 0; the largest (epoch - 1) delta % of them get target 1         2206.03740 (LL-Ct)
splc                target 0, from the second epoch target 1 where p > tau                 2112.07368
selective           p^gamma_u (-log(1 - p)); weight 0 where a positive is likely           2110.10955
entropy             -alpha H(p), H the entropy of the prediction                           2203.16219
self_trained        target p of a teacher trained with ignore                              1901.07031
==================  =====================================================================  =================

A policy that needs more has a further parameter, which `objective.Objective` passes by name:

    positives, negatives  [H, 1, A] observed labels among a head's training rows
    negative_loss         [H, B, A] the loss that each missing label would have as a negative, without gradient
    teacher               [H, B, A] probabilities of heads trained with ignore; training then has two stages

Further facts are declared above the policy (`entries.declares`):

    labels_only   neither logits nor epoch matter, so that the weights of a batch are known before its logits
    soft_targets  targets may lie between 0 and 1
    overrides     ``override`` is not None
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from aimonk_bench import registry
from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError
from aimonk_bench.registry import Spec
from aimonk_bench.training.entries import Fraction, NonNegative, declares, takes
from aimonk_bench.training.lazy_torch import Tensor, torch
from aimonk_bench.training.losses import logs

Filled: TypeAlias = tuple[Tensor, Tensor, Tensor | None]


def _fill(labels: Labels, target: float | Tensor, weight: float = 1.0) -> Filled:
    """Missing labels with this target and this weight."""
    targets = torch.where(labels.observed, labels.targets, target)
    return targets, torch.where(labels.observed, targets.new_ones(()), weight), None


@declares(labels_only=True)
def ignore(labels: Labels, logits: Tensor | None, epoch: int) -> Filled:
    """A missing label weighs nothing (U-Ignore, arXiv 1901.07031)."""
    return _fill(labels, 0.0, weight=0.0)


@declares(labels_only=True)
def negative(labels: Labels, logits: Tensor | None, epoch: int) -> Filled:
    """A missing label is taken as negative."""
    return _fill(labels, 0.0)


def _weak_weight(w: float | None, attributes: int) -> float:
    if w is not None:
        return w
    if attributes == 1:
        raise UserError("missing: weak_negative weighs 1/(A-1), which one attribute does not define: give w")
    return 1 / (attributes - 1)


@declares(labels_only=True, check=_weak_weight)
def weak_negative(labels: Labels, logits: Tensor | None, epoch: int, *, w: Fraction | None = None) -> Filled:
    """A missing label is a negative of weight w, by default 1/(A-1) (arXiv 2106.09708)."""
    return _fill(labels, 0.0, weight=_weak_weight(w, labels.shape[-1]))


@declares(labels_only=True)
def positive(labels: Labels, logits: Tensor | None, epoch: int) -> Filled:
    """A missing label is taken as positive (U-Ones, arXiv 1901.07031)."""
    return _fill(labels, 1.0)


@declares(labels_only=True, soft_targets=True)
def smooth_negative(labels: Labels, logits: Tensor | None, epoch: int, *, eps: Fraction = 0.1) -> Filled:
    """A missing label is a smoothed negative, target eps (label smoothing)."""
    return _fill(labels, eps)


def large_loss_reject(
    labels: Labels, logits: Tensor, epoch: int, negative_loss: Tensor, *, delta: NonNegative = 0.2
) -> Filled:
    """A missing label is a negative, dropped if its loss is among the largest of the batch (arXiv 2206.03740, LL-R).

    delta is in percent of the batch's missing labels and per epoch after the first; see `_largest`.
    """
    targets, weights, _ = _fill(labels, 0.0)
    return targets, weights.masked_fill_(_largest(negative_loss, labels, (epoch - 1) * delta / 100), 0.0), None


def large_loss_correct(
    labels: Labels, logits: Tensor, epoch: int, negative_loss: Tensor, *, delta: NonNegative = 0.2
) -> Filled:
    """A missing label is a negative, a positive if its loss is among the batch's largest (arXiv 2206.03740, LL-Ct).

    delta is in percent of the batch's missing labels and per epoch after the first; see `_largest`.
    """
    flipped = _largest(negative_loss, labels, (epoch - 1) * delta / 100)
    return _fill(labels, flipped.to(labels.targets.dtype))


def _largest(losses: Tensor, labels: Labels, share: float) -> Tensor:
    """Of each head's n missing labels the ceil(share * n) with the largest losses: bool [.., B, A].

    The number is rounded up as in the authors' code; rounded down it would be 0 in small batches. Of equal losses the
    earlier ones are taken, so that the number is exact: an image drawn twice into a batch may have equal losses.
    """
    missing: Tensor = ~labels.observed
    values = torch.where(missing, losses, -torch.inf).flatten(-2)
    rank = values.argsort(stable=True, dim=-1, descending=True).argsort(-1).view(losses.shape)
    # slightly less, so that rounding errors do not turn an exact whole number into one more
    number = missing.sum((-2, -1), keepdim=True) * (min(share, 1.0) * (1 - 1e-6))
    return rank < number


def splc(labels: Labels, logits: Tensor, epoch: int, *, tau: Fraction = 0.6) -> Filled:
    """A missing label is a negative, from the second epoch a positive where p > tau (arXiv 2112.07368)."""
    flipped = (logs(logits)[0].exp() > tau) & (epoch > 1)
    return _fill(labels, flipped.to(labels.targets.dtype))


@declares(overrides=True)
def selective(
    labels: Labels,
    logits: Tensor,
    epoch: int,
    positives: Tensor,
    negatives: Tensor,
    *,
    gamma_u: NonNegative = 4.0,
    prior: Fraction = 0.5,
    likely: Fraction = 0.5,
) -> Filled:
    """A missing label is a focal negative, ignored where a positive is likely (arXiv 2110.10955).

    Its loss is p^gamma_u (-log(1 - p)), whatever the loss of observed labels is. It weighs 0 where p > likely, or where
    n1 / (n1 + n0) > prior; with n0 = 0 the share says nothing and only p counts. The paper takes the average prediction
    of a first model in place of the share, and ignores the 5 likeliest missing labels of an image among hundreds of
    attributes, which would be all of a few attributes.
    """
    targets, weights, _ = _fill(labels, 0.0)
    log_p, log_n = logs(logits)
    frequent = (negatives > 0) & (positives > prior * (positives + negatives))
    ignored = frequent | (log_p.exp() > likely)
    return targets, weights.masked_fill_(~labels.observed & ignored, 0.0), -torch.exp(gamma_u * log_p) * log_n


@declares(overrides=True)
def entropy(labels: Labels, logits: Tensor, epoch: int, *, alpha: NonNegative = 0.1) -> Filled:
    """A missing label costs -alpha H(p), the entropy H = -p log p - (1-p) log(1-p) (arXiv 2203.16219)."""
    targets, weights, _ = _fill(labels, 0.0)
    log_p, log_n = logs(logits)
    return targets, weights, alpha * (log_p.exp() * log_p + log_n.exp() * log_n)


@declares(soft_targets=True)
def self_trained(labels: Labels, logits: Tensor, epoch: int, teacher: Tensor) -> Filled:
    """A missing label is the prediction of heads trained with ignore, a soft target (U-SelfTrained, arXiv 1901.07031).

    Training has two stages and takes twice as long.
    """
    return _fill(labels, teacher.to(labels.targets.dtype))


def wants_teacher(missing: Spec) -> bool:
    """Whether the policy has a parameter ``teacher``, so that training has two stages."""
    return takes(registry.entry(MISSING, missing), "teacher")


MISSING: dict[str, Callable[..., Filled]] = {
    "ignore": ignore,
    "negative": negative,
    "weak_negative": weak_negative,
    "positive": positive,
    "smooth_negative": smooth_negative,
    "large_loss_reject": large_loss_reject,
    "large_loss_correct": large_loss_correct,
    "splc": splc,
    "selective": selective,
    "entropy": entropy,
    "self_trained": self_trained,
}
