"""Notes of thresholds in words."""

from __future__ import annotations

import dataclasses

import oracles

from aimonk_bench.evaluation.thresholds import ThresholdNote
from aimonk_bench.reporting.words import threshold_notes


def noted(notes: list[tuple[int, str, str, bool]], folds: int = 4) -> list[str]:
    """The lines for notes (fold, attribute, reason, whether for both seeds) of a run with two seeds."""
    tuned = oracles.thresholds_of(oracles.predictions(seeds=2, folds=folds))
    made = [ThresholdNote(fold, name, reason, tuned.seed[0 if both else 1 :]) for fold, name, reason, both in notes]
    return threshold_notes(dataclasses.replace(tuned, notes=made))


def test_attributes_and_folds_that_share_a_note_are_named_in_one_line() -> None:
    second = oracles.predictions(seeds=2, folds=4).seed[1]
    assert noted(
        [
            (0, "rare", "no positive", True),
            (0, "bald", "no positive", True),
            (1, "rare", "no positive", False),
            (2, "hat", "no positive", True),
            (3, "rare", "no positive", True),
            (3, "bald", "no positive", True),
        ]
    ) == [
        "rare, bald: no positive (folds 0, 3)",
        f"rare: no positive (fold 1; seed {second})",
        "hat: no positive (fold 2)",
    ]


def test_a_note_of_every_fold_counts_no_folds_and_a_hold_out_names_none() -> None:
    assert noted([(fold, "rare", "no positive", True) for fold in range(4)]) == ["rare: no positive (every fold)"]
    assert noted([(0, "rare", "no positive", True)], folds=1) == ["rare: no positive"]
    many = [(0, f"attr{number}", "no positive", True) for number in range(40)]
    assert len(noted(many)) == 1
