"""What missing labels depend on: tests against other labels, image files and features.

Every test treats a group of duplicates as one row, with the majority of its states; a group with a tie is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.association import BeforeTraining, before_training
from aimonk_bench.evaluation.comparison import holm
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.resampling import by_group, majority

Row = tuple[str, str, float, float, float]  # attribute, on, found, otherwise, p

LEVEL = 0.01  # of each family of tests: there are five, so that at most 5 % of clean data sets are warned about
PERMUTATIONS = 999  # of the test of missing labels against the features
FEWEST = 5  # rows on either side, below which a dependence is not tested


@dataclass(frozen=True)
class Dependence:
    """One test whether missing labels of an attribute depend on something; two-sided but for the features.

    Attributes:
        family: labels | missing | size | format | features; p is adjusted within it, by Holm.
        attribute: whose labels are missing.
        on: another attribute, a property of the image, or "features".
        found, otherwise: for size the median where the label is missing and elsewhere; for features the AUC of a probe
            for "missing", and 0.5; else the share of missing labels among rows with the label (the missing label, the
            property), and without it.
        p, adjusted: 0 to 1.
    """

    family: str
    attribute: str
    on: str
    found: float
    otherwise: float
    p: float
    adjusted: float


def missing_dependence(
    labels: Labels,
    groups: Array,
    *,
    sizes: Mapping[str, Array],
    traits: Mapping[str, Array],
    features: Array | None,
    seed: int,
) -> list[Dependence]:
    """Five families of tests, in each of which p is adjusted by Holm.

    labels: "a is missing" against the observed label b, Fisher's exact test; missing: "a is missing" against "b is
    missing", the same; size: Mann and Whitney's test; format: Fisher's; features: `association.score_test`, with
    "missing" in the place of the label.

    Args:
        labels: [N, A].
        groups: [N] duplicates are one row.
        sizes: name -> [N] numbers.
        traits: name -> [N] bool.
        features: [N, D]; None for no test against them, which takes as long as the association test before training.
        seed: of the permutations.

    Returns:
        The tests that could be made: with `FEWEST` rows on either side.
    """
    absent = Labels.of(~labels.observed, np.ones(labels.shape), labels.attributes)
    missing, observed = majority(absent, groups), majority(labels, groups)
    named = np.stack([*traits.values()], axis=1) if traits else np.zeros((len(groups), 0), bool)
    properties = majority(Labels.of(named, np.ones(named.shape), tuple(traits)), groups)
    images = np.unique(groups, return_counts=True)[1]  # of each group
    a, b = np.indices((len(labels.attributes),) * 2)
    families: dict[str, list[Row]] = {
        "labels": list(_fisher(missing, observed, a != b)),
        "missing": list(_fisher(missing, missing, a < b)),  # each pair once
        "size": list(_ranked(missing, {name: by_group(values, groups) / images for name, values in sizes.items()})),
        "format": list(_fisher(missing, properties, np.ones((len(a), len(traits)), bool))),
        "features": [] if features is None else list(_predicted(missing, absent, features, groups, seed)),
    }
    return [
        Dependence(family, *row, adjusted=adjusted)
        for family, rows in families.items()
        for row, adjusted in zip(rows, holm([row[-1] for row in rows]).tolist(), strict=True)
    ]


def dependent(tests: Iterable[Dependence]) -> dict[str, list[str]]:
    """Attribute -> the families of tests that find that its missing labels depend on something; only where one does.

    That two attributes are missing together is a dependence of both.
    """
    families: dict[str, list[str]] = {}
    for test in tests:
        if test.adjusted < LEVEL:
            for attribute in (test.attribute, test.on) if test.family == "missing" else (test.attribute,):
                families.setdefault(attribute, []).append(test.family)
    return {attribute: list(dict.fromkeys(names)) for attribute, names in families.items()}


def _fisher(missing: Labels, other: Labels, tested: Array) -> Iterator[Row]:
    """The tests, bool [A, C], of missing labels [G, A] against the states [G, C] of groups."""
    from scipy.stats import fisher_exact

    for a, c in np.argwhere(tested):
        rows = missing.observed[:, a] & other.observed[:, c]
        na, state = missing.targets[rows, a] == 1, other.targets[rows, c] == 1
        table = np.array([[np.sum(na & state), np.sum(na & ~state)], [np.sum(~na & state), np.sum(~na & ~state)]])
        if min(table.sum(axis=0).min(), table.sum(axis=1).min()) >= FEWEST:
            rates = table[0] / table.sum(axis=0)
            p = float(fisher_exact(table)[1])
            yield missing.attributes[a], other.attributes[c], float(rates[0]), float(rates[1]), p


def _ranked(missing: Labels, sizes: Mapping[str, Array]) -> Iterator[Row]:
    """The tests of missing labels [G, A] against numbers [G]: medians where missing and elsewhere."""
    from scipy.stats import mannwhitneyu

    for name, values in sizes.items():
        for attribute, na, labelled in zip(missing.attributes, missing.positive.T, missing.negative.T, strict=True):
            inside, outside = values[na], values[labelled]
            if min(len(inside), len(outside)) >= FEWEST and np.ptp(values[na | labelled]) > 0:
                p = float(mannwhitneyu(inside, outside, method="asymptotic").pvalue)
                yield attribute, name, float(np.median(inside)), float(np.median(outside)), p


def _predicted(missing: Labels, absent: Labels, features: Array, groups: Array, seed: int) -> Iterator[Row]:
    """The tests against the features; a small p is computed again with so many permutations that Holm can reject.

    Args:
        missing: [G, A] positive where the labels of a group are missing; ``absent`` [N, A] the same of the images.
    """
    tested = np.flatnonzero(np.minimum(*missing.counts()) >= FEWEST)
    if not len(tested):
        return

    def test(columns: Array, permutations: int) -> BeforeTraining:
        states = Labels(absent.targets[:, columns], absent.observed[:, columns])
        return before_training(features, states, groups, permutations=permutations, seed=seed)

    result = test(tested, PERMUTATIONS)
    p, needed = result.p.copy(), int(2 * len(tested) / LEVEL)
    small = p <= 2 * LEVEL
    if needed > PERMUTATIONS and small.any():
        p[small] = test(tested[small], needed).p
    for a, auc, value in zip(tested.tolist(), result.auc.tolist(), p.tolist(), strict=True):
        yield missing.attributes[a], "features", auc, 0.5, value
