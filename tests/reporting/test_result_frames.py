"""The predictions of runs as pandas tables."""

from __future__ import annotations

import dataclasses
import io

import fake_suite
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from aimonk_bench.errors import UserError
from aimonk_bench.evaluation import thresholds
from aimonk_bench.evaluation.predictions import Predictions
from aimonk_bench.evaluation.thresholds import Thresholds
from aimonk_bench.reporting import frames, pairs
from aimonk_bench.reporting.frames import Run
from aimonk_bench.reporting.summary import MACRO

NAMES = ("NA", "null", "macro F1", "001")  # what pandas reads as missing, or as a number


def run(**made: object) -> Run:
    predictions = fake_suite.predictions(NAMES, **made)  # type: ignore[arg-type]  # options of the oracle
    return predictions, thresholds.tune(predictions, fake_suite.POLICY)


def naive(made: Predictions, tuned: Thresholds) -> pd.DataFrame:
    """Every prediction, one by one."""
    rows = []
    for row, image in enumerate(made.image_id):
        for s, seed in enumerate(made.seed):
            for a, attribute in enumerate(made.labels.attributes):
                logit = made.logits[s, row, a]
                probability = 1 / (1 + np.exp(-float(logit)))
                threshold = tuned.values[s, made.fold[row], a]
                target = int(made.labels.targets[row, a]) if made.labels.observed[row, a] else pd.NA
                place = (image, made.fold[row], made.split[row], seed, attribute, target)
                rows.append((*place, logit, probability, threshold, probability > threshold))
    names = ["image", "fold", "split", "seed", "attribute", "target", "logit", "probability", "threshold", "decision"]
    kinds = ["string", "int16", "string", "int64", "string", "Int8", "float32", "float64", "float64", "bool"]
    return pd.DataFrame(rows, columns=names).astype(dict(zip(names, kinds, strict=True)))


def test_every_prediction_is_a_row_of_exact_types() -> None:
    made, tuned = run()
    table = frames.predictions((made, tuned))
    pd.testing.assert_frame_equal(table, naive(made, tuned), rtol=1e-12)
    assert table["target"].isna().any()
    assert len(table) == made.logits.size
    assert table.groupby("attribute").size().to_dict() == dict.fromkeys(NAMES, made.logits[:, :, 0].size)


@pytest.mark.parametrize("kind", ["false_positive", "false_negative", None])
@pytest.mark.parametrize("attribute", ["NA", "001", None])
def test_errors_are_what_most_seeds_decide_wrongly_the_farthest_from_the_threshold_first(
    attribute: str | None, kind: frames.ErrorKind | None
) -> None:
    made = run(signal=0.3)
    rows = naive(*made).query("split == 'test'")
    expected = {}
    for (image, name), group in rows.groupby(["image", "attribute"], sort=False):
        target, positive = group["target"].iloc[0], group["decision"].mean() > 0.5
        error = "false_positive" if positive else "false_negative"
        if target is pd.NA or positive == target or attribute not in (name, None) or kind not in (error, None):
            continue
        expected[image, name] = (error, target, (group["probability"] - group["threshold"]).mean())
    table = frames.errors(made, attribute, kind, n=None)
    assert len(table) >= 3
    keys = list(zip(table["image"], table["attribute"], strict=True))
    assert sorted(keys) == sorted(expected)
    for key, row in zip(keys, table.itertuples(), strict=True):
        assert (row.kind, row.target) == expected[key][:2]
        assert row.margin == pytest.approx(expected[key][2], abs=1e-12)
        assert row.margin == pytest.approx(row.probability - row.threshold, abs=1e-12)
    assert (np.diff(table["margin"].abs()) <= 0).all()
    pd.testing.assert_frame_equal(frames.errors(made, attribute, kind, n=3), table.head(3))
    kinds = {"image": "string", "fold": "int16", "attribute": "string", "kind": "string", "target": "Int8"}
    assert {name: str(table[name].dtype) for name in kinds} == kinds


@pytest.mark.parametrize(
    ("attribute", "kind", "n", "message"),
    [
        ("00", None, 20, "attribute: found '00', expected one of NA, null, macro F1, 001 (did you mean 001?)"),
        (None, "false_positives", 20, "did you mean false_positive?"),
        (None, None, 0, "n: found 0, expected a whole number of at least 1"),
    ],
)
def test_wrong_arguments_of_errors_are_named(attribute, kind, n, message) -> None:
    with pytest.raises(UserError) as caught:
        frames.errors(run(), attribute, kind, n)
    assert message in str(caught.value)


def test_disagreements_are_the_rows_on_which_most_seeds_decide_differently() -> None:
    a, b = run(signal=1.0), run(signal=0.3, noise=1)
    rows = [naive(*one).query("split == 'test'") for one in (a, b)]
    shares = [one.groupby(["image", "attribute"], sort=False)["decision"].mean() for one in rows]
    expected = shares[0].index[((shares[0] > 0.5) != (shares[1] > 0.5)).to_numpy()]
    table = frames.disagreements(a, b)
    assert len(table) >= 3
    assert sorted(zip(table["image"], table["attribute"], strict=True)) == sorted(expected)
    assert (table["decision_a"] != table["decision_b"]).all()
    for row in table.itertuples():
        key = row.image, row.attribute
        assert (row.positive_seeds_a, row.positive_seeds_b) == (shares[0][key], shares[1][key])
    assert (np.diff((table["positive_seeds_a"] - table["positive_seeds_b"]).abs()) <= 1e-12).all()
    assert table["target"].isna().any(), "an image without a label may be decided differently too"
    assert frames.disagreements(a, a).empty
    assert list(frames.disagreements(a, a)) == list(table)
    assert frames.disagreements(b, a)["decision_a"].tolist() == table["decision_b"].tolist()


def test_runs_on_other_images_or_attributes_are_refused() -> None:
    few = fake_suite.predictions(NAMES[:2])
    with pytest.raises(UserError, match="found runs with the attributes NA, null, macro F1, 001 and NA, null"):
        frames.disagreements(run(), (few, thresholds.tune(few, fake_suite.POLICY)))
    made, tuned = run()
    other = dataclasses.replace(made, image_id=np.char.add(made.image_id, "x"))
    with pytest.raises(UserError, match="other test images"):
        frames.disagreements((made, tuned), (other, tuned))
    table = frames.differences((made, tuned), (other, tuned), np.full(4, True))
    assert table["reason"].tolist()[-1] == "other_rows"
    assert table["p_value"].isna().all()


def test_a_printed_interval_agrees_with_the_mark_and_with_p() -> None:
    figures = pd.DataFrame(
        {
            "attribute": ["x", MACRO],
            **dict.fromkeys(("f1_a", "f1_b", "delta"), 0.6),
            "delta_low": [0.0003, -0.0203],
            "delta_high": [0.0203, 0.01],
            "p_value": [0.04, 0.5],
            "detectable": [np.nan, 0.004],
            "mark": pd.array([None, "unresolved"], dtype="string"),
            "reason": pd.array([None, None], dtype="string"),
        }
    )
    console = Console(width=100, file=io.StringIO(), no_color=True)
    pairs.render(console, ("a", "b"), [], figures, (figures, 0, 0))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert ">.000 to +.020 " in text, "an attribute has no margin"
    assert "<-.020 to +.010 " in text
    assert "a true difference of .004 is found" in text
