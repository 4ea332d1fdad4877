"""How long a step of training takes on this machine: measured by the first run of each kind, and kept in the store.

What is kept is the time of a step of all heads of a run, or of one network, validation included.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aimonk_bench
from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.config.fields import Config
from aimonk_bench.errors import UserError
from aimonk_bench.records.environment import cores
from aimonk_bench.records.files import IDLE, read_as, remove_partial, write_json
from aimonk_bench.suite import plan
from aimonk_bench.training.missing import wants_teacher
from aimonk_bench.training.recipe import TrainingData

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepTime:
    """The content of ``training/<digest>.json``: the kind of training, and the seconds of a step."""

    kind: dict[str, Any]
    seconds: float


def kind_of(config: Config, encoder: EncoderSpec, attributes: int, features: int) -> dict[str, Any]:
    """What the time of a step depends on, up to a factor of two for the loss and the missing-label policy.

    Args:
        config: of a run.
        encoder: its frozen layers.
        attributes: A.
        features: of an image, pooled.
    """
    train = config.train
    facts = {
        "version": aimonk_bench.__version__,
        "device": encoder.device.partition(":")[0],
        "batch_size": train.batch_size,
        "attributes": attributes,
    }
    if encoder.freeze == "all":
        return {**facts, "heads": plan.stacked(config), "features": features}
    network = {"network": encoder.weights.entry.timm, "freeze": encoder.freeze, "size": encoder.size}
    return {**facts, **network, "precision": train.precision, "cores": cores()}


def steps_of(config: Config, train_rows: float) -> int:
    """The steps of a run at most: of all heads together, or of all its networks.

    Args:
        config: of the run.
        train_rows: of a fold.
    """
    stages = 1 + wants_teacher(config.missing)
    networks = 1 if config.backbone.freeze == "all" else plan.folds(config) * len(config.train.seeds)
    return networks * stages * config.train.epochs * math.ceil(train_rows / config.train.batch_size)


def read(root: Path, kind: dict[str, Any]) -> float | None:
    """The seconds of a step; None where none was measured, or the file is damaged, which the next run replaces."""
    try:
        file = _file(root, kind)
        return read_as(StepTime, file).seconds if file.exists() else None
    except UserError:
        return None


def note(planned: plan.PlannedRun, data: TrainingData, seconds: float | None) -> None:
    """Keep the time of a step of a run that was trained without an interruption, unless heads may have stopped early.

    Args:
        planned: the run.
        data: that it was trained on.
        seconds: that it took; None after an interruption.
    """
    if planned.config.train.patience is None:
        kind = kind_of(planned.config, planned.encoder, data.train_labels.shape[1], planned.features)
        steps = steps_of(planned.config, max(len(fold.train) for fold in data.folds))
        keep(FeatureStore().root, kind, seconds, steps)


def keep(root: Path, kind: dict[str, Any], seconds: float | None, steps: int) -> None:
    """Keep the time of a step, unless one is kept already; delete what killed processes left.

    Args:
        root: of the feature store.
        kind: of the training, which went through all its epochs.
        seconds: that it took; None after an interruption.
        steps: as `steps_of` counts them.
    """
    file = _file(root, kind)
    try:
        remove_partial(file.parent, IDLE)
        if seconds is None or read(root, kind) is not None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(StepTime(kind, seconds / steps)))
    except OSError as error:
        logger.warning("%s: the time of training cannot be kept (%s), so it stays unknown to `validate`", file, error)


def _file(root: Path, kind: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(kind, sort_keys=True).encode()).hexdigest()
    return root / "training" / f"{digest}.json"
