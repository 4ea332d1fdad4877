"""One folder of the feature store: rows of features, and an index of the image and view that each row belongs to.

``rows.f32`` is [R, D] and only ever grows (``rows.f16`` for float16, ``rows.u8`` for pixels); ``index.sqlite`` maps
(SHA-256 of the image, view key) to a row, and has the checksum of each block of rows that was appended at once, and of
whose rows they are. Rows reach the disk before the index names them. What a killed process wrote without indexing it
lies behind the last block and is cut off. The rows of a block whose checksum differs are forgotten, and their images
are encoded again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import math
import os
import sqlite3
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from aimonk_bench.backbones.encoder import damaged, read_record
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.errors import UserError
from aimonk_bench.records import claims
from aimonk_bench.records.claims import Claim

FILES = {"float32": "rows.f32", "float16": "rows.f16", "uint8": "rows.u8"}
INDEX = "index.sqlite"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
BUSY_SECONDS = 60.0  # to wait for another process that writes to the index

Todo = list[tuple[ImageFile, list[str]]]  # images, and the keys of the views that they lack


@contextlib.contextmanager
def open_table(folder: Path, dtype: str, claim: Claim | None = None) -> Iterator[FeatureTable]:
    """Open the table in ``folder``, which exists, or create it.

    SQLite keeps readers and the writer apart by locks. Where the file system has none, the claim on the folder does:
    a reader holds it, too, and waits for the writer.

    Args:
        claim: on the folder, if the caller holds it.

    Raises:
        UserError: the index is locked, cannot be written or is damaged; also inside the block.
    """
    try:
        with contextlib.ExitStack() as stack:
            options = ""
            if not has_locks(folder):
                options = "?nolock=1"
                if claim is None:
                    stack.enter_context(claims.hold(claims.of_folder(folder), "uses the same features"))
            index = sqlite3.connect(f"{(folder.absolute() / INDEX).as_uri()}{options}", timeout=BUSY_SECONDS, uri=True)
            yield FeatureTable(folder, dtype, stack.enter_context(contextlib.closing(index)))
    except sqlite3.OperationalError as error:  # locked, or the disk is full: the content may be sound
        raise UserError(
            f"the feature store {folder} cannot be used: {error}; AIMONK_BENCH_CACHE names another place"
        ) from error
    except sqlite3.DatabaseError as error:
        raise damaged(folder, f"index.sqlite: {error}") from error


@functools.cache
def has_locks(folder: Path) -> bool:
    """Whether files in a folder can be locked as SQLite does it; a parallel file system may be mounted without."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return False
    return True


class FeatureTable:
    """Rows and index of one encoder; several processes may read while one, which holds the folder's claim, appends.

    Args:
        folder: of the store.
        dtype: of the rows.
        index: connection to ``index.sqlite``.

    Raises:
        UserError: rows are indexed, and nothing says how long they are.
    """

    def __init__(self, folder: Path, dtype: str, index: sqlite3.Connection) -> None:
        self.folder, self._dtype, self._index = folder, np.dtype(dtype), index
        self._file = folder / FILES[dtype]
        if self._file.is_dir():
            raise damaged(folder, f"{self._file.name} is a folder")
        self._file.touch()
        # no second index: what is looked up is what the checksums cover
        self._index.execute(
            "CREATE TABLE IF NOT EXISTS rows (image TEXT, view TEXT, row INTEGER NOT NULL,"
            " PRIMARY KEY (image, view)) WITHOUT ROWID"
        )
        self._index.execute(
            "CREATE TABLE IF NOT EXISTS blocks (first INTEGER PRIMARY KEY, count INTEGER NOT NULL,"
            " crc INTEGER NOT NULL)"
        )
        count, width = self._shape()
        if count and not width:
            raise damaged(folder, f"{count} rows of {width} features are indexed")

    @property
    def blocks(self) -> int:
        """Number of blocks, each appended at once."""
        [(number,)] = self._index.execute("SELECT COUNT(*) FROM blocks")
        return int(number)

    def numbers(self) -> tuple[int, int]:
        """Numbers of distinct images and of rows."""
        [(images, rows)] = self._index.execute("SELECT COUNT(DISTINCT image), COUNT(*) FROM rows")
        return int(images), int(rows)

    def _count(self) -> int:
        """R, the number of rows in all blocks."""
        [(count,)] = self._index.execute("SELECT COALESCE(MAX(first + count), 0) FROM blocks")
        return int(count)

    def _shape(self) -> tuple[int, int]:
        """(R, D) of the rows. R is read first: the record with D is written before the first row."""
        count, record = self._count(), read_record(self.folder)
        return count, record.features if record else 0

    def _stored(self, keys: Sequence[str]) -> list[dict[str, int]]:
        """Per view, {SHA-256 of the image: row}."""
        # rows without a block have no checksum
        query = "SELECT image, row FROM rows WHERE view = ? AND row >= 0 AND row < ?"
        return [dict(self._index.execute(query, (key, self._count()))) for key in keys]

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

    def damaged_blocks(self, images: Sequence[ImageFile] | None = None, keys: Sequence[str] = ()) -> list[int]:
        """The first rows of blocks whose content or names are not what was written, or that are not there any more.

        Args:
            images: only the blocks with their views ``keys`` are read, and those that are not there at all; None: all
                that any name leads to.
        """
        blocks = self._index.execute("SELECT first, count, crc FROM blocks ORDER BY first").fetchall()
        names: dict[int, list[bytes]] = {first: [] for first, _, _ in blocks}
        firsts = np.array([*names], np.int64)
        entries = self._index.execute("SELECT row, image, view FROM rows ORDER BY row, image, view").fetchall()
        places = np.searchsorted(firsts, np.array([row for row, *_ in entries], np.int64), side="right") - 1
        for place, entry in zip(places.tolist(), entries, strict=True):
            if place >= 0 and entry[0] < sum(blocks[place][:2]):
                names[blocks[place][0]].append(_name(*entry))
        _, width = self._shape()
        row_bytes = width * self._dtype.itemsize
        whole = self._file.stat().st_size // row_bytes if row_bytes else 0  # read last: another process may append
        if images is None:
            wanted = {first for first in names if names[first]}
        else:
            rows = np.unique(self.index(images, keys))
            wanted = set(firsts[np.searchsorted(firsts, rows[rows >= 0], side="right") - 1].tolist())
        damage = []
        with self._file.open("rb") as file:
            for first, number, crc in blocks:
                if first + number > whole:
                    damage.append(first)
                elif first in wanted:
                    file.seek(first * row_bytes)
                    if _checksum(file.read(number * row_bytes), names[first]) != crc:
                        damage.append(first)
        return damage

    def forget(self, blocks: Sequence[int]) -> int:
        """Remove the rows of these blocks from the index; how many there were. The holder of the claim may."""
        ends = dict(self._index.execute("SELECT first, first + count FROM blocks"))
        with self._index:
            return sum(
                self._index.execute("DELETE FROM rows WHERE row >= ? AND row < ?", (first, ends[first])).rowcount
                for first in blocks
            )

    def cut_off_unindexed(self) -> None:
        """Remove the rows that a killed process wrote but did not index; fill up what is not there with zeros."""
        with self._index:
            self._index.execute("DELETE FROM rows WHERE row < 0 OR row >= ?", (self._count(),))
        os.truncate(self._file, math.prod(self._shape()) * self._dtype.itemsize)

    def append(self, names: Sequence[tuple[str, str]], features: np.ndarray) -> None:
        """Store features [n, D], of the table's dtype, under their n names (SHA-256 of the image, view key)."""
        content = features.tobytes()
        with self._file.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        first = self._count()
        entries = [(image, view, row) for row, (image, view) in enumerate(names, first)]
        with self._index:
            self._index.executemany("INSERT INTO rows VALUES (?, ?, ?)", entries)
            checksum = _checksum(content, [_name(row, image, view) for image, view, row in entries])
            self._index.execute("INSERT INTO blocks VALUES (?, ?, ?)", (first, len(names), checksum))


def _name(row: object, image: object, view: object) -> bytes:
    return f"{row} {image} {view}\n".encode()


def _checksum(content: bytes, names: Iterable[bytes]) -> int:
    """Of the bytes of a block, and of its names in the order of the rows."""
    return zlib.crc32(b"".join(names), zlib.crc32(content))
