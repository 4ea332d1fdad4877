"""Notes of thresholds in words."""

from __future__ import annotations

import dataclasses

import oracles

from aimonk_bench.evaluation.thresholds import ThresholdNote
from aimonk_bench.reporting.words import threshold_notes


def test_folds_that_share_a_note_are_named_in_one_line() -> None:
    tuned = oracles.thresholds_of(oracles.predictions(seeds=2, folds=4))
    first, second = tuned.seed
    notes = [
        ThresholdNote(0, "rare", "no positive", [first, second]),
        ThresholdNote(1, "rare", "no positive", [second]),
        ThresholdNote(2, "hat", "no positive", [first, second]),
        ThresholdNote(3, "rare", "no positive", [first, second]),
    ]
    assert threshold_notes(dataclasses.replace(tuned, notes=notes)) == [
        "rare: no positive (folds 0, 3)",
        f"rare: no positive (fold 1; seed {second})",
        "hat: no positive (fold 2)",
    ]
