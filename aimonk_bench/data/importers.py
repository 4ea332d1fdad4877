"""Label formats: each importer turns a label file into a `Sheet` of columns and problems.

The keyword-only parameters of an importer are the keys of `data` that it reads. A new importer is a function and a
place in `IMPORTERS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pandas as pd

from aimonk_bench.config.fields import DataConfig
from aimonk_bench.config.split_fields import GroupRegex
from aimonk_bench.data import frames, json_lines
from aimonk_bench.data.annotations import COCO_SECTIONS, coco, long_csv
from aimonk_bench.data.cells import coded, column_of, text_of
from aimonk_bench.data.dialects import WHITE_SPACE, name_of
from aimonk_bench.data.matlab import read_matlab
from aimonk_bench.data.sheets import (
    Sheet,
    Source,
    column_problems,
    fill,
    first_row,
    image_column,
    reserved,
    sheet_of,
    tag_column,
    understood,
    unread_tags,
)
from aimonk_bench.data.tables import Table
from aimonk_bench.data.tags import LIST, holds, split_tags
from aimonk_bench.data.tokens import decimal_of, is_value, spelling_of
from aimonk_bench.data.values import listed
from aimonk_bench.errors import count
from aimonk_bench.registry import hint, options_model

TABLE_SUFFIXES = (".csv", ".tsv", *json_lines.SUFFIXES, *frames.SUFFIXES)
PART_FLAG = r"((is|in|for)[ _]?)?(?P<part>train|val|test|hold[ _]?out)(ing|id|idation)?([ _]?(set|flag))?"
ODD_ATTRIBUTES = re.compile(  # names of columns that are rarely attributes of an image
    rf"(folds?|split|subset|partition|{PART_FLAG}|index|idx|id|width|height|size|channels|.*_(id|index|width|height))",
    re.IGNORECASE,
)


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
    others = [*(ignore or ()), *(attributes or ()), *source.columns, *([group] if group is not None else ())]
    images = id if id is not None else image_column(table, others)
    return _wide(source, table, attributes, {"data.id": images, "data.group": group}, ignore or [])


def mat(source: Source, attributes: list[str] | None) -> Sheet:
    """A MATLAB file: lists of image names, a matrix of labels beside each, and names of the attributes (PA-100K)."""
    ignore = [] if "split" in source.columns else ["split"]
    return _wide(source, read_matlab(source.path), attributes, {"data.id": "image"}, ignore)


def _wide(
    source: Source, table: Table, attributes: list[str] | None, columns: Mapping[str, str | None], ignore: list[str]
) -> Sheet:
    """The sheet of a table with one column per attribute.

    Args:
        attributes: with a header those of its names that are attributes, else names for all columns that are left.
        columns: key of the config -> column that it names.
    """
    named = [*columns.items(), *reserved(source, ignore)]
    taken = dict.fromkeys(name for _, name in named if name is not None)
    free = [name for name in table.names if name not in taken]
    column_of_attribute = {name: name for name in (attributes or free)}
    unsound = []
    if attributes is not None and not table.dialect.header:
        column_of_attribute = dict(zip(attributes, free, strict=False))
        if len(free) != len(attributes):
            unnamed = count(len(free), "column")
            unsound.append(f"found {unnamed} of labels ({table.dialect}), expected {len(attributes)} (data.attributes)")
    label_columns = [*column_of_attribute.values()]
    unsound += column_problems(table, [*named, *(("data.attributes", name) for name in label_columns)])
    if not label_columns:
        unsound.append(
            f"found no attribute beside the columns {', '.join(filter(None, taken))} ({table.dialect}); "
            'if another character separates the columns, write under data: `separator: "|"`'
        )
    sheet = sheet_of(table, unsound)
    sheet.attributes = dict.fromkeys(column_of_attribute, table.header_line if table.dialect.header else 0)
    if unsound:  # nothing can be said about the cells
        return sheet
    sheet.columns = {name: table.column(column) for name, column in column_of_attribute.items()}
    fill(sheet, source, table, columns)
    read = {*taken, *label_columns}.difference(ignore)
    sheet.understood = understood(table, sheet, repr(columns["data.id"]), columns.get("data.group"), read)
    odd = [name for name in label_columns if ODD_ATTRIBUTES.fullmatch(name)]
    if odd and attributes is None:
        sheet.warnings.append(
            f"read as {'attributes' if len(odd) > 1 else 'an attribute'}: {listed(odd)}; "
            f"if that is wrong, write under data: `ignore: {json.dumps(odd, ensure_ascii=False)}`"
        )
    return sheet


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
    columns = {"data.id": id if id is not None else image_column(table), "data.group": group}
    columns["data.tags"] = tags if tags is not None else tag_column(table, [*columns.values(), *source.columns])
    unsound = [*column_problems(table, [*columns.items(), *reserved(source)])]
    if columns["data.tags"] is None:
        unsound.append(f"found the columns {listed(table.names)}, expected to know which holds the tags (data.tags)")
    sheet = sheet_of(table, unsound)
    sheet.attributes = dict.fromkeys(attributes or (), 0)
    if unsound:
        return sheet
    tags_column = str(columns["data.tags"])
    read = split_tags(
        pd.Series(table.column(tags_column)),
        separator=tag_separator,
        missing=source.missing,
        attributes=attributes,
        other_tags=other_tags,
    )
    sheet.problems += [(int(table.lines[row]) if len(table.lines) else 1, text) for row, text in read.problems]
    sheet.warnings += read.warnings
    sheet.notes += read.notes
    read_otherwise = {columns["data.id"], group, *source.columns}
    texts_of = {name: table.column(name).categories for name in table.names if name not in read_otherwise}
    if (unread := unread_tags(tags_column, texts_of)) is not None:
        sheet.warnings.append(unread)
    if read.problems:
        return sheet
    sheet.attributes = {
        name: int(table.lines[row]) if row >= 0 else 0 for name, row in zip(read.names, read.first_rows, strict=True)
    }
    unknown = read.missing[:, None] | (~read.present & (absent == "missing"))
    codes = np.where(unknown, -1, read.present).astype(np.int8)
    sheet.columns = {name: coded(column, [False, True]) for name, column in zip(read.names, codes.T, strict=True)}
    fill(sheet, source, table, columns)
    separated = {None: "one tag in each cell", LIST: "lists of tags"}.get(
        read.separator, f"tags separated by {name_of(str(read.separator))}"
    )
    images = f"{columns['data.id']!r}, tags in {tags_column!r} ({separated})"
    sheet.understood = understood(table, sheet, images, group, {*columns.values(), *source.columns})
    return sheet


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
    sheet.columns = {
        name: column_of(_token(record["labels"].get(name)) for record in records) for name in sheet.attributes
    }
    sheet.groups = column_of(_token(record.get(group_key)) for record in records)
    sheet.others = {key: column_of(_token(record.get(key)) for record in records) for key in source.columns}
    sheet.understood = "; ".join(["one JSON object per line", *first_row(sheet)])
    return sheet


def _token(value: str | bool | None) -> str | None:
    """The token of a JSON value; null has none."""
    return None if value is None else text_of(value).strip()


def guess(source: Source, data: DataConfig, group: str | None) -> tuple[str, str]:
    """The importer that ``data.importer: auto`` chooses for this file, and the reason.

    Args:
        group: the group column; None where groups come from elsewhere.
    """
    suffix = source.path.suffix.lower()
    if suffix == ".mat":
        return "mat", f"extension {suffix}"
    if suffix == ".json" and all(f'"{section}"' in source.text(data.encoding) for section in COCO_SECTIONS):
        return "coco", f"a JSON file with {', '.join(COCO_SECTIONS)}"
    if suffix not in frames.SUFFIXES:
        text = source.text(data.encoding)
        is_json = suffix in (".json", *json_lines.SUFFIXES)
        is_document = suffix == ".json" and "\n" not in text.strip()
        if (is_json or json_lines.begins(text)) and (is_document or not json_lines.is_table(text)):
            return "jsonl", f"extension {suffix}" if is_json else f"the text begins with {text.lstrip()[0]}"
    table = source.table(data.separator, data.header, data.encoding)
    if long_keys := [
        key for key in ("value", "certainty", "image_names", "tag_names") if getattr(data, key) is not None
    ]:
        return "long_csv", f"data.{long_keys[0]} is set"
    images = data.id or image_column(table)
    column = data.tags or tag_column(table, [images, group, *source.columns])
    if column in table.names and images in table.names:
        texts = [text for text in table.column(column).categories if spelling_of(text) != "missing"]
        labels = [name for name in table.names if all(map(spelling_of, table.column(name).categories))]
        between = [-1 <= number <= 1 for text in texts if (number := decimal_of(text)) is not None]  # 0,5 is no list
        several = len(between) < len(texts) or not all(between)
        several = several and any(len(re.findall(r"[^\s|;,，、；｜]+", text)) > 1 for text in texts)
        tags = (
            data.tags is not None or column == "tags" or several or (len(texts) > 0 and not any(map(is_value, texts)))
        )
        repeated = len(table.column(images).categories) < len(table.lines)
        if (
            tags
            and repeated
            and not any(holds(text, mark) for text in texts for mark in "|;,")
            and data.duplicates == "error"
        ):
            return "long_csv", f"images stand in several rows, each with a label in column {column!r}"
        asked = data.tags is not None or data.absent is not None
        tags |= data.absent is not None and not labels  # classes that are numbers
        if tags and (asked or column == "tags" or not labels or several):
            return "label_list", f"column {column!r} holds tags"
    free = [name for name in table.names if name not in (images, group, *source.columns)]
    words = any(not all(map(is_value, table.column(name).categories)) for name in free)
    if data.tags is not None or (data.absent is not None and column is None and words):
        return "label_list", "data.tags or data.absent is set"
    if table.dialect.separator in (WHITE_SPACE, "\t") and not table.dialect.header and suffix not in TABLE_SUFFIXES:
        return "labels_txt", "the first line is separated by white space"
    return "wide_csv", f"extension {suffix}" if suffix in TABLE_SUFFIXES else "a table with a column for each attribute"


def read_sheet(source: Source, data: DataConfig) -> Sheet:
    """The label file as the importer of the config reads it."""
    importer = IMPORTERS[data.importer]
    options = {key: getattr(data, key) for key in options_model(importer).model_fields}
    if isinstance(data.group, GroupRegex) and "group" in options:
        options["group"] = None  # groups come from the names of images
    return importer(source, data.attributes, **options)


IMPORTERS: dict[str, Importer] = {
    "labels_txt": labels_txt,
    "wide_csv": wide_csv,
    "label_list": label_list,
    "jsonl": jsonl,
    "long_csv": long_csv,
    "coco": coco,
    "mat": mat,
}
