"""Optimizers of stacked heads: torch's formulas with a learning rate and a weight decay per head.

    move = adam(parameters, lr, weight_decay);  move(gradients, factor)

``parameters`` and ``gradients`` are tensors [H, ., .]; ``lr`` and ``weight_decay`` are tensors [H, 1, 1]. A call moves
the parameters in place, at ``factor`` times the learning rate, and may overwrite the gradients. torch's own optimizers
have one learning rate for all heads, and importing them takes seconds. A fine-tuned network is trained with the class
of `torch.optim` that the entry declares as ``torch_name``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, TypeAlias

from annotated_types import Ge, Lt

from aimonk_bench.errors import UserError
from aimonk_bench.training.entries import declares
from aimonk_bench.training.lazy_torch import Tensor, torch

Tensors: TypeAlias = list[Tensor]
Move: TypeAlias = Callable[[Tensors, float], None]

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # torch's


@declares(torch_name="Adam")
def adam(parameters: Tensors, lr: Tensor, weight_decay: Tensor) -> Move:
    """Adam; weight decay is added to the gradient (torch.optim.Adam)."""
    return _adam(parameters, lr, weight_decay, decoupled=False)


@declares(torch_name="AdamW")
def adamw(parameters: Tensors, lr: Tensor, weight_decay: Tensor) -> Move:
    """Adam with decoupled weight decay (torch.optim.AdamW)."""
    return _adam(parameters, lr, weight_decay, decoupled=True)


def _adam(parameters: Tensors, lr: Tensor, weight_decay: Tensor, *, decoupled: bool) -> Move:
    """w -= lr m / (sqrt(v) + eps): running means of the gradient and of its square, each divided by 1 - beta^t.

    Decoupled weight decay takes lr x decay x w from the weights.
    """
    means, squares, steps = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(3))
    if (lr == lr[0]).all() and (weight_decay == weight_decay[0]).all():  # neither is tuned
        return _fused_adam(parameters, means, squares, lr[0].item(), weight_decay[0].item(), decoupled=decoupled)
    decays, count = bool(weight_decay.any()), 0

    def move(gradients: Tensors, factor: float) -> None:
        nonlocal count
        count += 1
        root = math.sqrt(1 - BETA2**count)  # both corrections are constant in a step: they go into rate and eps
        rate = lr * (factor * root / (1 - BETA1**count))
        for weight, gradient, mean, square, step in zip(parameters, gradients, means, squares, steps, strict=True):
            if decays and decoupled:
                weight.mul_(1 - factor * lr * weight_decay)
            elif decays:
                gradient.addcmul_(weight, weight_decay)
            mean.lerp_(gradient, 1 - BETA1)
            square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            torch.sqrt(square, out=step).add_(EPS * root)
            torch.div(mean, step, out=step)
            weight.addcmul_(step, rate, value=-1)

    return move


def _fused_adam(
    parameters: Tensors, means: Tensors, squares: Tensors, lr: float, weight_decay: float, *, decoupled: bool
) -> Move:
    """Adam in torch's kernel, which has one learning rate and one weight decay for all heads."""
    # reads and writes everything once instead of in seven calls: 6 % of the default suite from an empty feature store
    kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
    count = torch.zeros((), device=parameters[0].device)

    def move(gradients: Tensors, factor: float) -> None:
        count.add_(1)
        kernel(
            parameters,
            gradients,
            means,
            squares,
            [],
            [count] * len(parameters),
            lr=lr * factor,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=weight_decay,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )

    return move


def _check_sgd(momentum: float, nesterov: bool) -> None:
    if nesterov and momentum == 0:
        raise UserError("train.optimizer: found nesterov without momentum, expected a momentum above 0")


@declares(torch_name="SGD", check=_check_sgd)
def sgd(
    parameters: Tensors,
    lr: Tensor,
    weight_decay: Tensor,
    *,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    nesterov: bool = False,
) -> Move:
    """Stochastic gradient descent (torch.optim.SGD); nesterov needs a momentum.

    w -= lr g, or with a momentum lr times the decaying sum of g; nesterov adds momentum times that sum to g.
    """
    _check_sgd(momentum, nesterov)
    sums, decays = [torch.zeros_like(parameter) for parameter in parameters], bool(weight_decay.any())

    def move(gradients: Tensors, factor: float) -> None:
        for weight, gradient, total in zip(parameters, gradients, sums, strict=True):
            if decays:
                gradient.addcmul_(weight, weight_decay)
            if momentum:
                total.mul_(momentum).add_(gradient)
            step = gradient.add_(total, alpha=momentum) if nesterov else total if momentum else gradient
            weight.addcmul_(step, lr, value=-factor)

    return move


def clip(gradients: Tensors, limit: float) -> None:
    """Scale the gradients [H, ., .] of each head, in place, to a norm of at most ``limit`` over all of them."""
    squares = [gradient.square().sum((1, 2), keepdim=True) for gradient in gradients]
    scale = (limit / (sum(squares[1:], squares[0]).sqrt() + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(scale)


OPTIMIZERS: dict[str, Callable[..., Move]] = {"adam": adam, "adamw": adamw, "sgd": sgd}
