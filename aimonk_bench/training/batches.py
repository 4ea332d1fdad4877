"""What a head sees in an epoch: its random streams, its pictures, their views, their features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int64]
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


def draw_views(probabilities: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> Indices:
    """Views in proportion to their probabilities [V]: [T, B]."""
    return rng.choice(len(probabilities), size=shape, p=probabilities)


def plan(
    sampler: Callable[..., Indices],
    probabilities: np.ndarray,
    targets: np.ndarray,
    observed: np.ndarray,
    parts: Sequence[np.ndarray],
    streams: Sequence[Streams],
    shape: tuple[int, int],
) -> tuple[Indices, Indices]:
    """One epoch of every head: (pictures [S, T, B], views [S, T, B]).

    Args:
        sampler: with its options bound.
        probabilities: [V] of the views in training.
        targets: [N, A].
        observed: [N, A].
        parts: for each head its training rows, each [n].
        streams: for each head its generators.
        shape: (T, B).
    """
    steps, batch_size = shape
    pictures = [
        rows[sampler(targets[rows], observed[rows], batch_size, steps, stream.sampler)]
        for rows, stream in zip(parts, streams, strict=True)
    ]
    views = [draw_views(probabilities, shape, stream.views) for stream in streams]
    return np.stack(pictures), np.stack(views)


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
        self.device, self.dtype = device, dtype
        self.size = rows.shape[1]

    def take(self, rows: Tensor) -> Tensor:
        """Row numbers [...] (on any device) -> features [..., D]."""
        found = self._rows.index_select(0, rows.reshape(-1).to(self._rows.device))
        return found.to(self.device, self.dtype).view(*rows.shape, self.size)
