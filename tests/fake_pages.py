"""A suite for the tests of the report page: hostile names, a failed run, images."""

from __future__ import annotations

from pathlib import Path

import cv2
import fake_suite
import numpy as np
import yaml

from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.records import files
from aimonk_bench.records import run as runs
from aimonk_bench.records import suite as suites
from aimonk_bench.reporting import summary

HOSTILE = (
    "</script><script>alert(1)</script>",
    "\"quoted\" & 'single' <b>",
    "\u202eright to left\u2028line",
    "=1+1",
    "x" * 200,
)


def run_folder(place: Path, name: str, made: Predictions, images: Path | None = None) -> None:
    """A finished run whose data.json counts the labels and whose config names a folder of images."""
    fake_suite.write_run(place, name, made)
    labels = made.labels[made.split == "test"]
    counted = {"n_positive": labels.counts()[0], "n_observed": labels.observed.sum(axis=0)}
    by_name = {key: dict(zip(labels.attributes, values, strict=True)) for key, values in counted.items()}
    files.write_json(place / runs.DATA, files.read_json(place / runs.DATA) | by_name)
    if images is not None:
        config = yaml.safe_load((place / runs.CONFIG).read_text()) | {"data": {"images": str(images)}}
        (place / runs.CONFIG).write_text(yaml.safe_dump(config))


def write_images(folder: Path, made: Predictions) -> None:
    """An image of noise, 40 x 20, for each row; the first two are equal, one is missing and one is damaged."""
    folder.mkdir()
    names = sorted(set(made.image_id.tolist()))
    rng = np.random.default_rng(0)
    for name in names:
        cv2.imwrite(str(folder / name), cv2.resize(rng.integers(0, 255, (5, 10, 3), np.uint8), (40, 20)))
    (folder / names[1]).write_bytes((folder / names[0]).read_bytes())
    (folder / names[2]).unlink()
    (folder / names[3]).write_bytes(b"no image")


def write_suite(folder: Path) -> None:
    """Three finished runs and a failed one, with hostile names; their images stand beside the folder."""
    names = ["masked_bce + uniform", "focal + uniform", f"{HOSTILE[0]} + uniform", "hill + uniform"]
    places = fake_suite.write_suite(folder, names)
    images = folder.parent / "images"
    for i, (place, name) in enumerate(zip(places[:3], names, strict=False)):
        made = fake_suite.predictions(HOSTILE, noise=i, signal=0.8 + 0.3 * i)
        if i == 0:
            write_images(images, made)
        run_folder(place, name, made, images)
    fake_suite.write_failed(places[3], names[3], f"{folder}/runs/x.png cannot be decoded: {HOSTILE[0]}")
    collected = suites.collect(folder)
    stats = summary.summarize(collected).statistics
    assert stats is not None
    suites.write_statistics(folder, stats)
