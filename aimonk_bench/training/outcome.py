"""What training leaves: logits, history, notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aimonk_bench.data.labels import Labels
from aimonk_bench.evaluation.metrics import f1, macro, ranking
from aimonk_bench.training.samplers import left_out
from aimonk_bench.training.tuning import Tuning


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves.

    Attributes:
        logits: for each fold ``{"val": [S', Rv, A], "test": [S', Rt, A]}``: rows in the order of the fold, view 0,
            the chosen weights; in the dtype of the training.
        history: the columns of history.csv, sorted by seed (as configured), fold and iteration.
        effective_positive_rate: [S', F, A] share of positives among the observed labels drawn; NaN where none was.
        chosen_epoch: [S', F], from 1.
        tuning: the grid and what was chosen of it, to which all of the above belongs; None where nothing is tuned.
        notes: what the user should be told.
    """

    logits: list[dict[str, np.ndarray]]
    history: dict[str, np.ndarray]
    effective_positive_rate: np.ndarray
    chosen_epoch: np.ndarray
    tuning: Tuning | None
    notes: list[str]


def known(targets: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets int8 [N, A], 0 where not observed, and the mask."""
    mask = np.array(observed, bool)
    return np.where(mask, targets, 0).astype(np.int8), mask


class Tally:
    """Counts the labels of drawn pictures: eight columns of labels are a word of 64 bits, a sum of words eight counts.

    Args:
        targets: [N, A], 0 or 1, and 0 where not observed.
        observed: [N, A].
    """

    ROWS = (1 << 8) - 1  # added up at once, as an eighth of a word counts no further
    WORDS = 1 << 14  # looked up at once, or ROWS of each job, which stay within the caches

    def __init__(self, targets: np.ndarray, observed: np.ndarray) -> None:
        pictures, attributes = observed.shape
        columns = np.zeros((pictures, -(-attributes // 4) * 8), np.uint8)
        columns[:, :attributes], columns[:, attributes : 2 * attributes] = observed, targets == 1
        self._shape, self._words = (-1, 2, attributes), columns.view(np.uint64).T.copy()

    def __call__(self, orders: np.ndarray) -> np.ndarray:
        """Observed labels and positives among the pictures [J, ...], each as often as it stands there: [2, J, A]."""
        rows = orders.reshape(len(orders), -1)
        counts = np.zeros((len(rows), len(self._words), 8), np.int64)
        size = self.ROWS * max(1, self.WORDS // (self.ROWS * len(rows)))
        for start in range(0, rows.shape[1], size):
            part = rows[:, start : start + size]
            pieces = np.arange(0, part.shape[1], self.ROWS)
            for word, own in enumerate(self._words):
                sums = np.add.reduceat(own.take(part), pieces, axis=1)
                counts[:, word] += sums.view(np.uint8).reshape(len(rows), -1, 8).sum(1, dtype=np.int64)
        _, kinds, attributes = self._shape
        return counts.reshape(len(rows), -1)[:, : kinds * attributes].reshape(self._shape).swapaxes(0, 1)


def val_metrics(probability: np.ndarray, targets: np.ndarray, observed: np.ndarray) -> dict[str, np.ndarray]:
    """The metric columns of history.csv at the end of an epoch: macro over what defines them.

    Args:
        probability: [..., R, A] float64; targets and observed broadcast with it.

    Returns:
        ``{"val_f1_default": [...], ...}``.
    """
    labels = Labels(targets, observed)
    found = {"f1_default": f1(probability, labels, 0.5), **ranking(probability, labels)}
    return {f"val_{name}": macro(values, ~np.isnan(values)) for name, values in found.items()}


def watched(select: str, scores: dict[str, np.ndarray]) -> np.ndarray:
    """Of the columns of an epoch the score that chooses it, larger for better epochs."""
    return -scores["val_loss"] if select in ("last", "loss") else scores[f"val_{select}"]


def positive_rate(positive: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The share of positives among the observed labels drawn; NaN where none was."""
    rate: np.ndarray = np.divide(positive, observed, out=np.full(observed.shape, np.nan), where=observed > 0)
    return rate


def history(
    jobs: Sequence[tuple[int, int]],
    steps: int,
    losses: Sequence[np.ndarray],
    scores: Sequence[dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """The columns of history.csv; val_* stand on the last row of an epoch, elsewhere NaN.

    Args:
        jobs: [J] (seed, fold), in the order of the rows wanted.
        steps: T, of an epoch.
        losses: [J] the training losses of each job, [E T].
        scores: [J] its val_* columns, each [E].
    """
    rows = [len(own) for own in losses]
    seeds, folds = np.array(jobs).reshape(-1, 2).T
    step = np.concatenate([np.arange(count) for count in rows])
    columns = {
        "seed": np.repeat(seeds, rows),
        "fold": np.repeat(folds, rows),
        "iteration_number": step + 1,
        "epoch": step // steps + 1,
        "training_loss": np.concatenate(losses).astype(np.float64),
    }
    for column in scores[0]:
        values = np.full(len(step), np.nan)
        values[step % steps == steps - 1] = np.concatenate([own[column] for own in scores])
        columns[column] = values
    return columns


def sampler_notes(
    sampler: str, parts: Sequence[np.ndarray], targets: np.ndarray, observed: np.ndarray, attributes: Sequence[str]
) -> list[str]:
    """Strata that the sampler leaves out of the training rows of each fold, ``parts`` [F] of row numbers."""
    return [
        f"fold {number}: sampler {sampler} leaves out {attributes[attribute]} = {value}, "
        "which no training row is known to have"
        for number, rows in enumerate(parts)
        for attribute, value in left_out(sampler, targets[rows], observed[rows])
    ]


def counts(targets: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Observed positives and negatives of each attribute among rows [R, A]: both [A]."""
    return (observed & (targets == 1)).sum(0), (observed & (targets == 0)).sum(0)


def teacher_note(missing: str, epochs: Sequence[int], losses: Sequence[float]) -> str:
    """What the first of two stages came to: the epochs kept and the mean training losses of the last ones, each [J]."""
    return (
        f"{missing}: the history is that of stage two; the teachers of stage one, trained on observed labels alone, "
        f"kept epoch {min(epochs)} to {max(epochs)}, their last epochs' mean training losses are {min(losses):.3g} to "
        f"{max(losses):.3g}"
    )


def selection_notes(select: str, jobs: Sequence[tuple[int, int]], scored: Sequence[bool]) -> list[str]:
    """Jobs (seed, fold) whose epoch no score chose."""
    if select == "last":
        return []
    return [
        f"seed {seed}, fold {fold}: validation {select} was never defined, so every epoch was trained and the last one "
        "kept"
        for (seed, fold), own in zip(jobs, scored, strict=True)
        if not own
    ]
