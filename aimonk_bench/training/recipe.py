"""What training needs: how to learn, and what there is to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

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


@dataclass(frozen=True, eq=False)
class Recipe:
    """How to learn.

    Attributes:
        train: the section of the config.
        loss: an entry of LOSSES or SET_LOSSES.
        missing: an entry of MISSING; one with a teacher is trained in two stages.
        sampler: an entry of SAMPLERS.
        tune: the section of the config: each head chooses a point of the product of its lists.
    """

    train: TrainConfig
    loss: Spec
    missing: Spec
    sampler: Spec
    tune: Tune = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> Recipe:
        """The recipe of an experiment."""
        return cls(config.train, config.loss, config.missing, config.sampler, config.tune)

    @property
    def epochs(self) -> int:
        """The epochs that each head is trained for, at most, over its stages."""
        return self.train.epochs * (2 if wants_teacher(self.missing) else 1)

    def jobs(self, folds: int) -> list[tuple[int, int]]:
        """(seed, fold) fold by fold, seed by seed."""
        return [(seed, fold) for fold in range(folds) for seed in self.train.seeds]


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What there is to learn from.

    Attributes:
        train_labels: [N, A] as training shows them, with the names of the attributes.
        val_labels: [N, A] as validation shows them; they differ where labels are hidden from training only.
        folds: the row numbers of the three parts of each fold, none of them empty.
        view_probabilities: [V] of the views in training; view 0 is the unaugmented image.
    """

    train_labels: Labels
    val_labels: Labels
    folds: Sequence[Fold]
    view_probabilities: np.ndarray

    @cached_property
    def countable(self) -> np.ndarray:
        """[N, 2 A] float64: positives and observed labels for training, so that one product counts drawn labels."""
        return np.hstack([self.train_labels.positive, self.train_labels.observed]).astype(np.float64)


def check(recipe: Recipe, attributes: int) -> None:
    """Refuse what the number of attributes, or this machine, makes impossible, before any image is read.

    Raises:
        UserError: all the problems.
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
