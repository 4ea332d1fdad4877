"""What a config or a suite will do, known before a picture is decoded: the data, the weights, the ids."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from aimonk_bench import registry
from aimonk_bench.backbones import weights
from aimonk_bench.backbones.encoder import EncoderSpec, pick_device
from aimonk_bench.backbones.weights import Weights, WeightsUnavailable
from aimonk_bench.config import grid, loader
from aimonk_bench.config.fields import TRAINABLE_OPTIONS, BackboneConfig, Config, DataConfig, KFold, Tables, TrainConfig
from aimonk_bench.config.grid import Suite
from aimonk_bench.data import image_files, label_file, splits, truth
from aimonk_bench.data.image_files import ImageFile, Skipped
from aimonk_bench.data.label_file import LabelFile
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.thresholds import THRESHOLDS
from aimonk_bench.reporting.words import run_name
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.missing import MISSING, wants_teacher
from aimonk_bench.training.optimizers import OPTIMIZERS
from aimonk_bench.training.recipe import Recipe, check
from aimonk_bench.training.samplers import SAMPLERS
from aimonk_bench.training.schedules import SCHEDULES
from aimonk_bench.training.set_losses import SET_LOSSES

FREEZE = "freeze="
HASH_LENGTH = 6  # hex digits; together with the readable part far more than the runs of a suite need


@dataclass(frozen=True, eq=False)
class Dataset:
    """The listed rows, and the picture of each where there is one.

    Attributes:
        listed: the N rows of the label file.
        pictures: [N] None where the picture is missing.
        skipped: those missing pictures.
        fingerprint: hex digest of ids, observed targets, picture hashes and the truth, where there is one.
        truth: [N, A] 1, 0, -1 where not known; None where nobody knows.
    """

    listed: LabelFile
    pictures: list[ImageFile | None]
    skipped: list[Skipped]
    fingerprint: str
    truth: np.ndarray | None


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run, ready to be executed.

    Attributes:
        id: readable, ending in a short hash of config, data and encoder.
        parts: of the name that a reader sees: its value at each axis of the suite; of a single run the config's name.
        columns: backbone, weights, loss, missing, sampler as ``summary.csv`` shows them.
        complexity: its place in the order of `complexity`.
        encoder: what makes its features.
        reason: why that encoder cannot be had; None if it can.
    """

    id: str
    parts: tuple[str, ...]
    config: Config
    columns: dict[str, str]
    complexity: tuple[int, ...]
    encoder: EncoderSpec
    reason: str | None = None

    @property
    def name(self) -> str:
        """What a reader sees."""
        return run_name(self.parts)

    @cached_property
    def text(self) -> str:
        """Its ``config.yaml``."""
        return loader.dump(self.config)


@dataclass(frozen=True, eq=False)
class Plan:
    """A data set and the runs on it.

    Attributes:
        baseline: the one of them that the others are compared with.
    """

    name: str
    dataset: Dataset
    runs: tuple[PlannedRun, ...]
    baseline: PlannedRun


def plan_run(config: Config) -> Plan:
    """Plan a single run.

    Raises:
        UserError: labels, pictures or options are wrong, or the weights cannot be had.
    """
    listed = _checked_labels([config])
    resolved = weights.resolve(config.backbone)
    dataset = _dataset(config.data, listed)
    planned = _planned((config.name,), config, dataset, resolved)
    return Plan(config.name, dataset, (planned,), planned)


def plan_suite(suite: Suite) -> Plan:
    """Plan every run of a suite; a run whose weights cannot be had is planned to fail.

    Raises:
        UserError: labels, pictures or options are wrong.
    """
    listed = _checked_labels([run.config for run in suite.runs])
    resolved: dict[BackboneConfig, Weights | WeightsUnavailable] = {}
    for run in suite.runs:
        if run.config.backbone not in resolved:
            resolved[run.config.backbone] = _resolve(run.config.backbone)
    dataset = _dataset(suite.base.data, listed)
    runs = tuple(_planned(run.parts, run.config, dataset, resolved[run.config.backbone]) for run in suite.runs)
    renamed = tuple(_renamed(run, suite.name) for run in runs)
    return Plan(suite.name, dataset, renamed, renamed[suite.baseline])


def preview(path: Path, tables: Tables, overrides: Sequence[str]) -> str:
    """What `run` or `suite` would do with a file: its runs, pictures and heads; nothing is hashed or decoded.

    Raises:
        UserError: config or labels are wrong, or listed pictures do not exist and are not to be skipped.
    """
    suite = loader.load_suite(path, tables, overrides) if loader.is_suite(path) else None
    config = suite.base if suite else loader.load(path, tables, overrides)
    named = [(run_name(run.parts), run.config) for run in suite.runs] if suite else [(config.name, config)]
    listed = _checked_labels([run for _, run in named])
    unreadable = image_files.unreadable(zip(listed.ids, listed.lines.tolist(), strict=True), config.data.images)
    absent = [f"{listed.path}:{item.line}: {image_files.message(item, config.data.images)}" for item in unreadable]
    if absent and config.data.on_bad_image == "error":
        raise UserError(absent, limit=image_files.SHOWN)
    known = truth.load(listed)
    heads = [trainings(run) * len(run.train.seeds) * _folds(run) for _, run in named]
    lines = [
        f"{path} is valid.",
        f"{config.name}: {len(listed.ids)} listed pictures, attributes {', '.join(listed.labels.attributes)}",
        *listed.notes,
        *([] if known is None else [f"{truth.FILE}: known for {(known >= 0).sum()} of {known.size} labels"]),
        *(f"split: {split}" for split in dict.fromkeys(_split_in_words(run) for _, run in named)),
        *(f"will be skipped: {problem}" for problem in absent),
        f"{len(named)} runs, {sum(heads)} heads:" if suite else f"1 run, {sum(heads)} heads:",
    ]
    return "\n".join(lines + [f"  {name}" for name, _ in named])


def _split_in_words(config: Config) -> str:
    split = config.split
    if isinstance(split, KFold):
        return f"{split.folds} folds, {split.val:g} of what a test fold leaves for validation, seed {split.seed}"
    return f"hold-out, {split.val:g} for validation and {split.test:g} for test, seed {split.seed}"


def _checked_labels(configs: Sequence[Config]) -> LabelFile:
    """The labels that the configs share, and a refusal of options and splits that do not go with them."""
    listed = label_file.load(configs[0].data)
    problems: list[str] = []
    for config in configs:
        try:
            check(Recipe.of(config), len(listed.labels.attributes))
        except UserError as error:
            problems += error.problems
    # pictures with equal bytes may still join groups, which the run itself checks
    groups = splits.components(listed.ids, listed.groups)
    for scheme in dict.fromkeys(config.split for config in configs):
        try:
            splits.check(scheme, len(set(groups.tolist())))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(list(dict.fromkeys(problems)))
    return listed


def _dataset(data: DataConfig, listed: LabelFile) -> Dataset:
    known = truth.load(listed)
    found, skipped = image_files.locate(listed, data.images, data.on_bad_image)
    fingerprint = truth.fingerprint(image_files.fingerprint(listed, found), known)
    return Dataset(listed, found, skipped, fingerprint, known)


def _renamed(run: PlannedRun, suite: str) -> PlannedRun:
    """Give the config of a suite's run a name of its own, so that its ``config.yaml`` can be run as it stands."""
    return replace(run, config=run.config.model_copy(update={"name": f"{suite}-{run.id}"}))


def _resolve(backbone: BackboneConfig) -> Weights | WeightsUnavailable:
    try:
        return weights.resolve(backbone)
    except WeightsUnavailable as error:
        return error


def _planned(
    parts: tuple[str, ...], config: Config, dataset: Dataset, resolved: Weights | WeightsUnavailable
) -> PlannedRun:
    encoder = EncoderSpec(
        resolved.weights if isinstance(resolved, WeightsUnavailable) else resolved,
        config.transform.size,
        config.backbone.engine,
        pick_device(config.train.device),
        config.backbone.dtype,
        config.transform.decode,
        config.backbone.freeze,
    )
    trained = f"({FREEZE}{encoder.freeze})" if encoder.freeze != "all" else ""
    columns = {
        "backbone": encoder.weights.name + trained,
        "weights": Path(config.backbone.weights).name,
        "loss": registry.label(LOSSES | SET_LOSSES, config.loss),
        "missing": registry.label(MISSING, config.missing),
        "sampler": registry.label(SAMPLERS, config.sampler),
    }
    return PlannedRun(
        id=run_id(config, dataset.fingerprint, encoder.run_digest),
        parts=parts,
        config=config,
        columns=columns,
        complexity=complexity(config, encoder.weights.entry.features),
        encoder=encoder,
        reason=str(resolved) if isinstance(resolved, WeightsUnavailable) else None,
    )


def trainings(config: Config) -> int:
    """How many times a head of each fold and seed is trained: stages x tuned settings."""
    return (1 + wants_teacher(config.missing)) * math.prod(map(len, config.tune.values()))


def _folds(config: Config) -> int:
    return config.split.folds if isinstance(config.split, KFold) else 1


def complexity(config: Config, features: int | None) -> tuple[int, ...]:
    """The declared order of complexity, compared from the left; smaller is simpler.

    How much of the backbone is trained (nothing, some stages, all of it); `trainings`; D; how many of loss,
    missing-label policy, sampler and threshold policy are not those of the reference recipe; then their places in the
    tables.

    Args:
        features: D; None, where only the built network tells, counts as the largest.
    """
    parts: tuple[tuple[registry.Table, registry.Spec, str], ...] = (
        (LOSSES | SET_LOSSES, config.loss, "masked_bce"),
        (MISSING, config.missing, "ignore"),
        (SAMPLERS, config.sampler, "uniform"),
        (THRESHOLDS, config.threshold, "per_attribute_f1"),
    )
    departures = sum(registry.label(table, spec) != usual for table, spec, usual in parts)
    return (
        {"all": 0, "none": 2}.get(config.backbone.freeze, 1),
        trainings(config),
        features or sys.maxsize,
        departures,
        *(list(table).index(spec.name) for table, spec, _ in parts),
    )


def run_id(config: Config, fingerprint: str, encoder: str) -> str:
    """``hill-class_aware-3fa9c1``: what the run is, as far as it is not the default, and a hash of what decides it.

    Args:
        config: whose name, plot and paths do not enter.
        fingerprint: of the data.
        encoder: what the backbone contributes, as `EncoderSpec.run_digest` says.
    """
    train, usual = config.train, TrainConfig()
    parts = [registry.label(LOSSES | SET_LOSSES, config.loss), registry.label(SAMPLERS, config.sampler)]
    for table, spec, default in (
        (MISSING, config.missing, "ignore"),
        (THRESHOLDS, config.threshold, "per_attribute_f1"),
        (OPTIMIZERS, train.optimizer, "adam"),
        (SCHEDULES, train.schedule, "constant"),
    ):
        label = registry.label(table, spec)
        parts += [label] if label != default else []
    parts += [f"hide {config.hide}"] if config.hide else []
    parts += [config.backbone.name] if config.backbone.name != BackboneConfig().name else []
    parts += [f"{FREEZE}{config.backbone.freeze}"] if config.backbone.freeze != "all" else []
    scalars = ("lr", *TRAINABLE_OPTIONS, "weight_decay", "batch_size", "epochs", "clip", "select", "patience")
    parts += [f"{key}{getattr(train, key)}" for key in scalars if getattr(train, key) != getattr(usual, key)]
    readable = "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", part).strip("_") for part in parts)
    augmented = [] if config.transform.views == "exact" else [importlib.metadata.version("albumentations")]
    text = json.dumps([grid.public(config), fingerprint, encoder, *augmented], sort_keys=True)
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]}"
