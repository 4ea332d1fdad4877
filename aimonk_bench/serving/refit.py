"""`--head refit`: the recipe of a run trained again on all its images, also those on which it was validated and tested.

Figures of such a head cannot be measured, because no image is left to measure them on. Those of the run are about the
recipe: heads trained alike on fewer images.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aimonk_bench.config.fields import Config
from aimonk_bench.data import transforms
from aimonk_bench.data.splits import Fold
from aimonk_bench.errors import UserError, count
from aimonk_bench.progress import Progress
from aimonk_bench.records import weights
from aimonk_bench.records.files import checked
from aimonk_bench.records.run import DATA, REVISION, RunRecord
from aimonk_bench.serving.choice import Choice
from aimonk_bench.serving.heads import Tensors, average
from aimonk_bench.suite import containment, tasks
from aimonk_bench.suite.plan import Plan, plan_run
from aimonk_bench.training.recipe import TrainingData

logger = logging.getLogger(__name__)
PLACE = "the weights that were trained again"


@dataclass(frozen=True)
class _Made:
    """What trains a recipe again, of ``data.json``; see `artefacts.data_json`."""

    chosen_epoch: list[list[int]]
    tune: dict[str, Any] | None


@dataclass(frozen=True)
class Budget:
    """How the recipe is trained again.

    Attributes:
        setting: tuned key, such as ``train.lr`` -> value; empty where nothing was tuned.
        epochs: that are trained; a learning-rate schedule is spread over them.
    """

    setting: dict[str, float]
    epochs: int


def budget_of(tuning: Mapping[str, Any] | None, chosen_epoch: Sequence[Sequence[int]]) -> Budget:
    """The setting that most heads chose, and the median of the epochs that the heads of this setting chose, rounded up.

    Of settings chosen equally often the one with the fewest steps from the first value of every list, then the earlier
    in the grid.

    Args:
        tuning: ``tune`` of ``data.json``; None where nothing was tuned.
        chosen_epoch: [S, F], likewise.
    """
    epochs = np.array(chosen_epoch).ravel()
    if tuning is None:
        return Budget({}, int(np.ceil(np.median(epochs))))
    keys = list(tuning["chosen"])
    grid = list(zip(*(tuning["points"][key] for key in keys), strict=True))
    chosen = list(zip(*(np.array(tuning["chosen"][key]).ravel().tolist() for key in keys), strict=True))
    often = Counter(chosen)
    values_of_keys = [list(dict.fromkeys(tuning["points"][key])) for key in keys]

    def rank(point: tuple[float, ...]) -> tuple[int, int, int]:
        steps = sum(values.index(value) for values, value in zip(values_of_keys, point, strict=True))
        return -often[point], steps, grid.index(point)

    setting = min(often, key=rank)
    of_setting = epochs[[point == setting for point in chosen]]
    return Budget(dict(zip(keys, setting, strict=True)), int(np.ceil(np.median(of_setting))))


def with_budget(config: Config, budget: Budget, seeds: Sequence[int]) -> Config:
    """The config of one more training: these seeds, no grid, a fixed number of epochs, and the weights are kept.

    Nothing is scored, so that the threshold policy, which may be that of a plug-in, plays no part.
    """
    values = {name.partition(".")[::2]: value for name, value in budget.setting.items()}
    train = {option: value for (section, option), value in values.items() if section == "train"}
    loss = {option: value for (section, option), value in values.items() if section == "loss"}
    fixed = {"epochs": budget.epochs, "seeds": list(seeds), "select": "last", "patience": None, "keep_weights": True}
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=fixed | train),
            "loss": replace(config.loss, options={**config.loss.options, **loss}),
            "tune": {},
            "threshold": Config.model_fields["threshold"].default,
        }
    )


@dataclass(frozen=True, eq=False)
class Refit:
    """A recipe that is ready to be trained again.

    Attributes:
        budget: how.
        seeds: whose heads are averaged; a network is that of the only seed.
        plan: of one run on the data of the run.
    """

    budget: Budget
    seeds: tuple[int, ...]
    plan: Plan


def prepare(chosen: Choice, seeds: tuple[int, ...]) -> Refit:
    """Check that the data of the run are here, and log what will be trained and how long that will take.

    Raises:
        UserError: the data or the weights of the run are not here, or are others here; this version trains otherwise
            than the one that made the run.
    """
    record, config = chosen.record, chosen.config
    if record.status.revision != REVISION:
        raise UserError(
            f"{record.folder}: found a run of an earlier version, whose training differs from that of this version; "
            "fix: run its config again"
        )
    made = checked(_Made, record.data, record.folder / DATA)
    budget = budget_of(made.tune, made.chosen_epoch)
    plan = plan_run(with_budget(config, budget, seeds))
    if plan.dataset.fingerprint != record.data["fingerprint"]:
        raise UserError(
            f"{config.data.labels}: labels or images are not those of the run any more (fingerprint "
            f"{plan.dataset.fingerprint[:12]}, expected {record.data['fingerprint'][:12]} as in {record.folder / DATA})"
            "; fix: the files of the run, or run again"
        )
    _say(record, config, budget, len(seeds))
    return Refit(budget, seeds, plan)


def train(refit: Refit, progress: Progress | None = None) -> tuple[Tensors, dict[str, Any]]:
    """Train again on all images of the run, and average the heads of the seeds.

    Labels that `hide` hides from training stay hidden, since they are a part of the recipe. Where the missing-label
    policy learns from a teacher, both stages take the same number of epochs.

    Returns:
        The weights, and facts about how they were made.

    Raises:
        RunFailed: a loss is not finite, the engine of the encoder cannot be had, or the network ends its worker.
    """
    planned = refit.plan.baseline
    config = planned.config
    elsewhere = partial(containment.encode_where_due, config.run)
    dataset = tasks.encode(refit.plan.dataset, config, planned.encoder, progress, elsewhere)
    labels = dataset.split_labels(config.split, config.hide).train
    folds = dataset.folds(config.split)
    rows = np.unique(np.concatenate([part for fold in folds for part in (fold.train, fold.val, fold.test)]))
    # nothing is validated or tested, but a fold has no empty part
    everything = Fold(train=rows, val=rows[:1], test=rows[:1])
    data = TrainingData(labels, labels, [everything], transforms.views(config.transform).probabilities)
    with tempfile.TemporaryDirectory() as scratch:
        trained = tasks.train(planned, data, dataset.stored, Path(scratch), progress).trained
        facts = {"setting": refit.budget.setting, "epochs": refit.budget.epochs, "images": len(rows)}
        if trained.heads is not None:
            return average(trained.heads, list(range(len(refit.seeds))), PLACE), facts
        network = weights.read_network(trained.networks[0])
    return Tensors(network.weight, network.bias, network.layers, PLACE), facts


def _say(record: RunRecord, config: Config, budget: Budget, seeds: int) -> None:
    """Log what will be trained, and how long that will take by what the run took."""
    parts = record.data["folds"]  # numbers of images
    images = sum(parts[0].values())
    heads = len(config.train.seeds) * math.prod(map(len, config.tune.values()))
    trained = sum(part["train"] for part in parts)
    share = seeds * images * budget.epochs / (heads * trained * config.train.epochs)
    seconds = record.status.seconds["train"] * share
    about = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{max(seconds, 1):.0f} s"
    setting = "".join(f", {key} {value:g}" for key, value in budget.setting.items())
    logger.info(
        "training again on all %d images: %s, %s%s; about %s, by the seconds of the run; encoding what the feature "
        "store does not hold, writing the model and checking it come on top",
        *(images, count(seeds, "seed"), count(budget.epochs, "epoch"), setting, about),
    )
