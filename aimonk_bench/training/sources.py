"""The inputs of trainable layers: rows of the feature store, or pixels with a new augmentation in every epoch."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data.transforms import augment, flipped


class Source(Protocol):
    """Reads inputs [B, D] of the trainable layers, which depend on the arguments alone."""

    def __call__(self, views: np.ndarray, images: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """The inputs of a job with this seed in this epoch, for views [B] of images [B]."""

    def unaugmented(self, images: np.ndarray) -> np.ndarray:
        """The inputs for images [B] in view 0."""


class Stored:
    """The output of the frozen layers, from the feature store.

    Args:
        rows: [rows, D], a memory map, of which only the rows of the batches are read.
        index: [V, N] the row of each view and image.
    """

    def __init__(self, rows: np.ndarray, index: np.ndarray) -> None:
        self._rows, self._index = rows, index

    def __call__(self, views: np.ndarray, images: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """The stored rows of views [B] of images [B]."""
        return np.asarray(self._rows[self._index[views, images]])

    def unaugmented(self, images: np.ndarray) -> np.ndarray:
        """The stored rows of images [B] in view 0."""
        return np.asarray(self._rows[self._index[0, images]])


class Pixels:
    """Pixels, for a network without frozen layers; views are computed when they are read.

    Args:
        rows: uint8 [rows, size x size x 3], a memory map of unaugmented images.
        index: [N] the row of each image.
        keys: [V] the flips of each view.
        transform: the section of the config; ``views: fresh`` draws an augmentation for each (seed, epoch, image).
    """

    def __init__(self, rows: np.ndarray, index: np.ndarray, keys: tuple[str, ...], transform: TransformConfig) -> None:
        self._rows, self._index, self._keys, self._transform = rows, index, keys, transform

    def _pixels(self, image: int) -> np.ndarray:
        size = self._transform.size
        return np.asarray(self._rows[self._index[image]]).reshape(size, size, 3)

    def __call__(self, views: np.ndarray, images: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Views [B] of images [B], or fresh augmentations: uint8 [B, D]."""
        return np.stack([self._view(*pair, seed, epoch) for pair in zip(views, images, strict=True)])

    def _view(self, view: int, image: int, seed: int, epoch: int) -> np.ndarray:
        pixels = self._pixels(image)
        if self._transform.views == "fresh":
            return augment(pixels, f"{seed}/{epoch}/{image}", self._transform).reshape(-1)
        return flipped(pixels, self._keys[view]).reshape(-1)

    def unaugmented(self, images: np.ndarray) -> np.ndarray:
        """Pixels of images [B], uint8 [B, D]."""
        return np.stack([self._pixels(image).reshape(-1) for image in images])
