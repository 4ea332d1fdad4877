"""One folder of the feature store: rows of features, and an index of the image and view that each row belongs to.

``rows.f32`` is [R, D] and only ever grows (``rows.f16`` for float16, ``rows.u8`` for pixels); ``index.sqlite`` maps
(SHA-256 of the image, view key) to a row. Rows reach the disk before the index names them. What a killed process wrote
without indexing it lies behind the last indexed row and is cut off.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from aimonk_bench.backbones.encoder import damaged, read_record
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.errors import UserError

FILES = {"float32": "rows.f32", "float16": "rows.f16", "uint8": "rows.u8"}
BUSY_SECONDS = 60.0  # to wait for another process that writes to the index

Todo = list[tuple[ImageFile, list[str]]]  # images, and the keys of the views that they lack


@contextlib.contextmanager
def open_table(folder: Path, dtype: str) -> Iterator[FeatureTable]:
    """Open the table in ``folder``, which exists, or create it.

    Raises:
        UserError: the index is locked, cannot be written or is damaged, or rows are missing; also inside the block.
    """
    try:
        with contextlib.closing(sqlite3.connect(folder / "index.sqlite", timeout=BUSY_SECONDS)) as index:
            yield FeatureTable(folder, dtype, index)
    except sqlite3.OperationalError as error:  # locked, or the disk is full: the content may be sound
        raise UserError(f"the feature store {folder} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise damaged(folder, f"index.sqlite: {error}") from error


class FeatureTable:
    """Rows and index of one encoder; several processes may read while one, which holds the folder's lock, appends.

    Args:
        folder: of the store.
        dtype: of the rows.
        index: connection to ``index.sqlite``.

    Raises:
        UserError: the file of rows is shorter than the index says.
    """

    def __init__(self, folder: Path, dtype: str, index: sqlite3.Connection) -> None:
        self.folder, self._dtype, self._index = folder, np.dtype(dtype), index
        self._file = folder / FILES[dtype]
        self._file.touch()
        self._index.execute(
            "CREATE TABLE IF NOT EXISTS rows (image TEXT, view TEXT, row INTEGER NOT NULL UNIQUE,"
            " PRIMARY KEY (image, view)) WITHOUT ROWID"
        )
        count, width = self._shape()
        size = self._file.stat().st_size  # read last, because another process may be appending
        if size < count * width * self._dtype.itemsize or (count and not width):
            raise damaged(folder, f"{count} rows of {width} features are indexed, {self._file.name} has {size} bytes")

    def _count(self) -> int:
        """R, the number of indexed rows."""
        [(count,)] = self._index.execute("SELECT COALESCE(MAX(row) + 1, 0) FROM rows")
        return int(count)

    def _shape(self) -> tuple[int, int]:
        """(R, D) of the indexed rows. R is read first: the record with D is written before the first row."""
        count, record = self._count(), read_record(self.folder)
        return count, record.features if record else 0

    def _stored(self, keys: Sequence[str]) -> list[dict[str, int]]:
        """Per view, {SHA-256 of the image: row}."""
        query = "SELECT * FROM rows WHERE view = ?"
        return [{image: row for image, _, row in self._index.execute(query, (key,))} for key in keys]

    def missing(self, images: Sequence[ImageFile], keys: Sequence[str]) -> Todo:
        """The images that lack views, each content once, with the keys of those views."""
        stored = self._stored(keys)
        distinct = {image.sha256: image for image in images}
        todo = (
            (image, [key for key, rows in zip(keys, stored, strict=True) if sha256 not in rows])
            for sha256, image in distinct.items()
        )
        return [(image, lacking) for image, lacking in todo if lacking]

    def index(self, images: Sequence[ImageFile], keys: Sequence[str]) -> np.ndarray:
        """[V, N] int64 row numbers; -1 in the whole column of an image that lacks a view."""
        numbers = [[rows.get(image.sha256, -1) for image in images] for rows in self._stored(keys)]
        index = np.array(numbers, np.int64).reshape(len(keys), len(images))
        index[:, (index < 0).any(axis=0)] = -1
        return index

    def rows(self) -> np.ndarray:
        """[R, D], memory-mapped and read-only."""
        shape = self._shape()
        return np.memmap(self._file, self._dtype, "r", shape=shape) if shape[0] else np.zeros(shape, self._dtype)

    def cut_off_unindexed(self) -> None:
        """Remove the rows that a killed process wrote but did not index."""
        os.truncate(self._file, math.prod(self._shape()) * self._dtype.itemsize)

    def append(self, names: Sequence[tuple[str, str]], features: np.ndarray) -> None:
        """Store features [n, D], of the table's dtype, under their n names (SHA-256 of the image, view key)."""
        with self._file.open("ab") as file:
            file.write(features.tobytes())
            file.flush()
            os.fsync(file.fileno())
        first = self._count()
        entries = [(image, view, row) for row, (image, view) in enumerate(names, first)]
        with self._index:
            self._index.executemany("INSERT INTO rows VALUES (?, ?, ?)", entries)
