"""The feature store: what a frozen network makes of a picture is computed once, for every experiment that asks.

A folder per encoder, ``features/<digest>/``, holds ``rows.f32`` ([R, D], only ever appended to; of float16 it is
``rows.f16``, of pixels ``rows.u8``), ``index.sqlite`` ((picture SHA-256, view key) -> row), ``encoder.json`` and
``model.onnx``. Rows reach the disk before the index names them, so that a kill loses at most one chunk and the batches
in the threads' hands; what lies behind the last indexed row is cut off.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import logging
import math
import os
import shutil
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import filelock
import numpy as np

from aimonk_bench.backbones import encoder as encoders
from aimonk_bench.backbones.encoder import Encoder, EncoderSpec, Engine, Record, damaged, read_record
from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.images import UndecodableImage, decode
from aimonk_bench.data.transforms import Views, render
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.records.environment import cores

logger = logging.getLogger(__name__)

CHUNK = 64  # rows written at once
AHEAD = 32  # pictures decoded ahead of the encoder; with more its imports wait longer for the lock than that saves
FILES = {"float32": "rows.f32", "float16": "rows.f16", "uint8": "rows.u8"}
BUDGET_GB = 50.0  # of new rows, unless AIMONK_BENCH_BUDGET_GB says otherwise
SPARE_BYTES = 1 << 30  # left free on the disk
BUSY_SECONDS = 60.0  # how long to wait for another process to finish a write to the index

Progress = Callable[[str, int, int], None]
Todo = list[tuple[ImageFile, list[str]]]


@dataclass(frozen=True, eq=False)
class Bank:
    """The features of N pictures under V views.

    Attributes:
        rows: [R, D] of the declared dtype, memory-mapped; it holds rows of other pictures too.
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

    Raises:
        UserError: AIMONK_BENCH_BUDGET_GB is no budget.
    """

    def __init__(self, root: Path | None = None) -> None:
        place = root or os.environ.get("AIMONK_BENCH_CACHE") or "~/.cache/aimonk_bench"
        self.root = Path(place).expanduser()
        _budget()  # a wrong one is refused before anything is encoded

    def bank(
        self,
        pictures: Sequence[ImageFile],
        views: Views,
        transform: TransformConfig,
        spec: EncoderSpec,
        progress: Progress | None = None,
    ) -> Bank:
        """The features of ``pictures``; those not stored yet are encoded, and only they.

        Args:
            pictures: [N]; equal bytes share a row.
            progress: called with ("encode", pictures done, pictures to do), first when the encoder is built and the
                first batch encoded, which is no measure of its pace.

        Raises:
            UserError: the store cannot be written or is damaged, the weights do not fit, or the network cannot
                be cut at that stage.
            RunFailed: the engine asked for cannot be used; the rows would take more disk than there is or is allowed;
                a picture changed meanwhile.
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
        with _told(folder), _Shelf(folder, spec.stored) as shelf:
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

    def __init__(self, folder: Path, dtype: str) -> None:
        self.folder, self._dtype = folder, np.dtype(dtype)
        self._file = folder / FILES[dtype]
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
        if size < count * width * self._dtype.itemsize or (count and not width):
            raise damaged(
                self.folder, f"{count} rows of {width} features are indexed, {self._file.name} has {size} bytes"
            )

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

    def missing(self, pictures: Sequence[ImageFile], keys: Sequence[str]) -> Todo:
        """Each picture that lacks views, once per content, and those views."""
        stored = self._stored(keys)
        distinct = {picture.sha256: picture for picture in pictures}
        lacks = (
            (picture, [key for key, rows in zip(keys, stored, strict=True) if sha256 not in rows])
            for sha256, picture in distinct.items()
        )
        return [(picture, views) for picture, views in lacks if views]

    def index(self, pictures: Sequence[ImageFile], keys: Sequence[str]) -> np.ndarray:
        """[V, N] int64 rows; -1 for a picture that lacks a view."""
        stored = self._stored(keys)
        found = [[rows.get(picture.sha256, -1) for picture in pictures] for rows in stored]
        index = np.array(found, np.int64).reshape(len(keys), len(pictures))
        index[:, (index < 0).any(axis=0)] = -1
        return index

    def rows(self) -> np.ndarray:
        """[R, D], memory-mapped and read-only."""
        shape = self._shape()
        return np.memmap(self._file, self._dtype, "r", shape=shape) if shape[0] else np.zeros(shape, self._dtype)

    def cut(self) -> None:
        """Cut off what a killed process wrote but did not index."""
        os.truncate(self._file, math.prod(self._shape()) * self._dtype.itemsize)

    def append(self, names: Sequence[tuple[str, str]], features: np.ndarray) -> None:
        """Store features [n, D], of the store's dtype, under their n (picture SHA-256, view key)."""
        with self._file.open("ab") as file:
            file.write(features.tobytes())
            file.flush()
            os.fsync(file.fileno())
        first = self._count()
        entries = [(picture, view, first + number) for number, (picture, view) in enumerate(names)]
        with self._index:
            self._index.executemany("INSERT INTO rows VALUES (?, ?, ?)", entries)


def _encode(
    shelf: _Shelf, todo: Todo, transform: TransformConfig, spec: EncoderSpec, progress: Progress | None
) -> dict[str, str]:
    """Encode and store ``todo``; gives the SHA-256 and reason of each picture that cannot be decoded."""
    bad: dict[str, str] = {}
    names: list[tuple[str, str]] = []
    parts: list[np.ndarray] = []
    done = 0

    def store() -> None:
        rows = np.concatenate(parts)
        with np.errstate(over="ignore"):
            stored = rows.astype(spec.stored)
        if not np.isfinite(stored).all():
            name, finite = spec.weights.name, np.isfinite(rows).all()
            raise RunFailed(
                f"{spec.stored} cannot hold features of {name}: use backbone.dtype float32"
                if finite
                else f"{name}: features are not finite"
            )
        shelf.append(names, stored)
        names.clear()
        parts.clear()

    encoded = _encoded(todo, transform, spec, shelf.folder, bad)
    with contextlib.closing(encoded):
        for done, own, rows in encoded:
            names += own
            parts.append(rows)
            if len(names) >= CHUNK:
                store()
            if progress:
                progress("encode", done, len(todo))
    if names:
        store()
    if progress and done < len(todo):  # the last ones cannot be decoded
        progress("encode", len(todo), len(todo))
    return bad


def _encoded(
    todo: Todo, transform: TransformConfig, spec: EncoderSpec, folder: Path, bad: dict[str, str]
) -> Generator[tuple[int, list[tuple[str, str]], np.ndarray]]:
    """Batch by batch and in order: pictures of ``todo`` done, names and features of the batch.

    There are as many threads as cores, and each takes up whatever is next, a picture to decode or a batch to encode:
    none waits for another, so that the rates a and b of the two alone come to 1 / (1/a + 1/b) together. (A graphics
    card gets a thread of its own.) The encoder is opened when the first batch is there, while the threads decode the
    next AHEAD pictures.

    Args:
        bad: receives SHA-256 and reason of each picture that cannot be decoded.
    """
    cv2.setNumThreads(1)  # or it starts its own threads in each of ours
    encode: Encoder | None = None
    names: list[tuple[str, str]] = []
    images: list[np.ndarray] = []
    decoding: collections.deque[Future[list[np.ndarray] | UndecodableImage]] = collections.deque()
    encoding: collections.deque[tuple[int, list[tuple[str, str]], Future[np.ndarray]]] = collections.deque()
    upcoming, size = iter(todo), spec.batch
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(_pool(cores()))
        lane = pool if spec.on_processor else stack.enter_context(_pool(1))
        for done, (picture, keys) in enumerate(todo, start=1):
            for item in itertools.islice(upcoming, AHEAD - len(decoding)):
                decoding.append(pool.submit(_rendered, *item, transform, spec))
            outcome = decoding.popleft().result()
            if isinstance(outcome, UndecodableImage):
                bad[picture.sha256] = str(outcome)
            else:
                names += [(picture.sha256, key) for key in keys]
                images += outcome
            while len(names) >= size or (names and done == len(todo)):
                batch = np.stack(images[:size])
                if encode is None:
                    encode = encoders.open_encoder(spec, folder, batch)
                    _afford(todo, spec, folder)
                    stack.enter_context(encoders.callers_thread())
                encoding.append((done, names[:size], lane.submit(encode, batch)))
                del names[:size], images[:size]
                if len(encoding) > 2 * cores():
                    yield _finished(encoding.popleft())
        while encoding:
            yield _finished(encoding.popleft())


def _budget() -> float:
    """Bytes that new rows may take.

    Raises:
        UserError: AIMONK_BENCH_BUDGET_GB is no finite number of at least 0.
    """
    told = os.environ.get("AIMONK_BENCH_BUDGET_GB", str(BUDGET_GB))
    try:
        budget = float(told)
    except ValueError:
        budget = math.nan
    if not 0 <= budget < math.inf:
        raise UserError(
            f"AIMONK_BENCH_BUDGET_GB: found {told!r}, expected a number of gigabytes, such as {BUDGET_GB:g}"
        )
    return budget * 1e9


def _in_words(size: float) -> str:
    """Bytes as megabytes, above a thousand of them as gigabytes.

    >>> _in_words(819_200), _in_words(1.25e10)
    ('0.8192 MB', '12.5 GB')
    """
    return f"{size / 1e6:.4g} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def _afford(todo: Todo, spec: EncoderSpec, folder: Path) -> None:
    """Refuse to store more than there is room for.

    Raises:
        RunFailed: with the size, and what would make it smaller.
    """
    record = read_record(folder)
    assert record is not None  # written by whoever opened the encoder
    rows = sum(len(keys) for _, keys in todo)
    size = rows * record.features * np.dtype(spec.stored).itemsize
    allowed = _budget()
    free = max(0, shutil.disk_usage(folder).free - SPARE_BYTES)
    if size > min(allowed, free):
        budget = allowed < free
        limit = f"AIMONK_BENCH_BUDGET_GB allows {_in_words(allowed)}" if budget else f"{_in_words(free)} are free"
        mends = ["a later stage"] * (spec.freeze not in ("all", "none"))
        mends += ["backbone.dtype float16"] * (spec.stored == "float32")
        mends += ["a smaller transform.size"] * (spec.freeze != "all")
        mends += ["a larger AIMONK_BENCH_BUDGET_GB" if budget else "another disk for AIMONK_BENCH_CACHE"]
        raise RunFailed(
            f"the feature store: {rows} rows of {record.features} ({spec.boundary}, {spec.stored}) take "
            f"{_in_words(size)}, {limit}: use {' or '.join(mends)}"
        )


@contextlib.contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that leave what is not begun when the context ends."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(
    batch: tuple[int, list[tuple[str, str]], Future[np.ndarray]],
) -> tuple[int, list[tuple[str, str]], np.ndarray]:
    done, names, features = batch
    return done, names, features.result()


def _rendered(
    picture: ImageFile, keys: list[str], transform: TransformConfig, spec: EncoderSpec
) -> list[np.ndarray] | UndecodableImage:
    """All views of a picture from one decode."""
    try:
        data = picture.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != picture.sha256:
            raise RunFailed(f"{picture.path} changed while it was in use")
        image = decode(data, spec.size, spec.weights.entry.interpolation, fast=spec.decode == "fast")
    except UndecodableImage as error:
        return error
    except OSError as error:
        raise RunFailed(f"{picture.path} cannot be read any more: {error.strerror}") from error
    return [render(image, picture.sha256, key, transform) for key in keys]
