"""The derivatives of elementwise losses by the logit, in closed form: a third of what automatic differentiation takes.

Every entry of SLOPES takes a loss's counts n1, n0 [S, A, 1] and its options, and returns its `Slope`, or the function
of which `General` makes one: attributes come before the batch here, as the products leave them. Losses without an
entry are differentiated by torch.
With l+ = -log p, l- = -log(1 - p): dl+/dz = p - 1, dl-/dz = p, dp/dz = p (1 - p). The names are those of `losses`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from aimonk_bench.lazy import Lazy
from aimonk_bench.training.losses import (
    effective_weights,
    logs,
    positive_weight,
    power,
    ratio_weights,
    shifted_log,
    sigmoid,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")

GRAIN = 1 << 15  # cells up to which torch takes one thread
Function: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
Call: TypeAlias = Callable[[], object]


class Slope(ABC):
    """The weighted derivative of a loss's cells by their logits, in two parts: what is known ahead, and the rest."""

    @abstractmethod
    def ahead(self, targets: Tensor, weights: Tensor) -> None:
        """Turn targets and weights, both [.., S, A, B], into the two parts of all that does not ask the logits."""

    @abstractmethod
    def into(self, out: Tensor, logits: Tensor, first: Tensor, second: Tensor, kept: Tensor) -> list[Call]:
        """What, called in turn, fills ``out`` with weight x dcell/dz of ``logits``; all of these are [S, A, B].

        Args:
            first: the first part that `ahead` left.
            second: the second.
            kept: memory for what `cells` can use again.
        """

    @abstractmethod
    def cells(self, logits: Tensor, first: Tensor, second: Tensor, kept: Tensor) -> Tensor:
        """Weight x cell of what went through `into`, [.., S, A, B] like the arguments, which may be overwritten."""


class General(Slope):
    """Of any loss.

    Args:
        loss: (logits [.., S, B, A], targets [.., S, B, A]) -> cells.
        function: (logits [S, A, B], targets [S, A, B]) -> dcell/dz, of at least float32.
    """

    def __init__(self, loss: Function, function: Function) -> None:
        self._loss, self._function = loss, function

    def ahead(self, targets: Tensor, weights: Tensor) -> None:
        """Leave them as they are."""

    def into(self, out: Tensor, logits: Tensor, first: Tensor, second: Tensor, kept: Tensor) -> list[Call]:
        """One call, which keeps nothing."""
        return [lambda: torch.mul(self._function(logits, first), second, out=out)]

    def cells(self, logits: Tensor, first: Tensor, second: Tensor, kept: Tensor) -> Tensor:
        """The loss, weighted."""
        return self._loss(logits.transpose(-2, -1), first.transpose(-2, -1)).transpose(-2, -1).mul_(second)


class Weighted(Slope):
    """Of cross-entropy with weights a of a positive and b of a negative, which is linear in p.

    The cell is t a l+ + (1 - t) b l-, its derivative f p + c with f = t a + (1 - t) b and c = -t a, and so the cell
    is f softplus(z) + c z.

    Args:
        positive: a, [S, A, 1]; 1 by default.
        negative: b.
    """

    def __init__(self, positive: Tensor | None = None, negative: Tensor | None = None) -> None:
        self._positive, self._negative = positive, negative

    def ahead(self, targets: Tensor, weights: Tensor) -> None:
        """Turn them into c and f."""
        share = targets.mul_(weights)
        if self._positive is not None or self._negative is not None:
            rest = weights.sub_(share)
            if self._positive is not None:
                share.mul_(self._positive)
            if self._negative is not None:
                rest.mul_(self._negative)
            rest.add_(share)
        share.neg_()

    def into(self, out: Tensor, logits: Tensor, first: Tensor, second: Tensor, kept: Tensor) -> list[Call]:
        """What fills ``kept`` with p, and then ``out``."""
        if logits.numel() > GRAIN:  # more than one thread's, see `losses.sigmoid`
            p: list[Call] = [partial(torch.neg, logits, out=kept), kept.exp_, partial(kept.add_, 1), kept.reciprocal_]
        else:
            p = [partial(torch.sigmoid, logits, out=kept)]
        return [*p, partial(torch.addcmul, first, kept, second, out=out)]

    def cells(self, logits: Tensor, first: Tensor, second: Tensor, kept: Tensor) -> Tensor:
        """c min(z, 0) + (f + c) max(z, 0) - f log max(p, 1 - p): nothing cancels, and f + c is (1 - t) b."""
        cells = logits.clamp(max=0).mul_(first)
        cells.addcmul_(first.add_(second), logits.clamp_(min=0))
        tail = torch.maximum(kept, 1 - kept, out=kept).log_()  # to a rounding of 1
        return cells.addcmul_(second, tail, value=-1)


def _masked_bce(positives: Tensor, negatives: Tensor) -> Slope:
    return Weighted()


def _pos_weight(positives: Tensor, negatives: Tensor, cap: float) -> Slope:
    return Weighted(positive_weight(positives, negatives, cap))


def _ratio_exp(positives: Tensor, negatives: Tensor) -> Slope:
    return Weighted(*ratio_weights(positives, negatives))


def _class_balanced(positives: Tensor, negatives: Tensor, beta: float) -> Slope:
    return Weighted(*effective_weights(positives, negatives, beta))


def _fading(log_own: Tensor, log_other: Tensor, gamma: float) -> Tensor:
    """d/dz of (1 - p)^gamma l+, of which ``log_own`` is log p and ``log_other`` log(1 - p).

    It is (1 - p)^gamma (gamma p log p - (1 - p)); with the logs exchanged, minus the derivative for a negative.
    """
    return torch.exp(gamma * log_other) * (gamma * log_own.exp() * log_own - log_other.exp())


def _focal(positives: Tensor, negatives: Tensor, gamma: float, alpha: float | None) -> Function:
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def slope(logits: Tensor, targets: Tensor) -> Tensor:
        log_p, log_n = logs(logits)
        of_negative = _fading(log_n, log_p, gamma).mul_(negative).neg_()
        return torch.lerp(of_negative, _fading(log_p, log_n, gamma).mul_(positive), targets)

    return slope


def _asymmetric(positives: Tensor, negatives: Tensor, gamma_neg: float, gamma_pos: float, clip: float) -> Function:
    def slope(logits: Tensor, targets: Tensor) -> Tensor:
        log_p, log_n = logs(logits)
        p = log_p.exp()
        log_rest = shifted_log(log_n, clip)
        q = (p - clip).clamp(min=torch.finfo(p.dtype).tiny)
        # q^gamma (1 / (1 - q) - gamma log(1 - q) / q) dq/dz
        of_negative = power(q, gamma_neg) * (torch.exp(-log_rest) - gamma_neg * log_rest / q) * (p * log_n.exp())
        of_negative = of_negative.masked_fill_(p <= clip, 0.0)
        return torch.lerp(of_negative, _fading(log_p, log_n, gamma_pos), targets)

    return slope


def _hill(positives: Tensor, negatives: Tensor, lam: float, margin: float) -> Function:
    def slope(logits: Tensor, targets: Tensor) -> Tensor:
        log_s, log_rest = logs(logits - margin)
        p = sigmoid(logits)
        of_negative = (2 * lam - 3 * p) * p.square() * (1 - p)
        return torch.lerp(of_negative, _fading(log_s, log_rest, 2.0), targets)

    return slope


SLOPES: dict[str, Callable[..., Slope | Function]] = {
    "masked_bce": _masked_bce,
    "pos_weight": _pos_weight,
    "ratio_exp": _ratio_exp,
    "class_balanced": _class_balanced,
    "focal": _focal,
    "asymmetric": _asymmetric,
    "hill": _hill,
}


def slope_of(name: str, loss: Function, positives: Tensor, negatives: Tensor, options: dict[str, Any]) -> Slope:
    """The derivative of a loss in SLOPES.

    Args:
        name: of the loss.
        loss: with counts and options bound.
        positives: n1, [S, 1, A].
        negatives: n0.
        options: all of them.
    """
    found = SLOPES[name](positives.transpose(-2, -1), negatives.transpose(-2, -1), **options)
    return found if isinstance(found, Slope) else General(loss, found)
