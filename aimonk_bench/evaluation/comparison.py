"""Which runs differ: paired tests of macro tuned F1 against a reference run, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from aimonk_bench.evaluation.bounds import delta_bounds
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.differences import Difference, Spread, permutation_variances, untested, welch
from aimonk_bench.evaluation.numbers import Array, Number, Numbers
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.resampling import DRAWS
from aimonk_bench.evaluation.thresholds import Thresholds

Mark = Literal["better", "worse", "equivalent", "unresolved", ""]
Untestable = Literal["other_rows", "one_seed", "no_f1"]

MARGIN = 0.02  # of macro F1: two runs are called equivalent where the whole interval lies within it
ALPHA = 0.05  # family-wise, and one minus the level of the intervals


@dataclass(frozen=True, eq=False)
class Delta:
    """A run against the reference: difference of tuned F1 on the test rows of all folds, mean over seeds.

    Attributes:
        value: of the macro over the covered attributes; ``low`` and ``high`` its 95 % interval, NaN without a test.
        p: two-sided, adjusted by Holm over all planned comparisons, ``p_unadjusted`` without; NaN without a test.
        simultaneous_low, simultaneous_high: a wider interval, see `simultaneous_levels`: those of all runs hold at
            once. It excludes 0 exactly where p is at most 0.05.
        detectable: the true difference that the test finds with 80 % probability. It may exceed 1: then none is found
            so often. NaN without a test.
        mark: "better" or "worse" where the simultaneous interval excludes 0; else "equivalent" where it lies within the
            margin, else "unresolved"; "" where nothing was tested.
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


def holm(p: npt.ArrayLike, planned: int | None = None) -> Array:
    """p-values adjusted so that rejecting those below alpha errs in at most a share alpha of families.

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_j). Any shape; NaN is no test and stays NaN.
    Source: Holm (1979).

    Args:
        planned: m, by default the number of tests. Tests that were planned but not made count as the largest p, so that
            they make no other p smaller.

    >>> holm([0.04, 0.01, np.nan]).tolist(), holm([0.04, 0.01, np.nan], 3).tolist()
    ([0.04, 0.02, nan], [0.08, 0.03, nan])
    """
    adjusted = np.array(p, dtype=np.float64)
    tested = ~np.isnan(adjusted)
    values = adjusted[tested]
    order = np.argsort(values)
    factors = (values.size if planned is None else planned) - np.arange(values.size)
    values[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    adjusted[tested] = values
    return adjusted


def simultaneous_levels(p: Array, planned: int) -> Array:
    """The level of the interval of each comparison, [C]: it excludes 0 exactly where Holm's test rejects.

    alpha / m (Bonferroni), with which all intervals hold at once with probability 1 - alpha; for a comparison that only
    a later step of Holm rejects, the level of this step, alpha / (m - j + 1). Holm's test has no intervals that both
    hold at once with exactly this probability and say how large a rejected difference is (Strassburger and Bretz 2008,
    Statistics in Medicine 27): these miss one in at most a share 2 alpha of families, and in the simulations in alpha.

    Args:
        p: of the comparisons that were made.
        planned: their number m as it was planned.
    """
    bonferroni = ALPHA / max(planned, 1)
    by_rank = ALPHA / np.maximum(planned - np.argsort(np.argsort(p)), 1)
    return np.where((p > bonferroni) & (holm(p, planned) <= ALPHA), by_rank, bonferroni)


def paired(
    runs: Mapping[str, Decisions],
    reference: str,
    covered: Array,
    *,
    planned: int | None = None,
    margin: float = MARGIN,
    draws: int = DRAWS,
    seed: int,
) -> dict[str, Delta]:
    """Every run against the reference, whose difference from itself is 0 and is not tested.

    A t test, see `differences.welch`. The variance over images is the mean square of the difference when each group of
    images exchanges its decisions between the two runs by a fair coin, for all seeds and attributes together, at least
    that of two groups decided apart. With one seed the variance over seeds is unknown and nothing is tested; nor where
    the test rows are others.

    Over folds the interval is of the two recipes; in a hold-out it is of these trained heads.
    experiments/simulations/comparison.py shows how often it covers.

    Args:
        runs: the decisions of the runs of one suite, at tuned thresholds; the runs have the same attributes.
        reference: the name of one of them.
        covered: [A] bool, the attributes of the macro.
        planned: number of comparisons that the suite planned, by default of the other runs; those of runs that failed
            count, too.
        margin: of macro F1, for "equivalent".
        draws: number of permutations.
        seed: of the permutations, which are the same for every run.
    """
    base = runs[reference]
    reasons = {name: _untestable(run, base, covered) for name, run in runs.items() if name != reference}
    tested = [name for name, reason in reasons.items() if not reason]
    spread = Spread.of(base, covered)
    variances = permutation_variances([runs[name] for name in tested], base, covered, draws, seed)
    differences = {
        name: welch(Spread.of(runs[name], covered), spread, variance)
        for name, variance in zip(tested, variances, strict=True)
    }
    p = np.array([difference.p[-1] for difference in differences.values()])
    planned = len(reasons) if planned is None else planned
    adjusted = dict(zip(tested, zip(holm(p, planned), simultaneous_levels(p, planned), strict=True), strict=True))
    deltas, undefined = {}, np.full(len(covered), np.nan)
    for name, run in runs.items():
        difference = differences.get(name) or untested(Spread.of(run, covered).figures, spread.figures)
        fillings = delta_bounds(run, base) if run.same_rows(base) else (undefined, undefined)
        delta = _delta(difference, *adjusted.get(name, (math.nan, ALPHA)), margin, fillings)
        deltas[name] = delta if name in differences else replace(delta, mark="", reason=reasons.get(name))
    return deltas


def chosen(
    runs: Mapping[str, tuple[Callable[[], Predictions], Thresholds]], validation: Array
) -> tuple[Predictions, Thresholds, list[str]]:
    """Nested model selection: the rows of each fold as judged by the run that its own validation rows chose.

    No test row takes part in the choice of the run that judges it, so its figures are those of "choose on validation".

    Args:
        runs: how their predictions are read, and their thresholds; all have the same rows, test labels and seeds.
            Memory holds those of the chosen runs alone.
        validation: [runs, F] what chooses: the macro of the cross-fitted validation F1. NaN never wins; of equal ones
            the first wins, and where no run has a figure, too.

    Returns:
        The composite predictions and thresholds, and the name of the run of each fold.
    """
    names, pairs = list(runs), list(runs.values())
    first = pairs[0][0]()
    winners = np.nan_to_num(validation, nan=-1.0).argmax(axis=0)
    loaded = {winner: pairs[winner][0]() for winner in np.unique(winners)}
    by_fold = [(loaded[winner], pairs[winner][1]) for winner in winners]
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


def _delta(difference: Difference, macro_p: float, level: float, margin: float, fillings: tuple[Array, Array]) -> Delta:
    """A tested difference as a record.

    Args:
        difference: of the A attributes and, last, of the macro.
        macro_p: of the macro, Holm-adjusted.
        level: of the simultaneous interval of the macro.
        margin: of macro F1, for "equivalent".
        fillings: lower and upper bound [A] over all fillings of the missing test labels.
    """
    value, p = difference.value, difference.p
    low, high = difference.bounds(ALPHA)
    simultaneous_low, simultaneous_high = (bound[-1].item() for bound in difference.bounds(level))
    return Delta(
        value=value[-1].item(),
        low=low[-1].item(),
        high=high[-1].item(),
        p=float(macro_p),
        p_unadjusted=p[-1].item(),
        simultaneous_low=simultaneous_low,
        simultaneous_high=simultaneous_high,
        detectable=difference.detectable(level)[-1].item(),
        mark=_mark(simultaneous_low, simultaneous_high, margin),
        reason=None,
        attribute_value=value[:-1],
        attribute_low=low[:-1],
        attribute_high=high[:-1],
        attribute_p=p[:-1],
        na_low=fillings[0],
        na_high=fillings[1],
    )


def _mark(low: float, high: float, margin: float) -> Mark:
    """What a simultaneous interval says."""
    if low > 0 or high < 0:
        return "better" if low > 0 else "worse"
    return "equivalent" if -margin <= low and high <= margin else "unresolved"
