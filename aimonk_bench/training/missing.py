"""Missing-label policies: what a cell without a label becomes.

``(loss, logits, targets, observed, epoch, **options) -> (cells, weights)``, all [S, B, A]; epochs count from 1. A
policy fills the targets first and then calls the loss itself, so nothing under ``observed == False`` reaches any
arithmetic (NaN times 0 is NaN). At observed cells every policy gives (loss(logits, targets), 1). What it decides by a
head's own outputs has no gradient, and a ranking never leaves the head. If the loss is called more than once, the
last call is the one on the filled targets.

==================  =====================================================================  =================
name                what a cell without a label becomes                                    source
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

A policy that wants more names it: ``positives`` and ``negatives`` [S, 1, A] as losses do (`losses.bind`), or
``teacher`` [S, B, A], the probabilities that heads trained with ignore give to these cells; `wants_teacher` says so,
and whoever trains hands them in at every step.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

from annotated_types import Ge, Le

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.lazy import Lazy
from aimonk_bench.registry import Spec
from aimonk_bench.training.losses import LOSSES, SET_LOSSES, Loss, bind, logs, masked_bce, reduce, sigmoid
from aimonk_bench.training.slopes import SLOPES, Slope, slope_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")

Policy: TypeAlias = "Callable[..., tuple[Tensor, Tensor]]"
AHEAD = ("ignore", "negative", "weak_negative", "positive", "smooth_negative")  # ask neither logits nor epoch


def _fill(
    loss: Loss, logits: Tensor, targets: Tensor, observed: Tensor, value: float | Tensor, weight: float
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


def large_loss_reject(
    loss: Loss, logits: Tensor, targets: Tensor, observed: Tensor, epoch: int, *, delta: Annotated[float, Ge(0)] = 0.2
) -> tuple[Tensor, Tensor]:
    """A missing label is a negative, dropped if its loss is among the largest of the batch (arXiv 2206.03740, LL-R).

    delta is in percent of the batch's missing cells and per epoch after the first; see `_largest`.
    """
    cells, weights = _fill(loss, logits, targets, observed, 0.0, 1.0)
    return cells, weights.masked_fill_(_largest(cells, ~observed, (epoch - 1) * delta / 100), 0.0)


def large_loss_correct(
    loss: Loss, logits: Tensor, targets: Tensor, observed: Tensor, epoch: int, *, delta: Annotated[float, Ge(0)] = 0.2
) -> tuple[Tensor, Tensor]:
    """A missing label is a negative, a positive if its loss is among the batch's largest (arXiv 2206.03740, LL-Ct).

    delta is in percent of the batch's missing cells and per epoch after the first; see `_largest`.
    """
    cells, _ = _fill(loss, logits.detach(), targets, observed, 0.0, 1.0)
    flipped = _largest(cells, ~observed, (epoch - 1) * delta / 100)
    return _fill(loss, logits, targets, observed, flipped.to(targets.dtype), 1.0)


def _largest(cells: Tensor, candidates: Tensor, share: float) -> Tensor:
    """The ceil(share * n) largest of each head's n candidate cells: [.., B, A] bool.

    Rounded up as in the authors' code, or small batches would never have one. Of equal cells the earlier are taken, so
    that their number is fixed: the cells of a picture drawn twice into a batch may be equal or differ by a rounding.
    """
    values = torch.where(candidates, cells, -torch.inf).flatten(-2)
    rank = values.argsort(stable=True, dim=-1, descending=True).argsort(-1).view(cells.shape)
    # a hair less, so that a share of a whole number of cells is not rounded up to one more
    number = candidates.sum((-2, -1), keepdim=True) * (min(share, 1.0) * (1 - 1e-6))
    return rank < number


def splc(
    loss: Loss,
    logits: Tensor,
    targets: Tensor,
    observed: Tensor,
    epoch: int,
    *,
    tau: Annotated[float, Ge(0), Le(1)] = 0.6,
) -> tuple[Tensor, Tensor]:
    """A missing label is a negative, from the second epoch a positive where p > tau (arXiv 2112.07368)."""
    flipped = (sigmoid(logits.detach()) > tau) & (epoch > 1)
    return _fill(loss, logits, targets, observed, flipped.to(targets.dtype), 1.0)


def selective(
    loss: Loss,
    logits: Tensor,
    targets: Tensor,
    observed: Tensor,
    epoch: int,
    positives: Tensor,
    negatives: Tensor,
    *,
    gamma_u: Annotated[float, Ge(0)] = 4.0,
    prior: Annotated[float, Ge(0), Le(1)] = 0.5,
    likely: Annotated[float, Ge(0), Le(1)] = 0.5,
) -> tuple[Tensor, Tensor]:
    """A missing label is an easy-going negative, ignored where a positive is likely (arXiv 2110.10955).

    The cell is p^gamma_u (-log(1 - p)), whatever the loss of the others is. It weighs 0 where n1 / (n1 + n0) > prior
    (the observed share in place of the paper's average prediction of a first model) or p > likely. The paper ignores
    the 5 likeliest missing labels a picture among hundreds of attributes, which would be all of a handful.
    """
    cells, weights = _fill(loss, logits, targets, observed, 0.0, 1.0)
    log_p, log_n = logs(logits)
    own = -torch.exp(gamma_u * log_p) * log_n
    common = positives > prior * (positives + negatives)
    ignored = ~observed & (common | (sigmoid(logits.detach()) > likely))
    return torch.where(observed, cells, own), weights.masked_fill_(ignored, 0.0)


def entropy(
    loss: Loss,
    logits: Tensor,
    targets: Tensor,
    observed: Tensor,
    epoch: int,
    *,
    alpha: Annotated[float, Ge(0)] = 0.1,
) -> tuple[Tensor, Tensor]:
    """A missing label rewards doubt: -alpha H(p), H = -p log p - (1-p) log(1-p) (arXiv 2203.16219)."""
    cells, weights = _fill(loss, logits, targets, observed, 0.0, 1.0)
    log_p, log_n = logs(logits)
    doubt = log_p.exp() * log_p + log_n.exp() * log_n
    return torch.where(observed, cells, alpha * doubt), weights


def self_trained(
    loss: Loss, logits: Tensor, targets: Tensor, observed: Tensor, epoch: int, teacher: Tensor
) -> tuple[Tensor, Tensor]:
    """A missing label is what heads trained with ignore predict, as a soft target (U-SelfTrained, arXiv 1901.07031).

    Two stages: the first one costs as much training again.
    """
    return _fill(loss, logits, targets, observed, teacher.to(targets.dtype), 1.0)


def wants_teacher(spec: Spec) -> bool:
    """Whether the policy takes ``teacher``, and training has two stages."""
    return "teacher" in inspect.signature(MISSING[spec.name]).parameters


def filled(
    policy: Policy, logits: Tensor, targets: Tensor, observed: Tensor, epoch: int, **teacher: Tensor
) -> tuple[Tensor, Tensor]:
    """What a policy makes of the labels, for a set loss: (targets, weights), both [S, B, A].

    The policy is given masked binary cross-entropy, by which it ranks if it ranks, and the targets of its last call
    are kept. It must say all by targets and weights (`check_missing`).
    """
    seen = targets

    def record(logits: Tensor, targets: Tensor) -> Tensor:
        nonlocal seen
        seen = targets
        return masked_bce(logits, targets)

    with torch.no_grad():
        _, weights = policy(record, logits, targets, observed, epoch, **teacher)
    return seen, weights


@dataclass(frozen=True, eq=False)
class Objective:
    """What heads minimise: (logits, targets, observed, epoch, **teacher) -> [S], arguments [S, B, A].

    The mean over a head's own weights for an elementwise loss, the set loss of the filled targets otherwise; 0 where
    nothing weighs. All of it works for a single head without the leading S.

    Attributes:
        loss: of cells, or of a set, with counts and options bound.
        policy: with ``teacher`` as a keyword of every call if it wants one.
        of_set: whether it is a set loss.
        slope: the derivative of a cell by its logit, if the objective is `closed`.
    """

    loss: Callable[..., Tensor]
    policy: Policy
    of_set: bool
    slope: Slope | None

    def __call__(self, logits: Tensor, targets: Tensor, observed: Tensor, epoch: int, **teacher: Tensor) -> Tensor:
        """The loss of each head."""
        if self.of_set:
            return self.loss(logits, *filled(self.policy, logits, targets, observed, epoch, **teacher))
        return reduce(*self.policy(self.loss, logits, targets, observed, epoch, **teacher))

    def fill(self, targets: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """(targets, weights) [..., A] of a policy that fills `AHEAD`, once for all."""
        seen = targets

        def record(logits: Tensor, targets: Tensor) -> Tensor:
            nonlocal seen
            seen = targets
            return targets

        _, weights = self.policy(record, targets, targets, observed, 1)
        return seen, weights


def closed(loss: Spec, missing: Spec) -> bool:
    """Whether the derivative by the logits has a closed form: the loss has one, and the policy fills `AHEAD`."""
    return loss.name in SLOPES and missing.name in AHEAD


def objective(
    loss: Spec, missing: Spec, positives: Tensor, negatives: Tensor, own: Mapping[str, Tensor] | None = None
) -> Objective:
    """The objective of a loss and a missing-label policy.

    Args:
        loss: an entry of LOSSES or SET_LOSSES.
        missing: an entry of MISSING.
        positives: [S, 1, A] observed positives among each head's training rows.
        negatives: [S, 1, A] observed negatives.
        own: options of the loss of which every head has its own, each [S, 1, 1].
    """
    function = registry.build("loss", LOSSES | SET_LOSSES, loss)
    options = function.keywords | dict(own or {})
    bound = functools.partial(bind(function, positives, negatives), **options)
    return Objective(
        loss=bound,
        policy=bind(registry.build("missing-label policy", MISSING, missing), positives, negatives),
        of_set=loss.name in SET_LOSSES,
        slope=slope_of(loss.name, bound, positives, negatives, options) if closed(loss, missing) else None,
    )


def _weak_weight(w: float | None, attributes: int) -> float:
    if w is not None:
        return w
    if attributes == 1:
        raise UserError("missing: weak_negative weighs 1/(A-1), which one attribute does not define: give w")
    return 1 / (attributes - 1)


OWN_CELLS = {"selective": "negative", "entropy": "ignore"}  # cells that are no loss of a target -> what to use instead
SOFT_TARGETS = {"smooth_negative": "negative", "self_trained": "splc"}  # the same for targets between 0 and 1
HARD_LOSSES = ("two_way", "zlpr")  # set losses defined for targets 0 and 1 only


def check_missing(missing: Spec, loss: Spec, attributes: int) -> None:
    """Refuse, before anything is read, a policy that cannot be applied to this loss or this many attributes.

    Raises:
        UserError: weak_negative without w and with a single attribute; a policy that gives missing labels a loss of
            their own with a set loss; one that fills soft targets with a set loss that does not define them.
    """
    if missing.name == "weak_negative":
        _weak_weight(registry.build("missing-label policy", MISSING, missing).keywords["w"], attributes)
    if missing.name in OWN_CELLS and loss.name in SET_LOSSES:
        reason, instead = "gives missing labels a loss of their own, which the set loss", OWN_CELLS[missing.name]
        other = "an elementwise loss"
    elif missing.name in SOFT_TARGETS and loss.name in HARD_LOSSES:
        reason, instead = "fills in soft targets, which the set loss", SOFT_TARGETS[missing.name]
        other = "sigmoid_f1 or an elementwise loss"
    else:
        return
    raise UserError(
        f"missing: {missing.name} {reason} {loss.name} has no place for: use missing: {instead}, or {other} such as "
        f"masked_bce (in a suite: exclude {{loss: {loss.name}, missing: {missing.name}}})"
    )


def check_accumulation(missing: Spec, loss: Spec, parts: int) -> None:
    """Refuse, before anything is read, to cut a batch in parts where the loss of a part asks the rest of the batch.

    Raises:
        UserError: with a set loss, or a policy whose weights are not known before the logits.
    """
    if parts > 1 and (loss.name in SET_LOSSES or missing.name not in AHEAD):
        raise UserError(
            f"train.accumulate: found {parts}, expected 1 for {loss.name} + {missing.name}; a batch can be cut for "
            f"elementwise losses with missing: {', '.join(AHEAD)}"
        )


MISSING: dict[str, Policy] = {
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
