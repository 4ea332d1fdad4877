"""Tables that are no text: the first sheet of an Excel file, and Parquet."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from aimonk_bench.data.dialects import SAMPLE, Dialect, has_header
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
        if suffix == ".xlsx":
            with pd.ExcelFile(path, engine="openpyxl") as workbook:
                first, *others = map(str, workbook.sheet_names)
                frame = pd.read_excel(workbook, header=None, dtype=object, keep_default_na=False)
            notes = (f"sheet {first!r} is read, not {', '.join(map(repr, others))}",) if others else ()
        else:
            frame = pd.read_parquet(path)
            if any(frame.index.names) or not pd.api.types.is_numeric_dtype(frame.index):
                frame = frame.reset_index()  # a named index is a column, such as the images; numbers alone are rows
    except ImportError as error:
        extra = EXTRAS[suffix]
        raise UserError(
            f"{path}: found a {suffix} file, which needs packages that are not installed ({error.name or error}); "
            f"install them with `pip install 'aimonk_bench[{extra}]'`, or save the table as .csv"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the readers raise what the parts of a damaged file make them raise
        raise UserError(f"{path}: cannot be read as a {suffix} file: {error}; if it is text, name it .csv") from error
    records, dialect = records_of(frame, named=suffix != ".xlsx", header=header)
    return records, replace(dialect, notes=notes)


def records_of(
    frame: pd.DataFrame, *, named: bool, header: bool | None = None
) -> tuple[Iterator[tuple[int, list[str]]], Dialect]:
    """(row number from 1, cells as text) of every row, the header among them; and the dialect.

    Args:
        named: whether the labels of the columns are the header; else it may stand in the first row.
    """
    if named:
        rows = itertools.chain([[str(name) for name in frame.columns]], _texts(frame))
        return enumerate(rows, 1), Dialect("", "", True, frame.shape[1])
    if header is None:
        header = has_header([*_texts(frame.head(SAMPLE))], ",")
    return enumerate(_texts(frame), 1), Dialect("", "", header, frame.shape[1])


def _texts(frame: pd.DataFrame) -> Iterator[list[str]]:
    """The rows as text: yes and no are 1 and 0, lists are JSON, no value is empty."""
    for row in frame.itertuples(index=False, name=None):
        yield [_text(cell) for cell in row]


def _text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if hasattr(cell, "tolist"):  # NumPy's scalars and arrays
        cell = cell.tolist()
    if isinstance(cell, list | tuple | dict):
        return json.dumps(cell, ensure_ascii=False, default=str)
    if isinstance(cell, bool):
        return str(int(cell))
    return "" if cell is None or pd.isna(cell) else str(cell)
