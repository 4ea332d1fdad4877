"""Label formats: each importer turns the lines of one file into a `Sheet` of cells and problems.

The keyword-only parameters of an importer are the keys of `data` that it reads. A new importer is a function and a
place in `IMPORTERS`.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aimonk_bench.registry import nearest

# A token that `data.values` explains, or the state itself: True positive, False negative, None missing.
Cell = str | bool | None


@dataclass(frozen=True)
class Row:
    """One image as its line describes it, with one cell per attribute of the sheet; ``line`` counts from 1."""

    line: int
    name: str
    cells: tuple[Cell, ...]
    group: str | None = None


@dataclass
class Sheet:
    """The content of a label file as an importer read it.

    Attributes:
        attributes: name -> the first line that has it, 0 if it comes from the config.
        rows: in the order of the file.
        problems: (line, message); a row with a problem is not in ``rows``.
    """

    attributes: dict[str, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)


Importer = Callable[..., Sheet]  # (lines, attributes or None where the file names them, **options)


def labels_txt(lines: Sequence[str], attributes: list[str] | None) -> Sheet:
    """Name, then one token per attribute, separated by white space; no header."""
    records = [(line, text.split()) for line, text in enumerate(lines, 1) if text.strip()]
    names = attributes
    if names is None:
        # the usual count, so that one short first line is blamed and not all the others
        usual = Counter(len(words) - 1 for _, words in records).most_common(1)[0][0] if records else 0
        names = [f"attr{number}" for number in range(1, usual + 1)]
    sheet = Sheet(dict.fromkeys(names, 0))
    for line, (name, *tokens) in records:
        if len(tokens) == len(names) > 0:
            sheet.rows.append(Row(line, name, tuple(tokens)))
        else:
            sheet.problems.append(
                (line, f"found a name and {_count(tokens, 'token')}, expected {len(names) or 'some'}")
            )
    return sheet


def wide_csv(
    lines: Sequence[str], attributes: list[str] | None, *, id: str | None = None, group: str | None = None
) -> Sheet:
    """A header, an id column and one column per attribute; comma, semicolon or tab."""
    sheet = Sheet()
    header_line, header, records = _table(lines, sheet)
    if not header:
        return sheet
    reserved = {"data.id": id or header[0], "data.group": group}
    names = attributes or [name for name in header if name not in reserved.values()]
    sheet.attributes = dict.fromkeys(names, header_line)
    unsound = [
        f"column {name!r} stands {count} times in the header" for name, count in Counter(header).items() if count > 1
    ]
    for key, name in [*(("data.attributes", name) for name in names), *reserved.items()]:
        if name is not None and name not in header:
            unsound.append(f"no column {name!r} ({key}){_hint(name, header)}")
        elif key == "data.attributes" and name in reserved.values():
            unsound.append(f"column {name!r} is the id or the group, it cannot be an attribute too")
    if not names:
        unsound.append(f"found no attribute beside the columns {', '.join(filter(None, reserved.values()))}")
    if unsound:  # nothing can be said about the cells
        sheet.problems += [(header_line, text) for text in unsound]
        return sheet
    for line, record in records:
        cells = tuple(record[name].strip() for name in names)
        sheet.rows.append(Row(line, record[id or header[0]], cells, _group(record, group)))
    return sheet


def label_list(
    lines: Sequence[str],
    attributes: list[str] | None,
    *,
    absent: Literal["negative", "missing"],
    group: str | None = None,
) -> Sheet:
    """The header image,tags; tags separated by | or space; `data.absent` says what an absent tag means."""
    sheet = Sheet(dict.fromkeys(attributes or (), 0))
    header_line, header, records = _table(lines, sheet)
    if not header:
        return sheet
    expected = ["image", "tags", *([group] if group else [])]
    if sorted(header) != sorted(expected):
        sheet.problems.append((header_line, f"found the header {','.join(header)}, expected {','.join(expected)}"))
        return sheet
    tagged = [(line, record, re.findall(r"[^|\s]+", record["tags"])) for line, record in records]
    if attributes is None:
        first = {tag: line for line, _, tags in reversed(tagged) for tag in tags}
        sheet.attributes = {tag: first[tag] for tag in sorted(first)}
    otherwise = None if absent == "missing" else False
    for line, record, tags in tagged:
        undeclared = _undeclared("tag", tags, sheet.attributes)
        sheet.problems += [(line, text) for text in undeclared]
        if not undeclared:
            states = tuple(True if name in tags else otherwise for name in sheet.attributes)
            sheet.rows.append(Row(line, record["image"], states, _group(record, group)))
    return sheet


def jsonl(lines: Sequence[str], attributes: list[str] | None, *, group: str | None = None) -> Sheet:
    """One JSON object a line: {"image": "a.jpg", "labels": {"x": 1, "y": null}, "group": "g"}."""
    sheet = Sheet(dict.fromkeys(attributes or (), 0))
    group_key = group or "group"
    records = []
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            record = _json_object(text)
            problems = _record_problems(record, group_key)
        except ValueError as error:
            problems = [f"not a JSON object: {error}"]
        if not problems and attributes is not None:
            problems = _undeclared("attribute", record["labels"], sheet.attributes)
        if problems:
            sheet.problems += [(line, problem) for problem in problems]
            continue
        records.append((line, record))
        for name in record["labels"]:
            sheet.attributes.setdefault(name, line)
    for line, record in records:
        values = (record["labels"].get(name) for name in sheet.attributes)
        cells = tuple(str(int(value)) if isinstance(value, bool) else value for value in values)
        sheet.rows.append(Row(line, record["image"], cells, record.get(group_key) or None))
    return sheet


class _Number(str):
    """A JSON number as the file writes it: a token of any length."""


def _json_object(text: str) -> dict[str, Any]:
    """The object of one line.

    Raises:
        ValueError: not JSON, not an object, a key twice in one object, or nested too deeply.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if twice:
            raise ValueError(f"key {twice[0]!r} stands twice in one object")
        return dict(pairs)

    try:
        record = json.loads(
            text, object_pairs_hook=unique, parse_int=_Number, parse_float=_Number, parse_constant=_Number
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("expected { and }")
    return record


def _record_problems(record: dict[str, Any], group_key: str) -> list[str]:
    keys = ("image", "labels", group_key)
    problems = [
        f"unknown key {key!r}, expected {', '.join(keys)}{_hint(key, keys)}" for key in record if key not in keys
    ]
    if type(record.get("image")) is not str:
        problems.append("'image' must be the name of an image")
    if not isinstance(record.get(group_key), str | None):
        problems.append(f"{group_key!r} must be a string, a number or null")
    labels = record.get("labels")
    if not isinstance(labels, dict):
        return [*problems, "'labels' must be an object with a value per attribute"]
    nested = [name for name, value in labels.items() if isinstance(value, list | dict)]
    return problems + [f"attribute {name!r}: found a list or an object, expected one value" for name in nested]


def _table(lines: Sequence[str], sheet: Sheet) -> tuple[int, list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Split a delimited file.

    Malformed records, and those that are shorter or longer than the header, go to the sheet's problems.

    Returns:
        The line of the header; its stripped names, none if it is malformed; and (line, name -> cell) of every record.
    """
    records = _records(lines, sheet)
    header_line, names = next(records, (0, []))
    header = [] if sheet.problems else [name.strip() for name in names]
    return header_line, header, ((line, dict(zip(header, cells, strict=True))) for line, cells in records)


def _records(lines: Sequence[str], sheet: Sheet) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, cells) of every record that is not blank and as long as the first one."""
    delimiter = _delimiter(next(text for text in lines if text.strip()))
    reader = csv.reader((text + "\n" for text in lines), delimiter=delimiter, strict=True)
    columns = 0
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            sheet.problems.append((line, f"malformed record: {error}"))
            continue
        if len(cells) <= 1 and not "".join(cells).strip():
            continue
        columns = columns or len(cells)
        if len(cells) == columns:
            yield line, cells
        else:
            separator = {"\t": "tab"}.get(delimiter, delimiter)
            problem = f"found {_count(cells, 'column')} (separator {separator}), expected {columns}"
            sheet.problems.append((line, problem))


def _group(record: dict[str, str], column: str | None) -> str | None:
    """The group of a record; None where there is no such column, or no value in it."""
    return record[column].strip() or None if column else None


def _delimiter(header: str) -> str:
    """Comma, semicolon or tab: the one that occurs most often in the header, outside quotes."""
    return max(",;\t", key=re.sub(r'"[^"]*"', "", header).count)


def _undeclared(kind: str, names: Iterable[str], declared: Iterable[str]) -> list[str]:
    choices = list(declared)
    return [
        f"undeclared {kind} {name!r}, expected one of {', '.join(choices)}{_hint(name, choices)}"
        for name in names
        if name not in choices
    ]


def _hint(name: str, choices: Iterable[str]) -> str:
    near = nearest(name, choices)
    return f" (did you mean {near}?)" if near else ""


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def guess(file: Path, lines: Sequence[str]) -> tuple[str, str]:
    """The importer that ``data.importer: auto`` chooses for this file, and the reason."""
    first = next((text for text in lines if text.strip()), "")
    suffix = file.suffix.lower()
    if suffix in (".jsonl", ".ndjson") or first.lstrip().startswith("{"):
        return "jsonl", f"extension {suffix}" if suffix in (".jsonl", ".ndjson") else "the first line begins with {"
    columns = [name.strip(' "') for name in first.split(_delimiter(first))]
    if columns[:2] == ["image", "tags"]:
        return "label_list", "the header begins with image,tags"
    if suffix in (".csv", ".tsv"):
        return "wide_csv", f"extension {suffix}"
    if "," in first or ";" in first:
        return "wide_csv", "the first line is separated by commas or semicolons"
    return "labels_txt", "the first line is separated by white space"


IMPORTERS: dict[str, Importer] = {
    "labels_txt": labels_txt,
    "wide_csv": wide_csv,
    "label_list": label_list,
    "jsonl": jsonl,
}
