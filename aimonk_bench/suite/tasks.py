"""The work of a suite as functions of values, wherever they run.

Training and scoring read the feature store, and image files where no layer is frozen; they write checkpoints in their
scratch folder and nothing else. `encode` is called by the driver: it writes rows of the feature store and hashes beside
it, or has workers encode, under the store's claims.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.backbones.features import FeatureMatrix, FeatureStore
from aimonk_bench.backbones.hash_store import perceptual_hashes
from aimonk_bench.backbones.threads import torch_threads
from aimonk_bench.config.fields import Config
from aimonk_bench.data import splits, transforms
from aimonk_bench.data.image_files import SHOWN, Skipped, by_reason, others
from aimonk_bench.data.near_duplicates import look_alike
from aimonk_bench.data.transforms import UNAUGMENTED
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import scores, thresholds
from aimonk_bench.evaluation.metrics import macro
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.plugins import executed
from aimonk_bench.progress import Progress
from aimonk_bench.records import run
from aimonk_bench.records.files import csv_text, dumps, harmless
from aimonk_bench.records.weights import network_file
from aimonk_bench.reporting import figures
from aimonk_bench.suite.clock import Clock, total
from aimonk_bench.suite.containment import EncodeElsewhere
from aimonk_bench.suite.dataset import Dataset, EncodedDataset
from aimonk_bench.suite.plan import PlannedRun, keeps_networks
from aimonk_bench.training.outcome import JobOutcome, Trained, assemble
from aimonk_bench.training.recipe import ALL_CORES, Cores, Job, Recipe, TrainingData

logger = logging.getLogger(__name__)


class BadImages(UserError):
    """Images that cannot be decoded and are not to be skipped: no run on the data set can begin."""


def encode(
    dataset: Dataset,
    config: Config,
    encoder: EncoderSpec,
    progress: Progress | None = None,
    elsewhere: EncodeElsewhere | None = None,
) -> EncodedDataset:
    """Encode the images of a data set that the feature store does not hold yet; those to be skipped are logged.

    Args:
        config: of the run, whose data, transform and freeze are read.
        encoder: the frozen layers.
        progress: called with ("encode", images done, images to do).
        elsewhere: encodes images in other processes; None: they are encoded in this process.

    Raises:
        BadImages: images cannot be decoded and are not to be skipped, or none can.
        RunFailed: the engine cannot be had, or the disk has no room; elsewhere also `WorkerLost`.
        UserError: the feature store cannot be used, or the weights do not fit.
    """
    store = FeatureStore(elsewhere=elsewhere and partial(elsewhere, config.plugins))
    views, labels = stored_views(config), config.data.labels
    with executed(config.plugins):
        stored = store.features(dataset.images, views, config.transform, encoder, progress)
    lines = dataset.listed.lines.tolist()
    bad = [Skipped(dataset.listed.ids[n], lines[n], reason) for n, reason in stored.bad]
    if bad and (config.data.on_bad_image == "error" or len(bad) == len(dataset.images)):
        problems = (
            (items[0], f"image {items[0].image_id} cannot be decoded: {items[0].reason}{others(items)}")
            for items in by_reason(bad)
        )
        messages = [f"{labels}:{item.line}: {text}" for item, text in problems]
        if config.data.on_bad_image == "error" and not any("on_bad_image" in message for message in messages):
            messages[0] += "; to leave such images out, write under data: `on_bad_image: skip`"
        raise BadImages(messages, limit=SHOWN)
    skipped = sorted([*dataset.skipped, *bad], key=lambda item: item.line)
    for items in by_reason(skipped):
        name, reason = items[0].image_id, items[0].reason
        logger.warning("%s:%d: skipped %s: %s%s", labels, items[0].line, name, reason, others(items))
    decoded = np.delete(np.arange(len(dataset.images)), [n for n, _ in stored.bad])
    images, listed = [dataset.images[n] for n in decoded], dataset.listed.subset(decoded)
    stored = replace(stored, index=stored.index[:, decoded], bad=[])
    pooled = stored
    if encoder.freeze != "all":
        with executed(config.plugins):
            pooled = store.features(images, UNAUGMENTED, config.transform, replace(encoder, freeze="all"), progress)
    hashes = perceptual_hashes(images, store.root, progress, white=dataset.white)
    alike = look_alike(hashes).tolist() if config.split.near_duplicates == "keep_together" else None
    return EncodedDataset(
        listed=listed,
        images=images,
        skipped=skipped,
        fingerprint=dataset.fingerprint,
        truth=None if dataset.truth is None else dataset.truth[decoded],
        white=dataset.white,
        hashes=hashes,
        groups=splits.components([image.sha256 for image in images], listed.groups, alike),
        stored=stored,
        pooled=pooled,
    )


def stored_views(config: Config) -> transforms.Views:
    """The views of an image that the feature store keeps; of pixels only the unaugmented one."""
    return UNAUGMENTED if config.backbone.freeze == "none" else transforms.views(config.transform)


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What training leaves, and the seconds of the phases "start" (imports) and "train"."""

    trained: Trained
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class JobsResult:
    """What the training of some jobs of a run leaves, each a seed in a fold; seconds as of `TrainingResult`."""

    outcomes: list[JobOutcome]
    seconds: dict[str, float]


def train(
    planned: PlannedRun,
    data: TrainingData,
    stored: FeatureMatrix,
    scratch: Path,
    progress: Progress | None = None,
    cores: Cores = ALL_CORES,
) -> TrainingResult:
    """Train heads on frozen features, or the layers that are not frozen together with a head, for all seeds and folds.

    Args:
        planned: the run.
        data: its labels and folds.
        stored: output of the frozen layers.
        scratch: a folder for checkpoints, from which an interrupted fine-tuning goes on, and for networks to keep.
        progress: called with ("train", epochs done, epochs).
        cores: that training may use.

    Raises:
        RunFailed: a loss is not finite, or the sampler finds nothing to draw.
        UserError: the network cannot be built.
    """
    if planned.encoder.freeze != "all":
        return assembled(planned, data, scratch, [train_jobs(planned, data, stored, scratch, progress, cores)])
    clock = Clock()
    with clock("start"):  # torch is imported when there is something to train
        from aimonk_bench.training import heads_trainer

    recipe = Recipe.of(planned.config, cores)
    with clock("train"), executed(planned.config.plugins):
        trained = heads_trainer.train_heads(stored.rows, stored.index, data, recipe, progress=progress)
    return TrainingResult(trained, clock.seconds)


def train_jobs(
    planned: PlannedRun,
    data: TrainingData,
    stored: FeatureMatrix,
    scratch: Path,
    progress: Progress | None = None,
    cores: Cores = ALL_CORES,
    jobs: Sequence[Job] | None = None,
) -> JobsResult:
    """Train layers that are not frozen together with a head; arguments and errors as of `train`.

    Args:
        jobs: the seeds and folds; None: all of the run. Several tasks may share the jobs and the scratch folder.
    """
    clock, encoder = Clock(), planned.encoder
    rows, index = stored.rows, stored.index
    with clock("start"):
        from aimonk_bench.backbones import network
        from aimonk_bench.training import finetune, sources

    recipe = Recipe.of(planned.config, cores)
    with clock("train"), executed(planned.config.plugins):
        source: sources.Source = sources.Stored(rows, index)
        if encoder.freeze == "none":
            transform = planned.config.transform
            source = sources.Pixels(rows, index[0], transforms.views(transform).keys, transform)
        with torch_threads(cores.share or finetune.machine_cores()):  # further ones would wait for other workers
            layers = network.build_trainable(encoder.weights, encoder.size, encoder.freeze)
        keep = network.classifier(encoder.weights.entry.timm) if keeps_networks(planned.config) else None
        outcomes = finetune.fine_tune(
            source,
            data,
            recipe,
            layers=layers,
            scratch=finetune.Scratch(scratch, planned.id, keep),
            progress=progress,
            jobs=jobs,
        )
    return JobsResult(outcomes, clock.seconds)


def assembled(planned: PlannedRun, data: TrainingData, scratch: Path, parts: Sequence[JobsResult]) -> TrainingResult:
    """The training of a run from all of its jobs, which come fold by fold and seed by seed."""
    recipe = Recipe.of(planned.config)
    trained = assemble([outcome for part in parts for outcome in part.outcomes], recipe, recipe.steps(data.folds))
    if keeps_networks(planned.config):
        jobs = recipe.jobs(len(data.folds))
        trained = replace(trained, networks=tuple(scratch / network_file(fold, seed) for seed, fold in jobs))
    return TrainingResult(trained, total([part.seconds for part in parts]))


@dataclass(frozen=True, eq=False)
class ScoringResult:
    """What the predictions of a run say.

    Attributes:
        thresholds: tuned on the validation rows.
        validation: macro F1 on the validation rows (``f1_validation``) over the attributes that define it; NaN of none.
        files: name in the run's folder -> content; they are serialised here, because that takes as long as scoring.
        seconds: of the phases "score", "plots" and "files".
    """

    thresholds: Thresholds
    validation: float
    files: dict[str, bytes]
    seconds: dict[str, float]


def score(config: Config, predictions: Predictions, history: Mapping[str, np.ndarray]) -> ScoringResult:
    """Tune the thresholds of a run, score it and draw its loss curve.

    Args:
        config: names the threshold policy, the calibrator and the title of the plot.
        predictions: of validation and test rows.
        history: the columns of ``history.csv``.
    """
    import pandas as pd

    clock, policy, calibrator = Clock(), config.threshold, config.calibration
    with clock("score"), executed(config.plugins):
        tuned = thresholds.tune(predictions, policy)
        scored = scores.score(predictions, tuned, policy, calibrator)
        reliability = scores.reliability(predictions, calibrator)
    with clock("plots"):
        curve = figures.loss_curve(history, config.plot.title)
    with clock("files"):
        texts = {
            run.HISTORY: csv_text(pd.DataFrame(history)),
            run.THRESHOLDS: dumps(tuned.to_json()),
            run.METRICS: dumps(scored.to_json()),
            run.RELIABILITY: csv_text(harmless(reliability)),
        }
    contents = {name: text.encode() for name, text in texts.items()}
    figures_of_validation = scored.figures.value("f1_validation")
    validation = macro(figures_of_validation, np.isfinite(figures_of_validation)).item()
    return ScoringResult(tuned, validation, contents | {run.LOSS_CURVE: curve}, clock.seconds)
