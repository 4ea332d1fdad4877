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
import itertools
import math
import os
import re
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from aimonk_bench.backbones.encoder import check_shape
from aimonk_bench.backbones.encoder_record import MODEL, damaged, read_record
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.errors import UserError
from aimonk_bench.records import claims
from aimonk_bench.records.claims import Claim, ClaimLost

FILES = {"float32": "rows.f32", "float16": "rows.f16", "uint8": "rows.u8"}
INDEX = "index.sqlite"
INDEX_FILES = (*(f"{INDEX}-{kind}" for kind in ("journal", "wal", "shm")), INDEX)
MOUNTS = Path("/proc/mounts")
LOCAL_LOCKS = {"nolock", "local_lock=all", "local_lock=posix", "localflock"}  # options of NFS and Lustre
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
BUSY_SECONDS = 60.0  # to wait for another process that writes to the index
BLOCKS_PER_SIGN = 256  # blocks that are verified between two signs of life
PART = 10_000  # entries of the index in memory at once
MOST_ROWS = 1 << 24  # of a block, more than any write has; else the file is filled up to what a damaged count says

Entry = tuple[bytes, bytes, int]  # SHA-256 of the image, view key, row
Todo = list[tuple[ImageFile, list[str]]]  # images, and the keys of the views that they lack


@contextlib.contextmanager
def open_table(folder: Path, dtype: str, claim: Claim | None = None) -> Iterator[FeatureTable]:
    """Open the table in ``folder``, which exists, or create it.

    SQLite keeps readers and the writer apart by locks. Where the file system has none, the claim on the folder does:
    a reader holds it, too, and waits for the writer. A table in a folder that cannot be written is only read.

    Args:
        claim: on the folder, if the caller holds it.

    Raises:
        StoreDamaged: the index or the record is damaged; also inside the block.
        UserError: the index is locked or cannot be written; also inside the block.
    """
    for name in INDEX_FILES:
        if (folder / name).is_dir():
            raise damaged(folder, f"{name} is a folder")
    try:
        with contextlib.ExitStack() as stack:
            options = ""
            if not is_writable(folder) and (folder / INDEX).exists():
                options = "?mode=ro"
            elif not has_locks(folder):
                options = "?nolock=1"
                if claim is None:
                    stack.enter_context(claims.hold(claims.of_folder(folder), "uses the same features"))
            index = sqlite3.connect(f"{(folder.absolute() / INDEX).as_uri()}{options}", timeout=BUSY_SECONDS, uri=True)
            yield FeatureTable(folder, dtype, stack.enter_context(contextlib.closing(index)), claim)
    except sqlite3.OperationalError as error:  # locked, or the disk is full: the content may be sound
        if str(error).startswith(("no such column", "no such table")):  # somebody else's index
            raise damaged(folder, f"{INDEX}: {error}") from error
        raise UserError(
            f"the feature store {folder} cannot be used: {error}; AIMONK_BENCH_CACHE names another place"
        ) from error
    except sqlite3.DatabaseError as error:
        raise damaged(folder, f"{INDEX}: {error}") from error


def is_writable(folder: Path) -> bool:
    """Whether this user may write to a folder, and its file system is not mounted read-only."""
    return os.access(folder, os.W_OK)


@functools.cache
def has_locks(folder: Path) -> bool:
    """Whether files in a folder can be locked as SQLite does it, also against other machines.

    A parallel file system may be mounted without, or with locks that other machines do not see.
    """
    if _mount_options(folder) & LOCAL_LOCKS:
        return False
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return False
    return True


def _mount_options(folder: Path) -> set[str]:
    """The options of the mount that a folder lies in; none where the system does not list its mounts."""
    if not MOUNTS.exists():
        return set()
    inside, place, options = folder.resolve(), Path("/"), set[str]()
    for line in MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
        _, point, _, written, *_ = line.split(" ")
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point))
        if inside.is_relative_to(mounted) and mounted.is_relative_to(place):
            place, options = mounted, {*written.split(",")}
    return options


class FeatureTable:
    """Rows and index of one encoder; several processes may read while one, which holds the folder's claim, appends.

    Args:
        folder: of the store.
        dtype: of the rows.
        index: connection to ``index.sqlite``.
        claim: on the folder, if this process holds it.

    Raises:
        StoreDamaged: the blocks do not follow one another, or nothing says how long their rows are.
    """

    def __init__(self, folder: Path, dtype: str, index: sqlite3.Connection, claim: Claim | None = None) -> None:
        self.folder, self._dtype, self._index, self._claim = folder, np.dtype(dtype), index, claim
        self.file = folder / FILES[dtype]
        for file in (self.file, folder / MODEL):
            if file.is_dir():
                raise damaged(folder, f"{file.name} is a folder")
        if is_writable(folder):
            self.file.touch()
        self._index.text_factory = bytes  # a damaged text may be no UTF-8
        # no second index: what is looked up is what the checksums cover
        self._index.execute(
            "CREATE TABLE IF NOT EXISTS rows (image TEXT, view TEXT, row INTEGER NOT NULL,"
            " PRIMARY KEY (image, view)) WITHOUT ROWID"
        )
        self._index.execute(
            "CREATE TABLE IF NOT EXISTS blocks (first INTEGER PRIMARY KEY, count INTEGER NOT NULL,"
            " crc INTEGER NOT NULL)"
        )
        self._check_blocks()
        count, width = self._shape()
        if count and not width:
            raise damaged(folder, f"{count} rows of {width} features are indexed")

    def _check_blocks(self) -> None:
        """Each block begins where the one before ends."""
        behind = 0
        for first, count in self._index.execute("SELECT first, count FROM blocks ORDER BY first"):
            if first != behind or not isinstance(count, int) or not 1 <= count <= MOST_ROWS:
                raise damaged(self.folder, f"{INDEX}: a block of {count!r} rows at row {first} follows {behind} rows")
            behind += count

    def check_index(self) -> None:
        """Read the whole index.

        Raises:
            StoreDamaged: it is malformed.
        """
        self._index.execute("SELECT image, view, row FROM rows LIMIT 1")
        problem = self._index.execute("PRAGMA quick_check(1)").fetchone()[0].decode(errors="replace")
        if problem != "ok":
            raise damaged(self.folder, f"{INDEX}: {problem}")

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

    def _whole(self) -> int:
        """Number of rows that are in the file as a whole."""
        _, width = self._shape()
        size = self.file.stat().st_size if self.file.exists() else 0
        return size // (width * self._dtype.itemsize) if width else 0

    def _blocks(self) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Of each block, in ascending order, its first row, the row behind its last one, and its checksum."""
        whole_numbers = " AND ".join(f"typeof({name}) = 'integer'" for name in ("first", "count", "crc"))
        query = f"SELECT first, first + count, crc FROM blocks WHERE {whole_numbers} ORDER BY first"
        blocks = self._index.execute(query).fetchall()
        firsts, ends, checksums = zip(*blocks, strict=True) if blocks else ((), (), ())
        return np.array(firsts, np.int64), np.array(ends, np.int64), list(checksums)

    def _entries(self, where: str = "", values: Sequence[str] = ()) -> Iterator[tuple[list[Entry], np.ndarray]]:
        """The entries (image, view, row) of the index in parts, and the place of the block of each row; -1: in none.

        Args:
            where: a condition, with these values.
        """
        firsts, ends, _ = self._blocks()
        sound = "typeof(image) = 'text' AND typeof(view) = 'text' AND typeof(row) = 'integer'"
        query = f"SELECT image, view, row FROM rows WHERE {sound} {where}"
        cursor = self._index.execute(query, values)
        while entries := cursor.fetchmany(PART):
            rows = np.array([row for *_, row in entries], np.int64)
            places = np.searchsorted(firsts, rows, side="right") - 1
            if len(ends):
                places[rows >= ends[places]] = -1
            yield entries, places

    def _stored(self, keys: Sequence[str]) -> list[dict[str, int]]:
        """Per view, {SHA-256 of the image: row}, of rows in a block, for others have no checksum, and in the file."""
        stored: list[dict[str, int]] = []
        for key in keys:
            rows: dict[str, int] = {}
            for entries, places in self._entries("AND view = ?", [key]):
                here = itertools.compress(entries, (places >= 0).tolist())
                rows |= {image.decode(errors="replace"): row for image, _, row in here}
            stored.append(rows)
        whole = self._whole()  # read last: another process may append
        return [{image: row for image, row in rows.items() if row < whole} for rows in stored]

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
        return np.memmap(self.file, self._dtype, "r", shape=shape) if shape[0] else np.zeros(shape, self._dtype)

    def damaged_blocks(
        self,
        images: Sequence[ImageFile] | None = None,
        keys: Sequence[str] = (),
        alive: Callable[[], object] | None = None,
    ) -> list[int]:
        """The first rows of blocks whose content or names are not what was written, or that are not there any more.

        Args:
            images: only the blocks with their views ``keys`` are read, and those that are not there at all; None: all
                that any name leads to.
            alive: called now and then while blocks are read.
        """
        firsts, ends, checksums = self._blocks()
        if not len(firsts):
            return []
        names = np.zeros(len(firsts), np.uint64)  # of each block, the sum of the checksums of its names
        is_named = np.zeros(len(firsts), bool)
        for entries, places in self._entries():
            here = places >= 0
            of_names = [_of_name(*entry) for entry in entries]
            np.add.at(names, places[here], np.array(of_names, np.uint64)[here])
            is_named[places[here]] = True
        _, width = self._shape()
        row_bytes = width * self._dtype.itemsize
        whole = self._whole()  # read last: another process may append
        wanted = is_named
        if images is not None:
            wanted = np.zeros(len(firsts), bool)
            distinct = {image.sha256 for image in images}
            for stored in self._stored(keys):  # also of images that lack another view
                rows = [row for sha256, row in stored.items() if sha256 in distinct]
                wanted[np.searchsorted(firsts, rows, side="right") - 1] = True
        damage = []
        with self.file.open("rb") as file:
            for place, (first, end, checksum) in enumerate(zip(firsts.tolist(), ends.tolist(), checksums, strict=True)):
                if alive is not None and place % BLOCKS_PER_SIGN == 0:
                    alive()
                if end > whole:
                    damage.append(first)
                elif wanted[place]:
                    file.seek(first * row_bytes)
                    if _checksum(file.read((end - first) * row_bytes), int(names[place])) != checksum:
                        damage.append(first)
        return damage

    def forget(self, blocks: Sequence[int]) -> int:
        """Remove the rows of these blocks from the index; how many there were. The holder of the claim may."""
        firsts, _, _ = self._blocks()
        lost = np.flatnonzero(np.isin(firsts, blocks))
        keys = [
            (image, view)
            for entries, places in self._entries()
            for image, view, _ in itertools.compress(entries, np.isin(places, lost).tolist())
        ]
        with self._index:
            query = "DELETE FROM rows WHERE image = CAST(? AS TEXT) AND view = CAST(? AS TEXT)"
            self._index.executemany(query, keys)
        return len(keys)

    def cut_off_unindexed(self) -> None:
        """Remove the rows that a killed process wrote but did not index; fill up what is not there with zeros."""
        with self._index:
            query = "DELETE FROM rows WHERE typeof(row) <> 'integer' OR row < 0 OR row >= ?"
            self._index.execute(query, (self._count(),))
        os.truncate(self.file, math.prod(self._shape()) * self._dtype.itemsize)

    def append(self, names: Sequence[tuple[str, str]], features: np.ndarray) -> None:
        """Store features [n, D], of the table's dtype, under their n names (SHA-256 of the image, view key).

        Raises:
            RunFailed: they have another shape, which would move the rows of all later ones.
            ClaimLost: another process has taken over, and has perhaps written rows.
        """
        first, width = self._shape()
        check_shape(features, len(names), width)
        self._check_claim()
        content = features.tobytes()
        with self.file.open("ab") as file:
            if file.tell() != first * features.shape[1] * self._dtype.itemsize:
                raise self._lost()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        entries = [(image, view, row) for row, (image, view) in enumerate(names, first)]
        with self._index:
            self._index.execute("BEGIN IMMEDIATE")
            self._check_claim()
            if self._count() != first:
                raise self._lost()
            self._index.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", entries)
            of_names = sum(_of_name(image.encode(), view.encode(), row) for image, view, row in entries)
            block = (first, len(entries), _checksum(content, of_names))
            self._index.execute("INSERT INTO blocks VALUES (?, ?, ?)", block)

    def _check_claim(self) -> None:
        if self._claim is not None:
            self._claim.check()

    def _lost(self) -> ClaimLost:
        return ClaimLost(f"{self.folder}: given up here, because another process has written rows to it")


def _of_name(image: bytes, view: bytes, row: int) -> int:
    """The checksum of an entry of the index."""
    return zlib.crc32(b"%d %b %b" % (row, image, view))


def _checksum(content: bytes, names: int) -> int:
    """Of the bytes of a block, and of the sum of the checksums of its names."""
    return zlib.crc32(str(names).encode(), zlib.crc32(content))
