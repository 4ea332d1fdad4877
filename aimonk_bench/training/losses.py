"""Losses, computed in log-space: elementwise ones (cells without mask and without mean) and set losses.

z is the logit, p = sigmoid(z), l+ = -log p, l- = -log(1 - p); n1 and n0 are the observed positives and negatives of
an attribute among a head's own training rows. ``cell(1)`` is the loss of a positive, ``cell(0)`` of a negative; a
soft target t in [0, 1] costs t cell(1) + (1 - t) cell(0).

====================  ========================================  ==============================================
name                  cell(1)                                   cell(0)
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

Every entry of LOSSES takes (logits [S, B, A], targets [S, B, A]) and returns cells [S, B, A] in at least float32. One
that wants class counts also takes ``positives`` (n1) and ``negatives`` (n0), both [S, 1, A]; `bind` supplies them.
Every option that is a number may be a tensor [S, 1, 1] too: each head then has its own.

A set loss does not fall apart into cells. Every entry of SET_LOSSES takes (logits, targets, weights), all [S, B, A],
and returns one number per head, [S], in at least float32, 0 where nothing weighs. Cells of weight 0 are never read and
carry no gradient. Sums run over a set: the row of a picture, or the column of an attribute in the batch. LSE+ and LSE-
are log sum w exp over its positives and its negatives, softplus of LSE of nothing is 0.

====================  ==================================================  ====================================
name                  of a set                                            mean
====================  ==================================================  ====================================
two_way               softplus(T- LSE-(z / T-) + T+ LSE+(-z / T+))        over the rows with a positive, plus
                                                                          that over the columns with one
zlpr                  softplus(LSE-(z)) + softplus(LSE+(-z))              over the rows where something weighs
sigmoid_f1            1 - 2 tp / (2 tp + fp + fn), of soft counts         over the columns with a positive
====================  ==================================================  ====================================

Sources: two_way Kobayashi, "Two-way Multi-Label Loss", CVPR 2023; zlpr arXiv 2208.02955; sigmoid_f1 2108.10566.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from annotated_types import Ge, Gt, Le, Lt

from aimonk_bench.lazy import Lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")

Loss: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


def bind(function: Callable[..., Any], positives: Tensor, negatives: Tensor) -> functools.partial[Any]:
    """A loss or a missing-label policy with the counts [S, 1, A] it names; one that names none is left as it is."""
    named = inspect.signature(function).parameters
    counts = {"positives": positives, "negatives": negatives}
    return functools.partial(function, **{name: counts[name] for name in counts if name in named})


def reduce(cells: Tensor, weights: Tensor) -> Tensor:
    """sum(cells * weights) / sum(weights) of each head, 0 where nothing weighs: [S, B, A], [S, B, A] -> [S]."""
    total = weights.sum(-2).sum(-1)  # not in one: a single long sum would depend on the number of threads
    return (cells * weights).sum(-2).sum(-1) / (total + (total == 0))


def wide(logits: Tensor) -> Tensor:
    """At least float32, where autocast hands over less: half precision has no digits left at |z| = 50."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def logs(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(log p, log(1 - p)), at least in float32."""
    logits = wide(logits)
    if torch.is_grad_enabled() and logits.requires_grad:
        log_p, log_n = _differentiable_logs().apply(logits)
        return log_p, log_n
    return _both_logs(logits)


def sigmoid(logits: Tensor) -> Tensor:
    """p, at least in float32, of log p.

    torch's sigmoid, softplus and powers have other last bits in the last few elements of a thread's share: how many
    threads there are would show in the results. Its exp and log have not.
    """
    return logs(logits)[0].exp()


def softplus(logits: Tensor) -> Tensor:
    """-log(1 - p), see `sigmoid`."""
    return -logs(logits)[1]


def power(base: Tensor, exponent: float | Tensor) -> Tensor:
    """Of a base above 0, see `sigmoid`."""
    return torch.exp(exponent * base.log())


def _both_logs(logits: Tensor) -> tuple[Tensor, Tensor]:
    """min(z, 0) - log(1 + u) and -max(z, 0) - log(1 + u), u = exp(-|z|).

    torch's log1p and logsigmoid are not vectorised and take ten times as long as log. log(1 + u) is log(w) for the
    rounded w = 1 + u, and what the rounding lost, to first order: as exact as log1p.
    """
    u = logits.abs().neg_().exp_()
    w = u + 1
    tail = w.log().add_(u.sub_(w - 1).div_(w))
    return logits.clamp(max=0).sub_(tail), logits.clamp(min=0).add_(tail).neg_()


@functools.cache  # the class is made at the first use, as it needs torch
def _differentiable_logs() -> Any:
    """`_both_logs` with their derivatives 1 - p and -p."""

    class Logs(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logits: Tensor) -> tuple[Tensor, Tensor]:
            values = _both_logs(logits)
            ctx.save_for_backward(*values)
            return values

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            log_p, log_n = ctx.saved_tensors
            found: Tensor = gradients[0] * log_n.exp() - gradients[1] * log_p.exp()
            return found

    return Logs


def _cells(targets: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Targets t: t positive + (1 - t) negative."""
    return torch.lerp(negative, positive, targets.to(positive.dtype))


def masked_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of the observed labels (arXiv 1901.07031, U-Ignore)."""
    log_p, log_n = logs(logits)
    return _cells(targets, -log_p, -log_n)


def pos_weight(
    logits: Tensor, targets: Tensor, positives: Tensor, negatives: Tensor, *, cap: Annotated[float, Gt(0)] = 20.0
) -> Tensor:
    """Cross-entropy with positives weighted by n0/n1, at most cap, 1 where n1 = 0 (PyTorch's BCEWithLogitsLoss)."""
    log_p, log_n = logs(logits)
    return _cells(targets, -positive_weight(positives, negatives, cap) * log_p, -log_n)


def positive_weight(positives: Tensor, negatives: Tensor, cap: float) -> Tensor:
    """min(n0/n1, cap), 1 where n1 = 0."""
    return torch.where(positives > 0, (negatives / positives.clamp(min=1)).clamp(max=cap), 1.0)


def ratio_exp(logits: Tensor, targets: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Cross-entropy times exp of the other value's share, 1/2 where nothing is observed (Li et al. 2015, DeepMAR)."""
    log_p, log_n = logs(logits)
    positive, negative = ratio_weights(positives, negatives)
    return _cells(targets, -positive * log_p, -negative * log_n)


def ratio_weights(positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """(exp(1 - r), exp(r)) with r = n1 / (n1 + n0), 1/2 where nothing is observed."""
    total = positives + negatives
    share = torch.where(total > 0, positives / total.clamp(min=1), 0.5)
    return torch.exp(1 - share), torch.exp(share)


def class_balanced(
    logits: Tensor,
    targets: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    beta: Annotated[float, Gt(0), Lt(1)] = 0.999,
) -> Tensor:
    """Cross-entropy over the effective number of the element's class (arXiv 1901.05555).

    The weight (1 - beta) / (1 - beta^n) is divided by its mean over the attribute's observed training cells; a value
    that was never observed (and can only stand in a filled cell) weighs 1.
    """
    log_p, log_n = logs(logits)
    positive, negative = effective_weights(positives, negatives, beta)
    return _cells(targets, -positive * log_p, -negative * log_n)


def effective_weights(positives: Tensor, negatives: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The weights of a positive and of a negative, see `class_balanced`."""
    log_beta = torch.as_tensor(beta, dtype=torch.float64, device=positives.device).log()

    def inverse_number(count: Tensor) -> Tensor:
        return ((beta - 1) / torch.expm1(count.clamp(min=1) * log_beta)).to(count.dtype)

    positive, negative = inverse_number(positives), inverse_number(negatives)
    mean = (positives * positive + negatives * negative) / (positives + negatives)
    return torch.where(positives > 0, positive / mean, 1.0), torch.where(negatives > 0, negative / mean, 1.0)


def focal(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: Annotated[float, Ge(0)] = 2.0,
    alpha: Annotated[float, Ge(0), Le(1)] | None = 0.25,
) -> Tensor:
    """Cross-entropy that fades for easy cells, a_t (1 - p_t)^gamma; alpha null switches a_t off (arXiv 1708.02002)."""
    log_p, log_n = logs(logits)
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return _cells(targets, -positive * torch.exp(gamma * log_n) * log_p, -negative * torch.exp(gamma * log_p) * log_n)


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_neg: Annotated[float, Ge(0)] = 4.0,
    gamma_pos: Annotated[float, Ge(0)] = 1.0,
    clip: Annotated[float, Ge(0), Lt(1)] = 0.05,
) -> Tensor:
    """Focal loss with a gamma for each value and easy negatives clipped to zero (arXiv 2009.14119)."""
    log_p, log_n = logs(logits)
    q = log_p.exp() - clip
    log_rest = shifted_log(log_n, clip)
    # the power is taken of 1 where it is not used: the gradient of 0^gamma is infinite for gamma < 1
    focus = torch.where(q > 0, power(torch.where(q > 0, q, 1.0), gamma_neg), 0.0)
    return _cells(targets, -torch.exp(gamma_pos * log_n) * log_p, -focus * log_rest)


def shifted_log(log_n: Tensor, clip: float | Tensor) -> Tensor:
    """log(1 - max(p - clip, 0)) of log(1 - p), which is exact as it stands where clip is 0."""
    if not isinstance(clip, torch.Tensor):
        return torch.log(log_n.exp() + clip).clamp(max=0) if clip else log_n
    moved = torch.log(torch.where(clip > 0, log_n.exp() + clip, 1.0)).clamp(max=0)
    return torch.where(clip > 0, moved, log_n)


def hill(
    logits: Tensor,
    targets: Tensor,
    *,
    lam: Annotated[float, Ge(1)] = 1.5,
    margin: Annotated[float, Ge(0)] = 1.0,
) -> Tensor:
    """Negatives (lam - p) p^2, which lets go of likely false ones; focal positives past a margin (arXiv 2112.07368)."""
    log_p, log_n = logs(wide(logits) - margin)
    p = sigmoid(logits)
    return _cells(targets, -torch.exp(2 * log_n) * log_p, (lam - p) * p.square())


def distribution_balanced(
    logits: Tensor,
    targets: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    alpha: Annotated[float, Ge(0)] = 0.1,
    beta: Annotated[float, Gt(0)] = 10.0,
    mu: float = 0.2,
    lam: Annotated[float, Gt(0)] = 2.0,
    bias: Annotated[float, Ge(0)] = 0.05,
    gamma: Annotated[float, Ge(0)] = 2.0,
) -> Tensor:
    """Rebalanced, negative-tolerant focal loss (arXiv 2007.09654).

    R = alpha + sigmoid(beta (r - mu)) with r = (1/n1) / sum_j t_j / n1_j over the positives j of the row: the chance
    of drawing the row for this attribute, over that of drawing it at all. A row without a positive has r = infinity.
    The row's targets are the filled ones; its own target counts as 1 in cell(1) and as 0 in cell(0), so that a soft
    target mixes the two as everywhere. z' = z + bias log(n1 / n0), the shift being 0 where one of the counts is.
    """
    inverse = 1 / positives.clamp(min=1)
    shares = targets * inverse
    others = shares.sum(-1, keepdim=True) - shares
    log_odds = torch.log(positives.clamp(min=1) / negatives.clamp(min=1))
    shifted = logits + bias * torch.where((positives > 0) & (negatives > 0), log_odds, 0.0)

    def rebalance(row: Tensor) -> Tensor:
        return alpha + sigmoid(beta * (inverse / row - mu))

    log_p, log_n = logs(shifted)
    log_q, log_rest = logs(lam * shifted)
    return _cells(
        targets,
        -rebalance(others + inverse) * torch.exp(gamma * log_n) * log_p,
        -rebalance(others) * torch.exp(gamma * log_q) * log_rest / lam,
    )


def _sides(targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of the positives and those of the negatives, of targets 0 or 1."""
    positive = targets > 0.5
    return weights * positive, weights * ~positive


def _log_sum_exp(logits: Tensor, weights: Tensor, dim: int) -> Tensor:
    """log sum w exp(z) along a dimension, over the cells that weigh; -inf if none does."""
    some = weights > 0
    # the gradient of logsumexp over nothing but -inf is NaN, which torch.where does not hand on
    return torch.logsumexp(torch.where(some, logits + torch.where(some, weights, 1.0).log(), -math.inf), dim)


def _per_set(option: float | Tensor) -> float | Tensor:
    """An option [S, 1, 1] as it goes with one number per set, [S, 1]."""
    return option.squeeze(-1) if isinstance(option, torch.Tensor) else option


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of the values that count, 0 if none does: [.., K], [.., K] bool -> [..]."""
    return torch.where(counted, values, 0.0).sum(-1) / counted.sum(-1).clamp(min=1)


def two_way(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    t_pos: Annotated[float, Gt(0)] = 4.0,
    t_neg: Annotated[float, Gt(0)] = 1.0,
) -> Tensor:
    """Hardest negative against hardest positive, softly, per picture and per attribute (Kobayashi, CVPR 2023).

    softplus(t_neg LSE-(z / t_neg) + t_pos LSE+(-z / t_pos)) of every row and of every column; the means over the rows
    and over the columns that have a positive are added. Without a negative a set costs 0.
    """
    logits = wide(logits)
    positive, negative = _sides(targets, weights)
    total = torch.zeros((), dtype=logits.dtype, device=logits.device)
    for dim in (-1, -2):
        highest = _per_set(t_neg) * _log_sum_exp(logits / t_neg, negative, dim)
        lowest = _per_set(t_pos) * _log_sum_exp(-logits / t_pos, positive, dim)
        total = total + _mean(softplus(highest + lowest), (positive > 0).any(dim))
    return total


def zlpr(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Positives ranked above 0 and negatives below it, per picture (arXiv 2208.02955).

    log(1 + sum of w exp(z) over the negatives) + log(1 + sum of w exp(-z) over the positives), the mean over the rows
    where something weighs.
    """
    logits = wide(logits)
    positive, negative = _sides(targets, weights)
    costs = softplus(_log_sum_exp(-logits, positive, -1)) + softplus(_log_sum_exp(logits, negative, -1))
    return _mean(costs, (weights > 0).any(-1))


def sigmoid_f1(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    beta: Annotated[float, Gt(0)] = 1.0,
    eta: float = 0.0,
) -> Tensor:
    """One minus the macro F1 of soft counts over the batch (arXiv 2108.10566).

    With s = sigmoid(beta (z + eta)), tp = sum w t s, fp = sum w (1 - t) s and fn = sum w t (1 - s) of an attribute.
    Attributes without a positive in the batch have no F1 and are left out of the mean (the paper counts them as 0,
    which has no gradient either).
    """
    seen = weights > 0
    soft = sigmoid(beta * (torch.where(seen, wide(logits), 0.0) + eta))
    targets = torch.where(seen, targets, 0.0).to(soft.dtype)
    hits, size = (weights * targets * soft).sum(-2), (weights * (targets + soft)).sum(-2)
    defined = (weights * targets).sum(-2) > 0
    return _mean(1 - 2 * hits / torch.where(defined, size, 1.0), defined)


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

SET_LOSSES: dict[str, Callable[..., Tensor]] = {"two_way": two_way, "zlpr": zlpr, "sigmoid_f1": sigmoid_f1}
