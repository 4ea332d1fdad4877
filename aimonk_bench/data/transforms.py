"""Views of an image: flips with their probabilities (`views: exact`), or augmentations (`views: K`, `views: fresh`).

A stored view is made from the squashed uint8 image and named by a string that never changes its meaning. OpenCV does
the flips, albumentations everything else. It is imported only then, because it brings torch.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import os
import random
from dataclasses import dataclass
from types import ModuleType

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data.images import squash

IDENTITY = "identity"
FLIPS = {IDENTITY: None, "h": 1, "v": 0, "hv": -1}  # key of a view -> OpenCV's code of the flip
EXACT = ("HorizontalFlip", "VerticalFlip")


class Flip(BaseModel):
    """The arguments of HorizontalFlip and VerticalFlip, as in albumentations."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    p: float = Field(0.5, ge=0, le=1)


@dataclass(frozen=True, eq=False)
class Views:
    """The views of every training image that the feature store holds.

    Attributes:
        keys: [V] names; first ``identity``, the unaugmented image, the only view for validation and test.
        probabilities: [V] float64, how often training draws each view; they sum to 1.
    """

    keys: tuple[str, ...]
    probabilities: np.ndarray


UNAUGMENTED = Views((IDENTITY,), np.ones(1))


def views(transform: TransformConfig) -> Views:
    """The views of a checked `transform`.

    Exact: every reachable combination of the flips, with the product of their probabilities. K: the identity, which
    training never draws, and K views drawn with equal probability; their keys name transforms, arguments, library
    version and number. Fresh: the identity, because training augments it anew each time.
    """
    if transform.views == "fresh":
        return UNAUGMENTED
    if transform.views != "exact":
        count = int(transform.views)
        keys = [f"{_digest(transform)}/{number}" for number in range(1, count + 1)]
        return Views((IDENTITY, *keys), np.array([0.0] + [1 / count] * count))
    flipped = dict.fromkeys(EXACT, 0.0)  # the probability that an odd number of the flips of this name is drawn
    for item in transform.train:
        [(name, arguments)] = item.items()
        p = Flip.model_validate(arguments).p
        flipped[name] = flipped[name] * (1 - p) + (1 - flipped[name]) * p
    h, v = flipped.values()
    probabilities = dict(zip(FLIPS, [(1 - h) * (1 - v), h * (1 - v), (1 - h) * v, h * v], strict=True))
    stored = {key: p for key, p in probabilities.items() if p > 0 or key == IDENTITY}
    return Views(tuple(stored), np.array(list(stored.values())))


def render(image: np.ndarray, sha256: str, key: str, transform: TransformConfig) -> np.ndarray:
    """Make the view ``key`` of an image.

    A drawn view depends on the bytes of the image and on its own key alone: not on order, process or thread.

    Args:
        image: uint8 [size, size, 3], as `images.decode` returns it.
        sha256: hex digest of the image's file.
        key: one of ``views(transform).keys``.

    Returns:
        uint8 [size, size, 3].
    """
    return flipped(image, key) if key in FLIPS else augment(image, f"{sha256}/{key}", transform)


def flipped(image: np.ndarray, key: str) -> np.ndarray:
    """An image [H, W, C] in a view of FLIPS; the identity is the image itself."""
    code = FLIPS[key]
    return image if code is None else cv2.flip(image, code)


def augment(image: np.ndarray, seed: str, transform: TransformConfig) -> np.ndarray:
    """Draw an augmentation of an image, which depends on ``seed`` alone.

    Args:
        image: uint8 [size, size, 3].
        seed: any text.

    Returns:
        uint8 [size, size, 3]; a transform that changes the size, such as a crop, is followed by the squash (bilinear).
    """
    library = albumentations()
    steps = [getattr(library, name)(**arguments) for item in transform.train for name, arguments in item.items()]
    pipeline = library.Compose(steps)  # built anew: two threads would mix the random states of a shared one
    # Compose(seed=...) would give every step the same random state: two flips would always be drawn together
    digest = hashlib.sha256(seed.encode()).digest()
    pipeline.set_random_state(np.random.default_rng(list(digest)), random.Random(seed))
    return squash(np.ascontiguousarray(pipeline(image=image)["image"]), transform.size, "bilinear")


def albumentations() -> ModuleType:
    """The library, imported on first use."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or the import asks the package index, 2 s
    return importlib.import_module("albumentations")


def _digest(transform: TransformConfig) -> str:
    version = importlib.metadata.version("albumentations")
    return hashlib.sha256(json.dumps([version, transform.train], sort_keys=True).encode()).hexdigest()[:16]
