"""What a config or a suite will do, known before an image is decoded: the data, the weights, the ids."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from aimonk_bench import registry
from aimonk_bench.backbones.catalog import Cost
from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.config import grid, loader
from aimonk_bench.config.fields import MAX_NAME, TRAINABLE_OPTIONS, BackboneConfig, Config, TrainConfig, train_default
from aimonk_bench.config.grid import Suite, SuiteRun
from aimonk_bench.config.loader import Source
from aimonk_bench.config.overrides import Overrides
from aimonk_bench.config.run_fields import RunConfig
from aimonk_bench.config.split_fields import KFold, OfficialSplit
from aimonk_bench.config.tables import Tables
from aimonk_bench.data import group_checks, image_files, label_file, splits
from aimonk_bench.data.labels import LabelFile
from aimonk_bench.errors import UserError, check_all, count
from aimonk_bench.evaluation.thresholds import THRESHOLDS, check_attributes
from aimonk_bench.records.files import bytes_text
from aimonk_bench.records.run import REVISION, Complexity
from aimonk_bench.records.weights import HEADS, NETWORKS, network_file
from aimonk_bench.reporting.findings import Finding, group_findings
from aimonk_bench.reporting.words import run_name
from aimonk_bench.suite import networks
from aimonk_bench.suite.dataset import Dataset, locate
from aimonk_bench.suite.networks import Network
from aimonk_bench.training.losses import LOSSES
from aimonk_bench.training.missing import MISSING, wants_teacher
from aimonk_bench.training.optimizers import OPTIMIZERS
from aimonk_bench.training.recipe import Recipe, check
from aimonk_bench.training.samplers import SAMPLERS
from aimonk_bench.training.schedules import SCHEDULES
from aimonk_bench.training.set_losses import SET_LOSSES

logger = logging.getLogger(__name__)

ENTRIES: dict[str, registry.Table] = {  # key of a config -> the table of what it names
    "loss": LOSSES | SET_LOSSES,
    "missing": MISSING,
    "sampler": SAMPLERS,
    "threshold": THRESHOLDS,
}
REFERENCE = {key: Config.model_fields[key].default.name for key in ENTRIES}
# of an id
SCALARS = (
    "lr",
    *TRAINABLE_OPTIONS,
    "weight_decay",
    "bias_init",
    "batch_size",
    "epochs",
    "averaging",
    "clip",
    "select",
    "patience",
)
HASH_LENGTH = 6  # hex digits; with the readable part enough for any suite
FLOAT32 = 4  # bytes
LONGEST_ID = 120  # characters, all ASCII; a file system allows names of 255 bytes


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run, ready to be executed.

    Attributes:
        id: readable, ending in a short hash of config, data and encoder.
        parts: of its name: its value at each axis of the suite; of a single run the config's name.
        columns: backbone, weights, loss, missing, sampler as ``summary.csv`` shows them.
        encoder: what makes its features.
        reason: why that encoder cannot be had; None if it can.
        skip: it is not executed, because its weights cannot be had and the suite skips such runs.
        cost: of an image in its backbone; None where the encoder cannot be had.
        features: of an image in its backbone, pooled; 0 where the encoder cannot be had.
        network_bytes: the size of all networks that it keeps.
    """

    id: str
    parts: tuple[str, ...]
    config: Config
    columns: dict[str, str]
    encoder: EncoderSpec
    reason: str | None = None
    skip: bool = False
    cost: Cost | None = None
    features: int = 0
    network_bytes: int = 0

    @property
    def name(self) -> str:
        """The name that a reader sees."""
        return run_name(self.parts)

    @property
    def weights(self) -> tuple[str, ...]:
        """The files of weights that it keeps, relative to its folder: its heads, or its networks if they are wanted."""
        if self.config.backbone.freeze == "all":
            return (HEADS,)
        jobs = Recipe.of(self.config).jobs(folds(self.config)) if keeps_networks(self.config) else []
        return tuple(f"{NETWORKS}/{network_file(fold, seed)}" for seed, fold in jobs)

    @cached_property
    def text(self) -> str:
        """Its ``config.yaml``; where a run was executed does not belong to it."""
        return loader.dump(self.config.model_copy(update={"run": RunConfig()}))


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

    @property
    def executed(self) -> tuple[PlannedRun, ...]:
        """The runs that are not skipped."""
        return tuple(planned for planned in self.runs if not planned.skip)


def plan_run(config: Config) -> Plan:
    """Plan a single run.

    Raises:
        UserError: labels, images or options are wrong, or the network or its weights cannot be used.
    """
    return _plan(_single(config), network_required=True)


def plan_suite(suite: Suite) -> Plan:
    """Plan every run of a suite; a run whose network or weights cannot be used is planned to fail or to be skipped.

    The config of each run is named after suite and id, so that its ``config.yaml`` can be run by itself.

    Raises:
        UserError: labels, images or options are wrong, or every run would be skipped.
    """
    plan = _plan(suite, network_required=False)
    named = [run.config.model_copy(update={"name": _config_name(suite.name, run.id)}) for run in plan.runs]
    runs = tuple(replace(run, config=config) for run, config in zip(plan.runs, named, strict=True))
    return replace(plan, runs=runs, baseline=runs[suite.baseline])


def _plan(suite: Suite, *, network_required: bool) -> Plan:
    listed = checked_labels([run.config for run in suite.runs])
    for note in listed.notes:
        logger.info("%s: %s", listed.path, note)
    for finding in label_findings([run.config for run in suite.runs], listed):
        level = logging.WARNING if finding.level == "warning" else logging.INFO
        logger.log(level, "%s: %s %s", listed.path, finding.text, finding.advice)
    prepared = networks.prepare([run.config for run in suite.runs], skip=suite.unavailable == "skip")
    for network in prepared:
        if network_required and isinstance(network.outcome, UserError):
            raise network.outcome
    for line in networks.skips([run_name(run.parts) for run in suite.runs], prepared, suite.baseline):
        logger.warning("%s", line)
    notes = dict.fromkeys(note for network in prepared for note in network.notes)
    for note in notes:
        logger.info("%s", note)
    for warning in dict.fromkeys(warning for network in prepared for warning in network.warnings):
        logger.warning("%s", warning)
    dataset = locate(suite.base.data, listed)
    pairs = zip(suite.runs, prepared, strict=True)
    runs = tuple(
        _planned(run, dataset, _data_of(run.config, listed, dataset.fingerprint), network) for run, network in pairs
    )
    _check_ids(runs)
    return Plan(suite.name, dataset, runs, runs[suite.baseline])


def _data_of(config: Config, listed: LabelFile, fingerprint: str) -> str:
    """What the id of a run says of its data: the fingerprint, and the tokens of the official split that it uses."""
    if not isinstance(config.split, OfficialSplit):
        return fingerprint
    tokens = json.dumps(listed.columns[config.split.column])
    return hashlib.sha256(f"{fingerprint} {tokens}".encode()).hexdigest()


def _config_name(suite: str, run_id: str) -> str:
    """The name of the config of a run of a suite, which names a folder where it is executed by itself."""
    room = MAX_NAME - len(f"-{run_id}")
    return f"{suite.encode()[:room].decode(errors='ignore')}-{run_id}"


def _check_ids(runs: Sequence[PlannedRun]) -> None:
    """Refuse a suite with a run that stands in it twice, as one of two equal weight files makes it."""
    first: dict[str, PlannedRun] = {}
    twins = [(twin, run) for run in runs if (twin := first.setdefault(run.id, run)) is not run]
    if twins:
        same = (f"suite.axes: {twin.name} and {run.name} are the same run; remove one" for twin, run in twins)
        raise UserError(list(same), limit=image_files.SHOWN)


def load(source: Source, tables: Tables, overrides: Overrides) -> Suite:
    """The runs of a config; a single experiment is a suite of one run.

    Raises:
        UserError: it is wrong.
    """
    if loader.is_suite(source, overrides):
        return loader.load_suite(source, tables, overrides)
    return _single(loader.load(source, tables, overrides))


def _single(config: Config) -> Suite:
    return Suite(config.name, config, (SuiteRun((config.name,), config),), baseline=0)


def labels_of(configs: Sequence[Config]) -> LabelFile:
    """The label file that the configs share, with the columns of official splits; what else they say is not checked.

    Raises:
        UserError: it is wrong.
    """
    columns = dict.fromkeys(config.split.column for config in configs if isinstance(config.split, OfficialSplit))
    return label_file.load(configs[0].data, columns=list(columns))


def checked_labels(configs: Sequence[Config]) -> LabelFile:
    """The label file that the configs share.

    Raises:
        UserError: it is wrong, or options or splits of the configs do not go with it.
    """
    official = list(dict.fromkeys(c.split for c in configs if isinstance(c.split, OfficialSplit)))
    listed = labels_of(configs)
    recipes = [Recipe.of(config) for config in configs]
    # images with equal bytes may join further groups, which the run itself checks
    count_of_groups = len(np.unique(splits.components(listed.ids, listed.groups)))
    check_all(
        [
            *(partial(check, recipe, len(listed.labels.attributes)) for recipe in recipes),
            *(partial(check_attributes, config.threshold, listed.labels.attributes) for config in configs),
            *(partial(splits.check, split, count_of_groups) for split in dict.fromkeys(c.split for c in configs)),
            *(partial(splits.official_parts, split, listed.columns[split.column]) for split in official),
        ]
    )
    left_out = (splits.left_out(split, listed.columns[split.column]) for split in official)
    return replace(listed, notes=(*listed.notes, *filter(None, left_out)))


def label_findings(configs: Sequence[Config], listed: LabelFile, *, cut: bool = False) -> list[Finding]:
    """What is doubtful about the groups that the label file states, each finding once.

    Args:
        cut: look for groups that an official split cuts; a run does so when it knows which images have equal bytes.
    """
    groups = splits.components(listed.ids, listed.groups)
    stated: list[Finding] = []
    for split in dict.fromkeys(config.split for config in configs):
        folds = (
            splits.split(split, listed.labels, groups, listed.columns)
            if cut and isinstance(split, OfficialSplit)
            else []
        )
        checks = group_checks.check_groups(split, listed.ids, listed.groups, groups, folds)
        stated += group_findings(split, checks, None, listed.ids)
    return list(dict.fromkeys(stated))


def _planned(run: SuiteRun, dataset: Dataset, stated: str, network: Network) -> PlannedRun:
    """A run, ready to be executed; ``stated`` is what its id says of its data."""
    data = run.config.data.model_copy(update={"white": dataset.white})
    config = run.config.model_copy(update={"data": data})
    encoder = replace(network.encoder, white=dataset.white)
    trained = f"(freeze={encoder.freeze})" if encoder.freeze != "all" else ""
    labels = entry_labels(config)
    return PlannedRun(
        id=run_id(config, stated, encoder.run_digest),
        parts=run.parts,
        config=config,
        columns={
            "backbone": encoder.weights.name + trained,
            "weights": Path(config.backbone.weights).name,
            **{key: labels[key] for key in ("loss", "missing", "sampler")},
        },
        encoder=encoder,
        reason=network.reason,
        skip=network.skip,
        cost=None if isinstance(network.outcome, UserError) else network.outcome.cost,
        features=0 if isinstance(network.outcome, UserError) else network.outcome.features,
        network_bytes=network_bytes(config, network, len(dataset.labels.attributes)),
    )


def folds(config: Config) -> int:
    """F; 1 in a hold-out and with an official split."""
    return config.split.folds if isinstance(config.split, KFold) else 1


def keeps_networks(config: Config) -> bool:
    """Whether a run keeps the networks that it trains."""
    wanted = config.train.keep_weights
    return config.backbone.freeze != "all" and (folds(config) == 1 if wanted == "auto" else wanted)


def network_bytes(config: Config, network: Network, attributes: int) -> int:
    """The size of all networks that a run keeps; 0 where the network cannot be had."""
    if isinstance(network.outcome, UserError) or not keeps_networks(config):
        return 0
    head = FLOAT32 * attributes * (network.outcome.features + 1)
    return folds(config) * len(config.train.seeds) * (network.outcome.trainable_bytes + head)


def describe_networks(sizes: Sequence[int]) -> list[str]:
    """A line about the networks that runs of these `network_bytes` keep; no line if they keep none."""
    keeping = [size for size in sizes if size]
    runs = f"the networks of {count(len(keeping), 'run')} are kept, {bytes_text(sum(keeping))} in all"
    return [f"train.keep_weights: {runs}"] if keeping else []


def trainings(config: Config) -> int:
    """How many times a head of each fold and seed is trained: stages x tuned settings."""
    return (1 + wants_teacher(config.missing)) * math.prod(map(len, config.tune.values()))


def stacked(config: Config) -> int:
    """H, the heads that are trained at once on frozen features: folds x seeds x tuned settings."""
    return folds(config) * len(config.train.seeds) * math.prod(map(len, config.tune.values()))


def entry_labels(config: Config) -> dict[str, str]:
    """The value at each key of `ENTRIES`, with the options that differ from their defaults."""
    return {key: registry.label(table, getattr(config, key)) for key, table in ENTRIES.items()}


def complexity(config: Config, features: int) -> Complexity:
    """How complex a run on D pooled ``features`` is."""
    return Complexity(
        trained={"all": 0, "none": 2}.get(config.backbone.freeze, 1),
        trainings=trainings(config),
        features=features,
        departures=sum(label != REFERENCE[key] for key, label in entry_labels(config).items()),
    )


def run_id(config: Config, fingerprint: str, encoder: str) -> str:
    """``hill-class_aware-3fa9c1``: loss, sampler, what else is not the default, and a hash of all that decides a run.

    Args:
        config: whose name, title, executor and paths do not enter; of plug-ins what they hold.
        fingerprint: of the data.
        encoder: digest of what the backbone contributes, as `EncoderSpec.run_digest` says.
    """
    train, default_train, labels = config.train, TrainConfig(), entry_labels(config)
    optional = [
        (labels["missing"], REFERENCE["missing"]),
        (labels["threshold"], REFERENCE["threshold"]),
        (registry.label(OPTIMIZERS, train.optimizer), default_train.optimizer.name),
        (registry.label(SCHEDULES, train.schedule), default_train.schedule.name),
        (f"hide {config.hide}", "hide None"),
        (config.backbone.name, BackboneConfig().name),
        (f"freeze={config.backbone.freeze}", "freeze=all"),
        *((f"{key}{getattr(train, key)}", f"{key}{train_default(key, config.backbone.freeze)}") for key in SCALARS),
    ]
    parts = [labels["loss"], labels["sampler"], *(label for label, default in optional if label != default)]
    readable = "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", part).strip("_") for part in parts)
    readable = readable[: LONGEST_ID - HASH_LENGTH - 1].rstrip("-_.")
    augmented = [] if config.transform.views == "exact" else [importlib.metadata.version("albumentations")]
    hashes = sorted(str(plugin.sha256) for plugin in config.plugins)
    code = [{"plugins": hashes}] if hashes else []
    text = json.dumps([REVISION, grid.public(config), fingerprint, encoder, *augmented, *code], sort_keys=True)
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]}"
