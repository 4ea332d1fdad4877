"""Labels that come as a pandas DataFrame: they are written as ``labels.csv``, which the config of the run names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aimonk_bench.config.loader import Source
from aimonk_bench.config.overrides import Overrides
from aimonk_bench.errors import UserError
from aimonk_bench.records.files import contents, csv_text, write_text
from aimonk_bench.records.run import LABELS
from aimonk_bench.reporting.words import listed

if TYPE_CHECKING:
    import pandas as pd

FORM = {"importer": "wide_csv", "separator": ",", "header": True, "encoding": "utf-8"}  # of the file


@dataclass(frozen=True)
class LabelFrame:
    """The section ``data`` of a config whose labels are a DataFrame; see `labels`.

    Attributes:
        text: the content of ``labels.csv``.
        images: the folder of the images, absolute.
        options: further keys of ``data``.
    """

    text: str = field(repr=False)
    images: str
    options: Mapping[str, Any]

    def section(self, path: Path) -> dict[str, Any]:
        """The section ``data`` with the labels at a path."""
        return {"labels": os.path.abspath(path), "images": self.images, **FORM, **self.options}


def labels(frame: pd.DataFrame, images: str | os.PathLike[str], **data: Any) -> LabelFrame:
    """Labels as the section ``data`` of a config: ``aimonk_bench.run({"data": labels(frame, images="images/")})``.

    They are written as ``labels.csv`` into the output folder, whose ``config.yaml`` names it. A run has the id that it
    would have with the same labels in a file.

    Args:
        frame: a row for each image. The first column, or the one that ``id`` names, holds the names of the images;
            every other one is an attribute: 1 or True, 0 or False, and NA, NaN or None where the label is missing.
        images: the folder of the images, relative to the working directory.
        data: further keys of ``data``, such as ``group="patient"`` or ``values={...}``; see configs/README.md.

    Raises:
        UserError: no rows or attributes, columns of one name, names in the index, an image without a name, or a key
            that the DataFrame decides.
    """
    import pandas as pd

    columns = [str(name) for name in frame.columns]
    name = str(data.get("id", next(iter(columns), "")))
    if problems := [*_problems(frame, columns, name, data)]:
        raise UserError([f"labels: {problem}" for problem in problems])
    written = {}
    for place, column in enumerate(columns):
        values = frame.iloc[:, place]
        missing = _missing_token(data.get("values", {}), column)
        cells = zip(values, values.isna(), strict=True)
        written[column] = [missing if is_na else int(x) if isinstance(x, bool | np.bool_) else x for x, is_na in cells]
    return LabelFrame(csv_text(pd.DataFrame(written, dtype=object)), os.path.abspath(images), data)


def _problems(frame: pd.DataFrame, columns: list[str], name: str, data: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a DataFrame whose column ``name`` names the images, and with the further keys."""
    if decided := sorted({"labels", "images", *FORM} & set(data)):
        yield f"found the key {', '.join(decided)}, which the DataFrame decides"
    if not len(frame) or len(columns) < 2:
        yield f"found {len(frame)} rows and {len(columns)} columns, expected rows of a name and of attributes"
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        yield f"found the column {', '.join(map(repr, twice))} more than once, expected distinct names"
    if frame.index.nlevels > 1 or frame.index.name is not None or frame.index.inferred_type != "integer":
        yield "found an index that is more than numbers, and is not read; frame.reset_index() makes it a column"
    if name not in columns:
        yield f"id: found {name!r}, expected a column: {', '.join(columns)}"
    elif rows := np.flatnonzero(frame.iloc[:, columns.index(name)].isna()).tolist():
        yield f"found no name of an image in {name!r} of frame.iloc[i], i = {listed(list(map(str, rows)))}"


def _missing_token(values: Mapping[str, Any], column: str) -> str:
    """What stands for a missing value of a column: the first token that ``data.values`` declares."""
    declared = values[column] if isinstance(values.get(column), Mapping) else values
    return next(iter(declared.get("missing", ())), "NA")


@contextlib.contextmanager
def placed(
    config: Source, overrides: Overrides, out: Path | None, folder: Callable[[Source, Overrides], Path]
) -> Iterator[tuple[Source, Overrides, Path | None]]:
    """Config, overrides and output folder, in which a `LabelFrame` has become a file of the folder.

    Where an error for the user ends the block and nothing else was written, the file is deleted.

    Args:
        folder: where the results of a config go if ``out`` is None.

    Raises:
        UserError: the folder holds other labels; or that of the block, with what its line numbers mean.
    """
    frames = [
        layer["data"]
        for layer in (config, overrides)
        if isinstance(layer, Mapping) and isinstance(layer.get("data"), LabelFrame)
    ]
    if not frames:
        yield config, overrides, out
        return

    def at(path: Path) -> tuple[Any, Any]:
        section = {"data": frames[-1].section(path)}
        first, second = (
            {**layer, **section} if isinstance(layer, Mapping) and isinstance(layer.get("data"), LabelFrame) else layer
            for layer in (config, overrides)
        )
        return first, second

    place = folder(*at(Path(LABELS))) if out is None else out
    path, before = place / LABELS, contents(place)
    if LABELS in before and path.read_bytes() != frames[-1].text.encode():
        raise UserError(f"{path}: found other labels than those of the DataFrame; name another folder with out=")
    place.mkdir(parents=True, exist_ok=True)
    write_text(path, frames[-1].text)
    source, layers = at(path)
    try:
        yield source, layers, place
    except UserError as error:
        if LABELS not in before and sorted([*before, LABELS]) == contents(place):
            path.unlink()
        here = os.path.abspath(path)
        if not any(problem.startswith(f"{here}:") for problem in error.problems):
            raise
        note = f"{here}: what the DataFrame was written as; its line n is frame.iloc[n - 2]"
        raise UserError([note, *error.problems], limit=error.limit) from error
