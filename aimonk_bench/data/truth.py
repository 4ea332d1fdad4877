"""``truth.csv``: what the labels should have been, where somebody knows, beside the label file."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from aimonk_bench.config.fields import DataConfig
from aimonk_bench.data import label_file
from aimonk_bench.data.image_files import SHOWN, relative_path
from aimonk_bench.data.labels import LabelFile
from aimonk_bench.errors import UserError

FILE = "truth.csv"


def load(listed: LabelFile) -> NDArray[np.int8] | None:
    """The truth about the images of a label file, [N, A]: 1, 0, or -1 where it is not known.

    The file has a header with the columns ``image`` and the attributes, and cells 1, 0, NA or empty. It may leave
    images out and have further columns.

    Returns:
        None where no such file lies beside the label file (or is the label file itself).

    Raises:
        UserError: every problem of the file as ``file:line: ...``: an attribute without a column, another value, a
            image that the label file does not list.
    """
    path = listed.path.with_name(FILE)
    if listed.path.name == FILE or not path.is_file():
        return None
    data = DataConfig(
        labels=path,
        images=path.parent,
        importer="wide_csv",
        id="image",
        attributes=list(listed.labels.attributes),
        on_bad_image="skip",
    )
    known = label_file.load(data)
    row_of = {relative_path(name): row for row, name in enumerate(listed.ids)}
    rows = [row_of.get(relative_path(name)) for name in known.ids]
    unlisted = [
        f"{path}:{line}: image {name} is not listed in {listed.path}"
        for name, line, row in zip(known.ids, known.lines, rows, strict=True)
        if row is None
    ]
    if unlisted:
        raise UserError(unlisted, limit=SHOWN)
    truth = np.full(listed.labels.targets.shape, -1, np.int8)
    truth[np.array(rows, np.intp)] = np.where(known.labels.observed, known.labels.targets, -1)
    return truth


def fingerprint(data: str, truth: NDArray[np.int8] | None) -> str:
    """The fingerprint of the data with the truth about it; without a truth it is that of the data."""
    return data if truth is None else hashlib.sha256(data.encode() + truth.tobytes()).hexdigest()
