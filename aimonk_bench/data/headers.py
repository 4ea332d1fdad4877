"""Headers: what an image file says about its pixels, read without decoding one.

Pillow reads the header, because OpenCV accepts a 2 KB file that claims 400 million pixels.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass
from pathlib import PurePath

from PIL import ExifTags, Image, ImageFile, JpegImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from aimonk_bench.data.foreign import AGAIN, CONVERT, foreign

WIDTH, HEIGHT, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES_PER_PIXEL = 256, 257, 258, 262, 277  # TIFF tags
EXTRA_SAMPLES, SAMPLE_FORMAT, DNG_VERSION = 338, 339, 50706
ONE = (WIDTH, HEIGHT, PHOTOMETRIC, SAMPLES_PER_PIXEL)  # tags that hold one number
WHITE_IS_ZERO, GREY, RGB, CMYK, CFA = 0, (0, 1), 2, 5, (32803, 34892)  # values of PHOTOMETRIC; CFA: camera raw
ALPHA = {1, 2}  # values of EXTRA_SAMPLES: multiplied into the colours, or not
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0")  # the last with 64-bit offsets
JPEG_MARK, PNG_MARK = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
MAX_BYTES = 8 * 89_478_485  # of a decoded TIFF: 16-bit RGBA of as many pixels as `images.MAX_PIXELS`
PNG_DEPTH = 24  # the byte of a PNG file with the bits per sample
SKIP = "make it smaller, or leave it out with `data: {on_bad_image: skip}`"


class UndecodableImage(Exception):
    """The bytes are no image, a damaged one, or one of unknown meaning; the message is the reason.

    Args:
        reason: what is wrong, and what can be done with the file.
        fix: what can be done in a config.
    """

    def __init__(self, reason: str, fix: str | None = None) -> None:
        self.reason = reason
        super().__init__(reason if fix is None else f"{reason}: {fix}")


@dataclass(frozen=True)
class Header:
    """Properties of an image file beside its pixels.

    Attributes:
        width, height: of the stored image.
        orientation: EXIF orientation left to apply; 1 for TIFF, whose decoders turn it.
        transparent: the file declares some kind of transparency.
        premultiplied: its colours are multiplied by alpha when OpenCV hands them over.
        format: of the content, whatever the file is named: JPEG, PNG, TIFF, ...
        grey: stored without colours.
        deep: more than 8 bits a sample, or signed or float ones; None where only decoding tells.
        key: the value that stands for transparent in a grey PNG without alpha; None in any other file.
        maximum: the value that a PPM file of at most 8 bits declares as white, if that is not 255; else None.
        cmyk: stored as cyan, magenta, yellow and black.
        progressive: a progressive JPEG, whose decoder holds all coefficients in memory.
        undeclared: it has a band more than its colours, which the header does not declare as alpha.
    """

    width: int
    height: int
    orientation: int
    transparent: bool
    premultiplied: bool
    format: str
    grey: bool
    deep: bool | None = False
    key: int | None = None
    maximum: int | None = None
    cmyk: bool = False
    progressive: bool = False
    undeclared: bool = False


def read_header(data: bytes) -> Header:
    """Read a header.

    Raises:
        UndecodableImage: no image, or a header that cannot be read.
    """
    try:
        return _tiff_header(data) if data.startswith(TIFF_MARKS) else _pillow_header(data)
    except UndecodableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        (pixels,) = re.findall(r"\((\d+) pixels\)", str(error))
        raise UndecodableImage(f"{pixels} pixels, at most {Image.MAX_IMAGE_PIXELS} are decoded", SKIP) from error
    except Exception as error:  # hostile bytes make parsers raise exceptions of any kind
        if kind := foreign(data):
            raise UndecodableImage(kind) from error
        if isinstance(error, Image.UnidentifiedImageError):
            raise UndecodableImage(f"not an image of a known format: {CONVERT}") from error
        raise UndecodableImage(f"unreadable header ({type(error).__name__}: {error}): {AGAIN}") from error


def _pillow_header(data: bytes) -> Header:
    # not by Image.open, which refuses large JPEGs that can be decoded at a fraction of their size
    is_jpeg = data.startswith(JPEG_MARK)
    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) if is_jpeg else Image.open(io.BytesIO(data)) as image:
        exif = Image.Exif()  # not image.getexif(), which decodes a whole PNG in search of a late chunk
        try:
            exif.load(image.info.get("exif", b""))
            orientation = exif.get(ExifTags.Base.Orientation, 1)
        except (SyntaxError, OSError, ValueError, struct.error):
            orientation = 1  # unreadable metadata turns no image, as in any viewer
        mode, key, deep = image.mode.partition(";")[0], image.info.get("transparency"), False
        grey, transparent = mode in ("1", "L", "LA", "La", "I", "F"), image.has_transparency_data
        if image.format == "PNG":
            _check_chunks(data)
            deep = data[PNG_DEPTH] == 16
            key = key * (255 // (2 ** data[PNG_DEPTH] - 1)) if grey and isinstance(key, int) and not deep else key
        undeclared = False
        if image.format == "JPEG2000":  # Pillow takes any further band for alpha
            undeclared = transparent and b"cdef" not in data[:4096]
        return Header(
            *image.size,
            orientation,
            transparent and not undeclared,
            premultiplied=False,
            format=str(image.format),
            grey=grey,
            deep=deep if image.format in ("PNG", "JPEG", "GIF", "BMP", "WEBP") else None,
            key=key if image.format == "PNG" and grey and isinstance(key, int) else None,
            maximum=_maximum(image) if image.format == "PPM" else None,
            cmyk=mode == "CMYK",
            progressive="progressive" in image.info,
            undeclared=undeclared,
        )


def _check_chunks(data: bytes) -> None:
    """Refuse a PNG with a chunk longer than the file: OpenCV reserves memory for it, up to 2 GB, before it is read."""
    place = len(PNG_MARK)
    while place + 8 <= len(data) and data[place + 4 : place + 8] != b"IEND":
        length = int.from_bytes(data[place : place + 4])
        if length > len(data):
            raise UndecodableImage(f"damaged or cut off: {AGAIN}")
        place += 12 + length


def _maximum(image: Image.Image) -> int | None:
    """The white of a binary PPM file that Pillow has to scale, if its samples have 8 bits; OpenCV scales ASCII ones."""
    tile = image.tile[0] if isinstance(image, ImageFile.ImageFile) and image.tile else None
    arguments = tile.args if tile is not None and tile.codec_name == "ppm" else None
    return arguments[1] if isinstance(arguments, tuple) and arguments[1] < 255 else None


def _tiff_header(data: bytes) -> Header:
    """The first directory alone: ``Image.open`` refuses the float and many-channel TIFFs that OpenCV decodes."""
    file = io.BytesIO(data)
    tags = ImageFileDirectory_v2(file.read(16 if data.startswith(TIFF_MARKS[2]) else 8))
    file.seek(tags.next)
    tags.load(file)
    if WIDTH not in tags or HEIGHT not in tags:
        raise UndecodableImage(f"a TIFF whose header is cut off, or states no size: {AGAIN}")
    (width,), (height,) = _whole(tags, WIDTH), _whole(tags, HEIGHT)
    extra, bits = set(_whole(tags, EXTRA_SAMPLES, ())), max(_whole(tags, BITS_PER_SAMPLE, (1,)))
    (photometric,), (samples,) = _whole(tags, PHOTOMETRIC, (0,)), _whole(tags, SAMPLES_PER_PIXEL, (1,))
    deep = bits > 8 or set(_whole(tags, SAMPLE_FORMAT, (1,))) != {1}
    grey, transparent = photometric in GREY, bool(ALPHA & extra)
    kind = f"a TIFF of {bits} bits per sample"
    if DNG_VERSION in tags or photometric in CFA or data[8:10] == b"CR":
        raise UndecodableImage("a camera's raw file, of which only a preview could be read: convert it to TIFF or JPEG")
    if bits > 8 and photometric not in (*GREY, RGB):
        named = {3: "palette", CMYK: "CMYK", 6: "YCbCr", 8: "CIELAB"}.get(photometric, f"kind {photometric}")
        raise UndecodableImage(f"{kind} that is neither grey nor RGB, but {named}: convert it to RGB")
    if grey and samples > (1 if deep else 2):  # of which OpenCV reads the first band alone, and that with 8 bits
        raise UndecodableImage(f"{kind}, grey with {samples} bands: save it with one band, or three of them as RGB")
    if deep and photometric == WHITE_IS_ZERO:  # which OpenCV regards in 8-bit files alone
        raise UndecodableImage(f"{kind} in which 0 is white: save it with 0 as black")
    if (size := width * height * samples * bits // 8) > MAX_BYTES:
        raise UndecodableImage(f"{kind}, {width} x {height} x {samples}: {size} bytes, at most {MAX_BYTES}", SKIP)
    if samples > 4:
        raise UndecodableImage(f"a TIFF of {samples} bands, at most 4 are decoded: save the three that make an image")
    return Header(
        width,
        height,
        orientation=1,
        transparent=transparent,
        # OpenCV reads 8-bit TIFFs of colours by libtiff, which multiplies them itself
        premultiplied=(bits <= 8 and not grey) or 1 in extra,
        format="TIFF",
        grey=grey,
        deep=deep,
        cmyk=photometric == CMYK,
        undeclared=not transparent and samples == (2 if grey else 4) and photometric != CMYK,
    )


def _whole(tags: ImageFileDirectory_v2, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The whole numbers of a TIFF tag; a damaged one may hold anything.

    Raises:
        UndecodableImage: it holds something else.
    """
    value = tags.get(tag, default)
    numbers = tuple(value) if isinstance(value, tuple | bytes) else (value,)
    if not all(isinstance(number, int) and number >= 0 for number in numbers) or (tag in ONE and len(numbers) != 1):
        raise UndecodableImage(f"a TIFF with a damaged header (tag {tag}): {AGAIN}")
    return numbers


def named_format(name: str) -> str | None:
    """The format that a file's name promises, ``JPEG`` for ``a.jpg``; None if it promises none."""
    return Image.registered_extensions().get(PurePath(name).suffix.lower())
