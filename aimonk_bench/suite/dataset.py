"""The images of a suite: as listed, and encoded, with all that is computed once for every run on them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from aimonk_bench.backbones.features import FeatureMatrix
from aimonk_bench.config.fields import DataConfig, HideConfig
from aimonk_bench.config.split_fields import OfficialSplit, Split
from aimonk_bench.data import group_checks, image_files, label_file, splits
from aimonk_bench.data.group_checks import GroupChecks
from aimonk_bench.data.hiding import hide
from aimonk_bench.data.image_files import ImageFile, Skipped
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.data.near_duplicates import Hashes
from aimonk_bench.data.splits import Fold
from aimonk_bench.data.white import white_of
from aimonk_bench.evaluation import duplicates
from aimonk_bench.evaluation.association import BeforeTraining, before_training
from aimonk_bench.evaluation.duplicates import Near
from aimonk_bench.evaluation.missing_dependence import dependent, missing_dependence
from aimonk_bench.evaluation.probe import probe
from aimonk_bench.evaluation.verdict import Doubts
from aimonk_bench.reporting.findings import Finding, group_findings

HIDING = 0x4849  # second word of the seed of hiding: other random numbers than those of a split or of synthetic data


@dataclass(frozen=True, eq=False)
class Dataset:
    """N listed images and their labels, in label-file order.

    Attributes:
        listed: the rows of the label file that belong to the images.
        images: [N] their files.
        skipped: listed images that are left out.
        fingerprint: hex digest of all listed ids, observed targets and image hashes, and of the truth if there is one.
        truth: [N, A], observed where the truth file states the label; None without such a file.
        white: the value that means white in images of more than 8 bits; None if there are none.
    """

    listed: LabelFile
    images: list[ImageFile]
    skipped: list[Skipped]
    fingerprint: str
    truth: Labels | None
    white: int | None

    @property
    def labels(self) -> Labels:
        """The labels [N, A]."""
        return self.listed.labels


def locate(data: DataConfig, listed: LabelFile) -> Dataset:
    """Find and hash the images that a label file lists; those of more than 8 bits are decoded to find their white.

    Raises:
        UserError: images are missing and not to be skipped, the truth is wrong, or ``data.white`` is of no use.
    """
    truth = label_file.load_truth(data, listed)
    files, skipped = image_files.locate(listed, data.images, data.on_bad_image)
    fingerprint = image_files.fingerprint(listed, files, truth)
    present = np.flatnonzero([file is not None for file in files])
    images = [file for file in files if file is not None]
    return Dataset(
        listed=listed.subset(present),
        images=images,
        skipped=skipped,
        fingerprint=fingerprint,
        truth=None if truth is None else truth[present],
        white=white_of(images, data.white),
    )


@dataclass(frozen=True, eq=False)
class SplitLabels:
    """The folds of a split, and the labels [N, A] as training, validation and test rows of every fold show them.

    Targets are the same in all three; what is hidden from training is not observed in ``train``, and in ``val`` only if
    it is hidden from validation too. Test rows show every label. No group [N] stands in two parts of a fold: one that
    an official split cuts is one group in each part.
    """

    folds: list[Fold]
    groups: np.ndarray
    train: Labels
    val: Labels
    test: Labels


@dataclass(frozen=True, eq=False)
class EncodedDataset(Dataset):
    """A data set whose N images can be decoded, and their features.

    Attributes:
        hashes: [N] perceptual hashes.
        groups: [N] group numbers; a split never cuts a group, unless it is official.
        stored: output of the frozen layers, index [V, N].
        pooled: pooled features of the pretrained network; the same matrix if all its layers are frozen.
    """

    hashes: Hashes
    groups: np.ndarray
    stored: FeatureMatrix
    pooled: FeatureMatrix
    _splits: dict[Split, list[Fold]] = field(default_factory=dict)
    _near: dict[Split, Near] = field(default_factory=dict)
    _probes: dict[tuple[int, bytes], np.ndarray] = field(default_factory=dict)

    @cached_property
    def content(self) -> np.ndarray:
        """[N] numbers, equal for images of equal bytes."""
        content: np.ndarray = np.unique([image.sha256 for image in self.images], return_inverse=True)[1]
        return content

    def folds(self, scheme: Split) -> list[Fold]:
        """The folds of a split, computed once.

        Raises:
            UserError: the split is impossible.
        """
        if scheme not in self._splits:
            self._splits[scheme] = splits.split(scheme, self.labels, self.groups, self.listed.columns)
        return self._splits[scheme]

    def group_checks(self, scheme: Split) -> GroupChecks:
        """What is doubtful about the groups."""
        return group_checks.check_groups(scheme, self.listed.ids, self.listed.groups, self.groups, self.folds(scheme))

    def near_duplicates(self, scheme: Split) -> Near:
        """Near duplicates, and how many of them the split cuts, computed once."""
        if scheme not in self._near:
            self._near[scheme] = self._near_duplicates(scheme)
        return self._near[scheme]

    def _near_duplicates(self, scheme: Split) -> Near:
        part = duplicates.tested_part(self.folds(scheme), len(self.labels))
        return duplicates.near_duplicates(self.hashes, self.content, part, self.labels)

    def split_findings(self, scheme: Split) -> list[Finding]:
        """What is doubtful about a split and can be told only when images are decoded."""
        checks = self.group_checks(scheme)
        if scheme.near_duplicates == "report":  # groups are those that the plan has checked, but for equal bytes
            checks = replace(checks, large=[])
        near = self.near_duplicates(scheme)
        return [*group_findings(scheme, replace(checks, stem=None), near, self.listed.ids)]

    def doubts(self, scheme: Split) -> Doubts:
        """What of the data and its split bears on a verdict."""
        near, depends = self.near_duplicates(scheme), self._missing_depends
        alike = dict(zip(self.labels.attributes, near.alike.tolist(), strict=True))
        cut = self.group_checks(scheme).cut
        return Doubts(near.cut, alike, depends, groups_cut=0 if cut is None else cut.groups)

    @cached_property
    def _missing_depends(self) -> dict[str, list[str]]:
        """Attribute -> the families of `missing_dependence`, "labels" or "missing", on which its missing labels depend.

        The other families take longer; `audit` has them.
        """
        return dependent(missing_dependence(self.labels, self.groups, sizes={}, traits={}, features=None, seed=0))

    def split_labels(self, scheme: Split, hiding: HideConfig | None) -> SplitLabels:
        """The folds of a split, and the labels that each of its parts shows.

        What is hidden does not depend on the split, except under the mechanism ``score``: there a label of a test row
        must not reach the training rows of its fold through the probe's scores, and so through what is hidden. The
        probe is therefore fitted on one test part at a time, and in a hold-out on all rows that are not tested.

        Raises:
            UserError: the split is impossible.
        """
        folds, labels, groups = self.folds(scheme), self.labels, self.groups
        if isinstance(scheme, OfficialSplit):
            groups = splits.within_parts(groups, folds[0])
        if hiding is None:
            return SplitLabels(folds, groups, labels, labels, labels)
        everything = np.arange(len(labels))
        parts = [everything]
        if hiding.mechanism == "score":
            tested = [fold.test for fold in folds]
            parts = tested if len(folds) > 1 else [np.setdiff1d(everything, tested[0])]
        rng = np.random.default_rng([hiding.seed, HIDING])
        hidden = np.zeros(labels.shape, bool)
        for rows in parts:
            scores = self._probe(rows, hiding.seed) if hiding.mechanism == "score" else None
            hidden[rows] = hide(hiding.mechanism, hiding.fraction, labels[rows], scores, rng)
        visible = labels.masked(~hidden)
        return SplitLabels(folds, groups, train=visible, val=labels if hiding.rows == "train" else visible, test=labels)

    def features(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Pooled features float32 [R, D] of the unaugmented images, by default of all N."""
        return np.asarray(self.pooled.rows[self.pooled.index[0, rows]], np.float32)

    @cached_property
    def association(self) -> BeforeTraining:
        """The association test before training: all observed labels against the features of unaugmented images."""
        return before_training(self.features(), self.labels, self.groups, seed=0)

    def _probe(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """Out-of-fold scores [R, A] of a linear probe fitted on these rows alone, computed once."""
        key = seed, rows.tobytes()
        if key not in self._probes:
            self._probes[key] = probe(self.features(rows), self.labels[rows], self.groups[rows], seed=seed)
        return self._probes[key]
