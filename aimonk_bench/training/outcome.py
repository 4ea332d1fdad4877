"""The result of training: logits, history, weights, notes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aimonk_bench.records.weights import HeadWeights
from aimonk_bench.training.recipe import Recipe
from aimonk_bench.training.tuning import Tuning


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of training a run.

    Attributes:
        logits: for each fold ``{"val": [S, R, A], "test": [S, R, A]}``, of the unaugmented images in the order of the
            fold's rows, by the weights of the chosen epoch; in the dtype of training.
        history: the columns of history.csv, sorted by seed (as configured), fold and iteration.
        effective_positive_rate: [S, F, A] share of positives among the observed labels drawn; NaN where none was.
        chosen_epoch: [S, F], from 1.
        tuning: the grid and the settings chosen from it, to which all of the above belongs; None if nothing is tuned.
        notes: sentences for the user.
        heads: the weights that gave the logits, of a run on a frozen backbone; None of a fine-tuned run.
        networks: the files of the networks that gave the logits, of a fine-tuned run that keeps them, fold by fold and
            seed by seed; they lie in the scratch folder.
    """

    logits: list[dict[str, np.ndarray]]
    history: dict[str, np.ndarray]
    effective_positive_rate: np.ndarray
    chosen_epoch: np.ndarray
    tuning: Tuning | None
    notes: list[str]
    heads: HeadWeights | None = None
    networks: tuple[Path, ...] = ()


@dataclass(frozen=True)
class TeacherSummary:
    """A head of the first of two stages: the epoch it chose, and the mean training loss of its last epoch."""

    epoch: int
    loss: float


@dataclass(frozen=True, eq=False)
class JobOutcome:
    """The result of training one seed in one fold.

    Attributes:
        logits: ``{"val": [R, A], "test": [R, A]}``.
        losses: [E x T] training losses of the steps of the E epochs before it stopped.
        scores: the val_* columns, each [E].
        chosen_epoch: from 1.
        scored: whether the score of any epoch was defined.
        counts: [2, A] positives and observed labels drawn.
        teacher: of the first of two stages; None with one stage.
    """

    seed: int
    fold: int
    logits: dict[str, np.ndarray]
    losses: np.ndarray
    scores: dict[str, np.ndarray]
    chosen_epoch: int
    scored: bool
    counts: np.ndarray
    teacher: TeacherSummary | None


def assemble(
    jobs: Sequence[JobOutcome],
    recipe: Recipe,
    steps: int,
    tuning: Tuning | None = None,
    notes: Sequence[str] = (),
) -> Trained:
    """The result of a run from the outcomes of its jobs, which come fold by fold and seed by seed.

    Args:
        steps: T, of an epoch.
        notes: of the trainer, which come last.
    """
    shape = len(jobs) // len(recipe.train.seeds), len(recipe.train.seeds)
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


def _selection_notes(jobs: Sequence[JobOutcome], select: str) -> list[str]:
    """The folds of jobs without a defined validation score."""
    folds = sorted({job.fold for job in jobs if select != "last" and not job.scored})
    if not folds:
        return []
    where = f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"
    return [f"{where}: validation {select} was never defined: every epoch was trained and the last one chosen"]


def _teacher_notes(jobs: Sequence[JobOutcome], missing: str) -> list[str]:
    """The first of two stages: the range of the chosen epochs, and of the mean training losses of the last epochs."""
    teachers = [job.teacher for job in jobs if job.teacher is not None]
    if not teachers:
        return []
    epochs, losses = [teacher.epoch for teacher in teachers], [teacher.loss for teacher in teachers]
    return [
        f"{missing}: the history is that of the second stage; the teachers of the first stage, trained on observed "
        f"labels alone, chose epochs {min(epochs)} to {max(epochs)}, with mean training losses in their last epochs of "
        f"{min(losses):.3g} to {max(losses):.3g}"
    ]
