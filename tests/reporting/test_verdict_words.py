"""The verdict in words: every outcome, at few labels and with one run too."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest

from aimonk_bench.evaluation.comparison import Delta, Mark
from aimonk_bench.evaluation.verdict import Verdict
from aimonk_bench.reporting.verdict import gains, sentence

NAMES = {name: (f"run {name}",) for name in "abcdefghijklm"}
GAIN = Verdict(
    outcome="gain",
    attributes=["x", "y", "z"],
    with_signal=["x", "y"],
    ranked=["x", "y"],
    with_gain=["x"],
    smallest_p=0.001,
    detectable_auc={"x": 0.8, "y": 0.81, "z": 0.9},
    ranked_p=0.0131,
    auc=0.75,
    auc_low=0.6,
    auc_high=0.8,
    largest_gain=0.0123,
    gain={"x": 0.0084},
    gain_low={"x": 0.0021},
    missing=dict.fromkeys("xyz", 0.0),
    doubts=None,
    run="a",
    folds=5,
    folds_of_run=5,
    f1=0.7,
    f1_low=0.6,
    f1_high=0.8,
    all_positive_f1=0.6,
    prevalence_f1=0.5,
    indistinguishable=[],
    worse=[],
    untested=[],
    simplest="a",
    simplest_f1=0.69,
)
NO_GAIN = dataclasses.replace(GAIN, outcome="no_gain", with_gain=[], gain={}, gain_low={})
NO_SIGNAL = dataclasses.replace(NO_GAIN, outcome="no_signal", with_signal=[], ranked=[], smallest_p=0.0523)
EXPECTED = "macro F1 .70 (nested selection, 95 % CI .60 to .80)"


def against(mark: Mark = "unresolved", value: float = -0.01, low: float = -0.03, high: float = 0.012) -> Delta:
    """A run against the selected one; its pointwise interval is narrower."""
    numbers = dict.fromkeys(("p", "p_unadjusted", "detectable"), 0.5)
    of_attributes = ("attribute_value", "attribute_low", "attribute_high", "attribute_p", "na_low", "na_high")
    bounds = {"low": -0.011, "high": -0.009, "simultaneous_low": low, "simultaneous_high": high}
    arrays = dict.fromkeys(of_attributes, np.zeros(3))
    return Delta(value=value, mark=mark, reason=None, **numbers, **bounds, **arrays)


DELTAS = {name: against() for name in NAMES}


def said(verdict: Verdict, deltas: dict[str, Delta] | None = None) -> str:
    return sentence(verdict, NAMES, DELTAS if deltas is None else deltas)


@pytest.mark.parametrize(
    ("changes", "use", "others"),
    [
        (
            {"indistinguishable": list("bcdefghijklm"), "simplest": "b", "simplest_f1": 0.68},
            "Use run b: it is the simplest of 13 runs that no paired test finds worse; its macro F1 is .68. "
            f"Selecting a run on validation gives {EXPECTED}.",
            ["The run selected on validation, run a, is not measurably better (+.010, 95 % CI -.012 to +.030)."],
        ),
        (
            {"indistinguishable": ["b"], "worse": ["c"], "untested": ["d", "e"]},
            "Use run a: it is selected on validation, and the simpler of 2 runs that no paired test finds worse. "
            f"Expected {EXPECTED}.",
            ["1 other run is measurably worse.", "2 other runs could not be compared with it."],
        ),
        (
            {"worse": ["b", "c"]},
            f"Use run a: it is selected on validation. Expected {EXPECTED}.",
            ["2 other runs are measurably worse."],
        ),
        (
            {"untested": ["b"]},
            f"Use run a: it is selected on validation. Expected {EXPECTED}.",
            ["1 other run could not be compared with it."],
        ),
    ],
)
def test_a_suite_with_a_gain_says_what_to_use(changes: dict[str, Any], use: str, others: list[str]) -> None:
    gained = "1 of 3 attributes (x) beats the all-positive baseline (macro F1 .60)."
    assert said(dataclasses.replace(GAIN, **changes)) == " ".join([use, gained, *others])


def test_a_selected_run_that_is_worse_than_the_baseline_is_not_recommended() -> None:
    verdict = dataclasses.replace(GAIN, indistinguishable=["b"], simplest="b", worse=["a", "c"], simplest_f1=0.7)
    text = said(verdict)
    assert text.startswith("Use run b: it is the only one that no paired test finds worse; its macro F1 is .70.")
    assert "The run selected on validation, run a, is measurably worse" in text
    assert text.endswith("1 other run is measurably worse.")


def test_a_selected_run_that_is_worse_on_test_rows_is_said_to_be() -> None:
    verdict = dataclasses.replace(GAIN, indistinguishable=["b", "c"], simplest="b")
    text = said(verdict, DELTAS | {"b": against("better", 0.02, 0.001, 0.039)})
    assert text.endswith("run a, is measurably worse (-.020, 95 % CI -.039 to -.001).")
    text = said(verdict, DELTAS | {"b": against("better", 0.02, 0.0002, 0.039)})
    assert text.endswith("run a, is measurably worse (-.020, 95 % CI -.039 to <.000).")


@pytest.mark.parametrize("verdict", [GAIN, NO_GAIN, NO_SIGNAL], ids=lambda verdict: verdict.outcome)
def test_a_single_run_is_compared_with_nothing(verdict: Verdict) -> None:
    text = said(verdict)
    assert text.startswith("run a")
    assert "macro F1 .70 (test rows, 95 % CI .60 to .80)" in text
    assert not re.search("Use|selected|other run|nested", text)
    several = said(dataclasses.replace(verdict, worse=["b"]))
    assert EXPECTED in several
    assert "test rows" in said(dataclasses.replace(verdict, worse=["b"], folds=1)), "a hold-out selects elsewhere"
    without = said(dataclasses.replace(verdict, f1=math.nan, f1_low=math.nan, f1_high=math.nan))
    assert "macro F1 undefined (test rows)" in without


@pytest.mark.parametrize(
    ("attributes", "with_gain", "words"),
    [
        ("x", "x", "The attribute x beats"),
        ("xy", "xy", "Both attributes beat"),
        ("xyz", "xyz", "All 3 attributes beat"),
        ("xyz", "xz", "2 of 3 attributes (all but y) beat"),
    ],
)
def test_the_attributes_with_a_gain_are_named(attributes: str, with_gain: str, words: str) -> None:
    gained = {"gain": dict.fromkeys(with_gain, 0.3), "gain_low": dict.fromkeys(with_gain, 0.0304)}
    verdict = dataclasses.replace(GAIN, attributes=list(attributes), with_gain=list(with_gain), **gained)
    assert f"{words} the all-positive baseline" in said(verdict)
    assert gains(verdict).endswith(", ".join(f"{name} +.300 (+.030)" for name in with_gain))
    assert gains(NO_GAIN) == ""


def test_runs_of_one_name_are_told_apart() -> None:
    verdict = dataclasses.replace(GAIN, indistinguishable=["b"], simplest="b")
    text = sentence(verdict, {"a": ("hill",), "b": ("hill",)}, DELTAS)
    assert "Use hill [b]:" in text
    assert "validation, hill [a]," in text


def test_a_claim_names_the_share_of_missing_labels() -> None:
    verdict = dataclasses.replace(GAIN, missing={"x": 0.2, "y": 0.3, "z": 0.0})
    assert "judged by the observed labels (20 % are missing)" in said(verdict)
    assert "(0 to 20 % are missing)" in said(dataclasses.replace(verdict, with_gain=["x", "z"]))
    assert "missing" not in said(dataclasses.replace(verdict, with_gain=["z"]))
    no_gain = dataclasses.replace(NO_GAIN, missing=verdict.missing)
    assert "(20 to 30 % are missing)" in said(no_gain)
    untrained = said(dataclasses.replace(no_gain, ranked=[]))
    assert "associated with the features, judged by the observed labels (20 to 30 % are missing), but the" in untrained


LARGEST = "at this prevalence and AUC the largest possible gain in F1 is .012."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "2 of 3 attributes (all but z) are ranked better than by chance (mean AUC .75, largest adjusted p .013); "
            + LARGEST,
        ),
        (
            {"ranked": ["y"], "auc_low": 0.31, "auc_high": 0.97},
            f"1 of 3 attributes (y) is ranked better than by chance (AUC .75, adjusted p .013); {LARGEST} "
            "1 of 3 attributes (x) is associated with the features, but",
        ),
        ({"ranked": []}, "2 of 3 attributes (all but z) are associated with the features, but"),
    ],
)
def test_signal_without_a_gain(changes: dict[str, Any], words: str) -> None:
    text = said(dataclasses.replace(NO_GAIN, **changes))
    assert text.startswith("run a is not shown to beat the all-positive baseline: macro F1 .70 (")
    assert f"all positive .60. {words}" in text
    assert text.endswith(".012." if not changes else "look at the loss curve.")
    several = said(dataclasses.replace(NO_GAIN, worse=["b"], **changes))
    assert several.startswith("No run is shown to beat the all-positive baseline")


@pytest.mark.parametrize(
    ("detectable_auc", "words"),
    [
        ({"x": 0.912, "y": 0.87}, "an AUC of .87 to .91 would have been found with 80 % probability."),
        (
            {"x": 0.912, "rare": 1.8, "one": math.nan},
            "an AUC of .91 would have been found with 80 % probability; rare, one: too few labels of one class",
        ),
        ({"x": 1.0, "one": math.nan}, "too few to find even a perfect ranking with 80 % probability."),
    ],
)
def test_no_signal_says_what_would_have_been_found(detectable_auc: dict[str, float], words: str) -> None:
    text = said(dataclasses.replace(NO_SIGNAL, detectable_auc=detectable_auc))
    assert text.startswith("run a is not shown to beat guessing (smallest adjusted p .052): macro F1 .70")
    assert words in text
    assert "Check the labels" in text


def test_nothing_that_could_be_tested_is_said_without_a_number() -> None:
    text = said(dataclasses.replace(NO_SIGNAL, smallest_p=math.nan, detectable_auc={"x": math.nan}))
    assert "nothing could be tested: macro F1" in text
    assert "No attribute has both a positive and a negative label" in text
    assert "adjusted p" not in text
