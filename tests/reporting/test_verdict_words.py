"""The verdict in words: every outcome, at few labels and with one run too."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from aimonk_bench.evaluation.verdict import Doubts, Verdict
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
)
NO_GAIN = dataclasses.replace(GAIN, outcome="no_gain", with_gain=[], gain={}, gain_low={})
NO_SIGNAL = dataclasses.replace(NO_GAIN, outcome="no_signal", with_signal=[], ranked=[], smallest_p=0.0523)
GUESSING = "No configuration is distinguishable from guessing (smallest adjusted p = 0.052). "
CHECK = " Check labels, disagreeing duplicates, the join of labels and images."


BEATS = "beats the all-positive baseline on 1 of 3 attributes (x)."
SIZE = "Gain in F1 (lower 95 % bound): x +.008 (+.002)."
REPORT = "Macro F1 to report: .70 [.60, .80] (row selected per fold)"
BIASED = "; that of the row * is a little too high, because validation rows of a fold are test rows of others"
BY_FOLD = f"Selecting the run on the validation rows of each fold (row selected per fold) {BEATS} "


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, f"run a {BEATS} {SIZE}"),
        ({"attributes": ["x"]}, f"run a beats the all-positive baseline on 1 of 1 attribute. {SIZE}"),
        (
            {"with_gain": ["x", "z"], "gain": {"x": 0.3, "z": 0.05}, "gain_low": {"x": 0.0304, "z": 0.0004}},
            "run a beats the all-positive baseline on 2 of 3 attributes (all but y). "
            "Gain in F1 (lower 95 % bound): x +.300 (+.030), z +.050 (.000).",
        ),
        (
            {
                "attributes": list("abcdefghijkl"),
                "with_gain": list("abcdefghijk"),
                "gain": dict.fromkeys("abcdefghijk", 0.1),
                "gain_low": dict.fromkeys("abcdefghijk", 0.05),
                "missing": dict.fromkeys("abcdefghijkl", 0.0),
            },
            "run a beats the all-positive baseline on 11 of 12 attributes (all but l). Gain in F1 (lower 95 % bound): "
            f"{', '.join(f'{name} +.100 (+.050)' for name in 'abcdef')}, ... and 5 more.",
        ),
        (
            {"folds_of_run": 2},
            f"{BY_FOLD}On those of all folds run a (*) is the best run; 2 of 5 folds select it. {SIZE}",
        ),
        (
            {"folds_of_run": 0, "worse": ["b"]},
            f"{BY_FOLD}On those of all folds run a (*) is the best run; 0 of 5 folds select it. {SIZE} "
            f"{REPORT}{BIASED}. 1 other run is worse.",
        ),
        (
            {"folds_of_run": 1, "folds": 2},
            f"{BY_FOLD}On those of all folds run a (*) is the best run; 1 of 2 folds selects it. {SIZE}",
        ),
    ],
)
def test_a_gain_is_that_of_what_was_tested(changes: dict[str, Any], words: str) -> None:
    assert sentence(dataclasses.replace(GAIN, **changes), NAMES) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"worse": ["b"]}, ["1 other run is worse."]),
        (
            {"worse": ["b", "c"], "untested": ["d"]},
            ["2 other runs are worse.", "1 run could not be compared with it."],
        ),
        (
            {"indistinguishable": ["b"]},
            ["The other run, run b, is not distinguishable from it; run a is the simpler of the two."],
        ),
        (
            {"indistinguishable": ["b"], "simplest": "b", "worse": ["c"]},
            [
                "1 of 2 other runs (run b) is not distinguishable from it; run b is the simpler of the two.",
                "1 other run is worse.",
            ],
        ),
        (
            {"indistinguishable": ["b", "c"], "simplest": "c", "worse": ["d"]},
            [
                "2 of 3 other runs (all but run d) are not distinguishable from it; run c is the simplest of them.",
                "1 other run is worse.",
            ],
        ),
        (
            {"indistinguishable": list("bcdefghijklm")},
            ["None of the 12 other runs is distinguishable from it; run a is the simplest of them."],
        ),
        (
            {"indistinguishable": list("bcdefghijkl"), "simplest": "l", "untested": ["m"]},
            [
                "11 of 12 other runs (all but run m) are not distinguishable from it; run l is the simplest of them.",
                "1 run could not be compared with it.",
            ],
        ),
    ],
)
def test_the_other_runs_are_compared_with_the_best_one(changes: dict[str, Any], words: list[str]) -> None:
    assert sentence(dataclasses.replace(GAIN, **changes), NAMES) == " ".join(
        [f"run a {BEATS}", SIZE, f"{REPORT}.", *words]
    )


def test_a_single_run_is_compared_with_nothing() -> None:
    words = sentence(GAIN, {"a": ("run a",)})
    assert "distinguishable" not in words
    assert "to report" not in words


DOUBTS = Doubts(14, {"x": 12, "y": 0, "z": 14}, {"x": ["labels", "features"], "z": ["missing"]})


@pytest.mark.parametrize(
    ("missing", "doubts", "words"),
    [
        ({"x": 0.2, "y": 0.3, "z": 0.0}, None, "This is about observed labels: x (20 % missing)."),
        (
            {"x": 0.2, "y": 0.0, "z": 0.5},
            DOUBTS,
            "This is about observed labels: x (20 % missing, depending on other labels and the content of the image). "
            "The split separates 14 pairs of near duplicates, and these have equal labels: x 12. Heads may know images "
            "instead of attributes: `split: {near_duplicates: keep_together}`.",
        ),
        (dict.fromkeys("xyz", 0.0), dataclasses.replace(DOUBTS, near_alike=dict.fromkeys("xyz", 0)), ""),
    ],
)
def test_what_of_the_data_speaks_against_a_claim(missing: dict[str, float], doubts: Doubts | None, words: str) -> None:
    verdict = dataclasses.replace(GAIN, missing=missing, doubts=doubts)
    assert sentence(verdict, NAMES) == " ".join(filter(None, [f"run a {BEATS}", SIZE, words]))
    without = dataclasses.replace(NO_GAIN, missing=missing, doubts=doubts, with_signal=["x"], ranked=["x"])
    assert sentence(without, NAMES).endswith(words or "0.012.")
    several = dataclasses.replace(without, indistinguishable=["b"])
    assert sentence(several, NAMES).endswith(f"{REPORT}.")
    assert sentence(dataclasses.replace(NO_SIGNAL, missing=missing, doubts=doubts), NAMES).endswith(CHECK)


LARGEST = (
    "but no F1 above the all-positive baseline is shown; at this prevalence and AUC the largest possible gain is 0.012."
)
TRAIN_LONGER = (
    "(test before training), but the trained scores are not shown to rank better than chance there: train longer or at "
    "a higher learning rate, and look at the loss curve."
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "Scores rank better than chance on 2 of 3 attributes (all but z; mean AUC 0.75, largest adjusted p .013), "
            + LARGEST,
        ),
        (
            {"ranked": ["y"], "auc_low": 0.31, "auc_high": 0.97},
            "Scores rank better than chance on 1 of 3 attributes (y; AUC 0.75, adjusted p .013), "
            f"{LARGEST} The features are associated with 1 of 3 attributes (x) {TRAIN_LONGER}",
        ),
        (
            {"ranked": []},
            f"The features are associated with 2 of 3 attributes (all but z) {TRAIN_LONGER}",
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
