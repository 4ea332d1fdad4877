"""The contract of missing-label policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aimonk_bench.backbones.threads import torch_threads
from aimonk_bench.data.labels import Labels
from aimonk_bench.testing.subject import Subject, unchanged
from aimonk_bench.training.entries import declared, takes
from aimonk_bench.training.losses import masked_bce
from aimonk_bench.training.missing import Filled

SHAPE = (2, 9, 3)  # H, B, A
EPOCHS = (1, 2, 200)
POSITIVES = torch.tensor([[[5.0, 2, 0]], [[1, 4, 6]]], dtype=torch.float64)
NEGATIVES = torch.tensor([[[1.0, 3, 0]], [[3, 4, 1]]], dtype=torch.float64)
PARTS = ("targets", "weights", "override")


@torch_threads(1)
def check_missing(policy: Callable[..., Filled], **options: Any) -> None:
    """Check a missing-label policy.

    Targets and weights have the shape and the precision of the labels, targets lie between 0 and 1, weights are at
    least 0 and have no gradient. Where a label is observed, the target is the label and the weight is 1. A target that
    is not observed is never read. What the policy declares (`labels_only`, `soft_targets`, `overrides`) is what it
    does. No head depends on another. All is finite for logits up to 1e4.

    Args:
        policy: (labels, logits, epoch, ..., *, options) -> (targets, weights, override or None).
        options: those that differ from the defaults, and those without a default.

    Raises:
        AssertionError: what is violated, in a sentence.
    """
    subject = Subject.of(policy, "MISSING", options)
    case = _Case.draw()
    for epoch in EPOCHS:
        _check_filled(subject, case, epoch)
    _check_declarations(subject, case)
    _check_heads(subject, case)
    _check_far_out(subject)


class _Case:
    """Labels, logits and what a policy may ask for, [H, B, A]."""

    def __init__(self, logits: Tensor, labels: Labels, teacher: Tensor, heads: int | slice = slice(None)) -> None:
        self.logits, self.labels, self.teacher, self._heads = logits, labels, teacher, heads

    @classmethod
    def draw(cls, dtype: torch.dtype = torch.float64) -> _Case:
        rng = torch.Generator().manual_seed(0)
        logits = torch.randn(SHAPE, generator=rng, dtype=torch.float64)
        targets, observed = torch.rand(SHAPE, generator=rng) < 0.5, torch.rand(SHAPE, generator=rng) < 0.6
        teacher = torch.rand(SHAPE, generator=rng, dtype=torch.float64)
        return cls(logits.to(dtype), Labels(targets.to(dtype), observed), teacher.to(dtype))

    def with_logits(self, logits: Tensor) -> _Case:
        return _Case(logits, self.labels, self.teacher, self._heads)

    def with_labels(self, targets: Tensor, observed: Tensor | None = None) -> _Case:
        observed = self.labels.observed if observed is None else observed
        return _Case(self.logits, Labels(targets, observed), self.teacher, self._heads)

    def head(self, head: int) -> _Case:
        labels = Labels(self.labels.targets[head], self.labels.observed[head])
        return _Case(self.logits[head], labels, self.teacher[head], head)

    def fill(self, subject: Subject, epoch: int = 2, *, logits: bool = True, when: str = "") -> Filled:
        """What the policy makes of the labels."""
        as_negatives = torch.where(self.labels.observed, self.labels.targets, 0.0)
        function = subject.with_data(
            positives=POSITIVES[self._heads].to(self.labels.targets.dtype),
            negatives=NEGATIVES[self._heads].to(self.labels.targets.dtype),
            negative_loss=masked_bce(self.logits, as_negatives).detach(),
            teacher=self.teacher,
        )
        filled = subject.call(function, self.labels, self.logits if logits else None, epoch, when=when)
        actual = f"a {type(filled).__name__}" + (f" of {len(filled)}" if isinstance(filled, tuple) else "")
        is_triple = isinstance(filled, tuple) and len(filled) == 3
        subject.require(is_triple, f"found {actual}, expected (targets, weights, override or None)")
        result: Filled = filled
        return result


def _check_filled(subject: Subject, case: _Case, epoch: int) -> None:
    labels, at = case.labels, f"at epoch {epoch}"
    is_unchanged = unchanged(labels.targets, case.logits)
    clean = case.with_labels(labels.targets.masked_fill(~labels.observed, 0.0))
    filled = clean.fill(subject, epoch, when=at)
    for name, value in zip(PARTS, filled, strict=True):
        if name != "override" or value is not None:
            tensor = subject.require_tensor(value, SHAPE, torch.float64, f"{name} {at}")
            subject.require(tensor.isfinite().all(), f"some {name} are not finite {at}")
    targets, weights, _ = filled
    observed = labels.observed
    subject.require(torch.equal(targets[observed], labels.targets[observed]), f"it changes observed labels {at}")
    subject.require((weights[observed] == 1).all(), f"the weight of an observed label is not 1 {at}")
    subject.require(((targets >= 0) & (targets <= 1)).all(), f"a target is outside 0 to 1 {at}")
    subject.require((weights >= 0).all(), f"a weight is below 0 {at}")
    subject.require(is_unchanged(), "it changes its arguments in place")
    for junk in (torch.nan, torch.inf, -1.0):
        again = case.with_labels(labels.targets.masked_fill(~observed, junk)).fill(subject, epoch)
        same = all(_equal(one, other) for one, other in zip(filled, again, strict=True))
        subject.require(same, f"it reads targets that are not observed: {junk} there changes the result {at}")
    everything = torch.ones_like(observed)
    complete = case.with_labels(labels.targets, everything).fill(subject, epoch, when="all labels are observed")
    plain = torch.equal(complete[0], labels.targets) and bool((complete[1] == 1).all())
    subject.require(plain, f"it changes labels where all are observed {at}")
    if takes(subject.function, "teacher"):
        hidden = _Case(clean.logits, clean.labels, case.teacher.masked_fill(observed, torch.nan))
        same = all(_equal(one, other) for one, other in zip(filled, hidden.fill(subject, epoch), strict=True))
        subject.require(same, "it reads the teacher where a label is observed")


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other is None or (one is not None and other is not None and torch.equal(one, other))


def _check_declarations(subject: Subject, case: _Case) -> None:
    policy = subject.function
    fills = [case.with_logits(size * case.logits).fill(subject, epoch) for size in (1, 3) for epoch in EPOCHS]
    hard = all(bool(((targets == 0) | (targets == 1)).all()) for targets, *_ in fills)
    sentence = "it fills in targets between 0 and 1: declare `@declares(soft_targets=True)`"
    subject.require(declared(policy, "soft_targets", False) or hard, sentence)
    for _, _, override in fills:
        says, does = bool(declared(policy, "overrides", False)), override is not None
        sentence = f"it declares overrides={says}, and its third value is {'a tensor' if does else 'None'}"
        subject.require(says == does, f"{sentence}: declare `@declares(overrides={does})`")
    if declared(policy, "labels_only"):
        alone = case.fill(subject, 1, logits=False, when="logits None, as it declares labels_only")
        for fill in fills:
            sentence = "it declares labels_only, and its result depends on logits or epoch"
            subject.require(all(map(torch.equal, alone[:2], fill[:2])), sentence)
    leaf = case.logits.clone().requires_grad_()
    targets, weights, _ = case.with_logits(leaf).fill(subject, 200)
    for name, value in (("targets", targets), ("weights", weights)):
        subject.require(not value.requires_grad, f"its {name} have a gradient: compute them from logits.detach()")


def _check_heads(subject: Subject, case: _Case) -> None:
    logits = case.logits.clone()
    logits[1] *= 9  # its losses dwarf those of the other head
    case = case.with_logits(logits)
    together = case.fill(subject, 200)
    for head in range(SHAPE[0]):
        single = case.head(head).fill(subject, 200, when="a single head without the axis H")
        for name, one, other in zip(PARTS, single, together, strict=True):
            if one is not None and other is not None:
                sentence = f"the {name} of a head depend on other heads"
                subject.require_close(one, other[head], sentence, rtol=1e-14, atol=0)


def _check_far_out(subject: Subject) -> None:
    case = _Case.draw(torch.float32)
    for size in (50.0, 300.0, 1e4):
        for sign in (1, -1):
            for dtype in (torch.float32, torch.bfloat16):
                far = (sign * size * torch.linspace(-1, 1, 27)).view(1, 9, 3).expand(SHAPE).to(dtype)
                leaf = far.clone().requires_grad_()
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    filled = case.with_logits(leaf).fill(subject, 200, when=f"logits in {dtype}")
                for name, value in zip(PARTS, filled, strict=True):
                    if value is not None:
                        what = f"{name} for logits in {dtype}"
                        tensor = subject.require_tensor(value, SHAPE, torch.float32, what)
                        subject.require(tensor.isfinite().all(), f"some {what} of {size:g} are not finite")
                if filled[2] is not None and filled[2].requires_grad:
                    (gradient,) = torch.autograd.grad(filled[2].sum(), leaf)
                    sentence = f"the gradient of its override is not finite for logits of {size:g}"
                    subject.require(gradient.isfinite().all(), sentence)
