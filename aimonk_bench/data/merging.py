"""Rows of a label file that name the same image: identical, merged by `data.duplicates`, or an error."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aimonk_bench.config.fields import value_of
from aimonk_bench.data.cells import each_row
from aimonk_bench.data.image_names import EXAMPLES
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.tokens import is_missing
from aimonk_bench.errors import count

Policy = Literal["error", "any_positive", "agree_or_missing"]


@dataclass(frozen=True, eq=False)
class Rows:
    """R rows of a label file.

    Attributes:
        names: [R] images as the file names them.
        lines: [R] from 1.
        labels: [R, A].
        texts: what an image has once, such as the group: [R] each, None where a row has none.
        legible: [R] whether every token of the row is declared; the others are not compared.
    """

    names: NDArray[np.object_]
    lines: NDArray[np.int64]
    labels: Labels
    texts: Mapping[str, NDArray[np.object_]]
    legible: NDArray[np.bool_]


def merge(rows: Rows, first_rows: NDArray[np.intp], policy: Policy) -> tuple[Labels, list[tuple[int, str]], list[str]]:
    """The labels of the rows [R, A], where the first row of each image has the labels of all its rows.

    Args:
        first_rows: [R] the first row of each row's image.

    Returns:
        The labels; (line, message) of contradictions; and notes on what was merged.
    """
    later = np.flatnonzero(first_rows != np.arange(len(first_rows)))
    later = later[rows.legible[later] & rows.legible[first_rows[later]]]
    first = first_rows[later]
    labels = rows.labels
    unequal = (labels.targets[later] != labels.targets[first]) | (labels.observed[later] != labels.observed[first])
    other_labels, other_text = unequal.any(axis=1), np.zeros(len(later), bool)
    problems: list[tuple[int, str]] = []
    for name, texts in rows.texts.items():
        other = texts[later] != texts[first]
        other_text |= other
        if other.any():
            problems.append(text_problem(name, texts, rows.names, rows.lines, later[other], first[other]))
    notes = []
    same = later[~other_labels & ~other_text]
    if len(same):
        examples = [
            f"line {rows.lines[row]} ({rows.names[row]}, as line {rows.lines[first_rows[row]]})"
            for row in same[:EXAMPLES]
        ]
        more = f" and {len(same) - EXAMPLES} more" if len(same) > EXAMPLES else ""
        notes.append(f"identical duplicate lines, each image used once: {', '.join(examples)}{more}")
    if not other_labels.any():
        return labels, problems, notes
    if policy == "error":
        problems.append(_contradiction(rows, later[other_labels], first[other_labels]))
        return labels, problems, notes
    images = np.unique(first[other_labels])
    rows_of_images = int(np.isin(first_rows, images).sum())
    notes.append(
        f"{count(len(images), 'image')} with different labels in {rows_of_images} rows, "
        f"merged by data.duplicates: {policy}"
    )
    return _merged(labels, first_rows, policy), problems, notes


def texts_of_images(
    column: pd.Categorical, missing: Collection[str], first_rows: NDArray[np.intp]
) -> NDArray[np.object_]:
    """The texts [R] of a column that holds no labels, such as groups; None where no row of the image has one.

    A row without a text, or with a missing token, has that of the first row of its image that has one.

    Args:
        missing: tokens that mean missing, beside the usual ones.
        first_rows: [R] the first row of each row's image.
    """
    declared = {value_of(token) for token in missing}
    texts = each_row(
        column,
        [None if is_missing(text) or value_of(text) in declared else text for text in column.categories],
        None,
    )
    empty = np.array([text is None for text in texts], bool)
    text_of_image = dict(zip(first_rows[~empty][::-1].tolist(), texts[~empty][::-1], strict=True))
    texts[empty] = [text_of_image.get(image) for image in first_rows[empty].tolist()]
    return texts


def _merged(labels: Labels, first_rows: NDArray[np.intp], policy: Policy) -> Labels:
    """The labels [R, A]; in the first row of each image those of all its rows."""
    positive, negative = np.zeros((2, *labels.shape), bool)
    np.logical_or.at(positive, first_rows, labels.positive)
    np.logical_or.at(negative, first_rows, labels.negative)
    observed = positive | negative if policy == "any_positive" else positive ^ negative
    return Labels.of(positive, observed, labels.attributes)


def _contradiction(rows: Rows, later: NDArray[np.intp], first: NDArray[np.intp]) -> tuple[int, str]:
    """(line, message) about all rows that differ in a label from the first row of the same image."""
    row, other = int(later[0]), int(first[0])
    words, other_words = _words(rows.labels, row), _words(rows.labels, other)
    pairs = zip(rows.labels.attributes, words, other_words, strict=True)
    unequal = [f"{name} is {word}, there {other_word}" for name, word, other_word in pairs if word != other_word]
    images = len(set(first.tolist()))
    more = f"; {images} images in all have rows that differ" if images > 1 else ""
    return int(rows.lines[row]), (
        f"image {rows.names[row]} contradicts line {rows.lines[other]}: {'; '.join(unequal)}{more}; correct the file, "
        "or write under data: `duplicates: any_positive` (what one row calls positive is positive) "
        "or `duplicates: agree_or_missing` (where rows differ, the label is missing)"
    )


def text_problem(
    name: str,
    texts: NDArray[np.object_],
    images: NDArray[np.object_],
    lines: NDArray[np.int64],
    later: NDArray[np.intp],
    first: NDArray[np.intp],
) -> tuple[int, str]:
    """(line, message) about the rows with another text of this name than the first row of the same image.

    Args:
        texts, images, lines: [R].
        later: those rows, at least one.
        first: the first row of the image of each.
    """
    row, other = later[0], first[0]
    more = f"; {len(later)} rows in all differ" if len(later) > 1 else ""
    return int(lines[row]), (
        f"image {images[row]} contradicts line {lines[other]}: {name} is {texts[row]!r}, there "
        f"{texts[other]!r}{more}; an image has one {name}: correct the file"
    )


def _words(labels: Labels, row: int) -> list[str]:
    """The states of a row, in words."""
    states = zip(labels.targets[row], labels.observed[row], strict=True)
    return [("positive" if target else "negative") if observed else "missing" for target, observed in states]
