"""White: the value that means white in the images of more than 8 bits, one for a whole data set."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

from aimonk_bench.data.headers import JPEG_MARK, PNG_DEPTH, PNG_MARK, UndecodableImage, read_header
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.images import brightest
from aimonk_bench.data.library_messages import LibraryMessages
from aimonk_bench.errors import UserError

logger = logging.getLogger(__name__)

# White of floats, and at 8, 10, 12, 14 and 16 bits, the depths that cameras and formats have.
SCALES = (1, 255, 1023, 4095, 16383, 65535)
EIGHT_BIT_MARKS = (JPEG_MARK, b"GIF8", b"BM", b"RIFF")  # RIFF: WebP


def white_of(files: Sequence[ImageFile], declared: int | None) -> int | None:
    """The white of a data set; None if none of its images has more than 8 bits.

    The white that is not declared is that of the smallest usual depth that holds the brightest value of all images of
    more than 8 bits. To find it, these images are decoded once more. An underexposed data set gains brightness so,
    which harms less than the black images that 65535 would make of 12-bit data.

    Args:
        files: of the images.
        declared: ``data.white``.

    Raises:
        UserError: a white is declared, and no image has more than 8 bits.
    """
    with ThreadPoolExecutor() as pool:
        deep = [*itertools.compress(files, pool.map(_may_be_deep, (file.path for file in files)))]
    if declared is not None:
        if not deep:
            raise UserError(
                f"data.white: found {declared}, but no image of the {len(files)} has more than 8 bits: remove the key"
            )
        return declared
    cv2.setNumThreads(1)  # otherwise OpenCV starts threads of its own in each of ours
    with LibraryMessages(tell=False) as messages, ThreadPoolExecutor() as pool:
        peaks = [*pool.map(lambda file: messages.of(file.image_id, lambda: brightest(file.path.read_bytes())), deep)]
    bright = [(peak, file) for peak, file in zip(peaks, deep, strict=True) if peak is not None]
    if not bright:
        return None
    peak, brightest_file = max(bright, key=lambda item: item[0])
    integers = any(value.dtype.kind in "iu" for value, _ in bright)
    white = next(scale for scale in SCALES if peak <= scale and not (integers and scale == 1))
    logger.info(
        "data.white: %d, because the brightest value of %d images of more than 8 bits is %g (%s); "
        "`data: {white: %d}` saves looking for it",
        *(white, len(bright), peak, brightest_file.image_id, white),
    )
    return white


def _may_be_deep(path: Path) -> bool:
    """Whether an image may have more than 8 bits; of a format whose header does not say it, only decoding tells."""
    with path.open("rb") as file:
        head = file.read(PNG_DEPTH + 1)
        if head.startswith(PNG_MARK):
            return head[PNG_DEPTH:] == b"\x10"
        if head.startswith(EIGHT_BIT_MARKS):
            return False
        try:
            return read_header(head + file.read()).deep is not False
        except UndecodableImage:
            return False
