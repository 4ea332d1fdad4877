"""The record of an audit: what can be said of a data set before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.association import BeforeTraining
from aimonk_bench.evaluation.comparison import holm
from aimonk_bench.evaluation.duplicates import Disagreement, Near
from aimonk_bench.evaluation.label_counts import Counts, Together
from aimonk_bench.evaluation.missing_dependence import Dependence
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.suspects import Suspects
from aimonk_bench.evaluation.verdict import ALPHA


@dataclass(frozen=True, eq=False)
class Files:
    """What the headers of the N image files say.

    Attributes:
        formats: JPEG, PNG, ... -> number of images.
        width, height: [N] in pixels, upright.
        misnamed: (row, format) whose name promises another format.
        transparent, grey: [N] bool.
    """

    formats: dict[str, int]
    width: Array
    height: Array
    misnamed: list[tuple[int, str]]
    transparent: Array
    grey: Array


@dataclass(frozen=True, eq=False)
class Audit:
    """Everything that `aimonk-bench audit` says of N used images.

    Attributes:
        name: of the experiment or suite.
        ids: [N] names in the label file.
        labels: [N, A].
        features: what made the features: the backbone's name.
        skipped: (name in the label file, reason) of images left out.
        content: [N] equal for equal bytes.
        part: [N] see `duplicates.tested_part`.
        dependence: every test whether missing labels depend on something.
        before: the association test before training.
    """

    name: str
    ids: tuple[str, ...]
    labels: Labels
    features: str
    skipped: list[tuple[str, str]]
    content: Array
    part: Array
    files: Files
    counts: Counts
    together: Together
    dependence: list[Dependence]
    disagreement: Disagreement
    near: Near
    before: BeforeTraining
    suspects: Suspects

    @property
    def attributes(self) -> tuple[str, ...]:
        """[A] names."""
        return self.labels.attributes

    @property
    def folds(self) -> int:
        """Number of folds of the config's split; 1 is a hold-out."""
        return int(self.part.max()) + 1

    @property
    def adjusted(self) -> Array:
        """[A] p of the association test, adjusted by Holm."""
        return holm(self.before.p)

    @property
    def signal(self) -> Array:
        """[A] bool, see `has_signal`."""
        return has_signal(self.before)


def has_signal(before: BeforeTraining) -> Array:
    """[A] bool: p of the association test, adjusted by Holm, is at most the level of the verdict's first test."""
    return np.asarray(np.nan_to_num(holm(before.p), nan=1.0) <= ALPHA / 2)
