"""The notes of tuned thresholds in words."""

from __future__ import annotations

from collections.abc import Sequence

from aimonk_bench.evaluation.thresholds import Thresholds


def threshold_notes(thresholds: Thresholds) -> list[str]:
    """One line for all folds that share a note: ``attr4: no observed validation positive (folds 0, 3)``.

    The seeds stand beside the folds where a note does not hold for all seeds.
    """
    folds: dict[tuple[str, str, tuple[int, ...]], list[int]] = {}
    for note in thresholds.notes:
        folds.setdefault((note.attribute, note.reason, tuple(note.seeds)), []).append(note.fold)
    lines = []
    for (attribute, reason, seeds), where in folds.items():
        some_seeds = f"; {_listed('seed', seeds)}" if len(seeds) < len(thresholds.seed) else ""
        lines.append(f"{attribute}: {reason} ({_listed('fold', where)}{some_seeds})")
    return lines


def _listed(noun: str, numbers: Sequence[int]) -> str:
    return f"{noun}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
