"""The decisions of a run on its test rows, and their confusion counts by duplicate group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import Predictions, ScoredRows, agree
from aimonk_bench.evaluation.resampling import by_group
from aimonk_bench.evaluation.thresholds import Thresholds


def variance_factor(folds: int) -> float:
    """c^2, by which the variance over images is multiplied when the question is about the recipe.

    Folds share training images: 1 + F n_test / n_train, n_train with validation, so 1 + F / (F - 1); 1 for a hold-out.
    Source: simulation, after Nadeau and Bengio (2003).
    """
    return 1.0 if folds == 1 else 1 + folds / (folds - 1)


@dataclass(frozen=True, eq=False)
class GroupCounts:
    """Confusion counts of the observed test rows, summed within each group of duplicates.

    Attributes:
        true_positive: [S, G, A] TP.
        accepted: [S, G, A] predicted positive, TP + FP.
        positive: [G, A] TP + FN.
        observed: [G, A] TP + FP + FN + TN.
        fold: [G].
    """

    true_positive: Array
    accepted: Array
    positive: Array
    observed: Array
    fold: Array


@dataclass(frozen=True, eq=False)
class Decisions:
    """The decisions of a run on the test rows of all folds.

    Attributes:
        accepted: [S, R, A] bool, predicted positive, also where no label is observed.
        labels: [R, A].
        group: [R]; rows of one group are resampled and permuted together.
        fold: [R]; fold 0 alone is a hold-out.
        image_id: [R].
    """

    accepted: Array
    labels: Labels
    group: Array
    fold: Array
    image_id: Array

    @classmethod
    def of(cls, predictions: Predictions, thresholds: Thresholds | Array | float = 0.5) -> Decisions:
        """Decisions on the test rows: each by the thresholds of its fold, or by values that broadcast to [S, R, A]."""
        rows = predictions.part("test")
        return cls.of_rows(rows, thresholds.values[:, rows.fold] if isinstance(thresholds, Thresholds) else thresholds)

    @classmethod
    def of_rows(cls, rows: ScoredRows, thresholds: Array | float) -> Decisions:
        """Decisions on these rows by thresholds that broadcast to [S, R, A]."""
        return cls(rows.probabilities > thresholds, rows.labels, rows.group, rows.fold, rows.image_id)

    @property
    def variance_factor(self) -> float:
        """c^2 of this number of folds, see `variance_factor`."""
        return variance_factor(int(self.fold.max()) + 1)

    def same_rows(self, other: Decisions) -> bool:
        """Whether both are about the same images with the same labels, in the same folds and groups."""
        return agree(self, other, "image_id", "group", "fold", "labels")

    def by_group(self) -> GroupCounts:
        """The confusion counts of each group, groups in ascending order."""
        positive, observed = self.labels.positive, self.labels.observed
        kinds = np.stack([self.accepted & positive, self.accepted & observed])  # [2, S, R, A]
        true_positive, accepted = np.moveaxis(by_group(np.moveaxis(kinds, 2, 0), self.group), 0, 2)
        first = np.unique(self.group, return_index=True)[1]
        sums = by_group(positive, self.group), by_group(observed, self.group)
        return GroupCounts(true_positive, accepted, *sums, self.fold[first])
