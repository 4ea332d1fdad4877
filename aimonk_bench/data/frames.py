"""Tables that are no text: the first sheet of an Excel file, and Parquet."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from aimonk_bench.data.cells import text_of
from aimonk_bench.data.dialects import SAMPLE, Dialect, has_header
from aimonk_bench.data.text import readable
from aimonk_bench.errors import UserError

EXTRAS = {".xlsx": "excel", ".parquet": "parquet"}  # suffix -> the optional dependencies that read it
SUFFIXES = tuple(EXTRAS)


def read_records(path: Path, *, header: bool | None = None) -> tuple[Iterator[tuple[int, list[str]]], Dialect]:
    """(row number from 1, cells as text) of every row, the header among them; and the dialect.

    Raises:
        UserError: the file cannot be read, or the packages that read it are not installed.
    """
    suffix, notes = path.suffix.lower(), tuple[str, ...]()
    try:
        with readable(path, f"a {suffix} file", "; if it is text, name it .csv"):
            if suffix == ".xlsx":
                with pd.ExcelFile(path, engine="openpyxl") as workbook:
                    first, *others = map(str, workbook.sheet_names)
                    frame = pd.read_excel(workbook, header=None, dtype=object, keep_default_na=False)
                notes = (f"sheet {first!r} is read, not {', '.join(map(repr, others))}",) if others else ()
            else:
                frame = pd.read_parquet(path)
                if any(frame.index.names) or not pd.api.types.is_numeric_dtype(frame.index):
                    frame = frame.reset_index()  # a named index is a column, such as the images; numbers are rows
    except ImportError as error:
        extra = EXTRAS[suffix]
        raise UserError(
            f"{path}: found a {suffix} file, which needs packages that are not installed ({error.name or error}); "
            f"install them with `pip install 'aimonk_bench[{extra}]'`, or save the table as .csv"
        ) from error
    rows = _texts(frame)
    if suffix == ".parquet":
        header, rows = True, itertools.chain([[str(name) for name in frame.columns]], rows)
    elif header is None:
        header = has_header([*_texts(frame.head(SAMPLE))], ",")
    return enumerate(rows, 1), Dialect("", "", header, frame.shape[1], notes=notes)


def _texts(frame: pd.DataFrame) -> Iterator[list[str]]:
    """The rows as text: yes and no are 1 and 0, lists are JSON, no value is empty."""
    for row in frame.itertuples(index=False, name=None):
        yield [text_of(cell) for cell in row]
