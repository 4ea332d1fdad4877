"""How a table is written: its separator, whether it has a header, and the lines above it."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from aimonk_bench.config.fields import number_of
from aimonk_bench.data.cells import bare
from aimonk_bench.data.tokens import is_image_file, is_value, spelling_of
from aimonk_bench.data.top_rows import (
    WHITE_SPACE,
    has_header,
    lacks_first_name,
    most,
    rows_above,
    unmarked,
    usual_width,
)

CHARACTERS = (",", ";", "\t")  # separators that are tried; where none of them separates, white space does
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", WHITE_SPACE: "white space"}
MOST_EQUAL = 0.9  # share of rows of equal length in a list of tags
SAMPLE = 1000  # lines by which a dialect is recognised
NAME_WITH_LABEL = re.compile(r"(.*\.\w{2,5})\s+(\S+)", re.DOTALL)  # "a.jpg 0" of the line "a.jpg 0,1,0"
QUOTED_OR_WORD = re.compile(r'"((?:[^"]|"")*)"(?!\S)|(\S+)')


def name_of(separator: str) -> str:
    """What messages call a separator."""
    return NAMES.get(separator, repr(separator))


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        encoding: of the text; empty for a file that is no text.
        separator: one character; " " is any white space.
        header: whether the first row names the columns.
        width: usual number of columns.
        skipped_lines: lines above the table.
        name_with_label: the first cell holds the image and the first label, as in ``a.jpg 0,1,0``.
        holds_tags: all beyond the name are tags, which the separator separates too, as in ``a.jpg cat dog``.
        nameless_first: the header has no name for the first column, as in CelebA and in tables of R.
        sheet: of an Excel file that is read, if it has several, and the others.
        notes: what the lines above the table are.
    """

    encoding: str
    separator: str
    header: bool
    width: int
    skipped_lines: int = 0
    name_with_label: bool = False
    holds_tags: bool = False
    nameless_first: bool = False
    sheet: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For users: ``semicolon, utf-8, header``."""
        separator = name_of(self.separator) if self.separator else ""
        return ", ".join(filter(None, [self.sheet, separator, self.encoding, "header" if self.header else "no header"]))


def recognise(
    text: str, encoding: str, *, separator: str | None = None, header: bool | None = None, suffix: str = ""
) -> Dialect:
    """The dialect of a text that is not empty.

    Args:
        separator: None is the one that gives rows of equal width.
        header: None decides by what the cells look like.
        suffix: of the file, such as ``.csv``; it decides where the text has one column.
    """
    lines = [line.rstrip("\n") for line in itertools.islice(io.StringIO(text), SAMPLE)]
    skipped, declared, notes = _lines_above(lines)
    separator = separator or declared
    comments = list(itertools.takewhile(lambda line: line.startswith("#"), lines[skipped:]))
    table = lines[skipped + len(comments) :]
    if separator is None:
        separator = _separator(table if any(map(str.strip, table)) else comments, suffix)
    first = skipped + len(comments)
    records = [(skipped + place, split_line(line, separator)) for place, line in enumerate(comments, 1)]
    records += [(first + line, cells) for line, cells in _readable(table, separator)]
    above, more = rows_above(records, separator)
    rows = [cells for _, cells in records[above:]]
    if above:
        skipped = records[above][0] - 1
    rows[:1] = [unmarked(cells, usual_width(rows[1:])) for cells in rows[:1]]
    notes += more
    name_with_label = separator in (",", ";") and _names_hold_labels(rows)
    if name_with_label:
        rows = [split_name(cells) for cells in rows]
    holds_tags = header is not True and _are_names_and_tags(rows)
    if holds_tags:
        rows = [join_tags(cells, separator) for cells in rows]
        notes.append("rows of different widths and no labels in them: each is read as a name and its tags")
    counted = any(line.strip().isdecimal() for line in lines[:skipped])
    nameless_first = header is not False and lacks_first_name(rows, separator, counted=counted)
    if nameless_first:
        notes.append(f"the header has {len(rows[0])} names for {len(rows[0]) + 1} columns: the first one has none")
    return Dialect(
        encoding=encoding,
        separator=separator,
        header=(nameless_first or has_header(rows, separator)) if header is None else header,
        width=usual_width(rows),
        skipped_lines=skipped,
        name_with_label=name_with_label,
        holds_tags=holds_tags,
        nameless_first=nameless_first,
        notes=tuple(notes),
    )


def read_records(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str] | str]]:
    """(line from 1 on which it begins, its cells, or why they cannot be read) of every record that is not blank."""
    if separator == WHITE_SPACE:
        yield from ((line, cells) for line, text in enumerate(lines, 1) if (cells := split_words(text)))
        return
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "; a quote that begins a cell is never closed" if str(error) == "unexpected end of data" else ""
            yield line, f"malformed record: {error}{hint}"
            continue
        if len(cells) > 1 or "".join(cells).strip():
            yield line, cells


def split(lines: Iterable[str], separator: str) -> list[list[str]]:
    """The rows of a few lines; blank and malformed ones are left out."""
    return [cells for _, cells in _readable(lines, separator)]


def _readable(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line from 1 on, bare cells) of a few lines; blank and malformed ones are left out."""
    for line, cells in read_records((line + "\n" for line in lines), separator):
        if isinstance(cells, list):
            yield line, [*map(bare, cells)]


def split_line(line: str, separator: str) -> list[str]:
    """The cells of one line; none if it is blank or malformed."""
    return next(iter(split([line], separator)), [])


def split_words(line: str) -> list[str]:
    """The words of a line; quotes keep blanks in one word, as in the tables of R."""
    if '"' not in line:
        return line.split()
    return [(quoted or word).replace('""', '"') for quoted, word in QUOTED_OR_WORD.findall(line)]


def split_name(cells: list[str]) -> list[str]:
    """The cells of ``a.jpg 0,1,0``: the image and the first label stand in the first cell."""
    match = NAME_WITH_LABEL.fullmatch(cells[0])
    return [*match.groups(), *cells[1:]] if match else cells


def join_tags(cells: list[str], separator: str) -> list[str]:
    """The cells of ``a.jpg cat dog``: the image, and all of its tags in one cell."""
    return [cells[0], separator.join(cells[1:]).rstrip(separator)]


def _lines_above(lines: Sequence[str]) -> tuple[int, str | None, list[str]]:
    """How many lines stand above the table and its comments, the separator that ``sep=;`` declares, and notes."""
    skipped, separator, notes = 0, None, list[str]()
    for place, line in enumerate(lines):
        below = [text.strip() for text in lines[place + 1 :] if text.strip()]
        if match := re.fullmatch(r'"?sep=(.)"?', line.strip(" "), re.IGNORECASE):
            separator = match[1]
            notes.append(f"line {place + 1} declares the separator {name_of(separator)}")
        elif _is_count(line, below):
            notes.append(f"line {place + 1} is a number of rows: {line.strip()}")
        elif line.strip():
            break
        skipped = place + 1
    return skipped if skipped < len(lines) else 0, separator, notes


def _is_count(line: str, below: Sequence[str]) -> bool:
    """Whether a line is the number of rows below it; an image that is called by a number has others below it."""
    if not line.strip(" ").isdecimal() or not any(len(re.split(r"[\s,;]+", text)) > 1 for text in below[:2]):
        return False
    of_numbers = any(re.match(r"\d+([\s,;]|$)", text) for text in below[:2])
    return not of_numbers or int(line) in (len(below), len(below) - 1)  # without or with a header


def _separator(lines: Sequence[str], suffix: str) -> str:
    """The separator that gives most rows the same width of at least two.

    Of several, that which leaves the names of images whole, then that which a line has first. White space separates
    where no character does, or where only white space leaves those names whole.
    """
    sample = [line for line in lines if line.strip()]
    of_separator = {character: _equal_share(sample, character) for character in (*CHARACTERS, WHITE_SPACE)}
    shares = {character: share for character, (share, _) in of_separator.items()}
    whole = {character: is_whole for character, (_, is_whole) in of_separator.items()}
    first = sample[0]
    best = max(CHARACTERS, key=lambda c: (shares[c], whole[c], -(first.find(c) % (len(first) + 1))))
    if not shares[WHITE_SPACE] and not shares[best]:
        return {".csv": ",", ".tsv": "\t"}.get(suffix, WHITE_SPACE)
    rather = whole[WHITE_SPACE] and not whole[best] if shares[best] > 0.5 else whole[WHITE_SPACE] or not whole[best]
    separator = WHITE_SPACE if rather and shares[WHITE_SPACE] >= shares[best] else best
    return (_inner_separator(sample, separator) or separator) if separator in ("\t", WHITE_SPACE) else separator


def _equal_share(lines: Sequence[str], separator: str) -> tuple[float, bool]:
    """The share of lines that have the usual width, and whether a column holds the names of image files.

    Both say nothing where the usual width is less than two.
    """
    rows = split(lines, separator)
    width = usual_width(rows)
    usual = [row for row in rows if len(row) == width]
    columns = zip(*usual, strict=True)
    return (
        (len(usual) / len(lines), any(most(map(is_image_file, cells)) for cells in columns))
        if width > 1
        else (0, False)
    )


def _inner_separator(lines: Sequence[str], outer: str) -> str | None:
    """What separates the labels where tab or blank separates only the name: ``a.jpg<TAB>1 0 1``, ``a.jpg 1,0,1``."""
    rows = split(lines, outer)
    if max(map(len, rows), default=0) != 2:
        return None
    for character in (WHITE_SPACE, ",", ";"):
        cells = [split_line(row[-1], character) for row in rows]
        labels = all(_is_label(label) for words in cells for label in words)
        if labels and usual_width(cells) > 1:
            return character
    return None


def _is_label(word: str) -> bool:
    return spelling_of(word) is not None or number_of(word) == -1


def _names_hold_labels(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first cells are ``a.jpg 0``, which the rest of the line continues: ``a.jpg 0,1,0``."""
    matches = [NAME_WITH_LABEL.fullmatch(row[0]) for row in rows]
    return bool(rows) and all(match is not None and is_value(match[2]) for match in matches)


def _are_names_and_tags(rows: Sequence[Sequence[str]]) -> bool:
    """Whether behind names of images stand words that are no labels, in many rows another number of them.

    Names without the suffix of an image are different ones, before words that repeat.
    """
    widths = Counter(map(len, rows))
    if len(widths) < 2 or max(widths) < 3 or max(widths.values()) > MOST_EQUAL * len(rows):
        return False
    if not is_image_file(rows[0][0]) and len(rows[0]) > 2 and any(is_image_file(row[0]) for row in rows):
        return False  # a header
    names = [row[0] for row in rows]
    below = [row[1:] for row in rows if is_image_file(row[0])] or [row[1:] for row in rows]
    words = [word for cells in below for word in cells]
    repeated = len({*names}) == len(names) and len(words) >= 2 * len({*words})
    return (most(map(is_image_file, names)) or repeated) and most(not _is_label(word) for word in words)
