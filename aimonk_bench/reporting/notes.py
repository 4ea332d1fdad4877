"""Notes of a run in words, as the log states them."""

from __future__ import annotations

from aimonk_bench.evaluation.thresholds import Thresholds


def threshold_notes(thresholds: Thresholds) -> list[str]:
    """Where the threshold policy could not follow its own rule; notes that differ in nothing but the fold are one.

    ``attr4: no observed validation positive: pooled threshold used (folds 0, 3)``; seeds are named where not all are
    concerned.
    """
    folds: dict[str, list[str]] = {}
    for note in thresholds.notes:
        seeds = ", ".join(map(str, note.seeds))
        some = "" if len(note.seeds) == len(thresholds.seed) else f" (seed {seeds})"
        folds.setdefault(f"{note.attribute}: {note.reason}{some}", []).append(str(note.fold))
    return [f"{note} (fold{'s' if len(where) > 1 else ''} {', '.join(where)})" for note, where in folds.items()]
