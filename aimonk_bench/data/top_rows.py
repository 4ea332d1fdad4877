"""The rows at the top of a table: titles and comments above it, and whether the first row names the columns."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from aimonk_bench.config.fields import number_of
from aimonk_bench.data.tokens import is_image_file, is_missing, is_value
from aimonk_bench.errors import count

WHITE_SPACE = " "
ID_NAMES = (
    "image",
    "images",
    "id",
    "image_id",
    "imageid",
    "file",
    "filename",
    "file_name",
    "name",
    "path",
    "img",
    "pic",
    "photo",
    "image_name",
    "image_path",
    "filepath",
    "file_path",
)


def rows_above(records: Sequence[tuple[int, list[str]]], separator: str) -> tuple[int, list[str]]:
    """How many rows stand above a table: comments, and titles above a header; and notes on them.

    Args:
        records: (line, stripped cells) of the first rows, without blank ones.
    """
    rows, notes = [cells for _, cells in records], list[str]()
    above = comments = 0
    while above < len(rows):
        if _is_comment(rows[above:], separator):
            comments += 1
        elif _is_title(rows[above:], separator):
            title = " ".join(filter(None, rows[above]))
            notes.append(f"line {records[above][0]} is a title, left out: {title[:60]!r}")
        else:
            break
        above += 1
    if above == len(rows):  # names that begin with #, or nothing but comments
        return 0, []
    return above, [f"{count(comments, 'comment line')} above the table left out"] * bool(comments) + notes


def _is_title(rows: Sequence[Sequence[str]], separator: str) -> bool:
    """Whether the first row is a text in words, or a comment of another language, above a table with a header.

    Above a header that names of image files tell, any row with fewer cells than the header is a title.
    """
    if separator == WHITE_SPACE or usual_width(rows[1:]) < 2:
        return False
    header = next((place for place, row in enumerate(rows) if any(map(is_image_file, row))), 0) - 1
    if header > 0 and max(map(_filled, rows[:header])) < _filled(rows[header]) and has_header(rows[header:], separator):
        return True
    table = [*itertools.dropwhile(lambda row: _filled(row) < 2, rows)]
    text = rows[0][0]
    is_text = text.startswith(("%", "//")) or (" " in text and not is_image_file(text))
    return _filled(rows[0]) == 1 and is_text and len(table) > 1 and has_header(table, separator)


def _filled(row: Sequence[str]) -> int:
    """The number of cells that are not empty."""
    return sum(map(bool, row))


def _is_comment(rows: Sequence[list[str]], separator: str) -> bool:
    """Whether the first row begins with # and does not belong to the table: its header, or like its rows."""
    cells, below = rows[0], rows[1:]
    if not cells or not cells[0].startswith("#"):
        return not cells
    words = unmarked(cells, usual_width(below))
    if len(words) < 2 or len(words) != usual_width(below):
        return True
    is_apart = words is not cells or cells[0][1:2].isspace()
    if not any(words[1:]):
        return not most(row[0].startswith("#") for row in below if any(row[1:]))
    if not has_header([words, *below], separator):
        return is_apart
    named = names_images(words[0]) or not (is_apart or all(map(is_value, words[1:])))
    return not named or has_header(below, separator)


def names_images(name: str) -> bool:
    """Whether a column of this name usually names images; a header may be written as a comment."""
    return name.lstrip("# ").lower() in ID_NAMES


def _are_numbered(first: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Whether a row names columns by different whole numbers, and its first word is none of the ids below it.

    These ids differ in their digits alone, as ``ab0`` and ``ab1`` below ``sample``.
    """
    name, numbers = first[0], first[1:]
    stem, *others = {re.sub(r"\d+", "#", text) for text in columns[0]}
    is_id = others or "#" not in stem or any(map(str.isdigit, name)) or (name and stem.startswith(name))
    return not is_id and len({*numbers}) == len(numbers) > 1 and all(map(str.isdecimal, numbers))


def unmarked(header: list[str], width: int) -> list[str]:
    """A header without the # before it, where white space cuts that from the first name: ``# image x y``."""
    return header[1:] if header[0] == "#" and len(header) == width + 1 else header


def usual_width(rows: Sequence[Sequence[str]]) -> int:
    """The most frequent number of cells; of two, that which comes first."""
    return Counter(map(len, rows)).most_common(1)[0][0] if rows else 1


def has_header(rows: Sequence[Sequence[str]], separator: str) -> bool:
    """Whether the first row names the columns; a row whose cells look like those below is data.

    Names of image files decide, then columns of numbers and other values. Where neither is there, a table has a header
    unless white space separates it.
    """
    if not rows:
        return False
    first, *below = rows
    width = usual_width(below)
    if not below:
        return not is_image_file(first[0]) and not (len(first) > 1 and all(map(is_value, first[1:])))
    columns = [*zip(*(row for row in below if len(row) == width), strict=True)]
    pairs = [(name, cells) for name, cells in zip(first, columns, strict=False) if name and any(cells)]
    images = [name for name, cells in pairs if most(map(is_image_file, cells))]
    if images:
        return not any(map(is_image_file, images))
    if width > 1 and not any(first[1:]):
        return False  # one name for several columns: a row without labels
    values = [(name, cells) for name, cells in pairs if most(map(is_value, cells))]
    alike = [_is_like(name, cells) for name, cells in values if not is_missing(name)]
    if any(alike):
        return names_images(first[0]) or _are_numbered(first, columns)
    return bool(alike) or (not values and separator != WHITE_SPACE)


def lacks_first_name(rows: Sequence[Sequence[str]], separator: str, *, counted: bool) -> bool:
    """Whether the first row has a cell less than the others: the column of names or of row numbers has no name.

    Args:
        counted: whether the number of rows stands above the table, as in CelebA.
    """
    if len(rows) < 2:
        return False
    header, below = rows[0], rows[1:]
    width = usual_width(below)
    columns = [*zip(*(row for row in below if len(row) == width), strict=True)]
    if len(header) != width - 1 or any(map(is_image_file, header)) or not any(columns[-1]):
        return False
    of_images = names_images(header[0])
    files = [all(map(is_image_file, cells)) for cells in columns[:2]]
    if any(files[1:]):
        return not files[0]
    return (counted or separator == WHITE_SPACE) and not of_images and all(number_of(name) is None for name in header)


def most(answers: Iterable[bool]) -> bool:
    """Whether there is more yes than no."""
    counts = Counter(answers)
    return counts[True] > counts[False]


def _is_like(name: str, cells: Sequence[str]) -> bool:
    """Whether a text is one of the values of a column: a number among numbers, or a word that is there."""
    if number_of(name) is not None:
        return most(number_of(cell) is not None for cell in cells if not is_missing(cell))
    return name in cells
