"""Which epoch each head keeps, and when it stops."""

from __future__ import annotations

import numpy as np

TIE = 1e-9  # scores this close differ by the order of a sum, not by what was learned


class Selection:
    """The choice of an epoch for H heads.

    A score is larger for better epochs; equal scores (to TIE) keep the earlier epoch. ``patience`` epochs without a
    better score stop a head. A score of NaN chooses nothing and stops nothing: a head that never has another keeps its
    last epoch.

    Args:
        heads: H.
        last: keep the last epoch, whatever the scores are.
        patience: None never stops.

    Attributes:
        epoch: [H] the epoch kept, from 1.
        active: [H] bool, false once a head has stopped.
        best: [H] the best score, -inf before there is one.
        waited: [H] epochs since the best score.
    """

    def __init__(self, heads: int, *, last: bool, patience: int | None) -> None:
        self.epoch = np.zeros(heads, np.int64)
        self.active = np.ones(heads, bool)
        self.best = np.full(heads, -np.inf)
        self.waited = np.zeros(heads, np.int64)
        self._last, self._patience = last, patience

    @property
    def scored(self) -> np.ndarray:
        """[H] bool, whether a head ever had a score."""
        return self.best > -np.inf

    def choose(self, epoch: int, scores: np.ndarray) -> np.ndarray:
        """Take note of the scores [H] at the end of an epoch: [H] bool, which heads keep it."""
        better = self.active & (scores > self.best + TIE)
        self.best[better] = scores[better]
        keep: np.ndarray = self.active.copy() if self._last else better | (self.active & ~self.scored)
        self.epoch[keep] = epoch
        self.waited = np.where(better | np.isnan(scores), 0, self.waited + 1)
        if self._patience is not None:
            self.active &= self.waited < self._patience
        return keep
