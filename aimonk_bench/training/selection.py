"""The epoch that each head chooses, and when it stops."""

from __future__ import annotations

import numpy as np

TIE = 1e-9  # a smaller difference of scores is rounding error


class Selection:
    """The choice of an epoch for H heads.

    A larger score is better; of equal scores (to TIE) the earlier epoch is chosen. A head stops after ``patience``
    epochs without a better score. A score of NaN is undefined: it neither chooses an epoch nor counts for patience. A
    head whose scores are all undefined chooses its last epoch.

    Args:
        heads: H.
        last: choose the last epoch, whatever the scores are.
        patience: None never stops a head.

    Attributes:
        epoch: [H] the chosen epoch, from 1.
        active: [H] bool, False once a head has stopped.
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
        """[H] bool, whether any score of a head was defined."""
        return self.best > -np.inf

    def choose(self, epoch: int, scores: np.ndarray) -> np.ndarray:
        """Take the scores [H] at the end of an epoch: [H] bool, the heads that choose this epoch."""
        better = self.active & (scores > self.best + TIE)
        self.best[better] = scores[better]
        chosen: np.ndarray = self.active.copy() if self._last else better | (self.active & ~self.scored)
        self.epoch[chosen] = epoch
        self.waited = np.where(better | np.isnan(scores), 0, self.waited + 1)
        if self._patience is not None:
            self.active &= self.waited < self._patience
        return chosen
