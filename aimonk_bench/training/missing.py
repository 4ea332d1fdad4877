"""Missing-label policies: what a cell without a label becomes.

``(loss, logits, targets, observed, epoch, **options) -> (cells, weights)``, all [S, B, A]; epochs count from 1. A
policy fills the targets first and then calls the loss itself, so nothing under ``observed == False`` reaches any
arithmetic (NaN times 0 is NaN). At observed cells every policy gives (loss(logits, targets), 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.registry import Spec
from aimonk_bench.training.losses import Loss

Policy = Callable[[Loss, Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]


def _fill(
    loss: Loss, logits: Tensor, targets: Tensor, observed: Tensor, value: float, weight: float
) -> tuple[Tensor, Tensor]:
    """Cells without a label get target ``value`` and this weight."""
    cells = loss(logits, torch.where(observed, targets, value))
    return cells, torch.full_like(cells, weight).masked_fill_(observed, 1.0)


def ignore(loss: Loss, logits: Tensor, targets: Tensor, observed: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
    """A missing label weighs nothing (U-Ignore, arXiv 1901.07031)."""
    return _fill(loss, logits, targets, observed, 0.0, 0.0)


def negative(loss: Loss, logits: Tensor, targets: Tensor, observed: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
    """A missing label is taken as negative."""
    return _fill(loss, logits, targets, observed, 0.0, 1.0)


def weak_negative(
    loss: Loss,
    logits: Tensor,
    targets: Tensor,
    observed: Tensor,
    epoch: int,
    *,
    w: Annotated[float, Ge(0), Le(1)] | None = None,
) -> tuple[Tensor, Tensor]:
    """A missing label is a negative of weight w, by default 1/(A-1) (arXiv 2106.09708)."""
    return _fill(loss, logits, targets, observed, 0.0, _weak_weight(w, logits.shape[-1]))


def positive(loss: Loss, logits: Tensor, targets: Tensor, observed: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
    """A missing label is taken as positive (U-Ones, arXiv 1901.07031)."""
    return _fill(loss, logits, targets, observed, 1.0, 1.0)


def smooth_negative(
    loss: Loss,
    logits: Tensor,
    targets: Tensor,
    observed: Tensor,
    epoch: int,
    *,
    eps: Annotated[float, Ge(0), Le(1)] = 0.1,
) -> tuple[Tensor, Tensor]:
    """A missing label is a smoothed negative, target eps (label smoothing)."""
    return _fill(loss, logits, targets, observed, eps, 1.0)


def _weak_weight(w: float | None, attributes: int) -> float:
    if w is not None:
        return w
    if attributes == 1:
        raise UserError("missing: weak_negative weighs 1/(A-1), which one attribute does not define: give w")
    return 1 / (attributes - 1)


def check_missing(spec: Spec, attributes: int) -> None:
    """Refuse, before anything is read, a policy that cannot be applied to this many attributes.

    Raises:
        UserError: weak_negative without w and with a single attribute.
    """
    if spec.name == "weak_negative":
        _weak_weight(registry.build("missing-label policy", MISSING, spec).keywords["w"], attributes)


MISSING: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "ignore": ignore,
    "negative": negative,
    "weak_negative": weak_negative,
    "positive": positive,
    "smooth_negative": smooth_negative,
}
