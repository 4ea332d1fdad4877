"""The images that an exported head has learned from: on which it was trained, stopped, or its thresholds were tuned."""

from __future__ import annotations

import logging

import numpy as np

from aimonk_bench.config.split_fields import OfficialSplit
from aimonk_bench.data import splits
from aimonk_bench.errors import UserError
from aimonk_bench.serving.choice import Choice
from aimonk_bench.serving.heads import Kind
from aimonk_bench.serving.training_images import TrainingImages
from aimonk_bench.suite import dataset, plan

logger = logging.getLogger(__name__)


def training_images(chosen: Choice, kind: Kind) -> TrainingImages | None:
    """The training and validation images of a hold-out; of a head that is trained again, those of every part.

    An official split may leave images out, from which nothing learns.

    Every image file is read once, for its hash. Where labels or images are not those of the run any more, it is None,
    and a warning says why.
    """
    record, config = chosen.record, chosen.config
    lack = "so the bundle cannot warn where it is scored on the images that it has learned from"
    try:
        located = dataset.locate(config.data, plan.labels_of([config]))
    except UserError as error:
        logger.warning("%s, %s", error.problems[0], lack)
        return None
    if located.fingerprint != record.data["fingerprint"]:
        logger.warning("%s: labels or images are not those of the run any more, %s", config.data.labels, lack)
        return None
    listed, split = located.listed, config.split
    learned = np.full(len(listed.ids), True)
    if isinstance(split, OfficialSplit):
        learned = splits.official_parts(split, listed.columns[split.column]) != splits.NO_PART
    if kind != "refit":
        learned &= ~np.isin(listed.ids, record.predictions.part("test").image_id)
    return TrainingImages.of([located.images[row].sha256 for row in np.flatnonzero(learned)])
