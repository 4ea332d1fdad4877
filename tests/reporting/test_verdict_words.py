"""The verdict in words: every outcome, at few labels and with one run too."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from aimonk_bench.evaluation.verdict import Verdict
from aimonk_bench.reporting.verdict import sentence

NAMES = {name: (f"run {name}",) for name in "abcdefghijklm"}
GAIN = Verdict(
    outcome="gain",
    attributes=["x", "y", "z"],
    with_signal=["x", "y"],
    ranked=["x", "y"],
    with_gain=["x"],
    smallest_p=0.001,
    detectable_auc={"x": 0.8, "y": 0.81, "z": 0.9},
    auc_low=0.6,
    auc_high=0.8,
    largest_gain=0.0123,
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
)
NO_GAIN = dataclasses.replace(GAIN, outcome="no_gain", with_gain=[])
NO_SIGNAL = dataclasses.replace(NO_GAIN, outcome="no_signal", with_signal=[], ranked=[], smallest_p=0.0523)
GUESSING = "No configuration is distinguishable from guessing (smallest adjusted p = 0.052). "
CHECK = " Check labels, disagreeing duplicates, the join of labels and images."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "run a beats the all-positive baseline on 1 of 3 attributes (x)."),
        (
            {"attributes": ["x"], "with_gain": ["x"]},
            "run a beats the all-positive baseline on 1 of 1 attribute.",
        ),
        (
            {"indistinguishable": ["b", "c"], "simplest": "c", "worse": ["d"], "with_gain": ["x", "y", "z"]},
            "run a beats the all-positive baseline on 3 of 3 attributes; runs not distinguishable from the winner: "
            "run b, run c; simplest of these: run c.",
        ),
        (
            {"indistinguishable": ["b"]},
            "run a beats the all-positive baseline on 1 of 3 attributes (x); runs not distinguishable from the winner: "
            "run b; simplest of these: the winner.",
        ),
        ({"worse": ["b"]}, "run a beats the all-positive baseline on 1 of 3 attributes (x); 1 other run is worse."),
        (
            {"worse": ["b", "c"], "untested": ["d"]},
            "run a beats the all-positive baseline on 1 of 3 attributes (x); 2 other runs are worse; 1 run could not "
            "be compared with the winner.",
        ),
        (
            {"folds_of_run": 2},
            "run a (selected in 2 of 5 folds; in the others the run selected there) beats the all-positive baseline "
            "on 1 of 3 attributes (x).",
        ),
        (
            {"indistinguishable": list("bcdefghijklm"), "simplest": "m"},
            "run a beats the all-positive baseline on 1 of 3 attributes (x); runs not distinguishable from the winner: "
            "run b, run c, run d, run e, run f, run g, ... and 6 more; simplest of these: run m.",
        ),
    ],
)
def test_a_gain(changes: dict[str, Any], words: str) -> None:
    assert sentence(dataclasses.replace(GAIN, **changes), NAMES) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "Scores rank better than chance on 2 of 3 attributes (AUC [0.60, 0.80]), but no F1 above the all-positive "
            "baseline is shown; at this prevalence and AUC the largest possible gain is 0.012.",
        ),
        (
            {"ranked": []},
            "The features are associated with 2 of 3 attributes (test before training), but the trained scores are "
            "not shown to rank better than chance: train longer or at a higher learning rate, and look at the loss "
            "curve.",
        ),
    ],
)
def test_signal_without_a_gain(changes: dict[str, Any], words: str) -> None:
    assert sentence(dataclasses.replace(NO_GAIN, **changes), NAMES) == words


@pytest.mark.parametrize(
    ("detectable_auc", "words"),
    [
        (
            {"x": 0.912, "y": 0.87},
            "With these counts an out-of-fold AUC of 0.91, 0.87 would have been found with 80 % probability.",
        ),
        (
            {"x": 0.912, "rare": 1.8, "one": math.nan},
            "With these counts an out-of-fold AUC of 0.91 (x) would have been found with 80 % probability; for that, "
            "these have too few labels of one class: rare, one.",
        ),
        (
            {"x": 1.0, "one": math.nan},
            "The labels are too few to find even a perfect ranking with 80 % probability.",
        ),
    ],
)
def test_no_signal_says_what_would_have_been_found(detectable_auc: dict[str, float], words: str) -> None:
    verdict = dataclasses.replace(NO_SIGNAL, detectable_auc=detectable_auc)
    assert sentence(verdict, NAMES) == GUESSING + words + CHECK


def test_nothing_that_could_be_tested_is_said_without_a_number() -> None:
    verdict = dataclasses.replace(NO_SIGNAL, smallest_p=math.nan, detectable_auc={"x": math.nan})
    assert sentence(verdict, NAMES) == (
        "No configuration is distinguishable from guessing: nothing could be tested, because no attribute has both a "
        "positive and a negative label to test on. Label the class that is missing."
    )
