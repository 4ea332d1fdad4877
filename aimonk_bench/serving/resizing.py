"""Some images of the data set, and how many decisions flip where timm's transform prepares them instead of ours.

This module imports torch and timm.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm.data
import torch
from PIL import Image, ImageOps

from aimonk_bench.backbones.weights import Weights
from aimonk_bench.config.fields import Config
from aimonk_bench.data.headers import UndecodableImage
from aimonk_bench.data.images import decode
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import sigmoid
from aimonk_bench.serving.classifier import Classifier
from aimonk_bench.serving.onnx_graph import planes
from aimonk_bench.suite import plan

logger = logging.getLogger(__name__)

IMAGES = 100
BATCH = 10


@dataclass(frozen=True, eq=False)
class Sample:
    """An image of the data set: its file, and its pixels as training decodes them, uint8 [H, W, 3]."""

    path: Path
    pixels: np.ndarray


@dataclass(frozen=True)
class Flips:
    """How many decisions differ between timm's transform and the decoding of training.

    Attributes:
        images: that were decoded in both ways.
        decisions: images x attributes.
        flipped: decisions that differ.
        unreadable: images that Pillow, which timm's users decode with, cannot read.
    """

    images: int
    decisions: int
    flipped: int
    unreadable: int


def samples(config: Config, image_ids: Sequence[str], weights: Weights) -> list[Sample]:
    """At most `IMAGES` of these images, evenly spaced; without those that are not here any more, or not decodable.

    Where the labels or images of the run cannot be read any more, there are none, and a warning says why.
    """
    try:
        listed = plan.checked_labels([config])
    except UserError as error:
        logger.warning("the images of the run are not looked at: %s", error.problems[0])
        return []
    paths = dict(zip(listed.ids, listed.paths, strict=True))
    places = np.unique(np.linspace(0, len(image_ids) - 1, min(IMAGES, len(image_ids))).round().astype(int))
    decoded, reasons = [], []
    cv2.setNumThreads(1)  # as in training, of which the pixels are to be the same
    for name in (image_ids[place] for place in places):
        path = config.data.images / paths.get(name, name)
        try:
            data = path.read_bytes()
            transform, interpolation = config.transform, weights.entry.interpolation
            fast, white = transform.decode == "fast", config.data.white
            pixels = decode(data, transform.size, interpolation, fast=fast, white=white)
            decoded.append(Sample(path, pixels))
        except OSError as error:
            reasons.append(f"{path}: {error.strerror}")
        except UndecodableImage as error:
            reasons.append(f"{path}: {error}")
    if reasons:
        logger.warning("%d of %d images of the run cannot be read, first %s", len(reasons), len(places), reasons[0])
    return decoded


def flips(
    images: Sequence[Sample], classifier: Classifier, pretrained_cfg: Mapping[str, Any], thresholds: Array
) -> Flips:
    """Compare the decisions on images that timm's transform and our decoding prepare.

    Args:
        pretrained_cfg: of ``config.json``.
        thresholds: [A].
    """
    config = timm.data.resolve_data_config({}, pretrained_cfg=dict(pretrained_cfg))
    transform = timm.data.create_transform(**config, is_training=False)
    pairs, unreadable = [], 0
    for image in images:
        try:
            with Image.open(image.path) as file:
                pairs.append((image.pixels, transform(ImageOps.exif_transpose(file).convert("RGB"))))
        except Exception:  # decoders raise exceptions of any kind; the card counts them
            unreadable += 1
    flipped = 0
    for start in range(0, len(pairs), BATCH):
        pixels, tensors = zip(*pairs[start : start + BATCH], strict=True)
        with torch.inference_mode():
            ours = classifier(torch.from_numpy(planes(np.stack(pixels)))).numpy()
            theirs = classifier.network(torch.stack(tensors)).numpy()
        flipped += int(((sigmoid(ours) > thresholds) != (sigmoid(theirs) > thresholds)).sum())
    return Flips(len(pairs), len(pairs) * len(thresholds), flipped, unreadable)
