"""Set losses, which are no sum over elements: (logits, targets, weights, **options) -> [H].

All three arguments are [H, B, A]; the values are at least float32, and 0 where all weights are 0. Elements of weight 0
are never read and have no gradient. A numeric option may be a tensor [H, 1, 1], one value per head. A set loss that is
defined for targets 0 and 1 only declares ``hard_targets``. No set loss has class weights; the table says which sets
without a positive are left out.

A set is the row of an image, or the column of an attribute in the batch. LSE+ and LSE- are log sum w exp over its
positives and over its negatives; an empty sum has LSE = -infinity, whose softplus is 0.

====================  ==================================================  ====================================
name                  of a set                                            mean
====================  ==================================================  ====================================
two_way               softplus(T- LSE-(z / T-) + T+ LSE+(-z / T+))        over the rows with a positive, plus
                                                                          that over the columns with one
zlpr                  softplus(LSE-(z)) + softplus(LSE+(-z))              over the rows with a weight above 0
sigmoid_f1            1 - 2 tp / (2 tp + fp + fn), of soft counts         over the columns with a positive
====================  ==================================================  ====================================

Sources: two_way Kobayashi, "Two-way Multi-Label Loss", CVPR 2023; zlpr arXiv 2208.02955; sigmoid_f1 2108.10566.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from aimonk_bench.registry import Spec
from aimonk_bench.training.entries import AboveZero, declares
from aimonk_bench.training.lazy_torch import Tensor, torch
from aimonk_bench.training.losses import logs, wide


def _softplus(values: Tensor) -> Tensor:
    """log(1 + exp(x)); torch's own softplus is x itself above 20."""
    return -logs(values)[1]


def _by_value(targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of the positives and of the negatives, for targets 0 or 1."""
    positive = targets > 0.5
    return weights * positive, weights * ~positive


def _log_sum_exp(logits: Tensor, weights: Tensor, dim: int) -> Tensor:
    """log sum w exp(z) along a dimension, over the elements of weight above 0; -inf without any."""
    weighs = weights > 0
    # 1 replaces a weight of 0: the gradient of log 0 would be NaN, which torch.where does not stop
    return torch.logsumexp(torch.where(weighs, logits + torch.where(weighs, weights, 1.0).log(), -math.inf), dim)


def _per_set(option: float | Tensor) -> float | Tensor:
    """An option [H, 1, 1] for one number per set, [H, 1]."""
    return option.squeeze(-1) if isinstance(option, torch.Tensor) else option


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of the values that count, 0 without any: [.., K], [.., K] bool -> [..]."""
    return torch.where(counted, values, 0.0).sum(-1) / counted.sum(-1).clamp(min=1)


@declares(hard_targets=True)
def two_way(
    logits: Tensor, targets: Tensor, weights: Tensor, *, t_pos: AboveZero = 4.0, t_neg: AboveZero = 1.0
) -> Tensor:
    """Soft maximum of negatives against soft minimum of positives, per image and attribute (Kobayashi, CVPR 2023).

    softplus(t_neg LSE-(z / t_neg) + t_pos LSE+(-z / t_pos)) of every row and of every column; the means over the rows
    and over the columns that have a positive are added. A set without a negative costs 0.
    """
    logits = wide(logits)
    positive, negative = _by_value(targets, weights)
    total = torch.zeros((), dtype=logits.dtype, device=logits.device)
    for dim in (-1, -2):
        highest = _per_set(t_neg) * _log_sum_exp(logits / t_neg, negative, dim)
        lowest = _per_set(t_pos) * _log_sum_exp(-logits / t_pos, positive, dim)
        total = total + _mean(_softplus(highest + lowest), (positive > 0).any(dim))
    return total


@declares(hard_targets=True)
def zlpr(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Positives ranked above 0 and negatives below it, per image (arXiv 2208.02955).

    log(1 + sum of w exp(z) over the negatives) + log(1 + sum of w exp(-z) over the positives), the mean over the rows
    with a weight above 0.
    """
    logits = wide(logits)
    positive, negative = _by_value(targets, weights)
    values = _softplus(_log_sum_exp(-logits, positive, -1)) + _softplus(_log_sum_exp(logits, negative, -1))
    return _mean(values, (weights > 0).any(-1))


def sigmoid_f1(logits: Tensor, targets: Tensor, weights: Tensor, *, beta: AboveZero = 1.0, eta: float = 0.0) -> Tensor:
    """One minus the macro F1 of soft counts over the batch (arXiv 2108.10566).

    With s = sigmoid(beta (z + eta)), tp = sum w t s, fp = sum w (1 - t) s and fn = sum w t (1 - s) of an attribute.
    Attributes without a positive in the batch have no F1 and are left out of the mean (the paper counts them as 0,
    which has no gradient either).
    """
    weighs = weights > 0
    soft = torch.sigmoid(beta * (torch.where(weighs, wide(logits), 0.0) + eta))
    targets = torch.where(weighs, targets, 0.0).to(soft.dtype)
    true_positives, size = (weights * targets * soft).sum(-2), (weights * (targets + soft)).sum(-2)
    defined = (weights * targets).sum(-2) > 0
    return _mean(1 - 2 * true_positives / torch.where(defined, size, 1.0), defined)


def is_set_loss(loss: Spec) -> bool:
    """Whether a loss is a set loss, of this module or of a plug-in."""
    return loss.name in SET_LOSSES if loss.origin is None else loss.origin.table == "SET_LOSSES"


SET_LOSSES: dict[str, Callable[..., Tensor]] = {"two_way": two_way, "zlpr": zlpr, "sigmoid_f1": sigmoid_f1}
