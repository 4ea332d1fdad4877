"""Stacked linear heads and what moves them: optimizers, schedules, clipping, the choice of an epoch.

The S heads of a run are one tensor, in which weight [S, A, D] and bias [S, 1, A] are seen. Everything here treats a
head as if it were alone.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Ge, Lt

from aimonk_bench import registry
from aimonk_bench.errors import UserError
from aimonk_bench.lazy import Lazy
from aimonk_bench.registry import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")

COLUMNS = 16  # a row of weights or features starts with a line of the cache
STEPS_AHEAD = 1024  # numbered at once
TIE = 1e-9  # scores this close differ by the order of a sum, not by what was learned


def padded(features: int) -> int:
    """Columns of a row of weights: features, the bias, and zeros up to a multiple of COLUMNS."""
    return -(-(features + 1) // COLUMNS) * COLUMNS


class Heads:
    """S linear heads.

    Weight and bias are one tensor, so that features followed by a 1 give logits and gradients by one product each, and
    an optimizer has one tensor to move. What follows in a row is 0 there as in the features, and stays it.

    Attributes:
        both: [S, A, W], W = `padded` (D).
        weight: [S, A, D], seen in it.
        bias: [S, 1, A], seen in it.
    """

    def __init__(self, both: Tensor, features: int) -> None:
        self.both, self.weight, self.bias = both, both[..., :features], both[..., features].unsqueeze(1)

    @classmethod
    def initial(
        cls,
        attributes: int,
        features: int,
        generators: Sequence[np.random.Generator],
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> Heads:
        """One head per generator, as torch.nn.Linear draws it: all uniform within +-1/sqrt(D), by default in float32.

        Drawn in float64 on the CPU, so that neither dtype nor device changes where a head starts.
        """
        bound, width = 1 / math.sqrt(features), features + 1
        draws = np.zeros((len(generators), attributes, padded(features)))
        for own, rng in zip(draws, generators, strict=True):
            own[:, :width] = rng.uniform(-bound, bound, (attributes, width))
        return cls(torch.from_numpy(draws).to(device, dtype or torch.float32), features)

    def repeated(self, times: int) -> Heads:
        """Every head ``times`` in a row."""
        return Heads(self.both.repeat_interleave(times, 0), self.weight.shape[-1])

    def copy(self) -> Heads:
        """The same heads in memory of their own."""
        return Heads(self.both.clone(), self.weight.shape[-1])

    def some(self, heads: np.ndarray) -> Heads:
        """Copies of these heads."""
        return Heads(self.both[torch.from_numpy(heads).to(self.both.device)], self.weight.shape[-1])

    def __call__(self, features: Tensor) -> Tensor:
        """Features [S/P, B, D], each read by P heads in a row -> logits [S, B, A]."""
        groups, batch, size = features.shape
        heads, attributes, _ = self.weight.shape
        weight, bias = self.weight.view(groups, -1, size), self.bias.view(groups, -1, 1)
        # weight x features is three times as quick as features x weight when A is small
        product = torch.baddbmm(bias, weight, features.transpose(1, 2))
        return product.view(heads, attributes, batch).transpose(1, 2)


def clip(gradient: Tensor, limit: float) -> None:
    """Scale each head's gradient [S, A, W] to a norm of at most ``limit``."""
    # row by row: one long sum would be split between threads, and its last bits depend on how many there are
    norm = gradient.square().sum(2, True).sum(1, True).sqrt()
    gradient.mul_((limit / (norm + 1e-6)).clamp(max=1))


@dataclass(frozen=True, eq=False)
class _Group:
    """The heads of one learning rate and weight decay: views of their parameters, gradients and running means.

    One view for each stretch of heads that stand side by side.
    """

    lr: float
    weight_decay: float
    parameters: list[Tensor]
    gradients: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]


class Optimizer(ABC):
    """What moves the heads, each at its own learning rate and weight decay; torch's optimizers have one for all.

    The update itself is torch's fused kernel, called once for each pair of a rate and a decay: one pass over memory.

    Args:
        parameter: [S, ...], moved in place.
        lr: [S].
        weight_decay: [S].

    Attributes:
        gradient: shaped like the parameter, to be filled before each step.
    """

    def __init__(self, parameter: Tensor, lr: np.ndarray, weight_decay: np.ndarray) -> None:
        self.gradient, first, second = (torch.zeros_like(parameter) for _ in range(3))
        # Python's numbers: torch is slow to read NumPy's, at every step
        pairs = list(zip(lr.tolist(), weight_decay.tolist(), strict=True))
        places: dict[tuple[float, float], list[slice]] = {}
        for pair, stretch in itertools.groupby(range(len(pairs)), pairs.__getitem__):
            heads = list(stretch)
            places.setdefault(pair, []).append(slice(heads[0], heads[-1] + 1))
        self.groups = [
            _Group(*pair, *([whole[own] for own in slices] for whole in (parameter, self.gradient, first, second)))
            for pair, slices in places.items()
        ]

    @abstractmethod
    def step(self, factor: float) -> None:
        """Move every head once by the gradient, at ``factor`` times its learning rate."""


def _step_numbers(device: torch.device) -> Iterator[Tensor]:
    """1, 2, 3, ... as the fused kernels want them, made many at once: to add one costs a call per step."""
    for start in itertools.count(1, STEPS_AHEAD):
        yield from torch.arange(start, start + STEPS_AHEAD, dtype=torch.float32, device=device).unbind()


class _Adam(Optimizer):
    """The step is m / (sqrt(v) + eps): running means of the gradient and of its square, each divided by 1 - beta^t."""

    BETAS, EPS = (0.9, 0.999), 1e-8  # torch's

    def __init__(self, parameter: Tensor, lr: np.ndarray, weight_decay: np.ndarray, *, decoupled: bool) -> None:
        super().__init__(parameter, lr, weight_decay)
        kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
        fixed = {"beta1": self.BETAS[0], "beta2": self.BETAS[1], "eps": self.EPS, "amsgrad": False, "maximize": False}
        self._updates = []
        for own in self.groups:
            lists = own.parameters, own.gradients, own.first, own.second
            update = partial(kernel, *lists, [], weight_decay=own.weight_decay, **fixed)
            self._updates.append((update, own.lr, len(own.parameters)))
        self._numbers = _step_numbers(parameter.device)

    def step(self, factor: float) -> None:
        """Move every head once by the gradient, at ``factor`` times its learning rate."""
        number = next(self._numbers)
        for update, lr, stretches in self._updates:
            update([number] * stretches, lr=factor * lr)


class _SGD(Optimizer):
    """The step is the gradient, or with a momentum its decaying sum; Nesterov's looks one step ahead of that."""

    def __init__(
        self,
        parameter: Tensor,
        lr: np.ndarray,
        weight_decay: np.ndarray,
        *,
        momentum: float,
        nesterov: bool,
    ) -> None:
        super().__init__(parameter, lr, weight_decay)
        self._momentum, self._nesterov, self._begun = momentum, nesterov, False

    def step(self, factor: float) -> None:
        """Move every head once by the gradient, at ``factor`` times its learning rate."""
        for group in self.groups:
            torch._fused_sgd_(
                group.parameters,
                group.gradients,
                group.first if self._momentum else [],
                weight_decay=group.weight_decay,
                momentum=self._momentum,
                lr=factor * group.lr,
                dampening=0.0,
                nesterov=self._nesterov,
                maximize=False,
                is_first_step=not self._begun,
            )
        self._begun = True


def adam(parameter: Tensor, lr: np.ndarray, weight_decay: np.ndarray) -> Optimizer:
    """Adam; weight decay is added to the gradient (torch.optim.Adam)."""
    return _Adam(parameter, lr, weight_decay, decoupled=False)


def adamw(parameter: Tensor, lr: np.ndarray, weight_decay: np.ndarray) -> Optimizer:
    """Adam with decoupled weight decay (torch.optim.AdamW)."""
    return _Adam(parameter, lr, weight_decay, decoupled=True)


def sgd(
    parameter: Tensor,
    lr: np.ndarray,
    weight_decay: np.ndarray,
    *,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent (torch.optim.SGD); nesterov needs a momentum."""
    _nesterov_has_momentum(momentum, nesterov)
    return _SGD(parameter, lr, weight_decay, momentum=momentum, nesterov=nesterov)


def _nesterov_has_momentum(momentum: float, nesterov: bool) -> None:
    if nesterov and momentum == 0:
        raise UserError("train.optimizer: found nesterov without momentum, expected a momentum above 0")


def check_optimizer(spec: Spec) -> None:
    """Refuse, before anything is read, optimizer options that exclude each other.

    Raises:
        UserError: sgd with nesterov and no momentum.
    """
    if spec.name == "sgd":
        _nesterov_has_momentum(**registry.build("optimizer", OPTIMIZERS, spec).keywords)


def constant(step: int, total: int) -> float:
    """The learning rate as given."""
    return 1.0


def cosine(step: int, total: int) -> float:
    """Half a cosine from the learning rate down to 0 over all steps (arXiv 1608.03983 without restarts)."""
    return (1 + math.cos(math.pi * step / total)) / 2


def warmup_cosine(step: int, total: int, *, warmup: Annotated[float, Ge(0), Lt(1)] = 0.1) -> float:
    """A straight rise over the share ``warmup`` of all steps, then half a cosine (arXiv 1706.02677, 1608.03983)."""
    rising = math.ceil(warmup * total)
    return (step + 1) / (rising + 1) if step < rising else cosine(step - rising, total - rising)


class Choice:
    """Which epoch each head keeps, and when it stops.

    The score of a head is larger for better epochs; equal scores (to TIE) keep the earlier one. ``patience`` epochs
    without a better score stop a head. A score of NaN chooses nothing and stops nothing: a head that never has
    another keeps its last epoch.

    Attributes:
        epoch: [S] the epoch kept, 1-based.
        active: [S] bool, false once a head has stopped.
        best: [S] its best score, -inf before it has one.
        waited: [S] epochs since.
    """

    def __init__(self, count: int, *, last: bool, patience: int | None) -> None:
        self.epoch = np.zeros(count, np.int64)
        self.active = np.ones(count, bool)
        self.best = np.full(count, -np.inf)
        self.waited = np.zeros(count, np.int64)
        self._last, self._patience = last, patience

    @property
    def scored(self) -> np.ndarray:
        """[S] bool, whether a head ever had a score."""
        return self.best > -np.inf

    def choose(self, epoch: int, scores: np.ndarray) -> np.ndarray:
        """Take note of the scores [S] at the end of an epoch: [S] bool, which heads keep it."""
        better = self.active & (scores > self.best + TIE)
        self.best[better] = scores[better]
        kept: np.ndarray = self.active if self._last else better | (self.active & ~self.scored)
        kept = kept.copy()
        self.epoch[kept] = epoch
        self.waited = np.where(better | np.isnan(scores), 0, self.waited + 1)
        if self._patience is not None:
            self.active &= self.waited < self._patience
        return kept


class Selection(Choice):
    """A choice that keeps the weights of stacked heads.

    Attributes:
        heads: the kept weights, copies.
    """

    def __init__(self, heads: Heads, *, last: bool, patience: int | None) -> None:
        super().__init__(len(heads.weight), last=last, patience=patience)
        self.heads = heads.copy()

    def update(self, heads: Heads, epoch: int, scores: np.ndarray) -> None:
        """Take note of the weights at the end of an epoch and of their scores [S]."""
        chosen = torch.from_numpy(np.flatnonzero(self.choose(epoch, scores))).to(heads.weight.device)
        self.heads.both[chosen] = heads.both[chosen]


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "sgd": sgd}
SCHEDULES: dict[str, Callable[..., float]] = {"constant": constant, "cosine": cosine, "warmup_cosine": warmup_cosine}
