"""The training loop of stacked heads and of fine-tuned networks.

An epoch draws the batches, trains on them, predicts the validation rows, stops the heads that diverged, scores the
others, and updates the epoch that each head has chosen. `Learner` is what differs between linear heads on stored
features and a fine-tuned network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from aimonk_bench.errors import RunFailed
from aimonk_bench.evaluation.metrics import f1, macro, ranking
from aimonk_bench.progress import Progress
from aimonk_bench.registry import Spec
from aimonk_bench.training.batches import EpochBatches
from aimonk_bench.training.missing import wants_teacher
from aimonk_bench.training.objective import Objective
from aimonk_bench.training.outcome import JobOutcome, TeacherSummary
from aimonk_bench.training.stack import Stack
from aimonk_bench.training.state import Checkpoint, FitState

METRICS = ("f1_default", "average_precision", "roc_auc")  # of the validation rows, in the order of history.csv
CHUNK_ELEMENTS = 1 << 18  # validation logits scored at once; a head is never cut


class Learner(Protocol):
    """The H heads that `fit` trains, with the trainable layers below them."""

    def train_epoch(self, epoch: int, batches: EpochBatches) -> Tensor:
        """Take the T steps of an epoch. Returns the loss of each head on each batch, before the step: [T, H]."""

    def predict(self, heads: slice | np.ndarray, rows: np.ndarray) -> Tensor:
        """Logits [heads, R, A] of some heads for the unaugmented images ``rows`` [R].

        They are those after the last epoch, or, after `restore`, of the saved copies.
        """

    def keep(self, heads: np.ndarray) -> None:
        """Save a copy of the weights with which these heads predict now, [H] bool."""

    def restore(self) -> None:
        """Set the weights of every head to its last saved copy."""


L = TypeVar("L", bound=Learner)


@dataclass(frozen=True, eq=False)
class TrainingStage:
    """Training has one stage, or two if the missing-label policy learns from a teacher.

    Attributes:
        name: empty, or `teacher` for the first of two stages.
        missing: the missing-label policy of the stage.
        teacher_probabilities: [H, N, A] predicted by the heads of the first stage for their training rows, 0 for other
            images; None in a first or only stage.
    """

    name: str
    missing: Spec
    teacher_probabilities: Tensor | None = None


class EpochCounter:
    """Counts and reports the epochs of all jobs that train side by side.

    Args:
        total: epochs of all jobs.
        progress: called with ("train", epochs done, total).
    """

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done, self._lock = total, progress, 0, threading.Lock()

    def __call__(self, epochs: int) -> None:
        """Add ``epochs`` and report the sum; 0 reports that training has begun."""
        with self._lock:
            self._done += epochs
            if self._progress is not None:
                self._progress("train", self._done, self._total)


def fit(
    stack: Stack, learner: Learner, state: FitState, checkpoint: Checkpoint | None, count_epochs: EpochCounter
) -> None:
    """Train until the last epoch or until every head has stopped, then restore the epoch that each head chose.

    Raises:
        RunFailed: the loss of a job is not finite; of a job with tuned settings, at every setting.
    """
    config, validation = stack.recipe.train, Validation(stack)
    if checkpoint is not None:
        checkpoint.load(state)
    if state.epoch:
        count_epochs(state.epoch)
    while state.epoch < config.epochs and state.selection.active.any():
        state.epoch += 1
        batches, active = stack.draw(state.rngs), state.selection.active.copy()
        losses = learner.train_epoch(state.epoch, batches)
        logits = [learner.predict(heads, stack.data.folds[fold].val) for fold, heads in stack.by_fold()]
        _stop_diverged(stack, state, losses, logits)
        scores = validation.score(logits, state.epoch)
        criterion = -scores["val_loss"] if config.select in ("last", "loss") else scores[f"val_{config.select}"]
        learner.keep(state.selection.choose(state.epoch, criterion))
        state.counts += stack.count(batches) * active[:, None, None]
        state.lengths += active
        state.losses.append(losses.double().cpu().numpy())
        state.scores.append(scores)
        if checkpoint is not None:
            checkpoint.save(state, done=False)
        count_epochs(1)
    if state.epoch < config.epochs:
        count_epochs(config.epochs - state.epoch)
    learner.restore()
    if checkpoint is not None:
        checkpoint.save(state, done=True)


@dataclass(frozen=True, eq=False)
class Fitted(Generic[L]):
    """Heads with the weights of their chosen epochs; ``teacher_state`` is that of the first of two stages."""

    stack: Stack
    learner: L
    state: FitState
    teacher_state: FitState | None

    def outcomes(self, chosen: np.ndarray) -> list[JobOutcome]:
        """The outcome of each job, for the head that it chose among its tuned settings: ``chosen`` [J]."""
        outcomes = []
        for fold in self.stack.folds:
            parts = self.stack.data.folds[fold]
            jobs = [job for job, (_, job_fold) in enumerate(self.stack.jobs) if job_fold == fold]
            val, test = (self.learner.predict(chosen[jobs], rows).cpu().numpy() for rows in (parts.val, parts.test))
            for job, val_logits, test_logits in zip(jobs, val, test, strict=True):
                logits = {"val": val_logits, "test": test_logits}
                outcomes.append(self._outcome(int(chosen[job]), self.stack.jobs[job][0], fold, logits))
        return outcomes

    def _outcome(self, head: int, seed: int, fold: int, logits: dict[str, np.ndarray]) -> JobOutcome:
        state = self.state
        losses, scores = state.losses[: state.lengths[head]], state.scores[: state.lengths[head]]
        return JobOutcome(
            seed=seed,
            fold=fold,
            logits=logits,
            losses=np.concatenate([epoch[:, head] for epoch in losses]),
            scores={column: np.array([epoch[column][head] for epoch in scores]) for column in scores[0]},
            chosen_epoch=int(state.selection.epoch[head]),
            scored=bool(state.selection.scored[head]),
            counts=state.counts[head],
            teacher=None if self.teacher_state is None else _teacher_summary(self.teacher_state, head),
        )


def _teacher_summary(state: FitState, head: int) -> TeacherSummary:
    last = state.losses[state.lengths[head] - 1]
    return TeacherSummary(int(state.selection.epoch[head]), float(last[:, head].mean()))


def fit_stages(
    stack: Stack, start: Callable[[TrainingStage], tuple[L, Checkpoint | None]], count_epochs: EpochCounter
) -> Fitted[L]:
    """Fit the stack in one stage, or in two if the missing-label policy learns from a teacher.

    Args:
        stack: the heads.
        start: returns the learner of a stage, and its checkpoint or None.
        count_epochs: called after every epoch.
    """

    def run(stage: TrainingStage, finite: np.ndarray | None = None) -> tuple[L, FitState]:
        learner, checkpoint = start(stage)
        state = FitState.initial(stack, finite)
        fit(stack, learner, state, checkpoint, count_epochs)
        return learner, state

    missing = stack.recipe.missing
    if not wants_teacher(missing):
        return Fitted(stack, *run(TrainingStage("", missing)), teacher_state=None)
    teacher, teacher_state = run(TrainingStage("teacher", Spec("ignore")))
    stage = TrainingStage("", missing, _train_probabilities(stack, teacher))
    del teacher  # frees its memory before the next stage starts
    return Fitted(stack, *run(stage, teacher_state.finite), teacher_state=teacher_state)


def _train_probabilities(stack: Stack, learner: Learner) -> Tensor:
    """The probabilities that each head predicts for its training rows: [H, N, A], 0 for all other images."""
    probabilities = torch.zeros(
        stack.heads, len(stack.data.train_labels), stack.attributes, dtype=stack.dtype, device=stack.device
    )
    for fold, heads in stack.by_fold():
        rows = stack.data.folds[fold].train
        probabilities[heads, torch.from_numpy(rows)] = learner.predict(heads, rows).sigmoid()
    return probabilities


def _stop_diverged(stack: Stack, state: FitState, losses: Tensor, logits: list[Tensor]) -> None:
    """Stop the heads whose training losses [T, H] or validation logits, per fold [H/F, R, A], are not finite.

    Raises:
        RunFailed: all heads of a job have stopped; the message names its first value that is not finite.
    """
    predicted = torch.cat([values.isfinite().flatten(1).all(1) for values in logits])
    finite = torch.cat([losses.isfinite(), predicted[None]]).cpu().numpy()
    diverged = ~finite & state.selection.active
    state.finite &= ~diverged.any(0)
    state.selection.active &= state.finite
    failed = np.logical_not(state.finite.reshape(-1, stack.points).any(1))  # [J]
    if failed.any():
        step, head = np.argwhere(diverged & np.repeat(failed, stack.points))[0]
        seed, fold = stack.jobs[head // stack.points]
        iteration = (state.epoch - 1) * stack.steps + step + 1
        place = f"iteration {iteration}" if step < stack.steps else "validation"
        others = f"; {failed.sum()} of {len(failed)} heads" if len(failed) > 1 else ""
        raise RunFailed(
            f"loss is not finite at epoch {state.epoch} (seed {seed}, fold {fold}, {place}{others}); fix: a smaller "
            "train.lr or train.weight_decay, or train.clip"
        )


class Validation:
    """Scores the heads of a stack on the validation rows of their folds, a few heads at a time to save memory."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._parts: list[tuple[int, slice, Objective]] = []  # place of the fold, some of its heads, their objective
        self._labels = [stack.data.val_labels[stack.data.folds[fold].val] for fold in stack.folds]
        for place, (fold, heads) in enumerate(stack.by_fold()):
            size = max(1, CHUNK_ELEMENTS // (len(stack.data.folds[fold].val) * stack.attributes))
            for start in range(heads.start, heads.stop, size):
                stop = min(start + size, heads.stop)
                objective = stack.objective(Spec("ignore"), slice(start, stop))
                self._parts.append((place, slice(start - heads.start, stop - heads.start), objective))

    def score(self, logits: list[Tensor], epoch: int) -> dict[str, np.ndarray]:
        """The val_* columns [H] for the logits of each fold, [H/F, R, A]: loss, and macro metrics where defined."""
        parts = [self._scores(logits[place][heads], place, objective, epoch) for place, heads, objective in self._parts]
        return {column: np.concatenate([scores[column] for scores in parts]) for column in parts[0]}

    def _scores(self, logits: Tensor, place: int, objective: Objective, epoch: int) -> dict[str, np.ndarray]:
        labels = self._labels[place]
        loss = objective(logits, self._stack.tensors(labels), epoch).cpu().numpy()
        probabilities = logits.cpu().double().sigmoid().numpy()
        metrics = ranking(probabilities, labels)
        metrics["f1_default"] = f1(probabilities, labels, 0.5)
        macros = {f"val_{name}": macro(metrics[name], ~np.isnan(metrics[name])) for name in METRICS}
        return {"val_loss": loss if labels.observed.any() else np.full(len(loss), np.nan), **macros}
