"""Optimizers of stacked heads: torch's, with a learning rate and a weight decay per head.

    optimizer = adam(parameters, lr, weight_decay);  optimizer.step(gradients, factor)

``parameters`` are tensors [H, ., .], moved in place; ``lr`` and ``weight_decay`` are [H]. torch's optimizers have one
rate for all heads, and importing them takes seconds. A fine-tuned network is moved by the class of `torch.optim` that
an entry declares as ``torch_name``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Ge, Lt

from aimonk_bench.errors import UserError
from aimonk_bench.lazy import Lazy
from aimonk_bench.training.entries import declares

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")


class Optimizer(ABC):
    """Moves each head at its own learning rate and weight decay.

    Args:
        parameters: tensors [H, ., .].
        lr: [H].
        weight_decay: [H].
    """

    def __init__(self, parameters: Sequence[Tensor], lr: np.ndarray, weight_decay: np.ndarray) -> None:
        self.parameters = list(parameters)
        self.lr, self.weight_decay = (torch.from_numpy(v).to(parameters[0]).view(-1, 1, 1) for v in (lr, weight_decay))
        self.decays = bool(weight_decay.any())

    @abstractmethod
    def step(self, gradients: Sequence[Tensor], factor: float) -> None:
        """Move every head once, at ``factor`` times its learning rate; the gradients may be overwritten."""


class Adam(Optimizer):
    """w -= lr m / (sqrt(v) + eps): running means of the gradient and of its square, each divided by 1 - beta^t.

    Weight decay is added to the gradient, or ``decoupled`` taken from the weights as lr x decay x w.
    """

    BETAS, EPS = (0.9, 0.999), 1e-8  # torch's

    def __init__(
        self, parameters: Sequence[Tensor], lr: np.ndarray, weight_decay: np.ndarray, *, decoupled: bool
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self._decoupled, self._count = decoupled, 0
        self._means, self._squares, self._steps = ([torch.zeros_like(each) for each in parameters] for _ in range(3))

    def step(self, gradients: Sequence[Tensor], factor: float) -> None:
        """Move every head once, at ``factor`` times its learning rate."""
        self._count += 1
        mean_share, square_share = (1 - beta**self._count for beta in self.BETAS)
        # m / mean_share / (sqrt(v / square_share) + eps), with the constants gathered in the rate and in eps
        rate = self.lr * (factor * math.sqrt(square_share) / mean_share)
        eps = self.EPS * math.sqrt(square_share)
        states = zip(self.parameters, gradients, self._means, self._squares, self._steps, strict=True)
        for weight, gradient, mean, square, step in states:
            if self.decays and self._decoupled:
                weight.mul_(1 - factor * self.lr * self.weight_decay)
            elif self.decays:
                gradient.addcmul_(weight, self.weight_decay)
            mean.lerp_(gradient, 1 - self.BETAS[0])
            square.mul_(self.BETAS[1]).addcmul_(gradient, gradient, value=1 - self.BETAS[1])
            torch.sqrt(square, out=step).add_(eps)
            torch.div(mean, step, out=step)
            weight.addcmul_(step, rate, value=-1)


class SGD(Optimizer):
    """w -= lr g, or with a momentum the decaying sum of g; Nesterov's looks one step ahead of that."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: np.ndarray,
        weight_decay: np.ndarray,
        *,
        momentum: float,
        nesterov: bool,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self._momentum, self._nesterov = momentum, nesterov
        self._sums = [torch.zeros_like(each) for each in parameters]

    def step(self, gradients: Sequence[Tensor], factor: float) -> None:
        """Move every head once, at ``factor`` times its learning rate."""
        for weight, gradient, total in zip(self.parameters, gradients, self._sums, strict=True):
            if self.decays:
                gradient.addcmul_(weight, self.weight_decay)
            if self._momentum:
                total.mul_(self._momentum).add_(gradient)
                gradient = gradient.add_(total, alpha=self._momentum) if self._nesterov else total
            weight.addcmul_(gradient, self.lr, value=-factor)


@declares(torch_name="Adam")
def adam(parameters: Sequence[Tensor], lr: np.ndarray, weight_decay: np.ndarray) -> Optimizer:
    """Adam; weight decay is added to the gradient (torch.optim.Adam)."""
    return Adam(parameters, lr, weight_decay, decoupled=False)


@declares(torch_name="AdamW")
def adamw(parameters: Sequence[Tensor], lr: np.ndarray, weight_decay: np.ndarray) -> Optimizer:
    """Adam with decoupled weight decay (torch.optim.AdamW)."""
    return Adam(parameters, lr, weight_decay, decoupled=True)


def _check_sgd(momentum: float, nesterov: bool) -> None:
    if nesterov and momentum == 0:
        raise UserError("train.optimizer: found nesterov without momentum, expected a momentum above 0")


@declares(torch_name="SGD", check=_check_sgd)
def sgd(
    parameters: Sequence[Tensor],
    lr: np.ndarray,
    weight_decay: np.ndarray,
    *,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent (torch.optim.SGD); nesterov needs a momentum."""
    _check_sgd(momentum, nesterov)
    return SGD(parameters, lr, weight_decay, momentum=momentum, nesterov=nesterov)


def clip(gradients: Sequence[Tensor], limit: float) -> None:
    """Scale the gradients [H, ., .] of each head, in place, to a norm of at most ``limit`` over all of them."""
    squares = [gradient.square().sum((1, 2), keepdim=True) for gradient in gradients]
    scale = (limit / (sum(squares[1:], squares[0]).sqrt() + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(scale)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "sgd": sgd}
