"""MATLAB files: lists of image names, matrices of labels beside them, names of attributes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_files import config, states
from scipy.io import savemat

from aimonk_bench.data import label_file
from aimonk_bench.data.matlab_elements import readable_variables
from aimonk_bench.errors import UserError


def cells(*texts: str) -> np.ndarray:
    """A cell array [n, 1], as MATLAB writes it."""
    array = np.empty((len(texts), 1), object)
    array[:, 0] = texts
    return array


def pa100k(**changes: Any) -> dict[str, Any]:
    variables = {
        "attributes": cells("Female", "Hat"),
        "train_images_name": cells("1.jpg", "2.jpg"),
        "train_label": np.array([[1, 0], [0, 0]], np.uint8),
        "val_images_name": cells("3.jpg", "4.jpg"),
        "val_label": np.array([[1, 1], [0, 1]], np.uint8),
        "test_images_name": cells("5.jpg"),
        "test_label": np.array([[0, 1]], np.uint8),
    }
    return {name: value for name, value in (variables | changes).items() if value is not None}


def load(folder: Path, variables: dict[str, Any], **options: Any) -> Any:
    savemat(folder / "annotation.mat", variables)
    return label_file.load(config(folder / "annotation.mat", **options))


@pytest.mark.parametrize("importer", ["auto", "mat"])
def test_all_lists_are_read(tmp_path: Path, importer: str) -> None:
    loaded = load(tmp_path, pa100k(), importer=importer)
    assert loaded.ids == ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg")
    assert loaded.labels.attributes == ("Female", "Hat")
    assert states(loaded.labels) == [[1, 0], [0, 0], [1, 1], [0, 1], [0, 1]]


def test_nan_is_missing_and_attributes_are_chosen(tmp_path: Path) -> None:
    variables = pa100k(train_label=np.array([[1, np.nan], [0, 0]]))
    loaded = load(tmp_path, variables, attributes=["Hat"])
    assert states(loaded.labels) == [[None], [0], [1], [1], [1]]


def test_one_list_needs_no_common_word(tmp_path: Path) -> None:
    variables = {"files": cells("1.jpg", "2.jpg"), "y": np.array([[1, 0, 1], [0, 1, 1]]), "names": cells("a", "b", "c")}
    assert states(load(tmp_path, variables).labels) == [[1, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("variables", "options", "tokens"),
    [
        (pa100k(test_label=None), {}, ["test_images_name", "no matrix"]),
        (
            pa100k(train_label=np.ones((3, 2)), attributes=cells("a", "b", "c")),
            {},
            ["no matrix beside train_label (3, 2)", "the 2 images of train_images_name", "train_label = train_label'"],
        ),
        (pa100k(attributes=None), {}, ["train_label (2, 2)", "names of attributes"]),
        (pa100k(attributes=cells("Hat", "Hat")), {}, ["'Hat'", "2 times"]),
        (pa100k(), {"attributes": ["Hut"]}, ["'Hut'", "did you mean Hat?"]),
        (pa100k(test_label=np.array([[2, 1]])), {}, ["Female", "'2' (1 row)"]),
        (pa100k(test_label=np.array([[1.00000001, -0.0]])), {}, ["Female", "'1.00000001' (1 row)"]),  # six digits are 1
    ],
)
def test_problems(tmp_path: Path, variables: dict[str, Any], options: dict[str, Any], tokens: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, variables, **options)
    [message] = caught.value.problems
    assert f"{tmp_path / 'annotation.mat'}:" in message
    assert [token for token in tokens if token not in message] == [], message


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB", bytes(200), b"MATLAB 5.0 MAT-file" + bytes(105) + b"\x00\x01IM\x99\x99"]
)
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "annotation.mat").write_bytes(content)
    with pytest.raises(UserError, match=r"annotation\.mat"):
        label_file.load(config(tmp_path / "annotation.mat", importer="mat"))


def matrix(kind: int = 9, dimensions: bytes = b"\5\0\0\0\x08\0\0\0", size: int = 8) -> bytes:
    """A MATLAB file of one variable, a 1 x 1 matrix.

    Args:
        kind: type of its number.
        dimensions: the tag of its dimensions.
        size: bytes of its number, as the file states them.
    """
    content = b"\6\0\0\0\x08\0\0\0" + b"\6" + bytes(7)  # class: float64
    content += dimensions + b"\1\0\0\0" * 2 + b"\1\0\1\0a\0\0\0" + bytes([kind, 0, 0, 0, size, 0, 0, 0]) + bytes(8)
    return b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<II", 14, len(content)) + content


def test_the_variables_of_a_file_are_named_before_it_is_read() -> None:
    assert readable_variables(matrix()) == ["a"]
    assert readable_variables(b"\0" * 200) is None  # of version 4, which has no header


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (matrix(kind=127), "damaged matrix"),
        (matrix(size=4), "damaged matrix"),
        (matrix(dimensions=b"\5\0\0\0\1\0\0\0"), "dimensions"),
        (matrix()[:-1], "cut off"),
        (matrix()[:130], "cut off"),
        (matrix().replace(b"IM", b"IX"), "does not begin"),
    ],
)
def test_a_damaged_element_is_found_before_scipy_reads_it(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        readable_variables(content)
