"""The heads that are trained together, with all that stays the same during training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from aimonk_bench import registry
from aimonk_bench.data.labels import Labels
from aimonk_bench.registry import Spec
from aimonk_bench.training import tuning
from aimonk_bench.training.batches import EpochBatches, HeadRngs
from aimonk_bench.training.objective import Objective
from aimonk_bench.training.recipe import Job, Recipe, TrainingData
from aimonk_bench.training.samplers import SAMPLERS, blocks
from aimonk_bench.training.schedules import SCHEDULES


class Stack:
    """H = F x S x P heads: fold by fold, seed by seed, tuned setting by tuned setting.

    A *job* is a seed in a fold. Its P heads start from the same weights and read the same batches; J = H / P.

    Args:
        data: labels, folds and views.
        recipe: loss, policy, sampler and options of training.
        jobs: [J] fold by fold, with the same seeds in every fold.
        device: of the tensors.
        dtype: of labels, losses and logits.
        steps: T, if not ceil(n/B) with n the largest training split.
        storage: [N] position of each unaugmented image in the feature store, for ``train.order: blocks``.

    Attributes:
        folds: numbers of the folds.
        settings: ``{"train.lr": [P], ...}``, the tuned grid.
        attributes: A.
        counts: [H, 3, A] positive, negative and missing labels among the training rows of each head.
    """

    def __init__(
        self,
        data: TrainingData,
        recipe: Recipe,
        jobs: Sequence[Job],
        device: torch.device,
        dtype: torch.dtype,
        steps: int | None = None,
        storage: np.ndarray | None = None,
    ) -> None:
        train = recipe.train
        self.data, self.recipe, self.jobs, self.device, self.dtype = data, recipe, list(jobs), device, dtype
        self.folds = sorted({fold for _, fold in jobs})
        self.settings = tuning.grid(train, recipe.tune)
        self.points = len(self.settings["train.lr"])
        self.heads = len(self.jobs) * self.points
        self.attributes = data.train_labels.shape[1]
        self.steps = steps or recipe.steps(data.folds)
        self.schedule = registry.build("schedule", SCHEDULES, train.schedule)
        in_blocks = train.order == "blocks"
        self._sampler = blocks if in_blocks else registry.build("sampler", SAMPLERS, recipe.sampler)
        self._rows = {fold: data.folds[fold].train for fold in self.folds}
        if in_blocks and storage is not None:
            self._rows = {fold: rows[np.argsort(storage[rows], kind="stable")] for fold, rows in self._rows.items()}
        of_folds = {fold: self._count_labels(rows) for fold, rows in self._rows.items()}
        counts = np.repeat([of_folds[fold] for _, fold in self.jobs], self.points, axis=0)
        self.counts = torch.from_numpy(counts).to(device, dtype)

    def _count_labels(self, rows: np.ndarray) -> list[np.ndarray]:
        """Positive, negative and missing labels of each attribute, [A] each."""
        positive, negative = self.data.train_labels[rows].counts()
        return [positive, negative, len(rows) - positive - negative]

    def tensors(self, labels: Labels) -> Labels:
        """Labels of NumPy arrays as tensors, targets in the dtype of the logits."""
        targets = torch.from_numpy(labels.targets).to(self.device, self.dtype)
        return Labels(targets, torch.from_numpy(labels.observed).to(self.device))

    def rngs(self) -> list[HeadRngs]:
        """New random generators of each job."""
        return [HeadRngs.of(*job) for job in self.jobs]

    def per_head(self, setting: str) -> torch.Tensor:
        """The value of a tuned setting for each head, [H, 1, 1]."""
        values = np.tile(self.settings[setting], len(self.jobs))
        return torch.from_numpy(values).to(self.device, self.dtype).view(-1, 1, 1)

    def draw(self, rngs: Sequence[HeadRngs]) -> EpochBatches:
        """Draw the batches of the next epoch of every job."""
        data, rows = self.data, [self._rows[fold] for _, fold in self.jobs]
        shape = self.steps, self.recipe.train.batch_size
        return EpochBatches.draw(self._sampler, data.train_labels, rows, rngs, data.view_probabilities, shape)

    def count(self, batches: EpochBatches) -> np.ndarray:
        """The numbers of positives and of observed labels that each head reads in these batches: int64 [H, 2, A]."""
        countable = self.data.countable
        draws = (np.bincount(batches.images[:, job].ravel(), minlength=len(countable)) for job in range(len(self.jobs)))
        counts = np.stack([of_images @ countable for of_images in draws]).astype(np.int64)
        return counts.reshape(len(counts), 2, -1).repeat(self.points, axis=0)

    def objective(self, missing: Spec, heads: slice = slice(None)) -> Objective:
        """The objective of some of the heads: the loss of the recipe under this missing-label policy."""
        positives, negatives, _ = self.counts[heads].split(1, 1)
        options = {
            key.removeprefix("loss."): self.per_head(key)[heads] for key in self.settings if key.startswith("loss.")
        }
        return Objective(self.recipe.loss, missing, positives, negatives, options)

    def by_fold(self) -> Iterator[tuple[int, slice]]:
        """Each fold's number and its heads."""
        size = self.heads // len(self.folds)
        for place, fold in enumerate(self.folds):
            yield fold, slice(place * size, (place + 1) * size)
