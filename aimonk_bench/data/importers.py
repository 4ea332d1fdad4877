"""Label formats: each importer turns a label file into a `Sheet` of columns and problems.

The keyword-only parameters of an importer are the keys of `data` that it reads. A new importer is a function and a
place in `IMPORTERS`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aimonk_bench.config.fields import DataConfig
from aimonk_bench.data import frames, json_lines
from aimonk_bench.data.dialects import NAMES, WHITE_SPACE
from aimonk_bench.data.tables import Table, read_table
from aimonk_bench.data.tags import LIST, split_tags
from aimonk_bench.data.text import read_text
from aimonk_bench.data.tokens import is_image_file, is_value, spelling_of
from aimonk_bench.data.values import listed
from aimonk_bench.registry import hint

TABLE_SUFFIXES = (".csv", ".tsv", *frames.SUFFIXES)
TAG_COLUMNS = ("tags", "tag", "labels", "label", "target", "targets", "classes", "categories", "finding labels")
ODD_ATTRIBUTES = re.compile(  # names of columns that are rarely attributes of an image
    r"(folds?|split|subset|partition|is_?(valid|train|test|val)|index|idx|id|width|height|size|channels|.*_(id|index|width|height))",
    re.IGNORECASE,
)


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
        others: [R] each of the columns that the source is asked for.
        problems: (line, message); a row with a problem is not in ``names``.
        understood: one line on how the file was read, with its first row.
        notes: what was left out.
        warnings: what is probably not meant.
    """

    attributes: dict[str, int] = field(default_factory=dict)
    names: NDArray[np.object_] = field(default_factory=lambda: np.empty(0, object))
    columns: list[pd.Categorical] = field(default_factory=list)
    lines: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    groups: pd.Categorical | None = None
    others: dict[str, pd.Categorical] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    understood: str = ""
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
    return _wide(source, table, attributes, {"data.id": table.names[0]}, ignore or [])


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
    table = source.table(separator, header, encoding)
    return _wide(source, table, attributes, {"data.id": id or table.names[0], "data.group": group}, ignore or [])


def _wide(
    source: Source, table: Table, attributes: list[str] | None, columns: Mapping[str, str | None], ignore: list[str]
) -> Sheet:
    """The sheet of a table with one column per attribute.

    Args:
        attributes: with a header those of its names that are attributes, else names for all columns that are left.
        columns: key of the config -> column that it names.
    """
    sheet = Sheet(problems=[*table.problems])
    reserved = [*columns.items(), *(("split.column", name) for name in source.columns)]
    reserved += [("data.ignore", name) for name in ignore]
    taken = {name for _, name in reserved}
    free = [name for name in table.names if name not in taken]
    column_of = {name: name for name in (attributes or free)}
    unsound = []
    if attributes is not None and not table.dialect.header:
        column_of = dict(zip(attributes, free, strict=False))
        if len(free) != len(attributes):
            count = f"{len(free)} column{'' if len(free) == 1 else 's'} of labels"
            unsound.append(f"found {count} ({table.dialect}), expected {len(attributes)} (data.attributes)")
    unsound += _column_problems(table, [*reserved, *(("data.attributes", name) for name in column_of.values())])
    if not column_of:
        unsound.append(
            f"found no attribute beside the columns {', '.join(filter(None, taken))} ({table.dialect}); "
            'if another character separates the columns, write under data: `separator: "|"`'
        )
    sheet.attributes = dict.fromkeys(column_of, table.header_line if table.dialect.header else 0)
    if unsound:  # nothing can be said about the cells
        sheet.problems += [(table.header_line, text) for text in unsound]
        return sheet
    sheet.columns = [table.column(name) for name in column_of.values()]
    _fill(sheet, source, table, columns)
    id_column = str(columns["data.id"])
    unused = [name for name in table.names if name not in {*taken, *column_of.values()} or name in ignore]
    sheet.understood = _understood(table, sheet, repr(id_column), columns.get("data.group"), unused)
    sheet.notes += table.notes
    sheet.warnings += _doubts(table, None if attributes else [*column_of], id_column)
    return sheet


def _fill(sheet: Sheet, source: Source, table: Table, columns: Mapping[str, str | None]) -> None:
    """What every table has beside its labels: names of images, lines, groups and other columns."""
    sheet.names, sheet.lines = np.asarray(table.column(str(columns["data.id"])), object), table.lines
    group = columns.get("data.group")
    sheet.groups = None if group is None else table.column(group)
    sheet.others = {name: table.column(name) for name in source.columns}


def _understood(table: Table, sheet: Sheet, images: str, group: str | None, unused: Sequence[str]) -> str:
    """One line about how a file was read, with its first row."""
    parts = [str(table.dialect), f"images in column {images}", f"attributes {listed([*sheet.attributes])}"]
    if group is not None:
        parts.append(f"groups in column {group!r}")
    if unused:
        parts.append(f"ignored columns {listed(unused)}")
    return "; ".join([*parts, *_first_row(sheet)])


def _first_row(sheet: Sheet) -> Iterator[str]:
    """The first row as it was read."""
    if len(sheet.names):
        row = [f"{name}={_shown(column)}" for name, column in zip(sheet.attributes, sheet.columns, strict=True)]
        yield f"first row: {sheet.names[0]} {listed(row)}"


def _shown(column: pd.Categorical) -> str:
    """The first cell of a column of tokens or labels."""
    if column.codes[0] < 0:
        return "NA"
    cell = column.categories[column.codes[0]]
    return str(int(cell)) if isinstance(cell, bool) else repr(cell)


def _doubts(table: Table, attributes: Sequence[str] | None, id_column: str) -> Iterator[str]:
    """What is probably not meant: columns that are rarely attributes, and another column that holds the images."""
    if odd := [name for name in attributes or () if ODD_ATTRIBUTES.fullmatch(name)]:
        yield (
            f"read as {'attributes' if len(odd) > 1 else 'an attribute'}: {listed(odd)}; "
            f"if that is wrong, write under data: `ignore: {json.dumps(odd, ensure_ascii=False)}`"
        )
    if not any(map(is_image_file, table.column(id_column).categories)):
        names = [name for name in table.names if all(map(is_image_file, table.column(name).categories))]
        if len(table.lines) and names:
            yield (
                f"column {id_column!r} names the images, but {names[0]!r} holds names of image files; if these are the "
                f"images, write under data: `id: {json.dumps(names[0], ensure_ascii=False)}`"
            )


def label_list(
    source: Source,
    attributes: list[str] | None,
    *,
    absent: Literal["negative", "missing"],
    separator: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    id: str | None = None,
    tags: str | None = None,
    tag_separator: str | None = None,
    other_tags: Literal["error", "ignore"] = "error",
    group: str | None = None,
) -> Sheet:
    """A column of image names and one of tags, such as cat|dog; `data.absent` says what an absent tag means."""
    table = source.table(separator, header, encoding)
    sheet = Sheet(dict.fromkeys(attributes or (), 0), problems=[*table.problems])
    columns = {"data.id": id if id is not None else table.names[0], "data.group": group}
    columns["data.tags"] = tags if tags is not None else tag_column(table, [*columns.values(), *source.columns])
    others = [("split.column", name) for name in source.columns]
    unsound = [*_column_problems(table, [*columns.items(), *others])]
    if columns["data.tags"] is None:
        unsound.append(f"found the columns {listed(table.names)}, expected to know which holds the tags (data.tags)")
    if unsound:
        sheet.problems += [(table.header_line, text) for text in unsound]
        return sheet
    id_column, tags_column = str(columns["data.id"]), str(columns["data.tags"])
    read = split_tags(
        pd.Series(table.column(tags_column)),
        separator=tag_separator,
        missing=source.missing,
        attributes=attributes,
        other_tags=other_tags,
    )
    sheet.problems += [(int(table.lines[row]) if len(table.lines) else 1, text) for row, text in read.problems]
    sheet.warnings += read.warnings
    if read.problems:
        return sheet
    sheet.attributes = {
        name: int(table.lines[row]) if row >= 0 else 0 for name, row in zip(read.names, read.first_rows, strict=True)
    }
    _fill(sheet, source, table, columns)
    unknown = read.missing[:, None] | (~read.present & (absent == "missing"))
    codes = np.where(unknown, -1, read.present).astype(np.int8)
    sheet.columns = [
        pd.Categorical.from_codes(column, categories=pd.Index([False, True], dtype=object)) for column in codes.T
    ]
    separated = {None: "one tag in each cell", LIST: "lists of tags"}.get(
        read.separator, f"tags separated by {NAMES.get(str(read.separator), repr(read.separator))}"
    )
    unused = [name for name in table.names if name not in (*columns.values(), *source.columns)]
    images = f"{id_column!r}, tags in {tags_column!r} ({separated})"
    sheet.understood = _understood(table, sheet, images, group, unused)
    sheet.notes += [*table.notes, *read.notes]
    return sheet


def tag_column(table: Table, others: Sequence[str | None] = ()) -> str | None:
    """The one column beside these others, or the one with a usual name; None if there are several or none."""
    free = [name for name in table.names if name not in (others or table.names[:1])]
    usual = [name for name in free if name.strip().lower() in TAG_COLUMNS]
    return free[0] if len(free) == 1 else usual[0] if len(usual) == 1 else None


def _column_problems(table: Table, named: Sequence[tuple[str, str | None]]) -> Iterator[str]:
    """What is wrong with the names of the columns, and with these names (key, column) that the config has for them.

    A column has one role: it is not named by two keys.
    """
    for column, count in Counter(table.names).items():
        if count > 1:
            yield f"column {column!r} stands {count} times in the header"
    key_of: dict[str, str] = {}
    for key, name in named:
        if name is None:
            continue
        if name not in table.names:
            yield f"no column {name!r} ({key}){hint(name, table.names)}"
        elif key_of.setdefault(name, key) != key:
            yield f"column {name!r} is named by {key_of[name]} and by {key}, expected one of them"


def jsonl(
    source: Source, attributes: list[str] | None, *, encoding: str | None = None, group: str | None = None
) -> Sheet:
    """One JSON object a line: {"image": "a.jpg", "labels": {"x": 1, "y": null}, "group": "g"}."""
    sheet = Sheet(dict.fromkeys(attributes or (), 0))
    group_key = group or "group"
    records, lines = [], []
    for line, record, problems in json_lines.records(source.text(encoding), (group_key, *source.columns)):
        if not problems and attributes is not None:
            problems = [
                f"undeclared attribute {name!r}, expected one of {', '.join(attributes)}{hint(name, attributes)}"
                for name in record["labels"]
                if name not in attributes
            ]
        if problems:
            sheet.problems += [(line, problem) for problem in problems]
            continue
        records.append(record)
        lines.append(line)
        for attribute in record["labels"]:
            sheet.attributes.setdefault(attribute, line)
    sheet.names = np.array([record["image"] for record in records], object)
    sheet.lines = np.array(lines, np.int64)
    sheet.columns = [
        _categorical(_token(record["labels"].get(name)) for record in records) for name in sheet.attributes
    ]
    sheet.groups = _categorical(record.get(group_key) for record in records)
    sheet.others = {key: _categorical(record.get(key) for record in records) for key in source.columns}
    sheet.understood = "; ".join(["one JSON object per line", *_first_row(sheet)])
    return sheet


def _token(value: str | bool | None) -> str | None:
    """The token of a JSON value: true and false are 1 and 0."""
    return str(int(value)) if isinstance(value, bool) else value


def _categorical(texts: Iterable[str | None]) -> pd.Categorical:
    """Texts [R] as a column; None has no category."""
    codes, categories = pd.factorize(np.array([None if text is None else text.strip() for text in texts], object))
    return pd.Categorical.from_codes(codes, categories=pd.Index(categories, dtype=object))


def guess(source: Source, data: DataConfig) -> tuple[str, str]:
    """The importer that ``data.importer: auto`` chooses for this file, and the reason."""
    suffix = source.path.suffix.lower()
    if suffix in (".jsonl", ".ndjson", ".json"):
        return "jsonl", f"extension {suffix}"
    if suffix not in frames.SUFFIXES and (start := re.match(r"\s*(\{|\[\s*\{)", source.text(data.encoding))):
        return "jsonl", f"the text begins with {start[1][0]}"
    table = source.table(data.separator, data.header, data.encoding)
    column = data.tags or tag_column(table, [data.id or table.names[0], data.group])
    if column in table.names:
        cells = table.column(column).categories
        labels = [name for name in table.names if all(map(spelling_of, table.column(name).categories))]
        if data.tags or column == "tags" or (not labels and not any(map(is_value, cells))):
            return "label_list", f"column {column!r} holds tags"
    if table.dialect.separator in (WHITE_SPACE, "\t") and not table.dialect.header and suffix not in TABLE_SUFFIXES:
        return "labels_txt", "the first line is separated by white space"
    return "wide_csv", f"extension {suffix}" if suffix in TABLE_SUFFIXES else "a table with a column for each attribute"


IMPORTERS: dict[str, Importer] = {
    "labels_txt": labels_txt,
    "wide_csv": wide_csv,
    "label_list": label_list,
    "jsonl": jsonl,
}
