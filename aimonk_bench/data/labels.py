"""Labels: targets and the mask of observed labels travel together, from the label file to the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Labels:
    """Targets and observed labels, [N, A]; leading axes such as heads may come first.

    The arrays are NumPy arrays, or torch tensors while heads are trained. A target that is not observed is 0 and means
    nothing: every use of ``targets`` goes through ``observed`` first, because 0 x NaN is NaN.

    Attributes:
        targets: [..., N, A] 1 positive, 0 negative, 0 too where not observed.
        observed: [..., N, A] bool, False where the label is missing (NA).
        attributes: [A] names; empty where nobody needs them.
    """

    targets: Any
    observed: Any
    attributes: tuple[str, ...] = ()

    @classmethod
    def of(cls, targets: ArrayLike, observed: ArrayLike, attributes: Sequence[str] = ()) -> Labels:
        """Labels from any NumPy arrays; whatever stands under ``observed == False`` is replaced by 0."""
        mask = np.array(observed, bool)
        return cls(np.where(mask, targets, 0).astype(np.int8), mask, tuple(attributes))

    def __len__(self) -> int:
        """N."""
        return int(self.targets.shape[-2])

    def __getitem__(self, rows: Any) -> Labels:
        """The labels of these row numbers, slice or mask of the N rows, in this order, for every leading axis."""
        return replace(self, targets=self.targets[..., rows, :], observed=self.observed[..., rows, :])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of both arrays."""
        return tuple(self.targets.shape)

    @property
    def positive(self) -> Any:
        """Observed and 1, bool [..., N, A]."""
        return self.observed & (self.targets == 1)

    @property
    def negative(self) -> Any:
        """Observed and 0, bool [..., N, A]."""
        return self.observed & (self.targets == 0)

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Observed positives and observed negatives of each attribute, both [..., A]."""
        return self.positive.sum(-2), self.negative.sum(-2)

    def masked(self, observed: NDArray[np.bool_]) -> Labels:
        """The same labels where only these [N, A] of the observed ones stay observed."""
        return Labels.of(self.targets, self.observed & observed, self.attributes)


@dataclass(frozen=True, eq=False)
class LabelFile:
    """The N images that a label file lists, and their labels.

    Attributes:
        path: the file.
        ids: [N] image names as the file writes them.
        paths: [N] where the images are below the image folder, see `image_names.resolve`; equal for no two of them.
        labels: [N, A].
        groups: [N] values of the group column, None where an image has none; None without such a column.
        lines: [N] line of each image in the file, from 1.
        columns: name -> [N] tokens of the columns that a split reads; None where the file has no token.
        notes: what the user should know: which importer was used, which duplicate lines were used once.
    """

    path: Path
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    labels: Labels
    groups: tuple[str | None, ...] | None
    lines: NDArray[np.int64]
    notes: tuple[str, ...]
    columns: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)

    def subset(self, rows: Sequence[int] | NDArray[np.integer]) -> LabelFile:
        """The images of these row numbers, in this order."""
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            paths=tuple(self.paths[row] for row in rows),
            labels=self.labels[rows],
            groups=None if self.groups is None else tuple(self.groups[row] for row in rows),
            lines=self.lines[rows],
            columns={name: tuple(tokens[row] for row in rows) for name, tokens in self.columns.items()},
        )
