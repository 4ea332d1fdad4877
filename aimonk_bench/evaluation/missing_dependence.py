"""Does it depend on anything whether a label is missing? Tests against labels, files and features.

Every test treats a group of duplicates as one row, with the majority of its states; where they tie it is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.association import BeforeTraining, before_training
from aimonk_bench.evaluation.comparison import holm
from aimonk_bench.evaluation.resampling import by_group

Array = npt.NDArray[Any]
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


@dataclass(frozen=True, eq=False)
class States:
    """Binary states of groups of duplicates, [G, C].

    Attributes:
        names: [C].
        value: bool, what most observed rows of the group say.
        clear: bool, where there is such a majority.
    """

    names: Sequence[str]
    value: Array
    clear: Array

    @classmethod
    def of(cls, names: Sequence[str], values: Array, observed: Array, groups: Array) -> States:
        """The majority of the observed values of each group: [N, C] bool, [N, C] bool, [N]."""
        yes, rows = by_group(observed & values, groups), by_group(observed, groups)
        return cls(names, 2 * yes > rows, 2 * yes != rows)


def missing_dependence(
    labels: Labels,
    groups: Array,
    *,
    sizes: Mapping[str, Array],
    traits: Mapping[str, Array],
    features: Array,
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
        features: [N, D].
        seed: of the permutations.

    Returns:
        The tests that could be made: with `FEWEST` rows on either side.
    """
    every = np.ones_like(labels.observed)
    missing = States.of(labels.attributes, ~labels.observed, every, groups)
    observed = States.of(labels.attributes, labels.positive, labels.observed, groups)
    named = np.stack([*traits.values()], axis=1) if traits else np.zeros((len(groups), 0), bool)
    properties = States.of(list(traits), named, np.ones_like(named), groups)
    pairs = np.arange(len(labels.attributes))[:, None], np.arange(len(labels.attributes))
    families: dict[str, list[Row]] = {
        "labels": list(_fisher(missing, observed, pairs[0] != pairs[1])),
        "missing": list(_fisher(missing, missing, pairs[0] < pairs[1])),  # each pair once
        "size": list(_ranked(missing, {name: _means(values, groups) for name, values in sizes.items()})),
        "format": list(_fisher(missing, properties, np.ones((len(labels.attributes), len(traits)), bool))),
        "features": list(_predicted(missing, labels, features, groups, seed)),
    }
    return [
        Dependence(family, *row, adjusted=adjusted)
        for family, rows in families.items()
        for row, adjusted in zip(rows, holm([row[-1] for row in rows]).tolist(), strict=True)
    ]


def _fisher(missing: States, other: States, tested: Array) -> Iterator[Row]:
    """The tests, bool [A, C], of missing labels [G, A] against states [G, C]."""
    from scipy.stats import fisher_exact

    for a, c in np.argwhere(tested):
        rows = missing.clear[:, a] & other.clear[:, c]
        na, state = missing.value[rows, a], other.value[rows, c]
        table = np.array([[np.sum(na & state), np.sum(na & ~state)], [np.sum(~na & state), np.sum(~na & ~state)]])
        if min(table.sum(axis=0).min(), table.sum(axis=1).min()) >= FEWEST:
            rates = table[0] / table.sum(axis=0)
            p = float(fisher_exact(table)[1])
            yield missing.names[a], other.names[c], float(rates[0]), float(rates[1]), p


def _ranked(missing: States, sizes: Mapping[str, Array]) -> Iterator[Row]:
    """The tests of missing labels [G, A] against numbers [G]: medians where missing and elsewhere."""
    from scipy.stats import mannwhitneyu

    for name, values in sizes.items():
        for attribute, na, clear in zip(missing.names, missing.value.T, missing.clear.T, strict=True):
            inside, outside = values[clear & na], values[clear & ~na]
            if min(len(inside), len(outside)) >= FEWEST and np.ptp(values[clear]) > 0:
                p = float(mannwhitneyu(inside, outside, method="asymptotic").pvalue)
                yield attribute, name, float(np.median(inside)), float(np.median(outside)), p


def _predicted(missing: States, labels: Labels, features: Array, groups: Array, seed: int) -> Iterator[Row]:
    """The tests against the features; a small p is computed again with so many permutations that Holm can reject."""
    fewest = [(missing.clear & value).sum(axis=0) for value in (missing.value, ~missing.value)]
    tested = np.flatnonzero(np.minimum(*fewest) >= FEWEST)
    if not len(tested):
        return

    def test(columns: Array, permutations: int) -> BeforeTraining:
        absent = ~labels.observed[:, columns]
        states = Labels.of(absent, np.ones_like(absent))
        return before_training(features, states, groups, permutations=permutations, seed=seed)

    result = test(tested, PERMUTATIONS)
    p, needed = result.p.copy(), int(2 * len(tested) / LEVEL)
    small = p <= 2 * LEVEL
    if needed > PERMUTATIONS and small.any():
        p[small] = test(tested[small], needed).p
    for a, auc, value in zip(tested.tolist(), result.auc.tolist(), p.tolist(), strict=True):
        yield missing.names[a], "features", auc, 0.5, value


def _means(values: Array, groups: Array) -> Array:
    return np.asarray(by_group(values, groups) / np.unique(groups, return_counts=True)[1])
