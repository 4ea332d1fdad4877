"""What training leaves: logits, history, notes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aimonk_bench.training.recipe import Recipe, TrainingData
from aimonk_bench.training.samplers import empty_strata
from aimonk_bench.training.tuning import Tuning


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves.

    Attributes:
        logits: for each fold ``{"val": [S, R, A], "test": [S, R, A]}``: rows in the order of the fold, unaugmented
            images, the chosen weights; in the dtype of the training.
        history: the columns of history.csv, sorted by seed (as configured), fold and iteration.
        effective_positive_rate: [S, F, A] share of positives among the observed labels drawn; NaN where none was.
        chosen_epoch: [S, F], from 1.
        tuning: the grid and what was chosen of it, to which all of the above belongs; None where nothing is tuned.
        notes: what the user should know, as sentences.
    """

    logits: list[dict[str, np.ndarray]]
    history: dict[str, np.ndarray]
    effective_positive_rate: np.ndarray
    chosen_epoch: np.ndarray
    tuning: Tuning | None
    notes: list[str]


@dataclass(frozen=True)
class Teacher:
    """The first of two stages: the epoch kept, and the mean training loss of the last one."""

    epoch: int
    loss: float


@dataclass(frozen=True, eq=False)
class JobOutcome:
    """What one seed in one fold comes to.

    Attributes:
        logits: ``{"val": [R, A], "test": [R, A]}``.
        losses: [E x T] of its steps, over the E epochs before it stopped.
        scores: the val_* columns, each [E].
        chosen_epoch: from 1.
        scored: whether a score ever chose an epoch.
        counts: [2, A] positives and observed labels drawn.
        teacher: of the first stage, None without one.
    """

    seed: int
    fold: int
    logits: dict[str, np.ndarray]
    losses: np.ndarray
    scores: dict[str, np.ndarray]
    chosen_epoch: int
    scored: bool
    counts: np.ndarray
    teacher: Teacher | None


def assemble(
    jobs: Sequence[JobOutcome],
    data: TrainingData,
    recipe: Recipe,
    steps: int,
    tuning: Tuning | None = None,
    notes: Sequence[str] = (),
) -> Trained:
    """The outcome of a run from those of its jobs, which come fold by fold and seed by seed.

    Args:
        steps: T, of an epoch.
        notes: further ones.
    """
    shape = len(data.folds), len(recipe.train.seeds)
    counts = np.stack([job.counts for job in jobs]).reshape(*shape, 2, -1)
    positives, observed = counts[:, :, 0].swapaxes(0, 1), counts[:, :, 1].swapaxes(0, 1)
    rate = np.divide(positives, observed, out=np.full(observed.shape, np.nan), where=observed > 0)
    by_fold = [jobs[start : start + shape[1]] for start in range(0, len(jobs), shape[1])]
    return Trained(
        logits=[{part: np.stack([job.logits[part] for job in fold]) for part in ("val", "test")} for fold in by_fold],
        history=_history(list(itertools.chain(*zip(*by_fold, strict=True))), steps),
        effective_positive_rate=rate,
        chosen_epoch=np.array([job.chosen_epoch for job in jobs]).reshape(shape).T,
        tuning=tuning,
        notes=[
            *_sampler_notes(data, recipe.sampler.name),
            *_selection_notes(jobs, recipe.train.select),
            *_teacher_notes(jobs, recipe.missing.name),
            *notes,
        ],
    )


def _history(jobs: Sequence[JobOutcome], steps: int) -> dict[str, np.ndarray]:
    """The columns of history.csv, job by job; val_* stand on the last row of an epoch, elsewhere NaN."""
    rows = [len(job.losses) for job in jobs]
    step = np.concatenate([np.arange(count) for count in rows])
    columns = {
        "seed": np.repeat([job.seed for job in jobs], rows),
        "fold": np.repeat([job.fold for job in jobs], rows),
        "iteration_number": step + 1,
        "epoch": step // steps + 1,
        "training_loss": np.concatenate([job.losses for job in jobs]).astype(np.float64),
    }
    for column in jobs[0].scores:
        values = np.full(len(step), np.nan)
        values[step % steps == steps - 1] = np.concatenate([job.scores[column] for job in jobs])
        columns[column] = values
    return columns


def _sampler_notes(data: TrainingData, sampler: str) -> list[str]:
    """Strata that the sampler leaves out of the training rows of each fold."""
    labels = data.train_labels
    return [
        f"fold {number}: sampler {sampler} leaves out {labels.attributes[attribute]} = {value}, "
        "which no training row is known to have"
        for number, fold in enumerate(data.folds)
        for attribute, value in empty_strata(sampler, labels[fold.train])
    ]


def _selection_notes(jobs: Sequence[JobOutcome], select: str) -> list[str]:
    """Jobs whose epoch no score chose."""
    return [
        f"seed {job.seed}, fold {job.fold}: validation {select} was never defined, so every epoch was trained and the "
        "last one kept"
        for job in jobs
        if select != "last" and not job.scored
    ]


def _teacher_notes(jobs: Sequence[JobOutcome], missing: str) -> list[str]:
    """What the first of two stages came to: the epochs kept, and the mean training losses of the last ones."""
    teachers = [job.teacher for job in jobs if job.teacher is not None]
    if not teachers:
        return []
    epochs, losses = [teacher.epoch for teacher in teachers], [teacher.loss for teacher in teachers]
    return [
        f"{missing}: the history is that of stage two; the teachers of stage one, trained on observed labels alone, "
        f"kept epoch {min(epochs)} to {max(epochs)}, their last epochs' mean training losses are {min(losses):.3g} to "
        f"{max(losses):.3g}"
    ]
