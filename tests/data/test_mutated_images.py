"""Images of every format that is read, damaged: an image or the declared error, in bounded time and memory."""

from __future__ import annotations

import contextlib
import io
import re
import warnings

import cv2
import numpy as np
import pytest
from hostile_files import HOSTILE, limited, mutated
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from aimonk_bench.data import images
from aimonk_bench.data.headers import UndecodableImage
from aimonk_bench.data.near_duplicates import perceptual_hash

RNG = np.random.default_rng(0)
SQUARE = RNG.integers(0, 256, (20, 24, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 4096, (20, 24)).astype(np.uint16)


def by_pillow(kind: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(SQUARE).convert(mode).save(file, kind, **options)
    return file.getvalue()


def by_opencv(kind: str, pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(f".{kind}", pixels, options)[1].tobytes()


ORIGINALS = {
    "JPEG": by_pillow("JPEG"),
    "progressive JPEG": by_pillow("JPEG", progressive=True),
    "grey JPEG": by_pillow("JPEG", "L"),
    "CMYK JPEG": by_pillow("JPEG", "CMYK"),
    "PNG": by_pillow("PNG"),
    "PNG with alpha": by_pillow("PNG", "RGBA"),
    "grey PNG with alpha": by_pillow("PNG", "LA"),
    "PNG with a palette": by_pillow("PNG", "P", transparency=0),
    "PNG of 1 bit": by_pillow("PNG", "1"),
    "PNG of 16 bits": by_opencv("png", DEEP),
    "TIFF": by_pillow("TIFF"),
    "TIFF, LZW": by_pillow("TIFF", compression="tiff_lzw"),
    "TIFF, JPEG": by_pillow("TIFF", compression="jpeg"),
    "TIFF, deflate": by_pillow("TIFF", "RGBA", compression="tiff_adobe_deflate"),
    "TIFF of 16 bits": by_opencv("tiff", DEEP),
    "TIFF of floats": by_opencv("tiff", DEEP.astype(np.float32) / 4096),
    "grey TIFF with alpha": by_pillow("TIFF", "LA"),
    "WebP": by_pillow("WEBP"),
    "WebP, lossless with alpha": by_pillow("WEBP", "RGBA", lossless=True),
    "BMP": by_pillow("BMP"),
    "BMP with a palette": by_pillow("BMP", "P"),
    "GIF": by_pillow("GIF"),
    "JPEG 2000": by_pillow("JPEG2000"),
    "grey JPEG 2000 with alpha": by_pillow("JPEG2000", "LA"),
    "PPM": by_pillow("PPM"),
    "PGM of 16 bits": by_opencv("pgm", DEEP),
    "PBM": by_pillow("PPM", "1"),
    "PFM": by_opencv("pfm", DEEP.astype(np.float32)),
    "HDR": by_opencv("hdr", SQUARE.astype(np.float32)),
    "Sun raster": by_opencv("ras", SQUARE),
}


GREY, WIDTH = ORIGINALS["grey TIFF with alpha"], re.compile(rb"(\x00\x01)[\x03\x04](\x00\x01\x00\x00\x00\x18)")
BYTE, DOUBLE = 1, 12  # types of a TIFF tag


def width_of_type(number: int) -> bytes:
    """A TIFF whose width is of another type."""
    content, changes = WIDTH.subn(lambda found: found[1] + bytes([number]) + found[2], GREY, count=1)
    assert changes == 1
    return content


def test_a_chunk_longer_than_its_file_takes_no_memory() -> None:
    png = ORIGINALS["PNG"]
    place = png.index(b"IDAT") - 4
    with pytest.raises(UndecodableImage, match=r"^damaged or cut off: download"):  # by its header, before OpenCV
        images.decode(png[:place] + b"\x7f" + png[place + 1 :], 16, "bilinear")
    assert images.decode(png + b"\x7f" * 20, 16, "bilinear").shape == (16, 16, 3)  # what follows the end is ignored


@HOSTILE
@example(case=("TIFF", width_of_type(BYTE)), fast=False, white=None)
@example(case=("TIFF", width_of_type(DOUBLE)), fast=False, white=None)
@given(case=mutated(ORIGINALS), fast=st.booleans(), white=st.sampled_from([None, 4095]))
def test_a_mutated_image_is_an_image_or_the_declared_error(
    case: tuple[str, bytes], fast: bool, white: int | None
) -> None:
    _, content = case
    with limited(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about metadata
        with contextlib.suppress(UndecodableImage):
            assert images.decode(content, 16, "bilinear", fast=fast, white=white).shape == (16, 16, 3)
        with contextlib.suppress(UndecodableImage):
            perceptual_hash(content, white)
        images.brightest(content)
