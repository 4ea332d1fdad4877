"""What a head sees in an epoch: its random streams, its pictures, their views, their features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int32]
DEVICE_BYTES = 2 << 30  # a store up to this size is put on the device that trains


@dataclass(frozen=True)
class Streams:
    """The independent generators of one head, which depend on its seed and fold alone."""

    init: np.random.Generator
    sampler: np.random.Generator
    views: np.random.Generator

    @classmethod
    def of(cls, seed: int, fold: int) -> Streams:
        """The streams of the head with this seed, in this fold."""
        return cls(*map(np.random.default_rng, np.random.SeedSequence([seed, fold]).spawn(3)))


def views_of(probabilities: np.ndarray, draws: np.ndarray) -> Indices:
    """The views, of these probabilities [V], that draws from [0, 1) come to, shaped like them."""
    views = np.zeros(draws.shape, np.int32)
    for bound in np.cumsum(probabilities)[:-1]:
        views += draws >= bound
    return views


class Part:
    """The training rows of a fold, as samplers see them.

    Args:
        rows: [n] of the N pictures.
        targets: [N, A].
        observed: [N, A].
    """

    def __init__(self, rows: np.ndarray, targets: np.ndarray, observed: np.ndarray) -> None:
        self.rows = rows.astype(np.int32)
        self.targets, self.observed = targets[rows], observed[rows]


class Plan:
    """What J jobs see in one epoch: the order of each job's rows, and, block by block of steps, all that follows of it.

    Args:
        sampler: with its options bound.
        index: [V, N] the row of the store of each view and picture.
        probabilities: [V] of the views in training.
        parts: [J] the training rows of each job.
        streams: [J] generators of each job.
        shape: (T, B).

    Attributes:
        orders: int32 [J, T, B] the pictures of each job: all that lives for the whole epoch, as a permutation cannot be
            drawn in pieces.
    """

    def __init__(
        self,
        sampler: Callable[..., np.ndarray],
        index: np.ndarray,
        probabilities: np.ndarray,
        parts: Sequence[Part],
        streams: Sequence[Streams],
        shape: tuple[int, int],
    ) -> None:
        steps, batch_size = shape
        self._index, self._probabilities, self._streams = index.astype(np.int32, copy=False), probabilities, streams
        self.orders: Indices = np.empty((len(parts), *shape), np.int32)
        for order, part, stream in zip(self.orders, parts, streams, strict=True):
            order[:] = part.rows.take(sampler(part.targets, part.observed, batch_size, steps, stream.sampler))

    def block(self, steps: slice) -> tuple[Indices, Indices]:
        """These T' steps, which must come in order: pictures and rows of the store, both int32 [T', J, B].

        A single view is not drawn for.
        """
        orders = self.orders[:, steps]
        pictures = np.ascontiguousarray(orders.swapaxes(0, 1))
        if len(self._probabilities) == 1:
            return pictures, self._index[0].take(pictures)
        draws = np.empty(orders.shape)
        for stream, own in zip(self._streams, draws, strict=True):
            stream.views.random(out=own)
        places = views_of(self._probabilities, draws) * np.int32(self._index.shape[1]) + orders
        return pictures, self._index.take(places.swapaxes(0, 1))


class Features:
    """The feature store, read row by row.

    On the CPU a memory-mapped file stays a map: only the rows asked for are read, and the page cache is as quick as a
    copy. On another device the store is put there when it is at most ``DEVICE_BYTES``; else every batch is gathered
    here and sent over.

    Args:
        rows: [R, D], NumPy (a memory map too) or torch.
        device: where batches are wanted.
        dtype: of the batches.
    """

    def __init__(self, rows: np.ndarray | Tensor, device: torch.device, dtype: torch.dtype) -> None:
        if isinstance(rows, np.ndarray):
            with warnings.catch_warnings():  # a read-only map is never written to
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                rows = torch.from_numpy(rows)
        self._rows = rows.to(device) if rows.nbytes <= DEVICE_BYTES else rows
        self._direct = (self._rows.device, self._rows.dtype) == (device, dtype)
        self.device, self.dtype = device, dtype
        self.size = rows.shape[1]

    def take(self, rows: Tensor) -> Tensor:
        """Row numbers [...] (on any device) -> features [..., D]."""
        found = self._rows.index_select(0, rows.reshape(-1).to(self._rows.device))
        return found.to(self.device, self.dtype).view(*rows.shape, self.size)

    def taker(self, out: Tensor) -> Callable[[Tensor], object]:
        """What fills ``out`` [n, D] with the features of rows [n], int32 on the device of the batches."""
        if self._direct:
            return partial(torch.index_select, self._rows, 0, out=out)
        between = self._rows.new_empty(out.shape)  # kept, as new memory is slow to fill

        def take(rows: Tensor) -> None:
            out.copy_(torch.index_select(self._rows, 0, rows.to(self._rows.device), out=between))

        return take
