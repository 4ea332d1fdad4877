"""Decode images: one square of 8-bit RGB, whatever the file holds.

OpenCV decodes; Pillow decodes what OpenCV would read without its transparency. Colour profiles are not applied; of an
animation the first frame is decoded.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from aimonk_bench.data.foreign import AGAIN, CONVERT
from aimonk_bench.data.headers import SKIP, Header, UndecodableImage, read_header

# Part of the feature store's digest: raise it whenever a change below changes a pixel.
DECODE_REVISION = 2
# Where Pillow starts to warn of decompression bombs: 256 MB as 8-bit RGB.
MAX_PIXELS = 89_478_485
# Of a progressive JPEG, whose decoder holds all coefficients: at most 2 GB.
MAX_COEFFICIENTS = 4 * MAX_PIXELS
# Transparent pixels are composited over white.
BACKGROUND = 255
MAX_WHITE = 65535

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
INKS = "a CMYK image, converted to RGB without its colour profile"


def decode(
    data: bytes,
    size: int,
    interpolation: str,
    *,
    fast: bool = False,
    white: int | None = None,
    notes: list[str] | None = None,
) -> np.ndarray:
    """Decode an image file and squash the image to a square.

    EXIF orientation is applied, alpha is composited over white, grey becomes three equal channels, and more than
    8 bits are scaled as in `eight_bit`. Where several threads call this, call
    ``cv2.setNumThreads(1)`` first, or OpenCV starts threads of its own beside them.

    Args:
        data: the bytes of the file.
        size: edge of the result in pixels.
        interpolation: ``bilinear`` or ``bicubic``, for axes that grow (see `squash`).
        fast: decode large JPEGs at a half, a quarter or an eighth of their size (see `reduction`).
        white: the value that means white in images of more than 8 bits, one for the data set (see `white`).
        notes: gets what a user should know of how the file was read.

    Returns:
        uint8 [size, size, 3], RGB.

    Raises:
        UndecodableImage: with the reason.
    """
    header = read_header(data)
    factor = _required_reduction(header)
    if factor > 1 and notes is not None:
        notes.append(f"a JPEG of more than {MAX_PIXELS} pixels, decoded at 1/{factor} of its width and height")
    pixels = _pixels(data, header, max(factor, reduction(header, size)) if fast else factor, notes)
    small = squash(opaque(pixels, header.premultiplied, white), size, interpolation)
    upright = TURNS.get(header.orientation, np.asarray)(small)
    return cv2.cvtColor(np.ascontiguousarray(upright), cv2.COLOR_GRAY2RGB if upright.ndim == 2 else cv2.COLOR_BGR2RGB)


def brightest(data: bytes) -> np.number | None:
    """The brightest value of an image of more than 8 bits; None for 8 bits, and where `decode` refuses the image."""
    try:
        header = read_header(data)
        if header.deep is False:
            return None
        pixels = _pixels(data, header, _required_reduction(header), None)
    except UndecodableImage:
        return None
    colours = pixels if pixels.ndim == 2 else pixels[..., :3]
    low, peak = colours.min(), colours.max()
    usable = pixels.dtype != np.uint8 and low >= 0 and peak <= MAX_WHITE
    return peak if usable else None


def _pixels(data: bytes, header: Header, factor: int, notes: list[str] | None) -> np.ndarray:
    """The stored pixels, as OpenCV orders their channels: [H, W], [H, W, 3] or, where there is alpha, [H, W, 4]."""
    if header.grey and header.transparent and header.format in ("TIFF", "JPEG2000"):
        return _grey_with_alpha(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _flags(header, factor))
    except cv2.error as error:
        raise UndecodableImage(f"OpenCV: {error.err}") from error
    if pixels is None:
        raise UndecodableImage(
            f"damaged or cut off, or a kind of {header.format} that OpenCV does not read: {AGAIN}, or {CONVERT}"
        )
    if header.cmyk and notes is not None:
        notes.append(INKS)
    if header.maximum is not None:
        return cv2.convertScaleAbs(pixels, alpha=255 / header.maximum)
    if header.key is not None and pixels.ndim == 2:
        top = 255 if pixels.dtype == np.uint8 else 65535
        alpha = np.where(pixels == header.key, 0, top).astype(pixels.dtype)
        return np.dstack([pixels, pixels, pixels, alpha])
    bands = 1 if pixels.ndim == 2 else pixels.shape[2]
    if header.transparent and bands != 4:
        raise UndecodableImage("transparency of a kind that is not read: save it as RGBA or without")
    if header.undeclared and notes is not None:
        number = "second" if header.grey else "fourth"
        notes.append(
            f"a {header.format} with a {number} band that its header does not declare as alpha: it is left out"
        )
    return np.ascontiguousarray(pixels[..., :3]) if bands == 4 and not header.transparent else pixels


def _grey_with_alpha(data: bytes) -> np.ndarray:
    """Grey with alpha as [H, W, 4], by Pillow: OpenCV drops the alpha of a TIFF and does not read JPEG 2000."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image)
    except Exception as error:  # hostile bytes make decoders raise exceptions of any kind
        raise UndecodableImage(f"Pillow: {error}") from error
    if pixels.ndim != 3 or pixels.shape[2] != 2 or pixels.dtype != np.uint8:
        raise UndecodableImage("grey with transparency of a kind that is not read: save it as RGBA or without")
    return np.ascontiguousarray(pixels[..., [0, 0, 0, 1]])


def _required_reduction(header: Header) -> int:
    """The factor by which a JPEG has to shrink while it is decoded, because it has too many pixels.

    Raises:
        UndecodableImage: the image has too many pixels and cannot shrink so.
    """
    pixels = header.width * header.height
    if pixels <= MAX_PIXELS:
        return 1
    if header.format != "JPEG" or (header.progressive and pixels > MAX_COEFFICIENTS):
        limit = MAX_COEFFICIENTS if header.progressive else MAX_PIXELS
        raise UndecodableImage(f"{header.width} x {header.height} pixels, at most {limit} in all are decoded", SKIP)
    return next(factor for factor in (2, 4, 8) if pixels / factor**2 <= MAX_PIXELS)


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


def _flags(header: Header, factor: int) -> int:
    """OpenCV's flags for an image that is decoded at 1 / factor of its size."""
    if factor == 1:
        return cv2.IMREAD_UNCHANGED
    reduced: int = getattr(cv2, f"IMREAD_REDUCED_{'GRAYSCALE' if header.grey else 'COLOR'}_{factor}")
    return reduced | cv2.IMREAD_IGNORE_ORIENTATION  # as IMREAD_UNCHANGED does by itself


def eight_bit(values: np.ndarray, white: float | None) -> np.ndarray:
    """Scale values of any type to uint8, as 255 * value / white; uint8 stays as it is.

    Files do not say how many of their 16 bits are used: 12-bit data scaled by 65535 would come out as 0 to 15. A white
    for each image would make images of equal content differ by their brightest pixel. `white` is therefore the same
    for all images of a data set.

    Raises:
        UndecodableImage: negative, infinite, NaN, above 65535 or above white; floats up to 1 where white is not 1.
    """
    if values.dtype == np.uint8:
        return values
    low, peak = values.min(), values.max()
    if not (low >= 0 and peak <= MAX_WHITE):
        raise UndecodableImage(f"pixel values from {low} to {peak}, expected 0 to 1 (floats) or 0 to {MAX_WHITE}")
    if white is None:
        raise UndecodableImage(
            "more than 8 bits, and no white is known", "set data.white, 65535 if all 16 bits are used"
        )
    if peak > white:
        raise UndecodableImage(f"the value {peak} is above data.white, which is {white}", "raise it, or set it to null")
    if values.dtype.kind == "f" and 0 < peak <= 1 < white:
        raise UndecodableImage(
            f"float values up to {peak} beside a data.white of {white}: save all images in one range"
        )
    scaled: np.ndarray = np.rint(values.astype(np.float32) * np.float32(255 / white)).astype(np.uint8)
    return scaled


def opaque(pixels: np.ndarray, premultiplied: bool, white: float | None = None) -> np.ndarray:
    """Composite a fourth channel over white: alpha * colour + (1 - alpha) * white.

    Args:
        pixels: [H, W], [H, W, 3] or [H, W, 4] of any type, alpha last.
        premultiplied: the colours have been multiplied by alpha already.
        white: see `eight_bit`.

    Returns:
        uint8, [H, W] or [H, W, 3].

    Raises:
        UndecodableImage: see `eight_bit`; two channels, or more than four.
    """
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return eight_bit(pixels, white)
    if pixels.shape[2] != 4:
        raise UndecodableImage(f"{pixels.shape[2]} channels, expected 1, 3 or 4")
    # alpha is a fraction of the whole range of the type, of floats a fraction of 1: the formats define it so
    opacity = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1.0
    alpha = eight_bit(pixels[..., 3:], opacity).astype(np.float32) / 255
    colour = eight_bit(pixels[..., :3], white).astype(np.float32)
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
