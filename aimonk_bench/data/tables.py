"""A label file as a table: named columns of stripped text and line numbers, before any importer reads it."""

from __future__ import annotations

import csv
import functools
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aimonk_bench.data import dialects, frames, json_lines, top_rows
from aimonk_bench.data.cells import bare, coded
from aimonk_bench.data.dialects import Dialect
from aimonk_bench.data.text import read_text
from aimonk_bench.data.tokens import is_image_file, is_value
from aimonk_bench.data.top_rows import WHITE_SPACE
from aimonk_bench.errors import UserError, count
from aimonk_bench.registry import show

NO_OPTIONS = {  # suffix -> what such a file says itself
    ".xlsx": ("separator", "encoding"),
    ".parquet": ("separator", "header", "encoding"),
    json_lines.SUFFIXES[0]: ("separator", "header"),
}
Record = tuple[int, list[str] | str]  # the line on which it begins, its cells or why they cannot be read
UNNAMED = "attr"  # begins the name of a column that has none
COMMENT, EMPTY = 0, -1  # in the place of the width of a row
CHUNK = 1 << 10  # rows that are held as text at once: more do not fit into the cache of a processor
csv.field_size_limit(2**31 - 1)  # a cell may hold the outline of an object: the reader's own limit is 128 KiB


@dataclass(frozen=True, eq=False)
class Table:
    """R rows of C columns, as the file has them.

    Attributes:
        names: [C], stripped; without a header ``image, attr1, attr2, ...``. A name may stand twice.
        columns: [C] of [R], stripped text. Each distinct text is a category, so later steps look at it once.
        lines: [R] line of the file on which the row begins, from 1.
        header_line: line of the header; without one that of the first row.
        dialect: how the file was read.
        notes: what was left out: empty columns and rows, comment lines, an index column, a number of rows.
        problems: (line, message) of the rows that could not be read; they are not in ``columns``.
    """

    names: tuple[str, ...]
    columns: tuple[pd.Categorical, ...]
    lines: NDArray[np.int64]
    header_line: int
    dialect: Dialect
    notes: tuple[str, ...] = ()
    problems: tuple[tuple[int, str], ...] = ()

    def column(self, name: str) -> pd.Categorical:
        """The first column of this name [R]."""
        return self._by_name[name]

    @functools.cached_property
    def _by_name(self) -> dict[str, pd.Categorical]:
        return dict(zip(reversed(self.names), reversed(self.columns), strict=True))


def read_table(
    path: Path,
    *,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    cut: bool = False,
) -> Table:
    """Read comma-, semicolon-, tab- or white-space-separated text, JSON lines, an Excel sheet or a Parquet file.

    Args:
        separator: one character; " " is any white space; None is the one that gives rows of equal width.
        header: whether the first row names the columns; None decides by what the cells look like.
        encoding: None is UTF-8, or what the byte order mark says.
        cut: rows that are wider than the table end with its last column; else they are problems.

    Raises:
        UserError: the file cannot be read as text, or is empty. Rows that cannot be read are `Table.problems`.
    """
    suffix = path.suffix.lower()
    options = {"separator": separator, "header": header, "encoding": encoding}
    if suffix in frames.SUFFIXES:
        _refuse_unread(options, suffix)
        return _assemble(*frames.read_records(path, header=header), cut=cut)
    text, encoding = read_text(path, encoding)
    if suffix in json_lines.SUFFIXES or (json_lines.begins(text) and json_lines.is_table(text)):
        _refuse_unread(options, json_lines.SUFFIXES[0])
        return _assemble(*json_lines.read_records(text, encoding), cut=cut)
    dialect = dialects.recognise(text, encoding, separator=separator, header=header, suffix=suffix)
    return _assemble(_records(text, dialect), dialect, cut=cut)


def _refuse_unread(options: Mapping[str, str | bool | None], suffix: str) -> None:
    """Raise `UserError` for keys of the config about what a file with this suffix says itself."""
    if unused := [key for key in NO_OPTIONS[suffix] if options[key] is not None]:
        raise UserError(
            [f"data.{key}: found {show(options[key])}, expected null for a {suffix} file" for key in unused]
        )


def _records(text: str, dialect: Dialect) -> Iterator[Record]:
    """Every record of a text that is not blank, the header among them."""
    stream = io.StringIO(text)
    for _ in range(dialect.skipped_lines):
        stream.readline()
    for line, cells in dialects.read_records(stream, dialect.separator):
        if dialect.name_with_label and isinstance(cells, list):
            cells = dialects.split_name(cells)
        if dialect.holds_tags and isinstance(cells, list):
            cells = dialects.join_tags(cells, dialect.separator)
        yield dialect.skipped_lines + line, cells


def _readable(records: Iterable[Record], problems: list[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """The records that can be read; the others become problems."""
    for line, cells in records:
        if isinstance(cells, str):
            problems.append((line, cells))
        else:
            yield line, cells


def _assemble(records: Iterable[Record], dialect: Dialect, *, cut: bool) -> Table:
    """The table of these records, the header among them."""
    notes, problems = [*dialect.notes], list[tuple[int, str]]()
    rows = _readable(records, problems)
    header_line, header, surplus = 1, list[str](), 0
    first = next(rows, None)
    width = dialect.width
    if first is not None:
        header_line = first[0]
        if dialect.header:
            header = top_rows.unmarked([*map(bare, first[1])], width)
            header[0] = header[0].lstrip("# ")  # a header may be written as a comment
            if dialect.nameless_first:
                header.insert(0, "")
            width = max((place for place, name in enumerate(header, 1) if name), default=1)
            if surplus := len(header) - width:
                notes.append(f"{count(surplus, 'nameless column')} at the end left out")
            del header[width:]
        else:
            rows = itertools.chain([first], rows)
    others: dict[int, list[int]] = {}
    columns, lines = _columns(_fitting(rows, width, others, cut=cut), width)
    empty_lines = others.pop(EMPTY, [])
    if comments := others.pop(COMMENT, []):
        notes.append(f"{count(len(comments), 'comment line')} left out ({_places(comments)})")
    if wider := sorted(line for cells in [*others] if cut and cells > width for line in others.pop(cells)):
        notes.append(f"{count(len(wider), 'row')} with more than {width} columns cut there ({_places(wider)})")
    for cells, places in others.items():
        hint = f"; column {cells} has no name in the header" if width < cells <= width + surplus else ""
        more = f" (and {count(len(places) - 1, 'more line')}: {_places(places[1:])})" if len(places) > 1 else ""
        problems.append((places[0], f"{_width_problem(cells, width, dialect)}{hint}{more}"))
    if not header:
        while len(columns) > 1 and _is_empty(columns[-1]):
            columns.pop()
        header = ["image", *(f"{UNNAMED}{number}" for number in range(1, len(columns)))]
    filled = ~np.all([np.asarray(column == "") for column in columns], axis=0)
    if empty_lines or not filled.all():
        empty_lines = sorted([*empty_lines, *lines[~filled].tolist()])
        notes.append(f"{count(len(empty_lines), 'empty row')} left out ({_places(empty_lines)})")
        columns, lines = [column[filled].remove_unused_categories() for column in columns], lines[filled]
    return Table(*_without_surplus(header, columns, notes), lines, header_line, dialect, (*notes,), (*problems,))


def is_unnamed(name: str) -> bool:
    """Whether a column is called as one without a header is."""
    number = name.removeprefix(UNNAMED)
    return name.startswith(UNNAMED) and number.isascii() and number.isdigit()


def _fitting(
    rows: Iterable[tuple[int, list[str]]], width: int, others: dict[int, list[int]], *, cut: bool
) -> Iterator[tuple[int, list[str]]]:
    """The rows that are as wide as a table; empty cells beyond its last column are dropped.

    Args:
        others: gets the lines of the other rows under their width, of comments under `COMMENT`, of rows of nothing but
            separators under `EMPTY`.
        cut: wider rows end with the last column; they are in ``others`` too.
    """
    for line, cells in rows:
        is_comment = cells[0].startswith("# ") and not "".join(cells[1:]).strip()  # in a sheet, all rows are as wide
        if not is_comment and (len(cells) == width or (len(cells) > width and not "".join(cells[width:]).strip())):
            yield line, cells[:width]
            continue
        is_empty = not "".join(cells).strip()
        kind = EMPTY if is_empty else COMMENT if cells[0].startswith("#") else len(cells)
        others.setdefault(kind, []).append(line)
        if cut and kind > width:
            yield line, cells[:width]


class _Numbers(dict[str, int]):
    """Numbers texts in the order in which they are first looked up."""

    def __missing__(self, text: str) -> int:
        return self.setdefault(text, len(self))


def _columns(rows: Iterator[tuple[int, list[str]]], width: int) -> tuple[list[pd.Categorical], NDArray[np.int64]]:
    """The columns [C] of [R] of rows of this width, and their lines [R]."""
    numbers = [_Numbers() for _ in range(width)]  # of the texts of each column
    codes: list[list[NDArray[np.int32]]] = [[np.empty(0, np.int32)] for _ in range(width)]
    lines: list[int] = []
    while chunk := [*itertools.islice(rows, CHUNK)]:
        lines += (line for line, _ in chunk)
        cells_of_columns = zip(*(cells for _, cells in chunk), strict=True)
        for cells, number_of_text, parts in zip(cells_of_columns, numbers, codes, strict=True):
            parts.append(np.fromiter(map(number_of_text.__getitem__, cells), np.int32, len(cells)))
    columns = [_stripped([*texts], np.concatenate(parts)) for texts, parts in zip(numbers, codes, strict=True)]
    return columns, np.array(lines, np.int64)


def _width_problem(width: int, expected: int, dialect: Dialect) -> str:
    if dialect.separator == WHITE_SPACE:
        return f"found a name and {count(width - 1, 'token')}, expected {expected - 1 or 'some'}"
    separator = f" (separator {dialects.name_of(dialect.separator)})" if dialect.separator else ""
    return f"found {count(width, 'column')}{separator}, expected {expected}"


def _stripped(texts: Sequence[str], codes: NDArray[np.int32]) -> pd.Categorical:
    """A column of stripped text; ``codes`` number the texts as they were written."""
    numbers, distinct = pd.factorize(np.array([*map(bare, texts)], object))
    return coded(numbers[codes], distinct)


def _is_empty(column: pd.Categorical) -> bool:
    return len(column) > 0 and [*column.categories] == [""]


def _without_surplus(
    names: Sequence[str], columns: Sequence[pd.Categorical], notes: list[str]
) -> tuple[tuple[str, ...], tuple[pd.Categorical, ...]]:
    """Names and columns without the nameless empty columns and without the index column that pandas writes."""
    numbered = [*enumerate(names)]
    surplus = {place for place, name in numbered if not name and _is_empty(columns[place])}
    if surplus:
        places = ", ".join(str(place + 1) for place in sorted(surplus))
        notes.append(f"{count(len(surplus), 'nameless empty column')} left out ({places})")
    following: int | None = None  # the next column to the right that stays
    for place, name in reversed(numbered):
        unnamed = place == 0 if not name else name.startswith("Unnamed: ")
        if unnamed and following is not None and _numbers_rows(columns[place], names[following], columns[following]):
            surplus.add(place)
            notes.append(f"column {place + 1} ({name or 'nameless'}) numbers the rows; left out")
        if place not in surplus:
            following = place
    remaining = [place for place, _ in numbered if place not in surplus]
    return tuple(names[place] for place in remaining), tuple(columns[place] for place in remaining)


def _numbers_rows(column: pd.Categorical, next_name: str, following: pd.Categorical) -> bool:
    """Whether a column is the index of a pandas table: 0, 1, 2, ... or, before names of images, different numbers."""
    texts = [*column.categories]
    if len(texts) != len(column) or not all(text.isdecimal() for text in texts):
        return False
    if all(map(is_image_file, following.categories)):
        return True
    images = next_name.lower() in top_rows.ID_NAMES or not all(map(is_value, following.categories))
    return images and texts == [str(number) for number in range(len(texts))]


def _places(lines: Sequence[int] | NDArray[np.int64]) -> str:
    shown = ", ".join(map(str, lines[:3]))
    return f"line{'' if len(lines) == 1 else 's'} {shown}{', ...' if len(lines) > 3 else ''}"
