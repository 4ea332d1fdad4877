"""The objective of training: a loss, a missing-label policy and a weighted mean per head."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aimonk_bench import registry
from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.registry import Spec
from aimonk_bench.training.entries import bind, declared, takes
from aimonk_bench.training.lazy_torch import Tensor, torch
from aimonk_bench.training.losses import GRADIENTS, LOSSES, masked_bce
from aimonk_bench.training.missing import MISSING, Filled
from aimonk_bench.training.set_losses import SET_LOSSES, is_set_loss


def normalise(weights: Tensor) -> Tensor:
    """Weights [H, B, A] divided by their sum over each head, which then is 1; 0 where all weights of a head are 0."""
    return weights / weights.sum((-2, -1), keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


def reduce(values: Tensor, weights: Tensor) -> Tensor:
    """sum(values x weights) / sum(weights) of each head, 0 where all weights are 0: [H, B, A], [H, B, A] -> [H]."""
    return (values * normalise(weights)).sum((-2, -1))


class Objective:
    """The loss of each head on a batch: (logits, labels, epoch, teacher) -> [H].

    Of an elementwise loss the weighted mean, of a set loss the value for the filled targets; 0 where all weights are 0.
    All arrays may come without the leading H: then it is the objective of a single head.

    Args:
        loss: an entry of LOSSES or SET_LOSSES.
        missing: an entry of MISSING.
        positives: [H, 1, A] observed positives among each head's training rows.
        negatives: [H, 1, A] observed negatives.
        head_options: options of the loss that have a value per head, each [H, 1, 1].

    Attributes:
        loss: (logits, targets) -> [H, B, A], or (logits, targets, weights) -> [H] for a set loss.
        gradient: (logits, targets) -> [H, B, A], the derivative of the loss; None where torch differentiates.
        labels_only: whether the policy reads neither logits nor the epoch.
        is_set_loss: whether the loss is one.
    """

    def __init__(
        self,
        loss: Spec,
        missing: Spec,
        positives: Tensor,
        negatives: Tensor,
        head_options: Mapping[str, Tensor] | None = None,
    ) -> None:
        counts = {"positives": positives, "negatives": negatives}
        built = registry.build("loss", LOSSES | SET_LOSSES, loss)
        options = {**built.keywords, **(head_options or {})}
        policy = registry.entry(MISSING, missing)
        self.loss: Callable[..., Tensor] = bind(functools.partial(built.func, **options), **counts)
        self.is_set_loss = is_set_loss(loss)
        self.labels_only = declared(policy, "labels_only", False)
        self._policy = bind(registry.build("missing-label policy", MISSING, missing), **counts)
        self._wants_teacher, self._ranks_losses = takes(policy, "teacher"), takes(policy, "negative_loss")
        gradient = None if declared(policy, "overrides") else GRADIENTS.get(built.func)
        self.gradient: Callable[..., Tensor] | None = gradient and bind(
            functools.partial(gradient, **options), **counts
        )
        if loss.origin is not None:
            self.loss = _checked(self.loss, f"loss {loss.name}", -2 if self.is_set_loss else None)
            self.gradient = self.gradient and _checked(self.gradient, f"derivative of loss {loss.name}")
        self._checked_policy = missing.name if missing.origin is not None else None

    def fill(self, labels: Labels, logits: Tensor | None, epoch: int = 1, teacher: Tensor | None = None) -> Filled:
        """The labels as the policy fills them: (targets, weights, override or None), each [H, B, A].

        ``logits`` may be None for a policy that declares ``labels_only``.
        """
        needs: dict[str, Any] = {"teacher": teacher} if self._wants_teacher else {}
        if self._ranks_losses and logits is not None:
            loss = masked_bce if self.is_set_loss else self.loss  # a set loss has no values to rank
            with torch.no_grad():
                needs["negative_loss"] = loss(logits, torch.where(labels.observed, labels.targets, 0.0))
        filled: Filled = self._policy(labels, logits, epoch, **needs)
        if self._checked_policy is not None:
            _check_filled(self._checked_policy, filled, labels)
        return filled

    def __call__(self, logits: Tensor, labels: Labels, epoch: int = 1, teacher: Tensor | None = None) -> Tensor:
        """The loss of each head, [H], which torch can differentiate."""
        targets, weights, override = self.fill(labels, logits, epoch, teacher)
        if self.is_set_loss:
            value: Tensor = self.loss(logits, targets, weights)
            return value
        values = self.loss(logits, targets)
        return reduce(values if override is None else torch.where(labels.observed, values, override), weights)

    def value_and_grad(
        self, logits: Tensor, labels: Labels, epoch: int, teacher: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss of each head [H] and its derivative by the logits [H, B, A], by formula where the loss has one."""
        if self.gradient is None:
            with torch.enable_grad():
                leaf = logits.detach().requires_grad_()
                value = self(leaf, labels, epoch, teacher)
                (gradient,) = torch.autograd.grad(value.sum(), leaf)
            return value.detach(), gradient
        targets, weights, _ = self.fill(labels, logits, epoch, teacher)
        normalised = normalise(weights)
        return (self.loss(logits, targets) * normalised).sum((-2, -1)), self.gradient(logits, targets) * normalised


def _checked(function: Callable[..., Tensor], what: str, end: int | None = None) -> Callable[..., Tensor]:
    """A function of a plug-in: data in the shape of the logits, and a result in their shape up to the axis ``end``.

    Another shape of the result would be broadcast without a message.
    """

    def call(logits: Tensor, *data: Tensor) -> Tensor:
        value = function(logits, *(one.expand_as(logits) for one in data))  # heads share targets in a batch
        _check_shape(what, value, logits.shape[:end])
        return value

    return call


def _check_shape(what: str, value: object, shape: Sequence[int]) -> None:
    actual = f"shape {list(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
    if actual != f"shape {list(shape)}":
        raise RunFailed(f"{what}: found {actual}, expected a tensor of shape {list(shape)}")


def _check_filled(policy: str, filled: object, labels: Labels) -> None:
    """Refuse what a policy of a plug-in returns if it is not (targets, weights, override or None) like the labels."""
    if not isinstance(filled, tuple) or len(filled) != 3:
        raise RunFailed(f"missing {policy}: found a {type(filled).__name__}, expected (targets, weights, override)")
    for part, value in zip(("targets", "weights", "override"), filled, strict=True):
        if part != "override" or value is not None:
            _check_shape(f"{part} of missing {policy}", value, labels.shape)


class BlockLoss:
    """The losses of T' consecutive batches, and the derivative of each batch's loss by its logits.

    If the loss has a formula for its derivative and the policy reads labels only, all labels are filled at once and all
    losses are computed at once; a step then computes the derivative alone.

    Args:
        objective: of the heads.
        labels: [T', H, B, A].
        epoch: from 1.
        teacher: [T', H, B, A] probabilities, or None.
    """

    def __init__(self, objective: Objective, labels: Labels, epoch: int, teacher: Tensor | None) -> None:
        self._objective, self._labels, self._epoch, self._teacher = objective, labels, epoch, teacher
        self._values: list[Tensor] = []
        self._logits: list[Tensor] = []
        self._gradient = objective.gradient if objective.labels_only else None
        if self._gradient is not None:
            self._targets, weights, _ = objective.fill(labels, None, epoch, teacher)
            self._normalised = normalise(weights)

    def grad(self, step: int, logits: Tensor) -> Tensor:
        """The derivative of the losses of a batch by its logits, [H, B, A]; the batches come in order."""
        if self._gradient is not None:
            self._logits.append(logits)
            gradient: Tensor = self._gradient(logits, self._targets[step]) * self._normalised[step]
            return gradient
        labels = Labels(self._labels.targets[step], self._labels.observed[step])
        teacher = None if self._teacher is None else self._teacher[step]
        value, gradient = self._objective.value_and_grad(logits, labels, self._epoch, teacher)
        self._values.append(value)
        return gradient

    def values(self) -> Tensor:
        """The losses of all batches, each before its step: [T', H]."""
        if self._gradient is None:
            return torch.stack(self._values)
        values: Tensor = self._objective.loss(torch.stack(self._logits), self._targets)
        return (values * self._normalised).sum((-2, -1))


def _conflict(loss: Spec, missing: Spec) -> str | None:
    """Why a loss cannot be combined with a policy, as the predicate of a message; None if it can."""
    if not is_set_loss(loss):
        return None
    policy = registry.entry(MISSING, missing)
    if declared(policy, "overrides"):
        return "gives missing labels a loss of their own"
    if declared(policy, "soft_targets") and declared(registry.entry(SET_LOSSES, loss), "hard_targets"):
        return "fills in soft targets"
    return None


def check_combination(loss: Spec, missing: Spec) -> None:
    """Refuse a policy that the loss cannot be combined with.

    Raises:
        UserError: a set loss with a policy that overrides the loss of missing labels; a set loss for hard targets with
            a policy that fills soft ones.
    """
    reason = _conflict(loss, missing)
    if reason is not None:
        policies = ", ".join(name for name in MISSING if _conflict(loss, Spec(name)) is None)
        losses = ", ".join(name for name in SET_LOSSES if _conflict(Spec(name), missing) is None)
        raise UserError(
            f"missing: {missing.name} {reason}, which the set loss {loss.name} cannot use: "
            f"use missing: {policies}; or an elementwise loss such as masked_bce{losses and ', or ' + losses} "
            f"(in a suite: exclude {{loss: {loss.name}, missing: {missing.name}}})"
        )


def check_accumulation(loss: Spec, missing: Spec, parts: int) -> None:
    """Refuse to cut a batch into parts where the loss of a part depends on the rest of the batch.

    Raises:
        UserError: with a set loss, or with a policy that overrides the loss or reads more than the labels.
    """
    if parts > 1 and (is_set_loss(loss) or not _of_labels_alone(missing)):
        fitting = ", ".join(name for name in MISSING if _of_labels_alone(Spec(name)))
        raise UserError(
            f"train.accumulate: found {parts}, expected 1 for {loss.name} + {missing.name}; a batch can be cut for "
            f"elementwise losses with missing: {fitting}"
        )


def _of_labels_alone(missing: Spec) -> bool:
    policy = registry.entry(MISSING, missing)
    return bool(declared(policy, "labels_only")) and not declared(policy, "overrides")
