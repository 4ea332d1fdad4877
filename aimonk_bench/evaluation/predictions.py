"""What training hands to scoring: the raw logits of every validation and test row of a run, in one file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aimonk_bench.data.labels import Labels
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.numbers import Array

Split = Literal["val", "test"]

SCHEMA_VERSION = 1

_FIELDS = {  # arrays of the file: (dtype, axes); S seeds, R rows, A attributes, F folds
    "logits": ("f4", "SRA"),
    "targets": ("i1", "RA"),
    "observed": ("?", "RA"),
    "split": ("U", "R"),
    "fold": ("i2", "R"),
    "group": ("i4", "R"),
    "image_id": ("U", "R"),
    "attribute": ("U", "A"),
    "seed": ("i8", "S"),
    "train_positive": ("i4", "FA"),
    "train_observed": ("i4", "FA"),
    "truth": ("i1", "RA"),  # absent without a truth
}
ROWS = ("split", "fold", "group", "image_id", "seed")  # what runs have in common whose logits can be compared
_UNKNOWN = np.int8(-1)  # in the file: a target, or a truth, that is not observed


def sigmoid(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Probability ``1 / (1 + exp(-logit))`` in float64, whatever the type of the logits; any shape.

    >>> sigmoid(np.float32([-1e30, 0, 1e30])).tolist()
    [0.0, 0.5, 1.0]
    """
    with np.errstate(over="ignore"):  # exp overflows to inf, and 1 / inf = 0 is the right probability
        return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(logits, dtype=np.float64))))


def agree(one: object, other: object, *names: str) -> bool:
    """Whether two records have equal arrays, equal labels or no value under these names."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(
        agree(first, second, "targets", "observed", "attributes")
        if isinstance(first, Labels) and isinstance(second, Labels)
        else np.array_equal(first, second)
        for first, second in pairs
    )


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Rows of one split, of one fold or of all: logits, labels and where each row comes from.

    Attributes:
        logits: [S, R, A] float32.
        probabilities: [S, R, A] float64.
        labels: [R, A].
        fold: [R], ascending.
        group: [R] rows of one group, such as exact duplicates, count as one image.
        image_id: [R].
    """

    logits: Array
    probabilities: Array
    labels: Labels
    fold: Array
    group: Array
    image_id: Array

    def __getitem__(self, rows: slice) -> ScoredRows:
        """These rows."""
        of_seeds = ("logits", "probabilities")
        return ScoredRows(**{name: x[:, rows] if name in of_seeds else x[rows] for name, x in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits and labels of the validation and test rows of every fold, for every seed.

    One row per (fold, split, image), sorted by fold, ``val`` before ``test``, then in the order of the label file.
    Arrays have exactly the types below. With several folds each image is a test row exactly once.

    Attributes:
        logits: [S, R, A] f4, finite.
        labels: [R, A], with the names of the attributes.
        split: [R] "val" or "test".
        fold: [R] i2, from 0.
        group: [R] i4; a split never divides a group.
        image_id: [R] the name as the label file writes it.
        seed: [S] i8.
        train_positive: [F, A] i4, observed positives among a fold's training rows.
        train_observed: [F, A] i4, observed labels among them.
        truth: [R, A] the true labels whatever was labelled, observed where the truth is stated; None without a truth.

    Raises:
        ValueError: the arrays do not fit together; every reason is named.
    """

    logits: Array
    labels: Labels
    split: Array
    fold: Array
    group: Array
    image_id: Array
    seed: Array
    train_positive: Array
    train_observed: Array
    truth: Labels | None = None

    def __post_init__(self) -> None:
        # The values can be checked only once the shapes are right.
        problems = list(_misshapen(self._arrays())) or list(self._inconsistent())
        if problems:
            raise ValueError("predictions: " + "; ".join(problems))

    @property
    def folds(self) -> int:
        """Number of folds F; 1 is a hold-out."""
        return len(self.train_observed)

    def part(self, split: Split, fold: int | None = None) -> ScoredRows:
        """The rows of one split: of one fold, or of all folds one after the other.

        They are formed at every call: kept, the probabilities would take twice the memory of the logits.
        """
        chosen = self.split == split if fold is None else (self.split == split) & (self.fold == fold)
        places = np.flatnonzero(chosen)
        # rows that follow one another are no copy
        adjoining = len(places) > 0 and places[-1] - places[0] + 1 == len(places)
        rows = slice(places[0], places[-1] + 1) if adjoining else places
        logits = self.logits[:, rows]
        columns = {name: getattr(self, name)[rows] for name in ("labels", "fold", "group", "image_id")}
        return ScoredRows(logits=logits, probabilities=sigmoid(logits), **columns)

    def _arrays(self) -> dict[str, Array]:
        """The arrays of the file, where a target that is not observed is still 0."""
        labels, truth = self.labels, self.truth
        columns = vars(self) | {
            "targets": labels.targets,
            "observed": labels.observed,
            "attribute": np.array(labels.attributes),
            "truth": None if truth is None else truth.targets,
        }
        return {name: columns[name] for name in _FIELDS if columns[name] is not None}

    def _inconsistent(self) -> Iterator[str]:
        test, targets, observed = self.split == "test", self.labels.targets, self.labels.observed
        part = 2 * self.fold.astype(np.int64) + test
        in_order = (np.diff(part) >= 0).all() and np.array_equal(np.unique(part), np.arange(2 * self.folds))
        group = self.fold.astype(np.int64) << 32 | self.group
        distinct = [self.image_id[self.fold == fold] for fold in range(self.folds)] + [self.image_id[test]]
        truth = 0 if self.truth is None else self.truth.targets
        checks = {
            "logits: found one that is not finite": np.isfinite(self.logits).all(),
            "targets: found something else than 0, 1, and 0 where not observed": np.isin(targets, (0, 1)).all()
            and not targets[~observed].any(),
            "truth: found something else than 1, 0, and -1 where it is not stated": np.isin(truth, (0, 1)).all(),
            "split: found something else than 'val' and 'test'": np.isin(self.split, ("val", "test")).all(),
            f"rows: expected folds 0 to {self.folds - 1} in order, each with val rows, then test rows": in_order,
            "image_id: found an image twice in one fold, or twice among the test rows": all(map(_distinct, distinct)),
            "group: found one with both val and test rows in one fold": not np.intersect1d(
                group[test], group[~test]
            ).size,
            "attribute, seed: found one twice": _distinct(np.array(self.labels.attributes)) and _distinct(self.seed),
        }
        yield from (problem for problem, passed in checks.items() if not passed)

    def save(self, path: Path) -> None:
        """Write ``predictions.npz``; the same arrays give the same bytes (NumPy dates every member 1980-01-01)."""
        arrays = self._arrays()
        for name, labels in (("targets", self.labels), ("truth", self.truth)):
            if labels is not None:
                arrays[name] = np.where(labels.observed, labels.targets, _UNKNOWN)
        members: dict[str, Any] = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        with path.open("wb") as file:
            np.savez_compressed(file, **members, schema_version=np.array(SCHEMA_VERSION))

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read ``predictions.npz``.

        Raises:
            UserError: the file is missing, damaged, of another schema version, or its arrays do not fit together.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                version = _member(archive, "schema_version")
                if version != SCHEMA_VERSION:
                    raise UserError(f"{path}: found schema_version {version}, expected {SCHEMA_VERSION}")
                names = [name for name in _FIELDS if name != "truth" or "truth.npy" in archive.namelist()]
                arrays = {name: _member(archive, name) for name in names}
            observed, attributes = arrays.pop("observed"), tuple(arrays.pop("attribute").tolist())
            if not np.array_equal(arrays["targets"] == _UNKNOWN, ~observed):
                raise ValueError("targets: expected -1 exactly where not observed")
            labels = Labels.of(arrays.pop("targets"), observed, attributes)
            truth = arrays.pop("truth", None)
            stated = None if truth is None else Labels.of(truth, truth != _UNKNOWN, attributes)
            return cls(labels=labels, truth=stated, **arrays)
        except UserError:
            raise
        except Exception as error:  # damaged archives make their readers raise nearly anything
            raise UserError(f"{path}: found a file that cannot be used ({error}), expected predictions.npz") from error


def _misshapen(arrays: dict[str, Array]) -> Iterator[str]:
    """Arrays of the file with another type or another number of axes than expected, or of unequal lengths."""
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        kind, axes = _FIELDS[name]
        if array.dtype.kind != "U" if kind == "U" else array.dtype != np.dtype(kind):
            yield f"{name}: found type {array.dtype}, expected {kind}"
        lengths = tuple(sizes.setdefault(axis, length) for axis, length in zip(axes, array.shape, strict=False))
        if array.ndim != len(axes) or array.shape != lengths or array.size == 0:
            yield f"{name}: found shape {array.shape}, expected [{', '.join(axes)}], none empty, with {sizes}"


def _distinct(values: Array) -> bool:
    return np.unique(values).size == values.size


def _member(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(f"{name}.npy") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # reading to the end is what checks the CRC
            raise ValueError(f"{name}: found bytes after the array")
        return np.asarray(array)
