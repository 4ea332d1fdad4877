"""The verdict in words: the last line of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aimonk_bench.evaluation.verdict import Verdict
from aimonk_bench.reporting.words import count, listed, run_name


def sentence(verdict: Verdict, parts: Mapping[str, Sequence[str]]) -> str:
    """The verdict as one line.

    Args:
        parts: run id -> the parts of its name.
    """
    if verdict.outcome == "gain":
        return _gain(verdict, {run_id: run_name(name) for run_id, name in parts.items()})
    if verdict.outcome == "no_signal":
        return _no_signal(verdict)
    if verdict.ranked:
        return (
            f"Scores rank better than chance on {_share(verdict, verdict.ranked)} "
            f"(AUC [{verdict.auc_low:.2f}, {verdict.auc_high:.2f}]), but no F1 above the all-positive baseline is "
            f"shown; at this prevalence and AUC the largest possible gain is {verdict.largest_gain:.3f}."
        )
    return (
        f"The features are associated with {_share(verdict, verdict.with_signal)} (test before training), but the "
        "trained scores are not shown to rank better than chance: train longer or at a higher learning rate, and look "
        "at the loss curve."
    )


def _no_signal(verdict: Verdict) -> str:
    if math.isnan(verdict.smallest_p):
        return (
            "No configuration is distinguishable from guessing: nothing could be tested, because no attribute has "
            "both a positive and a negative label to test on. Label the class that is missing."
        )
    return (
        "No configuration is distinguishable from guessing "
        f"(smallest adjusted p = {verdict.smallest_p:.3f}). {_detectable(verdict.detectable_auc)} "
        "Check labels, disagreeing duplicates, the join of labels and images."
    )


def _detectable(aucs: Mapping[str, float]) -> str:
    """The AUC that would have been found, of the attributes that have one below 1."""
    detectable = {name: f"{auc:.2f}" for name, auc in aucs.items() if auc < 1}
    too_few = [name for name in aucs if name not in detectable]
    if not detectable:
        return "The labels are too few to find even a perfect ranking with 80 % probability."
    figures = [f"{auc} ({name})" if too_few else auc for name, auc in detectable.items()]
    rest = f"; for that, these have too few labels of one class: {listed(too_few)}" if too_few else ""
    return (
        f"With these counts an out-of-fold AUC of {listed(figures)} would have been found with 80 % probability{rest}."
    )


def _gain(verdict: Verdict, names: Mapping[str, str]) -> str:
    where = f" (selected in {verdict.folds_of_run} of {verdict.folds} folds; in the others the run selected there)"
    which = f" ({listed(verdict.with_gain)})" if len(verdict.with_gain) < len(verdict.attributes) else ""
    parts = [
        f"{names[verdict.run]}{where if verdict.folds_of_run < verdict.folds else ''} beats the all-positive baseline "
        f"on {_share(verdict, verdict.with_gain)}{which}"
    ]
    if equals := [names[run_id] for run_id in verdict.indistinguishable]:
        simplest = "the winner" if verdict.simplest == verdict.run else names[verdict.simplest]
        parts.append(f"runs not distinguishable from the winner: {listed(equals)}; simplest of these: {simplest}")
    elif worse := len(verdict.worse):
        parts.append(f"{count(worse, 'other run')} {'is' if worse == 1 else 'are'} worse")
    if untested := len(verdict.untested):
        parts.append(f"{count(untested, 'run')} could not be compared with the winner")
    return "; ".join(parts) + "."


def _share(verdict: Verdict, names: list[str]) -> str:
    return f"{len(names)} of {count(len(verdict.attributes), 'attribute')}"
