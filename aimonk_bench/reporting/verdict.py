"""The verdict in words: the last lines of the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from aimonk_bench.errors import count
from aimonk_bench.evaluation.comparison import Delta
from aimonk_bench.evaluation.verdict import Verdict
from aimonk_bench.reporting.cells import interval
from aimonk_bench.reporting.words import listed, number, number_range, p_value, run_names, span, which


def sentence(verdict: Verdict, parts: Mapping[str, Sequence[str]], against_winner: Mapping[str, Delta]) -> str:
    """The verdict as one line: what to use, what to expect of it, and how sure that is.

    Args:
        parts: run id -> the parts of its name.
        against_winner: run id -> the run against the one selected on validation, see `statistics.Statistics`.
    """
    names = run_names(parts)
    if verdict.outcome == "no_signal":
        return " ".join([_not_shown(verdict, names), *_detectable(verdict)])
    if verdict.outcome == "no_gain":
        return " ".join([_not_shown(verdict, names), *_signal(verdict)])
    if not _several(verdict):
        return f"{names[verdict.run]}: {_expected(verdict)}. {_gain(verdict)}"
    expected = "Expected" if verdict.simplest == verdict.run else "Selecting a run on validation gives"
    use = f"{_use(verdict, names)} {expected} {_expected(verdict)}."
    return " ".join([use, _gain(verdict), *_others(verdict, names, against_winner)])


def gains(verdict: Verdict) -> str:
    """How much each attribute with a gain gains; "" where none does."""
    sizes = [
        f"{name} {number(gain, signed=True, places=3)} ({number(verdict.gain_low[name], signed=True, places=3)})"
        for name, gain in verdict.gain.items()
    ]
    return f"gain in F1 over all positive (lower 95 % bound): {', '.join(sizes)}" if sizes else ""


def _several(verdict: Verdict) -> bool:
    """Whether there was anything to select from."""
    return bool(verdict.indistinguishable or verdict.worse or verdict.untested)


def _expected(verdict: Verdict) -> str:
    """Macro F1 of the nested selection, or of the only run, with its interval."""
    how = ["nested selection" if _several(verdict) and verdict.folds > 1 else "test rows"]
    if not math.isnan(verdict.f1_low + verdict.f1_high):
        how.append(f"95 % CI {number(verdict.f1_low)} to {number(verdict.f1_high)}")
    value = "undefined" if math.isnan(verdict.f1) else number(verdict.f1)
    return f"macro F1 {value} ({', '.join(how)})"


def _use(verdict: Verdict, names: Mapping[str, str]) -> str:
    """Which run to use, and why this one."""
    equals = verdict.indistinguishable
    if not equals:
        return f"Use {names[verdict.run]}: it is selected on validation."
    number_of_runs = len(equals) + (verdict.run not in verdict.worse)
    simplest = {1: "the only one", 2: "the simpler of 2 runs"}.get(
        number_of_runs, f"the simplest of {number_of_runs} runs"
    )
    which_run = f"{simplest} that no paired test finds worse"
    if verdict.simplest == verdict.run:
        return f"Use {names[verdict.run]}: it is selected on validation, and {which_run}."
    return f"Use {names[verdict.simplest]}: it is {which_run}; its macro F1 is {number(verdict.simplest_f1)}."


def _gain(verdict: Verdict) -> str:
    """The attributes that beat the all-positive baseline."""
    verb = "beats" if len(verdict.with_gain) == 1 else "beat"
    baseline = f"the all-positive baseline (macro F1 {number(verdict.all_positive_f1)})"
    return f"{_share(verdict, verdict.with_gain)} {verb} {baseline}{_observed(verdict, verdict.with_gain)}."


def _observed(verdict: Verdict, names: Sequence[str]) -> str:
    """By which labels a claim about these attributes was made, where some are missing."""
    low, high = span(verdict.missing[name] for name in names)
    if not high:
        return ""
    share = " to ".join(dict.fromkeys(f"{100 * end:.2g}" for end in (low, high)))
    return f", judged by the observed labels ({share} % are missing)"


def _others(verdict: Verdict, names: Mapping[str, str], against_winner: Mapping[str, Delta]) -> list[str]:
    """How the run selected on validation compares with the one to use, and with the runs that are not as good."""
    sentences = []
    if verdict.simplest != verdict.run:
        delta = against_winner[verdict.simplest]
        is_worse = delta.mark == "better" or verdict.run in verdict.worse
        word = "measurably worse" if is_worse else "not measurably better"
        value = number(-delta.value, signed=True, places=3)
        bounds = interval(-delta.simultaneous_high, -delta.simultaneous_low)
        selected = f"The run selected on validation, {names[verdict.run]}, is {word}"
        sentences.append(f"{selected} ({value}, 95 % CI {bounds}).")
    if worse := len({*verdict.worse} - {verdict.run}):
        sentences.append(f"{count(worse, 'other run')} {'is' if worse == 1 else 'are'} measurably worse.")
    if untested := len(verdict.untested):
        sentences.append(f"{count(untested, 'other run')} could not be compared with it.")
    return sentences


def _not_shown(verdict: Verdict, names: Mapping[str, str]) -> str:
    """That nothing beats the baseline, or that nothing beats guessing, and the figures."""
    run = "No run is" if _several(verdict) else f"{names[verdict.run]} is not"
    if verdict.outcome == "no_gain":
        claim = f"{run} shown to beat the all-positive baseline"
    elif math.isnan(verdict.smallest_p):
        claim = f"{run} shown to beat guessing, because nothing could be tested"
    else:
        claim = f"{run} shown to beat guessing (smallest adjusted p {p_value(verdict.smallest_p)})"
    return f"{claim}: {_expected(verdict)}, all positive {number(verdict.all_positive_f1)}."


def _detectable(verdict: Verdict) -> list[str]:
    """The AUC that would have been found, and what to look at."""
    if math.isnan(verdict.smallest_p):
        return [
            "No attribute has both a positive and a negative label to test on. Label images of the class that is "
            "missing."
        ]
    aucs = {name: auc for name, auc in verdict.detectable_auc.items() if auc < 1}
    too_few = [name for name in verdict.detectable_auc if name not in aucs]
    if aucs:
        rest = f"; {listed(too_few)}: too few labels of one class for that" if too_few else ""
        detectable_text = f"With these labels an AUC of {number_range(*span(aucs.values()))} would have been found"
        power = f"{detectable_text} with 80 % probability{rest}."
    else:
        power = "The labels are too few to find even a perfect ranking with 80 % probability."
    return [power, "Check the labels, duplicates with different labels, and the join of labels and images."]


def _signal(verdict: Verdict) -> list[str]:
    """Signal without a gain: the attributes that the scores rank, and those with which the features are associated."""
    sentences = []
    if verdict.ranked:
        several = len(verdict.ranked) > 1
        auc = f"{'mean ' if several else ''}AUC {number(verdict.auc)}"
        p = f"{'largest ' if several else ''}adjusted p {p_value(verdict.ranked_p)}"
        verb = "is" if len(verdict.ranked) == 1 else "are"
        sentences.append(
            f"{_share(verdict, verdict.ranked)} {verb} ranked better than by chance ({auc}, {p})"
            f"{_observed(verdict, verdict.ranked)}; at this prevalence and AUC the largest possible gain in F1 is "
            f"{number(verdict.largest_gain, places=3)}."
        )
    if untrained := [name for name in verdict.with_signal if name not in verdict.ranked]:
        verb = "is" if len(untrained) == 1 else "are"
        sentences.append(
            f"{_share(verdict, untrained)} {verb} associated with the features{_observed(verdict, untrained)}, but the "
            "trained scores are not shown to have learned it: train longer or at a higher learning rate, and look at "
            "the loss curve."
        )
    return sentences


def _share(verdict: Verdict, names: Sequence[str]) -> str:
    """How many of the attributes, and which: the subject of a sentence."""
    total = len(verdict.attributes)
    if len(names) == total:
        return {1: f"The attribute {names[0]}", 2: "Both attributes"}.get(total, f"All {total} attributes")
    return f"{len(names)} of {count(total, 'attribute')} ({which(names, verdict.attributes)})"
