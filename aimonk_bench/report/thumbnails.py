"""Small copies of images, and pairs of images that look alike, from the image folder that a config names."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from aimonk_bench.data.headers import UndecodableImage, read_header
from aimonk_bench.data.image_names import resolve
from aimonk_bench.data.images import decode
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.data.near_duplicates import Hashes, perceptual_hash
from aimonk_bench.errors import UserError
from aimonk_bench.progress import Progress
from aimonk_bench.records.run import CONFIG, RunRecord
from aimonk_bench.remote import RemotePath, path_of
from aimonk_bench.report.making import config_of

EDGE = 96  # of the longer side, in pixels
QUALITY = 70  # of WebP
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height

# The perceptual hashes that the suite has stored: what white means -> SHA-256 of an image file -> its hash, None where
# the image is too plain to have one.
StoredHashes = Callable[[int | None], Mapping[str, int | None]]
T = TypeVar("T")


@dataclass(frozen=True)
class Thumbnail:
    """A small copy: WebP as base64, and its size in pixels."""

    webp: str
    width: int
    height: int


@dataclass(frozen=True)
class ImageFolder:
    """The images of a run: their folder, the suffix of the files, and what white means (`data.white`)."""

    path: Path
    suffix: str | None = None
    white: int | None = None

    @classmethod
    def of(cls, record: RunRecord) -> ImageFolder:
        """The folder that ``data.images`` of ``config.yaml`` names.

        Raises:
            UserError: the config names none, or it is gone.
        """
        config = record.folder / CONFIG
        data: dict[str, Any] = config_of(record).get("data") or {}
        if not data.get("images"):
            raise UserError(f"{config}: data.images: found nothing, expected the folder of the images")
        stated = path_of(data["images"])
        path = stated if isinstance(stated, RemotePath) else record.folder / stated
        if not path.is_dir():
            raise UserError(
                f"{config}: data.images: found {data['images']}, expected a folder that exists; put the images there"
            )
        return cls(path, data.get("suffix"), data.get("white"))

    def files(self, names: Sequence[str]) -> list[Path | None]:
        """The file that each name of the label file means; None where there is none."""
        paths = resolve(names, [0] * len(names), self.path, self.suffix).paths
        files = [None if path is None else self.path / path for path in paths]
        return [path if path is not None and path.is_file() else None for path in files]

    def thumbnails(self, names: Sequence[str], progress: Progress) -> list[Thumbnail | None]:
        """A small copy of each image; None where its file is missing or cannot be decoded."""
        return self._each(names, lambda data: thumbnail(data, self.white), "thumbnails", progress)

    def hashes(self, names: Sequence[str], stored_hashes: StoredHashes, progress: Progress) -> Hashes:
        """The perceptual hashes of N images; an image whose file is missing or cannot be decoded is like no other.

        Every file is read; only those whose hash is not stored are decoded.
        """
        stored = stored_hashes(self.white)

        def of(data: bytes) -> int | None:
            sha256 = hashlib.sha256(data).hexdigest()
            return stored[sha256] if sha256 in stored else perceptual_hash(data, self.white)

        hashes = self._each(names, of, "near duplicates", progress)
        usable = np.array([bits is not None for bits in hashes], bool)
        return Hashes(np.array([bits or 0 for bits in hashes], np.uint64), usable)

    def _each(
        self, names: Sequence[str], work: Callable[[bytes], T | None], phase: str, progress: Progress
    ) -> list[T | None]:
        """What ``work`` makes of the bytes of each image, by several threads; None where that is impossible."""

        def of(item: tuple[str, Path | None]) -> T | None:
            name, path = item
            if path is None:
                return None
            try:
                return messages.of(name, lambda: work(path.read_bytes()))
            except (OSError, UndecodableImage):
                return None

        results = []
        cv2.setNumThreads(1)  # otherwise OpenCV starts threads of its own in each of ours
        with LibraryMessages(tell=False) as messages, ThreadPoolExecutor() as pool:
            for result in pool.map(of, zip(names, self.files(names), strict=True)):
                results.append(result)
                progress(phase, len(results), len(names))
        return results


def thumbnail(data: bytes, white: int | None = None) -> Thumbnail:
    """A small copy of an image file with its proportions.

    Args:
        data: the bytes of the file.
        white: of the data set, see `images.decode`.

    Raises:
        UndecodableImage: with the reason.
    """
    header = read_header(data)
    size = (header.height, header.width) if header.orientation in TURNED else (header.width, header.height)
    width, height = (max(1, round(EDGE * side / max(size))) for side in size)
    square = decode(data, EDGE, "bilinear", fast=True, white=white)
    small = cv2.resize(square, (width, height), interpolation=cv2.INTER_AREA)
    encoded, webp = cv2.imencode(
        ".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [int(cv2.IMWRITE_WEBP_QUALITY), QUALITY]
    )
    assert encoded  # of 8-bit pixels
    return Thumbnail(base64.b64encode(webp.tobytes()).decode(), width, height)
