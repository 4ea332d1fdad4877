"""The steps of training: one gather, two products, one fused update, and what turns logits into their gradient.

With X [S, B, D + 1] the features of a batch and a 1, W [S, A, D + 1] the weights and the bias, Z = X W^T the logits and
G = dloss/dZ [S, B, A], the gradient of the heads is G^T X. G has a closed form where the loss has one and the
missing-label policy does not ask the logits; then also the targets, the weights and their sums are known ahead, for a
block of steps, and the losses can wait for the block's end. Otherwise torch differentiates the loss by the logits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from aimonk_bench.records.environment import cores
from aimonk_bench.training.batches import Features
from aimonk_bench.training.heads import Heads, Optimizer, clip
from aimonk_bench.training.missing import Objective

BLOCK_CELLS = 1 << 18  # logits, targets and weights of a block stay within the caches
BLOCK_STEPS = 128
PROBE = 16  # blocks after which the other number of threads is tried again


def block_steps(cells: int) -> int:
    """Steps per block for so many cells S x B x A a step."""
    return max(1, min(BLOCK_STEPS, BLOCK_CELLS // cells))


class Threads:
    """One thread or all of torch's, whichever took less time per step lately.

    A second thread nearly halves a step where the machine is idle, and waiting for it costs tenfold where it is busy.
    The products are split between threads by head or by output, never along a sum: the results are equal to the bit.
    As a context it is one thread, for all that is not a block of steps, NumPy's products included, whose threads would
    go on spinning beside ours; what there was comes back at its end.

    Args:
        spared: cores for what else this program is doing.
    """

    def __init__(self, spared: int = 0) -> None:
        self._given = torch.get_num_threads()
        self._choices = sorted({1, max(1, min(self._given, cores() - spared))})
        self._seconds: dict[int, float] = {}
        self._blocks = 0

    def __enter__(self) -> Threads:
        torch.set_num_threads(1)
        self._blas = threadpool_limits(1, user_api="blas")
        return self

    def __exit__(self, *_: object) -> None:
        self._blas.restore_original_limits()
        torch.set_num_threads(self._given)

    def _next(self) -> int:
        untried = [choice for choice in self._choices if choice not in self._seconds]
        if untried:
            return untried[0]
        best = min(self._choices, key=self._seconds.__getitem__)
        others = [choice for choice in self._choices if choice != best]
        return others[0] if others and self._blocks % PROBE == 0 else best

    @contextmanager
    def block(self, steps: int) -> Iterator[None]:
        """Run so many steps with the better number of threads, and time them."""
        count = self._next()
        torch.set_num_threads(count)
        begin = time.perf_counter()
        try:
            yield
        finally:
            torch.set_num_threads(1)
        self._blocks += 1
        self._seconds[count] = (time.perf_counter() - begin) / steps


class Stepper:
    """Moves S heads through blocks of steps.

    Args:
        heads: moved in place; every P in a row read the same features.
        optimizer: of their parameters.
        store: the features.
        batch: (J, B) jobs and rows of a batch, S = J x P.
        limit: of the norm of each head's gradient, None for no clipping.
    """

    def __init__(
        self,
        heads: Heads,
        optimizer: Optimizer,
        store: Features,
        objective: Objective,
        batch: tuple[int, int],
        limit: float | None,
    ) -> None:
        self._optimizer, self._store, self._objective, self._limit = optimizer, store, objective, limit
        jobs, size = batch
        count, attributes, features = heads.weight.shape
        rows = heads.both.new_zeros(jobs * size, heads.both.shape[-1])
        rows[:, features] = 1
        self._given, self._features = rows[:, :features], rows.view(jobs, size, -1)
        self._columns = self._features.transpose(1, 2)
        self._weight, self._gradient = (
            each.view(jobs, -1, rows.shape[-1]) for each in (heads.both, optimizer.gradient)
        )
        self._slopes = heads.weight.new_empty(count, attributes, size)
        self._stacked = self._slopes.view(jobs, -1, size)

    @torch.no_grad()
    def closed(self, stored: Tensor, targets: Tensor, weights: Tensor, factors: Sequence[float]) -> Tensor:
        """Take the steps of a block whose objective has a slope and fills ahead.

        Args:
            stored: [T', J x B] rows of the store.
            targets: [T', S, B, A], filled; laid out as [T', S, A, B] in memory, as logits are.
            weights: likewise.
            factors: [T'] of the learning rates.

        Returns:
            The losses before each step, [T', S].
        """
        slope = self._objective.slope
        assert slope is not None
        logits = targets.new_empty(len(stored), *self._slopes.shape)
        stacked = logits.view(-1, *self._stacked.shape)
        total = weights.sum(-2, keepdim=True).sum(-1, keepdim=True)  # in two, as in losses.reduce
        weights = weights / total.clamp_(min=torch.finfo(total.dtype).tiny)
        known = slope.ahead(targets.transpose(2, 3), weights.transpose(2, 3))
        rows = (each.unbind(0) for each in (stored, stacked, logits, *known))
        for row, out, seen, first, second, factor in zip(*rows, factors, strict=True):
            self._forward(row, out)
            slope.into(self._slopes, seen, first, second)
            self._backward(factor)
        return slope.cells(logits, *known).sum(-1).sum(-1)

    @torch.no_grad()
    def differentiated(
        self,
        stored: Tensor,
        targets: Tensor,
        observed: Tensor,
        epoch: int,
        factors: Sequence[float],
        teacher: dict[str, Tensor],
    ) -> Tensor:
        """Take the steps of a block with any objective; arguments and result as for `closed`.

        Args:
            teacher: ``{"teacher": [T', S, B, A]}`` or nothing.
        """
        losses = targets.new_empty(len(stored), len(self._slopes))
        logits = torch.empty_like(self._slopes)
        for step, factor in enumerate(factors):
            self._forward(stored[step], logits.view(self._stacked.shape))
            with torch.enable_grad():
                leaf = logits.transpose(1, 2).requires_grad_()
                own = {name: values[step] for name, values in teacher.items()}
                value = self._objective(leaf, targets[step], observed[step], epoch, **own)
                (slopes,) = torch.autograd.grad(value.sum(), leaf)
            losses[step] = value.detach()
            self._slopes.copy_(slopes.transpose(1, 2))
            self._backward(factor)
        return losses

    def _forward(self, rows: Tensor, out: Tensor) -> None:
        """Fill ``out`` [J, P x A, B] with the logits of the rows [J x B] of the store."""
        self._store.take_into(self._given, rows)
        # weight x features is three times as quick as features x weight when A is small
        torch.bmm(self._weight, self._columns, out=out)

    def _backward(self, factor: float) -> None:
        """One update from the derivatives by the logits."""
        torch.bmm(self._stacked, self._features, out=self._gradient)
        if self._limit is not None:
            clip(self._optimizer.gradient, self._limit)
        self._optimizer.step(factor)
