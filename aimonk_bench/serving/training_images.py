"""Which images a bundle has learned from, by their hashes, so that nobody scores it on them without knowing it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from aimonk_bench.evaluation.numbers import Array

MOST = 100_000  # hashes that a bundle holds, 1.1 MB of text: more would only make it slower to open
PREFIX = 16  # hexadecimal digits of a SHA-256


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """The first 8 bytes of the SHA-256 of image files; of more than `MOST` files the lowest ones, a random sample.

    Attributes:
        prefixes: uint64, ascending, distinct.
    """

    prefixes: Array

    @classmethod
    def of(cls, hashes: Iterable[str]) -> TrainingImages:
        """From hashes as hexadecimal digits."""
        return cls(np.unique(_prefixes(hashes))[:MOST])

    @classmethod
    def of_text(cls, text: str) -> TrainingImages:
        """From what `text` made.

        Raises:
            ValueError: it is something else.
        """
        content = base64.b64decode(text, validate=True)
        if len(content) % 8:
            raise ValueError(f"{len(content)} bytes, expected a multiple of 8")
        return cls(np.frombuffer(content, ">u8").astype(np.uint64))

    @property
    def is_sample(self) -> bool:
        """Whether there may be more of them than those that are held."""
        return len(self.prefixes) == MOST

    @property
    def text(self) -> str:
        """ASCII: base64 of big-endian numbers."""
        return base64.b64encode(self.prefixes.astype(">u8").tobytes()).decode()

    def among(self, hashes: Iterable[str]) -> Array:
        """[N] bool, whether each file is among those that are held."""
        return np.isin(_prefixes(hashes), self.prefixes)


def _prefixes(hashes: Iterable[str]) -> Array:
    return np.array([int(digits[:PREFIX], 16) for digits in hashes], np.uint64)
