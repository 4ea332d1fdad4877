"""Text files of the user: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs


class NotText(ValueError):
    """Bytes that are not UTF-8 text.

    Attributes:
        line, column: of the first bad byte, from 1.
    """

    def __init__(self, line: int, column: int, found: str) -> None:
        self.line, self.column = line, column
        super().__init__(found)


def decode(data: bytes) -> str:
    """The text of a file.

    Raises:
        NotText: with what was found instead, and where.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NotText(1, 1, "UTF-16 text")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text, bad = data.decode("utf-8"), data.find(b"\0")
    except UnicodeDecodeError as error:
        text, bad = "", error.start
    if bad < 0:
        return text
    found = f"the byte 0x{data[bad]:02x}" if data[bad] else "a NUL byte (UTF-16, or no text at all)"
    raise NotText(data.count(b"\n", 0, bad) + 1, bad - data.rfind(b"\n", 0, bad), found)
