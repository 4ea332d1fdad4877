"""What is not fair in a comparison: budgets that differ, grids that end too early, training that was not done.

A comparison is of losses, samplers or policies only where every run could reach its best: with the same budget, a
learning rate that suits it, and enough epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np

from aimonk_bench.evaluation.numbers import Array, Number

Kind = Literal["budgets", "one_rate", "edge", "improving"]

EDGE_SHARE = 0.75  # of the heads that choose the same end of the grid
# of validation average precision over the last quarter of the epochs; tuned heads are chosen by the last epoch, which
# flatters the rise
LATE_GAIN = 0.01


@dataclass(frozen=True, order=True)
class Budget:
    """What a run may spend on each head.

    Attributes:
        epochs, batch_size: of each training.
        optimizer, schedule: as the name of a run shows them.
        settings: P, the settings that each head chooses from; 1 without `tune`.
        lr: the learning rate; None where it is tuned.
    """

    epochs: int
    batch_size: int
    optimizer: str
    schedule: str
    settings: int
    lr: float | None


@dataclass(frozen=True)
class Training:
    """How the heads of a run were trained.

    Attributes:
        budget: of each head.
        varied: what changes the size of gradients, and with it the learning rate that suits: loss and sampler.
        ends: key of `tune` -> share of the heads that score clearly best at the smallest and the largest of its values.
        late_gain: mean over the heads of the gain in validation average precision over the last quarter of the epochs;
            NaN where it is undefined.
        late_gain_se: its standard error over the heads.
    """

    budget: Budget
    varied: tuple[str, ...]
    ends: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    late_gain: Number = float("nan")
    late_gain_se: Number = float("nan")


@dataclass(frozen=True)
class Unfair:
    """One thing that makes a comparison unfair.

    Attributes:
        kind: `budgets` differ; `one_rate`: different losses or samplers at one learning rate that was not tuned;
            `edge`: heads score best at an end of the grid; `improving`: validation average precision still rose.
        runs: ids of the runs concerned; of `budgets` those that differ from the most frequent budget.
        key: of `tune`, for `edge`.
        end: "smallest" or "largest", for `edge`.
        differs: names of the fields of `Budget` that differ, for `budgets`.
    """

    kind: Kind
    runs: tuple[str, ...]
    key: str | None = None
    end: Literal["smallest", "largest"] | None = None
    differs: tuple[str, ...] = ()


def late_gain(validation: Array) -> tuple[float, float]:
    """The gain of validation average precision [heads, E] over the last quarter of the epochs: mean, standard error.

    A head that stopped early has NaN from then on and is left out; NaN twice where no head is left.
    """
    epochs = validation.shape[1]
    gains = validation[:, -1] - validation[:, max(0, round(0.75 * epochs) - 1)]
    gains = gains[np.isfinite(gains)]
    if epochs < 2 or not len(gains):
        return float("nan"), float("nan")
    return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0


def planned(runs: Mapping[str, Training]) -> list[Unfair]:
    """What is unfair by the configs alone, before anything is trained: budgets, and one learning rate for all."""
    items: list[Unfair] = []
    if others := _minority({run_id: replace(training.budget, lr=None) for run_id, training in runs.items()}):
        budgets = [asdict(replace(training.budget, lr=None)) for training in runs.values()]
        differs = tuple(name for name in budgets[0] if len({str(budget[name]) for budget in budgets}) > 1)
        items.append(Unfair("budgets", others, differs=differs))
    by_rate: dict[float, list[str]] = {}
    for run_id, training in runs.items():
        if training.budget.lr is not None:
            by_rate.setdefault(training.budget.lr, []).append(run_id)
    for untuned in by_rate.values():
        if len({runs[run_id].varied for run_id in untuned}) > 1:
            items.append(Unfair("one_rate", tuple(untuned)))
    return items


def measured(runs: Mapping[str, Training]) -> list[Unfair]:
    """What is unfair by what the runs chose and how they ended."""
    items = []
    keys = dict.fromkeys(key for training in runs.values() for key in training.ends)
    sides: Sequence[Literal["smallest", "largest"]] = ("smallest", "largest")
    for key in keys:
        for place, end in enumerate(sides):
            concerned = [
                run_id
                for run_id, training in runs.items()
                if key in training.ends and training.ends[key][place] >= EDGE_SHARE
            ]
            if concerned:
                items.append(Unfair("edge", tuple(concerned), key, end))
    improving = [
        run_id
        for run_id, training in runs.items()
        if training.late_gain > LATE_GAIN and training.late_gain > 2 * training.late_gain_se
    ]
    return [*items, Unfair("improving", tuple(improving))] if improving else items


def _minority(budgets: Mapping[str, Budget]) -> tuple[str, ...]:
    """The runs whose budget is not the most frequent one; of equally frequent ones the first counts."""
    groups: dict[Budget, list[str]] = {}
    for run_id, budget in budgets.items():
        groups.setdefault(budget, []).append(run_id)
    usual = max(groups.values(), key=len, default=[])
    return tuple(run_id for run_id in budgets if run_id not in usual)
