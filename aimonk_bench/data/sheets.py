"""What an importer takes, the source of a label file, and what it gives, a sheet of columns; and what tables share."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aimonk_bench.data.tables import Table, read_table
from aimonk_bench.data.text import read_text
from aimonk_bench.data.tokens import decimal_of, is_image_file, is_missing, spelling_of
from aimonk_bench.data.values import listed
from aimonk_bench.registry import hint

TAG_COLUMNS = ("tags", "tag", "labels", "label", "target", "targets", "classes", "categories", "finding labels")


@dataclass
class Source:
    """A label file, read once for the choice of the importer and for the importer.

    Attributes:
        missing: tokens that `data.values` declares as missing.
        columns: names of columns that are read for other purposes than labels, such as the parts of an official split.
    """

    path: Path
    missing: frozenset[str] = frozenset({"NA", ""})
    columns: tuple[str, ...] = ()
    _tables: dict[tuple[Any, ...], Table] = field(default_factory=dict)
    _texts: dict[str | None, str] = field(default_factory=dict)

    def table(
        self,
        separator: str | None = None,
        header: bool | None = None,
        encoding: str | None = None,
        *,
        cut: bool = False,
    ) -> Table:
        """The file as a table; see `read_table`."""
        key = separator, header, encoding, cut
        if key not in self._tables:
            self._tables[key] = read_table(self.path, separator=separator, header=header, encoding=encoding, cut=cut)
        return self._tables[key]

    def text(self, encoding: str | None = None) -> str:
        """The file as text; see `read_text`."""
        if encoding not in self._texts:
            self._texts[encoding] = read_text(self.path, encoding)[0]
        return self._texts[encoding]


@dataclass
class Sheet:
    """R rows of a label file as an importer understood them.

    Attributes:
        attributes: A names -> the line that has it, 0 if it comes from the config.
        names: [R] images as the file writes them.
        columns: attribute -> [R]. A category is a token, which `data.values` explains, or the label itself: True or
            False. No category: missing.
        lines: [R] from 1.
        groups: [R] values of the group column; None without such a column.
        others: [R] each of the columns that the source is asked for.
        problems: (line, message); a row with a problem is not in ``names``.
        understood: one line on how the file was read, with its first row.
        notes: what was left out.
        warnings: what is probably not meant.
    """

    attributes: dict[str, int] = field(default_factory=dict)
    names: NDArray[np.object_] = field(default_factory=lambda: np.empty(0, object))
    columns: dict[str, pd.Categorical] = field(default_factory=dict)
    lines: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    groups: pd.Categorical | None = None
    others: dict[str, pd.Categorical] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    understood: str = ""
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def sheet_of(table: Table, unsound: Iterable[str]) -> Sheet:
    """An empty sheet with the notes and problems of a table, and with these problems of its header."""
    problems = [*table.problems, *((table.header_line, text) for text in unsound)]
    return Sheet(problems=problems, notes=[*table.notes])


def fill(sheet: Sheet, source: Source, table: Table, columns: Mapping[str, str | None]) -> None:
    """What every table with a row for each image has beside its labels: names, lines, groups and other columns.

    Args:
        columns: key of the config -> the column that it names.
    """
    sheet.names, sheet.lines = np.asarray(table.column(str(columns["data.id"])), object), table.lines
    group = columns.get("data.group")
    sheet.groups = None if group is None else table.column(group)
    sheet.others = {name: table.column(name) for name in source.columns}


def understood(
    table: Table, sheet: Sheet, images: str | None, labels: str, group: str | None, read: Collection[str | None]
) -> str:
    """One line about how a table was read, with its first row.

    Args:
        images: the column that names them.
        labels: where the labels are, beside columns of attributes.
        read: the columns that are read; the others are ignored.
    """
    column = f"column {images!r}" if images else "the column without a name"
    parts = [str(table.dialect), f"images in {column}{labels}", f"attributes {listed([*sheet.attributes])}"]
    if group is not None:
        parts.append(f"groups in column {group!r}")
    if unused := [name for name in table.names if name not in read]:
        parts.append(f"ignored columns {listed(unused)}")
    return "; ".join([*parts, *first_row(sheet)])


def first_row(sheet: Sheet) -> Iterator[str]:
    """The first row as it was read."""
    if len(sheet.names):
        row = [f"{name}={_shown(column)}" for name, column in sheet.columns.items()]
        yield f"first row: {sheet.names[0]} {listed(row)}"


def _shown(column: pd.Categorical) -> str:
    """The first cell of a column of tokens or labels."""
    if column.codes[0] < 0:
        return "NA"
    cell = column.categories[column.codes[0]]
    return str(int(cell)) if isinstance(cell, bool) else repr(cell)


def image_column(table: Table, others: Collection[str] = ()) -> str:
    """The column called ``image`` or else the first one, of those that hold names of image files; or of all columns.

    Args:
        others: columns that have another role; they hold names of other files, such as masks.
    """
    texts_of = {name: table.column(name).categories for name in table.names}
    free = {name: texts for name, texts in texts_of.items() if name not in others}
    if files := [name for name, texts in free.items() if len(texts) and all(map(is_image_file, texts))]:
        return "image" if "image" in files else files[0]
    named = "image" in texts_of and not all(map(spelling_of, texts_of["image"]))
    return "image" if named else table.names[0]


def tag_column(table: Table, others: Sequence[str | None] = ()) -> str | None:
    """The one column beside these others, or the one with a usual name; None if there are several or none."""
    free = [name for name in table.names if name not in (others or table.names[:1])]
    usual = [name for name in free if name.strip().lower() in TAG_COLUMNS]
    return free[0] if len(free) == 1 else usual[0] if len(usual) == 1 else None


def unread_tags(tags: str, texts_of: Mapping[str, Iterable[str]]) -> str | None:
    """The message about columns that hold tags beside the one that is read, such as tag2 beside tag1; None without.

    Args:
        texts_of: the texts of each column, without that of the images.
    """

    def stem(name: str) -> str:
        return re.sub(r"[\W_]*\d+$", "", name.casefold())

    words_of = {name: {text for text in texts if not is_missing(text)} for name, texts in texts_of.items()}
    others = []
    for name, words in words_of.items():
        common = {word for word in words & words_of[tags] if decimal_of(word) is None}
        alike = stem(name) == stem(tags) or 2 * len(common) >= min(len(words), len(words_of[tags]))
        if name != tags and not all(map(spelling_of, words)) and alike:
            others.append(name)
    if not others:
        return None
    names = json.dumps([tags, *others], ensure_ascii=False)
    return (
        f"only {tags!r} is read, but tags stand in {listed([*map(repr, others)])} too; to read all, join them, "
        f'in pandas by `table["tags"] = table[{names}].fillna("").agg("|".join, axis=1)`, and write under data: '
        '`tags: "tags"`'
    )


def reserved(source: Source, ignore: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """(key, column) of the columns that the config names, but not for images and their labels."""
    return [*(("split.column", name) for name in source.columns), *(("data.ignore", name) for name in ignore or ())]


def column_problems(table: Table, named: Sequence[tuple[str, str | None]]) -> Iterator[str]:
    """What is wrong with the names of the columns, and with these names (key, column) that the config has for them.

    A column has one role: it is not named by two keys.
    """
    for column, count in Counter(table.names).items():
        if count > 1:
            yield (
                f"column {column!r} stands {count} times in the header"
                if column
                else f"{count} columns have no name in the header, although they hold text: name them there"
            )
    key_of: dict[str, str] = {}
    names = set(table.names)
    for key, name in named:
        if name is None:
            continue
        if name not in names:
            yield f"no column {name!r} ({key}){hint(name, table.names)}"
        elif key_of.setdefault(name, key) != key:
            yield f"column {name!r} is named by {key_of[name]} and by {key}, expected one of them"
