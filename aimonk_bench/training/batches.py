"""The batches of an epoch: random generators, images, views, and features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import RunFailed

DEVICE_BYTES = 2 << 30  # a feature matrix up to this size is put on the device that trains


@dataclass(frozen=True)
class HeadRngs:
    """The three independent random generators of a head, which depend on its seed and fold alone."""

    init: np.random.Generator
    sampler: np.random.Generator
    views: np.random.Generator

    @classmethod
    def of(cls, seed: int, fold: int) -> HeadRngs:
        """The generators of the head with this seed, in this fold."""
        return cls(*map(np.random.default_rng, np.random.SeedSequence([seed, fold]).spawn(3)))


@dataclass(frozen=True, eq=False)
class EpochBatches:
    """The images and views that J jobs read in one epoch; int32, half the memory of int64.

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
        """Draw the next epoch of each job from its training rows with its generators; a single view takes no draw.

        Args:
            sampler: with its options bound; what it draws is checked, because a plug-in may have it.
            labels: [N, A].
            rows: [J] the training rows of each job.
            rngs: [J] the generators of each job.
            view_probabilities: [V].
            shape: (T, B).

        Raises:
            RunFailed: the sampler drew rows that do not exist, or too few or too many.
        """
        steps, batch_size = shape
        images = np.empty((steps, len(rows), batch_size), np.int32)
        views = np.zeros(images.shape, np.int32)
        bounds = np.cumsum(view_probabilities)[:-1]
        for job, (training, rng) in enumerate(zip(rows, rngs, strict=True)):
            drawn = sampler(labels[training], batch_size, steps, rng.sampler)
            if drawn.shape != shape or drawn.min() < 0 or drawn.max() >= len(training):
                actual = f"rows {drawn.min()} to {drawn.max()} of shape {drawn.shape}"
                raise RunFailed(f"sampler: found {actual}, expected rows 0 to {len(training) - 1} of shape {shape}")
            images[:, job] = training[drawn]
            if len(bounds):
                views[:, job] = np.searchsorted(bounds, rng.views.random(shape), side="right")
        return cls(images, views)


class Features:
    """The feature matrix, from which batches are gathered.

    On the CPU a memory map stays one: only the rows of the batches are read, and the page cache is as fast as a copy.
    On another device a matrix of at most ``DEVICE_BYTES`` is copied to the device; of a larger one every batch is
    gathered on the CPU and copied.

    Args:
        matrix: [rows, D], a NumPy array (also a memory map) or a tensor.
        device: of the batches.
        dtype: of the batches.
    """

    def __init__(self, matrix: np.ndarray | Tensor, device: torch.device, dtype: torch.dtype) -> None:
        if isinstance(matrix, np.ndarray):
            with warnings.catch_warnings():  # nothing writes to a read-only map
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                matrix = torch.from_numpy(matrix)
        self._matrix = matrix.to(device) if matrix.nbytes <= DEVICE_BYTES else matrix
        self._gathered = self._matrix.new_empty(0, matrix.shape[1])
        self.device, self.dtype = device, dtype
        self.size = matrix.shape[1]

    def take(self, rows: Tensor) -> Tensor:
        """Gather features [..., D] of row numbers [...], which may be on any device; valid until the next call."""
        # new memory for every batch takes several times as long as gathering into it: the system clears each page
        if len(self._gathered) < rows.numel():
            self._gathered = self._matrix.new_empty(rows.numel(), self.size)
        flat = rows.reshape(-1).to(self._matrix.device)
        batch = torch.index_select(self._matrix, 0, flat, out=self._gathered[: rows.numel()])
        return batch.to(self.device, self.dtype).view(*rows.shape, self.size)
