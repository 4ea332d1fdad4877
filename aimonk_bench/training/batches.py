"""What a head sees in an epoch: its random generators, its images, their views, their features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aimonk_bench.data.labels import Labels

DEVICE_BYTES = 2 << 30  # a feature matrix up to this size is put on the device that trains


@dataclass(frozen=True)
class HeadRngs:
    """The independent random generators of one head, which depend on its seed and fold alone."""

    init: np.random.Generator
    sampler: np.random.Generator
    views: np.random.Generator

    @classmethod
    def of(cls, seed: int, fold: int) -> HeadRngs:
        """The generators of the head with this seed, in this fold."""
        return cls(*map(np.random.default_rng, np.random.SeedSequence([seed, fold]).spawn(3)))


@dataclass(frozen=True, eq=False)
class EpochBatches:
    """What J jobs read in one epoch; numbers are int32, as a million images times many jobs take much memory.

    Attributes:
        images: [T, J, B] numbers of the images.
        views: [T, J, B] numbers of their views.
    """

    images: NDArray[np.int32]
    views: NDArray[np.int32]

    @classmethod
    def draw(
        cls,
        sampler: Callable[..., np.ndarray],
        labels: Labels,
        rows: Sequence[np.ndarray],
        rngs: Sequence[HeadRngs],
        view_probabilities: np.ndarray,
        shape: tuple[int, int],
    ) -> EpochBatches:
        """Draw the next epoch of each job from its own rows, with its own generators; a single view is not drawn for.

        Args:
            sampler: with its options bound.
            labels: [N, A].
            rows: [J] the training rows of each job.
            rngs: [J] the generators of each job.
            view_probabilities: [V].
            shape: (T, B).
        """
        steps, batch_size = shape
        images = np.empty((steps, len(rows), batch_size), np.int32)
        views = np.zeros(images.shape, np.int32)
        bounds = np.cumsum(view_probabilities)[:-1]
        for job, (training, rng) in enumerate(zip(rows, rngs, strict=True)):
            images[:, job] = training[sampler(labels[training], batch_size, steps, rng.sampler)]
            if len(bounds):
                views[:, job] = np.searchsorted(bounds, rng.views.random(shape), side="right")
        return cls(images, views)


class Features:
    """The feature matrix, gathered batch by batch.

    On the CPU a memory-mapped file stays a map: only the rows asked for are read, and the page cache is as quick as a
    copy. On another device the matrix is put there when it is at most ``DEVICE_BYTES``; else every batch is gathered
    here and sent over.

    Args:
        matrix: [rows, D], NumPy (a memory map too) or torch.
        device: where batches are wanted.
        dtype: of the batches.
    """

    def __init__(self, matrix: np.ndarray | Tensor, device: torch.device, dtype: torch.dtype) -> None:
        if isinstance(matrix, np.ndarray):
            with warnings.catch_warnings():  # a read-only map is never written to
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                matrix = torch.from_numpy(matrix)
        self._matrix = matrix.to(device) if matrix.nbytes <= DEVICE_BYTES else matrix
        self.device, self.dtype = device, dtype
        self.size = matrix.shape[1]

    def take(self, rows: Tensor) -> Tensor:
        """Row numbers [...] (on any device) -> features [..., D]."""
        batch = self._matrix.index_select(0, rows.reshape(-1).to(self._matrix.device))
        return batch.to(self.device, self.dtype).view(*rows.shape, self.size)
