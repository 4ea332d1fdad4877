"""The contracts of losses, of their derivatives, and of set losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aimonk_bench.backbones.threads import torch_threads
from aimonk_bench.testing.subject import Subject, unchanged
from aimonk_bench.training.entries import bind, declared
from aimonk_bench.training.losses import GRADIENTS

SHAPE = (3, 7, 4)  # H, B, A
POSITIVES = torch.tensor([[[90, 40, 3, 0]], [[50, 50, 1, 20]], [[7, 0, 30, 5]]])
NEGATIVES = torch.tensor([[[10, 60, 97, 30]], [[50, 2, 99, 0]], [[70, 0, 1, 5]]])
FAR = [0.0, 1.0, 20.0, 50.0, 88.0, 300.0, 1e4]
ROWS = [4, 1, 6]
FIX = "; compute with log-sigmoid (`aimonk_bench.training.losses.logs`) instead of log(p)"


def draw(dtype: torch.dtype = torch.float64, *, soft: bool = False) -> tuple[Tensor, Tensor]:
    """Logits and targets [H, B, A]."""
    rng = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(SHAPE, generator=rng, dtype=torch.float64)
    targets = torch.rand(SHAPE, generator=rng, dtype=torch.float64)
    return logits.to(dtype), (targets if soft else (targets < 0.5)).to(dtype)


def counts(dtype: torch.dtype = torch.float64, head: int | slice = slice(None)) -> dict[str, Tensor]:
    """What a loss with class weights gets; some counts are 0."""
    return {"positives": POSITIVES[head].to(dtype), "negatives": NEGATIVES[head].to(dtype)}


@torch_threads(1)
def check_loss(loss: Callable[..., Tensor], **options: Any) -> None:
    """Check an elementwise loss, and its derivative if `derivative_of` marks one.

    The values have the shape of the logits, in their precision, in float32 for half precision. They are finite with
    finite gradients for logits up to 1e4, soft targets and counts of 0. No value depends on another row of the batch or
    on another head. A right prediction costs less than a wrong one. Each numeric option may differ by head.

    Args:
        loss: (logits, targets, ..., *, options) -> [..., H, B, A].
        options: those that differ from the defaults, and those without a default.

    Raises:
        AssertionError: what is violated, in a sentence.
    """
    subject = Subject.of(loss, "LOSSES", options)
    _check_values(subject)
    _check_independence(subject)
    _check_far_out(subject)
    _check_direction(subject)
    _check_head_options(subject)
    if loss in GRADIENTS:
        _check_derivative(subject, GRADIENTS[loss])


def _values(subject: Subject, logits: Tensor, targets: Tensor, what: str = "values") -> Tensor:
    value = subject.call(subject.with_data(**counts(logits.dtype)), logits, targets, when=what)
    return subject.require_tensor(value, logits.shape, logits.dtype, what)


def _check_values(subject: Subject) -> None:
    for dtype in (torch.float64, torch.float32):
        for soft in (False, True):
            logits, targets = draw(dtype, soft=soft)
            is_unchanged = unchanged(logits, targets)
            values = _values(subject, logits, targets, f"values for {dtype}, one for each label, no mean")
            subject.require(
                values.isfinite().all(), f"some values are not finite for {'soft' if soft else 'hard'} targets"
            )
            subject.require(is_unchanged(), "it changes its arguments in place")
            subject.require(torch.equal(values, _values(subject, logits, targets)), "a second call gives other values")
    logits, targets = draw()
    loss = subject.with_data(**counts())
    holds = subject.call(
        lambda: torch.autograd.gradcheck(lambda z: loss(z, targets), logits.requires_grad_(), raise_exception=False)
    )
    subject.require(holds, "torch's gradient is not that of finite differences (a detached or rounded part?)")


def _check_independence(subject: Subject) -> None:
    logits, targets = draw()
    values = _values(subject, logits, targets)
    some = _values(subject, logits[:, ROWS], targets[:, ROWS])
    subject.require_close(some, values[:, ROWS], "a value depends on other rows of the batch: it is a set loss")
    stacked = _values(subject, torch.stack([logits, -logits]), torch.stack([targets, targets]), "values of two steps")
    subject.require_close(stacked[0], values, "a step before the heads changes values: count axes from the end")
    for head in range(SHAPE[0]):
        alone = subject.call(subject.with_data(**counts(head=head)), logits[head], targets[head], when="a single head")
        subject.require_close(alone, values[head], "a head gets other values in company than alone")


def _check_far_out(subject: Subject) -> None:
    sizes = torch.tensor(FAR)
    for dtype in (torch.float32, torch.bfloat16):
        for target in (0.0, 0.1, 1.0):
            logits = torch.cat([-sizes, sizes]).to(dtype)[None, :, None].expand(3, -1, 4).clone().requires_grad_()
            loss = subject.with_data(**counts(torch.float32))
            value = subject.call(loss, logits, torch.full_like(logits, target), when=f"logits in {dtype}")
            values = subject.require_tensor(value, logits.shape, torch.float32, f"values for logits in {dtype}")
            (gradient,) = torch.autograd.grad(values.sum(), logits)
            for what, result in (("value", values), ("gradient", gradient)):
                bad = logits[~result.isfinite()]
                subject.require(
                    not len(bad), f"the {what} is not finite at logit {_first(bad)} and target {target}{FIX}"
                )
    logits, targets = draw(torch.bfloat16)
    loss = subject.with_data(**counts(torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = subject.call(loss, logits, targets.float(), when="autocast")
    wanted = loss(logits.float(), targets.float())
    subject.require_close(values, wanted, "half precision costs digits: widen the logits first", rtol=1e-5, atol=1e-7)


def _first(values: Tensor) -> float:
    return values[0].item() if len(values) else 0.0


def _check_direction(subject: Subject) -> None:
    for target, right in ((1.0, 1), (0.0, -1)):
        logits = torch.full(SHAPE, 20.0 * right, dtype=torch.float64)
        targets = torch.full_like(logits, target)
        cheap, dear = (_values(subject, sign * logits, targets) for sign in (1, -1))
        subject.require((cheap < dear).all(), f"at target {target:g} a right prediction costs no less than a wrong one")


def _check_head_options(subject: Subject) -> None:
    options = subject.head_options(SHAPE[0])
    if not options:
        return
    logits, targets = draw()
    loss = bind(subject.function, **{**subject.options, **options, **counts()})
    names = ", ".join(options)
    sentence = f"an option may be a tensor [H, 1, 1] with a value for each head, as `tune` hands it over ({names})"
    values = subject.require_tensor(
        subject.call(loss, logits, targets, when=sentence), SHAPE, torch.float64, f"values; {sentence}"
    )
    for head in range(SHAPE[0]):
        of_head = {name: value[head].item() for name, value in options.items()}
        single = bind(subject.function, **{**subject.options, **of_head, **counts(head=head)})
        subject.require_close(values[head], single(logits[head], targets[head]), sentence)


def _check_derivative(subject: Subject, derivative: Callable[..., Tensor]) -> None:
    for options in (subject.options, {**subject.options, **subject.head_options(SHAPE[0])}):
        for soft in (False, True):
            logits, targets = draw(soft=soft)
            leaf = logits.clone().requires_grad_()
            value = bind(subject.function, **options, **counts())(leaf, targets)
            (wanted,) = torch.autograd.grad(value.sum(), leaf)
            gradient = subject.call(bind(derivative, **options, **counts()), logits, targets, when="its derivative")
            subject.require_tensor(gradient, SHAPE, torch.float64, "its derivative")
            subject.require_close(gradient, wanted, "its derivative is not that of torch", atol=1e-10)
    sizes = torch.tensor(FAR)
    logits = torch.cat([-sizes, sizes])[None, :, None].expand(3, -1, 4).contiguous()
    for target in (0.0, 0.1, 1.0):
        targets = torch.full_like(logits, target)
        single, double = (
            bind(derivative, **subject.options, **counts(dtype))(logits.to(dtype), targets.to(dtype))
            for dtype in (torch.float32, torch.float64)
        )
        subject.require(single.isfinite().all(), f"its derivative is not finite far out, at target {target}")
        subject.require_close(single, double, "its derivative loses digits in float32", rtol=1e-4, atol=1e-6)
        half = bind(derivative, **subject.options, **counts(torch.float32))(logits.bfloat16(), targets)
        subject.require_tensor(half, logits.shape, torch.float32, "its derivative for logits in bfloat16")


def draw_set(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets, weights of five heads: mixed, without positives, without negatives, unlabelled, one image."""
    rng = torch.Generator().manual_seed(3)
    shape = (5, 7, 4)
    logits = 3 * torch.randn(shape, generator=rng, dtype=torch.float64)
    targets = (torch.rand(shape, generator=rng) < 0.5).to(dtype)
    weights = torch.tensor([0.0, 0.25, 1.0], dtype=dtype)[torch.randint(3, shape, generator=rng)]
    targets[1], targets[2], weights[3], weights[4, 1:] = 0, 1, 0, 0
    return logits.to(dtype), targets, weights


@torch_threads(1)
def check_set_loss(loss: Callable[..., Tensor], **options: Any) -> None:
    """Check a set loss.

    One value for each head, at least float32, 0 where all weights are 0. An element of weight 0 is never read and has
    no gradient. The order of the rows does not matter, and no head depends on another. Values and gradients are finite
    for logits up to 300. Right predictions cost less than wrong ones. Each numeric option may differ by head. A loss
    that does not declare ``hard_targets`` takes soft ones.

    Args:
        loss: (logits, targets, weights, ..., *, options) -> [..., H].
        options: those that differ from the defaults, and those without a default.

    Raises:
        AssertionError: what is violated, in a sentence.
    """
    subject = Subject.of(loss, "SET_LOSSES", options)
    function = subject.with_data(positives=torch.ones(5, 1, 4), negatives=torch.ones(5, 1, 4))
    for dtype in (torch.float64, torch.float32):
        arrays = draw_set(dtype)
        is_unchanged = unchanged(*arrays)
        value = subject.call(function, *arrays)
        values = subject.require_tensor(value, (5,), dtype, f"values for {dtype}, one for each head")
        subject.require(values.isfinite().all(), "some values are not finite")
        subject.require(values[3] == 0, "the value is not 0 where all weights are 0")
        subject.require(is_unchanged(), "it changes its arguments in place")
    if not declared(loss, "hard_targets"):
        logits, targets, weights = draw_set()
        soft = subject.call(function, logits, 0.8 * targets + 0.1, weights, when="soft targets")
        sentence = (
            "values for soft targets are not finite; declare `@declares(hard_targets=True)` if it takes no others"
        )
        subject.require(soft.isfinite().all(), sentence)
    _check_set_independence(subject, function)
    _check_hidden(subject, function)
    _check_set_far_out(subject, function)
    _check_set_head_options(subject)


def _check_set_independence(subject: Subject, function: Callable[..., Tensor]) -> None:
    arrays = draw_set()
    values = function(*arrays)
    rng = torch.Generator().manual_seed(4)
    heads, rows = (torch.randperm(size, generator=rng) for size in (5, 7))
    by_row = function(*(array[:, rows] for array in arrays))
    subject.require_close(by_row, values, "the order of the rows of a batch changes values")
    by_head = function(*(array[heads] for array in arrays))
    subject.require_close(by_head, values[heads], "a value depends on other heads")
    for head in range(5):
        single = subject.with_data(positives=torch.ones(1, 4), negatives=torch.ones(1, 4))
        alone = subject.call(single, *(array[head] for array in arrays), when="a single head without the axis H")
        subject.require_close(alone, values[head], "a head gets another value in company than alone")
    logits, targets, weights = arrays
    sign = 20 * (2 * targets - 1)
    right, wrong = (function(z, targets, weights)[0] for z in (sign, -sign))
    subject.require(right < wrong, "right predictions cost no less than wrong ones")
    holds = subject.call(
        lambda: torch.autograd.gradcheck(
            lambda z: function(z, targets, weights), logits.clone().requires_grad_(), raise_exception=False
        )
    )
    subject.require(holds, "torch's gradient is not that of finite differences")


def _check_hidden(subject: Subject, function: Callable[..., Tensor]) -> None:
    logits, targets, weights = draw_set()
    hidden = weights == 0

    def outcome(junk: float | None) -> tuple[Tensor, Tensor]:
        filled = [array if junk is None else array.masked_fill(hidden, junk) for array in (logits, targets)]
        leaf = filled[0].clone().requires_grad_()
        values = function(leaf, filled[1], weights)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), gradient

    clean = outcome(None)
    subject.require((clean[1][hidden] == 0).all(), "an element of weight 0 has a gradient")
    for junk in (torch.nan, torch.inf, -1.0):
        sentence = f"an element of weight 0 is read: {junk} there changes the result (torch.where it away first)"
        subject.require(all(map(torch.equal, clean, outcome(junk))), sentence)


def _check_set_far_out(subject: Subject, function: Callable[..., Tensor]) -> None:
    _, targets, weights = draw_set(torch.float32)
    signs = torch.randint(2, targets.shape, generator=torch.Generator().manual_seed(5)) * 2 - 1.0
    for size in (50, 88, 300):
        for far in (size * signs, size * (2 * targets - 1), size * (1 - 2 * targets)):
            for dtype in (torch.float32, torch.bfloat16):
                logits = far.to(dtype).requires_grad_()
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    value = subject.call(function, logits, targets, weights, when=f"logits in {dtype}")
                values = subject.require_tensor(value, (5,), torch.float32, f"values for logits in {dtype}")
                (gradient,) = torch.autograd.grad(values.sum(), logits)
                subject.require(values.isfinite().all(), f"a value is not finite at logits of {size}{FIX}")
                subject.require(gradient.isfinite().all(), f"a gradient is not finite at logits of {size}{FIX}")
                wanted = function(logits.float(), targets, weights)
                sentence = "half precision costs digits: widen the logits first"
                subject.require_close(values, wanted, sentence, rtol=1e-5, atol=1e-6)


def _check_set_head_options(subject: Subject) -> None:
    options = subject.head_options(5)
    if not options:
        return
    arrays = draw_set()
    sentence = f"an option may be a tensor [H, 1, 1] with a value for each head ({', '.join(options)})"
    ones = {"positives": torch.ones(5, 1, 4), "negatives": torch.ones(5, 1, 4)}
    stacked = bind(subject.function, **{**subject.options, **options, **ones})
    values = subject.require_tensor(subject.call(stacked, *arrays, when=sentence), (5,), torch.float64, sentence)
    for head in range(5):
        of_head = {name: value[head].item() for name, value in options.items()}
        ones = {"positives": torch.ones(1, 4), "negatives": torch.ones(1, 4)}
        single = bind(subject.function, **{**subject.options, **of_head, **ones})
        subject.require_close(values[head], single(*(array[head] for array in arrays)), sentence)
