"""Tags: the cells of one column, such as ``cat|dog``, as the presence of each tag in each row.

The column as a whole decides what separates its tags:

| the cells | the tags |
|---|---|
| lists: ``['cat', 'dog']``, ``["cat"]``, ``{'cat'}``, ``set()``, NumPy's ``['cat' 'dog']`` | their items |
| any, where ``data.tag_separator`` is set | split there and nowhere else; a blank stands for any white space |
| one of ``|`` ``;`` ``,`` tab, line break occurs | it alone, or its full-width form, separates: ``No Finding|Mass`` |
| two of these occur | refused: `data.tag_separator` must say which one separates |
| blanks, and two words that occur only together (``No Finding``), or ``-`` or ``and`` between blanks | refused, too |
| ``/`` ``+`` ``&`` or `` - `` in a tag, of which a part stands alone or recurs | refused for the same reason |
| blanks otherwise | a blank separates |
| none of these | a cell is one tag |

A character inside a name of ``data.attributes`` separates nothing, unless it is ``data.tag_separator``. Where all cells
are lists without quotes (``[cat, dog]``), the brackets are dropped first.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aimonk_bench.data.tag_choice import choose, is_unread_missing, unread_missing
from aimonk_bench.data.tokens import spelling_of
from aimonk_bench.errors import count

LIST = "list"  # `Tags.separator` of list literals
SEPARATORS = ("|", ";", ",", "\t", "\n")
FULL_WIDTH = {
    ",": "，、",
    ";": "；",
    "|": "｜",
    "/": "／",
    "+": "＋",
    "&": "＆",
    "·": "・",
}  # signs that separate as the key does
# They often stand inside a tag, so they separate only where the config says so. Parts beside the first ones may recur.
UNUSUAL_SEPARATORS = ("/", "\\", "+", "&", "·", " - ", " – ", " and ", " und ", " et ", "#", ":", "~")
RECURRING = UNUSUAL_SEPARATORS[:-3]
EXAMPLE = "one kind of cell, such as ['x', 'y'] or x|y"
SHOWN = 10

Words = list[list[str]]  # of each distinct cell of a column
CellsOf = Mapping[str, list[int]]  # tag -> the distinct cells that have it, in the order of the file

_CONSTRUCTED = re.compile(r"(?:frozenset|set|list|tuple|(?:np\.)?array)\((.*?)(?:,\s*dtype=.*)?\)", re.DOTALL)
_WITH_VALUE = re.compile(r".*?[^=:]\s*[=:]\s*([^=:]+)", re.DOTALL)  # "rust=1"
_CLOSING = {"[": "]", "(": ")", "{": "}"}
_ITEM = r"""(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|\w[\w.+-]*+)"""
_ITEMS = re.compile(rf"(?:{_ITEM}(?:(?:\s*+,\s*+|\s++){_ITEM})*+\s*+,?)?", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Tags:
    """The tags of R rows.

    Attributes:
        names: [A] ``data.attributes``, else all tags of the column in alphabetical order.
        first_rows: [A] the first row with the tag, -1 where no row has it.
        present: bool [R, A], the row has the tag.
        missing: bool [R], the cell is only a missing token: no label of the row is known.
        separator: what separates the tags: `LIST` for list literals, a blank for white space; None where each cell is
            one tag.
        notes: what the user should know.
        warnings: what is probably wrong.
        problems: (row, message); where there are any, the arrays are not to be used.
        choices: separators of which `data.tag_separator` has to name one, the likeliest first; empty without a doubt.
    """

    names: tuple[str, ...]
    first_rows: NDArray[np.intp]
    present: NDArray[np.bool_]
    missing: NDArray[np.bool_]
    separator: str | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problems: tuple[tuple[int, str], ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Column:
    """The U distinct cells of a column of R rows, in the order of the file.

    Attributes:
        texts: [U] stripped.
        codes: [R] the distinct cell of each row.
        rows: [U] the first row of each.
        counts: [U] the number of rows of each.
    """

    texts: list[str]
    codes: NDArray[np.intp]
    rows: NDArray[np.intp]
    counts: NDArray[np.intp]

    @classmethod
    def of(cls, cells: Sequence[str] | pd.Series) -> _Column:
        """The distinct cells of [R] cells."""
        stripped = pd.Series(cells, dtype=object).map(_unwrapped)
        codes, distinct = pd.factorize(stripped)
        rows = np.unique(codes, return_index=True)[1]
        return cls(list(distinct), codes, rows, np.bincount(codes, minlength=len(rows)))

    def where(self, cells: Sequence[int]) -> str:
        """How many rows have these distinct cells, and the text of the first: ``in 3 rows, such as 'cat|dog'``."""
        return f"in {count(int(self.counts[cells].sum()), 'row')}, such as {self.texts[cells[0]][:60]!r}"

    def problem(self, cells: Sequence[int], text: str) -> tuple[int, str]:
        """(row, message) of a problem in these distinct cells."""
        return int(self.rows[cells[0]]), text


class _Unclear(Exception):
    """Nobody can tell what the tags of a column are; the problem is (row, message), the choices are separators."""

    def __init__(self, column: _Column, cells: Sequence[int], text: str, choices: Sequence[str] = ()) -> None:
        self.problem, self.choices = column.problem(cells, text), tuple(choices)
        super().__init__(self.problem)


def split_tags(
    cells: Sequence[str] | pd.Series,
    *,
    separator: str | None = None,
    missing: Collection[str] = ("NA", ""),
    attributes: Sequence[str] | None = None,
    other_tags: Literal["error", "ignore"] = "error",
) -> Tags:
    """Read a column of tags.

    An empty cell, and an empty list, is a row without tags: ``data.absent`` says what that means, as for each tag that
    a row does not have. A cell that is only a missing token, such as ``NA``, is a row of which no label is known,
    whatever ``data.absent`` says. A name of ``attributes`` is a tag even where it looks like a missing token.

    Args:
        cells: [R].
        separator: ``data.tag_separator``; None lets the column decide.
        missing: ``data.values.missing``.
        attributes: ``data.attributes``; None takes all tags of the column.
        other_tags: what happens to tags that ``attributes`` does not name.
    """
    column, declared = _Column.of(cells), tuple(attributes or ())
    tokens = {token for token in missing if token} - {*declared}
    try:
        words, understood = _split(column, separator, tokens, declared)
        _check_vectors(column, words, declared)
        cells_of = _cells_of(words)
        if separator is None:
            _check_separator(column, cells_of, understood, declared)
    except _Unclear as unclear:
        rows = len(column.codes)
        absent, unread = np.zeros((rows, len(declared)), bool), np.zeros(rows, bool)
        problems, choices = (unclear.problem,), unclear.choices
        return Tags(declared, np.full(len(declared), -1), absent, unread, separator, problems=problems, choices=choices)
    is_missing = np.array([bool(cell) and tokens.issuperset(cell) for cell in words], bool)
    tags = {tag: where for tag, where in cells_of.items() if tag not in tokens}
    choice = choose({tag: int(column.counts[where].sum()) for tag, where in tags.items()}, attributes, other_tags)
    present = np.zeros((len(words), len(choice.names)), bool)
    for number, name in enumerate(choice.names):
        present[tags.get(name, []), number] = True
    doubtful = [*_doubtful(column, words, tokens, declared)]
    if choice.problem is not None:
        row = int(column.rows[tags[choice.others[0]][0]]) if choice.others else 0
        doubtful.append((row, choice.problem))
    return Tags(
        choice.names,
        np.array([column.rows[tags[name][0]] if name in tags else -1 for name in choice.names], np.intp),
        present[column.codes],
        is_missing[column.codes],
        understood,
        choice.notes,
        (*choice.warnings, *_tied(words, understood, separator)),
        tuple(doubtful),
    )


def _unwrapped(text: str) -> str:
    """A cell without blanks around it; ``set()`` is an empty list, ``array(['cat'])`` is ``['cat']``."""
    text = text.strip()
    match = _CONSTRUCTED.fullmatch(text)
    return (match[1] or "[]") if match else text


def _cells_of(words: Words) -> CellsOf:
    cells_of: dict[str, list[int]] = {}
    for cell, tags in enumerate(words):
        for tag in dict.fromkeys(tags):
            cells_of.setdefault(tag, []).append(cell)
    return cells_of


def _split(
    column: _Column, separator: str | None, tokens: set[str], declared: Sequence[str]
) -> tuple[Words, str | None]:
    """The words of each distinct cell [U], and what separates them; a missing token is one word."""
    alone = {text for text in column.texts if text in tokens or is_unread_missing(text, tokens, declared)}
    tagged = {cell: text for cell, text in enumerate(column.texts) if text and text not in alone}
    whole: Words = [[text] if text in alone else [] for text in column.texts]
    lists = {cell: text[1:-1].strip() for cell, text in tagged.items() if _CLOSING.get(text[0]) == text[-1]}
    if nested := [cell for cell, inside in lists.items() if inside[:1] in ("{", "[")]:
        raise _Unclear(column, nested, f"found a list of objects or lists {column.where(nested)}, expected {EXAMPLE}")
    quoted = [cell for cell, inside in lists.items() if inside[:1] in ("'", '"')]
    if quoted:
        if separator is not None:
            text = f"found lists {column.where(quoted)}, which need no separator: remove data.tag_separator"
            raise _Unclear(column, quoted, text)
        items = {cell: _items(lists[cell]) if cell in lists else None for cell in tagged}
        if broken := [cell for cell, tags in items.items() if tags is None]:
            example = next((column.texts[cell][:60] for cell in quoted if items[cell] is not None), "['x', 'y']")
            text = f"found no list {column.where(broken)}, expected one such as {example}"
            raise _Unclear(column, broken, text)
        return [items.get(cell) or words for cell, words in enumerate(whole)], LIST
    if len(lists) == len(tagged):
        tagged = lists
    elif separator is None and (several := [cell for cell, inside in lists.items() if "," in inside]):
        others = [cell for cell in tagged if cell not in lists]
        raise _Unclear(
            column,
            others,
            f"found no list {column.where(others)}, but lists {column.where(several)}, expected {EXAMPLE}",
        )
    if separator is None:
        separator = _separator(column, tagged, "".join(declared))
    for cell, text in tagged.items():
        if separator is None:
            whole[cell] = [text] if text else []
        else:
            whole[cell] = text.split() if separator == " " else _parts(text, separator)
    return whole, separator


def _parts(text: str, separator: str) -> list[str]:
    """What stands between the separators of a text, full-width ones too."""
    for sign in FULL_WIDTH.get(separator, ""):
        text = text.replace(sign, separator)
    return [part for part in map(str.strip, text.split(separator)) if part]


def _items(inside: str) -> list[str] | None:
    """The items between the brackets of a list; None where it is no list of texts."""
    if _ITEMS.fullmatch(inside) is None:
        return None
    items = re.findall(_ITEM, inside, re.DOTALL)
    try:
        texts = [_unescaped(item) if "\\" in item else item[1:-1] if item[0] in "'\"" else item for item in items]
    except (SyntaxError, ValueError):
        return None
    return [text.strip() for text in texts if text.strip()]


def _unescaped(item: str) -> str:
    """The text of a quoted item with escapes, as JSON or else as Python writes them."""
    try:
        return str(json.loads(item))
    except json.JSONDecodeError:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an escape that Python does not know
            return str(ast.literal_eval(item))


def _separator(column: _Column, tagged: Mapping[int, str], reserved: str) -> str | None:
    """The one separator of these cells; ``reserved`` holds the characters that are part of a tag."""
    using = {
        mark: cells
        for mark in SEPARATORS
        if (cells := [cell for cell, text in tagged.items() if holds(text, mark, reserved)])
    }
    if len(using) > 1:
        text = " and ".join(f"{mark!r} {column.where(cells)}" for mark, cells in using.items())
        lines = " or ".join(map(_line, using))
        rarest = min(using.values(), key=lambda cells: int(column.counts[cells].sum()))
        text = f"found {text}; data.tag_separator has to say which separates: write under data: {lines}"
        raise _Unclear(column, rarest, text, [*using])
    if using:
        return next(iter(using))
    return " " if " " not in reserved and any(len(text.split()) > 1 for text in tagged.values()) else None


def holds(text: str, mark: str, reserved: str = "") -> bool:
    """Whether a text has a separator, or its full-width form, that is no part of a tag."""
    return any(sign in text and sign not in reserved for sign in (mark, *FULL_WIDTH.get(mark, "")))


def _line(separator: str) -> str:
    """The line of the YAML that declares a separator."""
    return f"`tag_separator: {json.dumps(separator, ensure_ascii=False)}`"


def _check_vectors(column: _Column, words: Words, declared: Sequence[str]) -> None:
    """Raise where the cells hold values instead of tags, such as ``0,1,0`` or ``rust=1,dent=0``."""
    values = {tag for tags in words for tag in tags}
    lists = [cell for cell, tags in enumerate(words) if len(tags) > 1]
    is_vector = bool(lists) and values <= {"0", "1"} and any(len({*words[cell]}) < len(words[cell]) for cell in lists)
    matches = [_WITH_VALUE.fullmatch(tag) for tag in values]
    has_values = bool(values) and all(match is not None and spelling_of(match[1].strip()) for match in matches)
    if (is_vector or has_values) and not declared:
        cells = lists if is_vector else [cell for cell, tags in enumerate(words) if tags]
        text = (
            f"found a {'0 or 1 for each attribute' if is_vector else 'value beside each tag'}, {column.where(cells)}, "
        )
        text += "expected tags: write these values into columns of their own, and data.importer: wide_csv"
        raise _Unclear(column, cells, text)


def _check_separator(column: _Column, cells_of: CellsOf, understood: str | None, declared: Sequence[str]) -> None:
    """Raise where a separator that the column decided leaves a doubt what its tags are."""
    words = {word: cells for word, cells in cells_of.items() if word not in declared}
    for word in (word for word, cells in words.items() if understood == " " and _is_joint(word, column, cells)):
        mark = word if word in UNUSUAL_SEPARATORS else f" {word} "
        raise _unclear_mark(column, words[word], f"found {word!r} between blanks", mark, understood)
    if understood == " ":
        together: dict[tuple[int, ...], list[str]] = {}
        for word, cells in words.items():
            together.setdefault(tuple(cells), []).append(word)
        for alike in (alike for alike in together.values() if len(alike) > 1):
            cells, tag = words[alike[0]], " ".join(alike)
            text = f"found {' and '.join(map(repr, alike))} only together, {column.where(cells)}; "
            text += f"data.tag_separator has to say whether {tag!r} is one tag: write under data: {_line('|')} if it "
            text += f"is, {_line(' ')} if not"
            raise _Unclear(column, cells, text, (" ", "|") if _blanks_separate(column) else ("|", " "))
    for mark in UNUSUAL_SEPARATORS if understood != LIST else ():
        parts_of = {
            word: _parts(word, mark) for word in words if holds(word, mark) and not is_unread_missing(word, (), ())
        }
        uses = Counter(part for parts in parts_of.values() for part in {*parts} if mark in RECURRING)
        for word, parts in parts_of.items():
            if alone := [part for part in parts if part in cells_of or uses[part] > 1]:
                text = f"found {word!r} beside {' and '.join(map(repr, alone))}"
                raise _unclear_mark(column, words[word], text, mark, understood)


def _unclear_mark(column: _Column, cells: Sequence[int], text: str, mark: str, understood: str | None) -> _Unclear:
    """The doubt whether a sign inside tags separates; beside a usual separator it rather does not."""
    text += f", {column.where(cells)}; data.tag_separator has to say whether {mark!r} separates: write under data: "
    text += f"{_line(mark)} if it does, {_line(understood or '|')} if not"
    rather = understood in (None, " ")
    return _Unclear(column, cells, text, (mark, "|") if rather else (str(understood), mark))


def _is_joint(word: str, column: _Column, cells: Sequence[int]) -> bool:
    """Whether a word that stands between blanks only joins tags: a dash or another sign, or "and"."""
    signs = all(unicodedata.category(sign) in ("Pd", "Po", "Sm") for sign in word)
    return (signs or f" {word.casefold()} " in UNUSUAL_SEPARATORS) and any(column.texts[cell] != word for cell in cells)


def _blanks_separate(column: _Column) -> bool:
    """Whether blanks rather separate tags than belong to them: a word stands at different places."""
    places = {(word, place) for text in column.texts for place, word in enumerate(text.split())}
    return len(places) > len({word for word, _ in places})


def _doubtful(column: _Column, words: Words, tokens: set[str], declared: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Missing tokens beside tags, and cells that are probably missing tokens although nothing declares them."""
    beside: dict[str, list[int]] = {}
    alone: dict[str, list[int]] = {}
    for cell, tags in enumerate(words):
        for token in tokens.intersection(tags) if not tokens.issuperset(tags) else ():
            beside.setdefault(token, []).append(cell)
        if len(tags) == 1 and is_unread_missing(tags[0], tokens, declared):
            alone.setdefault(tags[0], []).append(cell)
    for token, cells in beside.items():
        text = f"found the missing token {token!r} beside tags, {column.where(cells)}, expected it alone; "
        yield column.problem(cells, f"{text}if it is a tag, take it out of data.values.missing")
    counts = {tag: int(column.counts[cells].sum()) for tag, cells in alone.items()}
    if (unread := unread_missing(counts, tokens, declared)) is not None:
        yield column.problem(min(alone.values()), unread)


def _tied(words: Words, understood: str | None, declared: str | None) -> Iterator[str]:
    """A warning about words that blanks separate, but that always stand beside the same other word."""
    if understood != " " or declared is not None:
        return
    before: dict[str, str | None] = {}
    after: dict[str, str | None] = {}
    for cell in filter(None, words):
        for word, left, right in zip(cell, (None, *cell[:-1]), (*cell[1:], None), strict=True):
            for side, neighbour in ((before, left), (after, right)):
                if side.setdefault(word, neighbour) != neighbour:
                    side[word] = None
    pairs = [f"{left} {word}" for word, left in before.items() if left]
    pairs += [f"{word} {right}" for word, right in after.items() if right]
    if pairs:
        shown = ", ".join(map(repr, list(dict.fromkeys(pairs))[:SHOWN]))
        text = f"tags are separated by blanks, yet some stand beside the same other tag in all rows: {shown}; "
        yield f"{text}if each of these is one tag, write under data: {_line('|')}"
