"""The options of the table: attributes, metric, order, formats, several folders; hostile names are harmless in each."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import fake_suite
import pandas as pd
import pytest
from rich.console import Console

import aimonk_bench as ab
from aimonk_bench.api import tables
from aimonk_bench.api.tables import View
from aimonk_bench.cli import main
from aimonk_bench.evaluation.verdict import Doubts
from aimonk_bench.records import run as runs
from aimonk_bench.reporting import together
from aimonk_bench.reporting.view import METRICS

HOSTILE = [
    *("=1+1", "+a", "-b", "@c", "-1", "'=d", "<script>", "a|b", "[x](y)", "`c`", "\\input{x}", "50 % & $x_1^2$ #~"),
    *("\u202eevil", "x" * 200, '"quoted"'),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs on four attributes; the second ranks best, the last has the best validation F1."""
    place = tmp_path_factory.mktemp("suites") / "view"
    names = ["masked_bce", "focal", "hill", "asymmetric"]
    for number, run in enumerate(fake_suite.write_suite(place, names)):
        fake_suite.write_run(run, names[number], fake_suite.predictions(signal=0.3 + number % 2, noise=number))
    return place


def printed(view: View, *folders: Path, width: int = 200) -> list[str]:
    console = Console(width=width, file=io.StringIO(), no_color=True)
    tables.render([ab.load(folder) for folder in folders], console, view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


@pytest.mark.parametrize("metric", ["f1_validation", "precision", "roc_auc"])
@pytest.mark.parametrize("sort", ["f1_validation", "recall"])
def test_a_metric_is_shown_and_what_sorts_is_a_column(folder: Path, metric: str, sort: str) -> None:
    lines = printed(View(("attr4", "attr2"), metric, sort), folder)
    head = next(line for line in lines if line.startswith("run "))
    sorted_by = [] if sort == metric else [METRICS[sort]]
    assert cells(head) == ["run", f"macro {METRICS[metric]}", *sorted_by, "attr4", "attr2"]
    rows = ab.load(folder).summary.set_index(["run", "attribute"])
    order = rows.xs("macro", level="attribute")[sort].sort_values(ascending=False).index
    shown = [line for line in lines if re.match("masked_bce|focal|hill|asymmetric", line)]
    for run_id, line in zip(order, shown[:4], strict=True):
        assert line.startswith(run_id.partition("-")[2].replace("-", "_"))
        figures = [rows.loc[(run_id, name), metric] for name in ("macro", "attr4", "attr2")]
        figures[1:1] = [rows.loc[(run_id, "macro"), sort]] if sorted_by else []
        texts = [text for text in cells(line)[1:] if text not in ("(base)", "*")]
        assert [text.lstrip("~") for text in texts] == [f"{x:.2f}".removeprefix("0") for x in figures]
    assert any(line.startswith(f"sorted by {METRICS[sort]}") for line in lines)
    assert not any(line.startswith(("all positive", "association p")) for line in lines)


def test_rows_for_programs_follow_the_view(folder: Path) -> None:
    result = ab.load(folder)
    view = View(("attr4", "attr1"), "roc_auc", "average_precision")
    rows = json.loads(tables.as_text([result], "json", view))
    assert [row["attribute"] for row in rows] == ["attr1", "attr4"] * 4
    assert {"roc_auc", "n_positive"} < set(rows[0])
    assert "f1_tuned" not in rows[0]
    macro = result.summary.query("attribute == 'macro'").set_index("run")["average_precision"]
    assert [row["run"] for row in rows[::2]] == list(macro.sort_values(ascending=False).index)
    intervals = json.loads(tables.as_text([result], "json", View(metric="f1_default")))
    assert {"f1_default", "f1_default_low", "f1_default_high"} < set(intervals[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--metric", "roc"], ["--metric", "'roc'", "did you mean roc_auc?"]),
        (["--sort", "f1"], ["--sort", "'f1'", "f1_tuned"]),
        (["--attribute", "atr1"], ["--attribute", "'atr1'", "did you mean attr1?"]),
        (["--explain", "--format", "csv"], ["--explain", "csv", "rich or markdown"]),
    ],
)
def test_an_option_that_means_nothing_is_an_error(
    folder: Path, options: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", str(folder), *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(word in captured.err for word in words)


def test_the_command_line_hands_its_options_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--attribute", "attr3", "--metric", "recall", "--sort", "roc_auc", "--top", "1", "--explain"]
    assert main(["table", str(folder), *options, "--format", "markdown"]) == 0
    text = capsys.readouterr().out
    assert "| run | macro recall | ROC AUC | attr3 |" in text
    assert "every figure: summary.csv" in text
    assert re.search(r"[23] more runs, ROC AUC \S+ to \S+: --top", text)


def test_hostile_names_are_harmless_and_data_stay_as_they_are(tmp_path: Path) -> None:
    names = ["=cmd", "b"]
    for number, place in enumerate(fake_suite.write_suite(tmp_path, names)):
        fake_suite.write_run(place, names[number], fake_suite.predictions(HOSTILE, noise=number))
    result, view = ab.load(tmp_path), View(top=9, explain=False)
    rows = list(csv.DictReader(io.StringIO(tables.as_text([result], "csv", view), newline="")))
    written = [row["attribute"] for row in rows[: len(HOSTILE)]]
    for name, text in zip(HOSTILE, written, strict=True):
        assert not re.match(r"[=+\-@\t\r]", text) or text == "-1"
        assert text in (name, f"'{name}")
    assert [re.sub(r"^'(?='*[=+\-@\t\r])", "", text) for text in written] == HOSTILE, "it can be undone"
    assert [row["attribute"] for row in json.loads(tables.as_text([result], "json", view))][: len(HOSTILE)] == HOSTILE
    read = pd.read_csv(io.StringIO(tables.as_text([result], "csv", view)), dtype={"attribute": str})
    assert list(read["f1_tuned"]) == list(result.summary["f1_tuned"])

    text = tables.as_text([result], "markdown", view)
    assert not re.search(r"(?<!\\)(<|\[|`)", text)
    head = next(line for line in text.splitlines() if line.startswith("| run "))
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")} == {
        len(re.findall(r"(?<!\\)\|", head))
    }
    text = tables.as_text([result], "latex", view)
    body = [line for line in text.splitlines() if not line.startswith("% ")]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)
    assert not re.search(r"(?<!\\)[%#_]", "\n".join(body))
    assert "\\input" not in "\n".join(body)
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body if line.endswith(r"\\")} == {7 + len(HOSTILE)}
    shown = "\n".join(printed(view, tmp_path, width=80))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", shown)


# Several folders -----------------------------------------------------------------------------------------------------


def test_runs_of_several_folders_stand_in_one_table(folder: Path, tmp_path: Path) -> None:
    for number, place in enumerate(fake_suite.write_suite(tmp_path / "other", ["hill", "zlpr"])):
        made = fake_suite.predictions(signal=0.8, noise=10 + number)
        fake_suite.write_run(place, ["hill", "zlpr"][number], made)
    fake_suite.write_run(tmp_path / "single", "zlpr + tuned", fake_suite.predictions(signal=0.5, noise=20))
    folders = [folder, tmp_path / "other", tmp_path / "single"]
    lines = printed(View(), *folders)
    starts = ["masked_bce", "focal", "hill (view)", "asymmetric", "hill (other)", "zlpr  ", "zlpr + tuned"]
    rows = [line for line in lines if "±" in line and line.startswith(("masked", "focal", "hill", "asym", "zlpr"))]
    assert len(rows) == 7
    assert all(sum(row.startswith(start) for row in rows) == 1 for start in starts)
    validation = [float(cells(row)[3]) for row in rows]
    assert validation == sorted(validation, reverse=True)
    assert not any(line.startswith("selected per fold") for line in lines), "the selection stays per folder"
    wide = printed(View(), *folders, width=2000)
    assert all(f"{place.name}: {ab.load(place).verdict}" in wide for place in folders)
    pair = [ab.load(place)._figures for place in folders[:2]]
    stats = pair[0].statistics
    assert stats
    doubts = Doubts(14, {f"attr{number}": 12 for number in range(1, 5)}, {})
    doubted = dataclasses.replace(stats.verdict, doubts=doubts, outcome="gain", with_gain=["attr1"])
    pair[0] = dataclasses.replace(pair[0], statistics=dataclasses.replace(stats, verdict=doubted))
    [doubt] = [line for line in together.verdicts(pair) if "14 pairs of near duplicates" in line]
    assert doubt.startswith("view: warning: ")
    for form in ("markdown", "latex"):
        made = tables.as_text([ab.load(place) for place in folders], form, View())
        assert made.count("tabular") == (2 if form == "latex" else 0)
        assert all(place.name in made for place in folders)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"attributes": ["a", "b"]}, "the attributes differ: attr1, attr2, attr3, attr4 against a, b"),
        ({"folds": 2}, "the images or the split differ"),
        ({"images": 40}, "the images or the split differ"),
        ({"without_positives": ["attr2"]}, "the labels of the test images differ"),
    ],
)
def test_other_labels_or_splits_get_a_table_each_and_the_reason(
    folder: Path, tmp_path: Path, made: dict[str, Any], reason: str
) -> None:
    fake_suite.write_run(tmp_path / "x", "x", fake_suite.predictions(noise=9, **made))
    lines = printed(View(), folder, tmp_path / "x")
    assert reason in lines[0]
    assert "0-masked-bce in view" in lines[0]
    assert "x in x" in lines[0]
    assert sum(line.startswith("run ") for line in lines) == 2
    text = tables.as_text([ab.load(folder), ab.load(tmp_path / "x")], "markdown", View())
    assert reason in text
    assert text.count("\n# ") == 2


def test_the_same_run_in_two_folders_stands_there_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fake_suite.write_run(tmp_path / name, "hill", fake_suite.predictions(noise=1))
        status = tmp_path / name / runs.STATUS
        status.write_text(status.read_text().replace(f'"{name}"', '"hill-1"'))
    lines = printed(View(), tmp_path / "one", tmp_path / "two")
    rows = [re.sub(r"\((one|two)\)", "(folder)", line) for line in lines if re.match(r"hill \((one|two)\) .*±", line)]
    assert len(rows) == 2
    assert rows[0] == rows[1], "the figures are the same"
