"""Columns of cells: what every step of reading a label file asks of them, on small columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aimonk_bench.data.cells import coded, column_of, counts_of, each_row, first_row, first_rows, text_of


def test_categories_stand_in_the_order_of_the_file() -> None:
    column = column_of(["b", None, "a", "b"])
    assert [*column.categories] == ["b", "a"]
    assert column.codes.tolist() == [0, -1, 1, 0]
    assert counts_of(column) == {"b": 2, "a": 1}
    assert first_row(column, "a") == 2


def test_each_row_has_the_value_of_its_category() -> None:
    column = coded(np.array([1, -1, 0]), [False, True])
    assert each_row(column, ("no", "yes"), None).tolist() == ["yes", None, "no"]
    assert counts_of(column) == {False: 1, True: 1}
    assert each_row(column_of([]), (), 0).tolist() == []


def test_a_category_without_a_cell_is_not_counted() -> None:
    assert counts_of(coded(np.array([1, 1]), ["x", "y"])) == {"y": 2}


def test_a_row_without_a_value_is_the_first_of_its_own() -> None:
    assert first_rows(["p", None, "q", "p", None]).tolist() == [0, 1, 2, 0, 4]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (None, ""),
        (float("nan"), ""),
        (True, "1"),
        (np.bool_(False), "0"),
        (np.int64(3), "3"),
        (0.5, "0.5"),
        (["a", "ü"], '["a", "ü"]'),
        (np.array(["a"], object), '["a"]'),
        ({"x": None}, '{"x": null}'),
    ],
)
def test_the_text_of_a_value(value: Any, text: str) -> None:
    assert text_of(value) == text
