"""Labels that come as a pandas DataFrame: they are written as ``labels.csv``, which the config of the run names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aimonk_bench.arguments import path, wrong
from aimonk_bench.config.fields import Values
from aimonk_bench.config.loader import Source
from aimonk_bench.config.overrides import Overrides
from aimonk_bench.errors import UserError, printable
from aimonk_bench.records.files import contents, csv_text, write_text
from aimonk_bench.records.run import LABELS
from aimonk_bench.reporting.words import listed

if TYPE_CHECKING:
    import pandas as pd

STATES = {*Values.model_fields}
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

    def section(self, file: Path) -> dict[str, Any]:
        """The section ``data`` with the labels in a file."""
        return {"labels": os.path.abspath(file), "images": self.images, **FORM, **self.options}


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
        UserError: ``frame`` is no DataFrame; no rows or attributes, columns of one name, names in the index, an image
            without a name, a text that is not UTF-8, or a key that the DataFrame decides.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise wrong("frame", frame, "a DataFrame, a row for each image; a label file goes into the config as it is")
    folder = os.path.abspath(path("images", images, "the folder of the images"))
    columns = [str(name) for name in frame.columns]
    name = str(data.get("id", next(iter(columns), "")))
    if problems := [*_problems(frame, columns, name, data)]:
        raise UserError([f"labels: {problem}" for problem in problems])
    written = {}
    for place, column in enumerate(columns):
        values = frame.iloc[:, place]
        missing = _missing_token(data.get("values", {}), column)
        if missing is None and values.isna().any():
            raise UserError(f"labels: found missing values in {column!r}, but `values` declares no token for them")
        cells = zip(values, values.isna(), strict=True)
        written[column] = [missing if is_na else int(x) if isinstance(x, bool | np.bool_) else x for x, is_na in cells]
    text = csv_text(pd.DataFrame(written, dtype=object))
    if not _is_utf_8(text):
        raise UserError([f"labels: {problem}" for problem in _not_utf_8(written)])
    return LabelFrame(text, folder, data)


def _problems(frame: pd.DataFrame, columns: list[str], name: str, data: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a DataFrame whose column ``name`` names the images, and with the further keys."""
    if decided := sorted({"labels", "images", *FORM} & set(data)):
        yield f"found the key {', '.join(decided)}, which the DataFrame decides"
    if frame.columns.nlevels > 1:
        yield f"found columns of {frame.columns.nlevels} levels, expected one name for each"
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


def _missing_token(values: object, column: str) -> str | None:
    """What stands for a missing value of a column: the first token that ``data.values`` declares; None for none.

    Raises:
        UserError: ``data.values`` is of another type.
    """
    by_attribute = isinstance(values, Mapping) and bool(values) and all(isinstance(v, Mapping) for v in values.values())
    declared = values.get(column, {}) if by_attribute and isinstance(values, Mapping) else values
    tokens = declared.get("missing", ("NA",)) if isinstance(declared, Mapping) and not {*declared} - STATES else None
    if not isinstance(tokens, list | tuple) or not all(isinstance(token, str) for token in tokens):
        expected = "a dict such as {'positive': ['yes'], 'negative': ['no'], 'missing': ['?']}, or one per attribute"
        raise wrong("values", values, expected)
    return next(iter(tokens), None)


def _not_utf_8(columns: Mapping[str, Sequence[object]]) -> Iterator[str]:
    """Texts that no file of UTF-8 can hold: names of files whose bytes are something else, as Python writes them."""
    for column, cells in columns.items():
        if not _is_utf_8(column):
            yield f"found the column {printable(column)!r}, expected a name that is UTF-8"
        for row, cell in enumerate(cells):
            if not _is_utf_8(text := str(cell)):
                problem = f"found '{printable(text)}' in {printable(column)!r} of frame.iloc[{row}]"
                yield f"{problem}, expected a text that is UTF-8; rename the file"


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def placed(
    config: Source, overrides: Overrides, out: Path | None, folder: Callable[[Source, Overrides], Path]
) -> Iterator[tuple[Source, Overrides, Path | None]]:
    """Config, overrides and output folder, in which a `LabelFrame` has become a file of the folder.

    Where an exception ends the block and nothing else was written, the file and new folders are deleted.

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

    def at(file: Path) -> tuple[Any, Any]:
        section = {"data": frames[-1].section(file)}
        first, second = (
            {**layer, **section} if isinstance(layer, Mapping) and isinstance(layer.get("data"), LabelFrame) else layer
            for layer in (config, overrides)
        )
        return first, second

    place = folder(*at(Path(LABELS))) if out is None else out
    file, before = place / LABELS, contents(place)
    if LABELS in before and file.read_bytes() != frames[-1].text.encode():
        raise UserError(f"{file}: found other labels than those of the DataFrame; name another folder with out=")
    new = [parent for parent in (place, *place.parents) if not parent.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
        write_text(file, frames[-1].text)
        yield *at(file), place
    except BaseException as error:
        if LABELS not in before and contents(place, without=LABELS) == before:
            file.unlink(missing_ok=True)
            for made in new:
                if made.exists() and not any(made.iterdir()):
                    made.rmdir()
        here = os.path.abspath(file)
        if not isinstance(error, UserError) or not any(problem.startswith(f"{here}:") for problem in error.problems):
            raise
        note = f"{here}: what the DataFrame was written as; its line n is frame.iloc[n - 2]"
        raise UserError([note, *error.problems], limit=error.limit) from error
