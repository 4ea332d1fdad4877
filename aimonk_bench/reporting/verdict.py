"""The verdict in words: the last lines of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aimonk_bench.errors import count
from aimonk_bench.evaluation.verdict import Verdict
from aimonk_bench.reporting.words import DEPENDS_ON, listed, number, p_value, run_name, which


def sentence(verdict: Verdict, parts: Mapping[str, Sequence[str]]) -> str:
    """The verdict as one line.

    Args:
        parts: run id -> the parts of its name.
    """
    names = {run_id: run_name(name) for run_id, name in parts.items()}
    if verdict.outcome == "no_signal":
        return _no_signal(verdict)
    if verdict.outcome == "no_gain":
        return " ".join([_no_gain(verdict), *_doubts(verdict, verdict.with_signal), *_to_report(verdict)])
    doubts = _doubts(verdict, verdict.with_gain)
    return " ".join([_gain(verdict, names), *_sizes(verdict), *doubts, *_to_report(verdict), *_others(verdict, names)])


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


def _sizes(verdict: Verdict) -> list[str]:
    """How much each attribute gains."""
    sizes = [
        f"{name} {number(gain, signed=True, places=3)} ({number(verdict.gain_low[name], signed=True, places=3)})"
        for name, gain in verdict.gain.items()
    ]
    return [f"Gain in F1 (lower 95 % bound): {listed(sizes)}."]


def _doubts(verdict: Verdict, names: Sequence[str]) -> list[str]:
    """What of the data speaks against a claim about these attributes."""
    doubts, sentences = verdict.doubts, []
    depends = doubts.missing_depends if doubts else {}
    missing = []
    for name in names:
        if share := verdict.missing[name]:
            families = [DEPENDS_ON[family] for family in depends.get(name, [])]
            on = f", depending on {' and '.join(families)}" if families else ""
            missing.append(f"{name} ({100 * share:.3g} % missing{on})")
    if missing:
        sentences.append(f"This is about observed labels: {listed(missing)}.")
    alike = [f"{name} {pairs}" for name in names if doubts and (pairs := doubts.near_alike[name])]
    if doubts and alike:
        sentences.append(
            f"The split separates {count(doubts.near_cut, 'pair')} of near duplicates, and these have equal labels: "
            f"{listed(alike)}. Heads may know images instead of attributes: "
            "`split: {near_duplicates: keep_together}`."
        )
    return sentences


def _to_report(verdict: Verdict) -> list[str]:
    """The F1 of the nested selection, where there is anything to select from."""
    if not (verdict.indistinguishable or verdict.worse or verdict.untested):
        return []
    interval = f"[{number(verdict.f1_low)}, {number(verdict.f1_high)}]"
    biased = (
        "; that of the row * is a little too high, because validation rows of a fold are test rows of others"
        if verdict.folds_of_run < verdict.folds
        else ""
    )
    return [f"Macro F1 to report: {number(verdict.f1)} {interval} (row selected per fold){biased}."]


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
        order = "simplest of them" if len(equal) > 1 else "simpler of the two"
        sentences.append(f"{which_runs} distinguishable from it; {names[verdict.simplest]} is the {order}.")
    if worse:
        sentences.append(f"{count(len(worse), 'other run')} {'is' if len(worse) == 1 else 'are'} worse.")
    if untested:
        sentences.append(f"{count(len(untested), 'run')} could not be compared with it.")
    return sentences


def _share(verdict: Verdict, names: Sequence[str], figures: str = "") -> str:
    """How many of the attributes, which, and figures of these."""
    details = "; ".join(filter(None, [which(names, verdict.attributes), figures]))
    return f"{len(names)} of {count(len(verdict.attributes), 'attribute')}" + (f" ({details})" if details else "")
