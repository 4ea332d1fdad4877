"""The embedded data set: cluttered little pictures with four yes/no attributes, skewed and partly unlabelled.

Each attribute says whether a patch of one pattern lies somewhere in the scene. Patterns are the same seen in a mirror,
so flips keep every label. Size and contrast of the patches set the difficulty: with the default recipe (frozen
tf_efficientnet_lite0, linear head) the test ROC AUCs are about 0.93, 0.89, 0.83 and 0.84, measured over seeds 0 to 3
between 0.81 and 0.94; with 400 or 2,000 pictures between 0.71 and 0.95.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from aimonk_bench.config.fields import Mechanism
from aimonk_bench.data.hiding import MECHANISMS, hide
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.prepared import prepared
from aimonk_bench.errors import UserError

logger = logging.getLogger(__name__)

# Part of the description of a folder: raise it when the same options come to mean other pictures or labels.
REVISION = 1
PREVALENCES = (0.88, 0.81, 0.53, 0.08)
JPEG_QUALITY = 85
SCORE_NOISE = 0.5  # of the score by which labels are recorded or not; its ROC AUC against the truth is 0.92


@dataclass(frozen=True)
class Pattern:
    """What marks an attribute.

    Attributes:
        tone: pattern(u, v) -> [H, W] bool, which of two colours; u and v span [-1, 1] over the patch.
        radius: smallest and largest radius, as a part of the picture's edge.
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
    images: int = 1000,
    seed: int = 0,
    size: int = 128,
    prevalences: Sequence[float] = PREVALENCES,
    missing: float = 0.1,
    mechanism: Mechanism = "random",
    label_noise: float = 0.0,
) -> None:
    """Write ``labels.txt``, ``images/`` and ``truth.csv`` to ``out``; the same arguments give the same data set.

    ``truth.csv`` has the label without noise of every cell, so also what lies behind every NA. The pictures and the
    truth do not depend on how labels go missing or wrong. A folder that is complete already is left as it is.

    Args:
        out: a new or empty folder, or one that holds the same set or a part of it.
        images: number of pictures, at least 10.
        seed: of everything random, at least 0.
        size: edge of a picture in pixels, 32 to 1024.
        prevalences: the part of the pictures that has each attribute, four numbers above 0 and below 1; reached up to
            rounding, with at least one picture on either side.
        missing: the fraction of the labels (under ``positives``: of those) that are NA, at least 0 and below 1.
        mechanism: how they come to be so, as `hiding.hide` says; under ``score`` a label is recorded where 1 (there)
            or 0 (not there) plus normal noise of SD 0.5 is high.
        label_noise: probability that an observed label is the wrong one, 0 to 1.

    Raises:
        UserError: an argument out of its range, or ``out`` holds something else.
    """
    problems = _problems(images, seed, size, prevalences, missing, mechanism, label_noise)
    if problems:
        raise UserError(problems)
    description = {"data": "synthetic", "revision": REVISION, "images": images, "seed": seed, "size": size}
    description |= {"prevalences": list(prevalences), "missing": missing, "label_noise": label_noise}
    if mechanism != "random":  # folders are older than this option
        description["mechanism"] = mechanism
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
        with open(out / "truth.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["image", *(f"attr{number}" for number in range(1, len(PATTERNS) + 1))])
            table.writerows([name, *row] for name, row in zip(names, truth.astype(int), strict=True))
        tokens = np.where(absent, "NA", labelled.astype(int).astype(str))
        lines = [" ".join([name, *row]) + "\n" for name, row in zip(names, tokens, strict=True)]
        labels.write_text("".join(lines), "utf-8")
    logger.info("wrote %d pictures, labels.txt and truth.csv to %s", images, out)


def _problems(
    images: int,
    seed: int,
    size: int,
    prevalences: Sequence[float],
    missing: float,
    mechanism: str,
    label_noise: float,
) -> list[str]:
    checks = [
        (images >= 10, f"images: found {images}, expected at least 10"),
        (seed >= 0, f"seed: found {seed}, expected at least 0"),
        (32 <= size <= 1024, f"size: found {size}, expected 32 to 1024 pixels"),
        (len(prevalences) == len(PATTERNS), f"prevalences: found {len(prevalences)}, expected {len(PATTERNS)} numbers"),
        (all(0 < p < 1 for p in prevalences), f"prevalences: found {list(prevalences)}, expected above 0 and below 1"),
        (0 <= missing < 1, f"missing: found {missing}, expected at least 0 and below 1"),
        (mechanism in MECHANISMS, f"mechanism: found {mechanism!r}, expected one of {', '.join(MECHANISMS)}"),
        (0 <= label_noise <= 1, f"label_noise: found {label_noise}, expected 0 to 1"),
    ]
    return [message for fine, message in checks if not fine]


def draw_truth(images: int, prevalences: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Labels [N, A] bool: round(N * prevalence) positives of each attribute, at least 1 and at most N - 1."""
    counts = [min(max(round(images * p), 1), images - 1) for p in prevalences]
    return np.stack([rng.permutation(images) < count for count in counts], axis=1)


def draw_scene(present: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A picture, uint8 [size, size, 3], with a patch of each pattern that is ``present`` [A] bool."""
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
    picture: np.ndarray = np.rint(np.clip(lit + grain, 0, 1) * 255).astype(np.uint8)
    return picture


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
