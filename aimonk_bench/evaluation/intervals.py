"""How sure each figure of one run is: 95 % confidence intervals over images and seeds.

A figure is a mean over seeds, so its variance has two parts.

Over images: the sum over groups of squared influences. The influence of a group of rows is what the figure gains, to
first order, when the group weighs a little more. This is the limit of the bootstrap over groups for many draws (the
infinitesimal jackknife; Efron 1982) without its draws: the same for every run, and exact for a proportion.

Over seeds: 1 / S of the variance between seeds, less what the images add to it, one and the same test set for all
heads, because the first part holds that already. S seeds are few, so the normal quantile is replaced by Student's with
Welch's degrees of freedom.

With folds, heads share training images and the question is about the recipe: the first part is multiplied by
`decisions.variance_factor`, and at the threshold 0.5 what another training set does to the heads' intercepts is added.

Every interval is Wilson's, of a proportion of as many trials as the variance says. The fewer rows that variance is
estimated from, the more it gives way to the variance of plain trials, so that no special case is needed where every
positive is lost or a ranking is perfect. experiments/simulations/coverage.py shows how often the intervals cover.
"""

from __future__ import annotations

from aimonk_bench.evaluation.counted import counted
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.proportions import Intervals
from aimonk_bench.evaluation.ranked import ranked
from aimonk_bench.evaluation.thresholds import Thresholds


def intervals(predictions: Predictions, thresholds: Thresholds) -> dict[str, Intervals]:
    """The intervals of every figure that is measured on test rows, by its name in `metrics.PER_SEED`.

    NaN only where there is none: for F1 without a single TP, FP or FN, for the others where they are undefined.
    """
    return counted(predictions, thresholds) | ranked(predictions)
