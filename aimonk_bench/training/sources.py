"""Where the rows of a batch come from when a tail is trained: the feature store, or pixels that are disturbed afresh.

A code stands for a picture in a view: of N pictures, n in view v is v N + n. View 0 is the undisturbed picture.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data.transforms import augment, flipped


class Source(Protocol):
    """Rows [B, D] of codes [B]; what they are depends on nothing but the arguments."""

    def __call__(self, codes: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """The rows that a job with this seed reads in this epoch."""

    def undisturbed(self, pictures: np.ndarray) -> np.ndarray:
        """The rows of pictures [B] in view 0."""


class Stored:
    """What a trunk made of pictures, as it stands in the feature store.

    Args:
        rows: [R, D], a memory map: only what is asked for is read.
        index: [V, N] the row of each view and picture.
    """

    def __init__(self, rows: np.ndarray, index: np.ndarray) -> None:
        self._rows, self._index = rows, index.ravel()

    def __call__(self, codes: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """The stored rows of codes [B]."""
        return np.asarray(self._rows[self._index[codes]])

    def undisturbed(self, pictures: np.ndarray) -> np.ndarray:
        """The stored rows of pictures [B] in view 0."""
        return np.asarray(self._rows[self._index[pictures]])


class Pixels:
    """Pictures as pixels; a view is made when it is read.

    Args:
        rows: uint8 [R, size x size x 3], a memory map of undisturbed pictures.
        index: [N] the row of each picture.
        keys: [V] the flips that views stand for.
        transform: of which ``views: fresh`` draws an augmentation for each (seed, epoch, picture).
    """

    def __init__(self, rows: np.ndarray, index: np.ndarray, keys: tuple[str, ...], transform: TransformConfig) -> None:
        self._rows, self._index, self._keys, self._transform = rows, index, keys, transform

    def _image(self, picture: int) -> np.ndarray:
        size = self._transform.size
        return np.asarray(self._rows[self._index[picture]]).reshape(size, size, 3)

    def __call__(self, codes: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Views of codes [B], or fresh augmentations: uint8 [B, D]."""
        views, pictures = np.divmod(codes, len(self._index))
        return np.stack([self._view(*each, seed, epoch) for each in zip(views, pictures, strict=True)])

    def _view(self, view: int, picture: int, seed: int, epoch: int) -> np.ndarray:
        image = self._image(picture)
        if self._transform.views == "fresh":
            return augment(image, f"{seed}/{epoch}/{picture}", self._transform).reshape(-1)
        return flipped(image, self._keys[view]).reshape(-1)

    def undisturbed(self, pictures: np.ndarray) -> np.ndarray:
        """Pixels of pictures [B], uint8 [B, D]."""
        return np.stack([self._image(picture).reshape(-1) for picture in pictures])
