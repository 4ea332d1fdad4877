"""The embedded data set: small cluttered images with four yes/no attributes, skewed and partly labelled.

Each attribute says whether a patch of one pattern lies somewhere in the scene. Patterns equal their mirror images, so
flips keep every label. Size and contrast of the patches set the difficulty: with the default recipe (frozen
tf_efficientnet_lite0, linear head) the test ROC AUCs are about 0.93, 0.89, 0.83 and 0.84, over seeds 0 to 3 between
0.81 and 0.94; with 400 or 2,000 images between 0.71 and 0.95.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import pandas as pd
from annotated_types import Ge, Interval
from pydantic import ValidationError

from aimonk_bench import registry
from aimonk_bench.config.faults import dotted
from aimonk_bench.config.fields import Mechanism
from aimonk_bench.data.hiding import hide
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.prepared import prepared
from aimonk_bench.errors import UserError

logger = logging.getLogger(__name__)

# Part of the description of a folder: raise it when the same options come to mean other images or labels.
REVISION = 1
PREVALENCES = (0.88, 0.81, 0.53, 0.08)
JPEG_QUALITY = 85
SCORE_NOISE = 0.5  # SD of the noise in the scores of the mechanism `score`; their ROC AUC against the truth is 0.92

Share = Annotated[float, Interval(gt=0, lt=1)]


@dataclass(frozen=True)
class Pattern:
    """What marks an attribute.

    Attributes:
        tone: pattern(u, v) -> [H, W] bool, which of two colours; u and v span [-1, 1] over the patch.
        radius: smallest and largest radius, as a part of the image's edge.
        contrast: smallest and largest distance between the colours, as a part of black to white.
    """

    tone: Callable[[np.ndarray, np.ndarray], np.ndarray]
    radius: tuple[float, float]
    contrast: tuple[float, float]


PATTERNS = (
    Pattern(lambda u, v: np.sin(9 * u) > 0, (0.15, 0.28), (0.4, 0.9)),  # stripes
    Pattern(lambda u, v: np.sin(8 * u) * np.sin(8 * v) > 0, (0.12, 0.24), (0.3, 0.8)),  # checks
    Pattern(lambda u, v: np.sin(11 * np.hypot(u, v)) > 0, (0.08, 0.17), (0.15, 0.6)),  # rings
    Pattern(lambda u, v: np.hypot(np.sin(9 * u), np.sin(9 * v)) < 0.8, (0.11, 0.21), (0.25, 0.7)),  # dots
)


def write(
    out: Path,
    *,
    images: Annotated[int, Ge(10)] = 1000,
    seed: Annotated[int, Ge(0)] = 0,
    size: Annotated[int, Interval(ge=32, le=1024)] = 128,
    prevalences: tuple[Share, Share, Share, Share] = PREVALENCES,
    missing: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
    mechanism: Mechanism = "random",
    label_noise: Annotated[float, Interval(ge=0, le=1)] = 0.0,
) -> None:
    """Write ``labels.txt``, ``images/`` and ``truth.csv`` to ``out``; the same arguments give the same data set.

    ``truth.csv`` has the noise-free label of every image and attribute, so also of every NA; name it in ``data.truth``
    to use it. Images and truth do not depend on how labels go missing or wrong. A complete folder is left as it is.

    Args:
        out: a new or empty folder, or one that holds the same set or a part of it.
        images: number of images.
        seed: of all randomness.
        size: edge of an image in pixels.
        prevalences: the share of the images that has each attribute; reached up to rounding, with at least one image
            on either side.
        missing: the share of the labels (under ``positives``: of the positive ones) that is NA.
        mechanism: how labels go missing, as `hiding.hide` says. The scores of ``score`` are 1 (present) or 0 (absent)
            plus normal noise of SD 0.5.
        label_noise: probability that an observed label is wrong.

    Raises:
        UserError: an argument out of its range, or ``out`` holds something else.
    """
    options = {"images": images, "seed": seed, "size": size, "prevalences": tuple(prevalences), "missing": missing}
    options |= {"label_noise": label_noise, "mechanism": mechanism}
    try:
        registry.options_model(write).model_validate(options)
    except ValidationError as error:
        problems = registry.problems_of(error, lambda _: options)
        raise UserError([f"{dotted(problem.path)}: {problem}" for problem in problems]) from None
    if mechanism == "random":  # folders are older than this option
        del options["mechanism"]
    description = {"data": "synthetic", "revision": REVISION, **options}
    with prepared(out, description, "labels.txt") as labels:
        if labels is None:
            return
        truth = draw_truth(images, prevalences, np.random.default_rng([seed, 0]))
        labelled = truth ^ (np.random.default_rng([seed, 2]).random(truth.shape) < label_noise)
        scores = truth + np.random.default_rng([seed, 4]).normal(0, SCORE_NOISE, truth.shape)
        complete = Labels.of(labelled, np.ones_like(labelled))
        absent = hide(mechanism, missing, complete, scores, np.random.default_rng([seed, 1]))
        names = [f"image_{number}.jpg" for number in range(images)]
        (out / "images").mkdir(exist_ok=True)
        for number, name in enumerate(names):
            scene = draw_scene(truth[number], size, np.random.default_rng([seed, 3, number]))
            encoded = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            (out / "images" / name).write_bytes(encoded.tobytes())
        columns = [f"attr{number}" for number in range(1, len(PATTERNS) + 1)]
        index = pd.Index(names, name="image")
        pd.DataFrame(truth.astype(int), index, columns).to_csv(out / "truth.csv", lineterminator="\n")
        tokens = pd.DataFrame(labelled.astype(int), index, columns).astype(str).mask(absent, "NA")
        tokens.to_csv(labels, sep=" ", header=False, lineterminator="\n")
    logger.info("wrote %d images, labels.txt and truth.csv to %s", images, out)


def draw_truth(images: int, prevalences: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Labels [N, A] bool: round(N * prevalence) positives of each attribute, at least 1 and at most N - 1."""
    counts = [min(max(round(images * p), 1), images - 1) for p in prevalences]
    return np.stack([rng.permutation(images) < count for count in counts], axis=1)


def draw_scene(present: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """An image, uint8 [size, size, 3], with a patch of each pattern that is ``present`` [A] bool."""
    rough = rng.uniform(0, 1, (int(rng.integers(3, 9)), int(rng.integers(3, 9)), 3))
    cells = rough * rng.uniform(0.1, 0.5) + rng.uniform(0.2, 0.8, 3)
    scene = cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    for _ in range(rng.integers(4, 9)):
        _distract(scene, rng)
    for number in rng.permutation(np.flatnonzero(present)):
        _stamp(scene, PATTERNS[number], rng)
    for _ in range(rng.integers(0, 3)):
        _distract(scene, rng)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    slope = rng.uniform(-0.3, 0.3, 2)
    lit = scene * (rng.uniform(0.7, 1.1) + slope[0] * x + slope[1] * y)[..., None]
    grain = rng.normal(0, rng.uniform(0.01, 0.05), scene.shape)
    image: np.ndarray = np.rint(np.clip(lit + grain, 0, 1) * 255).astype(np.uint8)
    return image


def _distract(scene: np.ndarray, rng: np.random.Generator) -> None:
    """Paint a plain ellipse, polygon or line over the scene."""
    size = len(scene)
    colour = rng.uniform(0, 1, 3).tolist()
    centre = rng.uniform(0, size, 2)
    reach = rng.uniform(0.04, 0.18) * size
    kind = rng.integers(3)
    if kind == 0:
        axes = (int(reach), int(reach * rng.uniform(0.4, 1)))
        cv2.ellipse(scene, centre.astype(int).tolist(), axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
        return
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 6))))
    corners = (centre + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.int32)
    if kind == 1:
        cv2.fillPoly(scene, [corners], colour, cv2.LINE_AA)
    else:
        cv2.polylines(scene, [corners], False, colour, max(1, size // 40), cv2.LINE_AA)


def _stamp(scene: np.ndarray, pattern: Pattern, rng: np.random.Generator) -> None:
    """Paint a patch with the pattern, turned and squeezed at random, wholly inside the scene."""
    size = len(scene)
    radius = rng.uniform(*pattern.radius)
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j] - rng.uniform(radius, 1 - radius, 2)[:, None, None]
    angle = rng.uniform(0, np.pi)
    u = (np.cos(angle) * x + np.sin(angle) * y) / radius
    v = (np.cos(angle) * y - np.sin(angle) * x) / radius / rng.uniform(0.6, 1)
    dark = rng.uniform(0, 1, 3)
    tint = rng.uniform(0.5, 1, 3) * rng.uniform(*pattern.contrast)
    light = np.where(dark < 0.5, dark + tint, dark - tint)
    inside = np.hypot(u, v) < 1
    scene[inside] = np.where(pattern.tone(u, v)[..., None], light, dark)[inside]
