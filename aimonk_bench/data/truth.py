"""The truth about images whose labels are missing or wrong, read from the file that ``data.truth`` names."""

from __future__ import annotations

import hashlib

import numpy as np

from aimonk_bench.config.fields import DataConfig
from aimonk_bench.data import label_file
from aimonk_bench.data.image_files import SHOWN, relative_path
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.errors import UserError


def load(data: DataConfig, listed: LabelFile) -> Labels | None:
    """The truth about the images of a label file.

    The truth has the format of a label file, and the same keys of ``data`` say how to read it; its attributes are those
    of the label file. It may leave images out, and values missing.

    Args:
        data: whose ``truth`` is read.
        listed: N images and A attributes.

    Returns:
        [N, A], observed where the truth is stated; None where ``data`` names no truth.

    Raises:
        UserError: every problem of the file as ``file:line: ...``, an image that the label file does not list among
            them.
    """
    if data.truth is None:
        return None
    attributes = list(listed.labels.attributes)
    changed = {"labels": data.truth, "truth": None, "attributes": attributes, "on_bad_image": "skip"}
    truth = label_file.load(data.model_copy(update=changed))
    row_of = {relative_path(name): row for row, name in enumerate(listed.ids)}
    rows = [row_of.get(relative_path(name)) for name in truth.ids]
    unlisted = [
        f"{data.truth}:{line}: image {name} is not listed in {listed.path}"
        for name, line, row in zip(truth.ids, truth.lines, rows, strict=True)
        if row is None
    ]
    if unlisted:
        raise UserError(unlisted, limit=SHOWN)
    targets, observed = np.zeros((2, *listed.labels.shape), bool)
    places = np.array(rows, np.intp)
    targets[places], observed[places] = truth.labels.targets, truth.labels.observed
    return Labels.of(targets, observed, attributes)


def fingerprint(data: str, truth: Labels | None) -> str:
    """The fingerprint of the data and of the truth about them; that of the data alone where there is no truth."""
    if truth is None:
        return data
    states = np.where(truth.observed, truth.targets, -1).astype(np.int8)
    return hashlib.sha256(data.encode() + states.tobytes()).hexdigest()
