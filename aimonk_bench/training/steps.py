"""The steps of training: one gather, two products, one fused update, and what turns logits into their gradient.

With X [S, B, D + 1] the features of a batch and a 1, W [S, A, D + 1] the weights and the bias, Z = X W^T the logits and
G = dloss/dZ [S, B, A], the gradient of the heads is G^T X. G has a closed form where the loss has one and the
missing-label policy does not ask the logits; then also the targets, the weights and their sums are known ahead, for a
block of steps, and the losses can wait for the block's end. Otherwise torch differentiates the loss by the logits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from aimonk_bench.records.environment import cores
from aimonk_bench.training.batches import Features
from aimonk_bench.training.heads import Heads, Optimizer, clip
from aimonk_bench.training.missing import Objective
from aimonk_bench.training.slopes import GRAIN, Call

BLOCK_CELLS = 1 << 18  # four times as many numbers of a block stay within the caches
BLOCK_STEPS = 128
SMALL = 1 << 18  # multiplications of a product, up to which OpenBLAS has kernels of its own
FEW = 2  # cores: over small products one thread of OpenBLAS takes no longer than two of torch's MKL, if as wide
WIDE = {"SkylakeX", "Cooperlake", "SapphireRapids"}  # kernels of OpenBLAS with AVX-512
DIVERGING = np.errstate(over="ignore", invalid="ignore")  # of heads whose losses say so
PROBE = 16  # blocks after which the other number of threads is tried again


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads that are loaded when this is first asked for; to look for them takes 5 ms."""
    return ThreadpoolController()


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
        self._blas = _libraries().limit(limits=1, user_api="blas")
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


def by_torch(left: Tensor, right: Tensor, out: Tensor) -> Call:
    """What fills ``out`` [J, n, m] with ``left`` [J, n, k] x ``right`` [J, k, m] when it is called."""
    return partial(torch.bmm, left, right, out=out)


def by_numpy(left: Tensor, right: Tensor, out: Tensor) -> Call:
    """`by_torch` on a CPU, where small products are NumPy's, of one thread."""
    if left.shape[1] * right[0].numel() > SMALL:
        return by_torch(left, right, out)
    return partial(np.matmul, left.numpy(), right.numpy(), out=out.numpy())


def product_for(device: torch.device) -> Callable[[Tensor, Tensor, Tensor], Call]:
    """`by_numpy` or `by_torch`: by the machine, not by the number of threads or a clock, as the results differ in bits.

    NumPy's on few cores, unless its OpenBLAS does not know a processor with AVX-512 and takes kernels of half the
    width: then torch's MKL is quicker.
    """
    if device.type != "cpu" or cores() > FEW:
        return by_torch
    own = [each for each in _libraries().info() if each["internal_api"] == "openblas" and "numpy" in each["filepath"]]
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return by_torch if wide and any(each["architecture"] not in WIDE for each in own) else by_numpy


def _sums(cells: Tensor, out: Tensor | None = None) -> Tensor:
    """[.., A, B] -> [..]."""
    lone = cells.shape[-2:].numel() > GRAIN  # of such a head threads would share one sum, see `losses.reduce`
    return torch.sum(cells.sum(-1) if lone else cells.flatten(-2), -1, out=out)


class Stepper:
    """Moves S heads through blocks of steps.

    What a block needs is kept from one to the next, and so are the calls of each step on it: a view costs a call too.

    Args:
        heads: moved in place; every P in a row read the same features.
        optimizer: of their parameters.
        store: the features.
        batch: (J, B) jobs and rows of a batch, S = J x P.
        limit: of the norm of each head's gradient, None for no clipping.

    Attributes:
        steps: T', the longest block.
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
        self._optimizer, self._objective = optimizer, objective
        jobs, size = batch
        count, attributes, features = heads.weight.shape
        rows = heads.both.new_zeros(jobs * size, heads.both.shape[-1])
        rows[:, features] = 1
        seen = rows.view(jobs, size, -1)
        weight, gradient = (each.view(jobs, -1, rows.shape[-1]) for each in (heads.both, optimizer.gradient))
        self._slopes = heads.weight.new_empty(count, attributes, size)
        stacked = self._slopes.view(jobs, -1, size)
        self.steps = max(1, min(BLOCK_STEPS, BLOCK_CELLS // self._slopes.numel()))
        self._stored = torch.empty(self.steps, jobs * size, dtype=torch.int32, device=heads.weight.device)
        # logits, first, second, kept: in one memory format, or what joins them is several times slower
        self._cells = heads.weight.new_empty(4, self.steps, *self._slopes.shape)
        take, product = store.taker(rows[:, :features]), product_for(heads.both.device)
        # weight x features is three times as quick as features x weight when A is small
        logits = [product(weight, seen.transpose(1, 2), own) for own in self._cells[0].view(-1, *stacked.shape)]
        self._forward = [(partial(take, own), into) for own, into in zip(self._stored, logits, strict=True)]
        clipped = [] if limit is None else [partial(clip, optimizer.gradient, limit)]
        self._backward: list[Call] = [product(stacked, seen, gradient), *clipped]
        self._calls: list[list[Call]] = []
        if objective.slope is not None:
            for forward, *cells in zip(self._forward, *self._cells, strict=True):
                self._calls.append([*forward, *objective.slope.into(self._slopes, *cells), *self._backward])

    def _laid_out(self, labels: Tensor) -> Tensor:
        """Labels [T', J, B, 2 A] of jobs -> targets and weights of heads, [2, T', S, A, B], in `_cells`."""
        steps, jobs, size, _ = labels.shape
        own = self._cells[1:3, :steps]
        found = labels.view(steps, jobs, size, 2, -1).permute(3, 0, 1, 4, 2)
        own.view(2, steps, jobs, -1, *own.shape[3:]).copy_(found.unsqueeze(3))
        return own

    @torch.no_grad()
    @DIVERGING
    def closed(self, stored: Tensor, labels: Tensor, factors: Sequence[float], losses: Tensor) -> None:
        """Take the steps of a block whose objective has a slope.

        Args:
            stored: [T', J x B] rows of the store.
            labels: [T', J, B, 2 A] targets, filled, and weights.
            factors: [T'] of the learning rates.
            losses: [T', S], filled with those before each step.
        """
        slope, steps = self._objective.slope, len(stored)
        assert slope is not None
        self._stored[:steps] = stored
        targets, weights = self._laid_out(labels).unbind(0)
        total = _sums(weights).clamp_(min=torch.finfo(weights.dtype).tiny)
        weights.div_(total[..., None, None])
        slope.ahead(targets, weights)
        update = self._optimizer.step
        for calls, factor in zip(self._calls[:steps], factors, strict=True):
            for call in calls:
                call()
            update(factor)
        _sums(slope.cells(*self._cells[:, :steps].unbind(0)), losses)

    @torch.no_grad()
    @DIVERGING
    def differentiated(
        self,
        stored: Tensor,
        labels: Tensor,
        factors: Sequence[float],
        losses: Tensor,
        epoch: int,
        teacher: dict[str, Tensor],
    ) -> None:
        """Take the steps of a block with any objective; arguments as for `closed`.

        Args:
            labels: targets, not filled, and which are observed.
            teacher: ``{"teacher": [T', S, B, A]}`` or nothing.
        """
        self._stored[: len(stored)] = stored
        targets, observed = self._laid_out(labels).transpose(3, 4).unbind(0)
        known, logits = observed.bool(), self._cells[0].transpose(2, 3)
        for step, factor in enumerate(factors):
            for call in self._forward[step]:
                call()
            with torch.enable_grad():
                leaf = logits[step].requires_grad_()
                own = {name: values[step] for name, values in teacher.items()}
                value = self._objective(leaf, targets[step], known[step], epoch, **own)
                (slopes,) = torch.autograd.grad(value.sum(), leaf)
            losses[step] = value.detach()
            self._slopes.copy_(slopes.transpose(1, 2))
            for call in self._backward:
                call()
            self._optimizer.step(factor)
