"""Pixels as the network of a bundle was trained on them, from files, arrays and Pillow images.

A file is decoded by `data.images.decode`, as for training; a JPEG that Pillow has opened and not decoded yet is decoded
as its file. Arrays and other Pillow images go through the same steps, so that their pixels equal those of their file
bit for bit, except where OpenCV and Pillow decode differently, and except for large JPEGs of ``decode: fast``, of which
a decoded image has more pixels than the file would give.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from aimonk_bench.data.headers import UndecodableImage
from aimonk_bench.data.images import MAX_PIXELS, TURNS, decode, opaque, squash
from aimonk_bench.errors import UserError
from aimonk_bench.serving.graph import Classifier
from aimonk_bench.serving.images import Item

PREMULTIPLIED = ("La", "RGBa")
DEEP = ("I", "F")  # modes of more than 8 bits; "I;16" and the like begin with I


def of_file(path: Path, classifier: Classifier, notes: list[str]) -> np.ndarray:
    """The pixels of an image file, uint8 [size, size, 3].

    Args:
        notes: gets what a user should know of how the file was read.

    Raises:
        UndecodableImage: with the reason; the file may be missing.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a named pipe would wait for ever
            raise UndecodableImage("a folder, expected an image" if stat.S_ISDIR(mode) else "not a regular file")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UndecodableImage("missing") from error
    except OSError as error:
        raise UndecodableImage(f"unreadable: {error.strerror}") from error
    except ValueError as error:  # a NUL byte
        raise UndecodableImage(f"not the name of a file: {error}") from error
    return _of_bytes(data, classifier, notes)


def _of_bytes(data: bytes, classifier: Classifier, notes: list[str] | None) -> np.ndarray:
    size, way = classifier.size, classifier.interpolation
    return decode(data, size, way, fast=classifier.fast, white=classifier.white, notes=notes)


def item(image: object, number: int, classifier: Classifier) -> Item:
    """An image of a Python program. Arrays and Pillow images are squashed at once: the caller may use them again.

    Args:
        image: a path; an array [H, W, 3] uint8, RGB; or a Pillow image of any mode.
        number: of the image, from 0; the name of one without a file is ``[number]``.

    Raises:
        UserError: it is something else.
    """
    if isinstance(image, str | os.PathLike):
        return Item(os.fspath(image), Path(image))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            kind = f"an array of {image.dtype} {[*image.shape]}"
            raise UserError(f"images[{number}]: found {kind}, expected uint8 [H, W, 3], the channels red, green, blue")
        return Item(f"[{number}]", pixels=_squashed(image, classifier))
    if not isinstance(image, Image.Image):
        kind = type(image).__name__
        raise UserError(
            f"images[{number}]: found a {kind}, expected a path, a NumPy array uint8 [H, W, 3], or a Pillow image"
        )
    name = str(getattr(image, "filename", "") or f"[{number}]")
    try:
        data = _undecoded_jpeg(image)
        return Item(name, pixels=_of_pillow(image, classifier) if data is None else _of_bytes(data, classifier, None))
    except UndecodableImage as error:
        return Item(name, error=error.reason)


def _squashed(pixels: np.ndarray, classifier: Classifier) -> np.ndarray:
    """A copy of pixels [H, W, 3] or [H, W], squashed."""
    return np.array(squash(np.ascontiguousarray(pixels), classifier.size, classifier.interpolation))


def _undecoded_jpeg(image: Image.Image) -> bytes | None:
    """The file of an image that is a JPEG as it was opened; None where the image is decoded, drafted or something else.

    Nobody can have changed the pixels of such an image, and Pillow can still decode it afterwards.
    """
    if not isinstance(image, JpegImageFile) or not image.tile or image.fp is None or image.fp.closed:
        return None
    if image.decoderconfig or image.tell():  # `draft` was called; a later image of a file that holds several
        return None
    place = image.fp.tell()
    image.fp.seek(0)
    data: bytes = image.fp.read()
    image.fp.seek(place)
    return data


def _of_pillow(image: Image.Image, classifier: Classifier) -> np.ndarray:
    """The pixels of a Pillow image, turned upright.

    Raises:
        UndecodableImage: its file is damaged, its mode cannot be converted, or it is too large.
    """
    if image.width * image.height > MAX_PIXELS:
        raise UndecodableImage(f"{image.width} x {image.height} pixels, at most {MAX_PIXELS} in all are decoded")
    try:
        image.load()
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        mode = _usable_mode(image)
        pixels = np.asarray(image if mode == image.mode else image.convert(mode))
    except Exception as error:  # Pillow raises exceptions of any kind for damaged files
        raise UndecodableImage(f"Pillow: {error}") from error
    if pixels.ndim == 3 and pixels.shape[2] == 2:  # La
        pixels = pixels[..., [0, 0, 0, 1]]
    small = _squashed(opaque(pixels, mode in PREMULTIPLIED, classifier.white), classifier)
    upright = TURNS.get(orientation, np.asarray)(small)
    return np.ascontiguousarray(np.dstack([upright] * 3) if upright.ndim == 2 else upright)


def _usable_mode(image: Image.Image) -> str:
    """The mode to convert to: grey, RGB or, where there is transparency, RGBA."""
    if image.mode in (*PREMULTIPLIED, "L", "RGB") and "transparency" not in image.info:
        return image.mode
    if image.mode.startswith(DEEP):
        return image.mode
    if image.has_transparency_data:
        return "RGBA"
    return "L" if image.mode == "1" else "RGB"
