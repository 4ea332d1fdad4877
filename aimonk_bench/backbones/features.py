"""The feature store: what a frozen network makes of a picture is computed once, for every experiment that asks.

A folder per encoder, ``features/<digest>/``, holds ``rows.f32`` ([R, D] float32, only ever appended to),
``index.sqlite`` ((picture SHA-256, view key) -> row), ``encoder.json`` and ``model.onnx``. Rows reach the disk before
the index names them, so that a kill loses at most one chunk; what lies behind the last indexed row is cut off.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import logging
import math
import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import filelock
import numpy as np

from aimonk_bench.backbones import encoder as encoders
from aimonk_bench.backbones.encoder import Encoder, EncoderSpec, Engine, Record, cores, damaged, read_record
from aimonk_bench.config.schema import TransformConfig
from aimonk_bench.data.images import UndecodableImage, decode
from aimonk_bench.data.pictures import Picture
from aimonk_bench.data.transforms import Views, render
from aimonk_bench.errors import RunFailed, UserError

logger = logging.getLogger(__name__)

CHUNK = 64  # rows written at once, and lost at most by a kill
AHEAD = 32  # pictures decoded ahead of the encoder
ITEM = np.dtype(np.float32).itemsize
BUSY_SECONDS = 60.0  # how long to wait for another process to finish a write to the index

Progress = Callable[[str, int, int], None]
Todo = list[tuple[Picture, list[str]]]


@dataclass(frozen=True, eq=False)
class Bank:
    """The features of N pictures under V views.

    Attributes:
        rows: [R, D] float32, memory-mapped; it holds rows of other pictures too.
        index: [V, N] int64, the row of each view and picture; -1 throughout the column of a picture in ``bad``.
        bad: (n, reason) of each picture that cannot be decoded.
        engine: what encoded all of them.
    """

    rows: np.ndarray
    index: np.ndarray
    bad: list[tuple[int, str]]
    engine: Engine


class FeatureStore:
    """All stored features of this machine.

    Args:
        root: default ``$AIMONK_BENCH_CACHE``, else ``~/.cache/aimonk_bench``.
    """

    def __init__(self, root: Path | None = None) -> None:
        place = root or os.environ.get("AIMONK_BENCH_CACHE") or "~/.cache/aimonk_bench"
        self.root = Path(place).expanduser()

    def bank(
        self,
        pictures: Sequence[Picture],
        views: Views,
        transform: TransformConfig,
        spec: EncoderSpec,
        progress: Progress | None = None,
    ) -> Bank:
        """The features of ``pictures``; those not stored yet are encoded, and only they.

        Args:
            pictures: [N]; equal bytes share a row.
            progress: called with ("encode", pictures done, pictures to do), first when the encoder is built, which is
                no measure of its pace.

        Raises:
            UserError: the store cannot be written or is damaged, or the weights do not fit.
            RunFailed: the engine asked for cannot be used; a picture changed meanwhile.
        """
        folder = self.root / "features" / spec.digest
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the feature store cannot be written ({error}); AIMONK_BENCH_CACHE names another"
            ) from error
        _engine(spec, read_record(folder))
        bad: dict[str, str] = {}
        with _told(folder), _Shelf(folder) as shelf:
            if shelf.missing(pictures, views.keys):
                with _alone(folder):
                    shelf.cut()
                    todo = shelf.missing(pictures, views.keys)  # another process may just have stored some
                    bad = _encode(shelf, todo, transform, spec, progress)
            rows, index = shelf.rows(), shelf.index(pictures, views.keys)
        unreadable = [(n, bad[picture.sha256]) for n, picture in enumerate(pictures) if picture.sha256 in bad]
        return Bank(rows, index, unreadable, _engine(spec, read_record(folder)))


def _engine(spec: EncoderSpec, record: Record | None) -> Engine:
    if record is None:  # not one picture could be decoded
        return spec.first
    if spec.engine == "onnxruntime" and record.engine != "onnxruntime":
        raise RunFailed(f"engine: onnxruntime: {record.reason}")
    return record.engine


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn what sqlite3 raises into a message."""
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, the disk is full: that says nothing against the content
        raise UserError(f"the feature store {folder} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise damaged(folder, f"index.sqlite: {error}") from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: one process at a time encodes, the others wait and then find the rows there."""
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        logger.info("waiting for another process that is encoding with the same network")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _Shelf:
    """One folder of the store: rows and their index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "rows.f32"
        self._file.touch()
        self._index = sqlite3.connect(folder / "index.sqlite", timeout=BUSY_SECONDS)
        try:
            self._check()
        except BaseException:
            self._index.close()
            raise

    def __enter__(self) -> _Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._index.close()

    def _check(self) -> None:
        self._index.execute(
            "CREATE TABLE IF NOT EXISTS rows (picture TEXT, view TEXT, row INTEGER NOT NULL UNIQUE,"
            " PRIMARY KEY (picture, view)) WITHOUT ROWID"
        )
        count, width = self._shape()
        size = self._file.stat().st_size  # asked last: another process may be adding rows
        if size < count * width * ITEM or (count and not width):
            raise damaged(self.folder, f"{count} rows of {width} features are indexed, rows.f32 has {size} bytes")

    def _stored(self, keys: Sequence[str]) -> list[dict[str, int]]:
        """Per view, the row of each stored picture."""
        query = "SELECT picture, row FROM rows WHERE view = ?"
        return [dict(self._index.execute(query, (key,))) for key in keys]

    def _count(self) -> int:
        """R, the number of indexed rows."""
        [(count,)] = self._index.execute("SELECT COALESCE(MAX(row) + 1, 0) FROM rows")
        return int(count)

    def _shape(self) -> tuple[int, int]:
        """(R, D) of what is indexed. R is asked first: whoever adds rows has written D before."""
        count, record = self._count(), read_record(self.folder)
        return count, record.features if record else 0

    def missing(self, pictures: Sequence[Picture], keys: Sequence[str]) -> Todo:
        """Each picture that lacks views, once per content, and those views."""
        stored = self._stored(keys)
        distinct = {picture.sha256: picture for picture in pictures}
        lacks = (
            (picture, [key for key, rows in zip(keys, stored, strict=True) if sha256 not in rows])
            for sha256, picture in distinct.items()
        )
        return [(picture, views) for picture, views in lacks if views]

    def index(self, pictures: Sequence[Picture], keys: Sequence[str]) -> np.ndarray:
        """[V, N] int64 rows; -1 for a picture that lacks a view."""
        stored = self._stored(keys)
        found = [[rows.get(picture.sha256, -1) for picture in pictures] for rows in stored]
        index = np.array(found, np.int64).reshape(len(keys), len(pictures))
        index[:, (index < 0).any(axis=0)] = -1
        return index

    def rows(self) -> np.ndarray:
        """[R, D] float32, memory-mapped and read-only."""
        shape = self._shape()
        return np.memmap(self._file, np.float32, "r", shape=shape) if shape[0] else np.zeros(shape, np.float32)

    def cut(self) -> None:
        """Cut off what a killed process wrote but did not index."""
        os.truncate(self._file, math.prod(self._shape()) * ITEM)

    def append(self, names: Sequence[tuple[str, str]], features: np.ndarray) -> None:
        """Store features [n, D] under their n (picture SHA-256, view key)."""
        with self._file.open("ab") as file:
            file.write(features.astype(np.float32).tobytes())
            file.flush()
            os.fsync(file.fileno())
        first = self._count()
        entries = [(picture, view, first + number) for number, (picture, view) in enumerate(names)]
        with self._index:
            self._index.executemany("INSERT INTO rows VALUES (?, ?, ?)", entries)


def _encode(
    shelf: _Shelf, todo: Todo, transform: TransformConfig, spec: EncoderSpec, progress: Progress | None
) -> dict[str, str]:
    """Encode and store ``todo``; gives the SHA-256 and reason of each picture that cannot be decoded.

    The encoder is opened when there is something to encode, while threads already decode.
    """
    bad: dict[str, str] = {}
    encode: Encoder | None = None
    names: list[tuple[str, str]] = []
    images: list[np.ndarray] = []
    decoded = _decoded(todo, transform, spec.weights.entry.interpolation)
    with contextlib.closing(decoded):
        for done, ((picture, keys), outcome) in enumerate(decoded, start=1):
            if isinstance(outcome, UndecodableImage):
                bad[picture.sha256] = str(outcome)
            else:
                names += [(picture.sha256, key) for key in keys]
                images += outcome
            while len(names) >= CHUNK or (names and done == len(todo)):
                chunk = np.stack(images[:CHUNK])
                encode = encode or encoders.open_encoder(spec, shelf.folder, chunk)
                shelf.append(names[:CHUNK], encode(chunk))
                del names[:CHUNK], images[:CHUNK]
            if progress and (encode is not None or done == len(todo)):
                progress("encode", done, len(todo))
    return bad


def _decoded(
    todo: Todo, transform: TransformConfig, interpolation: str
) -> Generator[tuple[tuple[Picture, list[str]], list[np.ndarray] | UndecodableImage]]:
    """Each item of ``todo`` in order with its views, uint8 [H, W, 3], made by threads that work ahead."""
    cv2.setNumThreads(1)  # or it starts its own threads in each of ours
    waiting: collections.deque[Future[list[np.ndarray] | UndecodableImage]] = collections.deque()
    pool = ThreadPoolExecutor(cores())
    try:
        upcoming = iter(todo)
        for item in todo:
            for ahead in upcoming:
                waiting.append(pool.submit(_rendered, *ahead, transform, interpolation))
                if len(waiting) > AHEAD:
                    break
            yield item, waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _rendered(
    picture: Picture, keys: list[str], transform: TransformConfig, interpolation: str
) -> list[np.ndarray] | UndecodableImage:
    """All views of a picture from one decode."""
    try:
        data = picture.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != picture.sha256:
            raise RunFailed(f"{picture.path} changed while it was in use")
        image = decode(data, transform.size, interpolation)
    except UndecodableImage as error:
        return error
    except OSError as error:
        raise RunFailed(f"{picture.path} cannot be read any more: {error.strerror}") from error
    return [render(image, picture.sha256, key, transform) for key in keys]
