"""The inputs of training: the recipe and the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np

from aimonk_bench.backbones.encoder import pick_device
from aimonk_bench.config.fields import Config, TrainConfig, Tune
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.splits import Fold
from aimonk_bench.errors import check_all
from aimonk_bench.registry import Spec
from aimonk_bench.training.entries import check_options
from aimonk_bench.training.missing import MISSING, wants_teacher
from aimonk_bench.training.objective import check_accumulation, check_combination
from aimonk_bench.training.optimizers import OPTIMIZERS
from aimonk_bench.training.samplers import SAMPLERS, check_order

Job: TypeAlias = tuple[int, int]  # a seed, and the number of the fold in which it is trained


@dataclass(frozen=True)
class Cores:
    """The cores that a training may use. They decide how many networks train at a time, and never what comes out.

    Attributes:
        share: for this training, where others run beside it; None: every core of the machine.
        machine: of which `run.threads: auto` gives each network a part; None: those of the machine where training runs.
            A cluster states those of the driver, so that no result depends on the machine.
    """

    share: int | None = None
    machine: int | None = None


ALL_CORES = Cores()


@dataclass(frozen=True, eq=False)
class Recipe:
    """The loss, the missing-label policy, the sampler and the options of training.

    Attributes:
        train: the section of the config.
        loss: an entry of LOSSES or SET_LOSSES.
        missing: an entry of MISSING; one with a teacher trains in two stages.
        sampler: an entry of SAMPLERS.
        tune: the section of the config: each job chooses a point of the product of its lists.
        threads: torch's for each network, or for the stack of heads; None: 1 for heads, and for networks an equal part
            of the cores for each of those that train at a time.
        cores: for this training.
    """

    train: TrainConfig
    loss: Spec
    missing: Spec
    sampler: Spec
    tune: Tune = field(default_factory=dict)
    threads: int | None = None
    cores: Cores = ALL_CORES

    @classmethod
    def of(cls, config: Config, cores: Cores = ALL_CORES) -> Recipe:
        """The recipe of an experiment."""
        threads = None if config.run.threads == "auto" else config.run.threads
        return cls(config.train, config.loss, config.missing, config.sampler, config.tune, threads, cores)

    @property
    def epochs(self) -> int:
        """The most epochs that a head is trained for, over its stages."""
        return self.train.epochs * (2 if wants_teacher(self.missing) else 1)

    def jobs(self, folds: int) -> list[Job]:
        """Fold by fold, seed by seed."""
        return [(seed, fold) for fold in range(folds) for seed in self.train.seeds]

    def steps(self, folds: Sequence[Fold]) -> int:
        """T, the steps of an epoch: the batches of the largest training split."""
        return -(-max(len(fold.train) for fold in folds) // self.train.batch_size)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Labels, folds and views.

    Attributes:
        train_labels: [N, A] for training, with the names of the attributes.
        val_labels: [N, A] for validation; they differ where labels are hidden from training only.
        folds: the row numbers of the three parts of each fold, none of them empty.
        view_probabilities: [V] with which training draws each view; view 0 is the unaugmented image.
    """

    train_labels: Labels
    val_labels: Labels
    folds: Sequence[Fold]
    view_probabilities: np.ndarray

    @cached_property
    def countable(self) -> np.ndarray:
        """[N, 2 A] float64: positives and observed labels for training; one product with draws counts drawn labels."""
        return np.hstack([self.train_labels.positive, self.train_labels.observed]).astype(np.float64)


def absent_values(labels: Labels, folds: Sequence[Fold]) -> list[str]:
    """Warnings about values that no training row of a fold is observed to have, one per value and set of folds."""
    positive, negative = np.array([labels[fold.train].counts() for fold in folds]).swapaxes(0, 1) > 0  # [F, A] each
    absent = {"label": ~positive & ~negative, "positive": ~positive & negative, "negative": positive & ~negative}
    attributes: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for value, of_folds in absent.items():
        for name, column in zip(labels.attributes, of_folds.T, strict=True):
            if column.any():
                attributes.setdefault((value, tuple(np.flatnonzero(column).tolist())), []).append(name)
    return [
        f"{', '.join(names)}: no observed {value} among the training rows"
        + (f" of fold {', '.join(map(str, numbers))}" if len(numbers) < len(folds) else "")
        + ": the class weights of losses are 1 there, and samplers draw no such row; "
        "label more images, or name fewer data.attributes"
        for (value, numbers), names in attributes.items()
    ]


def check(recipe: Recipe, attributes: int) -> None:
    """Refuse a recipe that the number of attributes or this machine makes impossible, before any image is read.

    Raises:
        UserError: with all problems.
    """
    train = recipe.train
    facts = {"attributes": attributes, "batch_size": train.batch_size}
    check_all(
        [
            lambda: pick_device(train.device),
            lambda: check_options("optimizer", OPTIMIZERS, train.optimizer),
            lambda: check_options("missing-label policy", MISSING, recipe.missing, **facts),
            lambda: check_combination(recipe.loss, recipe.missing),
            lambda: check_accumulation(recipe.loss, recipe.missing, train.accumulate),
            lambda: check_options("sampler", SAMPLERS, recipe.sampler, **facts),
            lambda: check_order(train.order, recipe.sampler.name),
        ]
    )
