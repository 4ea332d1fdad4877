"""Elementwise losses, and beside each loss its derivative by the logits.

    value(logits, targets, **options) -> [..., H, B, A]
    grad(logits, targets, **options)  -> [..., H, B, A]

Both are elementwise: no mask, no mean, at least float32. Batches of several steps may come first: count axes from the
end. A loss with class weights also has the parameters ``positives`` (n1) and ``negatives`` (n0), both [H, 1, A]: the
observed labels among a head's training rows. Where n1 or n0 is 0, all its class weights are 1. A numeric option may be
a tensor [H, 1, 1], one value per head. torch differentiates a loss without a derivative here, which takes about twice
as long.

With z the logit, p = sigmoid(z), l+ = -log p and l- = -log(1 - p), a soft target t in [0, 1] costs
t value(1) + (1 - t) value(0):

====================  ========================================  ==============================================
name                  value(1)                                  value(0)
====================  ========================================  ==============================================
masked_bce            l+                                        l-
pos_weight            min(n0 / n1, cap) l+                      l-
ratio_exp             exp(1 - r) l+,  r = n1 / (n1 + n0)        exp(r) l-
class_balanced        w(n1) l+                                  w(n0) l-,  w(n) ~ (1 - beta) / (1 - beta^n)
focal                 alpha (1 - p)^gamma l+                    (1 - alpha) p^gamma l-
asymmetric            (1 - p)^gamma_pos l+                      q^gamma_neg (-log(1 - q)),  q = max(p - clip, 0)
hill                  (1 - s)^2 (-log s),                       (lam - p) p^2
                      s = sigmoid(z - margin)
distribution_balanced R (1 - s)^gamma (-log s),                 R q^gamma (-log(1 - q)) / lam,
                      s = sigmoid(z')                           q = sigmoid(lam z')
====================  ========================================  ==============================================

Sources: masked_bce arXiv 1901.07031 (U-Ignore); pos_weight PyTorch's BCEWithLogitsLoss; ratio_exp Li et al. 2015
(DeepMAR); class_balanced 1901.05555; focal 1708.02002; asymmetric 2009.14119; hill 2112.07368; distribution_balanced
2007.09654.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Lt

from aimonk_bench.training.entries import AboveZero, Fraction, NonNegative, OpenFraction
from aimonk_bench.training.lazy_torch import Tensor, torch

GRADIENTS: dict[Callable[..., Tensor], Callable[..., Tensor]] = {}  # loss -> its derivative, filled by `derivative_of`


def derivative_of(loss: Callable[..., Tensor]) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Mark a function as d loss / d logits; it has the parameters of the loss.

    Raises:
        ValueError: the loss has one already, which every config would lose.
    """
    if loss in GRADIENTS:
        raise ValueError(f"{loss.__name__} has a derivative already")

    def pair(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        GRADIENTS[loss] = function
        return function

    return pair


def wide(logits: Tensor) -> Tensor:
    """At least float32, also under autocast: half precision has no digits left at |z| = 50."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def logs(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(log p, log(1 - p)), at least float32."""
    logits = wide(logits)
    return torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)


def mix(targets: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """t positive + (1 - t) negative for targets t in [0, 1]."""
    return torch.lerp(negative, positive, targets.to(positive.dtype))


def masked_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of the observed labels (arXiv 1901.07031, U-Ignore)."""
    return _weighted_bce(logits, targets, 1.0, 1.0)


@derivative_of(masked_bce)
def masked_bce_grad(logits: Tensor, targets: Tensor) -> Tensor:
    """p - t."""
    return torch.sigmoid(wide(logits)) - targets


def _weighted_bce(logits: Tensor, targets: Tensor, positive: float | Tensor, negative: float | Tensor) -> Tensor:
    """t a l+ + (1 - t) b l- with a the weight of a positive and b that of a negative."""
    log_p, log_n = logs(logits)
    return mix(targets, -positive * log_p, -negative * log_n)


def _weighted_bce_grad(logits: Tensor, targets: Tensor, positive: float | Tensor, negative: float | Tensor) -> Tensor:
    """t a (p - 1) + (1 - t) b p."""
    p = torch.sigmoid(wide(logits))
    return mix(targets, positive * (p - 1), negative * p)


def pos_weight(
    logits: Tensor, targets: Tensor, positives: Tensor, negatives: Tensor, *, cap: AboveZero = 20.0
) -> Tensor:
    """Cross-entropy, positives weighted by n0/n1, at most cap; 1 where n1 or n0 is 0 (PyTorch BCEWithLogitsLoss)."""
    return _weighted_bce(logits, targets, _positive_weight(positives, negatives, cap), 1.0)


@derivative_of(pos_weight)
def pos_weight_grad(
    logits: Tensor, targets: Tensor, positives: Tensor, negatives: Tensor, *, cap: float | Tensor
) -> Tensor:
    """t w (p - 1) + (1 - t) p with w = min(n0/n1, cap)."""
    return _weighted_bce_grad(logits, targets, _positive_weight(positives, negatives, cap), 1.0)


def _class_weight(weight: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """The weight where both counts are above 0, else 1: no weight of a class comes from a count of 0."""
    return torch.where((positives > 0) & (negatives > 0), weight, 1.0)


def _positive_weight(positives: Tensor, negatives: Tensor, cap: float | Tensor) -> Tensor:
    """The weight of a positive, see `pos_weight`."""
    return _class_weight((negatives / positives).clamp(max=cap), positives, negatives)


def ratio_exp(logits: Tensor, targets: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Cross-entropy times exp of the other value's share; times 1 where n1 or n0 is 0 (Li et al. 2015, DeepMAR)."""
    return _weighted_bce(logits, targets, *_ratio_weights(positives, negatives))


@derivative_of(ratio_exp)
def ratio_exp_grad(logits: Tensor, targets: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """t exp(1 - r) (p - 1) + (1 - t) exp(r) p with r = n1 / (n1 + n0)."""
    return _weighted_bce_grad(logits, targets, *_ratio_weights(positives, negatives))


def _ratio_weights(positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of a positive and of a negative, see `ratio_exp`."""
    share = positives / (positives + negatives)
    positive, negative = torch.exp(1 - share), torch.exp(share)
    return _class_weight(positive, positives, negatives), _class_weight(negative, positives, negatives)


def class_balanced(
    logits: Tensor, targets: Tensor, positives: Tensor, negatives: Tensor, *, beta: OpenFraction = 0.999
) -> Tensor:
    """Cross-entropy divided by the effective number of labels of the class (arXiv 1901.05555).

    The weight (1 - beta) / (1 - beta^n) is divided by its mean over the attribute's observed training labels; both
    weights are 1 where n1 or n0 is 0.
    """
    return _weighted_bce(logits, targets, *_effective_weights(positives, negatives, beta))


@derivative_of(class_balanced)
def class_balanced_grad(
    logits: Tensor, targets: Tensor, positives: Tensor, negatives: Tensor, *, beta: float | Tensor
) -> Tensor:
    """t w(n1) (p - 1) + (1 - t) w(n0) p."""
    return _weighted_bce_grad(logits, targets, *_effective_weights(positives, negatives, beta))


def _effective_weights(positives: Tensor, negatives: Tensor, beta: float | Tensor) -> tuple[Tensor, Tensor]:
    """The weights of a positive and of a negative, see `class_balanced`."""
    log_beta = torch.as_tensor(beta, dtype=torch.float64, device=positives.device).log()

    def inverse_number(count: Tensor) -> Tensor:
        return ((beta - 1) / torch.expm1(count * log_beta)).to(count.dtype)

    positive, negative = inverse_number(positives), inverse_number(negatives)
    mean = (positives * positive + negatives * negative) / (positives + negatives)
    return _class_weight(positive / mean, positives, negatives), _class_weight(negative / mean, positives, negatives)


def focal(logits: Tensor, targets: Tensor, *, gamma: NonNegative = 2.0, alpha: Fraction | None = 0.25) -> Tensor:
    """Cross-entropy times a_t (1 - p_t)^gamma, small for easy labels; alpha null drops a_t (arXiv 1708.02002)."""
    log_p, log_n = logs(logits)
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return mix(targets, -positive * torch.exp(gamma * log_n) * log_p, -negative * torch.exp(gamma * log_p) * log_n)


@derivative_of(focal)
def focal_grad(logits: Tensor, targets: Tensor, *, gamma: float | Tensor, alpha: float | Tensor | None) -> Tensor:
    """t alpha f(p) - (1 - t) (1 - alpha) f(1 - p), see `_fading_grad` for f."""
    log_p, log_n = logs(logits)
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return mix(targets, positive * _fading_grad(log_p, log_n, gamma), -negative * _fading_grad(log_n, log_p, gamma))


def _fading_grad(log_p: Tensor, log_n: Tensor, gamma: float | Tensor) -> Tensor:
    """f(p) = d/dz (1 - p)^gamma l+ = (1 - p)^gamma (gamma p log p - (1 - p)).

    For a negative, swap the two logarithms and change the sign.
    """
    return torch.exp(gamma * log_n) * (gamma * log_p.exp() * log_p - log_n.exp())


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_neg: NonNegative = 4.0,
    gamma_pos: NonNegative = 1.0,
    clip: Annotated[float, Ge(0), Lt(1)] = 0.05,
) -> Tensor:
    """Focal loss with one gamma for positives, one for negatives; easy negatives cost 0 (arXiv 2009.14119)."""
    log_p, log_n = logs(logits)
    q = log_p.exp() - clip
    # 1 replaces a base of 0, whose power has an infinite gradient for gamma_neg < 1
    focus = torch.where(q > 0, torch.where(q > 0, q, 1.0) ** gamma_neg, 0.0)
    return mix(targets, -torch.exp(gamma_pos * log_n) * log_p, -focus * _shifted_log(log_n, clip))


@derivative_of(asymmetric)
def asymmetric_grad(
    logits: Tensor, targets: Tensor, *, gamma_neg: float | Tensor, gamma_pos: float | Tensor, clip: float | Tensor
) -> Tensor:
    """t f(p) - (1 - t) q^gamma_neg p (1 - p) (gamma_neg log(1 - q) / q - 1 / (1 - q)), 0 for a negative with p <= clip.

    f is that of `_fading_grad` with gamma_pos.
    """
    log_p, log_n = logs(logits)
    p = log_p.exp()
    log_rest = _shifted_log(log_n, clip)
    q = (p - clip).clamp(min=torch.finfo(p.dtype).tiny)
    # (1 - p) / (1 - q) as one exp, which is at most 1 where 1 / (1 - q) alone would overflow
    negative = q**gamma_neg * p * (torch.exp(log_n - log_rest) - gamma_neg * log_rest / q * log_n.exp())
    return mix(targets, _fading_grad(log_p, log_n, gamma_pos), torch.where(p > clip, negative, 0.0))


def _shifted_log(log_n: Tensor, clip: float | Tensor) -> Tensor:
    """log(1 - max(p - clip, 0)) from log(1 - p)."""
    return torch.logaddexp(log_n, torch.as_tensor(clip, dtype=log_n.dtype, device=log_n.device).log()).clamp(max=0)


def hill(logits: Tensor, targets: Tensor, *, lam: Annotated[float, Ge(1)] = 1.5, margin: NonNegative = 1.0) -> Tensor:
    """Negatives cost (lam - p) p^2, flat for likely false ones; focal positives with a margin (arXiv 2112.07368)."""
    log_s, log_rest = logs(wide(logits) - margin)
    p = torch.sigmoid(wide(logits))
    return mix(targets, -torch.exp(2 * log_rest) * log_s, (lam - p) * p.square())


@derivative_of(hill)
def hill_grad(logits: Tensor, targets: Tensor, *, lam: float | Tensor, margin: float | Tensor) -> Tensor:
    """t f(s) + (1 - t) (2 lam - 3 p) p^2 (1 - p), f that of `_fading_grad` with gamma 2."""
    log_s, log_rest = logs(wide(logits) - margin)
    p = torch.sigmoid(wide(logits))
    return mix(targets, _fading_grad(log_s, log_rest, 2.0), (2 * lam - 3 * p) * p.square() * (1 - p))


def distribution_balanced(
    logits: Tensor,
    targets: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    alpha: NonNegative = 0.1,
    beta: AboveZero = 10.0,
    mu: float = 0.2,
    lam: AboveZero = 2.0,
    bias: NonNegative = 0.05,
    gamma: NonNegative = 2.0,
) -> Tensor:
    """Rebalanced, negative-tolerant focal loss (arXiv 2007.09654).

    R = alpha + sigmoid(beta (r - mu)) with r = (1/n1) / sum_j t_j / n1_j over the attributes with n1_j > 0: the chance
    of drawing the row for this attribute, divided by the chance of drawing it at all. A row without a positive has
    r = infinity. The targets t_j are the filled ones; that of the element itself counts as 1 in value(1) and as 0 in
    value(0), so that a soft target mixes the two values. z' = z + bias log(n1 / n0). Where n1 or n0 is 0, R is 1 and
    z' is z.
    """
    inverse = (positives > 0) / positives.clamp(min=1)
    terms = targets * inverse
    others = terms.sum(-1, keepdim=True) - terms
    shifted = wide(logits) + bias * _class_weight(positives / negatives, positives, negatives).log()

    def rebalance(row: Tensor) -> Tensor:
        return _class_weight(alpha + torch.sigmoid(beta * (inverse / row - mu)), positives, negatives)

    log_p, log_n = logs(shifted)
    log_q, log_rest = logs(lam * shifted)
    return mix(
        targets,
        -rebalance(others + inverse) * torch.exp(gamma * log_n) * log_p,
        -rebalance(others) * torch.exp(gamma * log_q) * log_rest / lam,
    )


LOSSES: dict[str, Callable[..., Tensor]] = {
    "masked_bce": masked_bce,
    "pos_weight": pos_weight,
    "ratio_exp": ratio_exp,
    "class_balanced": class_balanced,
    "focal": focal,
    "asymmetric": asymmetric,
    "hill": hill,
    "distribution_balanced": distribution_balanced,
}
