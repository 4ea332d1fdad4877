"""What a suite will take, before anything is encoded or trained: from what the feature store holds and has measured."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aimonk_bench.backbones import speed
from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.backbones.encoder_record import StoreDamaged
from aimonk_bench.backbones.feature_table import open_table
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.config.fields import Config
from aimonk_bench.data import splits
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.labels import LabelFile
from aimonk_bench.data.transforms import UNAUGMENTED
from aimonk_bench.records import suite as suites
from aimonk_bench.reporting import costs as words
from aimonk_bench.reporting.costs import Costs, EncodingCost, TensorCost, TrainingCost
from aimonk_bench.suite import plan, training_speed
from aimonk_bench.suite.tasks import stored_views
from aimonk_bench.training.missing import wants_teacher

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Work:
    """A run as far as its cost is concerned.

    Attributes:
        config: of the run.
        encoder: its frozen layers.
        features: of an image in its network, pooled.
    """

    config: Config
    encoder: EncoderSpec
    features: int


def of_runs(runs: Sequence[plan.PlannedRun], listed: LabelFile, images: Sequence[ImageFile]) -> Costs:
    """What planned runs will take; those whose network cannot be used take nothing."""
    work = [Work(planned.config, planned.encoder, planned.features) for planned in runs if planned.reason is None]
    return estimate(work, listed, images)


def check_budget(planned: plan.Plan, folder: Path, hours: float | None) -> None:
    """Refuse a plan whose runs that are not finished yet take more hours than are allowed; warn of what is not known.

    Args:
        planned: the runs.
        folder: of the results; of a suite, or of its only run.
        hours: None: without a limit.

    Raises:
        UserError: it takes more.
    """
    if hours is None:
        return
    places = {run.id: (folder, folder / suites.RUNS / run.id) for run in planned.executed}
    pending = [run for run in planned.executed if not any(map(suites.is_finished, places[run.id]))]
    costs = of_runs(pending, planned.dataset.listed, planned.dataset.images)
    for warning in words.check_budget(costs, hours):
        logger.warning("%s", warning)


def estimate(work: Sequence[Work], listed: LabelFile, images: Sequence[ImageFile] | None) -> Costs:
    """What runs will take.

    Args:
        work: the runs.
        listed: N rows.
        images: [N] their files; None where they are not hashed, and all count as new.
    """
    root = FeatureStore().root
    tensors = [tensor for run in work for tensor in _tensors(run, listed)]
    return Costs(
        encodings=tuple(_encodings(root, work, listed, images)),
        training=_training(root, work, listed),
        tensor=max(tensors, key=lambda tensor: tensor.bytes, default=None),
        are_counted=images is not None,
        free_bytes=shutil.disk_usage(
            next(folder for folder in (root, *root.absolute().parents) if folder.exists())
        ).free,
    )


def _encodings(
    root: Path, work: Sequence[Work], listed: LabelFile, images: Sequence[ImageFile] | None
) -> Iterator[EncodingCost]:
    """The cost of each encoder, for all views that the runs need of it."""
    encoders: dict[str, tuple[EncoderSpec, dict[str, None], int]] = {}
    for run in work:
        views = [(run.encoder, stored_views(run.config).keys)]
        if run.encoder.freeze != "all":  # association tests and duplicates need pooled features, too
            views.append((replace(run.encoder, freeze="all"), UNAUGMENTED.keys))
        for encoder, keys in views:
            encoders.setdefault(encoder.digest, (encoder, {}, run.features))[1].update(dict.fromkeys(keys))
    for encoder, needed, features in encoders.values():
        if images is None:
            number, rows = len(listed.ids), len(listed.ids) * len(needed)
        else:
            number, rows = _missing(root, encoder, images, list(needed))
        measured = speed.measured(root, encoder)
        width = {"all": features, "none": encoder.size**2 * 3}.get(encoder.freeze, measured.features)
        item = np.dtype(encoder.stored_dtype).itemsize
        is_network = encoder.freeze != "none"
        name = encoder.weights.name if is_network else "no network"
        yield EncodingCost(
            network=f"{name} at {encoder.size} x {encoder.size} ({encoder.boundary})",
            images=number,
            rows=rows,
            bytes=None if width is None else rows * width * item,
            images_per_second=measured.images_per_second,
            is_network=is_network,
        )


def _missing(root: Path, encoder: EncoderSpec, images: Sequence[ImageFile], keys: list[str]) -> tuple[int, int]:
    """How many distinct images lack views in the store, and how many views."""
    folder = root / "features" / encoder.digest
    if (folder / "index.sqlite").exists():
        with contextlib.suppress(StoreDamaged), open_table(folder, encoder.stored_dtype) as table:
            todo = table.missing(images, keys)
            return len(todo), sum(len(lacking) for _, lacking in todo)
    number = len({image.sha256 for image in images})
    return number, number * len(keys)


def _training(root: Path, work: Sequence[Work], listed: LabelFile) -> TrainingCost:
    attributes = len(listed.labels.attributes)
    heads, networks, seconds = 0, 0, list[float]()
    for run in work:
        config = run.config
        of_run = plan.trainings(config) * len(config.train.seeds) * plan.folds(config)
        heads += of_run
        networks += of_run if run.encoder.freeze != "all" else 0
        step = training_speed.read(root, training_speed.kind_of(config, run.encoder, attributes, run.features))
        if step is not None:
            train_rows = splits.part_sizes(config.split, len(listed.ids), listed.columns)[0]
            seconds.append(step * training_speed.steps_of(config, train_rows))
    return TrainingCost(len(work), heads, networks, sum(seconds), len(seconds))


def _tensors(run: Work, listed: LabelFile) -> Iterator[TensorCost]:
    """The tensors of a run that may be the largest; the feature matrix is memory-mapped and not among them."""
    config, images, attributes = run.config, len(listed.ids), len(listed.labels.attributes)
    seeds, folds, batch = len(config.train.seeds), plan.folds(config), config.train.batch_size
    sizes = splits.part_sizes(config.split, images, listed.columns)
    train, val, test = map(math.ceil, sizes)

    def tensor(name: str, *shape: int) -> TensorCost:
        return TensorCost(name, shape, plan.FLOAT32 * math.prod(shape))

    yield tensor("pooled features of all images", images, run.features)
    yield tensor("logits of validation and test rows", seeds, folds * (val + test), attributes)
    if run.encoder.freeze != "all":
        yield tensor("a batch of images", batch, 3, run.encoder.size, run.encoder.size)
        return
    heads = plan.stacked(config)
    yield tensor("weights of all heads", heads, attributes, run.features)
    yield tensor("features of a batch of each seed and fold", folds * seeds, batch, run.features)
    yield tensor("logits of the validation rows of a fold", heads // folds, val, attributes)
    yield tensor("rows of an epoch", math.ceil(train / batch), folds * seeds, batch)
    if wants_teacher(config.missing):
        yield tensor("probabilities of the teachers", heads, images, attributes)
