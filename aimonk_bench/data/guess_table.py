"""How an unknown table is probably to be read: importer and keys of `data`, each with its reason or its doubt."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from aimonk_bench.config.fields import Values, number_of, unusable_attribute
from aimonk_bench.data import importers
from aimonk_bench.data.annotations import names_of
from aimonk_bench.data.columns import (
    MOST_COUNTS,
    Column,
    columns_of,
    group_column,
    is_coarse,
    is_split,
    is_tagged,
    label_columns,
    long_columns,
    split_column,
    tag_columns,
)
from aimonk_bench.data.dialects import name_of
from aimonk_bench.data.draft import Guess, Note, Role
from aimonk_bench.data.guess_images import named_images, names_file, no_images, numbered_images
from aimonk_bench.data.image_files import problems_in
from aimonk_bench.data.sheets import Source, image_column, unread_tags
from aimonk_bench.data.tables import Table
from aimonk_bench.data.tag_choice import is_unread_missing
from aimonk_bench.data.tags import LIST, split_tags
from aimonk_bench.data.tokens import is_image_file
from aimonk_bench.data.top_rows import WHITE_SPACE
from aimonk_bench.data.values import likely_states, listed
from aimonk_bench.errors import UserError, count

MISSING = Values().missing
MOST_ATTRIBUTES = 100  # of a file with many tags, the most frequent
MOST_LEVELS = 5  # of certainty
CERTAINTY = re.compile(r".*(certain|sure|confidence|visib).*", re.IGNORECASE)
NOTHING = ("no finding", "no findings", "nothing", "no label", "no tag", "no tags", "no disease")
RARE_SEPARATORS = ("|", "^", "~", "§", "¦")
OPAQUE = re.compile(r"\d+|/[mgt]/\w+|n\d{8}|Q\d+")  # ids of labels whose names stand in another file


def guess_table(source: Source, draft: Guess) -> None:
    """Guess how a table is to be read.

    Raises:
        UserError: no column names images of the folder, or none holds labels.
    """
    table = _table(source, draft)
    if not table.dialect.header:
        draft.set("header", False, "the first row looks like the rows below it", doubt=True)
    columns = columns_of(table)
    images = named_images(columns, draft.images) or numbered_images(columns, draft)
    if images is None:
        raise UserError(no_images(draft, table, columns))
    draft.roles.append(Role(images.name, "images"))
    columns.remove(images)
    if split := split_column(columns, images):
        columns.remove(split[0])
        draft.roles.append(Role(split[0].name, "split"))
        guess_parts(draft, split[0].name, split[1])
        if rows := sum(number for token, number in split[0].counts.items() if token not in split[0].tokens):
            draft.doubt("split", f"{count(rows, 'row')} without a token in column {split[0].name!r} left out")
    elif others := [repr(item.name) for item in columns if is_split(item)]:
        draft.doubt("split", f"{listed(others)} may be a split, but not every token names train, val or test; left out")
    group = group_column(columns, images)
    if group and _has_labels([item for item in columns if item is not group], images):
        _group(draft, columns, images, group)
    if long := long_columns(columns, images):
        _long(draft, columns, *long)
    elif (tags := next(iter(columns) if table.dialect.holds_tags else tag_columns(columns), None)) is not None:
        _tags(draft, columns, tags)
    else:
        _wide(draft, table, columns, images)
    if {images.name} != {table.names[0], image_column(table)} and draft.data["importer"] != "labels_txt":
        draft.set("id", images.name)


def _group(draft: Guess, columns: list[Column], images: Column, group: Column) -> None:
    """A column whose equal values belong together, unless there are too few of them."""
    text = f"{len(group.tokens)} values for {len(images.counts)} images"
    if is_coarse(group, images):
        name = json.dumps(group.name, ensure_ascii=False)
        text = f"column {group.name!r} is not used as group, because it has only {text}"
        draft.doubt("data.group", f"{text}; to keep equal values on one side of the split, write `group: {name}`")
        return
    columns.remove(group)
    draft.roles.append(Role(group.name, "group"))
    draft.set("group", group.name, f"{text}: equal ones stay on one side of the split", doubt=True)


def _has_labels(columns: Sequence[Column], images: Column) -> bool:
    """Whether these columns hold labels or tags."""
    return bool(long_columns(columns, images) or label_columns(columns) or next(tag_columns(columns), None))


def guess_parts(draft: Guess, column: str, parts: Mapping[str, list[str]]) -> None:
    """Guess the official split that a column states.

    Args:
        parts: of ``train``, ``val`` and ``test``, those that the column names -> its tokens.
    """
    draft.split = {"scheme": "column", "column": column, "train": parts["train"]}
    draft.split |= {"val": parts.get("val", 0.15), "test": parts.get("test") or parts["val"]}
    draft.doubt("split", f"column {column!r} is taken for an official split")
    if "test" not in parts:
        draft.split["val"] = 0.15
        draft.doubt("split.test", "no part is called test: the validation images are the test images")
    if draft.split["val"] == 0.15:
        draft.notes.append(Note("split.val", "no part is left for validation: this share of the training images"))


def _table(source: Source, draft: Guess) -> Table:
    """The label file as a table, with an unusual separator where the usual ones do not cut it."""
    encoding = draft.data.get("encoding")
    table = source.table(None, None, encoding)
    if not len(table.lines):
        no_row = (table.header_line, "found no row, expected one for each image")
        raise problems_in(source.path, table.problems or [no_row])
    if len(table.names) == 1 and table.dialect.separator:
        for separator in RARE_SEPARATORS:
            other = source.table(separator, None, encoding)
            if len(other.names) > 1 and len(other.lines):
                draft.set("separator", separator)
                return other
    return table


def _wide(draft: Guess, table: Table, columns: Sequence[Column], images: Column) -> None:
    """A column for each attribute."""
    chosen = [item for item in label_columns(columns) if unusable_attribute(item.name) is None]
    odd = [item for item in columns if item.kind == "labels" and item not in chosen]
    if not chosen:
        chosen = [item for item in odd if unusable_attribute(item.name) is None]
        for item in chosen:
            draft.doubt("data.attributes", f"column {item.name!r} has labels, but its name is unusual for an attribute")
    if not chosen:
        raise UserError(_no_labels(draft, table, columns))
    separated = table.dialect.separator in (WHITE_SPACE, "\t") and "separator" not in draft.data
    plain = separated and not table.dialect.header and draft.labels.suffix.lower() not in importers.TABLE_SUFFIXES
    text_only = plain and images.name == table.names[0] and "group" not in draft.data
    importer = "labels_txt" if text_only else "wide_csv"
    if text_only:
        draft.data.pop("header")
        draft.notes[:] = [note for note in draft.notes if note.key != "data.header"]
    draft.set("importer", importer, f"{len(chosen)} column{'s' * (len(chosen) > 1)} of labels ({table.dialect})")
    left = [item for item in columns if item not in chosen]
    _leave_out(draft, left)
    if not table.dialect.header:
        draft.notes.append(Note("data", "the file has no header: `attributes: [...]` names the columns in their order"))
        if left:
            draft.set("ignore", [item.name for item in left])
    elif left:
        draft.set("attributes", [item.name for item in chosen])


def _leave_out(draft: Guess, columns: Sequence[Column]) -> None:
    """Columns that are no attributes. Those that might be some are doubts, one for each reason."""
    doubtful: dict[str, list[str]] = {}
    for item in columns:
        reason, doubt = _left_out(item)
        draft.roles.append(Role(item.name, "left out", reason))
        if draft.data["importer"] in ("label_list", "long_csv"):
            is_labels = item.kind == "labels" and not item.is_odd
            doubt = "to read the columns of labels instead of the tags, write importer: wide_csv" if is_labels else ""
        if doubt:
            doubtful.setdefault(doubt, []).append(f"{item.name!r} ({reason})")
    for doubt, names in doubtful.items():
        draft.doubt("data.attributes", f"left out {listed(names)}; {doubt}")


def _left_out(item: Column) -> tuple[str, str]:
    """Why a column is no attribute, and what to do if it is one; empty where that is out of the question."""
    shown = item.examples
    add = "add it to data.attributes"
    if item.kind == "empty":
        return "it is empty", ""
    if item.kind == "labels":
        problem = unusable_attribute(item.name)
        if problem is not None:
            return f"no attribute can be {problem}", "rename it in the file to use it"
        unusual = ", but its name is unusual for an attribute" if item.is_odd else ""
        return f"labels: {shown}{unusual}", f"to use it, {add}"
    if item.kind == "soft labels":
        return f"soft labels: {shown}", "soft labels are not supported: make 1, 0 and NA of them in the file"
    if item.kind == "text" and is_tagged(item):
        tags = json.dumps(item.name, ensure_ascii=False)
        return f"text, such as {shown}", f"to read tags, write importer: label_list, tags: {tags}, absent: negative"
    if not item.is_odd and item.repeats and item.kind == "text" and len(item.tokens) == 2:
        return f"text: {shown}", f"to use it, declare its tokens in data.values, and {add}"
    if not item.is_odd and item.repeats and item.kind == "numbers" and len(item.tokens) <= 3:
        return f"numbers: {shown}", f"if some of its numbers are labels, declare all of them in data.values, and {add}"
    return f"{item.kind}, such as {shown}", ""


def _no_labels(draft: Guess, table: Table, columns: Sequence[Column]) -> str:
    """The message about a table without a column of labels."""
    shown = [f"{item.name!r} ({item.kind}: {item.examples})" for item in columns]
    soft = [item.name for item in columns if item.kind == "soft labels"]
    unusable = [f"{item.name!r} cannot be {problem}" for item in columns if (problem := unusable_attribute(item.name))]
    fix = f"; soft labels are not supported: make 1, 0 and NA of {listed(soft)}" if soft else ""
    numbers = [item for item in columns if item.kind == "numbers" and not item.is_odd]
    if few := [item for item in numbers if 2 <= len(item.tokens) <= MOST_COUNTS and item.repeats]:
        tokens = sorted(few[0].tokens, key=float)
        lists = [tokens[:1], tokens[1:2], tokens[2:]] if len(tokens) <= 3 else [tokens[1:], tokens[:1]]
        values = ", ".join(
            f"{state}: {json.dumps(part)}" for state, part in zip(Values.model_fields, lists, strict=False) if part
        )
        fix += f"; if {few[0].name!r} holds labels, say in a config of your own which number means yes, such as under "
        fix += f"data: `values: {{{values}}}`"
    elif counts := [item.name for item in numbers if "0" in item.tokens]:
        names = json.dumps(counts, ensure_ascii=False)
        fix += f"; if {listed(counts)} hold counts, write 1 for more than 0, in pandas by "
        fix += f"`table[{names}] = (table[{names}] > 0).astype(int)`"
    fix += f"; rename the column: the attribute {listed(unusable)}" if unusable else ""
    return (
        f"{draft.labels}:{table.header_line}: found no labels in the columns {listed(shown) or 'beside the images'} "
        f"({table.dialect}), expected for each image a column of 1, 0 and NA for each attribute, or a column of tags"
        f"{fix}"
    )


def _tags(draft: Guess, columns: Sequence[Column], tags: Column) -> None:
    """A column of tags."""
    draft.set("importer", "label_list", f"column {tags.name!r} holds tags")
    draft.set("tags", tags.name)
    draft.roles.append(Role(tags.name, "tags"))
    _leave_out(draft, [item for item in columns if item is not tags])
    if (unread := unread_tags(tags.name, {item.name: item.tokens for item in columns})) is not None:
        draft.doubt("data.tags", unread)
    missing = _missing_tokens(draft, tags.counts)
    separator, names = _separated(draft, tags, missing)
    if separator is not None:
        draft.set("tag_separator", separator)
    text = "an image has no other tags than those listed; write missing if its list may be incomplete"
    draft.set("absent", "negative", text, doubt=True)
    _choose(draft, names)


def _missing_tokens(draft: Guess, counts: Mapping[str, int]) -> frozenset[str]:
    """The tokens of a column of tags that mean that nothing is known of an image."""
    tokens = [tag for tag in counts if is_unread_missing(tag, MISSING, ())]
    if tokens:
        text = f"{listed([*map(repr, tokens)])} is no tag: nothing is known of the image"
        draft.set("values", {"missing": [*MISSING, *tokens]}, text, doubt=True)
    return frozenset([*MISSING, *tokens])


def _separated(draft: Guess, tags: Column, missing: frozenset[str]) -> tuple[str | None, dict[str, int]]:
    """What to write as separator of tags, None for lists and single tags; and tag -> rows."""
    cells, doubt = pd.Series(tags.cells), ""
    read = split_tags(cells, missing=missing)
    if read.choices:
        [(_, doubt)] = read.problems
        read = split_tags(cells, separator=read.choices[0], missing=missing)
    if read.problems:
        raise UserError([f"{draft.labels}: column {tags.name!r}: {text}" for _, text in read.problems])
    counts = dict(zip(read.names, read.present.sum(axis=0).tolist(), strict=True))
    if read.separator in (LIST, None):
        return None, counts
    text = f"{name_of(str(read.separator))} separates tags, such as {listed([*map(repr, read.names[:3])])}"
    draft.doubt("data.tag_separator", doubt or text)
    return read.separator, counts


def _choose(draft: Guess, counts: Mapping[str, int]) -> None:
    """The tags that are attributes: all of them, but for words that mean that there is nothing, and for rare tags.

    Raises:
        UserError: every tag means that there is nothing.
    """
    words = [tag for tag in counts if tag.casefold() in NOTHING or unusable_attribute(tag)]
    names = sorted((tag for tag in counts if tag not in words), key=lambda tag: -counts[tag])
    if words and not names:
        raise UserError(
            f"{draft.labels}: found no tag but {listed([*map(repr, words)])}, expected one for each attribute"
        )
    if words:
        draft.doubt("data.attributes", f"{listed([*map(repr, words)])} is no attribute")
    if len(names) > MOST_ATTRIBUTES:
        draft.doubt("data.attributes", f"the {MOST_ATTRIBUTES} most frequent of {len(names)} tags")
    if words or len(names) > MOST_ATTRIBUTES:
        draft.set("attributes", sorted(names[:MOST_ATTRIBUTES]))
        draft.set("other_tags", "ignore")


def _long(draft: Guess, columns: Sequence[Column], tags: Column, value: Column | None) -> None:
    """A row for each image and label."""
    draft.set("importer", "long_csv", f"images stand in several rows, each with a label in column {tags.name!r}")
    draft.set("tags", tags.name)
    draft.roles.append(Role(tags.name, "tags"))
    if value is not None:
        draft.set("value", value.name, "it says whether the image has the label", doubt=True)
        draft.roles.append(Role(value.name, "values"))
    others = [item for item in columns if item not in (tags, value)]
    _leave_out(draft, others)
    if unread := [item.name for item in others if item.kind == "labels"]:
        draft.set("ignore", unread)
    if value is not None:
        _certainty(draft, others)
    missing = _missing_tokens(draft, tags.counts)
    counts = {tag: count for tag, count in tags.counts.items() if tag not in missing}
    if all(map(OPAQUE.fullmatch, counts)):

        def names_labels(names: Sequence[str]) -> bool:
            return not any(is_image_file(name) or number_of(name) is not None for name in names)

        if file := names_file(draft, [*counts], names_labels):
            draft.set("tag_names", file, f"it names the labels whose ids column {tags.name!r} holds")
            name_of = names_of(file)
            counts = Counter({name_of[tag]: count for tag, count in counts.items()})
    if value is not None and "negative" in likely_states([value.counts], {})[0].values():
        draft.set(
            "absent", "missing", "a label without a row is not known: other rows say what is negative", doubt=True
        )
    else:
        text = "a label without a row is negative; write missing if the rows may be incomplete"
        draft.set("absent", "negative", text, doubt=True)
    _choose(draft, counts)


def _certainty(draft: Guess, columns: Sequence[Column]) -> None:
    """A column of whole numbers from 1 on may say how sure a label is; without a header it probably does (CUB)."""
    for item in columns:
        levels = map(float, item.tokens if item.kind == "numbers" else ())
        if item.kind != "numbers" or not all(level.is_integer() and 1 <= level <= MOST_LEVELS for level in levels):
            continue
        key = {"column": item.name, "missing": [min(item.tokens, key=float)]}
        if "header" in draft.data or CERTAINTY.fullmatch(item.name):
            text = f"{item.name!r} is taken for how sure a label is: at its lowest number the label is missing"
            draft.set("certainty", key, text, doubt=True)
            return
        text = f"if {item.name!r} says how sure a label is, write `certainty: {json.dumps(key)}`"
        draft.doubt("data.value", text)
