"""MATLAB files: names of images, matrices of labels and names of attributes, as in PA-100K's annotation.mat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aimonk_bench.data.sheets import Sheet, Source, first_row
from aimonk_bench.data.tokens import is_image_file
from aimonk_bench.data.values import listed
from aimonk_bench.errors import UserError
from aimonk_bench.registry import hint


def mat(source: Source, attributes: list[str] | None) -> Sheet:
    """A MATLAB file: lists of image names, a matrix of labels beside each, and the names of the attributes (PA-100K).

    A list and its matrix begin with the same word, such as train_images_name and train_label; this word is the column
    ``split``. A NaN is a missing label. Lines are counted over all lists.
    """
    variables = _read(source.path)
    texts = {name: lines for name, value in variables.items() if (lines := _texts(value)) is not None}
    matrices = {name: value for name, value in variables.items() if _is_matrix(value)}
    images = {name: lines for name, lines in texts.items() if lines and all(map(is_image_file, lines))}
    sheet = Sheet()
    pairs = []
    for name, lines in images.items():
        beside = [matrix for matrix in matrices if len(matrices[matrix]) == len(lines)]
        alike = [matrix for matrix in beside if _word(matrix) == _word(name)] or beside
        if len(alike) != 1:
            text = f"found {listed(alike) or 'no matrix'} for the images of {name}, "
            sheet.problems.append((1, f"{text}expected one matrix of labels"))
        else:
            pairs.append((name, alike[0]))
    widths = {matrices[matrix].shape[1] for _, matrix in pairs}
    named = [name for name, lines in texts.items() if name not in images and {len(lines)} == widths]
    if not sheet.problems and len(named) != 1:
        shapes = listed([f"{name} {np.shape(value)}" for name, value in variables.items()])
        sheet.problems.append(
            (
                1,
                f"found the variables {shapes}, expected names of images, a matrix of labels for each list of them, "
                "and one list of the names of attributes",
            )
        )
    sheet.problems += [
        (1, f"no column {column!r} (split.column), expected 'split'") for column in source.columns if column != "split"
    ]
    if sheet.problems:
        return sheet
    names = texts[named[0]]
    chosen = attributes if attributes is not None else names
    sheet.problems += [
        (1, f"no attribute {name!r} in {named[0]} (data.attributes){hint(name, names)}")
        for name in chosen
        if name not in names
    ]
    sheet.problems += [
        (1, f"attribute {name!r} stands {names.count(name)} times in {named[0]}")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if sheet.problems:
        return sheet
    labels = np.concatenate([matrices[matrix] for _, matrix in pairs])
    sheet.attributes = dict.fromkeys(chosen, 1)
    sheet.names = np.array([name for images_name, _ in pairs for name in texts[images_name]], object)
    sheet.lines = np.arange(1, len(sheet.names) + 1)
    sheet.columns = [_column(labels[:, names.index(name)]) for name in chosen]
    words = np.repeat([_word(name) for name, _ in pairs], [len(texts[name]) for name, _ in pairs])
    sheet.others = {column: pd.Categorical(words.astype(object)) for column in source.columns}
    parts = ", ".join(f"{name} and {matrix} ({len(texts[name])} images)" for name, matrix in pairs)
    sheet.understood = "; ".join([parts, f"attributes {listed(chosen)}", *first_row(sheet)])
    return sheet


def _word(variable: str) -> str:
    """The first word of the name of a variable: ``train`` of ``train_images_name``."""
    return variable.partition("_")[0].lower()


def _read(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file.

    Raises:
        UserError: it cannot be read.
    """
    from scipy.io import loadmat

    try:
        return {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    except NotImplementedError as error:
        raise UserError(
            f"{path}: found a MATLAB 7.3 file, expected version 7: write it again in MATLAB with "
            "save('annotation.mat', '-v7')"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # loadmat raises what the parts of a damaged file make it raise
        raise UserError(f"{path}: cannot be read as a MATLAB file: {error}") from error


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
    """Numbers [R] as tokens; NaN is a missing label."""
    codes, numbers = pd.factorize(labels.astype(float))
    return pd.Categorical.from_codes(codes, categories=pd.Index([f"{number:g}" for number in numbers], dtype=object))
