"""Tables that are no text: a sheet of an Excel file, and Parquet."""

from __future__ import annotations

import itertools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from aimonk_bench.data.cells import text_of
from aimonk_bench.data.dialects import SAMPLE, Dialect
from aimonk_bench.data.text import readable
from aimonk_bench.data.top_rows import has_header, rows_above
from aimonk_bench.errors import UserError, count

PACKAGES = {
    ".xlsx": ("excel", "openpyxl"),
    ".parquet": ("parquet", "pyarrow"),
}  # suffix -> extra, package that reads it
SUFFIXES = tuple(PACKAGES)
MAX_UNPACKED = 1 << 30  # bytes of an Excel file, whose sheet is held in memory
FORMULA = re.compile(  # a cell of a sheet with a formula, without a value; a computed empty text has the type str
    rb'<(?:\w+:)?c r="(\w+)"(?![^>]*\bt="str")[^>]*><(?:\w+:)?f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)'
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></(?:\w+:)?v>)?</(?:\w+:)?c>"
)


def read_records(path: Path, *, header: bool | None = None) -> tuple[Iterator[tuple[int, list[str]]], Dialect]:
    """(row number from 1, cells as text) of every row that is not empty, the header among them; and the dialect.

    Of an Excel file the first sheet of two columns or more is read.

    Raises:
        UserError: the file cannot be read, has formulas without values, or the package that reads it is not installed.
    """
    suffix = path.suffix.lower()
    try:
        with readable(path, f"a {suffix} file", "; if it is text, name it .csv"):
            if suffix == ".xlsx":
                return _excel(path, header)
            frame = pd.read_parquet(path)
    except ImportError as error:
        extra, package = PACKAGES[suffix]
        raise UserError(
            f"{path}: found a {suffix} file, which needs the package {package}, which is not installed; "
            f"install it with `pip install 'aimonk_bench[{extra}]'`, or save the table as .csv"
        ) from error
    if any(frame.index.names) or not pd.api.types.is_numeric_dtype(frame.index):
        frame = frame.reset_index()  # a named index is a column, such as the images; numbers are rows
    rows = itertools.chain([[str(name) for name in frame.columns]], _texts(frame))
    return enumerate(rows, 1), Dialect("", "", header=True, width=frame.shape[1])


def _excel(path: Path, header: bool | None) -> tuple[Iterator[tuple[int, list[str]]], Dialect]:
    if (size := _unpacked_bytes(path)) > MAX_UNPACKED:
        raise UserError(f"{path}: takes {size} bytes unpacked, at most {MAX_UNPACKED} are read: save the table as .csv")
    with pd.ExcelFile(path, engine="openpyxl") as workbook:
        names = [str(name) for name in workbook.sheet_names]
        sheets = ((name, _sheet(workbook, name)) for name in names)
        name, frame = next(((name, sheet) for name, sheet in sheets if sheet.shape[1] > 1), (names[0], None))
        frame = _sheet(workbook, name) if frame is None else frame
        _check_formulas(path, workbook, name)
    others = [repr(other) for other in names if other != name]
    texts = ([*map(str.strip, cells)] for cells in _texts(frame.head(SAMPLE)))
    sample = [(row, cells) for row, cells in enumerate(texts, 1) if any(cells)]
    if not sample:
        raise UserError(f"{path}:1: found no row in {', '.join(map(repr, names))}, expected a sheet with a table")
    above, notes = rows_above(sample, ",")
    if header is None:
        header = has_header([cells for _, cells in sample[above:]], ",")
    sheet = f"sheet {name!r} is read, not {', '.join(others)} (to read another, move it to the front)" if others else ""
    rows = itertools.islice(enumerate(_texts(frame), 1), sample[above][0] - 1, None)
    return rows, Dialect("", "", header, frame.shape[1], sheet=sheet, notes=tuple(notes))


def _unpacked_bytes(path: Path) -> int:
    """The bytes of all parts of an archive; 0 of what is none, which the reader refuses."""
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def _sheet(workbook: pd.ExcelFile, name: str) -> pd.DataFrame:
    return pd.read_excel(workbook, sheet_name=name, header=None, dtype=object, keep_default_na=False)


def _check_formulas(path: Path, workbook: pd.ExcelFile, sheet: str) -> None:
    """Raise where the cells of a sheet have formulas that nobody has computed: they would be read as empty."""
    with zipfile.ZipFile(path) as archive:
        cells = FORMULA.findall(archive.read(workbook.book[sheet]._worksheet_path))
    if cells:
        raise UserError(
            f"{path}:{re.sub('[A-Z]', '', cells[0].decode())}: found {count(len(cells), 'formula')} without a value in "
            f"sheet {sheet!r}, such as in cell {cells[0].decode()}: open the file in a spreadsheet program and save it "
            "there, or save the values as .csv"
        )


def _texts(frame: pd.DataFrame) -> Iterator[list[str]]:
    """The rows as text: yes and no are 1 and 0, lists are JSON, no value is empty."""
    for row in frame.itertuples(index=False, name=None):
        yield [text_of(cell) for cell in row]
