"""What a config or a suite will do, known before an image is decoded: the data, the weights, the ids."""

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

from aimonk_bench import registry
from aimonk_bench.backbones import weights
from aimonk_bench.backbones.encoder import EncoderSpec, pick_device
from aimonk_bench.backbones.weights import Weights, WeightsUnavailable
from aimonk_bench.config import grid, loader
from aimonk_bench.config.fields import TRAINABLE_OPTIONS, BackboneConfig, Config, KFold, Tables, TrainConfig
from aimonk_bench.config.grid import Suite
from aimonk_bench.data import image_files, label_file, splits
from aimonk_bench.data.labels import LabelFile
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.thresholds import THRESHOLDS
from aimonk_bench.registry import Spec
from aimonk_bench.reporting.words import count, run_name
from aimonk_bench.suite.dataset import Dataset, locate
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.missing import MISSING, wants_teacher
from aimonk_bench.training.optimizers import OPTIMIZERS
from aimonk_bench.training.recipe import Recipe, check
from aimonk_bench.training.samplers import SAMPLERS
from aimonk_bench.training.schedules import SCHEDULES
from aimonk_bench.training.set_losses import SET_LOSSES

FREEZE = "freeze="
SCALARS = ("lr", *TRAINABLE_OPTIONS, "weight_decay", "batch_size", "epochs", "clip", "select", "patience")  # of an id
HASH_LENGTH = 6  # hex digits; with the readable part enough for any suite


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run, ready to be executed.

    Attributes:
        id: readable, ending in a short hash of config, data and encoder.
        parts: of its name: its value at each axis of the suite; of a single run the config's name.
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
        """The name that a reader sees."""
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
        UserError: labels, images or options are wrong, or the weights cannot be had.
    """
    listed = checked_labels([config])
    resolved = weights.resolve(config.backbone)
    dataset = locate(config.data, listed)
    planned = _planned((config.name,), config, dataset, resolved)
    return Plan(config.name, dataset, (planned,), planned)


def plan_suite(suite: Suite) -> Plan:
    """Plan every run of a suite; a run whose weights cannot be had is planned to fail.

    Raises:
        UserError: labels, images or options are wrong.
    """
    listed = checked_labels([run.config for run in suite.runs])
    resolved: dict[BackboneConfig, Weights | WeightsUnavailable] = {}
    for run in suite.runs:
        if run.config.backbone not in resolved:
            resolved[run.config.backbone] = _resolve(run.config.backbone)
    dataset = locate(suite.base.data, listed)
    runs = tuple(_planned(run.parts, run.config, dataset, resolved[run.config.backbone]) for run in suite.runs)
    renamed = tuple(_renamed(run, suite.name) for run in runs)
    return Plan(suite.name, dataset, renamed, renamed[suite.baseline])


def preview(path: Path, tables: Tables, overrides: Sequence[str]) -> str:
    """What `run` or `suite` would do with a file: its runs, images and heads; nothing is hashed or decoded.

    Raises:
        UserError: config or labels are wrong, or listed images do not exist and are not to be skipped.
    """
    if loader.is_suite(path):
        suite = loader.load_suite(path, tables, overrides)
        config, runs = suite.base, [(run_name(run.parts), run.config) for run in suite.runs]
    else:
        config = loader.load(path, tables, overrides)
        runs = [(config.name, config)]
    listed = checked_labels([run for _, run in runs])
    unreadable = image_files.unreadable(zip(listed.ids, listed.lines.tolist(), strict=True), config.data.images)
    absent = [f"{listed.path}:{line}: {text}" for line, text in unreadable]
    if absent and config.data.on_bad_image == "error":
        raise UserError(absent, limit=image_files.SHOWN)
    true_labels = label_file.load_truth(config.data, listed)
    heads = sum(trainings(run) * len(run.train.seeds) * _folds(run) for _, run in runs)
    lines = [
        f"{path} is valid.",
        f"{config.name}: {len(listed.ids)} listed images, attributes {', '.join(listed.labels.attributes)}",
        *listed.notes,
        *(f"split: {split}" for split in dict.fromkeys(_describe_split(run) for _, run in runs)),
        *(f"will be skipped: {problem}" for problem in absent),
        f"{count(len(runs), 'run')}, {count(heads, 'head')}:",
        *(f"  {name}" for name, _ in runs),
    ]
    if true_labels is not None:
        stated = true_labels.observed
        lines.insert(2, f"{config.data.truth}: states {stated.sum()} of {stated.size} labels")
    return "\n".join(lines)


def _describe_split(config: Config) -> str:
    split = config.split
    if isinstance(split, KFold):
        return f"{split.folds} folds, {split.val:g} of the rest of a fold for validation, seed {split.seed}"
    return f"hold-out, {split.val:g} for validation and {split.test:g} for test, seed {split.seed}"


def checked_labels(configs: Sequence[Config]) -> LabelFile:
    """The label file that the configs share.

    Raises:
        UserError: it is wrong, or options or splits of the configs do not go with it.
    """
    listed = label_file.load(configs[0].data)
    problems: list[str] = []
    for config in configs:
        try:
            check(Recipe.of(config), len(listed.labels.attributes))
        except UserError as error:
            problems += error.problems
    # images with equal bytes may join further groups, which the run itself checks
    groups = splits.components(listed.ids, listed.groups)
    for scheme in dict.fromkeys(config.split for config in configs):
        try:
            splits.check(scheme, len(set(groups.tolist())))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(list(dict.fromkeys(problems)))
    return listed


def _renamed(run: PlannedRun, suite: str) -> PlannedRun:
    """Name the config of a suite's run after suite and id, so that its ``config.yaml`` can be run by itself."""
    return replace(run, config=run.config.model_copy(update={"name": f"{suite}-{run.id}"}))


def _resolve(backbone: BackboneConfig) -> Weights | WeightsUnavailable:
    try:
        return weights.resolve(backbone)
    except WeightsUnavailable as error:
        return error


def encoder_of(config: Config, resolved: Weights) -> EncoderSpec:
    """The frozen layers of a config's backbone with these weights."""
    return EncoderSpec(
        weights=resolved,
        size=config.transform.size,
        engine=config.backbone.engine,
        device=pick_device(config.train.device),
        dtype=config.backbone.dtype,
        decode=config.transform.decode,
        freeze=config.backbone.freeze,
    )


def _planned(
    parts: tuple[str, ...], config: Config, dataset: Dataset, resolved: Weights | WeightsUnavailable
) -> PlannedRun:
    encoder = encoder_of(config, resolved.weights if isinstance(resolved, WeightsUnavailable) else resolved)
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


def _entries(config: Config) -> list[tuple[registry.Table, Spec, str]]:
    """Loss, missing-label policy, sampler and threshold policy: table, entry, and the name of the default."""
    tables: dict[str, registry.Table] = {
        "loss": LOSSES | SET_LOSSES,
        "missing": MISSING,
        "sampler": SAMPLERS,
        "threshold": THRESHOLDS,
    }
    return [(table, getattr(config, key), Config.model_fields[key].default.name) for key, table in tables.items()]


def complexity(config: Config, features: int | None) -> tuple[int, ...]:
    """The place of a run in the declared order of complexity, compared from the left; smaller is simpler.

    How much of the backbone is trained (nothing, some stages, all of it); `trainings`; D; how many of loss,
    missing-label policy, sampler and threshold policy differ from the reference recipe; then their places in the
    tables.

    Args:
        features: D; None, where only the built network tells, counts as the largest.
    """
    entries = _entries(config)
    return (
        {"all": 0, "none": 2}.get(config.backbone.freeze, 1),
        trainings(config),
        features or sys.maxsize,
        sum(registry.label(table, spec) != default for table, spec, default in entries),
        *(list(table).index(spec.name) for table, spec, _ in entries),
    )


def run_id(config: Config, fingerprint: str, encoder: str) -> str:
    """``hill-class_aware-3fa9c1``: loss, sampler, what else is not the default, and a hash of all that decides a run.

    Args:
        config: whose name, title, executor and paths do not enter.
        fingerprint: of the data.
        encoder: digest of what the backbone contributes, as `EncoderSpec.run_digest` says.
    """
    train, default_train = config.train, TrainConfig()
    (loss, _), (missing, missing_default), (sampler, _), (threshold, threshold_default) = (
        (registry.label(table, spec), default) for table, spec, default in _entries(config)
    )
    optional = [
        (missing, missing_default),
        (threshold, threshold_default),
        (registry.label(OPTIMIZERS, train.optimizer), default_train.optimizer.name),
        (registry.label(SCHEDULES, train.schedule), default_train.schedule.name),
        (f"hide {config.hide}", "hide None"),
        (config.backbone.name, BackboneConfig().name),
        (f"{FREEZE}{config.backbone.freeze}", f"{FREEZE}all"),
        *((f"{key}{getattr(train, key)}", f"{key}{getattr(default_train, key)}") for key in SCALARS),
    ]
    parts = [loss, sampler, *(label for label, default in optional if label != default)]
    readable = "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", part).strip("_") for part in parts)
    augmented = [] if config.transform.views == "exact" else [importlib.metadata.version("albumentations")]
    text = json.dumps([grid.public(config), fingerprint, encoder, *augmented], sort_keys=True)
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]}"
