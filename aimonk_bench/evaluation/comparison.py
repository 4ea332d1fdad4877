"""Which runs differ: paired tests of macro tuned F1 against a reference run, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from aimonk_bench.evaluation.bounds import delta_bounds
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.metrics import macro
from aimonk_bench.evaluation.numbers import Array, Number, Numbers
from aimonk_bench.evaluation.predictions import ROWS, Predictions, agree
from aimonk_bench.evaluation.resampling import DRAWS, exchanged_sums
from aimonk_bench.evaluation.thresholds import Thresholds

Run = tuple[Predictions, Thresholds]
Mark = Literal["better", "worse", "equivalent", "unresolved", ""]
Untestable = Literal["other_rows", "one_seed", "no_f1"]

MARGIN = 0.02  # of macro F1: two runs are called equivalent where the whole interval lies within it
ALPHA = 0.05  # family-wise, and one minus the level of the intervals
POWER = 0.8  # with which a difference is called detectable
_SUMS_AT_ONCE = 1 << 25
_NOTHING = 1e-18  # a variance of F1 below it is rounding


@dataclass(frozen=True, eq=False)
class Delta:
    """A run against the reference: difference of tuned F1 on the test rows of all folds, mean over seeds.

    Attributes:
        value: of the macro over the covered attributes; ``low`` and ``high`` its 95 % interval, NaN without a test.
        p: two-sided, adjusted by Holm over all tested runs, ``p_unadjusted`` without; NaN without a test.
        simultaneous_low, simultaneous_high: a wider interval: with 95 % probability those of all tested runs hold at
            once (Bonferroni). Holm's test may reject where it still holds 0.
        detectable: the true difference that the test would find with 80 % probability if none of the other runs
            differed; NaN without a test.
        mark: "better" or "worse" where p is below 0.05; else "equivalent" where the interval lies within the margin,
            else "unresolved"; "" where nothing was tested.
        reason: why nothing was tested: "other_rows", the test rows of the runs differ; "one_seed", so what another seed
            would change is unknown; "no_f1", no attribute has an F1 in every run. None for a tested run, and for the
            reference.
        attribute_value: [A]; also ``attribute_low``, ``attribute_high`` and ``attribute_p``, made in the same way but
            adjusted for nothing: exploratory.
        na_low, na_high: [A] bounds of the difference over all fillings of the missing test labels; NaN where the test
            rows are others.
    """

    value: Number
    low: Number
    high: Number
    p: Number
    p_unadjusted: Number
    simultaneous_low: Number
    simultaneous_high: Number
    detectable: Number
    mark: Mark
    reason: Untestable | None
    attribute_value: Numbers
    attribute_low: Numbers
    attribute_high: Numbers
    attribute_p: Numbers
    na_low: Numbers
    na_high: Numbers


def holm(p: npt.ArrayLike) -> Array:
    """p-values adjusted so that rejecting those below alpha errs in at most a share alpha of families.

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_j). Any shape; NaN is no test, counts for
    nothing and stays NaN. Source: Holm (1979).

    >>> holm([0.04, 0.01, np.nan]).tolist()
    [0.04, 0.02, nan]
    """
    adjusted = np.array(p, dtype=np.float64)
    tested = ~np.isnan(adjusted)
    values = adjusted[tested]
    order = np.argsort(values)
    steps = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    values[order] = np.minimum(steps, 1)
    adjusted[tested] = values
    return adjusted


def paired(
    runs: Mapping[str, Decisions],
    reference: str,
    covered: Array,
    *,
    margin: float = MARGIN,
    draws: int = DRAWS,
    seed: int,
) -> dict[str, Delta]:
    """Every run against the reference, whose difference from itself is 0 and is not tested.

    SE^2 = c^2 SE_image^2 + v_r / S_r + v_b / S_b. SE_image is the standard deviation of the difference when each group
    of images exchanges its decisions between the two runs by a fair coin, for all seeds and attributes together; v is
    the variance of F1 over the S seeds of a run; c^2 is `Decisions.variance_factor`. A t test with Welch's degrees of
    freedom. With one seed v is unknown and nothing is tested; nor where the test rows are others.

    Over folds the interval is of the two recipes, and wide (it covers 97 to 100 % in the simulations); in a hold-out it
    is of these trained heads, and as an interval of the recipes it covers 93 to 96 %, where seeds matter little.

    Args:
        runs: the decisions of the runs of one suite, at tuned thresholds; the runs have the same attributes.
        reference: the name of one of them.
        covered: [A] bool, the attributes of the macro.
        margin: of macro F1, for "equivalent".
        draws: number of permutations.
        seed: of the permutations, which are the same for every run.
    """
    base = runs[reference]
    reasons = {name: _untestable(run, base, covered) for name, run in runs.items() if name != reference}
    tested = [name for name, reason in reasons.items() if not reason]
    f1 = {
        name: _with_macro(_f1(_by_group(run).sum(axis=0), run.labels.positive.sum(axis=0)), covered)
        for name, run in runs.items()
    }
    image_variances = _permutation_variances([runs[name] for name in tested], base, covered, draws, seed)
    freedom = max(len(np.unique(base.group)) - 1, 1)
    differences = {
        name: _welch(f1[name], f1[reference], base.variance_factor * variance, freedom)
        for name, variance in zip(tested, image_variances, strict=True)
    }
    adjusted = dict(zip(tested, holm([differences[name].p[-1] for name in tested]).tolist(), strict=True))
    deltas, undefined = {}, np.full(len(covered), np.nan)
    for name, run in runs.items():
        difference = differences.get(name) or _untested(f1[name], f1[reference])
        fillings = delta_bounds(run, base) if run.same_rows(base) else (undefined, undefined)
        delta = _delta(difference, adjusted.get(name, math.nan), ALPHA / max(len(tested), 1), margin, fillings)
        deltas[name] = delta if name in differences else replace(delta, mark="", reason=reasons.get(name))
    return deltas


def chosen(runs: Mapping[str, Run], validation: Array) -> tuple[Predictions, Thresholds, list[str]] | None:
    """Nested model selection: the rows of each fold as judged by the run that its own validation rows chose.

    No test row takes part in the choice of the run that judges it, so its figures are those of "choose on validation".

    Args:
        runs: their predictions and thresholds.
        validation: [runs, F] what chooses: the macro of the cross-fitted validation F1. NaN never wins; of equal ones
            the first wins.

    Returns:
        The composite predictions and thresholds, and the name of the run of each fold; None where the runs have
        different rows, labels, attributes or seeds, or where no run has a figure in some fold.
    """
    names, pairs = list(runs), list(runs.values())
    first = pairs[0][0]
    comparable = all(agree(run, first, *ROWS, "labels", "truth") for run, _ in pairs)
    if not comparable or np.isnan(validation).all(axis=0).any():
        return None
    winners = np.nanargmax(validation, axis=0)
    by_fold = [pairs[winner] for winner in winners]
    predictions = replace(
        first,
        logits=np.concatenate([run.logits[:, first.fold == fold] for fold, (run, _) in enumerate(by_fold)], axis=1),
        train_positive=np.stack([run.train_positive[fold] for fold, (run, _) in enumerate(by_fold)]),
        train_observed=np.stack([run.train_observed[fold] for fold, (run, _) in enumerate(by_fold)]),
    )
    thresholds = replace(
        by_fold[0][1],
        policy=" / ".join(dict.fromkeys(tuned.policy for _, tuned in by_fold)),
        values=np.stack([tuned.values[:, fold] for fold, (_, tuned) in enumerate(by_fold)], axis=1),
        notes=[note for fold, (_, tuned) in enumerate(by_fold) for note in tuned.notes if note.fold == fold],
    )
    return predictions, thresholds, [names[winner] for winner in winners]


def _untestable(run: Decisions, reference: Decisions, covered: Array) -> Untestable | None:
    """Why there is no test, None where there is one."""
    if not run.same_rows(reference):
        return "other_rows"
    if min(len(run.accepted), len(reference.accepted)) < 2:
        return "one_seed"
    return None if covered.any() else "no_f1"


def _delta(
    difference: Difference, macro_p: float, family: float, margin: float, fillings: tuple[Array, Array]
) -> Delta:
    """A tested difference as a record.

    Args:
        difference: of the A attributes and, last, of the macro.
        macro_p: of the macro, Holm-adjusted.
        family: level at which each run of the suite is tested so that all intervals hold together.
        margin: of macro F1, for "equivalent".
        fillings: lower and upper bound [A] over all fillings of the missing test labels.
    """
    value, p = difference.value, difference.p
    low, high = difference.bounds(ALPHA)
    simultaneous_low, simultaneous_high = difference.bounds(family)
    return Delta(
        value=value[-1].item(),
        low=low[-1].item(),
        high=high[-1].item(),
        p=macro_p,
        p_unadjusted=p[-1].item(),
        simultaneous_low=simultaneous_low[-1].item(),
        simultaneous_high=simultaneous_high[-1].item(),
        detectable=difference.detectable(family)[-1].item(),
        mark=_mark(value[-1], low[-1], high[-1], macro_p, margin),
        reason=None,
        attribute_value=value[:-1],
        attribute_low=low[:-1],
        attribute_high=high[:-1],
        attribute_p=p[:-1],
        na_low=fillings[0],
        na_high=fillings[1],
    )


def _mark(value: float, low: float, high: float, p: float, margin: float) -> Mark:
    if p < ALPHA:
        return "better" if value > 0 else "worse"
    return "equivalent" if -margin <= low and high <= margin else "unresolved"


def _with_macro(values: Array, covered: Array) -> Array:
    """[..., A] with the macro behind it: [..., A + 1]."""
    return np.append(values, macro(values, covered)[..., None], axis=-1)


def _f1(counts: Array, positive: Array) -> Array:
    """2 TP / (accepted + positive) of the numbers of true positives and accepted [..., 2, A]; NaN without positives."""
    return 2 * counts[..., 0, :] / np.where(positive > 0, counts[..., 1, :] + positive, np.nan)


def _by_group(run: Decisions) -> Array:
    """True positives and accepted of every group: [G, S, 2, A]."""
    counts = run.by_group()
    return np.stack([counts.true_positive, counts.accepted], axis=2).swapaxes(0, 1)


def _permutation_variances(
    runs: Sequence[Decisions], reference: Decisions, covered: Array, draws: int, seed: int
) -> Iterator[Array]:
    """For each run the mean square, over permutations, of the differences of each attribute and of the macro: [A + 1].

    A permutation exchanges the decisions of the two runs on some duplicate groups. The mean difference over all
    permutations is 0, because each has its opposite. Seed i of a run exchanges with seed i of the reference; if they
    have different numbers of seeds, both are repeated up to the least common multiple.
    """
    base, positive = _by_group(reference), reference.labels.positive.sum(axis=0)
    seeds, attributes = len(reference.accepted), len(covered)
    widest = 2 * attributes * max((math.lcm(seeds, len(run.accepted)) for run in runs), default=1)
    step = max(1, _SUMS_AT_ONCE // (widest * max(draws, len(base))))
    for start in range(0, len(runs), step):
        pairs = [_aligned(_by_group(run), base) for run in runs[start : start + step]]
        differences = [(one - other).reshape(len(base), -1) for one, other in pairs]
        ends = np.cumsum([columns.shape[1] for columns in differences])
        moved = np.split(exchanged_sums(np.concatenate(differences, axis=1), draws, seed), ends[:-1], axis=1)
        for (one, other), counts in zip(pairs, moved, strict=True):
            exchanged = _exchanged(one.sum(axis=0), other.sum(axis=0), counts, positive)
            yield np.square(_with_macro(exchanged, covered)).mean(axis=0)


def _aligned(one: Array, other: Array) -> tuple[Array, Array]:
    """Both [G, S, 2, A] repeated to the same number of seeds, so that each keeps equal shares."""
    seeds = np.arange(math.lcm(one.shape[1], other.shape[1]))
    return one[:, seeds % one.shape[1]], other[:, seeds % other.shape[1]]


def _exchanged(one: Array, other: Array, moved: Array, positive: Array) -> Array:
    """The difference of F1, mean over seeds, once some counts moved from one run to the other: [draws, A].

    Args:
        one: [S, 2, A] counts of the one run; ``other`` of the other.
        moved: [draws, S * 2 * A] what the one loses and the other gains.
        positive: [A] observed positives.
    """
    moved = moved.reshape(-1, *one.shape)
    return np.asarray((_f1(one - moved, positive) - _f1(other + moved, positive)).mean(axis=1))


@dataclass(frozen=True, eq=False)
class Difference:
    """Differences of F1 and what Student's t needs to test them, [C] each; NaN where nothing is tested.

    Attributes:
        value: mean over the seeds of one run minus that of the other.
        error: its standard error; 0 where nothing varies, because the two decide alike.
        freedom: degrees of freedom of the error.
    """

    value: Array
    error: Array
    freedom: Array

    def bounds(self, alpha: float) -> tuple[Array, Array]:
        """The confidence interval of level 1 - alpha."""
        half = self._quantile(1 - alpha / 2) * self.error
        return self.value - half, self.value + half

    def detectable(self, alpha: float) -> Array:
        """The true difference that a two-sided test at level alpha finds with probability `POWER`."""
        return np.asarray((self._quantile(1 - alpha / 2) + self._quantile(POWER)) * self.error)

    @property
    def p(self) -> Array:
        """Two-sided p of a difference of 0; 1 where nothing varies."""
        from scipy import special

        varies = self.error != 0
        statistic = np.abs(self.value) / np.where(varies, self.error, 1)
        return np.where(varies, 2 * special.stdtr(self.freedom, -statistic), 1)

    def _quantile(self, level: float) -> Array:
        from scipy import special

        return np.asarray(special.stdtrit(self.freedom, level))


def _welch(run: Array, reference: Array, images: Array, freedom: int) -> Difference:
    """The difference of two runs, with degrees of freedom SE^4 / sum_i (part_i^2 / df_i), by Welch and Satterthwaite.

    Args:
        run: [S, C] figures of the seeds; ``reference`` likewise with its seeds, two or more.
        images: [C] variance over images, with ``freedom`` degrees of freedom.
    """
    parts = [(images, freedom), *((x.var(axis=0, ddof=1) / len(x), len(x) - 1) for x in (run, reference))]
    variance = np.sum([part for part, _ in parts], axis=0)
    varies = ~(variance < _NOTHING)
    freedoms = variance**2 / np.where(varies, np.sum([part**2 / df for part, df in parts], axis=0), 1)
    value = run.mean(axis=0) - reference.mean(axis=0)
    return Difference(value, np.where(varies, np.sqrt(variance), 0), np.where(varies, freedoms, 1))


def _untested(run: Array, reference: Array) -> Difference:
    value = run.mean(axis=0) - reference.mean(axis=0)
    return Difference(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
