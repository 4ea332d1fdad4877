"""CUDA out of memory: the same work, fewer images at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

logger = logging.getLogger(__name__)

# what else says that the memory of a card is full, beside torch's allocator: its libraries, and the driver
MESSAGES = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory")

R = TypeVar("R")


def is_full(error: RuntimeError) -> bool:
    """Whether an exception says that the memory of a card is full."""
    return isinstance(error, torch.OutOfMemoryError) or any(message in str(error) for message in MESSAGES)


@dataclass
class AtOnce:
    """How many images a device takes at once: halved where its memory does not suffice.

    The last bits of a result may depend on it, as a product of another shape adds in another order.

    Attributes:
        images: the number, at least 1.
        work: what is done with them, for messages: "encoding", "training".
    """

    images: int
    work: str

    def halve(self, tried: int) -> None:
        """Take half of the ``tried`` images from now on, say so, and give back what torch holds in reserve."""
        self.images = max(1, tried // 2)
        logger.warning("CUDA out of memory: %s %d instead of %d images at once", self.work, self.images, tried)
        torch.cuda.empty_cache()

    def map(self, function: Callable[[np.ndarray], R], items: np.ndarray) -> Sequence[R]:
        """The results of a function of some images for all of them, in order.

        Raises:
            RuntimeError: there is no memory for one image; or another one of the function.
        """
        results: list[R] = []
        start = 0
        while start < len(items):
            part = items[start : start + self.images]
            try:
                results.append(function(part))
            except RuntimeError as error:
                if len(part) == 1 or not is_full(error):
                    raise
            else:
                start += len(part)
                continue
            self.halve(len(part))  # outside of `except`, where the exception holds the tensors
        return results
