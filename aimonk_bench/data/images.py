"""Decode images: one square of 8-bit RGB, whatever the file holds.

Pillow reads the header only, because OpenCV accepts a 2 KB file that claims 400 million pixels; OpenCV decodes. Colour
profiles are not applied; of an animation the first frame is decoded.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import PurePath

import cv2
import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

# Part of the feature store's digest: raise it whenever a change below changes a pixel.
DECODE_REVISION = 1
# Where Pillow starts to warn of decompression bombs: 256 MB as 8-bit RGB.
MAX_PIXELS = 89_478_485
# Transparent pixels are composited over white.
BACKGROUND = 255
# White at 8, 10, 12, 14 and 16 bits, the depths that cameras and formats have.
FULL_SCALES = (255, 1023, 4095, 16383, 65535)

WIDTH, HEIGHT, BITS_PER_SAMPLE, PHOTOMETRIC, EXTRA_SAMPLES = 256, 257, 258, 262, 338  # TIFF tags

ENLARGING = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
TURNS = {  # EXIF orientation -> how to turn the stored image upright; 1 and undefined values leave it
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0")  # the last with 64-bit offsets


class UndecodableImage(Exception):
    """The bytes are no image, a damaged one, or one of unknown meaning; the message is the reason."""


@dataclass(frozen=True)
class Header:
    """Properties of an image file beside its pixels.

    Attributes:
        width, height: of the stored image.
        orientation: EXIF orientation left to apply; 1 for TIFF, which OpenCV turns itself.
        transparent: the file declares some kind of transparency.
        premultiplied: its colours are already multiplied by alpha.
        format: of the content, whatever the file is named: JPEG, PNG, TIFF, ...
        grey: stored without colours.
    """

    width: int
    height: int
    orientation: int
    transparent: bool
    premultiplied: bool
    format: str
    grey: bool


def decode(data: bytes, size: int, interpolation: str, *, fast: bool = False) -> np.ndarray:
    """Decode an image file and squash the image to a square.

    EXIF orientation is applied, alpha is composited over white, grey becomes three equal channels, and more than
    8 bits are scaled as in `eight_bit`. Where several threads call this, call
    ``cv2.setNumThreads(1)`` first, or OpenCV starts threads of its own beside them.

    Args:
        data: the bytes of the file.
        size: edge of the result in pixels.
        interpolation: ``bilinear`` or ``bicubic``, for axes that grow (see `squash`).
        fast: decode large JPEGs at a half, a quarter or an eighth of their size (see `reduction`).

    Returns:
        uint8 [size, size, 3], RGB.

    Raises:
        UndecodableImage: with the reason.
    """
    header = read_header(data)
    if header.width * header.height > MAX_PIXELS:
        raise UndecodableImage(f"{header.width} x {header.height} pixels, at most {MAX_PIXELS} in all are decoded")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _flags(header, size) if fast else cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UndecodableImage(f"OpenCV: {error.err}") from error
    if pixels is None:
        raise UndecodableImage("damaged, cut off, or of a kind that OpenCV does not read")
    if header.transparent and (pixels.ndim == 2 or pixels.shape[2] != 4):
        raise UndecodableImage("transparency of a kind that OpenCV does not read; save it as RGBA or without")
    small = squash(opaque(pixels, header.premultiplied), size, interpolation)
    upright = TURNS.get(header.orientation, np.asarray)(small)
    return cv2.cvtColor(np.ascontiguousarray(upright), cv2.COLOR_GRAY2RGB if upright.ndim == 2 else cv2.COLOR_BGR2RGB)


def reduction(header: Header, size: int) -> int:
    """The factor 1, 2, 4 or 8 by which `fast` shrinks an edge while decoding.

    JPEG stores 8 x 8 blocks of frequencies. A decoder that leaves out the high ones is quicker than one that decodes
    all pixels and averages them; the result is nearly the same. The factor is the largest that leaves both edges at
    least twice ``size``, so that INTER_AREA still averages. Other formats have no such shortcut.
    """
    if header.format != "JPEG":
        return 1
    shorter = min(header.width, header.height)
    return next((factor for factor in (8, 4, 2) if shorter // factor >= 2 * size), 1)


def _flags(header: Header, size: int) -> int:
    """OpenCV's flags for an image that `fast` may reduce."""
    factor = reduction(header, size)
    if factor == 1:
        return cv2.IMREAD_UNCHANGED
    reduced: int = getattr(cv2, f"IMREAD_REDUCED_{'GRAYSCALE' if header.grey else 'COLOR'}_{factor}")
    return reduced | cv2.IMREAD_IGNORE_ORIENTATION  # as IMREAD_UNCHANGED does by itself


def read_header(data: bytes) -> Header:
    """Read size, orientation and kind of transparency without decoding a pixel.

    Raises:
        UndecodableImage: no image, or a header that cannot be read.
    """
    if not data:
        raise UndecodableImage("the file is empty")
    try:
        return _tiff_header(data) if data.startswith(TIFF_MARKS) else _pillow_header(data)
    except UndecodableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UndecodableImage(str(error)) from error
    except Image.UnidentifiedImageError as error:
        raise UndecodableImage("not an image of a known format") from error
    except Exception as error:  # hostile bytes make parsers raise exceptions of any kind
        raise UndecodableImage(f"unreadable header ({type(error).__name__}: {error})") from error


def _pillow_header(data: bytes) -> Header:
    with Image.open(io.BytesIO(data)) as image:
        exif = Image.Exif()  # not image.getexif(), which decodes a whole PNG in search of a late chunk
        try:
            exif.load(image.info.get("exif", b""))
            orientation = exif.get(ExifTags.Base.Orientation, 1)
        except (SyntaxError, OSError, ValueError, struct.error):
            orientation = 1  # unreadable metadata turns no image, as in any viewer
        kind = "JPEG" if image.format == "MPO" else str(image.format)  # MPO: a JPEG with further images behind it
        grey = image.mode.partition(";")[0] in ("1", "L", "LA", "La", "I", "F")
        return Header(*image.size, orientation, image.has_transparency_data, False, kind, grey)


def _tiff_header(data: bytes) -> Header:
    """The first directory alone: ``Image.open`` refuses the float and many-channel TIFFs that OpenCV decodes."""
    file = io.BytesIO(data)
    tags = ImageFileDirectory_v2(file.read(16 if data.startswith(TIFF_MARKS[2]) else 8))
    file.seek(tags.next)
    tags.load(file)
    samples, bits = tags.get(EXTRA_SAMPLES, ()), max(tags.get(BITS_PER_SAMPLE, (1,)))
    if bits > 8 and tags[PHOTOMETRIC] not in (1, 2):
        raise UndecodableImage(f"a {bits}-bit TIFF that is neither grey nor RGB")  # OpenCV takes any for one of the two
    # OpenCV reads 8-bit TIFFs by libtiff, which multiplies the colours itself
    premultiplied = bits <= 8 or 1 in samples
    transparent, grey = bool({1, 2} & set(samples)), tags.get(PHOTOMETRIC) in (0, 1)
    return Header(tags[WIDTH], tags[HEIGHT], 1, transparent, premultiplied, "TIFF", grey)


def named_format(name: str) -> str | None:
    """The format that a file's name promises, ``JPEG`` for ``a.jpg``; None if it promises none."""
    return Image.registered_extensions().get(PurePath(name).suffix.lower())


def eight_bit(values: np.ndarray, white: float | None = None) -> np.ndarray:
    """Scale values of any type to uint8, as 255 * value / white.

    Files do not say how many of their 16 bits are used: 12-bit data scaled by 65535 would come out as 0 to 15.
    White is therefore that of the smallest usual depth (8, 10, 12, 14, 16 bits) that holds the brightest value; for
    floats it is 1 if that holds it. The brightest value becomes 64 to 255: an underexposed image gains brightness,
    which harms less than the black image that a fixed scale would make of 12-bit data.

    Raises:
        UndecodableImage: negative, infinite, NaN, or above 65535.
    """
    if values.dtype == np.uint8:
        return values
    low, peak = values.min(), values.max()
    scales = FULL_SCALES if values.dtype.kind in "iu" else (1, *FULL_SCALES)
    white = white or next((scale for scale in scales if peak <= scale), None)
    if white is None or not low >= 0:
        raise UndecodableImage(f"pixel values from {low} to {peak}, expected 0 to 1 (floats) or 0 to 65535")
    scaled: np.ndarray = np.rint(values.astype(np.float32) * np.float32(255 / white)).astype(np.uint8)
    return scaled


def opaque(pixels: np.ndarray, premultiplied: bool) -> np.ndarray:
    """Composite a fourth channel over white: alpha * colour + (1 - alpha) * white.

    Args:
        pixels: [H, W], [H, W, 3] or [H, W, 4] of any type, alpha last.
        premultiplied: the colours have been multiplied by alpha already.

    Returns:
        uint8, [H, W] or [H, W, 3].

    Raises:
        UndecodableImage: see `eight_bit`; two channels, or more than four.
    """
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return eight_bit(pixels)
    if pixels.shape[2] != 4:
        raise UndecodableImage(f"{pixels.shape[2]} channels, expected 1, 3 or 4")
    # alpha is a fraction of the whole range of the type: the formats define it so, unlike colour
    opacity = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else None
    alpha = eight_bit(pixels[..., 3:], opacity).astype(np.float32) / 255
    colour = eight_bit(pixels[..., :3]).astype(np.float32)
    over = colour if premultiplied else alpha * colour
    return np.rint(np.minimum(over + (1 - alpha) * BACKGROUND, 255)).astype(np.uint8)


def squash(pixels: np.ndarray, size: int, interpolation: str) -> np.ndarray:
    """Resize to size x size without regard to the aspect ratio.

    Axes that shrink do so first, by INTER_AREA (bilinear and bicubic would alias); axes that grow follow, by
    ``interpolation``. OpenCV itself would use one method for both.

    Args:
        pixels: uint8 [H, W] or [H, W, 3].
        size: edge of the result.
        interpolation: ``bilinear`` or ``bicubic``.
    """
    height, width = pixels.shape[:2]
    if height > size or width > size:
        pixels = cv2.resize(pixels, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA)
    if height < size or width < size:
        pixels = cv2.resize(pixels, (size, size), interpolation=ENLARGING[interpolation])
    return pixels
