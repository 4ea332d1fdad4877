"""What `validate` prints: what `run` or `suite` would do with a file, and what is doubtful about it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from aimonk_bench.config.fields import Config
from aimonk_bench.config.grid import Suite
from aimonk_bench.config.loader import Source
from aimonk_bench.config.overrides import Overrides
from aimonk_bench.config.split_fields import KFold, OfficialSplit
from aimonk_bench.config.tables import Tables
from aimonk_bench.data import image_files, label_file, splits
from aimonk_bench.data.labels import LabelFile
from aimonk_bench.errors import UserError, count
from aimonk_bench.evaluation import fairness
from aimonk_bench.remote import RemotePath
from aimonk_bench.reporting import costs as cost_words
from aimonk_bench.reporting import fairness as unfair
from aimonk_bench.reporting.costs import Costs
from aimonk_bench.reporting.words import run_name
from aimonk_bench.suite import costs, networks, plan
from aimonk_bench.suite.budgets import training_of
from aimonk_bench.suite.dataset import locate
from aimonk_bench.suite.networks import Network
from aimonk_bench.training import tuning
from aimonk_bench.training.optimizers import decay_share
from aimonk_bench.training.recipe import absent_values

HASHED_BYTES = 1 << 30  # of images that are hashed in any case, which takes a second or two
RARE = 100  # groups of images: stratified training rows have a part of so many, and a split of a million rows is slow


def describe(source: Source, tables: Tables, overrides: Overrides, budget_hours: float | None = None) -> str:
    """What `run` or `suite` would do with a config: its runs, images, networks and heads, and what they take.

    Networks are tried. Images are hashed, to find those of the feature store, unless they lie at a URL, or are larger
    than `HASHED_BYTES` together and there is no budget. Of the images only those of more than 8 bits are decoded.
    Nothing is downloaded.

    Args:
        source: the config.
        tables: what it may name.
        overrides: of keys of the config.
        budget_hours: hours that everything may take.

    Raises:
        UserError: config or labels are wrong, listed images do not exist and are not to be skipped, no run has a
            network that can be used, or the runs take longer than the budget.
    """
    suite = plan.load(source, tables, overrides)
    config, configs = suite.base, [run.config for run in suite.runs]
    listed = plan.checked_labels(configs)
    rows = zip(listed.ids, listed.paths, listed.lines.tolist(), strict=True)
    unreadable = image_files.unreadable(rows, config.data.images, skip=config.data.on_bad_image == "skip")
    absent = [f"{listed.path}:{line}: {text}" for line, text in unreadable]
    if absent and config.data.on_bad_image == "error":
        raise UserError(absent, limit=image_files.SHOWN)
    truths = []
    if (truth := label_file.load_truth(config.data, listed)) is not None:
        truths = [f"{config.data.truth}: states {truth.observed.sum()} of {truth.observed.size} labels"]
    prepared = networks.prepare(configs, download=False, skip=suite.unavailable == "skip")
    names = [run_name(run.parts) for run in suite.runs]
    usable = [network for network in prepared if network.reason is None]
    if not usable:
        raise UserError(list(dict.fromkeys(line for network in prepared for line in network.describe())))
    left = [number for number, network in enumerate(prepared) if not network.skip]
    work = [(configs[number], prepared[number]) for number in left if prepared[number].reason is None]
    expected = _costs(listed, work, hashes=budget_hours is not None)
    over = cost_words.check_budget(expected, budget_hours)
    lines = [
        f"{source if isinstance(source, str | os.PathLike) else 'the config'} is valid.",
        f"{config.name}: {len(listed.ids)} listed images, attributes {', '.join(listed.labels.attributes)}",
        *truths,
        *_of_labels(configs, listed),
        *(f"will be skipped: {problem}" for problem in absent),
        *dict.fromkeys(line for network in usable for line in network.describe()),
        *plan.describe_networks(
            [
                plan.network_bytes(config, network, len(listed.labels.attributes))
                for config, network in zip(configs, prepared, strict=True)
            ]
        ),
        *networks.failures(names, prepared),
        *(f"warning: {line}" for line in networks.skips(names, prepared, suite.baseline)),
        *(f"warning: {line}" for line in _unfair(suite)),
        *_budgets(configs, listed.labels.shape[1]),
        *cost_words.lines(expected),
        *(f"warning: {line}" for line in over),
        f"{count(len(left), 'run')}, {count(expected.training.heads, 'head')}:",
        *(f"  {names[number]}" for number in left),
    ]
    return "\n".join(lines)


def _of_labels(configs: Sequence[Config], listed: LabelFile) -> Iterator[str]:
    """What was understood of the labels, how the runs split them, and what is doubtful."""
    yield from listed.notes
    yield from (f"warning: {listed.path}: {text}" for text in _absent_values(listed, configs))
    yield from (f"split: {split}" for split in dict.fromkeys(_describe_split(run) for run in configs))
    for finding in plan.label_findings(configs, listed, cut=True):
        yield f"{finding.level}: {finding.text} {finding.advice}"


def _costs(listed: LabelFile, runs: Sequence[tuple[Config, Network]], *, hashes: bool) -> Costs:
    """What runs with usable networks will take.

    Args:
        listed: the label file.
        runs: config and network of each.
        hashes: images are hashed however large they are; those at a URL are not, as they would be downloaded.
    """
    folder, images = runs[0][0].data.images, None
    white = runs[0][0].data.white
    files = (folder / path for path in listed.paths)
    is_local = not isinstance(folder, RemotePath)
    if is_local and (hashes or sum(file.stat().st_size for file in files if file.exists()) <= HASHED_BYTES):
        dataset = locate(runs[0][0].data, listed)
        listed, images, white = dataset.listed, dataset.images, dataset.white
    work = [
        costs.Work(config, replace(network.encoder, white=white), network.outcome.features)
        for config, network in runs
        if not isinstance(network.outcome, UserError)
    ]
    return costs.estimate(work, listed, images)


def _budgets(configs: Sequence[Config], attributes: int) -> list[str]:
    """How long runs are trained, and with which settings, each budget once."""
    lines = []
    for config in configs:
        train = config.train
        values = tuning.lists(train, config.tune)
        shown = {key: " or ".join(f"{value:g}" for value in of_key) for key, of_key in values.items()}
        if attributes > 1 and any(values["train.weight_decay"]) and decay_share(train.optimizer.name, attributes) < 1:
            shown["train.weight_decay"] += f" (in a head divided by {attributes} attributes)"
        settings = ", ".join(f"{key} {text}" for key, text in shown.items())
        epochs = count(train.epochs, "epoch") + (" (their heads averaged)" if train.averaging != "none" else "")
        lines.append(f"budget: {epochs}, batches of {train.batch_size}, {train.optimizer.name}, {settings}")
    return list(dict.fromkeys(lines))


def _unfair(suite: Suite) -> list[str]:
    """What makes the comparison unfair, as far as the configs say it."""
    names = {str(number): run_name(run.parts) for number, run in enumerate(suite.runs)}
    trainings = {number: training_of(run.config) for number, run in zip(names, suite.runs, strict=True)}
    return [unfair.sentence(item, names, names.__getitem__) for item in fairness.planned(trainings)]


def _absent_values(listed: LabelFile, configs: Sequence[Config]) -> list[str]:
    """Warnings about values that no training row has; the run may have other folds, as it groups equal images."""
    groups = splits.components(listed.ids, listed.groups)
    first = np.unique(groups, return_index=True)[1]
    is_rare = np.min(listed.labels[first].counts()) < RARE
    folds = [
        splits.split(scheme, listed.labels, groups, listed.columns)
        for scheme in dict.fromkeys(run.split for run in configs)
        if is_rare or isinstance(scheme, OfficialSplit)  # which is not stratified
    ]
    return list(dict.fromkeys(text for of_split in folds for text in absent_values(listed.labels, of_split)))


def _describe_split(config: Config) -> str:
    split = config.split
    if isinstance(split, OfficialSplit):
        parts = ", ".join(f"{key} {' '.join(map(repr, tokens))}" for key, tokens in split.lists().items() if tokens)
        drawn = isinstance(split.val, float)
        val = f", val {split.val} of the training images, seed {split.seed}" if drawn else ""
        return f"column {split.column!r}: {parts}{val}"
    if isinstance(split, KFold):
        return f"{split.folds} folds, {split.val:g} of the rest of a fold for validation, seed {split.seed}"
    return f"hold-out, {split.val:g} for validation and {split.test:g} for test, seed {split.seed}"
