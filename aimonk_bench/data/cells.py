"""Columns of cells: each distinct text of a column is a category, so that it is looked at once.

A category is a text or, where an importer knows it, the label itself: True or False. A cell without a category has no
value.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FEW = 8  # categories of a column of labels
QUOTED = re.compile(r"""=?(?:'([^']*)'|"([^"]*)"|“([^”]*)”|‘([^’]*)’)""", re.DOTALL)


def coded(codes: NDArray[Any], categories: Iterable[Any]) -> pd.Categorical:
    """The column [R] whose cells are these numbers of the categories, -1 for no value."""
    texts = tuple(categories)
    dtype = _dtype(texts) if len(texts) <= FEW else _dtype.__wrapped__(texts)
    return pd.Categorical.from_codes(codes, dtype=dtype)


@functools.lru_cache(maxsize=1024)  # columns of labels have the same few texts, and making a dtype takes longest
def _dtype(categories: tuple[Any, ...]) -> pd.CategoricalDtype:
    return pd.CategoricalDtype(pd.Index([*categories], dtype=object))


def bare(text: str) -> str:
    """The text of a cell without blanks and without quotes around it, also Excel's ``="1"``.

    >>> bare(" '1' "), bare("it's")
    ('1', "it's")
    """
    text = text.strip()
    match = QUOTED.fullmatch(text) if text[-1:] in "'\"”’" else None
    return next(inside for inside in match.groups() if inside is not None).strip() if match else text


def text_of(value: Any) -> str:
    """The text of a value of JSON, Excel or Parquet: yes and no are 1 and 0, lists are JSON, no value is empty."""
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        value = value.tolist()
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bool):
        return str(int(value))
    return "" if value is None or pd.isna(value) else str(value)


def column_of(texts: Iterable[str | None]) -> pd.Categorical:
    """Texts as a column, its categories in the order of the texts; None is no value."""
    return coded(*pd.factorize(np.array([*texts], object)))


def each_row(column: pd.Categorical, values: Iterable[Any], otherwise: Any) -> NDArray[Any]:
    """The value of each row's category [R].

    Args:
        values: one for each category.
        otherwise: the value of a cell without a category.
    """
    return np.array([*values, otherwise])[np.asarray(column.codes)]  # no category is -1, the last


def counts_of(column: pd.Categorical) -> dict[Any, int]:
    """Category -> rows, in the order of the file, without categories that no cell has."""
    codes = np.asarray(column.codes)
    numbers = np.bincount(codes[codes >= 0], minlength=len(column.categories)).tolist()
    return {token: number for token, number in zip(column.categories, numbers, strict=True) if number}


def first_rows(values: Sequence[Hashable | None]) -> NDArray[np.intp]:
    """The first row with the value of each row [R]; a row without a value is the first of its own."""
    first: dict[Hashable, int] = {}
    rows = (row if value is None else first.setdefault(value, row) for row, value in enumerate(values))
    return np.fromiter(rows, np.intp, len(values))


def first_row(column: pd.Categorical, token: Any) -> int:
    """The first row with this category."""
    return int(np.argmax(np.asarray(column == token)))
