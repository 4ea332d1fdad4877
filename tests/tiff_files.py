"""TIFF files of any number of bands and any type, which no library of the project writes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np


def tiff(pixels: np.ndarray, photometric: int = 2, extra: Sequence[int] | None = None) -> bytes:
    """An uncompressed little-endian TIFF of [H, W, C] values of any type.

    Args:
        pixels: the values.
        photometric: what they mean: 1 grey, 2 RGB, 5 CMYK, 8 CIELAB.
        extra: of each band beyond these, whether it is alpha: 0 no, 1 multiplied into the colours, 2 not multiplied.
    """
    height, width, channels = pixels.shape
    code = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    tags = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [pixels.itemsize * 8] * channels),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (273, "I", [0]),  # where the pixels begin: known last
        (277, "H", [channels]),
        (278, "I", [height]),
        (279, "I", [pixels.nbytes]),
        *([(338, "H", extra)] if extra is not None else []),
        (339, "H", [code] * channels),
    ]
    packed = [(tag, kind, len(values), struct.pack(f"<{len(values)}{kind}", *values)) for tag, kind, values in tags]
    start = 8 + 2 + 12 * len(tags) + 4
    apart = b"".join(value for *_, value in packed if len(value) > 4)
    entries, place = b"", start
    for tag, kind, count, value in packed:
        if tag == 273:
            stored = struct.pack("<I", start + len(apart))
        elif len(value) > 4:
            stored, place = struct.pack("<I", place), place + len(value)
        else:
            stored = value.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, {"H": 3, "I": 4}[kind], count) + stored
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + apart + pixels.tobytes()
