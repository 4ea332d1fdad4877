"""Some images of the data set, and how many decisions flip where timm's transform prepares them instead of ours.

This module imports timm.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm.data
from PIL import Image, ImageOps

from aimonk_bench.backbones.threads import in_order
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.config.fields import Config
from aimonk_bench.data.headers import UndecodableImage
from aimonk_bench.data.images import decode
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import sigmoid
from aimonk_bench.serving.onnx_graph import planes
from aimonk_bench.suite import plan

logger = logging.getLogger(__name__)

IMAGES = 100
BATCH = 8
Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Sample:
    """An image of the data set.

    Attributes:
        name: as the label file has it.
        path: of its file.
        pixels: as training decodes them, uint8 [H, W, 3].
    """

    name: str
    path: Path
    pixels: np.ndarray


@dataclass(frozen=True)
class Flips:
    """How timm's transform changes probabilities and decisions, compared with the decoding of training.

    Attributes:
        images: that were decoded in both ways.
        test_images: those of them on which the run was tested.
        decisions: images x attributes.
        flipped: decisions that differ.
        largest, median: difference of a probability, over images and attributes; NaN where no image was decoded.
        unreadable: images that Pillow, which timm's users decode with, cannot read.
    """

    images: int
    test_images: int
    decisions: int
    flipped: int
    largest: float
    median: float
    unreadable: int


def samples(
    config: Config, weights: Weights, preferred: Sequence[Sequence[str]], skipped: Sequence[str] = ()
) -> list[Sample]:
    """At most `IMAGES` images of a run; without those that are not here any more, or not decodable.

    Where the labels of the run cannot be read any more, there are none, and a warning says why.

    Args:
        preferred: names of images, such as those of the test rows, then those of the validation rows: evenly spaced
            ones of the first, then of the next where those are fewer, then of all others that the label file lists.
        skipped: names of images that the run left out.
    """
    try:
        listed = plan.labels_of([config])
    except UserError as error:
        logger.warning("the images of the run are not looked at: %s", error.problems[0])
        return []
    paths = dict(zip(listed.ids, listed.paths, strict=True))
    names: list[str] = []
    for group in (*preferred, listed.ids):
        taken = {*names, *skipped}
        rest = [name for name in group if name not in taken]
        places = np.linspace(0, len(rest) - 1, min(IMAGES - len(names), len(rest))).round().astype(int)
        names += [rest[place] for place in np.unique(places)]
    decoded, reasons = [], []
    cv2.setNumThreads(1)  # as in training, of which the pixels are to be the same
    for name in names:
        path = config.data.images / paths.get(name, name)
        try:
            data = path.read_bytes()
            transform, interpolation = config.transform, weights.entry.interpolation
            fast, white = transform.decode == "fast", config.data.white
            pixels = decode(data, transform.size, interpolation, fast=fast, white=white)
            decoded.append(Sample(name, path, pixels))
        except OSError as error:
            reasons.append(f"{path}: {error.strerror}")
        except UndecodableImage as error:
            reasons.append(f"{path}: {error}")
    if reasons:
        logger.warning("%d of %d images of the run cannot be read, first %s", len(reasons), len(names), reasons[0])
    return decoded


def logits_of(run: Run, images: Sequence[Sample]) -> Array:
    """The logits [n, A] of images as training decodes them."""
    return _batched(run, [planes(image.pixels[None])[0] for image in images])


def _batched(run: Run, images: Sequence[Array]) -> Array:
    """The logits [n, A] of planes [3, H, W], in threads."""
    batches = (np.stack(images[start : start + BATCH]) for start in range(0, len(images), BATCH))
    return np.concatenate([*in_order(run, batches)]) if images else np.empty((0, 0), np.float32)


def flips(
    images: Sequence[Sample],
    logits: Array,
    run: Run,
    pretrained_cfg: Mapping[str, Any],
    thresholds: Array,
    tested: Collection[str],
) -> Flips:
    """Compare the decisions on images that timm's transform and our decoding prepare.

    Args:
        logits: [n, A] of our decoding, see `logits_of`.
        run: the logits of float32 [n, 3, H, W], RGB from 0 to 255.
        pretrained_cfg: of ``config.json``.
        thresholds: [A].
        tested: names of the images on which the run was tested.
    """
    config = timm.data.resolve_data_config({}, pretrained_cfg=dict(pretrained_cfg))
    transform = timm.data.create_transform(**config, is_training=False)
    mean, std = (np.array(config[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
    by_timm: dict[int, Array] = {}
    for place, image in enumerate(images):
        try:
            with Image.open(image.path) as file:
                normalised = transform(ImageOps.exif_transpose(file).convert("RGB")).numpy()
        except Exception:  # decoders raise exceptions of any kind; the card counts them
            continue
        by_timm[place] = 255 * (normalised * std + mean)
    unreadable, places = len(images) - len(by_timm), list(by_timm)
    if not places:
        return Flips(0, 0, 0, 0, math.nan, math.nan, unreadable)
    ours, theirs = sigmoid(logits[places]), sigmoid(_batched(run, [*by_timm.values()]))
    difference = np.abs(ours - theirs)
    return Flips(
        images=len(places),
        test_images=sum(images[place].name in tested for place in places),
        decisions=difference.size,
        flipped=int(((ours > thresholds) != (theirs > thresholds)).sum()),
        largest=float(difference.max()),
        median=float(np.median(difference)),
        unreadable=unreadable,
    )
