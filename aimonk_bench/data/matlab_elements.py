"""The elements of a MATLAB 5 file, checked before SciPy reads them: of a damaged file its reader ends the process.

The layout is that of MathWorks, "MAT-File Level 5 File Format": a variable is a tag (type, bytes) and elements inside.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator

HEADER = 128  # bytes of text, version and byte order
INT8, INT32, UINT32, MATRIX, COMPRESSED = 1, 5, 6, 14, 15  # types of elements
SIZES = {INT8: 1, 2: 1, 3: 2, 4: 2, INT32: 4, UINT32: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # type of numbers -> bytes of one
TEXTS = (INT8, 2, 4, 16, 17, 18)  # types of characters
CELL, CHAR, NUMBERS = 1, 4, range(6, 16)  # classes of variables that are read
COMPLEX = 0x800
MAX_DEPTH, MAX_BYTES = 8, 1 << 28  # of cells in cells, and of a variable once it is unpacked

Element = tuple[int, bytes]  # type and content


def readable_variables(data: bytes) -> list[str] | None:
    """The names of the variables that are matrices, texts, or cells of them; None of an older or a newer format.

    Raises:
        ValueError: an element is damaged.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    version = data[125:126] if order == "<" else data[124:125]
    if 0 in data[:4] or version == b"\2":
        return None
    if order is None or version != b"\1":
        raise ValueError("it does not begin as such a file does")
    names = []
    for kind, content in _elements(data[HEADER:], order):
        if kind == COMPRESSED:
            unpacked = zlib.decompressobj().decompress(content, MAX_BYTES + 1)
            if len(unpacked) > MAX_BYTES:
                raise ValueError(f"a variable of more than {MAX_BYTES} bytes")
            (kind, content), *_ = [*_elements(unpacked, order)] or [(0, b"")]
        if kind != MATRIX:
            raise ValueError(f"an element of type {kind} where a variable is expected")
        if (name := _variable(content, order)) is not None:
            names.append(name)
    return names


def _elements(data: bytes, order: str) -> Iterator[Element]:
    """The elements of some bytes, one after another."""
    place = 0
    while place < len(data):
        if len(data) - place < 8:
            raise ValueError("it is cut off")
        kind, length = struct.unpack_from(f"{order}II", data, place)
        begin = place + 8
        if kind >> 16:  # a short element: type and length share four bytes, and the content is in the next four
            kind, length, begin = kind & 0xFFFF, kind >> 16, place + 4
        if begin + length > len(data) or (begin == place + 4 and length > 4):
            raise ValueError("it is cut off, or an element has a wrong length")
        yield kind, data[begin : begin + length]
        place = max(begin + length, place + 8)
        if kind != COMPRESSED:
            place += -place % 8


def _variable(content: bytes, order: str, depth: int = 0) -> str | None:
    """The name of a variable; None where it is of a class that is not read."""
    elements = _elements(content, order)
    try:
        flags, dimensions, name = next(elements), next(elements), next(elements)
    except StopIteration:
        raise ValueError("a variable without a header") from None
    if flags[0] != UINT32 or len(flags[1]) != 8 or name[0] != INT8:
        raise ValueError("a variable with a damaged header")
    if dimensions[0] != INT32 or len(dimensions[1]) < 8 or len(dimensions[1]) % 4:
        raise ValueError("a variable with damaged dimensions")
    shape = struct.unpack(f"{order}{len(dimensions[1]) // 4}i", dimensions[1])
    if min(shape) < 0:
        raise ValueError("a variable with damaged dimensions")
    (flag,) = struct.unpack_from(f"{order}I", flags[1])
    kind, count = flag & 0xFF, math.prod(shape)
    rest = [*elements] if kind in (CELL, CHAR, *NUMBERS) else []
    if kind == CELL:
        if len(rest) != count or depth == MAX_DEPTH or any(part[0] != MATRIX for part in rest):
            raise ValueError("a damaged cell array")
        for _, part in rest:
            if _variable(part, order, depth + 1) is None:
                return None
    elif kind == CHAR:
        if len(rest) != 1 or rest[0][0] not in TEXTS:
            raise ValueError("a damaged text")
    elif kind in NUMBERS:
        parts = 2 if flag & COMPLEX else 1
        if len(rest) != parts or any(kind not in SIZES or len(part) != count * SIZES[kind] for kind, part in rest):
            raise ValueError("a damaged matrix")
    else:
        return None
    return name[1].decode("latin-1")
