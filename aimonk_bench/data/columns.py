"""What the columns of an unknown table probably are: names of images, labels, tags, groups, the parts of a split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from aimonk_bench.config.fields import number_of
from aimonk_bench.data.cells import counts_of
from aimonk_bench.data.importers import ODD_ATTRIBUTES, PART_FLAG
from aimonk_bench.data.sheets import TAG_COLUMNS
from aimonk_bench.data.splits import part_of
from aimonk_bench.data.tables import Table
from aimonk_bench.data.tags import SEPARATORS, holds
from aimonk_bench.data.tokens import (
    CROSSES,
    MOST_WORDS,
    UNKNOWN_CODES,
    is_image_file,
    is_missing,
    is_tick,
    likely_state,
    spelling_of,
    state_of,
)

Kind = Literal["labels", "soft labels", "numbers", "text", "empty"]

FEWEST_GROUPS, LARGEST_GROUP = 20, 50  # a column with fewer values groups images only if its groups are small
MOST_COUNTS = 12  # different ones in a column of labels
PROSE_WORDS = 5  # in the cells of a column of free text, on average
MOST_OTHER_TOKENS = 3  # that may stand beside yes and no in a column of labels

_UNITS = (  # what images are of: many images of one are alike
    "patient|subject|participant|specimen|case|study|series|video|clip|scene|sequence|session|slide|burst|camera|lesion|"
    "individual|group"
)
NO_LABELS = re.compile(  # names of columns that are no attributes of an image even where they hold 0 and 1
    rf"{ODD_ATTRIBUTES.pattern}|age|.*[ _]age|sex|.*[ _]sex|gender|.*[ _]gender|year|month|date|follow.?up.*|unnamed.*|"
    rf"[xy]_?(min|max|1|2|c|center)|bbox.*|area|iscrowd|({_UNITS}|image|view|frame|site|rater|reader)s?"
    r"[ _]?(id|no|nr|num|number|name|position)?",
    re.IGNORECASE,
)
GROUPS = re.compile(rf"(.*[ _-])?({_UNITS})s?([ _-]?(.*uid|id|no|nr|num|number|name|key|code|index))?", re.IGNORECASE)
IDS = re.compile(r"(.*[ _-])?id|.*ID", re.ASCII)
RATERS = re.compile(r".*(rater|reader|annotator|reviewer|labell?er|worker|expert|user|confirmation|source).*", re.I)
LABEL_NAMES = re.compile(
    r".*(label|class|categor|attribut|finding|disease|diagnos|concept|object|species|tag).*", re.IGNORECASE
)
VALUES = re.compile(r".*(value|confidence|present|presence|state|positive|verified|target|is_?true|label).*", re.I)
FLAGS = re.compile(PART_FLAG, re.IGNORECASE)
SPLITS = re.compile(rf".*(split|subset|partition|phase|fold|usage)|data_?set|set|{PART_FLAG}", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a table of R rows.

    Attributes:
        cells: [R].
        counts: token -> rows, in the order of the file.
        kind: what its tokens look like.
    """

    name: str
    cells: pd.Categorical
    counts: Mapping[str, int]
    kind: Kind

    @cached_property
    def tokens(self) -> list[str]:
        """Its tokens without those that mean that nothing is known."""
        return [token for token in self.counts if not is_missing(token)]

    @cached_property
    def holds_images(self) -> bool:
        """Whether it holds names of image files."""
        return bool(self.tokens) and all(map(is_image_file, self.tokens))

    @property
    def examples(self) -> str:
        """The first tokens, for messages."""
        return ", ".join(map(repr, self.tokens[:3]))

    @property
    def is_odd(self) -> bool:
        """Whether a column with this name is rarely an attribute."""
        return NO_LABELS.fullmatch(self.name) is not None

    @cached_property
    def repeats(self) -> bool:
        """Whether most cells stand in several rows, as names of classes do."""
        return 2 * sum(count for count in self.counts.values() if count > 1) >= sum(self.counts.values())

    def varies_within(self, images: Column) -> bool:
        """Whether rows of one image differ in this column, but for cells in which nothing is known."""
        pairs = pd.DataFrame({"image": images.cells.codes, "code": self.cells.codes}).drop_duplicates()
        missing = np.flatnonzero([is_missing(token) for token in self.cells.categories])
        return bool(pairs["image"][~pairs["code"].isin(missing)].duplicated().any())


def columns_of(table: Table) -> list[Column]:
    """The columns of a table, without a second one of the same name."""
    return [column(name, table.column(name)) for name in dict.fromkeys(table.names)]


def column(name: str, cells: pd.Categorical) -> Column:
    """A column of text, with the counts of its tokens."""
    counts = counts_of(cells)
    return Column(name, cells, counts, kind_of(counts))


def kind_of(counts: Mapping[str, int]) -> Kind:
    """What the tokens of a column look like.

    >>> [kind_of(dict.fromkeys(tokens, 5)) for tokens in (["1", "0", "NA"], ["0.33", "1"], ["3", "0"], ["M", "F"])]
    ['labels', 'soft labels', 'numbers', 'text']
    """
    tokens = [token for token in counts if not is_missing(token)]
    if not tokens:
        return "empty"
    numbers = {number for token in tokens if (number := number_of(token)) is not None}
    if len(numbers) and all(number_of(token) is not None for token in tokens):
        plain = numbers.difference(UNKNOWN_CODES)
        if plain and plain <= {-1.0, 0.0, 1.0} and (plain == numbers or plain >= {0.0, 1.0}):
            return "labels"
        return "soft labels" if all(0 <= number <= 1 for number in numbers) else "numbers"
    states = {token: state_of(token) for token in tokens}
    others = [token for token, state in states.items() if state is None]
    if not others:
        return "labels"
    few = len(others) <= MOST_OTHER_TOKENS and 2 * sum(counts[token] for token in others) < sum(counts.values())
    crossed = any(map(is_tick, tokens)) and any(token in counts for token in CROSSES)  # a dash beside a tick means no
    present = {*states.values(), "negative" if crossed else None}
    return "labels" if few and {"positive", "negative"} <= present else "text"


def label_columns(columns: Sequence[Column]) -> list[Column]:
    """The columns with labels, without those whose name says that they are none; if there are none, counts or words.

    Columns of words have two of them, or share a few. Those that are called labels, objects and the like hold tags.
    """
    labels = [item for item in columns if item.kind == "labels" and not item.is_odd]
    counts = [item for item in columns if _is_count(item) and not item.is_odd]
    if any(state_of(token) == "positive" for item in labels for token in item.tokens) or (labels and not counts):
        return labels
    if counts:
        return [item for item in columns if item in labels or item in counts]
    few = [
        item for item in columns if 2 <= len(item.tokens) <= MOST_WORDS and _has_name(item) and not _names_labels(item)
    ]
    few = [item for item in few if item.kind == "text" and not item.is_odd and item.repeats and not is_tagged(item)]
    uses = Counter(token for item in few for token in item.tokens)
    words_of = {item.name: [token for token in item.tokens if likely_state(token) != "missing"] for item in few}
    return [
        item for item in few if len(words_of[item.name]) == 2 or all(uses[token] > 1 for token in words_of[item.name])
    ]


def _is_count(item: Column) -> bool:
    """Whether a column has 0 beside a few whole numbers above it: counts, grades, or the 0 and 255 of a mask."""
    numbers = {number_of(token) for token in item.tokens} if item.kind == "numbers" else set()
    few = 2 <= len(item.tokens) <= (2 if _names_labels(item) else MOST_COUNTS)
    return few and item.repeats and 0 in numbers and all(n is not None and n >= 0 and n.is_integer() for n in numbers)


def group_column(columns: Sequence[Column], images: Column) -> Column | None:
    """The column whose equal values belong together, such as patients; None if none has such a name."""

    def repeats(item: Column) -> bool:
        distinct = len(item.tokens)
        return 2 <= distinct < len(images.counts) and not item.varies_within(images)

    free = [item for item in columns if item.kind in ("text", "numbers") and repeats(item)]
    free = [item for item in free if not _names_labels(item)]
    named = [item for item in free if GROUPS.fullmatch(item.name)]
    exact = [item for item in named if IDS.fullmatch(item.name)]
    return next(iter([*exact, *named, *(item for item in free if IDS.fullmatch(item.name))]), None)


def is_coarse(group: Column, images: Column) -> bool:
    """Whether a column has so few values for so many images that folds could hardly keep them apart."""
    values = len(group.tokens)
    return values < 3 or (values < FEWEST_GROUPS and values * LARGEST_GROUP < len(images.counts))


def split_column(columns: Sequence[Column], images: Column) -> tuple[Column, dict[str, list[str]]] | None:
    """The column that names the parts of an official split, and the tokens of each part."""
    for item in columns:
        if is_split(item) and not item.varies_within(images) and (parts := parts_of(item)):
            return item, parts
    return None


def is_split(item: Column) -> bool:
    """Whether a column is called a split, or a fold."""
    return SPLITS.fullmatch(item.name) is not None


def parts_of(item: Column) -> dict[str, list[str]]:
    """The tokens of each part that a column names; empty unless all but missing ones name one, and one names training.

    A column such as ``train`` may be an attribute: it says the parts only where most images are for training.
    """
    parts: dict[str, list[str]] = {}
    for token in item.tokens:
        parts.setdefault(_part(item, token), []).append(token)
    if "" in parts or not {"train"} < {*parts}:
        return {}
    trained = sum(item.counts[token] for token in parts["train"])
    return {} if FLAGS.fullmatch(item.name) and 2 * trained < sum(item.counts.values()) else parts


def _part(item: Column, token: str) -> str:
    """The part that a token names; empty if it names none."""
    state = spelling_of(token)
    if (flag := FLAGS.fullmatch(item.name)) and state in ("positive", "negative"):
        part = part_of(flag["part"].lower().replace(" ", "").replace("_", "")) or "test"  # held out
        return part if state == "positive" else "test" if part == "train" else "train"
    numbers = {number_of(text) for text in item.counts}
    if numbers == {0.0, 1.0, 2.0} and "fold" not in item.name.lower():
        return ("train", "val", "test")[int(float(token))]
    return part_of(token) or ""


def long_columns(columns: Sequence[Column], images: Column) -> tuple[Column, Column | None] | None:
    """The columns of labels and of their values in a table with a row for each image and label; None if it is none.

    Such a table has images in several rows, which differ in the column of labels.

    Args:
        columns: of the table; that of the images, if it is among them, is not looked at.
    """
    if len(images.cells) <= len(images.counts):
        return None
    columns = [item for item in columns if item is not images]
    names = [item for item in columns if item.kind in ("text", "numbers") and item.varies_within(images)]
    names = [item for item in names if not item.holds_images and not is_tagged(item)]
    names = [item for item in names if not is_split(item) and not RATERS.fullmatch(item.name)]
    usual = [item for item in names if item.kind == "text" and _names_labels(item)]
    unique = [item for item in names if _different(item, images)]
    unique = [item for item in unique if item.kind == "text" or _names_labels(item) or not _has_name(item)]
    values = [item for item in columns if item.kind == "labels" and not item.is_odd]
    if not usual and len(values) > 1 and any(map(_has_name, columns)):
        return None  # a table with a column for each attribute, whose images stand in several rows
    choice = next(iter([*usual, *sorted(unique, key=lambda item: item.kind != "text")]), None)
    if choice is None:
        return None
    values = [item for item in values if item is not choice]
    named = [item for item in values if VALUES.fullmatch(item.name)]
    others = values if _different(choice, images) else []  # such as "difficult" beside several boxes of a class
    return choice, next(iter([*named, *others]), None)


def _names_labels(item: Column) -> bool:
    return item.name.lower() in TAG_COLUMNS or LABEL_NAMES.fullmatch(item.name) is not None


def _has_name(item: Column) -> bool:
    """Whether the file names the column."""
    return re.fullmatch(r"image|attr\d+", item.name) is None


def _different(item: Column, images: Column) -> bool:
    """Whether no two rows of an image have the same cell."""
    return not pd.DataFrame({"image": images.cells.codes, "code": item.cells.codes}).duplicated().any()


def is_tagged(item: Column) -> bool:
    """Whether the cells of a column hold several tags, or lists."""
    return any(holds(token, mark) for token in item.tokens for mark in SEPARATORS) or (
        bool(item.tokens) and all(token[:1] in "[({" and token[-1:] in "])}" for token in item.tokens)
    )


def tag_columns(columns: Sequence[Column]) -> Iterator[Column]:
    """The columns that may hold the tags of a table with a row for each image, the likeliest first.

    Where there are columns of labels, only a column with a usual name is likely.
    """
    free = [item for item in columns if not item.holds_images]
    texts = [item for item in free if item.kind == "text" and not item.is_odd]
    labels = label_columns(free)
    usual = [item for item in texts if item.name.lower() in TAG_COLUMNS]
    certain = any(item.kind == "labels" for item in labels)
    yield from (item for item in usual if not certain or is_tagged(item))
    if certain:
        return
    yield from (item for item in texts if _names_labels(item) and item not in usual)
    if labels:
        return
    others = [item for item in texts if not _names_labels(item) and not _is_prose(item)]
    yield from (item for item in others if is_tagged(item) or item.repeats)
    yield from (item for item in free if item.kind == "numbers" and _names_labels(item) and item.repeats)
    alone = [item for item in free if item.kind == "text" and len(free) == 1]
    yield from (item for item in alone if item.repeats or (_repeats_words(item) and not _is_prose(item)))


def _repeats_words(item: Column) -> bool:
    """Whether the words of its cells are mostly the same ones."""
    words = [word for token in item.tokens for word in token.split()]
    return len(words) >= 2 * len({*words})


def _is_prose(item: Column) -> bool:
    """Whether a column holds sentences, such as captions."""
    return sum(len(token.split()) for token in item.tokens) >= PROSE_WORDS * len(item.tokens) and not item.repeats
