"""What missing labels depend on: tests against other labels, image files and features.

Every test treats a group of duplicates as one row, with the majority of its states; a group with a tie is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
_GROUPS_AT_ONCE = 1 << 16  # counted in float32, which holds such numbers exactly
MANY = 1000  # groups that are expected in each cell of a table, from which its test is not exact
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

    labels: "a is missing" against the observed label b, Fisher's exact test (`independence`); missing: "a is missing"
    against "b is missing", the same; size: Mann and Whitney's test; format: Fisher's; features:
    `association.score_test`, with "missing" in the place of the label.

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
    tables = _counts((missing.positive, missing.negative), (other.positive, other.negative))
    enough = np.minimum(tables.sum(axis=2).min(axis=2), tables.sum(axis=3).min(axis=2)) >= FEWEST
    pairs = np.argwhere(tested & enough)
    chosen = tables[tuple(pairs.T)]  # [tests, 2, 2]
    rates = chosen[:, 0] / chosen.sum(axis=1)
    for (a, c), (found, otherwise), p in zip(
        pairs.tolist(), rates.tolist(), independence(chosen).tolist(), strict=True
    ):
        yield missing.attributes[a], other.attributes[c], found, otherwise, p


def _counts(rows: Sequence[Array], columns: Sequence[Array]) -> Array:
    """In how many groups both are so: two masks [G, A] against two masks [G, C], [A, C, 2, 2] whole numbers."""
    tables = np.zeros((rows[0].shape[1], columns[0].shape[1], 2, 2), np.int64)
    for start in range(0, len(rows[0]), _GROUPS_AT_ONCE):
        block = slice(start, start + _GROUPS_AT_ONCE)
        right = [mask[block].astype(np.float32) for mask in columns]
        for i, mask in enumerate(rows):
            for j, flags in enumerate(right):
                tables[..., i, j] += (mask[block].T.astype(np.float32) @ flags).astype(np.int64)
    return tables


def independence(tables: Array) -> Array:
    """Two-sided p [T] of tables [T, 2, 2] of counts, without an empty row or column: Fisher's exact test.

    Where at least `MANY` groups are expected in each cell, Pearson's chi-squared test, which tends to the same p;
    Fisher's takes 10 ms and more there, which is hours for the pairs of 400 attributes.
    """
    from scipy.special import chdtrc

    margins = tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None] / tables.sum(axis=(1, 2))[:, None, None]
    p = chdtrc(1, (np.square(tables - margins) / margins).sum(axis=(1, 2)))
    exact = margins.min(axis=(1, 2)) < MANY
    p[exact] = fisher(tables[exact])
    return np.asarray(p)


def fisher(tables: Array) -> Array:
    """Two-sided p of Fisher's exact test of tables [T, 2, 2]: the probability of all tables that are no more likely.

    The result of `scipy.stats.fisher_exact`, for all tables at once.
    """
    from scipy.stats import hypergeom

    if not len(tables):
        return np.zeros(0)
    there = tables[:, 0, 0]
    total, first, column = tables.sum(axis=(1, 2)), tables[:, 0].sum(axis=1), tables[:, :, 0].sum(axis=1)
    table = hypergeom(total, first, column)
    least, most = np.maximum(0, column - (total - first)), np.minimum(first, column)
    mode = (column + 1) * (first + 1) // (total + 2)
    limit = table.pmf(there) * (1 + 1e-14)  # of scipy: as likely but for rounding
    below = there < mode
    # the nearest table on the other side of the mode that is no more likely; from the mode outwards they fall
    low, high = np.where(below, mode, least - 1), np.where(below, most + 1, mode)
    while (high - low > 1).any():
        middle = (low + high) // 2
        likely = table.pmf(middle) > limit
        inside = high - low > 1
        low = np.where(inside & (likely == below), middle, low)
        high = np.where(inside & (likely != below), middle, high)
    p = np.where(below, table.cdf(there) + table.sf(high - 1), table.sf(there - 1) + table.cdf(low))
    return np.asarray(np.where(table.pmf(mode) <= limit, 1.0, np.minimum(p, 1)))


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
