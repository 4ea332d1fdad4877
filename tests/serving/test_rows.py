"""The rows of predictions: CSV, JSON lines; names of any kind."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from aimonk_bench.console import output
from aimonk_bench.serving import rows
from aimonk_bench.serving.predict import Prediction

NAMES = ("hat, red", "NA")
COLUMNS = ["image", "error", "hat, red_probability", "hat, red_decision", "NA_probability", "NA_decision"]
AWKWARD = ["a,b.jpg", 'say "x".jpg', "line\nbreak.jpg", "carriage\rreturn.jpg", "NA", " blank ", "größe 裂缝.jpg", ""]


def prediction(image: str, error: str | None = None) -> Prediction:
    logits = np.array([0.25, -1.5], np.float32) if error is None else np.full(2, np.nan, np.float32)
    return Prediction(image, error, NAMES, np.array([0.5, 0.3]), logits)


def test_csv_reads_back_whatever_the_names() -> None:
    text = "".join(rows.lines(map(prediction, AWKWARD), "csv"))
    head, *body = csv.reader(io.StringIO(text, newline=""))
    assert head == COLUMNS
    assert [row[0] for row in body] == AWKWARD
    assert {tuple(row[1:]) for row in body} == {("", "0.5621765008857981", "true", "0.18242552380635635", "false")}
    frame = pd.read_csv(io.StringIO(text), dtype={"image": str}, keep_default_na=False)
    assert frame["image"].tolist() == AWKWARD
    assert not text.endswith("\n\n")


def test_json_lines_read_back_whatever_the_names() -> None:
    read = [json.loads(line) for line in rows.lines(map(prediction, AWKWARD), "jsonl")]
    assert [row["image"] for row in read] == AWKWARD
    assert read[0]["error"] is None
    assert read[0]["attributes"] == {
        "hat, red": {"probability": 0.5621765008857981, "decision": True, "threshold": 0.5},
        "NA": {"probability": 0.18242552380635635, "decision": False, "threshold": 0.3},
    }


def test_an_error_is_a_row_without_numbers() -> None:
    bad = prediction("x.jpg", 'cut, "off"')
    [_, row] = csv.reader(rows.lines([bad], "csv").__next__().splitlines())
    assert row == ["x.jpg", 'cut, "off"', "", "", "", ""]
    [line] = rows.lines([bad], "jsonl")
    read = json.loads(line)
    assert read["error"] == 'cut, "off"'
    assert read["attributes"]["NA"] == {"probability": None, "decision": None, "threshold": 0.3}


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    for form in ("csv", "jsonl"):
        with output(tmp_path / form) as file:
            file.writelines(rows.lines([prediction(name)], form))
    assert r"caf\udce9.jpg" in (tmp_path / "csv").read_text("utf-8")
    read = json.loads((tmp_path / "jsonl").read_text("utf-8"))
    assert os.fsencode(read["image"]) == b"caf\xe9.jpg"


def test_a_table_has_the_columns_of_csv_and_exact_types() -> None:
    predictions = [prediction("a.jpg"), prediction(os.fsdecode(b"caf\xe9.jpg"), "damaged")]
    frame = rows.table(NAMES, predictions)
    kinds = {"image": "string", "error": "string"}
    kinds |= {f"{name}_{what}": kind for name in NAMES for what, kind in rows.TYPES.items()}
    assert [*kinds] == COLUMNS
    for table in (frame, rows.table(NAMES, [])):
        assert {name: str(kind) for name, kind in table.dtypes.items()} == kinds
    assert frame.iloc[0].tolist()[2:] == [0.5621765008857981, True, 0.18242552380635635, False]
    assert frame["error"].isna().tolist() == [True, False]
    assert frame.iloc[1, 2:].isna().all()
    assert frame["image"].tolist() == ["a.jpg", r"caf\udce9.jpg"]
    for text in (frame.to_csv(), frame._repr_html_(), frame.to_json()):
        assert r"caf\udce9.jpg" in text.encode().decode().replace("\\\\", "\\")
