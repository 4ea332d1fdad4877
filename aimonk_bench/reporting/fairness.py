"""What is not fair in a comparison, in words."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aimonk_bench.evaluation.fairness import Unfair
from aimonk_bench.reporting.words import listed

WORDS = {  # field of a budget -> what it is called
    "epochs": "epochs",
    "batch_size": "batch size",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "grid": "grids of `tune`",
    "accumulate": "accumulated batches",
    "select": "selected epoch",
    "patience": "early stopping",
}


def sentence(item: Unfair, names: Collection[str], name_of: Callable[[str], str]) -> str:
    """One line on a finding, with the fix.

    Args:
        names: ids of all runs.
        name_of: the name of a run.
    """
    runs = "every run" if len(item.runs) == len(names) else listed([name_of(run_id) for run_id in item.runs])
    match item.kind:
        case "budgets":
            return (
                f"budgets differ ({', '.join(WORDS[name] for name in item.differs)}): {runs} against the others, so "
                "part of the difference may be the budget; fix: the same `train` and `tune` in every run"
            )
        case "teacher":
            return (
                f"{item.policy} trains a teacher first, so twice the epochs: part of its difference may come from that"
            )
        case "one_rate":
            return (
                f"one learning rate for different losses or samplers ({runs}): each suits another rate; "
                "fix: `tune: default`, or where layers are trained an axis train.lr"
            )
        case "rates":
            return (
                f"losses or samplers have untuned learning rates of their own ({runs}), so part of the difference may "
                "be the rate; fix: `tune: default`, or where layers are trained an axis train.lr"
            )
        case "edge":
            return (
                f"most heads score clearly best at the {item.end} {item.key} of the grid ({runs}): a value beyond it "
                "may be better; fix: a longer list in `tune`"
            )
        case "improving":
            return (
                f"validation average precision still rose at the end of training ({runs}); "
                "fix: a larger train.epochs or learning rate"
            )
        case "one_epoch":
            return f"one epoch cannot show whether training had converged ({runs}); fix: a larger train.epochs"
