"""What the runs of a suite say together: who is better than whom, whether anything beats guessing, and the verdict.

Everything derives from saved predictions, so the content of ``statistics.json`` can be deleted and comes back. Numbers
are NaN where they are undefined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aimonk_bench.evaluation import bounds, comparison
from aimonk_bench.evaluation import verdict as verdicts
from aimonk_bench.evaluation.association import BeforeTraining, after_training
from aimonk_bench.evaluation.comparison import Delta
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.gain import gain
from aimonk_bench.evaluation.intervals import intervals
from aimonk_bench.evaluation.metrics import figures, macro
from aimonk_bench.evaluation.numbers import Array, Numbers
from aimonk_bench.evaluation.predictions import ROWS, Predictions, agree
from aimonk_bench.evaluation.proportions import Intervals
from aimonk_bench.evaluation.scores import REVISION, Scores
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.evaluation.verdict import Signal

SEED = 0  # of every resample, swap and permutation: the same for every run and every call


@dataclass(frozen=True, eq=False)
class Entry:
    """A finished run, as the statistics need it.

    Attributes:
        name: what a reader sees.
        validation: macro of the cross-fitted validation F1, which chooses; NaN never wins.
        complexity: place in the declared order of complexity, compared from the left.
        before: the association test before training, None where the run has none.
    """

    name: str
    predictions: Predictions
    thresholds: Thresholds
    scores: Scores
    validation: float
    complexity: Sequence[int]
    before: BeforeTraining | None


@dataclass(frozen=True, eq=False)
class Chosen:
    """Nested model selection: each fold's test rows judged by the run that this fold's own validation rows chose.

    Attributes:
        runs: [F] id of the run chosen in each fold; the winner throughout where no run has a validation figure in some
            fold.
        value: figure -> [A]; ``low`` and ``high`` likewise.
        few: figure -> [A] whether it rests on few test rows.
        macro: figure -> value, low, high over the attributes that every finished run defines.
        na_low, na_high: [A] bounds of tuned F1 over all fillings of the missing test labels.
    """

    runs: list[str]
    value: dict[str, Numbers]
    low: dict[str, Numbers]
    high: dict[str, Numbers]
    few: dict[str, list[bool]]
    macro: dict[str, Numbers]
    na_low: Numbers
    na_high: Numbers


@dataclass(frozen=True, eq=False)
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
    baseline: dict[str, Delta]
    against_winner: dict[str, Delta]
    chosen: Chosen
    signal: Signal
    kind: str
    verdict: str


def statistics(
    entries: Mapping[str, Entry], key: Mapping[str, str], reference: str | None, covered: Array
) -> Statistics:
    """The statistics of the finished runs of a suite, or of a single run.

    Args:
        entries: id -> the run, at least one, all with the same attributes.
        key: id -> digest.
        reference: id of the baseline.
        covered: [A] bool, the attributes of the macro F1.
    """
    first = entries[reference if reference is not None else next(iter(entries))]
    candidates = {run_id: entry for run_id, entry in entries.items() if _alike(entry.predictions, first.predictions)}
    winner = max(candidates, key=lambda run_id: np.nan_to_num(candidates[run_id].validation, nan=-1.0))
    decisions = {run_id: Decisions.of(entry.predictions, entry.thresholds) for run_id, entry in entries.items()}
    against_winner = comparison.paired(decisions, winner, covered, seed=SEED)
    equals = [run_id for run_id in candidates if against_winner[run_id].mark not in ("", "worse")]
    simplest = min((winner, *equals), key=lambda run_id: tuple(entries[run_id].complexity))
    predictions, thresholds, runs = _nested(candidates, covered) or (
        entries[winner].predictions,
        entries[winner].thresholds,
        [winner] * entries[winner].predictions.folds,
    )
    sure = intervals(predictions, thresholds)
    row = _chosen(predictions, thresholds, runs, sure, covered)
    verdict = verdicts.verdict(
        first.before,  # not that of the winner, which was chosen
        after_training(predictions, seed=SEED),
        gain(Decisions.of(predictions, thresholds), seed=SEED),
    )
    sentence = verdicts.sentence(
        verdict,
        sure["roc_auc"].macro(row.value["roc_auc"], verdict.ranked)[:2],
        winner=entries[winner].name + ("" if set(runs) == {winner} else " (in some folds the run chosen there)"),
        indistinguishable=[entries[run_id].name for run_id in equals],
        simplest=entries[simplest].name,
        untested=sum(bool(delta.reason) for delta in against_winner.values()),
    )
    return Statistics(
        revision=REVISION,
        key=dict(key),
        reference=reference,
        candidates=list(candidates),
        winner=winner,
        indistinguishable=equals,
        simplest=simplest,
        baseline={} if reference is None else comparison.paired(decisions, reference, covered, seed=SEED),
        against_winner=against_winner,
        chosen=row,
        signal=verdict.signal,
        kind=verdict.kind,
        verdict=sentence,
    )


def _alike(run: Predictions, first: Predictions) -> bool:
    """Whether two runs have the same rows, validation labels and seeds."""
    return agree(run, first, *ROWS) and agree(run.part("val"), first.part("val"), "labels")


def _nested(candidates: Mapping[str, Entry], covered: Array) -> tuple[Predictions, Thresholds, list[str]] | None:
    """The composite of `comparison.chosen`, by the macro of each fold's cross-fitted validation F1."""
    scores = np.array([entry.scores.validation.mean(axis=0) for entry in candidates.values()])  # [runs, F, A]
    runs = {run_id: (entry.predictions, entry.thresholds) for run_id, entry in candidates.items()}
    return comparison.chosen(runs, macro(scores, covered & np.isfinite(scores).all(axis=0)))


def _chosen(
    predictions: Predictions, thresholds: Thresholds, runs: Sequence[str], sure: Mapping[str, Intervals], covered: Array
) -> Chosen:
    """The row of the nested selection: the figures that have an interval."""
    scored = figures(predictions, thresholds)
    values = {name: scored.value(name) for name in sure}
    fillings = bounds.bounds(Decisions.of(predictions, thresholds))
    return Chosen(
        runs=list(runs),
        value=values,
        low={name: interval.low for name, interval in sure.items()},
        high={name: interval.high for name, interval in sure.items()},
        few={name: interval.few.tolist() for name, interval in sure.items()},
        macro={
            name: np.array([macro(values[name], covered), *interval.macro(values[name], covered)[:2]])
            for name, interval in sure.items()
        },
        na_low=fillings.f1_low,
        na_high=fillings.f1_high,
    )
