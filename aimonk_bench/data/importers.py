"""Label formats: each importer turns a label file into a `Sheet` of columns and problems.

The keyword-only parameters of an importer are the keys of `data` that it reads. A new importer is a function and a
place in `IMPORTERS`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aimonk_bench.config.fields import DataConfig
from aimonk_bench.data import json_lines
from aimonk_bench.data.dialects import WHITE_SPACE
from aimonk_bench.data.tables import Table, read_table
from aimonk_bench.data.text import read_text
from aimonk_bench.registry import hint

ODD_ATTRIBUTES = re.compile(  # names of columns that are rarely attributes of an image
    r"(fold|split|subset|partition|is_?(valid|train|test|val)|index|idx|id|width|height|size|age|year|count|Unnamed: \d+)",
    re.IGNORECASE,
)


@dataclass
class Source:
    """A label file, read once for the choice of the importer and for the importer."""

    path: Path
    _tables: dict[tuple[Any, ...], Table] = field(default_factory=dict)

    def table(self, separator: str | None = None, header: bool | None = None, encoding: str | None = None) -> Table:
        """The file as a table; see `read_table`."""
        key = separator, header, encoding
        if key not in self._tables:
            self._tables[key] = read_table(self.path, separator=separator, header=header, encoding=encoding)
        return self._tables[key]

    def text(self, encoding: str | None = None) -> str:
        """The file as text; see `read_text`."""
        return read_text(self.path, encoding)[0]


@dataclass
class Sheet:
    """R rows of a label file as an importer understood them.

    Attributes:
        attributes: A names -> the line that has it, 0 if it comes from the config.
        names: [R] images as the file writes them.
        columns: [A] of [R]. A category is a token, which `data.values` explains, or the label itself: True or False. No
            category: missing.
        lines: [R] from 1.
        groups: [R] values of the group column; None without such a column.
        problems: (line, message); a row with a problem is not in ``names``.
        notes: what was understood, and what was left out.
        warnings: what is probably not meant.
    """

    attributes: dict[str, int] = field(default_factory=dict)
    names: Sequence[str] = ()
    columns: list[pd.Categorical] = field(default_factory=list)
    lines: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    groups: pd.Categorical | None = None
    problems: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


Importer = Callable[..., Sheet]  # (source, attributes or None where the file names them, **options)


def labels_txt(
    source: Source,
    attributes: list[str] | None,
    *,
    header: bool | None = None,
    encoding: str | None = None,
    ignore: list[str] | None = None,
) -> Sheet:
    """Name, then one token per attribute, separated by white space or tabs; a header is optional."""
    table = source.table(None, header, encoding)
    if table.dialect.separator not in (WHITE_SPACE, "\t"):
        table = source.table(WHITE_SPACE, header, encoding)
    return _wide(table, attributes, id=None, group=None, ignore=ignore)


def wide_csv(
    source: Source,
    attributes: list[str] | None,
    *,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    id: str | None = None,
    group: str | None = None,
    ignore: list[str] | None = None,
) -> Sheet:
    """An id column and one column per attribute: text with any separator, Excel or Parquet."""
    return _wide(source.table(separator, header, encoding), attributes, id=id, group=group, ignore=ignore)


def _wide(
    table: Table, attributes: list[str] | None, *, id: str | None, group: str | None, ignore: list[str] | None
) -> Sheet:
    """The sheet of a table with one column per attribute.

    Args:
        attributes: with a header those of its names that are attributes, else names for all columns that are left.
    """
    sheet = Sheet(problems=[*table.problems], notes=[*table.notes])
    reserved = {"data.id": id if id is not None else table.names[0], "data.group": group}
    no_attributes = [*reserved.values(), *(ignore or ())]
    free = [name for name in table.names if name not in no_attributes]
    columns = {name: name for name in (attributes or free)}  # attribute -> column
    unsound = [f"column {name!r} stands {count} times" for name, count in Counter(table.names).items() if count > 1]
    if attributes is not None and not table.dialect.header:
        columns = dict(zip(attributes, free, strict=False))
        if len(free) != len(attributes):
            found = f"found {len(free)} column{'' if len(free) == 1 else 's'} of labels ({table.dialect})"
            unsound.append(f"{found}, expected {len(attributes)} (data.attributes)")
    named = [*reserved.items(), *(("data.ignore", name) for name in ignore or ())]
    for key, name in [*named, *(("data.attributes", name) for name in columns.values())]:
        if name is not None and name not in table.names:
            unsound.append(f"no column {name!r} ({key}){hint(name, table.names)}")
        elif key == "data.attributes" and name in no_attributes:
            unsound.append(f"column {name!r} is the id, the group or ignored, it cannot be an attribute too")
        elif key == "data.ignore" and name in reserved.values():
            unsound.append(f"column {name!r} is the id or the group, it cannot be ignored")
    if not columns:
        left_out = ", ".join(filter(None, no_attributes))
        unsound.append(
            f"found no attribute beside the columns {left_out} ({table.dialect}); if another character separates "
            'the columns, write under data: `separator: "|"`'
        )
    sheet.attributes = dict.fromkeys(columns, table.header_line if table.dialect.header else 0)
    if unsound:  # nothing can be said about the cells
        sheet.problems += [(table.header_line, text) for text in unsound]
        return sheet
    id_column = reserved["data.id"] or ""
    sheet.names, sheet.lines = np.asarray(table.column(id_column), object), table.lines
    sheet.columns = [table.column(name) for name in columns.values()]
    sheet.groups = table.column(group) if group is not None else None
    unused = [name for name in table.names if name not in (*reserved.values(), *columns.values())]
    sheet.notes.insert(0, _understood(table, sheet, id_column, group, unused))
    sheet.warnings += _doubts(table, [*columns.values()], id_column)
    return sheet
