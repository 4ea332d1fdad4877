"""Predictions of runs as pandas tables: every logit, what a run gets wrong, and where two runs differ.

The API describes their columns: `Run.predictions`, `Run.errors`, `Suite.compare`, `Suite.disagreements`. In the tables
of errors and of disagreements a run decides as most of its seeds do; half of them are not most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from aimonk_bench.arguments import choice, whole
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import comparison, statistics
from aimonk_bench.evaluation.decisions import Decisions
from aimonk_bench.evaluation.differences import Spread
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import Predictions, sigmoid
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.reporting.summary import MACRO

if TYPE_CHECKING:
    import pandas as pd

Run = tuple[Predictions, Thresholds]
ErrorKind = Literal["false_positive", "false_negative"]


def predictions(run: Run) -> pd.DataFrame:
    """The table of `Run.predictions`."""
    import pandas as pd

    made, tuned = run
    shape = (len(made.fold), len(made.seed), len(made.labels.attributes))  # [R, S, A]
    logits, thresholds = np.moveaxis(made.logits, 0, 1), np.moveaxis(tuned.values, 0, 1)[made.fold]
    probabilities = sigmoid(logits)

    def rows(values: Array) -> Array:
        return np.broadcast_to(values, shape).ravel()

    return pd.DataFrame(
        {
            "image": _texts(rows(made.image_id.astype(object)[:, None, None])),
            "fold": rows(made.fold[:, None, None]),
            "split": _texts(rows(made.split.astype(object)[:, None, None])),
            "seed": rows(made.seed[:, None]),
            "attribute": _texts(rows(np.array(made.labels.attributes, object))),
            "target": _targets(rows(made.labels.targets[:, None]), rows(made.labels.observed[:, None])),
            "logit": rows(logits),
            "probability": rows(probabilities),
            "threshold": rows(thresholds),
            "decision": rows(probabilities > thresholds),
        }
    )


def errors(run: Run, attribute: str | None = None, kind: ErrorKind | None = None, n: int | None = 20) -> pd.DataFrame:
    """The table of `Run.errors`; the arguments are its arguments.

    Raises:
        UserError: there is no such attribute or kind, or n is not positive.
    """
    labels = run[0].labels
    if attribute is not None:
        choice("attribute", attribute, labels.attributes)
    if kind is not None:
        choice("kind", kind, get_args(ErrorKind))
    if n is not None:
        n = whole("n", n, least=1)
    table = _decided(run)
    target, decision = table["target"], table.pop("decision")
    kinds = np.where(decision, *get_args(ErrorKind))
    table.insert(3, "kind", _texts(kinds.astype(object)))
    wrong = (target.notna() & (target != decision.astype("Int8"))).to_numpy(bool, na_value=False)
    wrong &= True if attribute is None else (table["attribute"] == attribute).to_numpy(bool)
    wrong &= True if kind is None else kinds == kind
    table = table[wrong]
    order = np.argsort(-table["margin"].abs().to_numpy(), kind="stable")
    return table.iloc[order[:n]].reset_index(drop=True)


def disagreements(a: Run, b: Run) -> pd.DataFrame:
    """The table of `Suite.disagreements`.

    Raises:
        UserError: the runs have other test rows or other attributes.
    """
    import pandas as pd

    _check_same_rows(a, b)
    tables = {"a": _decided(a), "b": _decided(b)}
    names = ("decision", "probability", "positive_seeds")
    columns = {f"{name}_{run}": table[name] for name in names for run, table in tables.items()}
    both = pd.concat([tables["a"][["image", "fold", "attribute", "target"]], pd.DataFrame(columns)], axis=1)
    both = both[both["decision_a"] != both["decision_b"]]
    apart = [(both[f"{name}_a"] - both[f"{name}_b"]).abs().to_numpy() for name in ("probability", "positive_seeds")]
    return both.iloc[np.lexsort([-distance for distance in apart])].reset_index(drop=True)


def differences(a: Run, b: Run, covered: Array) -> pd.DataFrame:
    """The table of `Suite.compare`.

    Args:
        covered: [A] bool, the attributes of the macro average.

    Raises:
        UserError: the runs have other attributes.
    """
    import pandas as pd

    _check_attributes(a, b)
    decisions = {name: Decisions.of(*run) for name, run in (("a", a), ("b", b))}
    delta = comparison.paired(decisions, "b", covered, planned=1, seed=statistics.SEED)["a"]
    f1 = {name: Spread.of(decided, covered).figures.mean(axis=0) for name, decided in decisions.items()}
    nothing = [None] * len(covered)
    return pd.DataFrame(
        {
            "attribute": _texts(np.array([*a[0].labels.attributes, MACRO], object)),
            "f1_a": f1["a"],
            "f1_b": f1["b"],
            "delta": np.append(delta.attribute_value, delta.value),
            "delta_low": np.append(delta.attribute_low, delta.low),
            "delta_high": np.append(delta.attribute_high, delta.high),
            "p_value": np.append(delta.attribute_p, delta.p),
            "detectable": np.append(np.full(len(covered), np.nan), delta.detectable),
            "mark": _texts(np.array([*nothing, delta.mark or None], object)),
            "reason": _texts(np.array([*nothing, delta.reason], object)),
        }
    )


def _decided(run: Run) -> pd.DataFrame:
    """A row for each test row and attribute: means over the seeds, and the decision of most of them."""
    import pandas as pd

    made, tuned = run
    rows = made.part("test")
    thresholds = tuned.values[:, rows.fold]  # [S, R, A]
    share = (rows.probabilities > thresholds).mean(axis=0)
    means: Mapping[str, Any] = {
        "probability": rows.probabilities.mean(axis=0),
        "threshold": thresholds.mean(axis=0),
        "margin": (rows.probabilities - thresholds).mean(axis=0),
        "positive_seeds": share,
        "decision": share > 0.5,
    }
    n_attributes = len(rows.labels.attributes)
    return pd.DataFrame(
        {
            "image": _texts(np.repeat(rows.image_id.astype(object), n_attributes)),
            "fold": np.repeat(rows.fold, n_attributes),
            "attribute": _texts(np.tile(np.array(rows.labels.attributes, object), len(rows.fold))),
            "target": _targets(rows.labels.targets.ravel(), rows.labels.observed.ravel()),
            **{name: values.ravel() for name, values in means.items()},
        }
    )


def _check_attributes(a: Run, b: Run) -> None:
    """Refuse to compare runs with other attributes."""
    first, second = (list(run[0].labels.attributes) for run in (a, b))
    if first != second:
        raise UserError(
            f"found runs with the attributes {', '.join(first)} and {', '.join(second)}, expected equal ones"
        )


def _check_same_rows(a: Run, b: Run) -> None:
    """Refuse to compare runs row by row that have other test rows."""
    _check_attributes(a, b)
    if not Decisions.of(*a).same_rows(Decisions.of(*b)):
        raise UserError("found runs with other test images, labels or folds, expected equal ones")


def _texts(values: Array) -> Any:
    import pandas as pd

    return pd.array(values, dtype="string")


def _targets(values: Array, observed: Array) -> Any:
    import pandas as pd

    return pd.arrays.IntegerArray(values.astype(np.int8), ~observed)
