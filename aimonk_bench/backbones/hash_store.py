"""Perceptual hashes of image files, computed once for each image and kept beside the feature store.

They are no features of a backbone: one file holds the hashes of all images that any run has seen.
"""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from aimonk_bench.backbones.batches import verified_bytes
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.images import DECODE_REVISION, UndecodableImage
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.data.near_duplicates import HASH_REVISION, Hashes, perceptual_hash
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.progress import Progress
from aimonk_bench.records import claims
from aimonk_bench.records.environment import cores
from aimonk_bench.records.files import CLAIM

CONTENT = np.dtype([("sha256", "S64"), ("usable", "?"), ("bits", "<u8")])
ENTRY = np.dtype([("content", CONTENT), ("crc", "<u4")])  # the checksum of the bytes of the content
CHUNK = 1024  # images hashed between two writes: an interruption loses no more


def perceptual_hashes(
    images: Sequence[ImageFile], root: Path, progress: Progress | None = None, *, white: int | None = None
) -> Hashes:
    """The hashes of N images; only those that are not stored yet are decoded, JPEGs at a fraction of their size.

    Args:
        images: [N] decodable images.
        root: folder of the feature store.
        progress: called with ("hash", images done, images to do).
        white: of the data set, see `images.decode`; other hashes of the same images are kept for another one.

    Raises:
        UserError: the file of hashes cannot be read or written.
        RunFailed: an image file changed, or cannot be decoded any more.
    """
    file = _file(root, white)
    stored = _read(file)
    todo = list({image.sha256: image for image in images if image.sha256.encode() not in stored}.values())

    def entry(image: ImageFile) -> tuple[bytes, bool, int]:
        return messages.of(image.image_id, functools.partial(_entry, image, white))

    with LibraryMessages(tell=False) as messages, ThreadPoolExecutor(cores()) as pool:
        cv2.setNumThreads(1)  # otherwise OpenCV starts threads of its own in each of ours
        for start in range(0, len(todo), CHUNK):
            entries = np.array(list(pool.map(entry, todo[start : start + CHUNK])), CONTENT)
            _append(file, entries)
            stored |= _by_image(entries)
            if progress:
                progress("hash", start + len(entries), len(todo))
    entries_of_images = [stored[image.sha256.encode()] for image in images]
    return Hashes(
        np.array([bits for _, bits in entries_of_images], np.uint64),
        np.array([usable for usable, _ in entries_of_images], bool),
    )


def stored_hashes(root: Path, white: int | None = None) -> dict[str, int | None]:
    """The hashes that are stored: SHA-256 of the bytes of an image -> its hash, None where the image is too plain.

    Args:
        root: folder of the feature store; where it has no hashes, there are none.
        white: of the data set, see `images.decode`.

    Raises:
        UserError: the file of hashes cannot be read.
    """
    return {sha256.decode(): bits if usable else None for sha256, (usable, bits) in _read(_file(root, white)).items()}


def _file(root: Path, white: int | None) -> Path:
    scale = f"-{white}" if white else ""
    return root / "hashes" / f"{DECODE_REVISION}-{HASH_REVISION}{scale}.bin"


def _by_image(entries: np.ndarray) -> dict[bytes, tuple[bool, int]]:
    """SHA-256 -> (usable, bits)."""
    return {sha256: (usable, bits) for sha256, usable, bits in entries.tolist()}


def _entry(image: ImageFile, white: int | None) -> tuple[bytes, bool, int]:
    try:
        bits = perceptual_hash(verified_bytes(image), white)
    except UndecodableImage as error:
        raise RunFailed(f"{image.path} cannot be decoded any more: {error}") from error
    return image.sha256.encode(), bits is not None, bits or 0


def _read(file: Path) -> dict[bytes, tuple[bool, int]]:
    """The stored hashes, without entries that are damaged, or that a killed process left incomplete at the end."""
    try:
        data = file.read_bytes() if file.exists() else b""
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}); fix: remove it, its hashes are made again"
        ) from error
    entries = np.frombuffer(data, ENTRY, count=len(data) // ENTRY.itemsize)
    return _by_image(entries["content"][entries["crc"] == _checksums(entries["content"])])


def _checksums(contents: np.ndarray) -> np.ndarray:
    """[N] uint32, of the bytes of each."""
    data = contents.tobytes()
    starts = range(0, len(data), CONTENT.itemsize)
    return np.array([zlib.crc32(data[start : start + CONTENT.itemsize]) for start in starts], np.uint32)


def _append(file: Path, contents: np.ndarray) -> None:
    entries = np.empty(len(contents), ENTRY)
    entries["content"], entries["crc"] = contents, _checksums(contents)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with claims.hold(file.with_name(f"{CLAIM}-{file.name}"), "writes there") as claim, file.open("ab") as stream:
            claim.check()
            stream.truncate(stream.tell() // ENTRY.itemsize * ENTRY.itemsize)  # of a killed process
            stream.write(entries.tobytes())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error}); AIMONK_BENCH_CACHE names another place") from error
