"""The feature store: the output of the frozen layers, computed once per image and view, for every experiment.

Each encoder has a folder, ``features/<digest>/``, with a table of features (:mod:`feature_table`), ``encoder.json`` and
``model.onnx``. One process at a time encodes into a folder; a kill loses at most one chunk of rows and the batches that
threads are working on.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from aimonk_bench.backbones import encoder as encoders
from aimonk_bench.backbones import speed, store
from aimonk_bench.backbones.batches import Batch, decoded_batch, in_threads
from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.backbones.encoder_record import Engine, Record, StoreDamaged, read_record
from aimonk_bench.backbones.feature_table import FeatureTable, Todo, is_writable, open_table
from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.data.transforms import Views
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.progress import Progress
from aimonk_bench.records import claims
from aimonk_bench.records.claims import ClaimLost
from aimonk_bench.records.files import IDLE, bytes_text, remove_partial

logger = logging.getLogger(__name__)

CHUNK = 64  # rows written at once
BUDGET_GB = 50.0  # of new rows, unless AIMONK_BENCH_BUDGET_GB is set
SPARE_BYTES = 1 << 30  # left free on the disk


@dataclass(frozen=True, eq=False)
class Request:
    """What is to be encoded.

    Attributes:
        images: [N]; images with equal bytes share a row.
        views: whose features are needed.
        transform: of the config, which draws the views.
        spec: the encoder.
        folder: of the encoder in the feature store.
    """

    images: Sequence[ImageFile]
    views: Views
    transform: TransformConfig
    spec: EncoderSpec
    folder: Path

    def batches(self, todo: Todo) -> list[Todo]:
        """Divide images into batches whose views fill whole batches of the network."""
        count = self.spec.batch_size // math.gcd(self.spec.batch_size, len(todo[0][1]))
        return [todo[start : start + count] for start in range(0, len(todo), count)]


# encodes images in their order: (images and the views that they lack, request, messages) -> batches
Encode = Callable[[Todo, Request, LibraryMessages], Generator[Batch]]


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """The features of N images under V views.

    Attributes:
        rows: [R, D] of the declared dtype, memory-mapped; it holds rows of other images too.
        index: [V, N] int64, the row of each view and image; -1 throughout the column of an image in ``bad``.
        bad: (n, reason) of each image that cannot be decoded.
        engine: that encoded all rows.
        images_per_second: of the encoder on this machine, see `Record`; None where it was never measured.
        inode: of the file of ``rows``, so that no process maps another one; None: it is not looked at.
    """

    rows: np.ndarray
    index: np.ndarray
    bad: list[tuple[int, str]]
    engine: Engine
    images_per_second: float | None = None
    inode: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For another process: it maps the file of rows again, which is never copied."""
        assert isinstance(self.rows, np.memmap)
        return {**vars(self), "rows": (self.rows.filename, self.rows.dtype, self.rows.shape)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        file, dtype, shape = state["rows"]
        try:
            with open(file, "rb") as stream:
                if state["inode"] not in (None, os.fstat(stream.fileno()).st_ino):
                    raise RunFailed(f"{file}: another process has made this file anew; fix: the same command again")
                vars(self).update(state, rows=np.memmap(stream, dtype, "r", shape=shape))
        except FileNotFoundError as error:
            text = f"{file}: somebody has removed it, with `cache clear` for example; fix: the same command again"
            raise RunFailed(text) from error


class FeatureStore:
    """All stored features of this machine.

    Args:
        root: default ``$AIMONK_BENCH_CACHE``, else ``~/.cache/aimonk_bench``.
        elsewhere: does what `encode_missing` does, in another process; None: images are encoded in this process.

    Raises:
        UserError: AIMONK_BENCH_BUDGET_GB is not a number of gigabytes, or the user has no home folder.
    """

    def __init__(self, root: Path | None = None, elsewhere: EncodeMissing | None = None) -> None:
        self._encode_missing = elsewhere or encode_missing
        folder = root or os.environ.get("AIMONK_BENCH_CACHE") or "~/.cache/aimonk_bench"
        try:
            self.root = Path(folder).expanduser().absolute()  # other processes may stand in another folder
        except RuntimeError as error:  # this user has no home
            raise UserError(f"{folder}: {error}; AIMONK_BENCH_CACHE names a folder for the feature store") from error
        _budget()  # an invalid value is refused before anything is encoded

    def features(
        self,
        images: Sequence[ImageFile],
        views: Views,
        transform: TransformConfig,
        spec: EncoderSpec,
        progress: Progress | None = None,
    ) -> FeatureMatrix:
        """The features of ``images``; only those that are not stored yet, or are damaged, are encoded.

        Args:
            images, views, transform, spec: see `Request`.
            progress: called with ("encode", images done, images to do) after each batch. The first call comes when the
                encoder is built and the first batch encoded, so that building does not count as encoding.

        Raises:
            UserError: the store cannot be written; the weights do not fit; the network cannot be cut.
            RunFailed: the requested engine fails; the rows exceed the disk or the budget; an image file changed; where
                images are encoded elsewhere, also `WorkerLost`.
        """
        folder = self.root / "features" / spec.digest
        request = Request(images, views, transform, spec, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_partial(folder, IDLE)
        except OSError as error:
            raise UserError(
                f"the feature store cannot be written ({error}); AIMONK_BENCH_CACHE names another"
            ) from error
        store.used(folder)
        try:
            return self._completed(request, progress)
        except StoreDamaged:
            store.clear_damaged(folder, spec.stored_dtype)
        return self._completed(request, progress)

    def _completed(self, request: Request, progress: Progress | None) -> FeatureMatrix:
        """The features that are stored, after those that are missing were encoded."""
        images, spec, keys, folder = request.images, request.spec, request.views.keys, request.folder
        _engine(spec, read_record(folder))
        with open_table(folder, spec.stored_dtype) as table:
            is_complete = not table.damaged_blocks(images, keys) and not table.missing(images, keys)
        reasons: dict[str, str] = {}
        while not is_complete:
            try:
                reasons = self._encode_missing(request, progress)
                is_complete = True
            except ClaimLost as error:
                logger.warning("%s", error)
        with open_table(folder, spec.stored_dtype) as table:
            inode = os.stat(table.file).st_ino
            rows, index = table.rows(), table.index(images, keys)
            lacking = any(image.sha256 not in reasons for image, _ in table.missing(images, keys))
            if lacking or os.stat(table.file).st_ino != inode:
                raise RunFailed(f"{folder}: another process has made it anew; fix: the same command again")
        bad = [(n, reasons[image.sha256]) for n, image in enumerate(images) if image.sha256 in reasons]
        record = read_record(folder)
        speed_measured = record.images_per_second if record else None
        return FeatureMatrix(rows, index, bad, _engine(spec, record), speed_measured, inode)


def _rows(number: int) -> str:
    return "1 row is" if number == 1 else f"{number} rows are"


def _engine(spec: EncoderSpec, record: Record | None) -> Engine:
    """The engine of the stored rows.

    Raises:
        RunFailed: it is torch, and the config insists on onnxruntime.
    """
    if record is None:  # no image could be decoded
        return spec.preferred_engine
    if spec.engine == "onnxruntime" and record.engine != "onnxruntime":
        raise RunFailed(f"engine: onnxruntime: {record.reason}")
    return record.engine


def encode_missing(
    request: Request,
    progress: Progress | None = None,
    *,
    encode: Encode | None = None,
    alive: Callable[[], object] | None = None,
) -> dict[str, str]:
    """Encode what a request lacks in the folder of its encoder, and write the rows. Damaged rows are forgotten first.

    One process at a time does so: the others wait, and then find the rows stored.

    Args:
        progress: as of `FeatureStore.features`.
        encode: encodes images; None: `encoded`.
        alive: called again and again while there is no progress, because another process encodes, for example.

    Returns:
        {SHA-256: reason} of each image that cannot be decoded.

    Raises:
        ClaimLost: another process has taken over, because this one stood still.
        UserError, RunFailed: as of `FeatureStore.features`.
    """
    images, keys, spec, folder = request.images, request.views.keys, request.spec, request.folder
    if not is_writable(folder):
        return _undecodable(request)
    with (
        claims.hold(claims.of_folder(folder), "encodes with the same network", waiting=alive) as claim,
        open_table(folder, spec.stored_dtype, claim) as table,
    ):
        if number := table.forget(table.damaged_blocks(images, keys, alive)):
            logger.warning("the feature store %s: %s damaged and encoded again", folder, _rows(number))
        table.cut_off_unindexed()
        todo = table.missing(images, keys)
        if alive is not None:
            alive()
        return _write(table, todo, request, progress, encode or encoded) if todo else {}


def _undecodable(request: Request) -> dict[str, str]:
    """What `encode_missing` returns for a folder that cannot be written: every image without rows must be undecodable.

    Raises:
        UserError: one can be decoded, or rows are damaged.
    """
    images, keys, spec, folder = request.images, request.views.keys, request.spec, request.folder
    with open_table(folder, spec.stored_dtype) as table:
        is_damaged, todo = bool(table.damaged_blocks(images, keys)), table.missing(images, keys)
    reasons: dict[str, str] = {}
    with LibraryMessages() as messages:
        for image, _ in [] if is_damaged else todo:
            reasons |= decoded_batch([(image, [])], request.transform, spec, messages).reasons
            if image.sha256 not in reasons:
                break
    if is_damaged or len(reasons) < len(todo):
        raise UserError(
            f"the feature store {folder} cannot be written, and images or views are not in it, or are damaged; "
            "AIMONK_BENCH_CACHE names another"
        )
    return reasons


# `encode_missing`, or what does the same in another process: (request, progress) -> {SHA-256: reason}
EncodeMissing = Callable[[Request, Progress | None], dict[str, str]]


def _write(
    table: FeatureTable, todo: Todo, request: Request, progress: Progress | None, encode: Encode
) -> dict[str, str]:
    """Encode and store ``todo``; {SHA-256: reason} of each image that cannot be decoded."""
    reasons: dict[str, str] = {}
    names: list[tuple[str, str]] = []
    features: list[np.ndarray] = []
    done = 0
    timed: list[speed.Timed] = []

    def append() -> None:
        if names:
            table.append(names, _stored(np.concatenate(features), request.spec))
            names.clear()
            features.clear()

    with LibraryMessages() as messages, contextlib.closing(encode(todo, request, messages)) as batches:
        for batch in batches:
            done += batch.count
            reasons |= batch.reasons
            if batch.features is not None:
                names += batch.names
                features.append(batch.features)
                timed.append((len(batch.names), batch.seconds))
            if len(names) >= CHUNK or done == len(todo):  # what is reported as done is stored
                append()
            if progress:
                progress("encode", done, len(todo))
        append()  # where only the first images are encoded
    speed.keep(table.folder, request.spec, timed)
    return reasons


def _stored(features: np.ndarray, spec: EncoderSpec) -> np.ndarray:
    """Features in the dtype of the store.

    Raises:
        RunFailed: some are not finite in it.
    """
    with np.errstate(over="ignore"):
        stored = features.astype(spec.stored_dtype)
    if not np.isfinite(stored).all():
        hint = ": use backbone.dtype float32" if np.isfinite(features).all() else ""
        raise RunFailed(f"{spec.weights.name}: features are not finite as {spec.stored_dtype}{hint}")
    return stored


def encoded(todo: Todo, request: Request, messages: LibraryMessages, *, only_first: bool = False) -> Generator[Batch]:
    """Decode and encode ``todo``, batch by batch and in order.

    There are as many threads as cores. Each decodes a batch and then encodes it, so that no thread waits for another;
    on a GPU one thread encodes at a time. The encoder is opened with the first batch that can be decoded.

    Args:
        todo: images, with the keys of the views that they lack.
        messages: get what libraries say of the images.
        only_first: end with that batch.
    """
    cv2.setNumThreads(1)  # otherwise OpenCV starts threads of its own in each of ours
    spec, parts = request.spec, iter(request.batches(todo))
    decoded = functools.partial(decoded_batch, transform=request.transform, spec=spec, messages=messages)
    for part in parts:
        batch = decoded(part)
        if batch.pixels:
            break
        yield batch
    else:
        return
    encoder = encoders.open_encoder(spec, request.folder, np.stack(batch.pixels))
    _check_room(todo, spec, request.folder)
    others = () if only_first else (functools.partial(decoded, part) for part in parts)
    jobs: Iterator[Callable[[], Batch]] = itertools.chain([lambda: batch], others)
    with contextlib.closing(in_threads(jobs, encoder, spec)) as results:
        yield from results


def _budget() -> float:
    """Bytes that new rows may take.

    Raises:
        UserError: AIMONK_BENCH_BUDGET_GB is not a finite number of at least 0.
    """
    value = os.environ.get("AIMONK_BENCH_BUDGET_GB", str(BUDGET_GB))
    try:
        budget = float(value)
    except ValueError:
        budget = math.nan
    if not 0 <= budget < math.inf:
        raise UserError(
            f"AIMONK_BENCH_BUDGET_GB: found {value!r}, expected a number of gigabytes, such as {BUDGET_GB:g}"
        )
    return budget * 1e9


def _check_room(todo: Todo, spec: EncoderSpec, folder: Path) -> None:
    """Compare the size of the new rows with the budget and with the free space on the disk.

    Raises:
        RunFailed: they are too large; the message names the settings that make them smaller.
    """
    record = read_record(folder)
    assert record is not None  # written when the encoder was opened
    rows = sum(len(keys) for _, keys in todo)
    size = rows * record.features * np.dtype(spec.stored_dtype).itemsize
    budget, free = _budget(), shutil.disk_usage(folder).free
    usable = max(0, free - SPARE_BYTES)
    if size <= min(budget, usable):
        return
    limit = f"AIMONK_BENCH_BUDGET_GB allows {bytes_text(budget)}"
    fixes = ["a later stage"] * (spec.freeze not in ("all", "none"))
    fixes += ["backbone.dtype float16"] * (spec.stored_dtype == "float32")
    fixes += ["a smaller transform.size"] * (spec.freeze != "all")
    fixes += ["a larger AIMONK_BENCH_BUDGET_GB"]
    if usable <= budget:
        limit = f"{bytes_text(free)} are free, of which {bytes_text(min(free, SPARE_BYTES))} stay free"
        fixes[-1] = "another disk for AIMONK_BENCH_CACHE"
    raise RunFailed(
        f"the feature store: {rows} rows of {record.features} ({spec.boundary}, {spec.stored_dtype}) take "
        f"{bytes_text(size)}, {limit}: use {' or '.join(fixes)}"
    )
