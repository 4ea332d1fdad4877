"""What the decisions of a run gain over the all-positive baseline: a test by drawn labels, and what could be gained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.resampling import DRAWS, labellings

LEVEL = 0.95  # of the lower bound
_ROUNDING = 1e-9  # gains this close are equal


@dataclass(frozen=True, eq=False)
class Gain:
    """Tuned F1 minus the F1 of the all-positive baseline, on the test rows, [A] each; NaN is undefined.

    Attributes:
        value: mean over seeds.
        low: one-sided lower 95 % confidence bound.
        p: of no gain, one-sided, not adjusted for the number of attributes.
    """

    value: Array
    low: Array
    p: Array


def gain(decisions: Decisions, *, draws: int | None = None, seed: int = 0) -> Gain:
    """Do the decisions beat calling every row positive? Worth reading only where there is signal.

    F1 = 2 TP / (n1 + accepted), mean over seeds, minus 2 n1 / (n + n1). It is above 0 where the share of positives
    among the rejected rows is below q = n1 / (n + n1). Often few rows are rejected, so p does not trust a normal
    approximation: the decisions stay, and labels are drawn as they would be without a gain. The probability of a
    positive is linear in the share of seeds that reject a row, such that n1 positives are expected, and a share q among
    the rejected. All rows of a group get one label.

    Each drawn gain is multiplied by c (`Decisions.variance_factor` is c^2); a normal draw stands for the seeds, with
    the variance of F1 over the S seeds divided by S, and a common factor sqrt(df / chi^2_df) for that this variance is
    estimated, df after Welch and Satterthwaite. p = (1 + #{draw >= value}) / (1 + draws). low = value - the 95 %
    quantile of such draws, or of those around the value, with as many positives among the rejected as there are, if it
    is larger.

    NaN without an observed positive.

    Args:
        decisions: at the tuned thresholds.
        draws: how many; by default 2,000, or 100 for every attribute if these are more, so that Holm can reject.
        seed: of the draws.
    """
    counts, factor = decisions.by_group(), decisions.variance_factor
    attributes = counts.positive.shape[1]
    draws = draws or max(DRAWS, 100 * attributes)
    columns = np.full((3, attributes), np.nan)
    for a in np.flatnonzero(counts.positive.any(axis=0)).tolist():
        groups = counts.observed[:, a] > 0
        one = _Attribute(
            rows=counts.observed[groups, a],
            accepted=counts.accepted[:, groups, a].T,
            positives=counts.positive[:, a].sum(),
            true_positives=counts.true_positive[:, :, a].sum(axis=1),
        )
        columns[:, a] = _tested(one, factor, draws, (seed, a))
    return Gain(*columns)


@dataclass(frozen=True, eq=False)
class _Attribute:
    """The observed test rows of one attribute.

    Attributes:
        rows: [G] of each group.
        accepted: [G, S] of these.
        positives: number of positive rows.
        true_positives: [S].
    """

    rows: Array
    accepted: Array
    positives: float
    true_positives: Array


def _tested(attribute: _Attribute, factor: float, draws: int, seeds: tuple[int, int]) -> tuple[float, float, float]:
    """Value, lower bound and p of the gain; seeds: of the labels, and of what stands for other seeds."""
    n, n1 = attribute.rows.sum(), attribute.positives
    accepted = attribute.accepted.sum(axis=0)
    f1 = _f1(n1, accepted, attribute.true_positives)
    value = float(f1.mean() - _f1(n1, n, n1))

    def drawn(lost: float, expected: float) -> Array:
        """Draws of the gain, less the expected one, if so many rejected rows are expected to be positive."""
        columns = np.column_stack([attribute.rows, attribute.accepted])
        positives = labellings(columns, _probability(attribute, lost), draws, seeds[0])
        tuned, all_positive = (
            _f1(positives[:, :1], accepted, positives[:, 1:]),
            _f1(positives[:, 0], n, positives[:, 0]),
        )
        over_images = (tuned.mean(axis=1) - all_positive - expected) * math.sqrt(factor)
        return _with_seeds(over_images, f1, np.random.default_rng([1, *seeds]))

    without = drawn(n1 / (n + n1) * (n - accepted.mean()), 0.0)
    around = drawn(n1 - attribute.true_positives.mean(), value)
    distance = max(np.quantile(one, LEVEL, method="higher") for one in (without, around))
    return value, value - distance, (1 + (without >= value - _ROUNDING).sum()) / (1 + draws)


def _probability(attribute: _Attribute, lost: float) -> Array:
    """The probability of a positive label of each group [G].

    b + (r - b) w, w the share of a group's rows and seeds that are rejected: sum(rows p) = n1 and
    sum(rows w p) = lost, as far as probabilities allow.
    """
    rejected = attribute.rows - attribute.accepted.mean(axis=1)
    share, total = rejected / attribute.rows, rejected.sum()
    equations = np.array([[attribute.rows.sum(), total], [total, rejected @ share]])
    base, slope = np.linalg.lstsq(equations, np.array([attribute.positives, lost]), rcond=None)[0]
    return np.asarray(np.clip(base + slope * share, 0, 1))


def _f1(positive: Array | float, accepted: Array | float, true_positive: Array | float) -> Array:
    """2 TP / (n1 + accepted); 0 without either."""
    return np.asarray(2 * true_positive / np.maximum(positive + accepted, 1))


def _with_seeds(gains: Array, f1: Array, rng: np.random.Generator) -> Array:
    """Draws of a gain [draws] with what another S seeds would change; f1 [S]."""
    seeds = len(f1)
    over_seeds = float(f1.var(ddof=1)) / seeds if seeds > 1 else 0.0
    if over_seeds == 0:
        return gains
    freedom = (1 + float(gains.var()) / over_seeds) ** 2 * (seeds - 1)
    longer = np.sqrt(freedom / rng.chisquare(freedom, len(gains)))
    return np.asarray((gains + math.sqrt(over_seeds) * rng.standard_normal(len(gains))) * longer)


def largest_gain(prevalence: Array, auc: Array) -> Array:
    """The largest F1 that any threshold reaches, minus that of the all-positive baseline, [A]; NaN goes through.

    Scores are N(d, 1) for positives and N(0, 1) for negatives, with d = sqrt(2) Phi^-1(AUC); below an AUC of 0.5
    nothing is gained.

    Args:
        prevalence: [A] share of positives.
        auc: [A].
    """
    from scipy.special import ndtr, ndtri

    distance = math.sqrt(2) * ndtri(np.clip(auc, 0.5, 1 - 1e-12))
    thresholds = np.linspace(-8, 8 + distance, 2000)  # [2000, A]
    tpr, fpr = ndtr(distance - thresholds), ndtr(-thresholds)
    f1 = 2 * prevalence * tpr / (prevalence + prevalence * tpr + (1 - prevalence) * fpr)
    return np.asarray(np.maximum(f1.max(axis=0) - 2 * prevalence / (1 + prevalence), 0))
