"""Equal budgets: every run tries the same grid of settings, and each job chooses one by its validation rows.

The grid is the product of the lists in ``tune``. Its P settings are trained as stacked heads, which for one (seed,
fold) start from the same weights and read the same batches. First each head chooses its epoch, then each job its head.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from aimonk_bench.config.fields import TrainConfig, Tune
from aimonk_bench.training.selection import TIE

STEP = 0.005  # of a score from 0 to 1: what each step along a list of ``tune`` must gain


@dataclass(frozen=True, eq=False)
class Tuning:
    """The grid and the chosen settings; the keys are those of ``tune``.

    Attributes:
        metric: the macro validation metric that chooses: ``train.select``, or average_precision if that is `last`.
        points: ``{"train.lr": [P], ...}``, the grid.
        scores: [P, S, F] the metric at the chosen epoch, NaN where it is undefined or the head diverged; what a
            setting costs by its place in a list (`STEP`) is not taken off.
        chosen: ``{"train.lr": [S, F], ...}``.
    """

    metric: str
    points: dict[str, np.ndarray]
    scores: np.ndarray
    chosen: dict[str, np.ndarray]

    def ends(self) -> dict[str, tuple[float, float]]:
        """Key of ``tune`` -> share of the heads that score clearly best at the smallest and the largest of its values.

        Clearly is by more than `STEP` above all other values, what a setting costs by its place left aside; of a loss,
        which has no scale, by more than that share of it. A smallest value of 0 is no end, because there is nothing
        below, and one value has no ends.
        """
        is_loss, shares = self.metric == "loss", {}
        losses = np.where(np.isfinite(self.scores), self.scores if is_loss else -self.scores, np.inf)
        for key, values in self.points.items():
            low, high = min(values), max(values)
            if low < high:
                pairs = [(losses[values == end].min(0), losses[values != end].min(0)) for end in (low, high)]
                of_low, of_high = (
                    float((at_end + STEP * (np.abs(at_end) if is_loss else 1) < others).mean())
                    for at_end, others in pairs
                )
                shares[key] = of_low if low > 0 else 0.0, of_high
        return shares


def metric_of(train: TrainConfig) -> str:
    """The validation metric by which a head chooses its setting."""
    return "average_precision" if train.select == "last" else train.select


def grid(train: TrainConfig, tune: Tune) -> dict[str, np.ndarray]:
    """``{"train.lr": [P], "train.weight_decay": [P], ...}``: the last key varies fastest; a key not tuned is constant.

    Further keys are options of the loss.
    """
    values = lists(train, tune)
    return dict(zip(values, np.array(list(itertools.product(*values.values())), np.float64).T, strict=True))


def ranked(scores: np.ndarray, metric: str, steps: np.ndarray) -> np.ndarray:
    """The scores by which settings are compared; the largest is the best.

    Validation rows are few, so that the largest of several scores is partly luck. Therefore each step along a list of
    ``tune`` must gain `STEP`: who writes a list begins with the value that is trusted most, in the default grid the
    smallest learning rate. A loss has no scale; of equal losses the earlier setting is the best.

    Args:
        scores: [..., P] by a metric, at the points of a grid.
        metric: as of :func:`metric_of`.
        steps: [P] of each point, as of :func:`steps`.
    """
    return -scores if metric == "loss" else scores - STEP * steps


def steps(train: TrainConfig, tune: Tune) -> np.ndarray:
    """How many steps [P] each point of the grid is from the first value of every list, in the order of :func:`grid`."""
    places = itertools.product(*(range(len(values)) for values in lists(train, tune).values()))
    return np.array([sum(place) for place in places])


def lists(train: TrainConfig, tune: Tune) -> dict[str, Any]:
    """Key -> its values, in the order of the grid, whatever the order of ``tune``."""
    return {"train.lr": [train.lr], "train.weight_decay": [train.weight_decay], **tune}


def choose(scores: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """The setting with the largest of the scores [..., P]: [...].

    Of equal scores (to TIE) the earlier setting; NaN is never the best. If all scores are NaN, the first setting that
    is ``possible``.
    """
    chosen: np.ndarray = possible.argmax(-1)
    best = np.full(chosen.shape, -np.inf)
    for setting in range(scores.shape[-1]):
        better = possible[..., setting] & (scores[..., setting] > best + TIE)
        chosen[better], best[better] = setting, scores[..., setting][better]
    return chosen
