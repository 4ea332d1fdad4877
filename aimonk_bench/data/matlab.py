"""MATLAB files: names of images, matrices of labels and names of attributes, as in PA-100K's annotation.mat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aimonk_bench.data.cells import coded, column_of
from aimonk_bench.data.dialects import Dialect
from aimonk_bench.data.matlab_elements import readable_variables
from aimonk_bench.data.tables import Table
from aimonk_bench.data.text import readable
from aimonk_bench.data.tokens import is_image_file
from aimonk_bench.data.values import listed
from aimonk_bench.errors import UserError, count


def read_matlab(path: Path) -> Table:
    """A MATLAB file as a table: the columns ``image`` and ``split``, and one for each attribute.

    The file has lists of image names, a matrix of labels beside each, and one list of the names of attributes. A list
    and its matrix begin with the same word, such as train_images_name and train_label; this word is the ``split``. A
    NaN is a missing label. Lines are counted over all lists.

    Raises:
        UserError: the file cannot be read, or does not hold these lists and matrices.
    """
    variables = _read(path)
    texts = {name: lines for name, value in variables.items() if (lines := _texts(value)) is not None}
    matrices = {name: value for name, value in variables.items() if _is_matrix(value)}
    images = {name: lines for name, lines in texts.items() if lines and all(map(is_image_file, lines))}
    pairs, problems = {}, []
    for name, lines in images.items():
        beside = [matrix for matrix in matrices if len(matrices[matrix]) == len(lines)]
        of_others = {_word(other) for other in images if other != name}
        alike = [matrix for matrix in beside if _word(matrix) == _word(name)]
        alike = alike or [matrix for matrix in beside if _word(matrix) not in of_others]
        if len(alike) == 1:
            pairs[name] = alike[0]
        else:
            shapes = [f"{matrix} {np.shape(matrices[matrix])}" for matrix in alike or matrices]
            turned = [matrix for matrix in matrices if not alike and matrices[matrix].shape[1] == len(lines)]
            fix = f"; {listed(turned)} is transposed: in MATLAB write {turned[0]} = {turned[0]}'" if turned else ""
            problems.append(
                f"found {'' if alike else 'no matrix beside '}{listed(shapes) or 'other variables'} for the "
                f"{len(lines)} images of {name}, expected one matrix of {len(lines)} rows of labels{fix}"
            )
    widths = {matrices[matrix].shape[1] for matrix in pairs.values()}
    named = [name for name, lines in texts.items() if name not in images and {len(lines)} == widths]
    if not problems and len(named) != 1:
        problems.append(
            f"found the variables {listed([f'{name} {np.shape(value)}' for name, value in variables.items()])}, "
            "expected names of images, a matrix of labels for each list of them, and one list of names of attributes"
        )
    if problems:
        raise UserError([f"{path}:1: {text}" for text in problems])
    labels = np.concatenate([matrices[matrix] for matrix in pairs.values()])
    names = [name for lines in pairs for name in texts[lines]]
    parts = [_word(lines) for lines in pairs for _ in texts[lines]]
    attributes = texts[named[0]]
    return Table(
        ("image", "split", *attributes),
        (column_of(names), column_of(parts), *map(_column, labels.T)),
        np.arange(1, len(names) + 1),
        header_line=1,
        dialect=Dialect("", "", header=True, width=2 + len(attributes)),
        notes=tuple(f"{name} and {matrix} ({count(len(texts[name]), 'image')})" for name, matrix in pairs.items()),
    )


def _word(variable: str) -> str:
    """The first word of the name of a variable: ``train`` of ``train_images_name``."""
    return variable.partition("_")[0].lower()


def _read(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file.

    Raises:
        UserError: it cannot be read.
    """
    from scipy.io import loadmat

    with readable(path, "a MATLAB file"):
        names = readable_variables(path.read_bytes())
        try:
            variables = loadmat(path, variable_names=names)
            return {name: value for name, value in variables.items() if not name.startswith("__")}
        except NotImplementedError as error:
            raise UserError(
                f"{path}: found a MATLAB 7.3 file, expected version 7: write it again in MATLAB with "
                "save('annotation.mat', '-v7')"
            ) from error


def _texts(value: Any) -> list[str] | None:
    """The texts of a cell array, or of the rows of a matrix of characters; None for other variables."""
    if value.dtype.kind == "U":
        return [str(text).strip() for text in value.ravel()]
    if value.dtype.kind != "O":
        return None
    cells = [np.ravel(cell) for cell in value.ravel()]
    if not all(len(cell) == 1 and cell.dtype.kind == "U" for cell in cells):
        return None
    return [str(cell[0]).strip() for cell in cells]


def _is_matrix(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.ndim == 2


def _column(labels: np.ndarray) -> pd.Categorical:
    """Numbers [R] as tokens with all their digits, since different numbers are different tokens; NaN is missing."""
    codes, numbers = pd.factorize(labels if labels.dtype.kind == "f" else labels.astype(float))
    return coded(codes, (np.format_float_positional(number + 0, trim="-") for number in numbers))  # -0.0 + 0 is 0.0
