"""The derivatives of elementwise losses by the logit, in closed form: a third of what automatic differentiation takes.

Every entry of SLOPES takes a loss's counts n1, n0 [S, A, 1] and its options, and returns the function
``(logits [S, A, B], targets [S, A, B]) -> dcell/dz``, of at least float32: attributes come before the batch here, as
the products leave them. Losses without an entry are differentiated by torch.
With l+ = -log p, l- = -log(1 - p): dl+/dz = p - 1, dl-/dz = p, dp/dz = p (1 - p). The names are those of `losses`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from aimonk_bench.lazy import Lazy
from aimonk_bench.training.losses import effective_weights, logs, positive_weight, ratio_weights, shifted_log

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")

Slope: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


def _masked_bce(positives: Tensor, negatives: Tensor) -> Slope:
    return lambda logits, targets: torch.sigmoid(logits).sub_(targets)


def _weighted(positive: Tensor, negative: Tensor | float) -> Slope:
    """Of cross-entropy with a weight for each value."""

    def slope(logits: Tensor, targets: Tensor) -> Tensor:
        p = torch.sigmoid(logits)
        return torch.lerp(p * negative, (p - 1).mul_(positive), targets)

    return slope


def _pos_weight(positives: Tensor, negatives: Tensor, cap: float) -> Slope:
    return _weighted(positive_weight(positives, negatives, cap), 1.0)


def _ratio_exp(positives: Tensor, negatives: Tensor) -> Slope:
    return _weighted(*ratio_weights(positives, negatives))


def _class_balanced(positives: Tensor, negatives: Tensor, beta: float) -> Slope:
    return _weighted(*effective_weights(positives, negatives, beta))


def _fading(log_own: Tensor, log_other: Tensor, gamma: float) -> Tensor:
    """d/dz of (1 - p)^gamma l+, of which ``log_own`` is log p and ``log_other`` log(1 - p).

    It is (1 - p)^gamma (gamma p log p - (1 - p)); with the logs exchanged, minus the derivative for a negative.
    """
    return torch.exp(gamma * log_other) * (gamma * log_own.exp() * log_own - log_other.exp())


def _focal(positives: Tensor, negatives: Tensor, gamma: float, alpha: float | None) -> Slope:
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def slope(logits: Tensor, targets: Tensor) -> Tensor:
        log_p, log_n = logs(logits)
        of_negative = _fading(log_n, log_p, gamma).mul_(negative).neg_()
        return torch.lerp(of_negative, _fading(log_p, log_n, gamma).mul_(positive), targets)

    return slope


def _asymmetric(positives: Tensor, negatives: Tensor, gamma_neg: float, gamma_pos: float, clip: float) -> Slope:
    def slope(logits: Tensor, targets: Tensor) -> Tensor:
        log_p, log_n = logs(logits)
        p = log_p.exp()
        log_rest = shifted_log(log_n, clip)
        q = (p - clip).clamp(min=torch.finfo(p.dtype).tiny)
        # q^gamma (1 / (1 - q) - gamma log(1 - q) / q) dq/dz
        of_negative = q**gamma_neg * (torch.exp(-log_rest) - gamma_neg * log_rest / q) * (p * log_n.exp())
        of_negative = of_negative.masked_fill_(p <= clip, 0.0)
        return torch.lerp(of_negative, _fading(log_p, log_n, gamma_pos), targets)

    return slope


def _hill(positives: Tensor, negatives: Tensor, lam: float, margin: float) -> Slope:
    def slope(logits: Tensor, targets: Tensor) -> Tensor:
        log_s, log_rest = logs(logits - margin)
        p = torch.sigmoid(logits)
        of_negative = (2 * lam - 3 * p) * p.square() * (1 - p)
        return torch.lerp(of_negative, _fading(log_s, log_rest, 2.0), targets)

    return slope


SLOPES: dict[str, Callable[..., Slope]] = {
    "masked_bce": _masked_bce,
    "pos_weight": _pos_weight,
    "ratio_exp": _ratio_exp,
    "class_balanced": _class_balanced,
    "focal": _focal,
    "asymmetric": _asymmetric,
    "hill": _hill,
}


def slope_of(loss: str, positives: Tensor, negatives: Tensor, options: dict[str, Any]) -> Slope | None:
    """The derivative of a loss with these counts [S, 1, A] and options, None where there is no closed form."""
    if loss not in SLOPES:
        return None
    return SLOPES[loss](positives.transpose(-2, -1), negatives.transpose(-2, -1), **options)
