"""Excel sheets: rows above the table, several sheets, formulas without values, and packages that are missing."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
from label_files import config, states

from aimonk_bench.data import frames, label_file
from aimonk_bench.data.tables import Table, read_table
from aimonk_bench.errors import UserError

Rows = Sequence[Sequence[Any]]
TABLE: Rows = [["image", "x", "y"], ["a.png", 1, 0], ["b.png", None, 1]]


def write(file: Path, sheets: Mapping[str, Rows]) -> Path:
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(row)
    workbook.save(file)
    return file


def cells(table: Table) -> list[list[str]]:
    return [list(row) for row in zip(*(np.asarray(column, object) for column in table.columns), strict=True)]


@pytest.mark.parametrize(
    ("above", "notes"),
    [
        ([], []),
        ([[], []], []),
        ([["Plant 7"]], ["line 1 is a title"]),
        ([["Plant"], []], ["line 1 is a title"]),
        ([[None, "Plant 7, line 3"], [], ["in 2024"]], ["line 1 is a title", "line 3 is a title"]),
        ([["Plant", "7"], ["Date", 2024], []], ["line 1 is a title, left out: 'Plant 7'", "line 2 is a title"]),
        ([["# made by me"]], ["1 comment line above"]),
        ([["#mine"], ["My plant"], []], ["1 comment line above", "line 2 is a title"]),
    ],
)
def test_rows_above_the_header_are_left_out(tmp_path: Path, above: Rows, notes: list[str]) -> None:
    for header in (None, True):
        table = read_table(write(tmp_path / "l.xlsx", {"s": [*above, *TABLE]}), header=header)
        assert (table.names, cells(table)) == (("image", "x", "y"), [["a.png", "1", "0"], ["b.png", "", "1"]])
        first = len(above) + 1
        assert (table.header_line, table.lines.tolist()) == (first, [first + 1, first + 2])
        assert [text.startswith(start) for text, start in zip(table.notes, notes, strict=True)] == [True] * len(notes)


def test_rows_without_a_header_and_comments_between_them(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "l.xlsx", {"s": [[], *TABLE[1:], ["# the rest"], [], ["c.png", 1, 1]]}))
    assert (table.names, table.lines.tolist()) == (("image", "attr1", "attr2"), [2, 3, 6])
    assert [*table.notes] == ["1 comment line left out (line 4)", "1 empty row left out (line 5)"]


@pytest.mark.parametrize("first", [[], [["read me"], ["see the other sheet"]]])
def test_the_first_sheet_with_columns_is_read(tmp_path: Path, first: Rows) -> None:
    file = write(tmp_path / "l.xlsx", {"info": first, "labels": TABLE, "old": TABLE[:2]})
    loaded = label_file.load(config(file))
    assert states(loaded.labels) == [[1, 0], [None, 1]]
    assert "sheet 'labels' is read, not 'info', 'old' (to read another, move it to the front)" in loaded.notes[0]


def test_a_sheet_without_labels_names_the_others_and_no_separator(tmp_path: Path) -> None:
    file = write(tmp_path / "l.xlsx", {"info": [["image"], ["a.png"]], "empty": []})
    with pytest.raises(UserError) as caught:
        label_file.load(config(file))
    [message] = caught.value.problems
    assert "l.xlsx:1: found no attribute" in message
    assert "sheet 'info' is read, not 'empty'" in message
    assert "separator" not in message


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"l\.xlsx:1: found no row in 's', expected"):
        read_table(write(tmp_path / "l.xlsx", {"s": []}))


def test_formulas_that_nobody_has_computed_are_an_error(tmp_path: Path) -> None:
    rows = [["image", "x"], ["a.png", "=1"], ["b.png", "=IF(B2=1,0,1)"], ["c.png", 1]]
    file = write(tmp_path / "l.xlsx", {"old": [["=1"]], "s": rows})
    with pytest.raises(UserError) as caught:
        read_table(file)
    [message] = caught.value.problems
    for part in ("l.xlsx:2: ", "2 formulas without a value", "sheet 's'", "cell B2", "save it"):
        assert part in message


@pytest.mark.parametrize(
    ("computed", "text"),
    [("<v>1</v>", "1"), ("<v>0</v>", "0")],
)
def test_formulas_with_values_are_values(tmp_path: Path, computed: str, text: str) -> None:
    assert cells(read_table(_computed(tmp_path, f'<c r="B2"><f>1</f>{computed}</c>'))) == [["a.png", text]]


@pytest.mark.parametrize("cell", ['<c r="B2" t="str"><f>IF(A2=1,1,"")</f><v></v></c>', '<c r="B2" s="1"/>'])
def test_a_formula_whose_value_is_empty_is_an_empty_cell(tmp_path: Path, cell: str) -> None:
    assert cells(read_table(_computed(tmp_path, cell), header=True)) == [["a.png", ""]]


def _computed(folder: Path, cell: str) -> Path:
    """A file in which the cell B2 is written so."""
    source = write(folder / "source.xlsx", {"s": [["image", "x"], ["a.png", "=1"]]})
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(folder / "l.xlsx", "w") as copy:
        for name in archive.namelist():
            content = archive.read(name).decode()
            if name.endswith("sheet1.xml"):
                start = content.index('<c r="B2"')
                content = content[:start] + cell + content[content.index("</c>", start) + len("</c>") :]
            copy.writestr(name, content)
    return folder / "l.xlsx"


@pytest.mark.parametrize(
    ("suffix", "reader", "package"), [("xlsx", "ExcelFile", "openpyxl"), ("parquet", "read_parquet", "pyarrow")]
)
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, reader: str, package: str
) -> None:
    def missing(path: Path, **options: object) -> None:
        raise ImportError("Unable to find a usable engine:\n - several\n - lines")

    monkeypatch.setattr(pd, reader, missing)
    with pytest.raises(UserError) as caught:
        read_table(tmp_path / f"l.{suffix}")
    [message] = caught.value.problems
    assert f"needs the package {package}" in message
    assert "pip install 'aimonk_bench[" in message
    assert "\n" not in message


def test_an_excel_file_that_is_too_large_unpacked_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "l.xlsx", {"a": TABLE})
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    monkeypatch.setattr(frames, "MAX_UNPACKED", size)
    assert read_table(file).names == ("image", "x", "y")
    monkeypatch.setattr(frames, "MAX_UNPACKED", size - 1)
    with pytest.raises(UserError) as caught:
        read_table(file)
    assert (
        str(caught.value) == f"{file}: takes {size} bytes unpacked, at most {size - 1} are read: save the table as .csv"
    )
