"""Attributes without an observed value: said by `validate` and by the run, once for each value and set of folds."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from small_suite import no_progress

from aimonk_bench.config import loader
from aimonk_bench.data import synthetic
from aimonk_bench.suite import plan, preview, runner
from aimonk_bench.suite.clock import Clock
from aimonk_bench.tables import TABLES

CONFIG = """\
data: {labels: made/labels.txt, images: made/images}
split: {scheme: kfold, folds: 3, val: 0.3}
backbone: {name: tf_efficientnet_lite0}
transform: {size: 32}
loss: pos_weight
sampler: balanced
train: {epochs: 1, seeds: 2}
"""


def config_file(folder: Path, *columns: str) -> Path:
    """A config on 40 images; each column has a label of every image, with NA as ``-``."""
    synthetic.write(folder / "made", images=40, size=32)
    table = folder / "made" / "labels.txt"
    ids = [line.split()[0] for line in table.read_text().splitlines()]
    states = [" ".join("NA" if state == "-" else state for state in row) for row in zip(*columns, strict=True)]
    table.write_text("".join(f"{image} {row}\n" for image, row in zip(ids, states, strict=True)))
    (folder / "config.yaml").write_text(CONFIG)
    return folder / "config.yaml"


def warnings(text: str) -> list[str]:
    return [line for line in text.splitlines() if "no observed" in line]


@pytest.mark.parametrize(
    ("column", "absent"),
    [("1" * 40, "negative"), ("1-" * 20, "negative"), ("0" * 40, "positive"), ("-" * 40, "label")],
)
def test_validate_and_the_run_name_an_attribute_and_its_absent_value_once(
    column: str, absent: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = config_file(tmp_path, "01" * 20, column)
    wanted = f"labels.txt: attr2: no observed {absent} among the training rows: "
    (line,) = warnings(preview.describe(path, TABLES, ()))
    assert line.startswith("warning: ")
    assert wanted in line
    with caplog.at_level(logging.WARNING):
        planned = plan.plan_run(loader.load(path, TABLES, ()))
        runner.execute_run(planned, tmp_path / "out", Clock(), no_progress)
    (record,) = [record for record in caplog.records if "attr2" in record.message and record.levelno > logging.INFO]
    assert record.levelno == logging.WARNING
    assert wanted in record.message
    notes = json.loads((tmp_path / "out" / "data.json").read_text())["notes"]
    assert [note for note in notes if "no observed" in note and "training rows" in note] == [
        line.partition("labels.txt: ")[2]
    ]


def test_validate_names_the_folds_that_train_without_the_only_negative(tmp_path: Path) -> None:
    path = config_file(tmp_path, "01" * 20, "1" * 7 + "0" + "1" * 32)
    (line,) = warnings(preview.describe(path, TABLES, ()))
    assert "attr2: no observed negative among the training rows of fold " in line


def test_validate_is_silent_where_training_rows_have_every_value(tmp_path: Path) -> None:
    assert warnings(preview.describe(config_file(tmp_path, "01" * 20, "0111" * 10), TABLES, ())) == []
