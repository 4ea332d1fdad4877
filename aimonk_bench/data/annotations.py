"""Label formats with one record for each image and label: long tables, and COCO."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aimonk_bench.config.fields import Certainty, value_of
from aimonk_bench.data.cells import coded, column_of, counts_of, each_row
from aimonk_bench.data.merging import text_problem, texts_of_images
from aimonk_bench.data.sheets import (
    Sheet,
    Source,
    column_problems,
    first_row,
    image_column,
    reserved,
    sheet_of,
    tag_column,
    understood,
)
from aimonk_bench.data.tables import Table, read_table
from aimonk_bench.data.tag_choice import choose, is_unread_missing, unread_missing
from aimonk_bench.data.tokens import spelling_of
from aimonk_bench.data.values import listed
from aimonk_bench.errors import UserError

Absent = Literal["negative", "missing"]
OtherTags = Literal["error", "ignore"]
NOT_KNOWN = -1  # code of a cell without a category, in pandas
COCO_SECTIONS = ("images", "annotations", "categories")


def long_csv(
    source: Source,
    attributes: list[str] | None,
    *,
    absent: Absent,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    id: str | None = None,
    image_names: Path | None = None,
    tags: str | None = None,
    tag_names: Path | None = None,
    other_tags: OtherTags = "error",
    value: str | None = None,
    certainty: Certainty | None = None,
    group: str | None = None,
    ignore: list[str] | None = None,
) -> Sheet:
    """One row per image and label: a column of images, one of labels, and perhaps one of values (Open Images, CUB)."""
    table = source.table(separator, header, encoding)
    others = reserved(source, ignore)
    roles = {"data.id": id if id is not None else image_column(table), "data.group": group, "data.value": value}
    roles["data.certainty.column"] = certainty.column if certainty is not None else None
    named = [*roles.values(), *(name for _, name in others)]
    roles["data.tags"] = tags if tags is not None else tag_column(table, named)
    read = {*named, roles["data.tags"]}
    unsound = [*column_problems(table, [*roles.items(), *others])]
    if roles["data.tags"] is None:
        unsound.append(f"found the columns {listed(table.names)}, expected to know which holds the labels (data.tags)")
    if value is None and not unsound:
        unsound += _unread_values(table, read)
    sheet = sheet_of(table, unsound)
    if unsound:
        return sheet
    id_column, tags_column = str(roles["data.id"]), str(roles["data.tags"])
    images = _renamed(table, id_column, image_names, "image", sheet)
    labels = _renamed(table, tags_column, tag_names, "label", sheet)
    labels, is_unknown = _without_missing(labels, source.missing - {*(attributes or ())}, attributes, table, sheet)
    records = pd.DataFrame({"image": images.codes, "tag": labels, "line": table.lines, "unknown": is_unknown})
    records["state"] = _states(table, value, certainty, sheet)
    names = np.asarray(images.categories)
    per_image = {name: table.column(name) for name in (group, *source.columns) if name is not None}
    first = _first_rows(records)
    first_of_row = first[images.codes]
    texts_of = {}
    for name, column in per_image.items():
        texts = texts_of[name] = texts_of_images(column, source.missing if name == group else (), first_of_row)
        if len(later := np.flatnonzero(texts != texts[first_of_row])):
            problem = text_problem(name, texts, names[images.codes], table.lines, later, first_of_row[later])
            sheet.problems.append(problem)
    rows = _write(sheet, records, names, attributes, absent=absent, other_tags=other_tags)
    sheet.others = {name: column_of(texts[first[rows]]) for name, texts in texts_of.items()}
    sheet.groups = sheet.others.pop(group) if group is not None else None
    values = f"values in {value!r}" if value is not None else "all of them positive"
    where = f"{id_column!r}, labels in {tags_column!r}, {values}"
    sheet.understood = understood(table, sheet, where, group, read.difference(ignore or ()))
    return sheet


def _without_missing(
    labels: pd.Categorical, tokens: frozenset[str], attributes: list[str] | None, table: Table, sheet: Sheet
) -> tuple[pd.Categorical, NDArray[np.bool_]]:
    """The labels [R] without missing tokens, and the rows [R] that say so of their image: none of its labels is known.

    Args:
        tokens: that mean missing.
    """
    if (text := unread_missing(counts_of(labels), tokens, attributes or ())) is not None:
        unread = [tag for tag in labels.categories if is_unread_missing(tag, tokens, attributes or ())]
        sheet.problems.append((int(table.lines[np.flatnonzero(labels.isin(unread))[0]]), text))
    is_unknown = labels.isin([*(tokens - {""})])
    return labels.remove_categories([tag for tag in labels.categories if tag in tokens or tag == ""]), is_unknown


def _states(table: Table, value: str | None, certainty: Certainty | None, sheet: Sheet) -> pd.Categorical:
    """What each row says of its label [R]: a token, or True without a column of values; no category is missing."""
    states = coded(np.zeros(len(table.lines), np.int8), [True]) if value is None else table.column(value)
    if certainty is None:
        return states
    unsure = {value_of(token) for token in certainty.missing}
    column = table.column(certainty.column)
    tokens = {value_of(token) for token in column.categories}
    if lacking := [token for token in certainty.missing if value_of(token) not in tokens]:
        text = f"data.certainty.missing: no row has {listed([*map(repr, lacking)])} in column {certainty.column!r}"
        sheet.warnings.append(text)
    hidden = each_row(column, (value_of(token) in unsure for token in column.categories), False)
    return coded(np.where(hidden, NOT_KNOWN, states.codes), states.categories)


def _unread_values(table: Table, read: Collection[str | None]) -> Iterator[str]:
    """The problem that a table has columns of labels, and none of them is read."""
    for name in (name for name in table.names if name not in read):
        states = {spelling_of(token) for token in table.column(name).categories}
        if "negative" in states and None not in states:
            quoted = json.dumps(name, ensure_ascii=False)
            yield (
                f"column {name!r} says which labels are negative, but no key reads it; write under data: "
                f"`value: {quoted}`, or, if it means something else, `ignore: [{quoted}]`"
            )


def _renamed(table: Table, column: str, names: Path | None, kind: str, sheet: Sheet) -> pd.Categorical:
    """A column of ids, as names where a file of names is given; equal names are one category."""
    ids = table.column(column)
    if names is None:
        return ids
    name_of = names_of(names)
    lacking = [text for text in ids.categories if text and text not in name_of]
    if lacking:
        line = int(table.lines[np.flatnonzero(ids == lacking[0])[0]])
        sheet.problems.append((line, f"{names} has no name for the {kind} {listed([*map(repr, lacking)])}"))
    texts = [name_of.get(text, text) for text in ids.categories]
    codes, distinct = pd.factorize(np.array(texts, object))
    if shared := [name for name, count in Counter(texts).items() if count > 1]:
        sheet.warnings.append(
            f"{names} has several ids for the {kind} {listed([*map(repr, shared)])}; read as one {kind}"
        )
    return coded(codes[ids.codes], distinct)


def names_of(path: Path) -> dict[str, str]:
    """Id -> name: the first two columns of a table.

    A header is a row like any other: its id occurs nowhere.

    Raises:
        UserError: the file cannot be read, has one column only, or an id with two names.
    """
    table = read_table(path, header=False)
    problems = [f"{path}:{line}: {text}" for line, text in table.problems]
    if len(table.names) < 2:
        raise UserError([*problems, f"{path}:{table.header_line}: found one column, expected an id and its name"])
    names: dict[str, str] = {}
    for line, key, name in zip(table.lines, table.columns[0], table.columns[1], strict=True):
        if names.setdefault(key, name) != name:
            problems.append(f"{path}:{line}: id {key!r} has the name {name!r} here and {names[key]!r} before")
    if problems:
        raise UserError(problems)
    return names


def _first_rows(records: pd.DataFrame) -> NDArray[np.intp]:
    """The first record of each image [N]."""
    return np.unique(records["image"], return_index=True)[1]


def _write(
    sheet: Sheet,
    records: pd.DataFrame,
    names: NDArray[np.object_],
    attributes: list[str] | None,
    *,
    absent: Absent,
    other_tags: OtherTags,
) -> NDArray[np.intp]:
    """Write L records into a sheet, a row for each image; the number of each row's image.

    A label that an image has twice with different values opens a further row of the image, in which all else is
    missing: `data.duplicates` decides about rows of one image.

    Args:
        records: of one image and one label each. ``image``: its number; ``tag``: without one a record only lists its
            image; ``state``: a token, or the label itself, without one the label is missing; ``line``; ``unknown``:
            of the image only the records are known, whatever `data.absent` says.
        names: [N] images; each has a record.
    """
    tags, states = records["tag"].array, records["state"].array
    choice = choose(dict.fromkeys(tags.categories, 0) | counts_of(tags), attributes, other_tags)
    if choice.problem is not None:
        first = np.flatnonzero(tags.isin(choice.others[:1]))
        sheet.problems.append((int(records["line"].iloc[first[0]]) if len(first) else 1, choice.problem))
    sheet.notes += choice.notes
    sheet.warnings += choice.warnings
    number_of = {name: number for number, name in enumerate(choice.names)}
    categories = [False, *dict.fromkeys(map(_canonical, states.categories))]
    labels = records[["image", "line"]].copy()
    labels["number"] = each_row(tags, (number_of.get(tag, -1) for tag in tags.categories), -1)
    labels["code"] = each_row(states, (categories.index(_canonical(token)) for token in states.categories), NOT_KNOWN)
    labels = labels[labels["number"] >= 0]
    lines_of = labels.groupby("number")["line"].first()
    sheet.attributes = {name: int(lines_of.get(number, 0)) for name, number in number_of.items()}
    labels = labels.drop_duplicates(["image", "number", "code"])
    repeat = labels.groupby(["image", "number"]).cumcount()
    keys = np.concatenate([np.arange(len(names)), repeat * len(names) + labels["image"]])  # of rows of the sheet
    rows, distinct = pd.factorize(keys)
    rows, images = rows[len(names) :], distinct % len(names)
    cells = np.full((len(images), len(choice.names)), NOT_KNOWN, np.int8 if len(categories) < 127 else np.int32)
    if absent == "negative":
        cells[: len(names)] = 0  # the category False
        cells[records.loc[records["unknown"], "image"]] = NOT_KNOWN
    cells[rows, labels["number"]] = labels["code"]
    columns = (coded(column, categories).remove_unused_categories() for column in cells.T)
    sheet.columns = dict(zip(choice.names, columns, strict=True))
    sheet.names, sheet.lines = names[images], np.zeros(len(images), np.int64)
    sheet.lines[rows] = labels["line"]
    sheet.lines[: len(names)] = records["line"].iloc[_first_rows(records)]
    return images


def _canonical(token: str | bool) -> str | bool:
    """The token, so that equal numbers are one: ``1.0`` as ``1``."""
    number = value_of(token) if isinstance(token, str) else token
    return str(int(number)) if isinstance(number, float) and number.is_integer() else token


def coco(
    source: Source,
    attributes: list[str] | None,
    *,
    absent: Absent,
    encoding: str | None = None,
    other_tags: OtherTags = "error",
    group: str | None = None,
) -> Sheet:
    """An instances file of COCO: a category is positive where an image has an annotation of it."""
    sheet = Sheet()
    document = _document(source.text(encoding), sheet)
    names = _keyed(document, "images", "file_name", sheet)
    tags = _keyed(document, "categories", "name", sheet)
    image_numbers = {key: number for number, key in enumerate(names)}
    annotations = _items(document, "annotations", ("image_id", "category_id"), sheet)
    for key, section, ids in (("image_id", "images", names), ("category_id", "categories", tags)):
        strangers = [place for place, item in annotations.items() if item[key] not in ids]
        if strangers:
            item = annotations[strangers[0]]
            text = f"annotations[{strangers[0]}] has the {key} {item[key]!r}, which is no id of {section}"
            sheet.problems.append((1, f"{text} ({len(strangers)} of {len(annotations)} annotations)"))
    if sheet.problems:
        return sheet
    listing = [*range(len(names))]  # a record without a tag for each image
    images = [*listing, *(image_numbers[item["image_id"]] for item in annotations.values())]
    records = pd.DataFrame({"image": np.array(images, np.intp), "line": 1, "unknown": False})
    texts = [*(None for _ in listing), *(tags[item["category_id"]] for item in annotations.values())]
    records["tag"] = pd.Categorical(texts, categories=pd.Index([*tags.values()], dtype=object))
    records["state"] = coded(np.zeros(len(records), np.int8), [True])
    keys = [key for key in (group, *source.columns) if key is not None]
    items = document["images"]
    sheet.problems += [(1, f"no image has {key!r}") for key in keys if all(item.get(key) is None for item in items)]
    if not sheet.problems:
        rows = _write(
            sheet, records, np.array([*names.values()], object), attributes, absent=absent, other_tags=other_tags
        )
        texts_of = {key: ["" if item.get(key) is None else str(item[key]) for item in items] for key in keys}
        sheet.others = {key: column_of(texts)[rows] for key, texts in texts_of.items()}
        sheet.groups = sheet.others.pop(group) if group is not None else None
    parts = [f"{len(names)} images and {len(annotations)} annotations", f"attributes {listed([*sheet.attributes])}"]
    sheet.understood = "; ".join([*parts, *first_row(sheet)])
    return sheet


def _document(text: str, sheet: Sheet) -> dict[str, Any]:
    """A COCO file, without the outlines and boxes of its objects; empty where it cannot be read."""

    def slim(item: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in item.items() if key in COCO_SECTIONS or not isinstance(value, list | dict)}

    try:
        document = json.loads(text, object_hook=slim)
    except json.JSONDecodeError as error:
        sheet.problems.append((error.lineno, f"found no JSON: {error.msg} at column {error.colno}"))
        return {}
    except RecursionError:
        sheet.problems.append((1, "found JSON that is nested too deeply"))
        return {}
    if not isinstance(document, dict) or not all(isinstance(document.get(section), list) for section in COCO_SECTIONS):
        content = listed([*document]) if isinstance(document, dict) else f"a {type(document).__name__}"
        sheet.problems.append(
            (1, f"found {content or 'no key'}, expected the lists {', '.join(COCO_SECTIONS)} of a COCO file")
        )
        return {}
    return document


def _items(document: Mapping[str, Any], section: str, keys: Sequence[str], sheet: Sheet) -> dict[int, dict[str, Any]]:
    """Place -> item of a section of a COCO file; those without one of the keys are a problem."""
    items = dict(enumerate(document.get(section, ())))
    for key in keys:
        lacking = [place for place, item in items.items() if not isinstance(item, dict) or item.get(key) is None]
        if lacking:
            text = f"{section}[{lacking[0]}] has no {key!r}"
            sheet.problems.append((1, f"{text} ({len(lacking)} of {len(items)} {section})"))
            for place in lacking:
                del items[place]
    return items


def _keyed(document: Mapping[str, Any], section: str, key: str, sheet: Sheet) -> dict[Any, str]:
    """Id -> text under ``key`` of the items of a section of a COCO file; ids and names of categories are unique."""
    texts: dict[Any, str] = {}
    for place, item in _items(document, section, ("id", key), sheet).items():
        text = str(item[key])
        if item["id"] in texts or (section == "categories" and text in texts.values()):
            sheet.problems.append(
                (1, f"{section}[{place}] has an id or a name that another one has: {item['id']!r}, {text!r}")
            )
        texts.setdefault(item["id"], text)
    return texts
