"""The statistics of a suite: comparisons of its runs, nested model selection, association, gain and the verdict.

Everything derives from saved predictions, so the content of ``statistics.json`` can be deleted and comes back. Numbers
are NaN where they are undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import compress
from typing import Any

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation import bounds, comparison, fairness
from aimonk_bench.evaluation.association import BeforeTraining, after_training
from aimonk_bench.evaluation.comparison import Delta
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.fairness import Training, Unfair
from aimonk_bench.evaluation.gain import gain
from aimonk_bench.evaluation.intervals import intervals
from aimonk_bench.evaluation.metrics import BASELINES, figures, macro
from aimonk_bench.evaluation.numbers import Array, Numbers
from aimonk_bench.evaluation.predictions import ROWS, Predictions, agree
from aimonk_bench.evaluation.proportions import Intervals
from aimonk_bench.evaluation.scores import REVISION, Scores
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.evaluation.verdict import Doubts, Signal, Verdict, signal

SEED = 0  # of every resample and permutation: the same for every run and every call


@dataclass(frozen=True, eq=False)
class Entry:
    """A finished run, as the statistics need it.

    Attributes:
        load: reads the predictions. It is called when they are needed, so that memory does not hold those of all runs.
        validation: macro of the cross-fitted validation F1, which chooses; NaN never wins.
        complexity: place in the declared order of complexity, compared from the left.
        before: the association test before training, None where the run has none.
        doubts: what of the data bears on the verdict, likewise.
        training: how its heads were trained, None where the run has no such record.
    """

    load: Callable[[], Predictions]
    thresholds: Thresholds
    scores: Scores
    validation: float
    complexity: Sequence[int]
    before: BeforeTraining | None
    doubts: Doubts | None = None
    training: Training | None = None


@dataclass(frozen=True, eq=False)
class Chosen:
    """Nested model selection: each fold's test rows judged by the run that this fold's own validation rows chose.

    Attributes:
        runs: [F] id of the run chosen in each fold; where no run has a validation figure there, the first candidate.
        value: figure -> [A], those of the baselines too; ``low`` and ``high`` likewise, where there is an interval.
        few: figure -> [A] whether it rests on few test rows.
        macro: figure -> value, low, high over the attributes that every finished run defines; NaN without an interval.
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
        planned: number of other runs that the suite planned, for which the paired tests are adjusted.
        candidates: the runs to select from: those with the validation labels and the seeds of the baseline. Others, as
            under ``hide``, are judged by other labels.
        baseline: run id -> the run against the baseline; empty without one.
        against_winner: run id -> the run against the winner.
        fairness: what makes the comparison unfair.
    """

    revision: int
    key: dict[str, str]
    reference: str | None
    planned: int
    candidates: list[str]
    baseline: dict[str, Delta]
    against_winner: dict[str, Delta]
    chosen: Chosen
    signal: Signal
    verdict: Verdict
    fairness: list[Unfair]

    @property
    def winner(self) -> str:
        """The candidate with the best cross-fitted validation macro F1; the first where none has one."""
        return self.verdict.run

    def to_json(self) -> dict[str, Any]:
        """The content of the file; three keys of the verdict stand at the top level too, as in earlier versions."""
        verdict = self.verdict
        runs = {"winner": verdict.run, "indistinguishable": verdict.indistinguishable, "simplest": verdict.simplest}
        return asdict(self) | runs


def statistics(
    entries: Mapping[str, Entry],
    key: Mapping[str, str],
    reference: str | None,
    covered: Mapping[str, Array],
    planned: int | None = None,
) -> Statistics:
    """The statistics of the finished runs of a suite, or of a single run.

    Args:
        entries: id -> the run, at least one, all with the same attributes.
        key: id -> digest.
        reference: id of the baseline.
        covered: figure -> [A] bool, the attributes of its macro average.
        planned: number of other runs that the suite planned, those without an entry too; by default there are none.
    """
    planned = len(entries) - 1 if planned is None else planned
    first = entries[reference if reference is not None else next(iter(entries))]
    decisions, candidates = _decided(entries, first)
    winner = max(candidates, key=lambda run_id: np.nan_to_num(candidates[run_id].validation, nan=-1.0))
    compare = partial(comparison.paired, decisions, covered=covered["f1_tuned"], planned=planned, seed=SEED)
    against_winner = compare(reference=winner)
    baseline = {} if reference is None else compare(reference=reference)
    predictions, thresholds, runs = _nested(candidates, covered["f1_tuned"])
    of_figures = intervals(predictions, thresholds)
    row = _chosen(predictions, thresholds, runs, of_figures, covered)
    tests = signal(
        first.before,  # not that of the winner, which was chosen
        after_training(predictions, seed=SEED),
        gain(Decisions.of(predictions, thresholds), seed=SEED),
    )
    ranked = np.array(tests.ranked)
    auc_low, auc_high, *_ = of_figures["roc_auc"].macro(row.value["roc_auc"], ranked)
    auc = macro(row.value["roc_auc"], ranked).item(), auc_low, auc_high
    paired = _Paired(winner, reference, against_winner, baseline)
    verdict = _verdict(candidates, decisions[winner].labels, paired, tests, row, auc, covered["f1_tuned"])
    return Statistics(
        revision=REVISION,
        key=dict(key),
        reference=reference,
        planned=planned,
        candidates=list(candidates),
        baseline=baseline,
        against_winner=against_winner,
        chosen=row,
        signal=tests,
        verdict=replace(verdict, doubts=first.doubts),
        fairness=_fairness(entries),
    )


def _fairness(entries: Mapping[str, Entry]) -> list[Unfair]:
    """What is unfair among the runs whose training is on record."""
    trainings = {run_id: entry.training for run_id, entry in entries.items() if entry.training is not None}
    return fairness.unfair(trainings)


@dataclass(frozen=True, eq=False)
class _Paired:
    """The paired tests of a suite.

    Attributes:
        winner: id of the run selected on validation.
        reference: id of the baseline, None without one.
        against_winner: run id -> the run against the winner.
        baseline: run id -> the run against the baseline.
    """

    winner: str
    reference: str | None
    against_winner: Mapping[str, Delta]
    baseline: Mapping[str, Delta]

    @property
    def worse(self) -> list[str]:
        """The runs that a test finds worse than the winner or than the baseline, and a baseline that is worse.

        Each family of tests is adjusted by itself, so that the tests against the baseline may find what those against
        the winner do not; a run that a test finds worse than another is not to be recommended.
        """
        by_baseline = {run_id for run_id, delta in self.baseline.items() if delta.mark == "worse"}
        if self.winner in self.baseline and self.baseline[self.winner].mark == "better":
            by_baseline |= {str(self.reference)}
        return [
            run_id for run_id, delta in self.against_winner.items() if delta.mark == "worse" or run_id in by_baseline
        ]

    @property
    def untested(self) -> list[str]:
        """The runs that could not be compared with the winner."""
        return [run_id for run_id, delta in self.against_winner.items() if delta.reason]


def _verdict(
    candidates: Mapping[str, Entry],
    labels: Labels,
    paired: _Paired,
    tests: Signal,
    row: Chosen,
    auc: tuple[float, float, float],
    covered: Array,
) -> Verdict:
    """The verdict without doubts.

    Args:
        labels: of the test rows.
        auc: the mean AUC of the ranked attributes, and its 95 % interval.
        covered: [A] bool, the attributes of the macro of tuned F1.
    """
    names = labels.attributes
    gains, gain_lows = (
        dict(compress(zip(names, values.tolist(), strict=True), tests.gains)) for values in (tests.gain, tests.gain_low)
    )
    f1, f1_low, f1_high = row.macro["f1_tuned"].tolist()
    winner, worse = paired.winner, paired.worse
    equals = [run_id for run_id in candidates if paired.against_winner[run_id].mark and run_id not in worse]
    usable = equals if equals and winner in worse else [winner, *equals]
    simplest = min(usable, key=lambda run_id: tuple(candidates[run_id].complexity))
    return Verdict(
        outcome=tests.outcome,
        attributes=list(names),
        with_signal=list(compress(names, tests.has_signal)),
        ranked=list(compress(names, tests.ranked)),
        with_gain=list(compress(names, tests.gains)),
        smallest_p=float(np.fmin.reduce(tests.adjusted)),
        detectable_auc=dict(zip(names, tests.detectable_auc.tolist(), strict=True)),
        ranked_p=float(np.fmax.reduce(tests.after_adjusted[tests.ranked], initial=np.nan)),
        auc=auc[0],
        auc_low=auc[1],
        auc_high=auc[2],
        largest_gain=float(np.fmax.reduce(tests.largest_gain[tests.ranked], initial=np.nan)),
        gain=gains,
        gain_low=gain_lows,
        missing=dict(zip(names, (1 - labels.observed.mean(axis=0)).tolist(), strict=True)),
        doubts=None,
        run=winner,
        folds=len(row.runs),
        folds_of_run=row.runs.count(winner),
        f1=f1,
        f1_low=f1_low,
        f1_high=f1_high,
        all_positive_f1=row.macro["floor_f1"][0].item(),
        prevalence_f1=row.macro["prior_f1"][0].item(),
        indistinguishable=equals,
        worse=worse,
        untested=paired.untested,
        simplest=simplest,
        simplest_f1=macro(candidates[simplest].scores.figures.value("f1_tuned"), covered).item(),
    )


def _decided(entries: Mapping[str, Entry], first: Entry) -> tuple[dict[str, Decisions], dict[str, Entry]]:
    """The decisions of every run, and the runs that can be selected: those that are like the first one.

    What is equal in all runs, such as their labels, is in memory once.
    """
    predictions_of_first = first.load()
    of_first = Decisions.of(predictions_of_first, first.thresholds)
    decisions, candidates = {}, {}
    for run_id, entry in entries.items():
        predictions = entry.load()
        decided = Decisions.of(predictions, entry.thresholds)
        decisions[run_id] = replace(of_first, accepted=decided.accepted) if decided.same_rows(of_first) else decided
        if _alike(predictions, predictions_of_first):
            candidates[run_id] = entry
    return decisions, candidates


def _alike(run: Predictions, first: Predictions) -> bool:
    """Whether two runs have the same rows, validation labels and seeds."""
    return agree(run, first, *ROWS) and agree(run.part("val"), first.part("val"), "labels")


def _nested(candidates: Mapping[str, Entry], covered: Array) -> tuple[Predictions, Thresholds, list[str]]:
    """The composite of `comparison.chosen`, by the macro of each fold's cross-fitted validation F1."""
    scores = np.array([entry.scores.validation.mean(axis=0) for entry in candidates.values()])  # [runs, F, A]
    runs = {run_id: (entry.load, entry.thresholds) for run_id, entry in candidates.items()}
    return comparison.chosen(runs, macro(scores, covered & np.isfinite(scores).all(axis=0)))


def _chosen(
    predictions: Predictions,
    thresholds: Thresholds,
    runs: Sequence[str],
    of_figures: Mapping[str, Intervals],
    covered: Mapping[str, Array],
) -> Chosen:
    """The row of the nested selection: the figures that have an interval, and the baselines."""
    scored = figures(predictions, thresholds)
    values = {name: scored.value(name) for name in (*of_figures, *BASELINES)}
    averages = {name: [macro(value, covered[name]), np.nan, np.nan] for name, value in values.items()}
    for name, interval in of_figures.items():
        averages[name][1:] = interval.macro(values[name], covered[name])[:2]
    fillings = bounds.bounds(Decisions.of(predictions, thresholds))
    return Chosen(
        runs=list(runs),
        value=values,
        low={name: interval.low for name, interval in of_figures.items()},
        high={name: interval.high for name, interval in of_figures.items()},
        few={name: interval.few.tolist() for name, interval in of_figures.items()},
        macro={name: np.array(average) for name, average in averages.items()},
        na_low=fillings.f1_low,
        na_high=fillings.f1_high,
    )
