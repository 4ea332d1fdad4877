"""The verdict in words: the last lines of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aimonk_bench.errors import count
from aimonk_bench.evaluation.verdict import Verdict
from aimonk_bench.reporting.words import listed, p_value, run_name, which


def sentence(verdict: Verdict, parts: Mapping[str, Sequence[str]]) -> str:
    """The verdict as one line.

    Args:
        parts: run id -> the parts of its name.
    """
    if verdict.outcome == "gain":
        names = {run_id: run_name(name) for run_id, name in parts.items()}
        return " ".join([_gain(verdict, names), *_others(verdict, names)])
    return _no_signal(verdict) if verdict.outcome == "no_signal" else _no_gain(verdict)


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


def _no_gain(verdict: Verdict) -> str:
    """Signal without a gain: the attributes that the scores rank, and those with which the features are associated."""
    sentences = []
    if verdict.ranked:
        several = len(verdict.ranked) > 1
        auc = f"{'mean ' if several else ''}AUC {verdict.auc:.2f}"
        p = f"{'largest ' if several else ''}adjusted p {p_value(verdict.ranked_p)}"
        sentences.append(
            f"Scores rank better than chance on {_share(verdict, verdict.ranked, f'{auc}, {p}')}, but no F1 above the "
            "all-positive baseline is shown; at this prevalence and AUC the largest possible gain is "
            f"{verdict.largest_gain:.3f}."
        )
    if untrained := [name for name in verdict.with_signal if name not in verdict.ranked]:
        sentences.append(
            f"The features are associated with {_share(verdict, untrained)} (test before training), but the trained "
            "scores are not shown to rank better than chance there: train longer or at a higher learning rate, and "
            "look at the loss curve."
        )
    return " ".join(sentences)


def _gain(verdict: Verdict, names: Mapping[str, str]) -> str:
    """What beats the all-positive baseline: a run, or the selection where folds select different runs."""
    claim = f"beats the all-positive baseline on {_share(verdict, verdict.with_gain)}."
    if verdict.folds_of_run == verdict.folds:
        return f"{names[verdict.run]} {claim}"
    return (
        f"Selecting the run on the validation rows of each fold (row selected per fold) {claim} On those of all folds "
        f"{names[verdict.run]} (*) is the best run; {verdict.folds_of_run} of {count(verdict.folds, 'fold')} "
        f"{'selects' if verdict.folds_of_run == 1 else 'select'} it."
    )


def _others(verdict: Verdict, names: Mapping[str, str]) -> list[str]:
    """How the other runs compare with the best one, as sentences; none where there are no others."""
    groups = (verdict.indistinguishable, verdict.worse, verdict.untested)
    equal, worse, untested = ([names[run_id] for run_id in group] for group in groups)
    others, sentences = [*equal, *worse, *untested], []
    if equal and len(equal) == len(others):
        which_runs = (
            f"None of the {len(others)} other runs is" if len(others) > 1 else f"The other run, {equal[0]}, is not"
        )
    elif equal:
        verb = "is" if len(equal) == 1 else "are"
        which_runs = f"{len(equal)} of {len(others)} other runs ({which(equal, others)}) {verb} not"
    if equal:
        simplest = "it is" if verdict.simplest == verdict.run else f"{names[verdict.simplest]} is"
        order = "simplest of them" if len(equal) > 1 else "simpler one"
        sentences.append(f"{which_runs} distinguishable from it; {simplest} the {order}.")
    if worse:
        sentences.append(f"{count(len(worse), 'other run')} {'is' if len(worse) == 1 else 'are'} worse.")
    if untested:
        sentences.append(f"{count(len(untested), 'run')} could not be compared with it.")
    return sentences


def _share(verdict: Verdict, names: Sequence[str], figures: str = "") -> str:
    """How many of the attributes, which, and figures of these."""
    details = "; ".join(filter(None, [which(names, verdict.attributes), figures]))
    return f"{len(names)} of {count(len(verdict.attributes), 'attribute')}" + (f" ({details})" if details else "")
