"""What the runs of a suite say together: who is better than whom, whether anything beats guessing, and the verdict.

Everything derives from saved predictions, so the content of ``statistics.json`` can be deleted and comes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aimonk_bench.evaluation import bounds, comparison, signal
from aimonk_bench.evaluation import verdict as verdicts
from aimonk_bench.evaluation.bounds import Bounds
from aimonk_bench.evaluation.cells import Cells
from aimonk_bench.evaluation.comparison import Delta
from aimonk_bench.evaluation.intervals import Intervals, intervals
from aimonk_bench.evaluation.metrics import Figures, figures, macro
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.scores import REVISION, Scores
from aimonk_bench.evaluation.signal import After, Before
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.evaluation.verdict import Gain, Verdict

Array = npt.NDArray[Any]
Numbers = list[float | None]

SEED = 0  # of every resample, swap and permutation: the same for every run and every call


@dataclass(frozen=True, eq=False)
class Entry:
    """A finished run, as the statistics need it.

    Attributes:
        name: what a reader sees.
        validation: macro of the cross-fitted validation F1, which chooses; NaN never wins.
        complexity: place in the declared order of complexity, compared from the left.
        before: the test of signal before training, None where the run has none.
    """

    name: str
    predictions: Predictions
    thresholds: Thresholds
    scores: Scores
    validation: float
    complexity: Sequence[int]
    before: Before | None


@dataclass(frozen=True)
class Versus:
    """A run against a reference; None is undefined.

    Attributes:
        value: difference of macro tuned F1, ``low`` and ``high`` its 95 % interval.
        p: adjusted by Holm over the runs of the suite.
        mark: "better", "worse", "equivalent", "unresolved"; "" where nothing was tested, for the ``reason`` given.
        attribute_value: [A]; also ``attribute_low``, ``attribute_high``, and ``attribute_p``, which is not adjusted.
        na_low: [A] smallest difference over all fillings of the NA test cells, ``na_high`` the largest.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    mark: str
    reason: str
    attribute_value: Numbers
    attribute_low: Numbers
    attribute_high: Numbers
    attribute_p: Numbers
    na_low: Numbers
    na_high: Numbers


@dataclass(frozen=True)
class Chosen:
    """The headline row: each fold's test rows judged by the run that this fold's own validation rows chose.

    Attributes:
        runs: [F] id of the run chosen in each fold; the winner throughout where no run has a validation figure in some
            fold.
        value: figure -> [A]; ``low`` and ``high`` likewise.
        few: figure -> [A] whether it rests on few test rows.
        macro: figure -> value, low, high over the attributes that every finished run defines.
        na_low: [A] lowest tuned F1 over all fillings of the NA test cells, ``na_high`` the highest.
    """

    runs: list[str]
    value: dict[str, Numbers]
    low: dict[str, Numbers]
    high: dict[str, Numbers]
    few: dict[str, list[bool]]
    macro: dict[str, Numbers]
    na_low: Numbers
    na_high: Numbers


@dataclass(frozen=True)
class Signal:
    """Whether the pictures tell anything about each attribute, [A] each.

    Attributes:
        before: p of the score test before training, ``before_auc`` the out-of-fold ROC AUC of its linear probe; None
            where the run has no such test.
        after: p of the test on the chosen row; ``auc`` its ROC AUC.
        adjusted: the smaller of the two, each adjusted by Holm over the attributes.
        found: whether either test rejects.
        gain: tuned F1 minus always-positive F1 of the chosen row; ``gain_low`` its one-sided 95 % limit.
        gains: whether a gain above 0 is shown.
    """

    before: Numbers | None
    before_auc: Numbers | None
    after: Numbers
    auc: Numbers
    adjusted: Numbers
    found: list[bool]
    gain: Numbers
    gain_low: Numbers
    gains: list[bool]


@dataclass(frozen=True)
class Statistics:
    """The content of ``statistics.json``.

    Attributes:
        revision: of the methods.
        key: run id -> digest of what the statistics read of it, in the order of the suite.
        reference: id of the baseline run, None without one that finished.
        candidates: the runs that were chosen from: those with the validation labels and the seeds of the baseline.
            Others, as under ``hide``, are judged by other labels.
        winner: the candidate with the best cross-fitted validation macro F1; the first where none has one.
        indistinguishable: candidates that are not worse than the winner by the tests; the winner is not among them.
        simplest: of the winner and those.
        baseline: run id -> the run against the baseline; empty without one.
        against_winner: run id -> the run against the winner.
        kind: "a", "b" or "c", which of the three verdicts.
        verdict: its sentence.
    """

    revision: int
    key: dict[str, str]
    reference: str | None
    candidates: list[str]
    winner: str
    indistinguishable: list[str]
    simplest: str
    baseline: dict[str, Versus]
    against_winner: dict[str, Versus]
    chosen: Chosen
    signal: Signal
    kind: str
    verdict: str


def statistics(
    entries: Mapping[str, Entry],
    key: Mapping[str, str],
    reference: str | None,
    covered: Array,
) -> Statistics:
    """The statistics of the finished runs of a suite, or of a single run.

    Args:
        entries: id -> the run, at least one, all with the same attributes.
        key: id -> digest.
        reference: id of the baseline.
        covered: [A] bool, the attributes of the macro F1.
    """
    candidates = _candidates(entries, reference)
    winner = max(candidates, key=lambda run_id: np.nan_to_num(candidates[run_id].validation, nan=-1.0))
    before = entries[reference if reference is not None else next(iter(entries))].before  # not the winner's: a choice
    cells = {run_id: Cells.of(entry.predictions, entry.thresholds) for run_id, entry in entries.items()}
    against_winner = comparison.paired(cells, winner, covered, seed=SEED)
    equals = [run_id for run_id in comparison.indistinguishable(against_winner) if run_id in candidates]
    simplest = comparison.simplest({run_id: entries[run_id].complexity for run_id in (winner, *equals)})
    predictions, thresholds, parts = _chosen(candidates, covered) or (
        *(entries[winner].predictions, entries[winner].thresholds),
        [winner] * entries[winner].predictions.folds,
    )
    judged = thresholds.values[:, predictions.fold[predictions.split == "val"]]  # no validation figure is kept
    figured = figures(predictions, thresholds, judged)
    limits = intervals(predictions, thresholds)
    after = signal.after(predictions, seed=SEED)
    own = Cells.of(predictions, thresholds)
    gain = verdicts.gain(own, seed=SEED)
    verdict = verdicts.verdict(
        before,
        after,
        gain,
        winner=entries[winner].name + ("" if set(parts) == {winner} else " (in some folds the run chosen there)"),
        indistinguishable=[entries[run_id].name for run_id in equals],
        simplest=entries[simplest].name,
        untested=sum(bool(delta.reason) for delta in against_winner.values()),
        auc_interval=lambda mask: limits["roc_auc"].macro(figured.value("roc_auc"), mask)[:2],
    )
    return Statistics(
        revision=REVISION,
        key=dict(key),
        reference=reference,
        candidates=list(candidates),
        winner=winner,
        indistinguishable=equals,
        simplest=simplest,
        baseline={}
        if reference is None
        else _versus(cells, reference, comparison.paired(cells, reference, covered, seed=SEED)),
        against_winner=_versus(cells, winner, against_winner),
        chosen=_row(parts, figured, limits, bounds.bounds(own), covered),
        signal=_signal(before, after, gain, verdict),
        kind=verdict.kind,
        verdict=verdict.text,
    )


def _candidates(entries: Mapping[str, Entry], reference: str | None) -> dict[str, Entry]:
    """The runs with the validation labels and the seeds of the reference, else of the first run."""
    first = entries[reference if reference is not None else next(iter(entries))].predictions
    val = first.split == "val"

    def alike(own: Predictions) -> bool:
        rows = ("split", "fold", "group", "image_id", "attribute", "seed")
        same = all(np.array_equal(getattr(own, name), getattr(first, name)) for name in rows)
        return same and all(
            np.array_equal(getattr(own, x)[val], getattr(first, x)[val]) for x in ("targets", "observed")
        )

    return {run_id: entry for run_id, entry in entries.items() if alike(entry.predictions)}


def _chosen(candidates: Mapping[str, Entry], covered: Array) -> tuple[Predictions, Thresholds, list[str]] | None:
    """The composite of `comparison.chosen`, by the macro of each fold's cross-fitted validation F1."""
    scores = np.array([entry.scores.validation.mean(axis=0) for entry in candidates.values()])  # [runs, F, A]
    runs = {run_id: (entry.predictions, entry.thresholds) for run_id, entry in candidates.items()}
    return comparison.chosen(runs, macro(scores, covered & np.isfinite(scores).all(axis=0)))


def _row(
    parts: Sequence[str], figured: Figures, limits: Mapping[str, Intervals], fillings: Bounds, covered: Array
) -> Chosen:
    """The headline row, of the figures that have an interval."""
    macros = {name: interval.macro(figured.value(name), covered)[:2] for name, interval in limits.items()}
    return Chosen(
        runs=list(parts),
        value={name: _numbers(figured.value(name)) for name in limits},
        low={name: _numbers(interval.low) for name, interval in limits.items()},
        high={name: _numbers(interval.high) for name, interval in limits.items()},
        few={name: interval.few.tolist() for name, interval in limits.items()},
        macro={name: _numbers([float(macro(figured.value(name), covered)), *macros[name]]) for name in limits},
        na_low=_numbers(fillings.f1_low),
        na_high=_numbers(fillings.f1_high),
    )


def _signal(before: Before | None, after: After, gain: Gain, verdict: Verdict) -> Signal:
    return Signal(
        before=None if before is None else _numbers(before.p),
        before_auc=None if before is None else _numbers(before.auc),
        after=_numbers(after.p),
        auc=_numbers(after.auc),
        adjusted=_numbers(verdict.adjusted),
        found=verdict.signal.tolist(),
        gain=_numbers(gain.value),
        gain_low=_numbers(gain.low),
        gains=verdict.gains.tolist(),
    )


def _versus(cells: Mapping[str, Cells], reference: str, deltas: Mapping[str, Delta]) -> dict[str, Versus]:
    """The comparisons as plain data, with the bounds over all fillings of the NA cells where the rows are the same."""
    return {
        run_id: _plain_delta(delta, _na_bounds(cells[run_id], cells[reference])) for run_id, delta in deltas.items()
    }


def _na_bounds(run: Cells, reference: Cells) -> tuple[Array, Array]:
    same = all(
        np.array_equal(getattr(run, name), getattr(reference, name)) for name in ("image_id", "observed", "positive")
    )
    unknown = np.full(run.positive.shape[1], np.nan)
    return bounds.delta_bounds(run, reference) if same else (unknown, unknown)


def _plain_delta(delta: Delta, na: tuple[Array, Array]) -> Versus:
    value, low, high, p = _numbers([delta.value, delta.low, delta.high, delta.p_adjusted])
    return Versus(
        value=value,
        low=low,
        high=high,
        p=p,
        mark=delta.mark,
        reason=delta.reason,
        attribute_value=_numbers(delta.attribute_value),
        attribute_low=_numbers(delta.attribute_low),
        attribute_high=_numbers(delta.attribute_high),
        attribute_p=_numbers(delta.attribute_p),
        na_low=_numbers(na[0]),
        na_high=_numbers(na[1]),
    )


def _numbers(values: Array | Sequence[float]) -> Numbers:
    """Floats, None for NaN."""
    return [None if np.isnan(value) else value for value in np.asarray(values, dtype=np.float64).tolist()]
