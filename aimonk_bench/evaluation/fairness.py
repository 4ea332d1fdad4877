"""What is not fair in a comparison: budgets that differ, grids that end too early, training that was not done.

A comparison is of losses, samplers or policies only where every run could reach its best: with the same budget, a
learning rate that suits it, and enough epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Literal, TypeVar

import numpy as np

from aimonk_bench.evaluation.numbers import Array, Number

T = TypeVar("T")
Kind = Literal["budgets", "teacher", "one_rate", "rates", "edge", "improving", "one_epoch"]

EDGE_SHARE = 0.75  # of the heads that choose the same end of the grid
# of validation average precision over the last quarter of the epochs; tuned heads are chosen by the last epoch, which
# flatters the rise
LATE_GAIN = 0.01
LATE_SHARE = 0.1  # of the whole rise, in a curve that rises in every epoch; it is 0.25 on a straight line


@dataclass(frozen=True)
class Budget:
    """Everything that decides how much training each head gets.

    Attributes:
        epochs, batch_size, accumulate, select, patience: as in ``train``.
        optimizer, schedule: as the name of a run shows them.
        lr: the learning rate; None where it is tuned.
        grid: keys of `tune` with their values, sorted by key; a key of one value is not tuned.
        teacher: the missing-label policy, where it first trains a teacher for as many epochs; else None.
    """

    epochs: int
    batch_size: int
    optimizer: str
    schedule: str
    lr: float | None
    grid: tuple[tuple[str, tuple[float, ...]], ...] = ()
    accumulate: int = 1
    select: str = "last"
    patience: int | None = None
    teacher: str | None = None


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
        late_share: see `late_share`.
        one_epoch: there was one epoch only, so that nothing can be compared.
    """

    budget: Budget
    varied: tuple[str, ...]
    ends: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    late_gain: Number = float("nan")
    late_gain_se: Number = float("nan")
    late_share: Number = float("nan")
    one_epoch: bool = False


@dataclass(frozen=True)
class Unfair:
    """One thing that makes a comparison unfair.

    Attributes:
        kind: `budgets` differ; `teacher`: runs of a policy train one first, and others do not; `one_rate`: different
            losses or samplers at one learning rate that was not tuned; `rates`: such rates differ between losses or
            samplers; `edge`: heads score best at an end of the grid; `improving`: validation average precision still
            rose; `one_epoch`: whether it did cannot be told.
        runs: ids of the runs concerned; of `budgets` those that differ from the most frequent budget.
        key: of `tune`, for `edge`.
        policy: the missing-label policy, for `teacher`.
        end: "smallest" or "largest", for `edge`.
        differs: names of the fields of `Budget` that differ, for `budgets`.
    """

    kind: Kind
    runs: tuple[str, ...]
    _: KW_ONLY
    key: str | None = None
    policy: str | None = None
    end: Literal["smallest", "largest"] | None = None
    differs: tuple[str, ...] = ()


def late_gain(validation: Array) -> tuple[float, float]:
    """The gain of validation average precision [heads, E] over the last quarter of the epochs: mean, standard error.

    The last epoch is compared with an earlier one. A head that stopped early has NaN from then on and is left out; NaN
    twice where no head is left, or where there is one epoch.
    """
    if validation.shape[1] < 2:
        return float("nan"), float("nan")
    gains = validation[:, -1] - validation[:, _late(validation.shape[1])]
    gains = gains[np.isfinite(gains)]
    if not len(gains):
        return float("nan"), float("nan")
    return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0


def late_share(validation: Array) -> float:
    """The share of the last quarter of the epochs in the rise of validation average precision [heads, E].

    The rise is that of the mean over the heads. It is 0 where one epoch does not raise the mean. A slow training can
    gain little in a quarter of its epochs and still be far from its end, which this share shows.

    NaN where no head is left at the last epoch, or where there is one epoch.
    """
    curves = validation[np.isfinite(validation).all(axis=1)]
    if validation.shape[1] < 2 or not len(curves):
        return float("nan")
    mean = curves.mean(axis=0)
    if not (np.diff(mean) > 0).all():
        return 0.0
    return float((mean[-1] - mean[_late(len(mean))]) / (mean[-1] - mean[0]))


def _late(epochs: int) -> int:
    """The place of the epoch with which the last one is compared."""
    return min(epochs - 2, max(0, round(0.75 * epochs) - 1))


def unfair(runs: Mapping[str, Training]) -> list[Unfair]:
    """What is unfair among finished runs, by their configs and by what was measured."""
    return [*planned(runs), *measured(runs)]


def planned(runs: Mapping[str, Training]) -> list[Unfair]:
    """What is unfair by the configs alone, before anything is trained: budgets, and untuned learning rates."""
    items: list[Unfair] = []
    budgets = {run_id: replace(training.budget, lr=None, teacher=None) for run_id, training in runs.items()}
    if others := _minority(budgets):
        names = (item.name for item in fields(Budget))
        differs = tuple(name for name in names if len({getattr(budget, name) for budget in budgets.values()}) > 1)
        items.append(Unfair("budgets", others, differs=differs))
    taught = _grouped({run_id: training.budget.teacher for run_id, training in runs.items()})
    if None in taught:
        items += [Unfair("teacher", tuple(ids), policy=policy) for policy, ids in taught.items() if policy is not None]
    untuned = {run_id: training for run_id, training in runs.items() if training.budget.lr is not None}
    varied = _grouped({run_id: training.varied for run_id, training in untuned.items()})
    rates = {frozenset(runs[run_id].budget.lr for run_id in ids) for ids in varied.values()}
    if len(rates) > 1:
        items.append(Unfair("rates", tuple(untuned)))
    if all(len(of_one) > 1 for of_one in rates) and len(rates) == 1:  # an axis: each loss and sampler has every rate
        return items
    for ids in _grouped({run_id: training.budget.lr for run_id, training in untuned.items()}).values():
        if len({runs[run_id].varied for run_id in ids}) > 1:
            items.append(Unfair("one_rate", tuple(ids)))
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
                items.append(Unfair("edge", tuple(concerned), key=key, end=end))
    improving = [
        run_id
        for run_id, training in runs.items()
        if training.late_gain > max(LATE_GAIN, 2 * training.late_gain_se) or training.late_share > LATE_SHARE
    ]
    one_epoch = [run_id for run_id, training in runs.items() if training.one_epoch]
    ended: tuple[tuple[Kind, list[str]], ...] = (("improving", improving), ("one_epoch", one_epoch))
    return [*items, *(Unfair(kind, tuple(ids)) for kind, ids in ended if ids)]


def _minority(budgets: Mapping[str, Budget]) -> tuple[str, ...]:
    """The runs whose budget is not the most frequent one; of equally frequent ones the first counts."""
    usual = max(_grouped(budgets).values(), key=len, default=[])
    return tuple(run_id for run_id in budgets if run_id not in usual)


def _grouped(values: Mapping[str, T]) -> dict[T, list[str]]:
    """Value -> the runs that have it."""
    groups: dict[T, list[str]] = {}
    for run_id, value in values.items():
        groups.setdefault(value, []).append(run_id)
    return groups
