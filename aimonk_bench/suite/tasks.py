"""The work of a suite as pure functions: values in, values out, wherever they run.

A task reads image files and the feature store. It writes rows of the feature store, under the store's lock, and
checkpoints in its scratch folder, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.config.fields import Config, TransformConfig
from aimonk_bench.data import splits, transforms
from aimonk_bench.data.image_files import SHOWN, Skipped
from aimonk_bench.data.transforms import UNAUGMENTED
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import scores, thresholds
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.scores import Calibrator, Scores
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.registry import Spec
from aimonk_bench.reporting import figures
from aimonk_bench.suite.clock import Clock
from aimonk_bench.suite.dataset import Dataset, EncodedDataset
from aimonk_bench.training.outcome import Trained
from aimonk_bench.training.recipe import Recipe, TrainingData

logger = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]


class BadImages(UserError):
    """Images that cannot be decoded and are not to be skipped: no run on the data set can begin."""


def encode(dataset: Dataset, config: Config, encoder: EncoderSpec, progress: Progress | None = None) -> EncodedDataset:
    """Encode the images of a data set that the feature store does not hold yet; those to be skipped are logged.

    Args:
        config: of the run, whose data, transform and freeze are read.
        encoder: the frozen layers.
        progress: called with ("encode", images done, images to do).

    Raises:
        BadImages: images cannot be decoded and are not to be skipped, or none can.
        RunFailed: the engine cannot be had, or the disk has no room.
        UserError: the feature store cannot be used, or the weights do not fit.
    """
    store, views, labels = FeatureStore(), stored_views(config), config.data.labels
    rows = [row for row, image in enumerate(dataset.images) if image is not None]
    images = [image for image in dataset.images if image is not None]
    stored = store.features(images, views, config.transform, encoder, progress)
    bad = [Skipped(images[n].image_id, images[n].line, reason) for n, reason in stored.bad]
    if bad and (config.data.on_bad_image == "error" or len(bad) == len(images)):
        raise BadImages(
            [f"{labels}:{item.line}: image {item.image_id} cannot be decoded: {item.reason}" for item in bad],
            limit=SHOWN,
        )
    skipped = sorted([*dataset.skipped, *bad], key=lambda item: item.line)
    for item in skipped:
        logger.warning("%s:%d: skipped %s: %s", labels, item.line, item.image_id, item.reason)
    decoded = np.delete(np.arange(len(images)), [n for n, _ in stored.bad])
    images = [images[n] for n in decoded]
    used = np.array(rows)[decoded]
    listed = dataset.listed.subset(used)
    stored = replace(stored, index=stored.index[:, decoded], bad=[])
    pooled = stored
    if encoder.freeze != "all":
        pooled = store.features(images, UNAUGMENTED, config.transform, replace(encoder, freeze="all"), progress)
    return EncodedDataset(
        listed=listed,
        groups=splits.components([image.sha256 for image in images], listed.groups),
        skipped=skipped,
        fingerprint=dataset.fingerprint,
        stored=stored,
        pooled=pooled,
        truth=None if dataset.truth is None else dataset.truth[used],
    )


def stored_views(config: Config) -> transforms.Views:
    """The views of an image that the feature store keeps; of pixels only the unaugmented one."""
    return UNAUGMENTED if config.backbone.freeze == "none" else transforms.views(config.transform)


@dataclass(frozen=True)
class MappedRows:
    """A feature matrix [R, D] on disk, which is opened where it is used and never pickled."""

    path: Path
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, rows: np.ndarray) -> MappedRows:
        """The file behind a memory map."""
        assert isinstance(rows, np.memmap)
        return cls(Path(str(rows.filename)), rows.dtype.str, rows.shape)

    def open(self) -> np.ndarray:
        """The memory map, read-only."""
        return np.memmap(self.path, self.dtype, "r", shape=self.shape)


@dataclass(frozen=True, eq=False)
class Training:
    """All that the training of a run depends on.

    Attributes:
        data: labels and folds.
        recipe: how to learn.
        rows: output of the frozen layers.
        index: [V, N] the row of each view and image.
        encoder: which layers are frozen, and the weights of the others.
        transform: augmentations of images that are stored as pixels.
        key: the run's id; a checkpoint of another run is not used.
        scratch: a folder for checkpoints, from which an interrupted fine-tuning goes on.
    """

    data: TrainingData
    recipe: Recipe
    rows: MappedRows
    index: np.ndarray
    encoder: EncoderSpec
    transform: TransformConfig
    key: str
    scratch: Path


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What training leaves, and the seconds of the phases "start" (imports) and "train"."""

    trained: Trained
    seconds: dict[str, float]


def train(training: Training, progress: Progress | None = None) -> TrainingResult:
    """Train heads on frozen features, or the layers that are not frozen together with a head.

    Args:
        progress: called with ("train", epochs done, epochs).

    Raises:
        RunFailed: a loss is not finite, or the sampler finds nothing to draw.
        UserError: the network cannot be built.
    """
    clock, encoder = Clock(), training.encoder
    rows, index = training.rows.open(), training.index
    if encoder.freeze == "all":
        with clock("start"):  # torch is imported when there is something to train
            from aimonk_bench.training import heads_trainer

        with clock("train"):
            trained = heads_trainer.train_heads(rows, index, training.data, training.recipe, progress=progress)
        return TrainingResult(trained, clock.seconds)
    with clock("start"):
        from aimonk_bench.backbones import network
        from aimonk_bench.training import finetune, sources

    with clock("train"):
        source: sources.Source = sources.Stored(rows, index)
        if encoder.freeze == "none":
            source = sources.Pixels(rows, index[0], transforms.views(training.transform).keys, training.transform)
        trained = finetune.fine_tune(
            source,
            training.data,
            training.recipe,
            layers=network.build_trainable(encoder.weights, encoder.size, encoder.freeze),
            key=training.key,
            checkpoints=training.scratch,
            progress=progress,
        )
    return TrainingResult(trained, clock.seconds)


@dataclass(frozen=True, eq=False)
class ScoringResult:
    """What the predictions of a run say.

    Attributes:
        thresholds: tuned on the validation rows.
        scores: the content of ``metrics.json``.
        reliability: the rows of ``reliability.csv``.
        loss_curve: a PNG file.
        seconds: of the phases "score" and "plots".
    """

    thresholds: Thresholds
    scores: Scores
    reliability: list[dict[str, Any]]
    loss_curve: bytes
    seconds: dict[str, float]


def score(
    predictions: Predictions, policy: Spec, calibrator: Calibrator, history: Mapping[str, np.ndarray], title: str
) -> ScoringResult:
    """Tune the thresholds of a run, score it and draw its loss curve.

    Args:
        predictions: of its validation and test rows.
        policy: which tunes the thresholds.
        calibrator: as the config names it.
        history: the columns of ``history.csv``.
        title: of the loss curve.
    """
    clock = Clock()
    with clock("score"):
        tuned = thresholds.tune(predictions, policy)
        scored = scores.score(predictions, tuned, policy, calibrator)
        reliability = scores.reliability(predictions, calibrator)
    with clock("plots"):
        curve = figures.loss_curve(history, title)
    return ScoringResult(tuned, scored, reliability, curve, clock.seconds)
